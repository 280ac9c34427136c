"""The internals of botocore and boto3 that the package leans on. A failure here names the one that has changed."""

from __future__ import annotations

import contextlib
import copy
import inspect

import boto3
import botocore
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    create_mfa_serial_refresher,
)
from botocore.handlers import BUILTIN_HANDLERS
from botocore.hooks import EventAliaser, HierarchicalEmitter, _PrefixTrie
from botocore.parsers import ResponseParserError
from conftest import HUB
from hypothesis import given
from hypothesis import strategies as st
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _clients, assume_role


def test_each_accessor_of_credentials_refreshes_through_refresh() -> None:
    """DeferredRefreshableCredentials._refresh() is what each accessor calls: _credentials.py overrides it."""
    asked = []

    class Asked(DeferredRefreshableCredentials):
        def _refresh(self) -> None:
            asked.append(1)
            self._frozen_credentials = "frozen"
            self._access_key, self._secret_key, self._token, self._account_id = "AKST"

    credentials = Asked(refresh_using=dict, method="m")
    names = [name for name, value in inspect.getmembers(DeferredRefreshableCredentials) if isinstance(value, property)]
    found = "".join(getattr(credentials, name) for name in ("access_key", "secret_key", "token"))
    assert found == "AKS", "an accessor no longer returns what _credentials.py sets: _access_key, _secret_key, _token"
    for name in set(names) - {"access_key", "secret_key", "token"}:
        assert getattr(credentials, name) == "T", f"{name} no longer returns _{name}"
    assert credentials.get_frozen_credentials() == "frozen", "it no longer returns _frozen_credentials"
    assert len(asked) == len(names) + 1, f"one of {names} or get_frozen_credentials() no longer calls _refresh()"


def test_expiry_time_is_where_other_libraries_look(sts: StsStub, parent: boto3.Session) -> None:
    """RefreshableCredentials._expiry_time is a datetime with a time zone."""
    credentials = assume_role(parent, HUB).get_credentials()
    credentials.get_frozen_credentials()
    assert abs(credentials._expiry_time.timestamp() - sts.issued["ASIA0000000000000001"].expires) < 1


def test_the_fetcher_takes_a_client_credentials_and_a_role() -> None:
    """AssumeRoleCredentialFetcher has the constructor arguments that _role.py passes by name."""
    parameters = inspect.signature(AssumeRoleCredentialFetcher).parameters
    assert {"client_creator", "source_credentials", "role_arn"} <= set(parameters)


def test_a_boto3_session_keeps_its_botocore_session_in_session(parent: boto3.Session) -> None:
    """boto3.Session._session is the botocore session."""
    assert isinstance(parent._session, botocore.session.Session)


def test_built_in_handlers_are_prepared_and_copied() -> None:
    """Session._register_builtin_handlers() and _events register the built-in handlers, without initializers."""
    prepared = _clients.builtin_handlers()
    assert prepared is not None, "botocore.session.Session has no _register_builtin_handlers() or _events any more"
    asked = botocore.session.Session()
    for event in ("choose-signer.s3.GetObject", "before-parameter-build.s3.PutObject", "creating-client-class.s3"):
        theirs = asked.get_component("event_emitter")._emitter._handlers.prefix_search(event)
        assert list(prepared._handlers.prefix_search(event)) == list(theirs)
    assert BUILTIN_HANDLERS


@pytest.mark.parametrize("kind", [AttributeError, TypeError, KeyError])
def test_children_do_without_prepared_handlers(monkeypatch, sts: StsStub, parent: boto3.Session, kind) -> None:
    """Where botocore has no _register_builtin_handlers(), children register the handlers themselves, and work."""

    def gone(*_: object) -> None:
        raise kind

    monkeypatch.setattr(_clients, "_prepared", None)
    monkeypatch.setattr(_clients, "EventAliaser", gone)
    child = assume_role(parent, HUB)
    handlers = child.events._emitter._handlers.prefix_search("before-parameter-build.s3.PutObject")
    assert len(handlers) > 3
    assert child.client("sts").get_caller_identity()["Account"] == "111111111111"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "remove", "copy"]),
            st.integers(0, 3),
            st.sampled_from(["a", "a.b", "a.b.c", "a.*.c", "*", "d"]),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        max_size=30,
    )
)
def test_shared_handlers_are_found_as_copied_ones(steps: list[tuple[str, int, str, int, int]]) -> None:
    """_PrefixTrie, with its nodes shared between copies, finds what botocore's own copies find, in their order."""
    theirs, ours = [_PrefixTrie()], [_clients._SharedTrie()]
    for step, index, key, value, section in steps:
        index %= len(ours)
        for tries in (theirs, ours):
            if step == "copy":
                tries.append(copy.copy(tries[index]))
            elif step == "append":
                tries[index].append_item(key, value, section)
            else:
                with contextlib.suppress(ValueError, AttributeError, TypeError):
                    tries[index].remove_item(key, value)
        for name in ("a", "a.b", "a.b.c", "a.x.c", "d.e"):
            assert [trie.prefix_search(name) for trie in ours] == [trie.prefix_search(name) for trie in theirs]


