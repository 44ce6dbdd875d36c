"""The book's record against a stable reading of the broker: pure functions from both to breaks.

Each row of the table "what the book says, what the broker says" is one branch here. Nothing is adjusted: a difference
is a break, and what is no difference (an order still on its way, half a cent of rounding) is said to be none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from ledger_pipeline.core.amounts import CENT, GRAIN, HALF_CENT, ZERO, exponent
from ledger_pipeline.core.events import Event, Reconciled, payload_as
from ledger_pipeline.trading.broker import UNRECOGNIZED, BrokerOrder
from ledger_pipeline.trading.reconciliation.breaks import Break, recorded_once, shown
from ledger_pipeline.trading.reconciliation.ingest import order_facts
from ledger_pipeline.trading.reconciliation.readings import Reading

if TYPE_CHECKING:
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

CASH_CAP = Decimal("0.50")  # whatever the number of fills, cash may not be off by more
_PRICE_GRAIN = Decimal("1e-9")  # relative, of an order's average price
_OURS = re.compile(r"[a-z0-9_-]{1,12}\.\d{8}\.[A-Za-z0-9.-]{1,6}\.[BS]\d{1,3}\.[0-9a-f]{12}")  # legs.client_order_id


@dataclass(frozen=True)
class Cash:
    """Cash of both sides. tolerance is for what came since the last clean reconciliation: half a cent for each of
    `fills`, in whole cents; `accepted` is the difference that one left behind. Decimal, account currency.
    """

    book: Decimal
    broker: Decimal
    fills: int
    accepted: Decimal

    @property
    def difference(self) -> Decimal:
        """Broker less book."""
        return self.broker - self.book

    @property
    def tolerance(self) -> Decimal:
        """How far cash may have moved away since the last clean reconciliation."""
        return min((self.fills * HALF_CENT).quantize(CENT, rounding=ROUND_CEILING), CASH_CAP)

    @property
    def explained(self) -> bool:
        """Whether rounding explains the difference."""
        low, high = min(ZERO, self.accepted) - self.tolerance, max(ZERO, self.accepted) + self.tolerance
        return low <= self.difference <= high and abs(self.difference) <= CASH_CAP


def cash_of(state: BookState, reading: Reading | None) -> Cash:
    """Cash of both sides, with what earlier reconciliations said about it; without a reading, the book's for both."""
    before = payload_as(state.last_reconciled, Reconciled).cash if state.last_reconciled else None
    carried, accepted = (before.fills_since_clean, before.accepted) if before else (0, ZERO)
    broker = reading.account.cash if reading else state.cash
    return Cash(state.cash, broker, carried + state.fills_since_reconciled, accepted)


def compare(state: BookState, reading: Reading) -> tuple[Break, ...]:
    """All differences that can be compared again: account, orders, positions, cash."""
    return (
        *_account(reading),
        *_orders(state, reading),
        *_positions(state, reading),
        *_cash(cash_of(state, reading)),
    )


def lasting(state: BookState, reading: Reading) -> Iterable[tuple[Event, Event]]:
    """Orders that should not exist, each once: a fact of its own until a person answers it."""
    for at_broker in reading.listed:
        order = state.orders.get(at_broker.client_order_id)
        key = f"order:{at_broker.id}"
        if key in state.activity_ids or (order and order.broker_order_id == at_broker.id):
            continue
        what = _should_not_exist(state, order, at_broker)
        if what:
            at = at_broker.submitted_at or reading.news.read_at
            yield recorded_once(what, key, at, order_facts(at_broker))


def _should_not_exist(state: BookState, order: Order | None, at_broker: BrokerOrder) -> Break | None:
    words = f"{at_broker.side} {at_broker.symbol}, {at_broker.status}, filled {shown(at_broker.filled_quantity)}"
    if order is None:
        ours = _OURS.fullmatch(at_broker.client_order_id) is not None
        return Break(
            "order_without_intent" if ours else "foreign",
            at_broker.client_order_id if ours else at_broker.id,
            book="no such order",
            broker=words,
            symbol=at_broker.symbol,
        )
    if order.is_open or order.broker_order_id:
        return None
    return Break(
        "order_revived", order.order_id, book=f"{order.status}, never taken", broker=words, symbol=order.symbol
    )


