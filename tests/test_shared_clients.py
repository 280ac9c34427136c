"""What a family's clients share, which is noticeable only in the time that it takes."""

from __future__ import annotations

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.loaders import JSONFileLoader, Loader
from conftest import HUB, SPOKE, Forked, at_once, needs_fork
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


def test_a_scan_has_one_connection(sts: StsStub, parent: boto3.Session) -> None:
    """Twenty roles, used one after the other, open one connection besides the parent's to STS."""
    for number in range(20):
        call(assume_role(parent, role(number)).client("s3"))
    assert sts.connections == 2
    assert len(set(calls(sts))) == 1


def test_a_chain_is_one_family(sts: StsStub, parent: boto3.Session) -> None:
    """Sessions at any distance from the root, and copies of them, share with each other."""
    hub = assume_role(parent, HUB)
    sessions = [hub, hub.assume_role(SPOKE), hub.assume_role(SPOKE).assume_role(HUB), copy.deepcopy(hub)]
    assert len({connections_of(session.client("s3")) for session in sessions}) == 1


def test_services_and_regions_share(sts: StsStub, parent: boto3.Session) -> None:
    """Another service or region does not need other connections."""
    child = assume_role(parent, HUB)
    clients = [child.client("s3"), child.client("sqs", region_name="eu-west-1"), child.resource("dynamodb").meta.client]
    assert len(set(map(connections_of, clients))) == 1


def test_the_root_and_other_families_have_their_own(sts: StsStub, parent: boto3.Session) -> None:
    """Clients of a plain session, and of another family, use connections of their own."""
    other = copy.deepcopy(parent)
    shared = connections_of(assume_role(parent, HUB).client("s3"))
    assert connections_of(assume_role(other, HUB).client("s3")) is not shared
    assert type(connections_of(parent.client("s3"))) is URLLib3Session
    assert connections_of(parent.client("s3")) is not connections_of(parent.client("s3"))


@pytest.mark.parametrize(
    "options",
    [
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
    ],
    ids=lambda options: "-".join(options),
)
def test_other_transport_settings_need_other_connections(parent: boto3.Session, options: dict[str, Any]) -> None:
    """A client shares connections with clients whose settings are equal, and with no others."""
    child = assume_role(parent, HUB, region_name="us-east-1")
    shared = connections_of(child.client("s3"))
    first, second = (connections_of(child.client("s3", **copy.deepcopy(options))) for _ in range(2))
    assert first is second
    assert first is not shared


def test_settings_that_cannot_be_compared_are_not_shared(parent: boto3.Session) -> None:
    """A client with a setting of a type that botocore does not document shares nothing, but works."""
    child = assume_role(parent, HUB, region_name="us-east-1")
    clients = [child.client("s3", verify=pathlib.Path("/bundle.pem")) for _ in range(2)]
    assert [type(connections_of(client)) for client in clients] == [URLLib3Session] * 2


def test_a_dict_of_proxies_that_is_changed_later(sts: StsStub, parent: boto3.Session) -> None:
    """Changing the dict passed to one client does not redirect other clients' requests."""
    proxies = {"http": "http://user:one@127.0.0.1:9"}
    child = assume_role(parent, HUB)
    connections = connections_of(child.client("s3", config=Config(proxies=proxies)))
    proxies["http"] = "http://user:two@127.0.0.1:9"
    assert connections._proxy_config.proxy_url_for("http://x").startswith("http://user:one@")
    assert connections_of(child.client("s3", config=Config(proxies=proxies))) is not connections


