"""Each parameter is checked against STS's limits at the call, by name, and all problems are reported together."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import (
    ParamValidationError,
)
from conftest import HUB, SPOKE
from parameters import POLICY, POLICY_ARN, SERIAL, context, needs_token_size, policy_of, refusal, tags_of

from aws_assume_role_lib import assume_role

ROLE_ARNS = {
    "plain": HUB,
    "path": "arn:aws:iam::111111111111:role/team/app/Hub",
    "service role": "arn:aws:iam::111111111111:role/aws-service-role/x.amazonaws.com/Hub",
    "china": "arn:aws-cn:iam::111111111111:role/Hub",
    "gov": "arn:aws-us-gov:iam::111111111111:role/Hub",
    "unknown partition": "arn:aws-iso-z:iam::111111111111:role/Hub",
    "no account": "arn:aws:iam:::role/Hub",
    "another kind of account": "arn:minio:iam::RGW33567154695143645:role/Hub",
    "just not too long": "arn:aws:iam::111111111111:role/" + "x" * (2048 - 31),
}

WRONG_ROLE_ARNS = {
    "empty": "",
    "name": "Hub",
    "11 digits": "arn:aws:iam::11111111111:role/Hub",
    "13 digits": "arn:aws:iam::1111111111111:role/Hub",
    "user": "arn:aws:iam::111111111111:user/Hub",
    "root": "arn:aws:iam::111111111111:root",
    "session": "arn:aws:sts::111111111111:assumed-role/Hub/name",
    "other service": "arn:aws:s3::111111111111:role/Hub",
    "region": "arn:aws:iam:us-east-1:111111111111:role/Hub",
    "no partition": "arn::iam::111111111111:role/Hub",
    "no name": "arn:aws:iam::111111111111:role/",
    "no name after the path": "arn:aws:iam::111111111111:role/team/",
    "roles": "arn:aws:iam::111111111111:roles/Hub",
    "space": "arn:aws:iam::111111111111:role/Hub ",
    "newline": "arn:aws:iam::111111111111:role/Hub\n",
    "other digits": "arn:aws:iam::\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669\u0660\u0661\u0662:role/Hub",
    "other letters": "arn:aws:iam::111111111111:role/H\u00fcb",
    "too long": "arn:aws:iam::111111111111:role/" + "x" * (2049 - 31),
}


@pytest.mark.parametrize("role_arn", ROLE_ARNS.values(), ids=ROLE_ARNS)
def test_takes_the_arn_of_any_role(parent, role_arn):
    """ARNs of roles in any partition, with any path, are accepted, and so are those of S3-compatible stores."""
    assert assume_role(parent, role_arn).role_arn == role_arn


@pytest.mark.parametrize("role_arn", WRONG_ROLE_ARNS.values(), ids=WRONG_ROLE_ARNS)
def test_refuses_what_is_no_arn_of_a_role(parent, role_arn):
    """Anything but an IAM role's ARN with a possible account ID is refused, by name and value."""
    text = refusal(parent, role_arn)
    assert "RoleArn" in text
    assert repr(role_arn) in text


@pytest.mark.parametrize("role_arn", [None, 1, ["arn"], HUB.encode()])
def test_role_arn_is_a_string(parent, role_arn):
    """A RoleArn that is not a string is refused along with other problems, and on its own without validation."""
    text = refusal(parent, role_arn, DurationSeconds=1)
    assert f"RoleArn is {role_arn!r}" in text
    assert "DurationSeconds" in text
    with pytest.raises(TypeError, match="RoleArn must be a string"):
        assume_role(parent, role_arn, DurationSeconds=1, validate=False)


