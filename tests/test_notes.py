"""An error of AssumeRole has a note that says what to check first."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HUB, key
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

GLOBAL_TOKEN = "get them with AWS_STS_REGIONAL_ENDPOINTS=regional."
TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
NO_CODE = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."


def first_note(parent: boto3.Session) -> str:
    with pytest.raises((BotoCoreError, ClientError)) as caught:
        key(assume_role(parent, HUB))
    note: str = caught.value.__notes__[0]
    return note


@pytest.mark.parametrize(
    ("fault", "start", "end"),
    [
        (
            Fault.error(403, "InvalidClientTokenId"),
            "STS does not know the parent's keys (a session with ",
            GLOBAL_TOKEN,
        ),
        (Fault.error(400, "ValidationError", TOO_LONG), "Leave DurationSeconds out", "maximum session duration."),
        (Fault.error(403, "AccessDenied", NO_CODE), "STS rejected the MFA code.", "accepts each code only once."),
        (Fault.error(403, "ExpiredToken"), "The parent's credentials have expired.", "with explicit credentials."),
    ],
    ids=["unknown keys", "too long", "code", "expired"],
)
def test_the_first_note_is_about_the_cause(
    sts: StsStub, parent: boto3.Session, fault: Fault, start: str, end: str
) -> None:
    """The first note is about what STS refused."""
    sts.fault = fault
    note = first_note(parent)
    assert note.startswith(start)
    assert note.endswith(end)


@pytest.mark.parametrize("retries", ["legacy", "standard"])
@pytest.mark.parametrize("fault", [Fault.reset(), None], ids=["reset", "down"])
def test_if_nothing_responds_check_the_network(
    sts: StsStub,
    one_attempt: None,
    parent: boto3.Session,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None,
    retries: str,
) -> None:
    """The first note on a connection error is about the network."""
    monkeypatch.setenv("AWS_RETRY_MODE", retries)
    sts.fault = fault
    if fault is None:
        sts.down()
    assert first_note(parent).startswith("Check the network first: ")


def test_an_error_that_needs_no_explanation(sts: StsStub, one_attempt: None, parent: boto3.Session) -> None:
    """Any other refusal has no note but the one that names the role."""
    sts.fault = Fault.error(400, "PackedPolicyTooLarge")
    assert first_note(parent).startswith(f"Raised while assuming {HUB}")
