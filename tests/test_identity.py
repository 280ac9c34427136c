"""A cache identifies a parent by what botocore's own providers used, and never confuses it with another."""

from __future__ import annotations

import copy
import pickle
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import botocore.session
import botocore.utils
import pytest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import ClientError
from conftest import HANG, HUB, SPOKE, Equal, NotSent, do_not_send, key, later, wait_until, waiting_threads
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role
from aws_assume_role_lib._identity import identity_of


@pytest.fixture
def config(tmp_path) -> Path:
    return tmp_path / "config"


def user(access_key: str, secret_key: str = "s", token: str | None = None) -> boto3.Session:
    return boto3.Session(access_key, secret_key, token, region_name="us-east-1")


def with_credentials(credentials: Any) -> boto3.Session:
    session = boto3.Session(region_name="us-east-1")
    session._session._credentials = credentials
    return session


def keys(name: str) -> str:
    return f"aws_access_key_id = AKIA{name}\naws_secret_access_key = s\n"


EXPIRES = "2099-01-01T00:00:00Z"
ANSWER = f"'SecretAccessKey': 's', 'SessionToken': 't', 'Expiration': '{EXPIRES}', 'Version': 1"
NEW_KEYS = f"import json, uuid; print(json.dumps({{'AccessKeyId': 'AKIA' + uuid.uuid4().hex, {ANSWER}}}))"
PROCESS = f'credential_process = "{sys.executable}" -c "{NEW_KEYS}" VALUE\n'
ROLE = f"[profile p]\nrole_arn = {HUB}\nsource_profile = s\n"
SIGN_ON = (
    "sso_start_url = https://one.example\nsso_region = us-east-1\nsso_role_name = Reader\nsso_account_id = VALUE\n"
)

# The config file, and two values in it that make two identities.
PARENTS = {
    "role": (f"[profile p]\nrole_arn = VALUE\nsource_profile = s\n[profile s]\n{keys('A')}", HUB, SPOKE),
    "source of a role": (f"{ROLE}[profile s]\n{keys('VALUE')}", "ONE", "TWO"),
    "MFA device of a role": (f"{ROLE}mfa_serial = VALUE\n[profile s]\n{keys('A')}", "one-device", "two-device"),
    "endpoint of a role": (f"{ROLE}endpoint_url = VALUE\n[profile s]\n{keys('A')}", "http://one", "http://two"),
    "environment": (f"[profile p]\nrole_arn = {HUB}\ncredential_source = Environment\n", "AKIAONE", "AKIATWO"),
    "process": (f"[profile p]\n{PROCESS}", "one", "two"),
    "process of a role": (f"{ROLE}[profile s]\n{PROCESS}", "one", "two"),
    "web identity": ("[profile p]\nrole_arn = VALUE\nweb_identity_token_file = /token\n", HUB, SPOKE),
    "single sign-on": (f"[profile p]\n{SIGN_ON}", "111111111111", "222222222222"),
}


@pytest.mark.parametrize(("settings", "one", "other"), PARENTS.values(), ids=PARENTS)
def test_a_profile_is_known_by_what_it_requests(sts, config, monkeypatch, settings, one, other):
    """Two sessions of a profile have one identity, whatever keys they are given; other settings make another."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found = []
    for value in (one, one, other):
        config.write_text(settings.replace("VALUE", value))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", value)  # only credential_source takes it from there
        found.append(identity_of(boto3.Session(profile_name="p").get_credentials()))
    assert found[0] == found[1] != found[2]
    assert sts.requests == []


@pytest.mark.parametrize("relative", [False, True])
def test_a_web_identity_is_known_by_its_token(sts, config, tmp_path, monkeypatch, relative):
    """Two profiles with one role and two token files share no entry, even if STS refuses the second one's token."""
    cache: dict[str, Any] = {}

    def role_of(name: str) -> boto3.Session:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("token").write_text("token")
        file = "token" if relative else tmp_path / name / "token"
        config.write_text(f"[default]\nregion = us-east-1\nrole_arn = {HUB}\nweb_identity_token_file = {file}\n")
        return assume_role(boto3.Session(), SPOKE, cache=cache)

    key(role_of("alice"))
    sts.fault = Fault.error(400, "InvalidIdentityToken", everything=True)
    with pytest.raises(ClientError, match="InvalidIdentityToken"):
        key(role_of("bob"))


