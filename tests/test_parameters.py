"""The parameters of `assume_role()`: what is refused, what is sent, and what nobody gets to see."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections import OrderedDict
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import boto3
import botocore.session
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.loaders import Loader
from conftest import HUB, SPOKE
from sts_stub import StsStub

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, JSONFileCache, assume_role

POLICY_ARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "é*"}]}
SERIAL = "arn:aws:iam::111111111111:mfa/jane"


def policy_of(length: int) -> dict[str, str]:
    """A policy of so many characters as compact JSON."""
    return {"Id": "x" * (length - len('{"Id":""}'))}


def tags_of(count: int) -> dict[str, str]:
    return {f"key{n}": "value" for n in range(count)}


def context(n: int) -> dict[str, str]:
    return {"ProviderArn": f"arn:aws:iam::aws:contextProvider/Number{n}", "ContextAssertion": "assertion"}


def refusal(session: boto3.Session, role_arn: str = HUB, **parameters: Any) -> str:
    """The text of the ParamValidationError that a call raises."""
    with pytest.raises(ParamValidationError) as caught:
        assume_role(session, role_arn, **parameters)
    return str(caught.value)


def params_sent(session: boto3.Session, sts: StsStub, role_arn: str = HUB, **parameters: Any) -> dict[str, str]:
    """What arrives at STS, without what each request has."""
    assume_role(session, role_arn, **parameters).get_credentials().get_frozen_credentials()
    return {
        name: value for name, value in sts.assumed[-1].params.items() if name not in ("Action", "Version", "RoleArn")
    }


@pytest.fixture
def clients_made(parent: boto3.Session) -> list[str]:
    """The STS clients that the parent makes."""
    made: list[str] = []
    parent.events.register("creating-client-class.sts", lambda **_: made.append("sts"))
    return made


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
    """Roles of any partition and path pass, and the accounts of S3-compatible stores do too."""
    assert assume_role(parent, role_arn).role_arn == role_arn


@pytest.mark.parametrize("role_arn", WRONG_ROLE_ARNS.values(), ids=WRONG_ROLE_ARNS)
def test_refuses_what_is_no_arn_of_a_role(parent, role_arn):
    """What is not the ARN of an IAM role, or has an account that cannot be, is refused by name and value."""
    text = refusal(parent, role_arn)
    assert "RoleArn" in text
    assert repr(role_arn) in text


@pytest.mark.parametrize("role_arn", [None, 1, ["arn"], HUB.encode()])
def test_role_arn_is_a_string(parent, role_arn):
    """Anything but a string as RoleArn is refused along with what else is wrong, and by itself without validation."""
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
    {"SerialNumber": SERIAL, "TokenCode": "012345"},
    {"SerialNumber": SERIAL, "TokenCode": lambda: "012345"},
    {"ProvidedContexts": [context(n) for n in range(5)]},
]


@pytest.mark.parametrize("parameters", AT_THE_LIMIT, ids=lambda parameters: "+".join(parameters))
def test_passes_at_the_limit(parent, parameters):
    """What is just within a limit is no error."""
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
    """What is just over a limit, or of another type, is refused by name."""
    assert next(iter(parameters)) in refusal(parent, **parameters)


@pytest.mark.parametrize("parameters", OVER_THE_LIMIT, ids=_id)
def test_accuses_no_parameter_that_is_right(parent, parameters):
    """The error of one parameter names no other as bad: each line starts with the one at fault."""
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
    """One mistake is one line, and the line is ours, which says more than botocore's."""
    role = assume_role(parent, SPOKE)
    assert refusal(role, **parameters) == f"Parameter validation failed:\n{problem}"


def test_an_hour_is_told_along_with_other_problems(parent):
    """What is wrong with another parameter does not hide that a chained role has an hour."""
    text = refusal(assume_role(parent, SPOKE), ExternalId="x", DurationSeconds=3601)
    assert "ExternalId must be" in text
    assert "DurationSeconds is 3601; STS grants at most 3600" in text


def test_names_all_problems_at_once(parent):
    """One call raises one error, with every parameter that is wrong."""
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


def test_nothing_happens_before_an_error(sts, parent, clients_made):
    """A refused call makes no STS client and opens no connection."""
    refusal(parent, "Hub", DurationSeconds=1)
    assert clients_made == []
    assert sts.connections == 0


