"""What a family's clients share, which is noticeable only in the time that it takes."""

from __future__ import annotations

import base64
import contextlib
import copy
import errno
import gc
import logging
import os
import pathlib
import queue
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.loaders import JSONFileLoader, Loader
from conftest import HANG, HUB, SPOKE, Forked, at_once, later, needs_fork
from sts_stub import Fault, StsStub
from tls_stub import TlsStub

from aws_assume_role_lib import _family, assume_role


def role(number: int) -> str:
    return f"arn:aws:iam::{number:012}:role/Scanned"


def call(client: Any) -> None:
    client.head_bucket(Bucket="bucket")


def connections_of(client: Any) -> Any:
    return client._endpoint.http_session


def calls(sts: StsStub) -> list[int]:
    """The connections on which requests other than AssumeRole arrived."""
    return [request.connection for request in sts.requests if request.action != "AssumeRole"]


# Connections


def test_a_family_shares(sts, parent):
    """Sessions at any distance from the root, and copies of them, share for all services and regions; no others do."""
    hub = assume_role(parent, HUB)
    sessions = [hub, hub.assume_role(SPOKE), hub.assume_role(SPOKE).assume_role(HUB), copy.deepcopy(hub)]
    clients = [session.client("s3") for session in sessions]
    clients += [hub.client("sqs", region_name="eu-west-1"), hub.resource("dynamodb").meta.client]
    (shared,) = set(map(connections_of, clients))
    assert connections_of(assume_role(copy.deepcopy(parent), HUB).client("s3")) is not shared
    plain = [connections_of(parent.client("s3")) for _ in range(2)]
    assert [type(each) for each in plain] == [URLLib3Session] * 2
    assert plain[0] is not plain[1]


OF_TRANSPORT: list[dict[str, Any]] = [
    {"verify": False},
    {"verify": "/bundle.pem"},
    {"config": Config(connect_timeout=5)},
    {"config": Config(read_timeout=5)},
    {"config": Config(max_pool_connections=11)},
    {"config": Config(tcp_keepalive=True)},
    {"config": Config(proxies={"https": "http://127.0.0.1:9"})},
    {"config": Config(proxies_config={"proxy_use_forwarding_for_https": True})},
    {"config": Config(client_cert="/client.pem")},
    {"config": Config(client_cert=("/client.pem", "/key.pem"))},
]


def test_other_transport_settings_need_other_connections(parent):
    """A client shares connections with clients whose settings are equal, and with no others."""
    child = assume_role(parent, HUB)
    found = {connections_of(child.client("sqs"))}
    for number, options in enumerate(OF_TRANSPORT, start=2):
        found |= {connections_of(child.client("sqs", **copy.deepcopy(options))) for _ in range(2)}
        assert len(found) == number, options
    # A type that botocore does not document cannot be compared, and is not shared.
    others = [connections_of(child.client("sqs", verify=pathlib.Path("/bundle.pem"))) for _ in range(2)]
    assert [type(each) for each in others] == [URLLib3Session] * 2


def test_only_so_many_settings_are_remembered(monkeypatch, sts, parent):
    """Settings that no client has any more are forgotten, and a client that has them keeps working."""
    monkeypatch.setattr(_family, "MAX_SETTINGS", 4)
    child = assume_role(parent, HUB)
    first = child.client("s3", config=Config(read_timeout=100))
    call(first)
    forgotten = [weakref.ref(connections_of(child.client("s3", config=Config(read_timeout=n)))) for n in range(1, 11)]
    gc.collect()
    assert sum(each() is not None for each in forgotten) == 4
    call(first)
    assert len(set(calls(sts))) == 1


def test_connections_that_were_closed(sts, parent):
    """close() on one client does not close what another uses; a connection that the server closed is not used again."""
    config = Config(retries={"total_max_attempts": 1})
    first, second = (assume_role(parent, role(number)).client("s3", config=config) for number in range(2))
    call(first)
    first.close()
    call(second)
    call(first)
    assert len(set(calls(sts))) == 1
    sts.down()
    sts.up()
    call(first)
    assert len(set(calls(sts))) == 2


@pytest.fixture
def s3(sts, parent, monkeypatch) -> Any:
    """A client of a role that calls another host of this machine for each bucket, and makes no second attempt."""
    look_up = socket.getaddrinfo

    def anywhere(host: Any, *args: Any, **kwargs: Any) -> Any:
        return look_up("127.0.0.1" if str(host).endswith(".example") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", anywhere)
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "virtual"})
    url = f"http://buckets.example:{sts.server.server_port}"
    return assume_role(parent, HUB).client("s3", endpoint_url=url, config=config)


