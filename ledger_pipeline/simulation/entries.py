"""When and at what price what is held was bought: FIFO lots from the events of a run, as ctx shows them.

The price is in the account's currency and without fees, so that close x rate compares with it. A position opens when it
leaves zero, or crosses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.events import KIND
from ledger_pipeline.ledger.builder import EventBuffer
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.strategy.context import Entry

_MOVES = {KIND["OPENED"], KIND["FILLED"], KIND["SPLIT"]}


class Entries:
    """The lots of each instrument by its column: [units, price], oldest first, and the bar time that opened them."""

    def __init__(self) -> None:
        self.lots: dict[int, deque[list[float]]] = {}
        self.opened: dict[int, int] = {}
        self.seen = 0  # events taken in

    def follow(self, events: EventBuffer) -> None:
        """Take in the events that were written since."""
        rows = events.rows[self.seen : events.count[0]]
        self.seen = int(events.count[0])
        for row in rows[np.isin(rows["kind"], list(_MOVES)) & (rows["symbol"] >= 0)]:
            self.move(
                int(row["kind"]), int(row["symbol"]), int(row["side"]), float(row["quantity"]), float(row["price"]),
                int(row["t"]),
            )  # fmt: skip

    def move(self, kind: int, i: int, side: int, quantity: float, price: float, t: int) -> None:
        """Take in one change of a position: kind is KIND["SPLIT"], or that of a fill; t: the bar time."""
        units = side * round(quantity * UNITS)
        lots = self.lots.setdefault(i, deque())
        if kind == KIND["SPLIT"]:
            held = sum(lot[0] for lot in lots)
            if not held:
                return
            ratio = (held + units) / held
            for lot in lots:
                lot[0], lot[1] = lot[0] * ratio, lot[1] / ratio
            return
        if not lots:
            self.opened[i] = t
        while units and lots and lots[0][0] * units < 0:  # the oldest lots are closed first
            if abs(lots[0][0]) > abs(units):
                lots[0][0] += units
                return
            units += round(lots.popleft()[0])
            if not lots and units:
                self.opened[i] = t
        if units:
            lots.append([units, price])

    def of(self, i: int, present: np.ndarray, time: int, value: float) -> Entry | None:
        """What ctx says of the position in column `i`; None where nothing is held. present: bool, whether it has a bar
        at each bar time up to the pulse; time: the label of the bar time that opened it, int64 microseconds UTC;
        value: of a share at the pulse, in the account's currency.
        """
        lots = self.lots.get(i)
        if not lots:
            return None
        units = sum(lot[0] for lot in lots)
        cost = sum(lot[0] * lot[1] for lot in lots)
        return Entry(cost / units, time, (units * value - cost) / UNITS, int(present[self.opened[i] :].sum()))


def entries_of(ledger: Ledger, symbols: Iterable[str], times: np.ndarray, until: int) -> Entries:
    """The entries as they stood at the pulse `until` (int64 microseconds UTC) of a run; times: of its grid."""
    entries, column = Entries(), {symbol: i for i, symbol in enumerate(symbols)}
    chosen = ledger.table.slice(0, int(np.searchsorted(ledger.micros, until, side="right")))
    names = ["kind", "symbol", "side", "quantity", "price"]
    for row, micros in zip(chosen.select(names).to_pylist(), ledger.micros.tolist(), strict=False):
        kind = KIND[row["kind"]]
        if kind in _MOVES and row["symbol"] in column:
            side = 1 if row["side"] == "BUY" else -1
            t = int(np.searchsorted(times, micros))
            price = float("nan") if row["price"] is None else row["price"]
            entries.move(kind, column[row["symbol"]], side, row["quantity"], price, t)
    return entries
