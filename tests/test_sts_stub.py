"""The STS stub does what the tests take for granted, and would pass without."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import HANG, later
from sts_stub import Fault, StsStub

SESSION: Any = boto3.Session(region_name="eu-west-1")  # one for all: its service models are read once


def client(stub: StsStub, key: str = "AKIAROOT", token: str | None = None) -> Any:
    keys = {"aws_access_key_id": key, "aws_secret_access_key": "s", "aws_session_token": token}
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
    return SESSION.client("sts", endpoint_url=stub.url, config=config, **keys)


def assume(stub: StsStub, *key: str) -> Any:
    role_arn = "arn:aws-cn:iam::123456789012:role/path/Reader"
    return client(stub, *key).assume_role(RoleArn=role_arn, RoleSessionName="me")["Credentials"]


def test_expired_and_foreign_keys_are_refused_and_recorded():
    """A key that has expired, has a wrong token or was never issued is refused with STS's code, as a violation."""
    with time_machine.travel(2_000_000_000, tick=False) as clock, StsStub() as sts:
        sts.lifetime = 100
        assert assume(sts)["Expiration"].timestamp() == 2_000_000_100
        clock.shift(99)
        client(sts, "ASIA0000000000000001", "token-1").get_caller_identity()
        assert sts.violations == []
        clock.shift(1)
        assume(sts)
        sts.roots = {"AKIAROOT"}
        wrong = {
            ("ASIA0000000000000001", "token-1"): "ExpiredToken",
            ("ASIA0000000000000002", "token-1"): "InvalidClientTokenId",
            ("ASIA0000000000000003", "token-3"): "InvalidClientTokenId",
        }
        for key, code in wrong.items():
            with pytest.raises(ClientError, match=code):
                assume(sts, *key)
    assert [what.split(":")[0] for what in sts.violations] == list(wrong.values())


@pytest.mark.parametrize("held", ["gate", "hang", "body"])
@pytest.mark.parametrize("end", ["close", "down"])
def test_the_end_comes_at_once(held, end):
    """`close()` and `down()` end all waits, even if the clock is frozen."""
    with time_machine.travel(2_000_000_000, tick=False), StsStub() as sts:
        if held == "gate":
            sts.gate.clear()
        else:
            sts.fault = Fault(hangs=True) if held == "hang" else Fault(within=50)
        waiting = later(lambda: assume(sts))
        assert sts.arrived.acquire(timeout=HANG)
        getattr(sts, end)()
        assert waiting.exception(HANG)
