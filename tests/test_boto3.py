"""What boto3 does with a session: transfers, presigned URLs, paginators, waiters, resources and stubs."""

from __future__ import annotations

import io
import os
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.credentials import Credentials, DeferredRefreshableCredentials
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from conftest import HUB, SPOKE, NotSent, do_not_send

from aws_assume_role_lib import AssumedRoleSession, assume_role


@pytest.fixture
def child(moto, parent) -> AssumedRoleSession:
    return assume_role(parent, HUB)


@pytest.fixture
def spoke(child) -> AssumedRoleSession:
    """The end of a chain of two."""
    return assume_role(child, SPOKE)


@pytest.fixture
def bucket(spoke) -> Any:
    """A bucket in the account of the last role."""
    bucket = spoke.resource("s3").create_bucket(Bucket="bucket-of-spoke")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


# Credentials


def test_credentials_are_held_and_frozen_again(sts, parent):
    """get_credentials() always returns the same object, and fetches nothing."""
    child = assume_role(parent, HUB)
    credentials = child.get_credentials()
    assert child.get_credentials() is credentials
    assert child._session.get_credentials() is credentials
    assert isinstance(credentials, DeferredRefreshableCredentials)
    assert credentials.method == "assume-role"
    assert sts.requests == []


@pytest.mark.parametrize("first", ["access_key", "secret_key", "token"])
def test_credentials_are_read_directly(sts, parent, first):
    """access_key, secret_key and token can be read in any order, belong together, and cost one request."""
    credentials = assume_role(parent, HUB).get_credentials()
    assert getattr(credentials, first)
    assert credentials.access_key == "ASIA0000000000000001"
    assert credentials.secret_key == "secret-1"
    assert credentials.token == "token-1"
    assert len(sts.requests) == 1


def test_frozen_credentials(sts, parent):
    """Frozen credentials belong together, and a held object returns the same ones each time without a request."""
    credentials = assume_role(parent, HUB).get_credentials()
    frozen = {credentials.get_frozen_credentials() for _ in range(3)}
    ((access_key, secret_key, token, *_),) = frozen
    assert (access_key, secret_key, token) == ("ASIA0000000000000001", "secret-1", "token-1")
    assert len(sts.requests) == 1


def test_frozen_credentials_make_a_session(child):
    """A session created from frozen keys, as tools do for a subprocess, acts as the role."""
    access_key, secret_key, token, *_ = child.get_credentials().get_frozen_credentials()
    other = boto3.Session(access_key, secret_key, token, region_name="us-east-1")
    assert "assumed-role/Hub/" in other.client("sts").get_caller_identity()["Arn"]


@pytest.mark.skipif(not hasattr(Credentials("a", "b"), "account_id"), reason="this botocore has no account ids")
def test_account_id(child, spoke, monkeypatch):
    """The credentials' account ID is that of the role, and DynamoDB's endpoint is that of the account."""
    assert child.get_credentials().account_id == "111111111111"
    assert spoke.get_credentials().get_frozen_credentials().account_id == "222222222222"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for session, account in ((child, "111111111111"), (spoke, "222222222222")):
        client = session.client("dynamodb")
        client.meta.events.register("before-send", do_not_send)
        with pytest.raises(NotSent, match=f"^https://{account}.ddb.us-east-1.amazonaws.com/"):
            client.list_tables()


# boto3 itself


def test_identities_of_a_chain(parent, child, spoke):
    """Each session of a chain acts as the role that it names."""
    arns = [session.client("sts").get_caller_identity()["Arn"] for session in (parent, child, spoke)]
    assert arns[1].startswith("arn:aws:sts::111111111111:assumed-role/Hub/")
    assert arns[2].startswith("arn:aws:sts::222222222222:assumed-role/Spoke/")
    assert "assumed-role" not in arns[0]


def test_the_data_is_the_roles(parent, child, spoke, bucket):
    """Resources that the last role creates are in its account, and in no other account of the chain."""
    names = [
        {found["Name"] for found in session.client("s3").list_buckets()["Buckets"]}
        for session in (parent, child, spoke)
    ]
    assert ["bucket-of-spoke" in found for found in names] == [False, False, True]


