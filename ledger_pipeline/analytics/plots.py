"""Pictures of runs, in one calm style, for the UI and the report.

Figures are built without pyplot, so nothing is global and any thread may draw. Colours are those of Okabe and Ito,
which people with any common colour blindness tell apart; after six runs the line style changes too. The same frames
give the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from ledger_pipeline.analytics.comparison_tables import MONTHS, ComparedRun, check_labels, monthly_returns
from ledger_pipeline.analytics.returns import check_equity, drawdown, wealth_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE_STYLES = ("-", "--", ":", "-.")
INK, GRID, PAPER = "#24292f", "#d9dee4", "#ffffff"
GAIN, LOSS = "#0072b2", "#d55e00"

MAX_POINTS = 1_200  # a line has no more: beyond it, only file size grows
MAX_IMAGE_BYTES = 40_000  # of markdown_image, so that an event log stays light
ATTEMPTS = ((90, 64), (90, 16), (60, 16), (40, 8))  # dots an inch, colours of the palette

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ledger_pipeline",
    "path.simplify": True,
}


def equity_and_drawdown(equity: pd.DataFrame, title: str, currency: str = "") -> Figure:
    """Return equity in `currency` over the drawdown of the time-weighted wealth in percent, on one time axis. Equity
    that multiplied over years is on a log scale, which its axis says.

    Deposits and withdrawals are faint ticks at the foot of the equity panel. With no rows the panels say so.
    """
    check_equity(equity)
    with style():
        figure, (top, bottom) = _panels(title, height=4.6)
        times = pd.DatetimeIndex(equity["ts"])
        level = pd.Series(equity["equity"].to_numpy(), index=times)
        top.plot(*thin(level), color=COLOURS[0], linewidth=1.3)
        flows = times[equity["flow"].to_numpy() != 0]
        if len(flows):
            shown = flows[np.linspace(0, len(flows) - 1, min(len(flows), 400)).astype(int)]
            top.plot(
                shown.tz_convert("UTC").tz_localize(None),
                np.zeros(len(shown)),
                linestyle="none",
                marker="|",
                markersize=7,
                color=INK,
                alpha=0.35,
                transform=top.get_xaxis_transform(),
                clip_on=False,
            )
            top.annotate(
                "| deposit or withdrawal",
                (1, 1.02),
                xycoords="axes fraction",
                ha="right",
                fontsize=8,
                color=INK,
                alpha=0.7,
            )
        _scaled(top, level, f"equity, {currency}" if currency else "equity")
        wealth = wealth_index(equity)
        x, y = thin(drawdown(wealth) * 100)
        bottom.fill_between(x, y, 0, color=LOSS, alpha=0.25, linewidth=0)
        bottom.plot(x, y, color=LOSS, linewidth=0.8)
        _finish(bottom, len(wealth) < 2)
        return figure


def compare_equity(runs: Sequence[ComparedRun], title: str = "Growth of 1, time-weighted") -> Figure:
    """Return the time-weighted wealth of each run, overlaid, over its drawdown; a legend outside, below, in the order
    given.

    Raises InputError for labels that repeat.
    """
    check_labels([run.label for run in runs])
    columns = 1 if max((len(run.label) for run in runs), default=0) > 40 else min(max(len(runs), 1), 4)
    legend_rows = -(-len(runs) // columns)
    with style():
        figure, (top, bottom) = _panels(title, height=5.0 + 0.2 * legend_rows, width=8.6)
        handles = []
        for i, run in enumerate(runs):
            look: dict[str, Any] = {
                "color": COLOURS[i % len(COLOURS)],
                "linestyle": LINE_STYLES[i // len(COLOURS) % len(LINE_STYLES)],
                "solid_joinstyle": "round",
            }
            wealth = wealth_index(run.equity)
            handles += top.plot(*thin(wealth), linewidth=1.3, **look)
            bottom.plot(*thin(drawdown(wealth) * 100), linewidth=0.9, **look)
        top.axhline(1.0, color=INK, linewidth=0.6, alpha=0.5)
        wealths = [wealth_index(run.equity) for run in runs]
        _scaled(top, pd.concat(wealths).sort_index() if wealths else pd.Series(dtype=float), "wealth, from 1")
        if runs:
            # a leading underscore would hide the entry
            names = [
                clip(run.label, 80) if not run.label.startswith("_") else " " + clip(run.label, 80) for run in runs
            ]
            order = _by_row(len(runs), columns)
            figure.legend(
                [handles[i] for i in order],
                [names[i] for i in order],
                loc="outside lower center",
                ncols=columns,
                handlelength=2.4,
                fontsize=9,
            )
        _finish(bottom, all(np.size(line.get_xdata()) < 2 for line in handles))
        return figure


def monthly_heatmap(equity: pd.DataFrame, title: str) -> Figure:
    """Return the time-weighted return of each calendar month in percent, years down, with the year's total; blue gains,
    orange losses.

    The colour scale is symmetric and ends at the 95th percentile of the absolute monthly returns.
    """
    table = monthly_returns(equity)
    months = table[list(MONTHS)].to_numpy() * 100
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.2, 1.0 + 0.3 * max(len(table), 1)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(clip(title, 90), pad=22)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlim(-0.5, 12.9)
        axes.set_ylim(max(len(table), 1) - 0.5, -0.5)
        axes.xaxis.tick_top()
        axes.set_xticks([*range(12), 12.4], [*MONTHS, "Year"])
        axes.set_yticks(range(len(table)), [str(year) for year in table.index])
        limit = heat_limit([table]) * 100
        shades = LinearSegmentedColormap.from_list("gain_loss", [LOSS, "#f6d7c2", PAPER, "#c7dff0", GAIN])
        colours = shades.with_extremes(bad=(0, 0, 0, 0))
        if len(table) == 0:
            axes.text(5.5, 0, "no returns", ha="center", va="center")
            return figure
        axes.imshow(
            np.ma.masked_invalid(months),
            cmap=colours,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            extent=(-0.5, 11.5, len(table) - 0.5, -0.5),
        )
        for row in range(len(table)):
            for column, value in enumerate([*months[row], table["Year"].iloc[row] * 100]):
                if np.isfinite(value):
                    last = column == 12
                    axes.text(
                        12.4 if last else column,
                        row,
                        f"{round(value, 1) + 0.0:.1f}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=INK if last else readable(colours(0.5 + value / limit / 2)),
                        weight="bold" if last else "normal",
                    )
        return figure


def grouped_bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str, unit: str) -> Figure:
    """Bars beside each other: for each label one of each series, in the order given. Without labels it says so."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(8.2, 1.4 + 0.22 * max(len(labels), 1) * (len(series) + 1)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(clip(title, 90))
        places = np.arange(len(labels), dtype=float)
        height = 0.8 / max(len(series), 1)
        for number, (name, values) in enumerate(series.items()):
            offset = (number - (len(series) - 1) / 2) * height
            axes.barh(
                places + offset, list(values), height=0.92 * height, color=COLOURS[number % len(COLOURS)], label=name
            )
        axes.set_yticks(places, [clip(label, 24) for label in labels])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(unit)
        if labels:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.28 if len(labels) < 4 else -0.14), ncols=len(series)
            )
        else:
            axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=axes.transAxes)
        return figure


