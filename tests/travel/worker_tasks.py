"""Tasks for the worker processes of the pickling tests. A worker imports this module, and little else."""

from __future__ import annotations

import os
import pickle
from typing import Any

import boto3

from aws_assume_role_lib import assume_role


def code() -> str:
    return "123456"


def session_name() -> str:
    return "from-a-function"


def identify(session: boto3.Session) -> tuple[int, str, str]:
    """Use a session; return the process, its identity there, and the key that it signs with."""
    arn = session.client("sts").get_caller_identity()["Arn"]
    return os.getpid(), arn, session.get_credentials().get_frozen_credentials().access_key


def pickled(role_arn: str) -> bytes:
    """Return the bytes of a session whose tags are in no particular order."""
    return pickle.dumps(assume_role(boto3.Session(), role_arn, Tags=dict.fromkeys({"a", "b", "c", "d"}, "")))


class OwnPickle(boto3.Session):
    """A subclass with its own pickle support."""

    def __init__(self, team: str) -> None:
        super().__init__(region_name="eu-west-3")
        self.team = team

    def __reduce__(self) -> Any:
        return OwnPickle, (self.team,)


class NoPickle(boto3.Session):
    """A subclass without pickle support."""


class OwnCache(dict[str, Any]):
    """A cache of a program's own class."""


class Namer:
    """A callable that refers to the session that calls it."""

    session: Any = None

    def __call__(self) -> str:
        return "namer"
