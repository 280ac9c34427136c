"""Sharing between roles' clients changes nothing about plain clients, and nothing visible about a role's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "compare_clients.py"


def without_ours(value: Any) -> Any:
    """Return them without the one handler that only a role's session has, which refuses bearer tokens."""
    if isinstance(value, dict):
        return {name: without_ours(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_ours(each) for each in value if each != "aws_assume_role_lib._session.sign_as_the_role"]
    return value


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONHASHSEED": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    runs = {
        mode: subprocess.Popen([sys.executable, str(SCRIPT), mode], env=kept | environment, stdout=subprocess.PIPE)
        for mode in ("alone", "in-use", "child")
    }
    return {mode: json.loads(run.communicate(timeout=120)[0]) for mode, run in runs.items()}


@pytest.mark.parametrize("part", ["clients", "resources", "requests"])
def test_plain_clients_are_the_same_in_a_process_that_uses_the_package(found: dict[str, Any], part: str) -> None:
    """Attributes, handlers and requests of plain clients do not depend on the package being in use."""
    assert found["alone"][part]
    assert found["in-use"][part] == found["alone"][part]


@pytest.mark.parametrize("part", ["clients", "resources", "requests"])
def test_clients_of_a_role_are_like_plain_ones(found: dict[str, Any], part: str) -> None:
    """A role's clients have the attributes, handlers and requests of a plain client, with other credentials."""
    assert without_ours(found["child"][part]) == found["alone"][part]
