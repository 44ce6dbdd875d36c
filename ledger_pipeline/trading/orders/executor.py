"""Legs become intents, intents orders, orders fills; each exactly once, whatever ends the process in between.

    legs -> ORDER_INTENDED, all in one commit -> pre-trade checks, guards, funds -> ORDER_SUBMITTED -> one POST ->
    answer -> poll activities and orders -> settled: the fills add up to what the broker says was filled

What is to be done next follows from the book alone, so `execute` with the same arguments continues where a crash, a
kill or a time-out left off, and a second process working the same decision only looks on. One policy decides once a
session: the decision's id is made of both, and other legs under the same id are refused.

Sells go first. Buys wait until every sell has settled or was given up (blocked, or open for too long); what happens
then is the rule `buys_after_failed_sells`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book import lifecycle
from ledger_pipeline.core.errors import BrokerError, InputError, RefusedError
from ledger_pipeline.core.events import Blocked, Event, NoAction
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.trading.broker import Broker
from ledger_pipeline.trading.crash import crash_point
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.orders.funds import fund_reasons
from ledger_pipeline.trading.orders.legs import (
    Leg,
    asset_reasons,
    check_assets,
    client_order_id,
    decision_id,
    id_prefix,
    intent,
    leg_of,
    numbered,
)
from ledger_pipeline.trading.orders.pretrade import Guard, PreTradeChecks, guard_reasons
from ledger_pipeline.trading.orders.submit import Sender, append_once, give_up, no_trade, send, settle, utc_now
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.readings import bind, check_account, check_environment
from ledger_pipeline.trading.rows import order_row
from ledger_pipeline.trading.session_hours import read_hours, session_date

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

DONE, OPEN, BLOCKED, NO_ACTION = "DONE", "OPEN", "BLOCKED", "NO_ACTION"
COVERED, NONE = "covered", "none"  # rules: buys that cash covers go on, or none does
TIMEOUT = 300.0


@dataclass(frozen=True)
class Execution:
    """What became of a decision. orders: in the order of their intents. status: DONE (all settled), OPEN (time ran
    out; call again), BLOCKED (something was not sent, and why is in notes and in the book) or NO_ACTION (no legs).
    """

    decision: str
    session: date
    orders: tuple[Order, ...]
    notes: tuple[str, ...]
    status: str

    def to_json(self) -> dict[str, Any]:
        """The execution as a JSON object."""
        return {
            "decision": self.decision,
            "session": self.session.isoformat(),
            "status": self.status,
            "notes": list(self.notes),
            "orders": [order_row(order) for order in self.orders],
        }


def execute(
    legs: Sequence[Leg],
    book: Book,
    broker: Broker,
    *,
    policy: str = "manual",
    session: date | None = None,
    decided: Event | None = None,
    guards: Sequence[Guard] = (),
    timeout: float = TIMEOUT,
    on_progress: Callable[[str], None] | None = None,
    buys_after_failed_sells: str = COVERED,
    context: ExecutionContext | None = None,
) -> Execution:
    """Work the legs that `policy` decided for `session` (a date in New York; today by the broker's clock when left
    out) until all orders are settled, nothing more may be sent, or `timeout` seconds have passed.

    decided: the event that says why, appended in one commit with the intents. guards: each is asked (order, state,
    account) before its submit and returns reasons to block. on_progress is told sentences.

    Raises InputError for a leg that no broker would take, RefusedError when this decision was made with other legs,
    IntegrityError for the broker of another account or environment, BrokerError when the broker cannot be read at the
    start. Nothing was sent in any of these.
    """
    check_id("policy", policy)
    if buys_after_failed_sells not in (COVERED, NONE):
        raise InputError(f"buys_after_failed_sells is {buys_after_failed_sells!r}; it is {COVERED!r} or {NONE!r}.")
    legs = tuple(legs)
    bind(book, broker)
    check_environment(book.state, broker)
    check_account(book.state, broker.account())
    day = session or session_date(broker.clock())
    sender = opened_sender(book, broker, day, context)
    if not orders_of(book.state, policy, day):
        stopped = _begin(sender, legs, policy, day, decided)
        if stopped is not None:
            return stopped
    _check_same(book, legs, policy, day)
    return work(sender, policy, day, tuple(guards), timeout, on_progress, buys_after_failed_sells)


def opened_sender(book: Book, broker: Broker, session: date, context: ExecutionContext | None) -> Sender:
    """What works the orders of one session, with its hours read. BrokerError when they cannot be."""
    given = context or ExecutionContext()
    hours = read_hours(broker, session, given.limits.calendar)
    now = given.now or local_clock(broker)
    checks = PreTradeChecks(broker, hours, given.limits, now, given.root, given.environment)
    return Sender(book, broker, checks, given.pace, now, given.monotonic)


def local_clock(broker: Broker) -> Callable[[], datetime]:
    """This machine's clock; for a broker whose time is virtual, its own as last read."""
    if not broker.virtual_time:
        return utc_now
    last = broker.clock().now

    def read() -> datetime:
        nonlocal last
        try:
            last = broker.clock().now
        except BrokerError:
            pass  # an event is dated a moment early rather than lost
        return last

    return read