def test_a_right_call_makes_no_client_either(sts, parent, clients_made):
    """A call that passes makes no STS client and opens no connection; the first use makes one of each."""
    child = assume_role(parent, HUB, Tags={"k": "v"})
    assert clients_made == []
    assert sts.connections == 0
    child.get_credentials().get_frozen_credentials()
    assert clients_made == ["sts"]
    assert len(sts.requests) == 1


def test_a_parent_that_must_ask_is_not_asked(sts, parent):
    """Neither a refused nor an accepted call fetches the credentials of a parent that refreshes."""
    hub = assume_role(parent, HUB)
    refusal(hub, SPOKE, DurationSeconds=3601)
    assume_role(hub, SPOKE)
    assert sts.connections == 0


SECRETS = {
    "ExternalId": ["se cret-7531", "s", 7531, ["7531"], "secret-7531" * 200],
    "TokenCode": ["7531", "75317531", 7531, ["7531"]],
    "Policy": ["{7531", '["7531"]', {"7531": "x" * 3000}, ["7531"], 7531, {"7531": {1}}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in SECRETS for value in SECRETS[name]])
@pytest.mark.parametrize("additional", [False, True])
def test_no_error_text_has_a_secret(parent, name, value, additional):
    """An error says which parameter is wrong and does not repeat an external id, a code or a policy."""
    given: dict[str, Any] = {"additional_kwargs": {name: value}} if additional else {name: value}
    text = refusal(parent, SerialNumber=SERIAL, **given)
    assert name in text
    assert "7531" not in text


def test_no_error_text_has_the_secret_of_another_parameter(parent):
    """A parameter that is wrong does not bring one that is right into the text."""
    text = refusal(
        parent,
        "Hub",
        ExternalId="secret-7531",
        SerialNumber=SERIAL,
        TokenCode="753175",
        Policy={"Id": "7531"},
        additional_kwargs={"NoSuchParameter": "x"},
    )
    assert "7531" not in text


needs_token_size = pytest.mark.skipif(
    "MinimumSessionTokenSize"
    not in botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape.members,
    reason="this botocore does not know MinimumSessionTokenSize",
)


@needs_token_size
@pytest.mark.parametrize("size", [0, 4096])
def test_sends_a_token_size(sts, parent, size):
    """A size within the limits is sent, nothing included."""
    assert params_sent(parent, sts, MinimumSessionTokenSize=size)["MinimumSessionTokenSize"] == str(size)


@needs_token_size
@pytest.mark.parametrize("size", [-1, 4097, "1", 1.5])
def test_refuses_a_token_size(parent, size):
    """A size over the limits, or of another type, is refused by name."""
    assert "MinimumSessionTokenSize" in refusal(parent, MinimumSessionTokenSize=size)


def test_every_parameter_of_sts_is_a_keyword():
    """assume_role() has the parameters of botocore's AssumeRole, no more and no less."""
    shape = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape
    keywords = {name for name in inspect.signature(assume_role).parameters if name[0].isupper()}
    new = set(shape.members) - keywords
    assert not new, (
        f"AWS has added {sorted(new)} to AssumeRole: add each to assume_role(), to AssumeRoleParameters and to the "
        "docs, and to what is checked if AWS documents limits. Until then additional_kwargs carries it."
    )
    # The older botocore that we support do not know these.
    gone = keywords - set(shape.members) - {"MinimumSessionTokenSize"}
    assert not gone, f"botocore's AssumeRole does not know {sorted(gone)}: raise the lowest botocore, or drop them."


