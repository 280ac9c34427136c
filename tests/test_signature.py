"""What tools see of a session at run time: its methods' parameters and types, and copies of it."""

from __future__ import annotations

import copy
import inspect

import boto3
import pytest
from conftest import HUB, key
from sts_stub import StsStub

from aws_assume_role_lib import assume_role


def test_a_deep_copy_has_settings_and_handlers_of_its_own(sts: StsStub, parent: boto3.Session) -> None:
    """A handler or region that is set on a deep copy does not change the original, nor the other way round."""
    child = assume_role(parent, HUB)
    child._session.set_config_variable("retry_mode", "adaptive")
    seen: list[str] = []
    child.events.register("before-call.sts", lambda **_: seen.append("original"))
    copied = copy.deepcopy(child)
    copied.events.register("before-call.sts", lambda **_: seen.append("copy"))
    copied._session.set_config_variable("region", "eu-west-1")
    assert (child.region_name, copied.region_name) == ("us-east-1", "eu-west-1")
    assert copied.client("s3").meta.config.retries["mode"] == "adaptive"
    child.client("sts").get_caller_identity()
    assert seen == ["original"]
    copied.client("sts").get_caller_identity()
    copied.resource("s3")
    assert seen == ["original", "original", "copy"]


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
