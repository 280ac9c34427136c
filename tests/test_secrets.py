"""Secrets never appear in logs, reprs, errors, files or the process list."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import conftest
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from conftest import HUB, SPOKE
from sts_stub import Fault

from aws_assume_role_lib import JSONFileCache, assume_role

EXTERNAL_ID = "kept-secret-id"
POLICY = {"Statement": [{"Sid": "KeptSecretPolicy"}]}
CODE = "135790"
SECRET = re.compile(f"{conftest.SECRET.pattern}|{CODE}")

FAULTS = {
    "refusal": Fault.error(403, "AccessDenied", f"Not with {EXTERNAL_ID}, {CODE} and AKIAROOT"),
    "validation": Fault.error(400, "ValidationError", f"Value '{CODE}' at 'tokenCode' failed"),
    "html": Fault.html(),
    "truncated": Fault(cut=True),
    "reset": Fault(resets=True),
    "no-key": Fault.without("AccessKeyId"),
    "no-token": Fault.without("SessionToken"),
    "bad-expiry": Fault.expiration("soon"),
    "past-expiry": Fault.expiration("2001-01-01T00:00:00Z"),
    "keys-elsewhere": Fault.body(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials>ASIA1<AccessKeyId><SecretAccessKey>secret-1"
        "</SecretAccessKey></AccessKeyId></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ),
    "json": Fault.body(json.dumps({"AccessKeyId": "ASIA1", "SecretAccessKey": "secret-1", "SessionToken": "token-1"})),
}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return what our logger logged at DEBUG, tracebacks included."""
    caplog.set_level(logging.DEBUG, "aws_assume_role_lib")
    return lambda: "\n".join(map(logging.Formatter().format, caplog.get_records("call")))


def shown(error: BaseException | None) -> str:
    """Return all that a traceback shows of our own errors, without the text of STS's, which is passed through."""
    if error is None:
        return ""
    texts = [] if isinstance(error, ClientError) else [str(error), repr(error)]
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join([*texts, *getattr(error, "__notes__", []), shown(before)])


def use(session: boto3.Session) -> str:
    """Use a session, and return what the traceback shows."""
    try:
        session.get_credentials().get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:
        return shown(error) or "an error of STS"
    return ""