FRIENDLY: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "policy arns as strings": (
        {"PolicyArns": [POLICY_ARN, POLICY_ARN + "2"]},
        {"PolicyArns.member.1.arn": POLICY_ARN, "PolicyArns.member.2.arn": POLICY_ARN + "2"},
    ),
    "policy arns as the API has them": (
        {"PolicyArns": [{"arn": POLICY_ARN}]},
        {"PolicyArns.member.1.arn": POLICY_ARN},
    ),
    "policy arns mixed, in a tuple": (
        {"PolicyArns": ({"arn": POLICY_ARN}, POLICY_ARN + "2")},
        {"PolicyArns.member.1.arn": POLICY_ARN, "PolicyArns.member.2.arn": POLICY_ARN + "2"},
    ),
    "seconds": ({"DurationSeconds": 7200}, {"DurationSeconds": "7200"}),
    "timedelta": ({"DurationSeconds": timedelta(hours=1, minutes=5)}, {"DurationSeconds": "3900"}),
    "tags as a mapping": (
        {"Tags": MappingProxyType({"Team": "blue", "Empty": ""})},
        {
            "Tags.member.1.Key": "Team",
            "Tags.member.1.Value": "blue",
            "Tags.member.2.Key": "Empty",
            "Tags.member.2.Value": "",
        },
    ),
    "tags as the API has them": (
        {"Tags": [{"Key": "Team", "Value": "blue"}], "TransitiveTagKeys": ["Team"]},
        {"Tags.member.1.Key": "Team", "Tags.member.1.Value": "blue", "TransitiveTagKeys.member.1": "Team"},
    ),
    "the rest": (
        {
            "ExternalId": "abc",
            "SerialNumber": SERIAL,
            "TokenCode": "012345",
            "SourceIdentity": "jane",
            "ProvidedContexts": [context(1)],
        },
        {
            "ExternalId": "abc",
            "SerialNumber": SERIAL,
            "TokenCode": "012345",
            "SourceIdentity": "jane",
            "ProvidedContexts.member.1.ProviderArn": "arn:aws:iam::aws:contextProvider/Number1",
            "ProvidedContexts.member.1.ContextAssertion": "assertion",
        },
    ),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("parameters", "expected"), FRIENDLY.values(), ids=FRIENDLY)
def test_sends_what_was_given(sts, parent, parameters, expected, validate):
    """Each friendly form arrives as the API has it, validated or not, and nothing else arrives."""
    sent = params_sent(parent, sts, RoleSessionName="name", validate=validate, **parameters)
    assert sent == {"RoleSessionName": "name", **expected}


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        MappingProxyType(OrderedDict(POLICY)),
        json.dumps(POLICY, indent=4),
        json.dumps(POLICY, ensure_ascii=False),
        {**POLICY, "Statement": [MappingProxyType(POLICY["Statement"][0])]},
    ],
    ids=["dict", "other mapping", "indented JSON", "JSON", "nested mapping"],
)
def test_sends_a_policy_as_compact_json(sts, parent, policy):
    """A policy arrives with its content and order unchanged, and without a space between its tokens."""
    sent = params_sent(parent, sts, Policy=policy)["Policy"]
    assert json.loads(sent) == POLICY
    assert list(json.loads(sent)) == list(POLICY)
    assert ": " not in sent
    assert ", " not in sent
    assert "\n" not in sent


def test_sends_a_policy_of_many_keys(sts, parent):
    """However many keys are in one object of a policy's text, none of them is there twice."""
    policy = {str(number): 0 for number in range(257)}
    assert json.loads(params_sent(parent, sts, Policy=json.dumps(policy))["Policy"]) == policy


def test_what_was_given_is_not_changed(sts, parent):
    """The caller's own lists and dicts stay as they were, and changing them later changes no request."""
    tags, arns, additional = [{"Key": "k", "Value": "v"}], [POLICY_ARN], {"ExternalId": "abc"}
    child = assume_role(parent, HUB, Tags=tags, PolicyArns=arns, additional_kwargs=additional)
    assert (tags, arns, additional) == ([{"Key": "k", "Value": "v"}], [POLICY_ARN], {"ExternalId": "abc"})
    arns.append("later")
    additional["ExternalId"] = "later"
    child.get_credentials().get_frozen_credentials()
    assert "later" not in str(sts.assumed[-1].params)


