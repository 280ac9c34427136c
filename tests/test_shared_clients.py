"""What a family's clients share, which is noticeable only in the time that it takes."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pathlib
import signal
import socket
import threading
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.client
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
    monkeypatch.setattr(_family, "POOLS", 4)
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
    """Connections and generated code are freed with the root session and its clients."""
    client = assume_role(parent, HUB).client("s3")
    call(client)
    shared = [weakref.ref(each) for each in (connections_of(client), client.meta.service_model, type(client))]
    root = weakref.ref(parent._session)
    del client
    parent._session = None
    gc.collect()
    assert root() is None
    assert [each() for each in shared] == [None, None, None]


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
    """64 simultaneous requests open 64 connections, all of which are kept, without a warning."""
    child = assume_role(parent, HUB)
    child.get_credentials().get_frozen_credentials()
    clients = [child.client("s3") for _ in range(64)]
    sts.fault = Fault.body("x" * 4000, everything=True)
    assert open_bodies(clients) == []
    assert open_bodies(clients) == []
    assert len(set(calls(sts))) == 64


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


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_another_thread_loads(sts: StsStub, parent: boto3.Session) -> None:
    """A forked child does not wait for a thread that only its parent process has."""
    child = assume_role(parent, HUB)
    shared = _family.shared_clients(parent._session)
    inside, done = threading.Event(), threading.Event()

    def load() -> None:
        with shared.one_at_a_time("something"):
            inside.set()
            done.wait(30)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    assert inside.wait(30)

    def use() -> str:
        signal.setitimer(signal.ITIMER_REAL, _family.LOADING_TIMEOUT - 0.5)
        call(child.client("s3"))
        return "done"

    try:
        assert Forked.start(use).result() == "done"
    finally:
        done.set()
        thread.join(30)


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


# Generated code


def test_code_is_generated_once_for_a_family(sts: StsStub, parent: boto3.Session) -> None:
    """Further clients use the methods, model and endpoint rules of the first; a plain client has its own."""
    hub, spoke = assume_role(parent, HUB), assume_role(parent, SPOKE)
    first, second, plain = hub.client("ec2"), spoke.resource("ec2").meta.client, parent.client("ec2")
    for get in (
        lambda client: type(client).describe_instances,
        lambda client: client.meta.service_model,
        lambda client: client._ruleset_resolver._provider.ruleset,
    ):
        assert get(first) is get(second)
        assert get(first) is not get(plain)


def test_what_each_client_has_for_itself(sts: StsStub, parent: boto3.Session) -> None:
    """Events, config, signer, class, endpoint, resolver and their caches are not shared, even within one session."""
    child = assume_role(parent, HUB)
    first, second = child.client("s3"), child.client("s3")
    for get in (
        type,
        lambda client: client.meta.events,
        lambda client: client.meta.config,
        lambda client: client.meta.config.retries,
        lambda client: client._endpoint,
        lambda client: client._request_signer,
        lambda client: client._serializer,
        lambda client: client._ruleset_resolver,
        lambda client: client._ruleset_resolver._instance_cache,
        lambda client: client._ruleset_resolver._provider,
        lambda client: client._cache,
    ):
        assert get(first) is not get(second)


def test_a_handler_that_changes_the_class(sts: StsStub, parent: boto3.Session) -> None:
    """A creating-client-class handler affects the clients of its session, and no others, before or after."""

    class Base:
        colour = "blue"

    def change(class_attributes: dict[str, Any], base_classes: list[type], **_: Any) -> None:
        class_attributes["shout"] = lambda self: "!"
        del class_attributes["delete_bucket"]
        base_classes.insert(0, Base)

    hub, spoke = assume_role(parent, HUB), assume_role(parent, SPOKE)
    before = hub.client("s3")
    spoke.events.register("creating-client-class.s3", change)
    changed, after = spoke.client("s3"), hub.client("s3")
    assert (changed.shout(), changed.colour, hasattr(changed, "delete_bucket")) == ("!", "blue", False)
    for other in (before, after, parent.client("s3")):
        assert not hasattr(other, "shout")
        assert not hasattr(other, "colour")
        assert hasattr(other, "delete_bucket")


def test_each_api_version_has_its_own_code(sts: StsStub, parent: boto3.Session) -> None:
    """A client gets the older API version that it requests, whatever clients exist already."""
    child = assume_role(parent, HUB)
    versions = child._session.get_component("data_loader").list_api_versions("cloudfront", "service-2")
    for version in (versions[0], None, versions[-1], versions[0]):
        client = child.client("cloudfront", api_version=version)
        assert client.meta.service_model.api_version == (version or versions[-1])
        assert set(client.meta.method_to_api_mapping.values()) == set(client.meta.service_model.operation_names)


def test_another_loader_has_its_own_code(sts: StsStub, parent: boto3.Session, tmp_path: pathlib.Path) -> None:
    """A child with its own models creates clients from those models."""
    hub, spoke = assume_role(parent, HUB), assume_role(parent, SPOKE)
    model = copy.deepcopy(hub._session.get_component("data_loader").load_service_model("sts", "service-2"))
    del model["operations"]["GetAccessKeyInfo"]

    class Custom(Loader):
        def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
            if (service_name, type_name) == ("sts", "service-2"):
                return model
            return super().load_service_model(service_name, type_name, api_version)

    spoke._session.register_component("data_loader", Custom())
    assert hasattr(hub.client("sts"), "get_access_key_info")
    assert not hasattr(spoke.client("sts"), "get_access_key_info")
    assert hasattr(hub.client("sts"), "get_access_key_info")


def test_the_first_session_of_a_family_is_freed(sts: StsStub, parent: boto3.Session) -> None:
    """Code generated for the first client does not keep its session, or that session's handlers, alive."""
    first, second = assume_role(parent, HUB), assume_role(parent, SPOKE)

    class Handler:
        def __call__(self, **_: Any) -> None:
            pass

    handler = Handler()
    first.events.register("docs.*.s3.*", handler)
    gone = [weakref.ref(each) for each in (first._session, first.client("s3"), handler)]
    kept = second.client("s3")
    del first, handler
    gc.collect()
    assert [each() for each in gone] == [None, None, None]
    call(kept)


