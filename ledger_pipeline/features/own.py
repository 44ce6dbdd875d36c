"""Indicators defined here: averages and deviations over windows that are exact after any history, returns, ranks.

Each takes the bars of one instrument, or a frame of closes with one column an instrument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.features.indicator import NEEDED, Indicator
from ledger_pipeline.features.windows import moving


def _window(values: Any, window: int, ddof: int) -> tuple[Any, Any]:
    """Moving mean and deviation of a Series or frame, as what `values` is."""
    array = np.ascontiguousarray(values.to_numpy(np.float64))
    mean, deviation = moving(array.reshape(len(array), -1), window, ddof)
    return tuple(type(values)(one.reshape(array.shape), index=values.index, copy=False) for one in (mean, deviation))


def _sma(bars: pd.DataFrame, window: int) -> pd.Series:
    """Simple moving average: the mean of the last `window` closes."""
    return _window(bars["close"], window, 0)[0]


def _stddev(bars: pd.DataFrame, window: int, nbdev: float) -> pd.Series:
    """Standard deviation (of the population, as TA-Lib's STDDEV) of the last `window` closes, times nbdev."""
    return _window(bars["close"], window, 0)[1] * nbdev


def _var(bars: pd.DataFrame, window: int) -> pd.Series:
    """Variance (of the population, as TA-Lib's VAR) of the last `window` closes."""
    return _window(bars["close"], window, 0)[1] ** 2


def _bbands(bars: pd.DataFrame, window: int, nbdevup: float, nbdevdn: float, output: str) -> pd.Series:
    """Bollinger bands: mean of the last `window` closes, plus nbdevup or minus nbdevdn deviations of the population."""
    middle, deviation = _window(bars["close"], window, 0)
    if output == "middleband":
        return middle
    return middle + nbdevup * deviation if output == "upperband" else middle - nbdevdn * deviation


def _bollinger_width(bars: pd.DataFrame, window: int, window_dev: float) -> pd.Series:
    """Bollinger band width: (upper - lower) / middle x 100."""
    middle, deviation = _window(bars["close"], window, 0)
    return 2.0 * window_dev * deviation / middle * 100.0


def _bollinger_percent(bars: pd.DataFrame, window: int, window_dev: float) -> pd.Series:
    """Where the close is between the Bollinger bands: 0 at the lower, 1 at the upper; missing where these are one."""
    middle, deviation = _window(bars["close"], window, 0)
    return (bars["close"] - (middle - window_dev * deviation)) / (2.0 * window_dev * deviation)


def _returns(bars: pd.DataFrame, window: int, skip: int) -> pd.Series:
    """close[t - skip] / close[t - skip - window] - 1; `skip` leaves out the most recent bars, as in 12-1 momentum."""
    recent = bars["close"].shift(skip)
    return recent / recent.shift(window) - 1.0


def _volatility(bars: pd.DataFrame, window: int, annualise: bool) -> pd.Series:
    """Standard deviation (n - 1) of the last `window` one-bar returns, for one bar; `annualise: true` multiplies by the
    square root of the bars a year: 252 sessions (365.25 where the market never closes) x the bars of a regular session.
    """
    return _window(bars["close"].pct_change(fill_method=None), window, 1)[1]


def _zscore(bars: pd.DataFrame, window: int) -> pd.Series:
    """(close - mean) / standard deviation (n - 1) of the last `window` closes; missing where they are all equal."""
    mean, deviation = _window(bars["close"], window, 1)
    return (bars["close"] - mean) / deviation.where(deviation > 0)


def _rank(bars: pd.DataFrame, window: int, skip: int) -> pd.Series:
    """`returns`, ranked across the universe at each bar: 1 for the highest, 1 / n for the lowest."""
    return _returns(bars, window, skip)


def _own(
    function: Callable[..., pd.Series],
    defaults: dict[str, Any],
    warmup: Callable[[Mapping[str, Any]], int],
    basis: str,
    name: str | None = None,
    **options: Any,
) -> Indicator:
    helpers = (function, _bbands, _returns, _window, moving.py_func)
    called = name or function.__name__.lstrip("_")
    return Indicator(
        name=called,
        compute=function,
        defaults=defaults,
        warmup=warmup,
        basis=basis,
        code=hash_bytes("".join([called, *[inspect.getsource(helper) for helper in helpers]]).encode()),
        library="ledger_pipeline",
        inputs=("close",),
        description=" ".join((inspect.getdoc(function) or f"The {called.split('_')[1]} of bbands").split()),
        counts={key: least for key, least in (("window", 1), ("skip", 0)) if key in defaults},
        synonyms={"timeperiod": "window"},
        wide=True,
        **options,
    )


def _one_window(p: Mapping[str, Any]) -> int:
    return p["window"]


_BANDS = ("upperband", "middleband", "lowerband")


def indicators() -> dict[str, Indicator]:
    """All of them, by name."""
    bands = {
        name: _own(
            lambda bars, window, window_dev, output=output: _bbands(bars, window, window_dev, window_dev, output),
            {"window": 20, "window_dev": 2.0}, _one_window, "price", name,
        )
        for name, output in zip(("bollinger_high", "bollinger_mavg", "bollinger_low"), _BANDS, strict=True)
    }  # fmt: skip
    defined = [
        _own(_sma, {"window": NEEDED}, _one_window, "price"),
        _own(_stddev, {"window": 5, "nbdev": 1.0}, _one_window, "price"),
        _own(_var, {"window": 5}, _one_window, "pulse"),
        _own(
            _bbands, {"window": 20, "nbdevup": 2.0, "nbdevdn": 2.0, "output": "upperband"}, _one_window, "price",
            choices={"output": _BANDS},
        ),
        _own(_bollinger_width, {"window": 20, "window_dev": 2.0}, _one_window, "ratio"),
        _own(_bollinger_percent, {"window": 20, "window_dev": 2.0}, _one_window, "ratio"),
        _own(_returns, {"window": 1, "skip": 0}, lambda p: p["window"] + p["skip"] + 1, "ratio"),
        _own(
            _volatility, {"window": NEEDED, "annualise": False}, lambda p: p["window"] + 1, "ratio",
            choices={"annualise": (False, True)},
        ),
        _own(_zscore, {"window": NEEDED}, _one_window, "ratio"),
        _own(_rank, {"window": NEEDED, "skip": 0}, lambda p: p["window"] + p["skip"] + 1, "ratio", across=True),
    ]  # fmt: skip
    return {one.name: one for one in defined} | bands
