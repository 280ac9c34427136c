"""Helpers for the parameter tests."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ParamValidationError
from conftest import HUB
from sts_stub import StsStub

from aws_assume_role_lib import assume_role

# What botocore's model says of each parameter.
MEMBERS: Any = botocore.session.Session().get_service_model("sts").operation_model("AssumeRole").input_shape.members  # type: ignore[union-attr]
POLICY_ARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"
SERIAL = "arn:aws:iam::111111111111:mfa/jane"


def context(n: int) -> dict[str, str]:
    return {"ProviderArn": f"arn:aws:iam::aws:contextProvider/Number{n}", "ContextAssertion": "assertion"}


def cases(table: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return the name and each of the values of each row, for parametrize()."""
    return [pytest.param(name, value, id=f"{name}-{n}") for name, values in table for n, value in enumerate(values)]


def refusal(session: boto3.Session, RoleArn: str = HUB, **parameters: Any) -> str:
    """The text of the ParamValidationError that a call raises."""
    with pytest.raises(ParamValidationError) as caught:
        assume_role(session, RoleArn, **parameters)
    return str(caught.value)


def params_sent(session: boto3.Session, sts: StsStub, **parameters: Any) -> dict[str, str]:
    """Return the parameters that arrive at STS, without those that every request has."""
    assume_role(session, HUB, **parameters).get_credentials().get_frozen_credentials()
    every = ("Action", "Version", "RoleArn")
    return {name: value for name, value in sts.assumed[-1].params.items() if name not in every}