def test_only_so_many_settings_are_remembered(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
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


def test_closing_a_client_leaves_the_others_their_connections(sts: StsStub, parent: boto3.Session) -> None:
    """close() on one client does not close what another uses, and the closed client still works, as botocore's do."""
    first, second = (assume_role(parent, role(number)).client("s3") for number in range(2))
    call(first)
    first.close()
    call(second)
    call(first)
    assert len(set(calls(sts))) == 1


def test_a_server_that_closed_its_connections(sts: StsStub, parent: boto3.Session) -> None:
    """A client finds out that a kept connection was closed, and opens a new one without an error."""
    client = assume_role(parent, HUB).client("s3", config=Config(retries={"total_max_attempts": 1}))
    call(client)
    sts.down()
    sts.up()
    call(client)
    assert len(set(calls(sts))) == 2


def test_the_family_frees_what_it_shared(sts: StsStub, parent: boto3.Session) -> None:
    """Connections are freed with the root session and its clients."""
    client = assume_role(parent, HUB).client("s3")
    call(client)
    shared = weakref.ref(connections_of(client))
    root = weakref.ref(parent._session)
    del client
    parent._session = None
    gc.collect()
    assert root() is None
    assert shared() is None


@pytest.fixture
def many_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name under .example resolves to this machine."""
    look_up = socket.getaddrinfo

    def anywhere(host: Any, *args: Any, **kwargs: Any) -> Any:
        return look_up("127.0.0.1" if str(host).endswith(".example") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", anywhere)


def test_connections_to_many_hosts_are_kept(sts: StsStub, parent: boto3.Session, many_hosts: None) -> None:
    """Two scans of many regions connect to each region once: urllib3's default would keep ten connections."""
    port = sts.server.server_port
    for round_ in range(2):
        for number in range(40):
            child = assume_role(parent, role(round_))
            call(child.client("s3", endpoint_url=f"http://s3.region-{number}.example:{port}"))
    assert len(set(calls(sts))) == 40


def open_bodies(clients: list[Any]) -> list[str]:
    """Hold one response body open for each client, then read them all; return urllib3's warnings."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    pool = logging.getLogger("urllib3.connectionpool")
    pool.addHandler(handler)
    try:
        for body in [client.get_object(Bucket="bucket", Key="key")["Body"] for client in clients]:
            body.read()
    finally:
        pool.removeHandler(handler)
    return records


def test_64_clients_at_once_do_not_fill_the_pool(sts: StsStub, parent: boto3.Session) -> None:
    """64 simultaneous requests open 64 connections without a warning, and only a few of them stay open."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    clients = [child.client("s3") for _ in range(64)]
    sts.fault = Fault.body("x" * 4000, everything=True)
    assert open_bodies(clients) == []
    assert len(_family._idle) <= _family.MAX_IDLE
    assert open_bodies(clients) == []
    assert len(set(calls(sts))) == 64 + 64 - _family.MAX_IDLE


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_connection_that_another_thread_has_closed_is_not_used(sts: StsStub, parent: boto3.Session) -> None:
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


def test_threads_that_close_idle_connections_at_once(sts: StsStub, parent: boto3.Session) -> None:
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


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux lists its descriptors there")
def test_hosts_without_end_leave_few_descriptors_open(sts: StsStub, parent: boto3.Session, many_hosts: None) -> None:
    """One client that calls 300 hosts, as S3 clients do for buckets, keeps only a few connections."""
    client = assume_role(parent, HUB).client("s3", endpoint_url=f"http://buckets.example:{sts.server.server_port}")
    before = descriptors()
    for number in range(300):
        client.head_bucket(Bucket=f"bucket-{number}")
    # The stub runs in this process, so each connection has two ends here.
    assert descriptors() - before <= 2 * _family.MAX_IDLE + 4


def test_connections_that_stay_idle_are_closed(sts: StsStub, parent: boto3.Session, many_hosts: None) -> None:
    """A connection that has been idle for a minute is closed when another one becomes idle."""
    child, port = assume_role(parent, HUB), sts.server.server_port
    _family.close_idle(0)
    for number in range(3):
        call(child.client("s3", endpoint_url=f"http://s3.region-{number}.example:{port}"))
        for connection, (its, since) in _family._idle.items():
            _family._idle[connection] = its, since - _family.MAX_IDLE_TIME - 1
    assert len(_family._idle) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_without_descriptors_closes_idle_connections(
    sts: StsStub, parent: boto3.Session, many_hosts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system has no descriptor for a connection, the idle ones are closed, and the request succeeds."""
    child, port = assume_role(parent, HUB), sts.server.server_port
    for number in range(5):
        call(child.client("s3", endpoint_url=f"http://s3.region-{number}.example:{port}"))
    create, refused = socket.socket, []

    class Refusing(create):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if _family._idle and args and "fileno" not in kwargs:
                refused.append(args)
                raise OSError(errno.EMFILE, "Too many open files")
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(socket, "socket", Refusing)
    config = Config(retries={"total_max_attempts": 1})
    call(child.client("s3", endpoint_url=f"http://s3.other.example:{port}", config=config))
    assert refused


def test_an_error_that_the_program_handles_is_not_the_connections(sts: StsStub, parent: boto3.Session) -> None:
    """A request that fails while the program handles a lack of descriptors of its own is not sent again."""
    client = assume_role(parent, HUB).client("s3", config=Config(read_timeout=0.2, retries={"total_max_attempts": 1}))
    call(client)
    sts.fault = Fault.hang(everything=True)
    before = len(sts.requests)
    try:
        raise OSError(errno.EMFILE, "Too many open files")
    except OSError:
        with pytest.raises(botocore.exceptions.ReadTimeoutError):
            call(client)
    assert len(sts.requests) - before == 1


@pytest.mark.parametrize("size", [2, 12])
def test_a_pool_of_the_users_size(sts: StsStub, parent: boto3.Session, size: int) -> None:
    """A max_pool_connections other than botocore's default means what it means for a plain client."""
    config = Config(max_pool_connections=size)
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    sts.fault = Fault.body("x" * 4000, everything=True)
    warnings = [open_bodies([session.client("s3", config=config)] * (size + 3)) for session in (child, parent)]
    assert [len(each) for each in warnings] == [3, 3]
    assert all("Connection pool is full" in text for text in warnings[0])


# Forks


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_shares_no_connection(sts: StsStub, parent: boto3.Session) -> None:
    """A parent and its forked child each open their own connections, with old clients and with new ones."""
    child = assume_role(parent, HUB)
    client = child.client("s3")
    call(client)

    def use() -> str:
        for each in (client, child.client("s3"), client):
            call(each)
        return "done"

    assert Forked.start(use).result() == "done"
    assert Forked.start(use).result() == "done"
    call(client)
    call(child.client("s3"))
    assert calls(sts) == [calls(sts)[0], *[calls(sts)[1]] * 3, *[calls(sts)[4]] * 3, *[calls(sts)[0]] * 2]
    assert len(set(calls(sts))) == 3


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_connections_of_a_fork_are_never_half_made(sts: StsStub, parent: boto3.Session) -> None:
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
        return f"{seen} {connections.__dict__ is state}"

    assert Forked.start(use).result() == "[True] False"


# TLS and proxies


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsStub]:
    with TlsStub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(stub.authority.bundle))
        yield stub


