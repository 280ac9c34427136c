"""The one STS client of a parent session: made once, kept with the parent, shared by all of its children."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.utils import is_valid_endpoint_url

from ._locks import ForkSafeLock

# An STS that accepts and never answers costs 3 x 4 seconds and the pauses between them, not botocore's minutes.
CONNECT_TIMEOUT = 2
READ_TIMEOUT = 4
TOTAL_MAX_ATTEMPTS = 3

_OPTIONS: dict[str, tuple[type, ...]] = {
    "endpoint_url": (str,),
    "region_name": (str,),
    "config": (Config,),
    "verify": (bool, str),
    "use_ssl": (bool,),
    "api_version": (str,),
}


def checked_sts_client_kwargs(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of the user's ``sts_client_kwargs``, or raise what is wrong with it."""
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
    if endpoint_url is not None and not _is_url(endpoint_url):
        raise ValueError(f"sts_client_kwargs['endpoint_url'] is not a URL with scheme and host: {endpoint_url!r}.")
    return checked


def _is_url(text: str) -> bool:
    try:
        return bool(is_valid_endpoint_url(text))
    except ValueError:  # brackets around what is no IPv6 address, for one
        return False


def family_lock(session: botocore.session.Session) -> ForkSafeLock:
    """The lock that a session shares with all that are assumed from it, at whatever distance."""
    # The instance's own dictionary is the one place that lives exactly as long as the session: its clients hold
    # it, so that a weak mapping from session to client would keep both for ever. setdefault() is atomic.
    lock: ForkSafeLock = vars(session).setdefault("_aws_assume_role_lib_lock", ForkSafeLock())
    return lock


def family_away(session: botocore.session.Session) -> dict[tuple[str, str | None], float]:
    """Until when which STS is not asked early, for a session and all that are assumed from it."""
    away: dict[tuple[str, str | None], float] = vars(session).setdefault("_aws_assume_role_lib_away", {})
    return away


class Sts:
    """STS as a parent asks it with these options. Its client is the parent's: kept with it, shared by its children."""

    def __init__(self, parent: boto3.session.Session, options: Mapping[str, Any]) -> None:
        self._parent = parent
        self._options = options
        named = {name: vars(value) if name == "config" else value for name, value in options.items()}
        self._key = repr(sorted(named.items()))

    def client(self) -> Any:
        """The client, made on first need.

        It is made anew in a forked child, and when the parent's region, default client config or credentials object
        is another than it was made with.
        """
        session = self._parent._session
        clients = vars(session).setdefault("_aws_assume_role_lib_sts_clients", _Clients())
        made_with, client = clients.get(self._key, (None, None))
        if made_with == self._made_with():
            return client
        with family_lock(session):
            made_with, client = clients.get(self._key, (None, None))
            if made_with != self._made_with():
                made_with = self._made_with()
                options = {**self._options, "config": _effective_config(session, self._options.get("config"))}
                client = self._parent.client("sts", **options)
                clients[self._key] = (made_with, client)
        return client

    def _made_with(self) -> tuple[Any, ...]:
        session = self._parent._session
        return (
            os.getpid(),
            self._parent.region_name,
            session.get_default_client_config(),
            session.get_credentials(),
        )

    @property
    def endpoint_url(self) -> str | None:
        """The URL that the options say, or else the environment or the parent's profile, if any."""
        session: Any = self._parent._session
        # botocore internal: a client finds it so, and takes long to make. Covered by tests/test_internals.py.
        configured = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "sts")
        url: str | None = self._options.get("endpoint_url") or configured.provide()
        return url

    @property
    def away_until(self) -> float:
        """Until when no early refresh asks: STS did not answer one, of this role or another of the family's."""
        return family_away(self._parent._session).get((self._key, self._parent.region_name), 0.0)

    @away_until.setter
    def away_until(self, until: float) -> None:
        family_away(self._parent._session)[self._key, self._parent.region_name] = until


class _Clients(dict[str, tuple[Any, Any]]):
    def __deepcopy__(self, _: object) -> _Clients:
        # A boto3.Session can be copied, and a client cannot.
        return _Clients()


def _effective_config(session: botocore.session.Session, config: Config | None) -> Config:
    effective = Config(connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT)
    for users in (session.get_default_client_config(), config):
        if users is not None:
            # A copy, since botocore writes to the retries of the config that a client is made with: the user's would
            # change, and with it the key under which the client is kept.
            effective = effective.merge(copy.deepcopy(users))
    retries: Any = getattr(effective, "retries", None) or {}
    said = {"max_attempts", "total_max_attempts"} & retries.keys()
    if not said and session.get_config_variable("max_attempts") is None:
        retries = {**retries, "total_max_attempts": TOTAL_MAX_ATTEMPTS}
        effective = effective.merge(Config(retries=retries))
    return effective
