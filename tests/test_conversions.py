"""What is sent to STS: convenient types arrive in the API's form, and nothing else arrives."""

from __future__ import annotations

import copy
import inspect
import json
from collections import OrderedDict
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
import time_machine
from conftest import HUB
from parameters import MEMBERS, POLICY_ARN, SERIAL, context, params_sent, refusal

from aws_assume_role_lib import AUTOMATIC_ROLE_SESSION_NAME, assume_role

POLICY: Any = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "é*"}]}
COMPACT = json.dumps(POLICY, separators=(",", ":"))
MANY_KEYS = json.dumps({str(number): 0 for number in range(257)}, separators=(",", ":"))


def test_every_parameter_of_sts_is_a_keyword():
    """assume_role() has exactly the parameters of botocore's AssumeRole."""
    keywords = {name for name in inspect.signature(assume_role).parameters if name[0].isupper()}
    new = set(MEMBERS) - keywords
    assert not new, (
        f"AWS has added {sorted(new)} to AssumeRole: add each to assume_role() and to the docs, and to "
        "what is checked if AWS documents limits. Until then additional_kwargs carries it."
    )
    # The older botocore versions that we support do not know these.
    gone = keywords - set(MEMBERS) - {"MinimumSessionTokenSize"}
    assert not gone, f"botocore's AssumeRole does not know {sorted(gone)}: raise the lowest botocore, or drop them."


def listed(name: str, *items: str | dict[str, str]) -> dict[str, str]:
    """Return a list as it arrives: Name.member.1, or Name.member.1.Field for each field."""
    arrives = {}
    for number, item in enumerate(items, 1):
        fields = {f".{field}": value for field, value in item.items()} if isinstance(item, dict) else {"": item}
        arrives |= {f"{name}.member.{number}{field}": value for field, value in fields.items()}
    return arrives


ARN, OTHER_ARN = {"arn": POLICY_ARN}, {"arn": POLICY_ARN + "2"}
TEAM, EMPTY = {"Key": "Team", "Value": "blue"}, {"Key": "Empty", "Value": ""}
TEXTS = {"ExternalId": "abc", "SerialNumber": SERIAL, "TokenCode": "012345", "SourceIdentity": "jane"}
knows_sizes = pytest.mark.skipif("MinimumSessionTokenSize" not in MEMBERS, reason="this botocore does not know it")
SENT: list[Any] = [
    ({"PolicyArns": [POLICY_ARN, POLICY_ARN + "2"]}, listed("PolicyArns", ARN, OTHER_ARN)),
    ({"PolicyArns": [ARN]}, listed("PolicyArns", ARN)),
    ({"PolicyArns": (ARN, POLICY_ARN + "2")}, listed("PolicyArns", ARN, OTHER_ARN)),
    ({"DurationSeconds": 7200}, {"DurationSeconds": "7200"}),
    ({"DurationSeconds": timedelta(hours=1, minutes=5)}, {"DurationSeconds": "3900"}),
    ({"Tags": MappingProxyType({"Team": "blue", "Empty": ""})}, listed("Tags", TEAM, EMPTY)),
    ({"Tags": [TEAM], "TransitiveTagKeys": ["Team"]}, listed("Tags", TEAM) | listed("TransitiveTagKeys", "Team")),
    ({"ProvidedContexts": [context(1)]}, listed("ProvidedContexts", context(1))),
    (TEXTS, TEXTS),
    (
        {"additional_kwargs": {"ExternalId": "abc", "Tags": {"Team": "blue"}}},
        {"ExternalId": "abc"} | listed("Tags", TEAM),
    ),
    ({"additional_kwargs": {"ExternalId": None, "SourceIdentity": "me"}}, {"SourceIdentity": "me"}),
    ({}, {}),
    *(
        pytest.param({"MinimumSessionTokenSize": n}, {"MinimumSessionTokenSize": str(n)}, marks=knows_sizes)
        for n in (0, 4096)
    ),
    # A policy keeps its content and order, and has no whitespace between its tokens.
    ({"Policy": POLICY}, {"Policy": COMPACT}),
    ({"Policy": MappingProxyType(OrderedDict(POLICY))}, {"Policy": COMPACT}),
    ({"Policy": {**POLICY, "Statement": [MappingProxyType(POLICY["Statement"][0])]}}, {"Policy": COMPACT}),
    ({"Policy": json.dumps(POLICY, ensure_ascii=False)}, {"Policy": COMPACT}),
    ({"Policy": json.dumps(POLICY, indent=4)}, {"Policy": COMPACT}),
    ({"Policy": MANY_KEYS}, {"Policy": MANY_KEYS}),  # none is mistaken for a duplicate
]


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("parameters", "expected"), SENT)
def test_sends_what_was_given(sts, parent, parameters, expected, validate):
    """Each convenient form arrives in the API's form, validated or not, and nothing else arrives."""
    sent = params_sent(parent, sts, RoleSessionName="name", validate=validate, **parameters)
    assert sent == {"RoleSessionName": "name", **expected}


