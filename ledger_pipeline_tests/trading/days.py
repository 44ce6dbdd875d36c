"""A trading day in one process: a book in memory, the fake broker, virtual clocks, and the executor between them, which
speaks to the fake through the real adapter, over loopback.

`checked` is the independent checker. It reads the fake's own record and the events of the book, none of the code under
test, and says which of the promises are broken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger_pipeline.book.book import Book
from ledger_pipeline.book.log.log import Log
from ledger_pipeline.core.events import Event
from ledger_pipeline.trading.orders.executor import Execution, execute
from ledger_pipeline.trading.orders.legs import Leg, client_order_id
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import Reconciliation, reconcile
from ledger_pipeline_tests.trading.contexts import in_context
from ledger_pipeline_tests.trading.fake import FakeBroker
from ledger_pipeline_tests.trading.loopback import connected

D = Decimal
POLICY = "core"


@dataclass
class MemoryStore:
    """An ObjectStore that lives as long as the test. `gate` is called before and after each create, as ("create",
    "before" or "after"); what it raises is what the machine did.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    gate: Callable[[str, str], None] | None = None

    def create(self, key: str, data: bytes) -> bool:
        if self.gate:
            self.gate("create", "before")
        if key in self.objects:
            return False
        self.objects[key] = data
        if self.gate:
            self.gate("create", "after")
        return True

    def read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix) and key > after))

    def replace(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def place(self, key: str = "") -> str:
        return f"memory:{key}"


@dataclass
class Day:
    """One account, its book and its project root; `begin` adopts and reconciles. `broker` is where the account is; what
    works on it connects to that anew, as the process does that starts.
    """

    broker: FakeBroker
    root: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    environment: dict[str, str] = field(default_factory=dict)
    name: str = "test"

    def book(self) -> Book:
        """The book, opened anew: what a process that starts sees."""
        log = Log(self.store, self.name, clock=self.broker.local_now)
        return Book(log, self.broker.account_id, self.broker.environment, False)

    def begin(self) -> Day:
        """Adopt the account and reconcile."""
        book = self.book()
        with connected(self.broker) as broker:
            adopt(book, broker, by="ada", reason="a new book")
        assert self.reconcile(book).clean
        return self

    def reconcile(self, book: Book | None = None) -> Reconciliation:
        """Reconcile now."""
        with connected(self.broker) as broker:
            return reconcile(book or self.book(), broker)

    def execute(self, legs: Sequence[Leg], book: Book | None = None, **options: Any) -> Execution:
        """Execute in a new process, on the virtual clocks."""
        given = {
            "policy": POLICY, "root": self.root, "environment": self.environment,
            "now": self.broker.local_now, "monotonic": self.broker.monotonic,
        } | options  # fmt: skip
        with connected(self.broker) as broker:
            return execute(legs, book or self.book(), broker, **in_context(**given))

    def events(self, *kinds: str) -> list[Event]:
        """The events of the book, of some kinds or all."""
        return list(self.book().events(kinds=kinds or None))


def buy(symbol: str, notional: str | None = None, quantity: str | None = None, **more: Any) -> Leg:
    """A purchase for strategy core."""
    return Leg(symbol, "BUY", more.pop("strategy", "core"), quantity, notional, more.pop("reasons", ("DCA",)), **more)


def sell(symbol: str, quantity: str, **more: Any) -> Leg:
    """A sale for strategy core."""
    return Leg(
        symbol, "SELL", more.pop("strategy", "core"), quantity, None, more.pop("reasons", ("OVERWEIGHT",)), **more
    )


def intents_seen(day: Day) -> Callable[[Any], set[str]]:
    """A witness: the ids that the book had durably submitted when a POST arrived, read from the stored bytes."""

    def look(request: Any) -> set[str]:
        return {event.order_id for event in day.book().events(kinds=["ORDER_SUBMITTED"]) if event.order_id}

    return look


def checked(day: Day, *, settled: bool = True) -> list[str]:
    """The promises that are broken, as sentences; none when all hold. With `settled`, no order may be left open."""
    broker, wrong = day.broker, []
    events = day.events()
    intents = {event.order_id: event for event in events if event.kind == "ORDER_INTENDED"}
    if len(intents) != sum(event.kind == "ORDER_INTENDED" for event in events):
        wrong.append("an order was intended twice")
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        wrong.append("the seq of the events is not contiguous")
    for post in broker.posts:  # I1 and the window
        if post.request.client_order_id not in intents:
            wrong.append(f"{post.request.client_order_id} reached the broker without an intent")
        elif post.witness is not None and post.request.client_order_id not in post.witness:
            wrong.append(f"{post.request.client_order_id} reached the broker before its intent was durable")
        if post.effect and not post.market_open:
            wrong.append(f"{post.request.client_order_id} was sent while the market was closed")
    ours = {order.id: order for order in broker.orders_by_id.values() if order.request.client_order_id in intents}
    by_client = [order.request.client_order_id for order in ours.values()]
    if len(set(by_client)) != len(by_client):
        wrong.append("an intent became two orders")  # I2
    for order in ours.values():
        intent = intents[order.request.client_order_id]
        asked = D(intent.payload.notional) if intent.quantity is None else intent.quantity
        got = order.value if intent.quantity is None else order.filled
        if got > asked + (D("0.01") if intent.quantity is None else 0):
            wrong.append(f"{intent.order_id} got {got} of {asked}")
        if (intent.symbol, intent.side) != (order.request.symbol, order.request.side):
            wrong.append(f"{intent.order_id} is another order at the broker")
    theirs = {row.id: row for row in broker.executions if row.order in ours}
    booked = [event for event in events if event.kind == "FILLED"]
    if len({event.fill_id for event in booked}) != len(booked):
        wrong.append("a fill is in the book twice")  # I3
    for event in booked:  # I4
        row = theirs.get(event.fill_id or "")
        if row is None:
            wrong.append(f"fill {event.fill_id} of the book is not the broker's")
        elif (row.symbol, row.side, row.quantity, row.price) != (event.symbol, event.side, event.quantity, event.price):
            wrong.append(f"fill {event.fill_id} differs from the broker's")
        elif intents[event.order_id].strategy != event.strategy:
            wrong.append(f"fill {event.fill_id} went to strategy {event.strategy}")  # I5
    if settled:
        wrong += _unsettled(day, events, intents, ours, {event.fill_id for event in booked}, theirs)
    return wrong


def _unsettled(day: Day, events, intents, ours, booked, theirs) -> list[str]:
    wrong = [f"fill {name} is missing from the book" for name in sorted(set(theirs) - booked)]
    ends: dict[str, str] = {}
    for event in events:
        if event.kind in ("ORDER_CANCELED", "ORDER_EXPIRED", "ORDER_REJECTED"):
            ends[event.order_id] = event.kind
    open_at_broker = {order.request.client_order_id for order in ours.values() if order.open}
    filled = {order.request.client_order_id for order in ours.values() if order.status == "filled"}
    words = {"canceled": "ORDER_CANCELED", "expired": "ORDER_EXPIRED", "rejected": "ORDER_REJECTED"}
    for order in ours.values():
        if order.status in words and ends.get(order.request.client_order_id) != words[order.status]:
            wrong.append(f"{order.request.client_order_id} is {order.status} and the book does not say so")
    for order_id in set(intents) - open_at_broker - filled - set(ends):
        wrong.append(f"{order_id} was left without an end")
    at_broker = {order.request.client_order_id for order in ours.values()}
    never = {post.request.client_order_id for post in day.broker.posts if post.effect}
    if never - at_broker:
        wrong.append(f"{never - at_broker} took effect and is not at the broker")
    positions: dict[str, Decimal] = defaultdict(Decimal)
    cash = D(0)
    for event in events:
        if event.kind in ("OPENED", "FILLED", "SPLIT") and event.symbol and event.quantity:
            positions[event.symbol] += event.quantity if event.side == "BUY" else -event.quantity
        cash += event.cash_delta or 0
    if {s: q for s, q in positions.items() if q} != {s: q for s, q in day.broker.holdings.items() if q}:
        wrong.append(f"positions {dict(positions)} are not the broker's {day.broker.holdings}")
    if cash != day.broker.cash:  # I6: the fake rounds each fill half up, as the book does
        wrong.append(f"cash {cash} is not the broker's {day.broker.cash}")
    return wrong


def close(day: Day, legs: Sequence[Leg], **options: Any) -> Execution:
    """Let the session end and the late activities come, then let the executor finish what it left."""
    current = day.broker.session()
    if current is not None:
        day.broker.advance_to(current.close)
    day.broker.advance(timedelta(minutes=6).total_seconds())
    return day.execute(legs, **options)


class Failing:
    """Raises `error` at the n-th operation of a run, counted from 1, before or after its effect: a gate for FakeBroker
    and MemoryStore together. `struck` names the operation; it stays empty when the run had fewer.
    """

    def __init__(self, nth: int, error: Callable[[str], BaseException], when: str) -> None:
        self.left, self.error, self.when, self.struck = nth, error, when, ""

    def __call__(self, operation: str, when: str) -> None:
        if self.struck or when != self.when:
            return
        self.left -= 1
        if self.left == 0:
            self.struck = operation
            raise self.error(operation)


TODAY = date(2026, 1, 5)  # the session of fake.START
TWO = [buy("VTI", "676"), buy("VXUS", "324")]
SWAP = [buy("VTI", "600"), sell("BND", "3", strategy="UNATTRIBUTED")]


def made(tmp_path: Path, **broker: Any) -> Day:
    """A day whose broker has faults only after the book was opened and reconciled."""
    faults = broker.pop("faults", ())
    day = Day(FakeBroker(**broker), tmp_path).begin()
    day.broker.witness = intents_seen(day)
    day.broker.calls.clear()
    day.broker.faults = faults
    return day


def order_id(symbol: str, side: str = "BUY", attempt: int = 1, place: int = 0) -> str:
    return client_order_id("test", POLICY, TODAY, symbol, side, attempt, place)


def kinds(day: Day, symbol: str | None = None) -> list[str]:
    return [event.kind for event in day.events() if event.order_id and symbol in (None, event.symbol)]


def posts(day: Day) -> list[tuple[str, str, bool]]:
    return [(post.request.side, post.request.symbol, post.effect) for post in day.broker.posts]


def codes(day: Day, kind: str = "BLOCKED") -> list[tuple[str | None, tuple[str, ...]]]:
    return [(event.symbol, event.reasons) for event in day.events(kind)]