def test_a_scan_shakes_hands_twice(tls: TlsStub, parent: boto3.Session) -> None:
    """Over TLS, further roles, with a client and a call each, need no further handshakes."""
    call(assume_role(parent, role(0)).client("s3"))
    assert tls.handshakes == 2
    for number in range(1, 10):
        call(assume_role(parent, role(number)).client("s3"))
    assert tls.handshakes == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_client_that_does_not_trust_the_server(tls: TlsStub, parent: boto3.Session) -> None:
    """A client that verifies the server never uses a connection of one that does not, or that has another CA bundle."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    config = Config(retries={"total_max_attempts": 1})
    call(child.client("s3", verify=False, config=config))
    call(child.client("s3", config=config))
    stranger = child.client("s3", verify=True, config=config)
    with pytest.raises(botocore.exceptions.SSLError):
        call(stranger)


def test_client_certificates_are_not_mixed_up(monkeypatch, parent: boto3.Session) -> None:
    """With mutual TLS, each request arrives under its client's certificate, even after the file was renewed."""
    with TlsStub(asks_for_certificate=True) as tls, StsStub() as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", tls.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.authority.bundle))
        alice, bob = (str(tls.authority.issue(name)) for name in ("alice", "bob"))
        for certificate in (alice, bob, alice, bob):
            call(assume_role(parent, HUB).client("s3", config=Config(client_cert=certificate)))
        assert tls.peers == ["alice", "bob"]
        carol = tls.authority.issue("carol")
        os.replace(carol, alice)
        call(assume_role(parent, HUB).client("s3", config=Config(client_cert=alice)))
        assert tls.peers == ["alice", "bob", "carol"]
        with pytest.raises(botocore.exceptions.BotoCoreError):
            call(assume_role(parent, HUB).client("s3", config=Config(retries={"total_max_attempts": 1})))


@pytest.fixture
def proxy() -> Iterator[Any]:
    """An HTTP proxy that answers everything itself: `seen` has the URLs and the user names."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = seen
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_proxy_of_the_environment_is_used(monkeypatch, sts: StsStub, parent: boto3.Session, proxy: Any) -> None:
    """HTTP_PROXY and NO_PROXY decide for each client when it is created."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    call(child.client("s3", endpoint_url="http://s3.example"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    call(child.client("s3"))
    assert [url for url, _ in proxy.seen] == ["http://s3.example/bucket"]
    assert len(calls(sts)) == 1