def orders_of(state: BookState, policy: str, session: date) -> list[Order]:
    """The orders of a decision, replacements included, as they were intended."""
    decision, prefix = decision_id(policy, session), id_prefix(policy, session)
    orders = [state.orders[order_id] for order_id in state.orders if order_id.startswith(prefix)]
    mine = [order for order in orders if order.correlation_id == decision]
    return sorted(mine, key=lambda order: (order.intended_seq, order.order_id))


def intents(legs: Sequence[Leg], sender: Sender, policy: str, session: date) -> list[Event]:
    """The intents of all legs, in the order of the legs."""
    margin = sender.checks.limits.close_margin
    return [
        intent(
            leg,
            client_order_id(sender.book.name, policy, session, leg.symbol, leg.side, 1, place),
            decision=decision_id(policy, session),
            session=session,
            at=sender.now(),
            deadline=sender.checks.hours.window(leg.time_in_force, margin)[1],
        )
        for leg, place in numbered(legs)
    ]


def _begin(
    sender: Sender, legs: tuple[Leg, ...], policy: str, session: date, decided: Event | None
) -> Execution | None:
    """Write the intents; or say why nothing is to be done, and return that."""
    decision = decision_id(policy, session)
    if not legs:
        why = ("NO_LEGS: the decision asks for no trade",)
        append_once(sender.book, no_trade(NoAction, sender.now(), why, decision=decision))
        return Execution(decision, session, (), why, NO_ACTION)
    if decided is None:  # what decides by itself goes on with its other legs
        check_assets(legs, sender.broker)
    moment = sender.look()
    terms = sorted({leg.time_in_force for leg in legs})
    blocked = min((sender.checks.reasons(sender.state, moment, time_in_force=each) for each in terms), key=len)
    if blocked:
        append_once(sender.book, no_trade(Blocked, sender.now(), blocked, decision=decision))
        return Execution(decision, session, (), blocked, BLOCKED)
    events = [*([decided] if decided else []), *intents(legs, sender, policy, session)]
    crash_point("before_intent")
    sender.book.append(lambda state: [] if orders_of(state, policy, session) else events)
    crash_point("after_intent")
    return None


def _check_same(book: Book, legs: tuple[Leg, ...], policy: str, session: date) -> None:
    """RefusedError when the decision in the book was made with other legs than these."""
    known = {order.order_id: leg_of(order) for order in orders_of(book.state, policy, session) if not order.replaces}
    given = {
        client_order_id(book.name, policy, session, leg.symbol, leg.side, 1, place): leg
        for leg, place in numbered(legs)
    }
    if known != given:
        names = ", ".join(leg.name.removeprefix("leg ") for leg in known.values())
        raise RefusedError(
            f"decision {decision_id(policy, session)} is in the book with other legs ({names}); a policy decides once "
            "a session. Nothing was sent: repeat it with the same legs, name another policy, or wait for the next "
            "session."
        )


def work(
    sender: Sender,
    policy: str,
    session: date,
    guards: tuple[Guard, ...] = (),
    timeout: float = TIMEOUT,
    on_progress: Callable[[str], None] | None = None,
    buys_after_failed_sells: str = COVERED,
) -> Execution:
    """Work the orders of a decision that the book holds until they are settled, blocked, or time is up."""
    tell = on_progress or (lambda sentence: None)
    run = _Run(sender, policy, session, guards, sender.monotonic(), tell, buys_after_failed_sells)
    if all(order.is_settled for order in run.orders()):
        run.note("these orders were sent and settled before; nothing was sent")
    pause = sender.pace.poll
    while True:
        before = sender.state.seq
        run.round()
        left = run.left()
        if not left:
            break
        if all(order.order_id in run.waiting for order in left):
            run.stop_waiting()
            continue
        resting = [order for order in left if _rests(order)]
        if len(resting) == len(left) and sender.monotonic() >= run.started + sender.pace.resting_within:
            run.note(f"{len(left)} orders rest at the broker: what becomes of them is taken in when it happens")
            break
        spare = run.started + timeout - sender.monotonic()
        if spare <= 0:
            while run.waiting:
                run.stop_waiting()
            run.note(f"time is up with {len(left)} orders not settled: call again to go on")
            break
        pause = sender.pace.poll if sender.state.seq > before else min(2 * pause, sender.pace.poll_longest)
        sender.broker.wait_for_update(min(pause, spare))
    return run.result()


def _rests(order: Order) -> bool:
    """Whether the broker has an order that may wait there until the session is over."""
    return order.status in (lifecycle.OPEN, lifecycle.PARTIALLY_FILLED) and (
        order.type == "limit" or order.time_in_force != "day"
    )


