"""What is requested of STS for one role, and by whom: the one place that calls AssumeRole."""

from __future__ import annotations

import itertools
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError

from ._answers import BadAnswer, add_note, check_answer, code_of, is_from_parser, is_unreachable, not_sts
from ._cache import CredentialCache, digest, read_keys, write_keys
from ._file_cache import JSONFileCache
from ._flights import inside, log, share
from ._identity import identity_of
from ._keys import Keys
from ._mfa import MfaDevice
from ._parameters import check_session_name
from ._sts import SharedStsClient, shared_sts_client

# After a failed early refresh, the next one is this many seconds later.
RETRY_INTERVAL = 60
# A thread waits for another one's attempt longer than STS can hold that up with the default timeouts, or as long as a
# person may take to type a code; and then makes an attempt of its own.
WAIT_LIMIT = 30
CODE_WAIT_LIMIT = 600
# A parent's refresh that takes this many seconds, and leaves its credentials due, had no answer.
SLOW = 0.1


class RoleFetcher(AssumeRoleCredentialFetcher):
    """Fetches the keys of one role, as one parent assumes it.

    Attributes:
        parent: The session that assumes the role.
        role_arn: The role.
        mfa: The device whose codes the role requires, if any.
        description: What is done by whom, for messages: nothing is looked up to say it.
        arguments: What another fetcher of this role is made with, besides its parent.
    """

    def __init__(
        self,
        parent: boto3.session.Session,
        request: Mapping[str, Any],
        cache: CredentialCache | None,
        sts_client_kwargs: Mapping[str, Any],
    ) -> None:
        self.parent = parent
        self.role_arn: str = request["RoleArn"]
        self.description = f"assuming {self.role_arn} from {_source(parent)}"
        self.arguments: tuple[Mapping[str, Any], CredentialCache | None, Mapping[str, Any]]
        self.arguments = (request, cache, sts_client_kwargs)
        self._request = dict(request)
        token_code = self._request.pop("TokenCode", None)
        self.mfa = MfaDevice(request["SerialNumber"], token_code) if "SerialNumber" in request else None
        # Like a generated name, what a callable returns is not a part of the cache key.
        self._session_name: Callable[[], str] | None = None
        if callable(request.get("RoleSessionName")):
            self._session_name = self._request.pop("RoleSessionName")
        self._generated_name = f"botocore-session-{int(time.time())}"
        self._credential_cache = cache
        self._sts: SharedStsClient = shared_sts_client(parent, sts_client_kwargs)
        super().__init__(
            client_creator=parent._session.create_client,
            source_credentials=parent_credentials(parent),
            role_arn=self.role_arn,
        )
        if cache is not None:
            # Who the parent is shows best now: the environment may belong to another one by the first use.
            self.granted_for()

    @property
    def wait_limit(self) -> float:
        """The seconds that this thread may wait for another one's attempt to fetch the keys of this role.

        0 if it is in an attempt itself, unless that is for a role that this role assumes: all waiting leads up the
        chain, so it cannot form a circle.
        """
        if not all(isinstance(fetcher, RoleFetcher) and self in fetcher._chain() for fetcher in inside()):
            return 0
        needs_codes = any(fetcher.mfa and not fetcher.mfa.has_static_code for fetcher in self._chain())
        return CODE_WAIT_LIMIT if needs_codes else WAIT_LIMIT

    @property
    def early_refresh_not_before(self) -> float:
        """The Unix time from which on an early refresh may call STS: it was unreachable for this role or its parent."""
        return max(fetcher._sts.early_refresh_not_before for fetcher in self._chain())

    def prepare(self) -> None:
        """Create the STS clients that a fetch is going to need.

        Before the fetch, since a thread that waits for it may hold a lock of the program's around
        ``Session.client()``. With a cache there may be no need for a client.
        """
        for fetcher in [self, *(source.fetcher for source in self._sources_due())]:
            if fetcher._credential_cache is None:
                fetcher._sts.get()

    def fetch_credentials(self) -> dict[str, Any]:
        """Fetch the keys, in the form that botocore's credentials take."""
        keys = self.fetch_keys()
        return {**keys._asdict(), "expiry_time": keys.expires.isoformat()}

    def fetch_keys(self, good_until: float = 0.0) -> Keys:
        """Fetch the keys from the cache, or else from STS.

        Args:
            good_until: The Unix time until which the caller can do without. STS is not called before then if it was
                unreachable a moment ago.
        """
        granted_for = self.granted_for()
        if self._credential_cache is None:
            return self._assume_role(granted_for, good_until)
        cache = self._credential_cache
        own: list[Keys] = []

        def fetch() -> Keys:
            keys = read_keys(cache, granted_for)
            if keys is None:
                keys = self._assume_role(granted_for, good_until)
                if keys.granted_for == granted_for:
                    write_keys(cache, keys)
            own.append(keys)
            return keys

        entry = (cache if isinstance(cache, JSONFileCache) else id(cache), granted_for)
        keys = share(entry, fetch, by=self, wait_limit=self.wait_limit)
        # Whose keys they are is not known where another thread's parent was given other credentials on the way.
        return keys if own or keys.granted_for == granted_for else fetch()

    def granted_for(self) -> str:
        """Digest what is requested, where it goes, and who requests it; unique where that cannot be told."""
        try:
            request = unordered(self._request)
            if "Policy" in request:
                request["Policy"] = json.loads(request["Policy"])
            parent = identity_of(self.parent._session, parent_credentials(self.parent))
            return digest([request, self._sts.endpoint_settings, parent])
        except Exception:
            return uuid.uuid4().hex

    def _assume_role(self, granted_for: str, good_until: float) -> Keys:
        self._check_reachable(good_until)
        self._refresh_parent()
        self._check_reachable(good_until)
        request = {"RoleSessionName": self._generated_name, **self._request}
        if self._session_name:
            request["RoleSessionName"] = check_session_name(self._session_name())
        if self.mfa:
            request["TokenCode"] = self.mfa.code()
        client = self._sts.get()
        try:
            response: Mapping[str, Any] = client.assume_role(**request)
            expires, lifetime = check_answer(response)
        except Exception as error:
            if is_unreachable(error):
                self._sts.hold_early_refreshes(time.time() + RETRY_INTERVAL)
            if isinstance(error, BadAnswer) or is_from_parser(error):
                raise not_sts(client.meta.endpoint_url, error) from None
            if code_of(error) == "ExpiredToken":
                parent = _source(self.parent)
                add_note(error, f"The parent's credentials have expired. Renew them at their source: {parent}.")
            raise
        if self.mfa:
            self.mfa.mark_code_used()
        log(
            logging.INFO,
            "Assumed %s as %s, good until %s.",
            self.role_arn,
            request["RoleSessionName"],
            expires.isoformat(timespec="seconds"),
        )
        granted = response["Credentials"]
        account_id = str(response.get("AssumedRoleUser", {}).get("Arn", "")).split(":")[4:5]
        return Keys(
            granted["AccessKeyId"],
            granted["SecretAccessKey"],
            granted["SessionToken"],
            account_id[0] if account_id and account_id[0] else None,
            expires,
            lifetime,
            # Who signed is not known where the parent was given other credentials on the way.
            granted_for if self.granted_for() == granted_for else uuid.uuid4().hex,
        )

    def _check_reachable(self, good_until: float) -> None:
        if time.time() < min(good_until, self.early_refresh_not_before):
            raise CredentialRetrievalError(
                provider="assume-role", error_msg="skipped: STS did not respond a moment ago"
            )

    def _refresh_parent(self) -> None:
        """Have the parent's keys refreshed if they are due, once for all the roles that wait for that."""
        # From the root down: one within the other, the refreshes of a long chain would exceed the recursion limit.
        for credentials in reversed(self._sources_due()):
            credentials.get_frozen_credentials()
        source = parent_credentials(self.parent)
        if self._parent_fetcher() or type(source) is Credentials:
            return
        was_unreachable, start = False, time.perf_counter()
        try:
            share(("source", id(source)), source.get_frozen_credentials, by=source, wait_limit=self.wait_limit)
            # While its credentials are valid, botocore keeps the failure of a refresh to itself.
            is_still_due = isinstance(source, RefreshableCredentials) and source.refresh_needed()
            was_unreachable = is_still_due and time.perf_counter() - start > SLOW
        except Exception as error:
            was_unreachable = is_unreachable(error)
            raise
        finally:
            if was_unreachable:
                self._sts.hold_early_refreshes(time.time() + RETRY_INTERVAL, of_all_endpoints=True)

    def _parent_fetcher(self) -> RoleFetcher | None:
        """The fetcher of the parent's credentials, where the parent is a role of ours too."""
        session = self.parent._session
        # Only a child session has a root. To ask another one for its credentials may run code of the program's.
        fetcher = getattr(session.get_credentials(), "fetcher", None) if hasattr(session, "root") else None
        return fetcher if isinstance(fetcher, RoleFetcher) else None

    def _chain(self) -> list[RoleFetcher]:
        """This fetcher and those of the roles above it."""
        chain = [self]
        while above := chain[-1]._parent_fetcher():
            chain.append(above)
        return chain

    def _sources_due(self) -> list[Any]:
        """The credentials of the roles above that this fetch refreshes, the parent's first.

        A role with a cache ends the list: an entry may save the refreshes above it.
        """
        due: list[Any] = []
        for fetcher, above in itertools.pairwise(self._chain()):
            source: Any = fetcher.parent._session.get_credentials()
            if not source.refresh_needed():
                break
            due.append(source)
            if above._credential_cache is not None:
                break
        return due


def unordered(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with those lists sorted whose order means nothing to STS."""
    lists = [name for name in ("PolicyArns", "Tags", "TransitiveTagKeys") if isinstance(request.get(name), list)]
    return {**request, **{name: sorted(request[name], key=digest) for name in lists}}


def load_credentials(session: boto3.session.Session) -> Any:
    """Have a parent's credentials found, by one thread: two could find an object each."""
    botocore_session = session._session
    credentials = share(
        botocore_session,
        botocore_session.get_credentials,
        by=botocore_session,
        wait_limit=0 if inside() else WAIT_LIMIT,
    )
    if credentials is None:
        raise NoCredentialsError
    return credentials


def parent_credentials(parent: boto3.session.Session) -> Any:
    # The botocore session's are what signs, whatever a subclass of boto3.Session makes of get_credentials().
    credentials = parent._session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return credentials


def _source(parent: boto3.session.Session) -> str:
    profile = parent._session.get_config_variable("profile")
    # Credentials of another class may have no method.
    method = getattr(parent_credentials(parent), "method", "other")
    role_arn = getattr(parent, "role_arn", None)
    return role_arn or (f"profile {profile!r}" if profile else f"a session with {method} credentials")