NAMES: list[tuple[dict[str, Any], str | None]] = [
    ({"RoleSessionName": "given"}, "given"),
    ({"RoleSessionName": "given", "SourceIdentity": "jane"}, "given"),
    ({"SourceIdentity": "jane"}, "jane"),
    ({"additional_kwargs": {"SourceIdentity": "jane"}}, "jane"),
    ({}, None),
    ({"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME}, None),
    ({"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME, "SourceIdentity": "jane"}, None),
]


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("parameters", "expected"), NAMES)
def test_session_name(sts, parent, parameters, expected, validate):
    """The session name is the one given, else the source identity, else generated; and the same on each refresh."""
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        credentials = assume_role(parent, HUB, validate=validate, **parameters).get_credentials()
        credentials.get_frozen_credentials()
        clock.shift(3600)
        credentials.get_frozen_credentials()
    first, second = (request.params for request in sts.assumed)
    assert first["RoleSessionName"] == second["RoleSessionName"]
    assert first.get("SourceIdentity") == ("jane" if "jane" in str(parameters) else None)
    if expected is None:
        assert first["RoleSessionName"] != "jane"
        assert 2 <= len(first["RoleSessionName"]) <= 64
    else:
        assert first["RoleSessionName"] == expected


def test_a_generated_name_passes_its_own_check(sts, parent):
    """A generated session name is one that could have been given."""
    name = params_sent(parent, sts)["RoleSessionName"]
    assert params_sent(parent, sts, RoleSessionName=name)["RoleSessionName"] == name


def test_additional_kwargs_are_sent(sts, parent):
    """What is in additional_kwargs is sent as if it had been a keyword, friendly types included."""
    sent = params_sent(parent, sts, additional_kwargs={"ExternalId": "abc", "Tags": {"Team": "blue"}})
    assert sent["ExternalId"] == "abc"
    assert sent["Tags.member.1.Value"] == "blue"


def test_additional_kwargs_are_checked(parent):
    """What is in additional_kwargs is checked as a keyword would be."""
    assert "ExternalId" in refusal(parent, additional_kwargs={"ExternalId": "x"})


def test_additional_kwargs_carry_what_aws_adds(sts, tmp_path, monkeypatch):
    """A parameter that a newer model of STS knows passes the check and is sent."""
    folder = tmp_path / "models" / "sts" / "2011-06-15"
    folder.mkdir(parents=True)
    member = {"Tomorrow": {"shape": "nonNegativeIntegerType"}}
    extras = {"version": 1.0, "merge": {"shapes": {"AssumeRoleRequest": {"members": member}}}}
    (folder / "service-2.sdk-extras.json").write_text(json.dumps(extras))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / "models"))
    parent = boto3.Session("AKIAROOT", "secret", region_name="us-east-1")
    assert params_sent(parent, sts, additional_kwargs={"Tomorrow": 7})["Tomorrow"] == "7"
    assert "Tomorrow" in refusal(parent, additional_kwargs={"Tomorrow": "seven"})


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("name", "value"), [("ExternalId", "abc"), ("RoleArn", HUB), ("DurationSeconds", 900)])
def test_a_parameter_given_both_ways_is_named(parent, name, value, validate):
    """A parameter given as a keyword and in additional_kwargs is a TypeError that names it."""
    given = {} if name == "RoleArn" else {name: value}
    with pytest.raises(TypeError, match=name):
        assume_role(parent, HUB, additional_kwargs={name: value}, validate=validate, **given)


def test_a_parameter_that_botocore_does_not_know_is_refused(parent):
    """A key of additional_kwargs that AssumeRole does not have is a ParamValidationError."""
    assert "Tomorrow" in refusal(parent, additional_kwargs={"Tomorrow": 7})


@pytest.mark.parametrize("additional", ["ExternalId", ["ExternalId"], 1])
def test_additional_kwargs_is_a_mapping(parent, additional):
    """Anything but a mapping as additional_kwargs is a TypeError."""
    with pytest.raises(TypeError, match="additional_kwargs"):
        assume_role(parent, HUB, additional_kwargs=additional)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "session",
    [
        None,
        "default",
        HUB,
        botocore.session.Session,
        boto3.Session,
        boto3,
        lambda: botocore.session.Session(),
        lambda: boto3.Session("AKIAROOT", "s", region_name="us-east-1").client("sts"),
    ],
    ids=["None", "string", "ARN", "botocore class", "boto3 class", "module", "botocore session", "client"],
)
def test_session_must_be_a_boto3_session(session, validate):
    """Anything but a boto3 session is a TypeError that says what to pass."""
    if inspect.isfunction(session):
        session = session()
    with pytest.raises(TypeError, match=r"boto3\.Session\(\)"):
        assume_role(session, HUB, validate=validate)


def test_session_is_required():
    """A call without a session is a TypeError."""
    with pytest.raises(TypeError):
        assume_role(RoleArn=HUB)


def test_parameters_are_keywords(parent):
    """Only the session and the role may be given by position."""
    with pytest.raises(TypeError):
        assume_role(parent, HUB, "name")


