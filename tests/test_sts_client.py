"""One STS client per parent: created once, shared, up to date, and freed with its parent."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import Credentials, DeferredRefreshableCredentials
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from conftest import HANG, HUB, SPOKE, Equal, key, later
from sts_stub import Fault

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._sts import options_key, sts_client


def test_made_on_first_need_and_kept(sts, parent, clients_made, clock):
    """20 roles of one parent, and their refreshes after expiry, use one client and one connection, created on use."""
    children = [assume_role(parent, f"{HUB}-{number}") for number in range(20)]
    assert (clients_made, sts.connections) == ([], 0)
    for _ in range(2):
        for child in children:
            key(child)
        clock.shift(3600)
    assert clients_made == ["sts"]
    assert len(sts.assumed) == 40
    assert {request.connection for request in sts.assumed} == {1}


def test_shared_by_children_with_the_same_options(sts, parent, clients_made):
    """Children share a client if, and only if, their sts_client_kwargs mean the same."""
    shared = Config(retries={"max_attempts": 2})  # botocore completes it when a client is created
    options: list[dict[str, Any] | None] = [
        None,
        {},
        {"config": None},
        {"region_name": "eu-west-1"},
        {"region_name": "eu-west-1"},
        {"config": Config(read_timeout=5)},
        {"config": Config(read_timeout=5)},
        {"config": Config(read_timeout=6)},
        {"config": Config(read_timeout=6), "region_name": "eu-west-1"},
        {"config": shared},
        {"config": shared},
        {"config": Config(retries={"max_attempts": 2})},
    ]
    counts = []
    for number, each in enumerate(options):
        key(assume_role(parent, f"{HUB}-{number}", sts_client_kwargs=each))
        counts.append(len(clients_made))
    assert counts == [1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 6, 6]
    assert [request.region for request in sts.assumed][2:6] == ["us-east-1", "eu-west-1", "eu-west-1", "us-east-1"]


def test_each_parent_has_its_own(sts, parent):
    """Two parents, and the roles of a chain, each call STS with their own keys; families share no connection."""
    hub = assume_role(parent, HUB)
    key(hub.assume_role(SPOKE))
    key(assume_role(boto3.Session("AKIAOTHER", "s", region_name="us-east-1"), SPOKE))
    assert [request.access_key for request in sts.assumed] == ["AKIAROOT", key(hub), "AKIAOTHER"]
    assert [request.connection for request in sts.assumed] == [1, 1, 2]


def test_follows_its_parent(sts, parent, clock):
    """Keys, region and default client config that change on a parent, or above it, apply to the next AssumeRole."""
    spoke = assume_role(parent, HUB).assume_role(SPOKE)
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: setattr(parent.get_credentials(), "access_key", "AKIANEW"),
        lambda: parent._session.set_config_variable("region", "eu-west-1"),
        lambda: parent._session.set_default_client_config(Config(user_agent_extra="later/1")),
        lambda: parent._session.set_credentials("AKIANEWER", "s"),
    ]
    for change in changes:
        change()
        clock.shift(3600)
        key(spoke)
    assert [each.access_key for each in sts.assumed[::2]] == ["AKIAROOT", *["AKIANEW"] * 3, "AKIANEWER"]
    assert [each.region for each in sts.assumed] == ["us-east-1"] * 4 + ["eu-west-1"] * 6
    assert ["later/1" in each.user_agent for each in sts.assumed] == [False] * 6 + [True] * 4


def test_freed_with_its_parent(sts, clock):
    """Dropped sessions are freed: children while the parent stays, then all of a family, with its STS clients."""
    parent = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
    family: list[weakref.ref[Any]] = []
    parent.events.register(
        "before-call.sts.AssumeRole", lambda request_signer, **_: family.append(weakref.ref(request_signer))
    )
    hub = assume_role(parent, HUB)
    spoke = hub.assume_role(SPOKE)
    dropped = assume_role(parent, SPOKE)
    for _ in range(2):
        for session in (dropped, spoke):
            session.client("sts").get_caller_identity()
        clock.shift(3600)
    child = [weakref.ref(each) for each in (dropped, dropped._session, dropped.get_credentials())]
    family += [weakref.ref(each) for each in (parent, parent._session, hub, hub._session, spoke, spoke._session)]
    family.append(weakref.ref(hub.client("sts")._endpoint.http_session))
    del dropped, session
    gc.collect()
    assert [reference() for reference in child] == [None] * len(child)
    assert None not in [reference() for reference in family]
    del parent, hub, spoke
    gc.collect()
    assert [reference() for reference in family] == [None] * len(family)


def test_a_parent_lives_as_long_as_its_child(sts, clock):
    """A child keeps alive the parent that it refreshes from, even if the caller holds only the child."""
    child = assume_role(boto3.Session("AKIAROOT", "s", region_name="us-east-1"), HUB).assume_role(SPOKE)
    for _ in range(2):
        gc.collect()
        key(child)
        clock.shift(3600)
    assert len(sts.assumed) == 4


@pytest.mark.parametrize(("dropped", "rounds", "limit"), [(False, 100, 50), (True, 6, 500)])
def test_rounds_do_not_grow_the_process(sts, parent, dropped, rounds, limit):
    """Rounds of assuming, using and dropping, of roles alone or with their parents, leave no objects behind."""

    def objects_after(number: int) -> int:
        for _ in range(number):
            root = boto3.Session("AKIAROOT", "s", region_name="us-east-1") if dropped else parent
            key(assume_role(root, HUB))
            sts.requests.clear()
            sts.issued.clear()
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(rounds // 2)
    assert objects_after(rounds) - before < limit
    assert dropped or sts.connections == 1


def test_credentials_that_were_replaced_are_not_asked_again(sts, parent):
    """A child uses its parent's current credentials, even if the original ones are broken."""
    # Whoever reads their keys gets a TypeError.
    parent._session._credentials = DeferredRefreshableCredentials(None, "sso")
    child = assume_role(parent, HUB)
    parent._session.set_credentials("AKIANEW", "s")
    assert sts.issued[key(child)].by == "AKIANEW"


