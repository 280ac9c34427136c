"""assume_role()'s cache is shared by equal requests of one identity, and by no others, and never gets in the way."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import boto3
import pytest
from conftest import HUB, SPOKE, key

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, JSONFileCache, assume_role


def session() -> boto3.Session:
    return boto3.Session("AKIAROOT", "secret", region_name="us-east-1")


def test_a_role_without_an_account_comes_out_of_the_cache_too(sts):
    """On a store without accounts, roles are cached too, and their credentials have no account ID."""
    cache: dict[str, Any] = {}
    children = [assume_role(session(), "arn:aws:iam:::role/Access", cache=cache) for _ in range(2)]
    assert {key(child) for child in children} == {"ASIA0000000000000001"}
    for child in children:
        assert getattr(child.get_credentials().get_frozen_credentials(), "account_id", None) is None


def test_a_file_cache_is_shared_between_processes(sts, parent, tmp_path):
    """A second process uses what the first one fetched."""
    code = (
        "import boto3, sys; from aws_assume_role_lib import assume_role, JSONFileCache; "
        "s = boto3.Session('AKIAROOT', 'root-secret', region_name='us-east-1'); "
        f"c = assume_role(s, {HUB!r}, cache=JSONFileCache(sys.argv[1])); "
        "print(c.get_credentials().get_frozen_credentials().access_key)"
    )
    first = key(assume_role(parent, HUB, cache=JSONFileCache(tmp_path / "c")))
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "c"], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == first


STATEMENTS = '{"Statement": [], "Version": "2012-10-17"}'
ARN, AB = "arn:aws:iam::aws:policy", {"a": "1", "b": "2"}
SAME = [
    ({}, {}),
    ({"Tags": AB}, {"Tags": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]}),
    ({"Policy": {"Version": "2012-10-17", "Statement": []}}, {"Policy": STATEMENTS}),
    ({"PolicyArns": [f"{ARN}/A", f"{ARN}/B"]}, {"PolicyArns": [{"arn": f"{ARN}/B"}, {"arn": f"{ARN}/A"}]}),
    ({"DurationSeconds": 900}, {"DurationSeconds": timedelta(minutes=15)}),
    ({"Tags": AB, "TransitiveTagKeys": ["a", "b"]}, {"Tags": AB, "TransitiveTagKeys": ["b", "a"]}),
    ({"ExternalId": "abc"}, {"additional_kwargs": {"ExternalId": "abc"}}),
    ({}, {"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME}),
    ({}, {"RoleSessionName": lambda: "instance-1"}),
    ({"RoleSessionName": lambda: "instance-1"}, {"RoleSessionName": lambda: "instance-2"}),
    ({"RoleSessionName": "me", "SourceIdentity": "me"}, {"SourceIdentity": "me"}),
    ({}, {"region_name": "eu-west-1"}),
]
# Each of these differs from the next one.
REQUESTS: list[dict[str, Any]] = [
    {},
    *({"ExternalId": value} for value in ("one", "two")),
    *({"DurationSeconds": value} for value in (900, 901)),
    *({"RoleSessionName": value} for value in ("one", "two")),
    *({"SourceIdentity": value} for value in ("two", "one")),
    {"SourceIdentity": "one", "RoleSessionName": "two"},
    *({"PolicyArns": [f"{ARN}/{name}" for name in names]} for names in ("A", "B", "AB")),
    *({"Policy": {"a": value}} for value in ("1", 1, 1.0, True, None, [], {}, [1, 2], [2, 1])),
    *({"Tags": value} for value in ({"a": "2", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2"}, {"a": "1"})),
    {"Tags": {"a": "1"}, "TransitiveTagKeys": ["a"]},
    {},
]
DIFFERENT = list(itertools.pairwise(REQUESTS))


@pytest.mark.parametrize("requests", [SAME, DIFFERENT], ids=["same", "different"])
def test_an_entry_belongs_to_a_request(sts, requests):
    """Requests that differ only in form, or in what is not sent to STS, share keys and account ID; others nothing."""
    parents = session(), session()
    for pair in requests:
        cache: dict[str, Any] = {}
        children = [assume_role(parent, HUB, cache=cache, **each) for parent, each in zip(parents, pair, strict=True)]
        one, other = (child.get_credentials().get_frozen_credentials() for child in children)
        assert (one == other) is (requests is SAME), pair
        assert len(cache) == 2 - (requests is SAME), pair


def test_the_same_role_through_other_hubs_is_other_entries(sts):
    """A role's identity includes the request for the role that assumed it, and so on through the whole chain."""
    cache: dict[str, Any] = {}
    hubs: list[dict[str, Any]] = [{"RoleArn": HUB}, {"RoleArn": SPOKE}, {"RoleArn": HUB, "ExternalId": "abc"}]
    for hub in hubs:
        key(assume_role(session(), **hub).assume_role(SPOKE, cache=cache))
    assert len(cache) == 3


def entry(lifetime: Any = 3600, **changes: Any) -> dict[str, Any]:
    """Return an entry that is good, at the time of the fixture `clock`, but for the changes."""
    keys = {"AccessKeyId": "ASIACACHED", "SecretAccessKey": "s", "SessionToken": "t"}
    return {"Credentials": {**keys, "Expiration": "2031-05-01T13:00:00+00:00", **changes}, "Lifetime": lifetime}


