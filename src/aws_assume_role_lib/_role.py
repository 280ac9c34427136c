"""What to request from STS for a role, and on whose behalf. AssumeRole is called only here."""

from __future__ import annotations

import itertools
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError

from ._answers import (
    BadAnswer,
    add_note,
    check_answer,
    is_from_handler,
    is_from_parser,
    is_unreachable,
    not_sts,
    note_for,
    refusal_code,
)
from ._attempts import inside, is_under_way, log, share
from ._cache import CredentialCache, digest, has_keys, read_keys, write_keys
from ._file_cache import JSONFileCache
from ._identity import identity_of
from ._keys import Keys
from ._mfa import MfaDevice
from ._parameters import check_session_name
from ._sts import SharedStsClient, shared_sts_client

if TYPE_CHECKING:
    from ._credentials import AssumedRoleCredentials

# How many seconds a thread waits for another thread's attempt before making its own: longer than an unresponsive STS
# can take with the default timeouts, or than a person needs to type an MFA code.
WAIT_LIMIT = 30
CODE_WAIT_LIMIT = 600
# How many seconds it waits for a source of credentials whose timeouts are botocore's own.
SOURCE_WAIT_LIMIT = 600
# A refresh that another thread is making, which botocore does not wait for, takes less than this many seconds.
SLOW = 0.1


