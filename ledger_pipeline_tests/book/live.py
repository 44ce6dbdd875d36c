"""Live books for tests: events written by hand, histories as a broker makes them, a book with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.state import BookState
from ledger_pipeline.core.errors import RefusedError
from ledger_pipeline.core.events import Event
from ledger_pipeline_tests.events import event_of

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
DETAILS = {"strategy": "core", "symbol": "VTI", "side": "BUY", "quantity": "10", "session": "2026-01-05"}


class Clock:
    """A clock that moves one second each time it is read."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def a_book(folder: Path, name: str = "paper") -> Book:
    """An empty book in a folder."""
    return open_book(str(folder / name), clock=Clock())


def at(seconds: float) -> datetime:
    """A moment after START."""
    return START + timedelta(seconds=seconds)


def event(kind: str, seq: int = 0, **fields: Any) -> Event:
    """An event about order `o` of 10 VTI, unless the fields say otherwise; amounts may be text."""
    values: dict[str, Any] = {"occurred_at": at(seq), "seq": seq, "event_id": f"b-{seq}" if seq else "", "book": "b"}
    if kind.startswith("ORDER") or kind.startswith("FILL") or kind == "SUBMIT_UNKNOWN":
        values |= {"strategy": "core", "symbol": "VTI", "order_id": "o"}
    values |= fields
    for name in ("quantity", "price", "fee", "cash_delta"):
        if isinstance(values.get(name), str):
            values[name] = Decimal(values[name])
    if kind in _NEEDED:
        values["payload"] = _NEEDED[kind] | values.get("payload", {})
    return event_of(kind=kind, **values)


_NEEDED = {
    "HALTED": {"scope": "global"}, "RESUMED": {"scope": "global"},
    "BREAK_OPENED": {"break_id": "x"}, "BREAK_CLOSED": {"break_id": "x"},
}  # fmt: skip


def intent(seq: int = 0, quantity: str | None = "10", **fields: Any) -> Event:
    """The intent of an order; `payload` adds to market, day, session 2026-01-05."""
    told = {
        "type": "market",
        "time_in_force": "day",
        "session": "2026-01-05",
        "attempt": 1,
        **fields.pop("payload", {}),
    }
    return event("ORDER_INTENDED", seq, **{"side": "BUY", "quantity": quantity, "payload": told, **fields})


def filled(seq: int, fill_id: str, quantity: str, price: str = "100", fee: str = "0", **fields: Any) -> Event:
    """A fill, or with kind= a correction; its cash follows from its amounts. `payload` is kept as it is."""
    side = fields.pop("side", "BUY")
    sign = -1 if side == "BUY" else 1
    cash = sign * Decimal(quantity) * Decimal(price) - Decimal(fee)
    kind = fields.pop("kind", "FILLED")
    values = {"side": side, "quantity": quantity, "price": price, "fee": fee, "cash_delta": cash, "fill_id": fill_id}
    return event(kind, seq, **{**values, **fields})


def busted(seq: int, fill: Event, **fields: Any) -> Event:
    """The bust that takes a fill back."""
    values = {
        "side": "SELL" if fill.side == "BUY" else "BUY",
        "quantity": fill.quantity,
        "price": fill.price,
        "fee": -(fill.fee or Decimal(0)),
        "cash_delta": -(fill.cash_delta or Decimal(0)),
        "payload": {"fill": fill.fill_id},
        "order_id": fill.order_id,
        "symbol": fill.symbol,
    }
    return event("FILL_BUSTED", seq, **{**values, **fields})


def state_of(*events: Event) -> BookState:
    """The state after events that must all be accepted."""
    state = BookState("b")
    for one in events:
        state.check(one)
        state.apply(one)
    return state


