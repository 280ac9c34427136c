"""When a role's credentials are refreshed, which thread does it, and what happens while STS is unreachable."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from datetime import datetime, timezone
from typing import Any

from botocore.credentials import DeferredRefreshableCredentials, ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from ._answers import add_note, in_one_line
from ._attempts import is_inside, is_under_way, log, may_wait, requested_inside, share
from ._family import RETRY_INTERVAL
from ._keys import Keys
from ._mfa import TerminalWasTaken
from ._role import Need, RoleFetcher

# In the last seconds before the keys expire, threads wait for the refresh that another thread is making.
BLOCKING_WINDOW = 60

# Python's default generator would repeat itself: its state is part of a SnapStart snapshot.
_random = random.SystemRandom()


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

    @property
    def has_valid_keys(self) -> bool:
        """Whether there are keys that have not expired."""
        return time.time() < self.expires_at

    def get_keys(self) -> Keys:
        """Refresh the keys if that is due, and return them with their expiry."""
        self._refresh()
        assert self.keys
        return self.keys

    def get_keys_valid_for(self, seconds: float) -> Keys:
        """Return keys that are valid for that long, after a refresh if necessary, or raise ValueError."""
        valid_until = time.time() + seconds
        for _ in range(2):  # the first attempt may be another thread's, which needs less
            if self.keys and (self.keys.expires_at >= valid_until or self.keys.lifetime < seconds):
                break  # STS would grant the same lifetime again
            self._attempt(valid_until)
        assert self.keys
        if self.keys.expires_at < valid_until:
            raise ValueError(
                f"The credentials for {self.fetcher.role_arn} cannot be valid for {seconds:.0f} seconds: STS granted "
                f"{int(self.keys.lifetime)}. Pass a longer DurationSeconds, up to the role's maximum."
            )
        return self.keys

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether a refresh is due; with ``refresh_in``, whether fewer than that many seconds remain."""
        return time.time() >= (self.refresh_at if refresh_in is None else self.expires_at - refresh_in)

    def _refresh(self) -> None:
        # botocore internal: every accessor calls this first. botocore's version has fixed windows of 15 and 10 minutes,
        # calls an unreachable STS on every request, and holds a lock while it does. If it is gone, that happens again,
        # with the same fetcher. Covered by tests/test_internals.py.
        if time.time() < self.refresh_at:
            return
        self._refresh_once()
        # After an early refresh that failed, a slow log handler may have run until the keys expired.
        if not self.has_valid_keys:
            self._refresh_once()

    def _refresh_once(self) -> None:
        now = time.time()
        if is_inside(self):
            if now < self.expires_at:
                return
            raise requested_inside(f"the credentials for {self.fetcher.role_arn}")
        if is_under_way(self) and now < self.expires_at - (BLOCKING_WINDOW if may_wait() else 0):
            return
        self._attempt()

    def _attempt(self, valid_until: float = 0.0) -> None:
        """Share a refresh with the threads that need one, too."""
        while True:
            with contextlib.suppress(TerminalWasTaken):
                return share(self, functools.partial(self._fetch_and_publish, valid_until), self.fetcher.wait_limit)

    def _fetch_and_publish(self, valid_until: float) -> None:
        if time.time() < self.refresh_at and self.expires_at >= valid_until:
            return  # another thread's refresh has just ended
        try:
            keys = self._fetch_unexpired(Need(0.0 if valid_until else self.expires_at, valid_until))
        except TerminalWasTaken:
            raise
        except Exception as error:
            if not self.has_valid_keys and (entry := self.fetcher.cached_keys()):
                # Due for a refresh, which has failed: use the entry until it expires.
                self._publish(entry)
            if not self.has_valid_keys or self.expires_at < valid_until:
                add_note(error, f"Raised while {self.fetcher.description}.")
                raise
            self._postpone(error)
        else:
            self._publish(keys)

    def _fetch_unexpired(self, need: Need) -> Keys:
        started = time.time()
        keys = self.fetcher.fetch_keys(need)
        if started < keys.expires_at <= time.time():
            # They expired in transit: the machine was frozen, or its clock was changed.
            keys = self.fetcher.fetch_keys(need)
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
        # At a random moment, because a fleet that was started at once would refresh at once forever.
        refresh_at = keys.advisory_at + _random.uniform(0, keys.advisory_window / 3)
        if self.fetcher.mfa is not None and self.fetcher.mfa.has_static_code:
            refresh_at = keys.expires_at  # a refresh would need a new code
        # One update(), because two threads may publish at the same time and a mixture of their keys is useless.
        vars(self).update(botocore_attributes(keys), keys=keys, refresh_at=refresh_at)


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
