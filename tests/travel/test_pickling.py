"""A session pickles as a recipe: it works in another process as if it had been made there, and holds no secret."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import botocore.session
import cloudpickle
import pytest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import NoCredentialsError, ProfileNotFound
from conftest import HUB, SECRET, SPOKE, Equal, Forked, at_once, key, needs_fork
from sts_stub import StsStub
from worker_tasks import Namer, NoPickle, OwnCache, OwnPickle, code, identify, pickled, session_name

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, AssumedRoleSession, JSONFileCache, assume_role
from aws_assume_role_lib._travel import pickling

MFA = "arn:aws:iam::111111111111:mfa/me"
ALL: dict[str, Any] = {
    "RoleSessionName": "named",
    "PolicyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
    "Policy": {"Version": "2012-10-17", "Statement": []},
    "DurationSeconds": 1800,
    "Tags": {"team": "blue", "stage": "é\U0001f600'\"\\"},
    "TransitiveTagKeys": ["team"],
    "ExternalId": "external",
    "SerialNumber": MFA,
    "TokenCode": code,
    "SourceIdentity": "source",
}


@pytest.fixture(autouse=True)
def _nothing_is_shared_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickling, "_kept", type(pickling._kept)())


@pytest.fixture
def root(root_keys: None) -> boto3.Session:
    """A session whose keys come from the environment."""
    return boto3.Session()


def loaded(session: boto3.Session) -> Any:
    return pickle.loads(pickle.dumps(session))


def test_a_loaded_chain_makes_the_same_requests(sts: StsStub, root: boto3.Session) -> None:
    """Each role of a loaded chain sends the original's request to STS, and each session is separate."""
    spoke = assume_role(root, HUB, **ALL).assume_role(SPOKE, RoleSessionName=session_name)
    key(spoke)
    again = loaded(spoke)
    assert isinstance(again, AssumedRoleSession)
    assert again.role_arn == SPOKE
    key(again)
    # The order of tags does not matter.
    hops = [{name: sorted(request.params.values()) for name in request.params} for request in sts.assumed]
    assert hops[2:] == hops[:2]
    copied = [request.params for request in sts.assumed[2:]]
    assert copied[1]["RoleSessionName"] == "from-a-function"
    assert again.assume_role_parent_session.role_arn == HUB
    assert sts.violations == []


def test_a_pool_of_processes(sts: StsStub, root: boto3.Session) -> None:
    """A pool's workers act as the role with their own keys, and each assumes every role once for all its tasks; a
    session that a worker returns works here, and one that it makes has the same bytes.
    """
    spoke = assume_role(root, HUB).assume_role(SPOKE)
    own = key(spoke)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(identify, [spoke] * 12))
        returned = pool.submit(copy.copy, spoke).result()
        made_there = pool.submit(pickled, HUB).result()
    workers = {process for process, _, _ in found}
    keys = {access_key for _, _, access_key in found}
    assert os.getpid() not in workers
    assert own not in keys
    assert len(keys) == len(workers)
    assert all(":assumed-role/Spoke/" in arn for _, arn, _ in found)
    assert len(sts.assumed) == 2 + 2 * len(workers)
    assert pickle.dumps(returned) == pickle.dumps(spoke)
    assert made_there == pickled(HUB), "whatever the hash seed"
    assert key(returned)


