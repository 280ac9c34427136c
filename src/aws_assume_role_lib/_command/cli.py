"""The command line: prints a role's credentials, or runs a program as the role."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys

import boto3

from .._assume import AssumedRoleSession, assume_role
from .._mfa import has_terminal
from .._role import load_credentials, role_credentials
from .._sts import check_region_name, options_key, sts_client
from .arguments import OPTIONS, parse
from .cache import RunCache, keep_source
from .environment import loading, printed_role
from .failures import INTERRUPTED, ROLE, SOURCE, USAGE, or_exit, say, write
from .formats import FORMATS, plain


def main() -> None:
    """Print a role's credentials, or run a program as the role. On failure, exit with a code and a line on stderr."""
    try:
        options = parse(sys.argv[1:])
        with or_exit(USAGE):
            if options.region is not None:
                check_region_name(options.region)
            cache = None if options.cache is None else RunCache(options.cache)
        with or_exit(SOURCE):
            source = boto3.Session(profile_name=options.profile, region_name=options.region)
        with loading(source.profile_name):
            session = _assume(source, options, cache)
            if options.command:
                from .run import run_program  # imports a web server

                run_program(session, options.command, static=options.static)
            keys = session.export_credentials()
        write(FORMATS.get(options.format, plain)(keys, session.role_arn))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _assume(source: boto3.Session, options: argparse.Namespace, cache: RunCache | None) -> AssumedRoleSession:
    """Assume the roles in order, and return the last one's session."""
    with or_exit(USAGE):
        # Problems with the roles are reported before missing credentials.
        _chain(boto3.Session("-", "-", region_name="us-east-1", profile_name=options.profile), options, None)
    if cache:
        keep_source(source, options.cache)
    with or_exit(SOURCE):
        credentials = load_credentials(source)
    environment = credentials.method == "env"
    if environment and (role_arn := printed_role()):
        say(f"The source is the environment's keys, printed for {role_arn}. For another source, pass --profile.")
    with or_exit(USAGE):
        sessions = _chain(source, options, cache)
    aside: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if not has_terminal():
        # botocore's prompt for the code of a profile's mfa_serial then fails at once. It would print a warning and read
        # the program's stdin; on Windows, it would wait for a key that nobody can press.
        sys.stdin, aside = io.StringIO(), contextlib.redirect_stderr(io.StringIO())
    with or_exit(SOURCE, environment=environment), aside:
        if role_credentials(sessions[0]).fetcher.cached_keys() is None:
            credentials.get_frozen_credentials()
        # Create the client of the first AssumeRole here: if that fails, the settings are at fault.
        sts_client(source, {}, options_key({}), is_early=False)
    for session in sessions:
        is_first = session is sessions[0]
        what = f"{session.role_arn} could not be assumed: "
        with or_exit(ROLE, what, by_source=is_first, environment=environment):
            session.export_credentials()
    return sessions[-1]


def _chain(source: boto3.Session, options: argparse.Namespace, cache: RunCache | None) -> list[AssumedRoleSession]:
    sessions: list[AssumedRoleSession] = []
    for arn in options.ROLE_ARN:
        is_last = len(sessions) == len(options.ROLE_ARN) - 1
        parameters = {name: getattr(options, name) for name in OPTIONS} if is_last else {}
        sessions.append(assume_role(sessions[-1] if sessions else source, arn, cache=cache, **parameters))
    return sessions
