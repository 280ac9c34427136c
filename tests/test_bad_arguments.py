"""An argument of the wrong type is refused at the call, with a message that says what to pass instead."""

from __future__ import annotations

import inspect
import subprocess
import sys

import boto3
import botocore.session
import pytest
from botocore.exceptions import (
    InvalidRegionError,
)
from conftest import HUB

from aws_assume_role_lib import JSONFileCache, assume_role


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "session",
    [
        None,
        "default",
        HUB,
        botocore.session.Session,
        boto3.Session,
        boto3,
        lambda: botocore.session.Session(),
        lambda: boto3.Session("AKIAROOT", "s", region_name="us-east-1").client("sts"),
    ],
    ids=["None", "string", "ARN", "botocore class", "boto3 class", "module", "botocore session", "client"],
)
def test_session_must_be_a_boto3_session(session, validate):
    """Anything but a boto3 session raises a TypeError that says what to pass."""
    if inspect.isfunction(session):
        session = session()
    with pytest.raises(TypeError, match=r"boto3\.Session\(\)"):
        assume_role(session, HUB, validate=validate)


def test_a_botocore_session_is_told_from_boto3s(parent):
    """The error for a botocore session says that it is one: both classes are called Session."""
    with pytest.raises(TypeError, match=r"not botocore\.session\.Session"):
        assume_role(parent._session, HUB)


def test_session_is_required():
    """A call without a session raises a TypeError."""
    with pytest.raises(TypeError):
        assume_role(RoleArn=HUB)


def test_parameters_are_keywords(parent):
    """Only the session and the role may be positional arguments."""
    with pytest.raises(TypeError):
        assume_role(parent, HUB, "name")


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
    monkeypatch.setattr(boto3, "Session", lambda **_: None)
    monkeypatch.setattr(boto3.session, "Session", lambda **_: None)
    assert assume_role(parent, HUB).role_arn == HUB


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("name", "value"), [("ExternalId", "abc"), ("RoleArn", HUB), ("DurationSeconds", 900)])
def test_a_parameter_given_both_ways_is_named(parent, name, value, validate):
    """A parameter passed both as a keyword and in additional_kwargs raises a TypeError that names it."""
    given = {} if name == "RoleArn" else {name: value}
    with pytest.raises(TypeError, match=name):
        assume_role(parent, HUB, additional_kwargs={name: value}, validate=validate, **given)


@pytest.mark.parametrize("additional", ["ExternalId", ["ExternalId"], 1])
def test_additional_kwargs_is_a_mapping(parent, additional):
    """Anything but a mapping as additional_kwargs raises a TypeError."""
    with pytest.raises(TypeError, match="additional_kwargs"):
        assume_role(parent, HUB, additional_kwargs=additional)


@pytest.mark.parametrize("region", [1, 1.5, ["us-east-1"], b"us-east-1"])
def test_region_name_has_a_type(parent, region):
    """A region_name of the wrong type raises a TypeError."""
    with pytest.raises(TypeError, match="region_name"):
        assume_role(parent, HUB, region_name=region)


@pytest.mark.parametrize("region", ["", "us east", "us-east-1.example.com", "-", "us-east-1\n"])
def test_region_name_can_be_a_region(parent, region):
    """A region_name that cannot be part of a host name is refused at the call, not at the first client."""
    with pytest.raises(InvalidRegionError):
        assume_role(parent, HUB, region_name=region)
    with pytest.raises(InvalidRegionError):
        assume_role(parent, HUB, sts_client_kwargs={"region_name": region})


def test_the_class_of_a_cache_is_no_cache(parent):
    """Passing the class itself, cache=JSONFileCache, raises a TypeError."""
    with pytest.raises(TypeError, match="cache must be a mapping"):
        assume_role(parent, HUB, cache=JSONFileCache)
