"""What type checkers say of the public names; checked by mypy and pyright, never run."""

from datetime import timedelta

import boto3
from aiobotocore.session import AioSession
from botocore.credentials import Credentials
from mypy_boto3_s3 import S3Client
from mypy_boto3_s3.service_resource import S3ServiceResource
from typing_extensions import assert_type

import aws_assume_role_lib as lib
from aws_assume_role_lib import (
    AUTOMATIC_ROLE_SESSION_NAME,
    AssumedRoleSession,
    JSONFileCache,
    assume_role,
    generate_lambda_session_name,
    get_assumed_role_session_arn,
    get_role_arn,
    make_session_name,
)
from aws_assume_role_lib import aws_assume_role_lib as inner
from aws_assume_role_lib.aws_assume_role_lib import main

session = boto3.Session()
hub = assume_role(session, get_role_arn(111111111111, "Hub"))
assert_type(hub, AssumedRoleSession)
assert_type(hub.client("s3"), S3Client)
assert_type(hub.resource("s3"), S3ServiceResource)
assert_type(hub.role_arn, str)
assert_type(hub.get_credentials(), Credentials)
assert_type(hub.assume_role_parent_session, boto3.Session)
assert_type(hub.assume_role("arn:aws:iam::222222222222:role/Spoke", ExternalId="abc").client("s3"), S3Client)
assert_type(get_assumed_role_session_arn("111111111111", "Hub", "me"), str)

assume_role(
    session,
    "arn:aws:iam::111111111111:role/Hub",
    RoleSessionName=generate_lambda_session_name,
    PolicyArns=["arn:aws:iam::aws:policy/ReadOnlyAccess", {"arn": "arn:aws:iam::aws:policy/ViewOnlyAccess"}],
    Policy={"Version": "2012-10-17", "Statement": []},
    DurationSeconds=timedelta(minutes=15),
    Tags={"team": "blue"},
    TransitiveTagKeys=["team"],
    SerialNumber="arn:aws:iam::111111111111:mfa/me",
    TokenCode=lambda: "123456",
    region_name=True,
    cache={},
    sts_client_kwargs={"endpoint_url": "http://127.0.0.1"},
)
assume_role(session, "arn", RoleSessionName=AUTOMATIC_ROLE_SESSION_NAME, cache=JSONFileCache("cache"))

assert_type(inner.assume_role(session, "arn", RoleSessionName=make_session_name("any text")), AssumedRoleSession)
assert_type(lib.aio.get_session(hub), AioSession)
assert_type(main(), None)

assume_role("arn")  # type: ignore[call-arg, arg-type]  # no session
assume_role(session, "arn", DurationSeconds="900")  # type: ignore[arg-type]  # neither an int nor a timedelta
assume_role(session, "arn", cache=[])  # type: ignore[arg-type]  # no mapping
_ = lib.unknown  # type: ignore[attr-defined]  # no such name
hub.assume_role("arn", ExternalID="abc")  # type: ignore[call-arg]  # no such parameter
lib.aio.get_session(session)  # type: ignore[arg-type]  # assumes no role
