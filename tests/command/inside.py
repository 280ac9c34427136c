"""The command line, run in the tests' own process."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

from aws_assume_role_lib._command import cli


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Finished:
    """Run the command line until it exits, without a program after ``--``."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["aws-assume-role-lib", *arguments]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
    return Finished(code, stdout.getvalue(), stderr.getvalue())
