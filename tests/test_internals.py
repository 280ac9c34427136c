"""The internals of botocore and boto3 that the package depends on. A failure here names the one that has changed."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import botocore
import botocore.args
import botocore.client
import botocore.endpoint
import botocore.handlers
import botocore.regions
import botocore.session
import pytest
from botocore.client import ClientCreator
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    create_mfa_serial_refresher,
)
from botocore.hooks import HierarchicalEmitter
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError
from conftest import HUB
from sts_stub import Fault

from aws_assume_role_lib import _family, _handlers, assume_role
from aws_assume_role_lib._handlers import builtin_handlers
from aws_assume_role_lib._travel import pickling


def test_each_accessor_of_credentials_refreshes_through_refresh():
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


def test_expiry_time_is_where_other_libraries_look(sts, parent):
    """RefreshableCredentials._expiry_time is a datetime with a time zone."""
    credentials = assume_role(parent, HUB).get_credentials()
    credentials.get_frozen_credentials()
    assert abs(credentials._expiry_time.timestamp() - sts.issued["ASIA0000000000000001"].expires) < 1


def test_a_boto3_session_keeps_its_botocore_session_in_session(parent):
    """boto3.Session._session is the botocore session."""
    found = getattr(parent, "_session", None)
    assert isinstance(found, botocore.session.Session), "boto3.Session has no _session any more: nothing works without"


def test_the_signing_context_names_the_schemes_of_a_service(parent):
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


def test_built_in_handlers_are_prepared_and_copied():
    """Session._register_builtin_handlers() and _events register the built-in handlers, without initializers."""
    prepared = builtin_handlers()
    assert prepared is not None, "botocore.session.Session has no _register_builtin_handlers() or _events any more"
    asked = botocore.session.Session()
    for event in ("choose-signer.s3.GetObject", "before-parameter-build.s3.PutObject", "creating-client-class.s3"):
        theirs = asked.get_component("event_emitter")._emitter._handlers.prefix_search(event)
        assert list(prepared._handlers.prefix_search(event)) == list(theirs)


@pytest.mark.parametrize("kind", [AttributeError, TypeError, KeyError])
def test_children_do_without_prepared_handlers(monkeypatch, sts, parent, kind):
    """If botocore has no _register_builtin_handlers(), children register the handlers themselves, and work."""

    def gone(*_: object) -> None:
        raise kind

    monkeypatch.setattr(_handlers, "_prepared", None)
    monkeypatch.setattr(_handlers, "EventAliaser", gone)
    child = assume_role(parent, HUB)
    handlers = child.events._emitter._handlers.prefix_search("before-parameter-build.s3.PutObject")
    assert len(handlers) > 3
    assert child.client("sts").get_caller_identity()["Account"] == "111111111111"


def test_what_a_fetcher_asks_for_and_as_whom():
    """_role.py creates a fetcher with these arguments; _identity.py reads its _cache_key and _source_credentials, and
    RefreshableCredentials._refresh_using."""
    source = Credentials("AKIA", "s")
    fetcher = AssumeRoleCredentialFetcher(client_creator=print, source_credentials=source, role_arn=HUB)
    credentials = DeferredRefreshableCredentials(create_mfa_serial_refresher(fetcher.fetch_credentials), "assume-role")
    assert credentials._refresh_using._refresh.__self__ is fetcher
    assert fetcher._source_credentials is source
    assert fetcher._cache_key == AssumeRoleCredentialFetcher(print, source, HUB)._cache_key
    assert fetcher._cache_key != AssumeRoleCredentialFetcher(print, source, HUB, {"ExternalId": "x"})._cache_key


def test_configs_are_told_apart_by_their_attributes():
    """A botocore Config keeps its options as attributes: _sts.py shares a client if they are equal."""
    assert hasattr(Config(), "__dict__"), "Config has no __dict__: each Config object has an STS client of its own"
    configs = [Config(read_timeout=5), Config(read_timeout=5), Config(read_timeout=6)]
    one, same, other = (repr(vars(config)) for config in configs)
    assert one == same != other, "vars(Config) no longer shows its options"


def test_the_parsers_module_is_in_the_traceback(sts, parent):
    """botocore's parser raises a plain KeyError on an empty answer, from the module of its ResponseParserError, and
    what a handler raises comes through the module of HierarchicalEmitter."""

    def modules() -> set[str]:
        with pytest.raises(KeyError) as caught:
            parent.client("sts").assume_role(RoleArn=HUB, RoleSessionName="me")
        return {entry.frame.f_globals["__name__"] for entry in caught.traceback}

    sts.fault = Fault.body("<a><b/></a>")
    where = "botocore's parser has moved: _answers.py takes its errors for yours"
    assert ResponseParserError.__module__ in modules(), where
    parent.events.register("before-call.sts.AssumeRole", lambda **_: {}["yours"])
    where = "botocore's hooks have moved: _answers.py takes yours for STS's"
    assert HierarchicalEmitter.__module__ in modules(), where


def test_the_search_path_of_boto3_is_there_once(parent):
    """boto3.Session._setup_loader() appends boto3's data folder: AssumedRoleSession overrides it."""
    before = list(parent._session.get_component("data_loader").search_paths)
    child = assume_role(assume_role(parent, HUB), HUB)
    assert child._session.get_component("data_loader").search_paths == before
    assert "dynamodb" in child.get_available_resources()


