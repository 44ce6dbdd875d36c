"""The state of a book: what all its events together say.

`apply` takes in the next event, `check` refuses one that must not come next; both cost the same however long the book
is. Positions change by the one rule of the event schema, cash by cash_delta. What an open position cost is kept at
average cost: a buy adds its price and fee, a sell takes out its share, a fill that is taken back takes out what it had
put in. (Lots, FIFO, are a fold of their own over the same events: `lots.fold_lots`.)

`to_json` is what a checkpoint holds. It is canonical: equal states give equal JSON.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.book.checks import check_event
from ledger_pipeline.book.order_rows import Ids, Orders, order_from_row
from ledger_pipeline.book.orders import Order, advanced, intended
from ledger_pipeline.book.trades import (
    Trade,
    TradeRecord,
    advanced_trade,
    record_from_json,
    record_to_json,
    trade_of,
)
from ledger_pipeline.core.amounts import EXACT, ZERO, decimal_text, signed
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import (
    POSITION_KINDS,
    Activity,
    BreakClosed,
    BreakOpened,
    Decided,
    Event,
    Execution,
    Halted,
    Opened,
    OrderAcknowledged,
    OrderEnded,
    OrderIntended,
    OrderSubmitted,
    Overridden,
    Reconciled,
    Resumed,
    SubmitUnknown,
    TradeChange,
    Unrecognized,
    event_from_json,
    event_to_json,
    payload_as,
)
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.times import parse_time, time_text

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Holding:
    """One open position: quantity in shares (negative when short), what it cost with fees, and that per share."""

    symbol: str
    strategy: str
    quantity: Decimal
    average_cost: Decimal
    cost_basis: Decimal


class BookState:
    """The fold over the events of one book. Equal by value; changed by `apply` only.

    book, account_id, environment; seq: of the last event, 0 when there is none. cash: Decimal. positions: quantity by
    (strategy, symbol), those that are not zero; costs: their cost basis. orders: all, by order_id. fill_ids and
    activity_ids: what was taken in. halts: by scope, the event that set it. breaks: the open ones by break_id.
    last_reconciled: the last RECONCILED event. watermark: the time of the latest activity that was taken in.
    fills_since_reconciled: fills, corrections and busts since then. overridden_seq: of the last OVERRIDDEN, else 0.
    """

    def __init__(self, book: str = "") -> None:
        self.book = book
        self.account_id: str | None = None
        self.environment: str | None = None
        self.seq = 0
        self.cash = ZERO
        self.positions: dict[tuple[str, str], Decimal] = {}
        self.costs: dict[tuple[str, str], Decimal] = {}
        self.orders = Orders()
        self.fill_ids = Ids()
        self.activity_ids = Ids()
        self.trade_records: MutableMapping[str, TradeRecord] = {}
        self.trade_ids: MutableMapping[str, str] = {}  # by order_id
        self.halts: dict[str, Event] = {}
        self.breaks: dict[str, Event] = {}
        self.last_reconciled: Event | None = None
        self.watermark: datetime | None = None
        self.fills_since_reconciled = 0
        self.overridden_seq = 0

    def check(self, event: Event) -> None:
        """Raise RefusedError, naming what it is about, when `event` must not be the next one in this book."""
        check_event(self, event)

    def apply(self, event: Event) -> None:
        """Take in one event. It is not checked: what is in the log happened."""
        self.seq = max(self.seq, event.seq)
        if event.cash_delta is not None:
            self.cash = EXACT.add(self.cash, event.cash_delta)
        if event.kind in POSITION_KINDS and event.quantity is not None and event.symbol is not None:
            self._move(event)
        match event.payload:
            case (
                OrderIntended() | OrderSubmitted() | OrderAcknowledged() | SubmitUnknown() | OrderEnded() | Execution()
            ):
                self._apply_order(event)
            case Activity(activity_id=name) | Unrecognized(activity_id=name):
                self._take_in(event, name)
            case Decided(trade=TradeChange() as change):
                self._apply_trade(event, change)
            case Opened() as opening:
                self._open(opening)
            case Halted(scope=scope):
                self.halts[scope] = event
            case Resumed(scope=scope):
                self.halts.pop(scope, None)
            case BreakOpened(break_id=name):
                self.breaks[name] = event
            case BreakClosed(break_id=name):
                self.breaks.pop(name, None)
            case Reconciled():
                self.last_reconciled = event
                self.fills_since_reconciled = 0
            case Overridden():
                self.overridden_seq = max(self.overridden_seq, event.seq)

    def open_orders(self) -> tuple[Order, ...]:
        """The orders whose status may still change, in the order of their intents."""
        return tuple(order for order in self.orders.unsettled() if order.is_open)

    def unsettled_orders(self) -> tuple[Order, ...]:
        """The open orders, and those that have ended and whose fills do not yet add up."""
        return tuple(self.orders.unsettled())

    def order_by_broker_id(self, broker_order_id: str) -> Order | None:
        """The order that the broker knows by this id, None when the book has none."""
        return self.orders.with_broker_id(broker_order_id)

    def position(self, symbol: str) -> Decimal:
        """Shares of a symbol over all strategies."""
        total = ZERO
        for (_, held), quantity in self.positions.items():
            if held == symbol:
                total = EXACT.add(total, quantity)
        return total

    def holdings(self) -> tuple[Holding, ...]:
        """The open positions, by symbol and strategy."""
        rows = sorted((symbol, strategy) for strategy, symbol in self.positions)
        return tuple(self._holding(strategy, symbol) for symbol, strategy in rows)

    @property
    def trades(self) -> dict[str, Trade]:
        """All trades by trade_id, with what follows from their fills."""
        return {name: trade_of(record, self.orders) for name, record in self.trade_records.items()}

    def trade(self, trade_id: str) -> Trade | None:
        """One trade, None when the book has none of that id."""
        record = self.trade_records.get(trade_id)
        return None if record is None else trade_of(record, self.orders)

    def trial(self) -> BookState:
        """A state that starts as this one and can be changed without changing this one, while this one stays as it is.

        It costs the same however many orders there are.
        """
        copy = BookState(self.book)
        vars(copy).update(
            vars(self),
            positions=dict(self.positions),
            costs=dict(self.costs),
            orders=Orders(beneath=self.orders),
            fill_ids=Ids(beneath=self.fill_ids),
            activity_ids=Ids(beneath=self.activity_ids),
            trade_records=ChainMap({}, self.trade_records),
            trade_ids=ChainMap({}, self.trade_ids),
            halts=dict(self.halts),
            breaks=dict(self.breaks),
        )
        return copy

    def to_json(self) -> dict[str, Any]:
        """The state as JSON: amounts as decimal strings, a settled order as one line."""
        live, settled = self.orders.lines()
        return {
            "version": _VERSION,
            "book": self.book,
            "account_id": self.account_id,
            "environment": self.environment,
            "seq": self.seq,
            "cash": decimal_text(self.cash),
            "positions": [
                [*key, decimal_text(quantity), decimal_text(self.costs[key])]
                for key, quantity in sorted(self.positions.items())
            ],
            "live": live,
            "settled": settled,
            "fill_ids": sorted(self.fill_ids),
            "activity_ids": sorted(self.activity_ids),
            "trades": [record_to_json(record) for _, record in sorted(self.trade_records.items())],
            "halts": [event_to_json(event) for _, event in sorted(self.halts.items())],
            "breaks": [event_to_json(event) for _, event in sorted(self.breaks.items())],
            "last_reconciled": None if self.last_reconciled is None else event_to_json(self.last_reconciled),
            "watermark": None if self.watermark is None else time_text(self.watermark),
            "fills_since_reconciled": self.fills_since_reconciled,
            "overridden_seq": self.overridden_seq,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BookState:
        """The state of `to_json`; IntegrityError when it is none."""
        if data.get("version") != _VERSION:
            raise IntegrityError(
                f"a stored state is of version {data.get('version')!r}, not {_VERSION}: delete the checkpoints."
            )
        try:
            return cls._read(data)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise IntegrityError(f"a stored state cannot be read ({error!r}): delete the checkpoints.") from None

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> BookState:
        state = cls(data["book"])
        state.account_id, state.environment = data["account_id"], data["environment"]
        state.seq, state.cash = data["seq"], Decimal(data["cash"])
        for strategy, symbol, quantity, cost in data["positions"]:
            state.positions[strategy, symbol] = Decimal(quantity)
            state.costs[strategy, symbol] = Decimal(cost)
        state.orders = Orders(data["settled"])
        for row in data["live"]:
            state.orders.put(order_from_row(row))
        state.fill_ids, state.activity_ids = Ids(data["fill_ids"]), Ids(data["activity_ids"])
        for row in data["trades"]:
            record = record_from_json(row)
            state.trade_records[record.trade_id] = record
            state.trade_ids.update(dict.fromkeys(record.order_ids, record.trade_id))
        for row in data["halts"]:
            event = event_from_json(row)
            state.halts[payload_as(event, Halted).scope] = event
        for row in data["breaks"]:
            event = event_from_json(row)
            state.breaks[payload_as(event, BreakOpened).break_id] = event
        last, watermark = data["last_reconciled"], data["watermark"]
        state.last_reconciled = None if last is None else event_from_json(last)
        state.watermark = None if watermark is None else parse_time(watermark)
        state.fills_since_reconciled = data["fills_since_reconciled"]
        state.overridden_seq = data["overridden_seq"]
        return state

    def digest(self) -> str:
        """SHA-256 (hex) of the state as JSON."""
        return hash_json(self.to_json())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookState):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"BookState(book={self.book!r}, seq={self.seq}, cash={self.cash}, orders={len(self.orders)})"

    def _apply_order(self, event: Event) -> None:
        if isinstance(event.payload, OrderIntended):
            self.orders.put(intended(event))
            return
        order = self.orders.get(event.order_id)
        if order is None:
            raise IntegrityError(f"event {event.seq}: {event.kind} is about order {event.order_id!r}, never intended.")
        self.orders.put(advanced(order, event))
        if isinstance(event.payload, Execution):
            self.fills_since_reconciled += 1
            self._seen_until(event.occurred_at)
            if event.fill_id:
                self.fill_ids.add(event.fill_id)

    def _take_in(self, event: Event, name: str | None) -> None:
        if not name:
            return
        self.activity_ids.add(name)
        if not name.startswith("order:"):  # a finding about an order, which is no activity and may be dated after one
            self._seen_until(event.occurred_at)

    def _open(self, opening: Opened) -> None:
        if opening.account_id:
            self.account_id, self.environment = opening.account_id, opening.environment
        for name in opening.activity_ids or ():
            self.activity_ids.add(name)
        if opening.as_of:
            self._seen_until(opening.as_of)

    def _seen_until(self, moment: datetime) -> None:
        if self.watermark is None or moment > self.watermark:
            self.watermark = moment

    def _apply_trade(self, event: Event, change: TradeChange) -> None:
        record = advanced_trade(self.trade_records.get(change.trade_id), change, event)
        self.trade_records[record.trade_id] = record
        for name in record.order_ids:
            self.trade_ids[name] = record.trade_id

    def _move(self, event: Event) -> None:
        key = (event.strategy or "", event.symbol or "")
        held, cost = self.positions.get(key, ZERO), self.costs.get(key, ZERO)
        change = signed(event.side, event.quantity or ZERO)
        quantity = EXACT.add(held, change)
        if not quantity:
            self.positions.pop(key, None)
            self.costs.pop(key, None)
            return
        self.positions[key] = quantity
        self.costs[key] = _cost_after(event, held, cost, change)

    def _holding(self, strategy: str, symbol: str) -> Holding:
        quantity, cost = self.positions[strategy, symbol], self.costs[strategy, symbol]
        return Holding(symbol, strategy, quantity, cost / quantity, cost)


def _cost_after(event: Event, held: Decimal, cost: Decimal, change: Decimal) -> Decimal:
    """The cost basis of a position after `change`, which does not make it zero; negative for a short position."""
    if event.kind == "SPLIT" or event.price is None:  # another number of shares for the same money
        return cost
    paid = EXACT.fma(change, event.price, event.fee or ZERO)
    left = EXACT.add(held, change)
    crossed = held and (held > 0) != (left > 0)
    if event.kind == "FILL_BUSTED" and not crossed:
        return EXACT.add(cost, paid)  # what the fill had put in, with the sign turned round
    if not held or (held > 0) == (change > 0):
        return EXACT.add(cost, paid)
    if crossed:  # what is left was opened by this event
        return left * event.price + (event.fee or ZERO) * abs(left) / abs(change)
    return cost * left / held
