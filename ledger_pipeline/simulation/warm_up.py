"""Loading what is compiled before a process is copied, so that its copies have it."""

from __future__ import annotations

import numpy as np

from ledger_pipeline.features import indicators  # noqa: F401
from ledger_pipeline.features.windows import moving
from ledger_pipeline.ledger import folds, invariants
from ledger_pipeline.ledger.lots import fold_lots
from ledger_pipeline.market.grid import Grid
from ledger_pipeline.simulation import replay  # noqa: F401
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline.simulation.simulator import SimulationInputs


def load_compiled() -> None:
    """Simulate four bars, fold them and compute an average: all compiled functions of a run are used once."""
    times = np.arange(4) * 86_400_000_000
    fields, present = np.full((4, 5, 1), 10.0), np.ones((4, 1), dtype=bool)
    cells = Grid(times, ("A",), fields, present, np.ones((4, 1)), ())
    quantities = iter((1.0, 0.0, 2.0, 2.0))
    ledger = simulate(
        SimulationInputs(
            grid=cells, strategy=lambda ctx, params: ctx.targets(np.array([next(quantities)])), strategy_name="warm-up",
            params={}, features=np.empty((4, 0, 1)), feature_names=(), cash=100.0, risk=("long_only",),
            costs=({"spread_bps": 1.0}, {"fixed_fee": 0.1}),
        )
    )  # fmt: skip
    lots = fold_lots(ledger)
    equity = folds.equity_rows(ledger, times, ("A",), fields[:, 3, :], lots)
    invariants.breaches(ledger, lots, equity)
    folds.reconstruct(ledger)
    ledger.head  # noqa: B018
    moving(np.ones((4, 1)), 2, 0)
