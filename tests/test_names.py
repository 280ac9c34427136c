"""The ARN helpers: what they build and what they refuse."""

from __future__ import annotations

import enum
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aws_assume_role_lib._names import get_assumed_role_session_arn, get_role_arn

NAME_CHARACTERS = string.ascii_letters + string.digits + "_+=,.@-"
BUILDERS = [
    pytest.param(lambda **changed: get_role_arn(**{"account_id": 1, "role_name": "r", **changed}), id="role"),
    pytest.param(
        lambda **changed: get_assumed_role_session_arn(
            **{"account_id": 1, "role_name": "r", "role_session_name": "me", **changed}
        ),
        id="session",
    ),
]


def test_role_arn():
    """A role's ARN names the partition, the account, the path and the name."""
    assert get_role_arn("123456789012", "reader") == "arn:aws:iam::123456789012:role/reader"
    assert (
        get_role_arn(123456789012, "reader", "/team/app/", "aws-us-gov")
        == "arn:aws-us-gov:iam::123456789012:role/team/app/reader"
    )


def test_session_arn():
    """A session's ARN is an STS ARN that ends in the role's name and the session's name."""
    assert (
        get_assumed_role_session_arn(123456789012, "reader", "nightly", "aws-cn")
        == "arn:aws-cn:sts::123456789012:assumed-role/reader/nightly"
    )


@pytest.mark.parametrize("account_id", [12345, "12345", "000000012345"])
@pytest.mark.parametrize("build", BUILDERS)
def test_account_is_padded(build, account_id):
    """An account ID that lost its leading zeros gets them back."""
    assert build(account_id=account_id).split(":")[4] == "000000012345"


@pytest.mark.parametrize("kind", [int, str])
def test_account_of_an_enum(kind):
    """A member of an int or str enum is accepted as the account that it represents."""
    accounts = enum.Enum("Account", {"PROD": kind("123456789012")}, type=kind)
    assert get_role_arn(accounts.PROD, "r") == "arn:aws:iam::123456789012:role/r"


@pytest.mark.parametrize("path", ["a/b", "/a/b", "a/b/", "/a/b/"])
def test_slashes_around_a_path(path):
    """A path means the same with and without a slash at either end."""
    assert get_role_arn(1, "r", path) == "arn:aws:iam::000000000001:role/a/b/r"


@pytest.mark.parametrize(("path", "role_name"), [("", "r"), ("/", "r"), ("", "/r")])
def test_root_path(path, role_name):
    """The root path, as IAM reports it for a role without a path, adds nothing."""
    assert get_role_arn(1, role_name, path) == "arn:aws:iam::000000000001:role/r"


@pytest.mark.parametrize("role_name", ["a/b/r", "/a/b/r"])
def test_path_in_the_name(role_name):
    """A path in front of the name is kept in a role's ARN and dropped from a session's."""
    assert get_role_arn(1, role_name) == "arn:aws:iam::000000000001:role/a/b/r"
    assert get_assumed_role_session_arn(1, role_name, "me") == "arn:aws:sts::000000000001:assumed-role/r/me"


def test_two_paths():
    """A path in the name together with another in `path` is refused, and the message shows both."""
    with pytest.raises(ValueError, match=r"'a/r'.*'b'"):
        get_role_arn(1, "a/r", "b")


@pytest.mark.parametrize(
    "account_id",
    [-1, 10**12, "1234567890123", "-1", "", " 1", "1\n", "1234-5678-9012", "1.0", "\u0661\u0662", "twelve"],
)
@pytest.mark.parametrize("build", BUILDERS)
def test_impossible_account(build, account_id):
    """An impossible account raises a ValueError that shows it and says what to pass."""
    with pytest.raises(ValueError, match=re.escape(repr(str(account_id))) + ".*pass .*12 digits"):
        build(account_id=account_id)


