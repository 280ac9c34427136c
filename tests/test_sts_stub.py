"""The STS stub does what the tests take for granted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
)
from botocore.parsers import ResponseParserError
from conftest import HANG, later
from sts_stub import Fault, StsStub

SESSION: Any = boto3.Session(region_name="eu-west-1")  # one for all: its service models are read once
ROLE = "arn:aws-cn:iam::123456789012:role/path/Reader"
ASSUMED = "arn:aws-cn:sts::123456789012:assumed-role/Reader/me"


@pytest.fixture
def sts() -> Iterator[StsStub]:
    with StsStub() as stub:
        yield stub


def client(
    stub: StsStub, key: str = "AKIAROOT", token: str | None = None, *, service: str = "sts", **config: Any
) -> Any:
    keys = {"aws_access_key_id": key, "aws_secret_access_key": "s", "aws_session_token": token}
    config = {"retries": {"total_max_attempts": 1}, "read_timeout": 10, **config}
    return SESSION.client(service, endpoint_url=stub.url, config=Config(**config), **keys)


def assume(stub: StsStub, *key: str, **config: Any) -> Any:
    return client(stub, *key, **config).assume_role(RoleArn=ROLE, RoleSessionName="me")


def test_expired_and_foreign_keys_are_refused_and_recorded(sts: StsStub) -> None:
    """A key that has expired, has a wrong token or was never issued is refused with STS's code, as a violation."""
    with time_machine.travel(2_000_000_000, tick=False) as clock:
        sts.lifetime = 100
        assert assume(sts)["Credentials"]["Expiration"] == datetime.fromtimestamp(2_000_000_100, timezone.utc)
        clock.shift(99)
        client(sts, "ASIA0000000000000001", "token-1").get_caller_identity()
        assert sts.violations == []
        clock.shift(1)
        for key, token, code in [
            ("ASIA0000000000000001", "token-1", "ExpiredToken"),
            ("ASIA0000000000000002", "token-2", "InvalidClientTokenId"),
        ]:
            sts.any_root = False
            with pytest.raises(ClientError) as caught:
                assume(sts, key, token)
            assert caught.value.response["Error"]["Code"] == code
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        sts.lifetime = None
        assume(sts)
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            assume(sts, "ASIA0000000000000002", "token-1")
    assert [what.split(":")[0] for what in sts.violations] == ["ExpiredToken", *["InvalidClientTokenId"] * 2]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.reset(), "ConnectionClosedError"),
        (Fault.slow_first_byte(30), "ReadTimeoutError"),
        (Fault.slow_body(30), "ReadTimeoutError"),
        (Fault.hang(), "ReadTimeoutError"),
        (Fault.error(400, "MalformedPolicyDocument", "a < b"), "MalformedPolicyDocumentException"),
        (Fault.error(403, "AccessDenied"), "ClientError"),
        (Fault.error(429, "Throttling", "Rate exceeded"), "ClientError"),
        (Fault.error(500, "InternalFailure"), "ClientError"),
        (Fault.error(503, "ServiceUnavailable"), "ClientError"),
        (Fault.html(), "ResponseParserError"),
        (Fault.truncated(), "ResponseParserError"),
        (Fault.empty(), "ResponseParserError"),
        (Fault.body("<AssumeRoleResponse/>"), "KeyError"),
    ],
)
def test_fault_fails_the_client(sts: StsStub, fault: Fault, error: str) -> None:
    """Each fault reaches a real client as the error that it simulates; once it is cleared, AssumeRole works."""
    sts.fault = fault
    with pytest.raises((ClientError, BotoCoreError, ResponseParserError, KeyError)) as caught:
        assume(sts, read_timeout=0.3 if error == "ReadTimeoutError" else 10)
    assert type(caught.value).__name__ == error
    if isinstance(caught.value, ClientError):
        assert fault.instead is not None
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == fault.instead[0]
        assert f"<Code>{response['Error']['Code']}</Code>" in fault.instead[1]
    client(sts).get_caller_identity()
    sts.fault = None
    assume(sts)


def test_key_is_held_to_the_expiry_that_was_sent(sts: StsStub) -> None:
    """A key that arrived expired counts as expired; an expiry that cannot be read breaks the client's parser."""
    sts.fault = Fault.expiration("2020-01-01T00:00:00Z", times=1)
    assert assume(sts)["Credentials"]["Expiration"].year == 2020
    with pytest.raises(ClientError, match="ExpiredToken"):
        client(sts, "ASIA0000000000000001", "token-1").get_caller_identity()
    sts.fault = Fault.expiration("soon")
    with pytest.raises(ValueError, match="soon"):
        assume(sts)


def test_fault_with_times_clears_itself(sts: StsStub) -> None:
    """A fault with `times=2` affects two AssumeRoles and not a third, and no other actions unless told to."""
    sts.fault = Fault.error(503, "ServiceUnavailable", times=2)
    client(sts).get_caller_identity()
    for _ in range(2):
        with pytest.raises(ClientError):
            assume(sts)
    assert sts.fault is None
    assume(sts)
    sts.fault = Fault.error(500, "InternalFailure", everything=True)
    with pytest.raises(ClientError):
        client(sts).get_caller_identity()


def test_gate_holds_assume_role_alone(sts: StsStub) -> None:
    """While the gate is closed, an AssumeRole arrives and waits, and other requests pass."""
    sts.gate.clear()
    waiting = later(lambda: assume(sts))
    assert sts.arrived.acquire(timeout=60)
    client(sts).get_caller_identity()
    assert not waiting.done()
    assert not sts.issued
    sts.gate.set()
    assert waiting.result(10)["Credentials"]["AccessKeyId"] in sts.issued


@pytest.mark.parametrize("held", ["gate", "hang", "body"])
@pytest.mark.parametrize("end", ["close", "down"])
def test_the_end_comes_at_once(held: str, end: str) -> None:
    """`close()` and `down()` end all waits, even if the clock is frozen."""
    with time_machine.travel(2_000_000_000, tick=False), StsStub() as sts:
        if held == "gate":
            sts.gate.clear()
        else:
            sts.fault = Fault.hang() if held == "hang" else Fault.slow_body(50)
        waiting = later(lambda: assume(sts, read_timeout=60))
        assert sts.arrived.acquire(timeout=HANG)
        getattr(sts, end)()
        assert waiting.exception(HANG)


def test_outage_refuses_connections_and_ends(sts: StsStub) -> None:
    """Between `down()` and `up()`, new connections are refused, existing ones are closed, and the URL stays."""
    kept = client(sts)
    kept.get_caller_identity()
    kept.get_caller_identity()
    assert sts.connections == 1
    url = sts.url
    for _ in range(3):
        sts.down()
        sts.down()
        with pytest.raises(EndpointConnectionError):
            kept.get_caller_identity()
        sts.up()
        sts.up()
        kept.get_caller_identity()
    assert (sts.url, sts.connections) == (url, 4)
    assert [request.connection for request in sts.requests] == [1, 1, 2, 3, 4]
