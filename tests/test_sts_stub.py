"""The STS stub does what the tests take for granted."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError
from conftest import at_once, later, needs_fork
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


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether the condition becomes true within ten seconds of real time."""
    return any(condition() or threading.Event().wait(0.01) for _ in range(1000))


def serving() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "process_request_thread" in thread.name]


def test_assume_role_issues_numbered_credentials(sts: StsStub) -> None:
    """AssumeRole responds as STS would, and the stub remembers the request and whom each key is for."""
    answer = client(sts).assume_role(
        RoleArn=ROLE,
        RoleSessionName="me",
        DurationSeconds=900,
        SourceIdentity="mario",
        Tags=[{"Key": "a", "Value": "é"}],
    )
    credentials = answer["Credentials"]
    assert credentials["AccessKeyId"] == "ASIA0000000000000001"
    assert (credentials["SecretAccessKey"], credentials["SessionToken"]) == ("secret-1", "token-1")
    assert answer["AssumedRoleUser"]["Arn"] == ASSUMED
    assert answer["SourceIdentity"] == "mario"
    [request] = sts.assumed
    assert (request.action, request.access_key, request.token) == ("AssumeRole", "AKIAROOT", None)
    assert (request.region, request.connection, sts.connections) == ("eu-west-1", 1, 1)
    assert request.params["Tags.member.1.Value"] == "é"
    assert "Boto3/" in request.user_agent
    issued = sts.issued["ASIA0000000000000001"]
    assert issued[:3] == (ROLE, "me", "AKIAROOT")
    assert issued.expires == credentials["Expiration"].timestamp() == int(request.at + 900)
    assert sts.arrived.acquire(timeout=0)
    assert not sts.arrived.acquire(timeout=0)
    assert sts.violations == []


def test_identity_follows_the_signer(sts: StsStub) -> None:
    """GetCallerIdentity names the role of the key that signed, also through a presigned URL, and the root otherwise."""
    assume(sts)
    assert client(sts).get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/root"
    answer = client(sts, "ASIA0000000000000001", "token-1").get_caller_identity()
    assert (answer["Arn"], answer["Account"]) == (ASSUMED, "123456789012")
    url = client(sts, "ASIA0000000000000001", "token-1").generate_presigned_url("get_caller_identity")
    with socket.create_connection(("127.0.0.1", int(sts.url.rsplit(":", 1)[1])), timeout=10) as connection:
        path = url.removeprefix(sts.url)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: stub\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile() as lines:
            assert ASSUMED in lines.read()
    assert (sts.requests[-1].access_key, sts.requests[-1].token) == ("ASIA0000000000000001", "token-1")


def test_any_other_service_is_answered_and_recorded(sts: StsStub) -> None:
    """A request to a service other than STS gets an empty 200 and is recorded with its signer and no action."""
    s3 = client(sts, "ASIAELSEWHERE", "t", service="s3")
    s3.put_object(Bucket="b", Key="k", Body=b"Action=AssumeRole")
    assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b""
    s3.head_object(Bucket="b", Key="k")
    assert sts.connections == 1
    with pytest.raises(ResponseParserError, match="no element found"):
        client(sts, "ASIAELSEWHERE", "t", service="iam").create_account_alias(AccountAlias="abc")
    assert [(r.action, r.access_key, r.token) for r in sts.requests] == [("", "ASIAELSEWHERE", "t")] * 4


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
        assume(sts, read_timeout=0.3)
    assert type(caught.value).__name__ == error
    if isinstance(caught.value, ClientError):
        assert fault.instead is not None
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == fault.instead[0]
        assert f"<Code>{response['Error']['Code']}</Code>" in fault.instead[1]
    client(sts).get_caller_identity()
    sts.fault = None
    assume(sts)


