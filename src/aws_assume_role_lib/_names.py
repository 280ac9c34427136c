"""Names: the ARNs of roles and of their sessions, and session names."""

from __future__ import annotations

import datetime
import hashlib
import os
import random
import re
import string

_ACCOUNT = r"[0-9]{1,12}"
# Not a whole ARN, whose account and partition would be dropped or repeated.
_ROLE = r"(?s)(?!arn:)(?P<path>.*/)?(?P<name>[A-Za-z0-9_+=,.@-]{1,64})"
_PATH = r"/|/[!-~]{1,510}/"
SESSION_NAME = r"[A-Za-z0-9_+=,.@-]{2,64}"
_PARTITION = r"[a-z][a-z0-9-]*"
_NOT_ALLOWED = r"[^A-Za-z0-9_+=,.@-]"
MAX_LENGTH = 64
# The longest name and version that together leave room for the dots and part of an identifier.
_MAX_PREFIX_LENGTH = 59
_TIMESTAMP_MIN_LENGTH = 14


def get_role_arn(account_id: int | str, role_name: str, path: str = "", partition: str = "aws") -> str:
    """Build the ARN of an IAM role.

    Args:
        account_id: The ID of the account that owns the role, an int or a str of up to 12 digits. Leading zeros are
            restored, so an account ID that was read as a number works, too. An ID that lacks another digit becomes
            another account's.
        role_name: The role's name, 1 to 64 characters of ``[A-Za-z0-9_+=,.@-]``. The role's path may precede the
            name, as in ``"team/app/reader"``, instead of being passed as `path`. A whole ARN is an error.
        path: The role's path, up to 512 printable ASCII characters without spaces, including a slash at each end.
            You may leave out either slash. Default: no path.
        partition: ``"aws"`` (the default), ``"aws-cn"``, ``"aws-us-gov"`` or another partition of AWS.

    Returns:
        The ARN, such as ``arn:aws:iam::123456789012:role/team/app/reader``.

    Raises:
        TypeError: An argument has the wrong type, such as a bool or a float as the account ID.
        ValueError: AWS does not allow the value of an argument, or both `role_name` and `path` contain a path.

    Example:
        >>> get_role_arn(123456789012, "reader", path="/team/app/")
        'arn:aws:iam::123456789012:role/team/app/reader'

    See `CreateRole <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>`_ for the rules
    for names and paths.
    """
    path, name = _path_and_name(role_name, path)
    return f"arn:{_partition(partition)}:iam::{_account(account_id)}:role{path}{name}"


def get_assumed_role_session_arn(
    account_id: int | str, role_name: str, role_session_name: str, partition: str = "aws"
) -> str:
    """Build the ARN of an assumed-role session, as ``GetCallerIdentity`` and CloudTrail show it.

    Args:
        account_id: The ID of the account that owns the role, an int or a str of up to 12 digits. Leading zeros are
            restored.
        role_name: The role's name, 1 to 64 characters of ``[A-Za-z0-9_+=,.@-]``. The role's path may precede the
            name, and is dropped, because the ARNs of sessions do not contain it. A whole ARN is an error.
        role_session_name: The session's ``RoleSessionName``, 2 to 64 characters of ``[A-Za-z0-9_+=,.@-]``.
        partition: ``"aws"`` (the default), ``"aws-cn"``, ``"aws-us-gov"`` or another partition of AWS.

    Returns:
        The ARN, such as ``arn:aws:sts::123456789012:assumed-role/reader/nightly``.

    Raises:
        TypeError: An argument has the wrong type, such as a bool or a float as the account ID.
        ValueError: AWS does not allow the value of an argument.

    Example:
        >>> get_assumed_role_session_arn("123456789012", "team/app/reader", "nightly")
        'arn:aws:sts::123456789012:assumed-role/reader/nightly'

    See `IAM identifiers <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>`_ for
    the format of the ARN.
    """
    _, name = _path_and_name(role_name, "")
    expected = "2 to 64 characters of A-Za-z0-9_+=,.@-"
    session = _match("role_session_name", role_session_name, SESSION_NAME, expected)[0]
    return f"arn:{_partition(partition)}:sts::{_account(account_id)}:assumed-role/{name}/{session}"


