"""The comparison of runs as one file that anyone can open, keep and print.

The order is what a reader asks: what differs in a sentence, how each went, what came out, month by month, then what
went in differently in full, and what it all rests on. The runs stay in the order given and none is marked as best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.analytics import charts, plots
from ledger_pipeline.analytics.comparison_tables import (
    ABSENT,
    ALL_FORMULAS,
    MONTHS,
    ComparedRun,
    check_labels,
    comparison_table,
    differences_sentence,
    flatten,
    format_metric,
    input_differences,
    metric_title,
    monthly_returns,
    periods_sentence,
    value_text,
)
from ledger_pipeline.analytics.metrics import max_drawdown_span
from ledger_pipeline.analytics.page import render
from ledger_pipeline.analytics.returns import drawdown, undefined_reason, wealth_index
from ledger_pipeline.core.errors import InputError

HASH = re.compile(r"[0-9a-f]{40,}")
MAX_CELL = 200
TEMPLATE = "report.html.j2"


TRIALS = "distinct candidates of the strategy that were ever evaluated on the snapshot: the more, the luckier the best"


def comparison_report(
    runs: Sequence[ComparedRun], title: str, generated_from: dict[str, Any], source_changes: str = ""
) -> str:
    """Return the comparison of `runs` as one self-contained HTML document.

    source_changes: a diff of the strategies, shown with the inputs. generated_from: nested JSON shown at the foot (for
    example data root, package version, command); a date only if it holds one, since the same arguments give the same
    bytes. All text is escaped. Raises InputError without runs, or for labels that repeat.
    """
    if not runs:
        raise InputError("There are no runs to compare: name at least one.")
    runs = list(runs)
    labels = [run.label for run in runs]
    check_labels(labels)
    provenances = [run.provenance for run in runs]
    months = [monthly_returns(run.equity) for run in runs]
    limit = plots.heat_limit(months)
    return render(
        TEMPLATE,
        _charts(runs),
        title=title,
        runs=runs,
        labels=labels,
        sentence=differences_sentence(provenances, labels),
        source_changes=source_changes,
        differences=_difference_rows(input_differences(provenances, labels)),
        metrics=_metric_rows(runs),
        notes=_notes(runs),
        periods=periods_sentence(runs),
        drawdowns=[_drawdown_row(run) for run in runs],
        month_names=MONTHS,
        calendars=[
            {"label": run.label, "rows": heat_rows(table, limit)} for run, table in zip(runs, months, strict=True)
        ],
        limit=f"{limit * 100:.1f}%",
        shared=_shared(provenances),
        own=_own(runs),
        generated_from=_text_items(flatten(generated_from)),
    )


def _difference_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for the page: a hash by its first 12 digits (the whole of it stands under provenance), a long text by its
    start.
    """
    return [{"parts": name.split("."), "cells": [_short(cell) for cell in table.loc[name]]} for name in table.index]


def _short(text: str) -> str:
    if HASH.fullmatch(text):
        return text[:12] + "…"
    return text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"


def _metric_rows(runs: list[ComparedRun]) -> list[dict[str, Any]]:
    table = comparison_table(runs)
    rows = [
        {
            "title": metric_title(name),
            "formula": ALL_FORMULAS.get(name, ""),
            "cells": [format_metric(name, value) for value in table.loc[name]],
        }
        for name in table.index
    ]
    if any(run.trials is not None for run in runs):
        counts = [ABSENT if run.trials is None else f"{run.trials:,}" for run in runs]
        rows.append({"title": "Trials", "formula": TRIALS, "cells": counts})
    return rows


def _notes(runs: list[ComparedRun]) -> list[dict[str, Any]]:
    """What the reader must know before the numbers: why some are undefined, and what the run itself reported."""
    notes = []
    for run in runs:
        reason = undefined_reason(run.equity)
        texts = [*([reason] if reason else []), *run.notes]
        notes += [{"label": run.label, "text": text} for text in texts]
    return notes


def _drawdown_row(run: ComparedRun) -> dict[str, Any]:
    span = max_drawdown_span(run.equity)
    if span is None or span.length == 0:
        return {"label": run.label, "cells": [ABSENT] * 5}
    ended = f"{span.end:%Y-%m-%d}" if span.recovered else "not yet"
    depth = format_metric("max_drawdown", span.depth)
    return {
        "label": run.label,
        "cells": [depth, f"{span.peak:%Y-%m-%d}", f"{span.trough:%Y-%m-%d}", ended, f"{span.length:,}"],
    }


def _charts(runs: list[ComparedRun]) -> dict[str, charts.Chart]:
    wealths = {run.label: wealth_index(run.equity) for run in runs}
    falls = {label: drawdown(wealth) for label, wealth in wealths.items()}
    text = _picture_text(runs)
    levels = pd.concat(list(wealths.values()))
    multiplied = len(levels) > 1 and bool((levels > 0).all()) and levels.max() / levels.min() > 2
    scale = "growth of 1, log scale" if multiplied else "growth of 1"
    return {
        "growth": charts.lines(wealths, text, y=scale, log=multiplied),
        "drawdown": charts.lines(falls, "Line chart of the drawdown of each run over time.", y="drawdown", form=".0%",
                                 height=150),
    }  # fmt: skip


def _picture_text(runs: list[ComparedRun]) -> str:
    parts = []
    for run in runs:
        total, deepest = (format_metric(name, run.metrics.get(name)) for name in ("total_return", "max_drawdown"))
        parts.append(f"{run.label}: total return {total}, max drawdown {deepest}")
    return "Line chart of the growth of 1 of each run over time. " + "; ".join(parts) + "."


def heat_rows(table: pd.DataFrame, limit: float) -> list[dict[str, Any]]:
    """The rows of a page's table of monthly returns: year, cells and the year's total; limit: where the scale ends."""
    rows = []
    for year, values in table.iterrows():
        cells = [_heat_cell(values[month], limit) for month in MONTHS]
        rows.append({"year": year, "cells": cells, "total": _percent(values["Year"])})
    return rows


def _heat_cell(value: float, limit: float) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"text": "", "side": "none", "strength": "0"}
    side = "gain" if value > 0 else "loss" if value < 0 else "none"
    return {"text": _percent(value), "side": side, "strength": f"{min(abs(value) / limit, 1.0) * 0.6:.2f}"}


def _percent(value: float) -> str:
    """One decimal, a real minus sign, no percent sign: the caption says it once."""
    if not np.isfinite(value):
        return ""
    text = f"{value * 100:.1f}"
    return "0.0" if text in ("0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def _shared(provenances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Provenance fields every run has with the same value."""
    flat = [_text_fields(p) for p in provenances]
    return [{"name": k, "value": v} for k, v in flat[0].items() if all(other.get(k) == v for other in flat[1:])]


def _own(runs: list[ComparedRun]) -> list[dict[str, Any]]:
    """For each run the provenance fields it does not share with all others."""
    same = {item["name"] for item in _shared([run.provenance for run in runs])}
    return [
        {
            "label": run.label,
            "fields": [{"name": k, "value": v} for k, v in _text_fields(run.provenance).items() if k not in same],
        }
        for run in runs
    ]


def _text_fields(provenance: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in _text_items(flatten(provenance))}


def _text_items(flat: dict[str, object]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value_text(value)} for name, value in flat.items()]
