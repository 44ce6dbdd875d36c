"""The built-in indicators by name: those defined here, then TA-Lib's, then ta's.

A name means one definition: the exact moving windows of `own` before TA-Lib's running ones, TA-Lib before ta. Names are
lower case; TA-Lib's are also found as it writes them (RSI).
"""

from __future__ import annotations

import functools

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.features import own, ta_library, talib_library
from ledger_pipeline.features.indicator import BASES, Indicator, user_indicator

__all__ = ["BASES", "Indicator", "builtin", "names", "user_indicator"]


@functools.cache
def _own() -> dict[str, Indicator]:
    return own.indicators()


def names() -> list[str]:
    """The names of all built-in indicators, sorted."""
    return sorted([*_own(), *talib_library.names(), *ta_library.names()])


def builtin(name: str) -> Indicator:
    """The built-in indicator of this name; InputError that names close ones."""
    lower = name.lower()
    if lower in _own():
        return _own()[lower]
    if lower in talib_library.names():
        return talib_library.indicator(lower)
    if lower in ta_library.names():
        return ta_library.indicator(lower)
    from difflib import get_close_matches

    near = get_close_matches(lower, names(), n=5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        f"there is no indicator {name!r}; {hint}`ledger-pipeline indicators` lists all {len(names())}, such as "
        "sma, ema, rsi, macd, atr, bbands, volatility, zscore."
    )
