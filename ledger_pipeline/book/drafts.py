"""Drafts: the events about orders, fills and trades, whoever appends them: the operations of a book, the executor, and
the reconciliation with the broker.

What a caller gives is checked for its form here (InputError: a key that is not known, a float for an amount, a time
without a zone); whether a draft may come next is decided by the book.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ledger_pipeline.book.orders import Order, fill_of
from ledger_pipeline.core.amounts import decimal_text, fill_cash
from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.core.events import (
    Decided,
    Event,
    Execution,
    FillBusted,
    FillCorrected,
    Filled,
    OrderIntended,
    Payload,
    TradeChange,
    payload_as,
)
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.order_terms import OrderTerms
from ledger_pipeline.core.times import time_text

_INTENT = (
    "strategy", "symbol", "side", "quantity", "notional", "type", "limit_price", "time_in_force", "session", "attempt",
    "replaces", "deadline", "reasons", "correlation_id", "causation_id", "at",
)  # fmt: skip
_FILL = ("fill_id", "quantity", "price", "fee", "at", "cumulative", "leaves", "broker_order_id", "source")
_UPDATES = ("order_ids", "notes", "exit")


def amount(name: str, value: Any) -> Decimal:
    """A Decimal from a Decimal, a whole number or decimal text; InputError for anything else, above all a float."""
    if isinstance(value, (Decimal, int, str)) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise InputError(f"{name} is {value!r}; give a finite Decimal, a whole number or decimal text.")


def json_safe(value: Mapping[str, Any]) -> dict[str, Any]:
    """Extra data as JSON with every Decimal as decimal text; InputError when there is no such form."""

    def text(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {name: text(part) for name, part in item.items()}
        if isinstance(item, (list, tuple)):
            return [text(part) for part in item]
        if isinstance(item, datetime):
            return time_text(item)
        if isinstance(item, date):
            return item.isoformat()
        return decimal_text(item) if isinstance(item, Decimal) else item

    return json.loads(canonical_json(text(value)))


def intent_draft(order_id: str, details: Mapping[str, Any], now: datetime) -> Event:
    """The ORDER_INTENDED event of an order with these details."""
    _only("an order", details, _INTENT)
    session = _session(order_id, details.get("session"))
    amounts = {name: None if details.get(name) is None else amount(name, details[name])
               for name in ("quantity", "notional", "limit_price")}  # fmt: skip
    deadline = None if details.get("deadline") is None else _moment("deadline", details["deadline"])
    attempt = details.get("attempt", 1)
    for name in ("strategy", "symbol", "side"):
        if not isinstance(details.get(name), str) or not details[name]:
            raise InputError(f"order {order_id!r} needs a {name}.")
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
        raise InputError(f"order {order_id!r}: attempt is {attempt!r}; it is a whole number from 1.")
    return intent_event(
        order_id,
        OrderTerms(
            details["symbol"],
            details["side"],
            type=details.get("type", "market"),
            time_in_force=details.get("time_in_force", "day"),
            **amounts,
        ),
        strategy=details["strategy"],
        session=session,
        at=_moment("at", details.get("at") or now),
        attempt=attempt,
        replaces=details.get("replaces") or None,
        deadline=deadline,
        reasons=tuple(details.get("reasons", ())),
        correlation_id=details.get("correlation_id"),
        causation_id=details.get("causation_id"),
    )


def intent_event(
    order_id: str,
    terms: OrderTerms,
    *,
    strategy: str,
    session: str,
    at: datetime,
    attempt: int = 1,
    replaces: str | None = None,
    deadline: datetime | None = None,
    reasons: tuple[str, ...] = (),
    correlation_id: str | None = None,
    causation_id: str | None = None,
) -> Event:
    """The durable intent of one order: ORDER_INTENDED. session: an ISO date; deadline, aware: the last moment of a
    submit.
    """
    return Event(
        payload=OrderIntended(
            type=terms.type,
            limit_price=terms.limit_price,
            notional=terms.notional,
            time_in_force=terms.time_in_force,
            session=session,
            attempt=attempt,
            replaces=replaces,
            deadline=deadline,
        ),
        occurred_at=at,
        strategy=strategy,
        symbol=terms.symbol,
        side=terms.side,
        quantity=terms.quantity,
        order_id=order_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
        reasons=reasons,
    )


def order_event(payload: Payload, order: Order, at: datetime, **columns: Any) -> Event:
    """An event in the life of an order, with what every such event says of it."""
    return Event(
        payload=payload,
        occurred_at=_moment("at", at),
        strategy=order.strategy,
        symbol=order.symbol,
        order_id=order.order_id,
        correlation_id=order.correlation_id,
        **columns,
    )


def fill_draft(
    order: Order, fill: Mapping[str, Any], now: datetime, *, corrects: str | None = None, reason: str | None = None
) -> Event:
    """The FILLED event of a fill of `order`, or the FILL_CORRECTED one that stands in for the fill `corrects`."""
    _only("a fill", fill, _FILL)
    missing = [name for name in ("fill_id", "quantity", "price") if not fill.get(name) and fill.get(name) != 0]
    if missing:
        raise InputError(f"a fill of order {order.order_id} needs its {' and '.join(missing)}.")
    quantity, price = amount("quantity", fill["quantity"]), amount("price", fill["price"])
    fee = amount("fee", fill.get("fee", 0))
    cumulative, leaves = (
        None if fill.get(name) is None else amount(name, fill[name]) for name in ("cumulative", "leaves")
    )
    kind = FillCorrected if corrects else Filled
    details = kind(
        source=fill.get("source") or None, fill=corrects, reason=reason or None, cumulative=cumulative, leaves=leaves
    )
    return order_event(
        details,
        order,
        fill.get("at") or now,
        side=order.side,
        quantity=quantity,
        price=price,
        fee=fee,
        cash_delta=fill_cash(order.side, quantity, price, fee),
        broker_order_id=fill.get("broker_order_id"),
        fill_id=fill["fill_id"],
        reasons=order.reasons,
    )


def bust_draft(
    order: Order, fill_id: str, at: datetime, reason: str | None, bust_id: str | None, paid: Decimal | None = None
) -> Event:
    """The FILL_BUSTED event that takes back a fill of `order`: the other side, the same amounts, the fee returned.

    paid: the cash_delta of the fill as it is in the book, rounded as the broker did; from its amounts when None.
    """
    fill = next((one for one in order.fills if one.fill_id == fill_id), None)
    if fill is None:
        raise RefusedError(f"order {order.order_id} is {order.status} and has no fill {fill_id!r} to take back.")
    side = "SELL" if order.side == "BUY" else "BUY"
    return order_event(
        FillBusted(fill=fill_id, reason=reason or None),
        order,
        at,
        side=side,
        quantity=fill.quantity,
        price=fill.price,
        fee=-fill.fee,
        cash_delta=fill_cash(side, fill.quantity, fill.price, -fill.fee) if paid is None else -paid,
        fill_id=bust_id,
    )


def trade_draft(trade_id: str, action: str, at: datetime, **details: Any) -> Event:
    """The DECIDED event about a trade; `details` may hold order_ids, notes and exit."""
    _only("a trade", details, _UPDATES)
    exit_ = details.get("exit")
    change = TradeChange(
        trade_id=trade_id,
        action=action,
        order_ids=tuple(details.get("order_ids") or ()) or None,
        notes=details.get("notes"),
        exit=None if exit_ is None else json_safe(exit_),
    )
    return Event(payload=Decided(trade=change), occurred_at=at)


def same_fill(order: Order, event: Event) -> bool:
    """Whether the order has this very fill already, standing or taken back."""
    fill = fill_of(event, payload_as(event, Execution))
    same = ("fill_id", "quantity", "price", "fee", "cumulative", "leaves", "corrects")
    return any(
        all(getattr(known, name) == getattr(fill, name) for name in same) for known in (*order.fills, *order.busted)
    )


def _only(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"{unknown[0]!r} is no detail of {what}; they are {', '.join(known)}.")


def _session(order_id: str, value: Any) -> str:
    try:
        return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()
    except (TypeError, ValueError):
        raise InputError(f"order {order_id!r}: session is {value!r}; give a date such as 2026-01-05.") from None


def _moment(name: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InputError(f"{name} is {value!r}; give a datetime with a time zone.")
    return value
