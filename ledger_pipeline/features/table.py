"""Feature tables: indicators computed over a grid, warm-up enforced, in the basis of each pulse.

Indicators see one instrument's own bars, continued across splits by the splits known at each bar (price x factor,
volume / factor). A price-like value is then divided by the factor of its pulse, so that it compares with the raw close
of that pulse. An indicator whose output scales like neither a price, a volume nor a ratio is computed anew in the basis
of each pulse. A feature's fingerprint is a hash of its indicator's code and parameters; with the snapshot_hash it names
the values.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.features.indicators import Indicator, builtin, user_indicator
from ledger_pipeline.market.bars import FIELDS
from ledger_pipeline.market.grid import VOLUME, Grid


@dataclass(frozen=True)
class Feature:
    """An indicator bound to its parameters, under the alias by which a strategy asks for it."""

    alias: str
    indicator: Indicator
    params: Mapping[str, Any]

    @property
    def warmup(self) -> int:
        """Bars of an instrument before the first value: the value at its bar `warmup` is the first."""
        return self.indicator.warmup(self.params)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of code, parameters, basis and warm-up; the alias is not part of it."""
        return hash_json(
            {
                "indicator": self.indicator.name,
                "code": self.indicator.code,
                "params": dict(self.params),
                "basis": self.indicator.basis,
                "warmup": self.warmup,
            }
        )


def feature(alias: str, spec: Mapping[str, Any], indicators: Mapping[str, Indicator] | None = None) -> Feature:
    """The feature of a spec such as {"indicator": "sma", "window": 20}.

    The indicator is a built-in name, a name in `indicators` (the user's own), or a function, which also needs `basis`
    and `warmup` in the spec.
    Raises InputError.
    """
    given = dict(spec)
    which = given.pop("indicator", None)
    try:
        if which is None:
            raise InputError("the spec names no indicator; write for example {indicator: sma, window: 20}.")
        if callable(which):
            if "basis" not in given or "warmup" not in given:
                raise InputError("a function needs `basis` (price, volume or ratio) and `warmup` (bars) in the spec.")
            indicator = user_indicator(which, basis=given.pop("basis"), warmup=given.pop("warmup"))
        elif not isinstance(which, str):
            raise InputError(f"the indicator is {which!r}; give the name of one, or a function.")
        elif indicators and which in indicators:
            indicator = indicators[which]
        else:
            indicator = builtin(which)
        return Feature(alias, indicator, indicator.bind(given))
    except InputError as error:
        raise InputError(f"feature {alias!r}: {error}") from None


def compute(item: Feature, grid: Grid, out: np.ndarray | None = None) -> np.ndarray:
    """Values of a feature over the grid: float64 (T, N), NaN where there is no bar, during the warm-up and where it is
    undefined. They are written into `out` where it is given.
    """
    values = np.empty(grid.present.shape) if out is None else out
    values[:] = raw_values(item, grid)
    if grid.present.all():
        values[: item.warmup - 1] = np.nan
    else:
        values[(np.cumsum(grid.present, axis=0) < item.warmup) | ~grid.present] = np.nan
    values[np.isinf(values)] = np.nan
    if item.indicator.across:
        values[:] = pd.DataFrame(values).rank(axis=1, pct=True).to_numpy()
        return values
    if not grid.has_splits:
        return values
    if item.indicator.basis == "price":
        values /= grid.split_factor
    elif item.indicator.basis == "volume":
        values *= grid.split_factor
    return values


def compute_table(items: Sequence[Feature], grid: Grid) -> np.ndarray:
    """Values of several features over the grid: float64 (T, K, N) in the order given."""
    table = np.empty((len(grid.times), len(items), len(grid.symbols)))
    for k, item in enumerate(items):
        compute(item, grid, out=table[:, k, :])
    return table


