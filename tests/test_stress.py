"""The one rule about locks under stress: chains, handlers, callables, log handlers and locks, on many threads."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HANG, key, later
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

THREADS = 12
SECONDS = 2.5  # of work for each seed; a hang is noticed after another 30
DEVICE = "arn:aws:iam::111111111111:mfa/me"


class World:
    """Sessions of three families whose handlers and callables use each other's."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.locks = [threading.RLock() for _ in range(3)]
        self.sessions: list[Any] = []
        self.depth = threading.local()
        roots = [boto3.Session("AKIAROOT", "s", region_name="us-east-1") for _ in range(3)]
        cache: dict[str, Any] = {}
        for root, lock in zip(roots, self.locks, strict=True):
            # A program's own lock around each root's client().
            root.client = self.holding(lock, root.client)  # type: ignore[method-assign]
        for number in range(12):
            parent = self.random.choice([*roots, *self.sessions[-4:]])
            options: dict[str, Any] = {}
            if self.random.random() < 0.4:
                options |= {"SerialNumber": DEVICE, "TokenCode": lambda: self.use_another() or "123456"}
            if self.random.random() < 0.3:
                options["RoleSessionName"] = lambda: self.use_another() or "name"
            if self.random.random() < 0.3:
                options["cache"] = cache
            session = assume_role(parent, f"arn:aws:iam::222222222222:role/Role-{number}", **options)
            self.sessions.append(session)
        for session in [*roots, *self.sessions]:
            for event in ("before-call.sts.AssumeRole", "creating-client-class", "before-send"):
                if self.random.random() < 0.3:
                    session.events.register(event, lambda **_: self.use_another())

    def holding(self, lock: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return function(*args, **kwargs)

        return held

    def use_another(self) -> None:
        """What handlers and callables do: use some session, now and then, but not without end."""
        depth = getattr(self.depth, "value", 0)
        if depth > 1 or self.random.random() < 0.5:
            return
        self.depth.value = depth + 1
        try:
            self.use(self.random.choice(self.sessions))
        finally:
            self.depth.value = depth

    def use(self, session: Any) -> str:
        try:
            if self.random.random() < 0.3:
                session.client(self.random.choice(["s3", "sts", "dynamodb"]))
            return key(session)
        except (BotoCoreError, ClientError):
            return ""  # a flaky STS, or a session that was used inside its own refresh

    def work(self, until: float, found: list[tuple[str, str]]) -> None:
        while time.perf_counter() < until:
            session = self.random.choice(self.sessions)
            if access_key := self.use(session):
                found.append((session.role_arn, access_key))


@pytest.mark.parametrize("seed", range(3))
def test_no_mix_of_handlers_callables_and_locks_hangs(
    sts: StsStub, one_attempt: None, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever the mix, every thread comes back, and every session signs with keys of its own role."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    world = World(seed)

    class Ships(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.use_another()

    logger, handler = logging.getLogger("aws_assume_role_lib"), Ships()
    logger.addHandler(handler)
    found: list[tuple[str, str]] = []
    try:
        until = time.perf_counter() + SECONDS
        threads = [later(lambda: world.work(until, found)) for _ in range(THREADS)]
        while time.perf_counter() < until - 0.2:
            clock.shift(world.random.choice([10, 60, 600, 2000]))
            sts.fault = world.random.choice([None, None, Fault.error(503, "ServiceUnavailable", times=3)])
            threading.Event().wait(0.02)  # a pace for the clock; nothing depends on it
        sts.fault = None
        for thread in threads:
            thread.result(HANG)
    finally:
        logger.removeHandler(handler)
    assert len(found) > 100
    assert {role for role, access_key in found if sts.issued[access_key].role_arn != role} == set()
    assert len({role for role, _ in found}) == 12
