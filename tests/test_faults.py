"""What a session's user sees of each STS fault, at each moment of its life. This run writes reference/faults.md."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
import botocore.endpoint
import botocore.session
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.loaders import create_loader
from conftest import HUB, SPOKE
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "faults.md"

FIRST, EARLY, LAST, HOP = MOMENTS = ("first use", "early refresh", "last 60 seconds", "second role")
# Seconds into the current credentials' hour; at the other moments there are no credentials.
AT_HAND = {EARLY: 46 * 60, LAST: 59 * 60 + 30}

CURRENT, NEW = "current keys", "new keys"
NOT_STS = "`CredentialRetrievalError`: not an AssumeRole response"
EXPIRED = "`CredentialRetrievalError`: expired when they arrived"
ALL_ATTEMPTS = 3


class Case(NamedTuple):
    fault: Fault | None  # None: nothing is listening
    surfaces: str  # the error class if there are no valid credentials
    requests: int = 1
    ahead: int = 0  # seconds by which this machine's clock is ahead


def refused(status: int, code: str, requests: int = 1) -> Case:
    return Case(Fault.error(status, code, "Said by STS"), f"`ClientError`: `{code}`", requests)


# The errors that AWS documents for AssumeRole, and their status.
DOCUMENTED = {
    "ExpiredTokenException": 400,
    "InvalidContextAssertion": 400,
    "MalformedPolicyDocument": 400,
    "PackedPolicyTooLarge": 400,
    "RegionDisabledException": 403,
}
XHTML = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>Sign in</title></head></html>'

FAULTS: dict[str, Case] = {
    "connection refused": Case(None, "`EndpointConnectionError`", ALL_ATTEMPTS),
    "connection reset during the response": Case(Fault.reset(), "`ConnectionClosedError`", ALL_ATTEMPTS),
    "first byte later than the read timeout": Case(Fault(before=30), "`ReadTimeoutError`", ALL_ATTEMPTS),
    "body later than the read timeout": Case(Fault(within=30), "`ReadTimeoutError`", ALL_ATTEMPTS),
    "no response at all": Case(Fault.hang(), "`ReadTimeoutError`", ALL_ATTEMPTS),
    **{f"{status} {code}": refused(status, code) for code, status in DOCUMENTED.items()},
    "403 AccessDenied": refused(403, "AccessDenied"),
    "403 SignatureDoesNotMatch": refused(403, "SignatureDoesNotMatch"),
    "400 Throttling": refused(400, "Throttling", ALL_ATTEMPTS),
    "429 TooManyRequestsException": refused(429, "TooManyRequestsException", ALL_ATTEMPTS),
    "500 InternalFailure": refused(500, "InternalFailure", ALL_ATTEMPTS),
    "503 ServiceUnavailable": refused(503, "ServiceUnavailable", ALL_ATTEMPTS),
    "200 with a page of HTML": Case(Fault.html(), NOT_STS),
    "200 with a page of XHTML": Case(Fault.body(XHTML), NOT_STS),
    "200 with half the XML": Case(Fault.truncated(), NOT_STS),
    "200 with an empty body": Case(Fault.empty(), NOT_STS),
    "an empty `AssumeRoleResult`": Case(Fault.empty_result(), NOT_STS),
    **{
        f"no `{field}`": Case(Fault.without(field), NOT_STS)
        for field in ("Credentials", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    },
    "no `AssumedRoleUser`": Case(Fault.without("AssumedRoleUser"), NEW),
    "an `Expiration` in the past": Case(Fault.expiration("2001-01-01T00:00:00Z"), EXPIRED),
    "an `Expiration` that is not a time": Case(Fault.expiration("soon"), NOT_STS),
    "this machine's clock is 10 minutes ahead": Case(Fault(), NEW, ahead=600),
    "this machine's clock is 10 minutes behind": Case(Fault(), NEW, ahead=-600),
}


def promised(case: Case, moment: str) -> str:
    return case.surfaces if case.surfaces == NEW or moment not in AT_HAND else CURRENT


class Seen(NamedTuple):
    what: str
    requests: int
    warnings: list[str]
    notes: list[str]
    changed: str  # how a ClientError differs from the one that a plain client raises
    recovered: bool
    violations: list[str]


# Reading botocore's service models for each session would take most of the time.
LOADER = create_loader()


class World(NamedTuple):
    sts: StsStub
    service: StsStub
    parent: boto3.Session
    clock: Any
    warnings: list[str]

    def client(self, session: boto3.Session) -> Any:
        return session.client("sts", endpoint_url=self.service.url)

    def signer(self, client: Any) -> str:
        """Return the key that signs a request to a service."""
        client.get_caller_identity()
        return self.service.requests[-1].access_key


@contextmanager
def a_world() -> Iterator[World]:
    """A clock that stands still, an STS, a service that knows its keys, and no pauses between botocore's attempts."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logger = logging.getLogger("aws_assume_role_lib")
    with StsStub() as sts, StsStub() as service, pytest.MonkeyPatch.context() as patch:
        service.issued = sts.issued
        patch.setenv("AWS_ENDPOINT_URL", sts.url)
        # The default retry mode has changed between botocore versions; the page is the same on all of them.
        patch.setenv("AWS_RETRY_MODE", "standard")
        patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
        logger.addHandler(handler)
        parent = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
        parent._session.register_component("data_loader", LOADER)
        try:
            with time_machine.travel(datetime(2031, 5, 1, 12, tzinfo=timezone.utc), tick=False) as clock:
                yield World(sts, service, parent, clock, warnings)
        finally:
            logger.removeHandler(handler)


