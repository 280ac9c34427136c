"""A forked child has its own client, its own connections and free locks, whatever its parent was doing."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
import time_machine
from conftest import HUB, SPOKE, Forked, key, needs_fork
from sts_stub import StsStub

from aws_assume_role_lib import _attempts, _mfa, assume_role

pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_pre_fork_server(sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller) -> None:
    """Four workers of a server that used its session refresh at once, with one request and connection each."""
    child = assume_role(parent, HUB)
    first = key(child)
    clock.shift(2 * 3600)
    sts.gate.clear()
    workers = [Forked.start(lambda: key(child)) for _ in range(4)]
    for _ in range(5):
        assert sts.arrived.acquire(timeout=60)
    sts.gate.set()
    keys = {worker.result() for worker in workers}
    assert keys == set(sts.issued) - {first}
    assert len(keys) == 4
    keys.add(key(child))
    assert len(keys) == 5
    assert [request.connection for request in sts.assumed if request.connection == 1] == [1, 1]
    assert len({request.connection for request in sts.assumed}) == 5
    assert sts.violations == []


def test_credentials_that_are_good_serve_in_the_fork(sts: StsStub, parent: boto3.Session) -> None:
    """A forked child keeps using the existing credentials, without calling STS."""
    child = assume_role(parent, HUB)
    first = key(child)
    assert Forked.start(lambda: key(child)).result() == first
    assert len(sts.assumed) == 1


def test_a_chain_in_a_fork(sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller) -> None:
    """In a forked child, the roles of a chain call STS over a connection of the child's own."""
    hub = assume_role(parent, HUB)
    spoke = hub.assume_role(SPOKE)
    key(spoke)
    clock.shift(2 * 3600)
    assert Forked.start(lambda: key(spoke)).result() == "ASIA0000000000000004"
    assert [request.params["RoleArn"] for request in sts.assumed] == [HUB, SPOKE] * 2
    connections = [request.connection for request in sts.assumed]
    assert not set(connections[:2]) & set(connections[2:])
    assert sts.violations == []


@pytest.mark.parametrize("seconds", [0, 50 * 60, 3600 - 30, 2 * 3600])
def test_a_fork_in_the_middle_of_a_refresh(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller, seconds: int
) -> None:
    """A fork while another thread waits for STS, at first use or later, leaves the child free to refresh."""
    child = assume_role(parent, HUB)
    if seconds:
        key(child)
        assert sts.arrived.acquire(timeout=60)
    clock.shift(seconds)
    sts.gate.clear()
    thread = in_thread(lambda: key(child))
    assert sts.arrived.acquire(timeout=60)
    forked = Forked.start(lambda: key(child))
    assert sts.arrived.acquire(timeout=60)
    sts.gate.set()
    answer = forked.result()
    thread.join(15)
    assert {answer, key(child)} == set(list(sts.issued)[-2:])
    here, there = (request.connection for request in sts.assumed[-2:])
    assert here != there
    assert sts.violations == []


def test_a_fork_while_the_client_is_made(sts: StsStub, parent: boto3.Session) -> None:
    """A fork while another thread makes the STS client leaves the child free to make its own."""
    making, go_on, here = threading.Event(), threading.Event(), os.getpid()

    def hold(**_: Any) -> None:
        if os.getpid() == here:
            making.set()
            go_on.wait(30)

    parent.events.register("creating-client-class.sts", hold)
    child, sibling = assume_role(parent, HUB), assume_role(parent, SPOKE)
    thread = in_thread(lambda: key(child))
    assert making.wait(15)
    forked = [Forked.start(lambda: key(child)), Forked.start(lambda: key(sibling))]
    forked.append(Forked.start(lambda: key(assume_role(parent, HUB))))
    answers = {each.result() for each in forked}
    go_on.set()
    thread.join(15)
    assert len(answers | {key(child)}) == 4
    assert answers | {key(child)} == set(sts.issued)


def test_a_fork_in_a_handler(sts: StsStub, parent: boto3.Session) -> None:
    """A thread that forks while it creates a client, or gets a code, continues in both processes."""
    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=lambda: fork("123456"))

    def fork(code: str = "", **_: Any) -> str:
        pids.append(os.fork())
        if not pids[-1]:
            signal.alarm(30)
        return code

    def work() -> str:
        child.client("s3")
        return key(child)

    pids: list[int] = []
    child.events.register("creating-client-class.s3", fork)
    reader, writer = os.pipe()
    here = os.getpid()
    try:
        answer = work()
    except BaseException as error:
        answer = repr(error)
    os.write(writer, f"{answer}\n".encode())
    if os.getpid() != here:
        os._exit(0)
    os.close(writer)
    for pid in pids:
        os.waitpid(pid, 0)
    with os.fdopen(reader) as answers:
        assert sorted(answers) == sorted(f"{access_key}\n" for access_key in sts.issued)
    assert len(sts.issued) == 4


