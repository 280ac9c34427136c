"""The command line: a role's credentials for a shell, or as a ``credential_process``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn, cast

import boto3
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
)
from botocore.utils import validate_region_name

from ._assume import assume_role
from ._credentials import AssumedRoleCredentials
from ._mfa import has_terminal
from ._parameters import unique
from ._sts import shared_sts_client

# Exit codes.
OUTPUT, USAGE, SOURCE, ROLE, INTERRUPTED = 1, 2, 3, 4, 130

_HINTS = {
    USAGE: "See --help.",
    SOURCE: "Log in again, pass --profile or --region, or correct the AWS config file.",
    ROLE: "Check the role's trust policy, that the caller may sts:AssumeRole it, and the way to STS.",
}

# What STS answers when the keys are at fault that signed the request, and not the role.
_BAD_KEYS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)

_VARIABLES = {
    "AccessKeyId": "AWS_ACCESS_KEY_ID",
    "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "SessionToken": "AWS_SESSION_TOKEN",
    "Expiration": "AWS_CREDENTIALS_EXPIRATION",
}

_EPILOG = """\
exit codes: 0; 1 output not written; 2 wrong usage; 3 no or broken source
credentials or profile; 4 the role could not be assumed.

examples:
  export $(python -m aws_assume_role_lib arn:aws:iam::111111111111:role/Hub)

  python -m aws_assume_role_lib --profile dev --json \\
    arn:aws:iam::111111111111:role/Hub arn:aws:iam::222222222222:role/Spoke \\
    --DurationSeconds 900 --Tags team=red,stage=test --Policy file://policy.json

  in ~/.aws/config, for everything that reads it:
    [profile spoke]
    credential_process = python -m aws_assume_role_lib --profile dev --json
      arn:aws:iam::222222222222:role/Spoke      (all of it on one line)
"""


def main() -> None:
    """Print a role's credentials, or else one line on stderr, and exit with a code that says what failed."""
    try:
        options = _parse()
        credentials = _assume(options)
        _write(json.dumps({"Version": 1, **credentials}) + "\n" if options.json else _variables(credentials))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _assume(options: argparse.Namespace) -> dict[str, str]:
    with _or_exit(USAGE):
        if options.region is not None:
            validate_region_name(options.region)
    with _or_exit(SOURCE):
        source = boto3.Session(profile_name=options.profile, region_name=options.region)
        source_credentials = source.get_credentials()
        if source_credentials is None:
            raise NoCredentialsError
    with _or_exit(USAGE):
        sessions = [source]
        for arn in options.ROLE_ARN[:-1]:
            sessions.append(assume_role(sessions[-1], arn))
        parameters = {name: getattr(options, name) for name in _OPTIONS}
        sessions.append(assume_role(sessions[-1], options.ROLE_ARN[-1], **parameters))
    # For the code of a profile's mfa_serial, botocore asks on stderr where there is no terminal, after a warning.
    aside = contextlib.nullcontext() if has_terminal() else contextlib.redirect_stderr(io.StringIO())
    with _or_exit(SOURCE), aside:
        source_credentials.get_frozen_credentials()
        # The client that the first hop will use, made here because what fails in making it are the settings.
        shared_sts_client(source, {}).get()
    for hop, arn in enumerate(options.ROLE_ARN, 1):
        with _or_exit(ROLE, f"{arn} could not be assumed: ", by_source=hop == 1):
            credentials = cast(AssumedRoleCredentials, sessions[hop].get_credentials())
            keys = credentials.get_frozen_credentials()
    return {
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "SessionToken": keys.token,
        # Nothing public of botocore's has it; this attribute is our own class's.
        "Expiration": f"{datetime.fromtimestamp(credentials.expires_at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        # botocore knows the account since 1.35.
        **({"AccountId": account} if (account := getattr(keys, "account_id", None)) else {}),
    }


def _variables(credentials: dict[str, str]) -> str:
    return "".join(f"{variable}={credentials[name]}\n" for name, variable in _VARIABLES.items())


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except AttributeError:  # Python's stdout is None where the process was started without one
        _exit(OUTPUT, "stdout is closed; nothing was written.")
    except OSError as error:
        # What is left in the buffer would be written once more at exit, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(OUTPUT, f"The output could not be written: {error.strerror}.")


