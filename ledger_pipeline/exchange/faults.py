"""Faults of the HTTP side: what may go wrong with a request, before or after its effect.

A fault waits for requests with its verb whose path matches its pattern in full, lets the first `nth` - 1 of them pass
and happens to the next `times`. "before": the request never reaches the exchange (a stale read and a hang that
continues excepted). "after": its effect is committed, and only the reply suffers. Faults live in memory: a restart of
the exchange ends them all.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ledger_pipeline.exchange import refusals
from ledger_pipeline.exchange.engine import Exchange

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# What a fault may do, with the fields that each takes (and their defaults).
KINDS: dict[str, dict[str, Any]] = {
    "reply": {"status": 504, "body": {"message": "gateway timeout"}, "content_type": None, "headers": {}},
    "hang": {"seconds": 1.0, "then": "continue"},  # or drop: the connection is closed without a reply
    "reset": {},
    "truncate": {"keep": None},  # bytes of the body that are sent, with a content length that fits them
    "length": {"extra": 100},  # so many bytes are announced and never sent
    "empty": {"status": 200},
    "redirect": {"status": 302, "location": "/"},
    "drip": {"seconds": 1.0},  # the reply takes that long, byte by byte
    "stale": {},  # a read is answered from the state in which the fault was set
    "invisible": {"seconds": 1.0},  # after a POST: reads do not find the new order for so long
    "fill_first": {},  # before a DELETE of an order: it is filled at the last price, so the cancel comes too late
}


@dataclass
class Fault:
    """One fault that was set."""

    id: int
    verb: str
    path: str
    nth: int
    times: int | None
    when: str
    do: str
    fields: dict[str, Any]
    frozen: Exchange | None = field(default=None, repr=False)
    seen: int = 0
    fired: int = 0

    def matches(self, verb: str, path: str) -> bool:
        """Whether it happens to this request; counts it."""
        if self.verb not in ("*", verb) or not re.fullmatch(self.path, path):
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        self.seen += 1
        if self.seen < self.nth:
            return False
        self.fired += 1
        return True

    def json(self) -> dict[str, Any]:
        """The fault as it was set, and how often it was seen and happened."""
        shown = ("id", "verb", "path", "nth", "times", "when", "do", "seen", "fired")
        return {name: getattr(self, name) for name in shown} | self.fields


def fault_of(body: Any, number: int, exchange: Exchange) -> Fault:
    """The fault of an admin request; Refusal when it makes no sense."""
    if not isinstance(body, dict) or body.get("do") not in KINDS:
        raise refusals.malformed(f"do must be one of {', '.join(KINDS)}")
    known = KINDS[body["do"]]
    fields = {key: value for key, value in body.items() if key not in ("verb", "path", "nth", "times", "when", "do")}
    if set(fields) - set(known):
        raise refusals.malformed(f"{body['do']} has no {', '.join(sorted(set(fields) - set(known)))}")
    when = body.get("when", "after" if body["do"] in ("invisible", "truncate", "length", "drip") else "before")
    if when not in ("before", "after"):
        raise refusals.malformed("when must be before or after")
    try:
        re.compile(body.get("path", ".*"))
    except re.error:
        raise refusals.malformed("path is no regular expression") from None
    frozen = None
    if body["do"] == "stale":
        frozen = Exchange(exchange.store.copy(), exchange.sessions)
        frozen.hidden = exchange.hidden
    times = body.get("times", 1)
    return Fault(
        id=number,
        verb=body.get("verb", "*").upper(),
        path=body.get("path", ".*"),
        nth=int(body.get("nth", 1)),
        times=None if times is None else int(times),
        when=when,
        do=body["do"],
        fields=known | fields,
        frozen=frozen,
    )


MOST_CONNECTIONS = 256
SLOWEST_HEAD = 15.0  # seconds


class Connections:
    """The transports of the open connections by their peer, so that a fault can reach below HTTP."""

    def __init__(self) -> None:
        self._by_peer: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """The HTTP protocol for uvicorn that notes its transports here. It takes MOST_CONNECTIONS at a time, and closes
        one whose request is not whole within SLOWEST_HEAD.
        """
        by_peer = self._by_peer

        class NotedProtocol(H11Protocol):
            _waits: asyncio.TimerHandle | None = None

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                if len(by_peer) >= MOST_CONNECTIONS:
                    transport.abort()
                    return
                if self.client is not None:
                    by_peer[self.client] = transport
                self._wait()

            def data_received(self, data: bytes) -> None:
                if self._waits is not None:
                    self._waits.cancel()
                super().data_received(data)
                if self.conn.their_state is h11.IDLE:  # the head of a request is not whole yet
                    self._wait()

            def _wait(self) -> None:
                self._waits = self.loop.call_later(SLOWEST_HEAD, self.transport.close)

            def connection_lost(self, exc: Exception | None) -> None:
                if self._waits is not None:
                    self._waits.cancel()
                by_peer.pop(self.client or ("", 0), None)
                super().connection_lost(exc)

        return NotedProtocol

    def of(self, client: Any) -> asyncio.Transport:
        """The transport of the connection to this peer."""
        return self._by_peer[tuple(client)]

    def abort(self, client: Any) -> None:
        """Drop the connection with a reset, whatever was on its way."""
        transport = self._by_peer.pop(tuple(client), None)
        if transport is not None:
            lingering = transport.get_extra_info("socket")
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()


@dataclass
class Answer:
    """A response that was caught on its way out."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def send(self, message: dict[str, Any]) -> None:
        """Take in what an ASGI application sends."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


async def forward(answer: Answer, send: Send) -> None:
    """Send an answer as it is."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


