"""The examples of the docs run, and do what they say."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import SPOKE
from lambda_runtime_api import LIMIT, LambdaRuntimeApi
from pages import run
from sts_stub import Fault, StsStub

import aws_assume_role_lib
from aws_assume_role_lib import assume_role

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LAMBDA = EXAMPLES / "lambda"
PACKAGE = Path(aws_assume_role_lib.__file__).parent.parent

INSTANCE = "0123456789abcdef0123456789abcdef"
FUNCTION_ROLE = "arn:aws:iam::111111111111:role/FunctionRole"
TARGET_ROLE = "arn:aws:iam::222222222222:role/OrdersReader"
SETTINGS = {"TARGET_ROLE_ARN": TARGET_ROLE, "EXTERNAL_ID": "orders-1", "TABLE_NAME": "Orders"}


def missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


# Lambda

needs_runtime_client = pytest.mark.skipif(
    missing("runtime_client"),  # the compiled half of awslambdaric
    reason="AWS's Lambda runtime client is not here: pip install awslambdaric (Linux only; where there is no wheel, "
    "it is built with cmake, autoconf, automake, libtool, make and g++)",
)


@contextlib.contextmanager
def function_instance(endpoint_url: str, **settings: str) -> Iterator[LambdaRuntimeApi]:
    """An instance of the example's function, with the environment that Lambda gives it.

    See https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html.
    """
    with LambdaRuntimeApi() as api:
        environment = {
            "AWS_ACCESS_KEY_ID": "ASIAFUNCTION",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_NAME": "orders",
            "AWS_LAMBDA_FUNCTION_VERSION": "7",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"2025/01/31/[7]{INSTANCE}",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "function-secret",
            "AWS_SESSION_TOKEN": "function-token",
            "LAMBDA_TASK_ROOT": str(LAMBDA / "orders"),
            "LANG": "en_US.UTF-8",
            "PATH": os.environ["PATH"],
            "TZ": ":UTC",
            "_HANDLER": "handler.handler",
            # The rest does not come from Lambda: the AWS stand-in, and this package.
            "AWS_ENDPOINT_URL": endpoint_url,
            "PYTHONPATH": str(PACKAGE),
            "PYTHONDONTWRITEBYTECODE": "1",
            **settings,
        }
        instance = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", "handler.handler"], cwd=LAMBDA / "orders", env=environment
        )
        try:
            yield api
        finally:
            instance.kill()
            instance.wait()


@needs_runtime_client
def test_lambda_assumes_its_role_once(sts: StsStub) -> None:
    """20 invocations of an instance make one AssumeRole, in the first, with the log stream's ID in the session name."""
    with function_instance(sts.url, **SETTINGS) as api:
        assert api.asked.wait(LIMIT)
        assert sts.requests == []
        for number in range(20):
            outcome = api.invoke({"order_id": str(number)})
            assert (outcome.kind, outcome.payload) == ("response", {"order": None})

    (request,) = sts.assumed
    assert request.access_key == "ASIAFUNCTION"
    assert request.params["RoleArn"] == TARGET_ROLE
    assert request.params["RoleSessionName"] == f"orders.7.{INSTANCE}"
    assert request.params["ExternalId"] == "orders-1"
    (key,) = sts.issued
    assert [request.access_key for request in sts.requests if not request.action] == [key] * 20
    assert sts.violations == []


@needs_runtime_client
def test_lambda_survives_a_refusal(sts: StsStub) -> None:
    """If STS refuses, the invocation fails with STS's error, and the same instance serves the next one."""
    sts.fault = Fault.error(403, "AccessDenied", "not yet", times=1)
    with function_instance(sts.url, **SETTINGS) as api:
        refused = api.invoke({"order_id": "1"})
        assert (refused.kind, refused.payload["errorType"]) == ("error", "ClientError")
        assert refused.payload["errorMessage"].endswith("(AccessDenied) when calling the AssumeRole operation: not yet")
        assert api.invoke({"order_id": "1"}).kind == "response"


