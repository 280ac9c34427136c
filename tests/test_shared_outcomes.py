"""Threads that wait for an attempt share its outcome, and nobody repeats one that has just failed."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ReadTimeoutError
from conftest import HANG, HUB, SPOKE, at_once, key, later, wait_until, waiting_threads, while_sts_waits
from sts_stub import Fault

from aws_assume_role_lib import JSONFileCache, assume_role

ONCE = {"config": Config(read_timeout=1, retries={"total_max_attempts": 1})}


class Forgets(dict[str, Any]):
    """A cache that keeps nothing."""

    def __setitem__(self, name: str, value: Any) -> None:
        pass


def outcome(session: boto3.Session) -> Any:
    try:
        return key(session)
    except BaseException as error:
        return error


@pytest.mark.parametrize("cache", [None, {}], ids=["one session", "sessions with one cache"])
def test_an_sts_that_hangs_costs_all_who_wait_one_timeout(sts, parent, cache):
    """16 threads that wait for an STS that hangs, for one session or one entry of a cache, get one request's error."""
    sessions = [
        assume_role(parent, HUB, cache=cache, sts_client_kwargs=ONCE) for _ in range(1 if cache is None else 16)
    ]
    sts.fault = Fault(hangs=True)
    errors = at_once(lambda index: outcome(sessions[index % len(sessions)]), 16)
    assert {type(error) for error in errors} == {ReadTimeoutError}
    assert len(sts.assumed) == 1


def test_each_thread_has_an_error_of_its_own(sts, one_attempt, parent):
    """An error that sessions share names, for each session, the roles that it stopped, and no other session's."""
    hub = assume_role(parent, HUB)
    spokes = [hub.assume_role(f"{SPOKE}-{number}") for number in range(8)]
    sts.fault = Fault.error(403, "AccessDenied")
    for number, error in enumerate(while_sts_waits(sts, lambda index: outcome(spokes[index]), 8)):
        assert type(error) is ClientError
        assert error.response["Error"]["Code"] == "AccessDenied"
        roles = [note.split()[3] for note in error.__notes__ if note.startswith("Raised while assuming ")]
        assert roles == [HUB, f"{SPOKE}-{number}"]
    assert len(sts.assumed) == 1


@pytest.mark.parametrize("kind", ["dict", "file", "files", "forgets"])
def test_sessions_that_share_a_cold_cache_make_one_call(sts, parent, tmp_path, kind):
    """Threads that each create a session for one role, with one cache or folder, even a useless one, call STS once."""
    cache: Any = {"dict": {}, "forgets": Forgets()}.get(kind, JSONFileCache(tmp_path / "cache"))

    def use(_: int) -> str:
        own = JSONFileCache(tmp_path / "cache") if kind == "files" else cache
        return key(assume_role(parent, HUB, cache=own))

    assert len(set(while_sts_waits(sts, use, 16))) == 1
    assert len(sts.assumed) == 1


def test_a_thread_finds_that_another_has_just_refreshed(sts, parent):
    """A thread that begins an attempt when another's has just ended uses the new keys, and does not call STS."""
    credentials: Any = assume_role(parent, HUB).get_credentials()
    for _ in range(2):
        credentials._attempt()
    assert len(sts.assumed) == 1


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """A session whose keys botocore fetches, and refreshes, with a web identity."""
    (tmp_path / "token").write_text("web-identity")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::333333333333:role/Pod")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.Session()


@pytest.mark.parametrize("chained", [False, True])
def test_a_parent_that_botocore_refreshes_fails_once_for_the_family(sts, one_attempt, clock, pod, monkeypatch, chained):
    """While STS does not respond and all keys are valid, a family sends it one request, its parent's included."""
    monkeypatch.setattr("aws_assume_role_lib._role.SLOW", 0.2)
    pod._session.set_default_client_config(Config(read_timeout=0.25))
    roles = [assume_role(pod, HUB)]
    for number in range(4):
        roles.append(assume_role(roles[-1] if chained else pod, f"{SPOKE}-{number}", DurationSeconds=3000))
    before = [key(role) for role in roles]
    clock.shift(2800)  # the roles are due, and the parent is in botocore's own window
    sts.fault = Fault(hangs=True, everything=True)
    sent = len(sts.requests)
    for _ in range(2):
        assert [key(role) for role in reversed(roles)] == before[::-1]
    assert len(sts.requests) - sent == 1