def test_connections_to_many_hosts_are_kept(sts, s3):
    """Two scans of many hosts connect to each host once: urllib3's default would keep ten connections."""
    for number in [*range(40), *range(40)]:
        s3.head_bucket(Bucket=f"bucket-{number}")
    assert len(set(calls(sts))) == 40


def open_bodies(client: Any, number: int) -> None:
    """Hold that many response bodies open at once, then read them all."""
    for body in [client.get_object(Bucket="bucket", Key="key")["Body"] for _ in range(number)]:
        body.read()


def test_64_requests_at_once_do_not_fill_the_pool(sts, parent, caplog):
    """64 simultaneous requests open 64 connections without a warning, and only a few of them stay open."""
    client = assume_role(parent, HUB).client("s3")
    call(client)
    sts.fault = Fault.body("x" * 4000, everything=True)
    for _ in range(2):
        open_bodies(client, 64)
        assert len(_family._idle) <= _family.MAX_IDLE
    assert len(set(calls(sts))) == 64 + 64 - _family.MAX_IDLE
    assert caplog.messages == []


def test_a_connection_that_another_thread_has_closed_is_not_used(sts, parent):
    """A connection that was removed from the idle ones while a thread looked for one is nobody's, and not used."""
    _family.close_idle(0)
    connections = _family._IdleConnections(2)
    first, second = HTTPConnection("a.example"), HTTPConnection("b.example")
    for connection in (first, second):
        connections.put(connection)
    del _family._idle[second]
    assert connections.get() is first
    with pytest.raises(queue.Empty):
        connections.get()
    connections.drop(first)


