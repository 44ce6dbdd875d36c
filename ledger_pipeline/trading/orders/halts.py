"""The kill switch: what stops trading at once, who may set it, and what it takes to lift it.

Anything halts that says so, in any of three places:

file         any entry of the project's root named HALT (everything), HALT.account, HALT.strategy.<id> or
             HALT.symbol.<SYMBOL>. `touch HALT` needs neither Python nor a broker nor the book.
environment  LEDGER_PIPELINE_HALT, a list of scopes parted by commas: global, account, strategy:<id>, symbol:<SYMBOL>
book         an event HALTED without a later RESUMED, by `halt` and `resume`

What cannot be read or understood halts everything: an unreadable root, a file HALT.xyz, the variable set to "0". A halt
stops submits, never cancels or readings. Lifting the book's halt takes a person's name, a reason and a clean
reconciliation made after the halt; a file is removed and a variable unset by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_pipeline.core.errors import BlockedError, InputError
from ledger_pipeline.core.events import (
    UNATTRIBUTED,
    BreakOpened,
    Event,
    Halted,
    Reconciled,
    Resumed,
    Switch,
    payload_as,
)
from ledger_pipeline.core.identity import ID_PATTERN
from ledger_pipeline.project import find_project
from ledger_pipeline.trading.orders.legs import SYMBOL

if TYPE_CHECKING:
    from ledger_pipeline.book.book import Book
    from ledger_pipeline.book.state import BookState

VARIABLE = "LEDGER_PIPELINE_HALT"
FILE = "HALT"
RECONCILED_WITHIN = timedelta(minutes=15)


def is_scope(scope: str) -> bool:
    """Whether `scope` is global, account, strategy:<id> or symbol:<SYMBOL>."""
    kind, _, name = scope.partition(":")
    if kind == "strategy":
        return name == UNATTRIBUTED or ID_PATTERN.fullmatch(name) is not None
    if kind == "symbol":
        return SYMBOL.fullmatch(name) is not None
    return scope in ("global", "account")


def check_scope(scope: str) -> str:
    """`scope` if `is_scope`, else InputError."""
    if not isinstance(scope, str) or not is_scope(scope):
        raise InputError(f"scope {scope!r} is none of global, account, strategy:<id> and symbol:<SYMBOL>.")
    return scope


def covers(scope: str, strategy: str | None, symbol: str | None) -> bool:
    """Whether a halt or break of `scope` stops an order of `strategy` in `symbol`; what is no scope stops all."""
    if not is_scope(scope):
        return True
    kind, _, name = scope.partition(":")
    return {"strategy": name == strategy, "symbol": name == symbol}.get(kind, True)


def check(
    book_state: BookState,
    *,
    root: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    strategy: str | None = None,
    symbol: str | None = None,
) -> tuple[str, ...]:
    """Why an order of `strategy` in `symbol` may not be sent: "CODE: sentence" for each halt; empty when none.

    `root` is the project's directory, `environment` the process's variables; both are found when left out. Without
    strategy and symbol only what halts everything counts.
    """
    reasons = [
        *_from_files(Path(root) if root is not None else find_project().root),
        *_from_environment(os.environ if environment is None else environment),
        *_from_book(book_state),
    ]
    return tuple(reason for scope, reason in reasons if covers(scope, strategy, symbol))


def standing(state: BookState, strategy: str | None = None, symbol: str | None = None) -> tuple[str, ...]:
    """The halts that stand in the book and stop an order of `strategy` in `symbol`: "HALTED: sentence" for each."""
    return tuple(reason for scope, reason in _from_book(state) if covers(scope, strategy, symbol))


def _from_files(root: Path) -> Iterable[tuple[str, str]]:
    try:
        names = sorted(name for name in os.listdir(root) if name.upper().startswith(FILE))
    except OSError as error:
        why = error.strerror or type(error).__name__
        return [("global", f"HALT_FILE: the directory {root} cannot be read for a file {FILE} ({why})")]
    return [(scope, f"HALT_FILE: the file {root / name} halts {scope}") for name in names for scope in _of_name(name)]


def _of_name(name: str) -> list[str]:
    """The scope that a file of this name halts; none for a name that only begins like HALT, such as HALTING.md."""
    if re.fullmatch(rf"{FILE}[A-Za-z0-9_-].*", name, re.IGNORECASE | re.DOTALL):
        return []
    scope = name[len(FILE) + 1 :].replace(".", ":", 1)
    return [scope if name.startswith(FILE) and is_scope(scope) else "global"]


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    text = environment.get(VARIABLE)
    if text is None:
        return []
    scopes = [part.strip() for part in text.split(",")]
    if not all(is_scope(scope) for scope in scopes):
        return [("global", f"HALT_ENVIRONMENT: {VARIABLE} is set and names no scope that is known, so it halts all")]
    return [(scope, f"HALT_ENVIRONMENT: {VARIABLE} halts {scope}") for scope in scopes]


def _from_book(state: BookState) -> Iterable[tuple[str, str]]:
    for scope, event in state.halts.items():
        switch = payload_as(event, Halted)
        by, reason = switch.by or "somebody", switch.reason or "no reason given"
        yield scope, f"HALTED: {scope} since event {event.seq} by {by} ({reason})"


def halt(book: Book, scope: str, by: str, reason: str, *, at: datetime | None = None) -> tuple[Event, ...]:
    """Stop all submits of a scope from now on; returns the event, or nothing when the scope is halted already.

    InputError without a scope, a name and a reason.
    """
    event = _event(Halted, scope, by, reason, at)
    return book.append(lambda state: [] if scope in state.halts else [event])


def resume(
    book: Book,
    scope: str,
    by: str,
    reason: str,
    *,
    at: datetime | None = None,
    reconciled_within: timedelta = RECONCILED_WITHIN,
) -> tuple[Event, ...]:
    """Lift the book's halt of a scope; returns the event, or nothing when the scope is not halted in the book.

    BlockedError while a break is open, or without a clean reconciliation that is younger than `reconciled_within` and
    younger than the halt. InputError without a scope, a name and a reason. Files and variables that halt stay as they
    are: see `check`.
    """
    event = _event(Resumed, scope, by, reason, at)

    def decide(state: BookState) -> list[Event]:
        if scope not in state.halts:
            return []
        obstacles = reconciliation_reasons(state, event.occurred_at, reconciled_within)
        last = state.last_reconciled
        if not obstacles and (last is None or last.seq < state.halts[scope].seq):
            obstacles = (f"NOT_RECONCILED: the last reconciliation is older than the halt of {scope}",)
        if obstacles:
            why = "; ".join(obstacle.partition(": ")[2] for obstacle in obstacles)
            raise BlockedError(f"{scope} stays halted: {why}. Reconcile, settle what differs, then resume.")
        return [event]

    return book.append(decide)


def reconciliation_reasons(
    state: BookState, now: datetime, within: timedelta, covered: Callable[[str], bool] = lambda scope: True
) -> tuple[str, ...]:
    """Why the book's record cannot be trusted: breaks that are open, and no clean reconciliation younger than `within`.

    `now` is the broker's time. Only breaks of a scope for which `covered` is true count, so that a break of one symbol
    does not stop the others.
    """
    reasons, last = record_reasons(state, covered), state.last_reconciled
    age = timedelta(0) if last is None else now - last.occurred_at
    if age <= within:
        return reasons
    return (
        *reasons,
        f"NOT_RECONCILED: the last reconciliation is {age.total_seconds() / 60:.0f} minutes old; "
        f"{within.total_seconds() / 60:.0f} are allowed",
    )


def record_reasons(state: BookState, covered: Callable[[str], bool]) -> tuple[str, ...]:
    """What of `reconciliation_reasons` the book says by itself, whatever the time is."""
    reasons = [
        f"BREAK: {break_id} is open and halts {scope or 'everything'}"
        for break_id, event in state.breaks.items()
        if covered((scope := payload_as(event, BreakOpened).scope) or "")
    ]
    last = state.last_reconciled
    if last is None:
        return (*reasons, "NOT_RECONCILED: the book was never reconciled with the broker")
    verdict = payload_as(last, Reconciled)
    if verdict.clean is not True and _any(verdict.scopes, covered):
        reasons.append("NOT_RECONCILED: the last reconciliation was not clean")
    if state.overridden_seq > last.seq:
        reasons.append("NOT_RECONCILED: the book was overridden since the last reconciliation")
    return tuple(reasons)


def _any(scopes: Sequence[str] | None, covered: Callable[[str], bool]) -> bool:
    return not scopes or any(covered(scope) for scope in scopes)


def _event(switch: type[Switch], scope: str, by: str, reason: str, at: datetime | None) -> Event:
    check_scope(scope)
    for what, text in (("name", by), ("reason", reason)):
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"to {switch.kind.lower().removesuffix('ed')} {scope} give a {what}: who does it, and why."
            )
    payload = switch(scope=scope, by=by.strip(), reason=reason.strip())
    return Event(payload=payload, occurred_at=at or datetime.now(UTC))
