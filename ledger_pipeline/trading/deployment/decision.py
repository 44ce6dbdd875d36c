"""What a deployment decides for one session, as one event of the book, and everything that can be said of it later.

DECIDED stands in one commit with the intents of its orders; NO_ACTION and BLOCKED stand alone, each with its reasons.
The event holds what it was decided from, so it can be decided again from the record alone and compared by its hash.

A decision is keyed by deployment, session and number; the number goes up only when a person asks, with a reason, for
another decision in the same period. The run key is over the whole policy (or experiment), the book and the period.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ledger_pipeline.book.lifecycle import EXPIRED, REJECTED
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.events import Blocked, Decided, Deciding, Event, NoAction
from ledger_pipeline.core.identity import canonical_json, hash_json
from ledger_pipeline.core.times import parse_time, time_text
from ledger_pipeline.trading.orders.halts import standing
from ledger_pipeline.trading.orders.legs import Leg, decision_id, leg_from_json, leg_to_json
from ledger_pipeline.trading.orders.pretrade import codes
from ledger_pipeline.trading.planning.guardrails import Verdict
from ledger_pipeline.trading.planning.policy import Schedule
from ledger_pipeline.trading.rows import order_row
from ledger_pipeline.trading.session_hours import NEW_YORK

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.orders import Order
    from ledger_pipeline.book.state import BookState

PLANNED, NO_ACTION, BLOCKED = "PLANNED", "NO_ACTION", "BLOCKED"
DAILY, HOURLY, WEEKLY, MONTHLY, QUARTERLY = "daily", "hourly", "weekly", "monthly", "quarterly"
GRANULARITIES = (DAILY, HOURLY, WEEKLY, MONTHLY, QUARTERLY)
_EVERY = {WEEKLY: Schedule(every="week"), MONTHLY: Schedule(every="month"), QUARTERLY: Schedule(every="quarter")}
_KINDS: dict[str, type[Deciding]] = {PLANNED: Decided, NO_ACTION: NoAction, BLOCKED: Blocked}
_TIMED = ("DECIDED", "NO_ACTION", "BLOCKED", "ORDER_INTENDED", "ORDER_SUBMITTED", "SUBMIT_UNKNOWN",
          "ORDER_ACKNOWLEDGED", "ORDER_REJECTED", "ORDER_CANCELED", "ORDER_EXPIRED", "FILLED")  # fmt: skip


@dataclass
class Timeline:
    """When what happened in a run: names with the broker's time and milliseconds since the start by a clock that never
    goes back. Each is noted before the side effect that it names.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def note(self, name: str, at: datetime | None = None) -> None:
        """Note that `name` happens now; `at` is the broker's time, else this machine's."""
        elapsed = round((time.monotonic() - self.started) * 1000)
        self.events.append({"name": name, "timestamp": time_text(at or datetime.now(UTC)), "elapsed": elapsed})


@dataclass(frozen=True)
class Key:
    """Which decision: of a deployment in a session, the `number`th that was asked for, in an hour of New York when it
    decides hourly.
    """

    deployment: str
    session: date
    number: int = 1
    hour: int | None = None

    @property
    def policy(self) -> str:
        """What stands in the ids of its orders; no deployment is called like this."""
        hour = "" if self.hour is None else f"--h{self.hour:02d}"
        return f"{self.deployment}{hour}" + (f"--{self.number}" if self.number > 1 else "")

    @property
    def id(self) -> str:
        """The correlation id of everything that it leads to."""
        return decision_id(self.policy, self.session)

    def period(self, granularity: str) -> str:
        """The period that it is the decision of: 2026-01-05, 2026-01-05T14, 2026-W02, 2026-01 or 2026-Q1."""
        if granularity in _EVERY:
            return _EVERY[granularity].period(self.session)
        hour = "" if granularity == DAILY or self.hour is None else f"T{self.hour:02d}"
        return self.session.isoformat() + hour

    def uses_up(self, other: Key, granularity: str) -> bool:
        """Whether this decision is that of the period in which `other` is to decide. One of a whole session is that of
        each of its hours.
        """
        if granularity == HOURLY and self.hour is None:
            return self.session == other.session
        return self.period(granularity) == other.period(granularity)


_ID = re.compile(r"([a-z0-9](?:[a-z0-9_]|-(?!-))*)(?:--h(\d\d))?(?:--(\d+))?\.(\d{4}-\d\d-\d\d)")


def key_of(correlation_id: str | None) -> Key | None:
    """The key of a correlation id; None when it is not that of a decision."""
    match = _ID.fullmatch(correlation_id or "")
    if match is None:
        return None
    name, hour, number, session = match.groups()
    try:
        return Key(name, date.fromisoformat(session), int(number or 1), None if hour is None else int(hour))
    except ValueError:
        return None  # there is no such day


