"""Any history of decisions, submits, fills, faults, crashes and reconciliations: the book tells what happened, once.

The fake broker keeps what really happened; the book is a real one in a directory. After each step the invariants hold:

I1 no order at the broker without an earlier durable intent. I2 at most one broker order an intent, filled for no more
than it asked. I3 a clean reconciliation has every fill. I4 each fill of the book happened, as it is told, once. I5 the
positions of the strategies are the fills of their orders. I6 cash is explained to the cent. I7 what was written never
changes. I8 an order's status never regresses.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import nullcontext
from decimal import Decimal as D
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger_pipeline.book.orders import STATUSES
from ledger_pipeline.core.amounts import fill_cash
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.override import override
from ledger_pipeline.trading.reconciliation.reconcile import Reconciliation, reconcile
from ledger_pipeline_tests.trading.account_book import intend, noted, opened_book, request_of
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault, Step
from ledger_pipeline_tests.trading.loopback import connected

SYMBOLS = ("VTI", "BND")
STRATEGIES = ("core", "tilt")
HOLDINGS = {"VTI": D("10.5"), "BND": D(20)}
SYMBOL, STRATEGY = st.sampled_from(SYMBOLS), st.sampled_from(STRATEGIES)
SHARES = st.sampled_from(("0.000000001", "0.5", "1.123456789", "3", "7.25"))
FAULT = st.sampled_from((None, None, None, "lost_before", "lost_after", "refused", "dies", "not yet"))
RANK = {status: min(rank, 5) for rank, status in enumerate(STATUSES)}


class Died(BaseException):
    """The process ended in the middle of an operation."""


class Network(FakeBroker):
    """The fake broker behind a network that repeats, reorders and, on demand, ends the process at the n-th call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dies_in = 0
        self.gate = self.passed

    def passed(self, operation: str, when: str) -> None:
        self.dies_in -= 1
        if self.dies_in == 0:
            raise Died

    def activities(self, *, after=None):
        rows = list(super().activities(after=after))
        order = Random(len(self.calls) + len(rows))
        order.shuffle(rows)
        return tuple(rows + rows[: order.randint(0, 3)])


