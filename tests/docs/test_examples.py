"""The examples of the docs run, and do what they say."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from conftest import SPOKE
from pages import blocks, run
from sts_stub import Fault, StsStub

from aws_assume_role_lib import assume_role

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
LAMBDA = EXAMPLES / "lambda"

INSTANCE = "0123456789abcdef0123456789abcdef"
FUNCTION_ROLE = "arn:aws:iam::111111111111:role/FunctionRole"
TARGET_ROLE = "arn:aws:iam::222222222222:role/OrdersReader"


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that Lambda gives the function, which stays the same for all invocations of an instance."""
    environment = {
        "AWS_ACCESS_KEY_ID": "ASIAFUNCTION",
        "AWS_SECRET_ACCESS_KEY": "function-secret",
        "AWS_SESSION_TOKEN": "function-token",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"2025/01/31/[7]{INSTANCE}",
        "TARGET_ROLE_ARN": TARGET_ROLE,
        "EXTERNAL_ID": "orders-1",
        "TABLE_NAME": "Orders",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def start() -> Callable[[dict[str, str], None], Any]:
    """Import the handler's module, as a new instance does."""
    handler: Callable[[dict[str, str], None], Any] = runpy.run_path(str(LAMBDA / "orders" / "handler.py"))["handler"]
    return handler


@pytest.mark.usefixtures("instance")
def test_lambda_assumes_its_role_once(sts: StsStub) -> None:
    """20 invocations of an instance make one AssumeRole, in the first, with the log stream's ID in the session name.

    If STS refuses, the invocation fails with STS's error, and the same instance serves the next one.
    """
    handler = start()
    assert sts.requests == []
    sts.fault = Fault.error(403, "AccessDenied", "not yet", times=1)
    with pytest.raises(ClientError, match=r"\(AccessDenied\) when calling the AssumeRole operation: not yet"):
        handler({"order_id": "0"}, None)
    for number in range(20):
        assert handler({"order_id": str(number)}, None) == {"order": None}
    _, request = sts.assumed
    assert request.access_key == "ASIAFUNCTION"
    assert request.params["RoleArn"] == TARGET_ROLE
    assert request.params["RoleSessionName"] == f"orders.7.{INSTANCE}"
    assert request.params["ExternalId"] == "orders-1"
    (key,) = sts.issued
    assert [request.access_key for request in sts.requests if not request.action] == [key] * 20


@pytest.mark.parametrize("name", ["TARGET_ROLE_ARN", "EXTERNAL_ID"])
@pytest.mark.usefixtures("instance")
def test_lambda_without_its_settings_does_not_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing setting stops the instance from starting, with an error that names it."""
    monkeypatch.delenv(name)
    with pytest.raises(KeyError, match=name):
        start()


def test_lambda_reads_the_other_account(moto: str, parent: boto3.Session, instance: None) -> None:
    """With the stack of target-account.yaml in the other account, the handler returns the order stored there."""
    order = {"order_id": {"S": "1"}, "customer": {"S": "Ada"}}
    deploy_target_account(parent).client("dynamodb").put_item(TableName="Orders", Item=order)
    handler = start()
    assert handler({"order_id": "1"}, None) == {"order": order}
    assert handler({"order_id": "2"}, None) == {"order": None}


def test_target_role_trusts_the_function_alone(moto: str, parent: boto3.Session) -> None:
    """Only the function's role may assume the target role, with the external ID, and that may read the table."""
    iam = deploy_target_account(parent).client("iam")
    role = iam.get_role(RoleName="OrdersReader")["Role"]
    policy = iam.get_role_policy(RoleName="OrdersReader", PolicyName="ReadOrders")["PolicyDocument"]
    assert role["Arn"] == TARGET_ROLE
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    # moto keeps the inline policy of a stack's role as the str() of a dict.
    (allowed,) = ast.literal_eval(str(policy))["Statement"]
    principal, condition = {"AWS": FUNCTION_ROLE}, {"StringEquals": {"sts:ExternalId": "orders-1"}}
    assert trust == {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition}
    table = "arn:aws:dynamodb:us-east-1:222222222222:table/Orders"
    assert allowed == {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": table}


def test_function_may_assume_the_target_role() -> None:
    """The function is given the role, external ID and table of target-account.yaml; its role may assume that role."""

    class Loader(yaml.SafeLoader):
        """Replaces each intrinsic function by its argument."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node))
    resources = yaml.load((LAMBDA / "template.yaml").read_text(), Loader)["Resources"]
    function, role = resources["OrdersFunction"]["Properties"], resources["FunctionRole"]["Properties"]
    target_role = "arn:${AWS::Partition}:iam::${TargetAccountId}:role/OrdersReader"
    settings = {"TARGET_ROLE_ARN": target_role, "EXTERNAL_ID": "ExternalId", "TABLE_NAME": "Orders"}
    assert function["Environment"]["Variables"] == settings
    assert function["Role"] == "FunctionRole.Arn"
    (may_assume,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert may_assume == {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": target_role}
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_templates_and_policies_pass_cfn_lint(tmp_path: Path) -> None:
    """AWS's own linter, which knows the syntax of policies and the names of actions and conditions, finds nothing wrong
    in the templates, nor in the policies of the page on IAM.
    """
    policies = [json.loads(block.text) for block in blocks(DOCS / "guides" / "iam.md") if block.language == "json"]
    resources = {}
    for number, policy in enumerate(policies):
        kind, key = ("AWS::IAM::ManagedPolicy", "PolicyDocument")
        if "Principal" in policy["Statement"][0]:
            kind, key = ("AWS::IAM::Role", "AssumeRolePolicyDocument")
        resources[f"Policy{number}"] = {"Type": kind, "Properties": {key: policy}}
    assert resources
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
    cfn_lint = (sys.executable, "-c", "import cfnlint.runner; cfnlint.runner.main()")
    lint = run(*cfn_lint, "template.yaml", "target-account.yaml", page, cwd=LAMBDA)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def deploy_target_account(parent: boto3.Session) -> boto3.Session:
    """Deploy the stack, once for each run of moto; return a session in its account."""
    target = assume_role(parent, SPOKE)
    cloudformation = target.client("cloudformation")
    if not cloudformation.list_stacks()["StackSummaries"]:
        cloudformation.create_stack(
            StackName="orders-target",
            TemplateBody=(LAMBDA / "target-account.yaml").read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": "FunctionRoleArn", "ParameterValue": FUNCTION_ROLE},
                {"ParameterKey": "ExternalId", "ParameterValue": "orders-1"},
            ],
        )
    return target


def test_library_passes_its_own_tests() -> None:
    """The library's tests, in the style that the docs teach, pass, and none is skipped."""
    pytest_options = ("-p", "no:cacheprovider", "-c", "pyproject.toml")
    tests = run(sys.executable, "-m", "pytest", *pytest_options, cwd=EXAMPLES / "library")
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert re.search(r"=+ \d+ passed in", tests.stdout)
