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


def sts_client(parent: boto3.Session, options: Mapping[str, Any]) -> Any:
    """The parent's STS client for these options, made on first need.

    It is made anew in a forked child, and when the parent's region, default client config or credentials object
    is another than it was made with.
    """
    session = parent._session
    config: Config | None = options.get("config")
    with family_lock(session):
        clients = vars(session).setdefault("_aws_assume_role_lib_sts_clients", _Clients())
        key = _key(options)
        default_config = session.get_default_client_config()
        made_with = (os.getpid(), parent.region_name, default_config, session.get_credentials())
        kept_made_with, client = clients.get(key, (None, None))
        if kept_made_with != made_with:
            client = parent.client("sts", **{**options, "config": _effective_config(session, default_config, config)})
            clients[key] = (made_with, client)
        return client


def configured_endpoint(session: Any) -> str | None:
    """The URL of STS that the environment or the parent's profile says, if any."""
    # botocore internal: a client finds it so, and to make one for that takes long. Covered by tests/test_internals.py.
    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "sts")
    url: str | None = provider.provide()
    return url


class _Clients(dict[str, tuple[Any, Any]]):
    def __deepcopy__(self, _: object) -> _Clients:
        # A boto3.Session can be copied, and a client cannot.
        return _Clients()


def _key(options: Mapping[str, Any]) -> str:
    named = {name: vars(value) if name == "config" else value for name, value in options.items()}
    return repr(sorted(named.items()))


class Absence:
    """Until when no early refresh asks an STS that did not answer, for all hops and roles of one family."""

    def __init__(self, parent: boto3.session.Session, options: Mapping[str, Any]) -> None:
        self._absences: dict[Any, float] = vars(parent._session).setdefault("_aws_assume_role_lib_absences", {})
        self._key = (_key(options), parent.region_name)

    @property
    def until(self) -> float:
        return self._absences.get(self._key, 0.0)

    @until.setter
    def until(self, until: float) -> None:
        self._absences[self._key] = until


def _effective_config(
    session: botocore.session.Session, default_config: Config | None, config: Config | None
) -> Config:
    effective = Config(connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT)
    if session.get_config_variable("max_attempts") is None:
        effective = effective.merge(Config(retries={"total_max_attempts": TOTAL_MAX_ATTEMPTS}))
    for users in (default_config, config):
        if users is not None:
            # A copy, since botocore writes to the retries of the config that a client is made with: the user's would
            # change, and with it the key under which the client is kept.
            effective = effective.merge(copy.deepcopy(users))
    return effective