def fed(arrivals: list[Event], watch: Any = None) -> BookState:
    """The state after events in any order, with repetitions, fed as a poller does: what is refused is offered again
    while others get in, since a bust may come before its fill. `watch(state)` is called after each that got in.
    """
    state, waiting = BookState("b"), list(arrivals)
    while True:
        refused = []
        for one in waiting:
            try:
                state.check(one)
            except RefusedError:
                refused.append(one)
                continue
            state.apply(one)
            if watch is not None:
                watch(state)
        if len(refused) == len(waiting):
            return state
        waiting = refused


@dataclass(frozen=True)
class History:
    """What a broker did with one order: ours is what we wrote before, theirs what it told; the end by the broker."""

    ours: tuple[Event, ...]
    theirs: tuple[Event, ...]
    status: str
    filled: Decimal


_ENDS = {"CANCELED": "ORDER_CANCELED", "EXPIRED": "ORDER_EXPIRED", "REPLACED": "ORDER_REPLACED"}


@st.composite
def histories(draw: st.DrawFn, order_id: str = "o", first_seq: int = 1, symbol: str = "VTI") -> History:
    """A consistent history: acknowledged, filled in parts, some fills taken back or corrected, ended or still open."""
    units = draw(st.integers(1, 40))
    whole = draw(st.booleans())
    parts, left = [], units
    while left and len(parts) < 5 and draw(st.booleans()):
        parts.append(draw(st.integers(1, left)))
        left -= parts[-1]
    if whole and left:
        parts.append(left)
        left = 0
    seq = first_seq
    side = draw(st.sampled_from(["BUY", "SELL"]))
    common = {"order_id": order_id, "symbol": symbol}

    def next_seq() -> int:
        nonlocal seq
        seq += 1
        return seq - 1

    ours = [intent(next_seq(), str(units), side=side, **common), event("ORDER_SUBMITTED", next_seq(), **common)]
    theirs = []
    if draw(st.booleans()):
        theirs.append(event("SUBMIT_UNKNOWN", next_seq(), **common))
    acknowledged = draw(st.booleans()) or not (parts or theirs)
    if acknowledged:
        theirs.append(event("ORDER_ACKNOWLEDGED", next_seq(), broker_order_id=f"broker-{order_id}", **common))
    fills, total = [], 0
    for number, part in enumerate(parts):
        total += part
        told = {"cumulative": str(total), "leaves": str(units - total), "source": "broker"}
        price = draw(st.sampled_from(["100", "99.5", "101.25"]))
        fee = draw(st.sampled_from(["0", "0.35"]))
        fill = filled(next_seq(), f"{order_id}-f{number}", str(part), price, fee, side=side, payload=told, **common)
        fills.append(fill)
    theirs += fills
    net, changed = Decimal(total), []
    for fill in fills:
        what = draw(st.sampled_from(["keep", "keep", "bust", "correct"]))
        if what == "keep":
            continue
        changed.append(busted(next_seq(), fill))
        net -= fill.quantity
        if what == "correct":
            amount = draw(st.integers(1, int(fill.quantity)))
            told = {"fill": fill.fill_id, "source": "broker"}
            changed.append(
                filled(
                    next_seq(),
                    f"{fill.fill_id}-c",
                    str(amount),
                    "98",
                    kind="FILL_CORRECTED",
                    side=side,
                    payload=told,
                    **common,
                )
            )
            net += amount
    status = "FILLED" if parts and not left else "PARTIALLY_FILLED" if parts else "OPEN" if acknowledged else "UNKNOWN"
    end = draw(st.sampled_from(["", *_ENDS])) if left else ""
    if end:
        stated = draw(st.sampled_from([net, Decimal(total)]))  # before or after it took fills back
        told = {"filled_quantity": str(stated), "reason": "it ended"}
        theirs.append(event(_ENDS[end], next_seq(), payload=told, **common))
        status = end
    elif not parts and draw(st.booleans()):
        theirs.append(event("ORDER_REJECTED", next_seq(), payload={"reason": "no"}, **common))
        status = "REJECTED"
    return History(tuple(ours), tuple(theirs + changed), status, net)