def test_what_signs_is_the_botocore_sessions(sts):
    """A subclass's own get_credentials() affects neither who signs nor the number of connections."""

    class Own(boto3.Session):
        def get_credentials(self) -> Credentials:
            return Credentials("AKIAOVER", "s")

    own = Own("AKIAREAL", "s", region_name="us-east-1")
    for _ in range(3):
        assume_role(own, HUB).get_credentials().get_frozen_credentials()
    assert {request.access_key for request in sts.assumed} == {"AKIAREAL"}
    assert sts.connections == 1


def test_clients_for_options_that_vary_do_not_pile_up(sts, parent, clients_made):
    """The 16 clients that were used last serve the next session with their options; a session in use keeps its own."""
    clients: weakref.WeakSet[Any] = weakref.WeakSet()
    parent.events.register("before-call.sts.AssumeRole", lambda request_signer, **_: clients.add(request_signer))

    def tenant(number: int) -> boto3.Session:
        return assume_role(parent, HUB, sts_client_kwargs={"config": Config(user_agent_extra=f"tenant/{number}")})

    kept = tenant(1000)
    first = key(kept)
    for number in [*range(17), 16, 1, 0, 1, 2]:
        key(tenant(number))
    assert len(clients_made) == 1 + 19
    kept.get_credentials().refresh_at = 0
    assert key(kept) != first
    assert "tenant/1000" in sts.assumed[-1].user_agent
    gc.collect()
    assert len(clients) == 16


def test_64_roles_at_once_fit_the_connection_pool(sts, parent, caplog):
    """64 roles of one parent, first used at once, fit into its STS client's pool, unless you chose its size."""
    roles = [assume_role(parent, f"{HUB}-{number}") for number in range(64)]
    sts.gate.clear()
    waiting = [later(lambda role=role: key(role)) for role in roles]
    for _ in roles:
        assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert len({future.result(HANG) for future in waiting}) == 64
    assert [record.getMessage() for record in caplog.records if "pool" in record.getMessage()] == []


def test_the_size_of_the_pool_is_yours(sts, parent):
    """max_pool_connections in your Config is the size of the STS client's pool."""
    for config, size in ((Config(), 256), (Config(max_pool_connections=3), 3)):
        options = {"config": config}
        client: Any = sts_client(parent, options, options_key(options), is_early=False)
        assert client._endpoint.http_session._max_pool_connections == size