def test_a_policy_with_a_key_twice_is_not_widened(parent, sts):
    """A policy with a duplicate key, of which Python's JSON parser drops the first, is refused, or sent unchanged."""
    policy = '{"Statement": {"Condition": {"StringEquals": {"a": "1"}, "StringEquals": {"b": "2"}}}}'
    assert "Policy" in refusal(parent, Policy=policy)
    assert params_sent(parent, sts, Policy=policy, validate=False)["Policy"] == policy


@pytest.mark.parametrize(
    ("name", "value", "change"),
    [
        ("Tags", [{"Key": "tenant", "Value": "red"}], lambda tags: tags[0].update(Value="blue")),
        ("PolicyArns", [{"arn": POLICY_ARN}], lambda arns: arns[0].update(arn="x")),
        ("PolicyArns", [POLICY_ARN], lambda arns: arns.append("x")),
        ("ProvidedContexts", [context(1)], lambda contexts: contexts[0].update(ProviderArn="x")),
        ("Tags", {"tenant": "red"}, lambda tags: tags.update(tenant="blue")),
        ("Policy", {"Statement": []}, lambda policy: policy.update(Statement=7)),
        ("additional_kwargs", {"ExternalId": "abc"}, lambda additional: additional.update(ExternalId="x")),
    ],
)
def test_a_callers_own_objects_are_copied(parent, sts, name, value, change):
    """A caller's list or dict is not modified, and what the caller changes in it after the call is not sent."""
    before = copy.deepcopy(value)
    now, later = (assume_role(parent, HUB, RoleSessionName="me", **{name: value}) for _ in range(2))
    now.get_credentials().get_frozen_credentials()
    assert value == before
    change(value)
    later.get_credentials().get_frozen_credentials()
    assert sts.assumed[0].params == sts.assumed[1].params


NAMES: list[tuple[dict[str, Any], str | None]] = [
    ({"RoleSessionName": "given"}, "given"),
    ({"RoleSessionName": lambda: "given"}, "given"),
    ({"RoleSessionName": "given", "SourceIdentity": "jane"}, "given"),
    ({"SourceIdentity": "jane"}, "jane"),
    ({"SourceIdentity": "jane" * 16}, "jane" * 16),
    ({"additional_kwargs": {"SourceIdentity": "jane"}}, "jane"),
    ({}, None),
    ({"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME}, None),
    ({"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME, "SourceIdentity": "jane"}, None),
    ({"SourceIdentity": "jane" * 17, "validate": False}, None),
]


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(("parameters", "expected"), NAMES)
def test_session_name(sts, parent, parameters, expected, validate):
    """The session name is the one passed, the source identity, or a generated one, and the same on each refresh."""
    with time_machine.travel("2030-01-01T00:00Z", tick=False) as clock:
        credentials = assume_role(parent, HUB, **{"validate": validate, **parameters}).get_credentials()
        credentials.get_frozen_credentials()
        clock.shift(3600)
        credentials.get_frozen_credentials()
    first, second = (request.params["RoleSessionName"] for request in sts.assumed)
    assert first == second
    identity = parameters.get("SourceIdentity") or parameters.get("additional_kwargs", {}).get("SourceIdentity")
    assert sts.assumed[0].params.get("SourceIdentity") == identity
    if expected is not None:
        assert first == expected
    else:
        assert first.startswith("botocore-session-")
        assert params_sent(parent, sts, RoleSessionName=first)["RoleSessionName"] == first  # it passes its own check


def test_the_automatic_name_shows_what_it_is():
    """The repr of AUTOMATIC_ROLE_SESSION_NAME, which an error or a debugger shows, is its name."""
    assert repr(AUTOMATIC_ROLE_SESSION_NAME) == "AUTOMATIC_ROLE_SESSION_NAME"