@functools.cache
def seen(name: str, moment: str) -> Seen:
    case = FAULTS[name]
    waits = case.fault is not None and (case.fault.before or case.fault.within or case.fault.hangs)
    options: dict[str, Any] = {"config": Config(read_timeout=0.1)} if waits else {}
    sent: list[object] = []
    with a_world() as world:
        sts = world.sts
        assumer: Any = assume_role(world.parent, HUB) if moment == HOP else world.parent
        assumer.events.register("before-send.sts.AssumeRole", lambda request, **_: sent.append(request.url))
        client = world.client(assume_role(assumer, SPOKE, sts_client_kwargs=options))
        if moment == HOP:
            world.signer(world.client(assumer))
        current = world.signer(client) if moment in AT_HAND else None
        world.clock.shift(AT_HAND.get(moment, 0))
        sent.clear()

        if case.fault is None:
            sts.down()
        sts.fault, sts.clock_offset = case.fault, -case.ahead
        notes, changed = [], ""
        try:
            what = CURRENT if world.signer(client) == current else NEW
            requests = len(sent)
        except Exception as error:
            requests = len(sent)
            what, notes = described(error), getattr(error, "__notes__", [])
            if isinstance(error, ClientError):
                changed = difference(error, assumer.client("sts", **options))
        warnings = list(world.warnings)

        sts.up()
        sts.fault, sts.clock_offset = None, 0
        world.signer(client)
        if moment in AT_HAND:
            world.clock.shift(60)
        after = world.signer(client)
        recovered = after != current and sts.issued[after].role_arn == SPOKE
        return Seen(what, requests, warnings, notes, changed, recovered, sts.violations + world.service.violations)


