"""The asyncio guide is true: its Python blocks run, against moto's server."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

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
