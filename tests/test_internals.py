"""The internals of botocore and boto3 that the package depends on. A failure here names the one that has changed."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import botocore
import botocore.client
import botocore.endpoint
import botocore.handlers
import botocore.session
import pytest
import time_machine
from botocore.args import ClientArgsCreator
from botocore.client import ClientCreator
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
    create_mfa_serial_refresher,
)
from botocore.handlers import BUILTIN_HANDLERS
from botocore.hooks import EventAliaser, HierarchicalEmitter, _PrefixTrie
from botocore.parsers import ResponseParserError
from botocore.regions import EndpointRulesetResolver
from conftest import HUB, SPOKE
from hypothesis import given
from hypothesis import strategies as st
from sts_stub import Fault, StsStub

from aws_assume_role_lib import _family, assume_role
from aws_assume_role_lib._travel import pickling


def test_each_accessor_of_credentials_refreshes_through_refresh() -> None:
    """Each accessor calls DeferredRefreshableCredentials._refresh(), which _credentials.py overrides."""
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
    found = getattr(parent, "_session", None)
    assert isinstance(found, botocore.session.Session), "boto3.Session has no _session any more: nothing works without"


def test_frozen_credentials_are_replaced_by_a_refresh(clock: time_machine.Traveller) -> None:
    """RefreshableCredentials._frozen_credentials is the same object until a refresh, and another one afterwards."""

    def metadata() -> dict[str, str]:
        expiry = datetime.now(timezone.utc) + timedelta(hours=1)
        return {"access_key": "A", "secret_key": "S", "token": "T", "expiry_time": expiry.isoformat()}

    credentials = RefreshableCredentials.create_from_metadata(metadata(), refresh_using=metadata, method="mine")
    seen = []
    for minutes in (0, 10, 47):
        clock.shift(60 * minutes)
        credentials.get_frozen_credentials()
        seen.append(getattr(credentials, "_frozen_credentials", None))
    assert None not in seen, "_frozen_credentials is gone: _role.py no longer sees a refresh that failed quietly"
    assert seen[0] is seen[1], "_frozen_credentials changes without a refresh: _role.py misses outages"
    assert seen[1] is not seen[2], "_frozen_credentials stays after a refresh: _role.py takes each one for an outage"


def test_the_signing_context_names_the_schemes_of_a_service(parent: boto3.Session) -> None:
    """choose-signer's context has the service's auth_options, with smithy.api#httpBearerAuth if it takes tokens."""
    if not hasattr(botocore.handlers, "get_bearer_auth_supported_services"):
        pytest.skip("this botocore does not know AWS_BEARER_TOKEN_BEDROCK")
    client, contexts = parent.client("bedrock-runtime"), []

    def note(context: dict[str, Any], **_: Any) -> None:
        contexts.append(dict(context))
        raise InterruptedError

    client.meta.events.register_first("choose-signer", note)
    with pytest.raises(InterruptedError):
        client.converse(modelId="model", messages=[])
    assert "smithy.api#httpBearerAuth" in (contexts[0].get("auth_options") or ()), (
        "auth_options has another form: with AWS_BEARER_TOKEN_BEDROCK set, requests of a role fail"
    )


def test_built_in_handlers_are_prepared_and_copied() -> None:
    """Session._register_builtin_handlers() and _events register the built-in handlers, without initializers."""
    prepared = _family.builtin_handlers()
    assert prepared is not None, "botocore.session.Session has no _register_builtin_handlers() or _events any more"
    asked = botocore.session.Session()
    for event in ("choose-signer.s3.GetObject", "before-parameter-build.s3.PutObject", "creating-client-class.s3"):
        theirs = asked.get_component("event_emitter")._emitter._handlers.prefix_search(event)
        assert list(prepared._handlers.prefix_search(event)) == list(theirs)
    assert BUILTIN_HANDLERS


