"""Tasks and threads share a role's credentials: one call to STS, in a thread, which no task can cancel."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import time_machine
from aiobotocore.session import AioSession
from botocore.exceptions import CredentialRetrievalError, EndpointConnectionError
from conftest import HUB, Forked, at_once, key, later, needs_fork
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, assume_role
from aws_assume_role_lib._travel import aio
from aws_assume_role_lib.aio import ensure_valid_for, get_session

MFA = "arn:aws:iam::123456789012:mfa/alice"
FIRST, SECOND = "ASIA0000000000000001", "ASIA0000000000000002"

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a new event loop, of asyncio or uvloop."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop: Any = pytest.importorskip("uvloop", reason="no wheel of uvloop fits this machine")
    run_in_uvloop: Run = uvloop.run
    return run_in_uvloop


@pytest.fixture
def hub(parent: boto3.Session) -> AssumedRoleSession:
    return assume_role(parent, HUB)


@pytest.fixture
def expired(sts: StsStub, hub: AssumedRoleSession, clock: time_machine.Traveller) -> AssumedRoleSession:
    """A session whose first keys have expired."""
    assert key(hub) == FIRST
    clock.shift(3600)
    return hub


async def key_of(session: AioSession) -> str:
    access_key: str = (await (await session.get_credentials()).get_frozen_credentials()).access_key
    return access_key


async def arrival(sts: StsStub) -> None:
    """Wait for the next AssumeRole, with the event loop running."""
    assert await asyncio.to_thread(sts.arrived.acquire, timeout=30)


async def some_time() -> None:
    """Give every task that can proceed the time to do so."""
    for _ in range(20):
        await asyncio.sleep(0)


# One call


def test_a_client_signs_with_the_keys_of_the_session(
    sts: StsStub, hub: AssumedRoleSession, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aiobotocore client acts as the role, with the keys of the session without asyncio; while they are fresh, a
    task reads them without a thread.
    """

    async def work() -> Any:
        async with get_session(hub).create_client("sts") as client:
            return await client.get_caller_identity()

    assert run(work())["Account"] == "111111111111"
    assert sts.requests[-1].access_key == key(hub) == FIRST
    monkeypatch.setattr(threading.Thread, "start", None)
    assert run(key_of(get_session(hub))) == FIRST
    assert len(sts.assumed) == 1


def test_a_hundred_tasks_make_one_call(sts: StsStub, hub: AssumedRoleSession, run: Run) -> None:
    """A hundred tasks, of two sessions, share one call to STS and one thread, and nothing is left behind."""
    sts.gate.clear()
    before = threading.active_count()

    async def work() -> tuple[set[str], int]:
        sessions = get_session(hub), get_session(hub)
        tasks = [asyncio.create_task(key_of(sessions[number % 2])) for number in range(100)]
        await some_time()
        threads = threading.active_count() - before
        sts.gate.set()
        return set(await asyncio.gather(*tasks)), threads

    keys, threads = run(work())
    assert keys == {FIRST}
    assert len(sts.assumed) == 1
    assert threads <= 2  # plus the stub's connection
    assert aio._refreshes == {}


def test_tasks_and_threads_make_one_call(sts: StsStub, hub: AssumedRoleSession) -> None:
    """Threads, and tasks in the event loops of other threads, share one call to STS."""

    async def work() -> set[str]:
        return set(await asyncio.gather(*[key_of(session) for _ in range(10)]))

    session = get_session(hub)
    answers = at_once(lambda number: asyncio.run(work()) if number % 2 else {key(hub)}, 16)
    assert answers == [{FIRST}] * 16
    assert len(sts.assumed) == 1


def test_the_event_loop_goes_on(sts: StsStub, hub: AssumedRoleSession, run: Run) -> None:
    """While STS does not respond, the event loop serves other tasks, including clients with other credentials."""
    sts.gate.clear()

    async def work() -> str:
        async with AioSession().create_client(
            "sts", "us-east-1", aws_access_key_id="AKIAOTHER", aws_secret_access_key="other"
        ) as other:
            task = asyncio.create_task(key_of(get_session(hub)))
            await arrival(sts)
            for _ in range(3):
                await other.get_caller_identity()
            assert not task.done()
            sts.gate.set()
            return await task

    assert run(work()) == FIRST


# Refreshes