@needs_runtime_client
def test_lambda_without_its_settings_does_not_start(sts: StsStub) -> None:
    """A missing setting stops the instance from starting, with an error that names it."""
    with function_instance(sts.url) as api:
        outcome = api.outcomes.get(timeout=LIMIT)
    assert (outcome.kind, outcome.payload["errorType"]) == ("init", "KeyError")
    assert "TARGET_ROLE_ARN" in outcome.payload["errorMessage"]


@needs_runtime_client
def test_lambda_reads_the_other_account(moto: str, parent: boto3.Session) -> None:
    """With the stack of target-account.yaml in the other account, the handler returns the order stored there."""
    target = deploy_target_account(parent)
    order = {"order_id": {"S": "1"}, "customer": {"S": "Ada"}}
    target.client("dynamodb").put_item(TableName="Orders", Item=order)
    with function_instance(moto, **SETTINGS) as api:
        assert api.invoke({"order_id": "1"}).payload == {"order": order}
        assert api.invoke({"order_id": "2"}).payload == {"order": None}


def test_target_role_trusts_the_function_alone(moto: str, parent: boto3.Session) -> None:
    """Only the function's role may assume the target role, with the external ID, and that may read the table."""
    iam = deploy_target_account(parent).client("iam")
    role = iam.get_role(RoleName="OrdersReader")["Role"]
    assert role["Arn"] == TARGET_ROLE
    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"AWS": FUNCTION_ROLE},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "orders-1"}},
        }
    ]
    policy = iam.get_role_policy(RoleName="OrdersReader", PolicyName="ReadOrders")["PolicyDocument"]
    # moto keeps the inline policy of a stack's role as the str() of a dict.
    assert ast.literal_eval(str(policy))["Statement"] == [
        {
            "Effect": "Allow",
            "Action": "dynamodb:GetItem",
            "Resource": "arn:aws:dynamodb:us-east-1:222222222222:table/Orders",
        }
    ]


def test_function_may_assume_the_target_role() -> None:
    """The function is given the target role, external ID and table of target-account.yaml; its role may assume that
    role, and only Lambda may assume the function's.
    """
    resources = function_template()["Resources"]
    function, role = resources["OrdersFunction"]["Properties"], resources["FunctionRole"]["Properties"]
    target_role = function["Environment"]["Variables"]["TARGET_ROLE_ARN"]
    known = {"AWS::Partition": "aws", "TargetAccountId": "222222222222"}
    assert re.sub(r"\$\{([\w:]+)\}", lambda match: known[match[1]], target_role) == TARGET_ROLE
    assert function["Environment"]["Variables"] == {
        "TARGET_ROLE_ARN": target_role,
        "EXTERNAL_ID": "ExternalId",
        "TABLE_NAME": "Orders",
    }
    assert function["Role"] == "FunctionRole.Arn"
    (may_assume,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert may_assume == {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": target_role}
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_templates_pass_cfn_lint() -> None:
    """Both templates pass AWS's own linter."""
    if missing("cfnlint"):
        pytest.skip("cfn-lint is not here: pip install cfn-lint")
    cfn_lint = (sys.executable, "-c", "import cfnlint.runner; cfnlint.runner.main()")
    lint = run(*cfn_lint, "template.yaml", "target-account.yaml", cwd=LAMBDA)
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


def function_template() -> Any:
    """Return the SAM template, with each intrinsic function replaced by its argument."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not here: pip install pyyaml")

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node))
    return yaml.load((LAMBDA / "template.yaml").read_text(), Loader)


# Library


def test_library_passes_its_own_tests() -> None:
    """The library's tests, in the style that the docs teach, pass, and none is skipped."""
    pytest_options = ("-p", "no:cacheprovider", "-c", "pyproject.toml")
    tests = run(sys.executable, "-m", "pytest", *pytest_options, cwd=EXAMPLES / "library")
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert re.search(r"=+ \d+ passed in", tests.stdout)
