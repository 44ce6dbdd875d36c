"""Runs side by side: first what went in differently, then what came out.

A difference in results means nothing before the difference in inputs is known, so that comes first. Runs stay in the
order they were given: nothing here ranks them, marks a best one, or chooses.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

from ledger_pipeline.analytics.benchmark import BENCHMARK_FORMULAS
from ledger_pipeline.analytics.metrics import FORMULAS
from ledger_pipeline.analytics.returns import time_weighted_returns
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import canonical_json

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ALL_FORMULAS = {**FORMULAS, **BENCHMARK_FORMULAS}

# Names are labels, and the others are results or circumstances of a run: no input is among them (names change no hash).
NOT_INPUTS = frozenset(
    "label tags archived ledger ledger_head ledger_hash run run_id run_hash events pulses rows row_counts metrics "
    "duration duration_s duration_seconds started_at finished_at created_at sealed_at warnings git".split()
)
AREAS = tuple(
    "snapshot strategy params features universe opening deposits costs risk cash_rule cash_rounding limit_fills seed "
    "tier".split()
)
PART_OF = {"captured": "strategy", "strategy_function": "strategy", "strategy_text": "strategy", "tier_reasons": "tier"}
FOLLOWS = (
    "hash",
    "fingerprint",
    "warmup",
    "text",
    "source",
    "reasons",
)  # such fields differ because something else does
ABSENT = "—"
MAX_SHOWN = 4

_PERCENT = frozenset(
    "total_return cagr volatility max_drawdown var_95 cvar_95 win_rate time_in_market exposure "
    "money_weighted_return benchmark_return alpha tracking_error risk_free".split()
)
_AMOUNT = frozenset("average_trade costs income net_flows final_equity".split())
_TITLES = {
    "costs": "Fees",
    "cagr": "CAGR",
    "var_95": "VaR 95%",
    "cvar_95": "CVaR 95%",
    "money_weighted_return": "Money-weighted return",
}


@dataclass(frozen=True)
class ComparedRun:
    """One run as a comparison needs it: its label (unique among those compared), provenance (nested JSON), metrics and
    equity rows.

    `notes` are sentences the reader must know (for example that orders expired); they are shown with the metrics.
    `trials` counts the distinct candidates of its strategy that were ever evaluated on its snapshot, where that is
    known. `source` is the text of its strategy.
    """

    label: str
    provenance: dict[str, Any]
    metrics: dict[str, float | int | None]
    equity: pd.DataFrame
    notes: tuple[str, ...] = field(default=())
    trials: int | None = None
    source: str = field(default="", repr=False)


def input_differences(provenances: list[dict[str, Any]], labels: list[str] | None = None) -> pd.DataFrame:
    """Return the input fields whose values differ: index `field` (dotted; by area, hashes last), one
    column a run, text cells.

    Columns are `labels`, or "run 1", "run 2", ... A field one run lacks shows as "—". Results, durations, labels and
    tags are no inputs and are left out; the id of a snapshot is shown only where its hash differs. Empty when all
    inputs are equal.
    Raises InputError for labels that repeat or do not match in number, and for values that are not JSON.
    """
    names = list(labels) if labels is not None else [f"run {i}" for i in range(1, len(provenances) + 1)]
    if len(names) != len(provenances):
        raise InputError(f"{len(provenances)} provenances came with {len(names)} labels: give one label a run.")
    check_labels(names)
    flat = [flatten(_inputs(p)) for p in provenances]
    fields = list(dict.fromkeys(name for one in flat for name in one))
    names_only = {"experiment.name"} | (set() if _differs(flat, "snapshot.hash") else {"snapshot.id"})
    differing = [n for n in fields if n not in names_only and _differs(flat, n) and not _is_emptiness(flat, n)]
    differing.sort(key=_place)
    rows = [[value_text(one.get(name, ABSENT)) for one in flat] for name in differing]
    return pd.DataFrame(rows, index=pd.Index(differing, name="field", dtype=object), columns=names, dtype=object)


def differences_sentence(provenances: list[dict[str, Any]], labels: list[str] | None = None) -> str:
    """Say what the runs share and what they do not, as in "Same snapshot, same strategy; other params: window 20 / 50."

    Values are in the order of the runs. At most four fields of an area and four values of a field are spelled out; the
    table has all.
    """
    if len(provenances) < 2:
        return "One run, so there is nothing to compare it with."
    table = input_differences(provenances, labels)
    areas: dict[str, list[str]] = {}
    for name in table.index:
        areas.setdefault(_area(name)[0], []).append(name)
    if len(areas) > 1:
        # the experiment's hash differs because something named beside it does; alone, it is all that is known
        areas.pop("experiment", None)
    if not areas:
        return "Same inputs throughout: the same experiment on the same snapshot with the same seed."
    # params and features that differ because the strategies do would drown what else differs; the table has them
    own = [area for area in ("params", "features") if area in areas and "strategy" in areas]
    known = {_area(name)[0] for p in provenances for name in flatten(_inputs(p))}
    shared = [area for area in ("snapshot", "strategy", "params") if area in known and area not in areas]
    order = [area for area in (*AREAS, *(a for a in areas if a not in AREAS)) if area in areas and area not in own]
    other = {area: f"other {_words(area)}{_spelled(area, areas[area], table)}" for area in order}
    if own:
        other["strategy"] += f", each with its own {' and '.join(own)}"
    text = "; ".join(filter(None, [", ".join(f"same {_words(a)}" for a in shared), *other.values()]))
    return text[0].upper() + text[1:] + "."


def comparison_table(runs: list[ComparedRun]) -> pd.DataFrame:
    """Return one row a metric (index `metric`, in display order) and one column a run, in the order given; None where
    undefined.

    Cells are Python numbers or None (dtype object). A metric that no run has a value for is left out, unless it is a
    core one (FORMULAS).
    Raises InputError for labels that repeat.
    """
    check_labels([run.label for run in runs])
    present = dict.fromkeys(name for run in runs for name in run.metrics)
    order = [*(n for n in ALL_FORMULAS if n in present), *(n for n in present if n not in ALL_FORMULAS)]
    names = [n for n in order if n in FORMULAS or any(run.metrics.get(n) is not None for run in runs)]
    rows = [[run.metrics.get(name) for run in runs] for name in names]
    return pd.DataFrame(
        rows, index=pd.Index(names, name="metric", dtype=object), columns=[r.label for r in runs], dtype=object
    )


def periods_sentence(runs: list[ComparedRun]) -> str | None:
    """Say that the runs cover different periods, naming each, or None if first pulse, last pulse and their number
    agree.
    """
    spans = [_span(run.equity) for run in runs]
    if len(set(spans)) < 2:
        return None
    shown = "; ".join(f"{run.label}: {_span_text(span)}" for run, span in zip(runs, spans, strict=True))
    return f"The runs do not cover the same period, so their metrics are not like for like ({shown})."


def monthly_returns(equity: pd.DataFrame) -> pd.DataFrame:
    """Return time-weighted returns by calendar month (UTC): index year, columns Jan to Dec and Year, as fractions, NaN
    without returns.

    A month's return is the product of (1 + r) - 1 over the returns that end in it; the year's is that of its months
    with returns.
    """
    returns = time_weighted_returns(equity)
    columns = [*MONTHS, "Year"]
    if len(returns) == 0:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="year", dtype="int64"), dtype="float64")
    times = returns.index.tz_convert("UTC")
    growth = pd.Series(1.0 + returns.to_numpy())
    years = pd.Series(times.year, name="year", dtype="int64")
    by_month = growth.groupby([years, pd.Series(times.month)]).apply(lambda g: g.prod(skipna=False) - 1.0).unstack()
    table = by_month.reindex(columns=range(1, 13))
    table.columns = list(MONTHS)
    table["Year"] = growth.groupby(years).apply(lambda g: g.prod(skipna=False) - 1.0)
    return table.reindex(range(int(years.min()), int(years.max()) + 1)).rename_axis(index="year")


def metric_title(name: str) -> str:
    """Return a metric's name for people: "max_drawdown" -> "Max drawdown"."""
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def format_metric(name: str, value: float | int | str | None) -> str:
    """Return a metric's value for people: percent for rates, two decimals for ratios, grouped digits for amounts, "—"
    if undefined.
    """
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return ABSENT
    if name in _PERCENT:
        return f"{_unsigned_zero(value * 100, 2):,.2f}%"
    if name in _AMOUNT:
        return f"{_unsigned_zero(value, 2):,.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{_unsigned_zero(value, 2):,.2f}"


