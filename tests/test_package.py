"""The package as it is installed: its names, what its import loads, its types."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import aws_assume_role_lib
from aws_assume_role_lib import aws_assume_role_lib as inner
from aws_assume_role_lib._command import cli

PUBLISHED = """
    AUTOMATIC_ROLE_SESSION_NAME AssumedRoleSession ExportedCredentials JSONFileCache __version__ assume_role
    generate_lambda_session_name get_assumed_role_session_arn get_role_arn make_session_name patch_boto3
"""


def test_the_published_names_are_there():
    """Every name of the published interface can be imported, also from version 2's inner module, and no other is
    offered."""
    assert sorted(aws_assume_role_lib.__all__) == PUBLISHED.split()
    for name in aws_assume_role_lib.__all__:
        assert getattr(inner, name) is getattr(aws_assume_role_lib, name)
    assert inner.main is cli.main


def test_the_distribution_says_what_it_is():
    """__version__ is the installed version; boto3 and botocore are required, and nothing else; the types are marked."""
    assert aws_assume_role_lib.__version__ == importlib.metadata.version("aws-assume-role-lib")
    requirements = importlib.metadata.requires("aws-assume-role-lib") or []
    assert sorted(requirement.partition(">")[0] for requirement in requirements) == ["boto3", "botocore"]
    assert Path(aws_assume_role_lib.__file__).with_name("py.typed").exists()


# The oldest boto3 loads concurrent.futures and contextvars with its first client.
SCRIPT = """
import sys, boto3, boto3.session, concurrent.futures, contextvars
before = set(sys.modules)
import aws_assume_role_lib as lib
print(*(set(sys.modules) - before))
lib.aio.get_session
lib.aws_assume_role_lib.main
assert not hasattr(lib, "unknown")
"""


def test_an_import_loads_little():
    """After boto3, importing the package loads nothing else, nor its command line or travel; then public modules are
    attributes, and nothing else is."""
    loaded = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in loaded if name.partition(".")[0] != "aws_assume_role_lib"] == []
    assert not {"aws_assume_role_lib._command", "aws_assume_role_lib._travel"}.intersection(loaded)
