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
from botocore.tokens import FrozenAuthToken
from conftest import HUB, SPOKE, NotSent

from aws_assume_role_lib import AssumedRoleSession, assume_role

Family = tuple[boto3.session.Session, AssumedRoleSession, AssumedRoleSession]


@pytest.fixture
def config_file(tmp_path) -> Callable[[str], None]:
    """Return a function that writes the config file."""

    def write(text: str) -> None:
        (tmp_path / "config").write_text(text)

    return write


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


def checks_parameters(session: boto3.session.Session) -> bool:
    def stop(**_: Any) -> None:
        raise NotSent

    client = session.client("sqs")
    client.meta.events.register("before-call", stop)
    with pytest.raises((ParamValidationError, NotSent)) as raised:
        client.get_queue_url()
    return raised.type is ParamValidationError


# name: lines of the profile; what reads them; what it then returns.
SETTINGS: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "region": ("region = eu-west-3", endpoint("dynamodb"), "https://dynamodb.eu-west-3.amazonaws.com"),
    "retry_mode": ("retry_mode = adaptive", lambda s: of_config("retries")(s)["mode"], "adaptive"),
    "max_attempts": ("max_attempts = 7", lambda s: of_config("retries")(s)["total_max_attempts"], 7),
    "use_fips_endpoint": (
        "use_fips_endpoint = true",
        endpoint("dynamodb"),
        "https://dynamodb-fips.us-east-1.amazonaws.com",
    ),
    "use_dualstack_endpoint": ("use_dualstack_endpoint = true", of_config("use_dualstack_endpoint", "s3"), True),
    "ca_bundle": (
        "ca_bundle = /no/such/bundle.pem",
        lambda s: s.client("s3")._endpoint.http_session._verify,
        "/no/such/bundle.pem",
    ),
    "endpoint_url": ("endpoint_url = http://all.example", endpoint("dynamodb"), "http://all.example"),
    "services": ("services = mine", endpoint("dynamodb"), "http://dynamodb.example"),
    "ignore_configured_endpoint_urls": (
        "endpoint_url = http://all.example\nignore_configured_endpoint_urls = true",
        endpoint("dynamodb"),
        "https://dynamodb.us-east-1.amazonaws.com",
    ),
    "s3 addressing_style": (
        "s3 =\n  addressing_style = path",
        lambda s: of_config("s3", "s3")(s)["addressing_style"],
        "path",
    ),
    "s3 payload_signing_enabled": (
        "s3 =\n  payload_signing_enabled = true",
        lambda s: of_config("s3", "s3")(s)["payload_signing_enabled"],
        True,
    ),
    "sts_regional_endpoints": (
        "sts_regional_endpoints = legacy",
        endpoint("sts"),
        "https://sts.amazonaws.com",
    ),
    "sdk_ua_app_id": ("sdk_ua_app_id = billing", of_config("user_agent_appid"), "billing"),
    "defaults_mode": ("defaults_mode = mobile", of_config("connect_timeout"), 30.0),
    "parameter_validation": ("parameter_validation = false", checks_parameters, False),
    "api_versions": (
        "api_versions =\n  cloudfront = 2018-11-05",
        lambda s: s.client("cloudfront").meta.service_model.api_version,
        "2018-11-05",
    ),
    "request_min_compression_size_bytes": (
        "request_min_compression_size_bytes = 77",
        of_config("request_min_compression_size_bytes"),
        77,
    ),
    "a setting of nobody's": ("my_own = yes", lambda s: s._session.get_scoped_config()["my_own"], "yes"),
}


