"""Helpers for the parameter tests."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import (
    ParamValidationError,
)
from conftest import HUB
from sts_stub import StsStub

from aws_assume_role_lib import assume_role

# What botocore's model says of each parameter.
MEMBERS: Any = (
    botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape  # type: ignore[union-attr]
).members

POLICY_ARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"

POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "é*"}]}

SERIAL = "arn:aws:iam::111111111111:mfa/jane"


def policy_of(length: int) -> dict[str, str]:
    """Return a policy with this many characters as compact JSON."""
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
    """Return the parameters that arrive at STS, without those that every request has."""
    assume_role(session, role_arn, **parameters).get_credentials().get_frozen_credentials()
    return {
        name: value for name, value in sts.assumed[-1].params.items() if name not in ("Action", "Version", "RoleArn")
    }


needs_token_size = pytest.mark.skipif(
    "MinimumSessionTokenSize" not in MEMBERS, reason="this botocore does not know MinimumSessionTokenSize"
)
