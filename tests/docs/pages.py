"""What the tests of the documentation share: the blocks of a page, and programs that run as for a reader."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import aws_assume_role_lib


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, and the number of lines before it."""

    language: str
    text: str
    line: int

    def execute(self, page: Path, names: dict[str, Any]) -> None:
        """Execute the block so that a traceback shows its lines on the page."""
        source = "\n" * self.line + self.text
        exec(compile(source, str(page), "exec", dont_inherit=True), names)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start(2)))
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def run(
    *command: str | Path, cwd: Path | None = None, timeout: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program as a reader of the docs would, with this package."""
    package = str(Path(aws_assume_role_lib.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def check_tests(folder: Path, passed: int) -> None:
    """Check that this many tests pass in a folder, whatever is configured on the machine, and that none fails."""
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py")
    (folder / "config").write_text("[default]\nuse_dualstack_endpoint = true\n", encoding="utf-8")
    machine = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_DEFAULT_PROFILE": "missing",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_CONFIG_FILE": str(folder / "config"),
    }
    finished = run(*pytest, cwd=folder, **machine)
    assert finished.returncode == 0, finished.stdout
    assert re.search(rf"^{passed} passed", finished.stdout, re.MULTILINE), finished.stdout


def without_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can be asked for an MFA code, as in a service or a scheduled job."""
    really_open = os.open

    def no_terminal(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "/dev/tty":
            raise OSError
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_terminal)
    monkeypatch.setattr(sys, "stdin", io.StringIO("123456\n"))
