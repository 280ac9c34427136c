"""AssumedRoleSession: its attributes, its credentials, and copies of it."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta, timezone

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, RefreshableCredentials
from botocore.exceptions import ClientError
from conftest import HUB, SPOKE, key
from sts_stub import Fault

from aws_assume_role_lib import AssumedRoleSession, assume_role


@pytest.mark.parametrize("first", ["access_key", "secret_key", "token"])
def test_the_call_opens_no_connection_and_the_first_use_asks_once(sts, parent, first):
    """assume_role() sends nothing; the first use sends one AssumeRole, signed by the parent; the second sends none."""
    child = assume_role(parent, HUB)
    credentials = child.get_credentials()
    assert child.get_credentials() is child._session.get_credentials() is credentials
    assert sts.requests == []
    assert getattr(credentials, first)
    expected = ("ASIA0000000000000001", "secret-1", "token-1")
    assert (credentials.access_key, credentials.secret_key, credentials.token) == expected
    assert {credentials.get_frozen_credentials()[:3] for _ in range(3)} == {expected}
    child.client("sts").get_caller_identity()
    assert [request.action for request in sts.requests] == ["AssumeRole", "GetCallerIdentity"]
    assert [request.access_key for request in sts.requests] == ["AKIAROOT", expected[0]]


def test_the_attributes_lead_up_the_chain(parent):
    """role_arn and assume_role_parent_session say what was assumed, and by whom; there are no others."""
    spoke = assume_role(parent, HUB).assume_role(SPOKE)
    assert isinstance(spoke, AssumedRoleSession)
    assert isinstance(spoke, boto3.Session)
    assert spoke.role_arn == SPOKE
    assert spoke.assume_role_parent_session.role_arn == HUB
    assert spoke.assume_role_parent_session.assume_role_parent_session is parent
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        _ = spoke._session.colour


def test_a_root_may_have_any_attribute(sts):
    """A program's own class of botocore session, with an attribute such as root, assumes a role like any other."""

    class OwnSession(botocore.session.Session):
        root = "/srv/app"

    botocore_session = OwnSession()
    botocore_session.set_credentials("AKIAROOT", "root-secret")
    hub = assume_role(boto3.Session(botocore_session=botocore_session, region_name="us-east-1"), HUB)
    assert ":assumed-role/Hub/" in hub.client("sts").get_caller_identity()["Arn"]


def test_the_fetcher_has_botocores_form(sts, parent):
    """The fetcher behind the credentials is one of botocore's, and fetches what botocore's credentials accept."""
    fetcher = assume_role(parent, HUB).get_credentials().fetcher
    assert isinstance(fetcher, AssumeRoleCredentialFetcher)
    refreshed = RefreshableCredentials.create_from_metadata(
        fetcher.fetch_credentials(), fetcher.fetch_credentials, "assume-role"
    )
    assert refreshed.get_frozen_credentials().access_key == "ASIA0000000000000001"
    assert len(sts.assumed) == 1


def test_exported_credentials_have_their_expiry(sts, parent, clock):
    """export_credentials() returns keys that belong together, with an expiry in UTC, and refreshes as requests do."""
    child = assume_role(parent, HUB)
    first = child.export_credentials()
    assert first[:3] == ("ASIA0000000000000001", "secret-1", "token-1")
    assert first.expiry == datetime(2031, 5, 1, 13, tzinfo=timezone.utc)
    assert first.expiry.tzinfo is timezone.utc
    assert first.account_id == "111111111111"
    assert child.export_credentials() == first
    clock.shift(46 * 60)
    second = child.export_credentials()
    assert (second.access_key, second.expiry - first.expiry) == ("ASIA0000000000000002", timedelta(minutes=46))
    assert child.client("sts").get_caller_identity()["UserId"] == second.access_key
    with pytest.raises(AttributeError):
        first.token = "another"
    for shown in (repr(first), str(first), f"{first}"):
        assert "secret-1" not in shown
        assert "token-1" not in shown
    sts.fault = Fault.error(403, "AccessDenied")
    clock.shift(3600)
    with pytest.raises(ClientError, match="AccessDenied"):
        child.export_credentials()


def test_a_deep_copy_has_settings_and_handlers_of_its_own(sts, parent):
    """A handler or region that is set on a deep copy does not change the original, nor the other way round."""
    child, seen = assume_role(parent, HUB), []
    child._session.set_config_variable("retry_mode", "adaptive")
    child._session.set_default_client_config(Config(connect_timeout=17))
    child._session.user_agent_extra = "mine/1"
    child.events.register("before-call.sts", lambda **_: seen.append("original"))
    copied = copy.deepcopy(child)
    copied.events.register("before-call.sts", lambda **_: seen.append("copy"))
    copied._session.set_config_variable("region", "eu-west-1")
    assert (child.region_name, copied.region_name) == ("us-east-1", "eu-west-1")
    config = copied.client("s3").meta.config
    assert (config.retries["mode"], config.connect_timeout) == ("adaptive", 17)
    assert "mine/1" in config.user_agent
    for session in (child, copied):
        session.client("sts").get_caller_identity()
    copied.resource("s3")
    assert seen == ["original", "original", "copy"]


def test_a_deep_copy_is_a_copy(sts, parent):
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