@pytest.mark.parametrize("roles", ["siblings", "a chain", "a cached chain"])
def test_threads_wait_as_long_as_the_parents_source_takes(sts, one_attempt, pod, monkeypatch, roles):
    """However long a parent's own refresh hangs, all threads that need it share that attempt and do not queue."""
    monkeypatch.setattr("aws_assume_role_lib._role.WAIT_LIMIT", 0.2)
    pod._session.set_default_client_config(Config(read_timeout=1.5))
    cache: dict[str, Any] | None = {} if roles == "a cached chain" else None
    if roles == "siblings":
        sessions = [assume_role(pod, f"{SPOKE}-{number}") for number in range(8)]
    else:
        sessions = [assume_role(assume_role(pod, HUB, cache=cache), SPOKE, cache=cache)] * 8
    sts.fault = Fault(hangs=True, everything=True)
    errors = at_once(lambda index: outcome(sessions[index]), 8)
    assert {type(error) for error in errors} == {ReadTimeoutError}
    assert len(sts.requests) == 1


def test_the_frames_of_a_failed_attempt_are_freed(sts, one_attempt, parent):
    """Objects that a failing handler held are freed with the error, without a garbage collection."""
    freed: list[bool] = []

    class Large:
        pass

    def fail(**_: Any) -> None:
        large = Large()
        weakref.finalize(large, freed.append, True)
        raise ValueError

    parent.events.register("before-call.sts.AssumeRole", fail)
    child = assume_role(parent, HUB)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            key(child)
        assert freed == [True]
    finally:
        gc.enable()


class Stubborn(BotoCoreError):
    """An error that cannot be copied."""

    fmt = "as it is"

    def __reduce__(self) -> Any:
        raise TypeError


class Lossy(BotoCoreError):
    """An error whose copy loses its text."""

    fmt = "{text}"

    def __init__(self, text: str = "the text") -> None:
        super().__init__(text=text)

    def __reduce__(self) -> Any:
        return Lossy, ("less",)


@pytest.mark.parametrize("error", [ReadTimeoutError(endpoint_url="https://sts"), Stubborn(), Lossy(), Lossy("a")])
def test_an_error_of_botocores_reaches_all_who_wait(sts, parent, error):
    """Threads that wait for an attempt get its error, with its whole text, even if it cannot be copied."""
    outcomes, calls = shared(parent, error)
    assert {(type(each), str(each)) for each in outcomes} == {(type(error), str(error))}
    assert calls == 1


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied"), HTTPClientError(error=TimeoutError()), KeyboardInterrupt()]
)
def test_an_error_of_one_thread_alone_reaches_no_other(sts, parent, error):
    """What a callable, a time limit or Ctrl-C raises stays in its thread: one that waits for it takes over."""
    outcomes, calls = shared(parent, error, times=1)
    assert [type(each) for each in outcomes] == [type(error), str, str, str]
    assert calls == 2
    assert len(sts.assumed) == len({*outcomes[1:]}) == 1


def shared(parent: boto3.Session, error: BaseException, times: int = 99) -> tuple[list[object], int]:
    """Return what four threads get that wait for one attempt, whose handler fails so often, and how often it ran."""
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def fail(**_: Any) -> None:
        calls.append(1)
        begun.set()
        assert go_on.wait(HANG)
        if len(calls) <= times:
            raise error

    parent.events.register("before-call.sts.AssumeRole", fail)
    child = assume_role(parent, HUB)
    threads = [later(lambda: outcome(child))]
    assert begun.wait(HANG)
    threads += [later(lambda: outcome(child)) for _ in range(3)]
    wait_until(lambda: waiting_threads() == 3)
    go_on.set()
    return [thread.result(HANG) for thread in threads], len(calls)


def test_an_entry_that_is_requested_inside_its_own_refresh(sts, parent):
    """A handler of a refresh that needs the same entry of the same cache gets an error that says so, and no hang."""
    cache: dict[str, Any] = {}
    first, second = (assume_role(parent, HUB, cache=cache) for _ in range(2))
    inside = []
    parent.events.register("before-call.sts.AssumeRole", lambda **_: inside.append(outcome(second)))
    assert key(first).startswith("ASIA")
    assert "inside their own refresh" in str(inside[0])


def test_a_session_that_is_requested_inside_a_second_attempt(sts, parent):
    """So does a handler whose thread is making an attempt of its own, beside another thread's."""
    inside: list[object] = []

    def use(**_: Any) -> None:
        if sts.assumed:
            inside.append(outcome(child))

    parent.events.register("before-call.sts.AssumeRole", use)
    child = assume_role(parent, HUB)
    sts.gate.clear()
    first = later(lambda: key(child))
    assert sts.arrived.acquire(timeout=HANG)
    second = later(lambda: key(assume_role(parent, SPOKE, RoleSessionName=lambda: key(child) and "spoke")))
    assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert "inside their own refresh" in str(inside[0])
    assert first.result(HANG) != second.result(HANG)
