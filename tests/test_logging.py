"""One logger tells an operator what happened, one line per event, and never a secret."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import HUB, key
from sts_stub import Fault

from aws_assume_role_lib import assume_role

LOGGER = "aws_assume_role_lib"


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, LOGGER)
    return caplog


def lines(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level and record.name.startswith(LOGGER)]


def test_info_tells_of_each_assumed_role(sts, parent, log, clock):
    """INFO says which role was assumed, under which session name and until when, once for each AssumeRole."""
    child = assume_role(parent, HUB, RoleSessionName="mario")
    assert log.records == []
    for _ in range(3):
        key(child)
    assert lines(log, logging.INFO) == [f"Assumed {HUB} as mario, valid until 2031-05-01T13:00:00+00:00."]
    clock.shift(3600)
    key(child)
    assert len(lines(log, logging.INFO)) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.error(503, "ServiceUnavailable"), "AssumeRole failed with ServiceUnavailable"),
        (Fault.html(), "is not an AssumeRole response (ResponseParserError)"),
        (Fault(resets=True), "endpoint URL"),
    ],
)
def test_a_failed_early_refresh_is_one_line(sts, parent, caplog, clock, fault, reason):
    """A failed early refresh is one WARNING line a minute: the role, the reason, the expiry, the next attempt."""
    child = assume_role(parent, HUB)
    key(child)
    clock.shift(46 * 60)
    sts.fault = fault
    for minute in (1, 2):
        for _ in range(3):
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


def test_a_failure_that_raises_is_not_logged(sts, parent, caplog):
    """Logging raised errors is left to the caller: neither this library nor botocore adds a line or a traceback."""
    sts.fault = Fault.error(403, "AccessDenied")
    with pytest.raises(ClientError):
        key(assume_role(parent, HUB))
    assert caplog.records == []


def test_debug_tells_cache_hits_from_misses(sts, parent, log):
    """DEBUG says whether a cache had the credentials, before INFO tells of a call; without a cache it says nothing."""
    cache: dict[str, Any] = {}
    for own, words in ((None, []), (cache, ["miss"]), (cache, ["hit"])):
        log.clear()
        key(assume_role(parent, HUB, cache=own))
        told = lines(log, logging.DEBUG)
        assert told == [record.getMessage() for record in log.records if record.name == LOGGER][: len(told)]
        assert len(told) == len(words)
        assert all(word in line for word, line in zip(words, told, strict=True))
