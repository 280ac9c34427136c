"""STS may be unreachable, hung or replaced by something else; while the credentials are valid, nobody notices."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.config import Config
from botocore.credentials import CredentialResolver, Credentials, RefreshableCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from conftest import HANG, HUB, SPOKE, at_once, key, later
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

MINUTE = 60


@pytest.fixture
def s3(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[StsStub]:
    """An S3 that stays up when STS goes down, and knows the keys that STS issued."""
    with StsStub() as stub:
        stub.issued = sts.issued
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.url)
        yield stub


def no_name_is_known(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# Responses that STS's own errors look like, and botocore's connection errors.
AWAY: dict[str, tuple[Fault | None, type[Exception]]] = {
    "500": (Fault.error(500, "InternalFailure"), ClientError),
    "503": (Fault.error(503, "ServiceUnavailable"), ClientError),
    "503-html": (Fault(instead=(503, "<html>503</html>")), ClientError),
    "throttling": (Fault.error(400, "Throttling", "Rate exceeded"), ClientError),
    "denied": (Fault.error(403, "AccessDenied", "Not authorized"), ClientError),
    "reset": (Fault.reset(), Exception),
    "hang": (Fault.hang(), ReadTimeoutError),
    "slow": (Fault.slow_body(30), ReadTimeoutError),
    "down": (None, EndpointConnectionError),
    "dns": (None, EndpointConnectionError),
}
NOT_STS: dict[str, Fault] = {
    "captive-portal": Fault.html(),
    "proxy-error": Fault(instead=(503, "<!DOCTYPE html><title>503</title><hr>")),
    "empty": Fault.empty(),
    "empty-result": Fault.empty_result(),
    "empty-response": Fault.body("<AssumeRoleResponse/>"),
    "other-xml": Fault.body("<a><b/></a>"),
    "json": Fault.body('{"ok": true}'),
    "truncated": Fault.truncated(),
    "no-key": Fault.without("AccessKeyId"),
    "no-secret": Fault.without("SecretAccessKey"),
    "no-token": Fault.without("SessionToken"),
    "no-expiration": Fault.expiration(None),
    "no-credentials": Fault.without("Credentials"),
    "empty-key": Fault(element="AccessKeyId", text="<AccessKeyId/>"),
    "empty-expiration": Fault.expiration(""),
    "odd-expiration": Fault.expiration("soon"),
    "endless-expiration": Fault.expiration("1e20"),
    "expiration-after-all-years": Fault.expiration("9999-12-31T23:59:59-14:00"),
}


def break_sts(sts: StsStub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "down":
        sts.down()
    elif name == "dns":
        sts.down()
        monkeypatch.setattr(socket, "getaddrinfo", no_name_is_known)
    else:
        sts.fault = AWAY[name][0] if name in AWAY else NOT_STS[name]


def mend_sts(sts: StsStub, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "dns":
        monkeypatch.undo()
        sts.up()
    elif name == "down":
        sts.up()
    else:
        sts.fault = None


def role_behind(parent: boto3.Session, name: str) -> Any:
    """A session that waits for its STS no longer than the test needs."""
    timeout = 0.25 if name in ("hang", "slow") else 10
    options = {"config": Config(read_timeout=timeout, retries={"total_max_attempts": 1})}
    return assume_role(parent, HUB, sts_client_kwargs=options)


@pytest.mark.parametrize("name", ["503", "throttling", "reset", "down", "captive-portal"])
def test_an_outage_of_17_minutes(
    sts: StsStub,
    s3: StsStub,
    parent: boto3.Session,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """In an outage from minute 41 to 58, with a call every 15 seconds, no call fails; STS is tried once a minute."""
    child = role_behind(parent, name)
    client = child.client("s3")
    client.list_buckets()
    start = time.time()
    clock.shift(40 * MINUTE)
    attempts = 0
    with monkeypatch.context() as patched:
        while (elapsed := time.time() - start) < 62 * MINUTE:
            if elapsed == 41 * MINUTE:
                break_sts(sts, name, patched)
            if elapsed == 58 * MINUTE:
                attempts = len(sts.assumed) - 1
                mend_sts(sts, name, patched)
            client.list_buckets()
            clock.shift(15)
    assert attempts == (0 if name == "down" else 13)
    assert [request.at - start for request in sts.assumed[1 + attempts :]] == [58 * MINUTE]
    assert sts.violations == s3.violations == []


@pytest.mark.parametrize("name", ["500", "denied", "hang", "dns", "truncated", "odd-expiration"])
def test_good_credentials_are_used_to_their_end(
    sts: StsStub,
    parent: boto3.Session,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Whatever goes wrong with STS, credentials work until they expire; then the error surfaces until STS recovers."""
    child = role_behind(parent, name)
    first = key(child)
    with monkeypatch.context() as patched:
        break_sts(sts, name, patched)
        for seconds in (46 * MINUTE, 13 * MINUTE + 30, 29):
            clock.shift(seconds)
            assert key(child) == first
        clock.shift(1)
        with pytest.raises(AWAY[name][1] if name in AWAY else CredentialRetrievalError):
            key(child)
        mend_sts(sts, name, patched)
    assert key(child) != first


