"""An assumed-role session is its parent with other credentials: what it inherits, and what it does not."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import boto3
import boto3.session
import botocore
import botocore.handlers
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.config import Config
from botocore.configprovider import ConstantProvider
from botocore.exceptions import BotoCoreError, ParamValidationError
from conftest import HUB, SPOKE

from aws_assume_role_lib import AssumedRoleSession, assume_role

Family = tuple[boto3.session.Session, AssumedRoleSession, AssumedRoleSession]


@pytest.fixture
def config_file(tmp_path) -> Callable[[str], object]:
    """Return a function that writes the config file."""
    return (tmp_path / "config").write_text


def family_of(parent: boto3.session.Session) -> Family:
    """Return a parent, its child and its grandchild."""
    child = assume_role(parent, HUB)
    return parent, child, child.assume_role(SPOKE)


@pytest.fixture
def family(parent) -> Family:
    return family_of(parent)


def variable(name: str) -> Callable[[Any], Any]:
    return lambda session: session._session.get_config_variable(name)


def of_config(name: str, service: str = "dynamodb") -> Callable[[Any], Any]:
    return lambda session: getattr(session.client(service).meta.config, name)


def endpoint(service: str) -> Callable[[Any], str]:
    return lambda session: session.client(service).meta.endpoint_url


IGNORED = "endpoint_url = http://all.example\nignore_configured_endpoint_urls = true"

# Lines of the profile, what reads them, and what it then returns.
SETTINGS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "region = eu-west-3": (endpoint("dynamodb"), "https://dynamodb.eu-west-3.amazonaws.com"),
    "max_attempts = 7": (lambda session: of_config("retries")(session)["total_max_attempts"], 7),
    "use_fips_endpoint = true": (endpoint("dynamodb"), "https://dynamodb-fips.us-east-1.amazonaws.com"),
    "ca_bundle = /no.pem": (lambda session: session.client("s3")._endpoint.http_session._verify, "/no.pem"),
    "endpoint_url = http://all.example": (endpoint("dynamodb"), "http://all.example"),
    "services = mine": (endpoint("dynamodb"), "http://dynamodb.example"),
    IGNORED: (endpoint("dynamodb"), "https://dynamodb.us-east-1.amazonaws.com"),
    "s3 =\n  addressing_style = path": (lambda s: of_config("s3", "s3")(s)["addressing_style"], "path"),
    "sts_regional_endpoints = legacy": (endpoint("sts"), "https://sts.amazonaws.com"),
    "sdk_ua_app_id = billing": (of_config("user_agent_appid"), "billing"),
    "defaults_mode = mobile": (of_config("connect_timeout"), 30.0),
    "a_setting_of_nobodys = 1": (lambda session: session._session.get_scoped_config()["a_setting_of_nobodys"], "1"),
}


@pytest.mark.parametrize("lines", SETTINGS)
def test_profile_settings_are_inherited(config_file, monkeypatch, lines):
    """Settings in the parent's profile, however it was chosen, apply to the child and the grandchild."""
    show, expected = SETTINGS[lines]
    config_file(
        "[default]\nregion = sa-east-1\nretry_mode = legacy\nmax_attempts = 2\n"
        "[profile team]\naws_access_key_id = AKIAROOT\naws_secret_access_key = secret\n"
        f"{lines}\n{'' if lines.startswith('region') else 'region = us-east-1'}\n"
        "[services mine]\ndynamodb =\n  endpoint_url = http://dynamodb.example\n"
    )
    by_name = family_of(boto3.Session(profile_name="team"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert [show(session) for session in (*by_name, *family_of(boto3.Session()))] == [expected] * 6


@pytest.mark.parametrize("how", ["profile", "environment", "loader"])
def test_service_models_are_inherited(config_file, tmp_path, monkeypatch, how):
    """A service model that the parent finds is available to child and grandchild, and no search path grows."""
    (folder := tmp_path / "models" / "madeup" / "2020-01-01").mkdir(parents=True)
    names = {"serviceFullName": "Made Up", "serviceId": "Made Up", "endpointPrefix": "madeup"}
    metadata = {**names, "apiVersion": "2020-01-01", "protocol": "json", "signatureVersion": "v4"}
    (folder / "service-2.json").write_text(json.dumps({"metadata": metadata, "operations": {}, "shapes": {}}))
    config_file("[default]\nregion = us-east-1\n" + (f"data_path = {tmp_path}/models\n" if how == "profile" else ""))
    if how == "environment":
        monkeypatch.setenv("AWS_DATA_PATH", f"{tmp_path}/models")
    parent = boto3.Session("AKIAROOT", "secret")
    paths = parent._session.get_component("data_loader").search_paths
    if how == "loader":
        paths.append(f"{tmp_path}/models")
    before = list(paths)
    for session in family_of(parent):
        assert "madeup" in session.get_available_services()
        assert session.client("madeup", endpoint_url="http://localhost").meta.service_model.service_name == "madeup"
    assert paths == before


def store_of(session: botocore.session.Session) -> Any:
    return session.get_component("config_store")


def retries(session: boto3.session.Session) -> str:
    return str(of_config("retries")(session))


def user_agent(session: boto3.session.Session) -> str:
    return session._session.user_agent()


def another_store(attempts: int) -> Any:
    store = store_of(botocore.session.Session())
    store.set_config_variable("max_attempts", attempts)
    return store


# How a value is set on a botocore session; what reads it from a session; values, which read differently.
SETTERS: dict[str, tuple[Callable[[Any, Any], object], Callable[[Any], Any], list[Any]]] = {
    "variable": (lambda s, value: s.set_config_variable("max_attempts", value), retries, [9, None, 8]),
    "region": (lambda s, value: s.set_config_variable("region", value), endpoint("sqs"), ["eu-west-1", "eu-west-2"]),
    "value in the store": (lambda s, value: store_of(s).set_config_variable("max_attempts", value), retries, [9, 8]),
    "provider in the store": (
        lambda s, value: store_of(s).set_config_provider("max_attempts", ConstantProvider(value)),
        retries,
        [9, 8],
    ),
    "another store": (
        lambda s, value: s.register_component("config_store", another_store(value)),
        variable("max_attempts"),
        [9, 8],
    ),
    "session variable": (
        lambda s, value: s.session_var_map.update(max_attempts=(None, None, value, None)),
        variable("max_attempts"),
        [9, 8],
    ),
    "default client config": (
        lambda s, value: s.set_default_client_config(Config(connect_timeout=value)),
        of_config("connect_timeout"),
        [17, 18],
    ),
    "user agent": (lambda s, value: setattr(s, "user_agent_extra", value), user_agent, ["mine/1", "mine/2"]),
    "user agent's name": (lambda s, value: setattr(s, "user_agent_name", value), user_agent, ["Mine", "Ours"]),
}


@pytest.mark.parametrize("name", SETTERS)
def test_changes_of_the_parent_reach_the_family(family, name):
    """A value set on the parent later, even more than once, applies to child and grandchild at once."""
    change, show, values = SETTERS[name]
    shown = []
    for value in values:
        change(family[0]._session, value)
        of_parent, *others = map(show, family)
        assert others == [of_parent, of_parent]
        shown.append(of_parent)
    assert len(set(shown)) == len(values)


@pytest.mark.parametrize("name", SETTERS)
def test_changes_of_a_child_are_its_own(family, name):
    """What is set on a child applies to it and the grandchild, but to no parent or sibling."""
    (change, show, values), (parent, child, grandchild) = SETTERS[name], family
    before = show(parent)
    change(child._session, values[0])
    sibling = assume_role(parent, SPOKE)
    assert [show(parent), show(sibling)] == [before, before]
    assert show(child) == show(grandchild) != before


def test_a_value_in_the_store_of_a_child_can_be_cleared(family):
    """A child whose own value is cleared from its config store follows the parent again."""
    store = store_of(family[1]._session)
    store.set_config_variable("region", "eu-west-1")
    assert [session.region_name for session in family] == ["us-east-1", "eu-west-1", "eu-west-1"]
    store.clear_config_variable("region")
    assert [session.region_name for session in family] == ["us-east-1"] * 3


def test_making_a_client_changes_no_setting(config_file):
    """The defaults that botocore adds for one client stay with that client."""
    config_file(
        "[default]\ndefaults_mode = in-region\nregion = us-east-1\nservices = mine\n"
        "[services mine]\ndynamodb =\n  endpoint_url = http://dynamodb.example\n"
    )
    family = family_of(boto3.Session("AKIAROOT", "secret"))

    def settings() -> list[Any]:
        names = ("retry_mode", "sts_regional_endpoints", "endpoint_url", "s3")
        return [variable(name)(session) for name in names for session in family]

    before = settings()
    for session in reversed(family):
        assert session.client("dynamodb").meta.endpoint_url == "http://dynamodb.example"
        assert session.client("s3").meta.endpoint_url != "http://dynamodb.example"
    assert settings() == before


# region_name; the regions of child and grandchild at first, when the parent's and then the environment's has changed.
REGIONS = {
    None: ["us-east-1", "eu-west-2", "eu-west-2"],
    True: ["us-east-1", "us-east-1", "us-east-1"],
    False: [None, None, "eu-west-3"],
    "eu-central-1": ["eu-central-1", "eu-central-1", "eu-central-1"],
}


@pytest.mark.parametrize("region_name", REGIONS)
def test_region_name(parent, monkeypatch, region_name):
    """None follows the parent, True freezes it, a string sets one, False reads the environment; the child's wins."""
    child = assume_role(parent, HUB, region_name=region_name)
    grandchild = child.assume_role(SPOKE)
    first, second, last = REGIONS[region_name]
    assert child.region_name == grandchild.region_name == first
    parent._session.set_config_variable("region", "eu-west-2")
    assert child.region_name == grandchild.region_name == second
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert child.region_name == grandchild.region_name == grandchild.client("sqs").meta.region_name == last
    child._session.set_config_variable("region", "sa-east-1")
    assert [child.region_name, parent.region_name] == ["sa-east-1", "eu-west-2"]


def test_region_of_the_config_file(config_file):
    """False uses the region of the parent's profile if the environment has none."""
    config_file("[default]\nregion = eu-west-1\n[profile team]\nregion = eu-west-3\n")
    for profile, region in ((None, "eu-west-1"), ("team", "eu-west-3")):
        parent = boto3.Session("AKIAROOT", "secret", region_name="us-east-1", profile_name=profile)
        assert assume_role(parent, HUB, region_name=False).region_name == region


def test_region_of_a_grandchild_is_its_own(parent, monkeypatch):
    """Each role of a chain has its own region_name; True keeps the lack of a region, too."""
    child = assume_role(parent, HUB, region_name="eu-west-1")
    regions = [child.assume_role(SPOKE, region_name=given).region_name for given in ("eu-west-2", True, False)]
    assert regions == ["eu-west-2", "eu-west-1", None]
    child = assume_role(boto3.Session("AKIAROOT", "secret"), HUB, region_name=True)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert child.region_name is None


# Not inherited: who the parent is


KEYS = "import json; print(json.dumps({'Version': 1, 'AccessKeyId': 'AKIAPROCESS', 'SecretAccessKey': 's'}))"
SOURCES = {
    "keys": "aws_access_key_id = AKIAROOT\naws_secret_access_key = secret",
    "temporary keys": "aws_access_key_id = ASIAROOT\naws_secret_access_key = secret\naws_session_token = token",
    "role_arn": f"role_arn = {SPOKE}\nsource_profile = keys",
    "credential_process": f'credential_process = "{sys.executable}" -c "{KEYS}"',
    "environment": "",
}


@pytest.mark.parametrize("source", SOURCES)
def test_credentials_of_the_parent_are_not_inherited(sts, config_file, root_keys, monkeypatch, source):
    """Whatever provides the parent's credentials, child and grandchild sign with those of their own roles."""
    config_file(
        f"[profile team]\nregion = us-east-1\n{SOURCES[source]}\n"
        "[profile keys]\naws_access_key_id = AKIAKEYS\naws_secret_access_key = secret\n"
    )
    if source == "environment":
        monkeypatch.setenv("AWS_PROFILE", "team")
    family = family_of(boto3.Session(profile_name=None if source == "environment" else "team"))
    of_parent, *others = [session.client("sts").get_caller_identity()["Arn"] for session in family]
    assert "/Hub/" not in of_parent
    assert ["assumed-role/Hub/" in others[0], "assumed-role/Spoke/" in others[1]] == [True, True]


def test_an_sso_session_of_the_profile_is_not_inherited(sts, config_file):
    """A profile's sso_session gives its role no token: requests are signed by the role, or not sent."""
    config_file(
        "[profile team]\nregion = us-east-1\nsso_session = corporate\n"
        "[sso-session corporate]\nsso_region = us-east-1\nsso_start_url = https://corporate.example/start\n"
    )
    for session in family_of(boto3.Session("AKIAROOT", "secret", profile_name="team"))[1:]:
        assert session._session.get_auth_token() is None
        with pytest.raises(BotoCoreError):
            session.client("codecatalyst").list_spaces()  # supports only bearer tokens
        session.client("sts").get_caller_identity()
        assert sts.requests[-1].access_key.startswith("ASIA")
    assert {request.action for request in sts.requests} == {"AssumeRole", "GetCallerIdentity"}


def headers_of(client: Any, call: Callable[[Any], object]) -> dict[str, str]:
    """Return the headers of a request, which is answered before it is sent."""
    headers: dict[str, str] = {}

    def answer(request: Any, **_: Any) -> AWSResponse:
        for name, value in request.headers.items():
            headers[name] = value.decode() if isinstance(value, bytes) else value
        return AWSResponse(request.url, 200, {}, io.BytesIO(b"{}"))

    client.meta.events.register("before-send", answer)
    call(client)
    return headers


def ask_bedrock(session: boto3.session.Session) -> dict[str, str]:
    # Without TLS botocore refuses to send a bearer token.
    client = session.client("bedrock-runtime", endpoint_url="https://bedrock.example")
    return headers_of(client, lambda client: client.invoke_model(modelId="m", body=b"{}"))


@pytest.mark.parametrize("preference", ["", "httpBearerAuth", "httpBearerAuth,sigv4", "sigv4"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_bedrock_is_signed_by_the_role(sts, config_file, monkeypatch, preference, when):
    """With AWS_BEARER_TOKEN_BEDROCK set, before or after the call, child and grandchild sign as their roles."""
    config_file("[default]\nregion = us-east-1\n" + (preference and f"auth_scheme_preference = {preference}\n"))
    if when == "before":
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    _, child, grandchild = family_of(boto3.Session("AKIAROOT", "secret"))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    for session in (child, grandchild):
        headers = ask_bedrock(session)
        key = session.get_credentials().access_key
        assert headers["Authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={key}/")
        assert headers["X-Amz-Security-Token"] == session.get_credentials().token
        assert "of-bearer" not in str(headers)


def test_a_bearer_token_changes_no_other_signature(sts, parent, monkeypatch):
    """With a bearer token set for a service, unsigned operations stay unsigned, and special signatures special."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_S3", "token-of-bearer")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    child = assume_role(parent, HUB)
    unsigned, signed = (
        headers_of(
            child.client("s3", config=Config(signature_version=signature)),
            lambda client: client.get_object(Bucket="bucket", Key="key"),
        )
        for signature in (botocore.UNSIGNED, "s3v4")
    )
    assert "Authorization" not in unsigned
    assert "AWS4-HMAC-SHA256" in signed["Authorization"]
    child._session.set_default_client_config(Config(signature_version=botocore.UNSIGNED))
    assert "Authorization" not in ask_bedrock(child)


def test_bedrock_of_the_parent_keeps_its_token(parent, monkeypatch):
    """The parent still uses the token that the role ignores, if botocore supports the variable."""
    if not hasattr(botocore.handlers, "get_bearer_auth_supported_services"):
        pytest.skip("this botocore does not know AWS_BEARER_TOKEN_BEDROCK")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    assume_role(parent, HUB).client("bedrock-runtime")
    assert ask_bedrock(parent)["Authorization"] == "Bearer token-of-bearer"


def test_handlers_are_each_sessions_own(sts, family):
    """A handler sees the calls of its session's clients, and the AssumeRole calls that these make for its children."""
    parent, child, grandchild = family
    seen: list[str] = []
    for name, session in {"parent": parent, "child": child}.items():
        session.events.register("before-call", lambda model, name=name, **_: seen.append(f"{name} {model.name}"))
    sibling = assume_role(parent, SPOKE)
    expected = {
        grandchild: ["parent AssumeRole", "child AssumeRole"],
        sibling: ["parent AssumeRole"],
        child: ["child GetCallerIdentity"],
        parent: ["parent GetCallerIdentity"],
    }
    for session, calls in expected.items():
        seen.clear()
        session.client("sts").get_caller_identity()
        assert seen == calls


# A complete session


def test_the_botocore_session_is_complete(sts, family):
    """Third-party code finds what it looks up on a child's botocore session."""
    for session in family[1:]:
        inner = session._session
        assert inner.get_config_variable("region") == "us-east-1"
        assert inner.get_credentials() is session.get_credentials()
        assert inner.get_component("credential_provider").load_credentials() is session.get_credentials()
        assert inner.get_auth_token() is None
        assert isinstance(inner.create_client("sqs"), BaseClient)
        assert inner.create_client("sqs", region_name="eu-west-1").meta.region_name == "eu-west-1"
        assert inner.get_service_model("sqs").service_name == "sqs"
        assert inner.get_component("event_emitter") is session.events
        assert inner.get_scoped_config() == {}
        assert sts.requests == []
        inner.create_client("sts").get_caller_identity()
        assert sts.requests.pop().access_key == session.get_credentials().access_key
        # Keys that are given to a client win, as with any session.
        inner.create_client("sts", aws_access_key_id="AKIA", aws_secret_access_key="s").get_caller_identity()
        assert sts.requests.pop().access_key == "AKIA"
        sts.requests.clear()


def test_what_boto3_says_of_a_session(config_file):
    """Profiles, services, resources, regions and partitions are the parent's, as the parent read the config file."""
    config_file("[profile team]\nregion = eu-west-1\n[profile other]\nregion = eu-west-2\n")

    def said(session: boto3.session.Session) -> list[Any]:
        return [
            session.profile_name,
            session.available_profiles,
            session.resource("s3").meta.client.meta.region_name,
            session.get_available_services(),
            session.get_available_resources(),
            session.get_available_regions("dynamodb"),
            session.get_available_partitions(),
            session.get_partition_for_region("cn-north-1"),
        ]

    parent = boto3.Session("AKIAROOT", "secret", profile_name="team")
    before = said(parent)
    config_file("[default]\nregion = us-east-1\n")
    for session in family_of(parent):
        assert said(session) == before
    assert before[:3] == ["team", ["team", "other"], "eu-west-1"]


def test_client_plugins_run_for_each_client_of_a_child(parent, monkeypatch, tmp_path):
    """botocore's client plugins, if it has them, receive each client that a child creates."""
    pytest.importorskip("botocore.plugin", reason="this botocore has no plugins")
    (tmp_path / "a_plugin.py").write_text("clients = []\ninitialize_client_plugin = clients.append\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BOTOCORE_EXPERIMENTAL__PLUGINS", "mine=a_plugin")
    child = assume_role(parent, HUB)
    made = [child.client("s3"), child.client("sts")]
    import a_plugin

    assert a_plugin.clients == made


def test_initializers_run_once_for_each_child(sts, parent):
    """botocore's initializers, such as tracing libraries register, run once for each child and act on it."""
    seen: list[Any] = []
    calls: list[str] = []

    def initializer(session: Any) -> None:
        seen.append(session)
        session.register("before-call", lambda model, **_: calls.append(model.name))

    botocore.register_initializer(initializer)
    try:
        child = assume_role(parent, HUB)
        grandchild = child.assume_role(SPOKE)
    finally:
        botocore.unregister_initializer(initializer)
    assert seen == [child._session, grandchild._session]
    child.client("sts").get_caller_identity()
    assert calls == ["GetCallerIdentity"]


def test_handlers_that_botocore_is_given_later_reach_later_children(sts, parent, monkeypatch):
    """A handler added to botocore's built-in ones, as moto does, runs once in the next child; a removed one, never."""
    assume_role(parent, HUB)
    calls: list[str] = []
    added = ("before-call", lambda model, **_: calls.append(model.name))
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", list(botocore.handlers.BUILTIN_HANDLERS))
    for change in (botocore.handlers.BUILTIN_HANDLERS.append, botocore.handlers.BUILTIN_HANDLERS.remove):
        change(added)
        assume_role(parent, HUB).client("sts").get_caller_identity()
        assert calls == ["GetCallerIdentity"]


def test_built_in_handlers_work_in_a_child(sts, family):
    """botocore's and boto3's own handlers work in a child: S3's transfer methods, and the check of bucket names."""
    for session in family[1:]:
        client = session.client("s3")
        assert callable(client.upload_file)
        with pytest.raises(ParamValidationError, match="Invalid bucket name"):
            client.head_bucket(Bucket="not a bucket")
        assert callable(session.resource("s3").Bucket("b").upload_file)


# boto3.Session replaced


class ExtendedSession(boto3.session.Session):
    """A session class like those with which some libraries replace boto3's, with an `__init__` from an older boto3."""

    def __init__(self, key=None, secret=None, token=None, region_name=None, botocore_session=None, profile_name=None):
        super().__init__(key, secret, token, region_name, botocore_session, profile_name)
        extra = {"large_payload": True}
        self.events.register("creating-client-class.sqs", lambda class_attributes, **_: class_attributes.update(extra))


@pytest.mark.parametrize("made", ["before", "after"])
def test_a_replaced_session_class_keeps_its_features(sts, monkeypatch, made):
    """If a library has replaced boto3.Session at the call, a role's session is an instance of that class, too."""
    plain = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
    with monkeypatch.context() as patch:
        patch.setattr(boto3, "Session", ExtendedSession)
        patch.setattr(boto3.session, "Session", ExtendedSession)
        _, child, grandchild = family_of(
            plain if made == "before" else boto3.Session("AKIAROOT", "s", region_name="us-east-1")
        )
    for session in (child, grandchild):
        assert isinstance(session, ExtendedSession)
        assert isinstance(session, AssumedRoleSession)
        assert type(session).__name__ == "AssumedRoleSession"
        assert session.client("sqs").large_payload is True
        session.client("sts").get_caller_identity()
        assert sts.requests[-1].access_key.startswith("ASIA")
    assert type(child) is type(grandchild)
    assert grandchild.assume_role_parent_session is child
    assert type(assume_role(plain, HUB)) is type(child.assume_role(SPOKE)) is AssumedRoleSession
