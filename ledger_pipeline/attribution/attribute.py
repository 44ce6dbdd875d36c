"""From trade entries to who owns which lot, and what each sale earned.

Entries are taken in the order of (occurred_at, seq). A tagged sale closes lots of its own strategy; what it sells
beyond them belongs to UNATTRIBUTED. An untagged sale first closes what UNATTRIBUTED holds, then goes by a rule:

    unattributed  it stays with UNATTRIBUTED, as a short holding, until a person says whose it was
    pro_rata      each strategy sells in proportion to what it holds, by largest remainder, ties by name
    time_fifo     the oldest lots are sold, whoever holds them

and what it sells beyond all lots stays with UNATTRIBUTED. Nothing is dropped and nothing is counted twice: per symbol,
the strategies and UNATTRIBUTED together hold and paid exactly what the account did.

A fill that was taken back never happened here, and a correction stands in the place of the fill it corrects. A split
scales all lots of the symbol at the same cost; a dividend is income of the lots that are open then. The result depends
on nothing but the set of entries: read in parts, in any order or twice, they give the same bytes.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_pipeline.attribution import tables
from ledger_pipeline.attribution.entries import TradeEntry, changes, codes, joined, named, table_of
from ledger_pipeline.attribution.exact import CENT, apportion, share, units
from ledger_pipeline.attribution.exact_lots import Lot, Lots, Owners
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.events import UNATTRIBUTED

UNTAGGED = ("unattributed", "pro_rata", "time_fifo")
Specific = Mapping[str, Sequence[tuple[str, Decimal]]]  # entry_id of a sale -> (lot_id, shares)

# Why something belongs to UNATTRIBUTED. Of the first three nobody knows whose shares were sold: each is a break.
UNTAGGED_SALE, SURPLUS, OVERSOLD = "UNTAGGED_SALE", "SURPLUS", "OVERSOLD"
OWN_LOTS, BOUGHT, RESTATED = "OWN_LOTS", "BOUGHT", "RESTATED"
BREAKS = (UNTAGGED_SALE, SURPLUS, OVERSOLD)


@dataclass(frozen=True)
class Attribution:
    """Who owns which lot and what was earned, as Arrow tables with exact decimals (`tables`).

    entries: all, in order, those that were taken back too. lots, matches: what was bought and what closed it. parts:
    each entry's quantity and money, by the strategy it belongs to. trips: round trips, from flat to flat. income:
    dividends and cash in lieu, by lot. The other fields are the choices it was made with.
    """

    entries: pa.Table
    lots: pa.Table
    matches: pa.Table
    parts: pa.Table
    trips: pa.Table
    income: pa.Table
    untagged: str
    method: str
    specific: Specific = field(default_factory=dict)
    shorts: bool = False

    @functools.cached_property
    def unattributed(self) -> pa.Table:
        """The parts that belong to no strategy, each with its reason."""
        return tables.where(self.parts, "strategy", (UNATTRIBUTED,))

    @functools.cached_property
    def breaks(self) -> pa.Table:
        """The parts that nobody can say whose shares they sold: what a live book opens a break for."""
        return tables.where(self.unattributed, "reason", BREAKS)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over all tables: equal for equal results."""
        return tables.digest([getattr(self, name) for name in tables.NAMES])

    def extended(self, more: pa.Table | Iterable[TradeEntry]) -> Attribution:
        """The attribution of these entries and more: the same as of all of them at once."""
        return attribute(
            joined(self.entries, _table(more)),
            untagged=self.untagged,
            lots=self.method,
            specific=self.specific,
            shorts=self.shorts,
        )


def attribute(
    entries: pa.Table | Iterable[TradeEntry],
    *,
    untagged: str = "unattributed",
    lots: str = "FIFO",
    specific: Specific | None = None,
    shorts: bool = False,
) -> Attribution:
    """Attribute trade entries to strategies, lot by lot.

    untagged: what becomes of sales without a strategy, one of UNTAGGED. lots: which lot a sale closes, FIFO, LIFO, HIFO
    (the highest cost first) or SPECIFIC, where `specific` names lots for sales and the rest goes by FIFO. shorts:
    whether a strategy may sell what it does not hold; otherwise the surplus is UNATTRIBUTED.

    InputError for an unknown choice or a chosen lot that cannot be closed; IntegrityError when one id stands for two
    different entries or a fill that is taken back is not there.
    """
    if untagged not in UNTAGGED:
        raise InputError(f"{untagged!r} is no rule for untagged sales; choose one of {', '.join(UNTAGGED)}.")
    if specific and lots != "SPECIFIC":
        raise InputError(f"lots were chosen for sales, and lots is {lots!r}; use lots='SPECIFIC'.")
    table = joined(_table(entries))
    with _uncollected():
        fold = _Fold(table, untagged, lots, specific or {}, shorts)
        fold.run()
        lot_table, matches, parts, trips, income = tables.of(table, fold)
    return Attribution(table, lot_table, matches, parts, trips, income, untagged, lots, dict(specific or {}), shorts)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cyclic garbage collector: nothing here makes cycles, and looking for them among a hundred thousand
    new rows takes as long as the fold.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def effective(table: pa.Table) -> list[int]:
    """The rows of entries that count, in the order they count in: those without the fills that were taken back and
    their busts, a correction in the place of what it corrects.
    """
    rows = range(table.num_rows)
    if table.column("reverses").null_count == len(rows) and table.column("corrects").null_count == len(rows):
        return list(rows)
    accounts, kinds, fill_ids = (
        named(table.column("account")),
        named(table.column("kind")),
        table.column("fill_id").to_pylist(),
    )
    known = {(accounts[row], fill_ids[row]): row for row in rows if kinds[row] in ("FILLED", "FILL_CORRECTED")}
    gone: set[int] = set()
    stands_for: dict[int, int] = {}
    for name in ("reverses", "corrects"):
        for row, fill_id in enumerate(table.column(name).to_pylist()):
            if fill_id is None:
                continue
            old = known.get((accounts[row], fill_id))
            if old is None:
                raise IntegrityError(
                    f"entry {table.column('entry_id')[row]} {name} fill {fill_id}, which is not among the entries of "
                    f"account {accounts[row]}; give all entries of the account."
                )
            if name == "reverses":
                gone |= {row, old}
            else:
                stands_for[row] = old

    def place(row: int) -> int:
        seen = {row}
        while row in stands_for and stands_for[row] not in seen:
            row = stands_for[row]
            seen.add(row)
        return row

    return sorted((row for row in rows if row not in gone), key=lambda row: (place(row), row))


