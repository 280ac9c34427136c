"""The asyncio guide is true: its Python blocks run, against moto's server."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from pages import blocks, check_tests

PAGE = Path(__file__).parents[2] / "docs/guides/asyncio.md"
BLOCKS = [block for block in blocks(PAGE) if block.language == "python"]


@pytest.mark.usefixtures("moto", "root_keys")
def test_the_blocks_of_the_asyncio_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page runs, from top to bottom in one namespace."""
    pytest.importorskip("aioboto3", reason="no aioboto3 allows this aiobotocore")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for block in BLOCKS:
        block.execute(PAGE, vars(module))


def test_the_tests_on_the_asyncio_page_pass(tmp_path: Path) -> None:
    """The page's fixture and test pass under pytest, whatever profile and endpoint are set."""
    imports = "import asyncio\n\nimport boto3\n\nfrom aws_assume_role_lib import aio, assume_role\n"
    (tmp_path / "test_page.py").write_text(imports + BLOCKS[-1].text, encoding="utf-8")
    check_tests(tmp_path, 1)
