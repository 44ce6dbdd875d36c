"""One order from its durable intent to a broker's clear answer.

ORDER_SUBMITTED is written before the POST, so an order that the book still holds as INTENDED was never sent. Whatever
is not a clear answer is SUBMIT_UNKNOWN and is settled by looking the client_order_id up: found, it is taken in after
its terms were compared with the intent; explicitly absent several times in a row, spaced, the same id may be sent
again within the session and before its deadline, since the broker takes an id once; absent after the session has
closed, it has expired. Nothing is concluded from an answer that could not be read.

Every function here reads where it is from the book and may be called again after a crash at any point of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ledger_pipeline.book.drafts import order_event
from ledger_pipeline.core.amounts import ZERO
from ledger_pipeline.core.errors import BrokerError, InputError
from ledger_pipeline.core.events import (
    Blocked,
    Deciding,
    Event,
    OrderExpired,
    OrderRejected,
    OrderSubmitted,
    SubmitUnknown,
)
from ledger_pipeline.trading.broker import Accepted, Broker, BrokerOrder, Refused, SubmitOutcome, Unknown
from ledger_pipeline.trading.crash import crash_point
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.orders.legs import request_of
from ledger_pipeline.trading.orders.pretrade import Moment, PreTradeChecks, codes
from ledger_pipeline.trading.reconciliation.ingest import take_in
from ledger_pipeline.trading.reconciliation.readings import News
from ledger_pipeline.trading.session_hours import GRACE

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState


MISMATCH = ("ORDER_MISMATCH: the broker has an order of this id on other terms",)
FRESH = 1.0  # seconds that a reading of clock and account serves several orders


def utc_now() -> datetime:
    """This machine's time, UTC."""
    return datetime.now(UTC)


@dataclass
class Sender:
    """What the work on the orders of one session shares: the book, the broker, the checks, the clocks, and for this
    process only the look-ups made so far and the orders that are blocked, with their reasons.
    """

    book: Book
    broker: Broker
    checks: PreTradeChecks
    pace: Pace = Pace()
    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    absent: dict[str, list[float]] = field(default_factory=dict)
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _seen: tuple[int, float, Moment] | None = None

    @property
    def state(self) -> BookState:
        """The book's state as last read."""
        return self.book.state

    def order(self, order_id: str) -> Order:
        """The order as the book has it now."""
        return self.book.state.orders[order_id]

    def look(self) -> Moment:
        """The broker's clock and account, read after the book: again whenever the book has changed or time has passed.
        BrokerError when they cannot be read.
        """
        seq, at = self.state.seq, self.monotonic()
        if self._seen is None or self._seen[0] != seq or at - self._seen[1] > FRESH:
            self._seen = (seq, at, self.checks.look())
        return self._seen[2]

    def is_stuck(self, order: Order) -> bool:
        """Whether this process can do nothing more for an order: never sent and blocked, or on other terms."""
        reasons = self.blocked.get(order.order_id)
        return reasons is not None and (order.status == "INTENDED" or reasons == MISMATCH)

    def block(self, order: Order, reasons: tuple[str, ...]) -> None:
        """Record why an order is not sent, unless that is what the book says of it last."""
        if order.order_id not in self.blocked:
            append_once(self.book, no_trade(Blocked, self.now(), reasons, order=order))
        self.blocked[order.order_id] = reasons


def no_trade(
    kind: type[Deciding],
    at: datetime,
    reasons: tuple[str, ...],
    *,
    decision: str | None = None,
    order: Order | None = None,
) -> Event:
    """The event that says why nothing is traded: Blocked or NoAction, for one order or a whole decision."""
    return Event(
        payload=kind(why=reasons),
        occurred_at=at,
        strategy=order.strategy if order else None,
        symbol=order.symbol if order else None,
        order_id=order.order_id if order else None,
        correlation_id=order.correlation_id if order else decision,
        reasons=codes(reasons),
    )


def append_once(book: Book, event: Event) -> None:
    """Append an event that says why nothing is traded, unless the last one of the same order or decision says the same
    for the same reasons.
    """

    def decide(_: BookState) -> list[Event]:
        last = None
        for known in book.events(kinds=("BLOCKED", "NO_ACTION", "DECIDED")):
            if (known.order_id, known.correlation_id) == (event.order_id, event.correlation_id):
                last = known
        return [] if last is not None and (last.kind, last.reasons) == (event.kind, event.reasons) else [event]

    book.append(decide)