def test_loading_calls_nothing(sts: StsStub, root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading needs neither credentials nor a profile; the first use does, and if it fails, a later one can succeed."""
    data = pickle.dumps(assume_role(root, HUB))
    profile = Path(os.environ["AWS_CONFIG_FILE"])
    profile.write_text(f"[profile p]\n{KEYS}")
    with_profile = pickle.dumps(assume_role(boto3.Session(profile_name="p"), HUB))
    profile.unlink()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    session = pickle.loads(data)
    assert not hasattr(session, "__dask_tokenize__")
    assert repr(session) == f"AssumedRoleSession(role_arn={HUB!r}, not used yet)"
    assert "_session" not in vars(session)
    with pytest.raises(NoCredentialsError):
        session.client("sts")
    with pytest.raises(ProfileNotFound):
        pickle.loads(with_profile).client("sts")
    assert not hasattr(session, "_repr_html_")
    with pytest.raises(NoCredentialsError):
        _ = session.assume_role_parent_session
    assert sts.requests == []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    assert key(session)
    assert repr(session) == f"AssumedRoleSession(role_arn={HUB!r}, region_name='us-east-1')"
    with pytest.raises(AttributeError, match="no attribute 'sesssion'"):
        session.sesssion()


@pytest.mark.parametrize(
    "where",
    ["environment", "config_file", "credentials_file", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"],
)
def test_it_signs_with_the_keys_of_where_it_is_used(
    sts: StsStub, root: boto3.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """A loaded session starts from the credentials that boto3 finds when it is first used, in the environment or in a
    file that was set in code or by a variable; so does the next one.
    """
    file = tmp_path / "chosen"
    session = botocore.session.Session()
    if where.isupper():
        monkeypatch.setenv(where, str(file))
    elif where != "environment":
        session.set_config_variable(where, str(file))

    def choose(user: str) -> None:
        if where == "environment":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        else:
            monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
            section = "Credentials" if where == "BOTO_CONFIG" else "default"
            file.write_text(f"[{section}]\naws_access_key_id = {user}\naws_secret_access_key = s\n")

    choose("AKIAONE")
    data = pickle.dumps(assume_role(boto3.Session(botocore_session=session), HUB))
    key(pickle.loads(data))
    choose("AKIAANOTHER")
    key(pickle.loads(data))
    assert [request.access_key for request in sts.assumed] == ["AKIAONE", "AKIAANOTHER"]


# Secrets


KEYS = "aws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\naws_session_token = token-0\n"
OUT = {"Version": 1, "AccessKeyId": "AKIAROOT", "SecretAccessKey": "root-secret", "SessionToken": "token-0"}
PARENTS: dict[str, dict[str, str]] = {
    "env": {"AWS_ACCESS_KEY_ID": "AKIAROOT", "AWS_SECRET_ACCESS_KEY": "root-secret", "AWS_SESSION_TOKEN": "token-0"},
    "shared-credentials-file": {"AWS_SHARED_CREDENTIALS_FILE": f"[p]\n{KEYS}"},
    "config-file": {"AWS_CONFIG_FILE": f"[profile p]\n{KEYS}"},
    "custom-process": {
        "AWS_CONFIG_FILE": "[profile p]\ncredential_process = "
        f'"{sys.executable}" -c "import json; print(json.dumps({OUT}))"\n'
    },
    "assume-role": {
        "AWS_CONFIG_FILE": f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\n[profile s]\n{KEYS}region = us-east-1\n"
    },
    "assume-role-with-web-identity": {"AWS_ROLE_ARN": HUB, "AWS_WEB_IDENTITY_TOKEN_FILE": "token-0"},
    "container-role": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "/container"},
    "iam-role": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "/", "AWS_EC2_METADATA_DISABLED": "false"},
}


@pytest.mark.parametrize("method", PARENTS)
def test_no_secret_is_in_the_bytes(
    sts: StsStub, metadata: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whatever the root's credentials are, a used chain with full caches pickles without a key, secret, token or
    code, and works when it is loaded."""
    for name, value in PARENTS[method].items():
        if name.endswith("_FILE"):
            (tmp_path / name).write_text(value)
            value = str(tmp_path / name)
        monkeypatch.setenv(name, metadata + value if value.startswith("/") and "_FILE" not in name else value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    root = boto3.Session(profile_name="p" if any("[" in text for text in PARENTS[method].values()) else None)
    assert root.get_credentials().method == method
    cache: dict[str, Any] = {}
    spoke = assume_role(root, HUB, cache=cache, SerialNumber=MFA, TokenCode=code).assume_role(
        SPOKE, cache=JSONFileCache(tmp_path / "cache")
    )
    key(spoke)
    assert cache
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(spoke, protocol)
        assert not SECRET.search(data.decode("latin-1"))
        assert b"123456" not in data
        assert b"token" not in data
    again = loaded(spoke)
    assert again.assume_role_parent_session.get_credentials().fetcher.arguments[1] == {}
    assert key(again) == key(spoke), "the file is shared"
    assert key(again.assume_role_parent_session) != key(spoke.assume_role_parent_session)
    assert sts.violations == []


def test_the_keys_of_a_container_with_a_token(sts: StsStub, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that botocore requests with a token from the environment, as below ``-- COMMAND``, are requested there."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-0")
    assert key(loaded(assume_role(boto3.Session(region_name="us-east-1"), HUB)))


# Refusals


def assert_refused(session: boto3.Session, message: str) -> None:
    """dumps() raises a PicklingError that says what to do, and no secret; also for what is assumed from it."""
    for refused in (session, [assume_role(session, SPOKE)]):
        with pytest.raises(pickle.PicklingError, match=message) as raised:
            pickle.dumps(refused)
        assert not SECRET.search(str(raised.value))
        assert "123456" not in str(raised.value)


def by_hand(method: str) -> RefreshableCredentials:
    metadata = {"access_key": "AKIAROOT", "secret_key": "root-secret", "token": "token-0"}
    metadata["expiry_time"] = "2099-01-01T00:00:00Z"
    return RefreshableCredentials.create_from_metadata(metadata, lambda: metadata, method)


class OwnCredentials(Credentials):
    """A custom class."""


class OwnProvider(CredentialProvider):
    """A custom provider."""

    METHOD = "own"


class OwnBotocoreSession(botocore.session.Session):
    """A custom class."""


CREATE_CLIENT = botocore.session.Session().create_client
FETCHER = AssumeRoleCredentialFetcher(CREATE_CLIENT, Credentials("AKIAROOT", "root-secret"), HUB)


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param(Credentials("AKIAROOT", "root-secret", method="explicit"), id="keys"),
        pytest.param(Credentials("AKIAROOT", "root-secret", method="own"), id="own provider"),
        pytest.param(OwnCredentials("AKIAROOT", "root-secret", method="env"), id="own class"),
        pytest.param(by_hand("assume-role"), id="by hand, assume-role"),
        pytest.param(by_hand("iam-role"), id="by hand, iam-role"),
        pytest.param(
            DeferredRefreshableCredentials(FETCHER.fetch_credentials, "assume-role"),
            id="by hand, with botocore's fetcher",
        ),
    ],
)
def test_credentials_that_were_set_in_code_are_refused(root: boto3.Session, credentials: Any) -> None:
    """Credentials that boto3 would not find in another process are not pickled."""
    hub = assume_role(root, HUB)
    root._session._credentials = credentials
    assert_refused(hub, f"its {type(credentials).__name__} were set in code, .* Have boto3 find them in a profile")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"SerialNumber": MFA, "TokenCode": "123456"}, "its TokenCode is a str, .* Pass a module's function"),
        ({"SerialNumber": MFA, "TokenCode": ["123456"].pop}, "its TokenCode is a builtin_function_or_method, "),
        ({"ProvidedContexts": [{"ProviderArn": HUB, "ContextAssertion": "token-1"}]}, "ProvidedContexts hold a token"),
        ({"cache": OwnCache()}, "its cache is a OwnCache"),
    ],
)
def test_parameters_with_secrets_are_refused(root: boto3.Session, parameters: dict[str, Any], message: str) -> None:
    """Parameters that hold a code, a token or keys are not pickled."""
    assert_refused(assume_role(root, HUB, **parameters), message)


