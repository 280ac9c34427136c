"""assume_role()'s cache is shared by equal requests of one identity, and by no others, and never gets in the way."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.credentials import Credentials, RefreshableCredentials
from conftest import HUB, SPOKE, key
from sts_stub import StsStub

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, JSONFileCache, assume_role


def session(access_key: str = "AKIAROOT", **arguments: Any) -> boto3.Session:
    return boto3.Session(access_key, "secret", region_name="us-east-1", **arguments)


def with_profile(name: str) -> boto3.Session:
    return boto3.Session(profile_name=name, region_name="us-east-1")


@pytest.fixture
def profiles(tmp_path: Path) -> Callable[[str], None]:
    def write(text: str) -> None:
        (tmp_path / "config").write_text(text)

    return write


def process(account: str) -> str:
    """A credential_process that returns new keys, with an expiry, on each run."""
    script = (
        "import json, uuid; print(json.dumps({'Version': 1, 'AccessKeyId': 'AKIA' + uuid.uuid4().hex, "
        f"'SecretAccessKey': '{account}', 'SessionToken': 't', 'Expiration': '2099-01-01T00:00:00Z'}}))"
    )
    return f'credential_process = "{sys.executable}" -c "{script}"'


def test_the_same_request_by_the_same_identity_is_one_assume_role(sts: StsStub) -> None:
    """Two sessions, from two parents with the same keys, share the credentials of one AssumeRole call."""
    cache: dict[str, Any] = {}
    assert key(assume_role(session(), HUB, cache=cache)) == key(assume_role(session(), HUB, cache=cache))
    assert len(sts.assumed) == 1


def test_the_account_id_comes_out_of_the_cache_too(sts: StsStub) -> None:
    """Cached credentials have the same account ID as fetched ones."""
    cache: dict[str, Any] = {}
    fetched, cached = (assume_role(session(), HUB, cache=cache).get_credentials() for _ in range(2))
    assert fetched.get_frozen_credentials() == cached.get_frozen_credentials()
    assert len(sts.assumed) == 1


def test_a_role_without_an_account_comes_out_of_the_cache_too(sts: StsStub) -> None:
    """On a store without accounts, roles are cached too, and their credentials have no account ID."""
    cache: dict[str, Any] = {}
    role = "arn:aws:iam:::role/Access"
    children = [assume_role(session(), role, cache=cache) for _ in range(2)]
    assert {key(child) for child in children} == {"ASIA0000000000000001"}
    for child in children:
        assert getattr(child.get_credentials().get_frozen_credentials(), "account_id", None) is None


def test_a_file_cache_is_shared_between_processes(sts: StsStub, tmp_path: Path) -> None:
    """A second process uses what the first one fetched."""
    code = (
        "import boto3, sys; from aws_assume_role_lib import assume_role, JSONFileCache; "
        "s = boto3.Session('AKIAROOT', 'secret', region_name='us-east-1'); "
        f"c = assume_role(s, {HUB!r}, cache=JSONFileCache(sys.argv[1])); "
        "print(c.get_credentials().get_frozen_credentials().access_key)"
    )
    keys = {
        subprocess.run([sys.executable, "-c", code, tmp_path / "c"], check=True, capture_output=True).stdout
        for _ in range(2)
    }
    assert len(keys) == 1
    assert len(sts.assumed) == 1


SAME = [
    ({"Tags": {"a": "1", "b": "2"}}, {"Tags": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]}),
    ({"Policy": {"Version": "2012-10-17", "Statement": []}}, {"Policy": '{"Statement": [], "Version": "2012-10-17"}'}),
    ({"PolicyArns": ["arn:aws:iam::aws:policy/A"]}, {"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/A"}]}),
    ({"DurationSeconds": 900}, {"DurationSeconds": timedelta(minutes=15)}),
    ({"ExternalId": "abc"}, {"additional_kwargs": {"ExternalId": "abc"}}),
    ({}, {"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME}),
    ({}, {"RoleSessionName": lambda: "instance-1"}),
    ({"RoleSessionName": lambda: "instance-1"}, {"RoleSessionName": lambda: "instance-2"}),
    ({"RoleSessionName": "me", "SourceIdentity": "me"}, {"SourceIdentity": "me"}),
    ({}, {"region_name": "eu-west-1"}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_requests_that_mean_the_same_share_an_entry(sts: StsStub, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Requests that differ only in form, or in options that are not sent to STS, share an entry."""
    cache: dict[str, Any] = {}
    assert key(assume_role(session(), HUB, cache=cache, **one)) == key(
        assume_role(session(), HUB, cache=cache, **other)
    )
    assert len(sts.assumed) == 1