async def spoil(fault: Fault, answer: Answer, scope: Scope, receive: Receive, send: Send, lines: Connections) -> None:
    """Reply as the fault says; `answer` is what would have been sent."""
    fields = fault.fields
    if fault.do == "reset":
        lines.abort(scope["client"])
        await _gone(receive)
    elif fault.do == "hang":
        await asyncio.sleep(float(fields["seconds"]))
        if fields["then"] == "drop":
            lines.of(scope["client"]).close()
            await _gone(receive)
        else:
            await forward(answer, send)
    elif fault.do in ("length", "drip"):
        await _raw(fault, answer, scope, receive, lines)
    elif fault.do in ("invisible", "stale", "fill_first"):
        await forward(answer, send)
    else:
        await forward(_other(fault, answer), send)


def _other(fault: Fault, answer: Answer) -> Answer:
    fields = fault.fields
    if fault.do == "truncate":
        keep = len(answer.body) // 2 if fields["keep"] is None else int(fields["keep"])
        return _made(answer.status, answer.body[:keep], "application/json")
    if fault.do == "empty":
        return _made(int(fields["status"]), b"", "application/json")
    if fault.do == "redirect":
        return _made(int(fields["status"]), b"", "text/plain", {"location": fields["location"]})
    body = fields["body"]
    html = isinstance(body, str)
    data = body.encode() if html else json.dumps(body).encode()
    kind = fields["content_type"] or ("text/html" if html else "application/json")
    return _made(int(fields["status"]), data, kind, fields["headers"])


def _made(status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> Answer:
    rows = {"content-type": kind, "content-length": str(len(body))} | {k.lower(): v for k, v in (headers or {}).items()}
    return Answer(status, [(name.encode(), str(value).encode()) for name, value in rows.items()], body)


async def _raw(fault: Fault, answer: Answer, scope: Scope, receive: Receive, lines: Connections) -> None:
    transport = lines.of(scope["client"])
    length = len(answer.body) + (int(fault.fields["extra"]) if fault.do == "length" else 0)
    head = f"HTTP/1.1 {answer.status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    transport.write(head.encode() + b"connection: close\r\n\r\n")
    if fault.do == "length":
        transport.write(answer.body)
    else:
        pause = float(fault.fields["seconds"]) / max(1, len(answer.body))
        for byte in answer.body:
            if transport.is_closing():
                break
            transport.write(bytes([byte]))
            await asyncio.sleep(pause)
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the server knows that the connection is closed, so that it does not answer by itself."""
    while (await receive())["type"] != "http.disconnect":
        pass


BEFORE = Answer(
    500, [(b"content-type", b"application/json")], b'{"code": 50010000, "message": "internal server error"}'
)
