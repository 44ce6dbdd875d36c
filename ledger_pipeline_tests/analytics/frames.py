"""Synthetic tables for the tests of this room: seeded, with the columns of a real run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.comparison_tables import ComparedRun
from ledger_pipeline.analytics.metrics import metrics


def equity_frame(levels, flows=None, exposure=None, start="2020-01-01", freq="D") -> pd.DataFrame:
    """An equity table with the given levels, one bar apart."""
    levels = np.asarray(levels, float)
    n = len(levels)
    flows = np.zeros(n) if flows is None else np.asarray(flows, float)
    exposure = np.zeros(n) if exposure is None else np.asarray(exposure, float)
    return pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=n, freq=freq, tz="UTC").as_unit("us"),
            "cash": levels - exposure,
            "positions_value": exposure,
            "equity": levels,
            "flow": flows,
            "exposure": exposure,
            "realised": np.zeros(n),
            "unrealised": np.zeros(n),
            "fees": np.zeros(n),
            "income": np.zeros(n),
        }
    )


def equity_of_returns(returns, flows=None, opening=1000.0, **kwargs) -> pd.DataFrame:
    """The equity table of an account that earns `returns` and receives flows[t] before the return of t."""
    flows = np.zeros(len(returns) + 1) if flows is None else np.asarray(flows, float)
    levels = [opening + flows[0]]
    for r, flow in zip(returns, flows[1:], strict=True):
        levels.append((levels[-1] + flow) * (1 + r))
    return equity_frame(levels, flows, **kwargs)


def fills_frame(rows=()) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["symbol", "side", "quantity", "price", "fee"]).astype(
        {"quantity": "float64", "price": "float64", "fee": "float64"}
    )


def trades_frame(pnl=()) -> pd.DataFrame:
    return pd.DataFrame({"pnl": np.asarray(pnl, float)})


def random_returns(seed: int, n: int = 500) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0004, 0.011, n)


def provenance(window: int = 20, **overrides) -> dict:
    """Nested provenance as a run carries it; overrides replace whole top-level entries."""
    return {
        "snapshot": {"id": "demo", "hash": "aa" * 32},
        "experiment": {
            "name": f"sma-{window}",
            "hash": f"{window:064x}",
            "strategy": {"name": "sma_long_flat", "hash": "bb" * 32},
            "params": {"window": window, "quantity": 10},
            "features": {"sma": {"indicator": "sma", "window": 5}},
            "opening": 1000.0,
            "deposits": [],
            "costs": [{"step": "spread_bps", "bps": 2.0}],
            "risk": [],
            "universe": ["AAPL", "MSFT"],
            "cash_rule": "require",
        },
        "seed": 7,
        "tier": 1,
        "versions": {"python": "3.11.9"},
        "ledger_head": f"{window * 31:064x}",
    } | overrides


def compared(label: str, seed: int = 1, window: int = 20, n: int = 300, **kwargs) -> ComparedRun:
    equity = equity_of_returns(random_returns(seed, n), freq="B")
    numbers = metrics(equity, fills_frame(), trades_frame([5.0, -2.0]), periods_per_year=252)
    return ComparedRun(label, provenance(window), numbers, equity, **kwargs)
