"""Threads share sessions, from the first use on, and one thread's refresh serves all."""

from __future__ import annotations

import contextvars
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import boto3
import pytest
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
from conftest import HANG, HUB, SPOKE, at_once, key, later, needs_posix, wait_until, waiting_threads, while_sts_waits
from sts_stub import Fault

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._attempts import is_under_way


@pytest.fixture
def switching():
    """Threads take turns as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_64_threads_refresh_once(sts, parent, clock, switching):
    """64 threads that find credentials expired make one AssumeRole, and none signs with the expired keys."""
    client = assume_role(parent, HUB).client("sts")
    for number in (1, 2):
        [arn] = set(at_once(lambda _: client.get_caller_identity()["Arn"]))
        assert len(sts.assumed) == number
        assert ":assumed-role/Hub/" in arn
        clock.shift(2 * 3600)
    assert sts.violations == []


def test_the_parents_credentials_are_loaded_once(sts):
    """Threads that first assume roles from one parent share one set of its credentials."""
    loads, go_on = [], threading.Event()

    class Provider(CredentialProvider):
        def load(self) -> Credentials:
            loads.append(True)
            assert go_on.wait(HANG)
            return Credentials("AKIAROOT", "root-secret")

    parent = boto3.Session(region_name="us-east-1")
    parent._session.register_component("credential_provider", CredentialResolver([Provider()]))
    calls = [later(lambda: assume_role(parent, HUB)) for _ in range(8)]
    wait_until(lambda: waiting_threads() == 7)
    go_on.set()
    sessions = [call.result(HANG) for call in calls]
    assert len(loads) == 1
    assert len({id(session.assume_role_parent_session.get_credentials()) for session in sessions}) == 1


def test_one_cold_session_shared_by_many_threads(sts, parent, switching):
    """A new session can be shared at once: clients, resources, credentials and further roles from any thread."""
    uses: list[Callable[[Any], object]] = [
        lambda session: session.client("sts").get_caller_identity(),
        lambda session: session.client("dynamodb", region_name="eu-west-1").meta.region_name,
        lambda session: session.resource("s3").Bucket("bucket").name,
        lambda session: session.get_credentials().token,
        lambda session: key(session.assume_role(SPOKE)),
        lambda session: session.get_available_services(),
        lambda session: session._session.create_client("iam").meta.service_model.service_name,
    ]
    for number in (1, 2):
        child = assume_role(boto3.Session("AKIAROOT", "s", region_name="us-east-1"), HUB)
        assert None not in at_once(lambda index, child=child: uses[index % len(uses)](child), 21)
        assert [request.params["RoleArn"] for request in sts.assumed].count(HUB) == number
    assert sts.violations == []


def test_models_that_each_session_reads_for_itself(sts, models_read_anew, switching):
    """With botocore's own loader, cold, threads create clients of every kind from one family."""
    services = ["s3", "sts", "dynamodb", "sqs", "iam", "lambda"]
    hub = assume_role(boto3.Session("AKIAROOT", "s", region_name="us-east-1"), HUB)
    family = [hub, hub.assume_role(SPOKE)]
    made = at_once(lambda index: family[index % 2].client(services[index % 6]), 12)
    assert [client.meta.service_model.service_name for client in made] == services * 2


def test_a_handler_uses_a_session_that_waits_for_the_refresh(sts, parent, clock):
    """A handler that a hub's refresh runs may use a spoke whose own refresh, in another thread, waits for the hub's."""
    before: list[str] = []
    found: list[str] = []
    others: list[Future[str]] = []

    def use(**_: Any) -> None:
        if before and not others:
            others.append(later(lambda: key(spoke)))
            wait_until(lambda: is_under_way(spoke.get_credentials()))
            found.append(key(spoke))

    parent.events.register("before-call.sts.AssumeRole", use)
    hub = assume_role(parent, HUB)
    spoke = assume_role(hub, SPOKE)
    before += [key(hub), key(spoke)]
    clock.shift(59 * 60 + 20)
    after = [later(lambda: key(hub)).result(HANG), others[0].result(HANG)]
    assert found == [before[1]]
    assert not {*before} & {*after}
    assert sts.violations == []


def test_a_context_that_is_copied_to_another_thread(sts, parent):
    """A thread in a copy of the context of one that refreshes, as by asyncio.to_thread(), waits for that refresh."""
    contexts: queue.SimpleQueue[contextvars.Context] = queue.SimpleQueue()

    def started(**_: Any) -> None:
        contexts.put(contextvars.copy_context())
        wait_until(lambda: waiting_threads() == 1)

    parent.events.register("before-call.sts.AssumeRole", started)
    for number in (1, 2):
        session = assume_role(parent, HUB)
        calls = [lambda: key(session), lambda: contexts.get(timeout=HANG).run(key, session)]  # noqa: B023
        other = later(calls[number - 2])
        assert calls[number - 1]() == other.result(HANG)
        assert len(sts.assumed) == number


