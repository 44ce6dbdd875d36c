"""Breaks: differences between the book's record and the broker's, and what a person is to do about each.

A break is opened and closed by events and halts its scope while it is open. There are two sorts. One is a state of
things that can be compared again (a position, the cash, an order's fills): it closes by itself when a later
reconciliation finds it gone, a fill having come late, say. The other is a fact that stays true however often one looks
(an order that the book never intended, an activity that nobody here understands): it is recorded once, as
UNRECOGNIZED, and only a named person's override closes it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.events import BreakClosed, BreakOpened, Event, Unrecognized, payload_as

ACCOUNT = "account"

_LOOK = "Reconcile again once it is mended: this break closes by itself."
_ANSWER = "answer with `ledger-pipeline book override`, naming yourself and the reason."
WHAT_TO_DO = {
    # These compare two records and close by themselves when the records agree again.
    "unstable": f"The account or the book kept changing while it was read: wait until it is quiet. {_LOOK}",
    "unreadable": f"The broker could not be read, and what cannot be read counts as a difference. {_LOOK}",
    "account_blocked": f"The broker does not let this account trade: settle it with the broker. {_LOOK}",
    "order_lost": f"The broker has no such order: check that these are the right account and keys. {_LOOK}",
    "order_fills": f"Fills and the order disagree: activities may be late, so reconcile again. If it stays, {_ANSWER}",
    "order_alive": f"The book has closed this order and the broker still works it: cancel it at the broker. {_LOOK}",
    "order_unrecognized": f"The broker gives this order a status that is not known here: ask the broker. {_LOOK}",
    "position": f"Look for a trade, transfer or split outside this book. If it is explained, {_ANSWER}",
    "cash": f"Look for a transfer, fee or trade outside this book. If it is explained, {_ANSWER}",
    "split": f"The symbol rests until the broker's position shows the split as well. {_LOOK}",
    # These are facts: recorded once, closed by an override only.
    "foreign": f"Somebody else trades this account: cancel what is open, then {_ANSWER}",
    "order_without_intent": f"The book never intended this order of its own: find who sent it, then {_ANSWER}",
    "order_mismatch": f"The broker's order is not what was intended: cancel what is open, then {_ANSWER}",
    "order_revived": f"The book holds that the broker never took this order: cancel what is open, then {_ANSWER}",
    "order_overfilled": f"The broker filled more than was asked for: see what to do with it, then {_ANSWER}",
    "fill_refused": f"The fill cannot belong to the order it names: ask the broker, then {_ANSWER}",
    "activity_restated": f"The broker restated an activity: see what changed in cash and positions, then {_ANSWER}",
}
CLOSES_BY_ITSELF = frozenset({
    "unstable", "unreadable", "account_blocked", "order_lost", "order_fills", "order_alive", "order_unrecognized",
    "position", "cash", "split",
})  # fmt: skip


@dataclass(frozen=True)
class Break:
    """One difference: what the book says and what the broker says, as sentences or amounts for a person to read.

    break_id is `<kind>:<key>`; scope is what it halts: `account` or `symbol:X`. advice: what to do about this very one,
    where that is more than what its kind asks for.
    """

    kind: str
    key: str
    book: str
    broker: str
    scope: str = ACCOUNT
    symbol: str | None = None
    difference: str = ""
    advice: str = ""

    @property
    def break_id(self) -> str:
        """What the break is called in the book, the same however often it is found."""
        return f"{self.kind}:{self.key}" if self.key else self.kind

    @property
    def what_to_do(self) -> str:
        """What a person is to do about it."""
        return self.advice or WHAT_TO_DO.get(self.kind, f"See what it is, then {_ANSWER}")

    def to_json(self) -> dict[str, Any]:
        """The break as a JSON object."""
        row = asdict(self)
        del row["advice"]
        return {"break_id": self.break_id, **row, "what_to_do": self.what_to_do}


def break_opened(difference: Break, at: datetime, activity_id: str | None = None) -> Event:
    """The event that opens a break; `activity_id` is what it is about, where that is an activity."""
    return Event(
        payload=BreakOpened(
            break_id=difference.break_id,
            scope=difference.scope,
            break_kind=difference.kind,
            book=difference.book,
            broker=difference.broker,
            difference=difference.difference,
            what_to_do=difference.what_to_do,
            activity_id=activity_id,
        ),
        occurred_at=at,
        symbol=difference.symbol,
        reasons=(difference.kind.upper(),),
    )


def break_of(event: Event) -> Break:
    """The break that a BREAK_OPENED event opened."""
    opening = payload_as(event, BreakOpened)
    kind, _, key = opening.break_id.partition(":")
    return Break(
        kind=opening.break_kind or kind,
        key=key,
        book=opening.book or "",
        broker=opening.broker or "",
        scope=ACCOUNT if opening.scope is None else opening.scope,
        symbol=event.symbol,
        difference=opening.difference or "",
        advice=opening.what_to_do or "",
    )


def break_closed(break_id: str, at: datetime, why: str, by: str | None = None) -> Event:
    """The event that closes a break; `why` says what ended it, `by` who did, where that was a person."""
    return Event(payload=BreakClosed(break_id=break_id, why=why, by=by), occurred_at=at)


def recorded_once(difference: Break, activity_id: str, at: datetime, facts: dict[str, Any]) -> tuple[Event, Event]:
    """A fact that stays true: its UNRECOGNIZED event, under an id that the book takes once, and the break it opens.

    The facts change neither cash nor positions: what they did shows as a difference of its own, and a person decides.
    """
    fact = Event(
        payload=Unrecognized(activity_id=activity_id, extra=facts),
        occurred_at=at,
        symbol=difference.symbol,
        reasons=(difference.kind.upper(),),
    )
    return fact, break_opened(difference, at, activity_id)


def unopened(events: Iterable[Event], open_breaks: Container[str]) -> tuple[Event, ...]:
    """The events without those that open a break which is open already."""
    return tuple(
        event
        for event in events
        if not isinstance(event.payload, BreakOpened) or event.payload.break_id not in open_breaks
    )


def shown(value: Decimal | None) -> str:
    """An amount for a person: plain digits, `none` for what is not there."""
    return "none" if value is None else decimal_text(value)
