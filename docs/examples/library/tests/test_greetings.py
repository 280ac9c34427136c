"""Tests that pass sessions: moto simulates AWS, and botocore's Stubber returns errors that are hard to provoke."""

from __future__ import annotations

import os
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from greetings import greet
from moto import mock_aws

from aws_assume_role_lib import assume_role

OTHER_ACCOUNT = "arn:aws:iam::222222222222:role/Greeter"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new simulated AWS for each test, and a new default session, whatever is configured on the machine."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with mock_aws():
        yield


def make_table(session: boto3.Session, **names: str) -> None:
    table = session.resource("dynamodb").create_table(
        TableName="users",
        KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for user_id, name in names.items():
        table.put_item(Item={"user_id": user_id, "name": name})


def test_uses_the_default_session() -> None:
    """Without a session, the table is the default session's."""
    make_table(boto3.Session(), ada="Ada")
    assert greet("users", "ada") == "Hello, Ada!"


def test_uses_the_session_that_it_is_given() -> None:
    """With a role's session, the table is the other account's, and the default session's is not touched."""
    other_account = assume_role(boto3.Session(), OTHER_ACCOUNT)
    make_table(boto3.Session(), ada="Ada")
    make_table(other_account, ada="Countess Lovelace")
    assert greet("users", "ada", session=other_account) == "Hello, Countess Lovelace!"
    assert greet("users", "ada") == "Hello, Ada!"


def test_unknown_user() -> None:
    """A user who is not in the table is a LookupError that names user and table."""
    make_table(boto3.Session())
    with pytest.raises(LookupError, match="The table 'users' has no user 'bob'"):
        greet("users", "bob")


def test_denied_access_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error from DynamoDB reaches the caller as botocore raised it."""
    session = boto3.Session()
    dynamodb = session.client("dynamodb")
    monkeypatch.setattr(session, "client", lambda service_name: dynamodb)
    with Stubber(dynamodb) as stubber:
        stubber.add_client_error("get_item", "AccessDeniedException", http_status_code=400)
        with pytest.raises(ClientError, match="AccessDeniedException"):
            greet("users", "ada", session)
