"""What changed the account besides fills: dividends, splits, deposits, withdrawals, interest and fees as events.

A book holds the positions of several strategies in one account, so a dividend or a split of a symbol is shared between
those that hold it, by what they hold when it is taken in, and the parts add up to the whole exactly. The broker gives
no holdings of the ex-date, so this is an assumption; it can only be wrong about who, never about how much.

A split changes positions before anybody knows that the broker's view has changed as well: the symbol is quarantined by
a break until a reconciliation finds both the same. A row that restates an older one, or has no meaning here, changes
nothing and opens a break.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from ledger_pipeline.core.amounts import CENT, GRAIN, exponent
from ledger_pipeline.core.events import UNATTRIBUTED, Activity, Event, payload_of, payload_to_json
from ledger_pipeline.trading.broker import UNRECOGNIZED, CashActivity
from ledger_pipeline.trading.reconciliation.activity_words import meaning_of
from ledger_pipeline.trading.reconciliation.breaks import ACCOUNT, Break, break_opened, recorded_once, shown
from ledger_pipeline.trading.reconciliation.readings import activity_key

Holdings = Mapping[tuple[str, str], Decimal]  # (strategy, symbol) -> quantity


def apportion(amount: Decimal, weights: Sequence[Decimal], grain: Decimal) -> list[Decimal]:
    """`amount` in parts proportional to `weights` (none negative, one positive), each a multiple of `grain`, by largest
    remainder; they add up to `amount` exactly, so an amount finer than `grain` makes the grain finer.
    """
    last = min(exponent(amount), exponent(grain))
    finest = min(exponent(weight) for weight in weights)
    whole = int(abs(amount).scaleb(-last))
    shares = [int(weight.scaleb(-finest)) for weight in weights]
    floors = [whole * share // sum(shares) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (-(whole * shares[i] % sum(shares)), i))
    for i in by_remainder[: whole - sum(floors)]:
        floors[i] += 1
    sign = -1 if amount < 0 else 1
    return [Decimal(sign * part).scaleb(last) for part in floors]


def activity_events(row: CashActivity, holdings: Holdings, read_at: datetime) -> tuple[Event, ...]:
    """The events of one activity, to be appended in one commit. Parts of one activity share its activity_id; rows of
    one split belong together, see `split_events`.

    read_at stands in for a row without a time, and no row is dated after it: a date alone may lie ahead.
    """
    at = _moment(row, read_at)
    if row.status != "executed":
        difference = Break(
            "activity_restated",
            activity_key(row),
            book=f"{row.type} {row.id} as it was first taken in, if it was",
            broker=f"the row is {row.status}: amount {shown(row.amount)}, quantity {shown(row.quantity)}",
            scope=_scope(row),
            symbol=row.symbol,
        )
        return recorded_once(difference, activity_key(row), at, _facts(row))
    if row.kind in ("DEPOSITED", "WITHDRAWN", "FEE", "INTEREST"):
        return (_event(row, at, cash_delta=row.amount),)
    if row.kind == "DIVIDEND" and row.symbol:
        return _dividend(row, _holders(holdings, row.symbol), at)
    if row.kind == "SPLIT" and row.symbol and row.quantity and _holders(holdings, row.symbol):
        return split_events((row,), holdings, read_at)
    meaning = meaning_of(row.type)
    difference = Break(
        "activity_unrecognized",
        row.id,
        book="nothing",
        broker=f"{row.type} {row.symbol or ''}, {meaning.what}: amount {shown(row.amount)}, quantity "
        f"{shown(row.quantity)}",
        scope=_scope(row),
        symbol=row.symbol,
        advice=f"{meaning.advice[:1].upper()}{meaning.advice[1:]}.",
    )
    return recorded_once(difference, row.id, at, _facts(row))


def _dividend(row: CashActivity, holders: dict[str, Decimal], at: datetime) -> tuple[Event, ...]:
    holders = holders or {UNATTRIBUTED: Decimal(0)}  # sold since the ex-date: the cash has come all the same
    weights = list(holders.values()) if any(holders.values()) else [Decimal(1)]
    parts = apportion(row.amount, weights, CENT)
    return tuple(
        _event(row, at, strategy=strategy, quantity=held, price=row.per_share, cash_delta=part)
        for (strategy, held), part in zip(holders.items(), parts, strict=True)
    )


def split_events(rows: Sequence[CashActivity], holdings: Holdings, read_at: datetime) -> tuple[Event, ...]:
    """The events of all rows of splits of one symbol, to be appended in one commit.

    A broker may send a split as two rows, the old shares away and the new ones in. Alone the first would leave nothing
    held, so it is left for a later reading, behind the same break that a split is, until the second is there.
    """
    first = rows[0]
    holders = _holders(holdings, first.symbol) if first.symbol else {}
    if not holders or any(row.status != "executed" or not row.quantity for row in rows):
        return tuple(event for row in rows for event in activity_events(row, holdings, read_at))
    held = sum(holders.values(), Decimal(0))
    after = held + sum((row.quantity or Decimal(0) for row in rows), Decimal(0))
    at = max(_moment(row, read_at) for row in rows)  # parts of one split are of one moment
    words = f"{first.type} of {' and '.join(shown(row.quantity) for row in rows)} shares"
    if after <= 0:
        difference = Break(
            "split",
            first.symbol or "",
            book=f"{shown(held)} shares are held",
            broker=f"{words}: the old shares are gone, the new ones have not come yet",
            scope=_scope(first),
            symbol=first.symbol,
        )
        return (break_opened(difference, at),)
    difference = Break(
        "split",
        first.symbol or "",
        book=f"a split takes the position from {shown(held)} to {shown(after)}",
        broker=words,
        scope=_scope(first),
        symbol=first.symbol,
    )
    parts = [event for row in rows for event in _restated(row, holders, at)]
    return (*parts, break_opened(difference, at, first.id))


def _restated(row: CashActivity, holders: dict[str, Decimal], at: datetime) -> Iterator[Event]:
    """One row of a split, shared by what each strategy held before it."""
    quantities = apportion(row.quantity or Decimal(0), list(holders.values()), GRAIN)
    amounts = apportion(row.amount, list(holders.values()), CENT)
    for strategy, quantity, amount in zip(holders, quantities, amounts, strict=True):
        if quantity or amount:
            yield _event(
                row,
                at,
                strategy=strategy,
                side="BUY" if quantity > 0 else "SELL",
                quantity=abs(quantity),
                cash_delta=amount,
            )


def _holders(holdings: Holdings, symbol: str) -> dict[str, Decimal]:
    """Quantities of the strategies that hold the symbol long, in the order of their names."""
    held = {strategy: quantity for (strategy, name), quantity in sorted(holdings.items()) if name == symbol}
    return {strategy: quantity for strategy, quantity in held.items() if quantity > 0}


def _event(row: CashActivity, at: datetime, **fields: Any) -> Event:
    payload = payload_of(row.kind, {"activity_id": activity_key(row), **_facts(row)})
    return Event(payload=payload, occurred_at=at, symbol=row.symbol, **fields)


def _facts(row: CashActivity) -> dict[str, Any]:
    """What the broker said, as JSON."""
    payload = Activity(
        type=row.type,
        date=row.date,
        amount=row.amount,
        quantity=row.quantity,
        per_share=row.per_share,
        status=None if row.status == "executed" else row.status,
    )
    return payload_to_json(payload)


def _moment(row: CashActivity, read_at: datetime) -> datetime:
    if row.at is not None:
        return row.at
    if row.date is None:
        return read_at
    return min(datetime.combine(row.date, time(), UTC), read_at)


def _scope(row: CashActivity) -> str:
    """What a row can have changed: one symbol, or with money in it the whole account."""
    if row.kind == "SPLIT" or (row.kind == UNRECOGNIZED and not row.amount):
        return f"symbol:{row.symbol}" if row.symbol else ACCOUNT
    return ACCOUNT
