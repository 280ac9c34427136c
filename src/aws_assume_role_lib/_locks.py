"""A lock that a forked child may use, whatever its parent process was doing at the time of the fork."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any


class ForkSafeLock:
    """A reentrant lock that is new, and free, in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __deepcopy__(self, _: object) -> ForkSafeLock:
        # A boto3.Session can be copied, and keeps this.
        return ForkSafeLock()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds it."""
        # threading internal: what a Condition asks of its lock. Covered by tests/test_threads.py.
        lock: Any = self._lock
        return bool(lock._is_owned())

    def acquire(self, blocking: bool) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _renew_locks() -> None:
    # A lock that another thread held during the fork would stay held for ever: that thread is not in the child.
    for lock in _locks:
        lock._lock = threading.RLock()


# Windows does not fork, and has no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_renew_locks)