def key_at(deployment: str, session: date, granularity: str, now: datetime, number: int = 1) -> Key:
    """The key of a decision that is made now (aware). InputError for an unknown granularity."""
    if granularity not in GRANULARITIES:
        raise InputError(f"granularity is {granularity!r}; it is one of {', '.join(GRANULARITIES)}.")
    return Key(deployment, session, number, now.astimezone(NEW_YORK).hour if granularity == HOURLY else None)


@dataclass(frozen=True)
class Decision:
    """One decision. reasons: why nothing is traded, or why what is, as texts "CODE: sentence". identity: hash of the
    whole policy, or of the experiment. hash: of the plan, or of the evaluation. evidence: what it was decided from.
    prices: what it was decided at, dollars by symbol. memory: what a strategy remembers, None when nothing changed.
    """

    key: Key
    book: str
    granularity: str
    status: str
    at: datetime
    reasons: tuple[str, ...]
    legs: tuple[Leg, ...]
    identity: str
    hash: str
    evidence: Mapping[str, Any]
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    memory: Mapping[str, Any] | None = None
    timeline: tuple[Mapping[str, Any], ...] = ()
    again: str | None = None

    @property
    def run_key(self) -> str:
        """The key of the run: the period, and a hash over the whole policy or experiment, the book and the number."""
        period = self.key.period(self.granularity)
        return f"{period}-{hash_json([self.identity, self.key.deployment, self.book, period, self.key.number])[:16]}"

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON, amounts as decimal texts; `from_json` reads it back."""
        return {
            "decision": self.key.id,
            "book": self.book,
            "run_key": self.run_key,
            "deployment": self.key.deployment,
            "session": self.key.session.isoformat(),
            "number": self.key.number,
            "granularity": self.granularity,
            "period": self.key.period(self.granularity),
            "status": self.status,
            "at": time_text(self.at),
            "reasons": list(self.reasons),
            "legs": [leg_to_json(leg) for leg in self.legs],
            "identity": self.identity,
            "hash": self.hash,
            "evidence": dict(self.evidence),
            "prices": {symbol: str(price) for symbol, price in sorted(self.prices.items())},
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "notes": list(self.notes),
            "timeline": [dict(row) for row in self.timeline],
            # as text, so that its numbers stay what they are
            **({} if self.memory is None else {"memory": canonical_json(dict(self.memory)).decode()}),
            **({"again": self.again} if self.again else {}),
        }

    def event(self) -> Event:
        """The event of the book: DECIDED, NO_ACTION or BLOCKED."""
        return Event(
            payload=_KINDS[self.status](decision=self.to_json(), why=self.reasons),
            occurred_at=self.at,
            strategy=self.key.deployment,
            correlation_id=self.key.id,
            reasons=codes(self.reasons),
        )


def from_json(document: Mapping[str, Any]) -> Decision:
    """The decision of `to_json`; InputError when it is none."""
    try:
        key = key_of(document["decision"])
        if key is None:
            raise ValueError(f"{document['decision']!r} is no decision")
        return Decision(
            key=key,
            book=document["book"],
            granularity=document["granularity"],
            status=document["status"],
            at=parse_time(document["at"]),
            reasons=tuple(document["reasons"]),
            legs=tuple(leg_from_json(dict(row)) for row in document["legs"]),
            identity=document["identity"],
            hash=document["hash"],
            evidence=document["evidence"],
            prices={symbol: Decimal(price) for symbol, price in document["prices"].items()},
            verdicts=tuple(Verdict(**row) for row in document["verdicts"]),
            notes=tuple(document["notes"]),
            memory=None if "memory" not in document else json.loads(document["memory"]),
            timeline=tuple(document["timeline"]),
            again=document.get("again"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"the decision cannot be read ({type(error).__name__}: {error}).") from None


def document_of(event: Event) -> Mapping[str, Any] | None:
    """The decision that an event holds, as JSON; None when it holds none."""
    return event.payload.decision if isinstance(event.payload, Deciding) else None


def why_of(event: Event) -> tuple[str, ...]:
    """Why an event of a decision led to no order, as "CODE: sentence"."""
    return (event.payload.why or ()) if isinstance(event.payload, Deciding) else ()


def decided_events(book: Book) -> Iterator[tuple[Key, Event]]:
    """The events of decisions, of all deployments, in order."""
    for event in book.events(kinds=("DECIDED", "NO_ACTION", "BLOCKED")):
        key = key_of(event.correlation_id)
        if key is not None and event.order_id is None:
            yield key, event


def memory_of(book: Book, deployment: str) -> dict[str, Any]:
    """What the strategy of a deployment remembers: what its last decision handed on, {} at first."""
    memory = "{}"
    for event in book.events(kinds=("DECIDED",)):
        decision = document_of(event) or {}
        if decision.get("deployment") == deployment:
            memory = decision.get("memory", memory)
    return json.loads(memory)


def orders_by_decision(state: BookState, deployment: str) -> dict[Key, list[Order]]:
    """The orders of a deployment by the decision that they belong to, as they were intended."""
    orders_of: dict[Key, list[Order]] = {}
    for order in state.orders.values():
        key = key_of(order.correlation_id)
        if key is not None and key.deployment == deployment:
            orders_of.setdefault(key, []).append(order)
    for orders in orders_of.values():
        orders.sort(key=lambda order: (order.intended_seq, order.order_id))
    return orders_of


def used(orders: Sequence[Order]) -> bool:
    """Whether a decision has used its period up: one of its orders was filled, or may still be, or was canceled, which
    is somebody's will. One that was refused, or ended without a fill, has bought nothing.
    """
    return any(
        order.fills or order.is_open or (order.submits and order.status not in (REJECTED, EXPIRED)) for order in orders
    )


def record(book: Book, key: Key) -> dict[str, Any]:
    """The run record of a decision, from the book alone: what was decided and from what, what was sent and filled, and
    when. NotFoundError when the book has no such decision.
    """
    events = [event for event in book.events(kinds=_TIMED) if event.correlation_id == key.id]
    last = next((event for event in reversed(events) if document_of(event) is not None and not event.order_id), None)
    if last is None:
        raise NotFoundError(f"book {book.name!r} holds no decision {key.id}; `ledger-pipeline dca history` shows them.")
    decision = dict(document_of(last) or {})
    orders = orders_by_decision(book.state, key.deployment).get(key, [])
    sent = [order for order in orders if order.submits or order.fills]
    timeline = decision.pop("timeline", [])
    happened = [
        {
            "name": event.kind.lower(),
            "timestamp": time_text(event.occurred_at),
            "seq": event.seq,
            "order": event.order_id,
        }
        for event in events
        if event.seq >= last.seq
    ]
    return {
        **decision,
        "seq": last.seq,
        "event_hash": hash_json(decision),
        "status": _outcome(decision["status"], orders),
        "decided": decision["status"],
        "plan_hash": decision["hash"],
        "dry_run": False,
        "executed": bool(sent),
        "why": list(why_of(events[-1])) if events[-1].kind in ("NO_ACTION", "BLOCKED") else [],
        "execution": {
            "orders_placed": len(sent),
            "order_ids": [order.order_id for order in sent],
            "broker_order_ids": [order.broker_order_id for order in sent],
            "orders": [order_row(order) for order in orders],
        },
        "metrics": {"duration_ms": _duration(events, last), "events": [*timeline, *happened]},
    }


def _outcome(status: str, orders: Sequence[Order]) -> str:
    """What became of a decision: its status while nothing was sent, else FILLED, PARTIAL, OPEN or FAILED."""
    if not used(orders):
        return status if not orders else "FAILED"
    if any(not order.is_settled for order in orders):
        return "OPEN"
    if all(order.status == "FILLED" for order in orders):
        return "FILLED"
    return "PARTIAL" if any(order.filled for order in orders) else "FAILED"


def _duration(events: Sequence[Event], first: Event) -> int:
    """Milliseconds from the decision to the last thing that happened to its orders, by the times in the book."""
    return round((max(event.occurred_at for event in events) - first.occurred_at).total_seconds() * 1000)


def history(book: Book, deployment: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """One row a decision, the newest first; `limit` of them at most. InputError for a limit below 1."""
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it is a whole number from 1, or left out for all decisions.")
    latest: dict[Key, Event] = {}
    for key, event in decided_events(book):
        if deployment is None or key.deployment == deployment:
            latest[key] = event
    rows = []
    orders = {name: orders_by_decision(book.state, name) for name in {key.deployment for key in latest}}
    for key, event in sorted(latest.items(), key=lambda pair: -pair[1].seq):
        decision = document_of(event) or {}
        mine = orders[key.deployment].get(key, [])
        status = {"DECIDED": PLANNED}.get(event.kind, event.kind)
        waits = sorted({why for one in mine if one.is_open and not one.submits
                        for why in standing(book.state, one.strategy, one.symbol)})  # fmt: skip
        rows.append(
            {
                "decision": key.id,
                "session": key.session.isoformat(),
                "deployment": key.deployment,
                "status": _outcome(status, mine),
                "orders": len(mine),
                "filled": str(sum((order.filled_value for order in mine), Decimal(0))),
                "plan_hash": decision.get("hash", "")[:16],
                "why": "; ".join((*why_of(event), *(f"not sent: {why}" for why in waits))),
                "at": time_text(event.occurred_at),
            }
        )
    return rows[:limit]
