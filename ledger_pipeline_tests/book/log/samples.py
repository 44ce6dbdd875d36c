"""Events for the log: plain ones, and anything that an Event may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from ledger_pipeline.book.log.log import Log
from ledger_pipeline.core.events import KINDS, Event
from ledger_pipeline_tests.events import event_of

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
AMOUNT = st.one_of(st.none(), st.decimals(allow_nan=False, allow_infinity=False, places=9), st.just(Decimal("1E+3")))
SCALAR = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT | st.just("")
PAYLOAD = st.dictionaries(TEXT, st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6), max_size=4)  # fmt: skip
REASONS = st.lists(TEXT.filter(lambda text: "," not in text), max_size=3).map(tuple)
NAME = st.none() | TEXT

EVENT = st.builds(
    event_of,
    kind=st.sampled_from(KINDS),
    occurred_at=st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),
    strategy=NAME, symbol=NAME, side=st.sampled_from([None, "BUY", "SELL"]),
    quantity=AMOUNT, price=AMOUNT, fee=AMOUNT, cash_delta=AMOUNT,
    order_id=NAME, broker_order_id=NAME, fill_id=NAME, correlation_id=NAME, causation_id=NAME,
    reasons=REASONS, payload=PAYLOAD.map(lambda row: {**row, "break_id": "b", "scope": "s"}),
)  # fmt: skip


def deposit(number: int = 1, at: datetime = NOON) -> Event:
    """A deposit that can be told from others by its number."""
    return event_of(kind="DEPOSITED", occurred_at=at, cash_delta=Decimal(number), payload={"activity_id": f"d{number}"})


def given(events: Sequence[Event], book: str, after: int = 0) -> list[Event]:
    """The events with the ids that a book whose last event is `after` gives them."""
    return [replace(event, book=book, seq=seq, event_id=f"{book}-{seq}") for seq, event in enumerate(events, after + 1)]


def appended(log: Log, *events: Event):
    """Append one commit at the head of a log."""
    return log.append(given(events, log.book, log.head.events))


def clock(start: datetime = NOON, step: timedelta = timedelta(0)) -> Callable[[], datetime]:
    """A clock that stands at `start`, or goes on by `step` each time it is read."""
    moments = [start]

    def now() -> datetime:
        moments.append(moments[-1] + step)
        return moments[-2]

    return now
