"""What stands before the trading API: the record of requests, the keys, the request limit, and the faults."""

from __future__ import annotations

import hmac
import time
from collections import deque
from typing import Any

from ledger_pipeline.exchange import refusals, wire
from ledger_pipeline.exchange.door import refused
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.faults import BEFORE, Answer, Connections, Fault, Receive, Scope, Send, forward, spoil
from ledger_pipeline.exchange.matching import Execution
from ledger_pipeline.exchange.money import micros


class Gate:
    """The ASGI application around the trading API."""

    def __init__(self, app: Any, exchange: Exchange, key: str, secret: str, lines: Connections) -> None:
        self._app = app
        self._exchange = exchange
        self._key, self._secret = key, secret
        self._lines = lines
        self._recent: deque[float] = deque()
        self.faults: list[Fault] = []

    def accepts(self, key: str, secret: str) -> bool:
        """Whether these are the keys."""
        right = hmac.compare_digest(key.encode(), self._key.encode())
        return right & hmac.compare_digest(secret.encode(), self._secret.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = (await receive())["body"]  # whole: the door has read it
        verb, path = scope["method"], scope["path"]
        seq = self._note("request", f"{verb} {path}", {"query": scope["query_string"].decode(), "body": _shown(body)})
        fault = next((fault for fault in self.faults if fault.matches(verb, path)), None)
        status = await self._answer(scope, body, fault, receive, send)
        self._note("reply", str(seq), {"status": status, "fault": None if fault is None else fault.id})

    def _note(self, kind: str, key: str, doc: dict[str, Any]) -> int:
        store = self._exchange.store
        with store.transaction():
            return store.log(micros(self._exchange.now), kind, key, doc)

    async def _answer(self, scope: Scope, body: bytes, fault: Fault | None, receive: Receive, send: Send) -> int:
        """Answer the request, spoiled by the fault if there is one; the status that the exchange itself gave."""
        if fault is not None and fault.when != "after" and fault.do not in ("stale", "fill_first"):
            if fault.do != "hang" or fault.fields["then"] == "drop":
                await spoil(fault, BEFORE, scope, receive, send, self._lines)
                return 0
            waited = Answer()
            await spoil(fault, waited, scope, receive, waited.send, self._lines)
        exchange = self._exchange if fault is None or fault.frozen is None else fault.frozen
        if fault is not None and fault.do == "fill_first":
            _fill(self._exchange, scope["path"].rsplit("/", 1)[-1])
        answer = await self._call(scope | {"exchange": exchange}, body)
        if fault is not None and fault.do == "invisible" and answer.status == 200:
            document = wire.loads(answer.body)
            if isinstance(document, dict) and "id" in document:
                self._exchange.hidden[document["id"]] = time.time() + float(fault.fields["seconds"])
        if fault is None or (fault.do == "hang" and fault.when == "before"):
            await forward(answer, send)
        else:
            await spoil(fault, answer, scope, receive, send, self._lines)
        return answer.status

    async def _call(self, scope: Scope, body: bytes) -> Answer:
        headers = dict(scope["headers"])
        key, secret = (
            headers.get(name, b"").decode("latin-1") for name in (b"apca-api-key-id", b"apca-api-secret-key")
        )
        if not self.accepts(key, secret):
            return refused(refusals.unauthorized())
        limit = int(self._exchange.settings["rate_limit"])
        if limit and self._exceeds(limit):
            wait = str(int(self._recent[0] + 60) + 1)
            headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": wait}
            return refused(refusals.Refusal(429, refusals.TOO_MANY, "too many requests."), headers)
        answer, sent = Answer(), False

        async def receive_body() -> dict[str, Any]:
            nonlocal sent
            if sent:
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, answer.send)
        return answer

    def _exceeds(self, limit: int) -> bool:
        now = time.time()
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= limit:
            return True
        self._recent.append(now)
        return False


def _fill(exchange: Exchange, order_id: str) -> None:
    with exchange.transaction():
        order = exchange.store.order(order_id)
        price = None if order is None else order.limit_price or exchange.mark(order.symbol)
        if order is not None and order.is_open and price is not None:
            exchange.fill(order, Execution(order.remaining(price), price))


def _shown(body: bytes) -> Any:
    try:
        return wire.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")
