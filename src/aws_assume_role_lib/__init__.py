"""Assume IAM roles with boto3: ``assume_role(session, RoleArn)`` returns a session that refreshes itself."""

from ._assume import assume_role
from ._file_cache import JSONFileCache
from ._keys import ExportedCredentials
from ._names import generate_lambda_session_name, get_assumed_role_session_arn, get_role_arn
from ._parameters import AUTOMATIC_ROLE_SESSION_NAME
from ._patch import patch_boto3
from ._session import AssumedRoleSession

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
    "patch_boto3",
]
