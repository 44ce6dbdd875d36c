"""Indicators of TA-Lib: all its functions by their names in lower case, and some under names of their own.

TA-Lib's definitions are Wilder's and StockCharts': averages start with a simple average, RSI and ATR are smoothed by
Wilder's method from the first full window on. Warm-up is TA-Lib's own look-back. How a function follows splits is
measured, not declared: its output for prices of twice the size (and half the volume) is the same (ratio), twice as
large (price), half as large (volume), or none of these (pulse). A function with several outputs takes `output`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.features.indicator import Indicator

COLUMNS = ("open", "high", "low", "close", "volume")
LEFT_OUT = frozenset(["MAVP", "SMA", "STDDEV", "VAR", "BBANDS"])  # needs a second series; exact ones are in `own`
# TA-Lib's parameters that have a name over all indicators; its own is understood as well
WINDOWS = {
    "timeperiod": "window",
    "fastperiod": "window_fast",
    "slowperiod": "window_slow",
    "signalperiod": "window_sign",
}
SYNONYMS = WINDOWS | {"lbp": "window", "step": "acceleration", "max_step": "maximum"}

# name: (function, output, {parameter: (TA-Lib's parameters, default)}, what is made of it)
_Alias = tuple[str, str, dict[str, tuple[tuple[str, ...], Any]], Callable[..., Any] | None]
_MACD: dict[str, tuple[tuple[str, ...], Any]] = {
    "window_slow": (("slowperiod",), 26), "window_fast": (("fastperiod",), 12), "window_sign": (("signalperiod",), 9),
}  # fmt: skip


def _one(default: int, *names: str) -> dict[str, tuple[tuple[str, ...], Any]]:
    return {"window": (names or ("timeperiod",), default)}


def _below(sar: np.ndarray, bars: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.where(sar < bars["close"], sar, np.nan)


def _above(sar: np.ndarray, bars: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.where(sar >= bars["close"], sar, np.nan)


def _share(values: np.ndarray, bars: Mapping[str, np.ndarray]) -> np.ndarray:
    return values / 100.0


_SAR: dict[str, tuple[tuple[str, ...], Any]] = {"step": (("acceleration",), 0.02), "max_step": (("maximum",), 0.2)}
_KELTNER: dict[str, tuple[tuple[str, ...], Any]] = {
    "window": (("timeperiod",), 20), "window_atr": (("atrperiod",), 10), "multiplier": (("nbdev",), 2.0),
}  # fmt: skip
_STOCH: dict[str, tuple[tuple[str, ...], Any]] = {
    "window": (("fastk_period",), 14), "smooth_window": (("fastd_period",), 3),
}  # fmt: skip
ALIASES: dict[str, _Alias] = {
    "macd_signal": ("MACD", "macdsignal", _MACD, None),
    "macd_diff": ("MACD", "macdhist", _MACD, None),
    "adx_pos": ("PLUS_DI", "real", _one(14), None),
    "adx_neg": ("MINUS_DI", "real", _one(14), None),
    "aroon_up": ("AROON", "aroonup", _one(25), None),
    "aroon_down": ("AROON", "aroondown", _one(25), None),
    "vortex_pos": ("VORTEX", "plusvi", _one(14), None),
    "vortex_neg": ("VORTEX", "minusvi", _one(14), None),
    "psar_up": ("SAR", "real", _SAR, _below),
    "psar_down": ("SAR", "real", _SAR, _above),
    "stoch_signal": ("STOCHF", "fastd", _STOCH, None),
    "stoch_rsi": ("STOCHRSI", "fastk", _one(14, "timeperiod", "fastk_period"), _share),
    "uo": (
        "ULTOSC", "real",
        {f"window{k}": ((f"timeperiod{k}",), default) for k, default in ((1, 7), (2, 14), (3, 28))}, None,
    ),
    "williams_r": ("WILLR", "real", {"lbp": (("timeperiod",), 14)}, None),
    "awesome_oscillator": (
        "AO", "real", {"window1": (("fastperiod",), 5), "window2": (("slowperiod",), 34)}, None,
    ),
    "mass_index": (
        "MASSI", "real", {"window_fast": (("fastperiod",), 9), "window_slow": (("slowperiod",), 25)}, None,
    ),
    "keltner_high": ("KC", "upperband", _KELTNER, None),
    "keltner_mband": ("KC", "middleband", _KELTNER, None),
    "keltner_low": ("KC", "lowerband", _KELTNER, None),
    "donchian_high": ("DONCHIAN", "upperband", _one(20), None),
    "donchian_mid": ("DONCHIAN", "middleband", _one(20), None),
    "donchian_low": ("DONCHIAN", "lowerband", _one(20), None),
    "adi": ("AD", "real", {}, None),
}  # fmt: skip


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all of them, sorted."""
    import talib

    return tuple(sorted([*(name.lower() for name in talib.get_functions() if name not in LEFT_OUT), *ALIASES]))


