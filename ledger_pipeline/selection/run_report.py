"""The report of a stored run, with what is known of how it was chosen."""

from __future__ import annotations

from pathlib import Path

from ledger_pipeline.analytics.stored_comparison import trials_of_runs
from ledger_pipeline.analytics.tear_sheet import tear_sheet
from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import location
from ledger_pipeline.project import Project
from ledger_pipeline.selection.integrity import selection_integrity
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline.simulation.run import Run
from ledger_pipeline.sweeps.sweep import open_sweep


def report_run(project: Project, run: Run, path: Path | None = None) -> Path:
    """Write the report of a run of a project, with its number of trials, and for a run that was promoted from a sweep
    what its Sharpe ratio is worth. Returns the path, which is data/reports/run-<id>.html unless it is given.
    """
    trials = trials_of_runs(project.data, [run])[run.run_id]
    selection = selection_text(project, run.run_id)
    if path is not None:
        return run.report(path, trials=trials, selection=selection)
    kept = project.data / "reports" / f"run-{run.run_id}.html"
    add_file(location(kept), tear_sheet(run, trials=trials, selection=selection).encode())
    return kept


def selection_text(project: Project, run_id: str) -> str:
    """How a run was chosen, in a sentence or two; empty for one that was not promoted."""
    kept = promotion_of(project.data, run_id)
    if kept is None:
        return ""
    what = "the stitched run of walk-forward" if kept.walk_forward else f"candidate {kept.candidate} of sweep"
    text = f"It is {what} {kept.sweep_name}, promoted as {kept.label} by {kept.by}: {kept.reason.rstrip('.')}."
    if kept.walk_forward:
        return text
    try:
        sweep = open_sweep(kept.sweep, project.data, project.snapshots)
        return f"{text} {selection_integrity(sweep, kept.candidate).verdict}"
    except LedgerPipelineError as error:  # a sweep that is gone, or kept no returns
        return f"{text} What that is worth cannot be said: {error}"