def raw_values(item: Feature, grid: Grid) -> np.ndarray:
    """What the indicator returns before warm-up and basis: float64 (T, N), in units continued across splits (in those
    of each pulse where the basis is `pulse`). It may be an array that is not ours to change.
    """
    values = _raw_values(item, grid)
    if item.params.get("annualise") is True:
        values = values * np.sqrt(_bars_a_year(grid))
    return values


def _raw_values(item: Feature, grid: Grid) -> np.ndarray:
    dense = grid.present.all(axis=0)
    anew = item.indicator.basis == "pulse" and grid.has_splits
    if dense.all() and item.indicator.wide and not anew:
        return _call(item, {"close": pd.DataFrame(_continued(grid, 3, slice(None)), copy=False)})
    values = np.full(grid.present.shape, np.nan)
    wide = np.flatnonzero(dense) if item.indicator.wide and not anew else np.empty(0, dtype=np.int64)
    if len(wide):
        values[:, wide] = _call(item, {"close": pd.DataFrame(_continued(grid, 3, wide))})
    for i in np.setdiff1d(np.arange(len(grid.symbols)), wide):
        rows = np.flatnonzero(grid.present[:, i])
        index = pd.to_datetime(grid.times[rows], unit="us", utc=True)
        bars = pd.DataFrame({name: _continued(grid, f, i)[rows] for f, name in enumerate(FIELDS)}, index=index)
        try:
            values[rows, i] = _in_each_basis(item, bars, grid.split_factor[rows, i]) if anew else _call(item, bars)
        except InputError as error:
            raise InputError(f"{error} (instrument {grid.symbols[i]})") from None
    return values


def _in_each_basis(item: Feature, bars: pd.DataFrame, factor: np.ndarray) -> np.ndarray:
    """Values (T,) of one instrument, computed once for each basis that its prices had, from all bars up to its end."""
    values = np.full(len(bars), np.nan)
    ends = [*np.flatnonzero(np.diff(factor)) + 1, len(factor)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        scale = np.array([1.0, 1.0, 1.0, 1.0, factor[start] ** 2]) / factor[start]
        values[start:end] = _call(item, bars.iloc[:end] * scale)[start:end]
    return values


def _bars_a_year(grid: Grid) -> np.ndarray:
    """float64 (N,): what annualises a deviation of one bar; 252 where nothing is known of the market."""
    if grid.timetable is None:
        return np.full(len(grid.symbols), 252.0)
    return grid.timetable.bars_a_year[grid.timetable.calendar_of]


def _continued(grid: Grid, f: int, columns: Any) -> np.ndarray:
    if not grid.has_splits:
        return grid.fields[:, f, columns]
    factor = grid.split_factor[:, columns]
    return grid.fields[:, f, columns] / factor if f == VOLUME else grid.fields[:, f, columns] * factor


def _call(item: Feature, bars: Any) -> np.ndarray:
    expected = bars["close"].shape
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = np.asarray(item.indicator.compute(bars, **item.params), dtype=np.float64)
    except Exception as error:
        if expected[0] < item.warmup:  # too short a history for the library to cope with: no value yet
            return np.full(expected, np.nan)
        raise InputError(
            f"feature {item.alias!r}: indicator {item.indicator.name!r} failed: {type(error).__name__}: {error}."
        ) from error
    if result.shape != expected:
        raise InputError(
            f"feature {item.alias!r}: indicator {item.indicator.name!r} returned shape {result.shape} for "
            f"{expected[0]} bars; "
            "it must return one value a bar."
        )
    return result


def of_columns(grid: Grid, columns: np.ndarray) -> Grid:
    """The grid of some of its instruments, at the same bar times."""
    return replace(
        grid,
        symbols=tuple(grid.symbols[i] for i in columns),
        fields=grid.fields[:, :, columns],
        present=grid.present[:, columns],
        split_factor=grid.split_factor[:, columns],
        actions=(),
        timetable=None if grid.timetable is None else grid.timetable.columns(columns),
    )
