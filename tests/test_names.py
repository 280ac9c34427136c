"""The helpers for ARNs and session names: what they build and what they refuse."""

from __future__ import annotations

import datetime
import enum
import inspect
import random
import re
import string

import pytest
import time_machine
from hypothesis import example, given
from hypothesis import strategies as st

from aws_assume_role_lib._names import (
    generate_lambda_session_name,
    get_assumed_role_session_arn,
    get_role_arn,
    make_session_name,
)

NAME_CHARACTERS = string.ascii_letters + string.digits + "_+=,.@-"
VALID = {"account_id": 1, "role_name": "r"}
BUILDERS = {get_role_arn: VALID, get_assumed_role_session_arn: {**VALID, "role_session_name": "me"}}


ENUMS = [enum.Enum("Account", {"PROD": value}, type=type(value)).PROD for value in (12345, "12345")]
ARNS = [
    (get_role_arn, ("123456789012", "r"), "arn:aws:iam::123456789012:role/r"),
    (get_role_arn, (1, "r", "/team/app/", "aws-us-gov"), "arn:aws-us-gov:iam::000000000001:role/team/app/r"),
    # A path means the same with and without a slash at either end, and may be in the name.
    *((get_role_arn, (1, "r", path), "arn:aws:iam::000000000001:role/a/b/r") for path in ("a/b", "/a/b", "a/b/")),
    *((get_role_arn, (1, name), "arn:aws:iam::000000000001:role/a/b/r") for name in ("a/b/r", "/a/b/r")),
    # The root path, as IAM reports it for a role without a path, adds nothing.
    *((get_role_arn, (1, *rest), "arn:aws:iam::000000000001:role/r") for rest in (("r", ""), ("r", "/"), ("/r", ""))),
    # IAM allows 512 characters, including the slashes.
    (get_role_arn, (1, "r", "p" * 510), f"arn:aws:iam::000000000001:role/{'p' * 510}/r"),
    # An account ID that lost its leading zeros gets them back, and a member of an enum is what it represents.
    *((get_role_arn, (account, "r"), "arn:aws:iam::000000012345:role/r") for account in ("000000012345", *ENUMS)),
    # A session's ARN ends in the role's name, without a path, and the session's name.
    *(
        (
            get_assumed_role_session_arn,
            (ENUMS[0], name, "me", "aws-cn"),
            "arn:aws-cn:sts::000000012345:assumed-role/r/me",
        )
        for name in ("r", "a/b/r", "/a/b/r")
    ),
]


@pytest.mark.parametrize(("build", "arguments", "arn"), ARNS)
def test_arn(build, arguments, arn):
    """An ARN names the partition, the account, a role's path and name, or a session's role and name."""
    assert build(*arguments) == arn


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
REFUSED = [
    (build, argument, value, error)
    for build in BUILDERS
    for argument in inspect.signature(build).parameters
    for error, table in ((ValueError, IMPOSSIBLE), (TypeError, WRONG_TYPES))
    for value in table[argument]
]


@pytest.mark.parametrize(("build", "argument", "value", "error"), REFUSED)
def test_refused(build, argument, value, error):
    """A value that AWS does not allow raises a ValueError, and one of the wrong type a TypeError, which show it and
    say what to pass."""
    shown = re.escape(repr(str(value) if error is ValueError else value))
    expected = ".*" if error is ValueError else ".*str.*"
    with pytest.raises(error, match=rf"^{argument} is {shown}; it must be {expected}\.$"):
        build(**{**BUILDERS[build], argument: value})


ROLE_NAMES = st.text(NAME_CHARACTERS, min_size=1, max_size=64)
SESSION_NAMES = st.text(NAME_CHARACTERS, min_size=2, max_size=64)
PATHS = st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=510)


@given(st.integers(0, 10**12 - 1), ROLE_NAMES, SESSION_NAMES, PATHS)
def test_everything_allowed_is_kept(account_id, role, name, path):
    """Every account, path and name that AWS allows appears unchanged in the ARN."""
    account = f"{account_id:012}"
    assert get_role_arn(account_id, role, f"/{path}/") == f"arn:aws:iam::{account}:role/{path}/{role}"
    assert get_assumed_role_session_arn(account, role, name) == f"arn:aws:sts::{account}:assumed-role/{role}/{name}"


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
    """Any text makes a valid name, and other long texts make others."""
    for each in (text, text * 65):
        assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", make_session_name(each))
    assert make_session_name(text * 65 + other) != make_session_name(text * 65)


@pytest.mark.parametrize(("text", "error"), [("", ValueError), (None, TypeError), (7, TypeError), (b"me", TypeError)])
def test_no_session_name_from_no_text(text, error):
    """An empty text, or what is not text, is refused by value."""
    with pytest.raises(error, match="^text is .*; it must "):
        make_session_name(text)


INSTANCE = "0123456789abcdef0123456789abcdef"
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "report",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
    "AWS_LAMBDA_LOG_STREAM_NAME": f"2025/01/31/[7]{INSTANCE}",
}
MOMENT = datetime.datetime(2025, 1, 31, 12, 34, 56, 789012, tzinfo=datetime.timezone.utc)
TIMESTAMP = "20250131123456789012"


