"""Trade entries written by hand, and what became of them in plain numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from ledger_pipeline.attribution.attribute import Attribution
from ledger_pipeline.attribution.entries import TradeEntry

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment after START."""
    return START + timedelta(seconds=seconds)


def entry(seq: int, side: str | None, quantity: Any, price: Any = None, strategy: str | None = None, **fields: Any):
    """An entry of VTI in account `acc`, `seq` seconds after START; fill id f<seq> for fills. Amounts may be text."""
    values: dict[str, Any] = {
        "event_id": f"b-{seq}",
        "kind": "FILLED",
        "seq": seq,
        "occurred_at": at(seq),
        "account": "acc",
        "symbol": "VTI",
        "side": side,
        "quantity": Decimal(str(quantity)),
        "price": None if price is None else Decimal(str(price)),
        "strategy": strategy,
    } | fields
    for name in ("fees", "cash"):
        if name in values:
            values[name] = Decimal(str(values[name]))
    if values["kind"] in ("FILLED", "FILL_CORRECTED"):
        values.setdefault("fill_id", f"f{seq}")
    return TradeEntry(**values)


def buy(seq: int, quantity: Any, price: Any, strategy: str | None = "A", **fields: Any) -> TradeEntry:
    """A buy."""
    return entry(seq, "BUY", quantity, price, strategy, **fields)


def sell(seq: int, quantity: Any, price: Any, strategy: str | None = "A", **fields: Any) -> TradeEntry:
    """A sell."""
    return entry(seq, "SELL", quantity, price, strategy, **fields)


def split(seq: int, change: Any, strategy: str | None = "A", **fields: Any) -> TradeEntry:
    """A split that changes a holding by a signed quantity."""
    side = "BUY" if Decimal(str(change)) > 0 else "SELL"
    return entry(seq, side, abs(Decimal(str(change))), None, strategy, kind="SPLIT", **fields)


def dividend(seq: int, cash: Any, strategy: str | None = "A", **fields: Any) -> TradeEntry:
    """A cash dividend."""
    return entry(seq, None, 0, None, strategy, kind="DIVIDEND", cash=cash, **fields)


def bust(seq: int, fill: TradeEntry, **fields: Any) -> TradeEntry:
    """The row that takes a fill back, as a book writes it."""
    side = "SELL" if fill.side == "BUY" else "BUY"
    more = {"fees": -fill.fees, "symbol": fill.symbol, "reverses": fill.fill_id, "kind": "FILL_BUSTED"} | fields
    return entry(seq, side, fill.quantity, fill.price, fill.strategy, **more)


def amounts(table: pa.Table, *names: str) -> dict[str, tuple]:
    """Sums of these columns, by strategy, where any is not zero; a holding that is short counts negative."""
    found: dict[str, list[Decimal]] = {}
    for row in table.to_pylist():
        sign = -1 if row.get("side") == "SHORT" and "open_quantity" in row else 1
        sums = found.setdefault(row["strategy"], [Decimal(0)] * len(names))
        for place, name in enumerate(names):
            sums[place] += sign * row[name]
    return {owner: tuple(sums) for owner, sums in sorted(found.items()) if any(sums)}


def realised(attribution: Attribution) -> dict[str, Decimal]:
    """What each strategy earned by sales; those that sold nothing are left out."""
    return {owner: sums[0] for owner, sums in amounts(attribution.matches, "realised").items()}


def held(attribution: Attribution) -> dict[str, Decimal]:
    """What each holds, over all symbols."""
    return {owner: sums[0] for owner, sums in amounts(attribution.lots, "open_quantity").items()}


def open_lots(attribution: Attribution) -> list[tuple[str, Decimal, Decimal]]:
    """(strategy, shares, cost) of each open lot, by strategy and age."""
    rows = [row for row in attribution.lots.to_pylist() if row["open_quantity"]]
    return [(row["strategy"], row["open_quantity"], row["open_cost"]) for row in rows]
