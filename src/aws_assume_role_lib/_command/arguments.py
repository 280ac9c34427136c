r"""The command line's arguments. The rest of this text is the end of ``--help``.

exit codes: 0 success; 1 output not written; 2 wrong usage; 3 source
credentials or profile missing or broken; 4 a role could not be assumed;
126 COMMAND cannot be executed; 127 COMMAND not found; or else COMMAND's own.

examples:
  aws-assume-role-lib arn:aws:iam::111111111111:role/Hub -- terraform apply

  creds=$(aws-assume-role-lib --format env arn:aws:iam::111111111111:role/Hub) \
    && eval "$creds"

  aws-assume-role-lib --profile dev --format process \
    arn:aws:iam::111111111111:role/Hub arn:aws:iam::222222222222:role/Spoke \
    --DurationSeconds 900 --Tags team=red,stage=test --Policy file://policy.json

  in ~/.aws/config, for any program that reads it:
    [profile spoke]
    credential_process = aws-assume-role-lib --profile dev --format process
      arn:aws:iam::222222222222:role/Spoke      (all on one line)
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from .. import __version__
from .._parameters import unique
from .._suggest import nearest
from .cache import DEFAULT_FOLDER
from .failures import HINTS, USAGE, exit_with, write
from .formats import FORMATS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        exit_with(USAGE, f"{message}{'' if message.endswith(('?', '.')) else '.'} {HINTS[USAGE]}")

    def _print_message(self, message: str, file: object = None) -> None:
        # argparse prints the help and the version with this, and would ignore an error.
        write(message)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options, with ROLE_ARN and command as lists, or exit."""
    command = None
    if "--" in arguments:
        end = arguments.index("--")
        arguments, command = arguments[:end], arguments[end + 1 :]
    for index, argument in enumerate(arguments[1:]):
        if arguments[index] == "--cache" and argument.startswith("arn:"):  # a role, not the folder
            arguments[index] = f"--cache={DEFAULT_FOLDER}"
    parser = _parser()
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        parser.error(_unknown(unknown[0]))
    options.command = command
    for problem in _problems(options):
        parser.error(problem)
    return options


def _parser() -> _Parser:
    parser = _Parser(
        prog="aws-assume-role-lib",
        description="Print the credentials of a role or chain of roles, or run a program with them.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--profile P] [--region R]\n         ROLE_ARN [ROLE_ARN ...] [options] [-- COMMAND [ARG ...]]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"aws-assume-role-lib {__version__}")
    add("ROLE_ARN", nargs="*", help="the roles, in order; the options apply to the last")
    add("--profile", metavar="P", help="the profile whose credentials assume the first role")
    add("--region", metavar="R", help="the region whose STS is called")
    add("--cache", metavar="FOLDER", nargs="?", const=DEFAULT_FOLDER, help="keep credentials between runs, in a folder")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--format", choices=list(FORMATS), help="how to print the credentials")
    shortcut = "same as --format %(const)s"
    output.add_argument("--json", dest="format", action="store_const", const="process", help=shortcut)
    output.add_argument("--env", dest="format", action="store_const", const="env-no-export", help=shortcut)
    output.add_argument("--static", action="store_true", help="give COMMAND keys that do not refresh")
    group = parser.add_argument_group("parameters of AssumeRole")
    for name, (kind, metavar, text) in OPTIONS.items():
        group.add_argument(_flag(name), dest=name, type=kind, metavar=metavar, help=text)
    return parser


def _problems(options: argparse.Namespace) -> Iterator[str]:
    for index, argument in enumerate(options.ROLE_ARN):
        # Name only: the value may be private.
        name, equals, _ = argument.partition("=")
        if equals and not name.startswith("arn:"):
            yield f"{name}=... is not a role; if it is a tag, pass all tags as one argument: --Tags a=1,b=2"
        if index and not argument.startswith("arn:"):
            yield f"{argument!r} is not the ARN of a role; if it is a program, put -- before it"
    if not options.ROLE_ARN:
        yield "ROLE_ARN is missing"
    if options.command is not None and not any(options.command[:1]):
        yield "COMMAND is missing after --"
    if options.cache == "":
        yield "--cache is empty; it must be a folder, or stand alone for the default one"
    if options.static and not options.command:
        yield "--static needs -- COMMAND"
    if options.format and options.command:
        yield "with a COMMAND, nothing is printed: leave out --format, --json and --env"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _unknown(argument: str) -> str:
    # Name only: the rest may be the value of a misspelled --ExternalId.
    option = argument.partition("=")[0]
    if nearest(option, ["RoleArn"]):
        return f"unknown option {option}: pass the ARN without an option"
    meant = nearest(option, [*map(_flag, OPTIONS), "--profile", "--region", "--cache", "--format", "--version"])
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


OPTIONS: dict[str, tuple[Callable[[str], object], str, str]] = {
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
