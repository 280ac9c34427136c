"""Who a parent session is, as far as that can be told without fetching its credentials."""

from __future__ import annotations

import os
import platform
import uuid
from typing import Any

import botocore.session
from botocore.credentials import CachedCredentialFetcher, Credentials, RefreshableCredentials

# By botocore's name of the provider: the profile settings, or else environment variables, one of which must be
# there for the provider to have been used, and which say whose credentials it provides.
_EVIDENCE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "container-role": (
        (),
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
    ),
    "custom-process": (("credential_process",), ()),
    "login": (("login_session",), ()),
}
_KEPT = "_aws_assume_role_lib_identity"


def identity_of(session: botocore.session.Session, credentials: Any, profile: Any = None) -> Any:
    """What tells one parent from another in a cache key: never a secret, nothing fetched.

    Static credentials are known by their access key, a role of ours by its own cache key, and what botocore's
    providers fetched by what they ask for, since its keys change and the identity does not. Credentials from
    elsewhere are known as themselves only, in this process.
    """
    if hasattr(credentials, "cache_key"):
        return ["role", credentials.cache_key()]
    if type(credentials) is Credentials:
        return ["key", credentials.access_key]
    # Once for each object: the environment and AWS_PROFILE may be another's by the next time.
    kept = vars(credentials)
    if _KEPT not in kept:
        profile = session.get_scoped_config() if profile is None else profile
        kept.setdefault(_KEPT, _provided(session, credentials, profile) or ["this", uuid.uuid4().hex])
    return kept[_KEPT]


def _provided(session: botocore.session.Session, credentials: Any, profile: dict[str, Any]) -> Any:
    if not isinstance(credentials, RefreshableCredentials):
        return None
    method = credentials.method
    # botocore internals: what its fetchers ask for, behind the wrapper of an MFA code, and as whom. Where they are
    # gone nothing is shared. Covered by tests/test_internals.py.
    refresh: Any = vars(credentials).get("_refresh_using")
    fetcher = getattr(getattr(refresh, "_refresh", refresh), "__self__", None)
    if isinstance(fetcher, CachedCredentialFetcher):
        source = getattr(fetcher, "_source_credentials", None)
        source_profile = session.full_config.get("profiles", {}).get(profile.get("source_profile"), {})
        return [method, vars(fetcher)["_cache_key"], source and identity_of(session, source, source_profile)]
    if method == "iam-role":
        return [method, platform.node(), session.get_config_variable("ec2_metadata_service_endpoint")]
    settings, variables = _EVIDENCE.get(method, ((), ()))
    environment = {name: os.environ[name] for name in variables if name in os.environ}
    if environment:
        return [method, environment, platform.node()]
    if any(name in profile for name in settings):
        # Profiles of the same name differ between config files and over time.
        return [method, session.get_config_variable("profile"), profile]
    return None
