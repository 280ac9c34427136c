"""A role's credentials: what is asked of STS, when they are refreshed, and what happens while STS is away."""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials, ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    RefreshWithMFAUnsupportedError,
)
from botocore.exceptions import ConnectionError as ConnectionFailure
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from ._cache import ScopedCache, digest
from ._identity import identity_of
from ._locks import ForkSafeLock
from ._parameters import check_session_name, check_token_code
from ._sts import Sts, family_lock

if TYPE_CHECKING:
    from ._cache import CredentialCache

logger = logging.getLogger("aws_assume_role_lib")

MAX_REFRESH_WINDOW = 15 * 60
BLOCKING_WINDOW = 60
RETRY_INTERVAL = 60


def refresh_window(lifetime: float) -> float:
    """Seconds before the expiry at which a refresh is due, of credentials granted for ``lifetime`` seconds."""
    return min(MAX_REFRESH_WINDOW, lifetime / 4)


class AssumedRoleCredentials(DeferredRefreshableCredentials):
    """A role's credentials, refreshed early where STS allows it, and used to their end where it does not."""

    def __init__(self, role: Role, cache: CredentialCache | None) -> None:
        self.role = role
        self._role_cache = ScopedCache(cache, role.cache_key, refresh_window)
        # The fetcher asks for a dict and credentials; these have the methods that it calls.
        entry: Any = self._role_cache
        source: Any = role
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=self._client,
            source_credentials=source,
            role_arn=role.arn,
            cache=entry,
            expiry_window_seconds=0,
        )
        self._fetch = fetcher.fetch_credentials
        super().__init__(refresh_using=self._fetch, method="assume-role")
        self._lock = ForkSafeLock()
        self._due = self._expires = 0.0
        self._fetched_as: list[Any] = []
        self._refresher: tuple[int, int] | None = None

    def _client(self, *_: Any, **__: Any) -> Any:
        """What the fetcher takes for its STS client, once it has seen to the parent's credentials."""
        # botocore hands over frozen keys and expects a new client each time; the parent's one client is kept, and
        # signs with the parent's live credentials, so the keys passed here are not used.
        if time.time() < min(self._expires, self.role.away_until):
            # Each hop of a chain, and each role of a parent, would wait for the same STS.
            raise CredentialRetrievalError(
                provider=self.method, error_msg="STS is not asked, since it did not answer a moment ago"
            )
        return self.role

    def cache_key(self) -> list[Any]:
        """What tells these credentials from others, whatever the keys are at the moment."""
        # The parent may have been given other credentials since these keys were fetched.
        return self._fetched_as if time.time() < self._expires else self.role.cache_key()

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether a refresh is due; with ``refresh_in``, whether less than that many seconds remain."""
        now = time.time()
        return now >= (self._due if refresh_in is None else self._expires - refresh_in)

    def _refresh(self) -> None:
        # botocore internal: each accessor calls it before it answers. botocore's own has fixed windows of 15 and
        # 10 minutes, asks again at each request while STS is away, and keeps a lock that a fork can leave held.
        # Covered by tests/test_internals.py.
        now = time.time()
        if now < self._due:
            return
        # The process, because a forked child never sees the end of a refresh that another thread was in.
        me = (os.getpid(), threading.get_ident())
        # A refresh may make a client. A thread that makes one, and asks here by a handler of the user's, does not keep
        # others from that meanwhile.
        with family_lock(self.role.parent._session).let_go():
            if not self._has_turn(me, now):
                return
            try:
                if time.time() >= self._due:
                    self._refresher = me
                    self._renew()
            finally:
                self._refresher = None
                self._lock.release()

    def _has_turn(self, me: tuple[int, int], now: float) -> bool:
        """Take the lock, or say that the credentials at hand are to be used."""
        _waiting[me] = self
        try:
            if self._waits_for(me):
                self._refresh_again(now)
                return False
            if self._lock.acquire(blocking=False):
                return True
            if now < self._expires - BLOCKING_WINDOW:
                return False
            # What refreshes may need a code, and a callable that is asked for one may wait here.
            with _asking.let_go():
                return self._lock.acquire(blocking=True)
        finally:
            _waiting.pop(me, None)

    def _waits_for(self, me: tuple[int, int]) -> bool:
        """Whether the refresh that is under way is this thread's, or waits for one that is."""
        refresher = self._refresher
        while refresher not in (None, me):
            credentials = _waiting.get(refresher)
            refresher = credentials._refresher if credentials else None
        return refresher == me

    def _refresh_again(self, now: float) -> None:
        """A handler or a callable of the user's, run by the refresh, uses the session that is being refreshed."""
        if now >= self._expires:
            raise CredentialRetrievalError(
                provider=self.method,
                error_msg=f"the credentials for {self.role.arn} were asked for while they are being refreshed, by what "
                "the refresh itself runs: an event handler or a callable. Let it use another session.",
            )

    def _renew(self) -> None:
        try:
            fetched_as = self.role.known_as()
            metadata = self._fetch()
            expires = datetime.fromisoformat(metadata["expiry_time"])
            if expires.timestamp() <= time.time():
                raise CredentialRetrievalError(
                    provider=self.method,
                    error_msg=f"STS's credentials for {self.role.arn} had expired when they arrived, at "
                    f"{metadata['expiry_time']}. Check this machine's clock.",
                )
        except Exception as error:
            now = time.time()
            if now >= self._expires:
                # Exceptions have notes since Python 3.11.
                getattr(error, "add_note", str)(f"Raised while {self.role.hop}.")
                raise
            self._due = min(now + RETRY_INTERVAL, self._expires)
            logger.warning(
                "Early refresh failed while %s: %s. The credentials are good until %s; next attempt in %d seconds.",
                self.role.hop,
                _in_one_line(error),
                _utc(self._expires),
                self._due - now,
            )
            return
        # account_id is one of these since botocore 1.35.
        # A store without accounts has an empty one, of which botocore would make part of a host name.
        keys = {name: metadata.get(name) or None for name in ReadOnlyCredentials._fields}
        # Who signed is not known where the parent's credentials were replaced on the way; nor, to another thread, while
        # these are put in their places.
        known_as, self._fetched_as = self.role.known_as(), [uuid.uuid4().hex]
        for name, value in keys.items():
            setattr(self, name, value)
        # botocore internals: where its accessors, and other libraries, find them. Covered by tests/test_internals.py.
        self._frozen_credentials = ReadOnlyCredentials(**keys)
        self._expiry_time = expires
        self._expires = expires.timestamp()
        if fetched_as == known_as:
            self._fetched_as = fetched_as
        window = 0 if self.role.has_one_code else refresh_window(self._role_cache.lifetime)
        self._due = self._expires - window


