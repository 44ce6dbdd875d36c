"""One symbol explained, and the check that nothing was lost.

A report says who holds a symbol and what each earned with it, and whether all of it together is what the broker says.
`differences` is the same question asked of every symbol: lots against parts, parts against entries, and these against
the broker's positions, exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from ledger_pipeline.attribution.attribute import Attribution, effective
from ledger_pipeline.attribution.entries import changes
from ledger_pipeline.attribution.exact import as_money, as_quantity, integers, units
from ledger_pipeline.attribution.performance import Performance, performance
from ledger_pipeline.attribution.tables import where
from ledger_pipeline.book.drafts import amount
from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.events import UNATTRIBUTED
from ledger_pipeline.core.times import time_text


@dataclass(frozen=True, slots=True)
class OpenLot:
    """A lot that is open: shares (negative when short), what one cost with fees, its income so far."""

    lot_id: str
    account: str
    quantity: Decimal
    cost_basis: Decimal
    average_cost: Decimal
    income: Decimal
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class SymbolReport:
    """Who holds a symbol and what each earned with it.

    strategies: a summary each, UNATTRIBUTED among them when it has anything. open_lots: by strategy, oldest first.
    quantity: what all lots add up to; entries_quantity: what the entries say; broker_quantity: what the broker says,
    None when it was not asked. agrees: whether all that are known are equal. unattributed: what UNATTRIBUTED holds.
    """

    symbol: str
    price: Decimal | None
    total: Performance
    strategies: tuple[Performance, ...]
    open_lots: Mapping[str, tuple[OpenLot, ...]]
    unattributed: Decimal
    quantity: Decimal
    entries_quantity: Decimal
    broker_quantity: Decimal | None
    agrees: bool

    def to_json(self) -> dict[str, Any]:
        """The report as JSON: amounts as decimal text, times as UTC text, durations in seconds."""
        return _json(asdict(self))


@dataclass(frozen=True, slots=True)
class Difference:
    """Two numbers that should be equal: about what (account, strategy, symbol), and what they are."""

    what: str
    account: str
    symbol: str
    strategy: str | None
    here: Decimal
    there: Decimal

    def __str__(self) -> str:
        owner = f" of {self.strategy}" if self.strategy else ""
        return (
            f"{self.symbol}{owner} in account {self.account}: {self.what} are {self.here} here and {self.there} there"
        )


def attribution_report(
    attribution: Attribution,
    symbol: str,
    *,
    price: Decimal | int | str | None = None,
    account: str | None = None,
    broker_quantity: Decimal | int | str | None = None,
) -> SymbolReport:
    """The report of one symbol, over all accounts or one. NotFoundError when no entry is about it."""
    known = where(attribution.entries, "symbol", (symbol,))
    if account is not None:
        known = where(known, "account", (account,))
    if not known.num_rows:
        raise NotFoundError(f"there is no trade entry of {symbol}" + (f" in account {account}." if account else "."))
    chosen = _only(attribution, symbol, account)
    prices = {} if price is None else {symbol: price}
    strategies = performance(chosen, prices, by="strategy")
    (total,) = performance(chosen, prices, by="all")
    held = sum(_signed(chosen.lots))
    moves, rows = changes(known), effective(known)
    there = None if broker_quantity is None else amount("broker_quantity", broker_quantity)
    entered = sum(moves[row][0] for row in rows if known.column("kind")[row].as_py() != "DIVIDEND")
    nobody = [one.open_quantity for one in strategies if one.strategy == UNATTRIBUTED]
    return SymbolReport(
        symbol=symbol,
        price=None if price is None else amount("price", price),
        total=total,
        strategies=strategies,
        open_lots=_open_lots(chosen.lots),
        unattributed=(nobody[0] if nobody else None) or Decimal(0),
        quantity=as_quantity(held),
        entries_quantity=as_quantity(entered),
        broker_quantity=there,
        agrees=held == entered and (there is None or held == units(there)),
    )


def differences(
    attribution: Attribution, positions: Mapping[str, Decimal] | None = None, *, account: str | None = None
) -> tuple[Difference, ...]:
    """All that does not add up, to the last digit; empty when everything does.

    positions: the broker's, by symbol, of `account` (which may be left out when the entries are of one); a symbol that
    is missing there counts as none held.
    """
    entries, parts, lots, matches = attribution.entries, attribution.parts, attribution.lots, attribution.matches
    rows: list[Difference] = []
    quantity: Counter[Any] = Counter()
    paid: Counter[Any] = Counter()
    moves, kinds = changes(entries), entries.column("kind").to_pylist()
    owners = list(zip(entries.column("account").to_pylist(), entries.column("symbol").to_pylist(), strict=True))
    for row in effective(entries):
        if kinds[row] != "DIVIDEND":
            quantity[owners[row]] += moves[row][0]
        if kinds[row] not in ("DIVIDEND", "SPLIT"):
            paid[owners[row]] += moves[row][1]
    _compare(rows, "shares in parts and entries", _sums(parts, "quantity"), quantity)
    _compare(rows, "amounts paid in parts and entries", _sums(parts, "net"), paid)
    by_owner = _sums(parts, "quantity", owner=True)
    _compare(rows, "shares in lots and parts", _sums(lots, _signed(lots), owner=True), by_owner)
    earned = _sums(matches, "realised", owner=True)
    earned.subtract(_sums(lots, _signed(lots, "open_cost"), owner=True))
    _compare(rows, "gains and amounts paid", earned, _sums(parts, "net", owner=True), money=True)
    if positions is not None:
        accounts = {name for name, _ in owners} | ({account} if account else set())
        if account is None and len(accounts) > 1:
            raise InputError(f"the entries are of {len(accounts)} accounts; name the one whose positions these are.")
        name = account or next(iter(accounts), "")
        held = Counter({key: value for key, value in quantity.items() if key[0] == name})
        theirs = Counter({(name, symbol): units(value) for symbol, value in positions.items()})
        _compare(rows, "shares in entries and at the broker", held, theirs)
    return tuple(rows)


def _compare(
    rows: list[Difference], what: str, here: Counter[Any], there: Counter[Any], money: bool | None = None
) -> None:
    shown = as_money if money or "paid" in what else as_quantity
    for key in sorted({*here, *there}):
        if here[key] != there[key]:
            account, symbol, *owner = key
            strategy = owner[0] if owner else None
            rows.append(Difference(what, account, symbol, strategy, shown(here[key]), shown(there[key])))


def _sums(table: pa.Table, values: str | list[int], *, owner: bool = False) -> Counter[Any]:
    """Sums of a column, or of these values, by (account, symbol) and strategy."""
    names = ("account", "symbol", "strategy") if owner else ("account", "symbol")
    keys = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    amounts = integers(table.column(values)) if isinstance(values, str) else values
    total: Counter[Any] = Counter()
    for key, value in zip(keys, amounts, strict=True):
        total[key] += value
    return total


def _signed(lots: pa.Table, name: str = "open_quantity") -> list[int]:
    sides = lots.column("side").to_pylist()
    return [value if side == "LONG" else -value for side, value in zip(sides, integers(lots.column(name)), strict=True)]


def _only(attribution: Attribution, symbol: str, account: str | None) -> Attribution:
    """The attribution of one symbol, of one account or all."""
    from dataclasses import replace

    def rows(table: pa.Table) -> pa.Table:
        kept = where(table, "symbol", (symbol,))
        return kept if account is None else where(kept, "account", (account,))

    return replace(
        attribution,
        **{
            name: rows(getattr(attribution, name))
            for name in ("entries", "lots", "matches", "parts", "trips", "income")
        },
    )


def _open_lots(lots: pa.Table) -> dict[str, tuple[OpenLot, ...]]:
    groups: dict[str, list[OpenLot]] = {}
    quantities, costs = _signed(lots), _signed(lots, "open_cost")
    for row, quantity, cost, income in zip(
        lots.to_pylist(), quantities, costs, integers(lots.column("income")), strict=True
    ):
        if quantity:
            lot = OpenLot(
                lot_id=row["lot_id"],
                account=row["account"],
                quantity=as_quantity(quantity),
                cost_basis=as_money(cost),
                average_cost=as_money(cost) / as_quantity(quantity),
                income=as_money(income),
                opened_at=row["opened_at"],
            )
            groups.setdefault(row["strategy"], []).append(lot)
    return {name: tuple(of) for name, of in sorted(groups.items())}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    return value.total_seconds() if isinstance(value, timedelta) else value
