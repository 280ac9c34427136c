"""STS may be unreachable, hung or replaced by something else; while the credentials are valid, nobody notices."""

from __future__ import annotations

import functools
import socket
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import CredentialResolver, Credentials, RefreshableCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError, ReadTimeoutError
from conftest import HANG, HUB, SPOKE, at_once, key, later
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _role, assume_role
from aws_assume_role_lib._family import Family

MINUTE = 60
DEVICE = "arn:aws:iam::111111111111:mfa/me"
# A session with these does not wait long for an STS that hangs.
SHORT = {"config": Config(connect_timeout=0.25, read_timeout=0.25, retries={"total_max_attempts": 1})}

FAULTS = {
    "503": Fault.error(503, "ServiceUnavailable"),
    "denied": Fault.error(403, "AccessDenied", "Not authorized"),
    "hang": Fault(hangs=True),
    "captive portal": Fault.html(),
    "odd expiration": Fault.expiration("soon"),
    "down": None,
}


def break_sts(sts: StsStub, name: str) -> None:
    sts.fault = FAULTS[name]
    if name == "down":
        sts.down()


def mend_sts(sts: StsStub) -> None:
    sts.fault = None
    sts.up()


def root_that_renews(renew: Callable[[], dict[str, str]], minutes: float = 60) -> boto3.Session:
    """A session whose keys are valid for that long, and are refreshed by botocore."""
    root = boto3.Session(region_name="us-east-1")
    expiry = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    root._session._credentials = RefreshableCredentials("AKIAROOT", "root-secret", None, expiry, renew, "sso")
    return root


def configs_used(parent: boto3.Session) -> list[Any]:
    """Return a list that collects the configs with which AssumeRole is called."""
    configs: list[Any] = []
    parent.events.register("before-call.sts.AssumeRole", lambda context, **_: configs.append(context["client_config"]))
    return configs


def limits(config: Any) -> tuple[float, float, int | None]:
    return config.connect_timeout, config.read_timeout, (config.retries or {}).get("total_max_attempts")


@pytest.mark.parametrize("name", ["503", "captive portal", "down"])
def test_an_outage_of_17_minutes(sts, one_attempt, parent, clock, name):
    """In an outage from minute 41 to 58, with a call every 15 seconds, no call fails; STS is tried once a minute."""
    start = time.time()
    with StsStub() as s3:
        s3.issued = sts.issued
        client = assume_role(parent, HUB).client("s3", endpoint_url=s3.url)
        client.list_buckets()
        clock.shift(40 * MINUTE)
        attempts = 0
        while (elapsed := time.time() - start) < 62 * MINUTE:
            if elapsed == 41 * MINUTE:
                break_sts(sts, name)
            if elapsed == 58 * MINUTE:
                attempts = len(sts.assumed) - 1
                mend_sts(sts)
            client.list_buckets()
            clock.shift(15)
        assert attempts == (0 if name == "down" else 13)
        assert [request.at - start for request in sts.assumed[1 + attempts :]] == [58 * MINUTE]
        assert sts.violations == s3.violations == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("denied", ClientError),
        ("hang", ReadTimeoutError),
        ("odd expiration", CredentialRetrievalError),
        ("down", EndpointConnectionError),
    ],
)
def test_good_credentials_are_used_to_their_end(sts, parent, clock, name, error):
    """Credentials work until they expire; then each use tries STS once more and raises its error, until it recovers."""
    child = assume_role(parent, HUB, sts_client_kwargs=SHORT)
    first = key(child)
    break_sts(sts, name)
    for seconds in (46 * MINUTE, 13 * MINUTE + 30, 29):
        clock.shift(seconds)
        assert key(child) == first
    clock.shift(1)
    for _ in range(2):
        tried = len(sts.assumed)
        with pytest.raises(error):
            key(child)
        assert len(sts.assumed) == tried + (name != "down")
    mend_sts(sts)
    assert key(child) != first


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(instead=(503, "<!DOCTYPE html><title>503</title><hr>")), r"\w+Error"),
        (Fault.body("<AssumeRoleResponse/>"), r"\w+Error"),
        (Fault.body("<a><b/></a>"), r"\w+Error"),
        (Fault.body('{"ok": true}'), r"\w+Error"),
        (Fault(element="AccessKeyId", text="<AccessKeyId/>"), "no AccessKeyId"),
        (Fault.expiration(""), r"\w+Error"),
        (Fault.expiration("1e20"), r"\w+Error"),
        (Fault.expiration("9999-12-31T23:59:59-14:00"), "no valid Expiration"),
        # No header can hold these.
        (Fault(element="SessionToken", text="<SessionToken>token-1\ntoken-1</SessionToken>"), "no SessionToken"),
        (Fault(element="SessionToken", text="<SessionToken>\n  token-1\n</SessionToken>"), "no SessionToken"),
        (Fault(element="SessionToken", text="<SessionToken>t\u00f6ken-1</SessionToken>"), "no SessionToken"),
    ],
)
def test_an_answer_that_is_not_stss(sts, parent, fault, reason):
    """Anything but an AssumeRole response raises a CredentialRetrievalError that says so and quotes no key."""
    sts.fault = fault
    with pytest.raises(
        CredentialRetrievalError, match=rf"{sts.url} is not an AssumeRole response \({reason}"
    ) as caught:
        key(assume_role(parent, HUB))
    assert "Check for a proxy or an endpoint URL" in str(caught.value)
    told = "".join(traceback.format_exception(None, caught.value, None))
    assert "secret-" not in told
    assert "ken-1" not in told


