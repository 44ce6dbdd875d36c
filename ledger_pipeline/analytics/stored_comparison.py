"""The comparison of stored runs, from what is stored of them: metrics and equity are read, not made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ledger_pipeline.analytics.compare import Comparison, compare, labels
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import Location, location
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.simulation.trials import TrialRegister


@dataclass(frozen=True)
class StoredRun:
    """What is stored of a run: see analytics.compare.FinishedRun."""

    provenance: dict[str, Any]
    metrics: dict[str, Any] = field(repr=False)
    equity: pd.DataFrame = field(repr=False)
    warnings: list[str] = field(repr=False)


def stored_run(store: RunStore, given: str, snapshots: Location) -> StoredRun:
    """A run by its id, or by run_id/key as an evaluation measures it: its ledger and snapshot verified, its metrics and
    equity as they are stored, by their hashes; what is not stored is made. NotFoundError, IntegrityError.
    """
    run_id, measured = store.measured(given)
    run = store.open(run_id, snapshots, measured)
    metrics, equity = store.metrics(run_id, measured), store.table(run_id, "equity")
    equity = run.equity if equity is None else equity
    warnings = run.warnings_over(equity)
    return StoredRun(run.provenance, run.metrics if metrics is None else metrics, equity, warnings)


def compare_stored(given: Sequence[str], root: Location, snapshots: Location) -> Comparison:
    """Compare stored runs, each with the number of trials of its strategy on its snapshot. InputError as `compare`."""
    store = RunStore(root)
    runs = [stored_run(store, one, snapshots) for one in given]
    return compare(dict(zip(labels([run.provenance for run in runs]), runs, strict=True)), trials_of_runs(root, runs))


def trials_of_runs(root: Location, runs: Sequence[Any]) -> dict[str, int]:
    """How many candidates of its strategy were ever evaluated on the snapshot of each run, by run id."""
    counts = TrialRegister(root).counts("strategy", "snapshot_hash")
    of = [run.provenance for run in runs]
    return {p["run_id"]: counts.get((p["experiment"]["strategy"], p["snapshot"]["hash"]), 0) for p in of}


def keep_report(root: Path, comparison: Comparison, name: str) -> Path:
    """Write the report of a comparison to <root>/reports/<name>.html and return its path."""
    path = root / "reports" / f"{name}.html"
    add_file(location(path), comparison.html.encode())
    return path


def report_name(comparison: Comparison, given: Sequence[str]) -> str:
    """What the report of such a comparison is called where nobody named it: by the snapshot and the runs."""
    return f"{comparison.runs[0].provenance['snapshot']['id']}-{hash_json(list(given))[:8]}"
