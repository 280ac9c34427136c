"""patch_boto3()."""

from __future__ import annotations

import inspect
import re

import boto3
import pytest
from conftest import HUB, SPOKE, key

from aws_assume_role_lib import AssumedRoleSession, patch_boto3


@pytest.fixture(autouse=True)
def _unpatched(monkeypatch):
    yield
    monkeypatch.undo()
    for owner in (boto3, boto3.Session):
        if "assume_role" in vars(owner):
            del owner.assume_role


def test_boto3_assumes_roles_with_its_default_session(sts, root_keys):
    """boto3.assume_role() uses the default session of each call, and sets it up, as boto3.client() does."""
    patch_boto3()
    first = boto3.assume_role(HUB)
    assert first.assume_role_parent_session is boto3.DEFAULT_SESSION
    boto3.setup_default_session(aws_access_key_id="AKIATWO", aws_secret_access_key="s")
    second = boto3.assume_role(HUB, RoleSessionName="me")
    assert key(second) != key(first)
    assert [request.access_key for request in sts.assumed] == ["AKIATWO", "AKIAROOT"]
    assert sts.assumed[0].params["RoleSessionName"] == "me"


def test_each_session_has_assume_role(parent):
    """boto3.Session.assume_role() uses that session as the parent, and an assumed-role session keeps its own method;
    a second patch_boto3() changes nothing."""
    patch_boto3()
    before = boto3.assume_role, boto3.Session.assume_role
    patch_boto3()
    assert (boto3.assume_role, boto3.Session.assume_role) == before
    hub = parent.assume_role(HUB)
    assert isinstance(hub, AssumedRoleSession)
    assert hub.assume_role_parent_session is parent
    assert hub.assume_role(SPOKE).assume_role_parent_session is hub


@pytest.mark.parametrize("name", ["boto3", "boto3.Session"])
def test_an_assume_role_of_boto3s_own_is_kept(monkeypatch, name):
    """If boto3 ever defines one of these names, patching raises an error and changes nothing."""
    owner, other = (boto3, boto3.Session) if name == "boto3" else (boto3.Session, boto3)
    monkeypatch.setattr(owner, "assume_role", print, raising=False)
    with pytest.raises(RuntimeError, match=f"{name}.assume_role already exists; not overwriting it"):
        patch_boto3()
    assert owner.assume_role is print
    assert not hasattr(other, "assume_role")


def test_help_names_what_is_taken():
    """help() documents no session for the function, which takes none, and says that the method's own is the parent."""
    patch_boto3()
    documented = inspect.getdoc(boto3.assume_role) or ""
    assert re.findall(r"^    (\S+):", documented, re.MULTILINE) == ["RoleArn", "**parameters"]
    documented = inspect.getdoc(boto3.Session().assume_role) or ""
    assert "its own session is the parent" in " ".join(documented.split())
    assert next(iter(inspect.signature(boto3.Session().assume_role).parameters)) == "RoleArn"
