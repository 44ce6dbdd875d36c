"""What a choice is worth, and a walk-forward, as files that anyone can open and keep.

Self-contained HTML without scripts, the headline first; it reads the same on paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger_pipeline.analytics import plots
from ledger_pipeline.analytics.comparison_tables import format_metric, metric_title
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import Location, location
from ledger_pipeline.selection.gates import GateOutcome
from ledger_pipeline.selection.integrity import Integrity
from ledger_pipeline.selection.walk_forward import WalkForward

TEMPLATE = Path(__file__).with_name("walk_forward.html.j2")
_METRICS = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "turnover", "trades", "costs")


def integrity_rows(integrity: Integrity, gates: list[GateOutcome] | None = None) -> list[tuple[str, str, str]]:
    """The numbers of a choice as people read them: name, value, what it says."""
    rows = [*_sharpe_rows(integrity), *_overfitting_rows(integrity), *_tested_rows(integrity)]
    for gate in gates or []:
        rows.append((f"Gate {gate.gate}", "met" if gate.met else "not met", gate.sentence))
    return rows


def _sharpe_rows(integrity: Integrity) -> list[tuple[str, str, str]]:
    known, effective, record = integrity.moments, integrity.effective, f"{integrity.track_record:,}"
    needed = "no length is enough" if integrity.record_needed is None else f"{integrity.record_needed:,.0f} returns"
    shape = f"skewness {known.skew:.2f}, kurtosis {known.kurtosis:.2f}"
    return [
        ("Sharpe ratio", f"{integrity.sharpe:.2f}", f"annual, over {record} returns; {shape}"),
        (
            "Trials",
            f"{integrity.trials:,}",
            f"{effective.onc:,} effective by ONC, {effective.hierarchical:,} by hierarchical clusters; mean "
            f"correlation {effective.mean_correlation:.2f}",
        ),
        ("Expected of chance", f"{integrity.expected:.2f}", "annual ratio of the best of as many trials without skill"),
        (
            "Probabilistic Sharpe",
            f"{integrity.probabilistic:.3f}",
            "probability that the true ratio is above 0",
        ),
        (
            "Deflated Sharpe",
            f"{integrity.deflated:.3f}",
            f"probability that it is above what chance gives; {integrity.deflated_effective:.3f} for effective trials",
        ),
        ("Track record needed", needed, f"for a ratio above 0 with 95 % confidence; there are {record}"),
        (
            "Back-test needed",
            f"{integrity.years_needed:.1f} years",
            f"so that chance shows no ratio of 1 in so many trials; there are {integrity.years:.1f}",
        ),
    ]


def _overfitting_rows(integrity: Integrity) -> list[tuple[str, str, str]]:
    over, root = integrity.overfitting, integrity.periods_per_year**0.5
    rows = [
        (
            "Probability of overfitting",
            f"{over.pbo:.3f}",
            f"{over.splits:,} splits of {over.blocks} blocks over {over.candidates:,} candidates; the choice loses out "
            f"of sample in {over.probability_of_loss:.0%}, slope {over.slope:.2f}",
        )
    ]
    for cut in integrity.haircuts:
        left = f"left of the ratio ({cut.cut:.0%} is cut); p-value {cut.p_value:.3f}"
        rows.append((f"Haircut, {cut.method}", f"{cut.sharpe * root:.2f}", left))
    return rows


def _tested_rows(integrity: Integrity) -> list[tuple[str, str, str]]:
    rows = []
    if (real := integrity.reality) is not None:
        spa = f"SPA {real.spa_consistent:.3f} ({real.spa_lower:.3f} to {real.spa_upper:.3f})"
        how = f"blocks of {real.block_length}, {real.draws:,} draws"
        better = f"StepM finds {len(real.better):,} better at {real.size:g}"
        said = f"p-value that no candidate beats {real.benchmark}; {spa}; {better}; {how}"
        rows.append(("Reality check", f"{real.reality_check:.3f}", said))
    if (intervals := integrity.intervals) is not None:
        how = f"{intervals.confidence:.0%}, stationary bootstrap (BCa) in blocks of {intervals.block_length}"
        for name, one, shown in (
            ("Sharpe ratio", intervals.sharpe, "{:.2f}"),
            ("CAGR", intervals.cagr, "{:.1%}"),
            ("Max drawdown", intervals.max_drawdown, "{:.1%}"),
        ):
            rows.append((f"{name}, interval", f"{shown.format(one.low)} to {shown.format(one.high)}", how))
    return rows


def walk_forward_report(result: WalkForward) -> str:
    """The report of a walk-forward as HTML."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    metrics = result.content["metrics"]
    shown = [name for name in _METRICS if name in metrics]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"Walk-forward {result.name} on {result.snapshot.id}",
        headline=headline(result),
        cards=[(metric_title(name), format_metric(name, metrics[name])) for name in shown],
        figures=[("Train, test, and the stitched run", plots.svg(result.figure()))],
        header=["window", "train", "test", "purge", "candidate", *result.axes, "train metric", "test metric", "lost"],
        rows=[_row(result, row) for row in result.table.to_dict("records")],
        reasons=[(one.window.number, one.choice.why) for one in result.windows],
        notes=[note for note in (*result.notes, _purge(result)) if note],
        facts=_facts(result),
    )


