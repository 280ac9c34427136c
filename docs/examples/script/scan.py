"""Count the S3 buckets of every account of an AWS organization.

python scan.py                      the organization of your own account
python scan.py --role-arn ROLE_ARN  the organization of the role's account; repeat it for a chain
python scan.py --demo               a made-up organization, without AWS
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aws_assume_role_lib import assume_role, get_role_arn

THREADS = 16


class Row(NamedTuple):
    """One row of the table."""

    account_id: str
    name: str
    buckets: str = ""
    problem: str = ""


def scan(session: boto3.Session, role_name: str) -> list[Row]:
    """Scan every account of the organization; if one fails, its row has a problem."""
    own_arn = session.client("sts").get_caller_identity()["Arn"]
    _, partition, _, _, own_account, _ = own_arn.split(":", 5)

    def scan_account(account_id: str, name: str) -> Row:
        try:
            if account_id == own_account:
                there = session
            else:
                role_arn = get_role_arn(account_id, role_name, partition=partition)
                there = assume_role(session, role_arn)
            return Row(
                account_id,
                name,
                buckets=str(len(there.client("s3").list_buckets()["Buckets"])),
            )
        except (BotoCoreError, ClientError) as error:
            return Row(account_id, name, problem=str(error))

    paginator = session.client("organizations").get_paginator("list_accounts")
    found = [account for page in paginator.paginate() for account in page["Accounts"]]
    accounts = [(account["Id"], account["Name"]) for account in found]
    with ThreadPoolExecutor(THREADS) as pool:
        scans = [pool.submit(scan_account, *account) for account in accounts]
        done = track(
            as_completed(scans),
            "Scanning",
            total=len(scans),
            console=Console(stderr=True),
        )
        return sorted(scan.result() for scan in done)


@contextlib.contextmanager
def made_up_organization(role_name: str) -> Iterator[boto3.Session]:
    """A session in the management account of an organization that moto simulates."""
    # Only --demo needs it.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    os.environ["AWS_CONFIG_FILE"] = os.devnull
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        session = boto3.Session("made-up", "made-up", region_name="us-east-1")
        organizations = session.client("organizations")
        organizations.create_organization(FeatureSet="ALL")
        for number in range(24):
            name = f"team-{number:02}"
            email = f"{name}@example.com"
            created = organizations.create_account(AccountName=name, Email=email)
            account_id = created["CreateAccountStatus"]["AccountId"]
            role_arn = get_role_arn(account_id, role_name)
            s3 = assume_role(session, role_arn).client("s3")
            for bucket in range(number % 4):
                s3.create_bucket(Bucket=f"{name}-{bucket}")
        yield session
    finally:
        server.stop()


def main() -> int:
    """Run the command line; return 1 if an account could not be scanned."""
    parser = argparse.ArgumentParser(
        description="Count the S3 buckets of every account of an AWS organization.",
    )
    # None, not "default", so that boto3 looks where it always does, including AWS_PROFILE.
    parser.add_argument("--profile", default=None, help="profile to start from")
    parser.add_argument(
        "--role-arn",
        action="append",
        default=[],
        help="a role to assume first; repeat it for a chain",
    )
    parser.add_argument(
        "--role",
        default="OrganizationAccountAccessRole",
        help="the role's name in each account",
    )
    parser.add_argument("--demo", action="store_true", help="scan a made-up organization")
    arguments = parser.parse_args()

    if arguments.demo:
        with made_up_organization(arguments.role) as session:
            rows = scan(session, arguments.role)
    else:
        session = boto3.Session(profile_name=arguments.profile)
        for role_arn in arguments.role_arn:
            session = assume_role(session, role_arn)
        rows = scan(session, arguments.role)

    table = Table("Account", "Name", "Buckets", "Problem")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    return int(any(row.problem for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
