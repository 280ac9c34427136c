"""The command as the credential_process of the profile that it reads itself does not start itself forever."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import boto3
import inside
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HUB, SPOKE
from sts_stub import StsStub

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


LOOPS: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "AWS_PROFILE": ("spoke", (SPOKE,), {"AWS_PROFILE": "spoke"}),
    "the default profile": ("default", (SPOKE,), {}),
    "--profile": ("spoke", ("--profile", "spoke", SPOKE), {}),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_profile_that_is_its_own_source(
    sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An SDK that loads such a profile starts the command twice, and gets an error that names the profile."""
    profile, arguments, environment = LOOPS[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    configure(tmp_path, **{profile: arguments})
    with pytest.raises(CredentialRetrievalError, match=f"profile '{profile}' runs this command for .* --profile"):
        boto3.Session(profile_name=None if name == "AWS_PROFILE" else profile).get_credentials()
    assert starts(tmp_path) == 2
    assert sts.requests == []


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="shells are POSIX's")
def test_a_program_starts_clean(sts: StsStub, tmp_path: Path) -> None:
    """A program run as the role may use the same profile's name, as in its own config file."""
    configure(tmp_path, dev=KEYS)
    ours = [*COMMAND[:3], "--profile", "dev", HUB]
    program = [*ours, "--", "sh", "-c", f'AWS_CONFIG_FILE={tmp_path}/config exec "$@"', "sh", *ours, "--json"]
    code = os.spawnvp(os.P_WAIT, program[0], [*program[:8], *program[8:]])
    assert code == 0
    assert [request.access_key for request in sts.assumed] == ["AKIADEV", "AKIADEV"]
