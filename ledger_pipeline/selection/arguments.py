"""Checks of what people hand to statistics: InputError in one sentence, naming the argument and what it should be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ledger_pipeline.core.errors import InputError


def check_count(value: Any, what: str, least: int) -> None:
    """Require a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{what} is {value!r}; give at least {least}, a whole number.")


def check_number(value: Any, what: str, *, above: float | None = None) -> None:
    """Require a finite number, above another where that is given."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (above is not None and value <= above):
        raise InputError(f"{what} is {value!r}; it is a number" + ("" if above is None else f" above {above:g}") + ".")


def check_confidence(value: Any) -> None:
    """Require a probability between 0.5 and 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.5 < value < 1.0:
        raise InputError(f"confidence is {value!r}; give a probability between 0.5 and 1, such as 0.95.")
