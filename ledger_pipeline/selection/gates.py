"""Gates: what the choice of a candidate must meet to be promoted, as the sweep's file states it.

gates: {pbo: {max: 0.5}, deflated_sharpe: {min: 0.95}, probabilistic_sharpe: {min: 0.95}, reality_check: {max: 0.05},
        min_track_record: true, min_backtest_length: true}

A gate that is not met refuses a promotion, unless a reason is given, which is recorded with the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger_pipeline.core.errors import InputError, RefusedError

if TYPE_CHECKING:
    from ledger_pipeline.selection.integrity import Integrity

LIMITS = {"pbo": "max", "deflated_sharpe": "min", "probabilistic_sharpe": "min", "reality_check": "max"}
SWITCHES = ("min_track_record", "min_backtest_length")

Gates = Mapping[str, float | bool]


def gates(given: Any) -> dict[str, float | bool]:
    """Gates as they are written, in the order of LIMITS and SWITCHES; the limit of each, or whether it is asked for.
    InputError naming the gate for what is none.
    """
    if given is None:
        return {}
    form = "gates are written {pbo: {max: 0.5}, deflated_sharpe: {min: 0.95}, min_track_record: true}"
    if not isinstance(given, Mapping):
        raise InputError(f"{form}, not {given!r}.")
    unknown = next((name for name in given if name not in LIMITS and name not in SWITCHES), None)
    if unknown is not None:
        raise InputError(f"gates: there is no gate {unknown!r}; there are {', '.join([*LIMITS, *SWITCHES])}.")
    read: dict[str, float | bool] = {}
    for name, side in LIMITS.items():
        if name in given:
            limit = given[name].get(side) if isinstance(given[name], Mapping) and set(given[name]) == {side} else None
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
                raise InputError(f"gates: {name} is {given[name]!r}; write {{{side}: a probability}}.")
            read[name] = float(limit)
    for name in SWITCHES:
        if name in given:
            if not isinstance(given[name], bool):
                raise InputError(f"gates: {name} is {given[name]!r}; it is true or false.")
            read[name] = given[name]
    return read


@dataclass(frozen=True)
class GateOutcome:
    """One gate: what it asks for and what there is, in words, and whether it is met."""

    gate: str
    asked: str
    value: float | None
    met: bool

    @property
    def sentence(self) -> str:
        """The outcome as people read it."""
        value = "undefined" if self.value is None else f"{self.value:.4g}"
        return f"{self.gate} is {value}, and {self.asked} is asked for"


def require_met(found: Sequence[GateOutcome], what: str, against: str | None) -> None:
    """RefusedError naming the gates that are not met, unless a reason against them is given."""
    failed = [one.sentence for one in found if not one.met]
    if failed and not (against or "").strip():
        raise RefusedError(
            f"{what} is not promoted: {'; '.join(failed)}. If it is meant all the same, say why against the gates "
            "(--against-gates, against_gates=): the reason is recorded with the numbers."
        )


@dataclass(frozen=True)
class Measures:
    """What gates look at. values: by the names of LIMITS, None where undefined; track_record, record_needed: returns
    there are and that are needed (None: no number is enough); years, years_needed: alike.
    """

    values: Mapping[str, float | None]
    track_record: int
    record_needed: float | None
    years: float
    years_needed: float


def outcomes(asked: Gates, integrity: Integrity) -> list[GateOutcome]:
    """Each gate with what the integrity of a choice says to it. A value that is undefined meets no gate."""
    values = {
        "pbo": integrity.overfitting.pbo,
        "deflated_sharpe": integrity.deflated,
        "probabilistic_sharpe": integrity.probabilistic,
        "reality_check": None if integrity.reality is None else integrity.reality.spa_consistent,
    }
    return judged(
        asked,
        Measures(values, integrity.track_record, integrity.record_needed, integrity.years, integrity.years_needed),
    )


def judged(asked: Gates, measures: Measures) -> list[GateOutcome]:
    """Each gate with what there is. A value that is undefined meets no gate."""
    found = []
    for name, limit in asked.items():
        if name in LIMITS:
            value = measures.values[name]
            known = value is not None and math.isfinite(value)
            at_most = LIMITS[name] == "max"
            met = bool(known and (value <= limit if at_most else value >= limit))  # type: ignore[operator]
            found.append(GateOutcome(name, f"{'at most' if at_most else 'at least'} {limit:g}", value, met))
        elif limit is True and name == "min_track_record":
            needed = measures.record_needed
            met = needed is not None and measures.track_record >= needed
            text = "no record is long enough for it" if needed is None else f"at least {needed:,.0f} returns"
            found.append(GateOutcome(name, text, float(measures.track_record), met))
        elif limit is True:
            met = measures.years >= measures.years_needed
            found.append(GateOutcome(name, f"at least {measures.years_needed:.1f} years", measures.years, met))
    return found