@pytest.mark.parametrize(
    "remove",
    [lambda parsed, **_: parsed.pop("AssumedRoleUser"), lambda parsed, **_: parsed.update(AssumedRoleUser=None)],
)
def test_the_rest_of_the_answer_is_not_needed(sts, parent, remove):
    """Without AssumedRoleUser, which some stores do not send and a handler may remove, only the account ID is lost."""
    parent.events.register("after-call.sts.AssumeRole", remove)
    exported = assume_role(parent, HUB).export_credentials()
    assert (exported.access_key, exported.account_id) == (*sts.issued, None)


def test_the_warning_names_the_profile(sts, clock, tmp_path, caplog):
    """The warning names a parent that has a profile by its profile."""
    (tmp_path / "credentials").write_text("[dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n")
    session = assume_role(boto3.Session(profile_name="dev", region_name="us-east-1"), HUB)
    key(session)
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(403, "AccessDenied")
    key(session)
    assert f"while assuming {HUB} from profile 'dev'" in caplog.text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (5, 10, None)),
        ({"environment": {"AWS_MAX_ATTEMPTS": "8", "AWS_RETRY_MODE": "standard"}}, (5, 10, 8)),
        ({"profile": "max_attempts = 9\nretry_mode = standard"}, (5, 10, 9)),
        ({"default": Config(read_timeout=33)}, (5, 33, None)),
        ({"default": Config(connect_timeout=11, retries={"max_attempts": 6})}, (11, 10, 7)),
        ({"default": Config(retries={"mode": "adaptive"})}, (5, 10, None)),
        ({"environment": {"AWS_MAX_ATTEMPTS": "8"}, "own": Config(retries={"total_max_attempts": 2})}, (5, 10, 2)),
        ({"default": Config(read_timeout=33, connect_timeout=22), "own": Config(read_timeout=44)}, (22, 44, None)),
    ],
)
def test_an_attempt_that_must_succeed_is_as_patient_as_boto3(sts, monkeypatch, tmp_path, settings, expected):
    """Without valid credentials, botocore makes as many attempts as for any client; the user's own limits apply."""
    (tmp_path / "config").write_text(f"[default]\n{settings.get('profile', '')}\n")
    for name, value in settings.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    parent, own = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1"), settings.get("own")
    parent._session.set_default_client_config(settings.get("default"))
    configs = configs_used(parent)
    key(assume_role(parent, HUB, sts_client_kwargs={"config": own}))
    assert limits(configs[0]) == expected
    assert configs[0].retries == parent.client("sts", config=own).meta.config.retries


