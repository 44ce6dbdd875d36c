"""An account, its book and a decision to be executed, for the tests that end processes.

One exchange and one starter of workers serve all tests of a file; each test begins with a reset exchange, a new book
and BND 10 in the account, and ends with `finish`: the faults are over, the decision is executed to its end, the book
reconciled, and the checker asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline.trading.connect import EXCHANGE_URL, connect
from ledger_pipeline.trading.crash import VARIABLE
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.orders.executor import Execution, execute
from ledger_pipeline.trading.orders.legs import Leg
from ledger_pipeline.trading.reconciliation.adopt import adopt
from ledger_pipeline.trading.reconciliation.reconcile import Reconciliation, reconcile
from ledger_pipeline_tests.exchange.server import NOON, Served, exchange
from ledger_pipeline_tests.faults.checker import check, events_of, snapshot
from ledger_pipeline_tests.faults.worker import FAULT_AT, POLICY, Job, Workers
from ledger_pipeline_tests.trading.contexts import in_context

LEGS = [
    {"symbol": "BND", "side": "SELL", "strategy": "UNATTRIBUTED", "quantity": "2.5", "notional": None},
    {"symbol": "VTI", "side": "BUY", "strategy": "core", "quantity": None, "notional": "676.00"},
]
PACE = Pace(poll=0.05, poll_longest=0.2, lookups=2, lookup_every=0.1, sells_within=20)


@contextmanager
def theatre(place: Path, **options: Any) -> Iterator[tuple[Served, Workers]]:
    """An exchange and a starter of workers, for the tests of one file."""
    with exchange(place, symbols="VTI=250,VXUS=60,BND=72.50,AAPL=200", at=NOON, **options) as served:
        workers = Workers()
        try:
            yield served, workers
        finally:
            workers.close()


@dataclass
class Stage:
    """One test's account, book and decision."""

    served: Served
    workers: Workers
    root: Path
    legs: list[dict[str, Any]] = field(default_factory=lambda: [dict(leg) for leg in LEGS])
    earlier: dict[str, bytes] = field(default_factory=dict)
    jobs: int = 0
    since: int = 0  # where the record of this test begins

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        self.since = self.served.admin.reset()
        self.served.admin.position("BND", "10")

    @property
    def book_dir(self) -> Path:
        """Where the book is."""
        return self.root / "books" / "live"

    @contextmanager
    def bench(self) -> Iterator[tuple[Book, AlpacaBroker]]:
        """The book opened anew, and the broker, in this process."""
        with connect(url=self.served.url, environ=self.served.environ) as broker:
            yield open_book(self.book_dir), broker

    def begin(self) -> Stage:
        """Adopt the account and reconcile."""
        with self.bench() as (book, broker):
            adopt(book, broker, by="ada", reason="a new book")
            assert reconcile(book, broker).clean
        self.earlier = snapshot(self.book_dir)
        return self

    def job(self, at: str = "", crash: str = "", timeout: float = 20.0, env: dict[str, str] | None = None) -> Job:
        """The work on the decision, in a process of its own; it dies at the crash point `crash`."""
        self.jobs += 1
        told = {EXCHANGE_URL: self.served.url, FAULT_AT: at, VARIABLE: crash} | self.served.environ | (env or {})
        return Job(str(self.root), str(self.book_dir), self.legs, str(self.root / f"{self.jobs}.out"), timeout, told)

    def run(self, *, settled: bool = False, **options: Any) -> tuple[int, dict[str, Any]]:
        """Work in a process of its own: its exit code and what it printed. Whatever it did, nothing may be broken."""
        done = self.workers.run(self.job(**options))
        self.assert_sound(settled=settled)
        return done

    def execute(self, **options: Any) -> Execution:
        """Work on the decision in this process."""
        legs = [Leg(**{**leg, "reasons": tuple(leg.get("reasons", ("DCA",)))}) for leg in self.legs]
        given = {"policy": POLICY, "root": self.root, "environment": {}, "pace": PACE, "timeout": 20} | options
        with self.bench() as (book, broker):
            return execute(legs, book, broker, **in_context(**given))

    def reconcile(self) -> Reconciliation:
        """Reconcile in this process."""
        with self.bench() as (book, broker):
            return reconcile(book, broker)

    def finish(self, **options: Any) -> Execution:
        """The faults are over: reconcile, execute, reconcile, and the checker finds nothing."""
        self.served.admin.clear_faults()
        assert self.reconcile().clean
        done = self.execute(**options)
        result = self.reconcile()
        assert result.clean, [item.break_id for item in result.breaks]
        self.assert_sound(settled=True)
        return done

    def assert_sound(self, *, settled: bool) -> None:
        """Ask the checker; what the book holds now must stay."""
        wrong = check(self.served, self.book_dir, earlier=self.earlier, settled=settled)
        assert not wrong, "\n".join(wrong)
        self.earlier = snapshot(self.book_dir)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of the book as plain JSON, of some kinds or all."""
        return [event for event in events_of(self.book_dir) if not kinds or event["kind"] in kinds]

    def posts(self) -> list[str]:
        """The client_order_id of each submit that reached the exchange, in order."""
        rows = self.served.admin.record("request", after=self.since)
        return [row["doc"]["body"]["client_order_id"] for row in rows if row["key"] == "POST /v2/orders"]

    def orders(self) -> dict[str, str]:
        """The last status of each order of this test at the exchange, by the broker's id."""
        rows = self.served.admin.record("order", after=self.since)
        return {row["key"]: row["doc"]["order"]["status"] for row in rows}
