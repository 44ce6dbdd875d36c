"""Small tables of sound bars, and grids made without a snapshot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import StorageError
from ledger_pipeline.market.bars import BAR_COLUMNS, FIELDS
from ledger_pipeline.market.grid import Action, Grid
from ledger_pipeline.market.snapshot import seal, snapshot_ids, verify

DAY = 86_400_000_000
HEADER = ",".join(BAR_COLUMNS) + "\n"


def days(start: str, periods: int) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=periods, tz="UTC").as_unit("us")


def prices(periods: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random walk of one instrument: sound open, high, low, close, volume."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, periods)))
    open_ = close * np.exp(rng.normal(0, 0.005, periods))
    high = np.maximum(open_, close) * (1 + rng.uniform(0.001, 0.02, periods))
    low = np.minimum(open_, close) * (1 - rng.uniform(0.001, 0.02, periods))
    return dict(zip(FIELDS, (open_, high, low, close, rng.integers(100, 9000, periods) * 1.0), strict=True))


def random_bars(symbols: str = "ABC", periods: int = 8, start: str = "2024-01-01", seed: int = 0) -> pd.DataFrame:
    """Daily bars of one-letter symbols, as a user would have them: text symbols, in order."""
    parts = [
        pd.DataFrame({"symbol": symbol, "ts": days(start, periods), **prices(periods, seed + i)})
        for i, symbol in enumerate(symbols)
    ]
    return pd.concat(parts, ignore_index=True)


def flat_bars(closes: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Bars whose four prices are equal, from {symbol: {date: close}}; volume 1000."""
    rows = [
        {"symbol": symbol, "ts": pd.Timestamp(date, tz="UTC"), **dict.fromkeys(FIELDS[:4], close), "volume": 1000.0}
        for symbol, series in closes.items()
        for date, close in series.items()
    ]
    frame = pd.DataFrame(rows, columns=list(BAR_COLUMNS))
    return frame.assign(ts=frame["ts"].dt.as_unit("us"))


def actions(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    """Corporate actions from (symbol, date, kind, value)."""
    frame = pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value"])
    return frame.assign(ex_date=pd.to_datetime(frame["ex_date"], utc=True, format="ISO8601").dt.as_unit("us"))


def grid_of(
    columns: list[dict[str, np.ndarray]],
    present: np.ndarray | None = None,
    splits: Mapping[tuple[int, int], float] | None = None,
) -> Grid:
    """A grid of instruments S0, S1, ... at daily times, with splits {(t, i): ratio}."""
    fields = np.stack([np.stack([column[name] for name in FIELDS]) for column in columns], axis=-1).transpose(1, 0, 2)
    n, _, k = fields.shape
    present = np.ones((n, k), dtype=bool) if present is None else present
    factor = np.ones((n, k))
    for (t, i), ratio in (splits or {}).items():
        factor[t:, i] *= ratio
    posted = tuple(Action(t, i, "SPLIT", ratio) for (t, i), ratio in sorted((splits or {}).items()))
    fields = np.where(present[:, None, :], fields, np.nan)
    return Grid(np.arange(n) * DAY, tuple(f"S{i}" for i in range(k)), fields, present, factor, posted)


def random_grid(periods: int, instruments: int = 1, seed: int = 0, present: np.ndarray | None = None) -> Grid:
    return grid_of([prices(periods, seed + i) for i in range(instruments)], present)


def seal_two(root: str | Path) -> None:
    """Seal a small snapshot, then one that needs about 800 kB; say what happened and what is there."""
    seal(random_bars(), snapshot_id="small", root=root)
    try:
        seal(random_bars("ABCDEF", 2000, "1990-01-01"), snapshot_id="large", root=root)
    except StorageError as error:
        print(error)
    print(os.listdir(root), snapshot_ids(root), verify("small", root=root).id)
