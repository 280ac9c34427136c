"""Run a program as a role, with credentials that an endpoint on this machine refreshes for as long as it runs."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import getproxies

from botocore.exceptions import RefreshWithMFAUnsupportedError

from ._answers import in_one_line
from ._keys import ExportedCredentials
from ._session import AssumedRoleSession

PATH = "/credentials"
# An SDK sends one short request, and at once. These bound what anything else costs.
MAX_WAITING = 32
MAX_HEAD = 16 * 1024
TIMEOUT = 10

# Every variable from which some SDK takes credentials, or learns where to look for them.
REMOVED = (
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIALS_EXPIRATION",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_REMOVED_PREFIX = "AWS_BEARER_TOKEN_"
# The settings of a profile that say whose credentials to use; all others are passed on.
_CREDENTIAL_SETTINGS = (
    "aws_",
    "credential_",
    "duration_seconds",
    "external_id",
    "login_session",
    "mfa_serial",
    "role_",
    "source_profile",
    "sso_",
    "web_identity_token_file",
)

# Serves a program until the function that it is given returns.
Serve = Callable[[Callable[[], object]], object]


def prepare(session: AssumedRoleSession, *, static: bool) -> tuple[dict[str, str], Serve]:
    """Prepare what a program needs to act as a role.

    Args:
        session: The role's session.
        static: Pass the current keys, which do not refresh, for programs that cannot use an endpoint.

    Returns:
        The program's environment, and what serves the program.

    Raises:
        OSError: There is no folder for temporary files, or no port.
    """
    # If a standard stream is closed, a socket would get its number, and be lost when the server closes its streams.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    endpoint = None if static else Endpoint(session)
    folder = Path(tempfile.mkdtemp(prefix="aws-assume-role-lib-"))
    given = endpoint.variables if endpoint else _variables(session.export_credentials())

    def serve(wait: Callable[[], object]) -> None:
        if endpoint:
            threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        wait()
        shutil.rmtree(folder, ignore_errors=True)

    return _environment(session, folder) | given, serve


def run(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    """Turn this process into a program, so that its signals, terminal and exit code are its own.

    A process in a session of its own, which no signal for the program reaches, serves it. Where a process cannot
    become another one, on Windows, the program is a child of this process, and its exit code is returned.

    Raises:
        OSError: The program cannot be run.
    """
    if not hasattr(os, "fork"):
        return _run_child(command, environment, serve)
    wait = _waiting_for(os.getpid())
    # On macOS, the library that knows the system's proxies crashes in a forked process. It is not used where the
    # environment names one.
    proxies = {f"{scheme}_proxy": proxy for scheme, proxy in getproxies().items()}
    # Twice, so that the program finds no child that it has not started.
    starter = os.fork() or _start_server(serve, wait, proxies)
    with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, its exit has been forgotten
        os.waitpid(starter, 0)
    # Python ignores these, and a program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(command[0], command, environment)


def _start_server(serve: Serve, wait: Callable[[], object], proxies: Mapping[str, str]) -> NoReturn:
    try:
        os.setsid()
        os.fork() or _serve(serve, wait, proxies)
    finally:
        os._exit(0)


def _serve(serve: Serve, wait: Callable[[], object], proxies: Mapping[str, str]) -> object:
    os.environ.update({"no_proxy": "localhost"} | dict(proxies))
    _leave_streams()
    return serve(wait)


def _leave_streams() -> None:
    """Close what the program has open too: whoever waits for a pipe or a lock waits for the program alone."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    # The endpoint keeps the real one for its reports. Nothing else may print there, such as a prompt of botocore's.
    sys.stderr = os.fdopen(nowhere, "w")
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2 and os.get_inheritable(int(name)):
                    os.close(int(name))


def _waiting_for(program: int) -> Callable[[], object]:
    """Return a function that waits until a process has ended."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox
            descriptor = os.pidfd_open(program)
            return lambda: select.select([descriptor], [], [])

    def poll() -> None:
        with contextlib.suppress(ProcessLookupError):
            while True:
                with contextlib.suppress(PermissionError):  # it has become another user's, as with sudo
                    os.kill(program, 0)
                time.sleep(0.5)

    return poll


def _run_child(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    ended = threading.Event()
    server = threading.Thread(target=serve, args=(ended.wait,))
    server.start()
    try:
        # Windows looks for .exe files alone, and many commands are .cmd files.
        program = shutil.which(command[0], path=environment.get("PATH")) or command[0]
        with subprocess.Popen([program, *command[1:]], env=environment) as process:
            while True:
                # Control-C reaches the program too, which decides what it means.
                with contextlib.suppress(KeyboardInterrupt):
                    return process.wait()
    finally:
        ended.set()
        server.join()


def _environment(session: AssumedRoleSession, folder: Path) -> dict[str, str]:
    """Return this process's environment without credentials, and with the source profile's other settings."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in REMOVED and not name.startswith(_REMOVED_PREFIX)
    }
    # SDKs look into these files before they ask an endpoint, so credentials in the user's own would win.
    config, empty = folder / "config", folder / "credentials"
    config.write_text(_config_of(session), encoding="utf-8")
    empty.touch()
    environment |= {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(empty),
        "BOTO_CONFIG": str(empty),
        # A program that does not know the endpoint must fail, and not act as the role of the machine that it runs on.
        # The second one is for Rust's object_store, which does not read the first.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
    }
    if session.region_name:
        environment |= {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name}
    return environment