@pytest.mark.parametrize("kind", [AttributeError, TypeError, KeyError])
def test_children_do_without_prepared_handlers(monkeypatch, sts: StsStub, parent: boto3.Session, kind) -> None:
    """If botocore has no _register_builtin_handlers(), children register the handlers themselves, and work."""

    def gone(*_: object) -> None:
        raise kind

    monkeypatch.setattr(_family, "_prepared", None)
    monkeypatch.setattr(_family, "EventAliaser", gone)
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
    """A _PrefixTrie whose nodes are shared between copies finds what botocore's own copies find, in the same order."""
    theirs, ours = [_PrefixTrie()], [_family._SharedTrie()]
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
    """HierarchicalEmitter._handlers holds the shared _PrefixTrie: sessions and clients copy it whole."""
    child = assume_role(parent, HUB)
    trie = child.events._emitter._handlers
    assert isinstance(trie, _family._SharedTrie), "an emitter no longer copies its _handlers with copy.copy()"
    assert isinstance(child.client("s3").meta.events._emitter._handlers, _family._SharedTrie)
    shared = _family.builtin_handlers()._handlers._root["children"]["before-parameter-build"]["children"]["s3"]
    assert trie._root["children"]["before-parameter-build"]["children"]["s3"] is shared


def test_children_do_without_shared_handlers(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
    """If botocore has no _PrefixTrie, handlers are copied, and children work."""
    monkeypatch.setattr(_family, "_prepared", None)
    monkeypatch.setattr(_family, "_Trie", object)
    child = assume_role(parent, HUB)
    assert not isinstance(child.events._emitter._handlers, _family._SharedTrie)
    assert child.client("sts").get_caller_identity()["Account"] == "111111111111"


def test_aliases_of_event_names_are_worked_out_once(parent: boto3.Session) -> None:
    """EventAliaser._alias_name_cache holds the aliases, and sessions and clients share it."""
    child = assume_role(parent, HUB)
    emitter = child._session._events
    assert child.events is emitter, "Session._events is no longer the session's emitter"
    child._session.emit("made-up.autoscaling.A")
    alias = _family._aliases["made-up.autoscaling.A"]
    assert alias == EventAliaser(HierarchicalEmitter())._alias_event_name("made-up.autoscaling.A")
    fired = []
    child._session.register("made-up.autoscaling.A", lambda **_: fired.append(1))
    child.events.emit("made-up.auto-scaling.A")
    assert fired == [1]
    assert child.client("s3").meta.events._alias_name_cache is _family._aliases


def test_the_config_store_is_registered_by_a_method_of_its_own(parent: boto3.Session) -> None:
    """Session._register_config_store() creates the config store: a child overrides it to save time."""
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
    """_identity.py and pickling.py read RefreshableCredentials._refresh_using; the first also a fetcher's _cache_key
    and _source_credentials."""
    source = Credentials("AKIA", "s")
    fetcher = AssumeRoleCredentialFetcher(print, source, HUB)
    credentials = DeferredRefreshableCredentials(create_mfa_serial_refresher(fetcher.fetch_credentials), "assume-role")
    assert credentials._refresh_using._refresh.__self__ is fetcher
    assert fetcher._source_credentials is source
    assert fetcher._cache_key == AssumeRoleCredentialFetcher(print, source, HUB)._cache_key
    assert fetcher._cache_key != AssumeRoleCredentialFetcher(print, source, HUB, {"ExternalId": "x"})._cache_key


def test_configs_are_told_apart_by_their_attributes() -> None:
    """A botocore Config keeps its options as attributes: _sts.py shares a client if they are equal."""
    assert hasattr(Config(), "__dict__"), "Config has no __dict__: each Config object has an STS client of its own"
    configs = [Config(read_timeout=5), Config(read_timeout=5), Config(read_timeout=6)]
    one, same, other = (repr(vars(config)) for config in configs)
    assert one == same != other, "vars(Config) no longer shows its options"


def test_the_parsers_module_is_in_the_traceback(sts: StsStub, parent: boto3.Session) -> None:
    """botocore's parser raises a plain KeyError on an empty answer, from the module of its ResponseParserError, and
    what a handler raises comes through the module of HierarchicalEmitter."""
    sts.fault = Fault.body("<a><b/></a>")
    with pytest.raises(KeyError) as caught:
        parent.client("sts").assume_role(RoleArn=HUB, RoleSessionName="me")
    modules = {entry.frame.f_globals["__name__"] for entry in caught.traceback}
    assert ResponseParserError.__module__ in modules, (
        "botocore's parser has moved: _answers.py takes its errors for yours"
    )
    parent.events.register("before-call.sts.AssumeRole", lambda **_: {}["yours"])
    with pytest.raises(KeyError) as caught:
        parent.client("sts").assume_role(RoleArn=HUB, RoleSessionName="me")
    modules = {entry.frame.f_globals["__name__"] for entry in caught.traceback}
    assert HierarchicalEmitter.__module__ in modules, "botocore's hooks have moved: _answers.py takes yours for STS's"


def test_the_search_path_of_boto3_is_there_once(parent: boto3.Session) -> None:
    """boto3.Session._setup_loader() appends boto3's data folder: AssumedRoleSession overrides it."""
    before = list(parent._session.get_component("data_loader").search_paths)
    child = assume_role(assume_role(parent, HUB), HUB)
    assert child._session.get_component("data_loader").search_paths == before
    assert "dynamodb" in child.get_available_resources()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (botocore.session.Session.create_client, "botocore"),
        (ClientCreator._get_client_args, "ClientArgsCreator"),
        (ClientArgsCreator.get_client_args, "EndpointCreator"),
        (ClientArgsCreator._build_endpoint_resolver, "EndpointRulesetResolver"),
        (EndpointRulesetResolver.__init__, "EndpointProvider"),
    ],
    ids=lambda value: getattr(value, "__qualname__", value),
)
def test_botocore_finds_its_classes_by_name(function: Any, name: str) -> None:
    """The path from Session.create_client() to a client's connections leads through these functions and names."""
    assert _family._finding(function, **{name: None}) is not function, f"{function.__qualname__} does not use {name}"


