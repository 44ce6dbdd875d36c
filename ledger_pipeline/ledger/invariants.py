"""What must hold in every ledger, as functions that return the breaches they find; an empty list is success."""

from __future__ import annotations

import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.events import POSITION_KINDS
from ledger_pipeline.ledger.folds import EquityRows, of_kind
from ledger_pipeline.ledger.lots import LotFold
from ledger_pipeline.ledger.schema import Ledger

RELATIVE = 1e-9  # of the largest amount that took part in the sum


def cash_and_positions_make_equity(equity: EquityRows) -> list[str]:
    """cash + marked positions = equity, at each pulse."""
    cash, value, total = (equity[name] for name in ("cash", "positions_value", "equity"))
    scale = np.fmax(np.abs(cash), np.abs(value))
    return _beyond(equity, np.abs(cash + value - total), scale, "cash + positions differ from equity")


def profit_explains_equity(equity: EquityRows) -> list[str]:
    """Since the first pulse: change of realised + unrealised - fees + income + flows = change of equity."""
    if not len(equity):
        return []
    column = {name: equity[name] for name in equity.COLUMNS}
    profit = column["realised"] + column["unrealised"] - column["fees"] + column["income"]
    explained = profit - profit[0] + np.cumsum(column["flow"]) - column["flow"][0]
    gap = np.abs(explained - (column["equity"] - column["equity"][0]))
    largest = np.fmax.reduce([np.abs(column[name]) for name in ("equity", "cash", "exposure", "realised")])
    scale = np.fmax.accumulate(largest)
    return _beyond(equity, gap, scale, "profit, fees, income and flows do not explain the change of equity")


def lots_match_positions(ledger: Ledger, fold: LotFold) -> list[str]:
    """The open lots of each strategy and symbol have the sign of its position and add up to it, unit for unit."""
    lot_parts = fold.lot_parts[fold.lot_parts["closed"] < 0]
    totals = np.zeros(len(fold.positions), dtype=np.int64)
    np.add.at(totals, lot_parts["key"], lot_parts["units"] * lot_parts["side"])
    wrong_sum = np.flatnonzero(totals != fold.positions)
    wrong_sign = lot_parts["key"][
        (lot_parts["side"] != np.sign(fold.positions[lot_parts["key"]])) | (lot_parts["units"] <= 0)
    ]
    _, symbols = ledger.codes("symbol")
    name = lambda key: symbols[fold.keys[key, 1]]  # noqa: E731
    return [
        *(
            f"{name(key)}: open lots add up to {totals[key] / UNITS}, the position is {fold.positions[key] / UNITS}"
            for key in wrong_sum
        ),
        *(f"{name(key)}: an open lot has the wrong sign" for key in np.unique(wrong_sign)),
    ]


def quantities_on_grid(ledger: Ledger) -> list[str]:
    """Every quantity is finite, above zero and a whole number of 1e-9 units."""
    rows = of_kind(ledger, *POSITION_KINDS)
    quantity = ledger.numbers("quantity")[rows]
    named = ledger.codes("symbol")[0][rows] >= 0  # the opening cash has neither symbol nor quantity
    rows, quantity = rows[named], quantity[named]
    off = ~np.isfinite(quantity) | (quantity <= 0) | (np.rint(quantity * UNITS) / UNITS != quantity)
    return [
        f"seq {row + 1}: quantity {value!r} is not on the 1e-9 grid"
        for row, value in zip(rows[off], quantity[off], strict=True)
    ]


def sequence_is_whole(ledger: Ledger) -> list[str]:
    """seq counts 1, 2, 3, ... and time never runs backwards."""
    seq = ledger.numbers("seq")
    gaps = np.flatnonzero(seq != np.arange(1, len(seq) + 1))
    backwards = np.flatnonzero(np.diff(ledger.micros) < 0)
    return [
        *(f"seq {seq[row]} stands where {row + 1} belongs" for row in gaps[:3]),
        *(f"seq {row + 2} is earlier than the event before it" for row in backwards[:3]),
    ]


def breaches(ledger: Ledger, fold: LotFold, equity: EquityRows) -> dict[str, list[str]]:
    """All invariants by name, with what breaches them."""
    return {
        "sequence_is_whole": sequence_is_whole(ledger),
        "quantities_on_grid": quantities_on_grid(ledger),
        "lots_match_positions": lots_match_positions(ledger, fold),
        "cash_and_positions_make_equity": cash_and_positions_make_equity(equity),
        "profit_explains_equity": profit_explains_equity(equity),
        "positions_reproduced": _positions_reproduced(fold),
    }


def require(breaches: dict[str, list[str]], what: str) -> None:
    """IntegrityError naming the first breach, if any."""
    for name, problems in breaches.items():
        if problems:
            raise IntegrityError(
                f"{what} breaks the invariant {name}: {problems[0]}; this is a fault of the program, please report it."
            )


def _positions_reproduced(fold: LotFold) -> list[str]:
    total = int(fold.changes.sum())
    return (
        []
        if total == int(fold.positions.sum())
        else [f"events move {total} units, the fold holds {int(fold.positions.sum())}"]
    )


def _beyond(equity: EquityRows, gap: np.ndarray, scale: np.ndarray, what: str) -> list[str]:
    bad = np.flatnonzero(~(gap <= RELATIVE * np.maximum(scale, 1.0)))
    if not len(bad):
        return []
    at = equity.ts[bad[0]].isoformat()
    return [f"at {at} {what} by {gap[bad[0]]!r}, at {len(bad)} pulses in all"]