def test_an_early_attempt_is_short(sts, parent, clock):
    """While the credentials are valid for long enough, a request waits at most 4 seconds, with one attempt."""
    parent._session.set_default_client_config(Config(retries={"mode": "standard", "max_attempts": 7}))
    configs = configs_used(parent)
    child = assume_role(parent, HUB)
    for seconds in (0, 46 * MINUTE, 60 * MINUTE - 5):
        clock.shift(seconds)
        key(child)
    assert [limits(config) for config in configs] == [(5, 10, 8), (2, 4, 1), (5, 10, 8)]
    assert {config.retries["mode"] for config in configs} == {"standard"}


def chain(parent: boto3.Session, region: str | None = None) -> list[boto3.Session]:
    sessions = [parent]
    for role in (HUB, SPOKE, HUB):
        sessions.append(assume_role(sessions[-1], role, sts_client_kwargs=SHORT, region_name=region))
    return sessions[1:]


def siblings(parent: boto3.Session) -> list[boto3.Session]:
    return [assume_role(parent, HUB, sts_client_kwargs=SHORT) for _ in range(8)]


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        (chain, "hang"),
        (functools.partial(chain, region="eu-west-1"), "hang"),
        (siblings, "hang"),
        (siblings, "down"),
        (chain, "swallows connections"),
    ],
)
def test_an_sts_that_does_not_respond_delays_a_family_once_a_minute(sts, clock, parent, request, family, fault):
    """If roles of one family are due together while STS does not respond, one tries it, and all keep their keys."""
    roles, tried = family(parent), []
    for session in (parent, *roles):
        session.events.register("before-send.sts.AssumeRole", lambda **_: tried.append(True))
    before = [key(role) for role in roles]
    clock.shift(46 * MINUTE)
    break_sts(sts, "hang" if fault == "hang" else "down")
    if fault == "swallows connections":
        sts.server.socket.listen(0)
        for _ in range(8):  # more than fit in the queue: the rest get no response
            client = socket.socket()
            request.addfinalizer(client.close)
            client.setblocking(False)
            client.connect_ex(sts.server.socket.getsockname())
    tried.clear()
    for attempts in (1, 2):
        for seconds in (0, 30, 29.5):
            clock.shift(seconds)
            assert [key(role) for role in reversed(roles)] == before[::-1]
            assert len(tried) == attempts
        clock.shift(0.5)
    mend_sts(sts)
    assert not {key(role) for role in roles} & {*before}
    assert sts.violations == []


def test_siblings_in_threads_try_an_sts_that_hangs_once_a_minute(sts, clock, parent):
    """While STS hangs, one of the threads whose roles are due tries it each minute, and the others do not wait."""
    roles = siblings(parent)
    before = [key(role) for role in roles]

    def use(index: int) -> str:
        clock.shift(0.001)  # each thread has a time of its own
        return key(roles[index])

    clock.shift(46 * MINUTE)
    sts.fault = Fault(hangs=True)
    assert key(roles[0]) == before[0]
    for attempts in (2, 3):
        clock.shift(61)
        assert at_once(use, 8) == before
        assert len(sts.assumed) == 8 + attempts


def test_a_chain_whose_first_hop_is_refused_goes_on(sts, one_attempt, clock, parent):
    """A role that STS refuses to renew keeps assuming the next role, with its current keys, until they expire."""
    hub = assume_role(parent, HUB)
    spoke = assume_role(hub, SPOKE)
    before = key(spoke)
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(403, "AccessDenied", times=1)
    assert key(spoke) != before
    assert [request.access_key for request in sts.assumed[2:]] == ["AKIAROOT", key(hub)]


def test_a_refusal_shows_that_sts_responds(sts, one_attempt, parent, clock):
    """After STS did not respond to one role and has refused another, a third role's early refresh is not skipped."""
    first, third = assume_role(parent, HUB), assume_role(parent, SPOKE)
    before = key(first), key(third)
    clock.shift(56 * MINUTE)
    sts.down()
    assert key(first) == before[0]
    sts.up()
    sts.fault = FAULTS["denied"]
    with pytest.raises(ClientError):
        key(assume_role(parent, f"{HUB}-second"))
    sts.fault = None
    assert key(third) != before[1]


