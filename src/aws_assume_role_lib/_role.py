"""What to request from STS for a role, and on whose behalf. AssumeRole is called only here."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import boto3
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, RefreshableCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from ._answers import (
    BAD_KEYS,
    add_note,
    granted_keys,
    is_from_handler,
    is_from_parser,
    is_unreachable,
    not_sts,
    note_for,
    refusal_code,
)
from ._attempts import WAIT_LIMIT, log, run_foreign, share
from ._cache import CredentialCache, digest, read_keys, write_keys
from ._family import Family, family_of
from ._file_cache import JSONFileCache
from ._identity import creates_clients_as_botocore, identity_of
from ._keys import Keys
from ._mfa import MfaDevice
from ._parameters import check_session_name
from ._source import is_from_file, parent_credentials, reread
from ._sts import EARLY_TIMEOUTS, endpoint_settings, has_own_client, options_key, sts_client

# How many seconds a thread waits for another thread's attempt if a person may have to type an MFA code, or if it is for
# a source of credentials whose timeouts are botocore's own.
CODE_WAIT_LIMIT = SOURCE_WAIT_LIMIT = 600
# botocore hides that its refresh of a root's credentials has failed. If it took this many seconds, nothing responded: a
# refusal is quicker.
SLOW = 5.0
# How many roles of a chain are refreshed by recursion.
STRIDE = 20


class Need(NamedTuple):
    """What the credentials need that ask for keys.

    Attributes:
        fallback_until: The Unix time until which they can go on with the keys that they have. Until then, the attempt
            is early: it may fail, so it is short, and not made if STS was unreachable a moment ago.
        valid_until: The Unix time until which the new keys must be valid, or 0.0: any that are not due for a refresh.
    """

    fallback_until: float
    valid_until: float


class RoleFetcher(AssumeRoleCredentialFetcher):
    """Fetches the keys of one role, assumed by one parent.

    Attributes:
        parent: The session that assumes the role.
        role_arn: The role.
        mfa: The MFA device to send codes of, or None.
        description: What this does, for messages. Worked out beforehand, so that no message can fail.
        arguments: What another fetcher of this role needs besides its parent.
        wait_limit: How many seconds a thread waits for another thread that is fetching these keys.
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
        self.description: str = f"assuming {self.role_arn} from {_describe(parent)}"
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
        self._sts_options, self._options_key = sts_client_kwargs, options_key(sts_client_kwargs)
        above = role_credentials(parent)
        self.wait_limit: float = above.fetcher.wait_limit if above else WAIT_LIMIT
        if self.mfa and not self.mfa.has_static_code:
            self.wait_limit = CODE_WAIT_LIMIT
        # What a parent's own client() calls, which no setting tells.
        self._own_endpoints: list[str] = []
        if has_own_client(parent):
            # Now, outside of any attempt: that method is not ours, and may wait for another thread.
            for is_early in (False, True):
                client = sts_client(parent, sts_client_kwargs, self._options_key, is_early=is_early)
                self._own_endpoints.append(client.meta.endpoint_url)
        super().__init__(
            client_creator=parent._session.create_client,
            source_credentials=parent_credentials(parent),
            role_arn=self.role_arn,
        )

    def fetch_credentials(self) -> dict[str, Any]:
        """Fetch the keys, in the form that botocore's credential classes accept."""
        keys = self.fetch_keys(Need(0.0, 0.0))
        return {**keys._asdict(), "expiry_time": keys.expires.isoformat()}

    def fetch_keys(self, need: Need) -> Keys:
        """Fetch the keys from the cache, or else from STS."""
        granted_for, cache = self.granted_for(), self._credential_cache
        if cache is None:
            return self._assume_role(granted_for, need)
        own: list[Keys] = []

        def fetch() -> Keys:
            entry = read_keys(cache, granted_for)
            if entry is None or not _meets(entry, need):
                fallback_until = max(need.fallback_until, entry.expires_at if entry and not need.valid_until else 0.0)
                entry = self._assume_role(granted_for, need._replace(fallback_until=fallback_until))
                if entry.granted_for == granted_for:
                    write_keys(cache, entry)
            own.append(entry)
            return entry

        # An early attempt is too short for a session without keys. Equal file caches have one folder. Numbers, because
        # looking up an attempt must not call a cache's __hash__().
        is_comparable = isinstance(cache, JSONFileCache) and type(cache).__hash__ is JSONFileCache.__hash__
        number = hash(cache) if is_comparable else id(cache)
        keys = share((number, granted_for, _is_early(need)), fetch, self.wait_limit)
        # Another thread's parent may have been given other credentials meanwhile; then its keys are not ours.
        is_ours = keys.granted_for == granted_for and keys.expires_at >= need.valid_until
        return keys if own or is_ours else fetch()

    def cached_keys(self) -> Keys | None:
        """Return valid keys from the cache, even if they are due for a refresh."""
        return None if self._credential_cache is None else read_keys(self._credential_cache, self.granted_for())

    def granted_for(self) -> str:
        """Digest the request, its endpoint and the identity that makes it. Unknown identities get a unique digest."""
        try:
            # A loop, because recursion would limit the length of a chain.
            roles = [self]
            while (source := role_credentials(roles[-1].parent)) and not source.has_valid_keys:
                roles.append(source.fetcher)
            if not (source or creates_clients_as_botocore(roles[-1].parent._session)):
                return uuid.uuid4().hex
            # The parent may have been given other credentials since its current keys were fetched.
            identity = source.keys.granted_for if source else identity_of(parent_credentials(roles[-1].parent))
            for role in reversed(roles):
                endpoint = role._own_endpoints or endpoint_settings(role.parent._session, role._sts_options)
                identity = digest([role._comparable_request(), endpoint, identity])
            return str(identity)
        except Exception:
            return uuid.uuid4().hex

    def _comparable_request(self) -> dict[str, Any]:
        request = unordered(self._request)
        return {**request, "Policy": json.loads(request["Policy"])} if "Policy" in request else request

    def _assume_role(self, granted_for: str, need: Need) -> Keys:
        session, started = self.parent._session, time.time()
        family, endpoint = family_of(session), (self._options_key, session.get_config_variable("region"))
        if _is_early(need) and family.is_unreachable(endpoint):
            raise _skipped()
        self._refresh_parent(family)
        # In a chain, an STS that does not respond delays a request once, not once for each role or region.
        if _is_early(need) and family.was_unreachable_since(started):
            raise _skipped()
        request = self._complete_request()
        # Only now, because the parent's refresh and a prompt may have taken long.
        is_early = _is_early(need)
        if is_early:
            family.claim_attempt(endpoint)
        try:
            keys = self._call_sts(request, granted_for, family, endpoint, is_early)
        except ClientError as error:
            # A tool may have renewed the keys in the profile's file since botocore read it.
            if is_from_handler(error) or refusal_code(error) not in BAD_KEYS or not reread(self.parent):
                raise
            granted_for = self.granted_for()
            keys = self._call_sts(request, granted_for, family, endpoint, is_early)
        until = keys.expires.isoformat(timespec="seconds")
        log(logging.INFO, "Assumed %s as %s, valid until %s.", self.role_arn, request["RoleSessionName"], until)
        # If the parent's credentials changed during the call, we cannot tell who signed: never share the entry.
        return keys if self.granted_for() == granted_for else keys._replace(granted_for=uuid.uuid4().hex)

    def _refresh_parent(self, family: Family) -> None:
        """Refresh the parent's keys if they are due, once for all the roles that need them."""
        # The refresh of a parent refreshes its own parent first, which takes about ten frames for each role. In a very
        # long chain, this starts further up. A failure there matters only if it is met again on the way.
        for credentials in reversed(self._due_above()[STRIDE::STRIDE]):
            with contextlib.suppress(Exception):
                credentials.get_keys()
        if above := role_credentials(self.parent):
            above.get_keys()
            return
        source = parent_credentials(self.parent)
        if type(source) is Credentials:
            return
        is_due, started = _is_due(source), time.perf_counter()
        try:
            attempt = functools.partial(run_foreign, source.get_frozen_credentials)
            share(("source", id(source)), attempt, SOURCE_WAIT_LIMIT, patient=True)
        except Exception as error:
            if is_unreachable(error):
                family.mark_unreachable(None)
            raise
        # botocore does not report a failed refresh while the old credentials are still valid.
        if is_due and time.perf_counter() - started >= SLOW and _is_due(source):
            family.mark_unreachable(None)

    def _due_above(self) -> list[Any]:
        """The credentials of the roles further up the chain, the parent's first, to the last that is due."""
        above: list[Any] = []
        parent = self.parent
        while (credentials := role_credentials(parent)) and credentials.refresh_needed():
            above.append(credentials)
            parent = credentials.fetcher.parent
        return above

    def _complete_request(self) -> dict[str, Any]:
        request = {"RoleSessionName": self._generated_name, **self._request}
        if self._session_name:
            request["RoleSessionName"] = check_session_name(run_foreign(self._session_name))
        if self.mfa:
            request["TokenCode"] = self.mfa.code()
        return request

    def _call_sts(
        self, request: Mapping[str, Any], granted_for: str, family: Family, endpoint: object, is_early: bool
    ) -> Keys:
        client = sts_client(self.parent, self._sts_options, self._options_key, is_early=is_early)
        try:
            response = run_foreign(client.assume_role, **request)
        except Exception as error:
            if is_unreachable(error):
                family.mark_unreachable(endpoint)
            if is_from_parser(error):
                # The parser quotes the response, which may contain keys, so only the class of its error is named.
                raise not_sts(client.meta.endpoint_url, type(error).__name__) from None
            # A handler may have called AssumeRole for another role.
            if refusal_code(error) and not is_from_handler(error):
                family.mark_reachable(endpoint)
            if note := note_for(error, request, _describe(self.parent), is_from_file(self.parent)):
                add_note(error, note)
            raise
        keys = granted_keys(response, granted_for, client.meta.endpoint_url)
        family.mark_reachable(endpoint)
        if self.mfa:
            self.mfa.code_is_used = True
        return keys


