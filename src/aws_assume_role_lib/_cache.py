"""Keys in the user's cache: one entry for each request by one identity. No failure reaches the caller."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from datetime import datetime
from typing import Any, Protocol

from ._attempts import log, run_foreign
from ._keys import KEY_NAMES, Keys, is_sendable


class CredentialCache(Protocol):
    """What assume_role() takes as ``cache``: anything with these three methods, such as a dict."""

    def __contains__(self, key: str, /) -> bool: ...

    def __getitem__(self, key: str, /) -> object: ...

    def __setitem__(self, key: str, value: dict[str, Any], /) -> None: ...


def check_cache(cache: object) -> None:
    """Raise a TypeError unless ``cache`` is None or has the methods of a :class:`CredentialCache`."""
    missing = [name for name in ("__contains__", "__getitem__", "__setitem__") if not hasattr(type(cache), name)]
    if cache is not None and missing:
        raise TypeError(
            f"cache is of type {type(cache).__name__}, which has no {missing[0]}; it must be a mapping, such as a dict "
            "or a JSONFileCache."
        )


def read_keys(cache: CredentialCache, entry: str) -> Keys | None:
    """Return the keys of an entry, which may be due for a refresh, or None if it is missing, damaged or expired."""
    try:
        value = run_foreign(lambda: cache[entry] if entry in cache else None)  # noqa: SIM401  # a cache may have no get()
    except Exception as error:
        _warn("read from", error)
        return None
    keys = _parse(value, entry)
    log(logging.DEBUG, "Cache %s for %s.", "hit" if keys else "miss", entry)
    return keys


def write_keys(cache: CredentialCache, keys: Keys) -> None:
    """Write keys to the entry named by what they were granted for."""
    credentials = {
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "SessionToken": keys.token,
        "Expiration": keys.expires.isoformat(),
        **({"AccountId": keys.account_id} if keys.account_id else {}),
    }
    try:
        run_foreign(cache.__setitem__, keys.granted_for, {"Credentials": credentials, "Lifetime": keys.lifetime})
    except Exception as error:
        _warn("written to", error)


def _parse(entry: Any, name: str) -> Keys | None:
    try:
        credentials, lifetime = entry["Credentials"], entry["Lifetime"]
        expires = datetime.fromisoformat(credentials["Expiration"])
        access_key, secret_key, token = (credentials[each] for each in KEY_NAMES)
        keys = Keys(access_key, secret_key, token, credentials.get("AccountId") or None, expires, lifetime, name)
        is_usable = (
            all(map(is_sendable, [*keys[:3], keys.account_id or "-"]))
            and not isinstance(lifetime, bool)
            and 0 < lifetime < math.inf
            and expires.tzinfo is not None
            and keys.expires_at > time.time()
        )
    except Exception:
        # The cache can hold anything, and anything can be wrong with it; then it is not our entry.
        return None
    return keys if is_usable else None


def digest(key: object) -> str:
    """SHA-256 of the key: safe as a file name, reveals nothing."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=repr).encode()).hexdigest()


def _warn(action: str, error: Exception) -> None:
    # Only the error's class and number: its text comes from the cache, and may contain the keys.
    system = os.strerror(error.errno) if isinstance(error, OSError) and isinstance(error.errno, int) else None
    reason = f"{type(error).__name__}, {system}" if system else type(error).__name__
    log(logging.WARNING, "The cache could not be %s (%s); continuing without it.", action, reason)
