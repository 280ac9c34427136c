"""The command line: a role's credentials for a shell, or as a ``credential_process``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import boto3
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoRegionError,
    ParamValidationError,
)

from .. import __version__
from .._answers import refusal_code, without_password
from .._assume import assume_role
from .._keys import ExportedCredentials, environment_variables
from .._mfa import has_terminal
from .._parameters import unique
from .._role import load_credentials
from .._session import AssumedRoleSession
from .._sts import check_region_name, options_key, sts_client
from .._suggest import nearest

_Format = Callable[[ExportedCredentials], str]

# Exit codes.
OUTPUT, USAGE, SOURCE, ROLE, NOT_EXECUTABLE, NOT_FOUND, INTERRUPTED = 1, 2, 3, 4, 126, 127, 130

_HINTS = {
    OUTPUT: "",
    USAGE: "See --help.",
    SOURCE: "Log in again, pass --profile or --region, or correct the AWS config file.",
    ROLE: "Check the role's trust policy, the caller's permission to assume it, and network access to STS.",
}

# STS error codes that mean a problem with the keys that signed the request, not with the role.
_BAD_KEYS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)

_EPILOG = """\
exit codes: 0 success; 1 output not written; 2 wrong usage; 3 source
credentials or profile missing or broken; 4 a role could not be assumed;
126 COMMAND cannot be executed; 127 COMMAND not found; or else COMMAND's own.

examples:
  aws-assume-role-lib arn:aws:iam::111111111111:role/Hub -- terraform apply

  creds=$(aws-assume-role-lib --format env arn:aws:iam::111111111111:role/Hub) \\
    && eval "$creds"

  aws-assume-role-lib --profile dev --format process \\
    arn:aws:iam::111111111111:role/Hub arn:aws:iam::222222222222:role/Spoke \\
    --DurationSeconds 900 --Tags team=red,stage=test --Policy file://policy.json

  in ~/.aws/config, for any program that reads it:
    [profile spoke]
    credential_process = aws-assume-role-lib --profile dev --format process
      arn:aws:iam::222222222222:role/Spoke      (all on one line)
"""


def main() -> None:
    """Print a role's credentials, or run a program as the role. On failure, exit with a code and a line on stderr."""
    try:
        options = _parse(sys.argv[1:])
        session = _assume(options)
        if options.command:
            _run(session, options.command, static=options.static)
        _write(_FORMATS.get(options.format, _plain)(session.export_credentials()))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run(session: AssumedRoleSession, command: list[str], *, static: bool) -> NoReturn:
    from .run import prepare, run  # imports a web server

    with _or_exit(OUTPUT, f"{command[0]} could not be run: "):
        environment, serve = prepare(session, static=static)
    try:
        code = run(command, environment, serve)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        is_name = not os.path.dirname(command[0])
        hint = " If it is a shell's own command, pass -- sh -c '...'." if is_missing and is_name else ""
        code = NOT_FOUND if is_missing else NOT_EXECUTABLE
        _exit(code, f"{command[0]} could not be run: {error.strerror}.{hint}")
    sys.exit(code)


def _assume(options: argparse.Namespace) -> AssumedRoleSession:
    """Assume the roles in order, and return the last one's session."""
    with _or_exit(USAGE):
        if options.region is not None:
            check_region_name(options.region)
    with _or_exit(SOURCE):
        source = boto3.Session(profile_name=options.profile, region_name=options.region)
    with _or_exit(USAGE):
        # Problems with the roles are reported before missing credentials.
        _chain(boto3.Session("-", "-", region_name="us-east-1", profile_name=options.profile), options)
    with _or_exit(SOURCE):
        load_credentials(source)
    with _or_exit(USAGE):
        sessions = _chain(source, options)
    # Without a terminal, botocore prompts for the code of a profile's mfa_serial on stderr, after a warning.
    aside = contextlib.nullcontext() if has_terminal() else contextlib.redirect_stderr(io.StringIO())
    with _or_exit(SOURCE), aside:
        load_credentials(source).get_frozen_credentials()
        # Create the client of the first AssumeRole here: if that fails, the settings are at fault.
        sts_client(source, {}, options_key({}), is_early=False)
    for session in sessions:
        with _or_exit(ROLE, f"{session.role_arn} could not be assumed: ", by_source=session is sessions[0]):
            session.export_credentials()
    return sessions[-1]


def _chain(source: boto3.Session, options: argparse.Namespace) -> list[AssumedRoleSession]:
    sessions: list[AssumedRoleSession] = []
    for arn in options.ROLE_ARN:
        is_last = len(sessions) == len(options.ROLE_ARN) - 1
        parameters = {name: getattr(options, name) for name in _OPTIONS} if is_last else {}
        sessions.append(assume_role(sessions[-1] if sessions else source, arn, **parameters))
    return sessions


