"""What the admin API has its hands on, and how its requests are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from ledger_pipeline.exchange import intake, refusals, wire
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.gate import Gate
from ledger_pipeline.exchange.money import micros, text
from ledger_pipeline.exchange.routes import body_of
from ledger_pipeline.exchange.stream import Stream


@dataclass(frozen=True)
class Operator:
    """What the admin API has its hands on."""

    exchange: Exchange
    gate: Gate
    stream: Stream
    abort: Callable[[Any], None]


def operator_of(request: Request) -> Operator:
    """The operator of this admin API."""
    return request.app.state.operator


async def object_of(request: Request) -> dict[str, Any]:
    """The body, which must be an object."""
    body = await body_of(request)
    if not isinstance(body, dict):
        raise refusals.malformed()
    return body


def amount_of(body: dict[str, Any], name: str, default: Decimal | None = None) -> Decimal:
    """A number of the body; Refusal when it is not there and has no default."""
    value = intake.number(body, name)
    amount = default if value is None else value
    if amount is None:
        raise refusals.malformed(f"{name} is required")
    return amount


def word_of(body: dict[str, Any], name: str) -> str:
    """A text of the body that is not empty."""
    if not isinstance(body.get(name), str) or not body[name]:
        raise refusals.malformed(f"{name} is required")
    return body[name]


def note(exchange: Exchange, what: str, doc: Any) -> None:
    """Record what the operator did."""
    exchange.store.log(micros(exchange.now), "admin", what, doc)


def state_of(operator: Operator) -> dict[str, Any]:
    """The state in short: what every call that changes something answers with."""
    exchange = operator.exchange
    session = exchange.session()
    counts = exchange.store.db.execute(
        "select (select count(*) from orders), (select count(*) from orders where is_open), "
        "(select count(*) from activities), (select max(seq) from record)"
    ).fetchone()
    return {
        "now": wire.stamp(exchange.now),
        "session": None if session is None else session.day,
        "is_open": session is not None,
        "account_id": exchange.account["id"],
        "account_number": exchange.account["account_number"],
        "cash": text(exchange.cash),
        "positions": {holding.symbol: text(holding.quantity) for holding in exchange.store.holdings()},
        "orders": counts[0],
        "open_orders": counts[1],
        "activities": counts[2],
        "record": counts[3] or 0,
        "stream_connections": operator.stream.connected,
        "settings": exchange.settings,
    }
