"""An assumed-role session is its parent with other credentials: what it inherits, and what it does not."""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
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
from conftest import HUB, SPOKE

from aws_assume_role_lib import AssumedRoleSession, assume_role

Family = tuple[boto3.session.Session, AssumedRoleSession, AssumedRoleSession]


@pytest.fixture
def config_file(tmp_path) -> Callable[[str], None]:
    """Return a function that writes the config file."""

    def write(text: str) -> None:
        (tmp_path / "config").write_text(textwrap.dedent(text))

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
    class Seen(Exception):
        pass

    def see(**_: Any) -> None:
        raise Seen

    client = session.client("sqs")
    client.meta.events.register("before-call", see)
    try:
        client.get_queue_url()
    except ParamValidationError:
        return True
    except Seen:
        return False
    raise AssertionError


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


@pytest.mark.parametrize("how", ["profile_name", "AWS_PROFILE"])
@pytest.mark.parametrize(("lines", "show", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_profile_settings_are_inherited(config_file, monkeypatch, lines, show, expected, how):
    """Settings in the parent's profile apply to the child and the grandchild."""
    config_file(
        "[default]\nregion = sa-east-1\nretry_mode = legacy\nmax_attempts = 2\n"
        "[profile team]\naws_access_key_id = AKIAROOT\naws_secret_access_key = secret\n"
        f"{lines}\n{'' if lines.startswith('region') else 'region = us-east-1'}\n"
        "[services mine]\ndynamodb =\n  endpoint_url = http://dynamodb.example\n"
    )
    if how == "AWS_PROFILE":
        monkeypatch.setenv("AWS_PROFILE", "team")
    parent, child, grandchild = family_of(boto3.Session(profile_name="team" if how == "profile_name" else None))
    assert show(parent) == expected
    assert show(child) == expected
    assert show(grandchild) == expected


def test_profile_data_path_is_inherited(config_file, tmp_path):
    """A service model in the data_path of the parent's profile is available to clients of child and grandchild."""
    made_up_service(tmp_path / "models")
    config_file(
        f"""
        [profile team]
        aws_access_key_id = AKIAROOT
        aws_secret_access_key = secret
        region = us-east-1
        data_path = {tmp_path / "models"}
        """
    )
    for session in family_of(boto3.Session(profile_name="team")):
        assert_has_made_up_service(session)


def test_data_path_of_the_environment_is_inherited(monkeypatch, tmp_path):
    """A service model in AWS_DATA_PATH is available to clients of child and grandchild."""
    made_up_service(tmp_path / "models")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / "models"))
    for session in family_of(boto3.Session("AKIAROOT", "secret", region_name="us-east-1")):
        assert_has_made_up_service(session)


def test_search_paths_are_inherited(parent, tmp_path):
    """A folder added to the parent's loader provides service models to child and grandchild."""
    made_up_service(tmp_path / "models")
    parent._session.get_component("data_loader").search_paths.append(str(tmp_path / "models"))
    for session in family_of(parent):
        assert_has_made_up_service(session)


def test_children_do_not_lengthen_the_search_paths(parent):
    """The parent's search paths stay the same, however many children it has."""
    paths = parent._session.get_component("data_loader").search_paths
    before = list(paths)
    for _ in range(3):
        family_of(parent)
    assert paths == before


def made_up_service(folder: Path) -> None:
    """A model of a service that AWS does not have."""
    (folder / "madeup" / "2020-01-01").mkdir(parents=True)
    model = {
        "version": "2.0",
        "metadata": {
            "apiVersion": "2020-01-01",
            "endpointPrefix": "madeup",
            "protocol": "json",
            "jsonVersion": "1.1",
            "serviceFullName": "Made Up",
            "serviceId": "Made Up",
            "signatureVersion": "v4",
            "targetPrefix": "MadeUp",
            "uid": "madeup-2020-01-01",
        },
        "operations": {
            "Ping": {
                "name": "Ping",
                "http": {"method": "POST", "requestUri": "/"},
                "input": {"shape": "Empty"},
                "output": {"shape": "Empty"},
            }
        },
        "shapes": {"Empty": {"type": "structure", "members": {}}},
    }
    (folder / "madeup" / "2020-01-01" / "service-2.json").write_text(json.dumps(model))


def assert_has_made_up_service(session: boto3.session.Session) -> None:
    assert "madeup" in session.get_available_services()
    assert callable(session.client("madeup", endpoint_url="http://localhost").ping)


def test_default_client_config_is_inherited(family):
    """Child and grandchild have the default client config of the parent's botocore session, including later changes."""
    for extra in ("first/1", "second/2"):
        family[0]._session.set_default_client_config(Config(user_agent_extra=extra, signature_version="v4"))
        for session in family:
            assert session.client("sqs").meta.config.user_agent_extra == extra
            assert session._session.get_default_client_config().user_agent_extra == extra


