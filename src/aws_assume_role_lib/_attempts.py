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


def share(
    key: Hashable,
    attempt: Callable[[], T],
    *,
    by: object,
    wait_limit: float,
    more_time: Callable[[], float] = float,
) -> T:
    """Return the outcome of ``attempt``, or of the same attempt if another thread is already making it.

    Args:
        key: Identifies the attempt. Threads that pass the same key share it.
        attempt: Makes the attempt. Its exception, too, reaches every thread that shares it.
        by: What :func:`inside` shows while this thread makes the attempt.
        wait_limit: How many seconds to wait for another thread before making the attempt here as well, or 0.
        more_time: Called when they have passed. Returns how many more seconds to wait; by default, none.
    """
    attempts = inside()
    depth = len(attempts)
    try:
        return _share(key, attempt, by, wait_limit, more_time)
    finally:
        # No call here: a signal handler could raise during it and leave an entry behind.
        del attempts[depth:]
        # Not earlier: a handler of these records may wait for a thread that waits for this attempt.
        _emit_records()


def _share(key: Hashable, attempt: Callable[[], T], by: object, wait_limit: float, more_time: Callable[[], float]) -> T:
    flights, own = _flights, _Flight()
    try:
        # setdefault() is atomic. A lock here could be held by another thread during a fork.
        while (flight := flights.setdefault(key, own)) is not own:
            if not (flight.landed.wait(wait_limit) or flight.landed.wait(more_time())):
                # This thread has waited long enough. With None here, it does not wait for anything else, either.
                inside().extend((None, by))
                return attempt()
            if flight.error is not None:
                raise copy_of(flight.error)
            if not flight.interrupted:
                result: T = flight.result
                return result
        inside().append(by)
        own.result = result = attempt()
        own.interrupted = False
        return result
    except Exception as error:
        own.error = copy_of(error)
        raise
    finally:
        # A handler may have forked, and the child continues here with its own flights. Nothing is called before the
        # deletion, because a signal handler could raise after the call.
        if flights is _flights and key in flights and flights[key] is own:
            del flights[key]
            own.landed.set()


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


def _emit_records() -> None:
    records = _this_thread.records
    while records and not _this_thread.inside:
        logger.log(*records.pop(0))


def copy_of(error: E) -> E:
    """Return a copy of an exception: it collects notes and tracebacks, so each thread or task needs its own."""
    try:
        copied = type(error).__new__(type(error), *error.args)
        vars(copied).update({name: value[:] if name == "__notes__" else value for name, value in vars(error).items()})
        # Some of an error may be neither in its arguments nor among its attributes, such as an OSError's file name.
        is_complete = str(copied) == str(error)
    except Exception:  # the class cannot be created this way
        is_complete = False
    if not is_complete:
        return error  # better shared than lost
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    # Without the traceback, whose frames would keep the attempt alive until the next garbage collection.
    return copied


def _forget() -> None:
    # The threads that were making attempts do not exist in the forked child, and this thread starts afresh there.
    global _flights, _this_thread
    _flights, _this_thread = {}, _ThreadState()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not have this
    os.register_at_fork(after_in_child=_forget)