def test_children_share_handlers_until_one_registers(sts: StsStub, parent: boto3.Session) -> None:
    """HierarchicalEmitter._handlers is where a shared _PrefixTrie is put: sessions and clients copy it whole."""
    child = assume_role(parent, HUB)
    trie = child.events._emitter._handlers
    assert isinstance(trie, _clients._SharedTrie), "an emitter no longer copies its _handlers with copy.copy()"
    assert isinstance(child.client("s3").meta.events._emitter._handlers, _clients._SharedTrie)
    shared = _clients.builtin_handlers()._handlers._root["children"]["before-parameter-build"]["children"]["s3"]
    assert trie._root["children"]["before-parameter-build"]["children"]["s3"] is shared


def test_children_do_without_shared_handlers(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
    """Where botocore has no _PrefixTrie, handlers are copied, and children work."""
    monkeypatch.setattr(_clients, "_prepared", None)
    monkeypatch.setattr(_clients, "_Trie", object)
    child = assume_role(parent, HUB)
    assert not isinstance(child.events._emitter._handlers, _clients._SharedTrie)
    assert child.client("sts").get_caller_identity()["Account"] == "111111111111"


def test_aliases_of_event_names_are_worked_out_once(parent: boto3.Session) -> None:
    """EventAliaser._alias_name_cache is where the aliases are kept: sessions and clients share it."""
    child = assume_role(parent, HUB)
    emitter = child._session._events
    assert child.events is emitter, "Session._events is no longer the session's emitter"
    child._session.emit("made-up.autoscaling.A")
    alias = _clients._aliases["made-up.autoscaling.A"]
    assert alias == EventAliaser(HierarchicalEmitter())._alias_event_name("made-up.autoscaling.A")
    fired = []
    child._session.register("made-up.autoscaling.A", lambda **_: fired.append(1))
    child.events.emit("made-up.auto-scaling.A")
    assert fired == [1]
    assert child.client("s3").meta.events._alias_name_cache is _clients._aliases


def test_the_config_store_is_registered_by_a_method_of_its_own(parent: boto3.Session) -> None:
    """Session._register_config_store() is what makes the config store: a child overrides it to save the time."""
    stores = []

    def note(session: botocore.session.Session) -> None:
        stores.append(session.get_component("config_store"))

    botocore.register_initializer(note)
    try:
        child = assume_role(parent, HUB)
    finally:
        botocore.unregister_initializer(note)
    assert stores == [child._session.get_component("config_store")], "botocore made another config store before ours"


def test_what_a_fetcher_asks_for_and_as_whom() -> None:
    """_identity.py reads RefreshableCredentials._refresh_using, and a fetcher's _cache_key and _source_credentials."""
    source = Credentials("AKIA", "s")
    fetcher = AssumeRoleCredentialFetcher(print, source, HUB)
    credentials = DeferredRefreshableCredentials(create_mfa_serial_refresher(fetcher.fetch_credentials), "assume-role")
    assert credentials._refresh_using._refresh.__self__ is fetcher
    assert fetcher._source_credentials is source
    assert fetcher._cache_key == AssumeRoleCredentialFetcher(print, source, HUB)._cache_key
    assert fetcher._cache_key != AssumeRoleCredentialFetcher(print, source, HUB, {"ExternalId": "x"})._cache_key


def test_configs_are_told_apart_by_their_attributes() -> None:
    """A botocore Config keeps its options as attributes: _sts.py shares a client where they are equal."""
    configs = [Config(read_timeout=5), Config(read_timeout=5), Config(read_timeout=6)]
    one, same, other = (repr(vars(config)) for config in configs)
    assert one == same != other, "vars(Config) no longer shows its options"


def test_the_parsers_module_is_in_the_traceback(sts: StsStub, parent: boto3.Session) -> None:
    """botocore's parser raises a plain KeyError on an empty answer, from the module of its ResponseParserError."""
    sts.fault = Fault.body("<a><b/></a>")
    with pytest.raises(KeyError) as caught:
        parent.client("sts").assume_role(RoleArn=HUB, RoleSessionName="me")
    modules = {entry.frame.f_globals["__name__"] for entry in caught.traceback}
    assert ResponseParserError.__module__ in modules, "botocore's parser has moved: _role.py takes its errors for yours"


def test_the_search_path_of_boto3_is_there_once(parent: boto3.Session) -> None:
    """boto3.Session._setup_loader() is what appends boto3's data folder: AssumedRoleSession overrides it."""
    before = list(parent._session.get_component("data_loader").search_paths)
    child = assume_role(assume_role(parent, HUB), HUB)
    assert child._session.get_component("data_loader").search_paths == before
    assert "dynamodb" in child.get_available_resources()