@pytest.mark.parametrize("validate", [True, False])
def test_no_credentials_is_found_at_the_call(sts, validate):
    """A parent without credentials is an error at once, not at the first use."""
    with pytest.raises(NoCredentialsError):
        assume_role(boto3.Session(region_name="us-east-1"), HUB, validate=validate)
    assert sts.connections == 0


class _RecordingLoader(Loader):
    """A loader of botocore's that remembers which services it was asked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loaded: list[str] = []

    def load_service_model(self, service_name: str, *arguments: Any, **named: Any) -> Any:
        self.loaded.append(service_name)
        return super().load_service_model(service_name, *arguments, **named)


@pytest.fixture
def recording() -> tuple[boto3.Session, list[str]]:
    loader = _RecordingLoader()
    session = botocore.session.Session()
    session.register_component("data_loader", loader)
    return boto3.Session("AKIAROOT", "secret", region_name="us-east-1", botocore_session=session), loader.loaded


def test_without_validation_everything_is_accepted(recording):
    """With validate=False a call with everything wrong raises nothing, and loads no service model."""
    session, loaded = recording
    assume_role(
        session,
        "Hub",
        RoleSessionName="x",
        PolicyArns="nothing",
        Policy="{",
        DurationSeconds="soon",
        Tags=["k"],
        TransitiveTagKeys="other",
        ExternalId="x",
        TokenCode="1",
        SourceIdentity="x",
        ProvidedContexts={},
        additional_kwargs={"NoSuchParameter": "x"},
        validate=False,
    )
    assert loaded == []


def test_without_validation_nothing_is_checked_later_either(monkeypatch):
    """With validate=False nothing is checked once the parent's credentials have been found."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert assume_role(boto3.Session(region_name="us-east-1"), "nonsense", validate=False).role_arn == "nonsense"


def test_with_validation_only_the_model_of_sts_is_loaded(recording):
    """With validate=True the one service model that a call loads is that of STS."""
    session, loaded = recording
    assume_role(session, HUB)
    assert set(loaded) == {"sts"}


def test_what_was_not_validated_is_for_sts_to_judge(sts, parent):
    """With validate=False a value out of bounds reaches STS as it is."""
    sent = params_sent(parent, sts, RoleSessionName="x y", DurationSeconds=43201, ExternalId="x y", validate=False)
    assert sent == {"RoleSessionName": "x y", "DurationSeconds": "43201", "ExternalId": "x y"}


CONFIG = f"""
[default]
region = us-east-1
[profile keys]
aws_access_key_id = AKIAROOT
aws_secret_access_key = secret
[profile role]
role_arn = {SPOKE}
source_profile = keys
[profile web]
role_arn = {SPOKE}
web_identity_token_file = /no/such/file
[profile sso]
sso_start_url = https://example.com
sso_region = us-east-1
sso_account_id = 111111111111
sso_role_name = Reader
[profile temporary]
aws_access_key_id = ASIAROOT
aws_secret_access_key = secret
aws_session_token = token
[profile process]
credential_process = /no/such/program
"""
PARENTS = {
    "assumed role": lambda: assume_role(boto3.Session("AKIAROOT", "secret"), SPOKE),
    "assumed by a profile": lambda: boto3.Session(profile_name="role"),
    "assumed with a web identity": lambda: boto3.Session(profile_name="web"),
    "single sign-on": lambda: boto3.Session(profile_name="sso"),
    "temporary keys": lambda: boto3.Session(profile_name="temporary"),
    "long-term keys": lambda: boto3.Session(profile_name="keys"),
}


@pytest.fixture
def parent_of(tmp_path) -> dict[str, Any]:
    (tmp_path / "config").write_text(CONFIG)
    return PARENTS


@pytest.mark.parametrize(
    "kind", ["assumed role", "assumed by a profile", "assumed with a web identity", "single sign-on"]
)
@pytest.mark.parametrize("duration", [3601, timedelta(hours=1, seconds=1), 43200])
def test_a_role_assumed_by_a_role_has_an_hour(sts, parent_of, kind, duration):
    """Where the parent is a role for certain, more than an hour is refused, and an hour is not."""
    session = parent_of[kind]()
    text = refusal(session, DurationSeconds=duration)
    assert "DurationSeconds" in text
    assert "3600" in text
    assume_role(session, HUB, DurationSeconds=3600)
    assert sts.connections == 0


