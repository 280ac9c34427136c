"""The keys of a role: the value that passes from STS or a cache to the credentials that sign requests."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

MAX_REFRESH_WINDOW = 15 * 60


def refresh_window(lifetime: float) -> float:
    """The seconds before the expiry in which keys that were granted for ``lifetime`` seconds are refreshed."""
    return min(MAX_REFRESH_WINDOW, lifetime / 4)


class Keys(NamedTuple):
    """What STS granted, complete and checked.

    Attributes:
        expires: With a time zone, and corrected where this machine's clock is behind that of STS.
        lifetime: Seconds for which the keys were granted.
        granted_for: A digest of what was requested, and by whom: the key of their cache entry.
    """

    access_key: str
    secret_key: str
    token: str
    account_id: str | None
    expires: datetime
    lifetime: float
    granted_for: str

    @property
    def expires_at(self) -> float:
        return self.expires.timestamp()

    @property
    def refresh_at(self) -> float:
        return self.expires_at - refresh_window(self.lifetime)

    def __repr__(self) -> str:
        return f"Keys(expires={self.expires.isoformat()})"