NOT_TEXT = (None, 7, "", [], b"ASIA", "AS\nIA", "\ud800", "\u0661")
DAMAGED: list[Any] = [
    *(None, [], "text", {}),
    *({**entry(), "Credentials": value} for value in (None, "text")),
    {"Credentials": entry()["Credentials"]},
    *(entry(lifetime) for lifetime in (None, "3600", float("nan"), float("inf"), 0, -1, True)),
    *(entry(**{name: value}) for name in entry()["Credentials"] for value in NOT_TEXT),
    entry(AccountId=7),
    *(entry(Expiration=when) for when in ("tomorrow", "2020-01-01T00:00:00Z", "2099-01-01T00:00:00", 4102444800)),
]


def test_what_is_no_entry_is_a_miss_and_is_overwritten(sts, parent, clock, caplog):
    """Damaged, foreign, incomplete, malformed and expired entries are silently replaced by new credentials."""
    cache: dict[str, Any] = {}
    key(assume_role(parent, HUB, cache=cache))
    ((name, written),) = cache.items()
    cache[name] = entry()
    assert key(assume_role(parent, HUB, cache=cache)) == "ASIACACHED"
    for number, damaged in enumerate(DAMAGED, start=2):
        cache[name] = damaged
        assert key(assume_role(parent, HUB, cache=cache)) == f"ASIA{number:016}", damaged
        assert cache[name].keys() == written.keys()
    assert not caplog.records


class Raises(dict[str, Any]):
    """A mapping of which one method raises."""

    def __init__(self, where: str, error: Exception) -> None:
        self.where, self.error = where, error

    def __contains__(self, _: object) -> bool:
        if self.where == "contains":
            raise self.error
        return self.where == "get"

    def __getitem__(self, _: str) -> Any:
        raise self.error

    def __setitem__(self, _: str, value: Any) -> None:
        if self.where == "set":
            raise self.error


ERRORS = {
    "RuntimeError": RuntimeError("a secret"),
    "ConnectionError": ConnectionError("a secret"),
    f"OSError, {os.strerror(errno.ENOSPC)}": OSError(errno.ENOSPC, "a secret"),
}


@pytest.mark.parametrize("where", ["contains", "get", "set"])
@pytest.mark.parametrize("reason", ERRORS)
def test_a_cache_that_raises_is_a_warning(sts, caplog, where, reason):
    """A cache that raises costs a chain one log line, which does not quote the exception, and no AssumeRole."""
    hub = assume_role(session(), HUB, cache=Raises(where, ERRORS[reason]))
    assert sts.issued[key(hub.assume_role(SPOKE))].role_arn == SPOKE
    assert len(sts.assumed) == 2
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.name == "aws_assume_role_lib"
    assert f"({reason})" in record.getMessage()
    assert "a secret" not in caplog.text


@pytest.mark.parametrize(("asked", "granted", "due"), [(900, None, 675), (3600, 600, 450)])
def test_an_entry_serves_while_more_than_its_window_remains(sts, clock, asked, granted, due):
    """An entry serves old and new sessions until a quarter of the lifetime that was granted is left; then they share
    what one of them has refreshed.
    """
    cache: dict[str, Any] = {}
    sts.lifetime = granted
    sessions = []
    for seconds, calls in ((0, 1), (due - 1, 1), (1, 2)):
        clock.shift(seconds)
        sessions.append(assume_role(session(), HUB, DurationSeconds=asked, cache=cache))
        assert len({key(each) for each in sessions}) == 1
        assert len(sts.assumed) == calls


@pytest.mark.parametrize(("cache", "method"), [("folder", "setitem"), (7, "contains"), (object(), "contains")])
def test_what_is_no_mapping_is_refused_at_the_call(cache, method):
    """An object that cannot be a cache raises a TypeError at the call, which names the first missing method."""
    with pytest.raises(TypeError, match=f"cache is of type .* has no __{method}__; it must be a mapping"):
        assume_role(session(), HUB, cache=cache)


def test_a_cached_role_needs_nothing_from_the_roles_above_it(sts, parent):
    """A cold chain whose second role is cached makes one AssumeRole call, for its third role."""
    cache: dict[str, Any] = {}
    for _ in range(2):
        middle = assume_role(assume_role(parent, f"{HUB}-above"), HUB, cache=cache)
        key(middle.assume_role(SPOKE))
    assert [request.params["RoleArn"] for request in sts.assumed] == [f"{HUB}-above", HUB, SPOKE, SPOKE]


def test_a_file_cache_without_a_hash_costs_nobody_their_credentials(sts, parent, tmp_path):
    """A subclass of JSONFileCache that defines __eq__(), and so has no hash, is a cache like any other."""

    class Compared(JSONFileCache):
        def __eq__(self, other: object) -> bool:
            return self is other

    cache = Compared(tmp_path / "cache")
    assert key(assume_role(parent, HUB, cache=cache)) == key(assume_role(parent, HUB, cache=cache))