def test_threads_that_close_idle_connections_at_once(sts, parent):
    """Eight threads that keep and take connections of one host lose none, and no two take the same one."""
    _family.close_idle(0)
    connections, taken = _family._IdleConnections(256), []

    def work(index: int) -> None:
        for number in range(200):
            connections.put(HTTPConnection(f"{index}-{number}.example"))
            with contextlib.suppress(queue.Empty):
                taken.append(connections.get())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        at_once(work, 8)
    finally:
        sys.setswitchinterval(interval)
    assert len(set(map(id, taken))) == len(taken)
    assert set(_family._idle) == set(connections._connections)
    _family.close_idle(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists its descriptors in a folder")
def test_ever_more_hosts_leave_few_descriptors_open(s3):
    """One client that calls ever more hosts, as S3 clients do for buckets, keeps only a few connections."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(_family.MAX_IDLE + 100):
        s3.head_bucket(Bucket=f"bucket-{number}")
    assert len(_family._idle) <= _family.MAX_IDLE
    # The stub runs in this process, so each connection has two ends here, of which the stub closes its own later.
    assert len(os.listdir("/proc/self/fd")) - before <= 3 * _family.MAX_IDLE


@pytest.mark.parametrize(("seconds", "kept"), [(50, 4), (61, 1)])
def test_connections_that_stay_idle_are_closed(s3, seconds, kept):
    """A connection that has been idle for a minute is closed when another one becomes idle."""
    _family.close_idle(0)
    for number in range(3):
        s3.head_bucket(Bucket=f"bucket-{number}")
        if number == 1:
            for connection, (its, since) in _family._idle.items():
                _family._idle[connection] = its, since - seconds
    assert len(_family._idle) == kept


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_without_descriptors_closes_idle_connections(s3, monkeypatch):
    """If the system has no descriptor for a connection, the idle ones are closed, and the request succeeds."""
    for number in range(5):
        s3.head_bucket(Bucket=f"bucket-{number}")
    create, refused = socket.socket, []

    class Refusing(create):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if _family._idle and args and "fileno" not in kwargs:
                refused.append(args)
                raise OSError(errno.EMFILE, "Too many open files")
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(socket, "socket", Refusing)
    s3.head_bucket(Bucket="another")
    assert refused


def test_an_error_that_the_program_handles_is_not_the_connections(sts, parent):
    """A request that fails while the program handles a lack of descriptors of its own is not sent again."""
    client = assume_role(parent, HUB).client("s3", config=Config(read_timeout=0.2, retries={"total_max_attempts": 1}))
    call(client)
    sts.fault = Fault(hangs=True, everything=True)
    try:
        raise OSError(errno.EMFILE, "Too many open files")
    except OSError:
        with pytest.raises(botocore.exceptions.ReadTimeoutError):
            call(client)
    assert len(calls(sts)) == 2


@pytest.mark.parametrize("size", [2, 12])
def test_a_pool_of_the_users_size(sts, parent, caplog, size):
    """A max_pool_connections other than botocore's default means what it means for a plain client."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    sts.fault = Fault.body("x" * 4000, everything=True)
    for session in (child, parent):
        caplog.clear()
        open_bodies(session.client("s3", config=Config(max_pool_connections=size)), size + 3)
        assert ["Connection pool is full" in text for text in caplog.messages] == [True] * 3


# Forks


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_shares_no_connection(sts, parent):
    """A parent and its forked child each open and keep their own connections, with old clients and with new ones."""
    child = assume_role(parent, HUB)
    client = child.client("s3")
    call(client)

    def use() -> str:
        for each in (client, child.client("s3"), client):
            call(each)
        return f"idle: {len(_family._idle)}"  # and not those of the parent process

    assert [Forked.start(use).result() for _ in range(2)] == ["idle: 1"] * 2
    call(client)
    call(child.client("s3"))
    assert calls(sts) == [calls(sts)[0], *[calls(sts)[1]] * 3, *[calls(sts)[4]] * 3, *[calls(sts)[0]] * 2]
    assert len(set(calls(sts))) == 3


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_connections_of_a_fork_are_never_half_made(sts, parent):
    """While one thread of a forked child renews the connections, another one finds either the old or the new ones."""
    client = assume_role(parent, HUB).client("s3")
    call(client)
    connections = connections_of(client)
    state, seen = connections.__dict__, []

    def use() -> str:
        connect = URLLib3Session.__init__

        def watched(self: Any, *args: Any, **kwargs: Any) -> None:
            connect(self, *args, **kwargs)
            seen.append(connections.__dict__ is state and "_manager" in state)

        URLLib3Session.__init__ = watched  # type: ignore[method-assign]
        call(client)
        return f"{seen} {connections.inherited is state}"  # kept open, because the parent still uses them

    assert Forked.start(use).result() == "[True] True"


def test_connections_of_another_process_are_renewed(sts, parent):
    """Connections opened in another process are left as they are, and requests use new ones."""
    client = assume_role(parent, HUB).client("s3")
    call(client)
    connections = connections_of(client)
    connections._process, before = 0, vars(connections)
    call(client)
    call(client)
    assert len(set(calls(sts))) == 2
    assert connections.inherited is before


# TLS and proxies


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsStub]:
    with TlsStub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", stub.bundle)
        yield stub


