"""Assumed roles for asyncio: an aiobotocore session with an assumed-role session's credentials and settings.

aiobotocore is not a dependency of this package. Each version of aiobotocore allows only certain versions of botocore,
so install one that fits your boto3.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ._assume import AssumedRoleSession

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["ensure_valid_for", "get_session"]


def get_session(session: AssumedRoleSession) -> AioSession:
    """Return an ``aiobotocore.session.AioSession`` that acts as the same role as ``session``.

    Both sessions share one set of credentials, which is refreshed once for both. STS is called in a thread, so the
    event loop keeps running. Meanwhile, other tasks continue with the current credentials. If these expire within a
    minute, the tasks wait for that one call instead. Cancelling a task does not cancel the call. While no refresh is
    due, no thread is used.

    Settings are inherited as in a chain of roles: the region, profile settings, default client config, service models
    and user agent are those of ``session``, looked up each time. Event handlers are not copied.

    Args:
        session: A session returned by :func:`assume_role`. You can keep using this session, from other threads, too.

    Returns:
        A session with ``create_client()``, which you can also pass to ``aioboto3.Session(botocore_session=...)`` or
        ``s3fs.S3FileSystem(session=...)``. Several event loops can use the session, one after the other or each in its
        own thread. Call this function once for each ``aioboto3.Session``, which adds event handlers to the session.
        The session pickles like ``session``, as a recipe without keys, and so does an ``S3FileSystem`` that holds it.
        What you set or register on the returned session itself is not pickled.

    Raises:
        ImportError: aiobotocore is not installed.
        TypeError: ``session`` was not returned by :func:`assume_role`.

    Example:
        >>> import asyncio
        >>> import boto3
        >>> from aws_assume_role_lib import aio, assume_role
        >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
        >>> async def account():
        ...     async with aio.get_session(hub).create_client("sts") as sts:
        ...         return (await sts.get_caller_identity())["Account"]
        >>> asyncio.run(account())
        '111111111111'
    """
    if not isinstance(session, AssumedRoleSession):
        raise TypeError(f"session is of type {type(session).__name__}; it must be a session that assume_role() made.")
    try:
        from ._travel.aio import AioChildSession
    except ModuleNotFoundError as error:
        if error.name != "aiobotocore":
            raise
        raise ImportError(
            "aws_assume_role_lib.aio needs aiobotocore. Install it: pip install aiobotocore", name="aiobotocore"
        ) from None
    return AioChildSession(session)


async def ensure_valid_for(session: AssumedRoleSession, duration: float | timedelta) -> datetime:
    """Refresh a session's credentials now if less of their lifetime is left, without blocking the event loop.

    This is :meth:`AssumedRoleSession.ensure_valid_for`, called in a thread. Sessions that :func:`get_session` returned
    for ``session`` share its credentials.

    Args:
        session: A session returned by :func:`assume_role`.
        duration: How long the credentials must stay valid: a number of seconds, or a timedelta, greater than 0.

    Returns:
        When the credentials expire: a datetime with the time zone UTC.

    Raises:
        Exception: As for :meth:`AssumedRoleSession.ensure_valid_for`.

    Example:
        >>> import asyncio
        >>> import boto3
        >>> from aws_assume_role_lib import aio, assume_role
        >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
        >>> expiry = asyncio.run(aio.ensure_valid_for(hub, 1800))
    """
    return await asyncio.to_thread(session.ensure_valid_for, duration)