def test_a_region_redirect_is_remembered_by_its_client(sts: StsStub, parent: boto3.Session) -> None:
    """A bucket region that one client has learned is not used for another role's requests."""
    first, second = (assume_role(parent, role(number)).client("s3") for number in range(2))
    wrong = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    call(first)
    call(second)
    sts.requests.clear()
    sts.fault = Fault(instead=(400, wrong), everything=True, times=1)
    for client in (first, first, second):
        client.get_object(Bucket="bucket", Key="key")["Body"].read()
    regions = [request.region for request in sts.requests if not request.action]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1", "us-east-1"]


@pytest.mark.parametrize("mode", ["standard", "adaptive"])
def test_retry_quotas_and_rate_limits_are_each_clients_own(parent: boto3.Session, mode: str) -> None:
    """One role's throttling does not slow down another: the objects behind their retry handlers share no state."""
    config = Config(retries={"mode": mode})
    names = ("_retry_quota", "_rate_adjustor", "_rate_clocker", "_token_bucket")
    states: list[list[Any]] = []
    for number in range(2):
        client = assume_role(parent, role(number), region_name="us-east-1").client("s3", config=config)
        search = client.meta.events._emitter._handlers.prefix_search
        owners = [
            getattr(handler, "__self__", None)
            for event in ("needs-retry", "before-send", "after-call")
            for handler in search(f"{event}.s3.GetObject")
        ]
        states.append(
            [vars(owner)[name] for owner in owners for name in names if name in getattr(owner, "__dict__", ())]
        )
    assert len(states[0]) == len(states[1]) > 0
    assert not set(map(id, states[0])) & set(map(id, states[1]))


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
    monkeypatch.setattr(_family, "LOADING_TIMEOUT", 0.1)
    child = assume_role(parent, HUB)
    shared = _family.shared_clients(parent._session)
    logger = logging.getLogger("tests.test_shared_clients")
    loading, handling = threading.Event(), threading.Event()
    made = []

    class Shipper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "ship":
                handling.set()
                loading.wait(30)
                made.append(child.client("sqs"))

    def load() -> None:
        assert handling.wait(30)
        with shared.one_at_a_time("a model"):
            loading.set()
            logger.warning("loading")

    handler = Shipper()
    logger.addHandler(handler)
    threads = [threading.Thread(target=work, daemon=True) for work in (lambda: logger.warning("ship"), load)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
        assert len(made) == 1
    finally:
        logger.removeHandler(handler)


def test_a_function_of_botocores_that_has_changed(caplog: pytest.LogCaptureFixture) -> None:
    """If a botocore function does not use what is to be substituted, it is used as it is, and one record says so."""
    caplog.set_level(logging.DEBUG, "aws_assume_role_lib")
    function = botocore.session.Session.get_available_services
    assert [_family._finding(function, ClassThatIsGone=None) for _ in range(2)] == [function, function]
    assert [record.getMessage() for record in caplog.records] == [
        "Session.get_available_services() no longer uses ClassThatIsGone; using it as is."
    ]


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