def test_sessions_that_cannot_be_recreated_are_refused(root: boto3.Session) -> None:
    """A session is refused if its class, credentials or settings would be lost."""
    assert_refused(assume_role(NoPickle(region_name="us-east-1"), HUB), "worker_tasks.NoPickle. Start from")
    own = boto3.Session(botocore_session=OwnBotocoreSession())
    assert_refused(assume_role(own, HUB), "OwnBotocoreSession. Start from")
    hub = assume_role(root, HUB)
    for module in ("app", "program"):
        hub.__class__ = type("OwnSession", (AssumedRoleSession,), {"__module__": module})
        assert_refused(hub, rf"it is a {module}\.OwnSession\. Define __reduce_ex__\(\) in that class")
    hub = assume_role(root, HUB)
    hub._session._credentials = Equal("AKIAROOT", "root-secret")
    assert_refused(hub.assume_role(SPOKE), f"The session for {HUB} .* its credentials were replaced")
    root._session.set_config_variable("max_attempts", Thread())
    assert_refused(assume_role(root, SPOKE), "a parameter or setting is not plain data. .*Thread")


@pytest.mark.parametrize("name", ["RoleSessionName", "TokenCode"])
def test_a_lambda(sts: StsStub, root: boto3.Session, name: str) -> None:
    """pickle raises its own error for a lambda, which names the lambda and, since Python 3.14, the parameter. With
    cloudpickle, sessions that have one, which cannot be compared, are loaded as separate sessions of one root.
    """
    hub = assume_role(root, HUB, SerialNumber=MFA, **{"TokenCode": code, name: lambda: "123456"})
    with pytest.raises((pickle.PicklingError, AttributeError), match="<lambda>") as raised:
        pickle.dumps(hub)
    assert sys.version_info < (3, 14) or any(name in note for note in raised.value.__notes__)
    data = cloudpickle.dumps(hub)
    one, two = pickle.loads(data), pickle.loads(data)
    assert key(one) != key(two)
    assert one.assume_role_parent_session is two.assume_role_parent_session
    assert {request.params[name] for request in sts.assumed} == {"123456"}


