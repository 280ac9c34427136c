"""Gives a role's credentials to a program on this machine, like the endpoint in an ECS container."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import socketserver
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO

from botocore import exceptions

from .._answers import in_one_line, refusal_code
from .._assume import AssumedRoleSession

PATH = "/credentials"
# An SDK sends one short request immediately. These limits bound the cost of other clients.
MAX_WAITING = 32
MAX_HEAD = 16 * 1024
TIMEOUT = 10
# Connections to the endpoint, connections to STS, and what Python itself opens.
MIN_FILES = MAX_WAITING + 32

# As socketserver declares it. A TCP server's is always a socket.
_Request = socket.socket | tuple[bytes, socket.socket]

# What a source that can be renewed raises. The last one is `aws login`'s, which older botocore versions do not have.
_RENEWABLE = (exceptions.SSOError, exceptions.TokenRetrievalError, getattr(exceptions, "LoginError", ()))


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
        if hasattr(os, "fork"):
            import resource  # Windows does not have it

            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            if limit < MIN_FILES:
                raise OSError(f"the limit on open files is {limit}; it must be {MIN_FILES}. Run ulimit -n {MIN_FILES}")
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
        self._reported = failure


class _Head:
    """A request's first lines. http.server itself accepts a hundred headers of 64 KB each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_HEAD
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        self._left -= len(line)
        # A line that is too long, which http.server refuses.
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
        # A request that a website makes through a browser has the website's Host. AWS CRT leaves out the port.
        if not is_exact or self.headers.get_all("Host") not in ([self.server.host], ["127.0.0.1"]):
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
            code = "RefreshFailed"
            self._answer(424, {"Code": code, "code": code, "Message": failure, "message": failure})
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
    needs_code = isinstance(error, (EOFError, exceptions.RefreshWithMFAUnsupportedError))
    if needs_code or "no terminal to prompt on" in str(error):
        return "a new MFA code is needed. Start the program again, or pass a longer --DurationSeconds"
    # The text is botocore's, about keys in the environment that have an expiry.
    if refusal_code(error) == "ExpiredToken" or "are still expired" in str(error):
        return f"{in_one_line(error)}. The source's keys have expired. Get new ones, and start the command again"
    provider = error.kwargs.get("provider") if isinstance(error, exceptions.CredentialRetrievalError) else None
    if provider not in (None, "assume-role") or isinstance(error, _RENEWABLE):
        return f"{in_one_line(error)}. Log in again; the program can then go on"
    return in_one_line(error)
