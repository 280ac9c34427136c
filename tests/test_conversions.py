"""What is sent to STS: convenient types arrive in the API's form, and nothing else arrives."""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import boto3
import botocore.session
import pytest
import time_machine
from botocore.exceptions import (
    ParamValidationError,
)
from conftest import HUB
from parameters import POLICY, POLICY_ARN, SERIAL, context, needs_token_size, params_sent, refusal

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, assume_role


@needs_token_size
@pytest.mark.parametrize("size", [0, 4096])
def test_sends_a_token_size(sts, parent, size):
    """A size within the limits is sent, even if it is 0."""
    assert params_sent(parent, sts, MinimumSessionTokenSize=size)["MinimumSessionTokenSize"] == str(size)


def test_every_parameter_of_sts_is_a_keyword():
    """assume_role() has exactly the parameters of botocore's AssumeRole."""
    shape = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape
    keywords = {name for name in inspect.signature(assume_role).parameters if name[0].isupper()}
    new = set(shape.members) - keywords
    assert not new, (
        f"AWS has added {sorted(new)} to AssumeRole: add each to assume_role(), to AssumeRoleParameters and to the "
        "docs, and to what is checked if AWS documents limits. Until then additional_kwargs carries it."
    )
    # The older botocore versions that we support do not know these.
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
    """Each convenient form arrives in the API's form, validated or not, and nothing else arrives."""
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
    """A policy arrives with its content and order unchanged, and without whitespace between its tokens."""
    sent = params_sent(parent, sts, Policy=policy)["Policy"]
    assert json.loads(sent) == POLICY
    assert list(json.loads(sent)) == list(POLICY)
    assert ": " not in sent
    assert ", " not in sent
    assert "\n" not in sent


def test_sends_a_policy_of_many_keys(sts, parent):
    """However many keys one object in a policy's text has, none is mistaken for a duplicate."""
    policy = {str(number): 0 for number in range(257)}
    assert json.loads(params_sent(parent, sts, Policy=json.dumps(policy))["Policy"]) == policy


@pytest.mark.parametrize("validate", [True, False])
def test_a_policy_with_a_key_twice_is_not_widened(parent, sts, validate):
    """A policy with a duplicate key, of which Python's JSON parser drops the first, is refused, or sent unchanged."""
    policy = '{"Statement": {"Condition": {"StringEquals": {"a": "1"}, "StringEquals": {"b": "2"}}}}'
    if validate:
        with pytest.raises(ParamValidationError, match="Policy"):
            assume_role(parent, HUB, Policy=policy)
    else:
        assert params_sent(parent, sts, Policy=policy, validate=False)["Policy"] == policy


def test_what_was_given_is_not_changed(sts, parent):
    """The caller's own lists and dicts are not modified, and changing them later changes no request."""
    tags, arns, additional = [{"Key": "k", "Value": "v"}], [POLICY_ARN], {"ExternalId": "abc"}
    child = assume_role(parent, HUB, Tags=tags, PolicyArns=arns, additional_kwargs=additional)
    assert (tags, arns, additional) == ([{"Key": "k", "Value": "v"}], [POLICY_ARN], {"ExternalId": "abc"})
    arns.append("later")
    additional["ExternalId"] = "later"
    child.get_credentials().get_frozen_credentials()
    assert "later" not in str(sts.assumed[-1].params)


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
    """STS is sent what was passed at the call, even if the caller changes the list afterwards."""
    now, later = (assume_role(parent, HUB, **{name: value}) for _ in range(2))
    now.get_credentials().get_frozen_credentials()
    change(value)
    later.get_credentials().get_frozen_credentials()
    assert sts.assumed[0].params == sts.assumed[1].params | {
        "RoleSessionName": sts.assumed[0].params["RoleSessionName"]
    }


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
    """The session name is the one passed, the source identity, or a generated one, and the same on each refresh."""
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


def test_a_long_source_identity_is_no_session_name(sts, parent):
    """A SourceIdentity longer than a session name may be is sent, with a generated name."""
    sent = params_sent(parent, sts, SourceIdentity="x" * 65, validate=False)
    assert sent["SourceIdentity"] == "x" * 65
    assert sent["RoleSessionName"].startswith("botocore-session-")
    assert params_sent(parent, sts, SourceIdentity="x" * 64)["RoleSessionName"] == "x" * 64


def test_a_generated_name_passes_its_own_check(sts, parent):
    """A generated session name is accepted if it is passed."""
    name = params_sent(parent, sts)["RoleSessionName"]
    assert params_sent(parent, sts, RoleSessionName=name)["RoleSessionName"] == name


def test_additional_kwargs_are_sent(sts, parent):
    """additional_kwargs are sent as if they had been passed as keywords, convenient types included."""
    sent = params_sent(parent, sts, additional_kwargs={"ExternalId": "abc", "Tags": {"Team": "blue"}})
    assert sent["ExternalId"] == "abc"
    assert sent["Tags.member.1.Value"] == "blue"


def test_additional_kwargs_that_are_none_are_not_sent(parent, sts):
    """A None in additional_kwargs is not sent, just as a keyword that is None is not."""
    params = params_sent(parent, sts, additional_kwargs={"ExternalId": None, "SourceIdentity": "me"})
    assert "ExternalId" not in params
    assert params["SourceIdentity"] == "me"


def test_additional_kwargs_carry_what_aws_adds(sts, tmp_path, monkeypatch):
    """A parameter that only a newer STS model knows passes the check and is sent."""
    folder = tmp_path / "models" / "sts" / "2011-06-15"
    folder.mkdir(parents=True)
    member = {"Tomorrow": {"shape": "nonNegativeIntegerType"}}
    extras = {"version": 1.0, "merge": {"shapes": {"AssumeRoleRequest": {"members": member}}}}
    (folder / "service-2.sdk-extras.json").write_text(json.dumps(extras))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / "models"))
    parent = boto3.Session("AKIAROOT", "secret", region_name="us-east-1")
    assert params_sent(parent, sts, additional_kwargs={"Tomorrow": 7})["Tomorrow"] == "7"
    assert "Tomorrow" in refusal(parent, additional_kwargs={"Tomorrow": "seven"})
