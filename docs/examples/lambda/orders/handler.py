"""Read an order from a table in another account."""

from __future__ import annotations

import os
from typing import Any

import boto3

from aws_assume_role_lib import assume_role, generate_lambda_session_name

# Made once per instance, without a request to AWS. The first invocation calls STS, and
# later ones do so again before the credentials expire.
session = assume_role(
    boto3.Session(),
    os.environ["TARGET_ROLE_ARN"],
    RoleSessionName=generate_lambda_session_name,
    ExternalId=os.environ["EXTERNAL_ID"],
)
dynamodb = session.client("dynamodb")


def handler(event: dict[str, str], context: object) -> dict[str, Any]:
    """Return the order ``event["order_id"]`` in DynamoDB's JSON, or null."""
    answer = dynamodb.get_item(
        TableName=os.environ["TABLE_NAME"],
        Key={"order_id": {"S": event["order_id"]}},
    )
    return {"order": answer.get("Item")}
