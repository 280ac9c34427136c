"""Break each module of the package in all the ways that cosmic-ray knows, and see the tests fail each time.

    python tests/mutation/run.py [MODULE ...]

A mutant that no test kills must be listed in survivors.toml, with the reason why it is as good as the original;
one that is not listed fails the run, and so does an entry that no mutant matches. Nothing is changed in place: a
copy of the repository is. Needs Python 3.11 or newer, and fork().

cosmic-ray makes the mutants, and does not run them: it would start a new process for each, which would import boto3
and read botocore's models for longer than most tests take. Here each is tested in a fork of a process that has.
"""

from __future__ import annotations

import ast
import compileall
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cosmic_ray.plugins
import pytest
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
PACKAGE = Path("src/aws_assume_role_lib")
LEAST_KILLED = 0.95
NOT_COPIED = (".git", ".tox", ".hypothesis", ".*_cache", "__pycache__", "dist", "build")

# What is run against the mutants of each module: all that is about it, the quickest to notice first.
TESTS = {
    "_arns": "arns",
    "_assume": "parameters session sts_client internals third_party",
    "_cache": "json_file_cache cache refresh",
    "_cli": "cli",
    "_credentials": "refresh outages mfa logging faults threads forks cache internals sts_client",
    "_handlers": "internals inheritance session",
    "_identity": "cache",
    "_lambda": "lambda",
    "_locks": "forks threads",
    "_parameters": "parameters properties",
    "_patch": "patch",
    "_session": "session inheritance internals third_party threads",
    "_sts": "sts_client outages inheritance forks threads parameters",
}


class Mutant:
    def __init__(self, operator: str, occurrence: int, original: str, line: int) -> None:
        self.name, self.line = operator.removeprefix("core/"), line
        mutated = mutate_code(original, cosmic_ray.plugins.get_operator(operator)(), occurrence)
        assert mutated is not None
        self.text: str = mutated
        before, after = original.splitlines(), mutated.splitlines()
        while before and after and before[0] == after[0]:
            del before[0], after[0]
        while before and after and before[-1] == after[-1]:
            del before[-1], after[-1]
        self.before, self.after = (" ".join(map(str.strip, lines)) for lines in (before, after))

    @property
    def is_python(self) -> bool:
        try:
            compile(self.text, "mutant", "exec")
        except SyntaxError:
            return False
        return True


def mutants(path: Path) -> Iterator[Mutant]:
    """The mutants of a module that are Python, outside of what is never run: annotations and imports for types."""
    text = path.read_text()
    skipped = []
    for node in ast.walk(ast.parse(text)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                skipped.append(part)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.append(node)
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in skipped]
    for item in _all_work_items([path], {}):
        [spec] = item.mutations
        if not any(start <= spec.start_pos and spec.end_pos <= end for start, end in spans):
            mutant = Mutant(spec.operator_name, spec.occurrence, text, spec.start_pos[0])
            if mutant.is_python:
                yield mutant


class Killers:
    """A pytest plugin that runs first the tests that killed last, and tells which one kills now."""

    def __init__(self, last: list[str], found: Any) -> None:
        self._last, self._found = last, found

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {name: place for place, name in enumerate(self._last)}
        items.sort(key=lambda item: places.get(item.nodeid, len(places)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._found.put(report.nodeid)


def run(tests: list[str], last: list[str], limit: float) -> tuple[int | None, str]:
    """Run tests in a fork: the exit code (None where it took too long), and the first that failed."""
    found = FORK.SimpleQueue()
    process = FORK.Process(target=_in_fork, args=(tests, Killers(last, found)))
    process.start()
    process.join(limit)
    code = process.exitcode
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.join()
    return code, "" if found.empty() else found.get()


FORK = multiprocessing.get_context("fork")


def _in_fork(tests: list[str], plugin: Killers) -> None:
    os.setsid()
    for stream in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", *tests]
    os._exit(pytest.main(arguments, plugins=[plugin]))


def prepare(copy: Path) -> None:
    """Make a copy of the repository, and import all that the tests need and that is not mutated."""
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    compileall.compile_dir(copy / "tests", quiet=1)
    os.chdir(copy)
    # Two mutants of the same second and size would share one file of byte code.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy / "src")}
    sys.path[:0] = [str(copy / "src"), str(copy / "tests")]
    import conftest  # noqa: F401

    session = boto3.Session("none", "none", region_name="us-east-1")
    for service in ("sts", "s3", "dynamodb"):
        session.client(service)
    assert not any(name.startswith("aws_assume_role_lib") for name in sys.modules)


def test_module(module: str, listed: set[tuple[str, str]]) -> tuple[int, int, list[Mutant]]:
    """The number of mutants of a module, of those killed, and those that live and are not listed."""
    path = PACKAGE / f"{module}.py"
    original = path.read_text()
    tests = [f"tests/test_{name}.py" for name in TESTS[module].split()]
    start = time.monotonic()
    if run(tests, [], 600)[0] != 0:
        sys.exit(f"{module}: its tests fail without a mutant. Make them pass first.")
    limit = 30 + 3 * (time.monotonic() - start)
    last: list[str] = []
    number = killed = 0
    unlisted = []
    for mutant in mutants(path):
        number += 1
        path.write_text(mutant.text)
        code, killer = run(tests, last, limit)
        path.write_text(original)
        what = f"{module}:{mutant.line} {mutant.name}: {mutant.before}  ->  {mutant.after}"
        if code != 0:
            killed += 1
            last = [killer, *(name for name in last if name != killer)]
            print(f"killed {what}  [{killer or code}]", flush=True)
        elif (mutant.before, mutant.after) in listed:
            listed.discard((mutant.before, mutant.after))
            print(f"listed {what}", flush=True)
        else:
            unlisted.append(mutant)
            print(f"LIVES  {what}", flush=True)
    print(f"{module}: {killed} of {number} killed, in {time.monotonic() - start:.0f} seconds", flush=True)
    return number, killed, unlisted


def main() -> None:
    modules = sys.argv[1:] or list(TESTS)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder) / "copy")
        results = [test_module(module, set()) for module in modules]
        os.chdir("/")


if __name__ == "__main__":
    main()
