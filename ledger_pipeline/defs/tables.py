"""Tables and pictures as Dagster metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd


def bar_columns() -> dg.TableSchema:
    """The columns of bars, for the UI."""
    described = {
        "symbol": ("string", "instrument"),
        "ts": ("timestamp[us, UTC]", "start of the bar; a daily bar: its session date at 00:00"),
        "open": ("float64", "raw, as traded"),
        "high": ("float64", "raw, as traded"),
        "low": ("float64", "raw, as traded"),
        "close": ("float64", "raw, as traded"),
        "volume": ("float64", "shares, as traded"),
    }
    types = {name: kind for name, (kind, _) in described.items()}
    return columns(types, {name: text for name, (_, text) in described.items()})


def columns(types: Mapping[str, Any], descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    """The columns of a table by name, with their types and what some of them are, for the UI."""
    return dg.TableSchema(
        [
            dg.TableColumn(str(name), str(kind), description=(descriptions or {}).get(name))
            for name, kind in types.items()
        ]
    )


def column_lineage(made_from: Mapping[str, Iterable[tuple[str, str]]]) -> dg.TableColumnLineage:
    """Which columns of which assets a column is made from: column -> (asset, column) pairs."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=column) for asset, column in deps]
            for name, deps in made_from.items()
        }
    )


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table; "none" when there are none."""
    if not rows:
        return "none"
    return _table(list(rows[0]), [["" if value is None else value for value in row.values()] for row in rows])


def frame_table(frame: pd.DataFrame) -> str:
    """A small frame as a Markdown table; "none" when it is empty."""
    if frame.empty:
        return "none"
    return _table([str(name) for name in frame.columns], frame.itertuples(index=False))


def _table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    cells = [[_cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *cells])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.10g}"
    if hasattr(value, "normalize"):
        return value.strftime("%Y-%m-%d") if value == value.normalize() else value.isoformat()
    return str(value).replace("|", "\\|")
