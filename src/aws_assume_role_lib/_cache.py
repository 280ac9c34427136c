"""Caches of credentials: a folder of files, and what keeps the identities in any cache apart."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

logger = logging.getLogger("aws_assume_role_lib")

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
    next write. Entries are never deleted, and their age is not looked at.

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


class CredentialCache(Protocol):
    """What assume_role() takes as ``cache``: anything with these three, such as a dict."""

    def __contains__(self, key: str, /) -> bool: ...

    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: dict[str, Any], /) -> None: ...


def check_cache(cache: object) -> None:
    """Raise TypeError unless ``cache`` is None or a mapping that can be written to."""
    missing = [name for name in ("__contains__", "__getitem__", "__setitem__") if not hasattr(type(cache), name)]
    if cache is not None and missing:
        raise TypeError(
            f"cache must be a mapping such as a dict or JSONFileCache; {type(cache).__name__} has no {missing[0]}."
        )


class ScopedCache:
    """A user's cache as botocore's fetcher uses it: one entry, for one request by one identity, that never fails.

    The fetcher's own key is not used: it is made of the request alone, and two identities would share an entry.

    Attributes:
        lifetime: Seconds that STS granted to the credentials that were read or written last.
    """

    def __init__(
        self,
        cache: CredentialCache | None,
        scope: Callable[[], object],
        refresh_window: Callable[[float], float],
    ) -> None:
        self.lifetime = 0.0
        self._cache = cache
        self._scope = scope
        self._refresh_window = refresh_window
        self._found: dict[str, Any] = {}
        self._key = ""
        if cache is not None:
            # Who the parent is shows best now: the environment may be another's by the first use.
            with contextlib.suppress(Exception):
                scope()

    def __contains__(self, _: str) -> bool:
        if self._cache is None:
            return False
        try:
            self._key = key = digest(self._scope())
            usable = key in self._cache and self._is_usable(self._cache[key])
        except Exception as error:
            _warn("read from", error)
            return False
        logger.debug("Cache %s for %s.", "hit" if usable else "miss", key)
        return usable

    def __getitem__(self, _: str) -> dict[str, Any]:
        return self._found

    def __setitem__(self, _: str, response: dict[str, Any]) -> None:
        credentials = response["Credentials"]
        expiration = credentials["Expiration"]
        self.lifetime = expiration.timestamp() - time.time()
        if self._cache is None:
            return
        entry = {
            "Credentials": {**credentials, "Expiration": expiration.isoformat()},
            "Lifetime": self.lifetime,
        }
        try:
            # Who signed is not known where the parent's credentials were replaced on the way.
            if digest(self._scope()) == self._key:
                self._cache[self._key] = entry
        except Exception as error:
            _warn("written to", error)

    def _is_usable(self, entry: Any) -> bool:
        try:
            credentials, lifetime = entry["Credentials"], entry["Lifetime"]
            expiration = datetime.datetime.fromisoformat(credentials["Expiration"])
            remaining = (expiration - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
            keys = [credentials[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
            account_id = credentials.get("AccountId", "")
            usable = (
                all(keys)
                and all(text.isascii() and text.isprintable() for text in [*keys, account_id])
                and not isinstance(lifetime, bool)
                and 0 < lifetime < math.inf
                and remaining > self._refresh_window(lifetime)
            )
        except Exception:
            # Whatever is wrong with it, and each mapping may hold something else: it is no entry of ours.
            return False
        if usable:
            self._found, self.lifetime = {"Credentials": {**credentials, "Expiration": expiration}}, lifetime
        return usable


def digest(key: object) -> str:
    """A file name from which nothing of what it stands for can be read."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=repr).encode()).hexdigest()


def _warn(action: str, error: Exception) -> None:
    # Only the kind of error: its text is the mapping's own, and may hold what was to be written.
    system = error.strerror if isinstance(error, OSError) else None
    reason = f"{type(error).__name__}, {system}" if system else type(error).__name__
    logger.warning("The cache could not be %s (%s); going on without it.", action, reason)
