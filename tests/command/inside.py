"""The command line, run in the tests' own process, or in a fork of it, which need not import boto3 again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import sys
from typing import NamedTuple
from unittest import mock

from conftest import HANG, Forked

from aws_assume_role_lib._command import cli

# A program that prints the answer of its endpoint, which is quicker than importing boto3.
ASK = """
import os, urllib.error, urllib.request
token = {"Authorization": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers=token)
try:
    print(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Finished:
    """Run the command line until it exits, without a program after ``--`` that can be run."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["aws-assume-role-lib", *arguments]),
        mock.patch.object(sys, "stdin", sys.stdin),  # replaced where there is no terminal
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
    return Finished(code, stdout.getvalue(), stderr.getvalue())


def run_without_terminal(*arguments: str) -> Finished:
    """Do the same in a forked process, which has no terminal; its stdin looks like a code."""

    def work() -> str:
        os.setsid()
        with mock.patch.object(sys, "stdin", io.StringIO("123456\n")):
            return json.dumps(run(*arguments))

    return Finished(*json.loads(Forked.start(work).result()))


def type_in(keys: bytes, *arguments: str) -> tuple[Finished, bytes]:
    """Do the same on a terminal, type at the prompt for the code, and return also what the terminal showed."""
    import pty  # Windows does not have it

    reader, writer = os.pipe()
    pid, screen = pty.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            os.write(writer, json.dumps(run(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    shown = b""
    # One line at a prompt: getpass discards what was typed before it.
    for number, line in enumerate(keys.splitlines(keepends=True), start=1):
        while shown.count(b"Enter MFA") < number or not shown.endswith(b": "):
            assert select.select([screen], [], [], HANG)[0], shown
            shown += os.read(screen, 1024)
        os.write(screen, line)
    while keys == b"\x03" and not select.select([reader], [], [], 1)[0]:
        os.write(screen, keys)  # Python does not notice an interrupt that comes just before it reads the terminal
    with os.fdopen(reader) as answer:
        finished = Finished(*json.load(answer))
    while select.select([screen], [], [], 0)[0]:
        try:
            shown += os.read(screen, 1024)
        except OSError:  # how Linux reports the end of a terminal
            break
    os.waitpid(pid, 0)
    os.close(screen)
    return finished, shown