@pytest.mark.parametrize("kind", ["temporary keys", "long-term keys"])
def test_a_parent_that_may_be_no_role_is_not_held_to_an_hour(parent_of, kind):
    """Where the parent may be something else than a role, twelve hours pass."""
    assume_role(parent_of[kind](), HUB, DurationSeconds=43200)


@pytest.mark.parametrize("kind", ["assumed role", "assumed by a profile", "temporary keys"])
def test_transitive_keys_may_come_from_the_parent(parent_of, kind):
    """Where the parent may be a role, a transitive key need not be among the tags."""
    assume_role(parent_of[kind](), HUB, TransitiveTagKeys=["inherited"])


def test_transitive_keys_cannot_come_from_a_user(parent_of):
    """Where the parent is no role, a transitive key that is not among the tags is refused by name and key."""
    text = refusal(parent_of["long-term keys"](), Tags={"Team": "blue"}, TransitiveTagKeys=["Team", "other"])
    assert "TransitiveTagKeys" in text
    assert "'other'" in text
    assert "'Team'" not in text


@pytest.mark.parametrize("region", [1, 1.5, ["us-east-1"], b"us-east-1"])
def test_region_name_has_a_type(parent, region):
    """A region_name of another type is a TypeError."""
    with pytest.raises(TypeError, match="region_name"):
        assume_role(parent, HUB, region_name=region)


@pytest.mark.parametrize("region", ["", "us east", "us-east-1.example.com", "-"])
def test_region_name_can_be_a_region(parent, region):
    """A region_name that can be no host name is refused at the call, as botocore would at the first client."""
    with pytest.raises(InvalidRegionError):
        assume_role(parent, HUB, region_name=region)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("service_name", "sts", TypeError),
        ("aws_access_key_id", "AKIA", TypeError),
        ("aws_secret_access_key", "7531", TypeError),
        ("aws_session_token", "7531", TypeError),
        ("aws_account_id", "111111111111", TypeError),
        ("endpoint", "http://localhost", TypeError),
        ("endpoint_url", 1, TypeError),
        ("endpoint_url", "localhost", ValueError),
        ("region_name", True, TypeError),
        ("config", {"retries": 1}, TypeError),
        ("verify", 1, TypeError),
        ("use_ssl", "yes", TypeError),
        ("api_version", 2011, TypeError),
    ],
)
def test_sts_client_kwargs_are_checked_at_the_call(parent, clients_made, name, value, error):
    """What a client of STS cannot be given is refused at the call, by name, and no client is made."""
    with pytest.raises(error, match=name) as caught:
        assume_role(parent, HUB, sts_client_kwargs={name: value}, validate=False)
    assert "7531" not in str(caught.value)
    assert clients_made == []


@pytest.mark.parametrize("options", ["endpoint_url", [("use_ssl", True)], 1, True])
def test_sts_client_kwargs_is_a_mapping(parent, options):
    """Anything but a mapping as sts_client_kwargs is a TypeError that names it."""
    with pytest.raises(TypeError, match="sts_client_kwargs"):
        assume_role(parent, HUB, sts_client_kwargs=options)


def test_sts_client_kwargs_endpoint_and_region(sts, parent):
    """endpoint_url sends the AssumeRole request elsewhere, and region_name signs it for another region."""
    with StsStub() as other:
        child = assume_role(
            parent, HUB, sts_client_kwargs={"use_ssl": None, "endpoint_url": other.url, "region_name": "eu-west-1"}
        )
        child.client("sts").get_caller_identity()
        assert [request.region for request in other.assumed] == ["eu-west-1"]
    assert sts.assumed == []
    assert [(request.action, request.region) for request in sts.requests] == [("GetCallerIdentity", "us-east-1")]


def test_sts_client_kwargs_config(sts, parent):
    """A config is that of the client that calls AssumeRole, and of no other."""
    child = assume_role(parent, HUB, sts_client_kwargs={"config": Config(user_agent_extra="hop/1")})
    child.client("sts").get_caller_identity()
    assert ["hop/1" in request.user_agent for request in sts.requests] == [True, False]


