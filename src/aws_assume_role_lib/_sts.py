"""The STS clients of a parent: created when first needed, kept with the parent, shared by its roles."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from boto3.session import Session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import InvalidRegionError
from botocore.utils import is_valid_endpoint_url, validate_region_name

from ._attempts import run_foreign, share
from ._family import family_of
from ._identity import configured_endpoint
from ._source import parent_credentials

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

# How many seconds the client waits for a connection and for a response. The number of attempts is botocore's default,
# or the user's. With botocore's own timeouts, 60 and 60, an STS that accepts connections but never responds would cost
# minutes.
TIMEOUTS = (5, 10)
# The same for an early attempt, which is made only once: it costs nothing if it fails, and may delay one request.
EARLY_TIMEOUTS = (2, 4)
# How many clients a parent keeps for the next role with the same options. A call that is under way keeps its own.
MAX_CLIENTS = 16
# The config variables, besides those of endpoints, that change a client.
_SETTINGS = (
    "region",
    "ca_bundle",
    "defaults_mode",
    "max_attempts",
    "retry_mode",
    "sts_regional_endpoints",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
)

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
        raise TypeError(f"sts_client_kwargs is of type {type(options).__name__}; it must be a dict.")
    checked: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in _OPTIONS:
            raise TypeError(f"sts_client_kwargs has {name!r}; it takes only {', '.join(_OPTIONS)}.")
        if value is None:
            continue
        if not isinstance(value, _OPTIONS[name]):
            expected = " or ".join(kind.__name__ for kind in _OPTIONS[name])
            raise TypeError(f"sts_client_kwargs[{name!r}] is of type {type(value).__name__}; it must be {expected}.")
        # A subclass of str may show less than all of itself, and two URLs would then look the same.
        checked[name] = str.__str__(value) if isinstance(value, str) else value
    if "endpoint_url" in checked:
        _check_url(checked["endpoint_url"])
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
        raise ValueError(f"sts_client_kwargs['endpoint_url'] is {url!r}; it must be an HTTP(S) URL with a host.")


def options_key(options: Mapping[str, Any]) -> str:
    """Return what ``sts_client_kwargs`` that mean the same have in common."""
    # botocore internal: a Config keeps its options in its __dict__, and has no public means of comparison. If it does
    # not, each Config object has a client of its own. Covered by tests/test_internals.py.
    named = {
        name: getattr(value, "__dict__", value) if isinstance(value, Config) else value
        for name, value in options.items()
    }
    return repr(sorted(named.items()))


def has_own_client(parent: boto3.session.Session) -> bool:
    """Whether a parent's class, or the parent itself, overrides ``client()``."""
    return "client" in vars(parent) or type(parent).client is not Session.client


def sts_client(parent: boto3.session.Session, options: Mapping[str, Any], key: str, *, is_early: bool) -> STSClient:
    """Return the STS client with which a parent assumes its roles with these options, created when first needed.

    Args:
        parent: The parent. Its own ``client()`` creates the client if the parent's class overrides that method.
        options: The checked ``sts_client_kwargs``.
        key: Their :func:`options_key`.
        is_early: Whether the call may fail, because the caller still has valid credentials.
    """
    session = parent._session
    clients = family_of(session).sts_clients
    config, credentials = session.get_default_client_config(), parent_credentials(parent)
    # All that a client is created with. The process, because a forked child must not use inherited sockets.
    settings = [session.get_config_variable(name) for name in _SETTINGS]
    made_of = (os.getpid(), key, is_early, endpoint_settings(session, options), settings)
    name = repr(made_of), id(config), id(credentials)

    def create() -> STSClient:
        if name not in clients:
            create_client: Any = parent.client if has_own_client(parent) else session.create_client
            keys = {} if credentials is session.get_credentials() else _explicit(credentials)
            config_ = _effective_config(session, options, is_early)
            client = create_client("sts", **{**options, **keys, "config": config_})
            family_of(session).share_connections(client)
            # With the two objects, so that no other object can have their id() while the client is kept.
            clients[name] = client, config, credentials
        created: STSClient = clients[name][0]
        return created

    client = create() if name in clients else share((id(clients), name), functools.partial(run_foreign, create))
    with contextlib.suppress(KeyError):  # another thread may have removed it meanwhile
        clients.move_to_end(name)
        if len(clients) > MAX_CLIENTS:
            clients.popitem(last=False)
    return client


def _explicit(credentials: Credentials) -> dict[str, str | None]:
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key,
        "aws_session_token": credentials.token,
    }


def endpoint_settings(session: botocore.session.Session, options: Mapping[str, Any]) -> object:
    """Return every setting that can make STS's client call something other than AWS. Part of the cache key.

    Only a client knows the resulting URL, and creating a client costs more than a cache saves.
    """
    return options.get("endpoint_url") or configured_endpoint(session, "sts", options.get("config"))


def _effective_config(session: botocore.session.Session, options: Mapping[str, Any], is_early: bool) -> Config:
    timeouts = EARLY_TIMEOUTS if is_early else TIMEOUTS
    effective = Config(connect_timeout=timeouts[0], read_timeout=timeouts[1])
    for users in (session.get_default_client_config(), options.get("config")):
        if users is not None:
            # A copy, because botocore modifies the retries of the Config that a client is created with. That would
            # change the user's object, and with it the key under which the client is shared.
            effective = effective.merge(copy.deepcopy(users))
    if is_early:
        mode: Any = (getattr(effective, "retries", None) or {}).get("mode")
        retries: Any = {"total_max_attempts": 1, **({"mode": mode} if mode else {})}
        effective = effective.merge(Config(retries=retries))
    return effective
