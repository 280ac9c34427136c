"""The environment of a program that runs as a role: no credentials but the role's."""

from __future__ import annotations

import configparser
import contextlib
import os
import platform
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from .._assume import AssumedRoleSession
from .._keys import ExportedCredentials
from .failures import SOURCE, exit_with

# Machines and containers may share a folder for temporary files, and containers the name of their machine.
_NAMESPACE = os.stat("/proc/self/ns/pid").st_ino if os.path.exists("/proc/self/ns/pid") else 0
FOLDER_PREFIX = f"aws-assume-role-lib-{platform.node()}-{_NAMESPACE}-"

# Set for processes that this one starts to load the source's credentials: the profiles that are being loaded.
LOADING = "AWS_ASSUME_ROLE_LIB_LOADING"
# Set with the keys that are printed: their access key ID and role.
PRINTED = "AWS_ASSUME_ROLE_LIB_PRINTED"

# Every variable that gives some SDK credentials, or tells it where to find them.
REMOVED = (
    LOADING,
    PRINTED,
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIALS_EXPIRATION",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_REMOVED_PREFIX = "AWS_BEARER_TOKEN_"
# Profile settings that select credentials; all others are passed on.
_CREDENTIAL_SETTINGS = re.compile(
    "aws_|credential_|duration_seconds|external_id|login_|mfa_|role_|source_profile|sso_|web_identity_token_file"
)


def credential_variables() -> list[str]:
    """Return the names of the variables in the environment that could give a program other credentials."""
    return [name for name in os.environ if name in REMOVED or name.startswith(_REMOVED_PREFIX)]


@contextlib.contextmanager
def loading(profile: str) -> Iterator[None]:
    """Let processes that are started in this block know for which profile, or exit if this process is one of them.

    A ``credential_process`` that runs this command for its own profile would start itself forever.
    """
    before = os.environ.get(LOADING)
    profiles = (before or "").splitlines()
    if profile in profiles:
        what = f"The credential_process of profile {profile!r} runs this command for the same profile."
        exit_with(SOURCE, f"{what} In that command, pass --profile with the profile that may assume the role.")
    os.environ[LOADING] = "\n".join([*profiles, profile])
    try:
        yield
    finally:
        os.environ.pop(LOADING)
        if before is not None:
            os.environ[LOADING] = before


def printed_role() -> str | None:
    """Return the role whose keys are in the environment because this command printed them, or None."""
    access_key, _, role_arn = os.environ.get(PRINTED, "").partition(":")
    return role_arn if access_key and access_key == os.environ.get("AWS_ACCESS_KEY_ID") else None


def settings_folder(session: AssumedRoleSession) -> tempfile.TemporaryDirectory[str]:
    """Create a folder with a program's AWS config file, and an empty file that replaces all others.

    Raises:
        OSError: It cannot be created.
    """
    if hasattr(os, "fork"):  # on Windows, the processes of these folders are not known
        _remove_abandoned_folders()
    # This process becomes the program, or waits for it.
    folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
    Path(folder.name, "credentials").touch()
    # In the encoding in which botocore has read these settings, and SDKs read the user's own file.
    with open(os.path.join(folder.name, "config"), "w") as file:
        _config_of(session).write(file)
    return folder


def _remove_abandoned_folders() -> None:
    """Remove the folders of programs that have ended, and whose server process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        # Such as PermissionError, if sudo has changed the process's user.
        with contextlib.suppress(OSError, OverflowError, ValueError):
            # Nobody else can have changed what is in a folder of this user.
            if folder.lstat().st_uid == os.getuid():
                try:
                    # The rest of its name is "pid-random". Signal 0 only asks whether there is such a process.
                    os.kill(int(folder.name.removeprefix(FOLDER_PREFIX).rpartition("-")[0]), 0)
                except ProcessLookupError:
                    shutil.rmtree(folder)


def environment_for(session: AssumedRoleSession, folder: str) -> dict[str, str]:
    """Return this process's environment without credentials, but with the source profile's other settings."""
    removed = credential_variables()
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    # SDKs read these files before they use an endpoint, so credentials in your own files would take precedence.
    empty = os.path.join(folder, "credentials")
    environment |= {
        "AWS_CONFIG_FILE": os.path.join(folder, "config"),
        "AWS_SHARED_CREDENTIALS_FILE": empty,
        "AWS_CREDENTIAL_PROFILES_FILE": empty,
        "BOTO_CONFIG": empty,
        "CPL_AWS_CREDENTIALS_FILE": empty,  # GDAL
        # Without it, the AWS SDKs for JavaScript v2 and Go v1 ignore the variables above.
        "AWS_SDK_LOAD_CONFIG": "1",
        # A program that does not support the endpoint must fail, not act as the machine's own role. The second variable
        # is for Rust's object_store, which ignores the first.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
    }
    if session.region_name:
        environment |= {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name}
    return environment


def environment_variables(keys: ExportedCredentials) -> dict[str, str]:
    """Return the variables that give these keys to a program."""
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_CREDENTIAL_EXPIRATION": keys.expiry.isoformat(timespec="seconds"),
    }


def static_variables(keys: ExportedCredentials) -> dict[str, str]:
    """Return the variables that give a program keys which do not refresh."""
    return environment_variables(keys) | {"AWS_SECURITY_TOKEN": keys.token}  # the last one is boto 2's


def _config_of(session: AssumedRoleSession) -> configparser.RawConfigParser:
    profile = session._session.get_scoped_config()
    services = session._session.full_config.get("services", {}).get(profile.get("services"))
    config = configparser.RawConfigParser()
    config["default"] = {name: _text(profile[name]) for name in profile if not _CREDENTIAL_SETTINGS.match(name)}
    if services:
        # The name is quoted in the file if it has a space.
        section = f"services {shlex.quote(profile['services'])}"
        config[section] = {name: _text(value) for name, value in services.items()}
    return config


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"\n{name} = {setting}" for name, setting in value.items())
    return str(value)
