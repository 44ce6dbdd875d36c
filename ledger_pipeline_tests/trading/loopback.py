"""The broker in memory behind HTTP: the code under test speaks to it through the real adapter and the real alpaca-py.

One server on loopback serves every FakeBroker of this test process; the key of a request says who asks, and so which
account is meant. Answers are the recorded payloads with the fake's values put in. What the fake is told to do badly
happens on the wire: a submit without an answer is a broken connection or a gateway's page, an unreadable read is a 503.

Two things stay in memory. Waiting for an update lets virtual time pass (the stream is tested in test_stream.py). And
what ends a process while the broker works, such as Crash, ends the one that asked, whatever it was answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.strict_json import load_json
from ledger_pipeline.core.times import parse_time, time_text
from ledger_pipeline.trading import broker as port
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.alpaca.parsing import ACCOUNT_BLOCKS, NEW_YORK
from ledger_pipeline.trading.connect import connect
from ledger_pipeline_tests.trading.fake import FakeBroker
from ledger_pipeline_tests.trading.requests import order_request
from ledger_pipeline_tests.trading.wire import Reply, Request, Stub, js

SECRET = "loopback-secret-of-nobody"
Reach = Callable[[FakeBroker], AlpacaBroker]
_numbers = count(1)


@contextmanager
def connected(fake: FakeBroker) -> Iterator[AlpacaBroker]:
    """The adapter, as `connect` makes it, of one process whose account is at `fake`."""
    server, key = _server(), f"loopback-key-{next(_numbers)}"
    caller = _CALLERS[key] = _Caller(fake)
    server.requests.clear()
    broker = connect("exchange", url=server.url, environ={"EXCHANGE_KEY": key, "EXCHANGE_SECRET": SECRET})
    broker.environment = fake.environment
    broker.virtual_time = fake.virtual_time
    broker.wait_for_update = fake.wait_for_update
    for connection in (broker._trading, broker._data, broker._actions):
        connection.ask = caller.mortal(connection.ask)
    try:
        yield broker
    finally:
        broker.close()
        del _CALLERS[key]


@cache
def _server() -> Stub:
    """The one server of this process; its threads end with it."""
    return Stub(_answered)


def _answered(request: Request) -> Reply:
    caller = _CALLERS.get(request.headers.get("APCA-API-KEY-ID", ""))
    if caller is None or request.headers.get("APCA-API-SECRET-KEY") != SECRET:
        return js(_recorded("errors")["401"], 401)
    try:
        return caller.answer(request)
    except BrokerError as error:
        return js({"code": 50310000, "message": str(error)}, 503)
    except BaseException as death:
        caller.death = death
        return Reply(fault="reset")


@dataclass
class _Caller:
    """One process at the server: its broker, the rest of a list that it reads page by page, and what ended it."""

    fake: FakeBroker
    rest: list[dict[str, Any]] = field(default_factory=list)
    death: BaseException | None = None

    def mortal(self, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`ask`, which raises what ended the process meanwhile."""

        def asked(call: Any) -> Any:
            answer = ask(call)
            death, self.death = self.death, None
            if death is not None:
                raise death
            return answer

        return asked

    def answer(self, request: Request) -> Reply:
        """What the broker answers; AssertionError for what it does not know."""
        verb, path, query = request.method, request.path.removeprefix("/v2"), request.query
        if (verb, path) == ("POST", "/orders"):
            return self.submit(load_json(request.body))
        if verb == "DELETE" and path.startswith("/orders/"):
            return _CANCELED[self.fake.cancel(path.removeprefix("/orders/"))]
        if verb == "GET" and path.startswith("/assets/"):
            return _one(self.fake.asset(unquote(path.removeprefix("/assets/"))), _asset)
        read = getattr(self, _READS.get(path, ""), None)
        assert verb == "GET" and read is not None, f"the broker knows no {verb} {request.path}"
        return read(query)

    def account(self, query: dict[str, str]) -> Reply:
        it = self.fake.account()
        amounts = {"cash": it.cash, "equity": it.equity, "portfolio_value": it.equity, "buying_power": it.buying_power}
        named = {"id": it.id, "account_number": it.number, "status": it.status}
        blocks = {name: name in it.blocked for name in ACCOUNT_BLOCKS}
        return js(_recorded("account_since_2026") | named | _texts(amounts) | blocks)

    def clock(self, query: dict[str, str]) -> Reply:
        it = self.fake.clock()
        times = {"timestamp": it.now, "next_open": it.next_open, "next_close": it.next_close}
        return js(
            {name: time.astimezone(NEW_YORK).isoformat() for name, time in times.items()} | {"is_open": it.is_open}
        )

    def calendar(self, query: dict[str, str]) -> Reply:
        rows = self.fake.calendar(date.fromisoformat(query["start"]), date.fromisoformat(query["end"]))
        return js([
            {
                "date": row.session.isoformat(),
                "open": f"{row.open.astimezone(NEW_YORK):%H:%M}",
                "close": f"{row.close.astimezone(NEW_YORK):%H:%M}",
            }
            for row in rows
        ])  # fmt: skip

    def trades(self, query: dict[str, str]) -> Reply:
        rows = self.fake.latest_trades(query["symbols"].split(","))
        recorded = _recorded("trades_latest")["trades"]["VTI"]
        return js({
            "trades": {name: recorded | {"t": time_text(row.at), "p": float(row.price)} for name, row in rows.items()}
        })  # fmt: skip

    def submit(self, body: dict[str, Any]) -> Reply:
        outcome = self.fake.submit(
            order_request(
                body["client_order_id"],
                body["symbol"],
                body["side"].upper(),
                *(_amount(body.get(name)) for name in ("qty", "notional")),
                body["type"],
                _amount(body.get("limit_price")),
                body["time_in_force"],
            )
        )
        if isinstance(outcome, port.Accepted):
            return js(_order(outcome.order))
        if isinstance(outcome, port.Refused):
            return js({"code": outcome.code, "message": outcome.reason}, outcome.status)
        return _UNKNOWN[outcome.why]

    def order(self, query: dict[str, str]) -> Reply:
        return _one(self.fake.order_by_client_id(query["client_order_id"]), _order)

    def orders(self, query: dict[str, str]) -> Reply:
        if "after_order_id" not in query:
            after = query.get("after")
            rows = self.fake.orders(status=query["status"], after=parse_time(after) if after else None)
            self.rest = [_order(row) for row in rows]
        return self.page(int(query["limit"]))

    def positions(self, query: dict[str, str]) -> Reply:
        recorded = _recorded("positions")[0]
        return js([
            recorded
            | {"symbol": row.symbol, "side": "long" if row.quantity > 0 else "short"}
            | _texts({"qty": row.quantity, "qty_available": row.available, "current_price": row.price})
            for row in self.fake.positions()
        ])  # fmt: skip

    def activities(self, query: dict[str, str]) -> Reply:
        if "page_token" not in query:
            after = query.get("after")
            rows = self.fake.activities(after=parse_time(after) if after else None)
            self.rest = [_fill(row) if isinstance(row, port.FillActivity) else _cash(row) for row in rows]
        return self.page(int(query["page_size"]))

    def page(self, size: int) -> Reply:
        """The next rows of the list that was asked for last."""
        rows, self.rest = self.rest[:size], self.rest[size:]
        return js(rows)


