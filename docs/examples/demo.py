"""Assume three roles in a row, read a table that only the last one may read, and read it again after half a day.

Without arguments, this runs against a simulated AWS: moto's server, in this process, on loopback. With ``--role-arn``,
once for each role, it runs against the real one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import urllib.request
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError

from aws_assume_role_lib import assume_role

ROLE_ARNS = [
    "arn:aws:iam::111111111111:role/Hub",
    "arn:aws:iam::222222222222:role/Spoke",
    "arn:aws:iam::333333333333:role/Reader",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role-arn", action="append", help="a role to assume, on the real AWS; repeat it for a chain")
    parser.add_argument("--profile", help="the profile to start from, on the real AWS")
    arguments = parser.parse_args()
    if arguments.role_arn:
        sessions = assume_chain(boto3.Session(profile_name=arguments.profile), arguments.role_arn)
        show_identities(sessions)
    else:
        on_moto()


def assume_chain(session: boto3.Session, role_arns: Iterable[str]) -> list[boto3.Session]:
    sessions = [session]
    for role_arn in role_arns:
        sessions.append(assume_role(sessions[-1], role_arn, RoleSessionName="demo"))
    return sessions


def show_identities(sessions: list[boto3.Session]) -> None:
    for session in sessions:
        print("  I am", session.client("sts").get_caller_identity()["Arn"])


def on_moto() -> None:
    import time_machine
    from moto.server import ThreadedMotoServer

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    os.environ["AWS_ENDPOINT_URL"] = url
    try:
        with time_machine.travel("2030-01-31T09:00:00Z", tick=True) as clock:
            sessions = assume_chain(set_up(url), ROLE_ARNS)
            calls: list[str] = []
            for session in sessions:
                session.events.register("before-call.sts.AssumeRole", lambda params, **_: calls.append("AssumeRole"))

            print("Three roles in a row:")
            show_identities(sessions)
            table = sessions[-1].client("dynamodb")
            print("The last role reads the table:", read(table))
            print("The role before it may not:", read(sessions[-2].client("dynamodb")))
            print(f"That took {len(calls)} AssumeRole calls, one for each role.")

            calls.clear()
            clock.shift(timedelta(hours=12))
            print("Twelve hours later, when all of these credentials have expired:")
            print("The same client reads again:", read(table))
            print("And again:", read(table))
            print(f"That took {len(calls)} AssumeRole calls, one for each role.")
    finally:
        server.stop()


def read(client: Any) -> str:
    try:
        item = client.get_item(TableName="greetings", Key={"id": {"S": "1"}})["Item"]
    except ClientError as error:
        return f"denied, {error.response['Error']['Code']}"
    return str(item["text"]["S"])


def set_up(url: str) -> boto3.Session:
    """Make a user, a role in each of three accounts, and a table in the last, then have moto enforce IAM."""
    region = "eu-central-1"
    root = boto3.Session("root", "root", region_name=region)
    iam = root.client("iam")
    iam.create_user(UserName="demo")
    iam.put_user_policy(UserName="demo", PolicyName="p", PolicyDocument=allow("sts:*", "*"))
    key = iam.create_access_key(UserName="demo")["AccessKey"]
    for arn, action in zip(ROLE_ARNS, ["sts:*", "sts:*", "*"], strict=True):
        account = assume_role(root, arn)
        iam = account.client("iam")
        iam.create_role(RoleName=arn.rpartition("/")[2], AssumeRolePolicyDocument=allow("sts:AssumeRole", None))
        iam.put_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="p", PolicyDocument=allow(action, "*"))
    table = account.resource("dynamodb").create_table(
        TableName="greetings",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.put_item(Item={"id": "1", "text": "Hello from account 333333333333"})
    enforce = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    urllib.request.urlopen(enforce).close()
    return boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=region)


def allow(action: str, resource: str | None) -> str:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": action}
    statement |= {"Resource": resource} if resource else {"Principal": {"AWS": "*"}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


if __name__ == "__main__":
    main()