def test_an_outage_counts_from_the_moment_of_the_failure(clock):
    """An endpoint has been unreachable since a moment before it did not respond, and not since a later one."""
    family, start = Family(), time.time()
    clock.shift(2)
    family.mark_unreachable("endpoint")
    clock.shift(2)
    assert family.was_unreachable_since(start)
    assert not family.was_unreachable_since(time.time())


def test_a_failure_of_the_users_own_is_not_blamed_on_sts(sts, clock, parent):
    """A TokenCode callable whose own request times out does not stop other roles from being refreshed."""

    def code() -> str:
        if len(sts.assumed) > 1:
            raise ReadTimeoutError(endpoint_url="https://secretsmanager.example.com")
        return "123456"

    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    sibling = assume_role(parent, SPOKE)
    before = [key(child), key(sibling)]
    clock.shift(46 * MINUTE)
    assert key(child) == before[0]
    assert key(sibling) != before[1]


def test_credentials_of_a_class_of_somebodys_own(sts, one_attempt, clock):
    """Parent credentials that do not say where they come from work just as well while STS is unreachable."""

    class Own(Credentials):
        def __init__(self) -> None:
            self.access_key, self.secret_key, self.token, self.account_id = "AKIAOWN", "root-secret", None, None

    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = Own()
    sts.down()
    with pytest.raises(EndpointConnectionError) as caught:
        key(assume_role(parent, HUB))
    assert caught.value.__notes__[-1] == f"Raised while assuming {HUB} from a session with other credentials."


