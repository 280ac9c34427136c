"""Credentials are refreshed when due, role by role, without the session's user noticing."""

from __future__ import annotations

import io
import logging
import random
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials, ReadOnlyCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError, RefreshWithMFAUnsupportedError
from conftest import HANG, HUB, SPOKE, at_once, key, later, while_sts_waits
from sts_stub import Fault, StsStub, _Handler

from aws_assume_role_lib import AssumedRoleSession, _credentials, assume_role

LEAF = "arn:aws:iam::333333333333:role/Leaf"
HOUR, MINUTE = 3600, 60


@pytest.fixture
def s3(sts, moto_url, monkeypatch):
    """moto's S3, with a bucket named `bucket`; STS is the stub."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_url)
    client = boto3.client("s3", "us-east-1", aws_access_key_id="AKIAROOT", aws_secret_access_key="s")
    client.create_bucket(Bucket="bucket")
    return moto_url


def watch_keys(client: Any, sts: StsStub) -> list[str]:
    """Return a list that collects the keys that sign the client's requests, none of which may have expired."""
    keys: list[str] = []

    def note(request: Any, **_: Any) -> None:
        authorization = request.headers["Authorization"]
        text = authorization.decode() if isinstance(authorization, bytes) else authorization
        keys.append(text.partition("Credential=")[2].partition("/")[0])
        assert sts.issued[keys[-1]].expires > datetime.now().timestamp()

    client.meta.events.register("before-send.s3", note)
    return keys


def test_expirations_that_a_parser_leaves_as_text(sts, parent):
    """Expirations are understood even if botocore is configured to leave timestamps unparsed."""
    parent._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    credentials = assume_role(parent, HUB).get_credentials()
    assert sts.issued[credentials.get_frozen_credentials().access_key].expires == credentials.expires_at


@pytest.mark.parametrize(
    ("asked", "granted", "due_after"),
    [
        (None, None, 2700),
        (900, None, 675),
        (43200, None, 42300),
        (3600, 1200, 900),
        (None, 43, 32.25),
    ],
)
def test_window(sts, parent, clock, asked, granted, due_after):
    """A refresh is due when less than 15 minutes, or a quarter of the lifetime that STS granted, remain; not before."""
    sts.lifetime = granted
    child = assume_role(parent, HUB, DurationSeconds=asked)
    first = key(child)
    clock.shift(due_after - 0.25)
    assert key(child) == first
    clock.shift(0.5)
    assert key(child) != first
    assert len(sts.assumed) == 2


def test_a_chain_of_three_hops_survives_a_day(sts, parent, clock):
    """A chain of three makes one AssumeRole per role and refresh, each signed by the role before, in order."""
    client = assume_role(parent, HUB).assume_role(SPOKE).assume_role(LEAF).client("sts")
    for _ in range(24 * 6):
        client.get_caller_identity()
        clock.shift(600)
    roles = [request.params["RoleArn"] for request in sts.assumed]
    assert roles == [HUB, SPOKE, LEAF] * 29
    issued = list(sts.issued)
    for number in range(0, len(roles), 3):
        signers = [request.access_key for request in sts.assumed[number : number + 3]]
        assert signers == ["AKIAROOT", issued[number], issued[number + 1]]
    assert sts.violations == []


@pytest.mark.parametrize(("threads", "cache"), [(8, None), (1, {})])
def test_a_chain_of_many_hops(sts, parent, clock, threads, cache):
    """A chain of 25 roles is assumed role by role: cold, early and after expiry; one with a cache, too."""
    chain = [parent]
    for number in range(25):
        chain.append(assume_role(chain[-1], f"{HUB}-{number}", cache=cache))
    for number, seconds in enumerate([0, 50 * 60, 2 * HOUR], start=1):
        clock.shift(seconds)
        # Finding the entries takes long, so a chain with a cache is used by one thread.
        keys = at_once(lambda _: key(chain[-1]), threads)
        assert keys[-1] == key(chain[-1])
        assert len(sts.assumed) == 25 * number
    signers = [request.access_key for request in sts.assumed[-25:]]
    assert signers == ["AKIAROOT", *list(sts.issued)[-25:-1]]
    assert sts.violations == []


def test_two_children_of_an_expired_parent(sts, parent, clock):
    """Two children that refresh at the same time through an expired parent cost one AssumeRole of the parent."""
    hub = assume_role(parent, HUB)
    children = [hub.assume_role(SPOKE), hub.assume_role(LEAF)]
    for child in children:
        key(child)
    clock.shift(2 * HOUR)
    sts.requests.clear()
    while_sts_waits(sts, lambda index: key(children[index]), 2)
    roles = [request.params["RoleArn"] for request in sts.assumed]
    assert (roles[0], sorted(roles[1:])) == (HUB, [SPOKE, LEAF])
    assert sts.violations == []


