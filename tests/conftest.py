"""Fixtures for all tests: a machine without AWS settings, and servers on loopback."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import select
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import boto3
import botocore.client
import botocore.credentials
import botocore.utils
import pytest
import time_machine
from botocore.hooks import EventAliaser
from botocore.loaders import Loader
from hypothesis import settings
from moto.server import ThreadedMotoServer
from sts_stub import StsStub

from aws_assume_role_lib import _credentials

# Each new session reads botocore's models from disk, and translates the names of botocore's events, which together take
# longer than a test. Here both are done once.
_models: dict[tuple[str, ...], dict[Any, Any]] = defaultdict(dict)
_event_names: dict[str, str] = {}
Loader._cache = property(lambda self: _models[tuple(dict.fromkeys(self.search_paths))], lambda self, _: None)
EventAliaser._alias_name_cache = property(lambda self: _event_names, lambda self, _: None)


def pytest_collection_finish() -> None:
    """Collect garbage less often, and not among what lives as long as the run: it took a third of the CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto`` starts more workers than there are processors, since many tests wait for a timeout."""
    return (os.cpu_count() or 1) * 3 // 2


# A shell starts background jobs with SIGINT ignored; every process that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `full` is for one environment of tox, since so many examples take minutes. No deadline: how long an example takes
# depends on the machine.
settings.register_profile("default", max_examples=36, stateful_step_count=15, deadline=None, print_blob=True)
settings.register_profile("full", settings.get_profile("default"), max_examples=300, stateful_step_count=30)
settings.load_profile("default")

T = TypeVar("T")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
needs_terminal = pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no pseudo-terminals")
needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="shells and signals are POSIX's")

NEW_REFRESH = "DEFAULT_NEW_CREDENTIAL_REFRESH"

HUB = "arn:aws:iam::111111111111:role/Hub"
SPOKE = "arn:aws:iam::222222222222:role/Spoke"


class Equal(botocore.credentials.Credentials):
    """Credentials whose objects are equal, whatever their keys are."""

    def __eq__(self, _: object) -> bool:
        return True


def key(session: boto3.Session) -> str:
    """Use a session, and return the access key that it signs with."""
    access_key: str = session.get_credentials().get_frozen_credentials().access_key
    return access_key


def later(work: Callable[[], T]) -> Future[T]:
    """Start work in a daemon thread, which does not keep the test run alive if it hangs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


# Seconds. Must be less than 30, the time after which threads waiting for each other give up: no test may pass that way.
HANG = 25


def at_once(work: Callable[[int], T], number: int = 64) -> list[T]:
    """Call work(0), work(1), ... in a thread each, all released at the same moment, and return the results."""
    start = threading.Barrier(number)

    def run(index: int) -> T:
        start.wait(HANG)
        return work(index)

    return [future.result(HANG) for future in [later(lambda index=index: run(index)) for index in range(number)]]


class NotSent(Exception):
    """Raised instead of sending a request; its text is the request's URL."""


def do_not_send(request: Any, **_: Any) -> None:
    """Handle before-send."""
    raise NotSent(request.url)


class Forked(NamedTuple):
    """A forked child, which works and sends back what the work returned."""

    pid: int
    pipe: int

    @classmethod
    def start(cls, work: Callable[[], str]) -> Forked:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(30)  # no test can leave a child behind
                answer = work()
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode() or b"nothing")
            os._exit(0)
        os.close(writer)
        return cls(pid, reader)

    def result(self) -> str:
        """Return the work's result, or its exception as text, or that it hangs."""
        ready, _, _ = select.select([self.pipe], [], [], 15)
        answer = os.read(self.pipe, 4096).decode() if ready else "it hangs"
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return answer


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition is true, or fail."""
    deadline, pause = time.monotonic() + HANG, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never comes true"
        pause.wait(0.001)


def waiting_threads() -> int:
    """Return how many threads are currently waiting for another thread's attempt."""
    return sum(map(_waits_for_another, sys._current_frames().values()))


def _waits_for_another(frame: FrameType | None) -> bool:
    caller, called = frame, ""
    while caller and not caller.f_globals.get("__name__", "").startswith("aws_assume_role_lib."):
        caller, called = caller.f_back, caller.f_code.co_name
    return caller is not None and (caller.f_code.co_name, called) == ("_share", "exception")