def _lines(line: str, quote: Callable[[str], str]) -> _Format:
    """Return a function that formats keys as one such line per variable."""

    def write(keys: ExportedCredentials) -> str:
        variables = environment_variables(keys)
        return "".join(line.format(name, quote(value)) + "\n" for name, value in variables.items())

    return write


def _process(keys: ExportedCredentials) -> str:
    document = {
        "Version": 1,
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "SessionToken": keys.token,
        "Expiration": keys.expiry.isoformat(timespec="seconds"),
    }
    return json.dumps(document | ({"AccountId": keys.account_id} if keys.account_id else {}), indent=2) + "\n"


def _plain(keys: ExportedCredentials) -> str:
    # The output of versions without --format, for scripts that parse it.
    return (
        f"AWS_ACCESS_KEY_ID={keys.access_key}\nAWS_SECRET_ACCESS_KEY={keys.secret_key}\n"
        f"AWS_SESSION_TOKEN={keys.token}\nAWS_CREDENTIALS_EXPIRATION={keys.expiry:%Y-%m-%dT%H:%M:%SZ}\n"
    )


def _escaping(characters: str, escape: str) -> Callable[[str], str]:
    return lambda value: "".join(escape + each if each in characters else each for each in value)


# Named as in the AWS CLI.
_FORMATS: dict[str, _Format] = {
    "process": _process,
    "env": _lines("export {}={}", shlex.quote),
    "env-no-export": _lines("{}={}", shlex.quote),
    "powershell": _lines('$Env:{}="{}"', _escaping('`"$', "`")),
    "windows-cmd": _lines("set {}={}", _escaping('^&|<>()"', "^")),
    "fish": _lines('set -gx {} "{}"', _escaping('\\"$', "\\")),
}


def _write(text: str) -> None:
    # On Windows, a shell would treat "\r" as part of each value.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(newline="\n")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except AttributeError:  # sys.stdout is None if the process was started without one
        _exit(OUTPUT, "stdout is closed; nothing was written.")
    except OSError as error:
        # At exit, Python would try to write the rest of the buffer, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(OUTPUT, f"The output could not be written: {error.strerror}.")


@contextlib.contextmanager
def _or_exit(code: int, what: str = "", *, by_source: bool = False) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = "No MFA code was given" if isinstance(error, EOFError) else str(error).strip() or type(error).__name__
        if not isinstance(error, ParamValidationError):
            # From the second line on, STS and botocore's parser quote the signed request or the response: secrets.
            text = text.splitlines()[0]
        if isinstance(error, ClientError):
            # STS quotes an invalid value, which may be an MFA code or an external ID.
            text = re.sub("Value '.*' at", "Value at", text)
            if by_source and refusal_code(error) in _BAD_KEYS:
                code = SOURCE
        if type(error) is HTTPClientError:  # its subclasses are connection errors
            # It quotes the header that cannot be sent, such as the session token.
            text = "The HTTP client could not send the request; look for a stray line ending in the credentials"
            code = SOURCE if by_source else code
        hint = _HINTS[code]
        if isinstance(error, NoRegionError):
            code, hint = SOURCE, "Pass --region or set AWS_DEFAULT_REGION."
        elif code == ROLE and refusal_code(error) == "AccessDenied":
            hint = getattr(error, "__notes__", [hint])[0]
        elif code == ROLE and isinstance(error, CredentialRetrievalError):
            hint = ""  # this package's own errors of this class already say what to do
        # A callable cannot be passed on the command line.
        text = re.sub(", or a callable that returns (one|them)", "", text)
        _exit(code, f"{what}{text.rstrip('.: ')}. {hint}")


def _exit(code: int, text: str) -> NoReturn:
    # print() would write to stdout if stderr is closed.
    with contextlib.suppress(AttributeError, OSError):
        sys.stderr.write(f"aws_assume_role_lib: {without_password(' '.join(text.split()))}\n")
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub("invalid int value: (.+)", r"\1 is not a whole number", message)
        hyphen = r"\g<0>; if it starts with a hyphen, pass \1=VALUE"
        message = re.sub(r"(--\S+): expected one argument", hyphen, message)
        _exit(USAGE, f"{message}{'' if message.endswith(('?', '.')) else '.'} {_HINTS[USAGE]}")

    def print_help(self, file: object = None) -> None:
        _write(self.format_help())


