"""Which parameters are allowed depends on whether the parent is itself a role."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import boto3
import pytest
from conftest import HUB, SPOKE
from parameters import refusal

from aws_assume_role_lib import assume_role

CONFIG = f"""
[default]
region = us-east-1
[profile keys]
aws_access_key_id = AKIAROOT
aws_secret_access_key = secret
[profile role]
role_arn = {SPOKE}
source_profile = keys
[profile web]
role_arn = {SPOKE}
web_identity_token_file = /no/such/file
[profile sso]
sso_start_url = https://example.com
sso_region = us-east-1
sso_account_id = 111111111111
sso_role_name = Reader
[profile temporary]
aws_access_key_id = ASIAROOT
aws_secret_access_key = secret
aws_session_token = token
[profile process]
credential_process = /no/such/program
"""

PARENTS = {
    "assumed role": lambda: assume_role(boto3.Session("AKIAROOT", "secret"), SPOKE),
    "assumed by a profile": lambda: boto3.Session(profile_name="role"),
    "assumed with a web identity": lambda: boto3.Session(profile_name="web"),
    "single sign-on": lambda: boto3.Session(profile_name="sso"),
    "temporary keys": lambda: boto3.Session(profile_name="temporary"),
    "long-term keys": lambda: boto3.Session(profile_name="keys"),
}


@pytest.fixture
def parent_of(tmp_path) -> dict[str, Any]:
    (tmp_path / "config").write_text(CONFIG)
    return PARENTS


@pytest.mark.parametrize(
    "kind", ["assumed role", "assumed by a profile", "assumed with a web identity", "single sign-on"]
)
@pytest.mark.parametrize("duration", [3601, timedelta(hours=1, seconds=1), 43200])
def test_a_role_assumed_by_a_role_has_an_hour(sts, parent_of, kind, duration):
    """If the parent is certainly a role, more than an hour is refused, and an hour is accepted."""
    session = parent_of[kind]()
    text = refusal(session, DurationSeconds=duration)
    assert "DurationSeconds" in text
    assert "3600" in text
    assume_role(session, HUB, DurationSeconds=3600)
    assert sts.connections == 0


@pytest.mark.parametrize("kind", ["temporary keys", "long-term keys"])
def test_a_parent_that_may_be_no_role_is_not_held_to_an_hour(parent_of, kind):
    """If the parent may not be a role, twelve hours are accepted."""
    assume_role(parent_of[kind](), HUB, DurationSeconds=43200)


def test_an_hour_is_told_along_with_other_problems(parent):
    """Problems with other parameters do not hide the one-hour limit of a chained role."""
    text = refusal(assume_role(parent, SPOKE), ExternalId="x", DurationSeconds=3601)
    assert "ExternalId must be" in text
    assert "DurationSeconds is 3601; it must be at most 3600" in text


@pytest.mark.parametrize("kind", ["assumed role", "assumed by a profile", "temporary keys"])
def test_transitive_keys_may_come_from_the_parent(parent_of, kind):
    """If the parent may be a role, a transitive key need not be among the tags."""
    assume_role(parent_of[kind](), HUB, TransitiveTagKeys=["inherited"])


def test_transitive_keys_cannot_come_from_a_user(parent_of):
    """If the parent is not a role, a transitive key that is not among the tags is refused and named."""
    text = refusal(parent_of["long-term keys"](), Tags={"Team": "blue"}, TransitiveTagKeys=["Team", "other"])
    assert "TransitiveTagKeys" in text
    assert "'other'" in text
    assert "'Team'" not in text