def test_the_rest_of_the_answer_is_not_needed(sts: StsStub, parent: boto3.Session) -> None:
    """A response with credentials but no AssumedRoleUser, as some S3-compatible stores send, is accepted."""
    sts.fault = Fault.without("AssumedRoleUser")
    assert key(assume_role(parent, HUB)) == "ASIA0000000000000001"


def test_attempts_are_a_minute_apart(
    sts: StsStub, one_attempt: None, parent: boto3.Session, clock: time_machine.Traveller
) -> None:
    """While the credentials are valid, a failing STS is tried at most once a minute, not before the window opens."""
    child = assume_role(parent, HUB)
    key(child)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    for _ in range(3600 - 1):
        clock.shift(1)
        key(child)
    times = [request.at for request in sts.assumed[1:]]
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {60}
    assert len(times) == 15


def test_the_error_of_sts_surfaces_unchanged(sts: StsStub, parent: boto3.Session) -> None:
    """With no credentials left, the error is STS's ClientError, with its class, response and operation."""
    sts.fault = Fault.error(403, "AccessDenied", "User is not authorized")
    with pytest.raises(ClientError) as botocores:
        parent.client("sts").assume_role(RoleArn=HUB, RoleSessionName="me")
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, HUB))
    error, plain = caught.value, botocores.value
    assert type(error) is type(plain) is ClientError
    assert error.response["Error"] == plain.response["Error"]
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert (error.operation_name, str(error)) == ("AssumeRole", str(plain))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
@pytest.mark.parametrize("name", ["denied", "down", "captive-portal"])
def test_the_error_names_the_hop(
    sts: StsStub, one_attempt: None, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The error has a note for each role that it affected, which names the role and the parent that assumes it."""
    hub = assume_role(parent, HUB)
    spoke = assume_role(hub, SPOKE)
    break_sts(sts, name, monkeypatch)
    with pytest.raises((ClientError, EndpointConnectionError, CredentialRetrievalError)) as caught:
        spoke.client("s3").list_buckets()
    first, second = [note for note in caught.value.__notes__ if note.startswith("Raised")]
    assert HUB in first
    assert "from a session with explicit credentials" in first
    assert SPOKE not in first
    assert SPOKE in second
    assert f"from {HUB}" in second


def test_the_warning_names_the_profile(
    sts: StsStub, clock: time_machine.Traveller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names a parent that has a profile by its profile."""
    (tmp_path / "config").write_text("[profile dev]\nregion = us-east-1\n")
    (tmp_path / "credentials").write_text("[dev]\naws_access_key_id = AKIADEV\naws_secret_access_key = s\n")
    session = assume_role(boto3.Session(profile_name="dev"), HUB)
    key(session)
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(403, "AccessDenied")
    key(session)
    assert f"while assuming {HUB} from profile 'dev'" in caplog.text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
def test_the_error_names_only_the_hop_that_failed(sts: StsStub, parent: boto3.Session) -> None:
    """A note names the role that was refused, but not the role before it, which was assumed."""
    hub = assume_role(parent, HUB)
    key(hub)
    sts.fault = Fault.error(403, "AccessDenied")
    with pytest.raises(ClientError) as caught:
        key(assume_role(hub, SPOKE))
    *_, note = caught.value.__notes__
    assert len(caught.value.__notes__) == 2
    assert f"{SPOKE} from {HUB}" in note


@pytest.mark.parametrize("name", AWAY)
def test_the_call_after_a_failed_first_use_tries_again(
    sts: StsStub, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """After a first use that failed, the next use tries again at once, and works once STS does."""
    child = role_behind(parent, name)
    with monkeypatch.context() as patched:
        break_sts(sts, name, patched)
        for attempts in (1, 2):
            with pytest.raises(AWAY[name][1]):
                key(child)
            assert len(sts.assumed) == (0 if name in ("down", "dns") else attempts)
        mend_sts(sts, name, patched)
    assert key(child).startswith("ASIA")


@pytest.mark.parametrize("name", NOT_STS)
def test_an_answer_that_is_not_stss(sts: StsStub, parent: boto3.Session, name: str) -> None:
    """Anything but an AssumeRole response raises a CredentialRetrievalError that says so and quotes no key."""
    child = assume_role(parent, HUB)
    sts.fault = NOT_STS[name]
    with pytest.raises(CredentialRetrievalError, match=f"{sts.url} is not an AssumeRole response") as caught:
        key(child)
    assert "Check for a proxy or an endpoint URL" in str(caught.value)
    assert "secret-" not in "".join(traceback.format_exception(None, caught.value, None))
    sts.fault = None
    assert key(child).startswith("ASIA")


def test_botocore_retries_within_an_attempt(sts: StsStub, parent: boto3.Session) -> None:
    """After a single STS failure, botocore retries within the same attempt, with three requests in all."""
    sts.fault = Fault.error(503, "ServiceUnavailable", times=1)
    key(assume_role(parent, HUB))
    assert len(sts.assumed) == 2


def sts_config(parent: boto3.Session, **parameters: Any) -> Config:
    """Return the config with which AssumeRole is called."""
    configs: list[Config] = []
    parent.events.register("before-call.sts.AssumeRole", lambda context, **_: configs.append(context["client_config"]))
    key(assume_role(parent, HUB, **parameters))
    [config] = configs
    return config


def limits(config: Any) -> tuple[float, float, int | None]:
    return config.connect_timeout, config.read_timeout, (config.retries or {}).get("total_max_attempts")


@pytest.mark.parametrize("mode", [None, "legacy", "standard", "adaptive"])
def test_an_attempt_that_must_succeed_is_as_patient_as_boto3(
    sts: StsStub, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    """Without valid credentials, botocore makes as many attempts as for any client, and waits 10 seconds for each."""
    if mode:
        monkeypatch.setenv("AWS_RETRY_MODE", mode)
    config = sts_config(parent)
    assert limits(config) == (5, 10, None)
    assert config.retries == parent.client("sts").meta.config.retries


def test_an_early_attempt_is_short(sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller) -> None:
    """While the credentials are valid, one request waits at most 4 seconds, with one attempt and in the user's mode."""
    parent._session.set_default_client_config(Config(retries={"mode": "standard", "max_attempts": 7}))
    configs: list[Any] = []
    parent.events.register("before-call.sts.AssumeRole", lambda context, **_: configs.append(context["client_config"]))
    child = assume_role(parent, HUB)
    for _ in range(2):
        key(child)
        clock.shift(46 * MINUTE)
    assert [limits(config) for config in configs] == [(5, 10, 8), (2, 4, 1)]
    assert {config.retries["mode"] for config in configs} == {"standard"}


def test_a_hung_sts_delays_one_request_a_minute(
    sts: StsStub, s3: StsStub, parent: boto3.Session, clock: time_machine.Traveller
) -> None:
    """While STS hangs and the credentials are valid, one request a minute waits for it, and the others do not."""
    client = role_behind(parent, "hang").client("s3")
    client.list_buckets()
    clock.shift(45 * MINUTE + 1)
    sts.fault = Fault.hang()
    waited = []
    for _ in range(5 * 12):
        sent = len(sts.assumed)
        client.list_buckets()
        waited.append(len(sts.assumed) - sent)
        clock.shift(5)
    assert waited == ([1] + [0] * 11) * 5


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize("region", [None, "eu-west-1"])
def test_a_hung_sts_delays_a_chain_once(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session, region: str | None
) -> None:
    """If a chain's roles are due together while their credentials are valid, one waits, and no credentials are lost."""
    short = {"config": Config(read_timeout=0.25)}
    chain = [parent]
    for role in (HUB, SPOKE, HUB):
        chain.append(assume_role(chain[-1], role, sts_client_kwargs=short, region_name=region))
    before = [key(session) for session in chain[1:]]
    clock.shift(46 * MINUTE)
    sts.fault = Fault.hang()
    for _ in range(3):
        asked = len(sts.assumed)
        assert key(chain[-1]) == before[-1]
        assert len(sts.assumed) == asked + 1
        assert [key(session) for session in chain[1:]] == before
        clock.shift(MINUTE)
    sts.fault = None
    assert len({key(chain[-1]), *before}) == 4
    assert sts.violations == []


@pytest.mark.usefixtures("one_attempt")
def test_a_chain_whose_first_hop_is_refused_goes_on(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """A role that STS refuses to renew keeps assuming the next role, with its current keys, until they expire."""
    hub = assume_role(parent, HUB)
    spoke = assume_role(hub, SPOKE)
    before = key(spoke)
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(403, "AccessDenied", times=1)
    assert key(spoke) != before
    assert [request.access_key for request in sts.assumed[2:]] == ["AKIAROOT", key(hub)]


def test_defaults_give_way_to_the_default_client_config(sts: StsStub, parent: boto3.Session) -> None:
    """Options in the parent's default client config take precedence; the others stay as documented."""
    parent._session.set_default_client_config(Config(read_timeout=33))
    assert limits(sts_config(parent)) == (5, 33, None)
    parent._session.set_default_client_config(Config(connect_timeout=11, retries={"max_attempts": 6}))
    assert limits(sts_config(parent)) == (11, 10, 7)
    parent._session.set_default_client_config(Config(retries={"mode": "adaptive"}))
    config: Any = sts_config(parent)
    assert limits(config) == (5, 10, None)
    assert config.retries["mode"] == "adaptive"


def test_defaults_give_way_to_the_environment(
    sts: StsStub, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_MAX_ATTEMPTS and AWS_RETRY_MODE take precedence."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "8")
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    config: Any = sts_config(parent)
    assert config.retries == {"total_max_attempts": 8, "mode": "standard"}


def test_defaults_give_way_to_the_profile(sts: StsStub, tmp_path: Path) -> None:
    """max_attempts and retry_mode of the parent's profile take precedence."""
    (tmp_path / "config").write_text(
        "[profile patient]\nregion = eu-west-1\nmax_attempts = 9\nretry_mode = standard\n"
        "aws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\n"
    )
    config: Any = sts_config(boto3.Session(profile_name="patient"))
    assert config.retries == {"total_max_attempts": 9, "mode": "standard"}


def test_defaults_give_way_to_sts_client_kwargs(
    sts: StsStub, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Config in sts_client_kwargs overrides the environment and the parent's default client config."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "8")
    parent._session.set_default_client_config(Config(read_timeout=33, connect_timeout=22))
    own = Config(read_timeout=44, retries={"total_max_attempts": 2})
    assert limits(sts_config(parent, sts_client_kwargs={"config": own})) == (22, 44, 2)


@pytest.mark.usefixtures("one_attempt")
def test_a_hung_sts_delays_the_roles_of_a_parent_once(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """If many roles are due together while STS hangs, one waits for it, and all keep using their current keys."""
    roles = [assume_role(parent, HUB, sts_client_kwargs={"config": Config(read_timeout=0.25)}) for _ in range(10)]
    before = [key(role) for role in roles]
    clock.shift(46 * MINUTE)
    sts.fault = Fault.hang()
    for _ in range(2):
        asked = len(sts.assumed)
        assert [key(role) for role in roles] == before
        assert len(sts.assumed) == asked + 1
        clock.shift(MINUTE)
    sts.fault = None
    assert not {key(role) for role in roles} & set(before)


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize("where", ["refuses", "swallows"])
def test_an_sts_that_cannot_be_reached_is_tried_once(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session, where: str
) -> None:
    """If connections are refused or go nowhere, only one of all the roles of a parent and its chain tries."""
    tried: list[str] = []
    short = {"config": Config(connect_timeout=0.25)}
    hub = assume_role(parent, HUB, sts_client_kwargs=short)
    roles = [hub, assume_role(parent, HUB, sts_client_kwargs=short), assume_role(hub, SPOKE, sts_client_kwargs=short)]
    for session in (parent, hub):
        session.events.register("before-send.sts.AssumeRole", lambda request, **_: tried.append(request.url))
    before = [key(role) for role in roles]
    tried.clear()
    sts.down()
    with contextlib.ExitStack() as stack:
        if where == "swallows":
            address = sts.server.socket.getsockname()
            sts.server.socket.listen(0)
            for _ in range(8):  # more than fit in the queue: the rest get no response
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
        clock.shift(46 * MINUTE)
        assert [key(role) for role in roles] == before
    assert len(tried) == 1


def test_a_failure_of_the_users_own_is_not_blamed_on_sts(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """A TokenCode callable whose own request times out does not stop other roles from being refreshed."""

    def code() -> str:
        if len(sts.assumed) > 1:
            raise ReadTimeoutError(endpoint_url="https://secretsmanager.example.com")
        return "123456"

    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=code)
    sibling = assume_role(parent, SPOKE)
    before = [key(child), key(sibling)]
    clock.shift(46 * MINUTE)
    assert key(child) == before[0]
    assert key(sibling) != before[1]


@pytest.mark.usefixtures("one_attempt")
def test_credentials_of_a_class_of_somebodys_own(sts: StsStub, clock: time_machine.Traveller) -> None:
    """Parent credentials that do not say where they come from work just as well while STS is unreachable."""

    class Own(Credentials):
        def __init__(self) -> None:
            self.access_key, self.secret_key, self.token, self.account_id = "AKIAOWN", "root-secret", None, None

    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = Own()
    child = assume_role(parent, HUB)
    before = key(child)
    sts.down()
    clock.shift(46 * MINUTE)
    assert key(child) == before
    clock.shift(15 * MINUTE)
    with pytest.raises(EndpointConnectionError) as caught:
        key(child)
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__[-1] == f"Raised while assuming {HUB} from a session with other credentials."


def test_what_a_users_own_handler_raises_is_not_blamed_on_sts(parent: boto3.Session) -> None:
    """An exception from a handler that runs during the call to STS propagates unchanged."""

    def complain(**_: Any) -> None:
        raise TypeError("my own check says no")

    parent.events.register("before-call.sts.AssumeRole", complain)
    with pytest.raises(TypeError, match="my own check says no"):
        key(assume_role(parent, HUB))


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, ValueError, UnicodeDecodeError])
def test_an_error_of_a_handler_is_not_blamed_on_the_answer(
    sts: StsStub, parent: boto3.Session, kind: type[Exception]
) -> None:
    """An error that a handler raises on the way to STS is raised as it is, whatever its class."""
    error = kind("utf-8", b"", 0, 1, "mine") if kind is UnicodeDecodeError else kind("mine")

    def complain(**_: Any) -> None:
        raise error

    parent.events.register("before-call.sts.AssumeRole", complain)
    with pytest.raises(kind, match="mine") as caught:
        key(assume_role(parent, HUB))
    assert caught.value is error


def test_the_warning_asks_the_parent_for_nothing(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    """A parent that has lost its credentials fails no request while the role's are valid, and the warning names it."""
    child = assume_role(parent, HUB)
    before = key(child)
    parent._session._credentials = None
    parent._session.register_component("credential_provider", CredentialResolver([]))
    clock.shift(46 * MINUTE)
    assert key(child) == before
    assert f"while assuming {HUB} from a session with explicit credentials: NoCredentialsError." in caplog.text


class Cache(dict[str, Any]):
    """A cache that calls something before it writes an entry."""

    def __init__(self, before_writing: Callable[[], None]) -> None:
        super().__init__()
        self.before_writing = before_writing

    def __setitem__(self, key: str, value: Any) -> None:
        self.before_writing()
        super().__setitem__(key, value)


@pytest.mark.parametrize("when", ["the answer is on its way", "it is written to a cache"])
@pytest.mark.parametrize("freezes", [1, 2])
def test_a_freeze_between_the_answer_and_its_use(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller, when: str, freezes: int
) -> None:
    """If new keys expire while the machine is frozen, they are fetched once more, and only once."""

    def freeze(**_: Any) -> None:
        if len(sts.assumed) <= freezes:
            clock.shift(2 * 3600)

    options: dict[str, Any] = {}
    if when == "it is written to a cache":
        options["cache"] = Cache(freeze)
    else:
        parent.events.register("after-call.sts.AssumeRole", freeze)
    child = assume_role(parent, HUB, **options)
    if freezes == 1:
        assert key(child) == "ASIA0000000000000002"
    else:
        with pytest.raises(CredentialRetrievalError, match="expired when they arrived"):
            key(child)
    assert len(sts.assumed) == 2


class BackingOff(RefreshableCredentials):
    """Credentials that keep using expired keys while their own refresh backs off."""

    def _refresh(self) -> None:
        pass


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
@pytest.mark.parametrize("code", ["AccessDenied", "InvalidClientTokenId"])
def test_only_expired_keys_are_called_expired(
    sts: StsStub, one_attempt: None, parent: boto3.Session, code: str
) -> None:
    """If STS refuses for another reason, no note says that the parent's credentials have expired."""
    sts.fault = Fault.error(403, code)
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, HUB))
    assert "expired" not in "".join(caught.value.__notes__)


def expired_keys(*keys: str) -> Credentials:
    return Credentials(*keys)


def backing_off(*keys: str) -> Credentials:
    return BackingOff(*keys, datetime.now(timezone.utc), dict, "sso")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
@pytest.mark.parametrize(
    ("credentials", "named"), [(expired_keys, "a session with explicit"), (backing_off, "a session with sso")]
)
def test_a_parent_that_hands_out_expired_keys_is_named(
    sts: StsStub,
    one_attempt: None,
    clock: time_machine.Traveller,
    credentials: Callable[..., Credentials],
    named: str,
) -> None:
    """If STS says that the signing keys have expired, its own error is raised, and a note names the parent."""
    root = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    expired = key(assume_role(root, HUB))
    clock.shift(2 * 3600)
    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = credentials(expired, "secret-1", "token-1")
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, SPOKE))
    assert caught.value.response["Error"]["Code"] == "ExpiredToken"
    first, second = caught.value.__notes__
    assert first.startswith("The parent's credentials have expired.")
    assert f"{named} credentials" in first
    assert second.startswith(f"Raised while assuming {SPOKE}")


@pytest.mark.usefixtures("one_attempt")
def test_siblings_try_an_sts_that_hangs_once_a_minute(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """While STS hangs, one of the roles whose keys are still valid tries it each minute, and the others do not wait."""
    short = {"config": Config(read_timeout=0.25)}
    *roles, another = [assume_role(parent, HUB, RoleSessionName=str(n), sts_client_kwargs=short) for n in range(10, 19)]
    *before, anothers = [key(role) for role in (*roles, another)]

    def use(index: int) -> str:
        clock.shift(0.001)  # each thread has a time of its own
        return key(roles[index])

    clock.shift(46 * MINUTE)
    sts.fault = Fault.hang()
    assert key(roles[0]) == before[0]
    for _ in range(3):
        clock.shift(61)
        asked = len(sts.assumed)
        assert at_once(use, 8) == before
        assert len(sts.assumed) == asked + 1
        clock.shift(30)
        assert key(another) == anothers
        assert len(sts.assumed) == asked + 1
    sts.fault = None
    clock.shift(61)
    assert key(roles[0]) != before[0] or key(roles[1]) != before[1]


@pytest.mark.parametrize("seconds", [30, 4 * MINUTE])
def test_a_clock_that_was_ahead_during_an_outage(
    sts: StsStub, clock: time_machine.Traveller, one_attempt: None, parent: boto3.Session, seconds: int
) -> None:
    """An outage recorded in the future, before the clock was corrected, does not prevent a refresh."""
    first, second = (assume_role(parent, HUB, RoleSessionName=name) for name in ("first", "second"))
    before = key(second)
    clock.shift(50 * MINUTE)
    sts.down()
    with pytest.raises(EndpointConnectionError):
        key(first)
    sts.up()
    clock.shift(-seconds)
    assert key(second) != before


@pytest.mark.parametrize(
    ("error", "attempts"), [(ReadTimeoutError(endpoint_url="https://portal.example"), 1), (PermissionError(), 2)]
)
def test_an_unreachable_source_is_tried_once(
    sts: StsStub, clock: time_machine.Traveller, error: Exception, attempts: int
) -> None:
    """If what refreshes a parent's expired keys does not respond, one of its roles tries it; if it refuses, each."""
    tried = []

    class Source(RefreshableCredentials):
        def _refresh(self) -> None:
            if self.refresh_needed():
                tried.append(time.time())
                raise error

    parent = boto3.Session(region_name="us-east-1")
    expiry = datetime.now(timezone.utc) + timedelta(minutes=30)
    parent._session._credentials = Source("AKIAROOT", "root-secret", None, expiry, dict, "sso")
    roles = [assume_role(parent, HUB), assume_role(parent, HUB, sts_client_kwargs={"use_ssl": False})]
    before = [key(role) for role in roles]
    clock.shift(46 * MINUTE)
    assert [key(role) for role in roles] == before
    assert len(tried) == attempts


def test_a_source_that_keeps_its_keys_does_not_look_like_an_outage(sts: StsStub, clock: time_machine.Traveller) -> None:
    """A parent's source that is due but keeps its keys for now, at once, does not stop the roles' refreshes."""

    class Source(RefreshableCredentials):
        def _refresh(self) -> None:
            pass

    parent = boto3.Session(region_name="us-east-1")
    expiry = datetime.now(timezone.utc) + timedelta(minutes=60)
    parent._session._credentials = Source("AKIAROOT", "root-secret", None, expiry, dict, "sso")
    child = assume_role(parent, HUB)
    before = key(child)
    clock.shift(46 * MINUTE)
    assert key(child) != before


def test_a_source_that_is_given_the_same_keys_again(sts: StsStub, clock: time_machine.Traveller) -> None:
    """A parent's source that renews its keys slowly, and gets the same ones, does not look like an outage."""

    def renew() -> dict[str, str]:
        threading.Event().wait(0.15)  # the latency of a stub
        expiry = datetime.now(timezone.utc) + timedelta(hours=1)
        return {"access_key": "AKIAROOT", "secret_key": "root-secret", "token": "t", "expiry_time": expiry.isoformat()}

    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "sso")
    child = assume_role(parent, HUB)
    before = key(child)
    clock.shift(55 * MINUTE)
    assert key(child) != before


def test_a_healthy_parent_whose_keys_are_always_due(
    sts: StsStub, clock: time_machine.Traveller, tmp_path: Path
) -> None:
    """A profile's role with 900-second keys, which botocore always considers due, does not look like an outage."""
    (tmp_path / "config").write_text(
        "[profile short]\nregion = us-east-1\nduration_seconds = 900\nrole_session_name = me\n"
        f"role_arn = {HUB}\nsource_profile = keys\n"
    )
    (tmp_path / "credentials").write_text("[keys]\naws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\n")
    child = assume_role(boto3.Session(profile_name="short"), SPOKE)
    before = key(child)
    sts.fault = Fault.slow_first_byte(0.15)
    clock.shift(46 * MINUTE)
    assert key(child) != before


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
def test_expired_keys_of_a_handlers_own_call_are_not_the_parents(
    sts: StsStub, one_attempt: None, parent: boto3.Session
) -> None:
    """ExpiredToken from another call, which a handler makes on the way to STS, says nothing about the parent's keys."""
    error = ClientError({"Error": {"Code": "ExpiredToken", "Message": "The vault's."}}, "GetSecretValue")

    def call_a_vault(**_: Any) -> None:
        raise error

    parent.events.register("before-call.sts.AssumeRole", call_a_vault)
    with pytest.raises(ClientError) as caught:
        key(assume_role(parent, HUB))
    assert caught.value is error
    assert caught.value.__notes__ == [f"Raised while assuming {HUB} from a session with explicit credentials."]


def test_an_answer_whose_user_a_handler_has_removed_is_good(sts: StsStub, parent: boto3.Session) -> None:
    """If a handler sets AssumedRoleUser to None, only the account ID is lost."""
    parent.events.register("after-call.sts.AssumeRole", lambda parsed, **_: parsed.update(AssumedRoleUser=None))
    exported = assume_role(parent, HUB).export_credentials()
    assert (exported.access_key, exported.account_id) == (*sts.issued, None)


@pytest.mark.parametrize("token", ["token-1\ntoken-1", "\n  token-1\n", "t\u00f6ken-1"])
def test_a_token_that_no_header_can_hold_is_refused(sts: StsStub, parent: boto3.Session, token: str) -> None:
    """A token that cannot be sent in a header is refused as no valid response, and the error does not repeat it."""
    sts.fault = Fault(element="SessionToken", text=f"<SessionToken>{token}</SessionToken>")
    with pytest.raises(CredentialRetrievalError, match="no SessionToken") as caught:
        key(assume_role(parent, HUB))
    assert "ken-1" not in str(caught.value)


def test_outages_of_many_endpoints_do_not_pile_up(sts: StsStub, one_attempt: None, parent: boto3.Session) -> None:
    """A parent whose roles use many different STS options remembers only the latest outages."""
    sts.down()
    for number in range(40):
        options = {"config": Config(user_agent_extra=f"tenant/{number}")}
        with pytest.raises(EndpointConnectionError):
            key(assume_role(parent, HUB, sts_client_kwargs=options))
    remembered = list(vars(parent._session)["_aws_assume_role_lib"].retry_at)
    assert len(remembered) <= 16
    assert "tenant/39" in str(remembered[-1])


@pytest.mark.usefixtures("one_attempt")
def test_a_new_process_during_an_outage(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """While STS is down, a new session uses an entry of its cache that is due but valid, and tries once a minute."""
    cache: dict[str, Any] = {}
    before = key(assume_role(parent, HUB, cache=cache))
    clock.shift(46 * MINUTE)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    child = assume_role(parent, HUB, cache=cache)
    for _ in range(3):
        assert key(child) == before
    assert len(sts.assumed) == 2
    assert [record.message for record in caplog.records if "Early refresh failed" in record.message]
    clock.shift(15 * MINUTE)
    with pytest.raises(ClientError):
        key(child)


def test_a_root_that_is_refused_slowly_is_no_outage(sts: StsStub, clock: time_machine.Traveller) -> None:
    """If a root's refresh fails after a while, although its keys are valid, its roles are refreshed all the same."""

    def refused() -> dict[str, str]:
        threading.Event().wait(0.3)  # the latency of a stub
        raise RuntimeError("refused")

    root = boto3.Session(region_name="us-east-1")
    expiry = (datetime.now(timezone.utc) + timedelta(minutes=60)).isoformat()
    metadata = {"access_key": "AKIAROOT", "secret_key": "s", "token": "t", "expiry_time": expiry}
    root._session._credentials = RefreshableCredentials.create_from_metadata(metadata, refused, "custom-process")
    child = assume_role(root, HUB, DurationSeconds=3000)
    before = key(child)
    clock.shift(46 * MINUTE)
    assert key(child) != before


def test_an_attempt_that_may_outlast_the_keys_must_succeed(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """In the last seconds before the keys expire, an attempt is as patient as one without keys."""
    configs: list[Any] = []
    parent.events.register("before-call.sts.AssumeRole", lambda context, **_: configs.append(context["client_config"]))
    child = assume_role(parent, HUB)
    key(child)
    clock.shift(60 * MINUTE - 5)
    key(child)
    assert [config.read_timeout for config in configs] == [10, 10]


def test_a_session_without_keys_joins_no_early_attempt(
    sts: StsStub, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
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


def test_a_root_that_takes_until_the_keys_expire(
    sts: StsStub, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the keys expire while the root is being refreshed, the attempt is made all the same, and is a patient one."""

    def slow() -> dict[str, str]:
        clock.shift(20)
        raise RuntimeError("refused")

    monkeypatch.setattr("aws_assume_role_lib._role.SLOW", 0)
    root = boto3.Session(region_name="us-east-1")
    expiry = (datetime.now(timezone.utc) + timedelta(minutes=73)).isoformat()
    metadata = {"access_key": "AKIAROOT", "secret_key": "s", "token": "t", "expiry_time": expiry}
    root._session._credentials = RefreshableCredentials.create_from_metadata(metadata, slow, "custom-process")
    child = assume_role(root, HUB)
    before = key(child)
    clock.shift(60 * MINUTE - 10)
    assert key(child) != before
