"""Runs a program as a role, with credentials from a local endpoint that keeps them refreshed."""

from __future__ import annotations

import contextlib
import hmac
import io
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

from .._answers import in_one_line
from .._keys import environment_variables
from .._session import AssumedRoleSession

PATH = "/credentials"
# An SDK sends one short request immediately. These limits bound the cost of other clients.
MAX_WAITING = 32
MAX_HEAD = 16 * 1024
TIMEOUT = 10

# Every variable that gives some SDK credentials, or tells it where to find them.
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
# Profile settings that select credentials; all others are passed on.
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

# As socketserver declares it. A TCP server's is always a socket.
_Request = socket.socket | tuple[bytes, socket.socket]
# Serves a program until the given function returns.
Serve = Callable[[Callable[[], object]], object]


def prepare(session: AssumedRoleSession, *, static: bool) -> tuple[dict[str, str], Serve]:
    """Prepare a program's environment, and the server that gives it credentials.

    Args:
        session: The role's session.
        static: Pass the current keys, which do not refresh, for programs that cannot use an endpoint.

    Returns:
        The environment, and the function that serves the program.

    Raises:
        OSError: No temporary folder can be created, or no port is free.
    """
    # If a standard stream is closed, a socket would get its descriptor, and be lost when the server closes its streams.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    endpoint = None if static else Endpoint(session)
    folder = tempfile.TemporaryDirectory(prefix="aws-assume-role-lib-", ignore_cleanup_errors=True)
    given = endpoint.variables if endpoint else environment_variables(session.export_credentials())

    def serve(wait: Callable[[], object]) -> None:
        with folder:
            if endpoint:
                threading.Thread(target=endpoint.serve_forever, daemon=True).start()
            wait()

    return _environment(session, Path(folder.name)) | given, serve


def run(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    """Replace this process with a program, which then has its own signals, terminal and exit code.

    A second process serves it, in a separate session that the program's signals do not reach. Windows cannot replace a
    process: there, the program is a child of this one, and its exit code is returned.

    Raises:
        OSError: The program cannot be run.
    """
    if not hasattr(os, "fork"):
        return _run_child(command, environment, serve)
    wait = _waiting_for(os.getpid())
    # On macOS, the system library that looks up proxies crashes in a forked process. Python does not call it if the
    # environment names a proxy.
    proxies = {f"{scheme}_proxy": proxy for scheme, proxy in getproxies().items()}
    # Fork twice, so that the program does not have a child that it did not start.
    starter = os.fork() or _start_server(serve, wait, proxies)
    with contextlib.suppress(ChildProcessError):  # if SIGCHLD is ignored, there is nothing to wait for
        os.waitpid(starter, 0)
    # Python ignores these signals, and the program would inherit that.
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


def _waiting_for(program: int) -> Callable[[], object]:
    """Return a function that waits until a process has ended."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox
            # Not select(), which refuses descriptors from 1024 on.
            end = select.poll()
            end.register(os.pidfd_open(program), select.POLLIN)
            return end.poll

    def poll() -> None:
        with contextlib.suppress(ProcessLookupError):
            while True:
                with contextlib.suppress(PermissionError):  # it now runs as another user, as with sudo
                    os.kill(program, 0)
                time.sleep(0.5)  # nothing tells when a process that is not a child ends, without pidfd_open()

    return poll


def _run_child(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    ended = threading.Event()
    server = threading.Thread(target=serve, args=(ended.wait,))
    server.start()
    try:
        # Windows itself only finds .exe files, and many commands are .cmd files.
        program = shutil.which(command[0], path=environment.get("PATH")) or command[0]
        with subprocess.Popen([program, *command[1:]], env=environment) as process:
            while True:
                # Ctrl-C reaches the program too, which decides what to do.
                with contextlib.suppress(KeyboardInterrupt):
                    return process.wait()
    finally:
        ended.set()
        server.join()


def _environment(session: AssumedRoleSession, folder: Path) -> dict[str, str]:
    """Return this process's environment without credentials, but with the source profile's other settings."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in REMOVED and not name.startswith(_REMOVED_PREFIX)
    }
    # SDKs read these files before they use an endpoint, so credentials in your own files would take precedence.
    config, empty = folder / "config", folder / "credentials"
    config.write_text(_config_of(session), encoding="utf-8")
    empty.touch()
    environment |= {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(empty),
        "AWS_CREDENTIAL_PROFILES_FILE": str(empty),
        "BOTO_CONFIG": str(empty),
        # A program that does not support the endpoint must fail, not act as the machine's own role. The second variable
        # is for Rust's object_store, which ignores the first.
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


def _lines(settings: Mapping[str, object]) -> str:
    text = ""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            value = "".join(f"\n{inner} = {setting}" for inner, setting in value.items())
        text += f"{name} = {value}".replace("\n", "\n  ") + "\n"
    return text


class Endpoint(socketserver.ThreadingTCPServer):
    """Gives the role's credentials to programs that have the token, like the endpoint in an ECS container.

    See `container credentials
    <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>`_.

    Attributes:
        variables: The environment variables that tell an SDK to use this endpoint.
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
        self._waiting: list[Any] = []

    def process_request(self, request: _Request, client_address: object) -> None:
        # The oldest connection that has not sent a request yet is closed to make room, so that opening many connections
        # does not lock the program out.
        self._waiting.append(request)
        if len(self._waiting) > MAX_WAITING:
            with contextlib.suppress(OSError):
                self._waiting.pop(0).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def is_read(self, request: _Request) -> None:
        """Record that a connection has sent its request or closed."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(request)

    def shutdown_request(self, request: _Request) -> None:
        self.is_read(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: the client has gone, and a traceback could show the keys."""

    def report(self, failure: str | None) -> None:
        """Write a failure to stderr, but only once if an SDK keeps trying."""
        if failure and failure != self._reported:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                self._stderr.write(f"aws_assume_role_lib: {failure}\n")
                self._stderr.flush()
        self._reported = failure


class _Head:
    """Reads the lines of a request, up to a total size."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_HEAD
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        self._left -= len(line)
        # http.server rejects a line of this length as too long.
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
        # Not self.path, where http.server has replaced a leading "//". It also accepts HTTP/0.9.
        is_exact = self.requestline.startswith(f"GET {PATH} HTTP/1.")
        # A request that a website makes through a browser has the website's Host.
        if not is_exact or self.headers.get_all("Host") != [self.server.host]:
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
            # Some SDKs read capitalized names, others lower-case ones. Some show the message only if the status is 4xx.
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
    # The errors of botocore's prompt, of our own prompt, and of a single code that has been used.
    if isinstance(error, (EOFError, RefreshWithMFAUnsupportedError)) or "no terminal to prompt on" in str(error):
        return (
            "a new MFA code is needed, which cannot be entered while the program runs. "
            "Start it again, or pass a longer --DurationSeconds"
        )
    return in_one_line(error)
