"""Materialising from the command line and from Python: the jobs of the graph, in this process, on the same instance as
the UI.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.execution.api import execute_run
from dagster._core.execution.execution_result import ExecutionResult
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ledger_pipeline import outbox
from ledger_pipeline.core import errors
from ledger_pipeline.core.errors import BreakError, InputError, IntegrityError, LedgerPipelineError
from ledger_pipeline.defs.event_storage import open_instance
from ledger_pipeline.files import locked
from ledger_pipeline.project import Project

if TYPE_CHECKING:
    from ledger_pipeline.market.raw import RawSource
    from ledger_pipeline.selection.walk_forward import WalkForward
    from ledger_pipeline.simulation.run import Run
    from ledger_pipeline.strategy.experiment import Experiment
    from ledger_pipeline.sweeps.sweep import Sweep

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# What workspace.yaml loads, as Dagster names it: runs of the command line belong to it as those of the UI do.
LOCATION = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="ledger_pipeline.definitions"))
_REPOSITORY = RemoteRepositoryOrigin(LOCATION, "__repository__")
_LABELS = {REPOSITORY_LABEL_TAG: _REPOSITORY.get_label(), "ledger_pipeline/launched_by": "command line"}


@dataclass(frozen=True)
class Warned:
    """A check of a run that did not pass and did not stop it: the experiment, the check, and its finding."""

    experiment: str
    check: str
    finding: str


def prepare_home(project: Project) -> Path:
    """Make Dagster's home, with a link to the project's dagster.yaml in it, and return it. Any number of processes may
    do so at once.
    """
    home = project.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    link, settings = home / "dagster.yaml", project.root / "dagster.yaml"
    if settings.is_file() and not link.exists():
        temporary = home / f".dagster.yaml.{secrets.token_hex(6)}"
        temporary.symlink_to(os.path.relpath(settings, home))
        os.replace(temporary, link)
    return home


@contextmanager
def instance(project: Project, *, capture: bool = False) -> Iterator[dg.DagsterInstance]:
    """The project's Dagster instance. capture: whether what runs print is kept for the UI; what a command runs prints
    where the command does.
    """
    home = prepare_home(project)
    with locked(home / ".setup.lock"):  # Dagster's tables are made at first use, and not by two at once
        records = open_instance(home, capture=capture)
    with records:
        outbox.deliver(home, lambda note: REPORTS[note.report](records, project, **note.arguments))
        yield records


def import_snapshot(project: Project, snapshot_id: str, source: RawSource) -> None:
    """Import and seal a snapshot (see market.importing), and report it as raw_bars and sealed_snapshot. Raises what the
    import raises; nothing is other than before then.
    """
    from ledger_pipeline.market.importing import import_and_seal

    import_and_seal(snapshot_id, source, root=project.data, snapshots=project.snapshots)
    with instance(project) as records:
        report_import(records, project, snapshot_id)


def report_import(records: dg.DagsterInstance, project: Project, snapshot_id: str) -> None:
    """Materialise raw_bars and sealed_snapshot from the raw tables that are kept."""
    from ledger_pipeline.defs.jobs import import_job
    from ledger_pipeline.defs.partitions import SNAPSHOTS, add_partitions
    from ledger_pipeline.defs.snapshots import raw_bars, sealed_snapshot

    add_partitions(records, SNAPSHOTS, snapshot_id)
    run = run_job(
        records, project, import_job, [raw_bars, sealed_snapshot], partition_key=snapshot_id,
        tags={"snapshot": snapshot_id}, config={"ops": {"raw_bars": {"config": {"kept": True}}}},
    )  # fmt: skip
    succeeded(run)


def forget_snapshot(project: Project, snapshot_id: str) -> None:
    """Take away the partition and the raw tables of a snapshot that was deleted."""
    from ledger_pipeline.defs.partitions import SNAPSHOTS

    with instance(project) as records:
        if records.has_dynamic_partition(SNAPSHOTS, snapshot_id):
            records.delete_dynamic_partition(SNAPSHOTS, snapshot_id)
    shutil.rmtree(project.data / "raw" / snapshot_id, ignore_errors=True)


def run_experiments(
    project: Project,
    snapshot_id: str,
    names: Sequence[str],
    *,
    seed: int | None = None,
    risk_free: float | dict[str, str] | None = None,
    start: str | None = None,
    end: str | None = None,
    cuts: int = 1,
    compiled: str = "auto",
) -> list[Warned]:
    """Materialise the runs of these experiments on a snapshot, neighbours together in one Dagster run, and return the
    checks that did not pass.

    Raises NotFoundError for no such snapshot; when experiments fail, after the others are made, an error of the kind of
    the first that says how many failed.
    """
    from ledger_pipeline.defs.experiments import follow_files
    from ledger_pipeline.defs.jobs import research_job
    from ledger_pipeline.defs.partitions import EXPERIMENTS, SNAPSHOTS, parts, run_key
    from ledger_pipeline.defs.runs import END_TAG, RISK_FREE_TAG, SEED_TAG, START_TAG, research_run
    from ledger_pipeline.market.snapshot import open_snapshot
    from ledger_pipeline.strategy.catalogue import Catalogue

    open_snapshot(snapshot_id, root=project.snapshots)
    catalogue = Catalogue(project.strategies)
    rate = None if risk_free is None else json.dumps(risk_free)
    given = {SEED_TAG: None if seed is None else str(seed), RISK_FREE_TAG: rate, START_TAG: start, END_TAG: end}
    changes = {tag: value for tag, value in given.items() if value is not None}
    failed: dict[str, LedgerPipelineError] = {}
    warned: list[Warned] = []
    with instance(project) as records:
        records.add_dynamic_partitions(SNAPSHOTS, [snapshot_id])
        follow_files(catalogue, records, names)
        order = {name: place for place, name in enumerate(records.get_dynamic_partitions(EXPERIMENTS))}
        for name in names:
            if name not in order:
                catalogue.experiment(name)
        places = sorted((order[name], name) for name in dict.fromkeys(names))
        for _, group in itertools.groupby(enumerate(places), lambda pair: pair[1][0] - pair[0]):
            members = [name for _, (_, name) in group]
            first, last = (str(run_key(snapshot_id, name)) for name in (members[0], members[-1]))
            result = run_job(
                records,
                project,
                research_job,
                [research_run],
                tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
                | changes,
                config={"ops": {"research_run": {"config": {"truncation_cuts": cuts, "compiled": compiled}}}},
            )
            errors_of = {parts(key)[1]: error for key, error in _failed_runs(result).items()}
            if not errors_of:
                succeeded(result)
            failed |= errors_of
            warned += [
                Warned(parts(event.partition or "")[1], event.check_name, event.description or "see the UI")
                for event in result.get_asset_check_evaluations()
                if not event.passed and parts(event.partition or "")[1] not in errors_of
            ]
    if failed:
        name, error = next(iter(failed.items()))
        if len(places) == 1:
            raise type(error)(f"experiment {name!r}: {error}")
        others = "".join(f"\n  {each}: {why}" for each, why in failed.items())
        raise type(error)(f"{len(failed)} of {len(places)} runs failed, the others are made:{others}")
    return warned


def report(project: Project, snapshot_id: str) -> Path:
    """Materialise the comparison report of a snapshot and return its path."""
    from ledger_pipeline.defs.jobs import report_job
    from ledger_pipeline.defs.partitions import SNAPSHOTS
    from ledger_pipeline.defs.reports import comparison_report

    with instance(project) as records:
        records.add_dynamic_partitions(SNAPSHOTS, [snapshot_id])
        tags = {"snapshot": snapshot_id}
        return _report(run_job(records, project, report_job, [comparison_report], partition_key=snapshot_id, tags=tags))


def comparison(project: Project, runs: Sequence[str], name: str = "") -> Path:
    """Materialise the comparison of these runs (see defs.reports.ComparisonConfig) and return its path."""
    with instance(project) as records:
        return report_comparison(records, project, runs, name)


def report_comparison(records: dg.DagsterInstance, project: Project, runs: Sequence[str], name: str) -> Path:
    """As `comparison`, in an instance that is open."""
    from ledger_pipeline.defs.jobs import compare_job
    from ledger_pipeline.defs.reports import run_comparison

    config = {"ops": {"run_comparison": {"config": {"runs": list(runs), "name": name}}}}
    return _report(run_job(records, project, compare_job, [run_comparison], config=config))


def _report(result: ExecutionResult) -> Path:
    materializations = [event.step_materialization_data.materialization for event in succeeded(result).all_events
            if event.is_step_materialization]  # fmt: skip
    return Path(str(materializations[0].metadata["report"].value))


def report_sweep(project: Project, sweep: Sweep) -> None:
    """Materialise a finished sweep and its report: what it came to, and ten of its candidates made anew. IntegrityError
    when one of them differs.
    """
    from ledger_pipeline.defs.jobs import sweep_job
    from ledger_pipeline.defs.partitions import SNAPSHOTS, SWEEPS, add_partitions, sweep_key
    from ledger_pipeline.defs.sweeps import sweep_asset, sweep_report

    with instance(project) as records:
        add_partitions(records, SNAPSHOTS, sweep.snapshot.id)
        add_partitions(records, SWEEPS, sweep.name)
        config = {"ops": {"sweep": {"config": {"sweep": sweep.sweep_id}}}}
        key = sweep_key(sweep.snapshot.id, sweep.name)
        tags = {"snapshot": sweep.snapshot.id, "sweep": sweep.name}
        run = run_job(
            records, project, sweep_job, [sweep_asset, sweep_report], partition_key=key, tags=tags, config=config
        )
        succeeded(run)


def report_integrity(project: Project, sweep: Sweep, candidate: int) -> None:
    """Materialise what a candidate of a sweep is worth. A gate that is not met is no error: it is what was found."""
    from ledger_pipeline.defs.jobs import integrity_job
    from ledger_pipeline.defs.partitions import SNAPSHOTS, SWEEPS, add_partitions, sweep_key
    from ledger_pipeline.defs.selection import selection_integrity

    with instance(project) as records:
        add_partitions(records, SNAPSHOTS, sweep.snapshot.id)
        add_partitions(records, SWEEPS, sweep.name)
        run_job(
            records, project, integrity_job, [selection_integrity],
            partition_key=sweep_key(sweep.snapshot.id, sweep.name),
            tags={"snapshot": sweep.snapshot.id, "sweep": sweep.name},
            config={"ops": {"selection_integrity": {"config": {"candidate": candidate, "measured": True}}}},
        )  # fmt: skip


def report_walk_forward(project: Project, walk: WalkForward) -> None:
    """Materialise a finished walk-forward and its report. IntegrityError when its run does not replay."""
    from ledger_pipeline.defs.jobs import walk_forward_job
    from ledger_pipeline.defs.partitions import SNAPSHOTS, SWEEPS, add_partitions, sweep_key
    from ledger_pipeline.defs.selection import walk_forward_asset, walk_forward_report

    with instance(project) as records:
        add_partitions(records, SNAPSHOTS, walk.snapshot.id)
        add_partitions(records, SWEEPS, walk.name)
        run = run_job(
            records, project, walk_forward_job, [walk_forward_asset, walk_forward_report],
            partition_key=sweep_key(walk.snapshot.id, walk.name),
            tags={"snapshot": walk.snapshot.id, "sweep": walk.name},
            config={"ops": {"walk_forward": {"config": {"walk_forward": walk.walk_id}}}},
        )  # fmt: skip
        succeeded(run)


def promote_walked(
    project: Project, walk: WalkForward, *, label: str, by: str, reason: str, against_gates: str | None = None
) -> Run:
    """Promote the stitched run of a walk-forward through the graph, as `promote_candidate` does a candidate."""
    from ledger_pipeline.selection.promotion import promote_walk_forward
    from ledger_pipeline.sweeps.promotion import write_experiment

    def store(experiment: Experiment, run: Run) -> None:
        write_experiment(project.strategies, experiment, f"Walk-forward {walk.name} ({walk.walk_id[:10]}).")
        run_experiments(project, walk.snapshot.id, [label], seed=run.provenance["seed"])

    run = promote_walk_forward(walk, label=label, by=by, reason=reason, against_gates=against_gates, store=store)
    _report_promotion(project, walk.snapshot.id, run)
    return run


def promote_candidate(
    project: Project,
    sweep: Sweep,
    candidate: str | int,
    *,
    label: str,
    by: str,
    reason: str,
    against_gates: str | None = None,
) -> Run:
    """Make a candidate a stored run through the graph: its experiment is written as strategies/experiments/<label>.yaml
    and run, and the promotion is reported as `promoted_run`. RefusedError when the file is there and says another
    experiment, or when the strategy's file is not what the sweep ran; then nothing is changed.
    """
    from ledger_pipeline.sweeps.promotion import promote_candidate as promoted
    from ledger_pipeline.sweeps.promotion import write_experiment

    def store(experiment: Experiment, run: Run) -> None:
        write_experiment(project.strategies, experiment, f"Candidate of sweep {sweep.name} ({sweep.sweep_id[:10]}).")
        run_experiments(project, sweep.snapshot.id, [label], seed=run.provenance["seed"])

    run = promoted(sweep, candidate, label=label, by=by, reason=reason, against_gates=against_gates, store=store)
    _report_promotion(project, sweep.snapshot.id, run)
    return run


def _report_promotion(project: Project, snapshot_id: str, run: Run) -> None:
    from ledger_pipeline.defs.partitions import run_key
    from ledger_pipeline.simulation.promotions import promotion_of

    kept = promotion_of(project.data, run.run_id)
    assert kept is not None
    with instance(project) as records:
        metadata: dict[str, Any] = {
            "run_id": kept.run_id,
            "sweep": kept.sweep,
            "sweep_hash": kept.sweep_hash,
            "candidate": kept.candidate,
            "candidates": kept.candidates,
            "trials": kept.trials,
            "trials of all strategies": kept.snapshot_trials,
            "params": dg.MetadataValue.json(kept.params),
            "rank by metric": dg.MetadataValue.json(kept.ranks),
            "by": kept.by,
            "reason": kept.reason,
            **({"gates": dg.MetadataValue.json(list(kept.gates))} if kept.gates else {}),
            **({"against gates": kept.against_gates} if kept.against_gates else {}),
            **({"walk-forward": kept.sweep} if kept.walk_forward else {}),
        }
        records.report_runless_asset_event(
            dg.AssetMaterialization(
                "promoted_run",
                partition=str(run_key(snapshot_id, kept.label)),
                metadata=metadata,
                tags={"dagster/data_version": run.events.head},
            )
        )


# What a note in the outbox may ask for, by its name.
REPORTS: dict[str, Callable[..., object]] = {"import": report_import, "comparison": report_comparison}


def compact_results(project: Project) -> dict[str, Any]:
    """Materialise the shards of all results and return what came of it."""
    from ledger_pipeline.defs.jobs import compact_job
    from ledger_pipeline.defs.shards import result_shards

    with instance(project) as records:
        config = {"ops": {"result_shards": {"config": {"least": 1}}}}
        result = succeeded(run_job(records, project, compact_job, [result_shards], config=config))
        metadata = result.asset_materializations_for_node("result_shards")[0].metadata
    names = {"sharded": "runs in shards", "loose": "runs with files of their own", "shards": "shards"}
    return {name: metadata[title].value for name, title in names.items()}


def run_job(
    records: dg.DagsterInstance,
    project: Project,
    job: Any,
    assets: Sequence[Any],
    *,
    select: Sequence[str] = (),
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> ExecutionResult:
    """Run a job of the graph, or some of its assets, in this process. `assets` are those that the job selects.

    The run is one of the code location that the UI loads, so it has its name and place there and can be executed again
    from its page. KeyboardInterrupt goes on to the caller, after Dagster noted that the run failed.
    """
    from ledger_pipeline.defs.resources import resources

    definition = dg.Definitions(
        list(assets), jobs=[job], resources=resources(project), executor=dg.in_process_executor
    ).resolve_job_def(job.name)
    chosen = {dg.AssetKey(name) for name in select} or None
    with partition_loading_context(dynamic_partitions_store=records):
        of_key = definition.get_tags_for_partition_key(partition_key, chosen) if partition_key else {}
    run = records.create_run_for_job(
        definition,
        run_config=_QUIET | dict(config or {}),
        tags={**definition.run_tags, **of_key, **(tags or {}), **_LABELS},
        asset_selection=chosen,
        remote_job_origin=RemoteJobOrigin(_REPOSITORY, job.name),
    )
    result = execute_run(InMemoryJob(definition), run, records)
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error_source.name == "INTERRUPT":
            raise KeyboardInterrupt
    if not result.success and not any(event.is_step_failure for event in result.all_events):
        raise KeyboardInterrupt
    return result


def _failed_runs(result: ExecutionResult) -> dict[str, LedgerPipelineError]:
    """The errors of a batch of runs by partition key, as research_run told them."""
    for event in result.all_events:
        failure = event.is_step_failure and event.step_failure_data.user_failure_data
        if failure and "failed" in failure.metadata:
            rows: Any = failure.metadata["failed"].value
            return {key: getattr(errors, row["kind"], LedgerPipelineError)(row["error"]) for key, row in rows.items()}
    return {}


def succeeded(result: ExecutionResult) -> ExecutionResult:
    """The result of a run that succeeded; a failed one raises its own error in place of Dagster's wrapping."""
    if result.success:
        return result
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.blocking and check.severity == dg.AssetCheckSeverity.ERROR:
            kind = {"data_quality": InputError, "no_breaks": BreakError}.get(check.check_name, IntegrityError)
            raise kind(f"the check {check.check_name} failed: {check.description or 'see the UI'}")
    failure = next(event for event in result.all_events if event.is_step_failure)
    chain, info = [], failure.step_failure_data.error
    while info is not None:
        chain.append(info)
        info = info.cause
    for link in reversed(chain):
        its = getattr(errors, link.cls_name or "", None)
        if its is not None:
            raise its(link.message.split(f"{link.cls_name}: ", 1)[-1].strip())
    raise LedgerPipelineError(chain[-1].message.strip())