def test_expired_keys_are_refreshed_once(sts: StsStub, expired: AssumedRoleSession, run: Run) -> None:
    """Tasks that need a refresh make one call, and a client created before signs with the new keys."""

    async def work() -> None:
        async with get_session(expired).create_client("sts") as client:
            await asyncio.gather(*[client.get_caller_identity() for _ in range(10)])

    run(work())
    assert {request.access_key for request in sts.requests if request.action == "GetCallerIdentity"} == {SECOND}
    assert len(sts.assumed) == 2
    assert sts.violations == []


@pytest.mark.parametrize(
    ("age", "others"),
    [pytest.param(46 * 60, FIRST, id="early"), pytest.param(3600 - 60, SECOND, id="last minute")],
)
def test_who_waits_for_a_refresh(
    sts: StsStub, hub: AssumedRoleSession, clock: time_machine.Traveller, run: Run, age: int, others: str
) -> None:
    """While one task waits for an early refresh, the others continue with the keys that are still valid; in the last
    minute of the keys, all tasks wait for new ones.
    """
    key(hub)
    sts.arrived.acquire()
    clock.shift(age)
    sts.gate.clear()

    async def work() -> list[str]:
        session = get_session(hub)
        tasks = [asyncio.create_task(key_of(session))]
        await arrival(sts)
        tasks += [asyncio.create_task(key_of(session)) for _ in range(3)]
        await some_time()
        assert [task.done() for task in tasks] == [False, *[others == FIRST] * 3]
        sts.gate.set()
        return await asyncio.gather(*tasks)

    assert run(work()) == [SECOND, *[others] * 3]


def test_every_task_is_told_of_an_outage(
    sts: StsStub, expired: AssumedRoleSession, run: Run, one_attempt: None
) -> None:
    """If no keys are left, each task gets botocore's error as an object of its own; the next use recovers."""
    sts.down()

    async def work() -> list[Any]:
        return await asyncio.gather(*[key_of(get_session(expired)) for _ in range(5)], return_exceptions=True)

    errors = run(work())
    assert {type(error) for error in errors} == {EndpointConnectionError}
    assert len({id(error) for error in errors}) == 5
    notes = {tuple(getattr(error, "__notes__", ())) for error in errors}
    assert len(notes) == 1
    assert len(notes.pop()) == 2, "what to check, and for which role"
    sts.up()
    assert run(work()) == [SECOND] * 5


# Cancelled tasks and closed loops


@pytest.mark.parametrize("survivors", [0, 1])
def test_cancelled_tasks_leave_the_call_to_the_others(
    sts: StsStub, hub: AssumedRoleSession, run: Run, survivors: int
) -> None:
    """Tasks cancelled while they wait end at once, and leave one call running, whose keys serve those that wait or
    come later.
    """
    sts.gate.clear()

    async def work() -> list[str]:
        session = get_session(hub)
        remaining = [asyncio.create_task(key_of(session)) for _ in range(survivors)]
        for _ in range(5):
            tasks = [asyncio.create_task(key_of(session)) for _ in range(100)]
            await some_time()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
        await arrival(sts)
        assert not any(task.done() for task in remaining)
        sts.gate.set()
        return await asyncio.gather(*remaining, key_of(session))

    assert run(work()) == [FIRST] * (survivors + 1)
    assert len(sts.assumed) == 1


def test_a_loop_that_is_closed_on_waiting_tasks(sts: StsStub, hub: AssumedRoleSession) -> None:
    """Tasks of other event loops get the keys even if a loop was closed while one of its tasks waited for them."""
    session = get_session(hub)
    sts.gate.clear()
    closed = asyncio.new_event_loop()
    task = closed.create_task(key_of(session))
    closed.run_until_complete(arrival(sts))
    closed.close()
    other = later(lambda: asyncio.run(key_of(session)))
    sts.gate.set()
    assert other.result(30) == FIRST
    assert not task.done()


def test_one_event_loop_after_another(
    sts: StsStub, hub: AssumedRoleSession, clock: time_machine.Traveller, run: Run
) -> None:
    """asyncio.run() may be called again and again with one session, with refreshes in between."""
    session = get_session(hub)
    keys = []
    for _ in range(3):
        keys += [run(key_of(session)), run(key_of(session))]
        clock.shift(3600)
    assert keys == sorted([*sts.issued] * 2)


# Code of the program's that runs inside a refresh


