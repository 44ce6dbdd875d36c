"""Risk: a closed list of steps between a strategy's targets and the orders.

long_only        a negative target becomes zero
max_weight: w    |quantity| x close <= w x equity, for each symbol
max_gross: g     the sum of |quantity| x close <= g x equity; the targets are scaled down together, and what is held
outside the universe
                 of the pulse, which cannot be traded, counts first

Steps apply in the order given. Equity and closes are those of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def apply_risk(
    steps: Sequence[str | Mapping[str, float]], targets: np.ndarray, closes: np.ndarray, equity: float, outside: float
) -> np.ndarray:
    """Targets (float64, aligned with closes) after the risk chain; `outside` is the gross value held outside the
    universe.
    """
    for step in steps:
        if step == "long_only":
            targets = np.maximum(targets, 0.0)
            continue
        ((name, limit),) = step.items()  # type: ignore[union-attr]
        allowed = max(limit * equity, 0.0)
        if name == "max_weight":
            cap = allowed / closes
            targets = np.clip(targets, -cap, cap)
        elif name == "max_gross":
            gross = float(np.abs(targets * closes).sum())
            room = max(allowed - outside, 0.0)
            if gross > room:
                targets = targets * (room / gross)
        else:
            raise AssertionError(f"{name} has no branch here")
    return targets
