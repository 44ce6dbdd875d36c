"""Tiny markets from literal prices, and strategies that play a written plan.

Prices are a list a symbol, one entry a day from START on: a number is a bar with that price throughout, (open, close) a
bar with both, (open, high, low, close) a bar with all four, None no bar. A plan says by day index what a strategy wants: a number is a target quantity, a text cash to
invest, and what it does not name is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ledger_pipeline as lp
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.market.grid import Grid, grid
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.simulation.run import Run, frozen
from ledger_pipeline.simulation.simulator import SimulationInputs

START = "2024-01-01"
Prices = Mapping[str, Sequence[Any]]

PLAN = '''
def strategy(ctx, params):
    """params: plan, by date and symbol; reasons, by symbol."""
    targets = ctx.hold()
    for symbol, wish in params["plan"].get(ctx.now.isoformat()[:10], {}).items():
        if symbol in ctx.universe:
            if isinstance(wish, str):
                targets.invest(symbol, float(wish))
            else:
                targets[symbol] = wish
            for reason in params["reasons"].get(symbol, ()):
                targets.because(symbol, reason)
    return targets
'''


def day(index: int, start: str = START) -> str:
    """The date of a day index, such as 2024-01-03 for 2."""
    return str((pd.Timestamp(start) + pd.Timedelta(days=index)).date())


def at(index: int, start: str = START) -> pd.Timestamp:
    """The label of the bar of a day index."""
    return pd.Timestamp(day(index, start), tz="UTC")


def bars(of: Prices, start: str = START) -> pd.DataFrame:
    """The bars of these prices; volume is 1,000."""
    rows = []
    for symbol, values in of.items():
        for index, value in enumerate(values):
            if value is not None:
                prices = value if isinstance(value, tuple) else (value, value)
                opened, closed = float(prices[0]), float(prices[-1])
                high, low = map(float, prices[1:3] if len(prices) == 4 else (max(prices), min(prices)))
                rows.append((symbol, at(index, start), opened, high, low, closed, 1000.0))
    return pd.DataFrame(rows, columns=["symbol", "ts", "open", "high", "low", "close", "volume"])


def actions(
    splits: Sequence[tuple[str, int, float]], dividends: Sequence[tuple[str, int, float]], start: str = START
) -> pd.DataFrame | None:
    """Corporate actions from (symbol, day index, value); None when there are none."""
    rows = [(symbol, at(i, start), "SPLIT", float(value)) for symbol, i, value in splits]
    rows += [(symbol, at(i, start), "DIVIDEND", float(value)) for symbol, i, value in dividends]
    return pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value"]) if rows else None


def seal(
    root: Path, prices: Prices, *, splits=(), dividends=(), start: str = START, snapshot_id: str | None = None
) -> Snapshot:
    """A sealed snapshot of these prices, named after its content unless an id is given."""
    content = {"prices": {name: list(map(str, values)) for name, values in prices.items()}, "start": start}
    content |= {"splits": list(map(str, splits)), "dividends": list(map(str, dividends))}
    return lp.seal(
        bars(prices, start),
        snapshot_id=snapshot_id or hash_json(content)[:16],
        root=root,
        actions=actions(splits, dividends, start),
        calendar="24/7",
    )


def planned(
    plan: Mapping[int, Mapping[str, Any]], *, start: str = START, reasons=None, **options: Any
) -> lp.Experiment:
    """An experiment that plays a plan, without costs and with 1,000 of cash unless told otherwise."""
    options = {"costs": [], "opening": {"cash": 1000.0}, "name": "planned"} | options
    dated = {day(index, start): dict(wishes) for index, wishes in plan.items()}
    return lp.experiment(PLAN, params={"plan": dated, "reasons": dict(reasons or {})}, **options)


def play(
    root: Path,
    prices: Prices,
    plan: Mapping[int, Mapping[str, Any]],
    *,
    splits=(),
    dividends=(),
    start=START,
    **options,
) -> Run:
    """Seal the prices and run the plan on them."""
    snapshot = seal(root, prices, splits=splits, dividends=dividends, start=start)
    return lp.run(planned(plan, start=start, **options), snapshot)


def inputs(
    root: Path, prices: Prices, strategy: Callable, *, splits=(), dividends=(), params=None, **options
) -> SimulationInputs:
    """Inputs of a fold with any Python function as the strategy, which preflight never sees."""
    cells: Grid = grid(seal(root, prices, splits=splits, dividends=dividends))
    options = {
        "features": np.empty((len(cells.times), 0, len(cells.symbols))), "feature_names": (), "cash": 1000.0, **options,
    }  # fmt: skip
    return SimulationInputs(
        grid=cells, strategy=strategy, strategy_name="inline", params=frozen(params or {}), **options
    )


def events(run: Run, *kinds: str) -> list[dict[str, Any]]:
    """Events of these kinds (all when none is named) as dicts, `day` being the day index since START."""
    rows = run.events.table.to_pylist()
    for row in rows:
        row["day"] = (pd.Timestamp(row["occurred_at"]) - at(0)).days
    return [row for row in rows if not kinds or row["kind"] in kinds]


def filled(run: Run) -> list[tuple]:
    """(day index, symbol, side, quantity, price, fee) of each fill."""
    return [
        tuple(row[k] for k in ("day", "symbol", "side", "quantity", "price", "fee")) for row in events(run, "FILLED")
    ]


def ended(run: Run) -> list[tuple]:
    """(day index, kind, symbol, side, reasons) of each order that was rejected or expired."""
    rows = events(run, "ORDER_REJECTED", "ORDER_EXPIRED")
    return [tuple(row[k] for k in ("day", "kind", "symbol", "side", "reasons")) for row in rows]
