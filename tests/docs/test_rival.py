"""What the page *Why use this* says of botocore's own classes is measured here, beside this package."""

from __future__ import annotations

import sys
import types
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, CredentialRetrievalError
from conftest import HUB
from pages import blocks, without_terminal
from sts_stub import Fault, StsStub
from test_docs import DOCS, MFA

from aws_assume_role_lib import assume_role


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function on the page."""
    page = DOCS / "explanation" / "why.md"
    (block,) = [each for each in blocks(page) if "def session_for" in each.text]
    module = types.ModuleType("page")
    vars(module)["boto3"] = boto3
    block.execute(page, vars(module))
    # It does not inherit the source's region.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return module.session_for


def use(session: boto3.Session) -> Any:
    return session.client("sts").get_caller_identity()


def test_calls_for_ten_requests(sts: StsStub, rival: Any, parent: boto3.Session) -> None:
    """At DurationSeconds=900, botocore's classes call AssumeRole for each of ten requests, this package once."""
    theirs = rival(parent, HUB, extra_args={"DurationSeconds": 900}).client("sts")
    ours = assume_role(parent, HUB, DurationSeconds=900).client("sts")
    for client, calls in ((theirs, 10), (ours, 10 + 1)):
        for _ in range(10):
            client.get_caller_identity()
        assert len(sts.assumed) == calls


def test_an_outage(sts: StsStub, rival: Any, parent: boto3.Session, clock: time_machine.Coordinates) -> None:
    """With nine minutes left and no answer from STS, a request fails with botocore's classes only."""
    theirs, ours = rival(parent, HUB), assume_role(parent, HUB)
    for session in (theirs, ours):
        use(session)
    clock.shift(51 * 60)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        use(theirs)
    use(ours)


@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_no_terminal(sts: StsStub, rival: Any, parent: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, botocore's classes take a line of stdin for the code; this package raises an error."""
    without_terminal(monkeypatch)
    use(rival(parent, HUB, extra_args={"SerialNumber": MFA}))
    assert sys.stdin.read() == ""
    with pytest.raises(CredentialRetrievalError, match="no terminal"):
        use(assume_role(parent, HUB, SerialNumber=MFA))


def test_a_shared_cache(sts: StsStub, rival: Any) -> None:
    """Of two parents that share a cache, one gets the other's keys with botocore's classes only."""
    parents = [boto3.Session(key, "root-secret", region_name="us-east-1") for key in ("AKIAALICE", "AKIABOB")]
    for assume, signers in ((rival, 1), (assume_role, 2)):
        shared: dict[str, Any] = {}
        for parent in parents:
            use(assume(parent, HUB, cache=shared))
        assert len({request.access_key for request in sts.requests if request.action == "GetCallerIdentity"}) == signers
        sts.requests.clear()


def test_the_region(rival: Any) -> None:
    """A region that was set in code is lost with botocore's classes only."""
    source = boto3.Session("AKIAROOT", "root-secret", region_name="eu-central-1")
    assert rival(source, HUB).region_name != "eu-central-1"
    assert assume_role(source, HUB).region_name == "eu-central-1"
