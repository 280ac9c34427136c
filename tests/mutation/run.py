"""Break each module of the package in all the ways that cosmic-ray knows, and see the tests fail each time.

    python tests/mutation/run.py [MODULE ...]

A mutant that no test kills must be listed in survivors.toml, with the reason why it behaves as the original does;
one that is not listed fails the run, and so does an entry that no mutant matches. Nothing is changed in place: a
copy of the repository is. Needs Python 3.12 or newer, and fork().

cosmic-ray makes the mutants, and does not run them: it would start a new process for each, which would import boto3
and read botocore's models for longer than most tests take. Here each is tested in a fork of a process that has.
"""

from __future__ import annotations

import ast
import collections
import compileall
import contextlib
import functools
import gc
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import boto3
import cosmic_ray.plugins
import hypothesis  # noqa: F401  # here and below, so that all forks share what the tests import
import moto.server  # noqa: F401
import pytest
import pytest.__main__
import time_machine  # noqa: F401
import tomllib
from botocore.loaders import JSONFileLoader
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
PACKAGE = Path("src/aws_assume_role_lib")
OUTPUT = "mutation.log"
RECORDS = "records.json"
NOT_COPIED = (".git", ".tox", ".hypothesis", ".*_cache", "__pycache__", "dist", "build")

# The tests run against each module's mutants: all that concern it.
TESTS = {
    "_answers": "outages logging secrets refresh faults internals access_denied",
    "_assume": "bad_arguments conversions limits session sts_client internals boto3 inheritance",
    "_attempts": "shared_outcomes hangs threads forks logging",
    "_cache": "cache identity refresh logging",
    "_command/arguments": "command/cli command/cache_option",
    "_command/cache": "command/cache_option",
    "_command/cli": "command/cli command/run command/loop",
    "_command/endpoint": "command/run",
    "_command/environment": "command/run command/cli",
    "_command/failures": "command/cli command/loop command/run",
    "_command/formats": "command/cli",
    "_command/run": "command/run command/cli",
    "_credentials": "refresh identity outages mfa logging threads forks shared_outcomes hangs faults",
    "_family": "shared_clients internals inheritance session threads hangs outages",
    "_file_cache": "json_file_cache",
    "_handlers": "shared_clients internals inheritance threads",
    "_identity": "identity cache internals",
    "_keys": "refresh secrets cache",
    "_mfa": "mfa forks",
    "_names": "names",
    "_parameters": "limits conversions properties mfa secrets",
    "_patch": "patch",
    "_role": "sts_client identity outages mfa logging shared_outcomes cache hangs threads forks session refresh",
    "_session": "session inheritance internals boto3 threads travel/pickling refresh shared_clients",
    "_source": "sts_client refresh outages identity",
    "_sts": "sts_client sts_client_kwargs bad_arguments cache outages inheritance forks threads identity hangs",
    "_suggest": "bad_arguments command/cli",
    "_travel/pickling": "travel/pickling internals",
}
# Names only; and asyncio, whose tests need aiobotocore, which pins botocore.
NO_MUTANTS = {
    *("__init__", "__main__", "_command/__init__", "_travel/__init__", "aws_assume_role_lib"),
    *("_travel/aio", "aio"),
}


FORK = multiprocessing.get_context("fork")


class Mutant(NamedTuple):
    """A module's text with one change: its line, and the lines that differ before and after, joined by spaces."""

    text: str
    line: int
    before: str
    after: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield a module's mutants that are valid Python, except of what never runs: annotations, imports for types."""
    original = path.read_text()
    skipped: list[ast.AST] = []
    for node in ast.walk(ast.parse(original)):
        skipped += filter(None, (getattr(node, "annotation", None), getattr(node, "returns", None)))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.append(node)
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in skipped]
    for item in _all_work_items([path], {}):
        [spec] = item.mutations
        if any(start <= spec.start_pos and spec.end_pos <= end for start, end in spans):
            continue
        text = mutate_code(original, cosmic_ray.plugins.get_operator(spec.operator_name)(), spec.occurrence)
        assert text is not None
        with contextlib.suppress(SyntaxError), warnings.catch_warnings(action="ignore"):
            compile(text, "mutant", "exec")
            yield Mutant(text, spec.start_pos[0], *difference(original, text))


def difference(original: str, mutated: str) -> tuple[str, str]:
    before, after = original.splitlines(), mutated.splitlines()
    for end in (0, -1):
        while before and after and before[end] == after[end]:
            del before[end], after[end]
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))


class Recorder:
    """A pytest plugin that writes to a file how long each test takes, and which lines of a module it runs."""

    def __init__(self, path: Path) -> None:
        self._path = str(path.resolve())
        self._records: dict[str, tuple[float, list[int]]] = {}

    def pytest_sessionstart(self) -> None:
        sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "mutation")
        sys.monitoring.set_events(sys.monitoring.PROFILER_ID, sys.monitoring.events.LINE)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        ran: set[int] = set()

        def note(code: CodeType, line: int) -> Any:
            if code.co_filename == self._path:
                ran.add(line)
            return sys.monitoring.DISABLE

        sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, sys.monitoring.events.LINE, note)
        sys.monitoring.restart_events()
        start = time.perf_counter()
        result = yield
        self._records[item.nodeid] = (time.perf_counter() - start, sorted(ran))
        return result

    def pytest_sessionfinish(self) -> None:
        Path(RECORDS).write_text(json.dumps(self._records))


class Killer:
    """A pytest plugin that runs the chosen tests in their order, and reports which one kills a mutant."""

    def __init__(self, chosen: list[str]) -> None:
        self._places = {test: place for place, test in enumerate(chosen)}
        self.found = FORK.SimpleQueue()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found.put(report.nodeid)