def test_siblings_and_the_parent_share_from_cold(sts, parent, clients_made, switching):
    """Threads that each use another session of one family, hub and spokes, make one AssumeRole for each."""
    hub = assume_role(parent, HUB)
    hub.events.register("creating-client-class.sts", lambda **_: clients_made.append("hub's"))
    family = [hub, *(hub.assume_role(f"{SPOKE}-{number}") for number in range(31))]
    keys = at_once(lambda index: key(family[index]), 32)
    assert [sts.issued[each].role_arn for each in keys] == [session.role_arn for session in family]
    assert len(sts.assumed) == 32
    assert sorted(clients_made) == ["hub's", "sts"]
    assert sts.violations == []


@pytest.mark.parametrize("seconds", [50 * 60, 59 * 60 - 1])
def test_others_go_on_during_an_early_refresh(sts, parent, clock, seconds):
    """While one thread refreshes early, the others sign with the current keys and do not wait."""
    child = assume_role(parent, HUB)
    first = key(child)
    assert sts.arrived.acquire(timeout=HANG)
    clock.shift(seconds)
    sts.gate.clear()
    refresh = later(lambda: key(child))
    assert sts.arrived.acquire(timeout=HANG)
    assert at_once(lambda _: key(child), 16) == [first] * 16
    assert not refresh.done()
    sts.gate.set()
    assert refresh.result(HANG) == key(child) != first
    assert len(sts.assumed) == 2


@pytest.mark.parametrize("seconds", [59 * 60, 2 * 3600])
def test_others_wait_in_the_last_minute(sts, parent, clock, seconds):
    """In the last minute, and after it, the others wait for the thread that refreshes, and use its keys."""
    child = assume_role(parent, HUB)
    first = key(child)
    clock.shift(seconds)
    [new] = {*while_sts_waits(sts, lambda _: key(child), 8)}
    assert new != first
    assert len(sts.assumed) == 2


def test_a_failed_early_refresh_is_not_repeated_by_another_thread(sts, one_attempt, parent, clock, switching):
    """However many threads find STS unreachable in the refresh window, and in the last minute, it is tried once."""
    child = assume_role(parent, HUB)
    first = key(child)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    for number, shift in enumerate((50 * 60, 9 * 60 + 10), start=2):
        clock.shift(shift)
        assert set(at_once(lambda _: key(child))) == {first}
        assert len(sts.assumed) == number


@needs_posix
def test_control_c_during_a_refresh(sts, parent):
    """Ctrl-C while the main thread waits for STS raises KeyboardInterrupt there, and the next thread refreshes."""
    child = assume_role(parent, HUB)
    sts.gate.clear()

    def interrupt() -> None:
        assert sts.arrived.acquire(timeout=HANG)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupted = later(interrupt)
    with pytest.raises(KeyboardInterrupt):
        key(child)
    interrupted.result(HANG)
    sts.gate.set()
    assert later(lambda: key(child)).result(HANG).startswith("ASIA")


def test_handlers_that_threads_register_at_once(sts, parent, switching):
    """Of handlers that eight threads register on eight sessions at once, each sees its own session's events only."""
    sessions = [assume_role(parent, HUB) for _ in range(8)]
    events = [f"made-up.s3.Operation{number}" for number in range(40)]
    seen: list[tuple[int, int]] = []

    def register(index: int) -> None:
        for event in events:
            sessions[index].events.register(event, lambda sender, **_: seen.append((index, sender)))

    at_once(register, 8)
    for sender, session in enumerate(sessions):
        for event in events:
            session.events.emit(event, sender=sender)
    assert sorted(seen) == sorted((index, index) for index in range(8) for _ in events)
    plain: Any = boto3.Session("AKIAROOT", "s", region_name="us-east-1").client("s3")
    assert not plain.meta.events._emitter._handlers.prefix_search(events[0])


def test_a_chain_longer_than_the_recursion_limit_allows(sts, parent):
    """A chain's refresh takes a bounded number of frames; a role whose parent has keys needs no role further up."""
    chain = [parent]
    for _ in range(45):
        chain.append(assume_role(chain[-1], HUB, validate=False))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(380)  # recursion takes ten frames for each role
    try:
        assert later(lambda: key(chain[-1])).result(HANG) in sts.issued
    finally:
        sys.setrecursionlimit(limit)
    assert len(sts.assumed) == 45
    chain[25].get_credentials().refresh_at = 0
    key(assume_role(chain[-1], HUB))
    assert len(sts.assumed) == 46
