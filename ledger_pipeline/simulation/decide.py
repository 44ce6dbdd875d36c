"""Deciding at one pulse alone, as live trading does: view, checks, risk and differences are those of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.simulation.entries import Entries
from ledger_pipeline.simulation.price_simulator import PriceSimulator, simulator_for
from ledger_pipeline.simulation.simulator import SimulationInputs, Waiting
from ledger_pipeline.strategy.instructions import Instruction


@dataclass(frozen=True)
class Wanted:
    """One order that a decision asks for: `units` of 1e-9 of a share, or cash to invest; the other one is None.
    instruction: how it is to be filled; None for its instrument's next open.
    """

    symbol: str
    side: str
    units: int | None
    cash: float | None
    reasons: tuple[str, ...]
    instruction: Instruction | None = None


@dataclass(frozen=True)
class Decision:
    """What a strategy decides at one pulse: orders, sells before buys, what it remembers afterwards, and what it said
    of brackets, by symbol (None: lifted).
    """

    orders: tuple[Wanted, ...]
    memory: dict[str, Any]
    brackets: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)


def decide(
    inputs: SimulationInputs,
    memory: Mapping[str, Any],
    waiting: Sequence[Waiting] = (),
    entries: Entries | None = None,
) -> Decision:
    """What the strategy decides at the last bar of the grid when `inputs.cash` and `inputs.positions` are what is held
    then and `memory` is what it remembers: the same view, checks, risk and differences as at a pulse of a simulation.
    waiting: the orders decided before that have not ended; entries: how what is held came about, where ctx shows it.

    Raises StrategyError.
    """
    one = simulator_for(inputs)
    orders = one.last(canonical_json(dict(memory)).decode(), waiting, entries)
    reasons = one.events.reasons.texts
    return Decision(
        tuple(
            Wanted(
                inputs.grid.symbols[order["symbol"]],
                "BUY" if order["side"] > 0 else "SELL",
                int(order["units"]) or None,
                None if np.isnan(order["cash"]) else float(order["cash"]),
                tuple(reasons[order["reasons"]].split(",")) if order["reasons"] >= 0 else (),
                one.instruction(int(order["number"])) if isinstance(one, PriceSimulator) else None,
            )
            for order in orders
        ),
        json.loads(one.memory),
        one.brackets if isinstance(one, PriceSimulator) else {},
    )
