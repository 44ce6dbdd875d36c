"""What stands at both ports of the exchange, before anything reads a request.

The exchange is for programs of this machine. A web page that a person merely visits can send requests to it all the
same, so what comes from a browser (an Origin, a Sec-Fetch-Site) is refused, and so is any Host but this machine's own
names, under which another's DNS could make it readable. The admin port takes JSON only, which no page can send without
asking first. Requests are bounded in size, time and number.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.faults import Answer, Receive, Scope, Send, forward

OWN_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
LARGEST_BODY = 1 << 20  # bytes
SLOWEST_BODY = 15.0  # seconds until a body must be there
LARGEST_FRAME = 1 << 16  # bytes of one message to the stream


class Door:
    """The ASGI application around everything; requests to `admin_port` are those of the admin API."""

    def __init__(self, app: Any, admin_port: int | None) -> None:
        self._app = app
        self._admin_port = admin_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or connection in, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = _foreign(headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            return
        body = b""
        if refusal is None:
            try:
                async with asyncio.timeout(SLOWEST_BODY):
                    body = await _whole_body(receive)
            except TimeoutError:
                refusal = refusals.Refusal(408, None, "the request did not come in time")
            except _TooLarge:
                refusal = refusals.Refusal(413, None, "request body is too large")
            except _Gone:
                return
        if refusal is None and scope["server"][1] == self._admin_port:
            refusal = _not_json(headers, body)
        if refusal is not None:
            await forward(refused(refusal), send)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return unread.pop() if unread else await receive()

        await self._app(scope, again, send)


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    pass


async def _whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            raise _TooLarge
    return body


def _foreign(headers: list[tuple[bytes, str]]) -> refusals.Refusal | None:
    """The refusal of what is not addressed to this machine or comes from a web page."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or _name_of(hosts[0]) not in OWN_NAMES:
        return refusals.Refusal(403, None, "this exchange answers to 127.0.0.1, localhost and [::1] only")
    pages = {name for name, value in headers if name == b"origin" or (name == b"sec-fetch-site" and value != "none")}
    if pages:
        return refusals.Refusal(403, None, "requests of web pages are refused")
    return None


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _not_json(headers: list[tuple[bytes, str]], body: bytes) -> refusals.Refusal | None:
    kinds = [value.partition(";")[0].strip().lower() for name, value in headers if name == b"content-type"]
    if kinds == ["application/json"] or not (kinds or body):
        return None
    return refusals.Refusal(415, None, "the body must be application/json")


def refused(refusal: refusals.Refusal, headers: dict[str, str] | None = None) -> Answer:
    """The answer that a refusal is, with further headers."""
    data = wire.dumps(refusal.body).encode()
    rows = {"content-type": "application/json", "content-length": str(len(data))} | (headers or {})
    return Answer(refusal.status, [(name.lower().encode(), value.encode()) for name, value in rows.items()], data)
