"""An MFA code is requested just before STS is called, by one thread at a time, and never if nobody can answer."""

from __future__ import annotations

import contextlib
import enum
import getpass
import os
import select
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError
from conftest import HANG, HUB, SPOKE, at_once, key, later, needs_terminal, wait_until, waiting_threads
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _mfa, assume_role

DEVICE = "arn:aws:iam::111111111111:mfa/mario"
HOUR = 3600


def codes_sent(sts: StsStub) -> list[str | None]:
    return [request.params.get("TokenCode") for request in sts.assumed]


class Codes:
    """A callable that returns 000001, 000002 and so on."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return f"{self.asked:06}"


def test_a_static_code_serves_once(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    """A code is sent once, and its credentials are used until they expire; RefreshWithMFAUnsupportedError follows."""
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode="012345")
    first = key(child)
    [request] = sts.assumed
    assert (request.params["SerialNumber"], request.params["TokenCode"]) == (DEVICE, "012345")
    for seconds in (46 * 60, 13 * 60, 59):
        clock.shift(seconds)
        assert key(child) == first
    clock.shift(1)
    for _ in range(2):
        with pytest.raises(RefreshWithMFAUnsupportedError):
            key(child)
    assert len(sts.assumed) == 1
    assert caplog.records == []
    assert sts.violations == []


def test_a_static_code_survives_a_failure(sts: StsStub, parent: boto3.Session) -> None:
    """A code that never reached a working STS is sent again on the next use."""
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode="012345")
    sts.fault = Fault.html(times=1)
    with pytest.raises(CredentialRetrievalError):
        key(child)
    assert key(child)
    assert codes_sent(sts) == ["012345", "012345"]


def test_a_callable_is_asked_for_each_assume_role(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller
) -> None:
    """A callable is called just before STS, on first use and at each refresh, and not earlier."""
    codes = Codes()
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=codes)
    client = child.client("sts")
    assert codes.asked == 0
    for number in (1, 2, 3):
        for _ in range(3):
            client.get_caller_identity()
            clock.shift(14 * 60)
        assert codes.asked == number
        clock.shift(3 * 60 + 1)
    assert codes_sent(sts) == ["000001", "000002", "000003"]


def test_a_callable_is_not_asked_for_a_cached_entry(sts: StsStub, parent: boto3.Session) -> None:
    """Credentials that come from a cache need no code."""
    cache: dict[str, Any] = {}
    codes = Codes()
    sessions = [assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=codes, cache=cache) for _ in range(2)]
    assert key(sessions[0]) == key(sessions[1])
    assert codes.asked == 1


def test_each_hop_asks_when_its_turn_comes(sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller) -> None:
    """In a chain, a role's code is requested only after the previous role was assumed, so that it does not expire."""
    asked = []

    def code(role: str) -> str:
        asked.append((role, len(sts.assumed)))
        return "000000"

    hub = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=lambda: code(HUB))
    spoke = assume_role(hub, SPOKE, SerialNumber=DEVICE, TokenCode=lambda: code(SPOKE))
    key(spoke)
    clock.shift(2 * HOUR)
    key(spoke)
    assert asked == [(HUB, 0), (SPOKE, 1), (HUB, 2), (SPOKE, 3)]


@pytest.mark.parametrize("error", [LookupError("no device"), KeyboardInterrupt()])
def test_what_a_callable_raises_surfaces(sts: StsStub, parent: boto3.Session, error: BaseException) -> None:
    """A callable's exception propagates unchanged, STS is not called, and the next use calls the callable again."""
    answers: list[BaseException | str] = [error, "000000"]

    def code() -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    with pytest.raises(type(error)) as caught:
        key(child)
    assert caught.value is error
    assert sts.assumed == []
    assert key(child)


def test_a_callable_that_raises_early_costs_nothing(
    sts: StsStub, parent: boto3.Session, clock: time_machine.Traveller
) -> None:
    """If a callable raises while the credentials are valid, they stay in use, and it is called again after a minute."""
    codes = Codes()

    def code() -> str:
        if codes() == "000002":
            raise LookupError("no device")
        return "000000"

    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    first = key(child)
    clock.shift(46 * 60)
    for _ in range(4):
        assert key(child) == first
        clock.shift(15)
    assert codes.asked == 2
    assert key(child) != first


def test_a_callable_is_called_by_one_thread_at_a_time(sts: StsStub, parent: boto3.Session) -> None:
    """However many threads need a session's keys at once, its callable is called once, and all have those keys."""
    asked = []

    def code() -> str:
        asked.append(True)
        wait_until(lambda: waiting_threads() == 8)
        return "000000"

    session = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    assert len(set(at_once(lambda _: key(session), 9))) == 1
    assert len(asked) == 1
    assert codes_sent(sts) == ["000000"]


def test_a_callable_may_use_another_session(sts: StsStub, parent: boto3.Session) -> None:
    """A callable may fetch its code through another session, which may itself need a code."""
    vault = assume_role(parent, SPOKE, SerialNumber=DEVICE, TokenCode="000001")

    def code() -> str:
        vault.client("sts").get_caller_identity()
        return "000002"

    key(assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code))
    assert codes_sent(sts) == ["000001", "000002"]


