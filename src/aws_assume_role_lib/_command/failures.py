"""How the command line fails: an exit code, and one line on stderr that says what to do and holds no secret."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import NoReturn

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoRegionError,
    ParamValidationError,
)

from .._answers import BAD_KEYS, is_unreachable, message_of, note_for, refusal_code, without_password

# Exit codes.
OUTPUT, USAGE, SOURCE, ROLE, NOT_EXECUTABLE, NOT_FOUND, INTERRUPTED = 1, 2, 3, 4, 126, 127, 130

HINTS = {
    OUTPUT: "",
    USAGE: "See --help.",
    SOURCE: "Log in again, pass --profile or --region, or correct the AWS config file.",
    ROLE: "Check the role's trust policy, the caller's permission to assume it, and network access to STS.",
}


@contextlib.contextmanager
def or_exit(code: int, what: str = "", *, by_source: bool = False, environment: bool = False) -> Iterator[None]:
    """Exit with this code if the block raises an exception.

    Args:
        code: The exit code, unless the error shows that the source is at fault.
        what: What failed, the start of the line.
        by_source: Whether the source's keys sign the block's requests.
        environment: Whether the source's keys are in the environment.
    """
    try:
        yield
    except Exception as error:
        bad_keys = type(error) is HTTPClientError or refusal_code(error) in BAD_KEYS
        if isinstance(error, NoRegionError) or (by_source and bad_keys):
            code = SOURCE
        exit_with(code, f"{what}{_text_of(error).rstrip('.: ')}. {_hint(error, code, environment)}")


def _text_of(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "No MFA code was given"
    if type(error) is HTTPClientError:  # its subclasses are connection errors
        # It quotes the header that cannot be sent, such as the session token.
        return "The HTTP client could not send the request; look for a stray line ending in the credentials"
    text = str(error).strip() or type(error).__name__
    if not isinstance(error, ParamValidationError):
        # From the second line on, STS and botocore's parser quote the signed request or the response: secrets.
        text = text.splitlines()[0]
    if isinstance(error, ClientError):
        # STS quotes an invalid value, which may be an MFA code or an external ID.
        text = re.sub("Value '.*' at", "Value at", text)
    # A callable cannot be passed on the command line.
    return re.sub(", or a (callable|function) that returns (one|them)", "", text)


def _hint(error: Exception, code: int, environment: bool) -> str:
    if isinstance(error, NoRegionError):
        return "Pass --region or set AWS_DEFAULT_REGION."
    if isinstance(error, EOFError) or (code == SOURCE and "TokenCode" in str(error)):
        # Not --TokenCode, which is for the role's own device. This is botocore's prompt.
        return "Type the six digits that the profile's MFA device shows, on a terminal."
    if code == SOURCE and environment:
        return "The keys are those in the environment: unset AWS_ACCESS_KEY_ID, or pass --profile."
    if code in (SOURCE, ROLE) and (is_unreachable(error) or "MultiFactorAuthentication" in message_of(error)):
        return note_for(error, {}, "", is_from_file=False) or HINTS[code]
    if code == ROLE and isinstance(error, CredentialRetrievalError):
        return ""  # this package's own errors of this class already say what to do
    notes = [note for note in getattr(error, "__notes__", []) if not note.startswith("Raised while assuming")]
    return notes[0] if notes else HINTS[code]


def exit_with(code: int, text: str) -> NoReturn:
    """Exit with a code and a line on stderr."""
    say(text)
    sys.exit(code)


def say(text: str) -> None:
    """Write a line to stderr."""
    # print() would write to stdout if stderr is closed.
    with contextlib.suppress(AttributeError, OSError):
        sys.stderr.write(f"aws_assume_role_lib: {without_password(' '.join(text.split()))}\n")


def write(text: str) -> None:
    """Write the output, or exit."""
    # On Windows, a shell would treat "\r" as part of each value.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(newline="\n")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except AttributeError:  # sys.stdout is None if the process was started without one
        exit_with(OUTPUT, "stdout is closed; nothing was written.")
    except OSError as error:
        # At exit, Python would try to write the rest of the buffer, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_with(OUTPUT, f"The output could not be written: {error.strerror}.")
