"""The one STS client of a parent: created when first needed, kept with the parent, shared by its roles."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import CredentialRetrievalError, InvalidRegionError
from botocore.utils import is_valid_endpoint_url, validate_region_name

from ._attempts import inside, share

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

# How many seconds after a failed early refresh the next one is made.
RETRY_INTERVAL = 60
# With these, an STS that accepts connections but never responds costs 3 x 4 seconds plus the pauses between attempts.
# With botocore's defaults it would cost minutes.
CONNECT_TIMEOUT = 2
READ_TIMEOUT = 4
TOTAL_MAX_ATTEMPTS = 3
# More threads than this calling STS at once would each open a connection and make urllib3 log a warning.
MAX_POOL_CONNECTIONS = 256
# How many clients a parent keeps for the next role with the same options. Sessions in use keep theirs anyway.
MAX_CLIENTS = 16
# Creating a client takes milliseconds. A thread that waits longer may be holding a lock that the creation needs.
CREATION_WAIT_LIMIT = 5

_OPTIONS: dict[str, tuple[type, ...]] = {
    "endpoint_url": (str,),
    "region_name": (str,),
    "config": (Config,),
    "verify": (bool, str),
    "use_ssl": (bool,),
    "api_version": (str,),
}


def check_sts_client_kwargs(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of ``sts_client_kwargs`` without its Nones, or raise TypeError or ValueError."""
    if not (options is None or isinstance(options, Mapping)):
        raise TypeError(f"sts_client_kwargs must be a dict, not {type(options).__name__}.")
    checked: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in _OPTIONS:
            raise TypeError(f"sts_client_kwargs has {name!r}; it takes only {', '.join(_OPTIONS)}.")
        if value is None:
            continue
        if not isinstance(value, _OPTIONS[name]):
            expected = " or ".join(kind.__name__ for kind in _OPTIONS[name])
            raise TypeError(f"sts_client_kwargs[{name!r}] must be {expected}, not {type(value).__name__}.")
        checked[name] = value
    endpoint_url = checked.get("endpoint_url")
    if endpoint_url is not None:
        _check_url(endpoint_url)
    if "region_name" in checked:
        check_region_name(checked["region_name"])
    return checked


def check_region_name(name: str) -> None:
    """Raise InvalidRegionError if the name cannot be a region."""
    # botocore accepts an empty name, and a newline at the end.
    if not name or name.endswith("\n"):
        raise InvalidRegionError(region_name=name)
    validate_region_name(name)


def _check_url(url: str) -> None:
    if "@" in url.partition("//")[2].partition("/")[0]:
        # Not quoted, because it may contain a password.
        raise ValueError("sts_client_kwargs['endpoint_url'] contains a user name. Pass a URL without one.")
    try:
        is_valid = url.startswith(("http://", "https://")) and is_valid_endpoint_url(url)
    except ValueError:  # such as brackets around something other than an IPv6 address
        is_valid = False
    if not is_valid:
        raise ValueError(f"sts_client_kwargs['endpoint_url'] is not an HTTP(S) URL with a host: {url!r}.")