@pytest.mark.parametrize("name", ["Expiration", "AccessKeyId", "SecretAccessKey", "SessionToken", "AssumedRoleUser"])
def test_fault_without_leaves_one_element_out(sts: StsStub, name: str) -> None:
    """`Fault.without` leaves out exactly the element that it names."""
    whole = assume(sts)
    sts.fault = Fault.expiration(None) if name == "Expiration" else Fault.without(name)
    answer = assume(sts)
    if name == "AssumedRoleUser":
        assert whole.keys() - answer.keys() == {name}
    else:
        assert whole["Credentials"].keys() - answer["Credentials"].keys() == {name}
        assert whole.keys() == answer.keys()


def test_empty_result_has_nothing_in_it(sts: StsStub) -> None:
    """`Fault.empty_result` answers with neither credentials nor user."""
    sts.fault = Fault.empty_result()
    assert assume(sts).keys() == {"ResponseMetadata"}


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


def test_hung_request_is_answered_once_the_fault_is_assigned(sts: StsStub) -> None:
    """When a hang ends, a client that still waits is answered; one that gave up uses up neither key nor fault."""
    sts.fault = Fault.hang()
    with pytest.raises(ReadTimeoutError):
        assume(sts, read_timeout=0.2)
    sts.fault = Fault.hang(times=1)
    waiting = later(lambda: assume(sts))
    assert eventually(lambda: sts.fault is None)
    sts.fault = Fault.error(400, "MalformedPolicyDocument", times=1)
    with pytest.raises(ClientError):
        waiting.result(10)
    assert assume(sts)["Credentials"]["AccessKeyId"] == "ASIA0000000000000001"


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


@pytest.mark.parametrize("held", ["gate", "latency", "hang", "first byte", "body", "idle"])
@pytest.mark.parametrize("end", ["close", "down"])
def test_end_is_quick_whatever_hangs(held: str, end: str) -> None:
    """`close()` and `down()` end all waits at once, even if the clock is frozen."""
    with time_machine.travel(2_000_000_000, tick=False):
        sts = StsStub()
        if held == "gate":
            sts.gate.clear()
        elif held == "latency":
            sts.latency = 50
        elif held != "idle":
            sts.fault = {
                "hang": Fault.hang(),
                "first byte": Fault.slow_first_byte(50),
                "body": Fault.slow_body(50),
            }[held]
        waiting = later(lambda: assume(sts))
        assert sts.arrived.acquire(timeout=60)
        if held == "idle":
            waiting.result(10)
        start = time.perf_counter()
        getattr(sts, end)()
        # A wait that does not end lasts 50 seconds; a busy machine takes one at most.
        assert time.perf_counter() - start < 10
        if held != "idle":
            assert waiting.exception(2)
        if held not in ("body", "idle"):
            assert not sts.issued
        sts.close()
        assert eventually(lambda: not serving())


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


@needs_fork
def test_forked_children_are_clients(sts: StsStub) -> None:
    """Children forked while connections were open can use the stub, and cannot hold up its outages."""
    kept = client(sts)
    kept.get_caller_identity()
    ready, tell = os.pipe()
    hold, release = os.pipe()
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            try:
                os.close(release)
                assume(sts)
                sts.close()
                os.write(tell, b".")
                os.read(hold, 1)
            finally:
                os._exit(0)
        children.append(child)
    os.close(tell)
    try:
        for _ in children:
            assert select.select([ready], [], [], 20)[0]
            assert os.read(ready, 1)
        assert (len(sts.assumed), sts.connections) == (4, 5)
        sts.fault = Fault.reset(times=1)
        with pytest.raises(ConnectionClosedError):
            kept.assume_role(RoleArn=ROLE, RoleSessionName="me")
        sts.down()
        with pytest.raises(EndpointConnectionError):
            kept.get_caller_identity()
        sts.up()
        kept.get_caller_identity()
    finally:
        os.close(release)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(ready)
        os.close(hold)


def test_many_threads_get_a_key_each(sts: StsStub) -> None:
    """64 threads at once all get an answer, each with its own key, over at most one connection each."""
    shared = client(sts, max_pool_connections=64)

    def ask(_: int) -> str:
        return str(shared.assume_role(RoleArn=ROLE, RoleSessionName="me")["Credentials"]["AccessKeyId"])

    assert len(set(at_once(ask))) == len(sts.assumed) == 64
    assert sts.connections <= 64