def test_what_a_handlers_own_call_raises_is_not_blamed_on_sts(sts, parent):
    """A handler of the AssumeRole call that itself calls AWS, and is answered with HTML, has its own error raised."""
    other = boto3.Session("AKIAOTHER", "s", region_name="us-east-1").client("sts")
    sts.fault = Fault.html(everything=True)
    parent.events.register("before-call.sts.AssumeRole", lambda **_: other.get_caller_identity())
    with pytest.raises(ResponseParserError):
        key(assume_role(parent, HUB))
    assert [request.action for request in sts.requests] == ["GetCallerIdentity"]


@pytest.fixture
def renew(tmp_path) -> Callable[[str], object]:
    """Return a function that writes other keys to the file."""
    (tmp_path / "config").write_text("[profile own]\nregion = us-east-1\n")
    text = "[own]\naws_access_key_id = {}\naws_secret_access_key = s\naws_session_token = t\n"
    return lambda name: (tmp_path / "credentials").write_text(text.format(name))


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
@pytest.mark.parametrize("set_in_code", [False, True])
def test_keys_that_a_tool_renewed_in_the_file_are_used(sts, clock, renew, tmp_path, monkeypatch, code, set_in_code):
    """When a profile's static keys have expired, the file is read again, and the identity in cache keys follows."""
    renew("AKIAONE")
    cache: dict[str, Any] = {}

    def session() -> boto3.Session:
        inner = botocore.session.Session(profile="own")
        if set_in_code:
            inner.set_config_variable("credentials_file", str(tmp_path / "credentials"))
        return boto3.Session(botocore_session=inner)

    if set_in_code:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    parent = session()
    child = assume_role(parent, HUB, cache=cache)
    key(child)
    for name in ("AKIATWO", "AKIATHREE"):
        renew(name)
        clock.shift(3600)
        sts.fault = Fault.error(403, code, times=1)
        assert sts.issued[key(child)].by == name
        clock.shift(3600)
        second = key(assume_role(parent, HUB, cache=cache))
        assert sts.issued[second].by == name
        assert key(assume_role(session(), HUB, cache=cache)) == second


@pytest.mark.parametrize("kind", ["unchanged", "half", "explicit", "environment", "denied"])
def test_keys_that_are_not_renewed_in_a_file(sts, renew, monkeypatch, kind):
    """Keys set in code or in the environment are never replaced, nor are keys with which STS finds no fault; a file
    without others is named as the cause.
    """
    renew("AKIAONE")
    own: tuple[str, ...] = ("AKIAONE", "s", "t") if kind == "explicit" else ()
    if kind == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        monkeypatch.setenv("AWS_PROFILE", "own")
    child = assume_role(boto3.Session(*own, profile_name=None if kind == "environment" else "own"), HUB)
    if kind != "unchanged":
        renew("AKIATWO" if kind != "half" else "AKIATWO\n[other]")
    code = "AccessDenied" if kind == "denied" else "ExpiredToken"
    sts.fault = Fault.error(403, code)
    with pytest.raises(ClientError, match=code) as caught:
        key(child)
    assert [request.access_key for request in sts.assumed] == ["AKIAONE"]
    assert ("was read again" in " ".join(caught.value.__notes__)) is (kind in ("unchanged", "half"))


@pytest.mark.parametrize(("kind", "name"), [(Credentials, "AKIAA"), (Credentials, "AKIAZ"), (Equal, "AKIAONE")])
def test_keys_that_are_only_labelled_as_a_files(sts, renew, kind, name):
    """Credentials that a program gives a file's label are not replaced by those in the file, nor by renewed ones."""
    renew("AKIAONE")
    parent = boto3.Session(profile_name="own")
    found = parent.get_credentials()
    if kind is Equal:
        renew("AKIATWO")
        sts.fault = Fault.error(403, "ExpiredToken", times=1)
        assert sts.issued[key(assume_role(parent, HUB))].by == "AKIATWO"
    parent._session._credentials = kind(name, "s", "t", found.method)
    renew("AKIATHREE")
    sts.fault = Fault.error(403, "ExpiredToken")
    with pytest.raises(ClientError, match="ExpiredToken"):
        key(assume_role(parent, HUB))
    assert sts.assumed[-1].access_key == name