def test_a_client_is_made_of_shared_parts(sts: StsStub, parent: boto3.Session) -> None:
    """_create_methods() creates a client's methods, and create_endpoint(http_session_cls=...) its connections."""
    hub, spoke = (assume_role(parent, role).client("s3") for role in (HUB, SPOKE))
    assert hub._endpoint.http_session is spoke._endpoint.http_session
    assert hub.meta.service_model is spoke.meta.service_model
    assert type(hub).head_bucket is type(spoke).head_bucket
    assert hub._ruleset_resolver._provider.ruleset is spoke._ruleset_resolver._provider.ruleset


def test_shared_connections_have_room(sts: StsStub, parent: boto3.Session) -> None:
    """URLLib3Session._get_pool_manager_kwargs() returns the arguments of PoolManager, to which we add num_pools."""
    connections = assume_role(parent, HUB).client("s3")._endpoint.http_session
    assert connections._manager.pools._maxsize == _family.HOSTS
    assert connections._manager.connection_pool_kw["maxsize"] == _family.CONNECTIONS_PER_HOST


def _wrapped_by_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    create = botocore.session.Session.create_client

    @functools.wraps(create)
    def traced(*args: Any, **kwargs: Any) -> Any:
        return create(*args, **kwargs)

    monkeypatch.setattr(botocore.session.Session, "create_client", traced)


def _replaced_by_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    creator = botocore.client.ClientCreator
    monkeypatch.setattr(botocore.client, "ClientCreator", lambda *args, **kwargs: creator(*args, **kwargs))


def _without_the_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    create = botocore.endpoint.EndpointCreator.create_endpoint

    def create_endpoint(self: Any, service_model: Any, region_name: Any, endpoint_url: Any, **kwargs: Any) -> Any:
        return create(self, service_model, region_name, endpoint_url, **kwargs)

    monkeypatch.setattr(botocore.endpoint.EndpointCreator, "create_endpoint", create_endpoint)


