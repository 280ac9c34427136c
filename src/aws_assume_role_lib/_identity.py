"""Who a parent is, as far as can be known without fetching its credentials."""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

import botocore.session
from botocore.credentials import CachedCredentialFetcher, Credentials, RefreshableCredentials

from ._cache import digest

_CONTAINER_VARIABLES = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
# By botocore's name of a provider: the profile setting that it must have used.
_PROFILE_SETTINGS = {"custom-process": "credential_process", "login": "login_session"}


def identity_of(
    session: botocore.session.Session, credentials: object, profile: Mapping[str, object] | None = None
) -> object:
    """Return what distinguishes one parent from another in a cache key. Contains no secret and fetches nothing.

    Static credentials are identified by a digest, and our own by what they were granted for. Those of
    botocore's refreshing providers are identified by what the provider requests, because their keys change while the
    identity does not. All others are identified only as one object in this process.
    """
    granted_for = getattr(credentials, "granted_for", None)
    if granted_for:
        return ["role", granted_for]
    if type(credentials) is Credentials:
        # Not the access key ID alone: the ID is not secret, and whoever knows it could use the entries.
        return ["key", credentials.access_key, digest([credentials.secret_key, credentials.token])]
    return [_lasting_identity(session, credentials, profile), _static_access_key(credentials)]


def _static_access_key(credentials: object) -> object:
    # vars(), because reading a property could fetch the credentials.
    return getattr(credentials, "__dict__", {}).get("access_key")


# By the id() of the credentials, with a weak reference to them. An attribute set on them would travel with a copy or a
# pickle, and give it the identity of the original.
_identities: dict[int, tuple[weakref.ref[Any], Any]] = {}


def _lasting_identity(
    session: botocore.session.Session, credentials: object, profile: Mapping[str, object] | None
) -> object:
    """Work out the identity once: by the next time, the environment may describe another one."""
    key = id(credentials)
    reference, identity = _identities.get(key, (None, None))
    if reference is None or reference() is not credentials:
        profile = session.get_scoped_config() if profile is None else profile
        identity = _provided(session, credentials, profile) or ["this", uuid.uuid4().hex]
        with contextlib.suppress(TypeError):  # a class without weak references shares nothing
            _identities[key] = (weakref.ref(credentials, lambda _: _identities.pop(key, None)), identity)
    return identity


def _provided(session: botocore.session.Session, credentials: object, profile: Mapping[str, object]) -> object:
    if not isinstance(credentials, RefreshableCredentials):
        return None
    method = credentials.method
    # botocore internals: what its fetchers request and as whom, which is behind a wrapper if there is an MFA code. If
    # these attributes are gone, nothing is shared. Covered by tests/test_internals.py.
    refresh = vars(credentials).get("_refresh_using")
    fetcher = getattr(getattr(refresh, "_refresh", refresh), "__self__", None)
    if isinstance(fetcher, CachedCredentialFetcher):
        requested = getattr(fetcher, "_cache_key", None)
        source = getattr(fetcher, "_source_credentials", None)
        source_profile = session.full_config.get("profiles", {}).get(profile.get("source_profile"), {})
        return requested and [method, requested, source and identity_of(session, source, source_profile)]
    if method == "iam-role":
        return [method, platform.node(), session.get_config_variable("ec2_metadata_service_endpoint")]
    if method == "container-role":
        environment = {name: os.environ[name] for name in _CONTAINER_VARIABLES if name in os.environ}
        return environment and [method, environment, platform.node()]
    if _PROFILE_SETTINGS.get(method) in profile:
        # Profiles with the same name differ between config files, and over time.
        return [method, session.get_config_variable("profile"), profile]
    return None