def heat_limit(tables: Sequence[pd.DataFrame]) -> float:
    """Return where the colour scale of monthly tables ends: the 95th percentile of |monthly return| over all of them,
    at least 0.1 %.
    """
    values = np.concatenate([np.abs(t[list(MONTHS)].to_numpy(np.float64)).ravel() for t in tables] or [np.array([])])
    values = values[np.isfinite(values)]
    return max(float(np.percentile(values, 95)), 0.001) if len(values) else 0.001


def png(figure: Figure, dpi: int = 120) -> bytes:
    """Return the figure as PNG bytes on white, without a date or a software name in it."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Return the figure as one <svg> element for use inside HTML: transparent, its ink the text colour around it
    (`currentColor`).

    Grid lines take the CSS variable --line where it is set. Text stays text. No prolog, metadata or comments, nothing
    loaded from elsewhere.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(
            buffer, format="svg", facecolor="none", edgecolor="none",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )  # fmt: skip
    text = buffer.getvalue()
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # the fixed size in points would not shrink on a phone; the viewBox keeps the shape
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace(INK, "currentColor").replace(GRID, f"var(--line, {GRID})")


def markdown_image(figure: Figure, alt: str) -> str:
    """Return the figure as a Markdown image with the PNG inside it (data URL), under 40 KB where fewer colours or
    dots get it there.
    """
    data = b""
    drawn: dict[int, bytes] = {}  # drawing takes much longer than reducing colours
    for dpi, colours in ATTEMPTS:
        if dpi not in drawn:
            drawn[dpi] = png(figure, dpi)
        data = _reduced(drawn[dpi], colours)
        if len(base64.b64encode(data)) < MAX_IMAGE_BYTES:
            break
    text = re.sub(r"[\[\]\s\\!`<>]+", " ", alt).strip()
    return f"![{text}](data:image/png;base64,{base64.b64encode(data).decode('ascii')})"


def _reduced(data: bytes, colours: int) -> bytes:
    """A PNG with so many colours. Those that tell lines apart stay as they are, so that a legend means what it shows;
    the others are the best for the rest of the picture.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    kept = [[int(text[place : place + 2], 16) for place in (1, 3, 5)] for text in (*COLOURS, INK, PAPER)]
    more = max(colours - len(kept), 4)
    cut = image.quantize(more, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.array(kept + np.reshape(cut.getpalette() or [], (-1, 3))[:more].tolist(), np.uint8)
    pixels = np.asarray(image).reshape(-1, 3)
    distinct, places = np.unique(pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32), return_inverse=True)
    shades = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1).astype(np.int32)
    nearest = ((shades[:, None, :] - palette.astype(np.int32)) ** 2).sum(axis=2).argmin(axis=1).astype(np.uint8)
    small = Image.fromarray(nearest[places].reshape(image.height, image.width), mode="P")
    small.putpalette(palette.ravel().tolist())
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def style() -> AbstractContextManager[None]:
    """The one style of all pictures, for as long as the context is open."""
    import matplotlib

    return matplotlib.rc_context(cast(Any, _RC))


