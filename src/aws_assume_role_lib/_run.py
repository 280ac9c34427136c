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
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from ._answers import in_one_line
from ._session import AssumedRoleSession

NOT_EXECUTABLE, NOT_FOUND = 126, 127
PATH = "/credentials"
# A program's SDK makes one short request at a time. Whoever holds more connections, or one for longer, is not one.
MAX_CONNECTIONS = 32
TIMEOUT = 10

# What could give the program other credentials than the role's.
_REMOVED = (
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
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_REMOVED_PREFIX = "AWS_BEARER_TOKEN_"
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


def run(session: AssumedRoleSession, command: list[str], *, static: bool) -> int:
    """Run a program as the role. Returns only if it could not be started, or where a process cannot become it.

    Args:
        session: The role's session, which has been used.
        command: The program and its arguments.
        static: Pass the keys as they are now, for programs that know no endpoint.

    Returns:
        The exit code.
    """
    folder = Path(tempfile.mkdtemp(prefix="aws-assume-role-lib-"))
    endpoint = None if static else Endpoint(session)
    environment = _environment(session, folder) | (endpoint.variables if endpoint else variables(session))

    def serve(wait: Callable[[], object]) -> None:
        if endpoint:
            threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        wait()
        shutil.rmtree(folder, ignore_errors=True)

    return _become(command, environment, serve)


def variables(session: AssumedRoleSession) -> dict[str, str]:
    """Return the role's keys as the environment variables that every SDK reads."""
    keys = session.export_credentials()
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_CREDENTIAL_EXPIRATION": f"{keys.expiry:%Y-%m-%dT%H:%M:%SZ}",
    }


class Endpoint(socketserver.ThreadingTCPServer):
    """Hands the role's credentials to programs that have the token, as an ECS container's endpoint does.

    See `container credentials
    <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>`_.

    Attributes:
        variables: The environment variables that lead an SDK here.
    """

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, session: AssumedRoleSession) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.session = session
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.token = secrets.token_urlsafe(32)
        self.variables = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{self.host}{PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token,
        }
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def verify_request(self, request: object, client_address: object) -> bool:
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever asked has gone, and a traceback could show the keys."""


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    timeout = TIMEOUT
    server_version, sys_version = "aws-assume-role-lib", ""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").encode("latin-1", "replace")
        # Of another site that a browser on this machine shows, or of another user, there is not even an error to read.
        if self.headers.get("Host") != self.server.host or self.path != PATH:
            self._answer(404, {"code": "NotFound", "message": "There is nothing here."})
        elif not hmac.compare_digest(token, self.server.token.encode()):
            self._answer(403, {"code": "AccessDenied", "message": "The authorization token is wrong."})
        else:
            self._answer_with_credentials()

    def _answer_with_credentials(self) -> None:
        try:
            keys = self.server.session.export_credentials()
        except Exception as error:
            reason = in_one_line(error)
            with contextlib.suppress(AttributeError, OSError):
                role = self.server.session.role_arn
                sys.stderr.write(f"aws_assume_role_lib: {role} could not be refreshed: {reason}.\n")
                sys.stderr.flush()
            self._answer(502, {"code": "RefreshFailed", "message": f"The role could not be refreshed: {reason}."})
            return
        credentials = {
            "AccessKeyId": keys.access_key,
            "SecretAccessKey": keys.secret_key,
            "Token": keys.token,
            "Expiration": f"{keys.expiry:%Y-%m-%dT%H:%M:%SZ}",
            "RoleArn": self.server.session.role_arn,
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


# Serves a program until the function that it is given returns.
Serve = Callable[[Callable[[], object]], None]


def _environment(session: AssumedRoleSession, folder: Path) -> dict[str, str]:
    """Return this process's environment without credentials, and with the source profile's other settings."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _REMOVED and not name.startswith(_REMOVED_PREFIX)
    }
    # Every SDK looks into these files before it asks an endpoint, so the user's own could win.
    for variable, text in (("AWS_CONFIG_FILE", _config_of(session)), ("AWS_SHARED_CREDENTIALS_FILE", "")):
        path = folder / variable.lower()
        path.write_text(text, encoding="utf-8")
        environment[variable] = str(path)
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
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += [f"{name} =", *(f"  {inner} = {text}" for inner, text in value.items())]
        else:
            lines.append(f"{name} = {value}")
    return "".join(f"{line}\n" for line in lines)


def _become(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    """Turn this process into the program, so that its signals, terminal and exit code are its own.

    Another process serves it, in a session of its own that no signal for the program reaches.
    """
    if not hasattr(os, "fork"):
        return _run_child(command, environment, serve)
    program = os.getpid()
    wait = _waiting_for(program)
    server = os.fork()
    if server == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, 0)
                os.dup2(nowhere, 1)
                serve(wait)
        finally:
            os._exit(0)
    os.waitpid(server, 0)
    # Python ignores these, and a program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        return _not_started(command, error)


def _waiting_for(program: int) -> Callable[[], object]:
    """Return a function that waits until a process has ended."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox
            descriptor = os.pidfd_open(program)
            return lambda: select.select([descriptor], [], [])

    def poll() -> None:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(program, 0)
                time.sleep(0.5)

    return poll


def _run_child(command: list[str], environment: dict[str, str], serve: Serve) -> int:
    """Run the program as a child of this process, where no process can become another one: on Windows."""
    ended = threading.Event()
    server = threading.Thread(target=serve, args=(ended.wait,))
    server.start()
    try:
        with subprocess.Popen(command, env=environment) as process:
            while True:
                # Control-C reaches the program too, which decides what it means.
                with contextlib.suppress(KeyboardInterrupt):
                    return process.wait()
    except OSError as error:
        return _not_started(command, error)
    finally:
        ended.set()
        server.join()


def _not_started(command: list[str], error: OSError) -> int:
    sys.stderr.write(f"aws_assume_role_lib: {command[0]} could not be run: {error.strerror}.\n")
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
