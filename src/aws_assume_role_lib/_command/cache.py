"""Credentials that are kept between runs of the command line."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

from .._cache import digest
from .._file_cache import JSONFileCache
from .._identity import identity_of

DEFAULT_FOLDER = os.path.join("~", ".aws", "aws-assume-role-lib")


class RunCache(JSONFileCache):
    """A JSONFileCache that removes expired entries when it writes one, because nothing else tidies the folder."""

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        super().__setitem__(key, value)
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(Exception):  # another process may have removed it, or it is not an entry
                if datetime.fromisoformat(self[path.stem]["Credentials"]["Expiration"]).timestamp() < time.time():
                    del self[path.stem]


class _CacheOfSource(JSONFileCache):
    """A cache for botocore, whose cache key leaves out who assumes the role."""

    def __init__(self, dir_path: str, source: boto3.Session) -> None:
        super().__init__(dir_path)
        self._session = source._session

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # as for the cache of a role
            super().__setitem__(key, value)

    def _path(self, key: object) -> Path:
        return super()._path(digest([key, identity_of(self._session.get_credentials())]))


def keep_source(source: boto3.Session, dir_path: str) -> None:
    """Keep the credentials of a source profile that assumes a role, too: its ``mfa_serial`` asks for codes."""
    provider = source._session.get_component("credential_provider").get_provider("assume-role")
    provider.cache = _CacheOfSource(dir_path, source)