def test_a_child_may_have_its_own_default_client_config(family):
    """A default client config set on a child applies to it and its children, but not to the parent."""
    parent, child, grandchild = family
    child._session.set_default_client_config(Config(connect_timeout=17))
    timeouts = [session.client("sqs").meta.config.connect_timeout for session in (parent, child, grandchild)]
    assert timeouts == [60, 17, 17]


def test_user_agent_is_inherited(sts, family):
    """Child and grandchild have the name, version and extra of the parent's user agent, including later changes."""
    botocore_session = family[0]._session
    for session in family:
        assert session._session.user_agent() == botocore_session.user_agent()
        assert f"Boto3/{boto3.__version__}" in session._session.user_agent()
    botocore_session.user_agent_name = "Tool"
    botocore_session.user_agent_version = "4.2"
    botocore_session.user_agent_extra = "nightly/1"
    for session in family:
        session.client("sts").get_caller_identity()
        assert "Tool/4.2" in sts.requests[-1].user_agent
        assert "nightly/1" in sts.requests[-1].user_agent


def test_a_child_may_have_its_own_user_agent(family):
    """Changes to a child's user agent do not affect the parent or a sibling."""
    parent, child, grandchild = family
    child._session.user_agent_extra += " mine/1"
    assert "mine/1" in grandchild._session.user_agent()
    assert "mine/1" not in parent._session.user_agent()
    assert "mine/1" not in assume_role(parent, SPOKE)._session.user_agent()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retry_mode", "adaptive"),
        ("max_attempts", 9),
        ("region", "ap-south-1"),
        ("use_fips_endpoint", True),
    ],
)
def test_config_variables_are_live(family, name, value):
    """A variable set on the parent later, even more than once, applies to child and grandchild at once."""
    parent = family[0]
    for current in (value, None, value):
        parent._session.set_config_variable(name, current)
        for session in family:
            assert variable(name)(session) == variable(name)(parent)
        assert current is None or variable(name)(parent) == current


def test_config_variables_reach_clients(family):
    """A client created after the parent's variable changed has the new value."""
    for mode in ("adaptive", "standard"):
        family[0]._session.set_config_variable("retry_mode", mode)
        assert [of_config("retries")(session)["mode"] for session in family] == [mode] * 3


def test_config_providers_are_inherited(family):
    """Providers and values put into the parent's config store, even later, apply to child and grandchild."""
    store = family[0]._session.get_component("config_store")
    store.set_config_provider("max_attempts", ConstantProvider(8))
    assert [of_config("retries")(session)["total_max_attempts"] for session in family] == [8, 8, 8]
    store.set_config_variable("max_attempts", 5)
    assert [of_config("retries")(session)["total_max_attempts"] for session in family] == [5, 5, 5]
    store.clear_config_variable("max_attempts")
    assert [of_config("retries")(session)["total_max_attempts"] for session in family] == [8, 8, 8]


def test_another_config_store_is_inherited(family):
    """A config store registered on the parent later is the one that child and grandchild use."""
    store = botocore.session.Session().get_component("config_store")
    store.set_config_variable("max_attempts", 5)
    family[0]._session.register_component("config_store", store)
    assert [variable("max_attempts")(session) for session in family] == [5, 5, 5]


@pytest.mark.parametrize(
    "override",
    [
        lambda session: session.set_config_variable("max_attempts", 4),
        lambda session: session.get_component("config_store").set_config_variable("max_attempts", 4),
        lambda session: session.get_component("config_store").set_config_provider("max_attempts", ConstantProvider(4)),
        lambda session: session.session_var_map.update(max_attempts=(None, None, 4, None)),
    ],
    ids=["variable", "value in the store", "provider in the store", "session variable"],
)
def test_overrides_of_a_child_are_its_own(family, override):
    """What is set on a child applies to it and the grandchild, but to no parent or sibling."""
    parent, child, grandchild = family
    before = variable("max_attempts")(parent)
    override(child._session)
    sibling = assume_role(parent, SPOKE)
    values = [variable("max_attempts")(session) for session in (parent, sibling, child, grandchild)]
    assert values == [before, before, 4, 4]
    assert of_config("retries")(grandchild)["total_max_attempts"] == 4


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


def test_region_follows_the_parent(parent):
    """With region_name=None, the region is the parent's, looked up each time, through two roles."""
    parent, child, grandchild = family_of(parent)
    for region in ("eu-west-1", "eu-west-2"):
        parent._session.set_config_variable("region", region)
        for session in (child, grandchild):
            assert session.region_name == region
            assert session._session.get_config_variable("region") == region
            assert session.client("sqs").meta.region_name == region