def with_secrets(session: boto3.Session, **others: Any) -> boto3.Session:
    parameters = {"ExternalId": EXTERNAL_ID, "Policy": POLICY, "SerialNumber": "a-device-1", "TokenCode": lambda: CODE}
    return assume_role(session, SPOKE, **{**parameters, **others})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_outage_tells_no_secret(sts, parent, clock, said, monkeypatch, fault):
    """Nothing logged or raised has a secret, whatever STS answers on first use, early refresh and expiry."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    hub = assume_role(parent, HUB, ExternalId=EXTERNAL_ID, DurationSeconds=43200)
    spoke = with_secrets(hub, cache={})
    use(hub)
    sts.fault = fault
    errors = [use(spoke)]
    sts.fault = None
    assert use(spoke) == ""
    sts.fault = fault
    clock.shift(3600 - 800)
    assert use(spoke) == ""
    clock.shift(800)
    errors.append(use(spoke))
    assert all(errors)
    assert "Assumed" in said()
    assert "Early refresh failed" in said()
    assert "Cache miss" in said()
    assert not SECRET.search("\n".join([*errors, said()]))


@pytest.mark.parametrize("code", [int(CODE), [CODE], "", CODE.encode(), RuntimeError(CODE)])
def test_a_bad_code_is_not_logged(sts, parent, clock, said, code):
    """An invalid code from an MFA callable, or the text of its exception, is not logged when a refresh fails."""
    ask = Mock(side_effect=[CODE, code])
    session = with_secrets(parent, TokenCode=ask)
    assert use(session) == ""
    clock.shift(3600 - 800)
    assert use(session) == ""
    assert "Early refresh failed" in said()
    assert not SECRET.search(said())


OF_STS: list[dict[str, Any]] = [
    {"RoleSessionName": "?"},
    {"DurationSeconds": 1},
    {"Tags": {"": ""}},
    {"SerialNumber": "brief"},
    {"SerialNumber": 1},
    *({"ExternalId": value} for value in ([EXTERNAL_ID], f"{EXTERNAL_ID} ", f"{EXTERNAL_ID}\ud800", EXTERNAL_ID * 100)),
    *({"TokenCode": value} for value in (int(CODE), f"{CODE}1", [CODE])),
    *({"Policy": value} for value in (json.dumps(POLICY)[:-1], [POLICY], json.dumps([POLICY]), str(POLICY).encode())),
    *({"Policy": POLICY | {"Id": value}} for value in (object(), "x" * 2048)),
    *({"ProvidedContexts": value} for value in (CODE, [{"ProviderArn": HUB, "ContextAssertion": CODE.encode()}])),
]
WRONG: list[dict[str, Any]] = [
    *OF_STS,
    *({**dict.fromkeys(each), "additional_kwargs": each} for each in OF_STS),
    {"SerialNumber": None},
    {"additional_kwargs": {"ExternalId": EXTERNAL_ID}},
    {"additional_kwargs": [EXTERNAL_ID]},
    {"sts_client_kwargs": {"aws_secret_access_key": "root-secret"}},
    {"sts_client_kwargs": {"config": {"aws_secret_access_key": "root-secret"}}},
    {"cache": (EXTERNAL_ID, CODE)},
]


@pytest.mark.parametrize("wrong", WRONG, ids="+".join)
def test_a_wrong_call_tells_no_secret(parent, said, wrong):
    """The error of a call names a parameter that is wrong, and repeats no secret of it nor of those that are right."""
    with pytest.raises((TypeError, ParamValidationError)) as caught:
        with_secrets(parent, **wrong)
    assert next(iter(wrong)) in str(caught.value)
    assert not SECRET.search(shown(caught.value) + said())


def ours(root: object) -> Iterator[object]:
    """Return all objects of our classes that can be reached from an object."""
    seen, found = set(), [root]
    while found:
        each = found.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (list, tuple)):
            found += each
        elif isinstance(each, dict):
            found += each.values()
        elif type(each).__module__.startswith(("aws_assume_role_lib", "botocore.session")):
            yield each
            found += vars(each).values()


def test_no_repr_tells_a_secret(sts, parent, tmp_path):
    """Neither a session, its credentials nor anything of ours behind them shows a secret in its repr() or str()."""
    session = with_secrets(assume_role(parent, HUB, ExternalId=EXTERNAL_ID), cache=JSONFileCache(tmp_path / "cache"))
    use(session)
    found = list(ours(session))
    names = {type(each).__name__ for each in found}
    assert {"AssumedRoleSession", "AssumedRoleCredentials", "RoleFetcher", "JSONFileCache", "ChildSession"} <= names
    assert not SECRET.search("\n".join(f"{each!r} {each}" for each in found))
    keys = session.get_credentials().get_keys()
    assert repr(keys) == f"{keys!s}" == f"Keys(expires={keys.expires.isoformat()})"


FULL_USE = f"""
import os, sys
import boto3
from aws_assume_role_lib import JSONFileCache, assume_role

folder, device = sys.argv[1:]
os.umask(0)
boto3.Session("AKIA", "s", region_name="us-east-1").client("sts")  # imports may read and write files


