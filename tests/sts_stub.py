"""An STS on loopback, in this process, for what moto cannot do: faults, connection counts, odd expirations.

Wall time is `time.time()`, so time-machine moves this STS's clock with the test's. Waits take real time, end with
`close()`, and last at most `LIMIT` seconds. A forked child may use it as a client only.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

LIMIT = 60.0
ROLE = re.compile(r"arn:([\w-]+):iam::(\d{12}|):role/(?:.*/)?([\w+=,.@-]+)")
Answer = tuple[int, str]  # HTTP status and body


class Request(NamedTuple):
    """A request as it arrived; `action` is empty if it is not for STS, `access_key` if it is not signed."""

    action: str
    params: dict[str, str]
    access_key: str
    token: str | None
    connection: int
    at: float
    region: str
    user_agent: str


class Issued(NamedTuple):
    """What an access key was issued for; `by` is the key that signed the request."""

    role_arn: str
    session_name: str
    by: str
    expires: float


def _result(action: str, fields: str) -> Answer:
    result = f"<{action}Result>{fields}</{action}Result>"
    metadata = "<ResponseMetadata><RequestId>stub</RequestId></ResponseMetadata>"
    return (
        200,
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}{metadata}</{action}Response>',
    )


def _error(status: int, code: str, message: str) -> Answer:
    fields = f"<Type>Sender</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    return status, f"<ErrorResponse><Error>{fields}</Error><RequestId>stub</RequestId></ErrorResponse>"


@dataclass(frozen=True)
class Fault:
    """A fault to inject. Faults that spoil a real response (slow, cut, reset, other fields) use up an issued key."""

    before: float = 0.0  # seconds before the first byte
    within: float = 0.0  # seconds between the halves of the body
    hangs: bool = False  # no response until `StsStub.fault` is assigned; a client still waiting then is answered
    resets: bool = False  # the head and half of the body, then a TCP reset
    cut: bool = False  # the first half of the XML as if it were the whole
    instead: Answer | None = None  # sent instead of the real response
    element: str = ""  # the part of the real response that `text` replaces
    text: str = ""
    times: int | None = None  # requests until it clears itself; None: never
    everything: bool = False  # affects every request, not only AssumeRole

    @classmethod
    def error(cls, status: int, code: str, message: str = "", **options: Any) -> Fault:
        return cls(instead=_error(status, code, message), **options)

    @classmethod
    def html(cls, **options: Any) -> Fault:
        return cls.body("<!DOCTYPE html><html><meta charset=utf-8><title>Sign in</title>Wi-Fi<br></html>", **options)

    @classmethod
    def empty_result(cls, **options: Any) -> Fault:
        return cls(instead=_result("AssumeRole", ""), **options)

    @classmethod
    def body(cls, text: str, **options: Any) -> Fault:
        """Answer 200 with any text, such as `<AssumeRoleResponse/>`."""
        return cls(instead=(200, text), **options)

    @classmethod
    def expiration(cls, text: str | None, **options: Any) -> Fault:
        """Send this expiry, or none at all; if it is ISO 8601, that is when the key expires."""
        element = "" if text is None else f"<Expiration>{escape(text)}</Expiration>"
        return cls(element="Expiration", text=element, **options)

    @classmethod
    def without(cls, element: str, **options: Any) -> Fault:
        """Leave an element out of the response, such as `SecretAccessKey` or `AssumedRoleUser`."""
        return cls(element=element, **options)


WEB_IDENTITY = "AssumeRoleWithWebIdentity"  # which is not signed


class StsStub:
    """The stub: it serves from its creation until `close()`, or the end of its `with` block."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.issued: dict[str, Issued] = {}
        self.violations: list[str] = []
        self.connections = 0
        self.lifetime: float | None = None
        self.latency = 0.0
        self.clock_offset = 0.0  # seconds by which this STS's clock is ahead of the machine's
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.roots: set[str] | None = None  # keys that are valid without having been issued; None: all
        self.lock = threading.Lock()
        self._fault: Fault | None = None
        self._times_left: int | None = None
        self._fault_over = threading.Event()
        self._pid = os.getpid()
        self.server = _Server(self, port=0)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.up()
        _stubs.add(self)

    def __enter__(self) -> StsStub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def assumed(self) -> list[Request]:
        return [request for request in self.requests if request.action == "AssumeRole"]

    @property
    def fault(self) -> Fault | None:
        """The current fault. Assigning one, even the same one, ends the waits of the previous fault."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self.lock:
            self._fault, self._times_left = fault, fault.times if fault else None
            self._end_waits()

    def _end_waits(self) -> None:
        self._fault_over.set()
        self._fault_over = threading.Event()

    def take_fault(self, action: str) -> tuple[Fault, threading.Event]:
        """Return the fault that a request meets, and the event that ends its waits."""
        with self.lock:
            fault = self._fault
            if not fault or not (fault.everything or action == "AssumeRole"):
                return Fault(), self._fault_over
            if self._times_left is not None:
                self._times_left -= 1
                if self._times_left <= 0:
                    self._fault = None
            return fault, self._fault_over

    def up(self) -> None:
        self.server.start()

    def down(self) -> None:
        """Close every connection and refuse new ones; requests waiting at the gate are never answered."""
        self.server.stop()
        with self.lock:
            self._end_waits()
        # Bound but not listening: connections are refused, and no one else is given the port.
        self.server = _Server(self, self.server.server_port)

    def close(self) -> None:
        if os.getpid() == self._pid:
            self.server.stop()
            self.fault = None
            self.gate.set()

    def now(self) -> float:
        return time.time() + self.clock_offset

    def admit(self, request: Request) -> Answer | None:
        """Record a request; return the error response if its signer may not be served."""
        key, wrong = request.access_key, None
        with self.lock:
            self.requests.append(request)
            what = f"{request.action or 'a request to a service'} signed with {key or 'no key'}"
            if issued := self.issued.get(key):
                if issued.expires <= request.at:
                    wrong = "ExpiredToken", f"{what}, {request.at - issued.expires:.3f} s after its expiry"
                elif request.token != f"token-{int(key[4:])}":
                    wrong = "InvalidClientTokenId", f"{what} and {request.token!r}, which is not its token"
            elif not key and request.action and request.action != WEB_IDENTITY:
                wrong = "MissingAuthenticationToken", what
            elif key and self.roots is not None and key not in self.roots:
                wrong = "InvalidClientTokenId", f"{what}, which was never issued"
            if wrong:
                self.violations.append(": ".join(wrong))
        if request.action == "AssumeRole":
            self.arrived.release()
        return _error(403, *wrong) if wrong else None

    def answer(self, request: Request, fault: Fault) -> Answer:
        if request.action in ("AssumeRole", WEB_IDENTITY):
            return self._assume_role(request, fault)
        if request.action == "GetCallerIdentity":
            issued = self.issued.get(request.access_key)
            arn = _user_arn(issued) if issued else "arn:aws:iam::000000000000:user/root"
            fields = f"<UserId>{request.access_key}</UserId><Account>{arn.split(':')[4]}</Account>"
            return _result(request.action, f"<Arn>{escape(arn)}</Arn>{fields}")
        return _error(400, "InvalidAction", f"{request.action} is not known") if request.action else (200, "")

    def _assume_role(self, request: Request, fault: Fault) -> Answer:
        role, name = request.params.get("RoleArn", ""), request.params.get("RoleSessionName", "")
        if not ROLE.fullmatch(role) or not name:
            return _error(400, "ValidationError", f"no session {name!r} of role {role!r}")
        asked = float(request.params.get("DurationSeconds", 3600))
        end = self.now() + (asked if self.lifetime is None else self.lifetime)
        # In whole seconds, as AWS sends it: the key expires exactly when its holder was told.
        expires = datetime.fromtimestamp(int(end), timezone.utc)
        if fault.element == "Expiration":
            with contextlib.suppress(ValueError):
                expires = datetime.fromisoformat(re.sub("<.*?>", "", fault.text).replace("Z", "+00:00"))
        with self.lock:
            n = len(self.issued) + 1
            key = f"ASIA{n:016d}"
            issued = self.issued[key] = Issued(role, name, request.access_key, expires.timestamp())
        source = escape(request.params.get("SourceIdentity", ""))
        fields = (
            f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret-{n}</SecretAccessKey>"
            f"<SessionToken>token-{n}</SessionToken>"
            f"<Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
            f"<AssumedRoleUser><AssumedRoleId>AROA{n:017d}:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(_user_arn(issued))}</Arn></AssumedRoleUser>"
        ) + (f"<SourceIdentity>{source}</SourceIdentity>" if source else "")
        if fault.element:
            fields = re.sub(f"<{fault.element}>.*?</{fault.element}>", lambda _: fault.text, fields)
        return _result(request.action, fields)


def _user_arn(issued: Issued) -> str:
    partition, account, role = ROLE.findall(issued.role_arn)[0]
    return f"arn:{partition}:sts::{account}:assumed-role/{role}/{issued.session_name}"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are sent separately, which would cost 40 ms
    number = 0

    def _serve(self) -> None:
        stub, request = self.server.stub, self._read()
        refusal = stub.admit(request)
        closes, self.close_connection = self.close_connection, True  # unless the whole response is sent
        if request.action == "AssumeRole" and not stub.gate.wait(LIMIT):
            return
        self.server.stopped.wait(min(stub.latency, LIMIT))
        fault, over = Fault(), threading.Event()
        while not (refusal or self._gone()):
            fault, over = stub.take_fault(request.action)
            if not fault.hangs:
                break
            if not over.wait(LIMIT):
                return
        over.wait(min(fault.before, LIMIT))
        if not self._gone():
            self._send(refusal or fault.instead or stub.answer(request, fault), fault, over)
            self.close_connection = closes or fault.resets

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _serve

    def _read(self) -> Request:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        params = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if "x-www-form-urlencoded" in self.headers.get("Content-Type", ""):
            params.update(parse_qsl(body.decode(), keep_blank_values=True))
        signed = re.search(r"Credential=([^,\s]+)", self.headers.get("Authorization", ""))
        scope = (signed[1] if signed else params.get("X-Amz-Credential", "")).split("/")
        key, _, region, service, _ = scope if len(scope) == 5 else ("", "", "", "sts", "")
        if not self.number:
            with self.server.stub.lock:
                self.server.stub.connections += 1
                self.number = self.server.stub.connections
        action = params.get("Action", "") if service == "sts" else ""
        token = self.headers.get("X-Amz-Security-Token", params.get("X-Amz-Security-Token"))
        agent = self.headers.get("User-Agent", "")
        return Request(action, params, key, token, self.number, self.server.stub.now(), region, agent)

    def _gone(self) -> bool:
        """Whether no one is waiting for the response: the stub was stopped or the client gave up."""
        self.connection.setblocking(False)  # Windows has no MSG_DONTWAIT
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self.server.stopped.is_set()
        finally:
            self.connection.setblocking(True)

    def _send(self, answer: Answer, fault: Fault, over: threading.Event) -> None:
        status, text = answer
        body = b"" if self.command == "HEAD" else text.encode()
        half = len(body) // 2
        if fault.cut:
            body = body[:half]
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if text.startswith("<!DOCTYPE html>") else "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:half])
        over.wait(min(fault.within, LIMIT))
        if fault.resets:
            # A linger time of zero turns the close into a reset.
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            self.wfile.write(body[half:])

    def date_time_string(self, _: float | None = None) -> str:
        return super().date_time_string(self.server.stub.now())

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """One listening socket and the connections it accepted, from one up() to the next down()."""

    daemon_threads = True
    request_queue_size = 256  # dozens of threads connect at once; a full queue would cost them a second
    server_bind = TCPServer.server_bind  # HTTPServer's looks its own name up in DNS

    def __init__(self, stub: StsStub, port: int) -> None:
        self.stub = stub
        self.stopped = threading.Event()
        self.started = False
        self.accepted: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler, bind_and_activate=False)
        self.server_bind()
        self.server_port = self.server_address[1]

    def start(self) -> None:
        if not self.started:
            self.started = True
            self.server_activate()
            threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        if self.started:
            self.shutdown()
        self.server_close()
        for connection in list(self.accepted):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.accepted.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # Without the base class's shutdown(), which would send an orderly end before a reset.
        self.accepted.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def forget(self) -> None:
        """Close a forked child's copies, which would keep open connections that are closed here."""
        for copy in (self.socket, *self.accepted):
            if copy.fileno() >= 0:
                os.close(copy.detach())


def _forget_all() -> None:
    for stub in _stubs:
        stub.server.forget()


_stubs: weakref.WeakSet[StsStub] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)