def test_region_given_as_a_string(parent):
    """A string is the region of the child and its descendants, whatever the parent's becomes."""
    child = assume_role(parent, HUB, region_name="eu-central-1")
    grandchild = child.assume_role(SPOKE)
    parent._session.set_config_variable("region", "eu-west-2")
    assert [child.region_name, grandchild.region_name] == ["eu-central-1", "eu-central-1"]
    assert child.client("sqs").meta.region_name == "eu-central-1"
    assert parent.region_name == "eu-west-2"


def test_region_frozen(parent):
    """True keeps the region that the parent has at the call, for the child and its descendants."""
    child = assume_role(parent, HUB, region_name=True)
    grandchild = child.assume_role(SPOKE)
    parent._session.set_config_variable("region", "eu-west-2")
    assert [child.region_name, grandchild.region_name] == ["us-east-1", "us-east-1"]
    assert grandchild.client("sqs").meta.region_name == "us-east-1"


def test_no_region_frozen(monkeypatch):
    """If the parent has no region at the call, True keeps it that way."""
    child = assume_role(boto3.Session("AKIAROOT", "secret"), HUB, region_name=True)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert child.region_name is None
    assert child.assume_role(SPOKE).region_name is None


def test_region_of_the_environment(parent, monkeypatch):
    """False ignores a region set in code on the parent, and reads the environment each time."""
    child = assume_role(parent, HUB, region_name=False)
    assert child.region_name is None
    for region in ("eu-west-1", "eu-west-2"):
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        assert [child.region_name, child.assume_role(SPOKE).region_name] == [region, region]
    assert parent.region_name == "us-east-1"


def test_region_of_the_config_file(config_file):
    """False uses the region of the parent's profile if the environment has none."""
    config_file(
        """
        [default]
        region = eu-west-1
        [profile team]
        region = eu-west-3
        """
    )
    for profile, region in ((None, "eu-west-1"), ("team", "eu-west-3")):
        parent = boto3.Session("AKIAROOT", "secret", region_name="us-east-1", profile_name=profile)
        child = assume_role(parent, HUB, region_name=False)
        assert [child.region_name, child.assume_role(SPOKE).region_name] == [region, region]


def test_region_of_a_grandchild_is_its_own(parent):
    """Each role of a chain has its own region_name."""
    child = assume_role(parent, HUB, region_name="eu-west-1")
    assert child.assume_role(SPOKE, region_name="eu-west-2").region_name == "eu-west-2"
    assert child.assume_role(SPOKE, region_name=True).region_name == "eu-west-1"
    assert child.assume_role(SPOKE, region_name=False).region_name is None
    assert child.region_name == "eu-west-1"


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
    ],
    ids=["keys", "temporary keys", "role_arn", "credential_process"],
)
def test_credentials_of_the_profile_are_not_inherited(sts, config_file, tmp_path, lines):
    """Whatever provides the parent's credentials, child and grandchild sign with those of their own roles."""
    script = tmp_path / "provide.py"
    script.write_text('print(\'{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}\')')
    config_file(
        "[profile team]\nregion = us-east-1\n" + lines.format(python=sys.executable, script=script) + "\n"
        "[profile keys]\naws_access_key_id = AKIAKEYS\naws_secret_access_key = secret\n"
    )
    family = family_of(boto3.Session(profile_name="team"))
    identities = [session.client("sts").get_caller_identity()["Arn"] for session in family]
    assert "assumed-role/Hub/" in identities[1]
    assert "assumed-role/Spoke/" in identities[2]
    assert "/Hub/" not in identities[0]


def test_keys_in_the_environment_are_not_inherited(sts, monkeypatch):
    """Keys in the environment belong to the parent; the role signs with its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for session in family_of(boto3.Session())[1:]:
        assert session.get_credentials().access_key.startswith("ASIA")


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
        """
        [profile team]
        region = us-east-1
        sso_session = corporate
        [sso-session corporate]
        sso_region = us-east-1
        sso_start_url = https://corporate.example/start
        """
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


BEDROCK = {
    "plain": "",
    "preferring bearer": "auth_scheme_preference = httpBearerAuth",
    "preferring bearer, then v4": "auth_scheme_preference = httpBearerAuth,sigv4",
    "preferring v4": "auth_scheme_preference = sigv4",
}


@pytest.mark.parametrize("lines", BEDROCK.values(), ids=BEDROCK)
@pytest.mark.parametrize("when", ["before", "after"])
def test_bedrock_is_signed_by_the_role(sts, config_file, monkeypatch, lines, when):
    """With AWS_BEARER_TOKEN_BEDROCK set, before or after the call, child and grandchild sign as their roles."""
    config_file(f"[default]\nregion = us-east-1\n{lines}\n")
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


def test_an_unsigned_request_stays_unsigned(sts, parent, monkeypatch):
    """With AWS_BEARER_TOKEN_BEDROCK set, a client configured not to sign sends neither a signature nor the token."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    child = assume_role(parent, HUB)
    child._session.set_default_client_config(Config(signature_version=botocore.UNSIGNED))
    assert "Authorization" not in ask_bedrock(child)


