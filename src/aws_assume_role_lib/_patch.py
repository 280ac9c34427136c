"""``patch_boto3()``, which adds assume_role to boto3."""

from __future__ import annotations

from typing import Any

import boto3

from ._assume import AssumedRoleSession, assume_role


def patch_boto3() -> None:
    """Add :func:`assume_role` to boto3, as ``boto3.assume_role`` and ``boto3.Session.assume_role``.

    ``boto3.assume_role(RoleArn, ...)`` assumes the role from boto3's default session, which is looked up on each call.
    ``boto3.Session.assume_role`` is a method, which assumes the role from its own session. Calling ``patch_boto3()``
    again has no effect. Call it in applications only, because it changes boto3 for the whole process. Type checkers do
    not see the additions; ``assume_role(session, RoleArn)`` is typed.

    Raises:
        RuntimeError: Something else has already defined one of these names. In that case, boto3 is not changed.

    Example:
        >>> import boto3
        >>> from aws_assume_role_lib import patch_boto3
        >>> patch_boto3()
        >>> boto3.assume_role("arn:aws:iam::111111111111:role/Hub").role_arn
        'arn:aws:iam::111111111111:role/Hub'
        >>> boto3.Session().assume_role("arn:aws:iam::111111111111:role/Hub").role_arn
        'arn:aws:iam::111111111111:role/Hub'
    """
    additions = {"boto3": (boto3, _from_default_session), "boto3.Session": (boto3.Session, assume_role)}
    for name, (owner, function) in additions.items():
        if getattr(owner, "assume_role", function) is not function:
            raise RuntimeError(
                f"{name}.assume_role already exists; not overwriting it. "
                "Call aws_assume_role_lib.assume_role(session, RoleArn) instead."
            )
    for owner, function in additions.values():
        setattr(owner, "assume_role", function)  # noqa: B010  # type checkers do not know the name


def _from_default_session(RoleArn: str, **parameters: Any) -> AssumedRoleSession:  # noqa: ANN401  # as assume_role()
    """Return a session that acts as a role, assumed from boto3's default session.

    Args:
        RoleArn: The ARN of the role to assume.
        **parameters: The other keywords of ``aws_assume_role_lib.assume_role()``, whose help describes them.
    """
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    default_session: Any = boto3.DEFAULT_SESSION
    return assume_role(default_session, RoleArn, **parameters)