FULL, TOKEN = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"
INSTANCE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
OF_KEYS = {"AWS_CREDENTIAL_EXPIRATION": EXPIRES, "AWS_SECRET_ACCESS_KEY": "s"}

# The environment of two sessions, and of a third, and how many AssumeRole calls there have been after each.
MACHINES = {
    "container": ({FULL: "{url}/one"}, {FULL: "{url}/two"}, [1, 1, 2]),
    "its token file": ({FULL: "{url}", f"{TOKEN}_FILE": "{tmp}/a"}, {f"{TOKEN}_FILE": "{tmp}/b"}, [1, 1, 2]),
    "another token in its file": ({FULL: "{url}", f"{TOKEN}_FILE": "{tmp}/a"}, {}, [1, 1, 2]),
    # The current keys may have been requested with another token.
    "its token": ({FULL: "{url}", TOKEN: "alice"}, {TOKEN: "bob"}, [1, 2, 3]),
    "instance": ({INSTANCE: "{url}/"}, {INSTANCE: "{url}/two/"}, [1, 1, 2]),
    # botocore makes them refreshable.
    "keys with an expiry": ({"AWS_ACCESS_KEY_ID": "ONE", **OF_KEYS}, {"AWS_ACCESS_KEY_ID": "TWO"}, [1, 1, 2]),
}


@pytest.mark.parametrize(("first", "second", "calls"), MACHINES.values(), ids=MACHINES)
def test_a_machine_is_known_by_what_it_requests(sts, monkeypatch, tmp_path, metadata, first, second, calls):
    """A container, instance or environment uses its own entries again, and not those of another one."""
    cache: dict[str, Any] = {}
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    counts = []
    for settings in (first, first, second):
        if settings is second:
            (tmp_path / "a").write_text("another")
        for name, value in settings.items():
            monkeypatch.setenv(name, value.format(url=metadata, tmp=tmp_path))
        key(assume_role(boto3.Session(region_name="us-east-1"), HUB, cache=cache))
        counts.append(len(sts.assumed))
    assert counts == calls


def test_fetchers_of_a_programs_own_are_known_by_their_urls(sts, metadata):
    """Credentials that a program makes of botocore's metadata fetchers share no entry with those of another URL."""
    cache: dict[str, Any] = {}
    container = botocore.utils.ContainerMetadataFetcher()
    for number in range(2):
        url = f"{metadata}/{number}"
        instance = botocore.utils.InstanceMetadataFetcher(base_url=f"{url}/")
        for refresh in (instance.retrieve_iam_role_credentials, lambda url=url: container.retrieve_full_uri(url)):
            credentials = {"access_key": "AKIAROOT", "secret_key": "s", "token": "t", "expiry_time": EXPIRES}
            parent = with_credentials(RefreshableCredentials.create_from_metadata(credentials, refresh, "iam-role"))
            key(assume_role(parent, HUB, cache=cache))
    assert len(sts.assumed) == 4


def test_a_login_is_known_by_its_session(parent):
    """Credentials of ``aws login`` are identified by the session that was logged in."""
    kind = getattr(botocore.credentials, "LoginCredentialFetcher", None)
    if kind is None:
        pytest.skip("this botocore has no aws login")

    def of(name: str) -> Any:
        fetcher = kind(session_name=name, token_loader=None, client_creator=parent._session.create_client)
        return identity_of(RefreshableCredentials("A", "s", "t", None, fetcher.refresh_credentials, "login"))

    assert of("one") == of("one") != of("two")


