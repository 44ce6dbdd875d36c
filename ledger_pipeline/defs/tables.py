"""Tables and pictures as Dagster metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd


def bar_columns() -> dg.TableSchema:
    """The columns of bars, for the UI."""
    told = {
        "symbol": ("string", "instrument"),
        "ts": ("timestamp[us, UTC]", "start of the bar; a daily bar: its session date at 00:00"),
        "open": ("float64", "raw, as traded"),
        "high": ("float64", "raw, as traded"),
        "low": ("float64", "raw, as traded"),
        "close": ("float64", "raw, as traded"),
        "volume": ("float64", "shares, as traded"),
    }
    return dg.TableSchema([dg.TableColumn(name, kind, description=text) for name, (kind, text) in told.items()])


def frame_table(frame: pd.DataFrame) -> str:
    """A small frame as a Markdown table; "none" when it is empty."""
    if frame.empty:
        return "none"
    header = [str(name) for name in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.10g}"
    if hasattr(value, "normalize"):
        return value.strftime("%Y-%m-%d") if value == value.normalize() else value.isoformat()
    return str(value).replace("|", "\\|")