def test_passwords_of_a_proxy_are_not_mixed_up(sts: StsStub, parent: boto3.Session, proxy: Any) -> None:
    """Requests of two clients reach a proxy under their own user names, whichever client came first."""
    for name in ("alice", "bob", "alice"):
        config = Config(proxies={"http": f"http://{name}:secret@127.0.0.1:{proxy.server_port}"})
        call(assume_role(parent, HUB).client("s3", endpoint_url="http://s3.example", config=config))
    names = [name for _, name in proxy.seen]
    assert names[0] == names[2] != names[1]


def test_a_before_send_handler_answers_for_its_client_alone(sts: StsStub, parent: boto3.Session) -> None:
    """A handler that answers instead of the network does so for its own client, not for those it shares with."""
    first, second = (assume_role(parent, role(number)).client("s3") for number in range(2))
    body: Any = type("Body", (), {"stream": lambda *_: [b""]})()
    first.meta.events.register("before-send", lambda request, **_: AWSResponse(request.url, 204, {}, body))
    assert first.head_bucket(Bucket="bucket")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert second.head_bucket(Bucket="bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_transfers_on_threads(moto: str, parent: boto3.Session, tmp_path: pathlib.Path) -> None:
    """boto3's S3 transfers, in parts and on many threads, of two roles at once, arrive whole."""
    transfer = boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    sent = {number: os.urandom(11 << 20) for number in range(2)}
    clients = [assume_role(parent, role(111111111111 + number)).client("s3") for number in sent]

    def there_and_back(number: int) -> bytes:
        client, file = clients[number], tmp_path / str(number)
        client.create_bucket(Bucket=f"transfers-{number}")
        file.write_bytes(sent[number])
        client.upload_file(str(file), f"transfers-{number}", "key", Config=transfer)
        client.download_file(f"transfers-{number}", "key", str(file), Config=transfer)
        return file.read_bytes()

    assert at_once(there_and_back, 2) == list(sent.values())


# Threads


def test_threads_load_a_model_once(monkeypatch, sts: StsStub) -> None:
    """Eight threads that each make the first client of a service read its model from disk once."""
    loaded: list[str] = []
    load = JSONFileLoader.load_file

    def counted(self: Any, path: str) -> Any:
        loaded.append(path)
        return load(self, path)

    monkeypatch.delattr(Loader, "_cache")
    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    root = boto3.Session("AKIAROOT", "root-secret")  # created now, when each loader has its own cache
    sessions = [assume_role(root, role(number)) for number in range(8)]
    at_once(lambda index: sessions[index].client("sqs", region_name="us-east-1"), 8)
    models = [path for path in loaded if "sqs" in path]
    assert len(models) == len(set(models)) > 0


def test_a_log_handler_may_use_the_session(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
    """A handler that creates a client while another thread loads a model, and logs that, causes a delay, not a hang."""
    monkeypatch.setattr("aws_assume_role_lib._session.LOADING_WAIT_LIMIT", 0.1)
    child = assume_role(parent, HUB)
    logger, handling, loading, made = logging.getLogger("botocore.loaders"), threading.Event(), threading.Event(), []

    class Shipper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if threading.current_thread().name == "ship":
                handling.set()
                assert loading.wait(30)
                made.append(child.client("sqs"))

    load = Loader.load_service_model

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == "load":
            loading.set()
            logger.warning("loading")  # waits for the handler's lock
        return load(self, *args, **kwargs)

    monkeypatch.setattr(Loader, "load_service_model", slow)
    handler = Shipper()
    logger.addHandler(handler)
    works = {"ship": lambda: logger.warning("ship"), "load": lambda: handling.wait(30) and child.client("sqs")}
    threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works.items()]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
        assert len(made) == 1
    finally:
        logger.removeHandler(handler)


def test_a_client_that_is_created_while_its_service_is_loaded(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
    """A handler of a record about a service that is being loaded, in the same thread, may create that client."""
    child, load, made = assume_role(parent, HUB), Loader.load_service_model, []

    def load_and_log(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(1)
            made.append(child.client("sqs"))
        return load(self, *args, **kwargs)

    monkeypatch.setattr(Loader, "load_service_model", load_and_log)
    assert child.client("sqs").meta.region_name == made[1].meta.region_name


def test_connections_of_another_process_are_renewed(sts: StsStub, parent: boto3.Session) -> None:
    """Connections opened in another process are left as they are, and requests use new ones."""
    client = assume_role(parent, HUB).client("sts")
    client.get_caller_identity()
    connections = client._endpoint.http_session
    connections._process = 0
    before, opened = vars(connections), sts.connections
    client.get_caller_identity()
    assert sts.connections == opened + 1
    assert connections.inherited is before
    assert connections._process == os.getpid()