def send(sender: Sender, order: Order) -> None:
    """Submit an order that is INTENDED or UNKNOWN, once, and record the answer. They have been passed just now.

    Nothing is sent when another process has moved the order on, or the kill switch was set or a break opened since.
    """
    asked = sender.monotonic()
    from_status = order.status

    def decide(state: BookState) -> list[Event]:
        current = state.orders[order.order_id]
        if current.status != from_status or current.broker_order_id or sender.checks.stopped(state, current):
            return []
        return [order_event(OrderSubmitted(), current, sender.now())]

    if not sender.book.append(decide):
        return
    crash_point("before_submit")
    outcome = _post(sender, order, asked)
    crash_point("after_submit")
    crash_point("before_ack")
    record(sender, order, outcome)
    crash_point("after_ack")


def _post(sender: Sender, order: Order, asked: float) -> SubmitOutcome:
    """The one POST; not made when the checks are too long ago or the kill switch has been set meanwhile."""
    halted = sender.checks.halted(sender.state, order)
    if halted:
        return Unknown(f"it was not sent: {halted[0]}")
    if sender.monotonic() - asked > sender.pace.submit_within:
        return Unknown("it was not sent: writing the book took too long since the checks were passed")
    try:
        return sender.broker.submit(request_of(order))
    except InputError as error:
        return Refused(0, None, str(error))
    except BrokerError as error:
        return Unknown(str(error))


def record(sender: Sender, order: Order, outcome: SubmitOutcome) -> None:
    """Append what a submit came to. A refusal is believed when the broker has no such order: an answer may be wrong, or
    about one of several times that the id was sent. BrokerError when that cannot be read, and the order stays without
    an answer.
    """
    if isinstance(outcome, Accepted):
        take_in_order(sender, order, outcome.order)
        return
    if isinstance(outcome, Unknown):
        unknown = order_event(SubmitUnknown(why=outcome.why), order, sender.now())
        sender.book.append(lambda state: [unknown] if state.orders[order.order_id].status == "SUBMITTED" else [])
        return
    sender.book.refresh()
    at_broker = sender.broker.order_by_client_id(order.order_id)
    if at_broker is not None:
        take_in_order(sender, order, at_broker)
        return
    refusal = OrderRejected(filled_quantity=ZERO, reason=outcome.reason, status=outcome.status, code=outcome.code)
    rejected = order_event(refusal, order, sender.now())
    sender.book.append(lambda state: [rejected] if _is_unanswered(state.orders[order.order_id]) else [])


def _is_unanswered(order: Order) -> bool:
    return order.is_open and order.broker_order_id is None


def take_in_order(sender: Sender, order: Order, at_broker: BrokerOrder) -> None:
    """Acknowledge the broker's order for an intent. One on other terms than intended opens a break that halts the
    account, and the order stays as it is.
    """
    sender.absent.pop(order.order_id, None)
    take_in(sender.book, News({order.order_id: at_broker}, (), {}, sender.now()))
    current = sender.order(order.order_id)
    if _is_unanswered(current):
        sender.block(current, MISMATCH)


def settle(sender: Sender, order: Order, allowed: Callable[[Order], bool]) -> None:
    """Find out what became of a submit without a clear answer. `allowed` asks checks and guards whether the same id may
    be sent again. BrokerError when the broker cannot be read: nothing is concluded.
    """
    seen = sender.absent.setdefault(order.order_id, [])
    if seen and sender.monotonic() - seen[-1] < sender.pace.lookup_every:
        return
    clock = sender.broker.clock()  # before the look-up: an answer read after the close is final
    at_broker = sender.broker.order_by_client_id(order.order_id)
    if at_broker is not None:
        take_in_order(sender, order, at_broker)
        return
    seen.append(sender.monotonic())
    if sender.checks.hours.is_over(clock.now - GRACE):
        expire(sender, order, "SESSION_OVER: it never reached the broker before the session closed")
        return
    if order.status == "SUBMITTED":
        record(sender, order, Unknown("the process that sent it left no answer"))
    if len(seen) < sender.pace.lookups:
        return
    if allowed(sender.order(order.order_id)):
        del sender.absent[order.order_id]
        send(sender, sender.order(order.order_id))


def give_up(sender: Sender, order: Order, why: str) -> None:
    """End an order that was never sent, unless the broker has it all the same. BrokerError when that cannot be read."""
    at_broker = sender.broker.order_by_client_id(order.order_id)
    if at_broker is not None:
        take_in_order(sender, order, at_broker)
    else:
        expire(sender, order, why)


def expire(sender: Sender, order: Order, why: str) -> None:
    """End an order that is not at the broker."""
    event = order_event(OrderExpired(filled_quantity=ZERO, reason=why), order, sender.now())
    sender.book.append(lambda state: [event] if _is_unanswered(state.orders[order.order_id]) else [])
    sender.absent.pop(order.order_id, None)
