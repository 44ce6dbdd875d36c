"""An order, folded from its events.

An order is what the set of its events says, whatever order they arrived in: a fill may be read before the
acknowledgement, a cancel before the last fill. So nothing here depends on what came before; the status follows from
which facts are there. Facts are only ever added, and each can only move the status forward (`lifecycle`), so a terminal
status never regresses. A fill that the broker takes back changes what was filled and never the status.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.book.lifecycle import (
    CLOSING,
    FILLED,
    INTENDED,
    OPEN,
    PARTIALLY_FILLED,
    SUBMITTED,
    TERMINAL,
    UNKNOWN,
    OrderStatus,
)
from ledger_pipeline.book.lifecycle import STATUSES as STATUSES
from ledger_pipeline.book.lifecycle import TRANSITIONS as TRANSITIONS
from ledger_pipeline.core.amounts import CENT, EXACT, GRAIN, ZERO
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import (
    Event,
    Execution,
    FillBusted,
    FillCorrected,
    OrderAcknowledged,
    OrderEnded,
    OrderIntended,
    OrderSubmitted,
    SubmitUnknown,
    event_to_json,
)
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.order_terms import HasTerms, OrderTerms

NOTIONAL_SLIPPAGE = Decimal("0.01")  # of an order in dollars: how far a market order may be filled away from its price


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of an order. quantity in shares and price and fee in currency, all Decimal; at: aware, UTC.

    cumulative: what the order had got with it, leaves: what it still wanted, where the broker said so. corrects: the
    fill_id that it stands in for.
    """

    fill_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    at: datetime
    cumulative: Decimal | None = None
    leaves: Decimal | None = None
    corrects: str | None = None