def test_fetchers_with_a_programs_own_parts_are_known_as_themselves(parent):
    """A fetcher that calls a program's own function or token loader, or is of its own class, shares nothing."""

    class Own(AssumeRoleCredentialFetcher):
        pass

    session, source = parent._session, parent.get_credentials()
    create = session.create_client
    fetcher = AssumeRoleCredentialFetcher(create, source, HUB)
    refreshers = [
        lambda: fetcher.fetch_credentials(),
        AssumeRoleCredentialFetcher(
            lambda *args, **kwargs: session.create_client(*args, **kwargs), source, HUB
        ).fetch_credentials,
        AssumeRoleWithWebIdentityCredentialFetcher(create, lambda: "token", HUB).fetch_credentials,
        Own(create, source, HUB).fetch_credentials,
        botocore.credentials.ContainerProvider({}, fetcher=object())._create_fetcher("http://127.0.0.1", None),
    ]
    for refresher in refreshers:
        assert identity_of(DeferredRefreshableCredentials(refresher, "assume-role"))[0] == "this"


@pytest.mark.parametrize("method", ["custom", "assume-role", "sso", "container-role"])
def test_a_label_proves_nothing(sts, method):
    """Refreshable credentials set on a session by hand share entries with themselves only, whatever their method."""
    cache: dict[str, Any] = {}

    def parent(name: str) -> boto3.Session:
        keys = {"access_key": name, "secret_key": "s", "token": "t", "expiry_time": EXPIRES}
        return with_credentials(RefreshableCredentials.create_from_metadata(keys, dict, method))

    one, two, again = map(parent, ("AKIAONE", "AKIATWO", "AKIAONE"))
    for each in (one, one, two, again):
        key(assume_role(each, HUB, cache=cache))
    assert [request.access_key for request in sts.assumed] == ["AKIAONE", "AKIATWO", "AKIAONE"]


# Endpoints


@pytest.mark.parametrize("overridden", ["client", "create_client"])
def test_an_endpoint_that_a_subclass_injects_is_another_identity(sts, overridden):
    """Keys granted by an endpoint that a session's own class adds are not used by a plain session."""
    cache: dict[str, Any] = {}

    class Own(boto3.Session):
        def client(self, *args: Any, **kwargs: Any) -> Any:
            return super().client(*args, **{**kwargs, "endpoint_url": other.url})

    class OwnBotocore(botocore.session.Session):
        def create_client(self, *args: Any, **kwargs: Any) -> Any:
            return super().create_client(*args, **{**kwargs, "endpoint_url": other.url})

    kind = Own if overridden == "client" else boto3.Session
    inner = OwnBotocore() if overridden == "create_client" else None
    with StsStub() as other:
        key(assume_role(kind("AKIA", "s", region_name="us-east-1", botocore_session=inner), HUB, cache=cache))
        key(assume_role(user("AKIA"), HUB, cache=cache))
        assert (len(other.assumed), len(sts.assumed)) == (1, 1)


@pytest.mark.parametrize("through", ["environment", "profile", "config", "default config"])
def test_ignored_endpoints_are_not_those_that_are_used(config, monkeypatch, through):
    """Keys that a configured endpoint granted are not used by a session that ignores configured endpoints."""
    cache: dict[str, Any] = {}
    settings = f"[default]\nregion = us-east-1\n{keys('ROOT')}"
    config.write_text(settings)
    with StsStub() as local:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", local.url)
        key(assume_role(boto3.Session(), HUB, cache=cache))
    if through == "environment":
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    if through == "profile":
        config.write_text(f"{settings}ignore_configured_endpoint_urls = true\n")
    parent, ignoring = boto3.Session(), Config(ignore_configured_endpoint_urls=True)
    if through == "default config":
        parent._session.set_default_client_config(ignoring)
    parent.events.register("before-send.sts.AssumeRole", do_not_send)
    options = {"config": ignoring} if through == "config" else None
    with pytest.raises(NotSent, match="amazonaws"):
        key(assume_role(parent, HUB, cache=cache, sts_client_kwargs=options))


