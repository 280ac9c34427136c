"""Count the SQS queues in every account and region of an AWS organization.

python scan.py                the organization of your own account, on threads
python scan.py --dask         the same, on the worker processes of Dask
python scan.py --demo         a made-up organization, without AWS
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aws_assume_role_lib import assume_role, get_role_arn

REGIONS = ["eu-west-1", "us-east-1", "us-west-2"]
# Throttled calls are repeated after longer and longer pauses, and the rate of new ones
# drops. Set on the root, it holds for STS and for each role's clients, in workers too.
CONFIG = Config(retries={"mode": "adaptive", "total_max_attempts": 10})


class Row(NamedTuple):
    """What was found in one region of one account."""

    account_id: str
    region: str
    queues: int = 0
    problem: str = ""


def scan_account(session: boto3.Session, account_id: str, regions: Sequence[str]) -> list[Row]:
    """Scan one account, as one task, so that its role is assumed once."""
    rows = []
    for region in regions:
        try:
            sqs = session.client("sqs", region_name=region)
            pages = sqs.get_paginator("list_queues").paginate()
            count = sum(len(page.get("QueueUrls", [])) for page in pages)
            rows.append(Row(account_id, region, count))
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            rows.append(Row(account_id, region, problem=problem))
    return rows


def scan(
    hub: boto3.Session,
    role_name: str,
    regions: Sequence[str],
    submit: Callable[..., Any],
    as_completed: Callable[[Iterable[Any]], Iterable[Any]],
) -> list[Row]:
    """Scan each account of the hub's organization; if one fails, its rows have a problem."""
    console = Console(stderr=True)
    own_arn = hub.client("sts").get_caller_identity()["Arn"]
    _, partition, _, _, own_account, _ = own_arn.split(":", 5)
    paginator = hub.client("organizations").get_paginator("list_accounts")
    # AWS replaces Status with State; older versions of botocore do not know State.
    states = {
        account["Id"]: account.get("State") or account["Status"]
        for page in paginator.paginate()
        for account in page["Accounts"]
    }
    tasks = {}
    for account_id, state in states.items():
        if state != "ACTIVE":
            console.print(f"Skipped {account_id}, which is {state}.")
        elif account_id != own_account:
            session = assume_role(hub, get_role_arn(account_id, role_name, partition=partition))
            tasks[submit(scan_account, session, account_id, regions)] = account_id
    # In its own account, the hub needs no role.
    rows = scan_account(hub, own_account, regions) if own_account in states else []
    done = track(as_completed(tasks), "Scanning", total=len(tasks), console=console)
    for task in done:
        try:
            rows += task.result()
        except Exception as error:  # Dask gives up on a task after four of its workers died
            problem = f"{type(error).__name__}: {error}"
            rows += [Row(tasks[task], region, problem=problem) for region in regions]
    return sorted(rows)


@contextlib.contextmanager
def on_threads(workers: int) -> Iterator[tuple[Any, Any]]:
    with futures.ThreadPoolExecutor(workers) as pool:
        yield pool.submit, futures.as_completed


@contextlib.contextmanager
def on_dask(workers: int) -> Iterator[tuple[Any, Any]]:
    import distributed

    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=4, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.submit, distributed.as_completed


@contextlib.contextmanager
def made_up_organization(role_name: str) -> Iterator[None]:
    """An organization that moto simulates; the environment leads to it, in workers too."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "made-up",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    try:
        organizations = boto3.client("organizations")
        organizations.create_organization(FeatureSet="ALL")
        for number in range(8):
            made = organizations.create_account(AccountName=f"team-{number}", Email=f"team-{number}@example.com")
            role_arn = get_role_arn(made["CreateAccountStatus"]["AccountId"], role_name)
            session = assume_role(boto3.Session(), role_arn)
            for place, region in enumerate(REGIONS):
                sqs = session.client("sqs", region_name=region)
                for queue in range(number % (place + 2)):
                    sqs.create_queue(QueueName=f"queue-{queue}")
        yield
    finally:
        server.stop()


def summary(rows: Iterable[Row]) -> Table:
    """One line for each region, and one for each kind of problem."""
    rows = list(rows)
    table = Table("Region", "Accounts", "Queues", "Problem")
    for region in sorted({row.region for row in rows}):
        good = [row for row in rows if row.region == region and not row.problem]
        table.add_row(region, str(len(good)), str(sum(row.queues for row in good)), "")
    problems = Counter((row.region, row.problem) for row in rows if row.problem)
    for (region, problem), accounts in sorted(problems.items()):
        table.add_row(region, str(accounts), "", problem)
    return table


def main() -> int:
    """Run the command line; return 1 if a region could not be scanned."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", help="profile to start from")
    parser.add_argument("--hub", metavar="ROLE_ARN", help="role to assume first")
    parser.add_argument("--role", default="OrganizationAccountAccessRole")
    parser.add_argument("--regions", nargs="+", default=REGIONS)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--dask", action="store_true", help="use worker processes")
    parser.add_argument("--demo", action="store_true", help="scan a made-up organization")
    arguments = parser.parse_args()

    with contextlib.ExitStack() as stack:
        if arguments.demo:
            stack.enter_context(made_up_organization(arguments.role))
        session = boto3.Session(profile_name=arguments.profile)
        session._session.set_default_client_config(CONFIG)
        hub = assume_role(session, arguments.hub) if arguments.hub else session
        place = on_dask if arguments.dask else on_threads
        submit, as_completed = stack.enter_context(place(arguments.workers))
        rows = scan(hub, arguments.role, arguments.regions, submit, as_completed)
    Console().print(summary(rows))
    return int(any(row.problem for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