def _path_and_name(role_name: str, path: str) -> tuple[str, str]:
    expected = "a role's name, not its ARN: 1 to 64 characters of A-Za-z0-9_+=,.@-, with or without a path in front"
    role = _match("role_name", role_name, _ROLE, expected)
    if not isinstance(path, str):
        raise TypeError(f"path is {path!r}; it must be a str, such as '/team/app/'.")
    if path and role["path"]:
        raise ValueError(f"role_name is {role_name!r} and path is {path!r}; only one of them may have the path.")
    given = path or role["path"] or "/"
    normalised = "/" + given.removeprefix("/")
    if not normalised.endswith("/"):
        normalised += "/"
    if not re.fullmatch(_PATH, normalised):
        raise ValueError(f"path is {given!r}; it must be up to 512 printable ASCII characters without spaces.")
    return normalised, role["name"]


def _account(account_id: int | str) -> str:
    expected = "an account number of up to 12 digits, as an int or a str"
    if isinstance(account_id, bool) or not isinstance(account_id, (int, str)):
        raise TypeError(f"account_id is {account_id!r}; it must be {expected}.")
    # str() of an enum member would be its name.
    digits = str(int(account_id)) if isinstance(account_id, int) else str.__str__(account_id)
    return _match("account_id", digits, _ACCOUNT, expected)[0].zfill(12)


def _partition(partition: str) -> str:
    return _match("partition", partition, _PARTITION, "'aws', 'aws-cn', 'aws-us-gov' or another partition")[0]


def _match(argument: str, value: str, pattern: str, expected: str) -> re.Match[str]:
    if not isinstance(value, str):
        raise TypeError(f"{argument} is {value!r}; it must be a str: {expected}.")
    match = re.fullmatch(pattern, value)
    if match is None:
        raise ValueError(f"{argument} is {value!r}; it must be {expected}.")
    return match


def make_session_name(text: str) -> str:
    """Make a valid session name of any text, such as an e-mail address, a job's name or a branch.

    Each character that AWS does not allow in session names becomes ``_``. Of a name longer than 64 characters, the end
    is replaced by a digest of the text, so that different long texts have different names. The same text always has the
    same name.

    Args:
        text: Any text that is not empty.

    Returns:
        A valid ``RoleSessionName`` and ``SourceIdentity``, of 2 to 64 characters from ``[A-Za-z0-9_+=,.@-]``.

    Raises:
        TypeError: `text` is not a str.
        ValueError: `text` is empty.

    Example:
        >>> make_session_name("jane.doe+test@example.com")
        'jane.doe+test@example.com'
        >>> make_session_name("feature/login page")
        'feature_login_page'
        >>> make_session_name("feature/" + "very-" * 12 + "long-name")
        'feature_very-very-very-very-very-very-very-very-very-ve-03ea51b1'
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {text!r}; it must be a str.")
    if not text:
        raise ValueError("text is an empty string; it must have at least one character.")
    name = _allowed(text)
    if len(name) > MAX_LENGTH:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        return f"{name[: MAX_LENGTH - len(digest) - 1]}-{digest}"
    return name.ljust(2, "_")


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
        raise ValueError("There is no function name. Set AWS_LAMBDA_FUNCTION_NAME, or pass function_name.")
    if isinstance(function_version, int) and not isinstance(function_version, bool):
        function_version = str(function_version)
    version = _given_or_variable("function_version", function_version, "AWS_LAMBDA_FUNCTION_VERSION")
    instance = _given_or_variable("identifier", identifier, "AWS_LAMBDA_LOG_STREAM_NAME")
    if identifier is None:
        instance = instance[len(instance.rstrip(string.hexdigits)) :]  # the hexadecimal part at its end

    if len(name) > _MAX_PREFIX_LENGTH:
        return _allowed(name[:MAX_LENGTH])
    prefix = f"{name}."
    if version and len(name) + len(version) <= _MAX_PREFIX_LENGTH and not version.startswith("$LATEST"):
        prefix += f"{version}."
    free = MAX_LENGTH - len(prefix)
    return _allowed(prefix + (instance or _time_or_random(free))[:free])


def _given_or_variable(argument: str, given: object, variable: str) -> str:
    if given is None:
        return os.environ.get(variable, "")
    if not isinstance(given, str):
        raise TypeError(f"{argument} is {given!r}; it must be a str, or None to take it from {variable}.")
    return given


def _time_or_random(length: int) -> str:
    if length >= _TIMESTAMP_MIN_LENGTH:
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d%H%M%S%f")
    # random's default generator would repeat itself: its state is part of a SnapStart snapshot.
    return "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=length))


def _allowed(name: str) -> str:
    return re.sub(_NOT_ALLOWED, "_", name)
