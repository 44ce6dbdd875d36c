"""Building a ledger in typed columns.

The fold appends rows to one array of EVENT; nothing is an object until the run is over, when the rows are a Ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.rows import BuiltRows, RowsLedger
from ledger_pipeline.ledger.schema import Ledger

NOTHING = np.nan  # a number that an event does not have

EVENT = np.dtype(
    [
        ("kind", np.int8),
        ("side", np.int8),  # +1 BUY, -1 SELL, 0 none
        ("symbol", np.int32),  # index into the symbols, -1 none
        ("t", np.int64),  # index into the bar times
        ("quantity", np.float64),
        ("price", np.float64),
        ("fee", np.float64),
        ("cash_delta", np.float64),
        ("order", np.int64),  # running number of the order, 0 none
        ("correlation", np.int64),  # seq of the DECIDED event, 0 none
        ("causation", np.int64),  # seq of the event that caused this one, 0 none
        ("reasons", np.int32),  # index into the reasons, -1 none
        ("payload", np.int32),  # index into the payloads, -1 none
    ],
    align=True,
)


@dataclass
class Interned:
    """Texts that are stored once and referred to by their index."""

    texts: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def code(self, text: str) -> int:
        """The index of `text`, which is added when it is new."""
        if text not in self.index:
            self.index[text] = len(self.texts)
            self.texts.append(text)
        return self.index[text]


class EventBuffer:
    """A growing array of EVENT rows. `count` is an array of one int64, so that compiled code can advance it."""

    def __init__(self, capacity: int = 1024) -> None:
        self.rows = np.empty(capacity, dtype=EVENT)  # takes memory only where it is written
        self.count = np.zeros(1, dtype=np.int64)
        self.reasons = Interned()
        self.payloads = Interned()

    def reserve(self, more: int) -> None:
        """Make room for `more` rows."""
        needed = int(self.count[0]) + more
        if needed > len(self.rows):
            grown = np.empty(max(needed, 4 * len(self.rows)), dtype=EVENT)
            grown[: self.count[0]] = self.rows[: self.count[0]]
            self.rows = grown

    def payload(self, value: Any) -> int:
        """The code of a JSON value, to be used as an event's payload."""
        return self.payloads.code(canonical_json(value).decode())

    def append(
        self,
        kind: int,
        t: int,
        *,
        symbol: int = -1,
        side: int = 0,
        quantity: float = NOTHING,
        price: float = NOTHING,
        fee: float = NOTHING,
        cash_delta: float = NOTHING,
        order: int = 0,
        correlation: int = 0,
        causation: int = 0,
        reasons: int = -1,
        payload: int = -1,
    ) -> int:
        """Append one event and return its seq, counted from 1."""
        self.reserve(1)
        row = int(self.count[0])
        self.rows[row] = (
            kind, side, symbol, t, quantity, price, fee, cash_delta, order, correlation, causation, reasons, payload,
        )  # fmt: skip
        self.count[0] += 1
        return row + 1

    def ledger(self, *, book: str, strategy: str, symbols: Sequence[str], times: np.ndarray) -> Ledger:
        """All rows as a Ledger; `times` are the bar times in microseconds UTC that `t` refers to."""
        rows = self.rows[: self.count[0]]
        return RowsLedger(
            BuiltRows(rows, times, book, strategy, symbols, tuple(self.reasons.texts), tuple(self.payloads.texts))
        )
