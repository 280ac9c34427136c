"""What boto3 does with a session: transfers, presigned URLs, resources and stubs."""

from __future__ import annotations

import os
import urllib.request
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from conftest import HUB, SPOKE, NotSent, at_once, do_not_send

from aws_assume_role_lib import AssumedRoleSession, assume_role


@pytest.fixture
def child(moto, parent) -> AssumedRoleSession:
    return assume_role(parent, HUB)


@pytest.fixture
def spoke(child) -> AssumedRoleSession:
    """The end of a chain of two."""
    return assume_role(child, SPOKE)


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


def test_a_chain_acts_in_its_accounts(parent, child, spoke, bucket):
    """Each session acts as the role that it names, and what the last one creates is in its account alone."""
    frozen = child.get_credentials().get_frozen_credentials()
    tool = boto3.Session(*frozen[:3], region_name="us-east-1")  # as tools make one for a subprocess
    for session, arn in {parent: ":user/moto", child: "role/Hub/", tool: "role/Hub/", spoke: "role/Spoke/"}.items():
        assert arn in session.client("sts").get_caller_identity()["Arn"]
        names = [found["Name"] for found in session.client("s3").list_buckets()["Buckets"]]
        assert ("bucket-of-spoke" in names) is (session is spoke)


def test_s3_multipart(child, spoke, bucket, tmp_path):
    """Files of several parts, sent and fetched by two roles at once, each on many threads, arrive whole."""
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    child.client("s3").create_bucket(Bucket="bucket-of-hub")
    transfers = [(spoke, bucket.name), (child, "bucket-of-hub")]
    sent = [os.urandom(11 << 20) for _ in transfers]

    def there_and_back(number: int) -> bytes:
        (session, bucket), file = transfers[number], tmp_path / str(number)
        file.write_bytes(sent[number])
        client = session.client("s3")
        client.upload_file(str(file), bucket, "large", Config=config)
        assert client.head_object(Bucket=bucket, Key="large", PartNumber=1)["PartsCount"] == 3
        client.download_file(bucket, "large", str(file), Config=config)
        return file.read_bytes()

    assert at_once(there_and_back, 2) == sent


def test_presigned_url_and_form(spoke, bucket):
    """A presigned URL and form have the role's key and token inside, and the URL works without any credentials."""
    bucket.put_object(Key="key", Body=b"content")
    url = spoke.client("s3").generate_presigned_url("get_object", Params={"Bucket": bucket.name, "Key": "key"})
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    credentials = spoke.get_credentials()
    key = query.get("AWSAccessKeyId") or query["X-Amz-Credential"].split("/")[0]
    assert key == credentials.access_key
    assert (query.get("x-amz-security-token") or query["X-Amz-Security-Token"]) == credentials.token
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"content"
    fields = spoke.client("s3").generate_presigned_post(bucket.name, "key")["fields"]
    key = fields.get("AWSAccessKeyId") or fields["x-amz-credential"].split("/")[0]
    assert key == credentials.access_key
    assert fields["x-amz-security-token"] == credentials.token


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


def test_a_stubber_is_for_one_client(sts, parent):
    """A Stubber answers for one client of a role, without a request; the role's other clients are not stubbed."""
    child = assume_role(parent, HUB)
    stubbed, free = child.client("sts"), child.client("sts")
    with Stubber(stubbed) as stubber:
        stubber.add_response("get_caller_identity", {"Account": "333333333333"})
        stubber.add_client_error("get_session_token", "AccessDenied")
        assert stubbed.get_caller_identity()["Account"] == "333333333333"
        with pytest.raises(ClientError, match="AccessDenied"):
            stubbed.get_session_token()
        assert sts.requests == []
        assert free.get_caller_identity()["Account"] == "111111111111"
