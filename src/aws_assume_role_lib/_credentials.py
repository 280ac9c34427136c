"""When a role's credentials are refreshed, which thread does it, and what happens while STS is unreachable."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import datetime, timezone
from typing import Any

from botocore.credentials import DeferredRefreshableCredentials, ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from ._answers import add_note, in_one_line
from ._attempts import inside, is_under_way, log, share
from ._keys import Keys
from ._role import RoleFetcher
from ._sts import RETRY_INTERVAL

# In the last seconds before the keys expire, threads wait for the refresh that another thread is making.
BLOCKING_WINDOW = 60


class AssumedRoleCredentials(DeferredRefreshableCredentials):
    """A role's credentials: refreshed early if possible, and used until they expire if not.

    Attributes:
        fetcher: What fetches the keys.
        keys: The keys in use, expired or not; None before the first use.
        refresh_at: The Unix time at which the next refresh is due; 0.0 before the first use.
    """

    def __init__(self, fetcher: RoleFetcher) -> None:
        super().__init__(refresh_using=fetcher.fetch_credentials, method="assume-role")
        self.fetcher = fetcher
        self.refresh_at: float = 0.0
        self.keys: Keys | None = None

    @property
    def expires_at(self) -> float:
        """The Unix time when the keys expire; 0.0 before the first use."""
        return self.keys.expires_at if self.keys else 0.0

    def get_keys(self) -> Keys:
        """Refresh the keys if that is due, and return them with their expiry."""
        self._refresh()
        assert self.keys
        return self.keys

    @property
    def granted_for(self) -> str:
        """What the current keys were granted for or, without valid keys, what the next ones will be granted for."""
        # The parent may have been given other credentials since the current keys were fetched.
        keys = self.keys
        return keys.granted_for if keys and time.time() < keys.expires_at else self.fetcher.granted_for()

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether a refresh is due; with ``refresh_in``, whether fewer than that many seconds remain."""
        return time.time() >= (self.refresh_at if refresh_in is None else self.expires_at - refresh_in)

    def _refresh(self) -> None:
        # botocore internal: every accessor calls this first. botocore's version has fixed windows of 15 and 10 minutes,
        # calls an unreachable STS on every request, and holds a lock while it does. If it is gone, that happens again,
        # with the same fetcher. Covered by tests/test_internals.py.
        now = time.time()
        if now < self.refresh_at:
            return
        if self.fetcher in inside():
            if now < self.expires_at:
                return
            raise CredentialRetrievalError(
                provider=self.method,
                error_msg=f"the credentials for {self.fetcher.role_arn} were requested by a handler or callable "
                "running inside their own refresh; use another session there.",
            )
        wait_limit = self.fetcher.wait_limit
        if is_under_way(self) and now < self.expires_at - (BLOCKING_WINDOW if wait_limit else 0):
            return
        with contextlib.suppress(Exception):  # the refresh meets the same failure, and handles it
            self.fetcher.prepare()
        share(
            self,
            self._fetch_and_publish,
            by=self.fetcher,
            wait_limit=wait_limit,
            more_time=self.fetcher.more_time_for_source,
        )

    def _fetch_and_publish(self) -> None:
        if time.time() < self.refresh_at:  # another thread's refresh has just ended
            return
        try:
            keys = self._fetch_unexpired()
        except Exception as error:
            if time.time() >= self.expires_at:
                add_note(error, f"Raised while {self.fetcher.description}.")
                raise
            self._postpone(error)
        else:
            self._publish(keys)

    def _fetch_unexpired(self) -> Keys:
        started = time.time()
        keys = self.fetcher.fetch_keys(self.expires_at)
        if started < keys.expires_at <= time.time():
            # They expired in transit: the machine was frozen, or its clock was changed.
            keys = self.fetcher.fetch_keys(self.expires_at)
        if time.time() >= keys.expires_at:
            raise CredentialRetrievalError(
                provider=self.method,
                error_msg=f"STS's credentials for {self.fetcher.role_arn} had expired when they arrived, at "
                f"{keys.expires.isoformat()}. Check this machine's clock.",
            )
        return keys

    def _postpone(self, error: Exception) -> None:
        now = time.time()
        self.refresh_at = min(now + RETRY_INTERVAL, self.expires_at)
        log(
            logging.WARNING,
            "Early refresh failed while %s: %s. The credentials are valid until %s; next attempt in %d seconds.",
            self.fetcher.description,
            in_one_line(error),
            datetime.fromtimestamp(self.expires_at, timezone.utc).isoformat(timespec="seconds"),
            self.refresh_at - now,
        )

    def _publish(self, keys: Keys) -> None:
        # A refresh would need a new code, so static ones are never refreshed early.
        has_static_code = self.fetcher.mfa is not None and self.fetcher.mfa.has_static_code
        # One update(), because two threads may publish at the same time and a mixture of their keys is useless.
        vars(self).update(
            botocore_attributes(keys),
            keys=keys,
            refresh_at=keys.expires_at if has_static_code else keys.refresh_at,
        )


def botocore_attributes(keys: Keys) -> dict[str, Any]:
    """Return the attributes in which botocore's credentials keep these keys."""
    # botocore internals: botocore's accessors and other libraries read these. There is no fallback: with other
    # attributes the accessors return None, and every request fails. Covered by tests/test_internals.py.
    return {
        "_access_key": keys.access_key,
        "_secret_key": keys.secret_key,
        "_token": keys.token,
        "_account_id": keys.account_id,
        # account_id is a field since botocore 1.35.
        "_frozen_credentials": ReadOnlyCredentials(*(getattr(keys, name) for name in ReadOnlyCredentials._fields)),
        "_expiry_time": keys.expires,
    }