def hook(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        print("write", os.fspath(arguments[0]))
    if event.startswith(("subprocess", "os.posix_spawn", "os.exec", "os.spawn", "os.system", "os.fork", "os.putenv")):
        print(event, arguments)


sys.addaudithook(hook)
cache = JSONFileCache(folder)
root = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
hub = assume_role(root, {HUB!r}, ExternalId={EXTERNAL_ID!r}, cache=cache)
secrets = dict(Policy={POLICY!r}, SerialNumber=device, TokenCode=lambda: {CODE!r})
assume_role(hub, {SPOKE!r}, cache=cache, **secrets).client("sts").get_caller_identity()
"""


def test_only_the_cache_is_written(sts, tmp_path):
    """A chain with a cache writes only its two entries, private and under opaque names, and starts no process."""
    folder = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL_USE, folder, "a-device-1"], capture_output=True, text=True, check=True
    )
    events = done.stdout.splitlines()
    assert {event.startswith(f"write {folder}{os.sep}") for event in events} == {True}
    entries = list(folder.iterdir())
    assert len(entries) == 2
    assert all(re.fullmatch(r"[0-9a-f]{64}\.json", entry.name) for entry in entries)
    if os.name != "nt":
        assert {stat.S_IMODE(path.stat().st_mode) for path in entries} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not SECRET.search(done.stdout + done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="the list of processes is read from /proc")
@pytest.mark.usefixtures("root_keys")
def test_the_list_of_processes_tells_what_the_user_typed(sts):
    """During the call to STS, the command is one process, with the arguments that were passed to it."""
    sts.gate.clear()
    command = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--DurationSeconds", "900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert sts.arrived.acquire(timeout=60)
        typed = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[:-1]
        stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
        children = [stat for stat in stats if stat.rpartition(")")[2].split()[1] == str(process.pid)]
        sts.gate.set()
        output, errors = process.communicate(timeout=60)
    assert (typed, children, errors) == (command, [], "")
    assert "secret-1" in output


def test_a_header_that_cannot_be_sent_is_not_quoted(sts, clock, caplog):
    """A parent's token with a stray newline fails in the HTTP client, whose error quotes it; our warning does not."""
    parent = boto3.Session("AKIAROOT", "root-secret", "root-token", region_name="us-east-1")
    child, sibling = assume_role(parent, HUB), assume_role(parent, SPOKE)
    before = [child.get_credentials().token, sibling.get_credentials().token]
    parent.get_credentials().token = "root-token\nnext-line"
    clock.shift(46 * 60)
    assert child.get_credentials().token == before[0]
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert ": HTTPClientError. The credentials are valid until" in record.getMessage()
    assert "root-token" not in caplog.text
    # Nothing was wrong with STS, so a sibling may try at once.
    parent.get_credentials().token = "root-token"
    assert sibling.get_credentials().token != before[1]


@pytest.mark.parametrize(
    "fault", [Fault(hangs=True), Fault(resets=True), Fault.html(), None], ids=["hang", "reset", "html", "down"]
)
def test_a_password_in_an_endpoint_url_is_not_told(sts, parent, clock, said, monkeypatch, fault):
    """A password in AWS_ENDPOINT_URL_STS, which is not validated, is neither logged nor part of one of our errors."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url.replace("://", "://me:Hunter2@"))
    child = assume_role(parent, HUB, sts_client_kwargs={"config": Config(read_timeout=1)})
    assert use(child) == ""
    clock.shift(3600 - 800)
    if fault is None:
        sts.down()
    sts.fault = fault
    assert use(child) == ""
    assert "Early refresh failed" in said()
    assert "Hunter2" not in said()
    if fault == Fault.html():
        error = use(assume_role(parent, SPOKE))
        assert "is not an AssumeRole response" in error
        assert "Hunter2" not in error


def test_an_error_code_of_several_lines_is_not_logged(sts, parent, clock, said):
    """A stand-in's error code cannot write lines of its own into the log."""
    child = assume_role(parent, HUB)
    assert use(child) == ""
    clock.shift(3600 - 800)
    body = "<ErrorResponse><Error><Code>X\nWARNING forged</Code><Message>m</Message></Error></ErrorResponse>"
    sts.fault = Fault(instead=(400, body))
    assert use(child) == ""
    assert "AssumeRole failed with an error." in said()
    assert "forged" not in said()