# Which thread waits for the refresh of what: two that waited for each other would do so for ever.
_waiting: dict[tuple[int, int], AssumedRoleCredentials] = {}


class Role:
    """One role, as one parent assumes it. It is what botocore's fetcher takes for its STS client."""

    def __init__(
        self, parent: boto3.session.Session, request: Mapping[str, Any], sts_client_kwargs: Mapping[str, Any]
    ) -> None:
        self.arn: str = request["RoleArn"]
        self.parent = parent
        self._has_loaded = False
        self._request = dict(request)
        self._token_code: str | Callable[[], str] | None = self._request.pop("TokenCode", None)
        # A code given as a string serves once: asking early would fail, and only that.
        self.has_one_code: bool = not (self._token_code is None or callable(self._token_code))
        self._code_is_spent = False
        self._session_name: Callable[[], str] | None = None
        if callable(request.get("RoleSessionName")):
            self._session_name = self._request.pop("RoleSessionName")
        self.sts: Sts = Sts(parent, sts_client_kwargs)

    @property
    def hop(self) -> str:
        profile = self.parent._session.get_config_variable("profile")
        # Credentials of somebody's own class may have no method.
        method = getattr(self.parent_credentials(), "method", "other")
        source = getattr(self.parent, "role_arn", None) or (
            f"profile {profile!r}" if profile else f"a session with {method} credentials"
        )
        return f"assuming {self.arn} from {source}"

    def parent_credentials(self) -> Any:
        # botocore loads a session's credentials when first asked, and two threads would get an object each.
        # The botocore session's are what signs, whatever a subclass of boto3.Session makes of get_credentials().
        session = self.parent._session
        if not self._has_loaded:
            with family_lock(session):
                self._has_loaded = session.get_credentials() is not None
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        return credentials

    @property
    def away_until(self) -> float:
        """Until when no early refresh asks STS, which did not answer this hop, one before it, or another role's."""
        source = self.parent_credentials()
        return max(self.sts.away_until, source.role.away_until if isinstance(source, AssumedRoleCredentials) else 0.0)

    def get_frozen_credentials(self) -> Any:
        """The parent's, which may have other credentials by now than when the fetcher was made."""
        return self.parent_credentials().get_frozen_credentials()

    def cache_key(self) -> list[Any]:
        """The request, in one form for all that mean the same, where it goes, and who makes it."""
        request = dict(self._request)
        for name in ("PolicyArns", "Tags", "TransitiveTagKeys"):
            if name in request:
                request[name] = sorted(request[name], key=digest)
        if "Policy" in request:
            request["Policy"] = json.loads(request["Policy"])
        return [
            request,
            self.sts.endpoint_url,
            identity_of(self.parent._session, self.parent_credentials()),
        ]

    def known_as(self) -> list[Any]:
        """The cache key, and where none can be worked out one that is no other's."""
        try:
            return self.cache_key()
        except Exception:
            return [uuid.uuid4().hex]

    def assume_role(self, **request: Any) -> dict[str, Any]:
        """Ask STS. ``request`` is botocore's: the role, and a session name generated once per session."""
        request |= self._request
        if self._session_name is not None:
            request["RoleSessionName"] = check_session_name(self._session_name())
        if "SerialNumber" in request:
            request["TokenCode"] = self._code(request["SerialNumber"])
        client = self.sts.client()
        try:
            response: dict[str, Any] = client.assume_role(**request)
            expiration = (_expiration(response) - _how_far_behind(response)).astimezone(timezone.utc)
        except BotoCoreError as error:
            # Some of botocore's own errors are ValueErrors too; STS's, ClientErrors, are none of those caught here.
            if isinstance(error, (ConnectionFailure, HTTPClientError)):
                self.sts.away_until = time.time() + RETRY_INTERVAL
            raise
        except (KeyError, OverflowError, RuntimeError, ValueError, ResponseParserError) as error:
            # botocore's parser quotes the answer, and half of one may hold the keys.
            quotes = isinstance(error, ResponseParserError)
            reason = type(error).__name__ if quotes else f"{type(error).__name__}: {error}"
            raise CredentialRetrievalError(
                provider="assume-role",
                error_msg=f"what answered for STS at {client.meta.endpoint_url} is not an AssumeRole response "
                f"({reason}). Look for a proxy or an endpoint URL that leads elsewhere.",
            ) from (None if quotes else error)
        self._code_is_spent = True
        logger.info(
            "Assumed %s as %s, good until %s.",
            self.arn,
            request["RoleSessionName"],
            _utc(expiration.timestamp()),
        )
        # No more than the fetcher needs: it copies what it is given.
        return {
            "Credentials": {**response["Credentials"], "Expiration": expiration},
            "AssumedRoleUser": response.get("AssumedRoleUser", {}),
        }

    def _code(self, serial: str) -> str:
        if self.has_one_code:
            if self._code_is_spent:
                raise RefreshWithMFAUnsupportedError
            return str(self._token_code)
        with _asking:
            if callable(self._token_code):
                return check_token_code(self._token_code())
            if not _has_terminal():
                raise CredentialRetrievalError(
                    provider="assume-role",
                    error_msg=f"MFA device {serial} needs a code and there is no terminal to ask on. "
                    "Pass TokenCode: six digits, or a callable that returns them.",
                )
            return getpass.getpass(f"Enter MFA code for {serial}: ")


