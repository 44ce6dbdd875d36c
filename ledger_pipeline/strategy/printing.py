"""`print` in a strategy: shown on the error stream with the pulse it belongs to. It decides nothing, so it changes no
identity and is no event.
"""

from __future__ import annotations

import sys
from typing import Any

_pulse: list[int] = []  # microseconds UTC of the pulse that is being decided; empty while none is


def at_pulse(time: int) -> None:
    """Say which pulse is decided from here on (microseconds UTC)."""
    _pulse[:] = [time]


def shown_print(*values: Any, sep: str | None = " ", end: str | None = "\n", flush: bool = False) -> None:
    """The print that a strategy calls: its text, after the time of the pulse."""
    import pandas as pd

    when = f"[{pd.Timestamp(_pulse[0], unit='us', tz='UTC').isoformat()}] " if _pulse else ""
    text = (" " if sep is None else sep).join(map(str, values))
    sys.stderr.write(f"{when}{text}{chr(10) if end is None else end}")
