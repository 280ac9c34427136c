"""The one rule about locks under stress: chains, handlers, callables, log handlers and locks, on many threads."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HANG, key, later
from sts_stub import Fault

from aws_assume_role_lib import assume_role

THREADS = 12
SECONDS = 2  # of work for each seed, longer on a busy machine; a hang is noticed after another 25
DEVICE = "arn:aws:iam::111111111111:mfa/me"
EVENTS = ("before-call.sts.AssumeRole", "creating-client-class", "before-send")


class World:
    """Sessions of four families, whose handlers and callables use each other's.

    Two families use sessions of every family. Each of the other two has one of the program's own locks, around client()
    and in the middle of AssumeRole. A program that holds or needs such a lock uses only the sessions of later families:
    otherwise its own locks would deadlock, whatever the library did.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sessions: list[tuple[int, Any]] = []
        self.here = threading.local()
        self.locks: list[Any] = [None, None, threading.Lock(), threading.RLock()]
        for family in range(len(self.locks)):
            self.add_family(family)

    def add_family(self, family: int) -> None:
        members: list[Any] = [boto3.Session("AKIAROOT", "s", region_name="us-east-1")]
        cache: dict[str, Any] = {}
        for number in range(4):
            options: dict[str, Any] = {}
            if self.random.random() < 0.4:
                options |= {"SerialNumber": DEVICE, "TokenCode": self.callable_of(family, "123456")}
            if self.random.random() < 0.3:
                options["RoleSessionName"] = self.callable_of(family, "name")
            if self.random.random() < 0.3:
                options["cache"] = cache
            parent = self.random.choice(members)
            members.append(assume_role(parent, f"arn:aws:iam::222222222222:role/Role-{family}-{number}", **options))
            self.sessions.append((family, members[-1]))
        for member in members:
            for event in EVENTS:
                if self.random.random() < 0.3:
                    member.events.register(event, self.callable_of(family, None))
            if self.locks[family]:
                member.events.register(
                    EVENTS[0], lambda **_: self.locks[family].acquire() and self.locks[family].release()
                )
                member.client = self.with_lock(family, member.client)

    def callable_of(self, family: int, result: Any) -> Callable[..., Any]:
        def use_another(**_: Any) -> Any:
            with self.only_later_than(family):
                self.use_another()
            return result

        return use_another

    def with_lock(self, family: int, function: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*args: Any, **kwargs: Any) -> Any:
            with self.locks[family], self.only_later_than(family):
                return function(*args, **kwargs)

        return locked

    @contextlib.contextmanager
    def only_later_than(self, family: int) -> Iterator[None]:
        before = self.first_family()
        self.here.first_family = max(before, family + 1) if self.locks[family] else before
        try:
            yield
        finally:
            self.here.first_family = before

    def first_family(self) -> int:
        return getattr(self.here, "first_family", 0)

    def use_another(self) -> None:
        """What handlers and callables do: use some session, now and then, but not endlessly."""
        depth = getattr(self.here, "depth", 0)
        sessions = [session for family, session in self.sessions if family >= self.first_family()]
        if depth > 1 or not sessions or self.random.random() < 0.5:
            return
        self.here.depth = depth + 1
        try:
            self.use(self.random.choice(sessions))
        finally:
            self.here.depth = depth

    def use(self, session: Any) -> str:
        try:
            if self.random.random() < 0.3:
                session.client(self.random.choice(["s3", "sts", "dynamodb"]))
            return key(session)
        except (BotoCoreError, ClientError):
            return ""  # a flaky STS, or a session that was used inside its own refresh

    def work(self, until: float, found: list[tuple[str, str]]) -> None:
        hold_and_use = [self.with_lock(family, self.use_another) for family, lock in enumerate(self.locks) if lock]
        while time.perf_counter() < until or len(found) <= 100:
            if self.random.random() < 0.3:
                self.random.choice(hold_and_use)()
            _, session = self.random.choice(self.sessions)
            if access_key := self.use(session):
                found.append((session.role_arn, access_key))


@pytest.mark.parametrize("seed", range(3))
def test_no_mix_of_handlers_callables_and_locks_hangs(sts, one_attempt, clock, request, caplog, seed):
    """Whatever the mix, every thread returns, and every session signs with keys of its own role."""
    world = World(seed)

    class Ships(logging.Handler):
        # Instead of emit(), since logging holds a lock around that, which would be held while a session is used.
        def handle(self, record: logging.LogRecord) -> bool:
            world.use_another()
            return True

    caplog.set_level(logging.INFO)
    ships = Ships()
    logging.getLogger().addHandler(ships)
    request.addfinalizer(lambda: logging.getLogger().removeHandler(ships))
    found: list[tuple[str, str]] = []
    until = time.perf_counter() + SECONDS
    threads = [later(lambda: world.work(until, found)) for _ in range(THREADS)]
    while time.perf_counter() < until - 0.2:
        clock.shift(world.random.choice([10, 60, 600, 2000]))
        sts.fault = world.random.choice([None, None, Fault.error(503, "ServiceUnavailable", times=3)])
        threading.Event().wait(0.02)  # sets the clock's pace; nothing depends on it
    sts.fault = None
    for thread in threads:
        thread.result(HANG)
    assert len(found) > 100
    assert {role for role, access_key in found if sts.issued[access_key].role_arn != role} == set()
    assert len({role for role, _ in found}) == len(world.sessions)
