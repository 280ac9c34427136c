"""Lambda's Runtime API on loopback: the other side of AWS's runtime client, one invocation at a time.

See https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple

LIMIT = 60.0
FUNCTION_ARN = "arn:aws:lambda:us-east-1:111111111111:function:orders"
_OUTCOME = re.compile(r"/2018-06-01/runtime/(?:invocation/([^/]+)/(response|error)|(init)/error)")


class Outcome(NamedTuple):
    """What the runtime client posted: `kind` is "response", "error" or "init"."""

    kind: str
    request_id: str | None
    payload: Any


class LambdaRuntimeApi:
    """The API of one function instance: it serves from its creation until the end of its `with` block."""

    def __init__(self) -> None:
        self.invocations: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.asked = threading.Event()  # the instance has started, and has requested its first invocation
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> LambdaRuntimeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.invocations.put(None)
        self._server.shutdown()
        self._server.server_close()

    def invoke(self, event: Any) -> Outcome:
        """Send an event to the instance and wait for the outcome."""
        request_id = str(uuid.uuid4())
        self.invocations.put((request_id, event))
        outcome = self.outcomes.get(timeout=LIMIT)
        assert outcome.request_id == request_id, outcome
        return outcome


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path != "/2018-06-01/runtime/invocation/next":
            return self._answer(404)
        self.server.api.asked.set()
        invocation = self.server.api.invocations.get()
        if invocation is None:
            self.close_connection = True
            return None
        request_id, event = invocation
        return self._answer(
            200,
            json.dumps(event),
            {
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + LIMIT) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match = _OUTCOME.fullmatch(self.path)
        if match is None:
            return self._answer(404)
        self._answer(202, '{"status": "OK"}')
        self.wfile.flush()
        self.server.api.outcomes.put(Outcome(match[2] or match[3], match[1], json.loads(body)))
        return None

    def _answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    server_bind = TCPServer.server_bind  # HTTPServer's own method looks up its host name in DNS

    def __init__(self, api: LambdaRuntimeApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)
