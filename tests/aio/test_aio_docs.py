"""The asyncio guide is true: its Python blocks run, against moto's server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import aws_assume_role_lib

PAGE = Path(__file__).parents[2] / "docs/guides/asyncio.md"


def test_the_blocks_of_the_asyncio_page_run(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page runs, from top to bottom in one namespace."""
    pytest.importorskip("aioboto3", reason="no aioboto3 allows this aiobotocore")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROOT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    text = PAGE.read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        source = "\n" * text.count("\n", 0, match.start(1)) + match[1]
        exec(compile(source, str(PAGE), "exec", dont_inherit=True), vars(module))


def test_the_tests_on_the_asyncio_page_pass(tmp_path: Path) -> None:
    """The page's fixture and test pass under pytest, whatever profile and endpoint are set."""
    found = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    imports = "import asyncio\n\nimport boto3\n\nfrom aws_assume_role_lib import aio, assume_role\n"
    (tmp_path / "test_page.py").write_text(imports + found[-1], encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_PROFILE": "missing",
            "PYTHONPATH": str(Path(aws_assume_role_lib.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"^1 passed", finished.stdout, re.MULTILINE), finished.stdout
