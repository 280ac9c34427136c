"""What tools see of a session at run time: its methods' parameters and types, and copies of it."""

from __future__ import annotations

import copy
import inspect
import typing

import boto3
import pytest
from conftest import HUB, key
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, ExportedCredentials, assume_role


def test_the_method_has_the_signature_of_the_function(parent: boto3.Session) -> None:
    """A session's assume_role() shows each of the function's parameters but the session, as completion needs."""
    function = inspect.signature(assume_role)
    _, *parameters = function.parameters.values()
    assert inspect.signature(assume_role(parent, HUB).assume_role) == function.replace(parameters=parameters)
    assert list(inspect.signature(AssumedRoleSession.assume_role).parameters)[:2] == ["self", "RoleArn"]


def test_type_hints_resolve_at_run_time() -> None:
    """typing.get_type_hints() works on the methods of a session, and finds what it finds on the function."""
    hints = typing.get_type_hints(assume_role)
    assert hints.pop("session") is boto3.session.Session
    assert typing.get_type_hints(AssumedRoleSession.assume_role) == hints
    assert typing.get_type_hints(AssumedRoleSession.export_credentials) == {"return": ExportedCredentials}


def test_a_deep_copy_is_a_copy(sts: StsStub, parent: boto3.Session) -> None:
    """Like copy.copy(), copy.deepcopy() returns a session of the same role with the same credentials object."""
    child = assume_role(parent, HUB)
    for copied in (copy.copy(child), copy.deepcopy(child), copy.deepcopy([child])[0]):
        assert repr(copied) == repr(child)
        assert copied is not child
        assert copied.get_credentials() is child.get_credentials()
        assert copied.assume_role_parent_session is parent
        assert copied.client("sts").get_caller_identity()["Account"] == "111111111111"
    botocore_session = copy.deepcopy(child._session)
    assert botocore_session.get_credentials() is child.get_credentials()
    assert botocore_session.create_client("sts", region_name="us-east-1").get_caller_identity()
    assert key(copied.assume_role(HUB)) == "ASIA0000000000000002"


def test_a_misspelt_keyword_is_answered_with_the_right_one(parent: boto3.Session) -> None:
    """An unknown keyword raises a TypeError that suggests the right one and does not repeat the value."""
    for name, meant in (
        ("role_session_name", "RoleSessionName"),
        ("external_id", "ExternalId"),
        ("region", "region_name"),
    ):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'; did you mean '{meant}'") as caught:
            assume_role(parent, HUB, **{name: "my-secret"})
        assert "my-secret" not in str(caught.value)
    with pytest.raises(TypeError, match="unexpected keyword argument 'bogus'$"):
        assume_role(parent, HUB).assume_role(HUB, **{"bogus": 1})
    assert all(
        each.kind != inspect.Parameter.VAR_KEYWORD for each in inspect.signature(assume_role).parameters.values()
    )
