"""Who a parent is, as far as can be known without fetching its credentials."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import subprocess
import uuid
import weakref
from pathlib import Path
from types import FunctionType
from typing import Any

import botocore.credentials
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    ContainerProvider,
    Credentials,
    DeferredRefreshableCredentials,
    EnvProvider,
    ProcessProvider,
    RefreshableCredentials,
    SSOCredentialFetcher,
)
from botocore.utils import ContainerMetadataFetcher, FileWebIdentityTokenLoader, InstanceMetadataFetcher

from ._cache import digest

# Older versions of botocore do not have it.
_LoginCredentialFetcher: Any = getattr(botocore.credentials, "LoginCredentialFetcher", None)


def identity_of(credentials: object) -> object:
    """Return what distinguishes a parent's credentials in a cache key. Contains no secret and fetches nothing.

    Static credentials are identified by their keys. Those of botocore's refreshing providers are identified by all that
    the provider uses to request them, because their keys change while the identity does not. Labels such as ``method``
    prove nothing: a program can give its own credentials any label. All others are identified as this one object.
    """
    return requested(credentials) or _object(credentials)


def _object(credentials: object) -> object:
    # Its own dictionary, because reading a property could fetch the credentials.
    attributes = getattr(credentials, "__dict__", {})
    keys = digest([attributes.get(name) for name in ("access_key", "secret_key", "token")])
    reference, name = _objects.get(id(credentials), (None, ""))
    if reference is None or reference() is not credentials:
        name = uuid.uuid4().hex
        with contextlib.suppress(TypeError):  # a class without weak references shares nothing
            reference = weakref.ref(credentials, functools.partial(_forget, id(credentials)))
            _objects[id(credentials)] = reference, name
    return ["this", name, keys]


def _forget(number: int, _: object) -> None:
    _objects.pop(number, None)


# By the id() of the credentials, with a weak reference to them. An attribute set on them would travel with a copy or a
# pickle, and give it the identity of the original.
_objects: dict[int, tuple[weakref.ref[Any], str]] = {}


def requested(credentials: object) -> object:
    """Return what botocore's provider of these credentials requests, or None if they are not provably botocore's."""
    # Exactly these types: a subclass may do anything.
    if type(credentials) is Credentials:
        return _keys(credentials)
    if type(credentials) not in (RefreshableCredentials, DeferredRefreshableCredentials):
        return None
    # botocore internals, here and below: what fetches the keys, and what it does that with. If one is gone, the parent
    # is known as this object alone. Covered by tests/test_internals.py.
    try:
        refresh: Any = vars(credentials)["_refresh_using"]
        if type(refresh).__module__ == botocore.credentials.__name__:  # it allows one request for an MFA code
            refresh = refresh._refresh
        if type(refresh) is FunctionType:
            return _of_function(refresh, vars(credentials)["_frozen_credentials"])
        return _of_fetcher(refresh.__self__)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def _keys(credentials: Any) -> object:
    # Not the access key ID alone: the ID is not secret, and whoever knows it could use the entries.
    return ["keys", digest([credentials.access_key, credentials.secret_key, credentials.token])]


def _of_fetcher(fetcher: Any) -> object:
    kind = type(fetcher)
    if kind is InstanceMetadataFetcher:
        return [kind.__name__, fetcher._base_url, platform.node()]
    if kind is AssumeRoleCredentialFetcher:
        source = requested(fetcher._source_credentials)
        return source and [kind.__name__, fetcher._cache_key, _called(fetcher, "sts"), source]
    if kind is AssumeRoleWithWebIdentityCredentialFetcher:
        loader: Any = fetcher._web_identity_token_loader
        loader_kind: object = type(loader)
        if loader_kind is not FileWebIdentityTokenLoader:
            return None
        token = os.path.abspath(loader._web_identity_token_path)
        return [kind.__name__, fetcher._cache_key, _called(fetcher, "sts"), token, platform.node()]
    if kind is SSOCredentialFetcher:
        return [kind.__name__, fetcher._cache_key, _called(fetcher, "sso"), fetcher._sso_region]
    if kind is _LoginCredentialFetcher:
        return [kind.__name__, fetcher._session_name, _called(fetcher, "signin")]
    return None


def _called(fetcher: Any, service: str) -> object:
    """Return the endpoint that a fetcher's client calls, or raise TypeError if a program has made that client."""
    creator = fetcher._client_creator
    session: Any = getattr(creator, "__self__", None)
    if type(creator) is FunctionType and _is_botocores(creator):
        session = inspect.getclosurevars(creator).nonlocals["session"]
    if not creates_clients_as_botocore(session):
        raise TypeError
    return configured_endpoint(session, service)


def creates_clients_as_botocore(session: object) -> bool:
    """Whether a session is botocore's, and its class does not override ``create_client()``."""
    method = inspect.getattr_static(type(session), "create_client", None)
    return method is not None and method is vars(botocore.session.Session)["create_client"]


def _of_function(refresh: FunctionType, frozen: object) -> object:
    if not _is_botocores(refresh):
        return None
    name, found = refresh.__qualname__, inspect.getclosurevars(refresh).nonlocals
    provider: Any = found.get("self")
    kind: object = type(provider)
    if name.startswith(f"{EnvProvider.__name__}."):
        return _keys(frozen)  # they change only if the program changes its environment
    if kind is ProcessProvider and provider._popen is subprocess.Popen:
        profile = provider._loaded_config["profiles"][provider._profile_name]
        return [name, found["credential_process"], provider._profile_name, profile]
    if kind is ContainerProvider and type(provider._fetcher) is ContainerMetadataFetcher:
        if "AWS_CONTAINER_AUTHORIZATION_TOKEN" in provider._environ:
            return _object(refresh)  # the current keys may have been requested with another token
        # Two containers may have the same machine's name and file, but not the same token.
        token_file = provider._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = token_file and digest(Path(token_file).read_text("utf-8"))
        return [name, found["full_uri"], token, platform.node()]
    return None


def _is_botocores(function: FunctionType) -> bool:
    return function.__globals__ is vars(botocore.credentials)


def configured_endpoint(session: botocore.session.Session, service: str, config: Config | None = None) -> object:
    """Return the settings outside of code that name the endpoint of a service's clients, or None if there are none.

    See `service-specific endpoints <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>`_.
    """
    configs = (config, session.get_default_client_config())
    ignored = [getattr(each, "ignore_configured_endpoint_urls", None) for each in configs]
    ignored.append(session.get_config_variable("ignore_configured_endpoint_urls"))
    if next((each for each in ignored if each is not None), False):
        return None
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    variables = [os.environ.get(name) for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL")]
    settings = [*variables, services.get(service), profile.get("endpoint_url")]
    return settings if any(settings) else None
