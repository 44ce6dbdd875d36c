"""Materialising from the command line and from Python: the same assets, in this process, on the same instance as the
UI.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from ledger_pipeline.defs.experiments import follow_files
from ledger_pipeline.defs.partitions import EXPERIMENTS, SNAPSHOTS, run_key
from ledger_pipeline.defs.reports import comparison_report
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.runs import SEED_TAG, research_run
from ledger_pipeline.defs.snapshots import raw_bars, sealed_snapshot
from ledger_pipeline.errors import InputError, LedgerPipelineError
from ledger_pipeline.market.raw import RawSource
from ledger_pipeline.project import Project
from ledger_pipeline.strategy.catalogue import Catalogue

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def prepare_home(project: Project) -> Path:
    """Make Dagster's home, with a link to the project's dagster.yaml, and point DAGSTER_HOME at it."""
    home = project.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    link, settings = home / "dagster.yaml", project.root / "dagster.yaml"
    if settings.is_file() and not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(settings, home))
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance."""
    prepare_home(project)
    with dg.DagsterInstance.get() as found:
        yield found


def import_snapshot(project: Project, snapshot_id: str, source: RawSource) -> None:
    """Materialise raw_bars and sealed_snapshot of a new partition. Raises what the assets raise; a refused partition is
    not kept.
    """
    with instance(project) as records:
        known = snapshot_id in records.get_dynamic_partitions(SNAPSHOTS)
        if not known:
            records.add_dynamic_partitions(SNAPSHOTS, [snapshot_id])
        config = {
            "bars": source.bars,
            "instruments": source.instruments or "",
            "actions": source.actions or "",
            "calendar": source.calendar,
            "assume_utc": source.assume_utc,
            "note": source.note,
        }
        try:
            _materialize(
                records,
                project,
                [raw_bars, sealed_snapshot],
                partition_key=snapshot_id,
                config={"ops": {"raw_bars": {"config": config}}},
            )
        except BaseException:
            if not known:
                records.delete_dynamic_partition(SNAPSHOTS, snapshot_id)
            raise


def run_experiments(
    project: Project, snapshot_id: str, names: Sequence[str], *, seed: int | None = None, cuts: int = 1
) -> None:
    """Materialise the runs of these experiments on a snapshot, neighbours together in one Dagster run.

    Raises the error of the first experiment that failed, after the others are made.
    """
    with instance(project) as records:
        if snapshot_id not in records.get_dynamic_partitions(SNAPSHOTS):
            records.add_dynamic_partitions(SNAPSHOTS, [snapshot_id])
        follow_files(Catalogue(project.strategies), records)
        order = records.get_dynamic_partitions(EXPERIMENTS)
        wanted = sorted(order.index(name) for name in names)
        failures = []
        for _, group in itertools.groupby(enumerate(wanted), lambda pair: pair[1] - pair[0]):
            places = [place for _, place in group]
            ends = [str(run_key(snapshot_id, order[place])) for place in (places[0], places[-1])]
            tags = {"dagster/asset_partition_range_start": ends[0], "dagster/asset_partition_range_end": ends[1]}
            try:
                _materialize(
                    records,
                    project,
                    [research_run],
                    tags=tags | ({} if seed is None else {SEED_TAG: str(seed)}),
                    config={"ops": {"research_run": {"config": {"truncation_cuts": cuts}}}},
                )
            except LedgerPipelineError as error:
                failures.append(error)
        if failures:
            raise failures[0]


def report(project: Project, snapshot_id: str, runs: Sequence[str] = (), name: str = "") -> Path:
    """Materialise the comparison report of a snapshot, or of these runs, and return its path."""
    with instance(project) as records:
        if snapshot_id not in records.get_dynamic_partitions(SNAPSHOTS):
            records.add_dynamic_partitions(SNAPSHOTS, [snapshot_id])
        result = _materialize(
            records,
            project,
            [comparison_report],
            partition_key=snapshot_id,
            config={"ops": {"comparison_report": {"config": {"runs": list(runs), "name": name}}}},
        )
        event = result.asset_materializations_for_node("comparison_report")[0]
        return Path(str(event.metadata["report"].value))


def _materialize(
    records: dg.DagsterInstance, project: Project, assets: list, *, config: dict[str, Any], **options: Any
) -> dg.ExecuteInProcessResult:
    """Materialise in this process; a failed step's own error is raised again in place of Dagster's wrapping."""
    result = dg.materialize(
        assets,
        instance=records,
        resources={"project": ProjectResource(root=str(project.root))},
        run_config=_QUIET | config,
        raise_on_error=False,
        **options,
    )
    if not result.success:
        raise _cause(result)
    return result


def _cause(result: dg.ExecuteInProcessResult) -> Exception:
    """The error behind a failed run, of our own kind where it was one."""
    from ledger_pipeline import errors

    for event in result.all_events:
        if event.is_step_failure:
            info = event.step_failure_data.error
            chain = []
            while info is not None:
                chain.append(info)
                info = info.cause
            for link in reversed(chain):
                kind = getattr(errors, link.cls_name or "", None)
                if kind is not None:
                    return kind(_message(link.message, link.cls_name))
            failure = event.step_failure_data.user_failure_data
            if failure is not None:
                return InputError(failure.description or "a run failed")
            return LedgerPipelineError(chain[-1].message.strip())
    checks = [event for event in result.get_asset_check_evaluations() if not event.passed]
    if checks:
        return InputError(f"the check {checks[0].check_name} failed: {checks[0].description or 'see the UI'}")
    return LedgerPipelineError("the run failed; see the UI for its events")


def _message(text: str, kind: str | None) -> str:
    """The message alone, without the module path that a traceback puts before it."""
    return text.split(f"{kind}: ", 1)[-1].strip()
