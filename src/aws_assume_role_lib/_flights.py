"""Attempts that threads share: one thread makes the attempt, with no lock held, and the others wait for its outcome.

A deadlock needs a thread that waits while another thread waits for it. So a thread that is inside an attempt, running
an event handler or a callable of the program, never waits: it makes an attempt of its own. Every other wait is bounded,
because the waiting thread may hold a lock of the program (around ``Session.client()``, say) that the attempt needs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

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
    """Return the outcome of ``attempt``, or of the same attempt if another thread is already making it.

    Args:
        key: Identifies the attempt. Threads that pass the same key share it.
        attempt: Makes the attempt. Its exception, too, reaches every thread that shares it.
        by: What :func:`inside` shows while this thread makes the attempt.
        wait_limit: How many seconds to wait for another thread before making the attempt here as well, or 0.
    """
    while True:
        own = _Flight()
        flight = _flights.setdefault(key, own)  # atomic: a lock could be held by another thread at a fork
        if flight is own:
            return _lead(key, own, attempt, by)
        if not flight.landed.wait(wait_limit):
            return _make(attempt, by)
        if flight.error is not None:
            raise _copy_of(flight.error)
        if not flight.interrupted:
            result: T = flight.result
            return result


def is_under_way(key: Hashable) -> bool:
    """Whether a thread of this process is making this attempt."""
    return key in _flights


def inside() -> list[object]:
    """What this thread is in the middle of attempting, outermost first."""
    return _this_thread.inside


def log(level: int, message: str, *args: object) -> None:
    """Log a record as soon as this thread is outside every attempt: a log handler may use the session it reports on."""
    _this_thread.records.append((level, message, *args))
    _emit_records()


def _lead(key: Hashable, flight: _Flight, attempt: Callable[[], T], by: object) -> T:
    flights = _flights
    try:
        flight.result = _make(attempt, by, flush=False)
        flight.interrupted = False
    except Exception as error:
        flight.error = _copy_of(error)
        raise
    finally:
        # A handler may have forked, and the child continues here with flights of its own.
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


def _copy_of(error: Exception) -> Exception:
    """An exception collects notes and tracebacks, so each thread needs its own."""
    try:
        copied = type(error).__new__(type(error), *error.args)
        vars(copied).update({name: value[:] if name == "__notes__" else value for name, value in vars(error).items()})
    except Exception:  # a class that cannot be copied this way: better shared than lost
        return error
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def _forget() -> None:
    # The threads that were making attempts do not exist in the forked child, and this thread starts afresh there.
    global _flights, _this_thread
    _flights, _this_thread = {}, _ThreadState()


# Windows does not fork, and has no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_forget)
