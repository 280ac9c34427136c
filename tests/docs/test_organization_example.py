"""The example that scans an organization: on threads, on Dask, and with workers that are killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
import distributed
import pytest
from conftest import HANG, later, wait_until
from pages import run
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

ORGANIZATION = Path(__file__).parents[2] / "docs" / "examples" / "organization"
HUB = "arn:aws:iam::999999999999:role/Hub"
REGIONS = ["eu-west-1", "us-east-1"]


@pytest.fixture
def example(root_keys: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, which worker processes can import too."""
    monkeypatch.syspath_prepend(str(ORGANIZATION))
    monkeypatch.delitem(sys.modules, "scan", raising=False)
    import scan

    yield scan
    sys.modules.pop("scan", None)


@pytest.fixture
def hub(moto_url: str, sts: StsStub, example: Any, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """A hub whose organization and SQS are simulated by moto, and whose STS is the stub."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    root = boto3.Session()
    root._session.set_default_client_config(example.CONFIG)
    hub = assume_role(root, HUB)
    organizations = hub.client("organizations")
    with contextlib.suppress(organizations.exceptions.AlreadyInOrganizationException):
        organizations.create_organization(FeatureSet="ALL")
    while len(organizations.list_accounts()["Accounts"]) < 13:
        number = len(organizations.list_accounts()["Accounts"])
        organizations.create_account(AccountName=f"scan-{number}", Email=f"scan-{number}@example.com")
    return hub


def accounts_of(hub: boto3.Session) -> set[str]:
    accounts = hub.client("organizations").list_accounts()["Accounts"]
    return {account["Id"] for account in accounts if account["Status"] == "ACTIVE"}


def assumed(sts: StsStub) -> list[str]:
    """Return the accounts whose roles were assumed, apart from the hub's."""
    arns = [request.params["RoleArn"] for request in sts.assumed]
    return [arn.split(":")[4] for arn in arns if arn != HUB]


def table(printed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]


@pytest.mark.timeout(180)  # a cluster is slow on a busy machine
@pytest.mark.parametrize("options", [[], ["--dask", "--workers", "2"]], ids=["threads", "dask"])
def test_it_runs_without_aws(sts: StsStub, options: list[str]) -> None:
    """With --demo the script scans a made-up organization, on threads or on Dask, and prints a summary."""
    command = (sys.executable, "scan.py", "--demo", *options)
    done = run(*command, cwd=ORGANIZATION, timeout=150, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    found = {"eu-west-1": "4", "us-east-1": "7", "us-west-2": "12"}
    assert table(done.stdout) == [[region, "9", queues, ""] for region, queues in found.items()]
    assert "100%" in done.stderr
    assert sts.requests == []


def test_errors_are_collected_and_throttling_backs_off(sts: StsStub, hub: boto3.Session, example: Any) -> None:
    """An account that refuses has a problem in every region, and one that was throttled has none."""
    members = accounts_of(hub)
    sts.fault = Fault.error(400, "Throttling", "Rate exceeded", times=2)
    with example.on_threads(2) as (submit, as_completed):
        rows = example.scan(hub, "Audit", REGIONS, submit, as_completed)
    assert {row.problem for row in rows} == {""}
    assert len(assumed(sts)) == len(members) + 2
    sts.fault = Fault.error(403, "AccessDenied", "not yours", times=len(REGIONS))
    with example.on_threads(1) as (submit, as_completed):
        rows = example.scan(hub, "Audit", REGIONS, submit, as_completed)
    assert {(row.account_id, row.region) for row in rows} == {(id, region) for id in members for region in REGIONS}
    problems = [row.problem for row in rows if row.problem]
    assert len(problems) == len(REGIONS)
    assert all(re.match("ClientError: .*AccessDenied.* not yours", problem) for problem in problems)


def test_the_hubs_own_account_is_scanned_and_closed_ones_are_skipped(sts: StsStub, hub: boto3.Session) -> None:
    """Started with a profile and a hub, the script scans the hub's own account with the hub's credentials, and says
    which accounts it skips because they are closed.
    """
    keys = "aws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\nregion = us-east-1\n"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(f"[profile audit]\n{keys}", encoding="utf-8")
    organizations = hub.client("organizations")
    own = organizations.describe_organization()["Organization"]["MasterAccountId"]
    closed = min(accounts_of(hub) - {own})
    organizations.close_account(AccountId=closed)
    members = accounts_of(hub) - {own}
    # moto takes the stub's keys as the management account's: each account has its queues.
    hub.client("sqs", region_name=REGIONS[0]).create_queue(QueueName="queue")
    before = len(assumed(sts))
    hub_arn = f"arn:aws:iam::{own}:role/Hub"
    command = (sys.executable, "scan.py", "--profile", "audit", "--hub", hub_arn, "--regions", REGIONS[0])
    done = run(*command, cwd=ORGANIZATION, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert table(done.stdout) == [[REGIONS[0], str(len(members) + 1), str(len(members) + 1), ""]]
    assert sorted(assumed(sts)[before:]) == sorted([own, *members])
    assert f"Skipped {closed}, which is SUSPENDED." in done.stderr


@pytest.mark.timeout(180)  # a cluster is slow on a busy machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:Port .* is already in use")  # by another test's cluster
def test_nothing_is_lost_when_workers_are_killed(sts: StsStub, hub: boto3.Session, example: Any) -> None:
    """If two worker processes are killed in the middle of a scan, each region of each account is scanned, and no role
    is assumed more than once, or once again for the work of a killed worker.
    """
    members = accounts_of(hub)
    sts.latency = 0.1
    cluster = distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        workers = list(client.run(os.getpid).values())

        def kill() -> None:
            wait_until(lambda: len(assumed(sts)) >= 4)
            for worker in workers[:2]:
                os.kill(worker, signal.SIGKILL)

        killed = later(kill)
        rows = example.scan(hub, "Audit", REGIONS, client.submit, distributed.as_completed)
        killed.result(HANG)
    assert {row.problem for row in rows} == {""}
    scanned = [(row.account_id, row.region) for row in rows]
    assert scanned == sorted((id, region) for id in members for region in REGIONS)
    # Results that only a killed worker had are computed again, and so are the tasks that it was running.
    assert len(members) < len(assumed(sts)) <= 2 * len(members)
    assert sts.violations == []
