"""The session name of a Lambda function instance."""

from __future__ import annotations

import datetime
import random
import re

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from aws_assume_role_lib._names import generate_lambda_session_name

INSTANCE = "0123456789abcdef0123456789abcdef"
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "report",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
    "AWS_LAMBDA_LOG_STREAM_NAME": f"2025/01/31/[7]{INSTANCE}",
}
MOMENT = datetime.datetime(2025, 1, 31, 12, 34, 56, 789012, tzinfo=datetime.timezone.utc)
TIMESTAMP = "20250131123456789012"


@pytest.fixture
def outside_lambda(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def in_lambda(monkeypatch):
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)


NAME, VERSION, LOG_STREAM = VARIABLES
NAMES = [
    # The environment, if it differs; the arguments; and the name.
    ({}, {}, f"report.7.{INSTANCE}"),
    ({}, {"function_name": "other"}, f"other.7.{INSTANCE}"),
    ({}, {"function_version": "8"}, f"report.8.{INSTANCE}"),
    ({}, {"function_version": 8}, f"report.8.{INSTANCE}"),
    ({}, {"identifier": "xyz"}, "report.7.xyz"),
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


@pytest.mark.parametrize(("environment", "arguments", "name"), NAMES)
@time_machine.travel(MOMENT, tick=False)
def test_the_name(in_lambda, monkeypatch, environment, arguments, name):
    """The name has the parts that were passed, or else those in the environment at the time of the call."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert generate_lambda_session_name(**arguments) == name


def test_random_characters_where_a_timestamp_does_not_fit(outside_lambda):
    """With fewer than 14 characters free, they are random, and not from the generator that a snapshot copies."""
    state = random.getstate()
    first = generate_lambda_session_name("n" * 50)
    assert re.fullmatch("n{50}[.][A-Za-z0-9]{13}", first)
    random.setstate(state)
    assert generate_lambda_session_name("n" * 50) != first


@pytest.mark.parametrize("missing", ["unset", "empty in the environment", "passed empty"])
def test_no_name(outside_lambda, monkeypatch, missing):
    """Without a function name, an error names the variable."""
    if missing == "empty in the environment":
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "")
    with pytest.raises(ValueError, match="AWS_LAMBDA_FUNCTION_NAME"):
        generate_lambda_session_name("" if missing == "passed empty" else None)


@pytest.mark.parametrize("argument", ["function_name", "function_version", "identifier"])
def test_wrong_types(in_lambda, argument):
    """An argument that is not a str raises a TypeError that names it and shows the value."""
    with pytest.raises(TypeError, match=f"{argument} is 7.5; it must be a str"):
        generate_lambda_session_name(**{argument: 7.5})


odd_text = st.one_of(st.text(max_size=80), st.text("aZ9.$-", max_size=80), st.just("$LATEST"), st.none())
# The operating system allows no NUL and no lone surrogate in a variable.
variable = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)


@given(odd_text, odd_text, odd_text, variable, variable, variable)
def test_always_a_valid_session_name(name, version, identifier, name_variable, version_variable, log_stream):
    """Whatever the input, the result is a valid RoleSessionName and SourceIdentity."""
    values = dict(zip(VARIABLES, [name_variable, version_variable, log_stream], strict=True))
    with pytest.MonkeyPatch.context() as patch:
        for key, value in values.items():
            patch.delenv(key, raising=False) if value is None else patch.setenv(key, value)
        if not (name_variable if name is None else name):
            with pytest.raises(ValueError, match="AWS_LAMBDA_FUNCTION_NAME"):
                generate_lambda_session_name(name, version, identifier)
            return
        result = generate_lambda_session_name(name, version, identifier)
    assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", result)