@contextlib.contextmanager
def _or_exit(code: int, what: str = "", *, by_source: bool = False) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = "No MFA code was given" if isinstance(error, EOFError) else str(error).strip() or type(error).__name__
        if not isinstance(error, ParamValidationError):
            # STS and botocore's parser add, from the second line on, what was signed or answered: secrets.
            text = text.splitlines()[0]
        if isinstance(error, ClientError):
            # STS quotes a value that it does not like, which may be a code or an external id.
            text = re.sub("Value '.*' at", "Value at", text)
            if by_source and error.response.get("Error", {}).get("Code") in _BAD_KEYS:
                code = SOURCE
        if isinstance(error, NoRegionError):
            code = SOURCE
        # The library's own errors of this class end with what to do.
        says_what_to_do = code == ROLE and isinstance(error, CredentialRetrievalError)
        _exit(code, f"{what}{text.rstrip('.: ')}. {'' if says_what_to_do else _HINTS[code]}")


def _exit(code: int, text: str) -> NoReturn:
    # print() would take stdout in the place of a stderr that is closed.
    with contextlib.suppress(AttributeError, OSError):
        sys.stderr.write(f"aws_assume_role_lib: {' '.join(text.split())}\n")
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _exit(USAGE, f"{message}. {_HINTS[USAGE]}")

    def print_help(self, file: Any = None) -> None:
        _write(self.format_help())


def _parse() -> argparse.Namespace:
    parser = _Parser(
        prog="python -m aws_assume_role_lib",
        description="Assume a role, or one after the other, and print the credentials of the last.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--profile P] [--region R]\n         ROLE_ARN [ROLE_ARN ...] [options]",
        allow_abbrev=False,
    )
    parser.add_argument("ROLE_ARN", nargs="+", help="the roles, in order; the options belong to the last")
    parser.add_argument("--profile", metavar="P", help="the profile that assumes the first role")
    parser.add_argument("--region", metavar="R", help="its region, where STS is asked")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--env", action="store_true", help="print lines for export $(...); the default")
    output.add_argument("--json", action="store_true", help="print JSON for credential_process")
    group = parser.add_argument_group("parameters of AssumeRole")
    for name, (kind, metavar, text) in _OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, metavar=metavar, help=text)
    options, unknown = parser.parse_known_intermixed_args()
    if unknown:
        # By name alone: what follows may be the value of a misspelt --ExternalId.
        parser.error(f"unknown option {unknown[0].partition('=')[0]}")
    return options


def _json(text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"this is not JSON: {error}") from None
    # A null would be as good as an option that was not given: a session without the policy, say.
    if not isinstance(value, (dict, list)):
        raise argparse.ArgumentTypeError("this must be a JSON object or list")
    return value


def _list(text: str) -> Any:
    return _json(text) if text.lstrip().startswith(("[", "{")) else text.split(",")


def _tags(text: str) -> Any:
    if not isinstance(items := _list(text), list) or not all(isinstance(item, str) for item in items):
        return items
    if not all("=" in item for item in items):
        raise argparse.ArgumentTypeError("each tag must be key=value; pass JSON where a value has a comma")
    return [dict(zip(("Key", "Value"), item.split("=", 1), strict=True)) for item in items]


def _policy(text: str) -> Any:
    if text.startswith("file://"):
        try:
            text = Path(text.removeprefix("file://")).expanduser().read_text("utf-8-sig")
        except (OSError, RuntimeError, UnicodeError) as error:
            raise argparse.ArgumentTypeError(f"the file cannot be read: {error}") from None
    return _json(text)


_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "RoleSessionName": (str, "NAME", "names the session in logs; default: generated"),
    "PolicyArns": (_list, "ARN,...", "managed policies that limit the session, or JSON"),
    "Policy": (_policy, "JSON", "a policy that limits the session, or file://path"),
    "DurationSeconds": (int, "N", "900 to 43200; default: STS's, 3600"),
    "Tags": (_tags, "K=V,...", "session tags, or JSON"),
    "TransitiveTagKeys": (_list, "K,...", "tags that later hops inherit, or JSON"),
    "ExternalId": (str, "ID", "what the role's trust policy asks for"),
    "SerialNumber": (str, "DEVICE", "MFA device; its code is asked for on the terminal"),
    "TokenCode": (str, "CODE", "the device's six digits, instead of asking"),
    "SourceIdentity": (str, "NAME", "who is behind the session, kept through a chain"),
    "ProvidedContexts": (_json, "JSON", "trusted context assertions"),
    "MinimumSessionTokenSize": (int, "N", "bytes to which the token is padded, 0 to 4096"),
    "additional_kwargs": (_json, "JSON", "parameters that are not listed here"),
}
