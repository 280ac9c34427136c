"""patch_boto3()."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import boto3
import pytest
from conftest import HUB, SPOKE
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, patch_boto3


@pytest.fixture(autouse=True)
def _unpatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    for owner in (boto3, boto3.Session):
        if "assume_role" in vars(owner):
            del owner.assume_role


def test_boto3_assumes_roles_with_its_default_session(sts: StsStub) -> None:
    """boto3.assume_role() uses the current default session at each call."""
    patch_boto3()
    boto3.setup_default_session(aws_access_key_id="AKIAONE", aws_secret_access_key="s", region_name="us-east-1")
    first = boto3.assume_role(HUB)
    boto3.setup_default_session(aws_access_key_id="AKIATWO", aws_secret_access_key="s", region_name="us-east-1")
    second = boto3.assume_role(HUB, RoleSessionName="me")
    for session in (second, first):
        session.get_credentials().get_frozen_credentials()
    assert [request.access_key for request in sts.assumed] == ["AKIATWO", "AKIAONE"]
    assert sts.assumed[0].params["RoleSessionName"] == "me"


def test_boto3_makes_its_default_session_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3.assume_role() sets up the default session, as boto3.client() does."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    patch_boto3()
    assert boto3.assume_role(HUB).assume_role_parent_session is boto3.DEFAULT_SESSION


def test_each_session_has_assume_role(parent: boto3.Session) -> None:
    """boto3.Session.assume_role() uses that session as the parent, and an assumed-role session keeps its own method."""
    patch_boto3()
    hub = parent.assume_role(HUB)
    assert isinstance(hub, AssumedRoleSession)
    assert hub.assume_role_parent_session is parent
    assert hub.assume_role(SPOKE).assume_role_parent_session is hub


def test_again_changes_nothing() -> None:
    """A second patch_boto3() leaves in place what the first one added."""
    patch_boto3()
    before = boto3.assume_role, boto3.Session.assume_role
    patch_boto3()
    assert (boto3.assume_role, boto3.Session.assume_role) == before


@pytest.mark.parametrize("name", ["boto3", "boto3.Session"])
def test_an_assume_role_of_boto3s_own_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """If boto3 ever defines one of these names, patching raises an error and changes nothing."""
    owner, other = (boto3, boto3.Session) if name == "boto3" else (boto3.Session, boto3)
    monkeypatch.setattr(owner, "assume_role", print, raising=False)
    with pytest.raises(RuntimeError, match="assume_role already exists; not overwriting it"):
        patch_boto3()
    assert owner.assume_role is print
    assert not hasattr(other, "assume_role")


def test_help_names_what_is_taken() -> None:
    """help() documents the role and the keywords, and not a session, which neither of the additions takes."""
    patch_boto3()
    for addition in (boto3.assume_role, boto3.Session.assume_role):
        documented = inspect.getdoc(addition) or ""
        assert re.findall(r"^    (\S+):", documented, re.MULTILINE) == ["RoleArn", "**parameters"]
