"""A role's session for asyncio is its session with other clients: its settings, and the libraries that accept it."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from conftest import HUB, SPOKE, NotSent, do_not_send, key
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, assume_role
from aws_assume_role_lib.aio import get_session

FIRST = "ASIA0000000000000001"


@pytest.fixture
def hub(parent: boto3.Session) -> AssumedRoleSession:
    return assume_role(parent, HUB)


async def client_of(session: AioSession, service: str, **options: Any) -> Any:
    """Return a client whose settings can be inspected."""
    async with session.create_client(service, **options) as client:
        return client


def settings(client: Any) -> dict[str, Any]:
    names = ("retries", "connect_timeout", "read_timeout", "use_fips_endpoint", "use_dualstack_endpoint", "s3")
    config = {name: getattr(client.meta.config, name, None) for name in (*names, "user_agent")}
    return {"region": client.meta.region_name, "endpoint": client.meta.endpoint_url, **config}


# Settings


PROFILE = """
[profile work]
region = eu-central-1
use_fips_endpoint = true
retry_mode = standard
max_attempts = 7
services = ours
s3 =
    addressing_style = path
[services ours]
dynamodb =
    endpoint_url = http://127.0.0.1:1
"""


@pytest.mark.parametrize("service", ["s3", "dynamodb", "sts"])
def test_the_settings_of_a_profile_are_inherited(tmp_path: Any, service: str) -> None:
    """A client's region, endpoints, FIPS, retries and user agent are those of a client without asyncio."""
    (tmp_path / "config").write_text(PROFILE)
    parent = boto3.Session("AKIAROOT", "root-secret", profile_name="work")
    parent._session.set_default_client_config(Config(connect_timeout=3, read_timeout=4, user_agent_extra="app/1"))
    hub = assume_role(parent, HUB)
    client = asyncio.run(client_of(get_session(hub), service))
    assert settings(client) == settings(hub.client(service))
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.config.user_agent.startswith("Boto3/")
    assert "app/1" in client.meta.config.user_agent
    assert get_session(hub).profile == "work"


def test_settings_are_live(hub: AssumedRoleSession, parent: boto3.Session) -> None:
    """A setting is looked up each time a client is created, and can be set on the session itself."""
    session = get_session(hub)
    parent._session.set_config_variable("region", "eu-west-1")
    assert asyncio.run(client_of(session, "s3")).meta.region_name == "eu-west-1"
    session.set_config_variable("region", "eu-west-2")
    assert asyncio.run(client_of(session, "s3")).meta.region_name == "eu-west-2"
    assert hub.region_name == "eu-west-1"
    parent._session.set_default_client_config(Config(connect_timeout=3, read_timeout=4))
    config = asyncio.run(client_of(session, "s3", config=AioConfig(read_timeout=5))).meta.config
    assert [config.connect_timeout, config.read_timeout] == [3, 5]
    session.set_default_client_config(AioConfig(read_timeout=6))
    assert asyncio.run(client_of(session, "s3")).meta.config.read_timeout == 6


def test_a_session_lacks_what_no_session_has(hub: AssumedRoleSession) -> None:
    """An attribute that does not exist is an AttributeError."""
    with pytest.raises(AttributeError, match="has no attribute 'regions'"):
        _ = get_session(hub).regions


def test_service_models_are_shared(models_read_anew: None, hub: AssumedRoleSession) -> None:
    """A service model that one of the sessions has loaded is not loaded again by the other."""
    session = get_session(hub)
    ours = hub._session.get_component("data_loader").load_service_model("sqs", "service-2")
    assert session.get_component("data_loader").load_service_model("sqs", "service-2") is ours


