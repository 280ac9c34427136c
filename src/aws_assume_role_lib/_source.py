"""Whose credentials sign AssumeRole: the parent's or, once they have expired, those in its profile's file."""

from __future__ import annotations

import boto3
import botocore.session
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError

from ._family import family_of

# botocore's names of the providers that read a profile's keys from a file.
_FILES = ("shared-credentials-file", "config-file")
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


def parent_credentials(parent: boto3.session.Session) -> Credentials:
    """Return the credentials that sign a parent's calls of AssumeRole, or raise NoCredentialsError."""
    # The botocore session's, even if a subclass of boto3.Session returns others.
    session = parent._session
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    found, renewed = family_of(session).renewed
    return renewed if renewed and found is credentials else credentials


def is_from_file(parent: boto3.session.Session) -> bool:
    """Whether botocore has read a parent's static keys from its profile, not from code or the environment."""
    session = parent._session
    credentials = session.get_credentials()
    if type(credentials) is not Credentials or credentials.method not in _FILES:
        return False
    # The method alone proves nothing: a program can give its own credentials any.
    return _keys_in(session) == (credentials.access_key, credentials.secret_key, credentials.token)


def reread(parent: boto3.session.Session) -> bool:
    """Read the file of a parent's static keys again. Return whether it holds other keys, which are used from now on."""
    session = parent._session
    if not is_from_file(parent):
        return False
    fresh = botocore.session.Session(profile=session.get_config_variable("profile"))
    for name in ("config_file", "credentials_file"):
        fresh.set_config_variable(name, session.get_config_variable(name))
    current, (access_key, secret_key, token) = parent_credentials(parent), _keys_in(fresh)
    if not (access_key and secret_key) or (access_key, secret_key, token) == current.get_frozen_credentials()[:3]:
        return False
    renewed = Credentials(access_key, secret_key, token, method=current.method)
    family_of(session).renewed = session.get_credentials(), renewed
    return True


def _keys_in(session: botocore.session.Session) -> tuple[str | None, ...]:
    profiles = session.full_config.get("profiles", {})
    profile = profiles.get(session.get_config_variable("profile") or "default", {})
    return tuple(profile.get(name) for name in _KEYS)
