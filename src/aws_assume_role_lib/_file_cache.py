"""A cache of credentials in a folder, with one JSON file per entry."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import logging
import os
import pathlib
import re
import stat
import uuid
from typing import Any

from ._attempts import log

# On Windows, a backslash or a colon leads out of the folder. The rule for keys is the same everywhere.
_FILE_NAME = r"[^./\\:\0][^/\\:\0]*"


class JSONFileCache:
    """A cache for :func:`assume_role` that keeps credentials between runs, in plain text, in the files of one folder.

    The cache maps keys, which are file names, to entries, which are JSON objects. Each entry is stored in its own
    file.

    Threads and processes may share a folder. Writes are atomic: a reader sees a complete entry, old or new, or
    none. Only the owner can read the files (mode 0600). If the first write creates the folder, only the owner can
    list it (mode 0700). Missing parent folders get the default mode, and an existing folder keeps its mode. On
    Windows, these modes have little effect: the folder's permissions apply, and a write may raise PermissionError
    while another process reads the same entry.

    An entry that is damaged, truncated or not a JSON object counts as missing, and the next write replaces it. So does
    a file that another user, except root, owns or can write, with one warning in the log (not on Windows).
    Entries are deleted only by ``del``, whatever their age.

    Args:
        dir_path: The folder, as a str or a path; ``~`` is expanded. The first write creates the folder.

    Raises:
        TypeError: `dir_path` is not a str or a path to one.
        RuntimeError: `dir_path` starts with ``~`` and the home folder is unknown.

    Example:
        >>> import tempfile
        >>> cache = JSONFileCache(tempfile.mkdtemp())
        >>> cache["reader"] = {"Expiration": "2030-01-31T12:00:00+00:00"}
        >>> "reader" in cache, "writer" in cache
        (True, False)
        >>> cache["reader"]
        {'Expiration': '2030-01-31T12:00:00+00:00'}
    """

    def __init__(self, dir_path: str | os.PathLike[str]) -> None:
        self._folder = pathlib.Path(dir_path).expanduser()

    def __eq__(self, other: object) -> bool:
        """Compare the folders: two caches in one folder have the same entries."""
        return isinstance(other, JSONFileCache) and self._folder == other._folder

    def __hash__(self) -> int:
        return hash(self._folder)

    def __contains__(self, key: object) -> bool:
        """Whether ``cache[key]`` would return an entry. If the folder or file cannot be read, the answer is False.

        Raises:
            TypeError: `key` is not a str.
            ValueError: `key` is not a plain file name.
        """
        path = self._path(key)
        try:
            _read(path)
        except (OSError, ValueError):
            return False
        return True

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Read an entry.

        Args:
            key: A plain file name: not empty, without a leading dot, and without ``/``, ``\\`` and ``:``.

        Returns:
            The JSON object. Datetimes that were written are returned as ISO 8601 strings.

        Raises:
            KeyError: The entry is missing or damaged.
            TypeError: `key` is not a str.
            ValueError: `key` is not a plain file name.
            OSError: The file or its folder cannot be read.
        """
        path = self._path(key)
        try:
            return _read(path)
        except (FileNotFoundError, ValueError):
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        """Write an entry, replacing any existing one.

        Args:
            key: A plain file name, as for reading.
            value: A dict that ``json.dumps()`` accepts. It may also contain datetimes, which are written as ISO 8601
                strings.

        Raises:
            TypeError: `key` is not a str, or `value` is not a dict or contains something that JSON cannot represent.
            ValueError: `key` is not a plain file name, or `value` contains itself.
            OSError: The file or its folder cannot be written. An existing entry is left unchanged.
        """
        path = self._path(key)
        if not isinstance(value, dict):
            raise TypeError(f"value is of type {type(value).__name__}; it must be a dict.")
        content = json.dumps(value, default=_iso_8601).encode("ascii")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not tempfile.mkstemp(), which on Windows retries forever in a folder that cannot be written.
        temporary = self._folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "xb", opener=functools.partial(os.open, mode=0o600)) as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def __delitem__(self, key: str) -> None:
        """Delete an entry.

        .. versionadded:: 3.0

        Args:
            key: A plain file name, as for reading.

        Raises:
            KeyError: The entry is missing.
            TypeError: `key` is not a str.
            ValueError: `key` is not a plain file name.
            OSError: The file cannot be deleted.
        """
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def _path(self, key: object) -> pathlib.Path:
        if not isinstance(key, str):
            raise TypeError(f"key is {key!r}; it must be a str.")
        if not re.fullmatch(_FILE_NAME, key):
            raise ValueError(f"key is {key!r}; it must be a file name without a path or leading dot.")
        return self._folder / f"{key}.json"


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            entry = json.loads(file.read())
    except RecursionError:
        raise ValueError("Nested too deeply for an entry") from None
    if not isinstance(entry, dict):
        raise ValueError("Not a JSON object")
    return entry


def _check_owner(path: pathlib.Path, status: os.stat_result) -> None:
    """Raise ValueError for a file that somebody else may have written. On Windows, the folder's permissions apply."""
    is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if os.name == "posix" and (is_open or status.st_uid not in (os.geteuid(), 0)):
        if path not in _warned:
            _warned.add(path)
            text = "%s is ignored, because another user owns or can write it. Delete it, or pass another folder."
            log(logging.WARNING, text, path)
        raise ValueError("Another user may have written the entry")


_warned: set[pathlib.Path] = set()


def _iso_8601(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(
        f"value has an item of type {type(value).__name__}; it must have only what JSON can represent, and datetimes."
    )