def in_fork(files: list[str], plugin: object, test_limit: float, limit: float) -> int | None:
    """Run pytest in a fork, and return its exit code, or None if it took longer than the limit."""
    process = FORK.Process(target=_in_fork, args=(files, plugin, test_limit))
    process.start()
    process.join(limit)
    code = process.exitcode
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return code


def _in_fork(files: list[str], plugin: object, test_limit: float) -> None:
    os.setsid()
    # A process that multiprocessing starts in a test would import this script as its main module, and run it.
    sys.modules["__main__"] = pytest.__main__
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    # hypothesis's plugin parses everything imported, at each start; its tests run without it.
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--assert=plain"]
    os._exit(pytest.main([*options, f"--timeout={test_limit}", *files], plugins=[plugin]))


def prepare(folder: Path) -> None:
    """In a worker: make a copy of the repository, and load everything that the tests need and that is not mutated."""
    copy = folder / str(os.getpid())
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    compileall.compile_dir(copy, quiet=1)
    os.chdir(copy)
    # Two mutants of the same size, written in the same second, would share one byte code file.
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy / "src")}
    sys.path[:0] = [str(copy / "src"), str(copy / "tests")]
    # conftest does it too, but pytest imports it anew in each fork.
    load_file = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, path: load_file(path)
    session = boto3.Session("none", "none", region_name="us-east-1")
    for service in ("sts", "s3", "dynamodb"):
        session.client(service)
    assert not any(name.startswith("aws_assume_role_lib") for name in sys.modules)
    gc.freeze()  # pytest collects garbage ten times at its end, which would touch all memory that the forks share


def check(module: str, listed: set[tuple[str, str]]) -> tuple[int, int, set[tuple[str, str]]]:
    """Return the number of a module's mutants and of its unlisted survivors, and the entries that match no mutant."""
    path = PACKAGE / f"{module}.py"
    original = path.read_text()
    files = [str(Path("tests", name).with_name(f"test_{Path(name).name}.py")) for name in TESTS[module].split()]
    start = time.monotonic()
    if in_fork(files, Recorder(path), 60, 600) != 0:
        sys.exit(f"{Path(OUTPUT).read_text()}\n{module}: its tests fail without a mutant. Make them pass first.")
    limit = 30 + 3 * (time.monotonic() - start)
    records = json.loads(Path(RECORDS).read_text())
    test_limit = 10 + 3 * max(seconds for seconds, _ in records.values())  # since many mutants hang
    lines_run = {line for _, lines in records.values() for line in lines}
    latest: list[str] = []
    found: set[tuple[str, str]] = set()
    count: collections.Counter[str] = collections.Counter()
    for mutant in mutants(path):
        change = (mutant.before, mutant.after)
        if change in listed:
            found.add(change)
            count["listed"] += 1
            continue
        # First the tests that run the mutant's line, then the others: they may run it in another process, or use what
        # it has left behind. The latest killers come first, then the quickest.
        line = max((line for line in lines_run if line <= mutant.line), default=0)  # where the statement starts
        order = sorted(records, key=lambda test: (test not in latest[:6], records[test][0]))
        near = [test for test in order if line in records[test][1]]
        path.write_text(mutant.text)
        killer = ""
        for tests in filter(None, (near[:20], near[20:], [test for test in order if test not in near])):
            plugin = Killer(tests)
            code = in_fork(list(dict.fromkeys(test.partition("::")[0] for test in tests)), plugin, test_limit, limit)
            result = "lives" if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else "killed"
            if result == "killed":
                killer = "" if plugin.found.empty() else plugin.found.get()
                latest = list(dict.fromkeys([killer, *latest]))
                break
        path.write_text(original)
        count[result] += 1
        print(f"{module}:{mutant.line} {result}: {mutant.before}  ->  {mutant.after}  {killer}", flush=True)
    print(f"{module}: {dict(count)}, in {time.monotonic() - start:.0f} seconds", flush=True)
    return count.total(), count["lives"], listed - found


def main() -> None:
    modules_there = {str(path.relative_to(ROOT / PACKAGE).with_suffix("")) for path in (ROOT / PACKAGE).rglob("*.py")}
    assert modules_there == TESTS.keys() | NO_MUTANTS, modules_there ^ (TESTS.keys() | NO_MUTANTS)
    listed: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for entry in tomllib.loads(SURVIVORS.read_text())["survivor"]:
        listed[entry["module"]] |= {(entry["line"], mutant) for mutant in entry["mutants"]}
    # The largest first, so that no processor waits long for the last; and more workers than processors, because tests
    # wait for timeouts.
    modules = sorted(sys.argv[1:] or TESTS, key=lambda module: -(ROOT / PACKAGE / f"{module}.py").stat().st_size)
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2 * (os.cpu_count() or 1), FORK, prepare, (Path(folder),)) as pool,
    ):
        results = list(pool.map(check, modules, [listed[module] for module in modules]))
    number = sum(len(listed[module]) for module in modules)
    unmatched = [(module, *change) for module, result in zip(modules, results, strict=True) for change in result[2]]
    for module, before, after in unmatched:
        print(f"{module}: listed in {SURVIVORS.name}, and no mutant: {before}  ->  {after}")
    total, living = (sum(result[i] for result in results) for i in (0, 1))
    killed = 1 - (living + number) / total
    minutes = (time.monotonic() - start) / 60
    print(f"{total} mutants: {killed:.1%} killed, {number} listed, {living} live and are not listed.")
    print(f"It took {minutes:.0f} minutes on {os.cpu_count()} processors.")
    sys.exit(1 if living or unmatched else 0)


if __name__ == "__main__":
    main()