def test_a_fork_that_does_not_come_back_from_a_handler(sts: StsStub, parent: boto3.Session) -> None:
    """In a child forked inside a handler, as by multiprocessing, threads are not blocked."""
    child, sibling = assume_role(parent, HUB), assume_role(parent, SPOKE)
    forked: list[Forked] = []

    def work() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: sibling.client("sqs") and key(sibling)).result(10)

    child.events.register("creating-client-class.s3", lambda **_: forked.append(Forked.start(work)))
    child.client("s3")
    assert forked[0].result() in sts.issued


def test_a_fork_while_a_code_is_asked_for(sts: StsStub, parent: boto3.Session) -> None:
    """A fork while another thread prompts for an MFA code leaves the child free to prompt."""
    asking, go_on, here = threading.Event(), threading.Event(), os.getpid()

    def code() -> str:
        if os.getpid() == here:
            asking.set()
            go_on.wait(30)
        return "000000"

    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/mario", TokenCode=code)
    thread = in_thread(lambda: key(child))
    assert asking.wait(15)
    answer = Forked.start(lambda: key(child)).result()
    go_on.set()
    thread.join(15)
    assert {answer, key(child)} == set(sts.issued)


def test_the_fork_of_a_fork(sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller) -> None:
    """A grandchild creates its own client too."""
    child = assume_role(parent, HUB)
    key(child)
    clock.shift(2 * 3600)

    def use_and_fork() -> str:
        own = key(child)
        clock.shift(10_000)
        return f"{own} {Forked.start(lambda: key(child)).result()}"

    sts.lifetime = 10_800  # the stub's clock stands still while its clients' clocks run ahead
    assert Forked.start(use_and_fork).result().split() == list(sts.issued)[1:]
    assert len({request.connection for request in sts.assumed}) == 3


def test_a_fork_while_a_person_is_prompted(parent: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked while a thread prompts for a code can prompt, too."""
    prompted, go_on, here = threading.Event(), threading.Event(), os.getpid()

    def getpass(_: str) -> str:
        if os.getpid() == here:
            prompted.set()
            go_on.wait(30)
        return "000000"

    monkeypatch.setattr(_mfa, "has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", getpass)
    device = _mfa.MfaDevice("arn:aws:iam::111111111111:mfa/mario", None)
    thread = in_thread(device.code)
    assert prompted.wait(15)
    assert Forked.start(device.code).result() == "000000"
    go_on.set()
    thread.join(15)


def test_a_fork_inside_a_refresh_that_both_go_on_with(sts: StsStub, parent: boto3.Session) -> None:
    """A handler that forks in the middle of a refresh and returns in both processes leaves both with keys."""
    forked: list[int] = []
    reader, writer = os.pipe()

    def fork(**_: Any) -> None:
        if not forked:
            forked.append(os.fork())

    parent.events.register("before-send.sts.AssumeRole", fork)
    child = assume_role(parent, HUB)
    try:
        own = key(child)
        again = key(child)
    finally:
        if forked == [0]:
            os.write(writer, f"{own} {again}".encode())
            os._exit(0)
    ready, _, _ = select.select([reader], [], [], 15)
    assert ready, "the forked child hangs"
    theirs, theirs_again = os.read(reader, 100).decode().split()
    os.waitpid(forked[0], 0)
    assert own == again
    assert theirs == theirs_again
    assert {own, theirs} == set(sts.issued)


def test_what_a_forked_child_forgets_may_still_end(sts: StsStub, parent: boto3.Session) -> None:
    """An attempt that continues in a forked child, where it is no longer registered, ends there like any other."""
    # The hook that runs in a forked child runs in this process, where its effect can be seen.
    parent.events.register("before-call.sts.AssumeRole", lambda **_: _attempts._forget())
    child = assume_role(parent, HUB)
    assert key(child) == key(child) == "ASIA0000000000000001"
    assert not _attempts.is_under_way(child.get_credentials())
