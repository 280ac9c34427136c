"""A cache identifies a parent by what botocore's own providers used, and never confuses it with another."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import pickle
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import botocore.session
import botocore.utils
import pytest
import time_machine
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    CachedCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import ClientError, EndpointConnectionError
from conftest import HANG, HUB, SPOKE, key, later, wait_until, waiting_threads
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._identity import identity_of


def identity(session: boto3.Session) -> Any:
    return identity_of(session.get_credentials())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


def keys(name: str) -> str:
    return f"aws_access_key_id = AKIA{name}\naws_secret_access_key = s\n"


def test_a_role_of_a_profile_is_known_by_the_role_and_its_source(sts: StsStub, config: Path) -> None:
    """Two sessions of a profile with role_arn have one identity; another role, or other source keys, make another."""
    found = []
    for role, source in ((HUB, "ONE"), (HUB, "ONE"), (SPOKE, "ONE"), (HUB, "TWO")):
        config.write_text(f"[profile p]\nrole_arn = {role}\nsource_profile = s\n[profile s]\n{keys(source)}")
        found.append(identity(boto3.Session(profile_name="p")))
    assert found[0] == found[1]
    assert found[2] not in (found[0], found[3])
    assert found[3] != found[0]
    assert sts.requests == []


def test_a_role_from_the_environments_keys_is_known_by_them(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With credential_source = Environment, the identity behind the environment's keys is part of the role's."""
    config.write_text(f"[profile p]\nrole_arn = {HUB}\ncredential_source = Environment\n")
    found = []
    for user in ("AKIAONE", "AKIATWO"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        found.append(identity(boto3.Session(profile_name="p")))
    assert found[0] != found[1]


def test_a_process_behind_a_role_is_known_by_its_own_profile(config: Path) -> None:
    """A role whose source profile has a credential_process has the same identity in a second session."""
    keys = {"AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2099-01-01T00:00:00Z"}
    out = {"Version": 1, **keys}
    process = f'"{sys.executable}" -c "import json; print(json.dumps({out}))"'
    config.write_text(
        f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\n[profile s]\ncredential_process = {process}\n"
    )
    one, two = (identity(boto3.Session(profile_name="p")) for _ in range(2))
    assert one == two
    assert one


def test_a_role_with_mfa_is_known_too(config: Path) -> None:
    """A profile's mfa_serial does not change the role's identity from one session to the next."""
    config.write_text(
        f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\nmfa_serial = arn:aws:iam::1:mfa/me\n"
        f"[profile s]\n{keys('A')}"
    )
    one, two = (identity(boto3.Session(profile_name="p")) for _ in range(2))
    assert one == two
    assert one


def test_web_identity_is_known_by_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web identity is identified by the role that it assumes, as it was when the session found it."""
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    found, sessions = [], []
    for role in (HUB, HUB, SPOKE):
        monkeypatch.setenv("AWS_ROLE_ARN", role)
        sessions.append(boto3.Session(region_name="us-east-1"))
        found.append(identity(sessions[-1]))
    assert found[0] == found[1] != found[2]
    assert [identity(session) for session in sessions] == found


@pytest.mark.parametrize("relative", [False, True])
def test_a_web_identity_is_known_by_its_token(
    sts: StsStub, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """Two profiles with one role and two token files share no entry, even if STS refuses the second one's token."""
    cache: dict[str, Any] = {}
    config.write_text(
        "".join(
            f"[profile {name}]\nregion = us-east-1\nrole_arn = {HUB}\nweb_identity_token_file = {file}\n"
            for name, file in ((name, "token" if relative else tmp_path / name / "token") for name in ("alice", "bob"))
        )
    )
    for name in ("alice", "bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text("token")
        monkeypatch.chdir(tmp_path / name)
        sts.fault = Fault.error(400, "InvalidIdentityToken", everything=True) if name == "bob" else None
        role = assume_role(boto3.Session(profile_name=name), SPOKE, cache=cache)
        with pytest.raises(ClientError, match="InvalidIdentityToken") if name == "bob" else contextlib.nullcontext():
            key(role)


KEYS = {"AccessKeyId": "AKIAROOT", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}


class Metadata(BaseHTTPRequestHandler):
    """A metadata service of an instance and of a container, which lists what was requested."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Authorization"]))  # type: ignore[attr-defined]
        self.answer("role" if self.path.endswith("security-credentials/") else json.dumps({"Code": "Success", **KEYS}))

    def do_PUT(self) -> None:
        self.answer("token")

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.url, server.seen = f"http://127.0.0.1:{server.server_port}", []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


FULL, TOKEN = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"
TOKEN_FILE = f"{TOKEN}_FILE"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({FULL: "{url}/one"}, {FULL: "{url}/two"}),
        ({FULL: "{url}/one", TOKEN_FILE: "{tmp}/a"}, {FULL: "{url}/one", TOKEN_FILE: "{tmp}/b"}),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}/"}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}/two/"}),
    ],
)
def test_a_machine_is_known_by_what_it_requests(
    sts: StsStub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    metadata: Any,
    first: dict[str, str],
    second: dict[str, str],
) -> None:
    """A container or instance uses its own entries again, and not those of one with another endpoint or token."""
    cache: dict[str, Any] = {}
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    for settings, calls in ((first, 1), (first, 1), (second, 2)):
        for name in first:
            monkeypatch.setenv(name, settings[name].format(url=metadata.url, tmp=tmp_path))
        key(assume_role(boto3.Session(region_name="us-east-1"), HUB, cache=cache))
        assert len(sts.assumed) == calls
    assert metadata.seen


def test_a_container_whose_token_changes_is_known_as_itself(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, metadata: Any
) -> None:
    """With a container's token in the environment, keys that were requested with another token are not shared."""
    cache: dict[str, Any] = {}
    monkeypatch.setenv(FULL, metadata.url)
    for token in ("alice", "bob"):
        monkeypatch.setenv(TOKEN, token)
        parent = boto3.Session(region_name="us-east-1")
        parent.get_credentials()
        monkeypatch.setenv(TOKEN, "bob")
        key(assume_role(parent, HUB, cache=cache))
    assert len(sts.assumed) == 2


@pytest.mark.parametrize("overridden", ["client", "create_client"])
def test_an_endpoint_that_a_subclass_injects_is_another_identity(sts: StsStub, overridden: str) -> None:
    """Keys granted by an endpoint that a session's own class adds are not used by a plain session."""
    cache: dict[str, Any] = {}

    class Own(boto3.Session):
        def client(self, *args: Any, **kwargs: Any) -> Any:
            return super().client(*args, **{**kwargs, "endpoint_url": other.url})

    class OwnBotocore(botocore.session.Session):
        def create_client(self, *args: Any, **kwargs: Any) -> Any:
            return super().create_client(*args, **{**kwargs, "endpoint_url": other.url})

    def parent(kind: type[boto3.Session] = boto3.Session, session: Any = None) -> boto3.Session:
        return kind("AKIAROOT", "s", region_name="us-east-1", botocore_session=session)

    with StsStub() as other:
        own = parent(Own) if overridden == "client" else parent(session=OwnBotocore())
        key(assume_role(own, HUB, cache=cache))
        key(assume_role(parent(), HUB, cache=cache))
        assert (len(other.assumed), len(sts.assumed)) == (1, 1)


def test_fetchers_of_a_programs_own_are_known_by_their_urls(sts: StsStub, metadata: Any) -> None:
    """Credentials that a program makes of botocore's metadata fetchers share no entry with those of another URL."""
    cache: dict[str, Any] = {}
    container = botocore.utils.ContainerMetadataFetcher()

    def parent(refresh: Callable[[], Any]) -> boto3.Session:
        made = boto3.Session(region_name="us-east-1")
        credentials = {"access_key": "AKIAROOT", "secret_key": "s", "token": "t", "expiry_time": KEYS["Expiration"]}
        made._session._credentials = RefreshableCredentials.create_from_metadata(credentials, refresh, "iam-role")
        return made

    for number in range(2):
        fetcher = botocore.utils.InstanceMetadataFetcher(base_url=f"{metadata.url}/{number}/")
        key(assume_role(parent(fetcher.retrieve_iam_role_credentials), HUB, cache=cache))
        url = f"{metadata.url}/{number}"
        key(assume_role(parent(lambda url=url: container.retrieve_full_uri(url)), HUB, cache=cache))  # type: ignore[misc]
    assert len(sts.assumed) == 4


def test_a_single_sign_on_is_known_by_its_account_and_role(config: Path) -> None:
    """Two sessions of a profile that signs in once have one identity, and another account's is another."""
    found = []
    for account in ("111111111111", "111111111111", "222222222222"):
        config.write_text(
            "[profile p]\nsso_start_url = https://one.example\nsso_region = us-east-1\nsso_role_name = Reader\n"
            f"sso_account_id = {account}\n"
        )
        found.append(identity(boto3.Session(profile_name="p")))
    assert found[0] == found[1] != found[2]
    assert "SSO" in str(found)


def test_a_login_is_known_by_its_session(parent: boto3.Session) -> None:
    """Credentials of ``aws login`` are identified by the session that was logged in."""
    kind = getattr(botocore.credentials, "LoginCredentialFetcher", None)
    if kind is None:
        pytest.skip("this botocore has no aws login")

    def of(name: str) -> Any:
        fetcher = kind(session_name=name, token_loader=None, client_creator=parent._session.create_client)
        return identity_of(RefreshableCredentials("A", "s", "t", None, fetcher.refresh_credentials, "login"))

    assert of("one") == of("one") != of("two")
    assert "Login" in str(of("one"))


def test_fetchers_with_a_programs_own_parts_are_known_as_themselves(parent: boto3.Session) -> None:
    """A fetcher that calls a program's own client or token loader, or is of its own class, shares nothing."""

    class Own(AssumeRoleCredentialFetcher):
        pass

    create, source = parent._session.create_client, parent.get_credentials()
    fetchers = [
        AssumeRoleCredentialFetcher(lambda *args, **kwargs: create(*args, **kwargs), source, HUB),
        AssumeRoleWithWebIdentityCredentialFetcher(create, lambda: "token", HUB),
        Own(create, source, HUB),
    ]
    for fetcher in fetchers:
        credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
        assert identity_of(credentials)[0] == "this"
    provider = botocore.credentials.ContainerProvider({}, fetcher=object())
    refresh = provider._create_fetcher("http://127.0.0.1", None)
    assert identity_of(DeferredRefreshableCredentials(refresh, "container-role"))[0] == "this"


def test_keys_of_the_environment_with_an_expiry_are_static(sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AWS_CREDENTIAL_EXPIRATION, a second run finds the entry of the first, and other keys do not."""
    cache: dict[str, Any] = {}
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    for name, calls in (("AKIAONE", 1), ("AKIAONE", 1), ("AKIATWO", 2)):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
        key(assume_role(boto3.Session(region_name="us-east-1"), HUB, cache=cache))
        assert len(sts.assumed) == calls


def test_a_call_through_another_endpoint_is_another_identity(sts: StsStub, config: Path) -> None:
    """Roles of two profiles that differ only in where botocore calls STS for them share no entry."""
    cache: dict[str, Any] = {}
    with StsStub() as other:
        for stub in (sts, other):
            config.write_text(
                f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\nregion = us-east-1\nendpoint_url = {stub.url}\n"
                f"[profile s]\n{keys('A')}"
            )
            source = boto3.Session(profile_name="p").get_credentials()
            parent = boto3.Session(region_name="us-east-1")
            parent._session._credentials = source
            key(assume_role(parent, SPOKE, cache=cache))
    assert len(cache) == 2


@pytest.mark.parametrize("through", ["environment", "profile", "config", "default config"])
def test_ignored_endpoints_are_not_those_that_are_used(
    config: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """Keys that a configured endpoint granted are not used by a session that ignores configured endpoints."""
    cache: dict[str, Any] = {}

    def role(ignores: bool) -> boto3.Session:
        setting = "ignore_configured_endpoint_urls = true\n" if ignores and through == "profile" else ""
        config.write_text(f"[profile p]\nregion = us-east-1\n{keys('ROOT')}{setting}")
        parent = boto3.Session(profile_name="p")
        own = Config(ignore_configured_endpoint_urls=ignores)
        if through == "environment" and ignores:
            monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
        if through == "default config":
            parent._session.set_default_client_config(own)
        # AWS's STS cannot be reached here: a handler answers for it.
        parent.events.register("before-send.sts.AssumeRole", answer)
        options = {"config": own} if through == "config" else None
        return assume_role(parent, HUB, cache=cache, sts_client_kwargs=options)

    def answer(request: Any, **_: Any) -> Any:
        if "amazonaws.com" in request.url:
            raise EndpointConnectionError(endpoint_url=request.url)

    with StsStub() as local:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", local.url)
        key(role(ignores=False))
        with pytest.raises(EndpointConnectionError):
            key(role(ignores=True))


def test_an_endpoint_that_changes_while_a_parent_lives(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, clock: time_machine.Traveller, parent: boto3.Session
) -> None:
    """A parent whose endpoint setting changes calls the new endpoint, and caches its keys under the new one's name."""
    cache: dict[str, Any] = {}
    key(assume_role(parent, HUB, cache=cache))
    with StsStub() as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", other.url)
        key(assume_role(parent, HUB, cache=cache))
        assert (len(sts.assumed), len(other.assumed), len(cache)) == (1, 1, 2)


@dataclasses.dataclass(eq=True)
class Equal:
    """Credentials of a class whose objects are equal, whatever their keys are."""

    access_key: str = dataclasses.field(compare=False)
    secret_key: str = dataclasses.field(default="s", compare=False)
    token: str | None = dataclasses.field(default=None, compare=False)
    account_id: str | None = dataclasses.field(default=None, compare=False)

    def get_frozen_credentials(self) -> Any:
        return self

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name)


def test_equal_credentials_are_not_the_same(sts: StsStub) -> None:
    """After a parent is given other credentials that compare equal, its roles are assumed with the new ones."""
    parent = boto3.Session(region_name="us-east-1")
    for name in ("AKIAONE", "AKIATWO"):
        parent._session._credentials = Equal(name)
        assert sts.issued[key(assume_role(parent, HUB))].by == name


@pytest.mark.parametrize("through", ["keys of its own", "a fetcher"])
def test_credentials_put_into_a_session_of_a_profile_are_not_the_profiles(
    sts: StsStub, config: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """Credentials that were set on a session share no entry with other credentials of the same profile."""
    config.write_text(
        f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\nregion = us-east-1\n[profile s]\n{keys('A')}"
    )
    monkeypatch.setenv("AWS_PROFILE", "p")
    cache: dict[str, Any] = {}

    def session_of(role: str) -> boto3.Session:
        root = boto3.Session("AKIAROOT", "s", region_name="us-east-1")
        made = boto3.Session()
        fetcher = AssumeRoleCredentialFetcher(root._session.create_client, root.get_credentials(), role)
        refresh = fetcher.fetch_credentials if through == "a fetcher" else lambda: fetcher.fetch_credentials()
        made._session._credentials = DeferredRefreshableCredentials(refresh, "assume-role")
        return made

    one = key(assume_role(session_of(HUB), SPOKE, cache=cache))
    two = key(assume_role(session_of("arn:aws:iam::333333333333:role/Other"), SPOKE, cache=cache))
    assert sts.issued[sts.issued[one].by].role_arn == HUB
    assert sts.issued[sts.issued[two].by].role_arn == "arn:aws:iam::333333333333:role/Other"


def test_a_profile_of_the_environment_is_the_one_that_was_loaded(
    sts: StsStub, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's identity does not change if AWS_PROFILE changes before the first use."""
    roots = {"a": HUB, "b": "arn:aws:iam::333333333333:role/Other"}
    config.write_text(
        "".join(
            f"[profile {name}]\nrole_arn = {role}\nsource_profile = s\nregion = us-east-1\n"
            for name, role in roots.items()
        )
        + f"[profile s]\n{keys('A')}"
    )
    cache: dict[str, Any] = {}
    children = []
    for name in roots:
        monkeypatch.setenv("AWS_PROFILE", name)
        children.append(assume_role(boto3.Session(), SPOKE, cache=cache))
    for child, role in zip(children, roots.values(), strict=True):
        assert sts.issued[sts.issued[key(child)].by].role_arn == role


def test_endpoints_of_the_profile_keep_stores_apart(config: Path) -> None:
    """The same keys at two stores, each configured in a profile, are two identities."""
    cache: dict[str, Any] = {}
    with StsStub() as one, StsStub() as two:
        config.write_text(
            "".join(
                f"[profile {name}]\nregion = us-east-1\nendpoint_url = {store.url}\n{keys('SAME')}"
                for name, store in (("one", one), ("two", two))
            )
        )
        for name in ("one", "two"):
            key(assume_role(boto3.Session(profile_name=name), HUB, cache=cache))
        assert len(one.assumed) == len(two.assumed) == 1


@pytest.mark.parametrize(("before", "after"), [("AKIAONE", "AKIAOTHER"), ("AKIAOTHER", "AKIAONE")])
def test_credentials_replaced_on_the_way_leave_no_entry(sts: StsStub, before: str, after: str) -> None:
    """A response that arrives while the parent's credentials are replaced is used, but cached for neither identity."""
    cache: dict[str, Any] = {}
    parent = boto3.Session(before, "s", region_name="us-east-1")
    parent.events.register("after-call.sts.AssumeRole", lambda **_: parent._session.set_credentials(after, "s"))
    key(assume_role(parent, HUB, cache=cache))
    assert cache == {}


def test_credentials_replaced_above_a_hub_in_use(sts: StsStub, clock: time_machine.Traveller) -> None:
    """Until a hub refreshes, its keys belong to whoever assumed it, and so do the entries of roles that it assumes."""

    def spoke_of(access_key: str) -> boto3.Session:
        hub = assume_role(boto3.Session(access_key, "s", region_name="us-east-1"), HUB)
        return assume_role(hub, SPOKE, cache=cache)

    cache: dict[str, Any] = {}
    parent = boto3.Session("AKIAONE", "s", region_name="us-east-1")
    hub = assume_role(parent, HUB)
    key(hub)
    parent._session.set_credentials("AKIAOTHER", "s")
    spoke = assume_role(hub, SPOKE, cache=cache)
    first = key(spoke)
    assert key(spoke_of("AKIAONE")) == first
    assert key(spoke_of("AKIAOTHER")) != first

    clock.shift(3600)
    second = key(spoke)
    assert key(spoke_of("AKIAOTHER")) == second
    assert key(spoke_of("AKIAONE")) != second


def test_credentials_replaced_above_a_hub_that_has_expired(sts: StsStub, clock: time_machine.Traveller) -> None:
    """Once a hub's keys have expired, the entries of roles that it assumes belong to its parent's new credentials."""
    cache: dict[str, Any] = {}
    parent = boto3.Session("AKIAONE", "s", region_name="us-east-1")
    hub = assume_role(parent, HUB)
    key(hub)
    clock.shift(40 * 60)
    first = key(assume_role(hub, SPOKE, cache=cache))
    parent._session.set_credentials("AKIAOTHER", "s")
    clock.shift(25 * 60)
    second = key(assume_role(hub, SPOKE, cache=cache))
    assert [sts.issued[sts.issued[each].by].by for each in (first, second)] == ["AKIAONE", "AKIAOTHER"]


@pytest.mark.parametrize(("before", "after"), [("AKIAONE", "AKIAOTHER"), ("AKIAOTHER", "AKIAONE")])
def test_credentials_replaced_below_a_hub_on_the_way(sts: StsStub, before: str, after: str) -> None:
    """If it is not known who assumed a hub, the credentials of roles that it assumes are not shared."""
    cache: dict[str, Any] = {}

    def spoke_of(parent: boto3.Session, code: Callable[[], str]) -> boto3.Session:
        hub = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=code)
        key(hub)
        return assume_role(hub, SPOKE, cache=cache)

    def replace() -> str:
        parent._session.set_credentials(after, "s")
        return "123456"

    parent = boto3.Session(before, "s", region_name="us-east-1")
    keys = [key(spoke_of(parent, replace))]
    for access_key in (before, after):
        keys.append(key(spoke_of(boto3.Session(access_key, "s", region_name="us-east-1"), lambda: "123456")))
    assert [sts.issued[sts.issued[each].by].by for each in keys] == [after, before, after]
    assert len(set(keys)) == 3


def test_credentials_replaced_above_a_hub_that_refreshes(sts: StsStub, clock: time_machine.Traveller) -> None:
    """Credentials obtained with a hub's old keys, while the hub is being refreshed, are cached under those keys."""
    cache: dict[str, Any] = {}
    parent = boto3.Session("AKIAONE", "s", region_name="us-east-1")
    hub = assume_role(parent, HUB)
    spoke = assume_role(hub, SPOKE, cache=cache)
    key(hub)
    parent._session.set_credentials("AKIAOTHER", "s")
    found: list[str] = []

    def use(**_: Any) -> None:
        found.append("")
        if len(found) == 1:
            found[0] = key(spoke)

    parent.events.register("before-call.sts.AssumeRole", use)
    clock.shift(50 * 60)
    key(hub)
    other = assume_role(boto3.Session("AKIAOTHER", "s", region_name="us-east-1"), HUB)
    assert sts.issued[sts.issued[found[0]].by].by == "AKIAONE"
    assert key(assume_role(other, SPOKE, cache=cache)) != found[0]


def test_a_parent_that_cannot_be_told_from_others(sts: StsStub, caplog: pytest.LogCaptureFixture) -> None:
    """Credentials whose fetcher, unlike botocore's, does not identify itself share no entries, and none are lost."""

    class Fetcher(CachedCredentialFetcher):
        def __init__(self) -> None:
            pass

        def fetch_credentials(self) -> dict[str, str]:
            expiry = datetime.now(timezone.utc) + timedelta(hours=1)
            return {"access_key": "AKIAONE", "secret_key": "s", "token": "t", "expiry_time": expiry.isoformat()}

    cache: dict[str, Any] = {}
    keys = []
    for _ in range(2):
        parent = boto3.Session(region_name="us-east-1")
        parent._session._credentials = DeferredRefreshableCredentials(Fetcher().fetch_credentials, "other")
        keys += [key(assume_role(parent, SPOKE, cache=cache)) for _ in range(2)]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert caplog.messages == []


class Own(Credentials):
    """Credentials of a custom class."""


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda credentials: pickle.loads(pickle.dumps(credentials)),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_credentials_is_somebody_else(sts: StsStub, how: str) -> None:
    """A copy of a custom credentials object that was given other keys shares no entry with the original."""
    cache: dict[str, Any] = {}

    def role_of(credentials: Any) -> str:
        parent = boto3.Session(region_name="us-east-1")
        parent._session._credentials = credentials
        return sts.issued[key(assume_role(parent, HUB, cache=cache))].by

    alice = Own("AKIAALICE", "s")
    assert role_of(alice) == "AKIAALICE"
    bob = COPIES[how](alice)
    bob.access_key = "AKIABOB"
    assert role_of(bob) == "AKIABOB"
    assert role_of(alice) == "AKIAALICE"
    assert len(sts.assumed) == 2


def test_other_keys_on_the_same_object_are_somebody_else(sts: StsStub) -> None:
    """After new keys are set on a custom credentials object, the entry of the old keys is not found."""
    cache: dict[str, Any] = {}
    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = Own("AKIAALICE", "s")
    signers = []
    for name in ("AKIAALICE", "AKIABOB", "AKIAALICE"):
        parent.get_credentials().access_key = name
        signers.append(sts.issued[key(assume_role(parent, HUB, cache=cache))].by)
    assert signers == ["AKIAALICE", "AKIABOB", "AKIAALICE"]
    assert len(sts.assumed) == 2


def test_credentials_whose_keys_cannot_be_seen_share_nothing(sts: StsStub) -> None:
    """Credentials of a class without a dictionary work like any other, without shared entries."""

    class Slotted:
        __slots__ = ("access_key", "account_id", "secret_key", "token")

        def __init__(self) -> None:
            self.access_key, self.secret_key, self.token, self.account_id = "AKIAROOT", "s", None, None

        def get_frozen_credentials(self) -> Any:
            return self

        def get_deferred_property(self, name: str) -> Any:
            return lambda: getattr(self, name)

    cache: dict[str, Any] = {}
    parent = boto3.Session(region_name="us-east-1")
    parent._session._credentials = Slotted()
    assert key(assume_role(parent, HUB, cache=cache)) != key(assume_role(parent, HUB, cache=cache))


def test_a_copied_session_with_other_credentials_signs_as_itself(sts: StsStub, parent: boto3.Session) -> None:
    """A copy of a botocore session, given other credentials, does not call STS through the original's client."""
    key(assume_role(parent, HUB))
    other = boto3.Session(botocore_session=copy.copy(parent._session))
    other._session.set_credentials("AKIAOTHER", "s")
    assert sts.issued[key(assume_role(other, HUB))].by == "AKIAOTHER"


@pytest.mark.parametrize("others", [("wrong-secret", None), ("root-secret", "token")])
def test_an_access_key_id_alone_opens_no_entry(
    sts: StsStub, parent: boto3.Session, others: tuple[str, str | None]
) -> None:
    """Knowing a parent's access key ID, but not its secret key and token, gives no access to its cached keys."""
    cache: dict[str, Any] = {}
    before = key(assume_role(parent, HUB, cache=cache))
    stranger = boto3.Session("AKIAROOT", *others, region_name="us-east-1")
    assert key(assume_role(stranger, HUB, cache=cache)) != before
    assert len(sts.assumed) == 2


class Counted(dict[str, Any]):
    reads = 0

    def __contains__(self, entry: object) -> bool:
        self.reads += 1
        return super().__contains__(entry)


@pytest.mark.parametrize(("changes", "digit"), [(False, "0"), (True, "0"), (True, "f")])
def test_keys_of_another_session_are_taken_only_from_the_same_identity(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, parent: boto3.Session, changes: bool, digit: str
) -> None:
    """A session that waits for the call of another one with the same entry calls STS itself if that one changed."""
    # Keys that cannot be shared are named by one, which sorts before or after every digest.
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(hex=32 * digit))
    cache = Counted()
    other = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    sts.gate.clear()
    first = later(lambda: key(assume_role(parent, HUB, cache=cache)))
    assert sts.arrived.acquire(timeout=HANG)
    second = later(lambda: key(assume_role(other, HUB, cache=cache)))
    wait_until(lambda: waiting_threads() == 1)
    reads = cache.reads
    if changes:
        parent._session.set_credentials("AKIAOTHER", "s")
    sts.gate.set()
    assert (first.result(HANG) != second.result(HANG)) is changes
    assert len(sts.assumed) == 1 + changes
    assert cache.reads == reads + changes
    assert len(cache) == 1


def test_a_copy_of_credentials_refreshes_on_its_own(sts: StsStub, parent: boto3.Session) -> None:
    """A copy of a role's credentials, used during the original's refresh, gets keys from a separate AssumeRole."""
    original = assume_role(parent, HUB).get_credentials()
    copied = copy.copy(original)
    sts.gate.clear()
    first = later(original.get_frozen_credentials)
    assert sts.arrived.acquire(timeout=HANG)
    second = later(copied.get_frozen_credentials)
    assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert {future.result(HANG).access_key for future in (first, second)} == set(sts.issued)
    assert len(sts.assumed) == 2
