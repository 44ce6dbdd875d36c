"""Live trading as metrics that Prometheus reads: what the books of a project say, and whether they can be read.

Everything is a fold over the events of the books, so a restart forgets nothing and needs no store of its own. A book is
read from where the last reading ended. Times are seconds since 1970, of the events; ages are for the query
(`time() - ledger_pipeline_reconciled_timestamp_seconds`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.trading.orders.halts import check
from ledger_pipeline.trading.session_context import read_book

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from ledger_pipeline.book.book import Book
    from ledger_pipeline.core.events import Event
    from ledger_pipeline.project import Project

LATENCIES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)  # seconds, upper bounds of the buckets
_DECISIONS = {"DECIDED": "decided", "NO_ACTION": "no_action", "BLOCKED": "blocked"}
_NAME = "ledger_pipeline"

Schedulers = Callable[[], Sequence[Mapping[str, Any]]]


@dataclass
class _Seen:
    """What was counted of one book so far. latencies: seconds from the submit of an order to its first fill."""

    seq: int = 0
    events: Counter[str] = field(default_factory=Counter)
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_decisions: dict[str, float] = field(default_factory=dict)
    submitted: dict[str, datetime] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    last_fill: float | None = None

    def take(self, event: Event) -> None:
        """Count one more event."""
        self.seq = event.seq
        self.events[event.kind] += 1
        at = event.occurred_at.timestamp()
        if event.kind in _DECISIONS:
            deployment = (event.correlation_id or "").rpartition(".")[0] or "by hand"
            self.decisions[deployment, _DECISIONS[event.kind]] += 1
            self.last_decisions[deployment] = at
        elif event.kind == "ORDER_SUBMITTED" and event.order_id:
            self.submitted[event.order_id] = event.occurred_at
        elif event.kind == "FILLED":
            self.last_fill = at
            if event.order_id in self.submitted:
                waited = event.occurred_at - self.submitted.pop(event.order_id)
                self.latencies.append(max(0.0, waited.total_seconds()))


class Books(Collector):
    """The books of a project as metric families; collected anew at each reading. schedulers: rows with name, kind,
    status and tick of what runs by itself, as `status` shows them; None leaves them out.
    """

    def __init__(self, project: Project, schedulers: Schedulers | None = None) -> None:
        self.project = project
        self.schedulers = schedulers
        self.seen: dict[str, _Seen] = {}

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        families = _Families()
        names = sorted(path.name for path in self.project.books.iterdir()) if self.project.books.is_dir() else []
        for name in names:
            try:
                book = read_book(self.project, name)
                seen = self._follow(name, book)
            except LedgerPipelineError:
                families.readable.add_metric([name], 0)
                continue
            families.readable.add_metric([name], 1)
            families.add(name, book, seen, self.project.root)
        if self.schedulers is not None:
            for row in self.schedulers():
                families.running.add_metric([str(row["name"]), str(row["kind"])], float(row["status"] == "RUNNING"))
        yield from families.all()

    def _follow(self, name: str, book: Book) -> _Seen:
        seen = self.seen.setdefault(name, _Seen())
        if seen.seq > book.state.seq:  # another book stands in its place
            seen = self.seen[name] = _Seen()
        for event in book.events(seen.seq):
            seen.take(event)
        return seen


class _Families:
    """One family a metric, filled book by book."""

    def __init__(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"{_NAME}_{name}", text, labels=labels)

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"{_NAME}_{name}", text, labels=labels)

        self.readable = gauge("book_readable", "1 where a book is read and its chain holds, else 0.", "book")
        self.commits = gauge("book_commits", "Commits of a book: the number of its head.", "book")
        self.head = InfoMetricFamily(f"{_NAME}_book_head", "The hash of the last commit.", labels=["book"])
        self.events = counter("events", "Events of a book by kind.", "book", "kind")
        self.decisions = counter("decisions", "Decisions by what came of them.", "book", "deployment", "outcome")
        self.decided = gauge("last_decision_timestamp_seconds", "When a deployment decided last.", "book", "deployment")
        self.orders = gauge("orders", "Orders of a book by status.", "book", "status")
        self.latency = HistogramMetricFamily(
            f"{_NAME}_fill_latency_seconds", "From the submit of an order to its first fill.", labels=["book"]
        )
        self.filled = gauge("last_fill_timestamp_seconds", "When a fill came last.", "book")
        self.breaks = gauge("breaks_open", "Differences between book and broker that stand.", "book")
        self.halts = gauge("halts", "Halts in a book that stand, by scope.", "book", "scope")
        self.stops = gauge(
            "stopped", "How many halts stop everything: in the book, by a HALT file, by the environment.", "book"
        )
        self.reconciled = gauge("reconciled_timestamp_seconds", "When a book was reconciled last.", "book")
        self.clean = gauge("reconciled_clean", "1 where the last reconciliation found no difference, else 0.", "book")
        self.running = gauge("scheduler_running", "1 where a daemon, schedule or sensor is on.", "name", "kind")

    def add(self, name: str, book: Book, seen: _Seen, root: Path) -> None:
        """Add what one book says."""
        state, head = book.state, book.head
        self.stops.add_metric([name], len(check(state, root=root)))
        self.commits.add_metric([name], head.seq)
        self.head.add_metric([name], {"hash": head.hash})
        for kind, count in sorted(seen.events.items()):
            self.events.add_metric([name, kind], count)
        for (deployment, outcome), count in sorted(seen.decisions.items()):
            self.decisions.add_metric([name, deployment, outcome], count)
        for deployment, at in sorted(seen.last_decisions.items()):
            self.decided.add_metric([name, deployment], at)
        for status, count in sorted(Counter(order.status for order in state.orders.values()).items()):
            self.orders.add_metric([name, status], count)
        buckets = [(f"{limit:g}", float(sum(each <= limit for each in seen.latencies))) for limit in LATENCIES]
        self.latency.add_metric([name], [*buckets, ("+Inf", float(len(seen.latencies)))], sum(seen.latencies))
        if seen.last_fill is not None:
            self.filled.add_metric([name], seen.last_fill)
        self.breaks.add_metric([name], len(state.breaks))
        for scope in sorted(state.halts):
            self.halts.add_metric([name, scope], 1)
        last = state.last_reconciled
        if last is not None:
            self.reconciled.add_metric([name], last.occurred_at.timestamp())
            self.clean.add_metric([name], float(bool(getattr(last.payload, "clean", False))))

    def all(self) -> list[Metric]:
        """Every family, also those without a sample."""
        return list(vars(self).values())


def registry(project: Project, schedulers: Schedulers | None = None) -> CollectorRegistry:
    """A registry with the metrics of a project's books, as prometheus_client's exporters take it."""
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(Books(project, schedulers))
    return collectors