@pytest.mark.parametrize(
    ("options", "scheme"), [({}, "https"), ({"use_ssl": False}, "http"), ({"use_ssl": True}, "https")]
)
def test_sts_client_kwargs_use_ssl(parent, options, scheme):
    """use_ssl=False asks STS in the clear."""
    urls: list[str] = []

    class Seen(Exception):
        pass

    def see(request: Any, **_: Any) -> None:
        urls.append(request.url)
        raise Seen

    parent.events.register("before-send.sts.AssumeRole", see)
    with pytest.raises(Seen):
        assume_role(parent, HUB, sts_client_kwargs=options).get_credentials().get_frozen_credentials()
    assert urls[0].startswith(f"{scheme}://sts.")


def test_sts_client_kwargs_verify(sts, parent, tmp_path):
    """verify is the CA bundle for the client that calls AssumeRole."""
    bundle = str(tmp_path / "no-such-bundle.pem")
    child = assume_role(
        parent,
        HUB,
        sts_client_kwargs={"verify": bundle, "endpoint_url": sts.url.replace("http:", "https:")},
    )
    with pytest.raises((HTTPClientError, OSError), match=r"no-such-bundle|No such file"):
        child.get_credentials().get_frozen_credentials()
    assert sts.requests == []


def test_sts_client_kwargs_api_version(sts, parent):
    """api_version chooses the version of STS's API: the one there is works, another is unknown."""
    params_sent(parent, sts, sts_client_kwargs={"api_version": "2011-06-15"})
    assert len(sts.assumed) == 1
    child = assume_role(parent, HUB, sts_client_kwargs={"api_version": "2000-01-01"})
    with pytest.raises(BotoCoreError, match="sts"):
        child.get_credentials().get_frozen_credentials()


def test_additional_kwargs_that_are_none_are_not_sent(parent, sts):
    """A None in additional_kwargs is not sent, as a keyword that is None is not."""
    params = params_sent(parent, sts, additional_kwargs={"ExternalId": None, "SourceIdentity": "me"})
    assert "ExternalId" not in params
    assert params["SourceIdentity"] == "me"


@pytest.mark.parametrize("name", ["x", "a b", "", "x" * 65, None, 7])
def test_a_callable_role_session_name_must_return_a_name(parent, sts, name):
    """What a callable RoleSessionName returns is checked when it is asked, before STS is."""
    child = assume_role(parent, HUB, RoleSessionName=lambda: name)
    with pytest.raises(ParamValidationError, match="callable given as RoleSessionName"):
        child.get_credentials().get_frozen_credentials()
    assert sts.requests == []


@pytest.mark.parametrize("code", ["12345", "abcdef", "", 123456, None])
def test_a_callable_token_code_must_return_a_code(parent, sts, code):
    """What a callable TokenCode returns is checked when it is asked, before STS is, and not repeated."""
    child = assume_role(parent, HUB, SerialNumber="arn:aws:iam::111111111111:mfa/me", TokenCode=lambda: code)
    with pytest.raises(ParamValidationError, match="callable given as TokenCode") as error:
        child.get_credentials().get_frozen_credentials()
    assert not code or str(code) not in str(error.value)
    assert sts.requests == []


def test_an_endpoint_url_in_brackets_is_no_url(parent):
    """A URL that Python cannot even take apart is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"endpoint_url.*http://\[x"):
        assume_role(parent, HUB, sts_client_kwargs={"endpoint_url": "http://[x"})


def test_text_that_is_not_unicode_is_refused(parent):
    """Half of a surrogate pair cannot be sent: it is a ParamValidationError, not a UnicodeEncodeError later."""
    with pytest.raises(ParamValidationError, match="Tags has text that is not Unicode"):
        assume_role(parent, HUB, Tags={"a": "\ud800"})


@pytest.mark.parametrize(
    ("name", "value", "change"),
    [
        ("Tags", [{"Key": "tenant", "Value": "red"}], lambda tags: tags[0].update(Value="blue")),
        ("PolicyArns", [{"arn": "arn:aws:iam::aws:policy/A"}], lambda arns: arns[0].update(arn="x")),
        ("ProvidedContexts", [context(1)], lambda contexts: contexts[0].update(ProviderArn="x")),
        ("Tags", {"tenant": "red"}, lambda tags: tags.update(tenant="blue")),
        ("Policy", {"Statement": []}, lambda policy: policy.update(Statement=7)),
    ],
)
def test_what_is_changed_after_the_call_is_not_sent(parent, sts, name, value, change):
    """STS is asked for what was given at the call, whatever becomes of the caller's own list."""
    now, later = (assume_role(parent, HUB, **{name: value}) for _ in range(2))
    now.get_credentials().get_frozen_credentials()
    change(value)
    later.get_credentials().get_frozen_credentials()
    assert sts.assumed[0].params == sts.assumed[1].params | {
        "RoleSessionName": sts.assumed[0].params["RoleSessionName"]
    }


