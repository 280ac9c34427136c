"""Greets users by their names, which are in a DynamoDB table."""

from __future__ import annotations

import boto3


def greet(table_name: str, user_id: str, session: boto3.Session | None = None) -> str:
    """Greet a user by name.

    Args:
        table_name: The DynamoDB table of users: items with ``user_id`` and ``name``.
        user_id: The user to greet.
        session: The boto3 session to use. Default: boto3's default session.

    Returns:
        The greeting, as in ``"Hello, Ada!"``.

    Raises:
        LookupError: The table has no such user.
        botocore.exceptions.ClientError: DynamoDB returned an error, for example because there is no such table.
    """
    # boto3.client() uses the default session.
    dynamodb = (session or boto3).client("dynamodb")
    answer = dynamodb.get_item(TableName=table_name, Key={"user_id": {"S": user_id}})
    if "Item" not in answer:
        raise LookupError(f"The table {table_name!r} has no user {user_id!r}.")
    return f"Hello, {answer['Item']['name']['S']}!"
