"""Indicators of the library `ta` that TA-Lib does not have, with ta's parameter names and defaults.

Averages inside them start with the first value, as ta's do. Some of ta's functions look ahead; the causality check
refuses them where they are used.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ledger_pipeline.core.identity import hash_bytes
from ledger_pipeline.features.indicator import Indicator


def _slower(p: Mapping[str, Any]) -> int:
    return max(p["window_slow"], p["window_fast"])


def _longest_roc(p: Mapping[str, Any]) -> int:
    return max(p[f"roc{i}"] + p[f"window{i}"] for i in range(1, 5))


# name: (module of ta, its function, inputs, basis, warm-up in bars, what it is)
_TA: dict[str, tuple[str, str, str, str, Callable[[Mapping[str, Any]], int], str]] = {
    "kst": ("trend", "kst", "close", "ratio", lambda p: _longest_roc(p) - 1, "Know Sure Thing"),
    "kst_sig": (
        "trend", "kst_sig", "close", "ratio", lambda p: _longest_roc(p) + p["nsig"] - 2, "Know Sure Thing, signal line",
    ),
    "ichimoku_conversion": (
        "trend", "ichimoku_conversion_line", "high low", "price", lambda p: p["window1"], "Ichimoku conversion line",
    ),
    "ichimoku_base": (
        "trend", "ichimoku_base_line", "high low", "price", lambda p: p["window2"], "Ichimoku base line",
    ),
    "ichimoku_a": (
        "trend", "ichimoku_a", "high low", "price", lambda p: max(p["window1"], p["window2"]), "Ichimoku span A",
    ),
    "ichimoku_b": (
        "trend", "ichimoku_b", "high low", "price", lambda p: max(p["window2"], p["window3"]), "Ichimoku span B",
    ),
    "stc": (
        "trend", "stc", "close", "ratio",
        lambda p: _slower(p) + 2 * p["cycle"] + p["smooth1"] + p["smooth2"] - 4, "Schaff trend cycle",
    ),
    "ulcer_index": ("volatility", "ulcer_index", "close", "ratio", lambda p: p["window"], "Ulcer index"),
    "rolling_vwap": (
        "volume", "volume_weighted_average_price", "high low close volume", "price", lambda p: p["window"],
        "Volume-weighted average price of the last bars",
    ),
}  # fmt: skip
_VISUAL = {"ichimoku_a_visual": "ichimoku_a", "ichimoku_b_visual": "ichimoku_b"}
_IGNORED = ("fillna", "visual")  # ta's switches that look ahead; the visual lines have names of their own


def names() -> tuple[str, ...]:
    """The names of all of them, sorted."""
    return tuple(sorted([*_TA, *_VISUAL]))


@functools.cache
def indicator(name: str) -> Indicator:
    """The indicator of this name, which is one of `names()`."""
    visual = name in _VISUAL
    module, function, inputs, basis, warmup, description = _TA[_VISUAL.get(name, name)]
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

    version = importlib.metadata.version("ta")
    code = f"ta {version} {module}.{function} {'visual ' if visual else ''}{inputs} {basis}"
    return Indicator(
        name=name,
        compute=compute,
        defaults=defaults,
        warmup=warmup,
        basis=basis,
        code=hash_bytes(code.encode()),
        library=f"ta {version}",
        inputs=columns,
        description=description + (", shifted ahead as it is drawn (looks ahead: refused)" if visual else ""),
        counts={key: 1 for key, value in defaults.items() if key.startswith("window") or type(value) is int},
    )
