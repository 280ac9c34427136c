"""What the page *Why use this* says of botocore's own classes is measured here, beside this package."""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, CredentialRetrievalError
from conftest import HUB
from pages import blocks
from sts_stub import Fault, StsStub
from test_docs import DOCS

from aws_assume_role_lib import assume_role

MFA = "arn:aws:iam::123456789012:mfa/alice"


def root(key: str = "AKIAROOT") -> boto3.Session:
    return boto3.Session(key, "root-secret", region_name="us-east-1")


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Callable[..., boto3.Session]:
    """The function on the page."""
    page = DOCS / "explanation" / "why.md"
    (block,) = [each for each in blocks(page) if "def session_for" in each.text]
    module = types.ModuleType("page")
    module.boto3 = boto3  # type: ignore[attr-defined]
    block.execute(page, vars(module))
    # It does not inherit the source's region.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    session_for: Callable[..., boto3.Session] = module.session_for
    return session_for


@pytest.fixture
def clock() -> Iterator[time_machine.Coordinates]:
    with time_machine.travel(datetime(2030, 1, 31, 12, tzinfo=timezone.utc), tick=False) as coordinates:
        yield coordinates


def use(session: boto3.Session) -> Any:
    return session.client("sts").get_caller_identity()


def test_calls_for_ten_requests(sts: StsStub, rival: Any) -> None:
    """At DurationSeconds=900, botocore's classes call AssumeRole for each of ten requests, this package once."""
    client = rival(root(), HUB, extra_args={"DurationSeconds": 900}).client("sts")
    for _ in range(10):
        client.get_caller_identity()
    assert len(sts.assumed) == 10
    client = assume_role(root(), HUB, DurationSeconds=900).client("sts")
    for _ in range(10):
        client.get_caller_identity()
    assert len(sts.assumed) == 10 + 1


def test_an_outage(sts: StsStub, rival: Any, clock: time_machine.Coordinates) -> None:
    """With nine minutes left and no answer from STS, a request fails with botocore's classes only."""
    theirs, ours = rival(root(), HUB), assume_role(root(), HUB)
    for session in (theirs, ours):
        use(session)
    clock.shift(51 * 60)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        use(theirs)
    use(ours)


@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_no_terminal(sts: StsStub, rival: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, botocore's classes take a line of stdin for the code; this package raises an error."""
    really_open = os.open

    def no_terminal(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "/dev/tty":
            raise OSError
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_terminal)
    monkeypatch.setattr(sys, "stdin", io.StringIO("123456\n"))
    use(rival(root(), HUB, extra_args={"SerialNumber": MFA}))
    assert sys.stdin.read() == ""
    with pytest.raises(CredentialRetrievalError, match="no terminal"):
        use(assume_role(root(), HUB, SerialNumber=MFA))


def test_a_shared_cache(sts: StsStub, rival: Any) -> None:
    """Of two parents that share a cache, one gets the other's keys with botocore's classes only."""
    shared: dict[str, Any] = {}
    signers = []
    for key in ("AKIAALICE", "AKIABOB"):
        use(rival(root(key), HUB, cache=shared))
        signers.append(sts.requests[-1].access_key)
    assert signers[0] == signers[1]
    shared, signers = {}, []
    for key in ("AKIAALICE", "AKIABOB"):
        use(assume_role(root(key), HUB, cache=shared))
        signers.append(sts.requests[-1].access_key)
    assert signers[0] != signers[1]


def test_the_region(sts: StsStub, rival: Any) -> None:
    """A region that was set in code is lost with botocore's classes only."""
    source = boto3.Session("AKIAROOT", "root-secret", region_name="eu-central-1")
    assert rival(source, HUB).region_name != "eu-central-1"
    assert assume_role(source, HUB).region_name == "eu-central-1"