@pytest.mark.parametrize(
    "error",
    [
        TypeError("mine"),
        KeyError("mine"),
        RuntimeError("mine"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "mine"),
        ClientError({"Error": {"Code": "ExpiredToken", "Message": "The vault's."}}, "GetSecretValue"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_handler_is_not_blamed_on_sts(sts, parent, error):
    """What a handler raises on the way to STS is raised as it is, whatever its class, and no note explains it."""

    def complain(**_: Any) -> None:
        raise error

    parent.events.register("before-call.sts.AssumeRole", complain)
    with pytest.raises(type(error)) as caught:
        key(assume_role(parent, HUB))
    assert caught.value is error
    assert error.__notes__ == [f"Raised while assuming {HUB} from a session with explicit credentials."]


def test_the_warning_asks_the_parent_for_nothing(sts, parent, clock, caplog):
    """A parent that has lost its credentials fails no request while the role's are valid, and the warning names it."""
    child = assume_role(parent, HUB)
    before = key(child)
    parent._session._credentials = None
    parent._session.register_component("credential_provider", CredentialResolver([]))
    clock.shift(46 * MINUTE)
    assert key(child) == before
    assert f"while assuming {HUB} from a session with explicit credentials: NoCredentialsError." in caplog.text


@pytest.mark.parametrize("freezes", [1, 2])
def test_a_freeze_between_the_answer_and_its_use(sts, parent, clock, freezes):
    """If new keys expire while the machine is frozen, they are fetched once more, and only once."""

    def freeze(**_: Any) -> None:
        if len(sts.assumed) <= freezes:
            clock.shift(3600 if len(sts.assumed) == freezes else 3601)

    parent.events.register("after-call.sts.AssumeRole", freeze)
    child = assume_role(parent, HUB)
    if freezes == 2:
        with pytest.raises(CredentialRetrievalError, match=r"expired when they arrived.*clock"):
            key(child)
        assert len(sts.assumed) == 2
    assert key(child) == list(sts.issued)[freezes]


def test_a_clock_that_was_ahead_during_an_outage(sts, clock, one_attempt, parent):
    """An outage recorded in the future, before the clock was corrected, does not prevent a refresh."""
    first, second = (assume_role(parent, HUB) for _ in range(2))
    before = key(second)
    clock.shift(50 * MINUTE)
    sts.down()
    with pytest.raises(EndpointConnectionError):
        key(first)
    sts.up()
    clock.shift(-30)
    assert key(second) != before


@pytest.mark.parametrize(
    ("error", "attempts"), [(ReadTimeoutError(endpoint_url="https://portal.example"), 1), (PermissionError(), 2)]
)
def test_an_unreachable_source_is_tried_once(sts, clock, error, attempts):
    """If what refreshes a parent's expired keys does not respond, one of its roles tries it; if it refuses, each."""
    tried = []

    def renew() -> dict[str, str]:
        tried.append(True)
        raise error

    parent = root_that_renews(renew, minutes=30)
    roles = [assume_role(parent, HUB), assume_role(parent, HUB, sts_client_kwargs={"use_ssl": False})]
    before = [key(role) for role in roles]
    clock.shift(46 * MINUTE)
    assert [key(role) for role in roles] == before
    assert len(tried) == attempts


def refused_after_a_while() -> dict[str, str]:
    threading.Event().wait(0.15)  # the latency of a stub
    raise RuntimeError("refused")


def renewed() -> dict[str, str]:
    expiry = datetime.now(timezone.utc) + timedelta(hours=1)
    return {"access_key": "AKIAROOT", "secret_key": "root-secret", "token": "t", "expiry_time": expiry.isoformat()}


@pytest.mark.parametrize(("renew", "slow"), [(refused_after_a_while, 0.9), (renewed, 0)])
def test_a_root_that_responds_is_no_outage(sts, clock, monkeypatch, renew, slow):
    """A root whose refresh is refused while its keys are valid, or takes long, does not stop its roles' refreshes."""
    monkeypatch.setattr(_role, "SLOW", slow)
    child = assume_role(root_that_renews(renew), HUB, DurationSeconds=3000)
    before = key(child)
    clock.shift(46 * MINUTE)
    assert key(child) != before


def test_a_root_that_takes_until_the_keys_expire(sts, clock, monkeypatch):
    """If the keys expire while the root is being refreshed, the attempt is made all the same, and is a patient one."""

    def slow() -> dict[str, str]:
        clock.shift(20)
        raise RuntimeError("refused")

    monkeypatch.setattr(_role, "SLOW", 0)
    child = assume_role(root_that_renews(slow, minutes=73), HUB)
    before = key(child)
    clock.shift(60 * MINUTE - 10)
    assert key(child) != before


def test_outages_of_many_endpoints_do_not_pile_up(sts, one_attempt, parent):
    """A parent whose roles use many different STS options remembers only the latest outages."""
    sts.down()
    for number in range(20):
        options = {"config": Config(user_agent_extra=f"tenant/{number}")}
        with pytest.raises(EndpointConnectionError):
            key(assume_role(parent, HUB, sts_client_kwargs=options))
    remembered = list(vars(parent._session)["_aws_assume_role_lib"].retry_at)
    assert len(remembered) == 16
    assert "tenant/19" in str(remembered[-1])


def test_a_new_process_during_an_outage(sts, one_attempt, clock, parent, caplog):
    """While STS is down, a new session uses an entry of its cache that is due but valid, and tries once a minute."""
    cache: dict[str, Any] = {}
    before = key(assume_role(parent, HUB, cache=cache))
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    configs = configs_used(parent)
    child = assume_role(parent, HUB, cache=cache)
    for _ in range(3):
        assert key(child) == before
    assert len(sts.assumed) == 2
    assert [limits(config) for config in configs] == [(2, 4, 1)]
    assert [record.message for record in caplog.records if "Early refresh failed" in record.message]
    clock.shift(15 * MINUTE)
    with pytest.raises(ClientError):
        key(child)


def test_a_session_without_keys_joins_no_early_attempt(sts, clock, parent):
    """A session that needs keys makes a patient attempt, although another one makes an early one for the same entry."""
    cache: dict[str, Any] = {}
    first, second = (assume_role(parent, HUB, cache=cache) for _ in range(2))
    before = key(first)
    cache.clear()
    clock.shift(46 * MINUTE)
    sts.gate.clear()
    early = later(lambda: key(first))
    assert sts.arrived.acquire(timeout=HANG)
    assert sts.arrived.acquire(timeout=HANG)
    cold = later(lambda: key(second))
    assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert len({before, early.result(HANG), cold.result(HANG)}) == 3
