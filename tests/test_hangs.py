"""The library holds no lock while other code runs, so none of its locks can deadlock with a lock of that code."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import HANG, HUB, SPOKE, at_once, key, later

from aws_assume_role_lib import assume_role

ROUNDS = 15
DEVICE = "arn:aws:iam::111111111111:mfa/me"


def family() -> list[boto3.Session]:
    """A cold chain: the root, a hub, and a spoke."""
    root = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    hub = assume_role(root, HUB)
    return [root, hub, hub.assume_role(SPOKE)]


def guarded(create: Callable[..., Any], held: Any) -> Callable[..., Any]:
    """Return client() with a lock of the program's around it."""

    def client(*args: Any, **kwargs: Any) -> Any:
        with held:
            return create(*args, **kwargs)

    return client


@pytest.mark.parametrize("where", ["around the method", "in a class", "for each session"])
def test_a_lock_around_client(sts, monkeypatch, where):
    """A program may hold a lock in client(), one for all sessions or one for each, and share cold sessions."""
    if where == "around the method":
        monkeypatch.setattr(boto3.session.Session, "client", guarded(boto3.session.Session.client, threading.Lock()))
    elif where == "in a class":

        class Locked(boto3.session.Session):
            client = guarded(boto3.session.Session.client, threading.Lock())

        monkeypatch.setattr(boto3, "Session", Locked)
        monkeypatch.setattr(boto3.session, "Session", Locked)
    for _ in range(ROUNDS):
        sessions = family()
        if where == "for each session":
            for session in sessions:
                session.client = guarded(session.client, threading.RLock())
        at_once(lambda index, sessions=sessions: sessions[index % 3].client("sts").get_caller_identity(), 8)
    assert len(sts.assumed) == 2 * ROUNDS
    assert sts.violations == []


def test_a_handler_of_one_family_and_a_callable_of_another(sts, parent):
    """A TokenCode callable may use a session while a thread that creates its client waits for the callable's role."""
    asked = threading.Event()

    def code() -> str:
        asked.set()
        vault.client("secretsmanager")
        return f"{int(key(vault)[4:]):06}"

    vault = assume_role(boto3.Session("AKIAVAULT", "s", region_name="us-east-1"), SPOKE)
    role = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    others: list[Any] = []

    def wait_for_the_role(**_: Any) -> None:
        others.append(later(lambda: key(role)))
        assert asked.wait(HANG)
        key(role)

    vault.events.register("creating-client-class.s3", wait_for_the_role)
    later(lambda: vault.client("s3")).result(HANG)
    assert others[0].result(HANG) == key(role)
    assert len(sts.assumed) == 2


def test_two_callables_that_use_each_others_sessions(sts, parent):
    """Two sessions whose TokenCode callables use each other's session, in two threads at once, both get keys."""
    both, met = threading.Barrier(2), threading.local()

    def code_from(other: int) -> str:
        if not hasattr(met, "other"):
            met.other = both.wait(HANG)
        with contextlib.suppress(CredentialRetrievalError):  # raised in the callable that runs inside its own refresh
            key(sessions[other])
        return "123456"

    sessions = [
        assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=lambda: code_from(1)),
        assume_role(parent, SPOKE, SerialNumber=DEVICE, TokenCode=lambda: code_from(0)),
    ]
    keys = at_once(lambda index: key(sessions[index]), 2)
    assert [sts.issued[each].role_arn for each in keys] == [HUB, SPOKE]
    assert sts.violations == []


def test_a_log_handler_that_uses_the_session(sts, parent, clock, caplog, request):
    """A log handler may sign with the session that a record is about: the record comes once the keys are there."""
    shipped: list[str] = []

    class Ships(logging.Handler):
        session: Any = parent

        def emit(self, record: logging.LogRecord) -> None:
            # A botocore record from the middle of a refresh may find no keys yet.
            with contextlib.suppress(CredentialRetrievalError):
                key(self.session)
                shipped.append(record.getMessage())

    handler = Ships()
    caplog.set_level(logging.INFO)
    logging.getLogger().addHandler(handler)
    request.addfinalizer(lambda: logging.getLogger().removeHandler(handler))
    for calls in (2, 6, 10):
        session = handler.session = family()[2]

        def work(index: int, session: boto3.Session = session) -> str:
            logging.getLogger("program").info("Working.")
            return key(session)

        assert len(set(at_once(work, 8))) == 1
        assert len(sts.assumed) == calls
        clock.shift(50 * 60)
        at_once(work, 8)
        assert len(sts.assumed) == calls + 2
    assert len([message for message in shipped if "Assumed" in message and SPOKE in message]) == 6


def test_a_record_about_a_refresh_comes_when_the_session_is_free(sts, parent, monkeypatch, caplog):
    """While a handler handles a record about a session, another thread can use that session."""
    child = assume_role(parent, HUB)
    found: list[str] = []

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(later(lambda: key(child)).result(20))

    caplog.set_level(logging.INFO, "aws_assume_role_lib")
    monkeypatch.setattr(logging.getLogger("aws_assume_role_lib"), "handlers", [Asks()])
    first = key(child)
    assert found == [first]


@pytest.mark.parametrize("chained", [False, True])
def test_a_lock_that_the_parents_own_client_needs(sts, clock, chained):
    """The STS client of a class that overrides client() is made by assume_role(), so that no refresh needs its lock."""
    held, made = threading.Lock(), []

    class Locked(boto3.session.Session):
        def client(self, *args: Any, **kwargs: Any) -> Any:
            with held:
                made.append(args)
                return super().client(*args, **kwargs)

    role = assume_role(Locked("AKIAROOT", "root-secret", region_name="us-east-1"), HUB)
    role = role.assume_role(SPOKE) if chained else role
    assert set(made) == {("sts",)}
    with held:
        assert later(lambda: key(role)).result(HANG) == key(role)
        clock.shift(50 * 60)  # an early refresh has a client of its own
        assert later(lambda: key(role)).result(HANG) == key(role)
    assert len(sts.assumed) == 2 * (1 + chained)


def test_the_waits_of_one_request_do_not_add_up(sts, parent, monkeypatch):
    """A thread that holds a lock which another's refresh needs stops waiting for it, once for all roles of a chain."""
    monkeypatch.setattr("aws_assume_role_lib._role.WAIT_LIMIT", 2)
    held, stuck = threading.Lock(), threading.Event()

    def need_the_lock(**_: Any) -> None:
        if not stuck.is_set():
            stuck.set()
            with held:
                pass

    parent.events.register("before-call.sts.AssumeRole", need_the_lock)
    cache: dict[str, Any] = {}
    spoke = assume_role(assume_role(parent, HUB, cache=cache), SPOKE, cache=cache)
    with held:
        first = later(lambda: key(spoke))
        assert stuck.wait(HANG)
        start = time.monotonic()
        assert key(spoke).startswith("ASIA")
        assert 2 <= time.monotonic() - start < 3.9
    assert first.result(HANG).startswith("ASIA")
    assert sts.violations == []
