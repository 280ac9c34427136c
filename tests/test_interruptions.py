"""A signal handler that raises, on Ctrl-C or at a soft time limit, leaves nothing behind, wherever it strikes."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HANG, HUB, key, later

from aws_assume_role_lib import JSONFileCache, _attempts, _family, assume_role


class Interrupted(BaseException):
    """What the signal handler raises."""


def use_with_signal(use: Callable[[], object], modules: list[ModuleType], position: int, handle: Any) -> bool:
    """Handle a signal at the n-th start or end of a call by these modules, as Python does. Return if it was reached."""
    names, left = [module.__name__ for module in modules], position

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        by = frame if event.startswith("c_") else frame.f_back
        if event != "c_call" and by and by.f_globals.get("__name__") in names:
            left -= 1
            if left == -1:
                sys.setprofile(None)
                handle()

    sys.setprofile(profile)
    try:
        use()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    return left < 0


@pytest.mark.parametrize("cached", [False, True])
def test_an_interrupted_attempt_leaves_nothing_behind(sts, parent, tmp_path, cached):
    """After an interruption anywhere in an attempt, no thread takes it to be under way, and the session works."""
    cache = JSONFileCache(tmp_path / "cache") if cached else None

    def interrupt() -> None:
        raise Interrupted

    def is_reached(position: int) -> bool:
        session = assume_role(parent, HUB, cache=cache)
        reached = use_with_signal(lambda: key(session), [_attempts], position, interrupt)
        left = dict(_attempts._attempts), _attempts._state().inside
        assert left == ({}, []), f"left behind by an interruption at position {position}"
        assert key(session).startswith("ASIA")
        return reached

    assert number_of_positions(is_reached) > 10


def number_of_positions(is_reached: Callable[[int], bool]) -> int:
    position = 0
    while later(functools.partial(is_reached, position)).result(HANG):
        position += 1
    return position


def test_a_signal_handler_that_uses_the_session(sts, parent):
    """A handler that uses the session or its client, wherever it runs in a request, does not wait for itself."""

    def is_reached(position: int) -> bool:
        client = assume_role(parent, HUB).client("sts")

        def handle() -> None:
            with contextlib.suppress(CredentialRetrievalError):  # requested inside their own refresh
                client.get_caller_identity()

        return use_with_signal(client.get_caller_identity, [_attempts, _family], position, handle)

    assert number_of_positions(is_reached) > 30
