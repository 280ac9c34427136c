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
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError
from conftest import HANG, HUB, SPOKE, at_once, key, later, needs_terminal, wait_until
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _mfa, assume_role

DEVICE = "arn:aws:iam::111111111111:mfa/mario"


def codes_sent(sts: StsStub) -> list[str | None]:
    return [request.params.get("TokenCode") for request in sts.assumed]


def test_a_static_code_serves_once(sts, parent, clock, caplog):
    """A code is sent once, and its credentials are used until they expire; RefreshWithMFAUnsupportedError follows."""
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode="012345")
    first = key(child)
    for seconds in (46 * 60, 13 * 60, 59):
        clock.shift(seconds)
        assert key(child) == first
    clock.shift(1)
    for _ in range(2):
        with pytest.raises(RefreshWithMFAUnsupportedError):
            key(child)
    [request] = sts.assumed
    assert (request.params["SerialNumber"], request.params["TokenCode"]) == (DEVICE, "012345")
    assert caplog.records == []
    assert sts.violations == []


def test_a_static_code_survives_a_failure(sts, parent):
    """A code that never reached a working STS is sent again on the next use."""
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode="012345")
    sts.fault = Fault.html(times=1)
    with pytest.raises(CredentialRetrievalError):
        key(child)
    assert key(child)
    assert codes_sent(sts) == ["012345", "012345"]


def test_a_callable_is_asked_for_each_assume_role(sts, parent, clock):
    """A callable is called just before STS, on first use and at each refresh, and not for what a cache has."""
    code, cache = Mock(side_effect=["000001", "000002", "000003"]), {}
    first, second = (assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code, cache=cache) for _ in range(2))
    assert code.call_count == 0
    for number in (1, 2, 3):
        for _ in range(3):
            assert key(first) == key(second)
            clock.shift(14 * 60)
        assert code.call_count == number
        clock.shift(3 * 60 + 1)
    assert codes_sent(sts) == ["000001", "000002", "000003"]


def test_each_hop_asks_when_its_turn_comes(sts, parent, clock):
    """In a chain, a role's code is requested only after the previous role was assumed, so that it does not expire."""
    asked = []

    def code(role: str) -> str:
        asked.append((role, len(sts.assumed)))
        return "000000"

    hub = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=lambda: code(HUB))
    spoke = assume_role(hub, SPOKE, SerialNumber=DEVICE, TokenCode=lambda: code(SPOKE))
    key(spoke)
    clock.shift(2 * 3600)
    key(spoke)
    assert asked == [(HUB, 0), (SPOKE, 1), (HUB, 2), (SPOKE, 3)]


@pytest.mark.parametrize("error", [LookupError("no device"), KeyboardInterrupt()])
def test_what_a_callable_raises_surfaces(sts, parent, error):
    """A callable's exception propagates unchanged, STS is not called, and the next use calls the callable again."""
    code = Mock(side_effect=[error, "000000"])
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    with pytest.raises(type(error)) as caught:
        key(child)
    assert caught.value is error
    assert sts.assumed == []
    assert key(child)


def test_a_callable_that_raises_early_costs_nothing(sts, parent, clock):
    """If a callable raises while the credentials are valid, they stay in use, and it is called again after a minute."""
    code = Mock(side_effect=["000000", LookupError("no device"), "000000"])
    child = assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code)
    first = key(child)
    clock.shift(46 * 60)
    for _ in range(4):
        assert key(child) == first
        clock.shift(15)
    assert code.call_count == 2
    assert key(child) != first