class _Fold:
    """One pass over the entries. groups: (account, symbol) by number; parts and income as `tables` shows them."""

    def __init__(self, table: pa.Table, untagged: str, method: str, specific: Specific, shorts: bool) -> None:
        self.table = table
        self.owners = Owners()
        self.groups: list[tuple[str, str]] = []
        self._group, self._owner = self._numbered()
        self._nobody = {self.owners.of(group, UNATTRIBUTED) for group in range(len(self.groups))}
        self.lots = Lots(self.owners, method, _rows_of(table, specific))
        self.parts: list[tuple[int, int, int, int, int, str | None]] = []  # row, owner, units, net, fees, reason
        self.income: list[tuple[int, int, Lot | None, int]] = []  # row, owner, lot, amount
        self._rule = {"unattributed": self._to_nobody, "pro_rata": self._pro_rata, "time_fifo": self._time_fifo}[
            untagged
        ]
        self._shorts = shorts

    def run(self) -> None:
        """Take in all entries."""
        table, lots, parts = self.table, self.lots, self.parts
        kinds = named(table.column("kind"))
        nobody, groups, owners = self._nobody, self._group, self._owner
        moves = changes(table)
        actions = self._actions(kinds, groups)
        for row in effective(table):
            kind, group, owner = kinds[row], groups[row], owners[row]
            if kind in ("SPLIT", "DIVIDEND"):
                together = actions.get(row, ())
                if together and kind == "SPLIT":
                    self._split(group, row, sum(moves[one][0] for one in together))
                if together:
                    tagged = [(owners[one], moves[one][1]) for one in together]
                    self._earn(group, row, tagged)
                continue
            change, net, fees = moves[row]
            if owner in nobody:
                self._untagged(group, owner, row, change, net, fees)
            elif change > 0 or self._shorts or lots.held[owner] + change >= 0:
                parts.append((row, owner, change, net, fees, None))
                lots.move(owner, row, change, net)
            else:
                own = -lots.held[owner]
                beyond = (self.owners.of(group, UNATTRIBUTED), change - own, OVERSOLD)
                self._shared(row, change, net, fees, [(owner, own, None), beyond])

    def _numbered(self) -> tuple[list[int], list[int]]:
        """The number of the group and of the owner of each entry; every group and owner becomes known."""
        accounts, account_names = codes(self.table.column("account"))
        symbols, symbol_names = codes(self.table.column("symbol"))
        strategies, strategy_names = codes(self.table.column("strategy"))
        pairs, group = np.unique(accounts * max(1, len(symbol_names)) + symbols, return_inverse=True)
        for pair in pairs.tolist():
            account, symbol = divmod(pair, len(symbol_names))
            self.groups.append((account_names[account], symbol_names[symbol]))
        names = [*strategy_names, UNATTRIBUTED]  # the last one stands for -1
        keys, place = np.unique(group * len(names) + strategies % len(names), return_inverse=True)
        owner = [self.owners.of(key // len(names), names[key % len(names)]) for key in keys.tolist()]
        return group.tolist(), np.array(owner, np.int64)[place].tolist()

    def _actions(self, kinds: list[str | None], groups: list[int]) -> dict[int, list[int]]:
        """The rows of splits and dividends that are parts of one, by the first of them: a book has one a strategy."""
        rows = [row for row, kind in enumerate(kinds) if kind in ("SPLIT", "DIVIDEND")]
        if not rows:
            return {}
        moments = self.table.column("occurred_at").cast(pa.int64()).to_pylist()
        rows_of: dict[tuple[Any, ...], list[int]] = {}
        for row in rows:
            rows_of.setdefault((kinds[row], groups[row], moments[row]), []).append(row)
        return {together[0]: together for together in rows_of.values()}

    def _shared(self, row: int, change: int, net: int, fees: int, owners: list[tuple[int, int, str | None]]) -> None:
        """Give each owner its part of an entry, with its share of the money and the fees."""
        for owner, part, reason in owners:
            if not part:
                continue
            paid, charged = share(net, part, change), share(fees, part, change)
            self.parts.append((row, owner, part, paid, charged, reason))
            self.lots.move(owner, row, part, paid)
            change, net, fees = change - part, net - paid, fees - charged

    def _untagged(self, group: int, nobody: int, row: int, change: int, net: int, fees: int) -> None:
        if change > 0:
            self._shared(row, change, net, fees, [(nobody, change, BOUGHT)])
            return
        sold = -change
        own = min(sold, max(self.lots.held[nobody], 0))
        parts: list[tuple[int, int, str | None]] = [(nobody, -own, OWN_LOTS)]
        parts += [(owner, -part, None) for owner, part in self._rule(group, nobody, sold - own)]
        rest = sold + sum(part for _, part, _ in parts)
        parts.append((nobody, -rest, UNTAGGED_SALE if self._rule == self._to_nobody else SURPLUS))
        self._shared(row, change, net, fees, parts)

    def _to_nobody(self, group: int, nobody: int, sold: int) -> list[tuple[int, int]]:
        return []

    def _pro_rata(self, group: int, nobody: int, sold: int) -> list[tuple[int, int]]:
        holders = [owner for owner in self._strategies(group, nobody) if self.lots.held[owner] > 0]
        held = [self.lots.held[owner] for owner in holders]
        if not holders or not sold:
            return []
        return list(zip(holders, apportion(min(sold, sum(held)), held), strict=True))

    def _time_fifo(self, group: int, nobody: int, sold: int) -> list[tuple[int, int]]:
        parts: dict[int, int] = {}
        for lot in self.lots.oldest(group) if sold else ():
            if lot.owner == nobody or lot.left < 0:
                continue
            taken = min(sold, lot.left)
            parts[lot.owner] = parts.get(lot.owner, 0) + taken
            sold -= taken
            if not sold:
                break
        return list(parts.items())

    def _strategies(self, group: int, nobody: int) -> list[int]:
        return [owner for owner in self.owners.members(group) if owner != nobody]

    def _split(self, group: int, row: int, change: int) -> None:
        """Scale all lots of the symbol so that they add up to what the account holds after the split."""
        owners = self.owners.members(group)
        total = sum(self.lots.held[owner] for owner in owners)
        if not change:
            return
        if total and (total + change > 0) == (total > 0) and total + change:
            self.parts += [(row, owner, part, 0, 0, RESTATED) for owner, part in self.lots.restate(owners, row, change)]
            return
        for owner in owners if total else ():  # nothing of them is left: they end at no price
            held = self.lots.held[owner]
            if held:
                self._shared(row, -held, 0, 0, [(owner, -held, RESTATED)])
        rest = total + change if total else change
        if rest:
            self._shared(row, rest, 0, 0, [(self.owners.of(group, UNATTRIBUTED), rest, RESTATED)])

    def _earn(self, group: int, row: int, tagged: list[tuple[int, int]]) -> None:
        """Income of the lots that are open, by quantity; of the strategy that it is tagged with when there are none."""
        amount = sum(part for _, part in tagged)
        if not amount:
            return
        members = self.owners.members(group)
        holders = [owner for owner in members if self.lots.held[owner] > 0] or [
            owner for owner in members if self.lots.held[owner] < 0
        ]
        if not holders:
            self.income += [(row, owner, None, part) for owner, part in tagged if part]
            return
        grain = 1 if amount % CENT else CENT
        sign = 1 if amount > 0 else -1
        parts = apportion(abs(amount) // grain, [abs(self.lots.held[owner]) for owner in holders])
        for owner, part in zip(holders, parts, strict=True):
            left, held = sign * part * grain, abs(self.lots.held[owner])
            for lot in self.lots.open_lots(owner):
                size = abs(lot.left)
                got = share(left, size, held)
                left, held = left - got, held - size
                lot.earned += got
                if got:
                    self.income.append((row, owner, lot, got))


def _table(entries: pa.Table | Iterable[TradeEntry]) -> pa.Table:
    return entries if isinstance(entries, pa.Table) else table_of(entries)


def _rows_of(table: pa.Table, specific: Specific) -> dict[int, list[tuple[int, int]]]:
    """The choice of lots by rows of the table; InputError for an id that is not there."""
    if not specific:
        return {}
    row_of: dict[str, Any] = {name: row for row, name in enumerate(table.column("entry_id").to_pylist())}
    for name in {name for sale, chosen in specific.items() for name in (sale, *(lot for lot, _ in chosen))}:
        if name not in row_of:
            raise InputError(f"there is no entry {name!r}; lots and sales are chosen by their entry_id.")
    return {row_of[sale]: [(row_of[lot], units(part)) for lot, part in chosen] for sale, chosen in specific.items()}