def _with_another_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.endpoint, "URLLib3Session", type("Other", (botocore.endpoint.URLLib3Session,), {}))


def _without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.args", None)


def _with_a_method_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    get = ClientCreator._get_client_args
    monkeypatch.setattr(ClientCreator, "_get_client_args", lambda *args, **kwargs: get(*args, **kwargs))


@pytest.mark.parametrize(
    "change",
    [
        _wrapped_by_another_library,
        _replaced_by_a_function,
        _without_the_parameter,
        _with_another_session,
        _without_the_module,
        _with_a_method_of_another_library,
    ],
)
def test_clients_do_without_sharing(
    monkeypatch, caplog: pytest.LogCaptureFixture, sts: StsStub, parent: boto3.Session, change: Any
) -> None:
    """If botocore is not as expected, clients are created botocore's way, with one message at DEBUG and no error."""
    monkeypatch.setattr(_family, "_noted", set())
    caplog.set_level(logging.DEBUG, "aws_assume_role_lib")
    with monkeypatch.context() as changed:
        change(changed)
        child = assume_role(parent, HUB)
        for _ in range(2):
            assert child.client("sts").get_caller_identity()["Account"] == "111111111111"
        first, second = child.client("s3"), child.client("s3")
        assert first._endpoint.http_session is not second._endpoint.http_session
    notes = [record for record in caplog.records if record.getMessage() in _family._noted]
    assert [record.levelname for record in notes] == ["DEBUG"]


def test_a_replaced_client_creator_is_used(monkeypatch, sts: StsStub, parent: boto3.Session) -> None:
    """If a library has replaced ClientCreator with a subclass, roles' clients use it too."""

    made = []

    class Traced(ClientCreator):
        def create_client(self, service_name: str, *args: Any, **kwargs: Any) -> Any:
            made.append(service_name)
            return super().create_client(service_name, *args, **kwargs)

    child = assume_role(parent, HUB)
    child.client("sqs")
    monkeypatch.setattr(botocore.client, "ClientCreator", Traced)
    assert child.client("s3").meta.service_model is child.client("s3").meta.service_model
    assert made == ["s3", "s3"]


def test_components_are_made_before_they_are_needed(parent: boto3.Session) -> None:
    """Session._get_internal_component() creates what botocore would create lazily, before create_client() needs it."""
    child = assume_role(parent, HUB, region_name="us-east-1")._session
    child._load_components()
    assert not child._internal_components._deferred, "botocore has another lazy component"


def test_what_is_set_on_a_child_outlives_a_defaults_mode(parent: boto3.Session) -> None:
    """botocore keeps a variable under a defaults mode if its provider is a configprovider.BaseProvider, as ours are."""
    child = assume_role(parent, HUB, region_name="us-east-1")
    child._session.set_config_variable("retry_mode", "adaptive")
    client = child.client("s3", config=Config(defaults_mode="standard"))
    assert client.meta.config.retries["mode"] == "adaptive"


def test_a_config_tells_what_was_passed() -> None:
    """Config._user_provided_options holds what was passed: without it, pickling.py takes what is not a default."""
    config = Config(connect_timeout=60, s3={"addressing_style": "path"})
    passed = {"connect_timeout": 60, "s3": {"addressing_style": "path"}}
    assert vars(config)["_user_provided_options"] == passed
    del config._user_provided_options
    assert pickling._options_of(config) == {"s3": {"addressing_style": "path"}}


def test_a_section_set_on_a_child_outlives_a_defaults_mode(parent: boto3.Session) -> None:
    """botocore copies the provider of the s3 section and gives the copy a default, which ours does not need."""
    child = assume_role(parent, HUB, region_name="us-east-1")
    child._session.set_config_variable("s3", {"addressing_style": "path"})
    client = child.client("s3", config=Config(defaults_mode="standard"))
    assert client.meta.config.s3["addressing_style"] == "path"
