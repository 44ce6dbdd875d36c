"""A small market and an experiment that sweeps vary: a strategy of averages over two shares and thirty days."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ledger_pipeline as lp
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.strategy.experiment import Experiment
from ledger_pipeline_tests import small

PRICES = {
    "A": [
        10,
        11,
        12,
        11,
        13,
        14,
        13,
        12,
        11,
        10,
        11,
        13,
        15,
        16,
        15,
        14,
        15,
        17,
        18,
        17,
        16,
        14,
        13,
        15,
        16,
        18,
        19,
        18,
    ],
    "B": [
        50,
        49,
        51,
        52,
        50,
        48,
        47,
        49,
        52,
        55,
        54,
        53,
        51,
        50,
        52,
        54,
        57,
        58,
        56,
        55,
        53,
        54,
        56,
        58,
        57,
        55,
        54,
        56,
    ],
}
CROSSOVER = """
def strategy(ctx, params):
    targets = ctx.flat()
    for symbol in ctx.universe:
        if ctx.feature(symbol, "fast") > ctx.feature(symbol, "slow"):
            targets[symbol] = params["quantity"]
    return targets
"""


def market(root: Path, **options: Any) -> Snapshot:
    """The market, sealed."""
    return small.seal(root, PRICES, **options)


def crossover(**changes: Any) -> Experiment:
    """Hold while a fast average is above a slow one."""
    given: dict[str, Any] = {
        "params": {"fast": 2, "slow": 5, "quantity": 10, "fee": 1.0},
        "features": {
            "fast": {"indicator": "sma", "window": {"param": "fast"}},
            "slow": {"indicator": "sma", "window": {"param": "slow"}},
        },
        "costs": [{"fixed_fee": {"param": "fee"}}],
        "opening": {"cash": 1000},
        "name": "crossover",
    }
    return lp.experiment(CROSSOVER, **given | changes)
