"""The IAM policies on the IAM setup page are valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import SPOKE
from test_docs import DOCS, blocks

from aws_assume_role_lib import assume_role

PAGE = DOCS / "guides" / "iam.md"
POLICIES = [json.loads(block.text) for block in blocks(PAGE) if block.language == "json"]


def is_trust_policy(policy: dict[str, Any]) -> bool:
    return "Principal" in policy["Statement"][0]


@pytest.mark.parametrize("policy", POLICIES)
def test_iam_accepts_the_policy(moto: str, parent: boto3.Session, policy: dict[str, Any]) -> None:
    """IAM, as simulated by moto, accepts each policy, either as a role's trust policy or as an identity policy."""
    iam = assume_role(parent, SPOKE).client("iam")
    text = json.dumps(policy)
    if is_trust_policy(policy):
        iam.create_role(RoleName="Target", AssumeRolePolicyDocument=text)
        iam.delete_role(RoleName="Target")
    else:
        arn = iam.create_policy(PolicyName="Caller", PolicyDocument=text)["Policy"]["Arn"]
        iam.delete_policy(PolicyArn=arn)


def test_cfn_lint_knows_every_action_and_condition(tmp_path: Path) -> None:
    """AWS's own linter, which knows the policy syntax and the names of actions, finds nothing wrong."""
    properties = [
        {"AssumeRolePolicyDocument": policy}
        if is_trust_policy(policy)
        else {"PolicyDocument": policy, "PolicyName": "p"}
        for policy in POLICIES
    ]
    kinds = [
        "AWS::IAM::Role" if "AssumeRolePolicyDocument" in each else "AWS::IAM::ManagedPolicy" for each in properties
    ]
    resources = {
        f"Policy{number}": {"Type": kind, "Properties": {key: each[key] for key in each if key != "PolicyName"}}
        for number, (kind, each) in enumerate(zip(kinds, properties, strict=True))
    }
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
    lint = subprocess.run(
        [sys.executable, "-c", "import cfnlint.runner; cfnlint.runner.main()", template],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