AT_THE_LIMIT: list[dict[str, Any]] = [
    {"RoleSessionName": "ab"},
    {"RoleSessionName": "x" * 64},
    {"RoleSessionName": "AZaz09_+=,.@-"},
    {"SourceIdentity": "ab"},
    {"SourceIdentity": "x" * 64},
    {"SourceIdentity": "AZaz09_+=,.@-"},
    {"DurationSeconds": 900},
    {"DurationSeconds": 43200},
    {"DurationSeconds": timedelta(minutes=15)},
    {"DurationSeconds": timedelta(hours=12)},
    {"Policy": policy_of(2048)},
    {"Policy": json.dumps(policy_of(2048), indent=40)},
    {"Policy": {}},
    {"PolicyArns": []},
    {"PolicyArns": [POLICY_ARN] * 10},
    {"PolicyArns": ["arn:aws-cn:iam::111111111111:policy/team/Reader"]},
    {"Tags": {}},
    {"Tags": tags_of(50)},
    {"Tags": {"k": ""}},
    {"Tags": {"k" * 128: "v" * 256}},
    {"Tags": tags_of(50), "TransitiveTagKeys": list(tags_of(50))},
    {"TransitiveTagKeys": []},
    {"ExternalId": "ab"},
    {"ExternalId": "x" * 1224},
    {"ExternalId": "AZaz09_+=,.@:/-"},
    {"SerialNumber": SERIAL},
    {"SerialNumber": "GAHT12345678"},
    {"SerialNumber": "x" * 256},
    {"SerialNumber": SERIAL, "TokenCode": "012345"},
    {"SerialNumber": SERIAL, "TokenCode": lambda: "012345"},
    {"ProvidedContexts": [context(n) for n in range(5)]},
]


@pytest.mark.parametrize("parameters", AT_THE_LIMIT, ids=lambda parameters: "+".join(parameters))
def test_passes_at_the_limit(parent, parameters):
    """A value just within a limit is accepted."""
    assume_role(parent, HUB, **parameters)