def while_sts_waits(sts: StsStub, work: Callable[[int], T], number: int) -> list[T]:
    """Call work(0), work(1), ... in a thread each; STS responds once all but one wait for the one that called it."""
    sts.gate.clear()
    threads = [later(lambda index=index: work(index)) for index in range(number)]
    wait_until(lambda: waiting_threads() == number - 1)
    sts.gate.set()
    return [thread.result(HANG) for thread in threads]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", metavar="PATH", help="write the page reference/faults.md to PATH")
    parser.addoption("--new-credential-refresh", action="store_true", help="switch on botocore's new refresh")


def pytest_configure(config: pytest.Config) -> None:
    # Newer botocore versions read this constant in each module that imports it; the client's is for S3 Express.
    switched = (botocore.client, botocore.credentials, botocore.utils)
    modules = [module for module in switched if hasattr(module, NEW_REFRESH)]
    if config.getoption("--new-credential-refresh"):
        if not modules:
            pytest.exit("this botocore has no switch for a new credential refresh", returncode=0)
        for module in modules:
            setattr(module, NEW_REFRESH, True)


# Coverage would double the time of these tests, which reach nothing that others do not.
NOT_MEASURED = {"test_boto3", "test_properties", "test_stateful", "test_stress"}


@pytest.fixture(autouse=True, scope="module")
def _few_tests_are_measured(request: pytest.FixtureRequest) -> Iterator[None]:
    coverage = sys.modules.get("coverage")
    measured = coverage and coverage.Coverage.current()
    if measured is None or request.path.stem not in NOT_MEASURED:
        yield
        return
    measured.stop()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG")  # for the processes that they start
        yield
    measured.start()


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refresh as early as possible, not at a random moment."""
    monkeypatch.setattr(_credentials._random, "uniform", lambda first, last: first)


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test, and no test queries the metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


# The STS stub's keys, secrets and tokens, and those of the tests' parents.
SECRET = re.compile(r"A[KS]IA[A-Z0-9]|root-secret|secret-\d|token-\d|kept-secret|KeptSecret")


@pytest.fixture(autouse=True)
def _our_logger_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that our logger logs during a test, at any level, contains a key, a secret or a token."""
    logger, told = logging.getLogger("aws_assume_role_lib"), []
    enabled, handle = logger.isEnabledFor, logger.handle

    def look(record: logging.LogRecord) -> None:
        told.extend(SECRET.findall(logging.Formatter().format(record)))
        if enabled(record.levelno):
            handle(record)

    # The level itself is not changed, because tests check which records it lets through.
    monkeypatch.setattr(logger, "isEnabledFor", lambda level: True)
    monkeypatch.setattr(logger, "handle", look)
    yield
    assert not told


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[StsStub]:
    """The STS stub, which also answers for every other service."""
    with StsStub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
        yield stub


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that is frozen until a test moves it."""
    with time_machine.travel(datetime(2031, 5, 1, 12, tzinfo=timezone.utc), tick=False) as traveller:
        yield traveller


@pytest.fixture
def models_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each session its own loader cache again, as botocore does."""
    monkeypatch.delattr(Loader, "_cache")


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore sends each request once, so that requests count attempts and there are no backoff pauses."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def parent() -> boto3.Session:
    """A session with long-term keys, in a region."""
    return boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")


@pytest.fixture
def root_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long-term keys and a region in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def clients_made(parent: boto3.Session) -> list[str]:
    """A list that grows by one for each STS client that the parent creates."""
    made: list[str] = []
    parent.events.register("creating-client-class.sts", lambda **_: made.append("sts"))
    return made


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        credentials = {"AccessKeyId": "AKIAROOT", "SecretAccessKey": "root-secret", "Token": "token-0"}
        document = {**credentials, "Expiration": "2099-01-01T00:00:00Z", "Code": "Success"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the-role" if self.path.endswith("security-credentials/") else json.dumps(document).encode())

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    """A server that returns credentials, as a container's or an instance's metadata service does."""
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """moto's server, with real accounts, roles and data."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._server.server_port}"
    server.stop()


@pytest.fixture
def moto(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """moto's server as the endpoint of every service."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    return moto_url


@pytest.fixture
def bucket(spoke: boto3.Session) -> Iterator[Any]:
    """A bucket in the account of the role that the module's fixture `spoke` assumes."""
    s3: Any = spoke.resource("s3")
    bucket = s3.create_bucket(Bucket="bucket-of-spoke")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    spent = sum(os.times()[:4])
    terminalreporter.write_line(f"{spent:.0f} CPU seconds; the limit for the tests that run by default is 150")