def check_labels(labels: list[str]) -> None:
    """Raise InputError if two runs carry the same label."""
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated:
        raise InputError(f"Two of the runs to compare carry the label {repeated[0]!r}: give each its own label.")


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested JSON as {dotted field: leaf}; lists, and empty objects, are leaves."""
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        flat |= flatten(inner, name) if isinstance(inner, dict) and inner else {name: inner}
    return flat


def value_text(value: object) -> str:
    """Return a JSON leaf for people: 1.0 as "1", null as "not set", [{"fixed_fee": 1}] as "fixed_fee 1", empty as
    "none".
    """
    if isinstance(value, str):
        return value or "none"
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(value[key])}" for key in sorted(value)) or "none"
    if isinstance(value, (list, tuple)):
        between = "; " if any(isinstance(item, dict) and len(item) > 1 for item in value) else ", "
        return between.join(value_text(item) for item in value) or "none"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, default=str)


def _inputs(provenance: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in provenance.items() if key not in NOT_INPUTS}


def _differs(flat: list[dict[str, object]], name: str) -> bool:
    # in canonical form 1 and 1.0 agree, True and 1 do not, and no value is like a missing one
    forms = [canonical_json(one[name]) if name in one else b"" for one in flat]
    return any(a != b for a, b in pairwise(forms))


def _place(name: str) -> tuple[bool, int]:
    area = _area(name)[0]
    return name.endswith(("hash", "fingerprint")), AREAS.index(area) if area in AREAS else len(AREAS)


def _is_emptiness(flat: list[dict[str, object]], name: str) -> bool:
    """Whether a field only says that an object is empty which has fields, each with a row, in another run."""
    return all(one.get(name) in (None, {}) for one in flat) and any(
        key.startswith(f"{name}.") for one in flat for key in one
    )


def _area(name: str) -> tuple[str, str]:
    """Split a dotted field into its area and the rest: experiment.params.window -> (params, window)."""
    inner = name.removeprefix("experiment.")
    if inner in ("hash", "experiment_hash"):
        return "experiment", inner
    area, _, rest = inner.partition(".")
    if area.endswith("_hash") and area.removesuffix("_hash") in (*AREAS, "experiment"):
        return area.removesuffix("_hash"), "hash"
    return (PART_OF[area], area.removeprefix(f"{PART_OF[area]}_")) if area in PART_OF else (area, rest)


def _spelled(area: str, names: list[str], table: pd.DataFrame) -> str:
    """The values behind "other <area>": readable fields first, hashes only where nothing else is known."""
    readable = [name for name in names if not name.endswith(FOLLOWS)]
    parts = []
    for name in readable[:MAX_SHOWN]:
        rest = _area(name)[1].replace(".params.", ".")
        values = [v if len(v) <= 40 else v[:37] + "..." for v in table.loc[name]]
        shown = " / ".join(values[:MAX_SHOWN]) + (f" / ... ({len(values)} runs)" if len(values) > MAX_SHOWN else "")
        parts.append(f"{'' if rest in ('', 'id', 'name') else rest + ' '}{shown}")
    if len(readable) > MAX_SHOWN:
        parts.append(f"and {len(readable) - MAX_SHOWN} more")
    return f": {', '.join(parts)}" if parts else " (by its text)" if area == "strategy" else " (by its hash)"


def _words(area: str) -> str:
    return area.replace("_", " ")


def _span(equity: pd.DataFrame) -> tuple[Any, ...]:
    return (equity["ts"].iloc[0], equity["ts"].iloc[-1], len(equity)) if len(equity) else (None, None, 0)


def _span_text(span: tuple[Any, ...]) -> str:
    return f"{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}, {span[2]:,} bars" if span[2] else "no bars"


def _unsigned_zero(value: float, digits: int) -> float:
    """Round away a minus sign before nothing: -0.00 reads as a loss."""
    return round(value, digits) + 0.0
