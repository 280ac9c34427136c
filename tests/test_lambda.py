"""The session name of a Lambda function instance."""

from __future__ import annotations

import datetime
import random
import re
import subprocess
import sys

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


def test_names_the_instance_from_the_environment(in_lambda):
    """In Lambda, no argument needs to be passed."""
    assert generate_lambda_session_name() == f"report.7.{INSTANCE}"


def test_environment_is_read_at_each_call(in_lambda, monkeypatch):
    """A restored snapshot gets the name of its own instance: the variables are read at each call."""
    generate_lambda_session_name()
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "2025/02/01/[7]feed")
    assert generate_lambda_session_name() == "report.7.feed"


def test_arguments_win_over_the_environment(in_lambda):
    """Arguments take precedence, and only the rest comes from the environment."""
    assert generate_lambda_session_name("other") == f"other.7.{INSTANCE}"
    assert generate_lambda_session_name(function_version="8") == f"report.8.{INSTANCE}"
    assert generate_lambda_session_name(function_version=8) == f"report.8.{INSTANCE}"
    assert generate_lambda_session_name(identifier="xyz") == "report.7.xyz"


def test_empty_version_and_identifier_are_not_taken_from_the_environment(in_lambda):
    """An empty string leaves out the version, or the log stream's identifier, even in Lambda."""
    assert generate_lambda_session_name(function_version="") == f"report.{INSTANCE}"
    with time_machine.travel(MOMENT, tick=False):
        assert generate_lambda_session_name(identifier="") == f"report.7.{TIMESTAMP}"


def test_long_name_stands_alone(in_lambda):
    """A name of more than 59 characters is used alone, cut to 64."""
    assert generate_lambda_session_name("n" * 60) == "n" * 60
    assert generate_lambda_session_name("n" * 65) == "n" * 64
    assert generate_lambda_session_name("n" * 59) == "n" * 59 + ".0123"


def test_long_version_is_left_out(in_lambda):
    """The version is left out if name and version exceed 59 characters, and the identifier gets the room."""
    assert generate_lambda_session_name("n" * 50, "1" * 9) == "n" * 50 + "." + "1" * 9 + ".012"
    assert generate_lambda_session_name("n" * 50, "1" * 10) == "n" * 50 + ".0123456789abc"


@pytest.mark.parametrize("version", ["$LATEST", "$LATEST.PUBLISHED"])
def test_latest_is_left_out(in_lambda, monkeypatch, version):
    """An unpublished version is never in the name, whether passed or from the environment."""
    assert generate_lambda_session_name(function_version=version) == f"report.{INSTANCE}"
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", version)
    assert generate_lambda_session_name() == f"report.{INSTANCE}"


@pytest.mark.parametrize("log_stream", [f"2025/01/31/[$LATEST]{INSTANCE}", f"2025/01/31/report[7]{INSTANCE}", INSTANCE])
def test_identifier_is_the_end_of_the_log_stream(in_lambda, monkeypatch, log_stream):
    """The identifier is the hexadecimal part at the end of the log stream name, in each of its forms."""
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", log_stream)
    assert generate_lambda_session_name() == f"report.7.{INSTANCE}"


@pytest.mark.parametrize("log_stream", ["", "$LATEST", "2025/01/31/[$LATEST]", "stream\n"])
@time_machine.travel(MOMENT, tick=False)
def test_timestamp_where_the_log_stream_has_no_identifier(in_lambda, monkeypatch, log_stream):
    """If the log stream name has no hexadecimal part, the identifier is the time to the microsecond."""
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", log_stream)
    assert generate_lambda_session_name() == f"report.7.{TIMESTAMP}"


@time_machine.travel(MOMENT, tick=False)
def test_timestamp_needs_14_free_characters(outside_lambda):
    """A timestamp is cut to what fits; with fewer than 14 characters free, random ones are used instead."""
    assert generate_lambda_session_name("n" * 49) == "n" * 49 + "." + TIMESTAMP[:14]
    assert generate_lambda_session_name("n" * 43) == "n" * 43 + "." + TIMESTAMP
    random_part = generate_lambda_session_name("n" * 50).removeprefix("n" * 50 + ".")
    assert re.fullmatch("[A-Za-z0-9]{13}", random_part)
    assert not TIMESTAMP.startswith(random_part)


def test_random_identifiers_are_not_from_the_seeded_generator(outside_lambda):
    """Two copies of a snapshot, whose random generators are in the same state, get different names."""
    state = random.getstate()
    first = generate_lambda_session_name("n" * 50)
    random.setstate(state)
    assert generate_lambda_session_name("n" * 50) != first


def test_characters_that_are_not_allowed(outside_lambda):
    """Every character that AWS does not allow becomes an underscore, wherever it comes from."""
    assert generate_lambda_session_name("a:b \u00e9", "v/1", "i\n\U0001f600") == "a_b__.v_1.i__"
    assert generate_lambda_session_name("\u00e9" * 70) == "_" * 64


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


def test_import_adds_no_module():
    """Importing the module loads nothing that boto3 has not already loaded."""
    code = (
        "import sys, boto3; before = set(sys.modules); import aws_assume_role_lib._names;"
        "print([name for name in set(sys.modules) - before if not name.startswith('aws_assume_role_lib')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
