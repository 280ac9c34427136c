"""The ARN helpers: what they build and what they refuse."""

from __future__ import annotations

import enum
import inspect
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aws_assume_role_lib._names import get_assumed_role_session_arn, get_role_arn, make_session_name

NAME_CHARACTERS = string.ascii_letters + string.digits + "_+=,.@-"
VALID = {"account_id": 1, "role_name": "r"}
BUILDERS = {get_role_arn: VALID, get_assumed_role_session_arn: {**VALID, "role_session_name": "me"}}


def cases(values):
    """Each builder with each of the arguments that it takes, and each value for it."""
    return [
        pytest.param(build, argument, value, id=f"{build.__name__}-{argument}-{value!a}"[:60])
        for build in BUILDERS
        for argument in inspect.signature(build).parameters
        for value in values[argument]
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
def test_account_is_padded(account_id):
    """An account ID that lost its leading zeros gets them back."""
    assert get_role_arn(account_id, "r") == "arn:aws:iam::000000012345:role/r"
    assert get_assumed_role_session_arn(account_id, "r", "me") == "arn:aws:sts::000000012345:assumed-role/r/me"


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


IMPOSSIBLE = {
    "account_id": [-1, 10**12, "1234567890123", "", " 1", "1\n", "1234-5678-9012", "1.0", "\u0661\u0662", "twelve"],
    "role_name": ["", "a/", "a b", "r\n", "r:", "r*", "n\u00e9", "r" * 65, "arn:aws:iam::123456789012:role/r"],
    "partition": ["", "aws:", " aws", "aws\n", "AWS"],
    "path": ["a b", "a\n", "\u00e9", "a/\x7f", "//", "p" * 511],
    "role_session_name": ["", "a", "s" * 65, "a b", "a/b", "me\n", "n\u00e9e"],
}
WRONG_TYPES = {
    "account_id": [1.0, float("nan"), True, None, b"1", ["1"]],
    **{name: [None, 1, 1.5, True, b"aws"] for name in ("role_name", "partition", "path", "role_session_name")},
}


@pytest.mark.parametrize(("build", "argument", "value"), cases(IMPOSSIBLE))
def test_impossible(build, argument, value):
    """A value that AWS does not allow, such as an ARN as a name, raises a ValueError that shows it and says what is."""
    with pytest.raises(ValueError, match=rf"^{argument} is {re.escape(repr(str(value)))}; it must be .*\.$"):
        build(**{**BUILDERS[build], argument: value})


@pytest.mark.parametrize(("build", "argument", "value"), cases(WRONG_TYPES))
def test_wrong_type(build, argument, value):
    """A value of the wrong type raises a TypeError that shows it and says what to pass."""
    with pytest.raises(TypeError, match=rf"^{argument} is {re.escape(repr(value))}; it must be .*str.*\.$"):
        build(**{**BUILDERS[build], argument: value})


def test_longest_path():
    """A path may have the 512 characters that IAM allows, including the slashes."""
    assert get_role_arn(1, "r", "p" * 510) == f"arn:aws:iam::000000000001:role/{'p' * 510}/r"


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


LONG = "feature/" + "very-" * 12


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jane.doe+test@example.com", "jane.doe+test@example.com"),
        ("feature/login page:\u00e9", "feature_login_page__"),
        ("x", "x_"),
        ("/" * 64, "_" * 64),
        (LONG + "login", "feature_very-very-very-very-very-very-very-very-very-ve-5eb51472"),
        (LONG + "logout", "feature_very-very-very-very-very-very-very-very-very-ve-326c783f"),
    ],
)
def test_a_session_name_from_text(text, name):
    """A short text is kept but for what AWS does not allow; the end of a long one is replaced by its digest."""
    assert make_session_name(text) == name


@given(st.text(st.characters(exclude_categories=()), min_size=1), st.text(min_size=1))
@example("\ud800", "x")
def test_any_text_makes_a_session_name(text, other):
    """Any text makes a valid name, always the same, and other long texts make others."""
    long = text * 65
    for each in (text, long):
        assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", make_session_name(each))
        assert make_session_name(each) == make_session_name(str(each))
    assert make_session_name(long + other) != make_session_name(long)


@pytest.mark.parametrize(("text", "error"), [("", ValueError), (None, TypeError), (7, TypeError), (b"me", TypeError)])
def test_no_session_name_from_no_text(text, error):
    """An empty text, or what is not text, is refused by value."""
    with pytest.raises(error, match="^text is .*; it must "):
        make_session_name(text)
