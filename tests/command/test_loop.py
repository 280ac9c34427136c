"""The command as the credential_process of the profile that it reads itself does not start itself forever."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import boto3
import inside
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HUB, SPOKE, needs_posix
from sts_stub import StsStub

pytestmark = needs_posix

COMMAND = [sys.executable, "-m", "aws_assume_role_lib", "--format", "process"]
KEYS = "aws_access_key_id = AKIADEV\naws_secret_access_key = dev-secret\n"


def configure(tmp_path: Path, **profiles: tuple[str, ...] | str) -> None:
    """Write a config file in which the credential_process of each profile is this command with such arguments."""
    text = ""
    for name, content in profiles.items():
        # More processes than a chain needs: if the loop is not noticed, the test ends all the same.
        count = f"sh -c 'echo x >> {tmp_path}/starts; test $(wc -l < {tmp_path}/starts) -lt 12 && exec \"$@\"' sh "
        process = f"credential_process = {count}{shlex.join([*COMMAND, *content])}\n"
        text += f"[{name if name == 'default' else f'profile {name}'}]\nregion = us-east-1\n"
        text += content if isinstance(content, str) else process
    (tmp_path / "config").write_text(text)


def starts(tmp_path: Path) -> int:
    file = tmp_path / "starts"
    return file.read_text().count("x") if file.exists() else 0


@pytest.mark.parametrize(
    ("profile", "arguments", "chosen"),
    [
        pytest.param("spoke", (SPOKE,), "spoke", id="AWS_PROFILE"),
        pytest.param("default", (SPOKE,), None, id="the default profile"),
        pytest.param("spoke", ("--profile", "spoke", SPOKE), None, id="--profile"),
    ],
)
def test_a_profile_that_is_its_own_source(
    sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, arguments: tuple[str, ...], chosen: str
) -> None:
    """Such a profile starts the command once more, and the error names the profile."""
    if chosen:
        monkeypatch.setenv("AWS_PROFILE", chosen)
    configure(tmp_path, **{profile: arguments})
    finished = inside.run(*arguments)
    assert (finished.returncode, finished.stderr.count("\n")) == (3, 1)
    assert re.search(f"profile '{profile}' runs this command for .* --profile", finished.stderr)
    assert starts(tmp_path) == 1
    assert sts.requests == []


def test_an_sdk_that_loads_such_a_profile(sts: StsStub, tmp_path: Path) -> None:
    """An SDK starts the command, which starts itself once, and shows its error."""
    configure(tmp_path, spoke=("--profile", "spoke", SPOKE))
    with pytest.raises(CredentialRetrievalError, match="profile 'spoke' runs this command for .* --profile"):
        boto3.Session(profile_name="spoke").get_credentials()
    assert starts(tmp_path) == 2


def test_a_loop_of_two_profiles(sts: StsStub, tmp_path: Path) -> None:
    """If two profiles are each other's source, the run ends with 3 and one line."""
    configure(tmp_path, one=("--profile", "two", HUB), two=("--profile", "one", HUB))
    finished = inside.run("--profile", "one", SPOKE)
    assert (finished.returncode, finished.stderr.count("\n")) == (3, 1)
    assert "profile 'one' runs this command" in finished.stderr
    assert starts(tmp_path) == 2
    assert "AWS_ASSUME_ROLE_LIB_LOADING" not in os.environ


def test_a_chain_of_different_profiles(sts: StsStub, tmp_path: Path) -> None:
    """Profiles that each use the command for another profile's credentials work."""
    middle = "arn:aws:iam::333333333333:role/Middle"
    configure(tmp_path, dev=KEYS, hub=("--profile", "dev", HUB), middle=("--profile", "hub", middle))
    finished = inside.run("--profile", "middle", SPOKE)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert [request.params["RoleArn"] for request in sts.assumed] == [HUB, middle, SPOKE]
