"""The cache in a folder: private files, whole entries, and nothing left behind."""

from __future__ import annotations

import datetime
import functools
import gc
import json
import os
import pathlib
import select
import stat
import subprocess
import sys
from typing import Any

import pytest
from conftest import Forked, needs_fork

from aws_assume_role_lib._file_cache import JSONFileCache

posix_only = pytest.mark.skipif(os.name == "nt", reason="modes, umask and limits are POSIX's")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python warns of forks
ENTRY = {"Credentials": {"AccessKeyId": "ASIAEXAMPLE"}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_what_is_written_can_be_read(folder, kind):
    """The last entry written can be read through every cache on the same folder, with datetimes as ISO 8601 strings."""
    moment = datetime.datetime(2030, 1, 31, 12, 0, tzinfo=datetime.timezone.utc)
    JSONFileCache(kind(folder))["key"] = {"padding": "x" * 1000}
    JSONFileCache(kind(folder))["key"] = {"Credentials": {"Expiration": moment}}
    cache = JSONFileCache(folder)
    assert "key" in cache
    assert cache["key"] == {"Credentials": {"Expiration": "2030-01-31T12:00:00+00:00"}}


def test_home_folder(tmp_path, monkeypatch):
    """A leading ~ is the home folder, and missing folders above it are created."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    JSONFileCache("~/.cache/roles")["key"] = ENTRY
    assert (tmp_path / ".cache" / "roles" / "key.json").is_file()


def test_missing_entry(folder):
    """A missing entry raises a KeyError and is not contained, and looking for it creates no folder."""
    cache = JSONFileCache(folder)
    assert "key" not in cache
    with pytest.raises(KeyError):
        cache["key"]
    assert not folder.exists()


@posix_only
def test_modes(folder, no_umask):
    """The folder is 0700 and the file 0600, even if the umask is 0, and even if others could read the old entry."""
    cache = JSONFileCache(folder)
    cache["key"] = ENTRY
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for _ in range(2):
        assert stat.S_IMODE((folder / "key.json").stat().st_mode) == 0o600
        (folder / "key.json").chmod(0o644)
        cache["key"] = ENTRY


@posix_only
def test_temporary_file_is_private_from_the_first_byte(folder, no_umask):
    """The file is created with mode 0600 and renamed as it is, with no chmod once it has content."""

    def write() -> str:
        seen: list[str] = []

        def show(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("os.chmod", "os.rename") and str(folder) in str(arguments[0]):
                seen.append(f"{event} {os.stat(arguments[0]).st_mode & 0o777:o}")

        sys.addaudithook(show)  # which cannot be removed
        JSONFileCache(folder)["key"] = ENTRY
        return " ".join(seen)

    assert Forked.start(write).result() == "os.rename 600"


DAMAGED = {
    "empty": b"",
    "truncated": json.dumps(ENTRY).encode()[:-1],
    "two entries": json.dumps(ENTRY).encode() * 2,
    "binary": b"\x80\xff\x00",
    "list": b"[]",
    "string": b'"Credentials"',
    "null": b"null",
    "too deep": b"[" * 100_000,
    "too long a number": b'{"n": ' + b"1" * 5000 + b"}",
}


@pytest.fixture
def no_collection():
    """Postpone garbage collection of other tests' objects: a finalizer would run out of stack."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_entry(folder, content):
    """A damaged entry raises a KeyError, is not contained, and is overwritten by the next write."""
    cache = JSONFileCache(folder)
    folder.mkdir()
    (folder / "key.json").write_bytes(content)
    assert "key" not in cache
    with pytest.raises(KeyError):
        cache["key"]
    cache["key"] = ENTRY
    assert cache["key"] == ENTRY


USES = {
    "in": lambda cache, key: key in cache,
    "get": lambda cache, key: cache[key],
    "set": lambda cache, key: cache.__setitem__(key, ENTRY),
    "del": lambda cache, key: cache.__delitem__(key),
}


NO_NAMES = ["", ".", "..", ".k", "a/b", "../k", "a\\b", "C:k", "/k", "a\0b"]
NO_TEXT = [None, 1, b"key", ("key",), pathlib.PurePath("key")]


@pytest.mark.parametrize("use", USES)
def test_key_that_is_no_plain_file_name(folder, use):
    """A key that is not a plain file name raises an error that shows it, and nothing is written."""
    for key in NO_NAMES:
        with pytest.raises(ValueError, match=r"key is '.*must be a file name"):
            USES[use](JSONFileCache(folder), key)
    for key in NO_TEXT:
        with pytest.raises(TypeError, match="it must be a str"):
            USES[use](JSONFileCache(folder), key)
    assert not folder.exists()


@pytest.mark.parametrize("value", [["secret"], "secret", None, {"k": {"secret"}}, {"k": b"secret"}])
def test_value_that_is_no_json_object(folder, value):
    """A value that JSON cannot hold raises a TypeError that does not show it, and the old entry stays."""
    cache = JSONFileCache(folder)
    cache["key"] = ENTRY
    with pytest.raises(TypeError) as error:
        cache["key"] = value
    assert "secret" not in str(error.value)
    assert cache["key"] == ENTRY
    assert os.listdir(folder) == ["key.json"]


@pytest.mark.parametrize("wrong", ["folder", "entry"])
def test_a_file_for_a_folder_or_a_folder_for_a_file(folder, wrong):
    """If the folder is a file, or the entry is a folder, nothing is contained, writing raises an OSError, and no file
    is changed or left behind.
    """
    if wrong == "folder":
        folder.write_text("mine")
    else:
        (folder / "key.json").mkdir(parents=True)
    cache = JSONFileCache(folder)
    assert "key" not in cache
    with pytest.raises((OSError, KeyError)):
        cache["key"]
    with pytest.raises(OSError):
        cache["key"] = ENTRY
    assert os.listdir(folder.parent) == [folder.name]
    assert folder.read_text() == "mine" if wrong == "folder" else os.listdir(folder) == ["key.json"]


@posix_only
def test_full_disk(folder):
    """A write that fails halfway raises an OSError, leaves no temporary file, and leaves the old entry whole."""
    cache = JSONFileCache(folder)
    cache["key"] = ENTRY

    def write() -> str:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            cache["key"] = {"padding": "x" * 100_000}
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return "written"

    assert Forked.start(write).result().startswith("OSError")
    assert os.listdir(folder) == ["key.json"]
    assert cache["key"] == ENTRY


# The modes of a folder and of its entry, and what a user who is stopped by them can do.
CLOSED = {
    "read-only folder": (0o555, 0o644, f"True {ENTRY} not written"),
    "unreadable folder": (0o000, 0o644, "False refused not written"),
    "unreadable file": (0o555, 0o000, "False refused not written"),
}
TRY = """
import os, sys
from aws_assume_role_lib._file_cache import JSONFileCache
os.chdir(sys.argv[1])
if os.geteuid() == 0:  # whom no mode stops
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for name in sys.argv[2:]:
    cache = JSONFileCache(name)
    print("key" in cache, end=" ")
    try: print(cache["key"], end=" ")
    except PermissionError: print("refused", end=" ")
    try: cache["key"] = {}
    except PermissionError: print("not written")
"""


@posix_only
def test_what_the_modes_forbid(tmp_path):
    """What cannot be read is not contained, and raises an OSError; what cannot be written does, and stays as it is."""
    tmp_path.chmod(0o755)  # only the folders themselves must be in the way
    for name, (of_folder, of_file, _) in CLOSED.items():
        JSONFileCache(tmp_path / name)["key"] = ENTRY
        (tmp_path / name / "key.json").chmod(of_file)
        (tmp_path / name).chmod(of_folder)
    try:
        command = [sys.executable, "-c", TRY, tmp_path, *CLOSED]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        for name in CLOSED:
            (tmp_path / name).chmod(0o700)
    assert output.splitlines() == [expected for _, _, expected in CLOSED.values()]
    assert [os.listdir(tmp_path / name) for name in CLOSED] == [["key.json"]] * 3


@needs_fork
def test_processes_hammering_one_entry(folder):
    """However many processes write an entry, each read returns a whole one, and nothing else is left behind."""
    cache = JSONFileCache(folder)

    def write(writer: int) -> str:
        # Entries of varying length: a reader of half a write, or of two mixed writes, would notice.
        for count in range(60):
            cache["key"] = {"writer": writer, "padding": [writer] * (count * 37 % 2000), "count": count}
        return "written"

    write(0)
    writers = [Forked.start(functools.partial(write, number)) for number in range(3)]
    while len(select.select([writer.pipe for writer in writers], [], [], 0)[0]) < 3:
        entry = cache["key"]
        assert entry["padding"] == [entry["writer"]] * (entry["count"] * 37 % 2000)
    assert [writer.result() for writer in writers] == ["written"] * 3
    assert os.listdir(folder) == ["key.json"]


def test_an_entry_can_be_deleted(tmp_path):
    """del removes an entry, and only that one, and cannot remove it twice."""
    cache = JSONFileCache(tmp_path)
    cache["one"] = cache["other"] = ENTRY
    del cache["one"]
    assert ("one" in cache, "other" in cache) == (False, True)
    with pytest.raises(KeyError, match="one"):
        del cache["one"]


def test_caches_in_one_folder_are_equal(tmp_path):
    """Two caches are equal, and the same key of a dict, if they are in the same folder."""
    one, same, other = JSONFileCache(tmp_path), JSONFileCache(str(tmp_path)), JSONFileCache(tmp_path / "other")
    assert one == same != other != one
    assert one != tmp_path
    assert len({one, same, other}) == 2


@posix_only
@pytest.mark.parametrize("change", ["owner", "group", "others"])
def test_a_file_that_somebody_else_may_have_written_is_ignored(tmp_path, caplog, change):
    """A file that another user owns or may write is no entry, and the log says so once."""
    cache = JSONFileCache(tmp_path)
    cache["a"] = {"b": 1}
    if change == "owner":
        os.chown(tmp_path / "a.json", 65534, -1) if os.geteuid() == 0 else pytest.skip("only root can give a file away")
    else:
        (tmp_path / "a.json").chmod(0o620 if change == "group" else 0o602)
    for _ in range(2):
        assert "a" not in cache
        with pytest.raises(KeyError):
            cache["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(tmp_path / "a.json") in caplog.text
