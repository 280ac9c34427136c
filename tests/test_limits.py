"""Each parameter is checked against STS's limits at the call, by name, and all problems are reported together."""

from __future__ import annotations

import copy
import json
import re
from datetime import timedelta
from typing import Any

import boto3
import botocore
import botocore.session
import pytest
from botocore.exceptions import (
    ParamValidationError,
)
from conftest import HUB, SPOKE
from parameters import MEMBERS, POLICY, POLICY_ARN, SERIAL, context, needs_token_size, policy_of, refusal, tags_of

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
    "colons in the path": "arn:aws:iam::111111111111:role/team:app/Hub",
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
    "colon in the name": "arn:aws:iam::111111111111:role/Hub:1",
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


# 64 in older botocore versions, 256 since 1.44.
MAX_IDENTITY = MEMBERS["SourceIdentity"].metadata["max"]

AT_THE_LIMIT: list[dict[str, Any]] = [
    {"RoleSessionName": "ab"},
    {"RoleSessionName": "x" * 64},
    {"RoleSessionName": "AZaz09_+=,.@-"},
    {"SourceIdentity": "ab"},
    {"SourceIdentity": "x" * MAX_IDENTITY},
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
    {"RoleSessionName": "né"},
    {"RoleSessionName": 12},
    {"SourceIdentity": "x" * (MAX_IDENTITY + 1), "RoleSessionName": "name"},
    {"SourceIdentity": 12, "RoleSessionName": "name"},
    {"DurationSeconds": 899},
    {"DurationSeconds": 43201},
    {"DurationSeconds": 900.0},
    {"DurationSeconds": "900"},
    {"DurationSeconds": True},
    {"DurationSeconds": timedelta(seconds=899)},
    {"DurationSeconds": timedelta(seconds=900, microseconds=1)},
    {"Policy": policy_of(2049)},
    {"Policy": ""},
    {"Policy": "{"},
    {"Policy": "[]"},
    {"Policy": [POLICY]},
    {"Policy": 1},
    {"Policy": {"Statement": {"a set"}}},
    {"Policy": {"Statement": float("nan")}},
    {"Policy": '{"Statement": NaN}'},
    {"PolicyArns": [POLICY_ARN] * 11},
    {"PolicyArns": POLICY_ARN},
    {"PolicyArns": [HUB]},
    {"PolicyArns": ["ReadOnlyAccess"]},
    {"PolicyArns": [{"Arn": POLICY_ARN}]},
    {"PolicyArns": [{"arn": POLICY_ARN, "more": "x"}]},
    {"PolicyArns": [None]},
    {"Tags": tags_of(51)},
    {"Tags": {"": "v"}},
    {"Tags": {"k" * 129: "v"}},
    {"Tags": {"k": "v" * 257}},
    {"Tags": {1: "v"}},
    {"Tags": {"k": 1}},
    {"Tags": "k=v"},
    {"Tags": ["k"]},
    {"Tags": [{"Key": "k"}]},
    {"Tags": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]},
    {"Tags": {"Team": "1", "team": "2"}},
    {"TransitiveTagKeys": list(tags_of(51)), "Tags": tags_of(50)},
    {"TransitiveTagKeys": "key", "Tags": {"key": "v"}},
    {"TransitiveTagKeys": [1], "Tags": {"key": "v"}},
    {"TransitiveTagKeys": ["other"], "Tags": {"key": "v"}},
    {"ExternalId": ""},
    {"ExternalId": "a"},
    {"ExternalId": "x" * 1225},
    {"ExternalId": "with space"},
    {"ExternalId": 12},
    {"SerialNumber": "short"},
    {"SerialNumber": "x" * 257},
    {"SerialNumber": f"{SERIAL}\n"},
    {"SerialNumber": 123456789},
    {"TokenCode": "012345"},
    {"TokenCode": lambda: "012345"},
    {"TokenCode": "12345", "SerialNumber": SERIAL},
    {"TokenCode": "1234567", "SerialNumber": SERIAL},
    {"TokenCode": "12345x", "SerialNumber": SERIAL},
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
    """A value just outside a limit, or of the wrong type, is refused by name, and no other parameter is blamed."""
    at_fault, *_ = parameters
    _, *lines = refusal(parent, **parameters).splitlines()
    assert lines
    for line in lines:
        assert re.match(rf"{at_fault}\b", line), line


