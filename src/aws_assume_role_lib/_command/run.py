"""Runs a program as a role: the program takes this process's place, and another process serves it."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from .._assume import AssumedRoleSession
from .endpoint import Endpoint
from .environment import environment_for, settings_folder, static_variables
from .failures import NOT_EXECUTABLE, NOT_FOUND, OUTPUT, exit_with, or_exit

# Signals that are passed on to a program that is a child. Not SIGINT: a terminal sends it to both, and many programs
# take a second one as an order to stop without cleaning up.
FORWARDED = ("SIGHUP", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")

# Serves a program until the given function returns, and returns what that returned: an exit code, if it is known.
Serve = Callable[[Callable[[], object]], Any]


def run_program(session: AssumedRoleSession, command: list[str], *, static: bool) -> NoReturn:
    """Run a program as the role, or exit with a shell's code for a program that cannot be run."""
    with or_exit(OUTPUT, f"{command[0]} could not be run: "):
        environment, serve = prepare(session, static=static)
    try:
        code = run(command, environment, serve)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        exit_with(code, f"{command[0]} could not be run: {error.strerror}.")
    sys.exit(code)


def prepare(session: AssumedRoleSession, *, static: bool) -> tuple[dict[str, str], Serve]:
    """Prepare a program's environment, and the server that gives it credentials.

    Args:
        session: The role's session.
        static: Pass the current keys, which do not refresh, for programs that cannot use an endpoint.

    Returns:
        The environment, and the function that serves the program.

    Raises:
        OSError: No temporary folder can be created, no port is free, or too few files may be open.
    """
    # If a standard stream is closed, a socket would get its descriptor, and be lost when the server closes its streams.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    endpoint = None if static else Endpoint(session)
    folder = settings_folder(session)

    def serve(wait: Callable[[], object]) -> object:
        try:
            if endpoint:
                threading.Thread(target=endpoint.serve_forever, daemon=True).start()
            return wait()
        finally:
            folder.cleanup()

    given = endpoint.variables if endpoint else static_variables(session.export_credentials())
    return environment_for(session, folder.name) | given, serve


def run(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    """Replace this process with a program, which then has its own signals, terminal and exit code.

    A second process serves it, in a separate session that the program's signals do not reach. Only Linux tells when a
    process ends that is not a child. Windows cannot even replace a process, and on macOS a forked process crashes when
    it looks up a host name. There, the program is a child of this one, and its exit code is returned.

    Raises:
        OSError: The program cannot be run.
    """
    try:
        program = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):  # not Linux; or an old kernel, or a sandbox
        code: int = serve(functools.partial(_run_child, command, environment))
        return code
    # The server is forked: a new interpreter would take a third of a second to import botocore again, and would have to
    # be sent what MFA codes were typed for. There is one thread at this point, so the copy has no lock that is held.
    # Fork twice, so that the program does not have a child that it did not start.
    starter = os.fork() or _start_server(serve, program)
    with contextlib.suppress(ChildProcessError):  # if SIGCHLD is ignored, there is nothing to wait for
        if os.waitpid(starter, 0)[1]:
            raise OSError(errno.EAGAIN, "there are too many processes to start the server of the credentials")
    # Python ignores these signals, and the program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(command[0], command, environment)


def _start_server(serve: Serve, program: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.fork() or _serve(serve, program)
        code = 0
    finally:
        os._exit(code)


def _serve(serve: Serve, program: int) -> object:
    _leave_streams()
    # Not select(), which refuses descriptors from 1024 on.
    end = select.poll()
    end.register(program, select.POLLIN)
    return serve(end.poll)


def _leave_streams() -> None:
    """Close files shared with the program, so that pipes and locks are released when the program ends."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    # The endpoint keeps the real stderr for its reports. Nothing else may print there, such as botocore's MFA prompt.
    sys.stderr = os.fdopen(nowhere, "w")
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2 and os.get_inheritable(int(name)):
                    os.close(int(name))


def _run_child(command: list[str], environment: dict[str, str]) -> int:
    # Windows itself only finds .exe files, and many commands are .cmd files.
    program = shutil.which(command[0], path=environment.get("PATH")) or command[0]
    with subprocess.Popen([program, *command[1:]], env=environment) as process:
        for name in FORWARDED:
            if hasattr(signal, name):  # pragma: no branch  # Windows has only one of them
                signal.signal(getattr(signal, name), lambda number, _: process.send_signal(number))
        # Ctrl-C reaches the program too, which decides what to do. KeyboardInterrupt could lose what wait() returns.
        signal.signal(signal.SIGINT, lambda *_: None)
        code = process.wait()
        # A shell's code for a program that a signal has ended.
        return code if code >= 0 else 128 - code
