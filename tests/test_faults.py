"""What a session's user sees of each STS fault, at each moment of its life. This run writes reference/faults.md."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import botocore.endpoint
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError
from conftest import HUB, SPOKE, key
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
    "connection reset during the response": Case(Fault(resets=True), "`ConnectionClosedError`", ALL_ATTEMPTS),
    "first byte later than the read timeout": Case(Fault(before=30), "`ReadTimeoutError`", ALL_ATTEMPTS),
    "body later than the read timeout": Case(Fault(within=30), "`ReadTimeoutError`", ALL_ATTEMPTS),
    "no response at all": Case(Fault(hangs=True), "`ReadTimeoutError`", ALL_ATTEMPTS),
    **{f"{status} {code}": refused(status, code) for code, status in DOCUMENTED.items()},
    "403 AccessDenied": refused(403, "AccessDenied"),
    "403 SignatureDoesNotMatch": refused(403, "SignatureDoesNotMatch"),
    "400 Throttling": refused(400, "Throttling", ALL_ATTEMPTS),
    "429 TooManyRequestsException": refused(429, "TooManyRequestsException", ALL_ATTEMPTS),
    "500 InternalFailure": refused(500, "InternalFailure", ALL_ATTEMPTS),
    "503 ServiceUnavailable": refused(503, "ServiceUnavailable", ALL_ATTEMPTS),
    "200 with a page of HTML": Case(Fault.html(), NOT_STS),
    "200 with a page of XHTML": Case(Fault.body(XHTML), NOT_STS),
    "200 with half the XML": Case(Fault(cut=True), NOT_STS),
    "200 with an empty body": Case(Fault.body(""), NOT_STS),
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


@pytest.fixture
def service(sts, monkeypatch):
    """A service that knows STS's keys. botocore makes no pauses between its attempts."""
    # The default retry mode has changed between botocore versions; the page is the same on all of them.
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    with StsStub() as stub:
        stub.issued = sts.issued
        yield stub


