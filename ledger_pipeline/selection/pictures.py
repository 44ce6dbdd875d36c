"""Pictures of selection: how train compares with test, where logits lie, how a metric is distributed over paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.comparison_tables import metric_title
from ledger_pipeline.analytics.plots import COLOURS, INK, clip, style
from ledger_pipeline.analytics.returns import wealth_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ledger_pipeline.selection.overfitting import Overfitting
    from ledger_pipeline.selection.splits import CombinatorialResult
    from ledger_pipeline.selection.walk_forward import WalkForward

_POINTS = 3_000  # of a scatter that are drawn


def overfitting_figure(result: Overfitting) -> Figure:
    """The logits of all splits beside the performance out of sample over that in sample, with its regression line."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.6, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(result.logits, bins=40, color=COLOURS[0], edgecolor="white", linewidth=0.4)
        left.axvline(0.0, color=COLOURS[1], linewidth=1.5)
        left.set_xlabel("logit of the rank out of sample (left of 0: worse than the middle)")
        left.set_ylabel("splits")
        left.set_title(f"probability of overfitting {result.pbo:.2f}")
        step = max(1, len(result.in_sample) // _POINTS)
        x, y = result.in_sample[::step], result.out_of_sample[::step]
        right.plot(x, y, ".", color=COLOURS[0], markersize=2, alpha=0.4)
        ends = np.array([x.min(), x.max()])
        right.plot(ends, result.intercept + result.slope * ends, color=COLOURS[1], linewidth=1.5)
        right.axhline(0.0, color=INK, linewidth=0.6, alpha=0.5)
        right.set_xlabel(f"{result.by} in sample, per period")
        right.set_ylabel("out of sample")
        right.set_title(f"loses out of sample in {result.probability_of_loss:.0%} of splits")
        return figure


def paths_figure(result: CombinatorialResult) -> Figure:
    """The metric of every path."""
    with style():
        figure, axes = _one(f"{result.by} of {len(result.metrics)} paths out of sample", 2.6)
        axes.hist(result.metrics, bins=max(5, min(40, len(result.metrics) // 2)), color=COLOURS[0], edgecolor="white")
        axes.axvline(float(np.median(result.metrics)), color=COLOURS[1], linewidth=1.5)
        axes.set_xlabel(metric_title(result.by))
        axes.set_ylabel("paths")
        return figure


def walk_forward_figure(result: WalkForward) -> Figure:
    """Train and test metric of each window over the equity of the stitched run, whose windows are shaded in turn."""
    with style():
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        top, bottom = figure.subplots(2, 1, height_ratios=(2, 3))
        windows = result.windows
        places = np.arange(len(windows))
        for shift, name, colour in ((-0.18, "train", COLOURS[0]), (0.18, "test", COLOURS[1])):
            values = [np.nan if (value := getattr(one, name)) is None else value for one in windows]
            top.bar(places + shift, values, width=0.34, color=colour, label=name)
        top.axhline(0.0, color=INK, linewidth=0.6, alpha=0.5)
        top.set_xticks(places, [f"{one.window.test_start:%Y-%m}" for one in windows], fontsize=7)
        top.set_ylabel(metric_title(result.by))
        top.legend(loc="upper right", ncols=2)
        top.set_title(clip(f"{result.name}: chosen by {result.by}, and what came of it", 90))
        wealth = wealth_index(result.run.equity)
        bottom.plot(wealth.index.to_numpy(), wealth.to_numpy(), color=COLOURS[0], linewidth=1.2)
        for one in windows[::2]:
            span = [pd.Timestamp(day).to_numpy() for day in (one.window.test_start, one.window.test_end)]
            bottom.axvspan(*span, color=INK, alpha=0.05, linewidth=0)
        locator = AutoDateLocator(maxticks=8)
        bottom.xaxis.set_major_locator(locator)
        bottom.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        bottom.set_ylabel("wealth out of sample, from 1")
        return figure


def _one(title: str, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(clip(title, 90))
    return figure, axes
