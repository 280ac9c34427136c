"""The line on stderr hints at the cause of the failure."""

from __future__ import annotations

import getpass
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import inside
import pytest
from conftest import HUB, SPOKE
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _mfa, assume_role
from aws_assume_role_lib._command import endpoint

DEVICE = "arn:aws:iam::111111111111:mfa/me"
REJECTED = Fault.error(403, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
OPT_IN = Fault.error(403, "InvalidClientTokenId", "The security token included in the request is invalid")
TOO_LONG = Fault.error(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set")
PROFILE = f"[profile dev]\nrole_arn = {HUB}\ncredential_source = Environment\n"


@pytest.fixture(autouse=True)
def _keys(root_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def failure(code: int, *arguments: str) -> str:
    """Return the one line of a run that exits with this code."""
    finished = inside.run(*arguments)
    assert (finished.returncode, finished.stdout, finished.stderr.count("\n")) == (code, "", 1)
    return finished.stderr


@pytest.mark.parametrize("source", ["environment", "profile"])
def test_the_network_first(sts: StsStub, tmp_path: Path, source: str) -> None:
    """If nothing responds, to the command or to botocore on behalf of the source profile, check the network."""
    (tmp_path / "config").write_text(PROFILE)
    sts.down()
    options = ("--profile", "dev") if source == "profile" else ()
    line = failure(3 if source == "profile" else 4, SPOKE, *options)
    assert "Check the network first" in line
    assert "trust policy" not in line


def test_a_rejected_code(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If STS rejects a code, for the role or for the source profile, the hint is about the code."""
    sts.fault = REJECTED
    assert "STS rejected the MFA code." in failure(4, HUB, "--SerialNumber", DEVICE, "--TokenCode", "123456")
    (tmp_path / "config").write_text(f"{PROFILE}mfa_serial = {DEVICE}\n")
    monkeypatch.setattr("botocore.credentials.getpass.getpass", lambda _: "123456")
    monkeypatch.setattr(boto3.session.botocore.credentials.AssumeRoleProvider.__init__, "__defaults__", (None,) * 4)
    line = failure(3, SPOKE, "--profile", "dev")
    assert "STS rejected the MFA code." in line
    assert "Log in again" not in line


def test_no_code(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is typed at the prompt, the hint says what to type."""

    def prompt(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(_mfa, "has_terminal", lambda: True)
    monkeypatch.setattr(getpass, "getpass", prompt)
    line = failure(4, HUB, "--SerialNumber", DEVICE)
    assert line.endswith(
        "No MFA code was given. Type the six digits that the MFA device shows, on a terminal, or pass --TokenCode.\n"
    )


def test_a_token_of_the_global_endpoint(sts: StsStub) -> None:
    """If STS does not know a role's keys, which it has just handed out, the hint names the setting to change."""
    sts.any_root = False
    sts.fault = Fault(element="AccessKeyId", text="<AccessKeyId>ASIAUNKNOWN</AccessKeyId>")
    assert failure(4, HUB, SPOKE).endswith("get them with AWS_STS_REGIONAL_ENDPOINTS=regional.\n")


def test_a_duration_above_the_maximum(sts: StsStub) -> None:
    """If the duration is too long for the role, the hint says that it is not needed."""
    sts.fault = TOO_LONG
    assert "Leave DurationSeconds out" in failure(4, HUB, "--DurationSeconds", "43200")


# Keys in the environment


@pytest.fixture
def printed(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a shell after `eval "$(aws-assume-role-lib --format env Hub)"`."""
    finished = inside.run(HUB, "--format", "env")
    assert finished.stderr == ""
    for line in finished.stdout.splitlines():
        command, _, assignment = line.partition(" ")
        name, _, value = assignment.partition("=")
        if command == "export":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)


def test_the_source_is_keys_that_were_printed(sts: StsStub, printed: None, tmp_path: Path) -> None:
    """A second run in a shell says whose keys are its source, unless --profile chooses another one."""
    finished = inside.run(SPOKE)
    assert finished.returncode == 0
    assert finished.stderr == (
        f"aws_assume_role_lib: The source is the environment's keys, printed for {HUB}. "
        "For another source, pass --profile.\n"
    )
    (tmp_path / "config").write_text("[profile dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n")
    assert inside.run(SPOKE, "--profile", "dev").stderr == ""


def test_other_keys_were_set_since(sts: StsStub, printed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that replace the printed ones are not taken for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    assert inside.run(SPOKE).stderr == ""


def test_the_printed_keys_have_expired(sts: StsStub, printed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the keys in the environment have expired, the hint is about them, and not to log in."""
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00+00:00")
    finished = inside.run(SPOKE)
    assert finished.returncode == 3
    assert "The keys are those in the environment: unset AWS_ACCESS_KEY_ID, or pass --profile." in finished.stderr
    assert "Log in again" not in finished.stderr


# While a program runs


def refused(session: boto3.Session) -> str:
    """Return what the endpoint says on stderr when the role cannot be refreshed."""
    server = endpoint.Endpoint(assume_role(session, HUB))
    try:
        server.session.export_credentials()
    except Exception as error:
        return endpoint._reason(server.session, error)
    finally:
        server.server_close()
    raise AssertionError("it was refreshed")


def test_keys_of_the_source_that_expire(sts: StsStub, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the source's keys expire, which cannot be replaced in a running process, start the command again."""
    sts.fault = Fault.error(403, "ExpiredToken")
    assert refused(parent).endswith("The source's keys have expired. Get new ones, and start the command again")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "root-token")
    soon = datetime.now(timezone.utc) + timedelta(minutes=5)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", soon.isoformat())
    session = boto3.Session()
    session.get_credentials()
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00+00:00")
    assert refused(session).endswith("start the command again")


@pytest.mark.skipif(os.name != "posix", reason="the script is a shell's")
def test_a_source_that_can_be_renewed(sts: StsStub, tmp_path: Path) -> None:
    """If the source can be renewed while the program runs, the line says to log in again, and as what."""
    soon = datetime.now(timezone.utc) + timedelta(minutes=5)
    keys = {"Version": 1, "AccessKeyId": "AKIADEV", "SecretAccessKey": "dev-secret", "SessionToken": "t"}
    (tmp_path / "keys").write_text(json.dumps(keys | {"Expiration": soon.isoformat()}))
    (tmp_path / "config").write_text(f"[profile dev]\nregion = us-east-1\ncredential_process = cat {tmp_path}/keys\n")
    session = boto3.Session(profile_name="dev")
    session.get_credentials()
    (tmp_path / "keys").unlink()
    assert refused(session).endswith(". Log in again with profile 'dev'; the program can then go on")
