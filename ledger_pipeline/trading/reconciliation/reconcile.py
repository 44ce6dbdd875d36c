"""Reconciliation: the book's record against the broker's, before anything may be traded.

The log is verified, the broker read until two passes agree, what is new taken in, and the rest compared: orders, fills,
positions, cash, the account itself. Differences open breaks, differences that are gone close theirs, and one RECONCILED
event keeps the evidence. The book must not have been written by anybody else in between, so that both sides are of one
moment: an account or a book that keeps moving gives the break `unstable`, never a clean answer. Nothing is adjusted.

The digest is over what was compared, not over when: the same records give the same digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book.drafts import order_event
from ledger_pipeline.core.amounts import ZERO, decimal_text
from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.events import BreakOpened, CashRounding, Event, Opened, OrderExpired, Reconciled, payload_as
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.core.times import time_text
from ledger_pipeline.trading.broker import Broker
from ledger_pipeline.trading.crash import crash_point
from ledger_pipeline.trading.reconciliation.breaks import (
    CLOSES_BY_ITSELF,
    Break,
    break_closed,
    break_of,
    break_opened,
    unopened,
)
from ledger_pipeline.trading.reconciliation.differences import Cash, cash_of, compare, lasting, positions_of
from ledger_pipeline.trading.reconciliation.ingest import Moved, take_in
from ledger_pipeline.trading.reconciliation.readings import (
    BEGINNING,
    Reading,
    bind,
    facts,
    read_news,
    read_stable,
    since,
)
from ledger_pipeline.trading.session_hours import GRACE, Hours

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

TRIES = 4  # readings that another writer of the book may spoil before it is called unstable
_LATE = timedelta(days=35)  # how far back a difference that is open already is looked for in what came late


@dataclass(frozen=True)
class Reconciliation:
    """The result. clean: no break is open. breaks: those that are, found now or unanswered from before. lines: one a
    thing compared, as (what, book, broker, difference). digest: SHA-256 (hex) over what was compared, empty when
    nothing could be. checked_at: aware, UTC, the broker's time.
    """

    book: str
    account_id: str | None
    environment: str | None
    clean: bool
    breaks: tuple[Break, ...]
    closed: tuple[str, ...]
    digest: str
    counts: Mapping[str, int]
    lines: tuple[tuple[str, str, str, str], ...]
    checked_at: datetime

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "book": self.book,
            "account_id": self.account_id,
            "environment": self.environment,
            "clean": self.clean,
            "breaks": [item.to_json() for item in self.breaks],
            "closed": list(self.closed),
            "digest": self.digest,
            "counts": dict(self.counts),
            "compared": [dict(zip(("what", "book", "broker", "difference"), row, strict=True)) for row in self.lines],
            "checked_at": time_text(self.checked_at),
        }


def reconcile(book: Book, broker: Broker, *, now: datetime | None = None) -> Reconciliation:
    """Compare the book with the broker and record the result. `now` (aware) stands in for the broker's clock.

    BrokerError when the broker could not be read: the break `unreadable` is open then. IntegrityError for a damaged
    log, or for the broker of another account or environment: nothing is recorded then.
    """
    bind(book, broker)
    book.verify()
    try:
        return _reconcile(book, broker, now or broker.clock().now)
    except BrokerError as error:
        unread = Break("unreadable", "", book="what it was last told", broker=str(error)[:200])
        at = now or datetime.now(UTC)
        book.append(lambda state: [] if unread.break_id in state.breaks else [break_opened(unread, at)])
        raise


def _reconcile(book: Book, broker: Broker, now: datetime) -> Reconciliation:
    for _ in range(TRIES):
        book.refresh()
        seq = book.state.seq
        reading = read_stable(book.state, broker)
        if reading is None:
            break
        try:
            taken = take_in(book, reading.news, only_at=seq)
            seq = taken[-1].seq if taken else seq
            if _take_in_late(book, broker, reading, seq):
                continue  # and compare again
            crash_point("during_reconcile")
            given_up = _give_up(book, broker, reading, now, seq)
            return _conclude(book, reading, now, given_up[-1].seq if given_up else seq, len(taken))
        except Moved:
            continue
    return _unstable(book, now)


def _take_in_late(book: Book, broker: Broker, reading: Reading, seq: int) -> bool:
    """Whether activities that were created long before the watermark explain why cash or a position differs, and were
    taken in now. They are read as far back as the book goes for a difference that is new, else for _LATE.
    """
    differing = {item.break_id for item in compare(book.state, reading) if item.kind in ("position", "cash")}
    start, opening = since(book.state), _opening(book)
    if not differing or start is None:
        return False
    if differing <= set(book.state.breaks):
        opening = max(opening or start - _LATE, start - _LATE)
    if opening is not None and opening >= start:
        return False
    return bool(take_in(book, read_news(book.state, broker, start=opening or BEGINNING), only_at=seq))


def _opening(book: Book) -> datetime | None:
    """From when on activities can be new to the book: None for one that began with an empty account, else when the
    account was adopted, since what came before is part of the opening.
    """
    adopted = (payload_as(event, Opened).as_of for event in book.events(kinds=["OPENED"]))
    return next((as_of for as_of in adopted if as_of), None)


def _give_up(book: Book, broker: Broker, reading: Reading, now: datetime, seq: int) -> tuple[Event, ...]:
    """End the orders that the broker does not have and that will not be sent any more: one never sent, once its
    deadline or session is over; one whose submit had no answer, only when its session has been over for GRACE.
    """
    absent = [order for order in book.state.open_orders() if _is_absent(order, reading)]
    hours = {session: _hours(broker, session) for session in sorted({order.session for order in absent})}

    def why(order: Order) -> str:
        if order.status == "INTENDED":
            late = order.deadline is not None and order.deadline <= now
            return "it was not sent in time" if late or hours[order.session].is_over(now) else ""
        return "it never reached the broker" if hours[order.session].is_over(now - GRACE) else ""

    def decide(state: BookState) -> list[Event]:
        if state.seq != seq:
            raise Moved
        return [
            order_event(OrderExpired(filled_quantity=ZERO, reason=why(order)), order, now)
            for order in absent
            if why(order)
        ]

    return book.append(decide) if absent else ()


def _is_absent(order: Order, reading: Reading) -> bool:
    return order.broker_order_id is None and reading.news.orders.get(order.order_id) is None


def _hours(broker: Broker, session: str) -> Hours:
    day = date.fromisoformat(session)
    return Hours(day, next((row for row in broker.calendar(day, day) if row.session == day), None))


def _conclude(book: Book, reading: Reading, now: datetime, seq: int, taken: int) -> Reconciliation:
    """Compare, and append the breaks and the verdict in one commit to a book whose last event is `seq`."""
    result: list[Reconciliation] = []

    def decide(state: BookState) -> list[Event]:
        if state.seq != seq:
            raise Moved
        differences = {item.break_id: item for item in compare(state, reading)}
        facts_found = list(lasting(state, reading))
        gone = [
            break_id
            for break_id, event in state.breaks.items()
            if payload_as(event, BreakOpened).break_kind in CLOSES_BY_ITSELF and break_id not in differences
        ]
        events = [break_opened(item, now) for break_id, item in differences.items() if break_id not in state.breaks]
        events += [event for pair in facts_found for event in unopened(pair, state.breaks)]
        events += [break_closed(break_id, now, why="the difference is gone") for break_id in gone]
        still = {break_id: break_of(event) for break_id, event in state.breaks.items() if break_id not in gone}
        new = {item.break_id: item for item in (break_of(pair[1]) for pair in facts_found)}
        breaks = still | differences | new
        cash = cash_of(state, reading)
        result[:] = [
            Reconciliation(
                book=state.book,
                account_id=state.account_id,
                environment=state.environment,
                clean=not breaks,
                breaks=tuple(breaks.values()),
                closed=tuple(gone),
                digest=_digest(state, reading),
                counts=_counts(state, reading, taken),
                lines=_lines(state, reading, cash),
                checked_at=now,
            )
        ]
        return [*events, _reconciled(result[0], cash)]

    book.append(decide)
    return result[0]


def _unstable(book: Book, now: datetime) -> Reconciliation:
    moving = Break("unstable", "", book="it, or the account, changed", broker="between one reading and the next")
    result: list[Reconciliation] = []

    def decide(state: BookState) -> list[Event]:
        breaks = {break_id: break_of(event) for break_id, event in state.breaks.items()}
        first = [] if moving.break_id in breaks else [break_opened(moving, now)]
        breaks.setdefault(moving.break_id, moving)
        result[:] = [
            Reconciliation(
                book=state.book,
                account_id=state.account_id,
                environment=state.environment,
                clean=False,
                breaks=tuple(breaks.values()),
                closed=(),
                digest="",
                counts={},
                lines=(),
                checked_at=now,
            )
        ]
        return [*first, _reconciled(result[0], cash_of(state, None))]

    book.append(decide)
    return result[0]


def _reconciled(result: Reconciliation, cash: Cash) -> Event:
    """The event that keeps the verdict and its evidence. What rounding left is accepted by a clean one only."""
    return Event(
        payload=Reconciled(
            clean=result.clean,
            digest=result.digest,
            counts=dict(result.counts),
            breaks=tuple(sorted(item.break_id for item in result.breaks)),
            scopes=tuple(sorted({item.scope for item in result.breaks})),
            compared=result.lines,
            cash=CashRounding(
                tolerance=cash.tolerance,
                accepted=cash.difference if result.clean else cash.accepted,
                fills_since_clean=0 if result.clean else cash.fills,
            ),
        ),
        occurred_at=result.checked_at,
    )


def _digest(state: BookState, reading: Reading) -> str:
    """SHA-256 (hex) over both records, without the time, the seq and whatever only the first look at them sees."""
    broker = facts(reading, since(state))
    looked_up = broker.pop("looked_up")
    record = {
        "cash": decimal_text(state.cash),
        "positions": sorted([*key, decimal_text(quantity)] for key, quantity in state.positions.items() if quantity),
        "orders": {
            order.order_id: [order.status, decimal_text(order.filled), looked_up.get(order.order_id)]
            for order in state.open_orders()
        },
    }
    return hash_json([state.book, state.account_id, state.environment, record, broker])


def _counts(state: BookState, reading: Reading, taken: int) -> dict[str, int]:
    open_orders = list(state.open_orders())
    return {
        "open_orders": len(open_orders),
        "in_flight": sum(_is_absent(order, reading) for order in open_orders),
        "broker_orders": len(reading.listed),
        "activities": len(reading.news.activities),
        "positions": len(reading.positions),
        "events_taken_in": taken,
    }


def _lines(state: BookState, reading: Reading, cash: Cash) -> tuple[tuple[str, str, str, str], ...]:
    positions = positions_of(state, reading)
    return tuple(
        (what, decimal_text(book), decimal_text(broker), decimal_text(broker - book))
        for what, (book, broker) in {"cash": (cash.book, cash.broker), **positions}.items()
    )


def report(result: Reconciliation) -> str:
    """The result for a person: what the book says, what the broker says, the difference, and what to do."""
    verdict = "clean" if result.clean else f"{len(result.breaks)} open break{'s' * (len(result.breaks) != 1)}"
    when = result.checked_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = [
        f"Reconciliation of book {result.book} ({result.environment} account {result.account_id}), {when}: {verdict}"
    ]
    if result.lines:
        text += ["", *_table([("", "book", "broker", "difference"), *result.lines])]
    for item in result.breaks:
        text += [
            "",
            f"Break {item.break_id} halts {item.scope}",
            f"  the book says    {item.book}",
            f"  the broker says  {item.broker}",
            *([f"  difference       {item.difference}"] if item.difference else []),
            f"  what to do       {item.what_to_do}",
        ]
    if result.closed:
        text += ["", "Closed, since the difference is gone: " + ", ".join(result.closed)]
    return "\n".join(text) + "\n"


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Rows in columns: the first to the left, amounts to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3))]).rstrip() for row in rows
    ]
