"""The list of modules on the page *How it works* matches the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from aws_assume_role_lib import _attempts, _family, _role, _session, _sts

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "aws_assume_role_lib"
PAGE = ROOT / "docs" / "project" / "how-it-works.md"
LISTED = re.findall(r"^- `(\w+)/?`: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
# A folder counts as one module.
FILES = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}


def imported_at_once(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield what a file imports from the package when it is loaded: not in functions, not for type checkers alone."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif not (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            yield from imported_at_once(ast.iter_child_nodes(node))


def test_each_module_is_listed() -> None:
    """The page lists each module of the package once, and none that no longer exists."""
    assert sorted(LISTED) == sorted(set(FILES.values()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_imports_run_downward(file: Path) -> None:
    """A module imports, when it is loaded, only modules further down in the list, so that no circle can form."""
    place = LISTED.index(FILES[file])
    imported = set(imported_at_once([ast.parse(file.read_text(encoding="utf-8"))])) & set(FILES.values())
    # The files of a folder import each other.
    assert imported <= set(LISTED[place + (file.parent == PACKAGE) :])


def test_waits_and_bounds_are_as_listed() -> None:
    """The numbers in the lists of waits and bounds are the code's."""
    numbers = re.findall(r"^- .*: (\d+)(?: seconds)?(?:, each for (\d+) seconds)?$", PAGE.read_text("utf-8"), re.M)
    assert [int(number) for row in numbers for number in row if number] == [
        _attempts.WAIT_LIMIT,
        _role.CODE_WAIT_LIMIT,
        _role.SOURCE_WAIT_LIMIT,
        _session.LOADING_WAIT_LIMIT,
        _family.MAX_IDLE,
        _family.MAX_IDLE_TIME,
        _family.MAX_HOSTS,
        _family.MAX_SETTINGS,
        _sts.MAX_CLIENTS,
        _family.MAX_ENDPOINTS,
    ]