def _account(reading: Reading) -> Iterable[Break]:
    if reading.account.blocked:
        yield Break("account_blocked", "", book="it may trade", broker=", ".join(reading.account.blocked))


def _orders(state: BookState, reading: Reading) -> Iterable[Break]:
    found_by_id = {at_broker.client_order_id: at_broker for at_broker in reading.listed}
    found_by_id |= {name: at_broker for name, at_broker in reading.news.orders.items() if at_broker}
    for order_id, at_broker in reading.news.orders.items():
        order = state.orders[order_id]
        if at_broker is None and order.is_open and order.broker_order_id:
            yield Break("order_lost", order_id, book=order.status, broker="no such order", symbol=order.symbol)
    for order_id, at_broker in sorted(found_by_id.items()):
        known = state.orders.get(order_id)
        if known is not None and known.broker_order_id == at_broker.id:
            yield from _order(known, at_broker)


def _order(order: Order, at_broker: BrokerOrder) -> Iterable[Break]:
    """One order that both know."""
    if at_broker.status == UNRECOGNIZED:
        word = str(at_broker.raw.get("status", "nothing"))[:40]
        scope = f"symbol:{order.symbol}"
        yield Break(
            "order_unrecognized", order.order_id, book=order.status, broker=word, scope=scope, symbol=order.symbol
        )
    elif not order.is_open and not at_broker.is_final:
        yield Break("order_alive", order.order_id, book=order.status, broker=at_broker.status, symbol=order.symbol)
    unsettled = at_broker.is_final and order.is_open and order.filled == at_broker.filled_quantity
    if order.filled != at_broker.filled_quantity or unsettled or not _same_price(order, at_broker):
        yield Break(
            "order_fills",
            order.order_id,
            book=f"{order.status}, filled {_filled(order.filled, order.filled_price)}",
            broker=f"{at_broker.status}, filled {_filled(at_broker.filled_quantity, at_broker.filled_price)}",
            symbol=order.symbol,
            difference=shown(at_broker.filled_quantity - order.filled),
        )


def _filled(quantity: Decimal, price: Decimal | None) -> str:
    return f"{shown(quantity)} at {shown(price)}" if quantity else "nothing"


def _same_price(order: Order, at_broker: BrokerOrder) -> bool:
    """Whether the average prices are the same to one in a thousand million, or to the last digit the broker gives."""
    average = order.filled_price
    if average is None or at_broker.filled_price is None or order.filled != at_broker.filled_quantity:
        return True
    last_digit = Decimal(1).scaleb(exponent(at_broker.filled_price))
    return abs(average - at_broker.filled_price) <= max(average * _PRICE_GRAIN, last_digit / 2)


def positions_of(state: BookState, reading: Reading) -> dict[str, tuple[Decimal, Decimal]]:
    """(book, broker) quantity of every symbol that either holds, at nine decimals."""
    book: dict[str, Decimal] = {}
    for (_, symbol), quantity in state.positions.items():
        book[symbol] = book.get(symbol, ZERO) + quantity
    broker = {item.symbol: item.quantity for item in reading.positions}
    pairs = {
        symbol: (book.get(symbol, ZERO).quantize(GRAIN), broker.get(symbol, ZERO).quantize(GRAIN))
        for symbol in sorted(book.keys() | broker.keys())
    }
    return {symbol: pair for symbol, pair in pairs.items() if any(pair)}


def _positions(state: BookState, reading: Reading) -> Iterable[Break]:
    for symbol, (book, broker) in positions_of(state, reading).items():
        if book == broker:
            continue
        split = f"split:{symbol}" in state.breaks
        yield Break(
            "split" if split else "position",
            symbol,
            book=shown(book),
            broker=shown(broker),
            difference=shown(broker - book),
            scope=f"symbol:{symbol}" if split else "account",
            symbol=symbol,
        )


def _cash(cash: Cash) -> Iterable[Break]:
    if not cash.explained:
        yield Break(
            "cash",
            "",
            book=shown(cash.book),
            broker=shown(cash.broker),
            difference=f"{shown(cash.difference)}, tolerance {shown(cash.tolerance)}",
        )
