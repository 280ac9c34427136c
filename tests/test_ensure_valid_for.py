"""ensure_valid_for() and export_credentials(valid_for=...): credentials with enough of their lifetime left."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError, RefreshWithMFAUnsupportedError
from conftest import HUB, at_once, key
from sts_stub import Fault

from aws_assume_role_lib import AssumedRoleSession, assume_role

MINUTE = 60


def left(expiry: datetime) -> float:
    return (expiry - datetime.now(timezone.utc)).total_seconds()


@pytest.fixture
def child(sts, parent, clock):
    """A role whose credentials have 30 of their 60 minutes left."""
    child = assume_role(parent, HUB)
    key(child)
    clock.shift(30 * MINUTE)
    return child


@pytest.mark.parametrize("duration", [30 * MINUTE, timedelta(minutes=30), 1800.0])
def test_it_refreshes_only_if_too_little_is_left(sts, child, clock, duration):
    """Credentials that are valid for long enough are kept; others are renewed at once, for the clients, too."""
    client = child.client("sts")
    first = key(child)
    assert left(child.ensure_valid_for(duration)) == 30 * MINUTE
    assert key(child) == first
    clock.shift(1)
    expiry = child.ensure_valid_for(duration)
    assert (expiry.tzinfo, left(expiry)) == (timezone.utc, 60 * MINUTE)
    client.get_caller_identity()
    assert sts.requests[-1].access_key == key(child) != first


def test_exported_credentials_have_enough_left(child):
    """export_credentials(valid_for=...) returns credentials that are valid for that long."""
    assert left(child.export_credentials().expiry) == 30 * MINUTE
    assert left(child.export_credentials(valid_for=timedelta(minutes=40)).expiry) == 60 * MINUTE


def test_more_than_sts_grants(sts, parent, clock):
    """If STS grants less, a ValueError says how much, after one AssumeRole, and the credentials stay in use."""
    child = assume_role(parent, HUB, DurationSeconds=900)
    with pytest.raises(ValueError, match=r"valid for 1800 seconds: STS granted 900\. Pass a longer DurationSeconds"):
        child.ensure_valid_for(1800)
    assert key(child).startswith("ASIA")
    assert len(sts.assumed) == 1


def test_threads_share_the_refresh(sts, child):
    """Sixteen threads that need more make one AssumeRole, even if they arrive during a refresh that suffices."""
    at_once(lambda _: child.ensure_valid_for(40 * MINUTE), 16)
    assert len(sts.assumed) == 2


@pytest.mark.parametrize(("age", "minutes", "requests"), [(46, 10, 1), (30, 40, 2)])
def test_a_cached_entry_is_used_if_enough_is_left(sts, parent, clock, age, minutes, requests):
    """A cached entry that expires too early is replaced; one that suffices is used, even if it is due and STS down."""
    cache: dict[str, Any] = {}
    key(assume_role(parent, HUB, cache=cache))
    clock.shift(age * MINUTE)
    if requests == 1:
        sts.down()
    for _ in range(2):
        child = assume_role(parent, HUB, cache=cache)
        assert left(child.ensure_valid_for(minutes * MINUTE)) >= minutes * MINUTE
    assert len(sts.assumed) == requests


def test_a_refresh_that_fails_costs_nothing(sts, child):
    """If STS refuses, its error is raised, and credentials that are still valid stay in use."""
    first = key(child)
    sts.fault = Fault.error(403, "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        child.ensure_valid_for(40 * MINUTE)
    assert key(child) == first


def test_a_code_that_has_been_used(sts, parent, clock):
    """A session with a single MFA code cannot be renewed, and says so."""
    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode="123456")
    key(child)
    clock.shift(30 * MINUTE)
    with pytest.raises(RefreshWithMFAUnsupportedError):
        child.ensure_valid_for(40 * MINUTE)


@pytest.mark.parametrize("use", [AssumedRoleSession.ensure_valid_for, AssumedRoleSession.export_credentials])
@pytest.mark.parametrize(
    ("duration", "error"),
    [("60", TypeError), (True, TypeError), (0, ValueError), (-1, ValueError), (float("nan"), ValueError)],
)
def test_durations_that_are_none(sts, parent, use, duration, error):
    """A duration that is not a positive number or timedelta is refused at once, with its value."""
    with pytest.raises(error, match=f"duration is {duration!r}"):
        use(assume_role(parent, HUB), duration)
    assert not sts.requests


def test_a_clock_that_goes_back_does_not_call_sts_forever(sts, parent, clock):
    """If the clock is set back during each attempt, two attempts are made, and then an error is raised."""
    parent.events.register("after-call.sts.AssumeRole", lambda **_: clock.shift(-1000))
    with pytest.raises(ValueError, match="cannot be valid for 3650 seconds"):
        assume_role(parent, HUB).ensure_valid_for(3650)
    assert len(sts.assumed) == 2
