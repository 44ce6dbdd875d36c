"""Indicators: named functions from the bars of one instrument to one number a bar.

Most come from the `ta` library and keep its parameter names and defaults; `sma`, `returns`, `zscore` and the cross-
sectional `rank` are defined here. A user's indicator is a plain function `f(bars, **params)` of one instrument's bars
(open, high, low, close, volume, indexed by ts, continued across splits by the splits known so far) that returns one
value a bar.

Each indicator has a warm-up, the number of bars before its first value, and a basis, which says how it follows a split:
price (in the price's own unit), volume, or ratio (free of units).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.errors import InputError
from ledger_pipeline.identity import hash_bytes

BASES = ("price", "volume", "ratio")


@dataclass(frozen=True)
class Indicator:
    """A named indicator: how to compute it, how long it warms up, how it follows splits, and a hash of its code."""

    name: str
    compute: Callable[..., pd.Series]
    defaults: Mapping[str, Any]
    warmup: Callable[[Mapping[str, Any]], int]
    basis: str
    code: str
    counts: Mapping[str, int] = field(default_factory=dict)  # parameters that are a number of bars, and the least of it
    across: bool = False  # ranks the instruments of the universe against each other at each bar
    wide: bool = False  # also takes a frame of closes with one column an instrument

    def bind(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, defaults filled in; InputError for an unknown or missing one, and for a number of bars that
        is not whole or too small.
        """
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            takes = ", ".join(self.defaults) or "no parameters"
            raise InputError(f"indicator {self.name!r} has no parameter {unknown[0]!r}; it takes {takes}.")
        bound = {**self.defaults, **params}
        for name, value in bound.items():
            if value is inspect.Parameter.empty:
                raise InputError(f"indicator {self.name!r} needs a value for {name!r}.")
            least = self.counts.get(name)
            if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(
                    f"indicator {self.name!r}: {name} is {value!r}; it must be a whole number of bars, "
                    f"at least {least}."
                )
        return bound


def _slower(p: Mapping[str, Any]) -> int:
    return max(p["window_slow"], p["window_fast"])


def _longest(p: Mapping[str, Any]) -> int:
    return max(value for name, value in p.items() if name.startswith("window"))


def _keltner(p: Mapping[str, Any]) -> int:
    return p["window"] if p["original_version"] else max(p["window"], p["window_atr"])


def _donchian(p: Mapping[str, Any]) -> int:
    return p["window"] + p["offset"]


