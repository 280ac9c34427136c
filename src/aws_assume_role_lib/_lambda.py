"""A session name for an instance of a Lambda function."""

from __future__ import annotations

import datetime
import os
import random
import re
import string

_NOT_ALLOWED = r"[^A-Za-z0-9_+=,.@-]"
_MAX_LENGTH = 64
# The longest name and version that together leave room for the dots and part of an identifier.
_MAX_PREFIX_LENGTH = 59
_TIMESTAMP_MIN_LENGTH = 14


def generate_lambda_session_name(
    function_name: str | None = None, function_version: str | int | None = None, identifier: str | None = None
) -> str:
    """Build a name for the running instance of a Lambda function, for ``RoleSessionName`` or ``SourceIdentity``.

    The name has one of the forms ``{name}``, ``{name}.{identifier}`` and ``{name}.{version}.{identifier}``.
    These rules apply in order:

    1. A function name of more than 59 characters is used alone, truncated to 64.
    2. The version is left out if name and version have more than 59 characters together.
    3. The version is left out if it is ``$LATEST``.
    4. The identifier is the one that you pass, or else the hexadecimal part at the end of the log stream's name. If
       there is not room for all of it, only its first characters are kept.
    5. If there is neither, the identifier is the UTC time as ``YYYYMMDDhhmmss`` and six digits of microseconds,
       truncated to fit. If fewer than 14 characters are free, it is random letters and digits instead.

    Characters that AWS does not allow in these names (all but ``A-Z a-z 0-9 _+=,.@-``) are replaced by ``_``.

    The environment is read on each call, and random values come from the operating system. So a call after a
    SnapStart restore does not return a value that was frozen into the snapshot.

    Args:
        function_name: The function's name. Default: the environment variable ``AWS_LAMBDA_FUNCTION_NAME``.
        function_version: The function's version, a str or an int; an empty string leaves the version out. Default:
            the environment variable ``AWS_LAMBDA_FUNCTION_VERSION``, or no version if the variable is not set.
        identifier: A str that distinguishes this instance from others; an empty string selects rule 5. Default:
            from the environment variable ``AWS_LAMBDA_LOG_STREAM_NAME``, by rule 4.

    Returns:
        A valid ``RoleSessionName`` and ``SourceIdentity``, of 2 to 64 characters from ``[A-Za-z0-9_+=,.@-]``.

    Raises:
        TypeError: An argument is neither a str nor None; the version may also be an int.
        ValueError: The function name is empty, or is neither passed nor set in the environment.

    Example:
        >>> generate_lambda_session_name("report", "7", "0123456789abcdef")
        'report.7.0123456789abcdef'

    See `Lambda's environment variables
    <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>`_ and `AssumeRole
    <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>`_ for the allowed characters.
    """
    name = _given_or_variable("function_name", function_name, "AWS_LAMBDA_FUNCTION_NAME")
    if not name:
        raise ValueError("There is no function name: set AWS_LAMBDA_FUNCTION_NAME or pass function_name")
    if isinstance(function_version, int) and not isinstance(function_version, bool):
        function_version = str(function_version)
    version = _given_or_variable("function_version", function_version, "AWS_LAMBDA_FUNCTION_VERSION")
    instance = _given_or_variable("identifier", identifier, "AWS_LAMBDA_LOG_STREAM_NAME")
    if identifier is None:
        instance = _hex_at_end(instance)

    if len(name) > _MAX_PREFIX_LENGTH:
        return _allowed(name[:_MAX_LENGTH])
    prefix = f"{name}."
    if version and len(name) + len(version) <= _MAX_PREFIX_LENGTH and not version.startswith("$LATEST"):
        prefix += f"{version}."
    free = _MAX_LENGTH - len(prefix)
    return _allowed(prefix + (instance or _time_or_random(free))[:free])


def _given_or_variable(argument: str, given: object, variable: str) -> str:
    if given is None:
        return os.environ.get(variable, "")
    if not isinstance(given, str):
        raise TypeError(f"{argument} is {given!r}: pass a str, or None to take it from {variable}")
    return given


def _hex_at_end(log_stream: str) -> str:
    return log_stream[len(log_stream.rstrip(string.hexdigits)) :]


def _time_or_random(length: int) -> str:
    if length >= _TIMESTAMP_MIN_LENGTH:
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d%H%M%S%f")
    # random's default generator would repeat itself: its state is part of a SnapStart snapshot.
    return "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=length))


def _allowed(name: str) -> str:
    return re.sub(_NOT_ALLOWED, "_", name)
