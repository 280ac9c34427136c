"""The ARNs of IAM roles and of the sessions that assume them."""

from __future__ import annotations

import re

_ACCOUNT = r"[0-9]{1,12}"
_ROLE = r"(?s)(?P<path>.*/)?(?P<name>[A-Za-z0-9_+=,.@-]{1,64})"
_PATH = r"/|/[!-~]{1,510}/"
_SESSION = r"[A-Za-z0-9_+=,.@-]{2,64}"
_PARTITION = r"[a-z][a-z0-9-]*"


def get_role_arn(account_id: int | str, role_name: str, path: str = "", partition: str = "aws") -> str:
    """Build the ARN of an IAM role.

    Args:
        account_id: The ID of the account that owns the role, an int or a str of up to 12 digits. Leading zeros are
            restored, so an account ID that was read as a number works, too.
        role_name: The role's name, 1 to 64 characters of ``[A-Za-z0-9_+=,.@-]``. The role's path may precede the
            name, as in ``"team/app/reader"``, instead of being passed as `path`.
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
            name, and is dropped, because the ARNs of sessions do not contain it.
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
    expected = "2 to 64 characters of A-Z a-z 0-9 _+=,.@-"
    session = _match("role_session_name", role_session_name, _SESSION, expected)[0]
    return f"arn:{_partition(partition)}:sts::{_account(account_id)}:assumed-role/{name}/{session}"


def _path_and_name(role_name: str, path: str) -> tuple[str, str]:
    expected = "1 to 64 characters of A-Z a-z 0-9 _+=,.@-, with or without a path in front"
    role = _match("role_name", role_name, _ROLE, expected)
    if not isinstance(path, str):
        raise TypeError(f"path is {path!r}: pass a str such as '/team/app/', or leave it out")
    if path and role["path"]:
        raise ValueError(f"role_name is {role_name!r} and path is {path!r}: pass the path in one of them")
    given = path or role["path"] or "/"
    normalised = "/" + given.removeprefix("/")
    if not normalised.endswith("/"):
        normalised += "/"
    if not re.fullmatch(_PATH, normalised):
        raise ValueError(f"The path is {given!r}: pass up to 512 printable ASCII characters without spaces")
    return normalised, role["name"]


def _account(account_id: int | str) -> str:
    expected = "an account number of up to 12 digits, as an int or a str"
    if isinstance(account_id, bool) or not isinstance(account_id, (int, str)):
        raise TypeError(f"account_id is {account_id!r}: pass {expected}")
    # str() of an enum member would be its name.
    digits = str(int(account_id)) if isinstance(account_id, int) else str.__str__(account_id)
    return _match("account_id", digits, _ACCOUNT, expected)[0].zfill(12)


def _partition(partition: str) -> str:
    return _match("partition", partition, _PARTITION, "'aws', 'aws-cn', 'aws-us-gov' or another partition")[0]


def _match(argument: str, value: str, pattern: str, expected: str) -> re.Match[str]:
    if not isinstance(value, str):
        raise TypeError(f"{argument} is {value!r}: pass a str, {expected}")
    match = re.fullmatch(pattern, value)
    if match is None:
        raise ValueError(f"{argument} is {value!r}: pass {expected}")
    return match
