"""A sweep as one file that anyone can open and keep: what was varied, what came out, and how many trials there were.

Self-contained HTML without scripts. Candidates stand in the order of the grid and none is marked as best; the pictures
show whether a high value stands alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ledger_pipeline.analytics import plots
from ledger_pipeline.analytics.comparison_tables import format_metric, metric_title
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import Location, location
from ledger_pipeline.sweeps.sweep import Sweep

METRICS = ("sharpe", "total_return", "max_drawdown", "trades")
ROWS = 500  # candidates that are listed
TEMPLATE = Path(__file__).with_name("report.html.j2")


def sweep_report(sweep: Sweep, metric: str = "sharpe") -> str:
    """The report as HTML; pictures are of `metric`. InputError for a metric that there is not."""
    import jinja2

    frame = sweep.candidates
    shown = [name for name in METRICS if name in frame.columns]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    figures = []
    if sweep.metric_names():
        figures.append((f"Where {metric_title(metric)} is high", plots.svg(picture(sweep, metric))))
        figures.append((f"{metric_title(metric)} over all candidates", plots.svg(sweep.distribution(metric))))
    if sweep.metric_names() and len(sweep.axes) > 2:
        figures.append(("All params", plots.svg(sweep.parallel(metric))))
    rows = [
        [row["number"], (row["id"] or "")[:10], *(str(row[name]) for name in sweep.axes), row["status"]]
        + [_text(name, row[name]) for name in shown]
        for row in frame.head(ROWS).to_dict("records")
    ]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metric=metric_title(metric),
        title=f"Sweep {sweep.name} on {sweep.snapshot.id}",
        facts=_facts(sweep),
        **_worth(sweep, metric),
        figures=figures,
        header=["number", "candidate", *sweep.axes, "status", *map(metric_title, shown)],
        rows=rows,
        left_out=len(frame) - len(rows),
        failed=frame[frame["status"] == "failed"].head(20)[["number", "error"]].values.tolist(),
    )


def _worth(sweep: Sweep, metric: str) -> dict[str, Any]:
    """What the best candidate is worth after so many trials: a verdict and its numbers; why there is none, else."""
    from ledger_pipeline.selection.gates import outcomes
    from ledger_pipeline.selection.integrity import selection_integrity
    from ledger_pipeline.selection.report import integrity_rows

    try:
        worth = selection_integrity(sweep, by=metric, tests=False)
    except InputError as error:
        return {"verdict": None, "worth": [], "unknown": str(error)}
    return {
        "verdict": worth.verdict, "worth": integrity_rows(worth, outcomes(sweep.gates, worth)), "unknown": None,
    }  # fmt: skip


def picture(sweep: Sweep, metric: str) -> Any:
    """The one picture of a sweep: a heat map of its first two params where it has two, a slice where it has one. With
    more it is the mean over the others.
    """
    if len(sweep.axes) >= 2:
        return sweep.heatmap(sweep.axes[0], sweep.axes[1], metric)
    return sweep.slices(metric, 0)


def save_report(sweep: Sweep, root: Location) -> Path:
    """Write the report to <root>/reports/sweep-<name>-<snapshot>.html and return its path."""
    path = location(root) / "reports" / f"sweep-{sweep.name}-{sweep.snapshot.id}.html"
    add_file(path, sweep_report(sweep).encode())
    return Path(str(path))


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    identity, counts = sweep.plan["identity"], sweep.counts
    grid = [(f"param {name}", values_text(values)) for name, values in identity["grid"].items()]
    return [
        ("experiment", f"{sweep.plan['experiment']['name']} ({identity['experiment_hash'][:16]})"),
        ("snapshot", f"{sweep.snapshot.id} ({identity['snapshot_hash'][:16]})"),
        *grid,
        ("condition", identity["where"] or "none"),
        ("search", str(identity["search"])),
        (
            "candidates",
            f"{counts['candidates']:,}, {counts['no_trades']:,} without a trade, {counts['failed']:,} failed",
        ),
        ("trials", f"{sweep.trials:,} distinct candidates of this strategy on this snapshot, ever"),
        ("sweep", sweep.sweep_id),
        ("sweep_hash", sweep.hash),
    ]


def values_text(values: Any) -> str:
    """The values of an axis as people read them, the first twelve of many."""
    if isinstance(values, dict):
        return f"{values['from']} to {values['to']}"
    shown = ", ".join(map(str, values[:12]))
    return shown if len(values) <= 12 else f"{shown}, ... ({len(values)} values)"


def _text(name: str, value: Any) -> str:
    missing = value is None or (isinstance(value, float) and not np.isfinite(value))
    return format_metric(name, None if missing else value)
