"""Attempts that threads share: one thread makes the attempt, with no lock held, and the others wait for its outcome.

Two rules keep threads from waiting for each other in a circle. No lock is held while code runs that is not ours. And a
thread that runs such code inside an attempt, an event handler or a callable of the program, waits for nobody: it makes
an attempt of its own. What remains only waits for attempts further up the chain. Every wait is bounded, because the
waiting thread may hold a lock of the program that the attempt needs.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, TimeoutError
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, HTTPClientError

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

logger = logging.getLogger("aws_assume_role_lib")

# How many seconds to wait for another thread's attempt. Longer than most unresponsive endpoints take.
WAIT_LIMIT = 60

# Marks, among a thread's attempts: code is running that is not ours; the thread has waited long enough.
_FOREIGN, _IMPATIENT = object(), object()


class _State:
    """What a thread or greenlet is doing: the attempts that it is inside, and records to log when it is outside."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.inside: list[object] = []
        self.records: list[tuple[Any, ...]] = []


class _Attempt(Future[Any]):
    def __init__(self, state: _State) -> None:
        super().__init__()
        self.state = state


_attempts: dict[Hashable, _Attempt] = {}
_current: ContextVar[_State | None] = ContextVar("aws_assume_role_lib", default=None)


def _state() -> _State:
    # Contexts are copied to threads, tasks and greenlets, which are not inside the attempts of whoever started them.
    # get_ident() is looked up each time, because gevent may replace it later.
    owner = os.getpid(), threading.get_ident()
    state = _current.get()
    if state is None or state.owner != owner:
        state = _State(owner)
        _current.set(state)
    return state


def share(key: Hashable, attempt: Callable[[], T], wait_limit: float = WAIT_LIMIT, *, patient: bool = False) -> T:
    """Return the outcome of ``attempt``, or of the same attempt if another thread is already making it.

    Args:
        key: Identifies the attempt. Threads that pass equal keys share it.
        attempt: Makes the attempt. An error of botocore's is an outcome, too, and reaches every thread that waits.
        wait_limit: How many seconds to wait for another thread before making the attempt here as well.
        patient: Wait even if this thread has waited for another attempt in vain.
    """
    state = _state()
    depth = len(state.inside)
    try:
        return _share(state, key, attempt, 0 if _IMPATIENT in state.inside and not patient else wait_limit)
    finally:
        # No call here: a signal handler could raise during it and leave an entry behind.
        del state.inside[depth:]
        # Not earlier: a handler of these records may wait for a thread that waits for this attempt.
        _emit_records(state)


def _share(state: _State, key: Hashable, attempt: Callable[[], T], wait_limit: float) -> T:
    if is_inside(key):
        raise requested_inside("the credentials")
    attempts, own = _attempts, _Attempt(state)
    try:
        # setdefault() is atomic. A lock here could be held by another thread during a fork.
        while (other := attempts.setdefault(key, own)) is not own:
            if _FOREIGN in state.inside:
                state.inside.append(key)
                return attempt()
            try:
                error = other.exception(wait_limit)
            except CancelledError:  # the other attempt has no outcome: take over
                continue
            except TimeoutError:
                state.inside.extend((key, _IMPATIENT))
                return attempt()
            if error:
                raise copy_of(error)
            result: T = other.result()
            return result
        state.inside.append(key)
        result = attempt()
        if attempts is _attempts:
            own.set_result(result)
        return result
    except Exception as error:
        if attempts is _attempts and _is_outcome(error):
            own.set_exception(copy_of(error))
        raise
    finally:
        # A handler may have forked: in the child, which has attempts of its own, nobody waits for this one. Nothing is
        # called before the deletion, because a signal handler could raise after the call.
        if attempts is _attempts and key in attempts and attempts[key] is own:
            del attempts[key]
            own.cancel()  # does nothing if there is an outcome


def requested_inside(what: str) -> CredentialRetrievalError:
    return CredentialRetrievalError(
        provider="assume-role",
        error_msg=f"{what} were requested by a handler or callable running inside their own refresh; use another "
        "session there.",
    )


def _is_outcome(error: Exception) -> bool:
    # Anything else was raised in this thread alone: by a callable of the program, or by a signal handler that enforces
    # a time limit. botocore wraps what is raised while it sends a request in an HTTPClientError.
    return isinstance(error, (BotoCoreError, ClientError)) and type(error) is not HTTPClientError


def run_foreign(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call code that is not ours, such as a handler's: until it returns, this thread waits for no other thread."""
    inside = _state().inside
    depth = len(inside)
    inside.append(_FOREIGN)
    try:
        return function(*args, **kwargs)
    finally:
        del inside[depth:]


def may_wait() -> bool:
    """Whether this thread may wait for another thread's attempt."""
    return _FOREIGN not in _state().inside


def is_inside(key: Hashable) -> bool:
    """Whether this thread is in the middle of this attempt."""
    state, attempt = _state(), _attempts.get(key)
    # The second condition is for a signal handler that runs just after this thread has begun the attempt.
    return key in state.inside or (attempt is not None and attempt.state is state)


def is_under_way(key: Hashable) -> bool:
    """Whether a thread of this process is making this attempt."""
    return key in _attempts


def log(level: int, message: str, *args: object) -> None:
    """Log a record as soon as this thread is outside every attempt: a log handler may use the session it reports on."""
    state = _state()
    state.records.append((level, message, *args))
    _emit_records(state)


def _emit_records(state: _State) -> None:
    while state.records and not state.inside:
        logger.log(*state.records.pop(0))


def copy_of(error: E) -> E:
    """Return a copy of an exception: it collects notes and tracebacks, so each thread or task needs its own."""
    try:
        copied = copy.copy(error)
        vars(copied).update({name: value[:] if name == "__notes__" else value for name, value in vars(error).items()})
        # Not if a class loses some of its text on the way.
        if str(copied) != str(error):
            return error
    except Exception:  # the class cannot be copied
        return error  # better shared than lost
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    # Without the traceback, whose frames would keep the attempt alive until the next garbage collection.
    return copied


def _forget() -> None:
    # The threads that were making attempts do not exist in the forked child.
    global _attempts
    _attempts = {}


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not have this
    os.register_at_fork(after_in_child=_forget)
