"""Pictures of sweeps: where a metric is high, whether its neighbours are too, and how it is distributed over all.

They are drawn in the style of `analytics.plots`. A candidate without a value is left white; the chosen one is marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.comparison_tables import metric_title
from ledger_pipeline.analytics.plots import COLOURS, GRID, INK, clip, readable, style
from ledger_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ledger_pipeline.sweeps.sweep import Sweep

_CELLS = 400  # of a heat map that are written out
_LINES = 2_000  # of parallel coordinates; beyond it every n-th candidate is drawn
_SHADES = "cividis"  # even for people who do not see all colours


def heatmap(sweep: Sweep, x: str, y: str, metric: str, chosen: str | int | None = None) -> Figure:
    """A metric over two params, the mean over the others. InputError for a param or metric that there is not."""
    frame = _frame(sweep, metric)
    for name in (x, y):
        _require_axis(sweep, name)
    if x == y:
        raise InputError(f"a heat map has two params; {x!r} was named twice.")
    rows, columns = _values(frame, y), _values(frame, x)
    mean = frame.groupby([_key(frame[y]), _key(frame[x])])[metric].mean()
    cells = np.array([[mean.get((str(r), str(c)), np.nan) for c in columns] for r in rows], dtype=np.float64)
    with style():
        import matplotlib as mpl

        figure, axes = _canvas(
            _title(sweep, metric), 0.42 * len(rows) + 1.6, max(5.0, min(0.62 * len(columns) + 2.4, 14.0))
        )
        shades = mpl.colormaps[_SHADES].with_extremes(bad=(0, 0, 0, 0))
        image = axes.imshow(np.ma.masked_invalid(cells), cmap=shades, aspect="auto", origin="lower")
        axes.grid(False)
        _ticks(axes, columns, rows)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        figure.colorbar(image, ax=axes, label=metric_title(metric))
        if cells.size <= _CELLS:
            for r, c in np.argwhere(np.isfinite(cells)):
                colour = readable(cast(tuple[float, ...], shades(image.norm(cells[r, c]))))
                axes.text(c, r, f"{cells[r, c]:.3g}", ha="center", va="center", fontsize=7, color=colour)
        if chosen is not None:
            row = sweep.row(chosen)
            place = (columns.index(row[x]), rows.index(row[y]))
            axes.add_patch(_frame_around(place))
        return figure


def parallel(sweep: Sweep, metric: str, chosen: str | int | None = None) -> Figure:
    """A line a candidate through its params and the metric, coloured by the metric; those without a value are left
    out.
    """
    frame = _frame(sweep, metric).dropna(subset=[metric])
    shown = frame.iloc[:: max(1, -(-len(frame) // _LINES))].sort_values(metric)
    names = [*sweep.axes, metric]
    scaled = np.stack([_scaled(frame[name]).loc[shown.index].to_numpy() for name in names], axis=1)
    with style():
        import matplotlib as mpl
        from matplotlib.collections import LineCollection

        figure, axes = _canvas(_title(sweep, metric), 3.6, max(5.0, 1.6 * len(names)))
        lines = LineCollection(
            [np.column_stack([np.arange(len(names)), row]) for row in scaled],
            array=shown[metric].to_numpy(), cmap=mpl.colormaps[_SHADES], linewidths=0.8, alpha=0.7,
        )  # fmt: skip
        axes.add_collection(lines)
        axes.set_xlim(-0.2, len(names) - 0.8)
        axes.set_ylim(-0.04, 1.04)
        axes.set_xticks(range(len(names)), [*sweep.axes, metric_title(metric)])
        axes.tick_params(axis="x", pad=12)
        axes.set_yticks([])
        for place, name in enumerate(names):
            low, high = _ends(frame[name])
            axes.text(place, -0.02, low, ha="center", va="top", fontsize=7)
            axes.text(place, 1.02, high, ha="center", va="bottom", fontsize=7)
        if (
            chosen is not None
            and (marked := scaled[shown["number"].to_numpy() == int(sweep.row(chosen)["number"])]).size
        ):
            axes.plot(np.arange(len(names)), marked[0], color=COLOURS[1], linewidth=2.2)
        if not len(shown):
            _empty(axes)
        else:
            figure.colorbar(lines, ax=axes, label=metric_title(metric))
        return figure


def slices(sweep: Sweep, metric: str, candidate: str | int) -> Figure:
    """A panel a param: the metric along it, with the other params as in the candidate, which is marked."""
    frame, row = _frame(sweep, metric), sweep.row(candidate)
    with style():
        from matplotlib.figure import Figure

        count = len(sweep.axes)
        figure = Figure(figsize=(max(4.0, 2.9 * count), 3.0), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, count, sharey=True))
        for axes, name in zip(panels, sweep.axes, strict=True):
            others = [other for other in sweep.axes if other != name]
            along = frame[(frame[others].astype(str) == row[others].astype(str)).all(axis=1)] if others else frame
            places = np.arange(len(along))
            axes.plot(places, along[metric], color=COLOURS[0], marker="o", markersize=3)
            here = along["number"].to_numpy() == row["number"]
            axes.plot(places[here], along[metric].to_numpy()[here], "o", color=COLOURS[1], markersize=7)
            step = max(1, len(along) // 8)
            axes.set_xticks(places[::step], [clip(str(value), 12) for value in along[name].iloc[::step]])
            axes.set_xlabel(name)
        panels[0].set_ylabel(metric_title(metric))
        figure.suptitle(clip(_title(sweep, metric), 90), x=0.01, ha="left", weight="bold", fontsize=11)
        return figure


def distribution(sweep: Sweep, metric: str, chosen: str | int | None = None) -> Figure:
    """A histogram of a metric over all candidates that have a value, with the chosen one marked."""
    values = _frame(sweep, metric)[metric].dropna().to_numpy()
    with style():
        figure, axes = _canvas(_title(sweep, metric), 2.8, 7.0)
        axes.set_xlabel(metric_title(metric))
        axes.set_ylabel("candidates")
        if not len(values):
            _empty(axes)
            return figure
        axes.hist(values, bins=min(60, max(5, len(values) // 4)), color=COLOURS[0], edgecolor="white", linewidth=0.4)
        if chosen is not None and np.isfinite(own := float(sweep.row(chosen)[metric])):
            axes.axvline(own, color=COLOURS[1], linewidth=2)
            axes.text(own, axes.get_ylim()[1], " chosen", color=COLOURS[1], va="top", fontsize=8)
        return figure


def _frame(sweep: Sweep, metric: str) -> pd.DataFrame:
    if metric not in sweep.metric_names():
        raise InputError(f"there is no metric {metric!r} in this sweep; there are {', '.join(sweep.metric_names())}.")
    return sweep.candidates


def _require_axis(sweep: Sweep, name: str) -> None:
    if name not in sweep.axes:
        raise InputError(f"the sweep does not vary {name!r}; it varies {', '.join(sweep.axes)}.")


def _title(sweep: Sweep, metric: str) -> str:
    return f"{metric_title(metric)}: {sweep.name} on {sweep.snapshot.id}, {len(sweep.candidates):,} candidates"


def _values(frame: pd.DataFrame, name: str) -> list[Any]:
    """The distinct values of a param, numbers ascending."""
    values = list({str(value): value for value in frame[name]}.values())
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values


def _key(values: pd.Series) -> pd.Series:
    return values.map(str)


def _scaled(values: pd.Series) -> pd.Series:
    """Values from 0 to 1: numbers by size, others by the order in which they first come."""
    numbers = (
        values if pd.api.types.is_numeric_dtype(values) else pd.Series(pd.factorize(_key(values))[0], values.index)
    )
    low, high = numbers.min(), numbers.max()
    return (numbers - low) / (high - low) if high > low else numbers * 0 + 0.5


def _ends(values: pd.Series) -> tuple[str, str]:
    if pd.api.types.is_numeric_dtype(values):
        return f"{values.min():.4g}", f"{values.max():.4g}"
    return clip(str(values.iloc[0]), 14), clip(str(values.iloc[-1]), 14)


def _canvas(title: str, height: float, width: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, min(height, 12.0)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(clip(title, int(width * 11)))
    return figure, axes


def _ticks(axes: Axes, columns: list[Any], rows: list[Any]) -> None:
    for values, put in ((columns, axes.set_xticks), (rows, axes.set_yticks)):
        step = max(1, len(values) // 24)
        put(range(0, len(values), step), [clip(str(value), 14) for value in values[::step]])


def _frame_around(place: tuple[int, int]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.5)


def _empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color=INK)
    axes.grid(color=GRID)
