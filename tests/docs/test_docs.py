"""The documentation is true: its Python blocks run, its errors are the real ones, its links and figures are current."""

from __future__ import annotations

import doctest
import inspect
import io
import logging
import os
import re
import runpy
import sys
import traceback
import types
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HUB, needs_posix
from moto import mock_aws
from pages import Block, blocks, check_tests, run, without_terminal
from sts_stub import Fault, StsStub

import aws_assume_role_lib
from aws_assume_role_lib import JSONFileCache, assume_role
from aws_assume_role_lib._credentials import BLOCKING_WINDOW
from aws_assume_role_lib._keys import Keys

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if DOCS / "examples" not in page.parents)]
PUBLIC = [name for name in aws_assume_role_lib.__all__ if name != "__version__"]
MFA = "arn:aws:iam::123456789012:mfa/alice"


def run_examples(example: doctest.DocTest) -> None:
    output = io.StringIO()
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=output.write, clear_globs=False)
    assert not failed, output.getvalue()


@pytest.fixture
def aws(root_keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """moto in this process, and the environment that the pages describe: keys, a region, a Lambda instance."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "report")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "2030/01/31/[$LATEST]0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("EXTERNAL_ID", "abc")
    monkeypatch.setenv("TARGET_ROLE_ARN", "arn:aws:iam::222222222222:role/Target")
    monkeypatch.setenv("HOME", str(tmp_path))
    for owner in (boto3, boto3.Session):
        # Afterwards, monkeypatch removes what patch_boto3() has added.
        monkeypatch.setattr(owner, "assume_role", None, raising=False)
        monkeypatch.delattr(owner, "assume_role")
    with mock_aws():
        yield


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """A page's changes to logger levels and handlers are undone."""
    loggers = [logging.getLogger(name) for name in ("aws_assume_role_lib", "botocore.endpoint", "botocore.parsers")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


# Their blocks need packages with separate tox environments, whose tests run them.
ELSEWHERE = {"asyncio.md": "tests/aio", "data-tools.md": "tests/sdks"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")  # from awswrangler's use of pandas
@pytest.mark.usefixtures("aws", "logging_as_before")
def test_python_blocks_run_as_written(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of a page runs, from top to bottom in one namespace, and prints what it says."""
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks(page):
        if block.language == "ini":
            Path(os.environ["AWS_CONFIG_FILE"]).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and ">>>" in block.text:
            example = doctest.DocTestParser().get_doctest(block.text, vars(module), page.name, str(page), block.line)
            run_examples(example)
        elif block.language == "python":
            block.execute(page, vars(module))


# Packages whose code is shown but not run: one whose pinned dependencies would replace those of these tests, and one
# that works with MSK only.
NOT_RUN = r"^from (airflow\.sdk|aws_msk_iam_sasl_signer)\b"


def test_only_code_of_other_packages_is_not_run() -> None:
    """A block that is only compiled imports another project's package; all other Python is in blocks that run."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language not in ("Python", "python3", "pycon")
            if block.language == "py":
                compile(block.text, str(page), "exec")
                assert re.search(NOT_RUN, block.text, re.MULTILINE)


RUNS_THE_PACKAGE = r"aws_assume_role_lib|^(creds=\$\()?aws-assume-role-lib (.|\\\n)*arn:"
COMMAND_LINES = [
    pytest.param(block, id=f"{page.stem}-{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "shell" and re.search(RUNS_THE_PACKAGE, block.text, re.MULTILINE)
]


@pytest.mark.skipif(os.name == "nt", reason="the blocks are for a Unix shell")
@pytest.mark.parametrize("block", COMMAND_LINES)
@pytest.mark.usefixtures("root_keys")
def test_shell_blocks_with_the_command_line_run(block: Block, sts: StsStub, tmp_path: Path) -> None:
    """Each shell block that runs the package succeeds, and assumes the roles that it names."""
    keys = "region = eu-central-1\naws_access_key_id = AKIAROOT\naws_secret_access_key = root-secret\n"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text("".join(f"[profile {name}]\n{keys}" for name in ("base", "hub")))
    programs = {
        "python": 'exec "$PYTHON" "$@"',
        "aws-assume-role-lib": 'exec "$PYTHON" -m aws_assume_role_lib "$@"',
        "terraform": """exec "$PYTHON" -c 'import boto3; boto3.client("sts").get_caller_identity()'""",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o700)
    (tmp_path / "report.py").touch()
    path = f"{tmp_path}:{os.environ['PATH']}"
    finished = run("sh", "-euc", block.text, cwd=tmp_path, PATH=path, PYTHON=sys.executable)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert [request.params["RoleArn"] for request in sts.assumed] == re.findall(r"arn:[\w:/]+", block.text)


@pytest.mark.parametrize(("name", "passed"), [("guides/testing", 5), ("guides/lambda", 1)])
def test_tests_on_the_pages_pass(name: str, passed: int, tmp_path: Path) -> None:
    """The tests that a page teaches, with its fixtures, pass under pytest, whatever is configured on the machine."""
    found = [block.text for block in blocks(DOCS / f"{name}.md") if block.language == "python"]
    (tmp_path / "handler.py").write_text(found[0], encoding="utf-8")
    code = [text for text in found if ">>>" not in text and (name == "guides/testing" or "pytest" in text)]
    conftest = [text for text in code if "autouse=True" in text]
    (tmp_path / "conftest.py").write_text("".join(conftest), encoding="utf-8")
    (tmp_path / "test_page.py").write_text("\n\n".join(t for t in code if t not in conftest), encoding="utf-8")
    check_tests(tmp_path, passed)


@needs_posix
@pytest.mark.usefixtures("moto", "root_keys")
def test_the_pool_on_the_page_counts(tmp_path: Path) -> None:
    """The script at the top of the page on other processes prints a line for each role, from a pool of processes."""
    (tmp_path / "count.py").write_text(blocks(DOCS / "guides" / "processes.md")[0].text, encoding="utf-8")
    finished = run(sys.executable, "count.py", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    roles = [line.split()[0] for line in finished.stdout.splitlines()]
    assert roles == ["arn:aws:iam::111111111111:role/Audit", "arn:aws:iam::222222222222:role/Audit"]


@pytest.mark.usefixtures("sts", "root_keys")
def test_the_log_is_as_documented() -> None:
    """The script on the debugging page prints the log shown below it."""
    found = blocks(DOCS / "guides" / "debugging.md")
    (position,) = (n for n, block in enumerate(found) if block.language == "text")
    finished = run(sys.executable, "-c", found[position - 1].text)

    def without_times(text: str) -> str:
        text = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:,]+(\+00:00)?", "TIME", text)
        return re.sub(r"\b[0-9a-f]{8,64}\b", "DIGEST", text)

    assert without_times(finished.stderr) == without_times(found[position].text)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.usefixtures("aws")
def test_docstring_examples_run(name: str) -> None:
    """Every public function and class has an example in its docstring, and it runs."""
    public = getattr(aws_assume_role_lib, name)
    found = doctest.DocTestFinder().find(public, name, module=False, globs=vars(aws_assume_role_lib).copy())
    assert not callable(public) or any(test.examples for test in found)
    for test in found:
        run_examples(test)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link between pages, with its anchor, and every image has an existing target."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    found = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    found |= {f"aws_assume_role_lib.{name}" for name in documented_names(text)}
    found |= set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    if "aws_assume_role_lib.assume_role" in found:
        # docs/conf.py gives each parameter an anchor.
        found |= {f"assume-role-{name.replace('_', '-').lower()}" for name in inspect.signature(assume_role).parameters}
    return found


def documented_names(text: str) -> list[str]:
    return re.findall(r"^\.\. (?:auto\w+|data):: (\w+)", text, re.MULTILINE)


def test_figures_are_current(tmp_path: Path) -> None:
    """The figures in docs/figures are what docs/figures.py draws today."""
    runpy.run_path(str(DOCS / "figures.py"))["main"](tmp_path)
    kept, drawn = (
        {path.name: path.read_text("utf-8") for path in each.iterdir()} for each in (DOCS / "figures", tmp_path)
    )
    assert kept == drawn, "run: python docs/figures.py"


def test_refresh_window_is_as_documented() -> None:
    """The table of the refresh page says when a refresh is due and when it blocks."""
    page = (DOCS / "explanation" / "refresh.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) min \| (\d+):(\d\d) to (\d+):(\d\d) \| (\d+):00 \|$", page, re.MULTILINE)
    assert rows
    for granted, first, first_seconds, last, last_seconds, blocking in (map(int, row) for row in rows):
        keys = Keys("", "", "", None, datetime.fromtimestamp(granted * 60, timezone.utc), granted * 60, "")
        assert keys.advisory_at == first * 60 + first_seconds
        assert keys.advisory_at + keys.advisory_window / 3 == last * 60 + last_seconds
        assert granted * 60 - BLOCKING_WINDOW == blocking * 60


def test_every_public_name_is_in_the_api_reference() -> None:
    """The API page documents each name that the package exports."""
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(documented_names(text)) == sorted(aws_assume_role_lib.__all__)


def test_errors_are_verbatim(
    sts: StsStub,
    parent: boto3.Session,
    clock: time_machine.Coordinates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The errors page has exactly the errors and warnings that these mistakes cause, in this order, word for word."""
    clock.move_to(datetime(2030, 1, 31, 12, tzinfo=timezone.utc))
    found = []

    def use(role: Any = HUB, **parameters: Any) -> Any:
        session = assume_role(parent, role, **parameters) if isinstance(role, str) else role
        session.client("sts").get_caller_identity()
        return session

    def error(*args: Any, **parameters: Any) -> None:
        with pytest.raises((BotoCoreError, ClientError)) as raised:
            use(*args, **parameters)
        found.append("".join(traceback.format_exception_only(type(raised.value), raised.value)))

    def warning(*args: Any, **parameters: Any) -> None:
        caplog.clear()
        use(*args, **parameters)
        *_, record = (record for record in caplog.records if record.name == "aws_assume_role_lib")
        found.append(f"{record.levelname} {record.name}: {record.getMessage()}\n")

    error("Hub", DurationSeconds=60)
    user = "arn:aws:iam::123456789012:user/alice"
    denied = f"User: {user} is not authorized to perform: sts:AssumeRole on resource: {HUB}"
    sts.fault = Fault.error(403, "AccessDenied", denied, times=1)
    error()
    without_terminal(monkeypatch)
    error(SerialNumber=MFA)
    session = use(SerialNumber=MFA, TokenCode="123456")
    clock.move_to(datetime(2030, 1, 31, 13, tzinfo=timezone.utc))
    error(session)
    clock.move_to(datetime(2030, 1, 31, 12, tzinfo=timezone.utc))
    session = use()
    clock.shift(46 * 60)
    sts.fault = Fault.error(503, "ServiceUnavailable")
    warning(session)
    sts.fault = None
    (tmp_path / "file").touch()
    warning(cache=JSONFileCache(tmp_path / "file" / "cache"))
    documented = [block.text for block in blocks(DOCS / "reference" / "errors.md") if block.language == "text"]
    for message, text in zip(found, documented, strict=True):
        assert without_notes(message) == without_notes(text)


def without_notes(text: str) -> str:
    # Python 3.10 shows no notes, except where a package such as exceptiongroup makes it.
    if sys.version_info >= (3, 11):
        return text
    return re.sub(r"^(Raised while|arn:\S+ was denied) .*\n", "", text, flags=re.MULTILINE)
