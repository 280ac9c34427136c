"""Attempts that threads share: one thread makes an attempt, with no lock held; the others wait for its outcome.

A thread that waits must not be waited for. So a thread that is inside an attempt itself, and runs an event handler or a
callable of the program's, never waits: it makes an attempt of its own. And since the thread that it would wait for may
need a lock that this one holds (one around ``Session.client()``, say), every wait is bounded.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

logger = logging.getLogger("aws_assume_role_lib")


class _Flight:
    """An attempt under way, and later its outcome."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.interrupted = True
        self.error: Exception | None = None
        self.result: Any = None


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.inside: list[object] = []
        self.records: list[tuple[Any, ...]] = []


_flights: dict[Hashable, _Flight] = {}
_this_thread = _ThreadState()


def share(key: Hashable, attempt: Callable[[], T], *, by: object, wait_limit: float) -> T:
    """Return what ``attempt`` returns or raise what it raises, or the outcome of another thread's that is under way.

    Args:
        key: What is attempted: one attempt at a time is shared under each key.
        attempt: Makes the attempt.
        by: What :func:`inside` shows while this thread makes the attempt.
        wait_limit: The seconds to wait for another thread before making an attempt of one's own; 0 not to wait.
    """
    while True:
        own = _Flight()
        flight = _flights.setdefault(key, own)  # atomic: a lock could be held by another thread at a fork
        if flight is own:
            return _lead(key, own, attempt, by)
        if not flight.landed.wait(wait_limit):
            return _make(attempt, by)
        if flight.error is not None:
            raise copy_of(flight.error)
        if not flight.interrupted:
            result: T = flight.result
            return result


def is_under_way(key: Hashable) -> bool:
    """Whether a thread of this process is making an attempt that :func:`share` would wait for."""
    return key in _flights


def inside() -> list[object]:
    """What this thread is attempting, outermost first."""
    return _this_thread.inside


def log(level: int, message: str, *args: object) -> None:
    """Log a record once this thread is in no attempt: a log handler may itself use the session that it reports on."""
    _this_thread.records.append((level, message, *args))
    _emit_records()


def _lead(key: Hashable, flight: _Flight, attempt: Callable[[], T], by: object) -> T:
    flights = _flights
    try:
        flight.result = _make(attempt, by, flush=False)
        flight.interrupted = False
    except Exception as error:
        flight.error = copy_of(error)
        raise
    finally:
        # A forked child that goes on from here has flights of its own.
        if flights is _flights:
            del flights[key]
            flight.landed.set()
        _emit_records()
    result: T = flight.result
    return result


def _make(attempt: Callable[[], T], by: object, flush: bool = True) -> T:
    attempts = _this_thread.inside
    attempts.append(by)
    try:
        return attempt()
    finally:
        attempts.pop()
        if flush:
            _emit_records()


def _emit_records() -> None:
    records = _this_thread.records
    while records and not _this_thread.inside:
        logger.log(*records.pop(0))


def copy_of(error: E) -> E:
    """An exception collects notes and tracebacks, so each thread or task needs its own."""
    try:
        copied = type(error).__new__(type(error), *error.args)
        vars(copied).update({name: value[:] if name == "__notes__" else value for name, value in vars(error).items()})
    except Exception:  # a class with a constructor of its own kind: better shared than lost
        return error
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def _forget() -> None:
    # The threads that were making attempts are not in the forked child, and what this one was in is not its business.
    global _flights, _this_thread
    _flights, _this_thread = {}, _ThreadState()


# Windows does not fork, and has no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_forget)
