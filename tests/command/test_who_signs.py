"""A shell or a program is the role, whatever other credentials are around."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import inside
import pytest
from conftest import HUB, Forked, needs_fork, needs_posix
from sts_stub import StsStub

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._command.environment import REMOVED, SettingsFolder, environment_for

# The format, and how a shell runs the output and then a program.
SHELLS = {
    "bash": ("env", ["bash", "-euc", 'eval "$1"; exec env', "-"]),
    "zsh": ("env", ["zsh", "-euc", 'eval "$1"; exec env', "-"]),
    "fish": ("fish", ["fish", "-c", "eval $argv[1]; env"]),
}


@needs_posix
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_keeps_no_other_credentials(
    sts: StsStub, root_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    """After the output of a shell's format, a program in that shell finds the role's credentials only."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    used = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CREDENTIAL_EXPIRATION", "AWS_ASSUME_ROLE_LIB_LOADING"}
    for name in {*REMOVED, "AWS_BEARER_TOKEN_BEDROCK"} - used:
        monkeypatch.setenv(name, "hostile")
    (tmp_path / "config").write_text("[profile hostile]\n")
    format_, command = SHELLS[shell]
    finished = inside.run(HUB, "--format", format_)
    assert finished.stderr == ""
    output = subprocess.run([*command, finished.stdout], capture_output=True, text=True, check=True).stdout
    variables = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert "hostile" not in variables.values()
    assert variables["AWS_ACCESS_KEY_ID"] == "ASIA0000000000000001"
    assert {name for name in variables if name in REMOVED} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_ASSUME_ROLE_LIB_PRINTED",
    }


@pytest.mark.parametrize(
    ("format_", "line"),
    [
        ("env", "unset AWS_PROFILE"),
        ("powershell", "Remove-Item Env:AWS_PROFILE"),
        ("windows-cmd", "set AWS_PROFILE="),
        ("fish", "set -e AWS_PROFILE"),
    ],
)
def test_a_profile_in_the_environment_is_removed(
    sts: StsStub, root_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, line: str
) -> None:
    """Each shell's format removes AWS_PROFILE, which some SDKs prefer to keys, only if it is set."""
    assert line not in inside.run(HUB, "--format", format_).stdout
    monkeypatch.setenv("AWS_PROFILE", "other")
    (tmp_path / "config").write_text("[profile other]\n")
    assert inside.run(HUB, "--format", format_).stdout.splitlines()[0] == line


def test_a_setting_that_is_not_ascii(sts: StsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program reads the settings of the source profile as botocore has read them, whatever the encoding of files."""
    keys = "aws_access_key_id = AKIADEV\naws_secret_access_key = s\n"
    (tmp_path / "config").write_text(f"[profile dev]\n{keys}ca_bundle = /home/Jörg/ca.pem\n")
    source = boto3.Session(profile_name="dev")
    folder = SettingsFolder(assume_role(source, HUB))
    for name, value in environment_for(assume_role(source, HUB), folder).items():
        monkeypatch.setenv(name, value)
    assert boto3.Session()._session.get_config_variable("ca_bundle") == "/home/Jörg/ca.pem"
    folder.remove()


@needs_fork
def test_what_a_killed_process_leaves(
    sts: StsStub, parent: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a process that was killed is removed by the next run; that of a process that runs is kept."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = assume_role(parent, HUB)

    def die() -> str:
        folder = SettingsFolder(session)
        os.kill(os.getpid(), signal.SIGKILL)
        return str(folder.config)

    Forked.start(die).result()
    [abandoned] = tmp_path.glob("aws-assume-role-lib-*")
    running = SettingsFolder(session)
    assert not abandoned.exists()
    another = SettingsFolder(session)
    assert running.config.exists()
    for folder in (running, another):
        folder.remove()
    assert list(tmp_path.glob("aws-assume-role-lib-*")) == []


@needs_posix
def test_too_few_open_files(sts: StsStub, root_keys: None) -> None:
    """If the endpoint may open too few files, the program is not started: exit code 1, and one line with the limit."""
    ours = [sys.executable, "-m", "aws_assume_role_lib", HUB, "--", "echo", "started"]
    finished = subprocess.run(["sh", "-c", 'ulimit -n 8; exec "$@"', "sh", *ours], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        "aws_assume_role_lib: echo could not be run: the limit on open files is 8; it must be 64. Run ulimit -n 64.\n"
    )