def test_credentials_are_botocores(sts, parent):
    """get_credentials() is a DeferredRefreshableCredentials fed by an AssumeRoleCredentialFetcher."""
    credentials: Any = assume_role(parent, SPOKE).get_credentials()
    assert isinstance(credentials, DeferredRefreshableCredentials)
    assert isinstance(credentials._refresh_using.__self__, AssumeRoleCredentialFetcher)
    assert credentials.method == "assume-role"
    assert sts.requests == []
    if "account_id" in ReadOnlyCredentials._fields:
        assert credentials.account_id == credentials.get_frozen_credentials().account_id == "222222222222"


def test_what_is_made_once_works_forever(sts, s3, parent, clock):
    """A client, a resource and a paginator work through refreshes and days without use, each page with valid keys."""
    child = assume_role(parent, HUB)
    client, bucket = child.client("s3"), child.resource("s3").Bucket("bucket")
    keys, resources_keys = watch_keys(client, sts), watch_keys(bucket.meta.client, sts)
    for number, seconds in enumerate((0, 2800, HOUR, 7 * 24 * HOUR)):
        clock.shift(seconds)
        client.put_object(Bucket="bucket", Key=f"key/{number}", Body=b"")
    found = []
    paginator = client.get_paginator("list_objects_v2")
    for page in paginator.paginate(Bucket="bucket", Prefix="key/", PaginationConfig={"PageSize": 1}):
        found += [item["Key"] for item in page["Contents"]]
        clock.shift(2 * HOUR)
    assert found == [item.key for item in bucket.objects.filter(Prefix="key/")] == [f"key/{n}" for n in range(4)]
    assert [*dict.fromkeys(keys), *resources_keys] == list(sts.issued)
    assert len(sts.assumed) == 8


def test_a_multipart_upload_works_through_a_refresh(sts, s3, parent, clock):
    """A multipart upload that outlives its first credentials arrives whole."""
    client = assume_role(parent, HUB).client("s3")
    keys = watch_keys(client, sts)
    content = io.BytesIO(bytes(3 * 5 * 2**20))
    client.meta.events.register("after-call.s3.CreateMultipartUpload", lambda **_: clock.shift(2 * HOUR))
    client.meta.events.register("before-call.s3.UploadPart", lambda **_: clock.shift(40 * 60))
    client.upload_fileobj(content, "bucket", "large", Config=TransferConfig(2**20, 1, 5 * 2**20))
    assert client.head_object(Bucket="bucket", Key="large")["ContentLength"] == 15 * 2**20
    assert len(set(keys)) >= 3


def test_a_url_presigned_in_the_refresh_window_outlives_it(sts, parent, clock):
    """A URL presigned just before the window is valid for 15 minutes, like its key, and one just after for an hour."""
    client = assume_role(parent, HUB).client("sts")
    urls = []
    for seconds in (0, 45 * 60 - 2, 4):
        clock.shift(seconds)
        urls.append(client.generate_presigned_url("get_caller_identity", ExpiresIn=HOUR))
    assert len(sts.assumed) == 2
    clock.shift(14 * 60)
    for url in urls[1:]:
        assert b"assumed-role/Hub" in urllib.request.urlopen(url, timeout=10).read()
    clock.shift(44 * 60)
    assert urllib.request.urlopen(urls[2], timeout=10).status == 200
    assert sts.violations == []


def test_a_clock_set_back_and_forth(sts, parent, clock):
    """A clock that jumps ahead and back causes at most one extra AssumeRole, and leaves nothing behind."""
    child = assume_role(parent, HUB)
    first = key(child)
    clock.shift(-2 * HOUR)
    assert key(child) == first
    clock.shift(2 * HOUR)
    sts.fault = Fault.expiration(datetime.now(timezone.utc).isoformat())
    clock.shift(24 * HOUR)
    with pytest.raises(CredentialRetrievalError):
        key(child)
    clock.shift(-24 * HOUR)
    assert key(child) == first
    sts.fault = None
    clock.shift(HOUR)
    assert key(child) != first
    assert sts.violations == []


def test_keyboard_interrupt_during_an_early_refresh(sts, parent, clock):
    """A KeyboardInterrupt in the middle of an early refresh reaches the caller, and the next use refreshes."""
    parent.events.register("before-send.sts.AssumeRole", Mock(side_effect=[None, KeyboardInterrupt, None]))
    child = assume_role(parent, HUB)
    first = key(child)
    clock.shift(50 * 60)
    with pytest.raises(KeyboardInterrupt):
        key(child)
    assert later(lambda: key(child)).result(HANG) != first