_CALLERS: dict[str, _Caller] = {}
_READS = {
    "/account": "account", "/clock": "clock", "/calendar": "calendar", "/stocks/trades/latest": "trades",
    "/orders": "orders", "/orders:by_client_order_id": "order", "/positions": "positions",
    "/account/activities": "activities",
}  # fmt: skip


@cache
def _recorded(name: str) -> Any:
    return json.loads((Path(__file__).parent / "payloads" / f"{name}.json").read_bytes())


_UNKNOWN = {
    "the connection was reset": Reply(fault="reset"),
    "no answer in time": Reply(504, b"<html>504 Gateway Time-out</html>", {"Content-Type": "text/html"}),
    "client_order_id must be unique": js(_recorded("errors")["422"], 422),
}
_CANCELED = {
    port.REQUESTED: Reply(204),
    port.NOT_CANCELABLE: js({"code": 42210000, "message": "order is not cancelable"}, 422),
    port.NOT_FOUND: js(_recorded("errors")["404"], 404),
    port.UNKNOWN: Reply(fault="reset"),
}


def _amount(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _texts(amounts: dict[str, Decimal | None]) -> dict[str, str | None]:
    return {name: _text(value) for name, value in amounts.items()}


def _one(found: Any, written: Callable[[Any], dict[str, Any]]) -> Reply:
    return js(_recorded("errors")["404"], 404) if found is None else js(written(found))


def _asset(row: port.Asset) -> dict[str, Any]:
    flags = {"tradable": row.tradable, "fractionable": row.fractionable}
    return _recorded("asset") | {"symbol": row.symbol, "class": row.asset_class, "status": row.status} | flags


def _order(row: port.BrokerOrder) -> dict[str, Any]:
    amounts = {
        "qty": row.quantity, "notional": row.notional, "limit_price": row.limit_price,
        "filled_qty": row.filled_quantity, "filled_avg_price": row.filled_price,
    }  # fmt: skip
    submitted, updated = time_text(row.submitted_at), time_text(row.updated_at)
    return _recorded("order_market") | _texts(amounts) | {
        "id": row.id, "client_order_id": row.client_order_id, "symbol": row.symbol, "side": row.side.lower(),
        "type": row.type, "order_type": row.type, "time_in_force": row.time_in_force, "status": row.status,
        "created_at": submitted, "submitted_at": submitted, "updated_at": updated,
    }  # fmt: skip


def _fill(row: port.FillActivity) -> dict[str, Any]:
    whole = not row.leaves
    amounts = {"qty": row.quantity, "price": row.price, "cum_qty": row.cumulative, "leaves_qty": row.leaves}
    return _recorded("activities")[1] | _texts(amounts) | {
        "id": row.id, "order_id": row.broker_order_id, "symbol": row.symbol, "side": row.side.lower(),
        "transaction_time": time_text(row.at), "type": "fill" if whole else "partial_fill",
        "order_status": "filled" if whole else "partially_filled",
    }  # fmt: skip


def _cash(row: port.CashActivity) -> dict[str, Any]:
    amounts = {"net_amount": row.amount, "qty": row.quantity, "per_share_amount": row.per_share}
    return _recorded("activities")[2] | _texts(amounts) | {
        "id": row.id, "activity_type": row.type, "symbol": row.symbol, "status": row.status,
        "date": row.date.isoformat(), "created_at": time_text(row.at),
    }  # fmt: skip