def described(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"`ClientError`: `{error.response['Error']['Code']}`"
    if isinstance(error, CredentialRetrievalError):
        [reason] = [reason for reason in (NOT_STS, EXPIRED) if reason.partition(": ")[2] in str(error)]
        return reason
    return f"`{type(error).__name__}`"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", FAULTS)
def test_what_the_user_sees(sts, service, parent, clock, caplog, name, moment):
    """While valid keys remain, a fault is one warning; without them, it is raised, with a note; then it is over."""
    case, expected = FAULTS[name], promised(FAULTS[name], moment)
    waits = case.fault is not None and (case.fault.before or case.fault.within or case.fault.hangs)
    options: dict[str, Any] = {"config": Config(read_timeout=0.25)} if waits else {}
    assumer = assume_role(parent, HUB) if moment == HOP else parent
    source = HUB if moment == HOP else "a session with explicit credentials"
    client = assume_role(assumer, SPOKE, sts_client_kwargs=options).client("sts", endpoint_url=service.url)

    def signer() -> str:
        client.get_caller_identity()
        return service.requests[-1].access_key

    if moment == HOP:
        key(assumer)
    current = signer() if moment in AT_HAND else None
    clock.shift(AT_HAND.get(moment, 0))
    sent: list[str] = []
    assumer.events.register("before-send.sts.AssumeRole", lambda request, **_: sent.append(request.url))
    sts.fault, sts.clock_offset = case.fault, -case.ahead
    if case.fault is None:
        sts.down()
    if expected in (CURRENT, NEW):
        assert (signer() == current) == (expected == CURRENT)
    else:
        with pytest.raises(Exception) as caught:
            signer()
        assert described(caught.value) == expected
        *others, last = caught.value.__notes__
        assert last == f"Raised while assuming {SPOKE} from {source}."
        explained = ("AccessDenied", "no response", "refused", "reset", "timeout")
        assert len(others) == any(word in name for word in explained)
    # An early attempt is made once.
    assert len(sent) == (1 if expected == CURRENT else case.requests)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (expected == CURRENT)
    assert all(f"while assuming {SPOKE} from {source}" in warning for warning in warnings)
    if "ClientError" in expected:
        # STS's own error, as a plain client raises it.
        with pytest.raises(ClientError) as plain:
            assumer.client("sts", **options).assume_role(RoleArn=SPOKE, RoleSessionName="plain")
        ours, botocores = [(type(e), e.response, e.operation_name, str(e)) for e in (caught.value, plain.value)]
        assert ours == botocores

    sts.fault, sts.clock_offset = None, 0
    sts.up()
    # At once if there are no keys, otherwise within a minute.
    if moment in AT_HAND:
        signer()
        clock.shift(60)
    assert signer() != current
    assert sts.issued[signer()].role_arn == SPOKE
    assert sts.violations + service.violations == []


TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
NO_CODE = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."


@pytest.mark.parametrize("retries", ["legacy", "standard"])
@pytest.mark.parametrize(
    ("fault", "start", "end"),
    [
        (Fault.error(403, "InvalidClientTokenId"), "STS does not know the parent's keys", "ENDPOINTS=regional."),
        (Fault.error(400, "ValidationError", TOO_LONG), "Leave DurationSeconds out", "maximum session duration."),
        (Fault.error(403, "AccessDenied", NO_CODE), "STS rejected the MFA code.", "accepts each code only once."),
        (Fault.error(403, "ExpiredToken"), "The parent's credentials have expired.", "with explicit credentials."),
        (Fault(resets=True), "Check the network first: ", "endpoint URL if one is set."),
        (None, "Check the network first: ", "endpoint URL if one is set."),
        # An error that needs no explanation has only the note that names the role.
        (Fault.error(400, "PackedPolicyTooLarge"), "Raised while assuming", "with explicit credentials."),
    ],
)
def test_the_first_note_is_about_the_cause(sts, one_attempt, parent, monkeypatch, fault, start, end, retries):
    """The first note is about what STS refused, or about the network if nothing responded."""
    monkeypatch.setenv("AWS_RETRY_MODE", retries)
    sts.fault = fault
    if fault is None:
        sts.down()
    with pytest.raises((BotoCoreError, ClientError)) as caught:
        key(assume_role(parent, HUB))
    note = caught.value.__notes__[0]
    assert note.startswith(start)
    assert note.endswith(end)


def test_every_documented_error_has_its_row():
    """Each error that botocore's model has for AssumeRole is in the table, with its status."""
    model = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole")
    errors = [shape.metadata["error"] for shape in model.error_shapes]
    assert errors
    assert {error["code"]: error["httpStatusCode"] for error in errors}.items() <= DOCUMENTED.items()


@pytest.mark.parametrize("lifetime", [3600, 900])
@pytest.mark.parametrize("ahead", [600, -600])
def test_a_wrong_clock_fails_no_request(sts, service, parent, clock, ahead, lifetime):
    """With the clock off by ten minutes, either way, keys are still replaced before they really expire."""
    sts.clock_offset = service.clock_offset = -ahead
    client = assume_role(parent, HUB, DurationSeconds=lifetime).client("sts", endpoint_url=service.url)
    end = time.time() + 2 * lifetime
    while time.time() < end:
        client.get_caller_identity()
        clock.shift(75)
    assert len(sts.assumed) > 1


KINDS = {
    "EndpointConnectionError": "a connection error of botocore's",
    "ConnectionClosedError": "a connection error of botocore's",
    "ReadTimeoutError": "a connection error of botocore's",
    "ClientError": "`ClientError`, STS's own",
}


TEXT = """\
---
myst:
  html_meta:
    description: What a request gets for each way in which STS can fail.
---

# What you see when STS fails

Generated by the tests, which check each fault at four moments: the first use of a session, the first use
of the second role in a chain, the [refresh window](../explanation/refresh.md#the-window), and the last 60
seconds before the keys expire. *Current keys* and *new keys* mean that your request is sent, signed with
those keys. Otherwise, it raises the error.

| fault | without valid keys | with valid keys |
| --- | --- | --- |
{rows}

- An error without valid keys has a note that names the role (Python 3.11 and later).
- A failed refresh that leaves the *current keys* in use sends one request and logs one warning. A minute
  later, the next request tries again. [Roles with the same
  root](../explanation/refresh.md#when-sts-is-unreachable) share what they know.
- Three requests mean that botocore retried. The tests run with `AWS_RETRY_MODE=standard`.
- AWS usually denies a request whose time is [more than five minutes
  off](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html). If STS accepts it
  nevertheless, a clock that is ten minutes off fails no request.
"""


def page() -> str:
    # Each fault has the same outcome at its two moments without valid keys, and at its two with them: tested above.
    outcomes: dict[tuple[str, str], list[str]] = {}
    for name, case in FAULTS.items():
        error = case.surfaces.split("`")[1] if "`" in case.surfaces else ""
        without = f"{KINDS.get(error, case.surfaces)}; requests: {case.requests}"
        outcomes.setdefault((without, promised(case, EARLY)), []).append(name)
    rows = [f"| {', '.join(names)} | {without} | {valid} |" for (without, valid), names in outcomes.items()]
    return TEXT.format(rows="\n".join(rows))


def test_the_page_is_what_this_run_prints(request):
    """The page is what this run writes; `pytest --faults-table docs/reference/faults.md` updates it."""
    if path := request.config.getoption("--faults-table"):
        Path(path).write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