@functools.cache
def indicator(name: str) -> Indicator:
    """The indicator of this name, which is one of `names()`."""
    import talib
    from talib import abstract  # its module makes the names as it is loaded, so a checker sees none

    alias = ALIASES.get(name)
    function = alias[0] if alias else name.upper()
    info = abstract.Function(function).info
    inputs = tuple(
        dict.fromkeys(
            column
            for value in info["input_names"].values()
            for column in ([value] if isinstance(value, str) else value)
        )
    )
    outputs = tuple(info["output_names"])
    own = {WINDOWS.get(key, key): value for key, value in info["parameters"].items()}
    if alias:
        defaults = {key: default for key, (_, default) in alias[2].items()}
        synonyms = {"timeperiod": "window"} if "window" in defaults else {}
    else:
        defaults = own | ({"output": outputs[0]} if len(outputs) > 1 else {})
        synonyms = {other: name for other, name in SYNONYMS.items() if name in own}
    theirs = {ours: name for name, ours in WINDOWS.items()}

    def translated(params: Mapping[str, Any]) -> dict[str, Any]:
        if not alias:
            return {theirs.get(key, key): value for key, value in params.items() if key != "output"}
        return {name: params[ours] for ours, (names, _) in alias[2].items() for name in names}

    def compute(bars: pd.DataFrame, **params: Any) -> np.ndarray:
        columns = {column: np.ascontiguousarray(bars[column].to_numpy(np.float64)) for column in inputs}
        given = (
            columns if alias is None or alias[3] is None else columns | {"close": bars["close"].to_numpy(np.float64)}
        )
        result = abstract.Function(function)({**_unused(columns), **columns}, **translated(params))
        if len(outputs) > 1:
            result = result[outputs.index(alias[1] if alias else params["output"])]
        values = np.asarray(result, dtype=np.float64)
        return values if alias is None or alias[3] is None else alias[3](values, given)

    def warmup(params: Mapping[str, Any]) -> int:
        with_params = abstract.Function(function)
        with_params.parameters = translated(params)
        lookback = with_params.lookback
        if lookback < 0:
            raise InputError("the parameters are out of range")
        return lookback + 1

    version = talib.__version__
    choices = {"output": outputs} if "output" in defaults else {}
    return Indicator(
        name=name,
        compute=compute,
        defaults=defaults,
        warmup=warmup,
        basis=_basis(compute, defaults, choices.get("output", (None,))),
        code=hash_bytes(f"TA-Lib {version} {name} {function} {alias[1] if alias else ''}".encode()),
        library=f"TA-Lib {version}",
        inputs=inputs,
        description=info["display_name"] + (f" ({', '.join(outputs)})" if len(outputs) > 1 and not alias else ""),
        counts={
            key: 1
            for key, value in defaults.items()
            if type(value) is int and ("period" in key or key.startswith(("window", "lbp")) or key.endswith("bars"))
        },
        choices=choices,
        synonyms=synonyms,
    )


def _unused(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """TA-Lib asks for all columns to be there."""
    some = next(iter(columns.values()))
    return dict.fromkeys(COLUMNS, some)


def _basis(compute: Callable[..., Any], defaults: Mapping[str, Any], outputs: tuple[str | None, ...]) -> str:
    """How the outputs follow a split, found by making one: see the module."""
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, 200)))
    high, low = close * (1 + rng.uniform(0, 0.02, 200)), close * (1 - rng.uniform(0, 0.02, 200))
    bars = pd.DataFrame(dict(zip(COLUMNS, (low, high, low, close, rng.uniform(100, 900, 200)), strict=True)))
    scaled = bars * [2.0, 2.0, 2.0, 2.0, 0.5]
    kinds = set()
    for output in outputs:
        params = dict(defaults) | ({} if output is None else {"output": output})
        one, other = compute(bars, **params), compute(scaled, **params)
        sizes = (("ratio", 1.0), ("price", 2.0), ("volume", 0.5))
        same = (basis for basis, size in sizes if np.allclose(one * size, other, rtol=1e-9, atol=0, equal_nan=True))
        kinds.add(next(same, "pulse"))
    return kinds.pop() if len(kinds) == 1 else "pulse"
