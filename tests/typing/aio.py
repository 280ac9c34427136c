"""What type checkers say of the session for asyncio; checked by mypy and pyright, never run."""

import boto3
from aiobotocore.session import AioSession
from typing_extensions import assert_type

from aws_assume_role_lib import aio, assume_role

session = boto3.Session()
assert_type(aio.get_session(assume_role(session, "arn:aws:iam::111111111111:role/Hub")), AioSession)

aio.get_session(session)  # type: ignore[arg-type]  # assumes no role