def _parse(arguments: list[str]) -> argparse.Namespace:
    command = None
    if "--" in arguments:
        end = arguments.index("--")
        arguments, command = arguments[:end], arguments[end + 1 :]
    is_module = Path(sys.argv[0]).name == "__main__.py"
    parser = _Parser(
        prog="python -m aws_assume_role_lib" if is_module else "aws-assume-role-lib",
        description="Assume a role, or a chain of roles. Print the last role's\n"
        "credentials, or run a program with them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--profile P] [--region R]\n         ROLE_ARN [ROLE_ARN ...] [options] [-- COMMAND [ARG ...]]",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"aws-assume-role-lib {__version__}")
    parser.add_argument("ROLE_ARN", nargs="*", help="the roles, in order; the options apply to the last")
    parser.add_argument("--profile", metavar="P", help="the profile whose credentials assume the first role")
    parser.add_argument("--region", metavar="R", help="the region whose STS is called")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--format", choices=list(_FORMATS), help="how to print the credentials")
    shortcut = "same as --format %(const)s"
    output.add_argument("--json", dest="format", action="store_const", const="process", help=shortcut)
    output.add_argument("--env", dest="format", action="store_const", const="env-no-export", help=shortcut)
    output.add_argument("--static", action="store_true", help="give COMMAND keys that do not refresh")
    group = parser.add_argument_group("parameters of AssumeRole")
    for name, (kind, metavar, text) in _OPTIONS.items():
        group.add_argument(_flag(name), dest=name, type=kind, metavar=metavar, help=text)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        parser.error(_unknown(unknown[0]))
    for index, argument in enumerate(options.ROLE_ARN):
        # Name only: the value may be private.
        name, equals, _ = argument.partition("=")
        if equals and not name.startswith("arn:"):
            parser.error(f"{name}=... is not a role; if it is a tag, pass all tags as one argument: --Tags a=1,b=2")
        if index and not argument.startswith("arn:"):
            parser.error(f"{argument!r} is not the ARN of a role; if it is a program, put -- before it")
    if not options.ROLE_ARN:
        hint = "; --profile takes the name of a profile" if (options.profile or "").startswith("arn:") else ""
        parser.error(f"ROLE_ARN is missing{hint}")
    if command is not None and not any(command[:1]):
        parser.error("COMMAND is missing after --")
    if options.static and not command:
        parser.error("--static needs -- COMMAND")
    if options.format and command:
        parser.error("with a COMMAND, nothing is printed: leave out --format, --json and --env")
    options.command = command
    return options


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _unknown(argument: str) -> str:
    # Name only: the rest may be the value of a misspelled --ExternalId.
    option = argument.partition("=")[0]
    if nearest(option, ["RoleArn"]):
        return f"unknown option {option}: pass the ARN without an option"
    meant = nearest(option, [*map(_flag, _OPTIONS), "--profile", "--region", "--format", "--version"])
    hint = f"did you mean {meant}?" if meant else "if it is a program's option, put -- before the program"
    return f"unknown option {option}; {hint}"


def _json(text: str) -> object:
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"this is not JSON: {error}") from None
    # null would be the same as leaving the option out, such as a session without its policy.
    if not isinstance(value, (dict, list)):
        raise argparse.ArgumentTypeError("this must be a JSON object or list")
    return value


def _list(text: str) -> object:
    return _json(text) if text.lstrip().startswith(("[", "{")) else text.split(",")


def _tags(text: str) -> object:
    if not isinstance(items := _list(text), list) or not all(isinstance(item, str) for item in items):
        return items
    if text.startswith("Key=") and ",Value=" in text:
        raise argparse.ArgumentTypeError("for each tag, pass a=1 instead of Key=a,Value=1")
    if not all("=" in item for item in items):
        raise argparse.ArgumentTypeError("each tag must be key=value; pass JSON where a value has a comma")
    return [dict(zip(("Key", "Value"), item.split("=", 1), strict=True)) for item in items]


def _policy(text: str) -> object:
    if text.startswith("file://"):
        try:
            text = Path(text.removeprefix("file://")).expanduser().read_text("utf-8-sig")
        except (OSError, RuntimeError, UnicodeError) as error:
            raise argparse.ArgumentTypeError(f"the file cannot be read: {error}") from None
    elif text.endswith(".json") or os.path.exists(text):
        raise argparse.ArgumentTypeError(f"this is not JSON; did you mean file://{text}?")
    return _json(text)


_OPTIONS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "RoleSessionName": (str, "NAME", "names the session in logs; default: generated"),
    "PolicyArns": (_list, "ARN,...", "managed policies that limit the session, or JSON"),
    "Policy": (_policy, "JSON", "a policy that limits the session, or file://path"),
    "DurationSeconds": (int, "N", "900 to 43200; default: STS's, 3600"),
    "Tags": (_tags, "K=V,...", "session tags, or JSON"),
    "TransitiveTagKeys": (_list, "K,...", "tags that later roles inherit, or JSON"),
    "ExternalId": (str, "ID", "the external ID that the trust policy requires"),
    "SerialNumber": (str, "DEVICE", "MFA device; prompts for its code on the terminal"),
    "TokenCode": (str, "CODE", "the device's six digits, instead of a prompt"),
    "SourceIdentity": (str, "NAME", "who is behind the session, kept through a chain"),
    "ProvidedContexts": (_json, "JSON", "trusted context assertions"),
    "MinimumSessionTokenSize": (int, "N", "pads the token to this many bytes, 0 to 4096"),
    "additional_kwargs": (_json, "JSON", "parameters that are not listed here"),
}