class Account(RuleBasedStateMachine):
    """One account, one book, and everybody who acts on them. `over` is the way from the code under test to the broker."""

    over = staticmethod(nullcontext)

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.broker = Network(plan=lambda request, rng: [], holdings=dict(HOLDINGS), latency=0.001)
        self.broker.witness = self.intended_before
        self.book = opened_book(Path(self.place.name), self.broker)
        with self.over(self.broker) as broker:
            adopt(self.book, broker, by="Ann", reason="start")
        self.opening = self.broker.cash
        self.written: dict[str, bytes] = {}
        self.ranks: dict[str, int] = {}
        self.strategy_of: dict[str, str] = {}
        self.adjusted = Counter()
        self.attempts = self.meddled = 0
        self.decide("VTI", "BUY", "core", "3", None)
        self.decide("BND", "BUY", "tilt", None, None, amount="500.00")

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.place.cleanup()

    def intended_before(self, request) -> None:
        """I1, as another process sees it."""
        order = opened_book(Path(self.place.name), self.broker).state.orders[request.client_order_id]
        assert order.status in ("SUBMITTED",)

    def restart(self) -> None:
        self.broker.dies_in = 0
        before, self.book = self.book, opened_book(Path(self.place.name), self.broker)
        before.refresh()
        assert before.state == self.book.state

    def with_status(self, *statuses: str) -> list[str]:
        return [name for name, order in self.book.state.orders.items() if order.status in statuses]

    def at_broker(self) -> list:
        return [order for order in self.broker.orders_by_id.values() if order.open]

    # The one who trades.

    @rule(symbol=SYMBOL, strategy=STRATEGY, shares=SHARES, fault=FAULT)
    def buy(self, symbol, strategy, shares, fault):
        self.decide(symbol, "BUY", strategy, shares, fault)

    @rule(symbol=SYMBOL, strategy=STRATEGY, amount=st.decimals("1", "900", places=2), fault=FAULT)
    def invest(self, symbol, strategy, amount, fault):
        self.decide(symbol, "BUY", strategy, None, fault, amount)

    @rule(symbol=SYMBOL, strategy=STRATEGY, shares=SHARES, fault=FAULT, deadline=st.sampled_from((None, 60, 90_000)))
    def sell(self, symbol, strategy, shares, fault, deadline):
        self.decide(symbol, "SELL", strategy, shares, fault, deadline=deadline)

    def decide(self, symbol, side, strategy, shares, fault, amount=None, deadline=None) -> None:
        self.attempts += 1
        name = intend(
            self.book,
            self.broker,
            symbol,
            side,
            str(shares) if shares else None,
            notional=str(amount) if amount else None,
            strategy=strategy,
            attempt=self.attempts,
            deadline=deadline,
        )
        self.strategy_of[name] = strategy
        if fault != "not yet":
            self.send(name, fault)

    @precondition(lambda self: self.with_status("INTENDED", "UNKNOWN"))
    @rule(data=st.data(), fault=FAULT)
    def submit(self, data, fault):
        """What was decided and not sent, or what an explicit 404 allows to be sent once more."""
        name = data.draw(st.sampled_from(self.with_status("INTENDED", "UNKNOWN")))
        with self.over(self.broker) as broker:
            absent = fault != "not yet" and broker.order_by_client_id(name) is None
        if absent:
            self.send(name, fault)

    def send(self, name: str, fault: str | None) -> None:
        noted(self.book, self.broker, "ORDER_SUBMITTED", name)
        nth = self.broker.calls.get("submit", 0) + 1
        self.broker.faults = [Fault("submit", fault, nth=nth)] if fault and fault != "dies" else ()
        with self.over(self.broker) as broker:
            answer = broker.submit(request_of(self.book, name))
        kind = type(answer).__name__
        if fault == "dies":
            self.restart()
        elif kind == "Accepted":
            noted(self.book, self.broker, "ORDER_ACKNOWLEDGED", name, broker_order_id=answer.order.id)
        elif kind == "Refused":
            noted(self.book, self.broker, "ORDER_REJECTED", name, payload={"filled_quantity": "0", "reason": "no"})
        else:
            noted(self.book, self.broker, "SUBMIT_UNKNOWN", name, payload={"why": answer.why})

    # The market and the broker.

    @precondition(lambda self: self.at_broker())
    @rule(data=st.data(), share=st.sampled_from(("0.1", "0.3333", "1")), late=st.sampled_from((0, 0, 0, 30)))
    def fill(self, data, share, late):
        order = data.draw(st.sampled_from(self.at_broker()))
        self.broker._fill(order, Step(share=D(share), late=late))

    @precondition(lambda self: self.at_broker())
    @rule(data=st.data(), status=st.sampled_from(("canceled", "expired", "rejected", "done_for_day")))
    def end(self, data, status):
        order = data.draw(st.sampled_from(self.at_broker()))
        if status != "rejected" or not order.filled:
            order.status, order.updated_at = status, self.broker.now

    @rule(amount=st.decimals("-50", "500", places=2).filter(bool), late=st.sampled_from((0, 30)), symbol=SYMBOL)
    def money(self, amount, late, symbol):
        """A deposit, a withdrawal, or a dividend of some cents a share."""
        if abs(amount) < 5:
            self.broker.dividend(symbol, abs(amount) / 7, late=late)
        else:
            self.broker.deposit(amount, late=late)

    @rule(seconds=st.sampled_from((1, 31, 600, 9 * 3600)))
    def wait(self, seconds):
        if self.broker.now.day < 8:
            self.broker.advance(seconds)

    # Somebody else, and the person who answers.

    @precondition(lambda self: self.attempts > 6 * (self.meddled + 1))
    @rule(symbol=st.sampled_from(SYMBOLS), quantity=st.sampled_from(("0.5", "1")))
    def meddle(self, symbol, quantity):
        self.meddled += 1
        order = self.broker.foreign_order(symbol, "BUY", D(quantity), f"by-hand-{self.attempts}-{self.broker._n}")
        self.broker._fill(order, Step())

    @precondition(lambda self: self.book.state.breaks)
    @rule()
    def answer(self):
        for name in list(self.book.state.breaks):
            kind, _, key = name.partition(":")
            if kind == "foreign":
                override(self.book, by="Ann", reason="by hand", break_id=name, now=self.broker.now)
            elif kind in ("cash", "position") and not self.late():
                change = (self.broker.cash if kind == "cash" else self.broker.holdings[key]) - (
                    self.book.state.cash if kind == "cash" else self.book.state.position(key)
                )
                self.adjusted[key or "cash"] += change
                what = {"cash": change} if kind == "cash" else {"position": (key, "UNATTRIBUTED", change)}
                if change:
                    override(self.book, by="Ann", reason="by hand", break_id=name, now=self.broker.now, **what)

    def late(self) -> bool:
        """Whether something has happened that the book cannot have read yet."""
        taken = set(self.book.state.fill_ids) | set(self.book.state.activity_ids)
        rows = {row.id for row in self.broker.executions} | {row.id for _, row in self.broker.cash_rows}
        return not rows <= taken

    # Taking in, comparing, dying.

    @rule(dies_in=st.integers(0, 20))
    def collect(self, dies_in):
        self.broker.dies_in = dies_in
        try:
            with self.over(self.broker) as broker:
                collect(self.book, broker)
        except Died:
            self.restart()
        self.broker.dies_in = 0

    @rule(dies_in=st.sampled_from((0, 0, 0, 3, 9, 17)))
    def reconcile(self, dies_in):
        self.broker.dies_in = dies_in
        try:
            result = self.compared()
        except Died:
            return self.restart()
        finally:
            self.broker.dies_in = 0
        taken = set(self.book.state.fill_ids) | set(self.book.state.activity_ids)
        if result.clean:
            assert not self.late() or self.only_cents_late(taken)  # I3
            assert {s: q for s, q in self.broker.holdings.items() if q} == self.positions()
            assert abs(self.broker.cash - self.book.state.cash) <= D("0.5")
        digest = result.digest
        again = self.compared()
        if not self.broker._due or self.broker._due[0][0] > self.broker.now:
            assert again.digest == digest

    def compared(self) -> Reconciliation:
        with self.over(self.broker) as broker:
            return reconcile(self.book, broker)

    def only_cents_late(self, taken: set[str]) -> bool:
        """A deposit of cents may hide behind the tolerance; a fill or a dollar may not."""
        rows = [row for _, row in self.broker.cash_rows if row.id not in taken]
        fills = [row for row in self.broker.executions if row.id not in taken]
        return not fills and abs(sum(row.amount for row in rows)) <= D("0.5")

    @rule()
    def crash(self):
        self.restart()

    def positions(self) -> dict[str, D]:
        total: Counter = Counter()
        for (_, symbol), quantity in self.book.state.positions.items():
            total[symbol] += quantity
        return {symbol: quantity for symbol, quantity in total.items() if quantity}

    # What always holds.

    @invariant()
    def each_intent_is_one_order_at_most(self):
        if not hasattr(self, "book"):
            return
        accepted = Counter(post.request.client_order_id for post in self.broker.posts if post.effect)
        assert all(count == 1 for count in accepted.values())  # I2
        for name, order in self.book.state.orders.items():
            assert order.quantity is None or order.filled <= order.quantity
            rank = RANK[order.status]
            assert rank >= self.ranks.get(name, 0) or order.status == "SUBMITTED", (name, order.status)  # I8
            if order.status == "SUBMITTED" and self.ranks.get(name) == RANK["UNKNOWN"]:
                rank = RANK["UNKNOWN"]  # sent again under the same id
            self.ranks[name] = rank

    @invariant()
    def the_book_tells_what_happened(self):
        if not hasattr(self, "book"):
            return
        happened = {row.id: row for row in self.broker.executions}
        client = {order.id: order.request.client_order_id for order in self.broker.orders_by_id.values()}
        fills = list(self.book.events(kinds=["FILLED"]))
        assert len({event.fill_id for event in fills}) == len(fills)
        held: Counter = Counter({("UNATTRIBUTED", symbol): quantity for symbol, quantity in HOLDINGS.items()})
        cash = self.opening + self.adjusted["cash"]
        for event in fills:  # I4
            row = happened[event.fill_id]
            assert (event.symbol, event.side, event.quantity, event.price, event.order_id) == (
                row.symbol,
                row.side,
                row.quantity,
                row.price,
                client[row.order],
            )
            assert event.strategy == self.strategy_of[event.order_id]
            held[event.strategy, event.symbol] += event.quantity if event.side == "BUY" else -event.quantity
            cash += fill_cash(row.side, row.quantity, row.price)
        for symbol in SYMBOLS:
            held["UNATTRIBUTED", symbol] += self.adjusted[symbol]
        assert {key: value for key, value in held.items() if value} == {
            key: value for key, value in self.book.state.positions.items() if value
        }  # I5
        rows = {row.id: row for _, row in self.broker.cash_rows}
        parts: Counter = Counter()
        for event in self.book.events(kinds=["DEPOSITED", "WITHDRAWN", "DIVIDEND"]):
            parts[event.payload.activity_id] += event.cash_delta
        assert all(rows[name].amount == amount for name, amount in parts.items())
        assert self.book.state.cash == cash + sum(parts.values())  # I6

    @invariant()
    def what_was_written_stays(self):
        if not hasattr(self, "book"):
            return
        now = {str(path): path.read_bytes() for path in Path(self.place.name).rglob("*.json")}
        assert all(now.get(path) == data for path, data in self.written.items())  # I7
        self.written = now


class FarAccount(Account):
    """The same, with the real adapter and loopback between the code under test and the broker."""

    over = staticmethod(connected)


def check(account: type[Account], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        account,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 100,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("account", [Account, FarAccount])
def test_no_history_makes_the_book_untrue(account):
    check(account, examples=20, steps=25)


@pytest.mark.campaign
@pytest.mark.parametrize("account", [Account, FarAccount])
def test_no_long_history_makes_the_book_untrue(account):
    check(account, examples=500, steps=60)