def test_a_scan_shakes_hands_twice(tls, parent):
    """Over TLS, further roles, with a client and a call each, need no further handshakes."""
    for number in range(10):
        call(assume_role(parent, role(number)).client("s3"))
        assert tls.handshakes == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_client_that_does_not_trust_the_server(tls, parent):
    """A client that verifies the server never uses a connection of one that does not, or that has another CA bundle."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    config = Config(retries={"total_max_attempts": 1})
    call(child.client("s3", verify=False, config=config))
    call(child.client("s3", config=config))
    stranger = child.client("s3", verify=True, config=config)
    with pytest.raises(botocore.exceptions.SSLError):
        call(stranger)


def test_client_certificates_are_not_mixed_up(monkeypatch, sts, parent):
    """With mutual TLS, each request arrives under its client's certificate, even after the file was renewed."""
    child = assume_role(parent, HUB, sts_client_kwargs={"endpoint_url": sts.url})
    with TlsStub(asks_for_certificate=True) as tls:
        monkeypatch.setenv("AWS_ENDPOINT_URL", tls.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", tls.bundle)
        alice, bob = (tls.trusted_client(name) for name in ("alice", "bob"))
        for certificate in (alice, bob, alice, bob):
            call(child.client("s3", config=Config(client_cert=certificate)))
        os.replace(tls.trusted_client("carol"), alice)
        call(child.client("s3", config=Config(client_cert=alice)))
        assert tls.peers == ["alice", "bob", "carol"]
        with pytest.raises(botocore.exceptions.BotoCoreError):
            call(child.client("s3", config=Config(retries={"total_max_attempts": 1})))


@pytest.fixture
def proxied(sts) -> list[tuple[str, str]]:
    """What the stub is sent, as an HTTP proxy too: URLs, and names and passwords."""
    seen = []

    class Proxy(sts.server.RequestHandlerClass):  # type: ignore[name-defined, misc]
        def do_HEAD(self) -> None:
            seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
            self._serve()

    sts.server.RequestHandlerClass = Proxy
    return seen


def test_a_proxy_of_the_environment_is_used(monkeypatch, sts, parent, proxied):
    """HTTP_PROXY and NO_PROXY decide for each client when it is created."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    monkeypatch.setenv("HTTP_PROXY", sts.url)
    call(child.client("s3", endpoint_url="http://s3.example"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    call(child.client("s3"))
    assert [url for url, _ in proxied] == ["http://s3.example/bucket", "/bucket"]


def test_passwords_of_a_proxy_are_not_mixed_up(sts, parent, proxied):
    """Requests of two clients reach a proxy under their own user names, even if a client's dict of proxies changes."""
    child, clients, proxies = assume_role(parent, HUB), [], {}
    names = ["alice:secret", "bob:secret", "alice:secret"]
    for name in names:
        proxies["http"] = sts.url.replace("://", f"://{name}@")
        clients.append(child.client("s3", endpoint_url="http://s3.example", config=Config(proxies=proxies)))
    for client in clients:
        call(client)
    assert [base64.b64decode(header.split()[1]).decode() for _, header in proxied] == names


def test_a_before_send_handler_answers_for_its_client_alone(sts, parent):
    """A handler that answers instead of the network does so for its own client, not for those it shares with."""
    first, second = (assume_role(parent, role(number)).client("s3") for number in range(2))
    body: Any = type("Body", (), {"stream": lambda *_: [b""]})()
    first.meta.events.register("before-send", lambda request, **_: AWSResponse(request.url, 204, {}, body))
    assert first.head_bucket(Bucket="bucket")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert second.head_bucket(Bucket="bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200


# Threads


def test_threads_load_a_model_once(monkeypatch, sts, models_read_anew):
    """Eight threads that each make the first client of a service read its model from disk once."""
    monkeypatch.setattr("aws_assume_role_lib._session.LOADING_WAIT_LIMIT", HANG)
    loaded: list[str] = []
    load = JSONFileLoader.load_file
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda self, path: loaded.append(path) or load(self, path))
    root = boto3.Session("AKIAROOT", "root-secret")  # created now, when each loader has its own cache
    sessions = [assume_role(root, role(number)) for number in range(8)]
    at_once(lambda index: sessions[index].client("sqs", region_name="us-east-1"), 8)
    models = [path for path in loaded if "sqs" in path]
    assert len(models) == len(set(models)) > 0


def test_a_log_handler_may_use_the_session(monkeypatch, sts, parent):
    """A handler that creates a client while another thread loads a model, and logs that, causes a delay, not a hang."""
    monkeypatch.setattr("aws_assume_role_lib._session.LOADING_WAIT_LIMIT", 0.1)
    child, load = assume_role(parent, HUB), Loader.load_service_model
    logger, handling, loading, made = logging.getLogger("botocore.loaders"), threading.Event(), threading.Event(), []

    class Shipper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.msg == "ship":
                handling.set()
                assert loading.wait(HANG)
                made.append(child.client("sqs"))

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not loading.is_set():
            loading.set()
            logger.warning("loading")  # waits for the handler's lock
        return load(self, *args, **kwargs)

    monkeypatch.setattr(Loader, "load_service_model", slow)
    monkeypatch.setattr(logger, "handlers", [Shipper()])
    shipping = later(lambda: logger.warning("ship"))
    assert handling.wait(HANG)
    later(lambda: child.client("sqs")).result(HANG)
    shipping.result(HANG)
    assert len(made) == 1


def test_a_client_that_is_created_while_its_service_is_loaded(monkeypatch, sts, parent):
    """A handler of a record about a service that is being loaded, in the same thread, may create that client."""
    child, load, made = assume_role(parent, HUB), Loader.load_service_model, []

    def load_and_log(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(1)
            made.append(child.client("sqs"))
        return load(self, *args, **kwargs)

    monkeypatch.setattr(Loader, "load_service_model", load_and_log)
    assert child.client("sqs").meta.region_name == made[1].meta.region_name