@pytest.mark.parametrize("account_id", [1.0, float("nan"), True, None, b"1", ["1"]])
@pytest.mark.parametrize("build", BUILDERS)
def test_account_of_a_wrong_type(build, account_id):
    """An account that is neither an int nor a str raises a TypeError that shows it and says what to pass."""
    with pytest.raises(TypeError, match=re.escape(repr(account_id)) + ".*pass .*int or a str"):
        build(account_id=account_id)


@pytest.mark.parametrize("argument", ["role_name", "partition"])
@pytest.mark.parametrize("value", [None, 1, 1.5, True, b"aws"])
@pytest.mark.parametrize("build", BUILDERS)
def test_text_of_a_wrong_type(build, argument, value):
    """A name or partition that is not a str raises a TypeError that shows it and says what to pass."""
    with pytest.raises(TypeError, match=f"{argument} is {re.escape(repr(value))}: pass a str"):
        build(**{argument: value})


@pytest.mark.parametrize("value", [None, 1, 1.5, True, b"a"])
def test_path_or_session_name_of_a_wrong_type(value):
    """A path or session name that is not a str raises a TypeError that shows it and says what to pass."""
    with pytest.raises(TypeError, match=f"path is {re.escape(repr(value))}: pass a str"):
        get_role_arn(1, "r", value)
    with pytest.raises(TypeError, match=f"role_session_name is {re.escape(repr(value))}: pass a str"):
        get_assumed_role_session_arn(1, "r", value)


@pytest.mark.parametrize("role_name", ["", "a/", "a b", "r\n", "r:", "r*", "n\u00e9", "r" * 65])
@pytest.mark.parametrize("build", BUILDERS)
def test_impossible_role_name(build, role_name):
    """A role name that IAM does not allow raises a ValueError that shows it and says what to pass."""
    with pytest.raises(ValueError, match=f"role_name is {re.escape(repr(role_name))}: pass "):
        build(role_name=role_name)


@pytest.mark.parametrize("path", ["a b", "a\n", "\u00e9", "a/\x7f", "//", "p" * 511])
def test_impossible_path(path):
    """A path that IAM does not allow raises a ValueError that shows it and says what to pass."""
    with pytest.raises(ValueError, match=f"path is {re.escape(repr(path))}: pass "):
        get_role_arn(1, "r", path)


def test_longest_path():
    """A path may have the 512 characters that IAM allows, including the slashes."""
    assert get_role_arn(1, "r", "p" * 510) == f"arn:aws:iam::000000000001:role/{'p' * 510}/r"


@pytest.mark.parametrize("role_session_name", ["", "a", "s" * 65, "a b", "a/b", "me\n", "n\u00e9e"])
def test_impossible_session_name(role_session_name):
    """A session name that STS does not allow raises a ValueError that shows it and says what to pass."""
    with pytest.raises(ValueError, match=f"{re.escape(repr(role_session_name))}: pass 2 to 64"):
        get_assumed_role_session_arn(1, "r", role_session_name)


@pytest.mark.parametrize("partition", ["", "aws:", " aws", "aws\n", "AWS"])
@pytest.mark.parametrize("build", BUILDERS)
def test_impossible_partition(build, partition):
    """An empty partition, or one that would break the ARN, raises a ValueError that shows it."""
    with pytest.raises(ValueError, match=f"partition is {re.escape(repr(partition))}: pass 'aws'"):
        build(partition=partition)


@given(
    account_id=st.integers(0, 10**12 - 1),
    role_name=st.text(NAME_CHARACTERS, min_size=1, max_size=64),
    role_session_name=st.text(NAME_CHARACTERS, min_size=2, max_size=64),
    path=st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=510),
)
def test_everything_allowed_is_kept(account_id, role_name, role_session_name, path):
    """Every account, path and name that AWS allows appears unchanged in the ARN."""
    account = f"{account_id:012}"
    assert get_role_arn(account_id, role_name, f"/{path}/") == f"arn:aws:iam::{account}:role/{path}/{role_name}"
    assert (
        get_assumed_role_session_arn(account, role_name, role_session_name)
        == f"arn:aws:sts::{account}:assumed-role/{role_name}/{role_session_name}"
    )
