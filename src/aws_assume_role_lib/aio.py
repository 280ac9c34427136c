"""The same role for asyncio: an aiobotocore session with the credentials and the settings of an assumed-role session.

aiobotocore is not a dependency of this package. Install a version of it that allows your boto3: it pins botocore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._session import AssumedRoleSession

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["get_session"]


def get_session(session: AssumedRoleSession) -> AioSession:
    """Return an ``aiobotocore.session.AioSession`` that acts as the role of a session.

    Both sessions share one set of credentials, and one refresh of them. STS is called in a thread, so the event loop
    goes on; tasks that need the credentials meanwhile wait for that one call, and a task that is cancelled stops
    waiting without stopping the call. While the credentials are fresh, no thread is involved.

    Settings are inherited as by the next role of a chain: region, profile settings, default client config, service
    models and user agent are those of ``session``, each time they are looked up. Event handlers are not copied.

    Args:
        session: A session made by :func:`assume_role`. It remains usable, also from other threads.

    Returns:
        A session for ``create_client()``, ``aioboto3.Session(botocore_session=...)`` or
        ``s3fs.S3FileSystem(session=...)``. It may be used by several event loops, one after the other or each in its
        own thread. aioboto3 needs one of its own for each ``aioboto3.Session``.

    Raises:
        ImportError: aiobotocore is not installed.
        TypeError: ``session`` was not made by :func:`assume_role`.

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
        raise TypeError(
            f"session must be a session made by assume_role(), not {type(session).__name__}. "
            "For a session that assumes no role, use aiobotocore itself."
        )
    try:
        from ._aio import AioChildSession
    except ModuleNotFoundError as error:
        if error.name != "aiobotocore":
            raise
        raise ImportError(
            "aws_assume_role_lib.aio needs aiobotocore. Install it: pip install aiobotocore", name="aiobotocore"
        ) from None
    child: Any = session._session
    return AioChildSession(child)
