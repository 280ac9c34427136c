"""Each parameter is checked against STS's limits at the call, by name, and all problems are reported together."""

from __future__ import annotations

import copy
import json
import re
from datetime import timedelta
from typing import Any
from unittest import mock

import boto3
import botocore
import botocore.session
import pytest
from botocore.exceptions import ParamValidationError
from botocore.loaders import Loader
from conftest import HUB, SPOKE
from parameters import MEMBERS, POLICY_ARN, SERIAL, cases, context, params_sent, refusal

from aws_assume_role_lib import assume_role

ROLE = "arn:aws:iam::111111111111:role/"
# 64 in older botocore versions, 256 since 1.44.
MAX_IDENTITY = MEMBERS["SourceIdentity"].metadata["max"]


def policy_of(length: int) -> dict[str, str]:
    """Return a policy with this many characters as compact JSON."""
    return {"Id": "x" * (length - len('{"Id":""}'))}


def tags_of(count: int) -> dict[str, str]:
    return {f"key{n}": "value" for n in range(count)}


# What some parameters need beside them.
BESIDE: dict[str, dict[str, Any]] = {
    "TokenCode": {"SerialNumber": SERIAL},
    "TransitiveTagKeys": {"Tags": tags_of(50)},
}
AT_THE_LIMIT: list[tuple[str, list[Any]]] = [
    ("RoleArn", [ROLE + "team/app/Hub", ROLE + "aws-service-role/x.amazonaws.com/Hub", ROLE + "team:app/Hub"]),
    ("RoleArn", [ROLE + "x" * (2048 - len(ROLE)), "arn:aws-iso-z:iam::111111111111:role/Hub"]),
    ("RoleArn", ["arn:aws:iam:::role/Hub", "arn:minio:iam::RGW33567154695143645:role/Hub"]),
    ("RoleSessionName", ["ab", "x" * 64, "AZaz09_+=,.@-"]),
    ("SourceIdentity", ["ab", "x" * MAX_IDENTITY]),
    ("DurationSeconds", [900, 43200, timedelta(minutes=15), timedelta(hours=12)]),
    ("Policy", [policy_of(2048), json.dumps(policy_of(2048), indent=40), {}]),
    ("PolicyArns", [[], [POLICY_ARN] * 10, ["arn:aws-cn:iam::111111111111:policy/team/Reader"]]),
    ("Tags", [{}, tags_of(50), {"k": ""}, {"k" * 128: "v" * 256}]),
    ("Tags", [{"stra\u00dfe": "a", "strasse": "b"}]),  # equal to casefold(), but not to STS, which only ignores case
    ("TransitiveTagKeys", [[], list(tags_of(50))]),
    ("ExternalId", ["ab", "x" * 1224, "AZaz09_+=,.@:/-"]),
    ("SerialNumber", [SERIAL, "GAHT12345678", "x" * 256]),
    ("TokenCode", ["012345", lambda: "012345"]),
    ("ProvidedContexts", [[context(n) for n in range(5)], [{"ProviderArn": POLICY_ARN}]]),
]
OVER_THE_LIMIT: list[tuple[str, list[Any]]] = [
    ("RoleArn", ["", "Hub", ROLE, f"{ROLE}team/", f"{HUB} ", f"{HUB}\n", f"{HUB}:1", f"{ROLE}H\u00fcb"]),
    ("RoleArn", [ROLE + "x" * (2049 - len(ROLE)), "arn::iam::111111111111:role/Hub"]),
    ("RoleArn", [f"arn:aws:iam::{account}:role/Hub" for account in ("1" * 11, "1" * 13, "\u0661" * 12)]),
    ("RoleArn", [f"arn:aws:iam::111111111111:{end}" for end in ("user/Hub", "root", "roles/Hub")]),
    ("RoleArn", ["arn:aws:s3::111111111111:role/Hub", "arn:aws:iam:us-east-1:111111111111:role/Hub"]),
    ("RoleArn", ["arn:aws:sts::111111111111:assumed-role/Hub/name", None, 1, ["arn"], HUB.encode()]),
    ("RoleSessionName", ["", "a", "x" * 65, "with space", "newline\n", "n\u00e9", 12]),
    ("SourceIdentity", ["x" * (MAX_IDENTITY + 1), 12]),
    ("DurationSeconds", [899, 43201, timedelta(seconds=899), timedelta(seconds=900, microseconds=1)]),
    ("DurationSeconds", [900.0, "900", True]),
    ("Policy", [policy_of(2049), "", "{", "[]", [{}], 1]),
    ("Policy", [{"Statement": {"a set"}}, {"Statement": float("nan")}, '{"Statement": NaN}']),
    ("PolicyArns", [[POLICY_ARN] * 11, POLICY_ARN, [HUB], ["ReadOnlyAccess"], [None]]),
    ("PolicyArns", [[{"Arn": POLICY_ARN}], [{"arn": POLICY_ARN, "more": "x"}]]),
    ("Tags", [tags_of(51), {"": "v"}, {"k" * 129: "v"}, {"k": "v" * 257}]),
    ("Tags", [{1: "v"}, {"k": 1}, "k=v", ["k"], [{"Key": "k"}], [{("k",): "v"}]]),
    ("Tags", [[{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}], {"Team": "1", "team": "2"}]),
    ("TransitiveTagKeys", [list(tags_of(51)), "key0", [1], ["other"]]),
    ("ExternalId", ["", "a", "x" * 1225, "with space", 12, lambda: "ab"]),
    ("SerialNumber", ["short", "x" * 257, f"{SERIAL}\n", 123456789]),
    ("TokenCode", ["12345", "1234567", "12345x", "\u0661\u0662\u0663\u0664\u0665\u0666", 123456]),
    ("ProvidedContexts", [[context(n) for n in range(6)], context(1), [{"Provider": "x"}]]),
    # Older botocore versions know no such parameter, which is also a problem that is reported by name.
    ("MinimumSessionTokenSize", [-1, 4097, "1", 1.5, True]),
]


