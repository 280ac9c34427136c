"""The package as it is installed: its names, what its import loads, its types."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import aws_assume_role_lib
from aws_assume_role_lib import _assume
from aws_assume_role_lib._command import cli


def test_the_published_names_are_there() -> None:
    """Every name of the published interface can be imported, and no other is offered."""
    assert set(aws_assume_role_lib.__all__) == {
        "AUTOMATIC_ROLE_SESSION_NAME",
        "AssumedRoleSession",
        "ExportedCredentials",
        "JSONFileCache",
        "__version__",
        "assume_role",
        "generate_lambda_session_name",
        "get_assumed_role_session_arn",
        "get_role_arn",
        "make_session_name",
        "patch_boto3",
    }
    for name in aws_assume_role_lib.__all__:
        assert hasattr(aws_assume_role_lib, name)


def test_the_inner_module_of_version_2_has_every_name() -> None:
    """Programs that import version 2's inner module, by either statement, find the public names and main() there."""
    from aws_assume_role_lib import aws_assume_role_lib as inner
    from aws_assume_role_lib.aws_assume_role_lib import assume_role, main

    assert assume_role is aws_assume_role_lib.assume_role
    assert main is cli.main
    for name in aws_assume_role_lib.__all__:
        assert getattr(inner, name) is getattr(aws_assume_role_lib, name)


def test_modules_need_no_import_of_their_own() -> None:
    """After importing the package, its public modules are attributes of it, and nothing else is."""
    code = (
        "import aws_assume_role_lib as lib; lib.aio.get_session; lib.aws_assume_role_lib.main; "
        "assert not hasattr(lib, 'unknown')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_that_of_the_distribution() -> None:
    """__version__ is the installed version."""
    assert aws_assume_role_lib.__version__ == importlib.metadata.version("aws-assume-role-lib")


def test_only_boto3_and_botocore_are_required() -> None:
    """The distribution requires boto3 and botocore, and nothing else."""
    requirements = importlib.metadata.requires("aws-assume-role-lib") or []
    assert sorted(requirement.partition(">")[0] for requirement in requirements) == ["boto3", "botocore"]


def test_import_loads_nothing_that_boto3_has_not_loaded() -> None:
    """After boto3, importing the package loads only the package itself: nothing of its command line, or of travel."""
    # The oldest boto3 loads these two with its first client.
    first = "import sys, boto3, boto3.session, concurrent.futures, contextvars; before = set(sys.modules); "
    code = first + "import aws_assume_role_lib; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in loaded if name.partition(".")[0] != "aws_assume_role_lib"] == []
    assert not {"aws_assume_role_lib._command", "aws_assume_role_lib._travel"}.intersection(loaded)


def test_the_method_takes_what_the_function_takes() -> None:
    """AssumedRoleSession.assume_role() is typed with the keywords of assume_role(), with the same types."""
    function = {
        name: parameter.annotation
        for name, parameter in inspect.signature(aws_assume_role_lib.assume_role).parameters.items()
        if name not in ("session", "RoleArn")
    }
    source = Path(typing.cast("str", _assume.__file__)).read_text()
    (definition,) = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    method = {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in definition.body
        if isinstance(node, ast.AnnAssign)
    }
    assert method == function


def test_type_checkers_find_the_types() -> None:
    """The package has the marker file of PEP 561."""
    assert (Path(typing.cast("str", aws_assume_role_lib.__file__)).parent / "py.typed").exists()