@dataclass(frozen=True, slots=True)
class Order(HasTerms):
    """An order as its events tell it, on the terms of its intent. Amounts are Decimal, times aware and in UTC, session
    an ISO date.

    order_id is the client_order_id. fills: those that stand, by cumulative, then id; busted: those that were taken back
    or corrected. filled, filled_value (at the price of each fill) and fees are sums over fills. final_quantity: what
    the broker says was filled in the end, None while the order is open. replaces, replaced_by: order ids. reason: why
    it was rejected, canceled, expired or replaced. submits and unknowns count the submits that were about to be made
    and those without a clear answer; gross is what was ever filled, whatever was taken back of it; closed and
    stated_quantity are what the closing event said. status and final_quantity follow from the rest.
    """

    order_id: str
    strategy: str
    terms: OrderTerms
    session: str
    attempt: int
    intended_at: datetime
    intended_seq: int
    replaces: str | None = None
    reasons: tuple[str, ...] = ()
    correlation_id: str | None = None
    deadline: datetime | None = None
    broker_order_id: str | None = None
    submits: int = 0
    unknowns: int = 0
    acknowledged: bool = False
    closed: OrderStatus | None = None
    stated_quantity: Decimal | None = None
    reason: str | None = None
    replaced_by: str | None = None
    fills: tuple[Fill, ...] = ()
    busted: tuple[Fill, ...] = ()
    updated_seq: int = 0
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    fees: Decimal = ZERO
    gross: Decimal = ZERO
    status: OrderStatus = field(init=False, default=INTENDED)
    final_quantity: Decimal | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        status = _status(self)
        object.__setattr__(self, "status", status)
        object.__setattr__(self, "final_quantity", _final(self, status))

    @property
    def is_open(self) -> bool:
        """Whether the status may still change."""
        return self.status not in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Whether it has ended and its fills add up to what the broker says was filled."""
        return self.final_quantity is not None and self.filled == self.final_quantity

    @property
    def remaining(self) -> Decimal:
        """What it still wants: shares, or cash for a notional order; zero once it has ended, never negative."""
        if not self.is_open:
            return ZERO
        if self.quantity is not None:
            return max(ZERO, EXACT.subtract(self.quantity, self.filled))
        return max(ZERO, EXACT.subtract(self.notional or ZERO, self.filled_value))

    @property
    def filled_price(self) -> Decimal | None:
        """The average price of what was filled, None when nothing was."""
        return self.filled_value / self.filled if self.filled else None

    @property
    def is_overfilled(self) -> bool:
        """Whether the broker filled more than was asked for. It is recorded, since it happened, and is a break."""
        return exceeds(self, self.filled, self.filled_value, max((fill.price for fill in self.fills), default=ZERO))


def exceeds(
    order: Order, filled: Decimal, value: Decimal, price: Decimal, slippage: Decimal = NOTIONAL_SLIPPAGE
) -> bool:
    """Whether these fills are more than the order asked for. The broker turns a notional order into shares at a price
    of its own and fills them at the market's, so its value may pass the amount by `slippage` of it; by a cent and by
    one grain of quantity at `price` as well, since quantities are rounded.
    """
    if order.quantity is not None:
        return filled > order.quantity
    asked = order.notional or ZERO
    most = EXACT.add(EXACT.fma(asked, slippage, asked), EXACT.fma(price, GRAIN, CENT))
    return value > most


def fold_order(events: Iterable[Event]) -> Order:
    """The order that a set of events of one order_id tells; their order and repetitions do not matter.

    IntegrityError when there is no ORDER_INTENDED among them.
    """
    known = {event.event_id or canonical_json(event_to_json(event)): event for event in events}
    ranked = sorted(known.values(), key=_rank)
    if not ranked or ranked[0].kind != "ORDER_INTENDED":
        raise IntegrityError("an order cannot be folded without its ORDER_INTENDED event.")
    order = intended(ranked[0])
    for event in ranked[1:]:
        order = advanced(order, event)
    return order


def _rank(event: Event) -> tuple[Any, ...]:
    """The intent first, a bust after what it takes back; the rest only so that equal sets are folded alike."""
    place = 0 if event.kind == "ORDER_INTENDED" else 2 if event.kind == "FILL_BUSTED" else 1
    return place, event.occurred_at, event.kind, event.seq, event.fill_id or ""


def intended(event: Event) -> Order:
    """The order that an ORDER_INTENDED event begins. IntegrityError when the event does not hold one."""
    details = event.payload
    if not isinstance(details, OrderIntended):
        raise IntegrityError(f"{event.kind} of order {event.order_id!r} begins no order.")
    try:
        return Order(
            order_id=_needed(event.order_id),
            strategy=_needed(event.strategy),
            terms=OrderTerms(
                _needed(event.symbol),
                _needed(event.side),
                event.quantity,
                details.notional,
                details.type,
                details.limit_price,
                details.time_in_force,
            ),
            session=_needed(details.session),
            attempt=details.attempt,
            intended_at=event.occurred_at,
            intended_seq=event.seq,
            replaces=details.replaces or None,
            reasons=event.reasons,
            correlation_id=event.correlation_id,
            deadline=details.deadline,
            updated_seq=event.seq,
        )
    except ValueError as error:
        raise IntegrityError(f"the intent of order {event.order_id!r} cannot be read: {error}.") from None


def _needed(value: str | None) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("order_id, strategy, symbol, side and session must all be there")
    return value


def intent_of(order: Order) -> tuple[Any, ...]:
    """What was intended, without when: equal for two records of the same intent."""
    return (
        order.order_id, order.strategy, order.terms, order.session, order.attempt, order.replaces, order.reasons,
        order.correlation_id, order.deadline,
    )  # fmt: skip


def advanced(order: Order, event: Event) -> Order:
    """The order with one more fact. Nothing is checked: that is `BookState.check`, before an event is written."""
    details = event.payload
    changes: dict[str, Any] = {"updated_seq": max(order.updated_seq, event.seq)}
    if event.broker_order_id:
        changes["broker_order_id"] = event.broker_order_id
    if isinstance(details, OrderSubmitted):
        changes["submits"] = order.submits + 1
    elif isinstance(details, SubmitUnknown):
        changes["unknowns"] = min(order.unknowns + 1, order.submits)
    elif isinstance(details, OrderAcknowledged):
        changes["acknowledged"] = True
    elif isinstance(details, OrderEnded):
        changes |= {
            "closed": CLOSING[event.kind],
            "stated_quantity": details.filled_quantity or ZERO,
            "reason": details.reason or None,
            "replaced_by": details.replaced_by or None,
        }
    elif isinstance(details, FillBusted):
        changes |= _without(order, details.fill)
    elif isinstance(details, Execution):
        changes |= _with(order, fill_of(event, details))
    return replace(order, **changes)


def fill_of(event: Event, details: Execution) -> Fill:
    """The fill that a FILLED or FILL_CORRECTED event states; `details` is its payload."""
    return Fill(
        fill_id=event.fill_id or event.event_id,
        quantity=event.quantity or ZERO,
        price=event.price or ZERO,
        fee=event.fee or ZERO,
        at=event.occurred_at,
        cumulative=details.cumulative,
        leaves=details.leaves,
        corrects=details.fill if isinstance(details, FillCorrected) else None,
    )


def _with(order: Order, fill: Fill) -> dict[str, Any]:
    fills = list(order.fills)
    insort(fills, fill, key=_place)
    every = (*fills, *order.busted)
    corrected = any(row.corrects for row in every)
    return {
        "fills": tuple(fills),
        "filled": EXACT.add(order.filled, fill.quantity),
        "filled_value": EXACT.fma(fill.quantity, fill.price, order.filled_value),
        "fees": EXACT.add(order.fees, fill.fee),
        "gross": gross_of(every) if corrected else EXACT.add(order.gross, fill.quantity),
    }


def _without(order: Order, fill_id: str | None) -> dict[str, Any]:
    taken = next((fill for fill in order.fills if fill.fill_id == fill_id), None)
    if taken is None:
        return {}
    busted = [*order.busted, taken]
    busted.sort(key=_place)
    return {
        "fills": tuple(fill for fill in order.fills if fill is not taken),
        "busted": tuple(busted),
        "filled": EXACT.subtract(order.filled, taken.quantity),
        "filled_value": EXACT.fma(EXACT.minus(taken.quantity), taken.price, order.filled_value),
        "fees": EXACT.subtract(order.fees, taken.fee),
    }


def _place(fill: Fill) -> tuple[Decimal, str]:
    return fill.cumulative or ZERO, fill.fill_id


def gross_of(fills: Iterable[Fill]) -> Decimal:
    """What was ever filled: of a fill and its corrections, the largest, so that it only grows with what is known."""
    rows = {fill.fill_id: fill for fill in fills}  # those that were taken back as well
    largest: dict[str, Decimal] = {}
    for fill in rows.values():
        root, seen = fill, {fill.fill_id}
        while root.corrects in rows and root.corrects not in seen:
            root = rows[root.corrects]
            seen.add(root.fill_id)
        name = root.corrects or root.fill_id
        largest[name] = max(largest.get(name, ZERO), fill.quantity)
    total = ZERO
    for quantity in largest.values():
        total = EXACT.add(total, quantity)
    return total


def _final(order: Order, status: OrderStatus) -> Decimal | None:
    """What was filled in the end. The broker's word for it may be from before or after it took a fill back."""
    if status == FILLED:
        return order.filled
    if status != order.closed:
        return None
    return order.filled if order.stated_quantity == _as_first_told(order) else order.stated_quantity


def _as_first_told(order: Order) -> Decimal:
    total = ZERO
    for fill in (*order.fills, *order.busted):
        if not fill.corrects:
            total = EXACT.add(total, fill.quantity)
    return total


def _status(order: Order) -> OrderStatus:
    if order.closed:
        return order.closed
    if order.gross:
        return FILLED if _is_full(order) else PARTIALLY_FILLED
    if order.acknowledged:
        return OPEN
    if order.submits:
        return UNKNOWN if order.unknowns >= order.submits else SUBMITTED
    return INTENDED


def _is_full(order: Order) -> bool:
    """Whether all of it was filled: a fill says that none is left and those before it are here, or, where fills do not
    say how far the order had come, they add up to what was asked for.
    """
    untold = False
    for fill in (*order.busted, *order.fills):
        if fill.leaves is None or fill.cumulative is None:
            untold = True
        if fill.leaves is not None and not fill.leaves:
            if order.gross >= fill.cumulative if fill.cumulative is not None else order.quantity is None:
                return True
    return untold and order.quantity is not None and order.gross >= order.quantity