@pytest.mark.parametrize(("name", "value"), cases(AT_THE_LIMIT))
def test_passes_at_the_limit(parent, name, value):
    """A value just within a limit is accepted, and so is a role in any partition, or of an S3-compatible store."""
    parameters = {"RoleArn": HUB, **BESIDE.get(name, {}), name: value}
    assert assume_role(parent, **parameters).role_arn == parameters["RoleArn"]


@pytest.mark.parametrize(("name", "value"), cases(OVER_THE_LIMIT))
def test_refuses_over_the_limit(parent, name, value):
    """A value just outside a limit, or of the wrong type, is refused by name, and no other parameter is blamed."""
    _, *lines = refusal(parent, **BESIDE.get(name, {}), **{name: value}).splitlines()
    assert lines
    assert [line for line in lines if not re.match(rf"{name}\b", line)] == []


SHORT, TAG = "arn:aws:iam::123:role/R", {"Key": "a", "Value": "b", "More": "c"}
ROLE_SHAPE = "it must be the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name."
POLICY_SHAPE = "it must be the ARN of an IAM policy, like arn:aws:iam::aws:policy/ReadOnlyAccess."
NAME_SHAPE = "it must be a string of 2 to 64 characters of [A-Za-z0-9_+=,.@-], or a function that returns them."
CODE_SHAPE = "must be a string of six digits, or a function that returns them."
DURATION = "it must be a whole number, 900 to 43200, or a timedelta."
EMPTY = "is an empty string; it must have a value or be None. Pass `value or None` if it may be unset."
DEVICE = "TokenCode needs SerialNumber, the serial number or ARN of the device that shows the code."
UNKNOWN = f"is not a parameter that botocore {botocore.__version__} knows. Correct it, or update botocore."
PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"RoleArn": "x"}, f"RoleArn is 'x'; {ROLE_SHAPE}"),
    ({"RoleArn": SHORT}, f"RoleArn is {SHORT!r}; the account ID has 3 digits; it must have 12."),
    ({"RoleSessionName": "a b"}, f"RoleSessionName is 'a b'; {NAME_SHAPE}"),
    ({"DurationSeconds": 899}, f"DurationSeconds is 899; {DURATION}"),
    ({"DurationSeconds": 43201}, f"DurationSeconds is 43201; {DURATION}"),
    ({"PolicyArns": [POLICY_ARN, None]}, f"PolicyArns[1].arn is None; {POLICY_SHAPE}"),
    ({"Tags": "a=b"}, "Tags is 'a=b'; it must be a list, or a mapping."),
    ({"Tags": [TAG]}, f"Tags[0] is {TAG}; it must be a mapping with Key and Value."),
    ({"Tags": {"a": 1}}, "Tags[0].Value is 1; it must be a string of 0 to 256 characters."),
    ({"Tags": {"A": "1", "a": "2"}}, "Tags has the key 'a' twice; STS ignores case in tag keys. Drop one."),
    ({"Tags": {"a": "\ud800"}}, "Tags has text that is not Unicode, or is too large to be sent."),
    ({"TransitiveTagKeys": [str(n) for n in range(51)]}, "TransitiveTagKeys has 51 items; it must have 0 to 50."),
    ({"TokenCode": "012345"}, DEVICE),
    ({"TokenCode": lambda: "012345"}, DEVICE),
    ({"TokenCode": 123456, **BESIDE["TokenCode"]}, f"TokenCode {CODE_SHAPE}"),
    ({"ExternalId": ""}, f"ExternalId {EMPTY}"),
    ({"RoleSessionName": ""}, f"RoleSessionName {EMPTY}"),
    ({"additional_kwargs": {"Tomorrow": 7}}, f"Tomorrow {UNKNOWN}"),
]


