"""How a target is to be reached: at a limit, at a stop, at the close; and what guards a position until it is changed.

Prices are those of one share, as traded (in the instrument's own currency). docs/semantics.md, 11, says how they fill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np

from ledger_pipeline.core.errors import InputError

Good = Literal["bar", "session", "changed"]
GOOD = ("bar", "session", "changed")


@dataclass(frozen=True, slots=True)
class _Prices:
    """Prices by name, None where there is none."""

    def restated(self, ratio: float) -> Self:
        """As it is after a split that makes `ratio` shares of one."""
        prices: dict[str, Any] = {
            name: value / ratio for name, value in self.document().items() if isinstance(value, float)
        }
        return replace(self, **prices)

    def document(self) -> dict[str, Any]:
        """As JSON, without what is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Instruction(_Prices):
    """How an order is filled. type: "limit", "stop", "stop_limit" or "close"; good: for its next bar, until its session
    is over, or until the target or the instruction changes.
    """

    type: str
    limit: float | None = None
    stop: float | None = None
    good: Good = "bar"


@dataclass(frozen=True, slots=True)
class Bracket(_Prices):
    """Prices at which what is held is given up: a stop that ends a loss, a target that takes a gain."""

    stop: float | None = None
    target: float | None = None


def instruction(document: Mapping[str, Any]) -> Instruction:
    """An instruction from its document, whole numbers read as prices."""
    prices = {name: float(document[name]) for name in ("limit", "stop") if name in document}
    return Instruction(document["type"], good=document.get("good", "bar"), **prices)


def price_of(what: str, symbol: str, value: object) -> float:
    """A price as float64; InputError for what is none."""
    number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    if not number or not 0 < cast(float, value) < float("inf"):
        raise InputError(f"{what}: the price for {symbol} is {value!r}; it must be a finite number above zero.")
    return float(cast(float, value))


def good_of(what: str, value: object) -> Good:
    """How long an order is good; InputError for another word."""
    if value not in GOOD:
        raise InputError(f"{what}: good is {value!r}; it is one of {', '.join(GOOD)}.")
    return cast(Good, value)
