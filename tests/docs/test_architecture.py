"""The map of modules and tests on the contributing page matches the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "aws_assume_role_lib"
(PAGE,) = (ROOT / "docs").rglob("contributing.md")
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
TESTS = sorted(path.stem for path in (ROOT / "tests").glob("test_*.py"))


class Row(NamedTuple):
    """A module's row on the map: what it imports from the package, what it imports only when called, and its tests."""

    imports: set[str]
    when_called: set[str]
    tests: set[str]


def table(heading: str) -> Iterator[list[str]]:
    """Return the cells of each row of the first table below a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for line in re.findall(r"^\|(.*`.*)\|$", section, re.MULTILINE):
        yield line.split("|")


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


MAP: dict[str, Row] = {}
for module, _, imported, tested in table("Module map"):
    at_import, _, when_called = imported.partition("when called:")
    MAP[names(module).pop()] = Row(names(at_import), names(when_called), names(tested))


def imports(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Return the package's modules that are imported at once, and those that are imported when a function is called.

    Imports for type checkers alone do not count.
    """
    at_once: set[str] = set()
    when_called: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            at_once.update(
                [node.module] if node.module else [alias.name for alias in node.names if alias.name in MODULES]
            )
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            inner, later = imports(ast.iter_child_nodes(node))
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            (when_called if is_function else at_once).update(inner)
            when_called.update(later)
    return at_once, when_called


def test_each_module_is_on_the_map() -> None:
    """The map has a row for each module of the package, and none for a module that no longer exists."""
    unmapped = [module for module in MODULES if module not in MAP]
    assert not unmapped, f"{PAGE.name}, Module map: add a row | `name` | what | imports | tests | for {unmapped}"
    assert sorted(MAP) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_the_map_says(module: str) -> None:
    """Each module imports exactly the modules that its row names, and each of those has a row further down."""
    if module not in MAP:
        pytest.skip("the module is not on the map, which another test reports")
    at_once, when_called = imports([ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))])
    below = set(list(MAP)[list(MAP).index(module) + 1 :])
    row = f"{PAGE.name}, Module map, {module}: the imports are"
    assert at_once == MAP[module].imports, f"{row} {sorted(at_once)}"
    assert when_called == MAP[module].when_called, f"{row} when called: {sorted(when_called)}"
    assert at_once <= below, f"{module} imports {sorted(at_once - below)}, which the map has above it"


def test_each_test_file_is_on_the_map() -> None:
    """Each test file is named beside a module or in the list of tests of the whole package, and each name is a file."""
    whole = {name for file, _ in table("Tests of the whole") for name in names(file)}
    mapped = whole.union(*(row.tests for row in MAP.values()))
    unmapped = sorted(set(TESTS) - mapped)
    assert not unmapped, f"{PAGE.name}: name {unmapped} beside a module of the map, or under Tests of the whole"
    assert not mapped - set(TESTS), f"{PAGE.name} names {sorted(mapped - set(TESTS))}, which are not test files"


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_a_test(module: str) -> None:
    """Each module's row names a test file."""
    assert module not in MAP or MAP[module].tests
