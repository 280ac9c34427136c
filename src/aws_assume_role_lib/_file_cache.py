"""A cache of credentials in a folder: one JSON file for each entry."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import pathlib
import re
import uuid
from typing import Any

# The backslash and the colon lead out of the folder on Windows; what a key may be is the same everywhere.
_FILE_NAME = r"[^./\\:\0][^/\\:\0]*"


class JSONFileCache:
    """A mapping from file names to JSON objects, each kept in a file of its own in one folder.

    Several processes and threads may share a folder. A write is atomic: a reader sees a whole entry, old or
    new, or none. The files can be read by their owner alone (mode 0600), and so can the folder (0700) if the
    first write makes it. Missing folders above it get the usual mode, and a folder that is there keeps its
    own. On Windows these modes mean little: the permissions of the folder apply, and a write may raise
    PermissionError while another process is reading the same entry.

    An entry that is damaged, truncated or not a JSON object is as good as missing, and is overwritten by the
    next write. Nothing deletes entries but ``del``, and their age is not looked at.

    Args:
        dir_path: The folder, a str or a path; ``~`` stands for the home folder. Made by the first write, not
            before.

    Raises:
        TypeError: `dir_path` is not a str or a path to one.
        RuntimeError: `dir_path` starts with ``~`` and there is no such home folder.

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
        """Two caches in one folder have the same entries."""
        return isinstance(other, JSONFileCache) and self._folder == other._folder

    def __hash__(self) -> int:
        return hash(self._folder)

    def __contains__(self, key: object) -> bool:
        """Tell whether ``cache[key]`` would return an entry; False too if the folder or file cannot be read.

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
            key: A plain file name: not empty, no leading dot, none of ``/``, ``\\`` and ``:``.

        Returns:
            The JSON object, with each datetime as the ISO 8601 string that it was written as.

        Raises:
            KeyError: There is no entry, or it is damaged.
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
        """Write an entry, in place of the one that is there.

        Args:
            key: A plain file name, as for reading.
            value: What ``json.dumps`` accepts, with datetimes, which are written as ISO 8601 strings.

        Raises:
            TypeError: `key` is not a str, `value` is not a dict, or it holds something that JSON cannot.
            ValueError: `key` is not a plain file name, or `value` contains itself.
            OSError: The file or its folder cannot be written. The entry that was there stays as it was.
        """
        path = self._path(key)
        if not isinstance(value, dict):
            raise TypeError(f"An entry is a dict, not a {type(value).__name__}: pass a JSON object")
        content = json.dumps(value, default=_iso_8601).encode("ascii")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # tempfile.mkstemp is not used: on Windows it tries without end in a folder that cannot be written.
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

        Args:
            key: A plain file name, as for reading.

        Raises:
            KeyError: There is no entry.
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
            raise TypeError(f"The cache key is {key!r}: pass a str")
        if not re.fullmatch(_FILE_NAME, key):
            raise ValueError(f"The cache key is {key!r}: pass a file name without a path or leading dot")
        return self._folder / f"{key}.json"


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        entry = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("Nested too deeply for an entry") from None
    if not isinstance(entry, dict):
        raise ValueError("Not a JSON object")
    return entry


def _iso_8601(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"A {type(value).__name__} cannot be written as JSON: pass a str, number or datetime")