@pytest.fixture
def in_lambda(monkeypatch):
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)


NAME, VERSION, LOG_STREAM = VARIABLES
LAMBDA_NAMES = [
    # The environment, where it differs; the arguments; and the name.
    ({}, {}, f"report.7.{INSTANCE}"),
    ({}, {"function_name": "other", "function_version": "8", "identifier": "xyz"}, "other.8.xyz"),
    ({}, {"function_version": 8}, f"report.8.{INSTANCE}"),
    # An empty string leaves out the version, or the log stream's identifier.
    ({}, {"function_version": ""}, f"report.{INSTANCE}"),
    ({}, {"identifier": ""}, f"report.7.{TIMESTAMP}"),
    # A name of more than 59 characters is used alone, cut to 64; the version is left out if it would not leave room.
    ({}, {"function_name": "n" * 59}, "n" * 59 + ".0123"),
    ({}, {"function_name": "n" * 60}, "n" * 60),
    ({}, {"function_name": "n" * 65}, "n" * 64),
    ({}, {"function_name": "n" * 50, "function_version": "1" * 9}, "n" * 50 + "." + "1" * 9 + ".012"),
    ({}, {"function_name": "n" * 50, "function_version": "1" * 10}, "n" * 50 + ".0123456789abc"),
    # So is an unpublished version.
    ({}, {"function_version": "$LATEST"}, f"report.{INSTANCE}"),
    ({VERSION: "$LATEST"}, {}, f"report.{INSTANCE}"),
    ({VERSION: "$LATEST.PUBLISHED"}, {}, f"report.{INSTANCE}"),
    # The identifier is the hexadecimal part at the end of the log stream's name, or else the time, cut to what fits.
    ({LOG_STREAM: f"2025/01/31/[$LATEST]{INSTANCE}"}, {}, f"report.7.{INSTANCE}"),
    ({LOG_STREAM: f"2025/01/31/report[7]{INSTANCE}"}, {}, f"report.7.{INSTANCE}"),
    ({LOG_STREAM: INSTANCE}, {}, f"report.7.{INSTANCE}"),
    ({LOG_STREAM: ""}, {}, f"report.7.{TIMESTAMP}"),
    ({LOG_STREAM: "2025/01/31/[$LATEST]"}, {}, f"report.7.{TIMESTAMP}"),
    ({LOG_STREAM: "stream\n"}, {}, f"report.7.{TIMESTAMP}"),
    ({LOG_STREAM: ""}, {"function_name": "n" * 49, "function_version": ""}, "n" * 49 + "." + TIMESTAMP[:14]),
    # Every character that AWS does not allow becomes an underscore, wherever it comes from.
    ({}, {"function_name": "a:b \u00e9", "function_version": "v/1", "identifier": "i\n\U0001f600"}, "a_b__.v_1.i__"),
    ({}, {"function_name": "\u00e9" * 70}, "_" * 64),
]


@pytest.mark.parametrize(("environment", "arguments", "name"), LAMBDA_NAMES)
@time_machine.travel(MOMENT, tick=False)
def test_lambda_name(in_lambda, monkeypatch, environment, arguments, name):
    """The name has the parts that were passed, or else those in the environment at the time of the call."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert generate_lambda_session_name(**arguments) == name


def test_random_characters_where_a_timestamp_does_not_fit():
    """With fewer than 14 characters free, they are random, and not from the generator that a snapshot copies."""
    state = random.getstate()
    first = generate_lambda_session_name("n" * 50)
    assert re.fullmatch("n{50}[.][A-Za-z0-9]{13}", first)
    random.setstate(state)
    assert generate_lambda_session_name("n" * 50) != first


@pytest.mark.parametrize(("variable", "argument"), [(None, None), ("", None), ("report", "")])
def test_no_lambda_name(monkeypatch, variable, argument):
    """Without a function name, an error names the variable."""
    if variable is not None:
        monkeypatch.setenv(NAME, variable)
    with pytest.raises(ValueError, match=NAME):
        generate_lambda_session_name(argument)


@pytest.mark.parametrize("argument", ["function_name", "function_version", "identifier"])
def test_wrong_type_for_lambda(in_lambda, argument):
    """An argument that is not a str raises a TypeError that names it and shows the value."""
    with pytest.raises(TypeError, match=f"{argument} is 7.5; it must be a str"):
        generate_lambda_session_name(**{argument: 7.5})


# The operating system allows no NUL and no lone surrogate in a variable.
VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
ODD_TEXT = VALUE | st.text("aZ9.$-", max_size=80) | st.just("$LATEST")


@given(name=ODD_TEXT.filter(bool), version=ODD_TEXT, identifier=ODD_TEXT | st.none(), log_stream=ODD_TEXT)
def test_lambda_name_is_always_valid(name, version, identifier, log_stream):
    """Whatever the input, the result is a valid RoleSessionName and SourceIdentity."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in zip(VARIABLES, (name, version, log_stream), strict=True):
            patch.setenv(variable, value)
        for result in (
            generate_lambda_session_name(identifier=identifier),
            generate_lambda_session_name(name, version),
        ):
            assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", result)
