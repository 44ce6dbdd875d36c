"""The closed steps of costs and risk, as an experiment names them. simulation.costs and simulation.risk say what each
does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ledger_pipeline.errors import InputError

COST_STEPS = (
    "spread_bps",
    "fixed_fee",
    "notional_bps_fee",
    "per_share_fee",
    "minimum_fee",
)  # the price step first, then fees
RISK_STEPS = ("long_only", "max_weight", "max_gross")


def parse_costs(steps: Any) -> tuple[dict[str, float], ...]:
    """Costs as canonical one-key dicts; InputError for an unknown step, a negative amount or a price step after a fee
    step.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise InputError("costs must be a list of steps, such as [{spread_bps: 5}]; write [] for no costs.")
    parsed: list[dict[str, float]] = []
    for position, step in enumerate(steps, 1):
        if not isinstance(step, Mapping) or len(step) != 1:
            raise InputError(f"costs, step {position}: {step!r} is not one of {', '.join(COST_STEPS)} with an amount.")
        ((name, amount),) = step.items()
        if name not in COST_STEPS:
            raise InputError(
                f"costs, step {position}: there is no step {name!r}; the steps are {', '.join(COST_STEPS)}."
            )
        number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
        if not number or not math.isfinite(amount) or amount < 0:
            raise InputError(f"costs, step {position}: {name} is {amount!r}; it must be a finite amount, zero or more.")
        if name == "spread_bps" and any("spread_bps" not in earlier for earlier in parsed):
            raise InputError(
                f"costs, step {position}: the price step {name} comes after a fee step; put price steps first."
            )
        parsed.append({name: float(amount)})
    return tuple(parsed)


def parse_risk(steps: Any) -> tuple[str | dict[str, float], ...]:
    """Risk steps in canonical form: "long_only" or one-key dicts; InputError for anything else."""
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise InputError("risk must be a list of steps, such as [long_only, {max_weight: 0.3}]; write [] for none.")
    parsed: list[str | dict[str, float]] = []
    for position, step in enumerate(steps, 1):
        if step == "long_only":
            parsed.append("long_only")
            continue
        if not isinstance(step, Mapping) or len(step) != 1 or next(iter(step)) not in RISK_STEPS[1:]:
            raise InputError(
                f"risk, step {position}: {step!r} is none of long_only, {{max_weight: w}}, {{max_gross: g}}."
            )
        ((name, limit),) = step.items()
        number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not number or not math.isfinite(limit) or limit <= 0:
            raise InputError(f"risk, step {position}: {name} is {limit!r}; it must be a finite number above zero.")
        parsed.append({name: float(limit)})
    return tuple(parsed)