@pytest.mark.parametrize(("lines", "show", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_profile_settings_are_inherited(config_file, monkeypatch, lines, show, expected):
    """Settings in the parent's profile, however it was chosen, apply to the child and the grandchild."""
    config_file(
        "[default]\nregion = sa-east-1\nretry_mode = legacy\nmax_attempts = 2\n"
        "[profile team]\naws_access_key_id = AKIAROOT\naws_secret_access_key = secret\n"
        f"{lines}\n{'' if lines.startswith('region') else 'region = us-east-1'}\n"
        "[services mine]\ndynamodb =\n  endpoint_url = http://dynamodb.example\n"
    )
    for session in family_of(boto3.Session(profile_name="team")):
        assert show(session) == expected
    monkeypatch.setenv("AWS_PROFILE", "team")
    for session in family_of(boto3.Session()):
        assert show(session) == expected


@pytest.mark.parametrize("how", ["profile", "environment", "loader"])
def test_service_models_are_inherited(config_file, tmp_path, monkeypatch, how):
    """A service model that the parent finds is available to child and grandchild, and no search path grows."""
    (folder := tmp_path / "models" / "madeup" / "2020-01-01").mkdir(parents=True)
    metadata = {"serviceFullName": "Made Up", "serviceId": "Made Up", "endpointPrefix": "madeup", "protocol": "json"}
    metadata |= {"apiVersion": "2020-01-01", "jsonVersion": "1.1", "signatureVersion": "v4", "targetPrefix": "MadeUp"}
    ping = {"name": "Ping", "http": {"method": "POST", "requestUri": "/"}}
    model = {"version": "2.0", "metadata": metadata, "operations": {"Ping": ping}, "shapes": {}}
    (folder / "service-2.json").write_text(json.dumps(model))
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
        assert callable(session.client("madeup", endpoint_url="http://localhost").ping)
    assert paths == before


# How a value is set on a botocore session; what reads it from a session; values, which read differently.
SETTERS: dict[str, tuple[Callable[[Any, Any], object], Callable[[Any], Any], list[Any]]] = {
    "variable": (
        lambda session, value: session.set_config_variable("max_attempts", value),
        lambda session: str(of_config("retries")(session)),
        [9, None, 8],
    ),
    "region": (
        lambda session, value: session.set_config_variable("region", value),
        lambda session: session.client("sqs").meta.region_name,
        ["eu-west-1", "eu-west-2"],
    ),
    "FIPS": (
        lambda session, value: session.set_config_variable("use_fips_endpoint", value),
        endpoint("dynamodb"),
        [True, False],
    ),
    "value in the store": (
        lambda session, value: session.get_component("config_store").set_config_variable("max_attempts", value),
        lambda session: str(of_config("retries")(session)),
        [9, 8],
    ),
    "provider in the store": (
        lambda session, value: session.get_component("config_store").set_config_provider(
            "max_attempts", ConstantProvider(value)
        ),
        lambda session: str(of_config("retries")(session)),
        [9, 8],
    ),
    "session variable": (
        lambda session, value: session.session_var_map.update(max_attempts=(None, None, value, None)),
        variable("max_attempts"),
        [9, 8],
    ),
    "default client config": (
        lambda session, value: session.set_default_client_config(Config(connect_timeout=value)),
        of_config("connect_timeout"),
        [17, 18],
    ),
    "user agent": (
        lambda session, value: setattr(session, "user_agent_extra", value),
        lambda session: session._session.user_agent().split()[-1],
        ["mine/1", "mine/2"],
    ),
    "user agent's name": (
        lambda session, value: setattr(session, "user_agent_name", value),
        lambda session: session._session.user_agent().split("/")[0],
        ["Mine", "Ours"],
    ),
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


def test_another_config_store_is_inherited(family):
    """A config store registered on the parent later is the one that child and grandchild use."""
    store = botocore.session.Session().get_component("config_store")
    store.set_config_variable("max_attempts", 5)
    family[0]._session.register_component("config_store", store)
    assert [variable("max_attempts")(session) for session in family] == [5, 5, 5]


def test_a_value_in_the_store_of_a_child_can_be_cleared(family):
    """A child whose own value is cleared from its config store follows the parent again."""
    parent, child, _ = family
    store = child._session.get_component("config_store")
    store.set_config_variable("region", "eu-west-1")
    assert child.region_name == "eu-west-1"
    store.clear_config_variable("region")
    parent._session.set_config_variable("region", "eu-west-2")
    assert child.region_name == "eu-west-2"


@pytest.mark.parametrize("mode", ["standard", "in-region"])
def test_making_a_client_changes_no_setting(config_file, mode):
    """The defaults that botocore adds for one client stay with that client."""
    config_file(f"[default]\ndefaults_mode = {mode}\nregion = us-east-1\nservices = mine\n"
                "[services mine]\ndynamodb =\n  endpoint_url = http://dynamodb.example\n")  # fmt: skip
    family = family_of(boto3.Session("AKIAROOT", "secret"))
    names = ("retry_mode", "sts_regional_endpoints", "endpoint_url", "s3")
    before = [[variable(name)(session) for name in names] for session in family]
    for session in reversed(family):
        assert session.client("dynamodb").meta.endpoint_url == "http://dynamodb.example"
        assert session.client("s3").meta.endpoint_url != "http://dynamodb.example"
    assert [[variable(name)(session) for name in names] for session in family] == before


# region_name


# region_name; the regions of child and grandchild at first, when the parent's and then the environment's has changed.
REGIONS = {
    None: ["us-east-1", "eu-west-2", "eu-west-2"],
    True: ["us-east-1", "us-east-1", "us-east-1"],
    False: [None, None, "eu-west-3"],
    "eu-central-1": ["eu-central-1", "eu-central-1", "eu-central-1"],
}


@pytest.mark.parametrize("region_name", REGIONS)
def test_region_name(parent, monkeypatch, region_name):
    """None follows the parent, True keeps the region that it has, a string sets one, False reads the environment."""
    child = assume_role(parent, HUB, region_name=region_name)
    grandchild = child.assume_role(SPOKE)
    regions = [[child.region_name, grandchild.region_name]]
    parent._session.set_config_variable("region", "eu-west-2")
    regions.append([child.region_name, grandchild.region_name])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    regions.append([child.region_name, grandchild.region_name])
    assert regions == [[expected, expected] for expected in REGIONS[region_name]]
    assert grandchild.client("sqs").meta.region_name == regions[-1][0]
    assert parent.region_name == "eu-west-2"


def test_no_region_frozen(monkeypatch):
    """If the parent has no region at the call, True keeps it that way."""
    child = assume_role(boto3.Session("AKIAROOT", "secret"), HUB, region_name=True)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert [child.region_name, child.assume_role(SPOKE).region_name] == [None, None]


def test_region_of_the_config_file(config_file):
    """False uses the region of the parent's profile if the environment has none."""
    config_file("[default]\nregion = eu-west-1\n[profile team]\nregion = eu-west-3\n")
    for profile, region in ((None, "eu-west-1"), ("team", "eu-west-3")):
        parent = boto3.Session("AKIAROOT", "secret", region_name="us-east-1", profile_name=profile)
        child = assume_role(parent, HUB, region_name=False)
        assert [child.region_name, child.assume_role(SPOKE).region_name] == [region, region]


def test_region_of_a_grandchild_is_its_own(parent):
    """Each role of a chain has its own region_name."""
    child = assume_role(parent, HUB, region_name="eu-west-1")
    regions = [child.assume_role(SPOKE, region_name=given).region_name for given in ("eu-west-2", True, False)]
    assert regions == ["eu-west-2", "eu-west-1", None]


@pytest.mark.parametrize("region_name", [None, "eu-west-1", True, False])
def test_region_may_be_set_on_the_child(parent, region_name):
    """A region set on the child's botocore session takes precedence, whatever region_name was."""
    child = assume_role(parent, HUB, region_name=region_name)
    child._session.set_config_variable("region", "sa-east-1")
    assert child.region_name == "sa-east-1"
    assert parent.region_name == "us-east-1"


def test_region_is_in_the_repr(parent):
    """The repr shows role and region, and nothing secret."""
    child = assume_role(parent, HUB, ExternalId="external-7531", region_name="eu-west-1")
    assert repr(child) == f"AssumedRoleSession(role_arn={HUB!r}, region_name='eu-west-1')"


# Not inherited: who the parent is


@pytest.mark.parametrize(
    "lines",
    [
        "aws_access_key_id = AKIAROOT\naws_secret_access_key = secret",
        "aws_access_key_id = ASIAROOT\naws_secret_access_key = secret\naws_session_token = token",
        f"role_arn = {SPOKE}\nsource_profile = keys",
        'credential_process = "{python}" "{script}"',
        "",
    ],
    ids=["keys", "temporary keys", "role_arn", "credential_process", "environment"],
)
def test_credentials_of_the_parent_are_not_inherited(sts, config_file, tmp_path, monkeypatch, lines):
    """Whatever provides the parent's credentials, child and grandchild sign with those of their own roles."""
    script = tmp_path / "provide.py"
    script.write_text('print(\'{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}\')')
    config_file(
        "[profile team]\nregion = us-east-1\n" + lines.format(python=sys.executable, script=script) + "\n"
        "[profile keys]\naws_access_key_id = AKIAKEYS\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    if not lines:
        monkeypatch.setenv("AWS_PROFILE", "team")
    family = family_of(boto3.Session(profile_name="team" if lines else None))
    identities = [session.client("sts").get_caller_identity()["Arn"] for session in family]
    assert "assumed-role/Hub/" in identities[1]
    assert "assumed-role/Spoke/" in identities[2]
    assert "/Hub/" not in identities[0]


def test_a_token_of_the_parent_is_not_inherited(parent):
    """The parent's bearer token is not inherited by the child or the grandchild."""

    class Provider:
        def load_token(self, **_: Any) -> FrozenAuthToken:
            return FrozenAuthToken("token-of-bearer")

    parent._session.register_component("token_provider", Provider())
    parent, child, grandchild = family_of(parent)
    assert parent._session.get_auth_token() is not None
    assert [child._session.get_auth_token(), grandchild._session.get_auth_token()] == [None, None]


@pytest.mark.parametrize("service", ["sts", "dynamodb", "codecatalyst"])
def test_an_sso_session_of_the_profile_is_not_inherited(sts, config_file, service):
    """A profile's sso_session gives its role no token: requests are signed by the role, or not sent."""
    config_file(
        "[profile team]\nregion = us-east-1\nsso_session = corporate\n"
        "[sso-session corporate]\nsso_region = us-east-1\nsso_start_url = https://corporate.example/start\n"
    )
    _, child, grandchild = family_of(boto3.Session("AKIAROOT", "secret", profile_name="team"))
    for session in (child, grandchild):
        assert session._session.get_auth_token() is None
        client = session.client(service)
        if service == "codecatalyst":  # supports only bearer tokens
            with pytest.raises(BotoCoreError):
                client.list_spaces()
            assert not [request for request in sts.requests if request.action != "AssumeRole"]
        else:
            getattr(client, "get_caller_identity" if service == "sts" else "list_tables")()
            assert sts.requests[-1].access_key.startswith("ASIA")


def ask_bedrock(session: boto3.session.Session) -> dict[str, str]:
    """Return the headers of a request to Bedrock, which is answered before it is sent."""
    # Without TLS botocore refuses to send a bearer token.
    client = session.client("bedrock-runtime", endpoint_url="https://bedrock.example")
    headers: dict[str, str] = {}

    def answer(request: Any, **_: Any) -> AWSResponse:
        for name, value in request.headers.items():
            headers[name] = value.decode() if isinstance(value, bytes) else value
        return AWSResponse(request.url, 200, {}, io.BytesIO(b"{}"))

    client.meta.events.register("before-send", answer)
    client.invoke_model(modelId="m", body=b"{}")
    return headers


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
    sent: list[str | bytes | None] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request.headers.get("Authorization"))
        return AWSResponse(request.url, 200, {}, io.BytesIO(b""))

    for signature in (botocore.UNSIGNED, "s3v4"):
        client = child.client("s3", config=Config(signature_version=signature))
        client.meta.events.register("before-send", answer)
        client.get_object(Bucket="bucket", Key="key")
    assert sent[0] is None
    assert b"AWS4-HMAC-SHA256" in sent[1]
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
        assert inner.get_available_partitions() == family[0]._session.get_available_partitions()
        assert sts.requests == []
        inner.create_client("sts").get_caller_identity()
        assert sts.requests[-1].access_key == session.get_credentials().access_key
        sts.requests.clear()


def test_keys_given_to_a_client_win(sts, family):
    """A client created with explicit keys uses them, as with any session."""
    child = family[1]
    child.client("sts", aws_access_key_id="AKIAOTHER", aws_secret_access_key="secret").get_caller_identity()
    assert [request.access_key for request in sts.requests] == ["AKIAOTHER"]


def test_what_boto3_says_of_a_session(config_file):
    """Profile name, profiles, services, resources, regions and partitions are the parent's."""
    config_file("[profile team]\nregion = eu-west-1\n[profile other]\nregion = eu-west-2\n")
    parent, child, grandchild = family_of(boto3.Session("AKIAROOT", "secret", profile_name="team"))
    for session in (child, grandchild):
        assert session.profile_name == "team"
        assert session.available_profiles == parent.available_profiles == ["team", "other"]
        assert session.get_available_services() == parent.get_available_services()
        assert session.get_available_resources() == parent.get_available_resources()
        assert session.get_available_regions("dynamodb") == parent.get_available_regions("dynamodb")
        assert session.get_available_partitions() == parent.get_available_partitions()
        assert session.get_partition_for_region("cn-north-1") == "aws-cn"
        assert session.resource("s3").meta.client.meta.region_name == "eu-west-1"
        assert session.events is session._session.get_component("event_emitter")


def test_the_config_file_is_read_once(config_file):
    """Child and grandchild have the config file as the parent read it, whatever happens to the file afterwards."""
    config_file("[profile team]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n")
    parent = boto3.Session("AKIAROOT", "secret", profile_name="team")
    assert parent.region_name == "eu-west-1"
    config_file("[default]\nregion = us-east-1\n")
    for session in family_of(parent):
        assert session.region_name == "eu-west-1"
        assert session.available_profiles == ["team"]
        assert session.client("s3").meta.config.s3["addressing_style"] == "path"


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
    assert [session is found._session for session, found in zip(seen, (child, grandchild), strict=True)] == [True] * 2
    child.client("sts").get_caller_identity()
    assert calls == ["GetCallerIdentity"]


def test_handlers_that_botocore_is_given_later_reach_later_children(sts, parent, monkeypatch):
    """A handler added to botocore's built-in ones, as moto does, runs once in the next child; a removed one, never."""
    assume_role(parent, HUB)
    calls: list[str] = []
    added = ("before-call", lambda model, **_: calls.append(model.name))
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", list(botocore.handlers.BUILTIN_HANDLERS))
    botocore.handlers.BUILTIN_HANDLERS.append(added)
    assume_role(parent, HUB).client("sts").get_caller_identity()
    assert calls == ["GetCallerIdentity"]
    botocore.handlers.BUILTIN_HANDLERS.remove(added)
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

    def __init__(
        self,
        aws_access_key_id: Any = None,
        aws_secret_access_key: Any = None,
        aws_session_token: Any = None,
        region_name: Any = None,
        botocore_session: Any = None,
        profile_name: Any = None,
    ) -> None:
        super().__init__(
            aws_access_key_id, aws_secret_access_key, aws_session_token, region_name, botocore_session, profile_name
        )
        self.events.register("creating-client-class.sqs", lambda class_attributes, **_: class_attributes.update(EXTRA))


EXTRA = {"large_payload": True}


@pytest.mark.parametrize("made", ["before", "after"])
def test_a_replaced_session_class_keeps_its_features(sts, monkeypatch, made):
    """If a library has replaced boto3.Session at the call, a role's session is an instance of that class, too."""
    keys = {"aws_access_key_id": "AKIAROOT", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    plain = boto3.Session(**keys)
    with monkeypatch.context() as patch:
        patch.setattr(boto3, "Session", ExtendedSession)
        patch.setattr(boto3.session, "Session", ExtendedSession)
        _, child, grandchild = family_of(plain if made == "before" else boto3.Session(**keys))
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