# Run in its own process: the second use is in the refresh window, for which this process moves its clock.
SCRIPT = f"""
import fcntl, sys, termios, time
import boto3, time_machine
from aws_assume_role_lib import assume_role
if "terminal" in sys.argv:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
session = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
credentials = assume_role(session, "{HUB}", SerialNumber="{DEVICE}").get_credentials()
print("ready", flush=True)
for _ in range(2):
    print(credentials.get_frozen_credentials().access_key, flush=True)
with time_machine.travel(time.time() + 9500):
    for _ in range(2):
        print(credentials.get_frozen_credentials().access_key, flush=True)
"""


def start(*arguments: str, script: str = SCRIPT, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], start_new_session=True, env=environment, **options
    )


@needs_terminal
@pytest.mark.parametrize("arguments", [["terminal"], []], ids=["controlling", "stdin alone"])
def test_the_terminal_is_asked_for_each_assume_role(sts: StsStub, arguments: list[str]) -> None:
    """With SerialNumber alone, the terminal prompts once per AssumeRole, names the device and echoes nothing."""
    sts.lifetime = 10_000
    terminal, theirs = os.openpty()
    process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, answered = b"", 0
    deadline = time.monotonic() + 30
    try:
        while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # how Linux reports the end of a terminal
                break
            if shown.count(b"Enter MFA code") > answered:
                answered += 1
                os.write(terminal, f"{answered + 6}".encode() * 6 + b"\n")
        assert process.wait(10) == 0, shown
    finally:
        process.kill()
        process.wait(10)
        os.close(terminal)
    assert shown.count(f"Enter MFA code for {DEVICE}: ".encode()) == 2
    assert b"777777" not in shown
    assert b"888888" not in shown
    first, second = list(sts.issued)
    assert [word for word in shown.decode().split() if word.startswith("ASIA")] == [first, first, second, second]
    assert codes_sent(sts) == ["777777", "888888"]


def test_the_terminal_prompts_for_one_code_at_a_time(
    monkeypatch: pytest.MonkeyPatch, sts: StsStub, parent: boto3.Session
) -> None:
    """Threads of different sessions that need a code at the same moment prompt one after the other."""
    both = threading.Barrier(2)
    overlaps = []

    def prompt(text: str) -> str:
        with contextlib.suppress(threading.BrokenBarrierError):
            overlaps.append(both.wait(0.5))
        return "123456"

    monkeypatch.setattr(_mfa, "has_terminal", lambda: True)
    monkeypatch.setattr(getpass, "getpass", prompt)
    sessions = [assume_role(parent, role, SerialNumber=DEVICE) for role in (HUB, SPOKE)]
    at_once(lambda n: key(sessions[n]), 2)
    assert codes_sent(sts) == ["123456", "123456"]
    assert overlaps == []


@pytest.mark.parametrize("cache", [None, {}])
def test_a_person_who_takes_long_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, sts: StsStub, parent: boto3.Session, cache: dict[str, Any] | None
) -> None:
    """Threads that have waited too long for a code wait for the terminal, and then find the keys that have come."""
    monkeypatch.setattr("aws_assume_role_lib._role.CODE_WAIT_LIMIT", 1)
    typed, go_on = [], threading.Event()

    def prompt(text: str) -> str:
        typed.append(text)
        assert go_on.wait(HANG)
        return "123456"

    def wait_for_the_terminal() -> int:
        return sum("_prompt" in text for text in map(stack, sys._current_frames().values()))

    monkeypatch.setattr(getpass, "getpass", prompt)
    sessions = [assume_role(parent, HUB, SerialNumber=DEVICE, cache=cache)]
    if cache is not None:
        sessions.append(assume_role(parent, HUB, SerialNumber=DEVICE, cache=cache))
    threads = [later(lambda n=n: key(sessions[n % len(sessions)])) for n in range(8)]
    wait_until(lambda: wait_for_the_terminal() == 8)
    go_on.set()
    assert len({thread.result(HANG) for thread in threads}) == 1
    assert len(typed) == 1
    assert codes_sent(sts) == ["123456"]


def stack(frame: FrameType | None) -> list[str]:
    return [frame.f_code.co_name, *stack(frame.f_back)] if frame else []


def test_a_replaced_getpass_is_the_prompt(monkeypatch: pytest.MonkeyPatch, sts: StsStub, parent: boto3.Session) -> None:
    """A getpass.getpass that is not Python's own, such as a notebook's, is used without a terminal."""
    monkeypatch.setattr(_mfa, "has_terminal", lambda: False)
    monkeypatch.setattr(getpass, "getpass", lambda text: "123456")
    key(assume_role(parent, HUB, SerialNumber=DEVICE))
    assert codes_sent(sts) == ["123456"]


