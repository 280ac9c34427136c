"""Greets users by the names kept in a DynamoDB table."""

from __future__ import annotations

import boto3


def greet(table_name: str, user_id: str, session: boto3.Session | None = None) -> str:
    """Greet a user by name.

    Args:
        table_name: The DynamoDB table with the names: items with ``user_id`` and ``name``.
        user_id: Whom to greet.
        session: Whose credentials and region to use. Default: boto3's default session.

    Returns:
        The greeting, as in ``"Hello, Ada!"``.

    Raises:
        LookupError: The table has no such user.
        botocore.exceptions.ClientError: What DynamoDB answers, such as that there is no such table.
    """
    # The functions of boto3 itself are those of its default session.
    dynamodb = (session or boto3).client("dynamodb")
    answer = dynamodb.get_item(TableName=table_name, Key={"user_id": {"S": user_id}})
    if "Item" not in answer:
        raise LookupError(f"The table {table_name!r} has no user {user_id!r}.")
    return f"Hello, {answer['Item']['name']['S']}!"