def test_a_bearer_token_changes_no_other_signature(sts, parent, monkeypatch):
    """With a bearer token set for a service, unsigned operations stay unsigned, and special signatures special."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_S3", "token-of-bearer")
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


def test_bedrock_of_the_parent_keeps_its_token(parent, monkeypatch):
    """The parent still uses the token that the role ignores, if botocore supports the variable."""
    if not hasattr(botocore.handlers, "get_bearer_auth_supported_services"):
        pytest.skip("this botocore does not know AWS_BEARER_TOKEN_BEDROCK")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "token-of-bearer")
    assume_role(parent, HUB).client("bedrock-runtime")
    assert ask_bedrock(parent)["Authorization"] == "Bearer token-of-bearer"


def test_handlers_of_the_parent_are_not_inherited(sts, family):
    """A handler on the parent sees the AssumeRole call that the parent's client makes, and no call of the children."""
    parent, child, grandchild = family
    seen: list[str] = []
    parent.events.register("before-call", lambda model, **_: seen.append(model.name))
    child.client("sts").get_caller_identity()
    assert seen == ["AssumeRole"]
    grandchild.client("sts").get_caller_identity()
    assert seen == ["AssumeRole"]
    parent.client("sts").get_caller_identity()
    assert seen == ["AssumeRole", "GetCallerIdentity"]


def test_handlers_of_a_child_are_its_own(sts, parent):
    """A handler on one child sees that child's calls, and none of its sibling's or its parent's."""
    one, other = assume_role(parent, HUB), assume_role(parent, SPOKE)
    seen: list[str] = []
    one.events.register("before-call", lambda model, **_: seen.append(model.name))
    other.client("sts").get_caller_identity()
    parent.client("sts").get_caller_identity()
    assert seen == []
    one.client("sts").get_caller_identity()
    assert seen == ["GetCallerIdentity"]
    one.assume_role(SPOKE).get_credentials().get_frozen_credentials()
    assert seen == ["GetCallerIdentity", "AssumeRole"]


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
    config_file(
        """
        [profile team]
        region = eu-west-1
        [profile other]
        region = eu-west-2
        """
    )
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


def test_no_profile(family):
    """Without a profile, the name is boto3's "default" for the whole family."""
    assert [session.profile_name for session in family] == ["default"] * 3


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
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            aws_session_token=aws_session_token,
            region_name=region_name,
            botocore_session=botocore_session,
            profile_name=profile_name,
        )
        self.events.register("creating-client-class.sqs", self._extend)

    @staticmethod
    def _extend(class_attributes: dict[str, Any], **_: Any) -> None:
        class_attributes["large_payload"] = True


def replace_session(monkeypatch: pytest.MonkeyPatch, replacement: Any) -> None:
    monkeypatch.setattr(boto3, "Session", replacement)
    monkeypatch.setattr(boto3.session, "Session", replacement)


@pytest.mark.parametrize("made", ["before", "after"])
def test_a_replaced_session_class_keeps_its_features(sts, monkeypatch, made):
    """If a library has replaced boto3.Session, a role's session is an instance too, whenever the parent was created."""
    keys = {"aws_access_key_id": "AKIAROOT", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    parent = boto3.Session(**keys)
    replace_session(monkeypatch, ExtendedSession)
    if made == "after":
        parent = boto3.Session(**keys)
    _, child, grandchild = family_of(parent)
    for session in (child, grandchild):
        assert isinstance(session, ExtendedSession)
        assert isinstance(session, AssumedRoleSession)
        assert type(session).__name__ == "AssumedRoleSession"
        assert session.client("sqs").large_payload is True
        session.client("sts").get_caller_identity()
        assert sts.requests[-1].access_key.startswith("ASIA")
    assert type(child) is type(grandchild)
    assert grandchild.assume_role_parent_session is child


def test_a_session_class_put_back_is_gone(parent, monkeypatch):
    """A role's session subclasses whatever boto3.Session is at the call, not what it was before."""
    with monkeypatch.context() as patch:
        replace_session(patch, ExtendedSession)
        child = assume_role(parent, HUB)
    assert isinstance(child, ExtendedSession)
    assert type(assume_role(parent, HUB)) is AssumedRoleSession
    assert type(child.assume_role(SPOKE)) is AssumedRoleSession