def typing(monkeypatch: pytest.MonkeyPatch, *codes: str) -> list[str]:
    """Type these codes at the prompts, and return a list that receives what the prompts show."""
    shown: list[str] = []
    answers = iter(codes)

    def prompt(text: str) -> str:
        shown.append(text)
        return next(answers)

    monkeypatch.setattr(_mfa, "has_terminal", lambda: True)
    monkeypatch.setattr(getpass, "getpass", prompt)
    return shown


def test_a_mistyped_code_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, sts: StsStub, parent: boto3.Session
) -> None:
    """After an empty or short code, the prompt says what is wrong; only a code of six digits is sent."""
    shown = typing(monkeypatch, "", "12345", " 123456 ")
    key(assume_role(parent, HUB, SerialNumber=DEVICE))
    prompt = f"Enter MFA code for {DEVICE}: "
    assert shown == [
        prompt,
        f"An MFA code is six digits; that was 0 characters. {prompt}",
        f"An MFA code is six digits; that was 5 characters. {prompt}",
    ]
    assert codes_sent(sts) == ["123456"]


def test_a_code_is_mistyped_three_times(monkeypatch: pytest.MonkeyPatch, sts: StsStub, parent: boto3.Session) -> None:
    """After three mistyped codes, an error names the device and repeats none of them, and STS is not called."""
    shown = typing(monkeypatch, "12345", "abcdef", "1234567", "123456")
    with pytest.raises(CredentialRetrievalError, match=f"3 times.*{DEVICE}") as caught:
        key(assume_role(parent, HUB, SerialNumber=DEVICE))
    assert "12345" not in str(caught.value).replace(DEVICE, "")
    assert len(shown) == 3
    assert sts.assumed == []


@pytest.mark.parametrize(("raw", "is_terminal"), [("_WindowsConsoleIO", True), ("FileIO", False)])
def test_the_nul_device_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch, raw: str, is_terminal: bool) -> None:
    """On Windows, isatty() is true for NUL, too; only a console can be prompted on."""

    class Stdin:
        closed = False
        buffer = type("Buffer", (), {"raw": type(raw, (), {})()})
        isatty = staticmethod(lambda: True)

    def open_(*_: object) -> int:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_)
        patched.setattr(os, "name", "nt")
        patched.setattr(sys, "stdin", Stdin)
        found = _mfa.has_terminal()
    assert found is is_terminal


@pytest.mark.parametrize("stdin", ["null", "pipe", "closed"])
def test_without_a_terminal_it_fails_at_once(sts: StsStub, stdin: str) -> None:
    """Without a terminal, the first use raises an error that names the device and TokenCode, and stdin is not read."""
    source, ours = os.pipe()
    options: dict[str, Any] = {"stdin": {"null": subprocess.DEVNULL, "pipe": source, "closed": None}[stdin]}
    if stdin == "closed":
        options["preexec_fn"] = lambda: os.close(0)
    process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
        os.close(source)
        os.close(ours)
    last = [line for line in errors.decode().splitlines() if "CredentialRetrievalError: " in line][-1]
    assert process.returncode == 1
    assert DEVICE in last
    assert "Pass TokenCode" in last
    assert sts.requests == []


# The process that is not in the foreground goes on: a new one, in its own process group, or the first one, after it
# has put a new process in the foreground.
BACKGROUND = {
    "newer": "os.fork() and os._exit(os.wait()[1] >> 8); os.setpgid(0, 0)",
    "older": (
        "pid = os.fork(); "
        # The child waits for the hangup that ends its session, which it would ignore under nohup or cron.
        "pid or (signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.pause()); "
        "os.setpgid(pid, pid); os.tcsetpgrp(0, pid)"
    ),
}


@needs_terminal
@pytest.mark.parametrize("order", BACKGROUND)
def test_in_the_background_of_a_terminal_it_fails_at_once(sts: StsStub, order: str) -> None:
    """A background job raises the same error as a process without a terminal, since a prompt would stop it."""
    terminal, theirs = os.openpty()
    try:
        script = SCRIPT.replace("session =", f"import os, signal; {BACKGROUND[order]}\nsession =")
        process = start("terminal", script=script, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=30)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert process.returncode == 1
    assert "there is no terminal to prompt on" in errors.decode()
    assert sts.requests == []


def test_a_code_that_is_no_string_is_sent_as_one_without_validation(sts: StsStub, parent: boto3.Session) -> None:
    """With validate=False, a TokenCode of another type is left for STS to reject."""
    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=123456, validate=False)
    child.get_credentials().get_frozen_credentials()
    assert sts.assumed[0].params["TokenCode"] == "123456"


class Code(str, enum.Enum):
    TODAY = "012345"


@pytest.mark.parametrize("code", [Code.TODAY, lambda: Code.TODAY], ids=["static", "callable"])
@pytest.mark.parametrize("validate", [True, False])
def test_a_code_from_an_enumeration_is_sent_by_its_value(
    sts: StsStub, parent: boto3.Session, code: Any, validate: bool
) -> None:
    """A TokenCode that is a member of a str enumeration is sent as its value, not as its name."""
    key(assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code, validate=validate))
    assert codes_sent(sts) == ["012345"]