def test_a_callable_that_refers_to_the_session(root: boto3.Session) -> None:
    """A RoleSessionName that holds the session which calls it travels with it."""
    name = Namer()
    name.session = assume_role(root, HUB, RoleSessionName=name)
    assert loaded(name.session)._session.role_credentials.fetcher.arguments[0]["RoleSessionName"]() == "namer"


# The same bytes


def test_the_same_session_gives_the_same_bytes(sts: StsStub, root: boto3.Session) -> None:
    """A session's bytes depend neither on its use nor on how an equal session was written or arrived here."""
    root._session.set_default_client_config(Config(retries={"max_attempts": 3}))
    spoke = assume_role(root, HUB, **ALL).assume_role(SPOKE, cache={})
    data = pickle.dumps(spoke)
    key(spoke)
    root.client("sts").get_caller_identity()  # botocore changes the retries of a default config
    assert pickle.dumps(spoke) == data
    again = pickle.loads(data)
    assert pickle.dumps(again) == data
    assert pickle.dumps(copy.deepcopy(again)) == data
    key(again)
    assert pickle.dumps(again) == data
    assert pickle.dumps(copy.copy(again)) == data
    equal = boto3.Session()
    mode = root._session.get_config_variable("retry_mode") or "legacy"
    equal._session.set_default_client_config(Config(retries={"total_max_attempts": 4, "mode": mode}))
    shuffled = dict(reversed(ALL.items()))
    shuffled["Tags"] = [{"Value": value, "Key": name} for name, value in reversed(ALL["Tags"].items())]
    shuffled["SourceIdentity"] = "".join(["sou", "rce"])
    assert pickle.dumps(assume_role(equal, "".join(HUB), **shuffled).assume_role(SPOKE, cache={})) == data
    other = dict(ALL, ExternalId="other")
    assert pickle.dumps(assume_role(root, HUB, **other).assume_role(SPOKE, cache={})) != data


# Settings


def test_settings_of_the_root_travel(root: boto3.Session) -> None:
    """The root's profile, region, default client config, config variables and user agent are pickled."""
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(
        f"[profile p]\n{KEYS}use_fips_endpoint = true\nregion = eu-north-1\n"
    )
    root = boto3.Session(profile_name="p", region_name="eu-west-1")
    config = Config(
        connect_timeout=float("inf"),
        client_cert=("certificate", "key"),
        s3={"addressing_style": "path"},
        retries={"mode": "standard"},
    )
    root._session.set_default_client_config(config)
    root._session.set_config_variable("ca_bundle", "/bundle")
    root._session.user_agent_extra += " scanner/1"
    again = loaded(assume_role(root, HUB))
    assert again.profile_name == "p"
    assert again.region_name == "eu-west-1"
    assert again._session.get_config_variable("ca_bundle") == "/bundle"
    assert again._session.get_config_variable("use_fips_endpoint") is True
    assert again._session.user_agent_extra == root._session.user_agent_extra
    assert b"Boto3" not in pickle.dumps(assume_role(root, HUB)), "the other process has its own"
    travelled = again._session.get_default_client_config()
    assert {**vars(travelled), "_user_provided_options": 0} == {**vars(config), "_user_provided_options": 0}


@pytest.mark.parametrize(
    ("parent", "choice", "here", "there"),
    [
        (None, None, "us-east-1", "sa-east-1"),
        ("eu-west-1", None, "eu-west-1", "eu-west-1"),
        ("eu-west-1", "ca-central-1", "ca-central-1", "ca-central-1"),
        ("eu-west-1", True, "eu-west-1", "eu-west-1"),
        ("eu-west-1", False, "us-east-1", "sa-east-1"),
    ],
)
def test_the_choice_of_a_region_travels(
    root: boto3.Session, monkeypatch: pytest.MonkeyPatch, parent: str | None, choice: Any, here: str, there: str
) -> None:
    """A fixed region stays fixed; one that follows something follows the same thing where the session is used."""
    hub = assume_role(boto3.Session(region_name=parent), HUB, region_name=choice)
    assert hub.region_name == here
    data = pickle.dumps(hub)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert pickle.loads(data).region_name == there
    spoke = pickle.loads(pickle.dumps(hub.assume_role(SPOKE, region_name="eu-west-2")))
    assert (spoke.region_name, spoke.assume_role_parent_session.region_name) == ("eu-west-2", there)


