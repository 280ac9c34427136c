"""--cache keeps a role's credentials between runs, so that one MFA code lasts as long as they do."""

from __future__ import annotations

import getpass
import json
import os
import stat
import time
from pathlib import Path

import inside
import pytest
import time_machine
from botocore.credentials import AssumeRoleProvider
from conftest import HUB, SPOKE
from sts_stub import StsStub

from aws_assume_role_lib import JSONFileCache

pytestmark = pytest.mark.usefixtures("root_keys")

DEVICE = "arn:aws:iam::111111111111:mfa/me"
MFA = ("--SerialNumber", DEVICE)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def access_key(*arguments: str) -> str:
    finished = inside.run("--json", *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    key: str = json.loads(finished.stdout)["AccessKeyId"]
    return key


def test_one_code_serves_many_runs(sts: StsStub, home: Path) -> None:
    """A code is sent once; later runs need neither a code nor STS, and only the owner can read the files."""
    first = access_key(HUB, "--cache", *MFA, "--TokenCode", "123456")
    assert access_key("--cache", HUB, *MFA) == first
    assert access_key(HUB, *MFA, "--cache") == first
    assert len(sts.requests) == 1
    [file] = (home / ".aws" / "aws-assume-role-lib").iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("form", [("--cache", "~/kept"), ("--cache=~/kept",)])
def test_a_folder_of_your_own(sts: StsStub, home: Path, form: tuple[str, ...]) -> None:
    """A folder can be passed, and is one that JSONFileCache understands."""
    access_key(HUB, *form)
    [file] = (home / "kept").iterdir()
    assert "Credentials" in JSONFileCache("~/kept")[file.stem]
    assert inside.run(HUB, "--cache", "~nobody-at-all/x").returncode == 2


def test_the_keys_are_one_callers(sts: StsStub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of roles is assumed once, and each of its roles can be used alone; another caller, or another request,
    does not get the keys that were kept, and without --cache none are kept.
    """
    assert access_key(HUB) != access_key(HUB)
    assert not (home / ".aws").exists()
    spoke = access_key("--cache", HUB, SPOKE)
    assert access_key("--cache", HUB, SPOKE) == spoke
    hub = access_key("--cache", HUB)
    assert (hub, len(sts.assumed)) == (sts.assumed[3].access_key, 4)
    assert access_key("--cache", HUB, "--DurationSeconds", "900") != hub
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret")
    assert access_key("--cache", HUB) != hub
    assert len(sts.assumed) == 6


def test_expired_entries_are_removed(sts: StsStub, home: Path) -> None:
    """Writing an entry removes those that have expired, and no other file."""
    folder = home / "kept"
    folder.mkdir()
    (folder / "damaged.json").write_text("{")
    access_key("--cache", str(folder), HUB)
    [old] = set(folder.iterdir()) - {folder / "damaged.json"}
    access_key("--cache", str(folder), SPOKE)
    assert len(list(folder.iterdir())) == 3
    with time_machine.travel(time.time() + 2 * 3600):
        access_key("--cache", str(folder), SPOKE)
    assert not old.exists()
    assert len(list(folder.iterdir())) == 2


def test_a_profile_that_asks_for_a_code(sts: StsStub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source profile with mfa_serial asks for one code, too, whatever roles are assumed from it."""
    profile = f"role_arn = {HUB}\ncredential_source = Environment\nmfa_serial = {DEVICE}\n"
    (home / "config").write_text(f"[profile dev]\n{profile}[profile other]\n{profile}external_id = 12\n")
    asked: list[str] = []

    def prompt(text: str) -> str:
        asked.append(text)
        return "123456"

    defaults = AssumeRoleProvider.__init__.__defaults__ or ()
    replaced = tuple(prompt if default is getpass.getpass else default for default in defaults)
    monkeypatch.setattr(AssumeRoleProvider.__init__, "__defaults__", replaced)
    for role in (SPOKE, SPOKE, f"{SPOKE}2"):
        access_key("--cache", "--profile", "dev", role)
    assert len(asked) == 1
    access_key("--cache", "--profile", "other", SPOKE)
    assert len(asked) == 2
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret")
    access_key("--cache", "--profile", "dev", SPOKE)
    assert len(asked) == 3
    for file in (home / ".aws" / "aws-assume-role-lib").iterdir():
        if "Lifetime" not in file.read_text():  # the source's, which a role that was kept does not need
            file.unlink()
    access_key("--cache", "--profile", "dev", SPOKE)
    assert len(asked) == 3


def test_a_folder_that_cannot_be_written(sts: StsStub, home: Path) -> None:
    """If the entry cannot be written, the credentials are printed all the same."""
    (home / "file").touch()
    assert inside.run("--json", HUB, "--cache", str(home / "file")).returncode == 0
    finished = inside.run("--json", HUB, "--cache", str(home / "file"))
    assert (finished.returncode, len(sts.assumed)) == (0, 2)
