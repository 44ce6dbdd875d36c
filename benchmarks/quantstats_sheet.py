"""The numbers of a run's report beside those of quantstats' tear sheet on the same returns.

Needs quantstats, which is not in the lock: `pip install quantstats` into an environment of its own, with this package.
`python benchmarks/quantstats_sheet.py [EXPERIMENT]` prints one line a number.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import ledger_pipeline as lp

ROOT = Path(__file__).resolve().parent.parent


def main(name: str = "sma_crossover") -> None:
    """Run an experiment on the bundled prices and print both columns."""
    warnings.simplefilter("ignore")
    import quantstats.stats as theirs

    snapshot = lp.open_snapshot("demo", root=ROOT / "snapshots")
    run = lp.run(lp.Catalogue(ROOT / "strategies").experiment(name), snapshot)
    equity = run.equity.set_index("ts")["equity"].tz_localize(None)
    returns = equity.pct_change().dropna()
    year = run.metrics["periods_per_year"]
    pairs = {
        "total_return": theirs.comp(returns),
        "cagr": theirs.cagr(returns, periods=year),
        "volatility": theirs.volatility(returns, periods=year),
        "sharpe": theirs.sharpe(returns, periods=year),
        "sortino": theirs.sortino(returns, periods=year),
        "max_drawdown": theirs.max_drawdown(returns),
        "calmar": theirs.calmar(returns, periods=year),
    }
    for metric, value in pairs.items():
        print(f"{metric:14} {run.metrics[metric]:22.15f} {value:22.15f} {run.metrics[metric] - value:10.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