def test_the_lack_of_a_region_travels(root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is fixed to its parent's region, which has none, does not follow the environment afterwards."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    again = loaded(assume_role(root, HUB, region_name=True))
    assert again.region_name is None
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert again.region_name is None


def test_settings_of_a_role_travel(sts: StsStub, root: boto3.Session) -> None:
    """Settings made on a role's session are set on the loaded one, and apply to the roles that it assumes; functions,
    the choice of no name, a dict as the cache, which is empty, and options for STS arrive where they belong.
    """
    hub = assume_role(root, HUB, RoleSessionName=session_name, SerialNumber=MFA, TokenCode=code, cache={"entry": 1})
    hub._session.set_config_variable("region", "eu-west-2")
    hub._session.set_default_client_config(Config())
    hub._session.user_agent_extra = "own/1"
    for again in (loaded(hub), loaded(hub.assume_role(SPOKE))):
        assert again.region_name == "eu-west-2"
        assert again._session.user_agent_extra == "own/1"
        assert again._session.get_default_client_config() is not None
    request, cache, _ = loaded(hub)._session.role_credentials.fetcher.arguments
    assert (request["RoleSessionName"], request["TokenCode"], cache) == (session_name, code, {})
    named = assume_role(root, HUB, RoleSessionName=AUTOMATIC_ROLE_SESSION_NAME, SourceIdentity="me")
    assert "RoleSessionName" not in loaded(named)._session.role_credentials.fetcher.arguments[0]
    options = {"region_name": "eu-west-1", "config": Config(user_agent_extra="sts/1", read_timeout=60)}
    key(loaded(assume_role(root, HUB, sts_client_kwargs=options)))
    assert sts.assumed[0].region == "eu-west-1"
    assert "sts/1" in sts.assumed[0].user_agent


def test_handlers_do_not_travel(sts: StsStub, root: boto3.Session) -> None:
    """A pickle has no event handlers, of the root or of the role, and each loaded session has its own handlers."""
    hub = assume_role(root, HUB)
    called: list[str] = []
    for session in (root, hub):
        session.events.register("before-send", lambda **_: called.append("original"))
    data = pickle.dumps(hub)
    one, two = pickle.loads(data), pickle.loads(data)
    one.events.register("before-send", lambda **_: called.append("one"))
    two.client("s3").list_buckets()
    assert called == []


# Roots


def test_a_root_that_pickles_by_itself_does(root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass with its own pickle support is the root of loaded sessions: one a process, if it can be compared."""
    data = pickle.dumps(assume_role(OwnPickle("blue"), HUB))
    one, two = pickle.loads(data), pickle.loads(data)
    assert one.assume_role_parent_session.team == "blue"
    assert one.region_name == "eu-west-3"
    assert two.assume_role_parent_session is one.assume_role_parent_session
    assert loaded(assume_role(OwnPickle("red"), HUB)).assume_role_parent_session.team == "red"
    monkeypatch.setattr(OwnPickle, "__reduce__", lambda _: 1 / 0)
    assert pickle.loads(data).assume_role_parent_session is not one.assume_role_parent_session


def test_a_replaced_session_class(sts: StsStub, root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a library has replaced boto3.Session, sessions pickle, and loaded sessions are instances of it too."""
    monkeypatch.setattr(boto3, "Session", NoPickle)
    hub = assume_role(boto3.Session(), HUB)
    again = loaded(hub)
    assert isinstance(again, NoPickle)
    assert isinstance(again, AssumedRoleSession)
    assert key(again)
    assert isinstance(again.assume_role_parent_session, NoPickle)


# Sharing


def test_sessions_of_one_root_share_it(sts: StsStub, root: boto3.Session) -> None:
    """In one process, loaded sessions of one root share it, and one hub, which is assumed once, over one connection."""
    hub = assume_role(root, HUB)
    data = [pickle.dumps(hub.assume_role(f"arn:aws:iam::{account:012}:role/Audit")) for account in range(20)]
    sessions = [pickle.loads(each) for each in data * 2]
    assert len({key(session) for session in sessions}) == 20
    assert len({id(session.assume_role_parent_session) for session in sessions}) == 1
    assert len({id(session._session._aws_assume_role_lib.connections) for session in sessions}) == 1
    assert len({id(session) for session in sessions}) == 40
    assert type(pickle.loads(data[0])) is type(pickle.loads(data[1]))
    assert len(sts.assumed) == 1 + 20
    assert sts.connections == 1, "one of the family"


def test_what_is_shared_is_bounded(sts: StsStub, root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the most recently used roots and roles are kept, and a root in use is always one of them."""
    monkeypatch.setattr(pickling, "MAX_KEPT", 4)
    hub = assume_role(root, HUB)
    spokes = [hub.assume_role(f"arn:aws:iam::{account:012}:role/Audit") for account in range(12)]
    for spoke in spokes:
        key(loaded(spoke))
    assert len(pickling._kept) == 4
    assert len(sts.assumed) == 1 + 12
    key(loaded(spokes[-1]))
    assert len(sts.assumed) == 1 + 12
    key(loaded(spokes[0]))
    assert len(sts.assumed) == 1 + 13


def test_threads_that_load_at_once(sts: StsStub, root: boto3.Session) -> None:
    """Threads that load and use equal sessions at the same moment, or are the first to use one loaded session, assume
    each role once between them.
    """
    spoke = assume_role(root, HUB).assume_role(SPOKE)
    data = pickle.dumps(spoke)
    one = pickle.loads(data)
    keys = at_once(lambda n: key(pickle.loads(data)) if n % 2 else key(one), 32)
    assert len(set(keys)) == 1
    assert len(sts.assumed) == 2


def test_threads_that_open_one_session_get_one(root: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """If two threads open a session at the same moment, both get the botocore session that one has published."""
    session = loaded(assume_role(root, HUB))
    shared = pickling._shared
    first: list[Any] = []

    def overtaken(recipe: Any) -> Any:
        monkeypatch.setattr(pickling, "_shared", shared)
        first.append(session._session)
        return shared(recipe)

    monkeypatch.setattr(pickling, "_shared", overtaken)
    assert session._session is first[0]
    assert session._session is first[0]


def test_a_shared_session_may_be_dropped_while_it_is_used(
    sts: StsStub, root: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared session that another thread drops at the same moment can still be used."""

    class Forgetful(dict[Any, Any]):
        def move_to_end(self, key: object) -> None:
            raise KeyError(key)

    monkeypatch.setattr(pickling, "_kept", Forgetful())
    assert key(loaded(assume_role(root, HUB)))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork(sts: StsStub, root: boto3.Session) -> None:
    """Loaded sessions work in a forked child, and so do sessions that the child loads, on a separate connection."""
    hub = assume_role(root, HUB)
    one, two = loaded(hub), loaded(assume_role(root, SPOKE))
    first = key(one)
    child = Forked.start(lambda: f"{key(one)} {key(loaded(hub))} {key(two)}").result()
    assert (child, key(two)) == (f"{first} {first} ASIA0000000000000002", "ASIA0000000000000003")
    assert len({request.connection for request in sts.assumed}) == 2
    assert sts.violations == []


def test_a_very_long_chain(sts: StsStub, root: boto3.Session) -> None:
    """A chain of 60 roles pickles and loads within Python's usual recursion limit, and assumes the next role."""
    session = root
    for number in range(60):
        session = assume_role(session, f"arn:aws:iam::{number:012}:role/Hop")
    again = loaded(session)
    assert re.findall("role/Hop", repr(again)) == ["role/Hop"]
    assert pickle.dumps(again) == pickle.dumps(session)
    assert key(again)
    assert len(sts.assumed) == 60
    assert pickle.dumps(assume_role(again, SPOKE)) == pickle.dumps(session.assume_role(SPOKE))


def test_copies_of_a_loaded_session(sts: StsStub, root: boto3.Session) -> None:
    """A loaded session can be copied before its first use and after, and the copies act as the same role."""
    session = loaded(assume_role(root, HUB))
    before = [copy.copy(session), copy.deepcopy(session)]
    before[1].events.register("before-send", lambda **_: seen.append("copy"))
    before[1].resource("s3")
    seen: list[str] = []
    assert {key(each) for each in [session, *before, copy.deepcopy(session)]} == set(sts.issued)
    assert len(sts.issued) == 1
    session.client("sts").get_caller_identity()
    assert seen == []
    before[1].client("sts").get_caller_identity()
    assert seen == ["copy"]
