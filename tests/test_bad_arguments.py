"""A wrong call is refused at once, with a message that says what to pass instead, and has no effect."""

from __future__ import annotations

import functools
import inspect
import re
import subprocess
import sys
from typing import Any

import boto3
import pytest
from botocore.exceptions import InvalidRegionError, NoCredentialsError
from conftest import HUB, SPOKE, needs_posix
from parameters import cases, refusal

from aws_assume_role_lib import JSONFileCache, assume_role

NO_SESSIONS = {
    "None": lambda _: None,
    "an ARN": lambda _: HUB,
    "a class": lambda _: boto3.Session,
    "a botocore session": lambda parent: parent._session,
    "a client": lambda parent: parent.client("sts"),
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("make", NO_SESSIONS.values(), ids=NO_SESSIONS)
def test_session_must_be_a_boto3_session(parent, make, validate):
    """Anything but a boto3 session raises a TypeError that says what it is, with its module, and what to pass."""
    session = make(parent)
    kind = re.escape(f"{type(session).__module__}.{type(session).__qualname__}")
    with pytest.raises(TypeError, match=f"^session is of type {kind}; it must be a boto3.Session. Pass boto3.Session"):
        assume_role(session, HUB, validate=validate)


@pytest.mark.parametrize("arguments", [(), ("parent", HUB, "name")])
def test_the_session_and_the_role_are_positional(parent, arguments):
    """A session is required, and only it and the role may be positional arguments."""
    with pytest.raises(TypeError, match="positional"):
        assume_role(*arguments, **({} if arguments else {"RoleArn": HUB}))


def test_a_class_that_mixes_in_more_is_borne():
    """If a library has replaced boto3.Session with a subclass with other bases, boto3's own class is still accepted."""
    script = (
        "import boto3, boto3.session\n"
        "session = boto3.Session('AKIAROOT', 's', region_name='us-east-1')\n"
        "boto3.Session = boto3.session.Session = type('Session', (boto3.session.Session, type('Mixin', (), {})), {})\n"
        "from aws_assume_role_lib import assume_role\n"
        f"assert isinstance(assume_role(session, {HUB!r}), boto3.Session)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_function_in_the_place_of_the_class_is_borne(parent, monkeypatch):
    """Roles can still be assumed if something that is not a class has replaced boto3.Session."""
    for module in (boto3, boto3.session):
        monkeypatch.setattr(module, "Session", lambda **_: None)
    assert assume_role(parent, HUB).role_arn == HUB


MISSPELT = {"role_session_name": "RoleSessionName", "external_id": "ExternalId", "region": "region_name", "bogus": None}


@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_an_unknown_keyword_is_answered_with_the_right_one(parent, name, meant):
    """An unknown keyword raises a TypeError that suggests the one that it resembles, if any, and does not repeat the
    value; no signature offers **keywords."""
    hint = f"; did you mean '{meant}'?" if meant else ""
    for call in (functools.partial(assume_role, parent), assume_role(parent, HUB).assume_role):
        with pytest.raises(TypeError, match=re.escape(f"unexpected keyword argument '{name}'{hint}") + "$"):
            call(HUB, **{name: "my-secret"})
    kinds = [parameter.kind for parameter in inspect.signature(assume_role).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("name", "value"), [("ExternalId", "abc"), ("RoleArn", HUB), ("DurationSeconds", 900)])
def test_a_parameter_given_both_ways_is_named(parent, name, value, validate):
    """A parameter passed both as a keyword and in additional_kwargs raises a TypeError that names it."""
    given = {} if name == "RoleArn" else {name: value}
    with pytest.raises(TypeError, match=name):
        assume_role(parent, HUB, additional_kwargs={name: value}, validate=validate, **given)


WRONG_TYPES: list[tuple[str, list[Any]]] = [
    ("additional_kwargs", ["ExternalId", ["ExternalId"], 1]),
    ("region_name", [1, 1.5, ["us-east-1"], b"us-east-1"]),
    ("cache", [JSONFileCache, 10**5000]),  # a number on which repr() fails
]


@pytest.mark.parametrize(("name", "value"), cases(WRONG_TYPES))
def test_an_argument_has_a_type(parent, name, value):
    """An argument of the wrong type, such as a cache's class, raises a TypeError that names it."""
    with pytest.raises(TypeError, match=f"{name} is of type {type(value).__name__}.*; it must be"):
        assume_role(parent, HUB, **{name: value})


@pytest.mark.parametrize("region", ["", "us east", "us-east-1.example.com", "-", "us-east-1\n"])
def test_region_name_can_be_a_region(parent, region):
    """A region_name that cannot be part of a host name is refused at the call, not at the first client."""
    with pytest.raises(InvalidRegionError):
        assume_role(parent, HUB, region_name=region)
    with pytest.raises(InvalidRegionError):
        assume_role(parent, HUB, sts_client_kwargs={"region_name": region})


def test_a_call_makes_no_client(sts, parent, clients_made):
    """A call creates no STS client and opens no connection, refused or not, even if the parent's credentials must be
    fetched; the first use creates one client."""
    refusal(parent, "Hub", DurationSeconds=1)
    hub = assume_role(parent, HUB, Tags={"k": "v"})
    refusal(hub, SPOKE, DurationSeconds=3601)
    assume_role(hub, SPOKE)
    assert clients_made == []
    assert sts.connections == 0
    hub.get_credentials().get_frozen_credentials()
    assert clients_made == ["sts"]
    assert len(sts.requests) == 1


@pytest.mark.parametrize("validate", [True, False])
def test_no_credentials_is_found_at_the_call(sts, validate):
    """A parent without credentials raises an error at the call, not at the first use, and hides no other problem."""
    session = boto3.Session(region_name="us-east-1")
    with pytest.raises(NoCredentialsError):
        assume_role(session, HUB, validate=validate)
    assert sts.connections == 0
    assert "DurationSeconds" in refusal(session, "nonsense", DurationSeconds=1)


@needs_posix
def test_mistakes_are_told_before_a_program_is_run(tmp_path):
    """A refused call does not run a profile's credential_process; an accepted call may."""
    ran = tmp_path / "ran"
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\ncredential_process = touch {ran}\n")
    refusal(boto3.Session(), "nonsense")
    assert not ran.exists()
    with pytest.raises(ValueError):  # it prints no credentials
        assume_role(boto3.Session(), HUB)
    assert ran.exists()
