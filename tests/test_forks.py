"""A forked child has its own client, its own connections and free locks, whatever its parent was doing."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import HANG, HUB, SPOKE, Forked, key, later, needs_fork

from aws_assume_role_lib import _attempts, assume_role

DEVICE = "arn:aws:iam::111111111111:mfa/me"

pytestmark = [needs_fork, pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")]


def test_a_pre_fork_server(sts, parent, clock):
    """Four workers use good keys without a request, and refresh at once, with one request and connection each."""
    child = assume_role(parent, HUB)
    first = key(child)
    assert Forked.start(lambda: key(child)).result() == first
    assert sts.arrived.acquire(timeout=HANG)
    clock.shift(2 * 3600)
    sts.gate.clear()
    workers = [Forked.start(lambda: key(child)) for _ in range(4)]
    for _ in workers:
        assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    keys = [first, *(worker.result() for worker in workers), key(child)]
    assert sorted(keys) == list(sts.issued)
    assert [request.connection for request in sts.assumed if request.connection == 1] == [1, 1]
    assert len({request.connection for request in sts.assumed}) == 5
    assert sts.violations == []


@pytest.mark.parametrize("seconds", [0, 50 * 60, 2 * 3600])
def test_a_fork_in_the_middle_of_a_refresh(sts, parent, clock, seconds):
    """A fork while another thread waits for STS, at first use or later, leaves the child free to refresh."""
    child = assume_role(parent, HUB)
    if seconds:
        key(child)
        assert sts.arrived.acquire(timeout=HANG)
    clock.shift(seconds)
    sts.gate.clear()
    refresh = later(lambda: key(child))
    assert sts.arrived.acquire(timeout=HANG)
    forked = Forked.start(lambda: key(child))
    assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert {forked.result(), refresh.result(HANG)} == set(list(sts.issued)[-2:])
    here, there = (request.connection for request in sts.assumed[-2:])
    assert here != there
    assert sts.violations == []


@pytest.mark.parametrize("what", ["makes the client", "calls a callable", "prompts a person"])
def test_a_fork_while_another_thread(sts, parent, monkeypatch, what):
    """A fork while another thread makes the STS client, or gets an MFA code, leaves the child free to do the same."""
    held, go_on, here = threading.Event(), threading.Event(), os.getpid()

    def hold(*_: Any, **__: Any) -> str:
        if os.getpid() == here:
            held.set()
            go_on.wait(HANG)
        return "123456"

    options = {} if what == "makes the client" else {"SerialNumber": DEVICE}
    if what == "makes the client":
        parent.events.register("creating-client-class.sts", hold)
    elif what == "calls a callable":
        options["TokenCode"] = hold
    else:
        monkeypatch.setattr("getpass.getpass", hold)
    child, sibling = (assume_role(parent, role, **options) for role in (HUB, SPOKE))
    refresh = later(lambda: key(child))
    assert held.wait(HANG)
    forked = [Forked.start(lambda session=session: key(session)) for session in (child, sibling)]
    forked.append(Forked.start(lambda: key(assume_role(parent, HUB, **options))))
    answers = [each.result() for each in forked]
    go_on.set()
    assert sorted([*answers, refresh.result(HANG)]) == list(sts.issued)


def test_a_fork_in_a_handler(sts, parent):
    """A thread that forks while it creates a client, or gets a code, continues in both processes."""

    def fork(**_: Any) -> str:
        pids.append(os.fork())
        if not pids[-1]:
            signal.alarm(30)
        return "123456"

    pids: list[int] = []
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=fork)
    child.events.register("creating-client-class.s3", fork)
    reader, writer = os.pipe()
    here = os.getpid()
    try:
        child.client("s3")
        answer = f"{key(child)} {key(child)}"
    except BaseException as error:
        answer = repr(error)
    os.write(writer, f"{answer}\n".encode())
    if os.getpid() != here:
        os._exit(0)
    os.close(writer)
    for pid in pids:
        os.waitpid(pid, 0)
    with os.fdopen(reader) as answers:
        assert sorted(answers) == [f"{access_key} {access_key}\n" for access_key in sts.issued]
    assert len(sts.issued) == 4


def test_a_fork_that_does_not_come_back_from_a_handler(sts, parent):
    """In a child forked inside a handler, as by multiprocessing, threads are not blocked."""
    child, sibling = assume_role(parent, HUB), assume_role(parent, SPOKE)
    forked: list[Forked] = []

    def work() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: sibling.client("sqs") and key(sibling)).result(10)

    child.events.register("creating-client-class.s3", lambda **_: forked.append(Forked.start(work)))
    child.client("s3")
    assert forked[0].result() in sts.issued


def test_what_a_forked_child_forgets_may_still_end(sts, parent):
    """An attempt that continues in a forked child, where it is no longer registered, ends there like any other."""
    # The hook that runs in a forked child runs in this process, where its effect can be seen.
    parent.events.register("before-call.sts.AssumeRole", lambda **_: _attempts._forget())
    child = assume_role(parent, HUB)
    assert key(child) == key(child) == "ASIA0000000000000001"
    assert not _attempts.is_under_way(child.get_credentials())