def test_a_code_from_a_slow_callable(sts: StsStub, parent: boto3.Session, run: Run) -> None:
    """A TokenCode callable runs outside the event loop's thread, so it may wait for the loop to bring the code."""
    loops: list[asyncio.AbstractEventLoop] = []
    threads: list[threading.Thread] = []

    async def typed() -> str:
        await some_time()
        return "123456"

    def ask() -> str:
        threads.append(threading.current_thread())
        return asyncio.run_coroutine_threadsafe(typed(), loops[0]).result(30)

    session = get_session(assume_role(parent, HUB, SerialNumber=MFA, TokenCode=ask))

    async def work() -> list[str]:
        loops.append(asyncio.get_running_loop())
        return await asyncio.gather(*[key_of(session) for _ in range(10)])

    assert run(work()) == [FIRST] * 10
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_a_callable_sees_the_context_of_the_task(sts: StsStub, parent: boto3.Session) -> None:
    """What runs inside a refresh sees the context variables of the task that started it, as tracing needs."""
    request = contextvars.ContextVar("request", default="none")

    async def work() -> str:
        request.set("42")
        return await key_of(get_session(assume_role(parent, HUB, RoleSessionName=lambda: f"request-{request.get()}")))

    assert sts.issued[asyncio.run(work())].session_name == "request-42"


def test_a_callable_that_uses_its_own_role(sts: StsStub, parent: boto3.Session) -> None:
    """A callable that uses asyncio to act as the role that needs its code is refused at once, as without asyncio."""

    def ask() -> str:
        return asyncio.run(key_of(session))

    session = get_session(assume_role(parent, HUB, SerialNumber=MFA, TokenCode=ask))
    with pytest.raises(CredentialRetrievalError, match="running inside their own refresh"):
        asyncio.run(key_of(session))


@pytest.mark.parametrize("error", [SystemExit(3), KeyError("code"), ValueError("no code")], ids=repr)
def test_what_a_callable_raises(sts: StsStub, parent: boto3.Session, error: BaseException) -> None:
    """Whatever a callable raises reaches the tasks that wait, and none hangs."""

    def ask() -> str:
        raise error

    session = get_session(assume_role(parent, HUB, SerialNumber=MFA, TokenCode=ask))

    async def work() -> None:
        for _ in range(2):
            tasks = [asyncio.ensure_future(caught(key_of(session))) for _ in range(3)]
            assert [type(raised) for raised in await asyncio.gather(*tasks)] == [type(error)] * 3

    async def caught(using: Awaitable[str]) -> BaseException:
        with pytest.raises(type(error)) as raised:
            await using
        return raised.value

    asyncio.run(work())


def test_no_thread_can_be_started(sts: StsStub, hub: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system cannot start another thread, the event loop's own thread refreshes the credentials."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(aio, "threading", SimpleNamespace(Thread=Refused))
    assert asyncio.run(key_of(get_session(hub))) == FIRST


# Forks


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_during_a_refresh(sts: StsStub, hub: AssumedRoleSession) -> None:
    """A child forked while a thread of its parent calls STS makes its own call."""
    session = get_session(hub)
    sts.gate.clear()
    waiting: Future[str] = later(lambda: asyncio.run(key_of(session)))
    assert sts.arrived.acquire(timeout=30)
    later(lambda: sts.arrived.acquire(timeout=30) and sts.gate.set())
    in_child = Forked.start(lambda: asyncio.run(key_of(session))).result()
    assert {in_child, waiting.result(30)} == {FIRST, SECOND}


# Enough life left


def test_a_task_ensures_that_enough_is_left(
    sts: StsStub, hub: AssumedRoleSession, clock: time_machine.Traveller, run: Run
) -> None:
    """ensure_valid_for() renews in a thread, while the event loop runs, for the session and the clients of asyncio."""
    assert key(hub) == FIRST
    clock.shift(1800)
    sts.gate.clear()

    async def main() -> str:
        session = get_session(hub)
        renewal = asyncio.create_task(ensure_valid_for(hub, 3000))
        for _ in range(2):
            await arrival(sts)  # of the first keys' call, and of this one
        sts.gate.set()
        assert (await renewal - datetime.now(timezone.utc)).total_seconds() > 3000
        return await key_of(session)

    assert run(main()) == SECOND
    assert len(sts.assumed) == 2
