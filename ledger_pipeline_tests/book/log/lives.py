"""A book's life in events: orders that are intended, sent, acknowledged and filled, and cash that comes in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ledger_pipeline.core.events import Event
from ledger_pipeline_tests.events import event_of

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
SYMBOLS = ("VTI", "VXUS", "BND", "QQQ")


def order_events(number: int) -> list[Event]:
    """Four events of order `number`: 1.5 shares bought at 100.25 plus a fee of 0.01."""
    at = START + timedelta(minutes=number)
    symbol = SYMBOLS[number % len(SYMBOLS)]
    order = {"order_id": f"dca-{number}", "strategy": "dca", "symbol": symbol, "side": "BUY"}
    quantity, price, fee = Decimal("1.5"), Decimal("100.25"), Decimal("0.01")
    return [
        event_of(
            kind="ORDER_INTENDED",
            occurred_at=at,
            quantity=quantity,
            reasons=("UNDERWEIGHT",),
            payload={"type": "market", "time_in_force": "day", "session": "2026-01-05", "attempt": 1},
            **order,
        ),
        event_of(kind="ORDER_SUBMITTED", occurred_at=at, **order),
        event_of(kind="ORDER_ACKNOWLEDGED", occurred_at=at, broker_order_id=f"broker-{number}", **order),
        event_of(
            kind="FILLED",
            occurred_at=at,
            quantity=quantity,
            price=price,
            fee=fee,
            cash_delta=-(quantity * price + fee),
            fill_id=f"fill-{number}",
            broker_order_id=f"broker-{number}",
            payload={"cumulative": "1.5", "leaves": "0", "source": "broker"},
            **order,
        ),
    ]


def life(orders: int) -> Iterator[Event]:
    """The events of `orders` orders, one order after the other, and a deposit before."""
    yield event_of(
        kind="DEPOSITED", occurred_at=START, cash_delta=Decimal(200) * orders, payload={"activity_id": "opening"}
    )
    for number in range(orders):
        yield from order_events(number)