OVER_THE_LIMIT: list[dict[str, Any]] = [
    # The first key is the parameter at fault.
    {"RoleSessionName": ""},
    {"RoleSessionName": "a"},
    {"RoleSessionName": "x" * 65},
    {"RoleSessionName": "with space"},
    {"RoleSessionName": "newline\n"},
    {"RoleSessionName": "col:on"},
    {"RoleSessionName": "sl/ash"},
    {"RoleSessionName": "né"},
    {"RoleSessionName": 12},
    {"SourceIdentity": "a", "RoleSessionName": "name"},
    {"SourceIdentity": "x" * 65, "RoleSessionName": "name"},
    {"SourceIdentity": "with space", "RoleSessionName": "name"},
    {"SourceIdentity": 12, "RoleSessionName": "name"},
    {"DurationSeconds": 0},
    {"DurationSeconds": 899},
    {"DurationSeconds": 43201},
    {"DurationSeconds": -900},
    {"DurationSeconds": 900.0},
    {"DurationSeconds": 900.5},
    {"DurationSeconds": "900"},
    {"DurationSeconds": True},
    {"DurationSeconds": timedelta(seconds=899)},
    {"DurationSeconds": timedelta(hours=12, seconds=1)},
    {"DurationSeconds": timedelta(seconds=900, microseconds=1)},
    {"Policy": policy_of(2049)},
    {"Policy": json.dumps(policy_of(2049))},
    {"Policy": ""},
    {"Policy": "{"},
    {"Policy": "[]"},
    {"Policy": '"text"'},
    {"Policy": [POLICY]},
    {"Policy": 1},
    {"Policy": {"Statement": {"a set"}}},
    {"Policy": {"Statement": float("nan")}},
    {"Policy": '{"Statement": NaN}'},
    {"PolicyArns": [POLICY_ARN] * 11},
    {"PolicyArns": POLICY_ARN},
    {"PolicyArns": {"arn": POLICY_ARN}},
    {"PolicyArns": [HUB]},
    {"PolicyArns": ["ReadOnlyAccess"]},
    {"PolicyArns": [{"arn": "ReadOnlyAccess"}]},
    {"PolicyArns": [{"Arn": POLICY_ARN}]},
    {"PolicyArns": [{"arn": POLICY_ARN, "more": "x"}]},
    {"PolicyArns": [None]},
    {"Tags": tags_of(51)},
    {"Tags": {"": "v"}},
    {"Tags": {"k" * 129: "v"}},
    {"Tags": {"k": "v" * 257}},
    {"Tags": {1: "v"}},
    {"Tags": {"k": 1}},
    {"Tags": {"k": None}},
    {"Tags": "k=v"},
    {"Tags": ["k"]},
    {"Tags": [{"key": "k", "value": "v"}]},
    {"Tags": [{"Key": "k"}]},
    {"Tags": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]},
    {"Tags": {"Team": "1", "team": "2"}},
    {"TransitiveTagKeys": list(tags_of(51)), "Tags": tags_of(50)},
    {"TransitiveTagKeys": "key", "Tags": {"key": "v"}},
    {"TransitiveTagKeys": [1], "Tags": {"key": "v"}},
    {"TransitiveTagKeys": ["other"], "Tags": {"key": "v"}},
    {"TransitiveTagKeys": ["other"]},
    {"ExternalId": ""},
    {"ExternalId": "a"},
    {"ExternalId": "x" * 1225},
    {"ExternalId": "with space"},
    {"ExternalId": "newline\n"},
    {"ExternalId": 12},
    {"SerialNumber": "short"},
    {"SerialNumber": "x" * 257},
    {"SerialNumber": "with space"},
    {"SerialNumber": f"{SERIAL}\n"},
    {"SerialNumber": 123456789},
    {"TokenCode": "012345"},
    {"TokenCode": lambda: "012345"},
    {"TokenCode": "12345", "SerialNumber": SERIAL},
    {"TokenCode": "1234567", "SerialNumber": SERIAL},
    {"TokenCode": "12345x", "SerialNumber": SERIAL},
    {"TokenCode": "12345\n", "SerialNumber": SERIAL},
    {"TokenCode": "١٢٣٤٥٦", "SerialNumber": SERIAL},
    {"TokenCode": 123456, "SerialNumber": SERIAL},
    {"ProvidedContexts": [context(n) for n in range(6)]},
    {"ProvidedContexts": context(1)},
    {"ProvidedContexts": [{"Provider": "x"}]},
]


def _id(parameters: dict[str, Any]) -> str:
    name, value = next(iter(parameters.items()))
    return ascii(f"{name}={'callable' if callable(value) else value}")[1:60]


@pytest.mark.parametrize("parameters", OVER_THE_LIMIT, ids=_id)
def test_refuses_over_the_limit(parent, parameters):
    """A value just outside a limit, or of the wrong type, is refused by name."""
    assert next(iter(parameters)) in refusal(parent, **parameters)


@pytest.mark.parametrize("parameters", OVER_THE_LIMIT, ids=_id)
def test_accuses_no_parameter_that_is_right(parent, parameters):
    """The error about one parameter blames no other: each line starts with the one at fault."""
    at_fault, *others = parameters
    for line in refusal(parent, **parameters).splitlines()[1:]:
        assert not any(line.startswith(name) for name in others if name not in at_fault), line


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (
            {"role_arn": "x"},
            "RoleArn is 'x'; it must be the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name.",
        ),
        (
            {"DurationSeconds": 899},
            "DurationSeconds is 899; STS takes 900 to 43200 seconds, up to the maximum that the role allows.",
        ),
        (
            {"DurationSeconds": 43201},
            "DurationSeconds is 43201; STS takes 900 to 43200 seconds, up to the maximum that the role allows.",
        ),
        (
            {"Tags": [{"Key": "a", "Value": "b", "More": "c"}]},
            'Tags must be a mapping, or a list of {"Key": ..., "Value": ...}.',
        ),
        ({"TransitiveTagKeys": [1]}, "TransitiveTagKeys is [1]; it must be a list of tag keys."),
        ({"TransitiveTagKeys": [str(n) for n in range(51)]}, "TransitiveTagKeys has 51 keys; the STS limit is 50."),
    ],
    ids=str,
)
def test_says_once_what_is_wrong(parent, parameters, problem):
    """One mistake is reported in one line, and the line is ours, which says more than botocore's."""
    role = assume_role(parent, SPOKE)
    assert refusal(role, **parameters) == f"Parameter validation failed:\n{problem}"