@pytest.mark.parametrize(("parameters", "problem"), PROBLEMS)
def test_says_once_what_is_wrong(parent, parameters, problem):
    """One mistake is reported in one line, which has the value unless it is secret, and what is expected."""
    assert refusal(assume_role(parent, SPOKE), **parameters) == f"Parameter validation failed:\n{problem}"


EVERYTHING_WRONG: dict[str, Any] = {
    "RoleArn": "Hub",
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
    "additional_kwargs": {"ExternalId": "x", "NoSuchParameter": "x"},
}


def test_names_all_problems_at_once(parent):
    """One call raises one error, which names every invalid parameter, wherever it was given, and all its problems."""
    text = refusal(parent, **EVERYTHING_WRONG)
    named = {line.split(maxsplit=1)[0].partition("[")[0] for line in text.splitlines()[1:]}
    assert named == {*EVERYTHING_WRONG, "ExternalId", "NoSuchParameter"} - {"additional_kwargs"}
    assert text.count("Tags[") == 4


def test_without_validation_everything_is_accepted(parent):
    """With validate=False, a call with everything wrong raises nothing, and loads no model; otherwise only STS's."""
    load = Loader.load_service_model
    with mock.patch.object(Loader, "load_service_model", autospec=True, side_effect=load) as loads:
        assume_role(parent, **EVERYTHING_WRONG, validate=False)
        loads.assert_not_called()
        assume_role(parent, HUB)
    assert {call.args[1] for call in loads.call_args_list} == {"sts"}


def test_what_was_not_validated_is_for_sts_to_judge(sts, parent):
    """With validate=False, values that would be refused reach STS unchanged."""
    wrong = {"RoleSessionName": "x y", "DurationSeconds": 43201, "ExternalId": "x y", "TokenCode": "123456"}
    assert params_sent(parent, sts, **wrong, validate=False) == {**wrong, "DurationSeconds": "43201"}


@pytest.mark.parametrize("role_arn", [None, 1, ["arn"], HUB.encode()])
def test_without_validation_a_role_is_still_a_string(parent, role_arn):
    """With validate=False, a RoleArn that is not a string is a TypeError."""
    with pytest.raises(TypeError, match="RoleArn is of type .*; it must be a string"):
        assume_role(parent, role_arn, DurationSeconds=1, validate=False)


def test_the_limits_are_those_of_the_installed_model(sts, tmp_path, monkeypatch):
    """When botocore's model changes a limit, or drops it, or has a pattern that Python does not know, so does the
    check; a parameter that only a newer model knows is checked and sent."""
    model = copy.deepcopy(
        botocore.session.Session().get_component("data_loader").load_service_model("sts", "service-2")
    )
    members = model["shapes"]["AssumeRoleRequest"]["members"]
    shapes = {name: model["shapes"][member["shape"]] for name, member in members.items()}
    shapes["ExternalId"].update(max=3, pattern=r"[\d]*")
    shapes["SerialNumber"].update(min=9, pattern=r"[\p{L}]*")
    del shapes["SerialNumber"]["max"]
    shapes["Tags"]["max"] = 1
    shapes["DurationSeconds"]["max"] = 1000
    members |= {"Dated": {"shape": "dateType"}, "Tomorrow": {"shape": "nonNegativeIntegerType"}}
    folder = tmp_path / "sts/2011-06-15"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    parent = boto3.Session("AKIAROOT", "root-secret", region_name="us-east-1")
    right = {"ExternalId": "123", "SerialNumber": "x\ny" * 200, "Tags": {"a": ""}, "DurationSeconds": 1000}
    assume_role(parent, HUB, **right, additional_kwargs={"Dated": "2031-05-01"})
    assert params_sent(parent, sts, additional_kwargs={"Tomorrow": 7})["Tomorrow"] == "7"
    wrong = {"ExternalId": "1234", "SerialNumber": "x", "Tags": tags_of(2), "DurationSeconds": 1001}
    assert refusal(parent, **wrong, additional_kwargs={"Tomorrow": "7"}).splitlines()[1:] == [
        "DurationSeconds is 1001; it must be a whole number, 900 to 1000, or a timedelta.",
        "Tags has 2 items; it must have 0 to 1.",
        "ExternalId must be a string of 2 to 3 characters of [0-9].",
        "SerialNumber is 'x'; it must be a string of at least 9 characters.",
        "Tomorrow is '7'; it must be a whole number, at least 0.",
    ]


