"""A signal handler that raises, on Ctrl-C or at a soft time limit, leaves nothing behind, wherever it strikes."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HANG, HUB, key, later
from sts_stub import StsStub

from aws_assume_role_lib import JSONFileCache, _attempts, _family, assume_role


class Interrupted(BaseException):
    """What the signal handler raises."""


class Interruption:
    """Raises where Python would run a signal handler: at the n-th start or end of a call that attempts make."""

    def __init__(self, position: int) -> None:
        self.left = position

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        by = frame if event.startswith("c_") else frame.f_back
        if event != "c_call" and by and by.f_globals.get("__name__") == _attempts.__name__:
            self.left -= 1
            if self.left < 0:
                raise Interrupted


def is_interrupted(session: boto3.Session, position: int) -> bool:
    sys.setprofile(Interruption(position))
    try:
        key(session)
    except Interrupted:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("kind", ["no cache", "dict", "file"])
def test_an_interrupted_attempt_leaves_nothing_behind(
    sts: StsStub, parent: boto3.Session, tmp_path: Path, kind: str
) -> None:
    """After an interruption anywhere in an attempt, no thread takes it to be under way, and the session works."""
    cache: Any = {"no cache": None, "dict": {}, "file": JSONFileCache(tmp_path / "cache")}[kind]

    def interrupt_everywhere() -> int:
        position = 0
        session = assume_role(parent, HUB, cache=cache)
        while is_interrupted(session, position):
            left = dict(_attempts._attempts), _attempts._state().inside
            assert left == ({}, []), f"left behind by an interruption at position {position}"
            assert key(session).startswith("ASIA")
            position += 1
            session = assume_role(parent, HUB, cache=cache)
        return position

    assert later(interrupt_everywhere).result(HANG) > 10


class Signal:
    """Uses a session where Python would run a signal handler: at the n-th start or end of a call of these modules."""

    def __init__(self, use: Callable[[], object], position: int) -> None:
        self.use, self.left = use, position

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        by = frame if event.startswith("c_") else frame.f_back
        if event != "c_call" and by and by.f_globals.get("__name__") in (_attempts.__name__, _family.__name__):
            self.left -= 1
            if self.left == -1:
                sys.setprofile(None)
                with contextlib.suppress(CredentialRetrievalError):  # requested inside their own refresh
                    self.use()


def test_a_signal_handler_that_uses_the_session(sts: StsStub, parent: boto3.Session) -> None:
    """A handler that uses the session or its client, wherever it runs in a request, does not wait for itself."""

    def is_reached(position: int) -> bool:
        client = assume_role(parent, HUB).client("sts")
        signal = Signal(client.get_caller_identity, position)
        sys.setprofile(signal)
        try:
            client.get_caller_identity()
        finally:
            sys.setprofile(None)
        return signal.left < 0

    position = 0
    while later(functools.partial(is_reached, position)).result(HANG):
        position += 1
    assert position > 30