@pytest.mark.parametrize("validate", [True, False])
def test_a_policy_with_a_key_twice_is_not_widened(parent, sts, validate):
    """Of a key that is there twice JSON's reader would drop the first: it is refused, or sent as it is."""
    policy = '{"Statement": {"Condition": {"StringEquals": {"a": "1"}, "StringEquals": {"b": "2"}}}}'
    if validate:
        with pytest.raises(ParamValidationError, match="Policy"):
            assume_role(parent, HUB, Policy=policy)
    else:
        assert params_sent(parent, sts, Policy=policy, validate=False)["Policy"] == policy


def test_mistakes_are_told_without_credentials_too(monkeypatch):
    """A parent without credentials does not hide what is wrong with the parameters."""
    with pytest.raises(ParamValidationError, match=r"(?s)RoleArn.*DurationSeconds"):
        assume_role(boto3.Session(), "nonsense", DurationSeconds=1)


def test_mistakes_are_told_before_a_program_is_run(tmp_path):
    """A refused call does not run the program that a profile has its credentials from; a call that passes may."""
    ran = tmp_path / "ran"
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\ncredential_process = touch {ran}\n")
    refusal(boto3.Session(), "nonsense")
    assert not ran.exists()
    with pytest.raises(ValueError):  # it prints no credentials
        assume_role(boto3.Session(), HUB)
    assert ran.exists()


def test_a_policy_of_bytes_is_not_repeated(parent):
    """Bytes are no policy, though they may hold one: the error says so without them."""
    assert "bucket" not in refusal(parent, Policy=b'{"Statement": "my-bucket"}')


def test_tags_that_differ_in_more_than_case(parent):
    """Keys that only a dictionary would take for the same are two."""
    assume_role(parent, HUB, Tags={"stra\u00dfe": "a", "strasse": "b"})


@pytest.mark.parametrize("contexts", ["a-jwt-of-mine", [{"ProviderArn": HUB, "ContextAssertion": b"a-jwt-of-mine"}]])
def test_a_context_of_the_wrong_kind_is_not_repeated(parent, contexts):
    """A context assertion is a token: what is wrong with it is told without it."""
    with pytest.raises(ParamValidationError, match="ProvidedContexts must be a list") as error:
        assume_role(parent, HUB, ProvidedContexts=contexts)
    assert "a-jwt-of-mine" not in str(error.value)


def test_the_class_of_a_cache_is_no_cache(parent):
    """cache=JSONFileCache, the class, is a TypeError."""
    with pytest.raises(TypeError, match="cache must be a mapping"):
        assume_role(parent, HUB, cache=JSONFileCache)


def test_a_botocore_session_is_told_from_boto3s(parent):
    """The error for a botocore session says so: both classes are called Session."""
    with pytest.raises(TypeError, match=r"not botocore\.session\.Session"):
        assume_role(parent._session, HUB)


def test_a_class_that_mixes_in_more_is_borne():
    """Where a library has put a subclass with other bases in its place, boto3's own class is a session still."""
    script = (
        "import boto3, boto3.session\n"
        "session = boto3.Session('AKIAROOT', 's', region_name='us-east-1')\n"
        "boto3.Session = boto3.session.Session = type('Session', (boto3.session.Session, type('Mixin', (), {})), {})\n"
        "from aws_assume_role_lib import assume_role\n"
        f"assert isinstance(assume_role(session, {HUB!r}), boto3.Session)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_function_in_the_place_of_the_class_is_borne(parent, monkeypatch):
    """Where boto3.Session has been replaced by what is no class, sessions are assumed all the same."""
    monkeypatch.setattr(boto3, "Session", lambda **_: None)
    monkeypatch.setattr(boto3.session, "Session", lambda **_: None)
    assert assume_role(parent, HUB).role_arn == HUB