@pytest.mark.parametrize("through", ["profile", "sts_client_kwargs", "environment"])
def test_endpoints_keep_stores_apart(config, monkeypatch, through):
    """The same keys at two stores, each with its own endpoint, are two identities, even of one parent that lives."""
    cache: dict[str, Any] = {}
    living = user("SAME")
    with StsStub() as one, StsStub() as two:
        for store in (one, two):
            parent, options = living, None
            if through == "profile":
                config.write_text(f"[default]\nregion = us-east-1\n{keys('SAME')}endpoint_url = {store.url}")
                parent = boto3.Session()
            if through == "sts_client_kwargs":
                options = {"endpoint_url": store.url}
            if through == "environment":
                monkeypatch.setenv("AWS_ENDPOINT_URL_STS", store.url)
            key(assume_role(parent, HUB, cache=cache, sts_client_kwargs=options))
        assert len(one.assumed) == len(two.assumed) == 1


# Credentials that are replaced


def test_equal_credentials_are_not_the_same(sts):
    """After a parent is given other credentials that compare equal, its roles are assumed with the new ones."""
    parent = boto3.Session(region_name="us-east-1")
    for name in ("AKIAONE", "AKIATWO"):
        parent._session._credentials = Equal(name, "s")
        assert sts.issued[key(assume_role(parent, HUB))].by == name


def test_a_profile_of_the_environment_is_the_one_that_was_loaded(sts, config, monkeypatch):
    """The parent's identity does not change if AWS_PROFILE changes before the first use."""
    cache: dict[str, Any] = {}
    config.write_text(f"[profile ONE]\nregion = r\n{keys('ONE')}[profile TWO]\nregion = r\n{keys('TWO')}")
    children = []
    for name in ("ONE", "TWO"):
        monkeypatch.setenv("AWS_PROFILE", name)
        children.append(assume_role(boto3.Session(), SPOKE, cache=cache))
    assert [sts.issued[key(child)].by for child in children] == ["AKIAONE", "AKIATWO"]


# Either identity may come first when their digests are sorted.
BOTH_ORDERS = pytest.mark.parametrize(("before", "after"), [("AKIAONE", "AKIAOTHER"), ("AKIAOTHER", "AKIAONE")])


@BOTH_ORDERS
def test_credentials_replaced_on_the_way_leave_no_entry(sts, before, after):
    """A response that arrives while the parent's credentials are replaced is used, but cached for neither identity."""
    cache: dict[str, Any] = {}
    parent = user(before)
    parent.events.register("after-call.sts.AssumeRole", lambda **_: parent._session.set_credentials(after, "s"))
    key(assume_role(parent, HUB, cache=cache))
    assert cache == {}


def root_of(sts: StsStub, access_key: str) -> str:
    """Return who assumed the hub that assumed a role."""
    return sts.issued[sts.issued[access_key].by].by


def test_credentials_replaced_above_a_hub(sts, clock):
    """Until a hub's keys expire, they belong to whoever assumed it, as do the entries of roles that it assumes."""
    cache: dict[str, Any] = {}

    def spoke_of(hub: boto3.Session) -> str:
        return key(assume_role(hub, SPOKE, cache=cache))

    parent = user("AKIAONE")
    hub = assume_role(parent, HUB)
    key(hub)
    parent._session.set_credentials("AKIAOTHER", "s")
    clock.shift(40 * 60)
    first = spoke_of(hub)
    assert spoke_of(assume_role(user("AKIAONE"), HUB)) == first
    other = spoke_of(assume_role(user("AKIAOTHER"), HUB))
    clock.shift(25 * 60)
    assert spoke_of(hub) == other
    assert [root_of(sts, each) for each in (first, other)] == ["AKIAONE", "AKIAOTHER"]


@BOTH_ORDERS
def test_credentials_replaced_below_a_hub_on_the_way(sts, before, after):
    """If it is not known who assumed a hub, the credentials of roles that it assumes are not shared."""
    cache: dict[str, Any] = {}

    def spoke_of(parent: boto3.Session, code: Callable[[], str]) -> str:
        hub = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=code)
        key(hub)
        return key(assume_role(hub, SPOKE, cache=cache))

    def replace() -> str:
        parent._session.set_credentials(after, "s")
        return "123456"

    parent = user(before)
    keys = [spoke_of(parent, replace), *(spoke_of(user(name), lambda: "123456") for name in (before, after))]
    assert [root_of(sts, each) for each in keys] == [after, before, after]
    assert len(set(keys)) == 3