class SharedStsClient:
    """The STS client that a parent uses, with one set of options, for all the roles it assumes."""

    def __init__(self, parent: boto3.session.Session, options: Mapping[str, Any], key: str) -> None:
        self._parent = parent
        self._options = options
        self._key = key
        self._client: STSClient | None = None
        self._created_with: tuple[Any, ...] = ()

    @property
    def session(self) -> botocore.session.Session:
        return self._parent._session

    def get(self) -> STSClient:
        """Return the client, creating it if necessary.

        A new one is necessary in a forked child, and after the parent's region, default client config or credentials
        object has changed.
        """
        client = self._fitting_client()
        if client is not None:
            return client
        if self in inside():
            raise CredentialRetrievalError(
                provider="assume-role",
                error_msg="the STS client was requested by a handler running inside its own creation; use another "
                "session there.",
            )
        return share(self, self._create, by=self, wait_limit=0 if inside() else CREATION_WAIT_LIMIT)

    def _fitting_client(self) -> STSClient | None:
        client = self._client
        return client if self._created_with == self._depends_on() else None

    def _create(self) -> STSClient:
        client = self._fitting_client()
        if client is None:
            depends_on = self._depends_on()
            config = _effective_config(self.session, self._options.get("config"))
            # The parent's own client(), so that its subclass, its event handlers and any tracing take effect.
            client = self._parent.client("sts", **{**self._options, "config": config})
            # A thread that reads between the two assignments creates another client, which is harmless.
            self._client, self._created_with = client, depends_on
        return client

    def _depends_on(self) -> tuple[Any, ...]:
        return (
            os.getpid(),
            self._parent.region_name,
            self.session.get_default_client_config(),
            self.session.get_credentials(),
        )

    @property
    def endpoint_settings(self) -> list[Any]:
        """Every setting that can change the endpoint. Part of the cache key.

        Only a client knows the resulting URL, and creating a client costs more than a cache saves.
        """
        profile = self.session.get_scoped_config()
        services = self.session.full_config.get("services", {}).get(profile.get("services"), {})
        configured = [os.environ.get("AWS_ENDPOINT_URL_STS"), services.get("sts"), os.environ.get("AWS_ENDPOINT_URL")]
        return [self._options.get("endpoint_url") or [*configured, profile.get("endpoint_url")]]

    def allows_early_attempt(self) -> bool:
        """Whether an early refresh may call STS now. If it was unreachable, one of the family may, once a minute."""
        return all(outage.allows_attempt() for outage in self._outages())

    @property
    def is_unreachable(self) -> bool:
        """Whether STS did not respond less than a minute ago."""
        return any(outage.is_recent for outage in self._outages())

    def mark_unreachable(self, *, all_endpoints: bool = False) -> None:
        """Remember for the whole family that this endpoint did not respond, or that none can be called."""
        outages = self._outages_of_family()
        outages[None if all_endpoints else self._endpoint()] = Outage()
        for oldest in list(outages)[:-MAX_CLIENTS]:
            outages.pop(oldest, None)

    def mark_reachable(self) -> None:
        """Remember for the whole family that this endpoint has responded."""
        for endpoint in (None, self._endpoint()):
            self._outages_of_family().pop(endpoint, None)

    def _outages(self) -> list[Outage]:
        outages = self._outages_of_family()
        return [outages[endpoint] for endpoint in (None, self._endpoint()) if endpoint in outages]

    def _endpoint(self) -> tuple[str, str | None]:
        return self._key, self._parent.region_name

    def _outages_of_family(self) -> dict[object, Outage]:
        root = getattr(self.session, "_aws_assume_role_lib_root", self.session)
        outages: dict[object, Outage] = vars(root).setdefault("_aws_assume_role_lib_outages", {})
        return outages


class Outage:
    """The last time that STS did not respond, after which one thread a minute may try it early."""

    def __init__(self) -> None:
        self._start = time.time()
        self._attempts: dict[float, object] = {}

    @property
    def is_recent(self) -> bool:
        return self._minute() == 0

    def allows_attempt(self) -> bool:
        """Whether the calling thread is the first to try in this minute, which is not the first one."""
        minute, own = self._minute(), object()
        # Atomic, without a lock that another thread could hold during a fork.
        return minute != 0 and self._attempts.setdefault(minute, own) is own

    def _minute(self) -> float:
        # Negative if the clock was ahead and has been set right.
        return (time.time() - self._start) // RETRY_INTERVAL


class _Clients(OrderedDict[str, SharedStsClient]):
    """The clients of a parent, most recently used last."""

    def __deepcopy__(self, _: object) -> _Clients:
        # A copied session creates its own clients.
        return _Clients()


def shared_sts_client(parent: boto3.session.Session, options: Mapping[str, Any]) -> SharedStsClient:
    """Return the parent's :class:`SharedStsClient` for these options."""
    # botocore internal: a Config keeps its options in its __dict__, and has no public means of comparison. If it does
    # not, each Config object has a client of its own. Covered by tests/test_internals.py.
    named = {
        name: getattr(value, "__dict__", value) if isinstance(value, Config) else value
        for name, value in options.items()
    }
    key = repr(sorted(named.items()))
    # Stored in the session's own dictionary, which lives exactly as long as the session. A client refers to its
    # session, so a weak mapping from sessions to clients would keep both alive forever.
    clients = vars(parent._session).setdefault("_aws_assume_role_lib_sts_clients", _Clients())
    own = SharedStsClient(parent, options, key)
    shared: SharedStsClient = clients.setdefault(key, own)
    if shared.session is not parent._session:  # copying a session copies this dictionary, but credentials differ
        return own
    with contextlib.suppress(KeyError):  # another thread may have removed it meanwhile
        clients.move_to_end(key)
        if len(clients) > MAX_CLIENTS:
            clients.popitem(last=False)
    return shared


def _effective_config(session: botocore.session.Session, config: Config | None) -> Config:
    effective = Config(
        connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT, max_pool_connections=MAX_POOL_CONNECTIONS
    )
    for users in (session.get_default_client_config(), config):
        if users is not None:
            # A copy, because botocore modifies the retries of the Config that a client is created with. That would
            # change the user's object, and with it the key under which the client is shared.
            effective = effective.merge(copy.deepcopy(users))
    retries: Any = getattr(effective, "retries", None) or {}
    chosen = {"max_attempts", "total_max_attempts"} & retries.keys()
    if not chosen and session.get_config_variable("max_attempts") is None:
        retries = {**retries, "total_max_attempts": TOTAL_MAX_ATTEMPTS}
        effective = effective.merge(Config(retries=retries))
    return effective
