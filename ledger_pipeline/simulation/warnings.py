"""What a person should know of a run before its numbers: one sentence a kind.

Some follow from the ledger and the grid of the run (`ledger_warnings`) or from what it is measured against
(`evaluation_warnings`), some only from what was there while it ran (`input_warnings`); the run keeps the last in its
provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ledger_pipeline.ledger import folds
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.grid import Grid
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.simulation.evaluation import Evaluation
from ledger_pipeline.strategy.experiment_spec import ExperimentSpec

MEANT = ("NOT_REACHED", "POSITION_CLOSED")  # ends of orders that their terms ask for, no warning
LONG_ABSENCE = 20  # sessions without a bar after which a holding is told of


def input_warnings(
    spec: ExperimentSpec,
    snapshot: Snapshot,
    grid: Grid,
    features: np.ndarray,
    names: Sequence[str],
    clipped: int,
) -> list[str]:
    """What in the experiment cannot be meant on this snapshot. features: float64 (T, K, N) by `names`; clipped: how
    many negative targets long_only set to zero.
    """
    warnings = []
    for k, name in enumerate(names):
        if not np.isfinite(features[grid.first :, k, :]).any():
            warnings.append(
                f"the feature {name!r} is missing at every pulse: the {len(grid.times):,} bar times are fewer than its "
                "warm-up, or it is undefined on these prices"
            )
    if clipped:
        times = "once" if clipped == 1 else f"{clipped:,} times"
        warnings.append(f"long_only set a negative target to zero {times}: the strategy wants to be short")
    for step in spec.risk:
        limit = step.get("max_weight", 0.0) if isinstance(step, Mapping) else 0.0
        if limit > 1 and spec.cash_rule != "allow_negative":
            warnings.append(
                f"max_weight {limit:g} is above 1, and the cash rule {spec.cash_rule!r} lets nothing be bought on "
                "credit, so it never limits a long position"
            )
    return warnings


def evaluation_warnings(measured: Evaluation, snapshot: Snapshot, symbols: Sequence[str]) -> list[str]:
    """A benchmark that the snapshot lacks; a risk-free series among the instruments that are traded (`symbols`)."""
    warnings = []
    if measured.benchmark is not None and measured.benchmark not in snapshot.symbols:
        warnings.append(
            f"the benchmark {measured.benchmark!r} is not in snapshot {snapshot.id!r}: there is nothing to compare with"
        )
    series = measured.risk_free["series"] if isinstance(measured.risk_free, Mapping) else None
    if series in symbols:
        warnings.append(
            f"the risk-free series {series!r} is in the universe, so the strategy may trade it like a share: name the "
            "universe without it"
        )
    return warnings


def ledger_warnings(
    ledger: Ledger, grid: Grid, marks: np.ndarray, equity: pd.DataFrame, calendars: Mapping[str, str]
) -> list[str]:
    """A bankrupt account, orders that were not filled (by reason), a run without any fill, and holdings that had no bar
    for LONG_ABSENCE sessions of their calendar or more. marks: float64 (T, N), in the account's currency; equity: the
    equity rows of the run.
    """
    absent = [] if grid.present.all() else _absent(ledger, grid, marks, equity, calendars)
    return [*_bankrupt(ledger), *_unfilled(ledger), *_no_fill(ledger), *absent]


def _unfilled(ledger: Ledger) -> list[str]:
    rows = folds.of_kind(ledger, "ORDER_EXPIRED", "ORDER_REJECTED")
    if not len(rows):
        return []
    codes, texts = ledger.codes("reasons")
    ends = [texts[code].split(",")[0] if code >= 0 else "?" for code in codes[rows]]
    counts = pd.Series([end for end in ends if end not in MEANT], dtype=object).value_counts()
    if not len(counts):
        return []
    parts = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return [f"{counts.sum()} order{'s were' if counts.sum() > 1 else ' was'} not filled: {parts}"]


def _no_fill(ledger: Ledger) -> list[str]:
    return [] if len(folds.of_kind(ledger, "FILLED")) else ["no order was filled in the whole run"]


def _bankrupt(ledger: Ledger) -> list[str]:
    rows = folds.of_kind(ledger, "HALTED")
    return [
        f"the account was bankrupt at {_moment(ledger.micros[row])}: its equity was zero or less, and it traded no more"
        for row in rows[:1]
    ]


def _absent(
    ledger: Ledger, grid: Grid, marks: np.ndarray, equity: pd.DataFrame, calendars: Mapping[str, str]
) -> list[str]:
    parts = []
    delisted = {action.i: action.t for action in grid.actions if action.kind == "DELIST"}
    for i, symbol in enumerate(grid.symbols):
        rows = np.flatnonzero(grid.present[:, i])
        rows = rows[max(0, int(np.searchsorted(rows, grid.first, side="right")) - 1) :]
        for last, following in zip(rows.tolist(), [*rows.tolist(), len(grid.times)][1:], strict=len(rows) > 0):
            after = min(following, delisted[i]) if delisted.get(i, -1) > last else following
            if grid.times[after - 1] - grid.times[last] < LONG_ABSENCE * 86_400_000_000:
                continue
            end = pd.Timestamp(int(grid.times[after - 1]), unit="us", tz="UTC")
            missed = len(sessions(calendars[symbol], pd.Timestamp(int(grid.times[last]), unit="us"), end)) - 1
            quantity = folds.reconstruct(ledger, end).positions.get(symbol) if missed >= LONG_ABSENCE else None
            if quantity:
                share = quantity * float(marks[after - 1, i]) / float(equity["equity"].iloc[after - 1 - grid.first])
                parts.append(
                    f"{quantity:g} {symbol} were held without a bar for {missed} sessions since "
                    f"{_moment(grid.times[last])[:10]}, {share:.1%} of the equity at the last close: halted or "
                    "delisted? An action DELIST closes what is held"
                )
    return parts


def _moment(micros: int) -> str:
    return pd.Timestamp(int(micros), unit="us", tz="UTC").isoformat()
