"""Assume IAM roles with boto3: ``assume_role(session, RoleArn)`` returns a session that refreshes itself."""

import importlib
from typing import TYPE_CHECKING

from ._assume import AssumedRoleSession, assume_role
from ._file_cache import JSONFileCache
from ._keys import ExportedCredentials
from ._names import generate_lambda_session_name, get_assumed_role_session_arn, get_role_arn, make_session_name
from ._parameters import AUTOMATIC_ROLE_SESSION_NAME
from ._patch import patch_boto3

__version__ = "3.0.0"

__all__ = [
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
]

if TYPE_CHECKING:
    from . import aio as aio
    from . import aws_assume_role_lib as aws_assume_role_lib
else:

    def __getattr__(name: str) -> object:
        # Modules that can be used without importing them first, and that most programs never use.
        if name in ("aio", "aws_assume_role_lib"):
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
