"""What an experiment is written in: JSON values, and the closed steps of costs and risk.

simulation.costs and simulation.risk say what each step does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json

COST_STEPS = (
    "spread_bps",
    "fixed_fee",
    "notional_bps_fee",
    "per_share_fee",
    "minimum_fee",
)  # the price step first, then fees
RISK_STEPS = ("long_only", "max_weight", "max_gross")


def plain(value: Any) -> Any:
    """`value` with mappings as dicts, lists and tuples as lists and numpy's scalars as Python's; other things as they
    are.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def json_value(value: Any) -> Any:
    """`value` as it comes back from its canonical JSON form, so that equal hashes mean equal values: 1.0 is 1.

    InputError when it has no such form.
    """
    return read_json(canonical_json(plain(value)))


def read_json(text: str | bytes) -> Any:
    """Canonical JSON as a value. RFC 8785 writes 1e16 as an integer that JSON does not keep; it stays a float."""
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) < 2**53 else float(digits)


def parse_costs(steps: Any) -> tuple[dict[str, float], ...]:
    """Costs as canonical one-key dicts; InputError, naming the step by its place from 1 on, for an unknown step, a
    negative amount or a price step after a fee step.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise InputError("costs must be a list of steps, such as [{spread_bps: 5}]; write [] for no costs.")
    parsed = [_step(position, step, COST_STEPS) for position, step in enumerate(steps, 1)]
    for position, step in enumerate(parsed, 1):
        if step.get("spread_bps", 0.0) >= 20_000:  # half of it would take the whole price
            raise InputError(f"step {position}: spread_bps is {step['spread_bps']:g}; it must be below 20000.")
        if "spread_bps" in step and any("spread_bps" not in earlier for earlier in parsed[: position - 1]):
            raise InputError(
                f"step {position}: the price step spread_bps comes after a fee step; put price steps first."
            )
    return tuple(parsed)


def parse_risk(steps: Any) -> tuple[str | dict[str, float], ...]:
    """Risk steps in canonical form: "long_only" or one-key dicts; InputError for anything else."""
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise InputError("risk must be a list of steps, such as [long_only, {max_weight: 0.3}]; write [] for none.")
    return tuple(
        step if isinstance(step, str) and step == "long_only" else _step(position, step, RISK_STEPS)
        for position, step in enumerate(steps, 1)
    )


def _step(position: int, step: Any, names: tuple[str, ...]) -> dict[str, float]:
    """One step with its amount, {name: amount}."""
    at = f"step {position}:"
    if not isinstance(step, Mapping) or len(step) != 1:
        written = ", ".join(name if name == "long_only" else f"{{{name}: amount}}" for name in names)
        raise InputError(f"{at} {step!r} is not a step; write one of {written}.")
    ((name, amount),) = step.items()
    if name not in names or name == "long_only":
        raise InputError(f"{at} there is no step {name!r} with an amount; the steps are {', '.join(names)}.")
    number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    free = name in COST_STEPS  # a cost may be zero, a limit may not
    if not number or not math.isfinite(amount) or amount < 0 or (amount == 0 and not free):
        least = "zero or more" if free else "above zero"
        raise InputError(f"{at} {name} is {amount!r}; it must be a finite amount, {least}.")
    return {name: float(amount)}
