"""The other end of the wire, for tests of the transport: an HTTP server that misbehaves as told, and a websocket.

Both listen on loopback only, on a port of their own, and record what they were asked.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.alpaca.http import Limits
from ledger_pipeline.trading.endpoint import Endpoint, Keys

KEY, SECRET = "AKCANARYKEY0123456789", "canary-secret-d41d8cd98f00b204"
QUICK = Limits(connect=1.0, read=0.4, total=0.8, size=200_000)  # for a server that hangs
PATIENT = Limits(connect=10.0, read=10.0, total=20.0, size=200_000)  # for one that answers, on a busy machine


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What the server does: answer, or one of the faults hang, reset, drip, short (less than it announced)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""


def js(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON reply."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | named)


class Stub:
    """A server that answers every request with `respond(request)`."""

    def __init__(self, respond: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # the body would wait 40 ms for the head to be acknowledged

            def handle_one(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, parts.path, query, dict(self.headers), body)
                stub.requests.append(request)
                self.reply(respond(request))

            do_GET = do_POST = do_DELETE = do_PATCH = do_CONNECT = handle_one

            def reply(self, reply: Reply) -> None:
                if reply.fault == "hang":
                    stub.closing.wait(10)
                if reply.fault in ("hang", "reset"):
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, text in reply.headers.items():
                    self.send_header(name, text)
                if reply.status != 204:
                    extra = 100 if reply.fault == "short" else 0
                    self.send_header("Content-Length", str(len(reply.body) + extra))
                self.end_headers()
                if reply.fault == "drip":
                    for byte in reply.body:
                        if stub.closing.wait(0.05):
                            break
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                else:
                    self.wfile.write(reply.body)
                if reply.fault:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # the client went away, as it should

            def finish(self) -> None:
                try:
                    super().finish()
                except (OSError, ValueError):
                    pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop serving."""
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(2)

    def count(self, method: str) -> int:
        """How many requests with this method came."""
        return sum(request.method == method for request in self.requests)


@contextmanager
def serving(respond: Callable[[Request], Reply] | Reply) -> Iterator[Stub]:
    """A Stub for the time of the block; a plain Reply is given to every request."""
    stub = Stub(respond if callable(respond) else lambda _: respond)
    try:
        yield stub
    finally:
        stub.close()


@contextmanager
def broker_at(url: str, *, stream: str = "ws://127.0.0.1:1/stream", **options: Any) -> Iterator[AlpacaBroker]:
    """The adapter with canary keys, pointed at `url`."""
    options = {"limits": PATIENT, "authorised_within": 0.5} | options
    broker = AlpacaBroker(Endpoint("exchange", url, url, stream), Keys(KEY, SECRET), **options)
    try:
        yield broker
    finally:
        broker.close()


def loopback_only(monkeypatch: Any) -> list[Any]:
    """Refuse every connection but to this machine; returns the list of those that were refused."""
    refused: list[Any] = []
    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, real: Any = real) -> Any:
            local = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost")
            if not local:
                refused.append(address)
                raise ConnectionRefusedError(f"a test tried to reach {address}")
            return real(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)
    return refused


@contextmanager
def websocket(talk: Callable[[Any], None]) -> Iterator[str]:
    """A websocket server whose every connection is `talk(connection)`; gives its URL."""
    from websockets.sync.server import serve

    with serve(talk, "127.0.0.1", 0, close_timeout=0.2) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/stream"
        server.shutdown()


def handshake(connection: Any, status: str = "authorized") -> dict[str, Any]:
    """Let a client in as the broker does, in binary frames; returns what it authenticated with."""
    sent = json.loads(connection.recv(timeout=5))
    answer = {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
    connection.send(json.dumps(answer).encode())
    if status == "authorized":
        connection.recv(timeout=5)
        connection.send(json.dumps({"stream": "listening", "data": {"streams": ["trade_updates"]}}).encode())
    return sent["data"]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()