def _config_of(session: AssumedRoleSession) -> str:
    profile = session._session.get_scoped_config()
    settings = {name: value for name, value in profile.items() if not name.startswith(_CREDENTIAL_SETTINGS)}
    services = session._session.full_config.get("services", {}).get(profile.get("services"), {})
    text = "[default]\n" + _lines(settings)
    return text + (f"[services {profile['services']}]\n{_lines(services)}" if services else "")


def _lines(settings: Mapping[str, Any]) -> str:
    text = ""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            value = "".join(f"\n{inner} = {setting}" for inner, setting in value.items())
        text += f"{name} = {value}".replace("\n", "\n  ") + "\n"
    return text


def _variables(keys: ExportedCredentials) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_CREDENTIAL_EXPIRATION": keys.expiry.isoformat(timespec="seconds"),
    }


class Endpoint(socketserver.ThreadingTCPServer):
    """Hands the role's credentials to programs that have the token, as an ECS container's endpoint does.

    See `container credentials
    <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>`_.

    Attributes:
        variables: The environment variables that lead an SDK here.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, session: AssumedRoleSession) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.session = session
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.token = secrets.token_urlsafe(32)
        self.variables = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{self.host}{PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token,
        }
        self._stderr = sys.stderr
        self._reported: str | None = None
        self._waiting: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        # A connection that has not sent its request yet makes room for the newest, so that whoever opens many of them
        # does not keep the program out.
        self._waiting.append(request)
        if len(self._waiting) > MAX_WAITING:
            with contextlib.suppress(OSError):
                self._waiting.pop(0).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def is_read(self, request: Any) -> None:
        """Note that a connection has sent its request, or has ended."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(request)

    def shutdown_request(self, request: Any) -> None:
        self.is_read(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever asked has gone, and a traceback could show the keys."""

    def report(self, failure: str | None) -> None:
        """Write a failure to stderr, once however often an SDK tries again."""
        if failure and failure != self._reported:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                self._stderr.write(f"aws_assume_role_lib: {failure}\n")
                self._stderr.flush()
        self._reported = failure


class _Head:
    """The lines of a request, up to a limit."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MAX_HEAD
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        self._left -= len(line)
        # A line of this limit is what http.server refuses as too long.
        return line if self._left >= 0 else b" " * limit


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    timeout = TIMEOUT
    server_version, sys_version = "aws-assume-role-lib", ""

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _Head(self.rfile)

    def do_GET(self) -> None:
        self.server.is_read(self.request)
        token = self.headers.get("Authorization", "").encode("latin-1", "replace")
        # The Host of a request that a website has a browser make is the website's.
        if self.headers.get_all("Host") != [self.server.host] or self.path != PATH:
            self._answer(404, {"Code": "NotFound", "Message": "There is nothing here."})
        elif not hmac.compare_digest(token, self.server.token.encode()):
            self._answer(403, {"Code": "AccessDenied", "Message": "The authorization token is wrong."})
        else:
            self._answer_with_credentials()

    def _answer_with_credentials(self) -> None:
        session = self.server.session
        try:
            keys = session.export_credentials()
        except Exception as error:
            failure = f"{session.role_arn} could not be refreshed: {_reason(error)}."
            self.server.report(failure)
            # Some SDKs read the names in capitals, others in small letters, and some show what a status of 4xx says
            # alone.
            names = {"Code": "RefreshFailed", "Message": failure}
            self._answer(424, names | {name.lower(): value for name, value in names.items()})
            return
        self.server.report(None)
        credentials = {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "Token": keys.token,
            "Expiration": f"{keys.expiry:%Y-%m-%dT%H:%M:%SZ}",
            "RoleArn": session.role_arn,
        }
        self._answer(200, credentials | ({"AccountId": keys.account_id} if keys.account_id else {}))

    def _answer(self, status: int, document: Mapping[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: stderr belongs to the program."""


def _reason(error: Exception) -> str:
    # Of botocore's prompt, of ours, and of a code that was passed.
    if isinstance(error, (EOFError, RefreshWithMFAUnsupportedError)) or "no terminal to prompt on" in str(error):
        return (
            "that takes a new MFA code, which cannot be entered while the program runs. "
            "Start it again, or pass a longer --DurationSeconds"
        )
    return in_one_line(error)
