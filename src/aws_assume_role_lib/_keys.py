"""A role's keys: the value that passes from STS or a cache to the credentials that sign requests."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NamedTuple

KEY_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken")
MAX_ADVISORY_WINDOW = 15 * 60


def seconds_of(duration: object) -> float:
    """Return a duration in seconds if it is a positive number or timedelta, or raise TypeError or ValueError."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"duration is {duration!r}; it must be a number of seconds or a timedelta.")
    if not 0 < seconds < math.inf:
        raise ValueError(f"duration is {duration!r}; it must be greater than 0, and finite.")
    return float(seconds)


def is_sendable(value: object) -> bool:
    """Whether a value can be part of a request's headers. An HTTP client's error would quote one that cannot."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


class ExportedCredentials(NamedTuple):
    """A role's credentials at one moment, for code that cannot take a session.

    These credentials do not refresh: call :meth:`AssumedRoleSession.export_credentials` again before they expire.

    Attributes:
        access_key: The access key ID.
        secret_key: The secret access key.
        token: The session token.
        expiry: When the credentials expire: a datetime with the time zone UTC.
        account_id: The ID of the account that owns the role, or None if STS's response did not contain it.

    Example:
        >>> from datetime import datetime, timezone
        >>> from aws_assume_role_lib import ExportedCredentials
        >>> ExportedCredentials("ASIAEXAMPLE", "secret", "token", datetime(2030, 1, 31, tzinfo=timezone.utc), None)
        ExportedCredentials(access_key='ASIAEXAMPLE', expiry=datetime.datetime(2030, 1, 31, 0, 0, tzinfo=datetime.timezone.utc), account_id=None)
    """  # noqa: E501  # a doctest compares its output as one line

    access_key: str
    secret_key: str
    token: str
    expiry: datetime
    account_id: str | None

    def __repr__(self) -> str:
        return (
            f"ExportedCredentials(access_key={self.access_key!r}, expiry={self.expiry!r}, "
            f"account_id={self.account_id!r})"
        )


class Keys(NamedTuple):
    """The keys of one STS response, complete and checked.

    Attributes:
        expires: Has a time zone. Corrected if this machine's clock is behind STS's.
        lifetime: The number of seconds for which STS granted the keys.
        granted_for: A digest of the request and of who made it, which is also the cache key.
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
    def advisory_window(self) -> float:
        """How many seconds before they expire they may be refreshed."""
        return min(MAX_ADVISORY_WINDOW, self.lifetime / 4)

    @property
    def advisory_at(self) -> float:
        """The Unix time from which they may be refreshed."""
        return self.expires_at - self.advisory_window

    def export(self) -> ExportedCredentials:
        """Return them for code outside of this package."""
        return ExportedCredentials(self.access_key, self.secret_key, self.token, self.expires, self.account_id)

    def __repr__(self) -> str:
        return f"Keys(expires={self.expires.isoformat()})"
