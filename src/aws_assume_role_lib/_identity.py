"""Who a parent session is, as far as that can be told without fetching its credentials."""

from __future__ import annotations

import os
import platform
import uuid
from typing import Any

import botocore.session
from botocore.credentials import Credentials, RefreshableCredentials

_CONTAINER_URIS = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")

# By botocore's name of the provider: the profile settings, or else environment variables, one of which must be
# there for the provider to have been used, and which say whose credentials it provides.
_EVIDENCE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "assume-role": (("role_arn",), ()),
    "assume-role-with-web-identity": (
        ("web_identity_token_file",),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ),
    "container-role": ((), _CONTAINER_URIS),
    "custom-process": (("credential_process",), ()),
    "login": (("login_session",), ()),
    "sso": (("sso_account_id",), ()),
}


def identity_of(session: botocore.session.Session, credentials: Any) -> Any:
    """What tells one parent from another in a cache key: never a secret, nothing fetched.

    Static credentials are known by their access key, a role of ours by its own cache key, and a provider of
    botocore's by its name and profile, settings included, since its keys change and the identity does not.
    Credentials from elsewhere are known as themselves only, in this process.
    """
    if hasattr(credentials, "cache_key"):
        return ["role", credentials.cache_key()]
    if type(credentials) is Credentials:
        return ["key", credentials.access_key]
    if isinstance(credentials, RefreshableCredentials):
        method = credentials.method
        if method == "iam-role":
            return [method, platform.node()]
        settings, variables = _EVIDENCE.get(method, ((), ()))
        profile = session.get_scoped_config()
        environment = {name: os.environ[name] for name in variables if name in os.environ}
        if any(name in profile for name in settings) or environment:
            return [method, session.get_config_variable("profile"), _closure(session, profile), environment]
    return ["this", vars(credentials).setdefault("_aws_assume_role_lib_identity", uuid.uuid4().hex)]


def _closure(session: botocore.session.Session, profile: dict[str, Any]) -> list[Any]:
    """The profile and all that it leads to: profiles of the same name differ between config files and over time."""
    profiles = session.full_config.get("profiles", {})
    found = [profile]
    while (source := profiles.get(found[-1].get("source_profile"))) is not None and source not in found:
        found.append(source)
    sso_sessions = session.full_config.get("sso_sessions", {})
    return [found, [sso_sessions.get(each.get("sso_session")) for each in found]]