DIFFERENT = [
    ({}, {"ExternalId": "abc"}),
    ({"ExternalId": "abc"}, {"ExternalId": "abd"}),
    ({"DurationSeconds": 900}, {"DurationSeconds": 901}),
    ({"RoleSessionName": "one"}, {"RoleSessionName": "two"}),
    ({"RoleSessionName": "one"}, {}),
    ({"Tags": {"a": "1"}}, {"Tags": {"a": "2"}}),
    ({"Tags": {"a": "1"}}, {"Tags": {"a": "1"}, "TransitiveTagKeys": ["a"]}),
    ({"Policy": {"Statement": []}}, {"Policy": {"Statement": {}}}),
    ({"SourceIdentity": "one"}, {"SourceIdentity": "two"}),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_requests_that_differ_share_nothing(sts: StsStub, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Any difference in the request to STS makes a separate entry."""
    cache: dict[str, Any] = {}
    assert key(assume_role(session(), HUB, cache=cache, **one)) != key(
        assume_role(session(), HUB, cache=cache, **other)
    )
    assert len(cache) == 2


def test_parents_with_other_keys_share_nothing(sts: StsStub) -> None:
    """Credentials that one access key obtained are not given to another."""
    cache: dict[str, Any] = {}
    key(assume_role(session("AKIAONE"), HUB, cache=cache))
    key(assume_role(session("AKIATWO"), HUB, cache=cache))
    assert [request.access_key for request in sts.assumed] == ["AKIAONE", "AKIATWO"]


def test_the_same_role_through_two_hubs_is_two_entries(sts: StsStub) -> None:
    """A role's identity includes the role that assumed it, and so on through the whole chain."""
    cache: dict[str, Any] = {}
    for hub in (HUB, SPOKE):
        key(assume_role(session(), hub).assume_role(SPOKE, cache=cache))
    assert len(cache) == 2


def test_an_sts_elsewhere_is_another_identity(sts: StsStub) -> None:
    """Keys of one store mean nothing to another, so different endpoints never share an entry."""
    cache: dict[str, Any] = {}
    with StsStub() as other:
        for url in (sts.url, other.url):
            key(assume_role(session(), HUB, cache=cache, sts_client_kwargs={"endpoint_url": url}))
        assert len(sts.assumed) == len(other.assumed) == 1


def test_a_provider_whose_keys_change_keeps_its_entries(sts: StsStub, profiles: Callable[[str], None]) -> None:
    """A profile's identity is its settings, so a second session with other keys finds the entry."""
    profiles(f"[profile one]\n{process('1')}\n[profile two]\n{process('2')}\n")
    cache: dict[str, Any] = {}
    assert key(assume_role(with_profile("one"), HUB, cache=cache)) == key(
        assume_role(with_profile("one"), HUB, cache=cache)
    )
    assert len(sts.assumed) == 1
    key(assume_role(with_profile("two"), HUB, cache=cache))
    assert len(sts.assumed) == 2


def test_an_entry_is_of_who_the_parent_was_at_the_call(
    sts: StsStub, profiles: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If AWS_PROFILE changes before the first use, the entry is not left for the new profile."""
    profiles(f"[profile one]\n{process('1')}\n[profile two]\n{process('2')}\n")
    cache: dict[str, Any] = {}
    monkeypatch.setenv("AWS_PROFILE", "one")
    child = assume_role(boto3.Session(region_name="us-east-1"), HUB, cache=cache)
    monkeypatch.setenv("AWS_PROFILE", "two")
    assert key(child) != key(assume_role(boto3.Session(region_name="us-east-1"), HUB, cache=cache))


def test_a_role_of_a_profile_keeps_its_entries(sts: StsStub, profiles: Callable[[str], None]) -> None:
    """A parent whose profile assumes a role is identified by that role and by the credentials that assume it."""
    profiles(f"[profile base]\n{process('1')}\n[profile one]\nrole_arn = {HUB}\nsource_profile = base\n")
    cache: dict[str, Any] = {}
    assert key(assume_role(with_profile("one"), SPOKE, cache=cache)) == key(
        assume_role(with_profile("one"), SPOKE, cache=cache)
    )


def test_a_profile_that_now_says_otherwise_is_another_identity(sts: StsStub, profiles: Callable[[str], None]) -> None:
    """Entries are no longer used once the profile, or one that it takes credentials from, has been edited."""
    cache: dict[str, Any] = {}
    for account in ("1", "2"):
        profiles(
            f"[profile base]\n{process(account)}\n"
            f"[profile hub]\nrole_arn = {HUB}\nsource_profile = base\n"
            f"[profile one]\nrole_arn = {SPOKE}\nsource_profile = hub\n"
        )
        key(assume_role(with_profile("one"), SPOKE, cache=cache))
    assert len(cache) == 2


@pytest.mark.parametrize("method", ["custom", "assume-role", "sso", "container-role"])
def test_credentials_of_an_unknown_source_are_known_as_themselves(
    sts: StsStub, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Refreshable credentials set on a session by hand share an entry with no other credentials."""
    if method != "container-role":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/of-something-else")
    cache: dict[str, Any] = {}

    def parent(access_key: str) -> boto3.Session:
        made = boto3.Session(region_name="us-east-1")
        made._session._credentials = RefreshableCredentials.create_from_metadata(
            {"access_key": access_key, "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00Z"},
            refresh_using=dict,
            method=method,
        )
        return made

    one, two, again = parent("AKIAONE"), parent("AKIATWO"), parent("AKIAONE")
    for each in (one, one, two, again):
        key(assume_role(each, HUB, cache=cache))
    assert [request.access_key for request in sts.assumed] == ["AKIAONE", "AKIATWO", "AKIAONE"]


def test_credentials_of_an_unknown_kind_are_known_as_themselves(sts: StsStub) -> None:
    """Credentials that only look static may change identity, so they share an entry with no other credentials."""

    class Looks(Credentials):
        pass

    cache: dict[str, Any] = {}
    one, two = session(), session()
    for parent in (one, two):
        parent._session._credentials = Looks("AKIASAME", "s")
    for parent in (one, two, one):
        key(assume_role(parent, HUB, cache=cache))
    assert len(sts.assumed) == 2


def test_a_key_says_nothing(sts: StsStub, tmp_path: Path) -> None:
    """A cache file's name is a digest, whatever the request."""
    key(assume_role(session(), HUB, ExternalId="abc", cache=JSONFileCache(tmp_path / "c")))
    (file,) = (tmp_path / "c").iterdir()
    assert len(file.stem) == 64
    assert set(file.stem) <= set("0123456789abcdef")


def in_an_hour() -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()


GOOD = {"AccessKeyId": "ASIACACHED", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "later"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: None,
        lambda entry: [],
        lambda entry: "text",
        lambda entry: {},
        lambda entry: {**entry, "Credentials": None},
        lambda entry: {**entry, "Credentials": "text"},
        lambda entry: {**entry, "Lifetime": None},
        lambda entry: {**entry, "Lifetime": "3600"},
        lambda entry: {**entry, "Lifetime": float("nan")},
        lambda entry: {**entry, "Lifetime": float("inf")},
        lambda entry: {**entry, "Lifetime": 0},
        lambda entry: {**entry, "Lifetime": -1},
        lambda entry: {**entry, "Lifetime": True},
        *(
            lambda entry, name=name, value=value: {**entry, "Credentials": {**entry["Credentials"], name: value}}
            for name in GOOD
            for value in (None, 7, "", [], b"ASIA", "AS\nIA", "\ud800", "\u0661")
        ),
        lambda entry: {**entry, "Credentials": {**entry["Credentials"], "AccountId": 7}},
        lambda entry: {**entry, "Credentials": {**entry["Credentials"], "Expiration": "tomorrow"}},
        lambda entry: {**entry, "Credentials": {**entry["Credentials"], "Expiration": "2020-01-01T00:00:00Z"}},
        lambda entry: {**entry, "Credentials": {**entry["Credentials"], "Expiration": "2099-01-01T00:00:00"}},
        lambda entry: {**entry, "Credentials": {**entry["Credentials"], "Expiration": 4102444800}},
        lambda entry: {"Credentials": entry["Credentials"]},
    ],
)
def test_what_is_no_entry_is_a_miss_and_is_overwritten(
    sts: StsStub, caplog: pytest.LogCaptureFixture, damage: Callable[[Any], Any]
) -> None:
    """Damaged, foreign, incomplete, malformed and expired entries are silently replaced by new credentials."""
    cache: dict[str, Any] = {}
    key(assume_role(session(), HUB, cache=cache))
    (name,) = cache
    good = dict(cache[name])
    cache[name] = {"Credentials": {**GOOD, "Expiration": in_an_hour()}, "Lifetime": 3600}
    assert key(assume_role(session(), HUB, cache=cache)) == "ASIACACHED"
    cache[name] = damage(cache[name])
    assert key(assume_role(session(), HUB, cache=cache)) == "ASIA0000000000000002"
    assert cache[name].keys() == good.keys()
    assert not caplog.records


class Raises(dict):
    """A mapping in which the given methods raise."""

    def __init__(self, *where: str, error: Exception) -> None:
        self.where, self.error = where, error

    def fail(self, where: str) -> None:
        if where in self.where:
            raise self.error

    def __contains__(self, key: object) -> bool:
        self.fail("contains")
        return super().__contains__(key) or "get" in self.where

    def __getitem__(self, key: str) -> Any:
        self.fail("get")
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.fail("set")
        super().__setitem__(key, value)


def test_a_cache_that_cannot_be_read_has_no_keys() -> None:
    """Whether an entry has keys is answered with no if the cache raises."""


@pytest.mark.parametrize("where", ["contains", "get", "set"])
@pytest.mark.parametrize("error", [RuntimeError("a secret"), ConnectionError("a secret")], ids=repr)
def test_a_cache_that_raises_is_a_warning(
    sts: StsStub, caplog: pytest.LogCaptureFixture, where: str, error: Exception
) -> None:
    """A cache that raises causes one log line, which does not quote the exception, and credentials still arrive."""
    child = assume_role(session(), HUB, cache=Raises(where, error=error))
    assert key(child) == "ASIA0000000000000001"
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.name == "aws_assume_role_lib"
    assert f"({type(error).__name__})" in record.getMessage()
    assert "a secret" not in caplog.text


@pytest.mark.parametrize("trouble", ["a file in its place", "a folder in the entry's place"])
def test_a_folder_that_cannot_be_used_is_a_warning(
    sts: StsStub, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """A folder that cannot be used causes a log line, and credentials still arrive."""
    folder = tmp_path / "c"
    if trouble == "a file in its place":
        folder.write_text("")
    else:
        key(assume_role(session(), HUB, cache=JSONFileCache(folder)))
        (entry,) = folder.iterdir()
        entry.unlink()
        (entry / "x").mkdir(parents=True)
    child = assume_role(session(), HUB, cache=JSONFileCache(folder))
    assert key(child).startswith("ASIA")
    assert "The cache could not be" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full, a disk without room, is Linux's")
def test_a_full_disk_is_a_warning(sts: StsStub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk causes a log line, and credentials still arrive."""

    class Full(JSONFileCache):
        def __setitem__(self, key: str, value: Any) -> None:
            with Path("/dev/full").open("w") as full:
                json.dump(value, full)

    assert key(assume_role(session(), HUB, cache=Full(tmp_path / "c"))).startswith("ASIA")
    assert os.strerror(28) in caplog.text


def test_an_entry_serves_while_more_than_its_window_remains(sts: StsStub) -> None:
    """A 15-minute session can be cached too, until a quarter of its lifetime is left."""
    cache: dict[str, Any] = {}
    with time_machine.travel(0, tick=False) as clock:
        for seconds, expected in ((0, 1), (674, 1), (1, 2)):
            clock.shift(seconds)
            key(assume_role(session(), HUB, DurationSeconds=900, cache=cache))
            assert len(sts.assumed) == expected


def test_a_lifetime_cut_short_is_kept_with_the_entry(sts: StsStub) -> None:
    """A cached entry's refresh window depends on the lifetime granted, not on the one requested."""
    cache: dict[str, Any] = {}
    sts.lifetime = 600
    with time_machine.travel(0, tick=False) as clock:
        key(assume_role(session(), HUB, cache=cache))
        clock.shift(300)
        child = assume_role(session(), HUB, cache=cache)
        key(child)
        assert len(sts.assumed) == 1
        clock.shift(140)
        key(child)
        assert len(sts.assumed) == 1
        clock.shift(20)
        key(child)
        assert len(sts.assumed) == 2


def test_a_refresh_is_found_by_the_others(sts: StsStub) -> None:
    """Credentials that one session refreshed are taken from the cache by the next session that shares it."""
    cache: dict[str, Any] = {}
    with time_machine.travel(0, tick=False) as clock:
        one, two = (assume_role(session(), HUB, cache=cache) for _ in range(2))
        assert key(one) == key(two)
        clock.shift(3000)
        assert key(one) == key(two)
        assert len(sts.assumed) == 2


@pytest.mark.parametrize(("cache", "method"), [("folder", "setitem"), (7, "contains"), (object(), "contains")])
def test_what_is_no_mapping_is_refused_at_the_call(cache: Any, method: str) -> None:
    """An object that cannot be a cache raises a TypeError at the call, which names the first missing method."""
    with pytest.raises(TypeError, match=f"cache must be a mapping.* has no __{method}__"):
        assume_role(session(), HUB, cache=cache)


def test_a_cache_that_raises_costs_no_chain_its_credentials(sts: StsStub, parent: boto3.Session) -> None:
    """If the cache raises, a chain still gets its credentials, with one AssumeRole for each role."""

    class Raises(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            raise OSError

    hub = assume_role(parent, HUB, cache=Raises())
    assert sts.issued[key(hub.assume_role(SPOKE))].role_arn == SPOKE
    assert len(sts.assumed) == 2


def test_a_cached_role_needs_nothing_from_the_roles_above_it(sts: StsStub, parent: boto3.Session) -> None:
    """A cold chain whose second role is cached makes one AssumeRole call, for its third role."""
    cache: dict[str, Any] = {}
    for _ in range(2):
        middle = assume_role(assume_role(parent, f"{HUB}-above"), HUB, cache=cache)
        key(middle.assume_role(SPOKE))
    assert [request.params["RoleArn"] for request in sts.assumed] == [f"{HUB}-above", HUB, SPOKE, SPOKE]


def test_a_file_cache_without_a_hash_costs_nobody_their_credentials(
    sts: StsStub, parent: boto3.Session, tmp_path: Path
) -> None:
    """A subclass of JSONFileCache that defines __eq__(), and so has no hash, is a cache like any other."""

    class Compared(JSONFileCache):
        def __eq__(self, other: object) -> bool:
            return self is other

    cache = Compared(tmp_path / "cache")
    assert key(assume_role(parent, HUB, cache=cache)) == key(assume_role(parent, HUB, cache=cache))
    assert len(sts.assumed) == 1
