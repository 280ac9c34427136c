"""Print what two roles' clients share on the installed botocore: a row of the table in docs/explanation/speed.md."""

from __future__ import annotations

import boto3

from aws_assume_role_lib import assume_role

PARTS = {
    "connections": lambda client: client._endpoint.http_session,
    "service model": lambda client: client.meta.service_model,
    "endpoint rules": lambda client: client._ruleset_resolver._provider.ruleset,
    "methods of the class": lambda client: type(client).list_buckets,
}


def row() -> str:
    parent = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    first, second = (
        assume_role(parent, f"arn:aws:iam::{account}:role/Role").client("s3") for account in ("1" * 12, "2" * 12)
    )
    shared = ["shared" if get(first) is get(second) else "each its own" for get in PARTS.values()]
    return f"| {' | '.join([boto3.__version__, *shared])} |"


if __name__ == "__main__":
    print(row())
