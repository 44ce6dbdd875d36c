"""A book and the fake broker of its account, and orders put through both by hand, without the executor."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.core.times import time_text
from ledger_pipeline.trading.broker import Accepted, OrderRequest, Refused
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline_tests.events import event_of
from ledger_pipeline_tests.trading.fake import FakeBroker
from ledger_pipeline_tests.trading.requests import order_request

SESSION = "2026-01-05"


def opened_book(path: Path, broker: FakeBroker, *, name: str = "main") -> Book:
    """The book in `path`, bound to the broker's account."""
    return open_book(str(path / name), account=broker.account_id, environment=broker.environment)


def adopted_book(path: Path, broker: FakeBroker) -> Book:
    """A new book that holds what the broker's account holds."""
    book = opened_book(path, broker)
    adopt(book, broker, by="Ann", reason="start")
    return book


def intend(
    book: Book,
    broker: FakeBroker,
    symbol: str = "VTI",
    side: str = "BUY",
    quantity: str | None = None,
    *,
    notional: str | None = None,
    strategy: str = "core",
    attempt: int = 1,
    deadline: float | None = None,
) -> str:
    """A durable intent; its order id. `deadline` is in seconds from now."""
    order_id = f"main.{strategy}.{SESSION}.{symbol}.{side}.{attempt}"
    payload = {"type": "market", "time_in_force": "day", "session": SESSION, "attempt": attempt}
    if notional is not None:
        payload["notional"] = notional
    if deadline is not None:
        payload["deadline"] = time_text(broker.now + timedelta(seconds=deadline))
    book.append(
        [
            event_of(
                kind="ORDER_INTENDED",
                occurred_at=broker.now,
                strategy=strategy,
                symbol=symbol,
                side=side,
                quantity=Decimal(quantity) if quantity is not None else None,
                order_id=order_id,
                reasons=("UNDERWEIGHT",),
                correlation_id="plan-1",
                payload=payload,
            )
        ]
    )
    return order_id


def noted(book: Book, broker: FakeBroker, kind: str, order_id: str, **fields: object) -> None:
    """An event of one order."""
    order = book.state.orders[order_id]
    book.append(
        [
            event_of(
                kind=kind,
                occurred_at=broker.now,
                order_id=order_id,
                strategy=order.strategy,
                symbol=order.symbol,
                **fields,
            )
        ]
    )


def request_of(book: Book, order_id: str) -> OrderRequest:
    """What is sent for an intent."""
    order = book.state.orders[order_id]
    return order_request(order_id, order.symbol, order.side, quantity=order.quantity, notional=order.notional)


def send(book: Book, broker: FakeBroker, order_id: str) -> None:
    """Submit an intent and record the answer, as the executor does."""
    noted(book, broker, "ORDER_SUBMITTED", order_id)
    answer = broker.submit(request_of(book, order_id))
    if isinstance(answer, Accepted):
        noted(book, broker, "ORDER_ACKNOWLEDGED", order_id, broker_order_id=answer.order.id)
    elif isinstance(answer, Refused):
        noted(book, broker, "ORDER_REJECTED", order_id, payload={"filled_quantity": "0", "reason": answer.reason})
    else:
        noted(book, broker, "SUBMIT_UNKNOWN", order_id, payload={"why": answer.why})


def sent(book: Book, broker: FakeBroker, symbol: str = "VTI", side: str = "BUY", quantity: str = "2", **more) -> str:
    """Intend and submit; the order id."""
    order_id = intend(book, broker, symbol, side, quantity if "notional" not in more else None, **more)
    send(book, broker, order_id)
    return order_id