def test_credentials_replaced_above_a_hub_that_refreshes(sts, clock):
    """Credentials obtained with a hub's old keys, while the hub is being refreshed, are cached under those keys."""
    cache: dict[str, Any] = {}
    parent = user("AKIAONE")
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
    assert root_of(sts, found[0]) == "AKIAONE"
    assert key(assume_role(user("AKIAOTHER"), HUB).assume_role(SPOKE, cache=cache)) != found[0]


# Credentials of other classes, and copies


class Own(Credentials):
    """Credentials of a custom class, which only look static."""


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda credentials: pickle.loads(pickle.dumps(credentials)),
    "another": lambda credentials: Own(credentials.access_key, "s"),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_credentials_is_somebody_else(sts, how):
    """A custom credentials object shares entries with itself, but not with a copy, and not after its keys change."""
    cache: dict[str, Any] = {}
    alice = Own("AKIAALICE", "s")
    bob = COPIES[how](alice)

    def role_of(credentials: Any, name: str) -> str:
        credentials.access_key = name
        return key(assume_role(with_credentials(credentials), HUB, cache=cache))

    first = role_of(alice, "AKIAALICE")
    assert role_of(bob, "AKIAALICE") != first
    assert sts.issued[role_of(alice, "AKIABOB")].by == "AKIABOB"
    assert role_of(alice, "AKIAALICE") == first
    assert len(sts.assumed) == 3


def test_credentials_whose_keys_cannot_be_seen_share_nothing(sts):
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
    parent = with_credentials(Slotted())
    assert key(assume_role(parent, HUB, cache=cache)) != key(assume_role(parent, HUB, cache=cache))


def test_a_copied_session_with_other_credentials_signs_as_itself(sts, parent):
    """A copy of a botocore session, given other credentials, does not call STS through the original's client."""
    key(assume_role(parent, HUB))
    other = boto3.Session(botocore_session=copy.copy(parent._session))
    other._session.set_credentials("AKIAOTHER", "s")
    assert sts.issued[key(assume_role(other, HUB))].by == "AKIAOTHER"


@pytest.mark.parametrize("others", [("wrong-secret", None), ("root-secret", "token")])
def test_an_access_key_id_alone_opens_no_entry(sts, parent, others):
    """Knowing a parent's access key ID, but not its secret key and token, gives no access to its cached keys."""
    cache: dict[str, Any] = {}
    before = key(assume_role(parent, HUB, cache=cache))
    assert key(assume_role(user("AKIAROOT", *others), HUB, cache=cache)) != before


# Threads


class Counted(dict[str, Any]):
    reads = 0

    def __contains__(self, entry: object) -> bool:
        self.reads += 1
        return super().__contains__(entry)


@pytest.mark.parametrize(("changes", "digit"), [(False, "0"), (True, "0"), (True, "f")])
def test_keys_of_another_session_are_taken_only_from_the_same_identity(sts, monkeypatch, parent, changes, digit):
    """A session that waits for the call of another one with the same entry calls STS itself if that one changed."""
    # Keys that cannot be shared are named by one, which sorts before or after every digest.
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(hex=32 * digit))
    cache = Counted()
    other = user("AKIAROOT", "root-secret")
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


def test_a_copy_of_credentials_refreshes_on_its_own(sts, parent):
    """A copy of a role's credentials, used during the original's refresh, gets keys from a separate AssumeRole."""
    original = assume_role(parent, HUB).get_credentials()
    sts.gate.clear()
    waiting = []
    for credentials in (original, copy.copy(original)):
        waiting.append(later(credentials.get_frozen_credentials))
        assert sts.arrived.acquire(timeout=HANG)
    sts.gate.set()
    assert {future.result(HANG).access_key for future in waiting} == set(sts.issued)
    assert len(sts.assumed) == 2
