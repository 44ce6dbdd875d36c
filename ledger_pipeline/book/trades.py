"""Trades: round trips that somebody names, made of orders.

A trade is a list of orders of one strategy in one symbol. Orders on the side of the first one enter it, those on the
other side exit it; quantities, averages, fees and P&L follow from the fills of those orders and are stored nowhere, so
a fill that comes late or is taken back corrects the trade as well. In the book a trade is DECIDED events with a payload
{"trade": {"trade_id", "action": created | updated | closed, "order_ids", "notes", "exit"}}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.book.orders import Order
from ledger_pipeline.core.amounts import EXACT, ZERO
from ledger_pipeline.core.events import Decided, Event, TradeChange
from ledger_pipeline.core.times import parse_time, time_text

CREATED, UPDATED, CLOSED_BY = "created", "updated", "closed"
ACTIONS = (CREATED, UPDATED, CLOSED_BY)


@dataclass(frozen=True, slots=True)
class TradeRecord:
    """What the book was told of a trade. created: its orders and notes as they were first told."""

    trade_id: str
    order_ids: tuple[str, ...]
    notes: str
    created: tuple[tuple[str, ...], str]
    closed_at: datetime | None = None
    exit: Mapping[str, Any] = field(default_factory=dict)
    updated_seq: int = 0


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade with what follows from its fills. Quantities, prices, fees and pnl are Decimal, times aware, UTC.

    side: LONG or SHORT. status: OPEN or CLOSED. opened_at: the first entry fill. entry_price and exit_price: averages,
    None without a fill. pnl: of what was exited, net of the fees that belong to it.
    """

    trade_id: str
    strategy: str
    symbol: str
    side: str
    status: str
    order_ids: tuple[str, ...]
    opened_at: datetime | None
    closed_at: datetime | None
    entry_quantity: Decimal
    entry_price: Decimal | None
    exit_quantity: Decimal
    exit_price: Decimal | None
    fees: Decimal
    pnl: Decimal
    notes: str
    exit: Mapping[str, Any]
    updated_seq: int


def trade_change(event: Event) -> TradeChange | None:
    """What an event says of a trade; None when it is about something else."""
    return event.payload.trade if isinstance(event.payload, Decided) else None


def advanced_trade(record: TradeRecord | None, change: TradeChange, event: Event) -> TradeRecord:
    """The record of a trade after one more event about it; None before the first."""
    orders = change.order_ids or ()
    notes = change.notes
    if record is None:
        return TradeRecord(change.trade_id, orders, notes or "", (orders, notes or ""), updated_seq=event.seq)
    changes: dict[str, Any] = {
        "order_ids": record.order_ids + tuple(name for name in orders if name not in record.order_ids),
        "notes": record.notes if notes is None else notes,
        "updated_seq": event.seq,
    }
    if change.action == CLOSED_BY:
        changes |= {"closed_at": event.occurred_at, "exit": dict(change.exit or {})}
    return replace(record, **changes)


def trade_of(record: TradeRecord, orders: Mapping[str, Order]) -> Trade:
    """The trade of a record, from the orders of its book."""
    held = [orders[name] for name in record.order_ids]
    first = held[0]
    entries = [order for order in held if order.side == first.side]
    exits = [order for order in held if order.side != first.side]
    entered, entry_value, entry_fees = _totals(entries)
    exited, exit_value, exit_fees = _totals(exits)
    sign = 1 if first.side == "BUY" else -1
    return Trade(
        trade_id=record.trade_id,
        strategy=first.strategy,
        symbol=first.symbol,
        side="LONG" if sign > 0 else "SHORT",
        status="OPEN" if record.closed_at is None else "CLOSED",
        order_ids=record.order_ids,
        opened_at=min((fill.at for order in entries for fill in order.fills), default=None),
        closed_at=record.closed_at,
        entry_quantity=entered,
        entry_price=entry_value / entered if entered else None,
        exit_quantity=exited,
        exit_price=exit_value / exited if exited else None,
        fees=EXACT.add(entry_fees, exit_fees),
        pnl=_pnl(sign, (entered, entry_value, entry_fees), (exited, exit_value, exit_fees)),
        notes=record.notes,
        exit=record.exit,
        updated_seq=record.updated_seq,
    )


def _totals(orders: list[Order]) -> tuple[Decimal, Decimal, Decimal]:
    quantity = value = fees = ZERO
    for order in orders:
        quantity = EXACT.add(quantity, order.filled)
        value = EXACT.add(value, order.filled_value)
        fees = EXACT.add(fees, order.fees)
    return quantity, value, fees


def _pnl(sign: int, entry: tuple[Decimal, ...], exit_: tuple[Decimal, ...]) -> Decimal:
    """Net P&L of the quantity that was both entered and exited; each side gives its share of value and fees."""
    matched = min(entry[0], exit_[0])
    if not matched:
        return ZERO
    (entry_value, entry_fees), (exit_value, exit_fees) = (
        (value, fees) if quantity == matched else (value * matched / quantity, fees * matched / quantity)
        for quantity, value, fees in (entry, exit_)
    )
    return sign * (exit_value - entry_value) - entry_fees - exit_fees


def record_to_json(record: TradeRecord) -> list[Any]:
    """The record as a JSON list."""
    closed_at = None if record.closed_at is None else time_text(record.closed_at)
    return [
        record.trade_id, list(record.order_ids), record.notes, [list(record.created[0]), record.created[1]],
        closed_at, dict(record.exit), record.updated_seq,
    ]  # fmt: skip


def record_from_json(row: list[Any]) -> TradeRecord:
    """The record of `record_to_json`."""
    trade_id, orders, notes, created, closed_at, exit_, seq = row
    return TradeRecord(
        trade_id,
        tuple(orders),
        notes,
        (tuple(created[0]), created[1]),
        None if closed_at is None else parse_time(closed_at),
        exit_,
        seq,
    )