# One question at a time: a person has one terminal, and a code generator may not be safe to share.
_asking = ForkSafeLock()


def _has_terminal() -> bool:
    # getpass reads stdin where it finds no terminal, and a service would wait there for ever; so would a job in the
    # background, which is stopped when it touches its terminal.
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _expiration(response: Mapping[str, Any]) -> datetime:
    """Return the expiration of a complete AssumeRole response; ValueError names what is missing from any other."""
    credentials = response["Credentials"]
    for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
        if not isinstance(credentials.get(name), str) or not credentials[name]:
            raise ValueError(f"no {name}")
    expiration = credentials["Expiration"]
    # A string is what the user's own timestamp parser has left.
    if not isinstance(expiration, datetime):
        expiration = parse_timestamp(expiration)
    # STS's has a time zone; a stand-in's that has none would be taken for this machine's time.
    return expiration if expiration.tzinfo else expiration.replace(tzinfo=timezone.utc)


def _how_far_behind(response: Mapping[str, Any]) -> timedelta:
    """How far this machine's clock is behind STS's: it would take each expiry for that much later than it is."""
    # Of a clock that is ahead nothing is taken back: it may be set right at any time, and the keys last longer.
    try:
        date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(date - datetime.now(timezone.utc), timedelta())
    except (KeyError, TypeError, ValueError):
        return timedelta()


def _in_one_line(error: Exception) -> str:
    """What happened, without what the request contained: STS quotes it in some messages."""
    if isinstance(error, ClientError):
        return f"{error.operation_name} was answered with {error.response.get('Error', {}).get('Code', 'an error')}"
    if isinstance(error, BotoCoreError):
        return " ".join(str(error).split()).rstrip(".")
    return type(error).__name__


def _utc(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec="seconds")