def test_shared_connections_have_room(sts, parent):
    """URLLib3Session._get_pool_manager_kwargs() returns the arguments of PoolManager, to which we add num_pools."""
    connections = assume_role(parent, HUB).client("s3")._endpoint.http_session
    assert connections._manager.pools._maxsize == _family.MAX_HOSTS
    assert connections._manager.connection_pool_kw["maxsize"] == _family.CONNECTIONS_PER_HOST
    for url in ("http://a.example", "https://a.example"):
        queue = connections._manager.connection_from_url(url).pool
        assert isinstance(queue, _family._IdleConnections), "idle connections are no longer limited"


@pytest.mark.parametrize("gone", ["_verify", "_proxy_config", "_socket_options"])
def test_clients_do_without_shared_connections(sts, parent, gone):
    """If a client's http_session does not tell its settings, or is of another class, the client keeps its own."""
    family = assume_role(parent, HUB)._session._aws_assume_role_lib
    client: Any = parent.client("s3")
    own = client._endpoint.http_session
    assert hasattr(own, gone), f"URLLib3Session has no {gone}: roles' clients no longer share connections"
    delattr(own, gone)
    family.share_connections(client)
    assert client._endpoint.http_session is own
    client._endpoint.http_session = other = type("Other", (URLLib3Session,), {})()
    family.share_connections(client)
    assert client._endpoint.http_session is other


def test_a_replaced_client_creator_is_used(monkeypatch, sts, parent):
    """If a library has replaced ClientCreator with a subclass, roles' clients use it too."""
    made = []

    class Traced(ClientCreator):
        def create_client(self, service_name: str, *args: Any, **kwargs: Any) -> Any:
            made.append(service_name)
            return super().create_client(service_name, *args, **kwargs)

    child = assume_role(parent, HUB)
    child.client("sqs")
    monkeypatch.setattr(botocore.client, "ClientCreator", Traced)
    child.client("s3")
    assert made == ["s3"]


def test_what_is_set_on_a_child_outlives_a_defaults_mode(parent):
    """botocore keeps a variable under a defaults mode if its provider is a configprovider.BaseProvider, as ours are; it
    copies the provider of the s3 section and gives the copy a default, which ours does not need."""
    child = assume_role(parent, HUB)
    child._session.set_config_variable("retry_mode", "adaptive")
    child._session.set_config_variable("s3", {"addressing_style": "path"})
    config = child.client("s3", config=Config(defaults_mode="standard")).meta.config
    assert (config.retries["mode"], config.s3["addressing_style"]) == ("adaptive", "path")


def test_a_config_tells_what_was_passed():
    """Config._user_provided_options holds what was passed: without it, pickling.py takes what is not a default."""
    config = Config(connect_timeout=60, s3={"addressing_style": "path"})
    passed = {"connect_timeout": 60, "s3": {"addressing_style": "path"}}
    assert vars(config)["_user_provided_options"] == passed
    del config._user_provided_options
    assert pickling._plain(config) == {"s3": {"addressing_style": "path"}}


INSTRUMENTED = (
    (botocore.session.Session, "create_client"),
    (ClientCreator, "_get_client_args"),
    (ClientCreator, "_create_methods"),
    (ClientCreator, "_create_api_method"),
    (botocore.args.ClientArgsCreator, "get_client_args"),
    (botocore.regions.EndpointRulesetResolver, "__init__"),
)


@pytest.mark.parametrize("when", ["before the first client", "after the first client"])
def test_instrumentation_sees_roles_clients_as_plain_ones(monkeypatch, parent, when):
    """A library that wraps botocore's functions sees the same calls for a role's client as for a plain one."""
    child, calls = assume_role(parent, HUB), Counter[str]()

    def count(owner: type, name: str) -> None:
        function = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    if when == "after the first client":
        child.client("sqs")
    for owner, name in INSTRUMENTED:
        count(owner, name)
    seen = []
    for session in (parent, child):
        calls.clear()
        session.client("sqs")
        seen.append(dict(calls))
    assert seen[0] == seen[1]
    assert seen[0].keys() == {name for _, name in INSTRUMENTED}