@pytest.mark.parametrize("service", ["bedrock-runtime", "s3"])
def test_a_bearer_token_is_not_used(
    sts: StsStub, hub: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """A request is signed by the role even if AWS_BEARER_TOKEN_BEDROCK is set."""
    if importlib.util.find_spec("botocore.tokens") is None:
        pytest.skip("this botocore has no tokens")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a-token")

    async def work() -> None:
        async with get_session(hub).create_client(service) as client:
            operation = client.list_buckets if service == "s3" else client.invoke_model
            await operation(**({} if service == "s3" else {"modelId": "m", "body": b"{}"}))

    asyncio.run(work())
    assert sts.requests[-1].access_key == FIRST
    assert get_session(hub).get_auth_token() is None


ACCESSORS = ("access_key", "secret_key", "token", "account_id")


def test_credentials(sts: StsStub, hub: AssumedRoleSession) -> None:
    """Every accessor of aiobotocore's credentials has the role's keys, the expiry is known after the first use, and a
    copy of the session has the same credentials object.
    """
    session = get_session(hub)

    async def work() -> Any:
        credentials = await session.get_credentials()
        assert isinstance(credentials, RefreshableCredentials)
        assert credentials.method == "assume-role"
        assert credentials is await copy.copy(session).get_credentials()
        assert credentials is await copy.deepcopy(session).get_credentials()
        # aiobotocore has the others since 2.13.
        names = [name for name in ACCESSORS if hasattr(credentials, f"get_{name}")]
        read = {name: await getattr(credentials, f"get_{name}")() for name in names}
        assert await credentials.get_frozen_credentials() == hub.get_credentials().get_frozen_credentials()
        return credentials, read

    credentials, read = asyncio.run(work())
    ours = hub.export_credentials()
    assert read == {name: getattr(ours, name) for name in read}
    assert credentials._expiry_time == ours.expiry
    assert len(sts.assumed) == 1


# Errors


@pytest.mark.parametrize("session", [None, "hub", boto3.Session(), AioSession()], ids=lambda each: type(each).__name__)
def test_only_a_role_has_a_session(session: Any) -> None:
    """Anything that assume_role() did not create is refused at the call."""
    with pytest.raises(TypeError, match=f"is of type {type(session).__name__}; it must be a session"):
        get_session(session)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("aiobotocore", "pip install aiobotocore"),
        ("aiobotocore.credentials", "No module named 'aiobotocore.credentials'"),
    ],
)
def test_without_aiobotocore(
    hub: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch, hidden: str, message: str
) -> None:
    """Without aiobotocore, the call says what to install; an aiobotocore that lacks a module says so itself."""

    def find_spec(name: str, *_: object) -> None:
        if name == hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "aiobotocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "aws_assume_role_lib._travel.aio", raising=False)
    monkeypatch.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find_spec), *sys.meta_path])
    with pytest.raises(ImportError, match=message) as raised:
        get_session(hub)
    assert raised.value.name == hidden


# Other libraries, against moto's server


@asynccontextmanager
async def bucket_of(client: Any, name: str) -> AsyncIterator[None]:
    await client.create_bucket(Bucket=name)
    yield
    for found in (await client.list_objects_v2(Bucket=name)).get("Contents", ()):
        await client.delete_object(Bucket=name, Key=found["Key"])
    await client.delete_bucket(Bucket=name)


def test_aiobotocore(moto: str, hub: AssumedRoleSession) -> None:
    """A client of aiobotocore writes, lists in pages, reads, waits and presigns in the account of the last role."""
    spoke = hub.assume_role(SPOKE)

    async def work() -> None:
        async with get_session(spoke).create_client("s3") as s3, bucket_of(s3, "aio-spoke"):
            await asyncio.gather(*[s3.put_object(Bucket="aio-spoke", Key=f"{n}", Body=b"content") for n in range(5)])
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket="aio-spoke", PaginationConfig={"PageSize": 2})
            assert [len(page["Contents"]) async for page in pages] == [2, 2, 1]
            await s3.get_waiter("object_exists").wait(Bucket="aio-spoke", Key="0")
            url = await s3.generate_presigned_url("get_object", Params={"Bucket": "aio-spoke", "Key": "0"})
            assert key(spoke) in url
            names = {bucket["Name"] for bucket in spoke.client("s3").list_buckets()["Buckets"]}
            assert "aio-spoke" in names
            assert "aio-spoke" not in {bucket["Name"] for bucket in hub.client("s3").list_buckets()["Buckets"]}

    asyncio.run(work())


def test_aioboto3(moto: str, hub: AssumedRoleSession) -> None:
    """aioboto3 takes the session for its clients and resources, and any number of its sessions leave no trace."""
    aioboto3 = pytest.importorskip("aioboto3", reason="no aioboto3 allows this aiobotocore")
    paths = list(hub._session.get_component("data_loader").search_paths)

    async def work() -> None:
        for number in range(3):
            session = aioboto3.Session(botocore_session=get_session(hub))
            assert session.region_name == "us-east-1"
            name = f"aioboto3-{number}"
            async with session.client("s3") as s3, bucket_of(s3, name), session.resource("s3") as resource:
                bucket = await resource.Bucket(name)
                await bucket.put_object(Key="key", Body=b"content")
                assert [found.key async for found in bucket.objects.all()] == ["key"]

    asyncio.run(work())
    assert hub._session.get_component("data_loader").search_paths == paths


def test_the_account_of_the_role(moto: str, hub: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB's endpoint is that of the role's account, if this aiobotocore has such endpoints."""
    key(hub)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    host = "111111111111.ddb" if hasattr(hub.get_credentials(), "account_id") else "dynamodb"

    async def work() -> None:
        async with get_session(hub).create_client("dynamodb") as client:
            client.meta.events.register("before-send", do_not_send)
            with pytest.raises(NotSent, match=f"^https://{host}.us-east-1.amazonaws.com/"):
                await client.list_tables()

    asyncio.run(work())