# name: (module of ta, its function, inputs, basis, warm-up in bars from the bound parameters)
_TA: dict[str, tuple[str, str, str, str, Callable[[Mapping[str, Any]], int]]] = {
    "ema": ("trend", "ema_indicator", "close", "price", lambda p: p["window"]),
    "wma": ("trend", "wma_indicator", "close", "price", lambda p: p["window"]),
    "macd": ("trend", "macd", "close", "price", _slower),
    "macd_signal": ("trend", "macd_signal", "close", "price", lambda p: _slower(p) + p["window_sign"] - 1),
    "macd_diff": ("trend", "macd_diff", "close", "price", lambda p: _slower(p) + p["window_sign"] - 1),
    "adx": ("trend", "adx", "high low close", "ratio", lambda p: 2 * p["window"]),
    "adx_pos": ("trend", "adx_pos", "high low close", "ratio", lambda p: p["window"] + 2),
    "adx_neg": ("trend", "adx_neg", "high low close", "ratio", lambda p: p["window"] + 2),
    "aroon_up": ("trend", "aroon_up", "high low", "ratio", lambda p: p["window"] + 1),
    "aroon_down": ("trend", "aroon_down", "high low", "ratio", lambda p: p["window"] + 1),
    "cci": ("trend", "cci", "high low close", "ratio", lambda p: p["window"]),
    "trix": ("trend", "trix", "close", "ratio", lambda p: 3 * p["window"] - 1),
    "mass_index": ("trend", "mass_index", "high low", "ratio", lambda p: 2 * p["window_fast"] + p["window_slow"] - 2),
    "dpo": ("trend", "dpo", "close", "price", lambda p: max(p["window"], p["window"] // 2 + 2)),
    "vortex_pos": ("trend", "vortex_indicator_pos", "high low close", "ratio", lambda p: p["window"] + 1),
    "vortex_neg": ("trend", "vortex_indicator_neg", "high low close", "ratio", lambda p: p["window"] + 1),
    "kst": ("trend", "kst", "close", "ratio", lambda p: max(p[f"roc{i}"] + p[f"window{i}"] for i in range(1, 5)) - 1),
    "kst_sig": (
        "trend", "kst_sig", "close", "ratio",
        lambda p: max(p[f"roc{i}"] + p[f"window{i}"] for i in range(1, 5)) + p["nsig"] - 2,
    ),
    "ichimoku_conversion": ("trend", "ichimoku_conversion_line", "high low", "price", lambda p: p["window1"]),
    "ichimoku_base": ("trend", "ichimoku_base_line", "high low", "price", lambda p: p["window2"]),
    "ichimoku_a": ("trend", "ichimoku_a", "high low", "price", lambda p: max(p["window1"], p["window2"])),
    "ichimoku_b": ("trend", "ichimoku_b", "high low", "price", lambda p: max(p["window2"], p["window3"])),
    "psar_up": ("trend", "psar_up", "high low close", "price", lambda p: 3),
    "psar_down": ("trend", "psar_down", "high low close", "price", lambda p: 3),
    "stc": (
        "trend", "stc", "close", "ratio",
        lambda p: _slower(p) + 2 * p["cycle"] + p["smooth1"] + p["smooth2"] - 4,
    ),
    "rsi": ("momentum", "rsi", "close", "ratio", lambda p: p["window"] + 1),
    "tsi": ("momentum", "tsi", "close", "ratio", lambda p: p["window_slow"] + p["window_fast"]),
    "uo": ("momentum", "ultimate_oscillator", "high low close", "ratio", lambda p: _longest(p) + 1),
    "stoch": ("momentum", "stoch", "high low close", "ratio", lambda p: p["window"]),
    "stoch_signal": (
        "momentum", "stoch_signal", "high low close", "ratio", lambda p: p["window"] + p["smooth_window"] - 1,
    ),
    "stoch_rsi": ("momentum", "stochrsi", "close", "ratio", lambda p: 2 * p["window"]),
    "williams_r": ("momentum", "williams_r", "high low close", "ratio", lambda p: p["lbp"]),
    "awesome_oscillator": ("momentum", "awesome_oscillator", "high low", "price", _longest),
    "kama": ("momentum", "kama", "close", "price", lambda p: p["window"]),
    "roc": ("momentum", "roc", "close", "ratio", lambda p: p["window"] + 1),
    "ppo": ("momentum", "ppo", "close", "ratio", _slower),
    "pvo": ("momentum", "pvo", "volume", "ratio", _slower),
    "atr": ("volatility", "average_true_range", "high low close", "price", lambda p: p["window"]),
    "bollinger_mavg": ("volatility", "bollinger_mavg", "close", "price", lambda p: p["window"]),
    "bollinger_high": ("volatility", "bollinger_hband", "close", "price", lambda p: p["window"]),
    "bollinger_low": ("volatility", "bollinger_lband", "close", "price", lambda p: p["window"]),
    "bollinger_width": ("volatility", "bollinger_wband", "close", "ratio", lambda p: p["window"]),
    "bollinger_percent": ("volatility", "bollinger_pband", "close", "ratio", lambda p: p["window"]),
    "keltner_mband": ("volatility", "keltner_channel_mband", "high low close", "price", _keltner),
    "keltner_high": ("volatility", "keltner_channel_hband", "high low close", "price", _keltner),
    "keltner_low": ("volatility", "keltner_channel_lband", "high low close", "price", _keltner),
    "donchian_high": ("volatility", "donchian_channel_hband", "high low close", "price", _donchian),
    "donchian_low": ("volatility", "donchian_channel_lband", "high low close", "price", _donchian),
    "donchian_mid": ("volatility", "donchian_channel_mband", "high low close", "price", _donchian),
    "ulcer_index": ("volatility", "ulcer_index", "close", "ratio", lambda p: p["window"]),
    "obv": ("volume", "on_balance_volume", "close volume", "volume", lambda p: 1),
    "adi": ("volume", "acc_dist_index", "high low close volume", "volume", lambda p: 1),
    "cmf": ("volume", "chaikin_money_flow", "high low close volume", "ratio", lambda p: p["window"]),
    "mfi": ("volume", "money_flow_index", "high low close volume", "ratio", lambda p: p["window"] + 1),
    "vwap": ("volume", "volume_weighted_average_price", "high low close volume", "price", lambda p: p["window"]),
}  # fmt: skip

_IGNORED = ("fillna", "visual")  # ta's switches that look ahead; the visual lines have names of their own below


def names() -> list[str]:
    """The names of all built-in indicators, sorted."""
    return sorted([*_TA, *_VISUAL, *_OWN])


_VISUAL = {"ichimoku_a_visual": "ichimoku_a", "ichimoku_b_visual": "ichimoku_b"}


@functools.cache
def builtin(name: str) -> Indicator:
    """The built-in indicator of this name; InputError that lists what there is."""
    if name in _OWN:
        return _OWN[name]()
    visual = name in _VISUAL
    if not visual and name not in _TA:
        raise InputError(f"there is no indicator {name!r}; there are {', '.join(names())}.")
    module, function, inputs, basis, warmup = _TA[_VISUAL.get(name, name)]
    implementation = getattr(importlib.import_module(f"ta.{module}"), function)
    columns = tuple(inputs.split())
    signature = inspect.signature(implementation).parameters
    defaults = {
        key: parameter.default for key, parameter in signature.items() if key not in columns and key not in _IGNORED
    }

    def compute(bars: pd.DataFrame, **params: Any) -> pd.Series:
        extra = {"visual": visual} if "visual" in signature else {}
        if "fillna" in signature:
            extra["fillna"] = False
        return implementation(*(bars[column] for column in columns), **params, **extra)

    code = f"ta {importlib.metadata.version('ta')} {module}.{function} {'visual ' if visual else ''}{inputs} {basis}"
    counts = {key: 0 if key == "offset" else 1 for key, value in defaults.items() if _is_count(key, value)}
    return Indicator(name, compute, defaults, warmup, basis, hash_bytes(code.encode()), counts)


def _is_count(name: str, default: Any) -> bool:
    """Whether a parameter of ta is a number of bars: all of its whole numbers are, but for the width of a band."""
    return name != "window_dev" and (name.startswith("window") or type(default) is int)


def moving(what: str, values: Any, window: int) -> Any:
    """Moving mean or standard deviation (ddof 1) along the bars of a Series or wide frame; missing before `window`
    bars.
    """
    import bottleneck

    array = values.to_numpy()
    if window > len(array) or (what == "std" and window < 2):
        return values * np.nan
    options = {"ddof": 1} if what == "std" else {}
    moved = getattr(bottleneck, f"move_{what}")(array, window, axis=0, **options)
    return type(values)(moved, index=values.index, copy=False)


def _sma(bars: pd.DataFrame, window: int) -> pd.Series:
    """Simple moving average of the close: the mean of the last `window` closes (what ta's SMAIndicator computes)."""
    return moving("mean", bars["close"], window)


def _returns(bars: pd.DataFrame, window: int, skip: int) -> pd.Series:
    """close[t - skip] / close[t - skip - window] - 1; `skip` leaves out the most recent bars, as in 12-1 momentum."""
    recent = bars["close"].shift(skip)
    return recent / recent.shift(window) - 1.0


def _volatility(bars: pd.DataFrame, window: int) -> pd.Series:
    """Standard deviation (ddof 1) of the last `window` one-bar returns, a bar."""
    return moving("std", bars["close"].pct_change(fill_method=None), window)


def _zscore(bars: pd.DataFrame, window: int) -> pd.Series:
    """(close - mean) / standard deviation (ddof 1) of the last `window` closes."""
    return (bars["close"] - moving("mean", bars["close"], window)) / moving("std", bars["close"], window)


def _rank(bars: pd.DataFrame, window: int, skip: int) -> pd.Series:
    """The base of `rank`: the same as `returns`; it is ranked across the universe afterwards."""
    return _returns(bars, window, skip)


def _own(
    name: str,
    function: Callable[..., pd.Series],
    defaults: dict[str, Any],
    warmup: Callable[[Mapping[str, Any]], int],
    basis: str,
    across: bool = False,
) -> Callable[[], Indicator]:
    return lambda: Indicator(
        name,
        function,
        defaults,
        warmup,
        basis,
        hash_bytes("".join(map(inspect.getsource, (function, _returns, moving))).encode()),
        {name: least for name, least in (("window", 1), ("skip", 0)) if name in defaults},
        across,
        wide=True,
    )


_NEEDED = inspect.Parameter.empty
_OWN: dict[str, Callable[[], Indicator]] = {
    "sma": _own("sma", _sma, {"window": _NEEDED}, lambda p: p["window"], "price"),
    "returns": _own("returns", _returns, {"window": 1, "skip": 0}, lambda p: p["window"] + p["skip"] + 1, "ratio"),
    "volatility": _own("volatility", _volatility, {"window": _NEEDED}, lambda p: p["window"] + 1, "ratio"),
    "zscore": _own("zscore", _zscore, {"window": _NEEDED}, lambda p: p["window"], "ratio"),
    "rank": _own(
        "rank", _rank, {"window": _NEEDED, "skip": 0}, lambda p: p["window"] + p["skip"] + 1, "ratio", across=True
    ),
}


def user_indicator(function: Callable[..., Any], *, basis: str, warmup: int, text: str | None = None) -> Indicator:
    """An indicator from a plain function; `text` is its source when it does not come from a file.

    Raises InputError when the basis or warm-up is unsound or the function does not take bars first.
    """
    name = getattr(function, "__name__", "indicator")
    if basis not in BASES:
        raise InputError(
            f"indicator {name!r}: basis is {basis!r}; say price, volume or ratio, so that splits are followed rightly."
        )
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 1:
        raise InputError(f"indicator {name!r}: warmup is {warmup!r}; it must be a whole number of bars, at least 1.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if not parameters:
        raise InputError(f"indicator {name!r} must take the bars as its first argument.")
    try:
        source = text or inspect.getsource(function)
    except (OSError, TypeError):
        raise InputError(
            f"the source of indicator {name!r} cannot be read; define it in a file or a notebook cell."
        ) from None
    defaults = {parameter.name: parameter.default for parameter in parameters[1:]}
    counts = {key: 1 for key in defaults if key.startswith("window") and key != "window_dev"}
    return Indicator(name, function, defaults, lambda _: warmup, basis, hash_bytes(source.encode()), counts)