def test_names_all_problems_at_once(parent):
    """One call raises one error, which names every invalid parameter."""
    wrong: dict[str, Any] = {
        "RoleSessionName": "x",
        "PolicyArns": ["nothing"],
        "Policy": "{",
        "DurationSeconds": 1,
        "Tags": {"": "v"},
        "TransitiveTagKeys": ["other"],
        "ExternalId": "x",
        "SerialNumber": "short",
        "TokenCode": "1",
        "SourceIdentity": "x",
        "ProvidedContexts": [{"Provider": "x"}],
        "additional_kwargs": {"NoSuchParameter": "x"},
    }
    text = refusal(parent, "Hub", **wrong)
    for name in (*wrong, "RoleArn", "NoSuchParameter"):
        assert name == "additional_kwargs" or name in text


def test_names_all_problems_of_one_parameter(parent):
    """Several problems of one parameter are all in the error."""
    text = refusal(parent, Tags={"": "v", "k" * 129: "v", "good": 1, "also": "x" * 257})
    assert text.count("Tags has") == 4


@needs_token_size
@pytest.mark.parametrize("size", [-1, 4097, "1", 1.5])
def test_refuses_a_token_size(parent, size):
    """A size outside the limits, or of the wrong type, is refused by name."""
    assert "MinimumSessionTokenSize" in refusal(parent, MinimumSessionTokenSize=size)


def test_additional_kwargs_are_checked(parent):
    """additional_kwargs are checked just as keywords are."""
    assert "ExternalId" in refusal(parent, additional_kwargs={"ExternalId": "x"})


def test_a_parameter_that_botocore_does_not_know_is_refused(parent):
    """A key of additional_kwargs that AssumeRole does not have is a ParamValidationError."""
    assert "Tomorrow" in refusal(parent, additional_kwargs={"Tomorrow": 7})


@pytest.mark.parametrize("name", ["x", "a b", "", "x" * 65, None, 7])
def test_a_callable_role_session_name_must_return_a_name(parent, sts, name):
    """The name returned by a callable RoleSessionName is checked before STS is called."""
    child = assume_role(parent, HUB, RoleSessionName=lambda: name)
    with pytest.raises(ParamValidationError, match="callable given as RoleSessionName"):
        child.get_credentials().get_frozen_credentials()
    assert sts.requests == []


@pytest.mark.parametrize("code", ["12345", "abcdef", "", 123456, None])
def test_a_callable_token_code_must_return_a_code(parent, sts, code):
    """The code returned by a callable TokenCode is checked before STS is called, and not repeated."""
    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=lambda: code)
    with pytest.raises(ParamValidationError, match="callable given as TokenCode") as error:
        child.get_credentials().get_frozen_credentials()
    assert not code or str(code) not in str(error.value)
    assert sts.requests == []


def test_text_that_is_not_unicode_is_refused(parent):
    """Half of a surrogate pair cannot be sent: it raises a ParamValidationError, not a UnicodeEncodeError later."""
    with pytest.raises(ParamValidationError, match="Tags has text that is not Unicode"):
        assume_role(parent, HUB, Tags={"a": "\ud800"})


def test_tags_that_differ_in_more_than_case(parent):
    """Tag keys that differ in more than case are distinct, even if casefold() makes them equal."""
    assume_role(parent, HUB, Tags={"stra\u00dfe": "a", "strasse": "b"})