RETURNED: list[tuple[str, list[Any]]] = [
    ("RoleSessionName", ["x", "a b", "", "x" * 65, None, 7]),
    ("TokenCode", ["12345", "abcdef", "", 123456, None]),
]


@pytest.mark.parametrize(("name", "value"), cases(RETURNED))
def test_what_a_function_returns_is_checked(parent, sts, name, value):
    """What a callable RoleSessionName or TokenCode returns is checked before STS is called; a code is not repeated."""
    child = assume_role(parent, HUB, **BESIDE.get(name, {}), **{name: lambda: value})
    with pytest.raises(ParamValidationError, match=f"callable given as {name}") as error:
        child.get_credentials().get_frozen_credentials()
    assert name == "RoleSessionName" or not value or str(value) not in str(error.value)
    assert sts.requests == []


# Some limits depend on whether the parent is itself a role.

PROFILES = f"""
[profile role]
role_arn = {SPOKE}
source_profile = role
aws_access_key_id = AKIAROOT
aws_secret_access_key = secret
[profile web]
role_arn = {SPOKE}
web_identity_token_file = /no/such/file
[profile sso]
sso_start_url = https://example.com
sso_region = us-east-1
sso_account_id = 111111111111
sso_role_name = Reader
"""
PARENTS = {
    "assumed role": lambda: assume_role(boto3.Session("AKIAROOT", "secret"), SPOKE),
    "assumed by a profile": lambda: boto3.Session(profile_name="role"),
    "assumed with a web identity": lambda: boto3.Session(profile_name="web"),
    "single sign-on": lambda: boto3.Session(profile_name="sso"),
    "temporary keys": lambda: boto3.Session("ASIAROOT", "secret", "token"),
    "long-term keys": lambda: boto3.Session("AKIAROOT", "secret"),
}
*ROLES, _, USER = PARENTS


@pytest.mark.parametrize("kind", PARENTS)
def test_some_limits_depend_on_the_parent(sts, tmp_path, kind):
    """A parent that is certainly a role cannot give more than an hour; only if it is certainly a user must each
    transitive key be among the tags."""
    (tmp_path / "config").write_text(PROFILES)
    session = PARENTS[kind]()
    assume_role(session, HUB, DurationSeconds=3600 if kind in ROLES else 43200)
    for duration in (3601, timedelta(hours=1, seconds=1), 43200) if kind in ROLES else ():
        assert "it must be at most 3600" in refusal(session, DurationSeconds=duration)
    keys: dict[str, Any] = {"Tags": {"Team": "blue"}, "TransitiveTagKeys": ["TEAM", "other"]}
    if kind == USER:
        text = refusal(session, **keys)
        assert "TransitiveTagKeys has 'other'" in text
        assert "'TEAM'" not in text
    else:
        assume_role(session, HUB, **keys)
    assert sts.connections == 0


def test_an_hour_is_told_along_with_other_problems(parent):
    """Other problems hide neither the one-hour limit of a chained role nor what a user cannot pass on."""
    hub = assume_role(parent, SPOKE)
    text = refusal(hub, ExternalId="x", DurationSeconds=3601)
    assert "ExternalId must be" in text
    assert "DurationSeconds is 3601; it must be at most 3600" in text
    hub._session.set_credentials("AKIAOTHER", "s")
    assert "TransitiveTagKeys has 'other'" in refusal(hub, ExternalId="x", TransitiveTagKeys=["other"])
