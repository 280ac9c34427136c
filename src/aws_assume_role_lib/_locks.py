"""A lock that a forked child may use, whatever its parent process was doing at the time of the fork."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator


class ForkSafeLock:
    """A reentrant lock that is new, and free, in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __deepcopy__(self, _: object) -> ForkSafeLock:
        # A boto3.Session can be copied, and keeps this.
        return ForkSafeLock()

    def acquire(self, blocking: bool) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        # A thread that has forked meanwhile, or was interrupted in let_go(), does not hold it any more.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Leave the lock to others, as a Condition does that waits, where this thread holds it."""
        depth = 0
        with contextlib.suppress(RuntimeError):  # it is not held, or no longer
            while True:
                self._lock.release()
                depth += 1
        try:
            yield
        finally:
            for _ in range(depth):
                self._lock.acquire()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _renew_locks() -> None:
    # A lock that another thread held during the fork would stay held for ever: that thread is not in the child.
    for lock in _locks:
        lock._lock = threading.RLock()


# Windows does not fork, and has no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_renew_locks)