# Run in its own process: the second use is in the refresh window, for which this process moves its clock.
SCRIPT = f"""
import sys, time
import boto3, time_machine
from aws_assume_role_lib import assume_role
if "terminal" in sys.argv:
    import fcntl, termios
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
def test_the_terminal_is_asked_for_each_assume_role(sts, arguments):
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


def test_the_terminal_prompts_for_one_code_at_a_time(monkeypatch, sts, parent):
    """Threads of different sessions that need a code at the same moment prompt one after the other."""
    both, overlaps = threading.Barrier(2), []

    def prompt(text: str) -> str:
        with contextlib.suppress(threading.BrokenBarrierError):
            overlaps.append(both.wait(0.5))
        return "123456"

    monkeypatch.setattr(getpass, "getpass", prompt)
    sessions = [assume_role(parent, role, SerialNumber=DEVICE) for role in (HUB, SPOKE)]
    at_once(lambda n: key(sessions[n]), 2)
    assert codes_sent(sts) == ["123456", "123456"]
    assert overlaps == []


@pytest.mark.parametrize("cache", [None, {}])
def test_a_person_who_takes_long_is_asked_once(monkeypatch, sts, parent, cache):
    """Threads that have waited too long for a code wait for the terminal, and then find the keys that have come."""
    monkeypatch.setattr("aws_assume_role_lib._role.CODE_WAIT_LIMIT", 0.5)
    typed, go_on = [], threading.Event()

    def prompt(text: str) -> str:
        typed.append(text)
        assert go_on.wait(HANG)
        return "123456"

    def wait_for_the_terminal() -> int:
        return sum("_prompt" in stack(frame) for frame in sys._current_frames().values())

    monkeypatch.setattr(getpass, "getpass", prompt)
    first, second = (assume_role(parent, HUB, SerialNumber=DEVICE, cache=cache) for _ in range(2))
    sessions = [first, first if cache is None else second] * 4
    threads = [later(lambda session=session: key(session)) for session in sessions]
    wait_until(lambda: wait_for_the_terminal() == 8)
    go_on.set()
    assert len({thread.result(HANG) for thread in threads}) == 1
    assert len(typed) == 1
    assert codes_sent(sts) == ["123456"]


def stack(frame: FrameType | None) -> list[str]:
    return [frame.f_code.co_name, *stack(frame.f_back)] if frame else []


def test_a_mistyped_code_is_asked_for_again(monkeypatch, sts, parent):
    """After an empty or short code, the prompt says what is wrong; only a code of six digits is sent."""
    # A getpass.getpass that is not Python's own, such as a notebook's, is used without a terminal.
    getpass_ = Mock(side_effect=["", "12345", " 123456 "])
    monkeypatch.setattr(_mfa, "has_terminal", lambda: False)
    monkeypatch.setattr(getpass, "getpass", getpass_)
    key(assume_role(parent, HUB, SerialNumber=DEVICE))
    prompt = f"Enter MFA code for {DEVICE}: "
    assert [call.args[0] for call in getpass_.call_args_list] == [
        prompt,
        f"An MFA code is six digits; that was 0 characters. {prompt}",
        f"An MFA code is six digits; that was 5 characters. {prompt}",
    ]
    assert codes_sent(sts) == ["123456"]


def test_a_code_is_mistyped_three_times(monkeypatch, sts, parent):
    """After three mistyped codes, an error names the device and repeats none of them, and STS is not called."""
    monkeypatch.setattr(getpass, "getpass", Mock(side_effect=["12345", "abcdef", "1234567"]))
    with pytest.raises(CredentialRetrievalError, match=f"3 times.*{DEVICE}") as caught:
        key(assume_role(parent, HUB, SerialNumber=DEVICE))
    assert "12345" not in str(caught.value).replace(DEVICE, "")
    assert sts.assumed == []


def stdin_of(raw: str = "FileIO", **attributes: Any) -> Any:
    buffer = SimpleNamespace(raw=type(raw, (), {})())
    return SimpleNamespace(**{"closed": False, "isatty": lambda: True, "buffer": buffer, **attributes})


@pytest.mark.parametrize(
    ("stdin", "system", "expected"),
    [
        (stdin_of(), "posix", True),
        (None, "posix", False),
        (stdin_of(closed=True), "posix", False),
        (stdin_of(isatty=lambda: False), "posix", False),
        # On Windows, isatty() is true for NUL, too; only a console can be prompted on.
        (stdin_of(), "nt", False),
        (stdin_of("_WindowsConsoleIO"), "nt", True),
    ],
)
def test_whether_there_is_a_terminal(monkeypatch, stdin, system, expected):
    """Without a controlling terminal, stdin is one if it is open, a TTY, and on Windows a console."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", Mock(side_effect=OSError))
        patched.setattr(os, "name", system)
        patched.setattr(sys, "stdin", stdin)
        found = _mfa.has_terminal()
    assert found is expected


# A new process goes on, in a process group that is not the one in the foreground.
IN_THE_BACKGROUND = "import os; os.fork() and os._exit(os.wait()[1] >> 8); os.setpgid(0, 0)"


@pytest.mark.parametrize("background", [False, pytest.param(True, marks=needs_terminal)])
def test_without_a_terminal_it_fails_at_once(sts, request, background):
    """Without a terminal, or in the background, where a prompt would stop it, an error says so at once."""
    arguments, script, stdin = [], SCRIPT, subprocess.PIPE
    if background:
        arguments, script = ["terminal"], SCRIPT.replace("session =", f"{IN_THE_BACKGROUND}\nsession =")
        terminal, stdin = os.openpty()
        request.addfinalizer(lambda: [os.close(descriptor) for descriptor in (terminal, stdin)])
    process = start(*arguments, script=script, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.wait(30)  # while stdin is open
        _, errors = process.communicate()
    finally:
        process.kill()
    last = [line for line in errors.decode().splitlines() if "CredentialRetrievalError: " in line][-1]
    assert process.returncode == 1
    assert f"{DEVICE} needs a code and there is no terminal to prompt on. Pass TokenCode" in last
    assert sts.requests == []


class Code(str, enum.Enum):
    TODAY = "012345"


@pytest.mark.parametrize(
    ("code", "validate"), [(Code.TODAY, True), (lambda: Code.TODAY, True), (Code.TODAY, False), (123456, False)]
)
def test_a_code_is_sent_as_text(sts, parent, code, validate):
    """A member of a str enumeration is sent as its value; without validation, any type is left for STS to reject."""
    key(assume_role(parent, HUB, SerialNumber=DEVICE, TokenCode=code, validate=validate))
    assert codes_sent(sts) == ["123456" if code == 123456 else "012345"]