class RoleFetcher(AssumeRoleCredentialFetcher):
    """Fetches the keys of one role, assumed by one parent.

    Attributes:
        parent: The session that assumes the role.
        role_arn: The role.
        mfa: The MFA device to send codes of, or None.
        description: What this does, for messages. Worked out beforehand, so that no message can fail.
        arguments: What another fetcher of this role needs besides its parent.
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
        self.description: str = f"assuming {self.role_arn} from {_source(parent)}"
        self.arguments: tuple[Mapping[str, Any], CredentialCache | None, Mapping[str, Any]]
        self.arguments = (request, cache, sts_client_kwargs)
        self._request = dict(request)
        self.mfa: MfaDevice | None = None
        if "SerialNumber" in request:
            self.mfa = MfaDevice(request["SerialNumber"], self._request.pop("TokenCode", None))
        # Popped because a name that changes, like a generated one, must not be part of the cache key.
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
            # Identify the parent now: by the first use, the environment may describe another identity.
            self.granted_for()

    @property
    def wait_limit(self) -> float:
        """How many seconds this thread may wait for another thread's attempt to fetch these keys.

        0 inside an attempt, except for a role further down the same chain: waiting that only ever leads up a chain
        cannot form a circle.
        """
        if not all(isinstance(fetcher, RoleFetcher) and self in fetcher._chain() for fetcher in inside()):
            return 0
        needs_codes = any(fetcher.mfa and not fetcher.mfa.has_static_code for fetcher in self._chain())
        return CODE_WAIT_LIMIT if needs_codes else WAIT_LIMIT

    def more_time_for_source(self) -> float:
        """How many more seconds to wait for another thread's attempt: those that the root's credentials may take."""
        root = self._chain()[-1].parent._session.get_credentials()
        return SOURCE_WAIT_LIMIT if self.wait_limit and is_under_way(("source", id(root))) else 0

    def prepare(self) -> None:
        """Create the STS clients that a fetch is going to need.

        This happens before the fetch because a thread that waits for the fetch may hold the program's own lock around
        ``Session.client()``. A role whose keys are in its cache needs no client.
        """
        for fetcher in [self, *(source.fetcher for source in self._sources_due())]:
            if not fetcher._is_cached():
                fetcher._sts.get()

    def fetch_credentials(self) -> dict[str, Any]:
        """Fetch the keys, in the form that botocore's credential classes accept."""
        keys = self.fetch_keys()
        return {**keys._asdict(), "expiry_time": keys.expires.isoformat()}

    def fetch_keys(self, good_until: float = 0.0) -> Keys:
        """Fetch the keys from the cache, or else from STS.

        Args:
            good_until: The Unix time until which the caller has valid keys. Until then, an STS that was unreachable a
                moment ago is not called again.
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

        # Equal file caches have one folder. Numbers, because removing a flight must not call a cache's __hash__().
        is_comparable = isinstance(cache, JSONFileCache) and type(cache).__hash__ is JSONFileCache.__hash__
        entry = (hash(cache) if is_comparable else id(cache), granted_for)
        keys = share(entry, fetch, by=self, wait_limit=self.wait_limit, more_time=self.more_time_for_source)
        # Another thread's parent may have been given other credentials meanwhile; then its keys are not ours.
        return keys if own or keys.granted_for == granted_for else fetch()

    def _is_cached(self) -> bool:
        return self._credential_cache is not None and has_keys(self._credential_cache, self.granted_for())

    def granted_for(self) -> str:
        """Digest the request, its endpoint and the identity that makes it. Unknown identities get a unique digest."""
        try:
            request = unordered(self._request)
            if "Policy" in request:
                request["Policy"] = json.loads(request["Policy"])
            parent = identity_of(self.parent._session, parent_credentials(self.parent))
            return digest([request, self._sts.endpoint_settings, parent])
        except Exception:
            return uuid.uuid4().hex

    def _assume_role(self, granted_for: str, good_until: float) -> Keys:
        is_early = time.time() < good_until
        if is_early and self._is_unreachable():
            raise _skipped()
        self._refresh_parent()
        if is_early and (self._is_unreachable() or not self._sts.allows_early_attempt()):
            raise _skipped()
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
                self._sts.mark_unreachable()
            if isinstance(error, BadAnswer) or is_from_parser(error):
                raise not_sts(client.meta.endpoint_url, error) from None
            # A handler may have called AssumeRole for another role.
            code = "" if is_from_handler(error) else refusal_code(error)
            if code:
                self._sts.mark_reachable()
            if note := note_for(error, request, _source(self.parent)):
                add_note(error, note)
            raise
        self._sts.mark_reachable()
        if self.mfa:
            self.mfa.mark_code_used()
        log(
            logging.INFO,
            "Assumed %s as %s, valid until %s.",
            self.role_arn,
            request["RoleSessionName"],
            expires.isoformat(timespec="seconds"),
        )
        granted = response["Credentials"]
        arn = str((response.get("AssumedRoleUser") or {}).get("Arn", ""))
        return Keys(
            granted["AccessKeyId"],
            granted["SecretAccessKey"],
            granted["SessionToken"],
            "".join(arn.split(":")[4:5]) or None,
            expires,
            lifetime,
            # If the parent's credentials changed during the call, we cannot tell who signed: never share the entry.
            granted_for if self.granted_for() == granted_for else uuid.uuid4().hex,
        )

    def _is_unreachable(self) -> bool:
        return any(fetcher._sts.is_unreachable for fetcher in self._chain())

    def _refresh_parent(self) -> None:
        """Refresh the parent's keys if they are due, once for all the roles that need them."""
        # From the root down: nested refreshes would exceed the recursion limit in a long chain.
        for credentials in reversed(self._sources_due()):
            credentials.get_frozen_credentials()
        source = parent_credentials(self.parent)
        if self._parent_fetcher() or type(source) is Credentials:
            return
        # botocore internal: a new object after each refresh. If the attribute is gone, only an error shows that the
        # source did not respond. Covered by tests/test_internals.py.
        before, start = getattr(source, "_frozen_credentials", None), time.perf_counter()
        is_due = isinstance(source, RefreshableCredentials) and source.refresh_needed()
        wait_limit = SOURCE_WAIT_LIMIT if self.wait_limit else 0
        try:
            share(("source", id(source)), source.get_frozen_credentials, by=source, wait_limit=wait_limit)
        except Exception as error:
            if is_unreachable(error):
                self._sts.mark_unreachable(all_endpoints=True)
            raise
        # botocore does not report a failed refresh while the old credentials are still valid.
        is_unchanged = before is not None and getattr(source, "_frozen_credentials", None) is before
        if is_due and is_unchanged and time.perf_counter() - start > SLOW:
            self._sts.mark_unreachable(all_endpoints=True)

    def _parent_fetcher(self) -> RoleFetcher | None:
        """The fetcher of the parent's credentials if the parent is itself an assumed-role session."""
        session = self.parent._session
        # get_credentials() of a session that is not ours may run code that is not ours.
        is_ours = hasattr(session, "_aws_assume_role_lib_root")
        fetcher = getattr(session.get_credentials(), "fetcher", None) if is_ours else None
        return fetcher if isinstance(fetcher, RoleFetcher) else None

    def _chain(self) -> list[RoleFetcher]:
        """This fetcher and those of the roles above it."""
        chain = [self]
        while above := chain[-1]._parent_fetcher():
            chain.append(above)
        return chain

    def _sources_due(self) -> list[AssumedRoleCredentials]:
        """The credentials further up the chain that this fetch has to refresh first, the parent's at the front.

        The list ends at a role whose keys are in its cache: it needs nothing from the roles above it.
        """
        due: list[AssumedRoleCredentials] = []
        for fetcher, above in itertools.pairwise(self._chain()):
            source: Any = fetcher.parent._session.get_credentials()
            if not source.refresh_needed():
                break
            due.append(source)
            if above._is_cached():
                break
        return due


def _skipped() -> CredentialRetrievalError:
    return CredentialRetrievalError(provider="assume-role", error_msg="skipped: STS did not respond a moment ago")


def unordered(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with the lists sorted whose order means nothing to STS."""
    lists = [name for name in ("PolicyArns", "Tags", "TransitiveTagKeys") if isinstance(request.get(name), list)]
    return {**request, **{name: sorted(request[name], key=digest) for name in lists}}


def load_credentials(session: boto3.session.Session) -> Credentials:
    """Load a parent's credentials in one thread: botocore would make an object for each of two."""
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


def parent_credentials(parent: boto3.session.Session) -> Credentials:
    # Requests are signed with the botocore session's credentials, even if a boto3.Session subclass returns others.
    credentials = parent._session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return credentials


def _source(parent: boto3.session.Session) -> str:
    profile = parent._session.get_config_variable("profile")
    # A custom credentials class may have no method.
    method = getattr(parent_credentials(parent), "method", "other")
    role_arn = getattr(parent, "role_arn", None)
    return role_arn or (f"profile {profile!r}" if profile else f"a session with {method} credentials")