def headline(result: WalkForward) -> str:
    """The result in a sentence."""
    pairs = [(one.train, one.test) for one in result.windows if one.train is not None and one.test is not None]
    if not pairs:
        return f"{len(result.windows)} windows, and no candidate was eligible in any of them."
    train, test = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    better = sum(1 for before, after in pairs if after >= before)
    return (
        f"Chosen by {metric_title(result.by)} in {len(result.windows)} windows: {_number(train)} on average in train, "
        f"{_number(test)} in the test that followed; in {better} of {len(pairs)} windows the test was as good as the "
        "train."
    )


def save_walk_forward_report(result: WalkForward, root: Location) -> Path:
    """Write the report to <root>/reports/walk-forward-<name>-<snapshot>.html and return its path."""
    path = location(root) / "reports" / f"walk-forward-{result.name}-{result.snapshot.id}.html"
    add_file(path, walk_forward_report(result).encode())
    return Path(str(path))


def _row(result: WalkForward, row: dict[str, Any]) -> list[str]:
    params = ["-" if row["params"] is None else str(row["params"][name]) for name in result.axes]
    return [
        str(row["number"]), f"{row['train_start']} to {row['train_end']}", f"{row['test_start']} to {row['test_end']}",
        f"{row['purge']}+{row['embargo']}", "none" if row["params"] is None else str(row["candidate"]), *params,
        _number(row["train"]), _number(row["test"]), _number(row["degradation"]),
    ]  # fmt: skip


def _purge(result: WalkForward) -> str | None:
    purge = result.plan["purge"]
    if purge["kind"] != "auto":
        return None
    held = max(purge["held_sessions"], default=0)
    return (
        f"Purge: the longer of the candidates' warm-up ({purge['warmup_sessions']} sessions) and the time for which a "
        f"trade was held over the border (up to {held} sessions)."
    )


def _facts(result: WalkForward) -> list[tuple[str, str]]:
    identity = result.plan["identity"]
    return [
        ("experiment", f"{result.plan['experiment']['name']} ({identity['sweep']['experiment_hash'][:16]})"),
        ("snapshot", f"{result.snapshot.id} ({result.snapshot.hash[:16]})"),
        ("windows", ", ".join(f"{name} {value}" for name, value in identity["windows"].items())),
        ("rule", f"{identity['select']} of {identity['by']}, tie {identity['tie']}, carry {identity['carry']}"),
        ("stitched run", result.run_id),
        ("ledger head", str(result.content["ledger_head"])),
        ("walk-forward", result.walk_id),
        ("hash", result.hash),
    ]


def _number(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.3g}"
