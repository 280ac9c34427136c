"""The cache in a folder: private files, whole entries, and nothing left behind."""

from __future__ import annotations

import datetime
import gc
import json
import multiprocessing
import os
import pathlib
import stat
import subprocess
import sys
from typing import Any

import pytest

from aws_assume_role_lib._file_cache import JSONFileCache

posix_only = pytest.mark.skipif(os.name == "nt", reason="modes, umask and limits are POSIX's")
ENTRY = {"Credentials": {"AccessKeyId": "ASIAEXAMPLE"}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def run_unprivileged(folder: pathlib.Path, code: str) -> str:
    """Run code with a cache in `folder` as a user whom the folder's mode stops, which it would not stop root."""
    setup = (
        "import os, sys; from aws_assume_role_lib._file_cache import JSONFileCache\n"
        "os.chdir(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"cache = JSONFileCache({folder.name!r})\n"
    )
    # Only the folder itself must be in the way, not pytest's folder around it.
    folder.parent.chmod(0o755)
    command = [sys.executable, "-c", setup + code, str(folder.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_what_is_written_can_be_read(folder, kind):
    """An entry can be read through every cache on the same folder, given as a str or as a path."""
    JSONFileCache(kind(folder))["key"] = ENTRY
    cache = JSONFileCache(folder)
    assert "key" in cache
    assert cache["key"] == ENTRY


def test_home_folder(tmp_path, monkeypatch):
    """A leading ~ is the home folder, and missing folders above it are created."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    JSONFileCache("~/.cache/roles")["key"] = ENTRY
    assert (tmp_path / ".cache" / "roles" / "key.json").is_file()


def test_equality(folder):
    """Two caches are equal if they have the same folder."""
    other = JSONFileCache(pathlib.Path(folder).with_name("zzz"))
    assert JSONFileCache(folder) == JSONFileCache(str(folder))
    assert JSONFileCache(folder) != other
    assert other != JSONFileCache(folder)


def test_missing_entry(folder):
    """A missing entry raises a KeyError and is not contained, and looking for it creates no folder."""
    cache = JSONFileCache(folder)
    assert "key" not in cache
    with pytest.raises(KeyError):
        cache["key"]
    assert not folder.exists()


def test_entry_is_replaced(folder):
    """A second write replaces the first."""
    cache = JSONFileCache(folder)
    cache["key"] = {"padding": "x" * 1000}
    cache["key"] = ENTRY
    assert cache["key"] == ENTRY


def test_datetimes_become_iso_8601(folder):
    """A datetime, at any depth, is written as an ISO 8601 string with its offset."""
    moment = datetime.datetime(2030, 1, 31, 12, 0, tzinfo=datetime.timezone.utc)
    cache = JSONFileCache(folder)
    cache["key"] = {"Credentials": {"Expiration": moment}}
    assert cache["key"] == {"Credentials": {"Expiration": "2030-01-31T12:00:00+00:00"}}


@posix_only
def test_modes_without_umask(folder, no_umask):
    """The folder is 0700 and the file 0600 even if the umask is 0."""
    JSONFileCache(folder)["key"] = ENTRY
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key.json").stat().st_mode) == 0o600


@posix_only
def test_temporary_file_is_private_from_the_first_byte(folder, no_umask):
    """The file is created with mode 0600 and renamed as it is, with no chmod once it has content."""
    # Audit events show the file before its rename; an audit hook cannot be removed, so it gets its own process.
    code = (
        "import os, sys; from aws_assume_role_lib._file_cache import JSONFileCache\n"
        "def show(event, arguments):\n"
        "    if not str(arguments[:1]).count(sys.argv[1]): return\n"
        "    if event == 'os.chmod': print('chmod')\n"
        "    if event == 'os.rename': print(oct(os.stat(arguments[0]).st_mode & 0o777))\n"
        "sys.addaudithook(show)\n"
        "JSONFileCache(sys.argv[1])['key'] = {}"
    )
    command = [sys.executable, "-c", code, str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["0o600"]


@posix_only
def test_rewritten_entry_is_private(folder):
    """An entry that others could read is private once it is written again."""
    cache = JSONFileCache(folder)
    cache["key"] = ENTRY
    (folder / "key.json").chmod(0o644)
    cache["key"] = ENTRY
    assert stat.S_IMODE((folder / "key.json").stat().st_mode) == 0o600


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


@pytest.mark.parametrize("key", ["", ".", "..", ".key", "a/b", "../key", "a\\b", "C:key", "/key", "a\0b"])
def test_key_that_is_no_plain_file_name(folder, key):
    """A key that is not a plain file name raises a ValueError that shows it, and nothing is written."""
    cache = JSONFileCache(folder)
    for use in (cache.__contains__, cache.__getitem__, lambda key: cache.__setitem__(key, ENTRY)):
        with pytest.raises(ValueError, match=r"cache key is '.*file name"):
            use(key)
    assert not folder.exists()


@pytest.mark.parametrize("key", [None, 1, b"key", ("key",), pathlib.PurePath("key")])
def test_key_that_is_no_str(folder, key):
    """A key that is not a str raises a TypeError, and nothing is written."""
    cache = JSONFileCache(folder)
    for use in (cache.__contains__, cache.__getitem__, lambda key: cache.__setitem__(key, ENTRY)):
        with pytest.raises(TypeError, match="pass a str"):
            use(key)
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


def test_file_where_the_folder_should_be(folder):
    """If the folder is a file, writing raises an OSError, the cache contains nothing, and the file stays as it is."""
    folder.write_text("mine")
    cache = JSONFileCache(folder)
    assert "key" not in cache
    with pytest.raises((OSError, KeyError)):
        cache["key"]
    with pytest.raises(OSError):
        cache["key"] = ENTRY
    assert folder.read_text() == "mine"


def test_folder_where_the_entry_should_be(folder):
    """If the entry is a folder, writing raises an OSError and leaves no temporary file."""
    (folder / "key.json").mkdir(parents=True)
    cache = JSONFileCache(folder)
    assert "key" not in cache
    with pytest.raises(OSError):
        cache["key"]
    with pytest.raises(OSError):
        cache["key"] = ENTRY
    assert os.listdir(folder) == ["key.json"]


@posix_only
def test_full_disk(folder):
    """A write that fails halfway raises an OSError, leaves no temporary file, and leaves the old entry whole."""
    cache = JSONFileCache(folder)
    cache["key"] = ENTRY
    code = (
        "import resource, sys; from aws_assume_role_lib._file_cache import JSONFileCache\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "try: JSONFileCache(sys.argv[1])['key'] = {'padding': 'x' * 100_000}\n"
        "except OSError: print('OSError')"
    )
    command = [sys.executable, "-c", code, str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "OSError"
    assert os.listdir(folder) == ["key.json"]
    assert cache["key"] == ENTRY


@posix_only
def test_read_only_folder(folder):
    """In a folder that cannot be written to, writing raises an OSError, and entries can still be read."""
    JSONFileCache(folder)["key"] = ENTRY
    (folder / "key.json").chmod(0o644)
    folder.chmod(0o555)
    try:
        code = "print('key' in cache)\ntry: cache['key'] = {}\nexcept PermissionError: print('refused')"
        assert run_unprivileged(folder, code).split() == ["True", "refused"]
    finally:
        folder.chmod(0o700)
    assert os.listdir(folder) == ["key.json"]
    assert JSONFileCache(folder)["key"] == ENTRY


@posix_only
@pytest.mark.parametrize("unreadable", ["folder", "file"])
def test_unreadable_folder_or_file(folder, unreadable):
    """An unreadable entry is not contained, and raises an OSError when read."""
    JSONFileCache(folder)["key"] = ENTRY
    (folder / "key.json").chmod(0o644 if unreadable == "folder" else 0o000)
    folder.chmod(0o000 if unreadable == "folder" else 0o755)
    try:
        code = "print('key' in cache)\ntry: cache['key']\nexcept PermissionError: print('refused')"
        assert run_unprivileged(folder, code).split() == ["False", "refused"]
    finally:
        folder.chmod(0o700)


def write_often(folder: str, writer: int) -> None:
    cache = JSONFileCache(folder)
    for count in range(300):
        # Entries of varying length: a reader of half a write, or of two mixed writes, would notice.
        cache["key"] = {"writer": writer, "count": count, "padding": [writer] * (count * 37 % 2000)}


def read_often(folder: str, done: multiprocessing.synchronize.Event, results: multiprocessing.Queue) -> None:
    cache = JSONFileCache(folder)
    whole = wrong = 0
    while not done.is_set():
        try:
            entry = cache["key"]
        except KeyError:
            # Damage would raise a KeyError too, so once there is an entry, a KeyError counts as wrong.
            wrong += bool(whole)
            continue
        whole += 1
        wrong += entry["padding"] != [entry["writer"]] * (entry["count"] * 37 % 2000)
    results.put((whole, wrong))


@posix_only
def test_processes_hammering_one_entry(folder):
    """However many processes write an entry, each read returns a whole one, and nothing else is left behind."""
    context = multiprocessing.get_context("spawn")
    done, results = context.Event(), context.Queue()
    readers = [context.Process(target=read_often, args=(str(folder), done, results)) for _ in range(2)]
    writers = [context.Process(target=write_often, args=(str(folder), number)) for number in range(3)]
    for process in readers + writers:
        process.start()
    for process in writers:
        process.join()
    done.set()
    counts = [results.get(timeout=60) for _ in readers]
    for process in readers:
        process.join()
    assert [process.exitcode for process in readers + writers] == [0] * 5
    assert all(whole > 0 and wrong == 0 for whole, wrong in counts)
    assert os.listdir(folder) == ["key.json"]


def test_an_entry_can_be_deleted(tmp_path: pathlib.Path) -> None:
    """del removes an entry, and only that one, and cannot remove it twice."""
    cache = JSONFileCache(tmp_path)
    cache["one"], cache["other"] = {"a": 1}, {"b": 2}
    del cache["one"]
    assert ("one" in cache, "other" in cache) == (False, True)
    with pytest.raises(KeyError, match="one"):
        del cache["one"]


@pytest.mark.parametrize("key", ["../other", ".hidden", "", 7])
def test_only_an_entry_can_be_deleted(tmp_path: pathlib.Path, key: Any) -> None:
    """del accepts only the keys that writing accepts, and none that leads out of the folder."""
    with pytest.raises((TypeError, ValueError), match="cache key"):
        del JSONFileCache(tmp_path)[key]


def test_caches_in_one_folder_are_equal(tmp_path: pathlib.Path) -> None:
    """Two caches are equal, and the same key of a dict, if they are in the same folder."""
    one, same, other = JSONFileCache(tmp_path), JSONFileCache(str(tmp_path)), JSONFileCache(tmp_path / "other")
    assert one == same != other
    assert one != tmp_path
    assert len({one, same, other}) == 2


@pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes")
@pytest.mark.parametrize("change", ["owner", "group", "others"])
def test_a_file_that_somebody_else_may_have_written_is_ignored(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
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
