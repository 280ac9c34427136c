"""One logger tells an operator what happened, one line per event, and never a secret."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

import boto3
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HUB, SPOKE, key
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

LOGGER = "aws_assume_role_lib"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, LOGGER)
    return caplog


def lines(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level and record.name.startswith(LOGGER)]


class Broken(dict[str, Any]):
    """A cache that fails, and quotes what it was given in its errors."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        raise OSError(5, f"cannot read {key}", "external-id")

    def __setitem__(self, key: str, value: Any) -> None:
        raise RuntimeError(f"cannot write {value!r}")


def test_info_tells_of_each_assumed_role(
    sts: StsStub, parent: boto3.Session, log: pytest.LogCaptureFixture, clock: time_machine.Traveller
) -> None:
    """INFO says which role was assumed, under which session name and until when, once for each AssumeRole."""
    child = assume_role(parent, HUB, RoleSessionName="mario")
    assert log.records == []
    for _ in range(3):
        key(child)
    [line] = lines(log, logging.INFO)
    assert HUB in line
    assert "mario" in line
    assert "2031-05-01T13:00:00+00:00" in line
    clock.shift(3600)
    key(child)
    assert len(lines(log, logging.INFO)) == 2
    assert {record.name for record in log.records if record.levelno >= logging.INFO} == {LOGGER}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.error(503, "ServiceUnavailable"), "AssumeRole failed with ServiceUnavailable"),
        (Fault.html(), "is not an AssumeRole response (ResponseParserError)"),
        (Fault.hang(), "Read timeout on endpoint URL"),
        (Fault.reset(), "endpoint URL"),
    ],
)
def test_a_failed_early_refresh_is_one_line(
    sts: StsStub,
    parent: boto3.Session,
    caplog: pytest.LogCaptureFixture,
    clock: time_machine.Traveller,
    fault: Fault,
    reason: str,
) -> None:
    """A failed early refresh is one WARNING line a minute: the role, the reason, the expiry, the next attempt."""
    timeout = 0.25 if reason.startswith("Read timeout") else 10
    options = {"config": Config(read_timeout=timeout, retries={"total_max_attempts": 1})}
    child = assume_role(parent, HUB, sts_client_kwargs=options)
    key(child)
    clock.shift(46 * 60)
    sts.fault = fault
    for minute in (1, 2, 3):
        for _ in range(5):
            key(child)
        assert len(caplog.records) == minute
        clock.shift(60)
    for record in caplog.records:
        assert (record.name, record.levelno, record.exc_info) == (LOGGER, logging.WARNING, None)
        line = record.getMessage()
        assert "\n" not in line
        assert f"{HUB} from a session with explicit credentials" in line
        assert "valid until 2031-05-01T13:00:00+00:00" in line
        assert "next attempt in 60 seconds" in line
        assert reason in line


def test_a_failure_that_raises_is_not_logged(
    sts: StsStub, parent: boto3.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Logging raised errors is left to the caller: neither this library nor botocore adds a line or a traceback."""
    sts.fault = Fault.error(403, "AccessDenied")
    child = assume_role(parent, HUB)
    with pytest.raises(ClientError):
        key(child)
    assert caplog.records == []


def test_debug_tells_cache_hits_from_misses(sts: StsStub, parent: boto3.Session, log: pytest.LogCaptureFixture) -> None:
    """DEBUG says whether a cache had the credentials; without a cache it says nothing."""
    cache: dict[str, Any] = {}
    key(assume_role(parent, HUB))
    assert lines(log, logging.DEBUG) == []
    for word in ("miss", "hit"):
        log.clear()
        key(assume_role(parent, HUB, cache=cache))
        [line] = lines(log, logging.DEBUG)
        assert word in line


def test_cache_trouble_is_a_warning(sts: StsStub, parent: boto3.Session, log: pytest.LogCaptureFixture) -> None:
    """A cache that cannot be read or written causes a WARNING of one line each time, and the credentials arrive."""
    assert key(assume_role(parent, HUB, cache=Broken()))
    reading, writing = lines(log, logging.WARNING)
    assert "read from" in reading
    assert "OSError" in reading
    assert "written to" in writing
    assert "RuntimeError" in writing
    assert "\n" not in reading + writing


def test_no_record_holds_a_secret(
    sts: StsStub, one_attempt: None, log: pytest.LogCaptureFixture, clock: time_machine.Traveller
) -> None:
    """No record has a key, token, code, external ID or policy, on success, on failure, or when a cache fails."""
    parent = boto3.Session("AKIAROOT", "root-secret", "root-token", region_name="us-east-1")
    policy = {"Version": "2012-10-17", "Statement": []}
    caches: list[Any] = [None, {}, Broken()]
    said = "external-id, 123456, secret-1, token-1, " + json.dumps(policy)
    faults = [
        None,
        Fault.error(403, "AccessDenied", said),
        Fault.error(400, "ValidationError", said),
        Fault.truncated(),
        Fault.without("SessionToken"),
        Fault.expiration("soon"),
        Fault.body(f"<a>{said}"),
        Fault.reset(),
        Fault.expiration("2001-01-01T00:00:00Z"),
    ]
    for cache in caches:
        child = assume_role(
            parent,
            HUB,
            ExternalId="external-id",
            Policy=policy,
            SerialNumber="arn:aws:iam::111111111111:mfa/mario",
            TokenCode=lambda: "123456",
            cache=cache,
        )
        spoke = assume_role(child, SPOKE, ExternalId="external-id", Policy=policy, cache=cache)
        for fault in faults:
            sts.fault = fault
            with contextlib.suppress(ClientError, BotoCoreError):
                key(spoke)
            clock.shift(46 * 60 if fault is None else 61)
    secrets = ["AKIAROOT", "root-", "ASIA0", "secret-", "token-", "123456", "external-id", "Statement"]
    assert {record.levelno for record in log.records} == {logging.DEBUG, logging.INFO, logging.WARNING}
    for record in log.records:
        assert record.exc_info is None
        text = f"{record.getMessage()} {record.args!r}"
        assert [secret for secret in secrets if secret in text] == []