@pytest.mark.parametrize("seconds", [0, 50 * 60, HOUR])
def test_a_handler_that_uses_the_session_during_its_refresh(sts, parent, clock, seconds):
    """A handler that uses the session being refreshed signs with its valid keys; without keys, it gets an error."""
    enabled = threading.Event()

    def use(**_: Any) -> None:
        if enabled.is_set():
            child.client("sts").get_caller_identity()

    parent.events.register("before-call.sts.AssumeRole", use)
    child = assume_role(parent, HUB)
    first = key(child) if seconds else None
    clock.shift(seconds)
    enabled.set()
    if seconds == 50 * 60:
        assert key(child) != first
        assert [request.access_key for request in sts.requests] == ["AKIAROOT", first, "AKIAROOT"]
    else:
        with pytest.raises(CredentialRetrievalError, match=f"{HUB} were requested by a handler or callable running"):
            key(child)
    enabled.clear()
    assert key(child) not in (None, first)


def test_refresh_needed_says_when_the_session_asks_sts(sts, parent, clock):
    """refresh_needed() is true if the next use refreshes and, with a time, if less than that remains."""
    credentials = assume_role(parent, HUB).get_credentials()
    assert credentials.refresh_needed()
    credentials.get_frozen_credentials()
    assert not credentials.refresh_needed()
    assert not credentials.refresh_needed(3599)
    assert credentials.refresh_needed(3600)
    clock.shift(2699)
    assert not credentials.refresh_needed()
    clock.shift(1)
    assert credentials.refresh_needed()
    assert not credentials.refresh_needed(0)


@pytest.mark.parametrize(
    ("behind", "headers", "corrected"),
    [
        (600, None, 600),
        (900, None, 900),
        (901, None, 0),
        (600, {}, 0),
        (600, {"date": "soon"}, 0),
        (600, {"date": "Thu, 01 May 2031 12:10:00 -0000"}, 0),
    ],
)
def test_a_clock_that_is_behind_does_not_make_keys_last(sts, parent, clock, behind, headers, corrected):
    """The expiry is relative to the time in STS's response, unless that is no time, or more than 15 minutes off."""
    if headers is not None:
        parent.events.register(
            "after-call.sts.AssumeRole", lambda parsed, **_: parsed["ResponseMetadata"].update(HTTPHeaders=headers)
        )
    sts.clock_offset = behind
    credentials = assume_role(parent, HUB).get_credentials()
    credentials.get_frozen_credentials()
    assert credentials._expiry_time.timestamp() == sts.issued["ASIA0000000000000001"].expires - corrected


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows takes no time zone from the environment")
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_date_that_is_wrong_by_hours_is_ignored(sts, parent, monkeypatch, request, zone):
    """An STS that sends local time as GMT, as moto before 5.1.9 does, grants valid keys on both sides of Greenwich."""
    request.addfinalizer(time.tzset)
    with monkeypatch.context() as patched:
        patched.setattr(_Handler, "date_time_string", lambda _: time.strftime("%a, %d %b %Y %H:%M:%S GMT"))
        patched.setenv("TZ", zone)
        time.tzset()
        credentials = assume_role(parent, HUB).get_credentials()
        [access_key] = {credentials.get_frozen_credentials().access_key for _ in range(2)}
    assert credentials.expires_at == sts.issued[access_key].expires


@pytest.mark.parametrize(("lifetime", "window"), [(3600, 900), (1200, 300)])
def test_a_fleet_does_not_refresh_at_one_moment(sts, parent, clock, monkeypatch, lifetime, window):
    """Each early refresh is due at a random moment in the first third of the window."""
    monkeypatch.setattr(_credentials, "_random", random.SystemRandom())
    sts.lifetime = lifetime
    credentials = assume_role(parent, HUB).get_credentials()
    due = []
    for _ in range(60):
        credentials.get_frozen_credentials()
        due.append((credentials.expires_at - credentials.refresh_at) / window)
        clock.shift(lifetime)
    assert 2 / 3 <= min(due) < 0.75
    assert 0.9 < max(due) <= 1
    assert len(set(due)) > 55


def test_a_slow_log_handler_at_the_end(sts, parent, clock, monkeypatch):
    """If a handler of the record about a failed early refresh runs until the keys expire, none is signed with them."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Early refresh failed" in record.getMessage():
                sts.fault = None
                clock.shift(20)

    child = assume_role(parent, HUB)
    first = key(child)
    clock.shift(HOUR - 10)
    sts.fault = Fault.error(403, "AccessDenied")
    monkeypatch.setattr(logging.getLogger("aws_assume_role_lib"), "handlers", [Slow()])
    assert key(child) != first
    assert sts.violations == []


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
    assert left(child.export_credentials().expiry) == left(child.export_credentials(1).expiry) == 30 * MINUTE
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
    [("60", TypeError), (True, TypeError), *((value, ValueError) for value in (0, -1, float("nan"), float("inf")))],
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