def test_s3_upload_and_download(spoke, bucket, tmp_path):
    """S3's transfer methods work on a client, a bucket and an object."""
    (tmp_path / "up").write_bytes(b"content")
    client = spoke.client("s3")
    client.upload_file(str(tmp_path / "up"), bucket.name, "by-client")
    bucket.upload_fileobj(io.BytesIO(b"content"), "by-bucket")
    bucket.Object("by-object").upload_file(str(tmp_path / "up"))
    for key in ("by-client", "by-bucket", "by-object"):
        client.download_file(bucket.name, key, str(tmp_path / key))
        assert (tmp_path / key).read_bytes() == b"content"


def test_s3_multipart(parent, bucket, tmp_path):
    """A file of several parts is sent and fetched by the transfer's threads, with one AssumeRole for the role."""
    mebibyte = 1024 * 1024
    content = os.urandom(11 * mebibyte)
    (tmp_path / "up").write_bytes(content)
    config = TransferConfig(multipart_threshold=5 * mebibyte, multipart_chunksize=5 * mebibyte, max_concurrency=3)
    asked: list[str] = []
    hub = assume_role(parent, HUB)
    hub.events.register("before-call.sts", lambda model, **_: asked.append(model.name))
    client = hub.assume_role(SPOKE).client("s3")
    client.upload_file(str(tmp_path / "up"), bucket.name, "large", Config=config)
    assert client.head_object(Bucket=bucket.name, Key="large", PartNumber=1)["PartsCount"] == 3
    client.download_file(bucket.name, "large", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == content
    assert asked == ["AssumeRole"]


def test_presigned_url(spoke, bucket):
    """A presigned URL has the role's key and token inside, and works without any credentials."""
    bucket.put_object(Key="key", Body=b"content")
    url = spoke.client("s3").generate_presigned_url("get_object", Params={"Bucket": bucket.name, "Key": "key"})
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    credentials = spoke.get_credentials()
    key = query.get("AWSAccessKeyId") or query["X-Amz-Credential"].split("/")[0]
    assert key == credentials.access_key
    assert (query.get("x-amz-security-token") or query["X-Amz-Security-Token"]) == credentials.token
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"content"


def test_presigned_post(spoke, bucket):
    """A presigned form has the role's key and token among its fields."""
    fields = spoke.client("s3").generate_presigned_post(bucket.name, "key")["fields"]
    key = fields.get("AWSAccessKeyId") or fields["x-amz-credential"].split("/")[0]
    assert key == spoke.get_credentials().access_key
    assert fields["x-amz-security-token"] == spoke.get_credentials().token


def test_paginator(spoke, bucket):
    """A paginator of a role's client walks through all pages."""
    for number in range(5):
        bucket.put_object(Key=f"key{number}", Body=b"")
    pages = list(
        spoke.client("s3")
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket.name, PaginationConfig={"PageSize": 2})
    )
    assert [len(page["Contents"]) for page in pages] == [2, 2, 1]


def test_waiter(spoke, bucket):
    """A waiter of a role's client, and one of a resource, notice what they wait for."""
    bucket.put_object(Key="key", Body=b"")
    spoke.client("s3").get_waiter("object_exists").wait(Bucket=bucket.name, Key="key")
    bucket.wait_until_exists()


def test_resource(spoke):
    """A resource made by a role's session reads and writes with the role's credentials."""
    table = spoke.resource("dynamodb").create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists()
    table.put_item(Item={"id": "1", "total": 7})
    assert table.get_item(Key={"id": "1"})["Item"]["total"] == 7
    assert ":222222222222:table/orders" in table.table_arn
    table.delete()


def test_stubber(sts, parent):
    """A Stubber answers for a role's client, and STS is not called."""
    client = assume_role(parent, HUB).client("sqs")
    with Stubber(client) as stubber:
        stubber.add_response("get_queue_url", {"QueueUrl": "http://queue"}, {"QueueName": "q"})
        stubber.add_client_error("list_queues", "AccessDenied")
        assert client.get_queue_url(QueueName="q")["QueueUrl"] == "http://queue"
        with pytest.raises(ClientError, match="AccessDenied"):
            client.list_queues()
        stubber.assert_no_pending_responses()
    assert sts.requests == []


def test_a_stubber_is_for_one_client(sts, parent):
    """Two clients of one session are stubbed separately."""
    child = assume_role(parent, HUB)
    stubbed, free = child.client("sts"), child.client("sts")
    with Stubber(stubbed) as stubber:
        stubber.add_response("get_caller_identity", {"Account": "333333333333"})
        assert free.get_caller_identity()["Account"] == "111111111111"
        assert stubbed.get_caller_identity()["Account"] == "333333333333"
