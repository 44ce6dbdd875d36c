"""Deciding at one pulse alone, as live trading does: view, checks, risk and differences are those of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.simulation.simulator import SimulationInputs, Simulator


@dataclass(frozen=True)
class Wanted:
    """One order that a decision asks for: `units` of 1e-9 of a share, or cash to invest; the other one is None."""

    symbol: str
    side: str
    units: int | None
    cash: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What a strategy decides at one pulse: orders, sells before buys, and what it remembers afterwards."""

    orders: tuple[Wanted, ...]
    memory: dict[str, Any]


def decide(
    inputs: SimulationInputs, memory: Mapping[str, Any], waiting: Sequence[tuple[str, str, int]] = ()
) -> Decision:
    """What the strategy decides at the last bar of the grid when `inputs.cash` and `inputs.positions` are what is held
    then and `memory` is what it remembers: the same view, checks, risk and differences as at a pulse of `simulate`.
    waiting: (symbol, side, units) of the orders decided before that are not due yet; units 0 for cash to invest.

    Raises StrategyError.
    """
    one = Simulator(inputs)
    targets, orders = one.last(canonical_json(dict(memory)).decode(), waiting)
    count, orders = targets - len(waiting), orders[len(waiting) :]
    reasons = one.events.reasons.texts
    return Decision(
        tuple(
            Wanted(
                inputs.grid.symbols[order["symbol"]],
                "BUY" if order["side"] > 0 else "SELL",
                int(order["units"]) or None,
                None if np.isnan(order["cash"]) else float(order["cash"]),
                tuple(reasons[order["reasons"]].split(",")) if order["reasons"] >= 0 else (),
            )
            for order in orders[:count]
        ),
        json.loads(one.memory),
    )