@dataclass
class _Run:
    """One call's work on one decision. waiting: orders that may go when others have ended, and why not yet."""

    sender: Sender
    policy: str
    session: date
    guards: tuple[Guard, ...]
    started: float
    tell: Callable[[str], None]
    rule: str
    notes: list[str] = field(default_factory=list)
    waiting: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the result, once, and tell it."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.tell(sentence)

    def orders(self) -> list[Order]:
        """The orders of the decision as the book has them now."""
        return orders_of(self.sender.state, self.policy, self.session)

    def left(self) -> list[Order]:
        """Orders that are not settled and may still move. One without an answer may, whatever blocks it."""
        return [order for order in self.orders() if not order.is_settled and not self.sender.is_stuck(order)]

    def round(self) -> None:
        """Take in what happened, then one pass over the orders, sells first: whatever can be done now is done."""
        self.waiting.clear()
        try:
            collect(self.sender.book, self.sender.broker)
        except BrokerError as error:
            self._unread(error)
            return
        for order in sorted(self.orders(), key=lambda order: order.side != "SELL"):
            try:
                self._step(self.sender.order(order.order_id))
            except BrokerError as error:
                self._unread(error)
                break  # nothing more is sent while the broker cannot be read
        for order in self.orders():
            if self.reported.get(order.order_id) != order.status:
                self.reported[order.order_id] = order.status
                self.tell(f"{order.side} {order.symbol} ({order.order_id}): {order.status}")

    def _unread(self, error: BrokerError) -> None:
        self.note(f"the broker could not be read: {error}")

    def _step(self, order: Order) -> None:
        if order.status in ("SUBMITTED", "UNKNOWN"):
            settle(self.sender, order, self._allowed)
        elif order.status == "INTENDED" and order.order_id not in self.sender.blocked:
            self._start(order)

    def _start(self, order: Order) -> None:
        now = self.sender.look().clock.now
        if self.sender.checks.hours.is_over(now) or (order.deadline is not None and now >= order.deadline):
            give_up(self.sender, order, "DEADLINE: it was not sent before its deadline")
            return
        wait = self._sells_first(order)
        if wait:
            self.waiting[order.order_id] = wait
        elif self._allowed(order):
            send(self.sender, order)
            sent = self.sender.order(order.order_id)
            if sent.status == "UNKNOWN":
                settle(self.sender, sent, self._allowed)  # before anything else is sent: it may have found a stranger

    def _allowed(self, order: Order) -> bool:
        """Whether an order may be sent now. If not, it is blocked, or waits when that may change with other orders."""
        moment = self.sender.look()
        state = self.sender.state
        reasons = self.sender.checks.reasons(state, moment, order)
        reasons = reasons or asset_reasons(leg_of(order), self.sender.broker)
        reasons = reasons or guard_reasons(self.guards, order, state, moment.account)
        if reasons:
            self._block(order, reasons)
            return False
        short = fund_reasons(state, self.sender.broker, moment.account, order)
        if short:
            self.waiting[order.order_id] = short
        return not short

    def _block(self, order: Order, reasons: tuple[str, ...]) -> None:
        self.sender.block(order, reasons)
        for reason in reasons:
            self.note(f"{order.side} {order.symbol} was not sent: {reason}")

    def _sells_first(self, order: Order) -> tuple[str, ...]:
        """Why a buy has to wait for the sells; empty when it need not, or need no longer."""
        if order.side == "SELL":
            return ()
        sells = [other for other in self.orders() if other.side == "SELL"]
        pending = [other for other in sells if not other.is_settled and other.order_id not in self.sender.blocked]
        if pending and self.sender.monotonic() - self.started <= self.sender.pace.sells_within:
            return ("SELLS_NOT_SETTLED: the sells of this decision have not settled",)
        if all(other.status == "FILLED" and other.is_settled for other in sells):
            return ()
        if self.rule == NONE:
            return ("SELLS_NOT_SETTLED: the sells came to less than intended, and then no buy is to go on",)
        self.note("the sells came to less than intended: buys go on as far as cash covers them")
        return ()

    def stop_waiting(self) -> None:
        """Nothing that is waited for will come: say why it was not sent, of the sells first, since buys may do without
        them.
        """
        orders = {order_id: self.sender.order(order_id) for order_id in self.waiting}
        sells = {order_id for order_id, order in orders.items() if order.side == "SELL"}
        for order_id in sells or set(orders):
            self._block(orders[order_id], self.waiting.pop(order_id))

    def result(self) -> Execution:
        """What became of the decision."""
        orders = tuple(self.orders())
        if all(order.is_settled for order in orders):
            status = DONE
        else:
            status = OPEN if self.left() else BLOCKED
        return Execution(decision_id(self.policy, self.session), self.session, orders, tuple(self.notes), status)