def _skipped() -> CredentialRetrievalError:
    return CredentialRetrievalError(provider="assume-role", error_msg="skipped: STS did not respond a moment ago")


def unordered(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with the lists sorted whose order means nothing to STS."""
    lists = [name for name in ("PolicyArns", "Tags", "TransitiveTagKeys") if isinstance(request.get(name), list)]
    return {**request, **{name: sorted(request[name], key=digest) for name in lists}}


def load_credentials(session: boto3.session.Session) -> Credentials:
    """Load a parent's credentials and config in one thread: botocore would make an object for each of two."""
    botocore_session = session._session

    def load() -> Credentials | None:
        botocore_session.full_config  # noqa: B018  # reading the property loads the config
        return botocore_session.get_credentials()

    credentials = share(("session", id(botocore_session)), functools.partial(run_foreign, load))
    if credentials is None:
        raise NoCredentialsError
    return credentials


def role_credentials(parent: boto3.session.Session) -> Any:
    """Return the parent's credentials if the parent is itself an assumed role, or None."""
    credentials = parent_credentials(parent)
    # Its own dictionary, because looking up an attribute of somebody else's class may run code.
    fetcher = getattr(credentials, "__dict__", {}).get("fetcher")
    return credentials if isinstance(fetcher, RoleFetcher) else None


def _meets(keys: Keys, need: Need) -> bool:
    return keys.expires_at >= need.valid_until if need.valid_until else time.time() < keys.advisory_at


def _is_early(need: Need) -> bool:
    # Not if the keys may expire during the attempt.
    return time.time() < need.fallback_until - sum(EARLY_TIMEOUTS)


def _is_due(source: Credentials) -> bool:
    return isinstance(source, RefreshableCredentials) and bool(source.refresh_needed())


def _describe(parent: boto3.session.Session) -> str:
    # For messages.
    profile = parent._session.get_config_variable("profile")
    # A custom credentials class may have no method.
    method = getattr(parent_credentials(parent), "method", "other")
    role_arn = getattr(parent, "role_arn", None)
    return role_arn or (f"profile {profile!r}" if profile else f"a session with {method} credentials")
