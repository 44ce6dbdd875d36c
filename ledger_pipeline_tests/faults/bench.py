"""A book and the real adapter on a local exchange, in one process and at a pace that makes a fault last a moment.

    with sat_down(served, tmp_path) as bench:
        bench.served.admin.fault("reset", "POST", "/v2/orders", when="after")
        done = bench.execute([buy("VTI", "676")])
        bench.check()

The book is adopted and reconciled before the test sets its faults. `bench.check()` ends every test: the faults are
cleared, the book is reconciled, and the independent checker judges both records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.core.events import Event
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.alpaca.http import Limits
from ledger_pipeline.trading.endpoint import Endpoint, Keys
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.orders.executor import Execution, execute
from ledger_pipeline.trading.orders.legs import Leg, client_order_id
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import Reconciliation, reconcile
from ledger_pipeline_tests.exchange.server import Served
from ledger_pipeline_tests.faults.checker import check, snapshot
from ledger_pipeline_tests.trading.contexts import in_context

POLICY, NAME = "core", "bench"
TODAY = date(2026, 1, 5)  # the session of the exchange's noon
PATIENT = Limits(connect=5, read=10, total=15)
IMPATIENT = Limits(connect=1, read=0.8, total=1.2)  # a hang outlasts it, a busy machine does not
PACE = Pace(poll=0.05, poll_longest=0.2, lookups=2, lookup_every=0.05, sells_within=5)
LONGEST = 15.0  # seconds for one execution; it takes about one


def buy(symbol: str, notional: str | None = None, quantity: str | None = None, **more: Any) -> Leg:
    """A purchase for strategy core."""
    return Leg(symbol, "BUY", more.pop("strategy", "core"), quantity, notional, ("DCA",), **more)


def sell(symbol: str, quantity: str) -> Leg:
    """A sale of what was adopted with the account."""
    return Leg(symbol, "SELL", "UNATTRIBUTED", quantity, None, ("OVERWEIGHT",))


def order_id(symbol: str, side: str = "BUY") -> str:
    """The id of the first attempt at a leg."""
    return client_order_id(NAME, POLICY, TODAY, symbol, side, 1, 0)


@dataclass
class Bench:
    """One account, its book and a connection. `broker` is the one that suffers, `place` the directory of the book."""

    served: Served
    root: Path
    broker: AlpacaBroker
    earlier: dict[str, bytes] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """The directory of the book."""
        return self.root / "books" / NAME

    def book(self) -> Book:
        """The book, opened anew: what a process that starts sees."""
        return open_book(self.place)

    def connect(self, **options: Any) -> AlpacaBroker:
        """Another connection to the same account."""
        return broker_of(self.served, **options)

    def execute(self, legs: Sequence[Leg], **options: Any) -> Execution:
        """Execute in this process, at the pace of a test."""
        given = {"policy": POLICY, "root": self.root, "environment": {}, "timeout": LONGEST, "pace": PACE} | options
        return execute(
            legs, given.pop("book", None) or self.book(), given.pop("broker", self.broker), **in_context(**given)
        )

    def reconcile(self) -> Reconciliation:
        """Reconcile now, over an undisturbed connection."""
        with self.connect() as broker:
            return reconcile(self.book(), broker)

    def events(self, *kinds: str) -> list[Event]:
        """The events of the book, of some kinds or all."""
        return list(self.book().events(kinds=kinds or None))

    def life(self, symbol: str, side: str = "BUY") -> list[str]:
        """The kinds of the events of one order, in order."""
        return [event.kind for event in self.events() if event.order_id == order_id(symbol, side)]

    def posts(self, symbol: str | None = None) -> list[str]:
        """The client_order_ids of the submits that arrived, in order; of one symbol or all."""
        bodies = [row["doc"]["body"] for row in self.served.sent()]
        return [body["client_order_id"] for body in bodies if symbol in (None, body["symbol"])]

    def at_broker(self) -> dict[str, list[str]]:
        """What the exchange itself holds: the statuses of the orders, by client_order_id."""
        last: dict[str, dict[str, Any]] = {}
        for row in self.served.admin.record("order", after=self.served.since):
            last[row["key"]] = row["doc"]["order"]
        found: dict[str, list[str]] = {}
        for order in last.values():
            found.setdefault(order["client_order_id"], []).append(order["status"])
        return found

    def when(self, pattern: str, act: Callable[[], Any], times: int = 1) -> Callable[[str], None]:
        """An on_progress that acts when a sentence first matches: something happens while an execution is under way."""
        left = [times]

        def told(sentence: str) -> None:
            if left[0] and re.search(pattern, sentence):
                left[0] -= 1
                act()

        return told

    def check(self, *, clean: bool = True) -> Reconciliation:
        """The faults end; the book is reconciled, is clean (or says why not), and no promise is broken."""
        self.served.admin.clear_faults()
        found = self.reconcile()
        assert found.clean is clean, [item.break_id for item in found.breaks]
        assert check(self.served, self.place, earlier=self.earlier) == []
        return found


def broker_of(served: Served, *, limits: Limits = PATIENT, **options: Any) -> AlpacaBroker:
    """The adapter on an exchange; close it."""
    endpoint = Endpoint("exchange", served.url, served.url, served.stream)
    return AlpacaBroker(endpoint, Keys(served.key, served.secret), limits=limits, **options)


@contextmanager
def sat_down(
    served: Served, root: Path, *, holdings: dict[str, str] | None = None, limits: Limits = PATIENT, **options: Any
) -> Iterator[Bench]:
    """A bench whose book is adopted and reconciled. holdings: positions that the account has from the beginning."""
    for symbol, quantity in (holdings or {}).items():
        served.admin.position(symbol, quantity)
    with broker_of(served, limits=limits, **options) as broker:
        bench = Bench(served, root, broker)
        with bench.connect() as patient:
            book = open_book(bench.place)
            adopt(book, patient, by="ada", reason="a new book")
            assert reconcile(book, patient).clean
        bench.earlier = snapshot(bench.place)
        yield bench


def settled(done: Execution) -> tuple[str, list[str]]:
    """The status of an execution and of its orders: what most tests ask."""
    return done.status, [order.status for order in done.orders]