def _panels(title: str, height: float, width: float = 8.2) -> tuple[Figure, tuple[Axes, Axes]]:
    """Two panels on one time axis, the upper three times as high, the title over both."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    top.set_title(clip(title, 90), pad=10)
    bottom.set_ylabel("drawdown, %")
    locator = AutoDateLocator(minticks=4, maxticks=9)
    bottom.xaxis.set_major_locator(locator)
    bottom.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return figure, (top, bottom)


def _finish(bottom: Axes, empty: bool) -> None:
    bottom.margins(x=0.01)
    low, _ = bottom.get_ylim()
    bottom.set_ylim(min(low, -1.0), 0.0)
    if empty:
        bottom.text(0.5, 0.5, "no returns", transform=bottom.transAxes, ha="center", va="center")


def thin(series: pd.Series) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """At most MAX_POINTS of a series as (times without zone, values): of each stretch the lowest and the highest, so
    no peak is lost.
    """
    times = pd.DatetimeIndex(series.index).tz_convert("UTC").tz_localize(None) if len(series) else pd.DatetimeIndex([])
    values = series.to_numpy(np.float64)
    if len(values) <= MAX_POINTS:
        return times, values
    keep = {0, len(values) - 1}
    filled = np.where(np.isfinite(values), values, 0.0)
    for stretch in np.array_split(np.arange(len(values)), MAX_POINTS // 2 - 1):
        part = filled[stretch]
        keep |= {int(stretch[part.argmin()]), int(stretch[part.argmax()])}
    rows = np.array(sorted(keep))
    return times[rows], values[rows]


def _by_row(count: int, columns: int) -> list[int]:
    """The order in which to hand entries to a legend, which fills columns, so that they read in rows."""
    return [i for column in range(columns) for i in range(column, count, columns)]


def readable(background: tuple[float, ...]) -> str:
    """PAPER or INK, whichever contrasts more with `background` (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return PAPER if luminance < 0.2 else INK


def _scaled(axes: Axes, level: pd.Series, label: str) -> None:
    """Name and scale the axis of a level over time: by logarithm where it is above zero, over more than two years, and
    its largest value is more than twice the smallest, so that equal changes in per cent look equal.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = level[np.isfinite(level)]
    years = (finite.index[-1] - finite.index[0]).days / 365.25 if len(finite) > 1 else 0.0
    if years > 2 and finite.min() > 0 and finite.max() > 2 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        label = f"{label} (log scale)"
    axes.yaxis.set_major_formatter(FuncFormatter(_grouped))
    axes.set_ylabel(label)


def _grouped(value: float, _position: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.4g}"


def clip(text: str, length: int) -> str:
    """A text of at most so many characters; a longer one ends with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