SIX = "six digits, or a function that returns them"
PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        {"role_arn": "x"},
        "RoleArn is 'x'; it must be the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name.",
    ),
    ({"DurationSeconds": 899}, "DurationSeconds is 899; it must be a whole number, 900 to 43200, or a timedelta."),
    (
        {"RoleSessionName": "a b"},
        "RoleSessionName is 'a b'; it must be a string of 2 to 64 characters of [A-Za-z0-9_+=,.@-], or a function that "
        "returns them.",
    ),
    ({"Tags": "a=b"}, "Tags is 'a=b'; it must be a list, or a mapping."),
    (
        {"Tags": [{"Key": "a", "Value": "b", "More": "c"}]},
        "Tags[0] is {'Key': 'a', 'Value': 'b', 'More': 'c'}; it must be a mapping with Key and Value.",
    ),
    ({"Tags": {"a": 1}}, "Tags[0].Value is 1; it must be a string of 0 to 256 characters."),
    ({"Tags": {"A": "1", "a": "2"}}, "Tags has the key 'a' twice; STS ignores case in tag keys. Drop one."),
    (
        {"PolicyArns": [POLICY_ARN, None]},
        "PolicyArns[1].arn is None; it must be the ARN of an IAM policy, like arn:aws:iam::aws:policy/ReadOnlyAccess.",
    ),
    ({"TransitiveTagKeys": [str(n) for n in range(51)]}, "TransitiveTagKeys has 51 items; it must have 0 to 50."),
    (
        {"TokenCode": 123456, "SerialNumber": SERIAL},
        f"TokenCode must be a string of {SIX}.",
    ),
    (
        {"ExternalId": ""},
        "ExternalId is an empty string; it must have a value or be None. Pass `value or None` if it may be unset.",
    ),
    (
        {"additional_kwargs": {"Tomorrow": 7}},
        f"Tomorrow is not a parameter that botocore {botocore.__version__} knows. Correct it, or update botocore.",
    ),
]


@pytest.mark.parametrize(("parameters", "problem"), PROBLEMS, ids=str)
def test_says_once_what_is_wrong(parent, parameters, problem):
    """One mistake is reported in one line, which has the value unless it is secret, and what is expected."""
    role = assume_role(parent, SPOKE)
    assert refusal(role, **parameters) == f"Parameter validation failed:\n{problem}"


def test_names_all_problems_at_once(parent):
    """One call raises one error, which names every invalid parameter, wherever it was given, and all its problems."""
    wrong: dict[str, Any] = {
        "RoleSessionName": "x",
        "PolicyArns": ["nothing"],
        "Policy": "{",
        "DurationSeconds": 1,
        "Tags": {"": "v", "k" * 129: "v", "good": 1, "also": "x" * 257},
        "TransitiveTagKeys": [1],
        "SerialNumber": "short",
        "TokenCode": "1",
        "SourceIdentity": "x",
        "ProvidedContexts": [{"Provider": "x"}],
    }
    additional = {"ExternalId": "x", "NoSuchParameter": "x"}
    text = refusal(parent, "Hub", **wrong, additional_kwargs=additional)
    assert {line.split(maxsplit=1)[0].partition("[")[0] for line in text.splitlines()[1:]} == {
        "RoleArn",
        *wrong,
        *additional,
    }
    assert text.count("Tags[") == 4


def test_the_limits_are_those_of_the_installed_model(tmp_path, monkeypatch, parent):
    """When botocore's model changes a limit, or drops it, or has a pattern that Python does not know, so does the
    check."""
    model = botocore.session.Session().get_component("data_loader").load_service_model("sts", "service-2")
    model = copy.deepcopy(model)
    shapes = model["shapes"]
    members = {name: shapes[member["shape"]] for name, member in shapes["AssumeRoleRequest"]["members"].items()}
    members["ExternalId"].update(max=3, pattern=r"[\d]*")
    members["SerialNumber"].update(min=9, pattern=r"[\p{L}]*")
    del members["SerialNumber"]["max"]
    members["Tags"]["max"] = 1
    members["DurationSeconds"]["max"] = 1000
    shapes["AssumeRoleRequest"]["members"]["Dated"] = {"shape": "dateType"}
    folder = tmp_path / "sts/2011-06-15"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    other = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    right = {"ExternalId": "123", "SerialNumber": "x y" * 200, "Tags": {"a": ""}, "DurationSeconds": 1000}
    assume_role(other, HUB, **right, additional_kwargs={"Dated": "2031-05-01"})
    text = refusal(other, ExternalId="1234", SerialNumber="x", Tags=tags_of(2), DurationSeconds=1001)
    assert text.splitlines()[1:] == [
        "DurationSeconds is 1001; it must be a whole number, 900 to 1000, or a timedelta.",
        "Tags has 2 items; it must have 0 to 1.",
        "ExternalId must be a string of 2 to 3 characters of [0-9].",
        "SerialNumber is 'x'; it must be a string of at least 9 characters.",
    ]


@needs_token_size
@pytest.mark.parametrize("size", [-1, 4097, "1", 1.5])
def test_refuses_a_token_size(parent, size):
    """A size outside the limits, or of the wrong type, is refused by name."""
    assert "MinimumSessionTokenSize" in refusal(parent, MinimumSessionTokenSize=size)


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