def described(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"`ClientError`: `{error.response['Error']['Code']}`"
    if isinstance(error, CredentialRetrievalError):
        reasons = [reason for reason in (NOT_STS, EXPIRED) if reason.partition(": ")[2] in str(error)]
        return reasons[0] if reasons else str(error)
    return f"`{type(error).__name__}`"


def difference(error: ClientError, client: Any) -> str:
    with pytest.raises(ClientError) as plain:
        client.assume_role(RoleArn=SPOKE, RoleSessionName="plain")
    ours, botocores = [(type(e), e.response, e.operation_name, str(e)) for e in (error, plain.value)]
    return "" if ours == botocores else f"{ours} is not {botocores}"


LIFETIMES = (3600, 900)
STEP = 75  # seconds between requests


def skewed(ahead: int, lifetime: int) -> list[float]:
    """Live for two lifetimes with a clock this many seconds ahead; return when expired keys were refused."""
    with a_world() as world:
        world.sts.clock_offset = world.service.clock_offset = -ahead
        client = world.client(assume_role(world.parent, HUB, DurationSeconds=lifetime))
        start, refusals = time.time(), []
        while (now := time.time()) < start + 2 * lifetime:
            try:
                client.get_caller_identity()
            except ClientError as error:
                if error.response["Error"]["Code"] != "ExpiredToken":
                    raise
                refusals.append(now - start)
            world.clock.shift(STEP)
        assert len(world.sts.assumed) > 1
        return refusals


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", FAULTS)
def test_what_the_user_sees(name: str, moment: str) -> None:
    """While valid keys remain, no fault surfaces; without them, it surfaces unchanged, after botocore's attempts."""
    found = seen(name, moment)
    # An early attempt is made once.
    requests = 1 if found.what == "current keys" else FAULTS[name].requests
    assert (found.what, found.requests) == (promised(FAULTS[name], moment), requests)
    assert found.violations == []


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", FAULTS)
def test_what_the_log_says(name: str, moment: str) -> None:
    """A refresh that fails while the keys are valid logs one warning, which names the role; nothing else logs any."""
    warnings = seen(name, moment).warnings
    if promised(FAULTS[name], moment) == CURRENT:
        [warning] = warnings
        assert f"while assuming {SPOKE} from a session with explicit credentials" in warning
    else:
        assert warnings == []


@pytest.mark.parametrize("moment", [FIRST, HOP])
@pytest.mark.parametrize("name", FAULTS)
def test_the_error_is_stss_own_with_a_note(name: str, moment: str) -> None:
    """A ClientError is the same as a plain client's; every error names the role, in a note if Python supports notes."""
    found = seen(name, moment)
    assert found.changed == ""
    if promised(FAULTS[name], moment) != NEW:
        source = HUB if moment == HOP else "a session with explicit credentials"
        *others, last = found.notes
        assert last == f"Raised while assuming {SPOKE} from {source}."
        explained = ("AccessDenied", "no response", "refused", "reset", "timeout")
        assert len(others) == any(word in name for word in explained)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", FAULTS)
def test_it_recovers(name: str, moment: str) -> None:
    """Once the fault is over, the next call gets new keys: at once if there are none, otherwise within a minute."""
    assert seen(name, moment).recovered


def test_every_documented_error_has_its_row() -> None:
    """Each error that botocore's model has for AssumeRole is in the table, with its status."""
    model = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole")
    errors = [shape.metadata["error"] for shape in model.error_shapes]
    assert errors
    assert {error["code"]: error["httpStatusCode"] for error in errors}.items() <= DOCUMENTED.items()


@pytest.mark.parametrize("lifetime", LIFETIMES)
@pytest.mark.parametrize("ahead", [600, -600])
def test_a_wrong_clock_fails_no_request(ahead: int, lifetime: int) -> None:
    """With the clock off by ten minutes, either way, keys are still replaced before they really expire."""
    assert skewed(ahead, lifetime) == []


KINDS = {
    "EndpointConnectionError": "a connection error of botocore's",
    "ConnectionClosedError": "a connection error of botocore's",
    "ReadTimeoutError": "a connection error of botocore's",
    "ClientError": "`ClientError`, STS's own",
}


def page() -> str:
    # Each fault has the same outcome at its two moments without valid keys, and at its two with them: tested above.
    outcomes: dict[tuple[str, ...], list[str]] = {}
    for name, case in FAULTS.items():
        error = case.surfaces.split("`")[1] if "`" in case.surfaces else ""
        without = f"{KINDS.get(error, case.surfaces)}; requests: {case.requests}"
        outcomes.setdefault((without, promised(case, EARLY)), []).append(name)
    lines = [
        "---",
        "myst:",
        "  html_meta:",
        "    description: What a request gets for each way in which STS can fail.",
        "---",
        "",
        "# What you see when STS fails",
        "",
        "Generated by the tests, which check each fault at four moments: the first use of a session, the first use",
        "of the second role in a chain, the [refresh window](../explanation/refresh.md#the-window), and the last 60",
        "seconds before the keys expire. *Current keys* and *new keys* mean that your request is sent, signed with",
        "those keys. Otherwise, it raises the error.",
        "",
        _row("fault", "without valid keys", "with valid keys"),
        _row(*["---"] * 3),
    ]
    lines += [_row(", ".join(names), *outcome) for outcome, names in outcomes.items()]
    lines += [
        "",
        "- An error without valid keys has a note that names the role (Python 3.11 and later).",
        "- A failed refresh that leaves the *current keys* in use sends one request and logs one warning. A minute",
        "  later, the next request tries again. [Roles with the same",
        "  root](../explanation/refresh.md#when-sts-is-unreachable) share what they know.",
        "- Three requests mean that botocore retried. The tests run with `AWS_RETRY_MODE=standard`.",
        "- AWS usually denies a request whose time is [more than five minutes",
        "  off](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html). If STS accepts it",
        "  nevertheless, a clock that is ten minutes off fails no request.",
    ]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def test_the_page_is_what_this_run_prints(request: pytest.FixtureRequest) -> None:
    """The page is what this run writes; `pytest --faults-table docs/reference/faults.md` updates it."""
    if path := request.config.getoption("--faults-table"):
        Path(path).write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
