"""feature_table -> run_ledger -> fills, trades, equity, metrics: six assets, one partition a run, made together.

One step makes all partitions of a back-fill and each materialisation is reported by itself: a hundred runs cost one
process, each keeps its own data version, metadata and checks, and one that fails leaves the other ninety-nine.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ledger_pipeline.defs.partitions import asked_keys, partitioned_check, parts, runs
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.run_tags import label_run
from ledger_pipeline.defs.versions import code_version, latest_version, version_tags

SEED_TAG, RISK_FREE_TAG = "ledger_pipeline/seed", "ledger_pipeline/risk_free"
START_TAG, END_TAG = "ledger_pipeline/start", "ledger_pipeline/end"


@dataclass(frozen=True)
class Member:
    """One of the six assets: what it is made from, the rooms that make it, and how the graph shows it."""

    deps: tuple[str, ...]
    rooms: tuple[str, ...]
    group: str
    kind: str
    description: str

    @property
    def code_version(self) -> str:
        """A hash of the rooms that make it."""
        return code_version(*self.rooms)


MEMBERS = {
    "feature_table": Member(
        ("sealed_snapshot", "experiment"),
        ("features",),
        "features",
        "parquet",
        "Indicators of the experiment on the snapshot, each checked for causality, computed once a snapshot and shared "
        "by all experiments.",
    ),
    "run_ledger": Member(
        ("sealed_snapshot", "experiment", "feature_table"),
        ("simulation", "strategy", "features", "ledger"),
        "runs",
        "parquet",
        "The run's events: what the strategy decided and what became of it. All else follows from this ledger.",
    ),
    "fills": Member(
        ("run_ledger",),
        ("ledger",),
        "results",
        "duckdb",
        "The fills among the events and what they cost; a view of the ledger.",
    ),
    "trades": Member(
        ("run_ledger",),
        ("ledger",),
        "results",
        "parquet",
        "Round trips from flat to flat, net of fees, and the FIFO lots behind them.",
    ),
    "equity": Member(
        ("run_ledger", "sealed_snapshot"),
        ("ledger",),
        "results",
        "parquet",
        "Cash, positions and equity at each pulse.",
    ),
    "metrics": Member(
        ("equity", "trades", "fills"),
        ("analytics", "ledger"),
        "results",
        "json",
        "Return, risk, trades and costs by stated formulas, against the benchmark where the experiment names one.",
    ),
}
INVARIANTS, TRUNCATION, PROOF = "ledger_invariants", "truncation_replay", "determinism"
BATCH = 16  # runs that are kept in memory, proven together and then stored


class RunConfig(dg.Config):
    """truncation_cuts: of the truncation replay; each costs about one more run. compiled: auto, never or always (see
    simulation.compiled); it changes no result.
    """

    truncation_cuts: int = 1
    compiled: str = "auto"


@dg.multi_asset(
    name="research_run",
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            name,
            deps=member.deps,
            partitions_def=runs,
            skippable=True,
            code_version=member.code_version,
            group_name=member.group,
            kinds={member.kind},
            owners=["team:research"],
            tags={"layer": "derived"},
            description=member.description,
        )
        for name, member in MEMBERS.items()
    ],
    check_specs=[
        partitioned_check(
            "run_ledger",
            INVARIANTS,
            runs,
            "Cash + positions = equity at each pulse; P&L, fees, income and flows explain it; "
            "open lots add up to the position; quantities are on the 1e-9 grid.",
            blocking=True,
        ),
        partitioned_check(
            "run_ledger",
            TRUNCATION,
            runs,
            "On a history cut at t the run makes the same ledger up to t: it did not see the future.",
            blocking=True,
        ),
        partitioned_check(
            "run_ledger",
            PROOF,
            runs,
            "Made again in another process under another hash seed, time zone, clock and memory the ledger is the "
            "same, and at sampled pulses a fresh strategy decides what the run decided.",
            blocking=True,
        ),
    ],
)
def research_run(context: dg.AssetExecutionContext, config: RunConfig, project: ProjectResource) -> Iterator[Any]:
    """Make the selected assets of every partition asked for, each recorded when it is made, then fail naming the
    partitions that could not be made.
    """
    from ledger_pipeline import progress
    from ledger_pipeline.core.errors import IntegrityError, error_row
    from ledger_pipeline.defs.run_assets import MAKERS, Work, proving, work
    from ledger_pipeline.strategy.catalogue import Catalogue

    selected = [name for name in MEMBERS if dg.AssetKey(name) in context.selected_asset_keys]
    checks = {key.name for key in context.selected_asset_check_keys}
    seed, risk_free = context.run.tags.get(SEED_TAG), context.run.tags.get(RISK_FREE_TAG)
    period = (context.run.tags.get(START_TAG), context.run.tags.get(END_TAG))
    given = (None if seed is None else int(seed), None if risk_free is None else json.loads(risk_free), period)
    catalogue = Catalogue(project.project.strategies)
    keys = asked_keys(context, runs)
    label_run(context, snapshot=[parts(key)[0] for key in keys], experiment=[parts(key)[1] for key in keys])
    failed: dict[str, dict[str, str]] = {}
    finished: set[str] = set()
    strategies: list[str] = []  # the hashes of what was run

    def fail(
        key: str, error: Exception, evaluated: Sequence[dg.AssetCheckEvaluation] = ()
    ) -> Iterator[dg.AssetCheckEvaluation]:
        failed[key] = error_row(error)
        context.log.error(f"{key}: {failed[key]['error']}", exc_info=failed[key]["kind"] == "LedgerPipelineError")
        yield from evaluated
        known = {evaluation.check_name for evaluation in evaluated}
        yield from (_not_made(key, check, error) for check in sorted(checks - known))

    with proving() as prove:
        for start in range(0, len(keys), BATCH):
            items: dict[str, Work] = {}
            proofs: dict[str, Any] = {}
            for done, key in enumerate(keys[start : start + BATCH], start):
                snapshot_id, name = parts(key)
                progress.report(done, len(keys), name)
                try:
                    fresh = "run_ledger" in selected
                    items[key] = work(project.project, catalogue, snapshot_id, name, *given, fresh, config.compiled)
                    items[key].run  # noqa: B018  made here, so that what is wrong with it stops only this one
                    proofs[key] = prove(items[key]) if PROOF in checks else None
                except Exception as error:  # whatever became of this partition, the others are made
                    items.pop(key, None)
                    yield from fail(key, error)
            progress.report(min(start + BATCH, len(keys)), len(keys), "proving")
            for key, item in items.items():
                evaluated: list[dg.AssetCheckEvaluation] = []
                try:
                    if INVARIANTS in checks:
                        evaluated.append(_invariants(key, item.run.invariants()))
                    if TRUNCATION in checks:
                        evaluated.append(_truncation(key, item.truncation_replay(config.truncation_cuts)))
                    if PROOF in checks:
                        evaluated.append(_determinism(key, proofs[key].result()))
                    wrong = next((evaluation for evaluation in evaluated if not evaluation.passed), None)
                    if wrong is not None:
                        raise IntegrityError(f"the check {wrong.check_name} failed: {wrong.description}")
                    results = {asset: MAKERS[asset](item) for asset in selected}
                except Exception as error:
                    yield from fail(key, error, evaluated)
                    continue
                yield from evaluated
                inputs = _inputs(context.instance, key, item)
                for asset, (version, metadata) in results.items():
                    yield dg.AssetMaterialization(
                        asset,
                        partition=key,
                        metadata=metadata,
                        tags=version_tags(
                            version, MEMBERS[asset].code_version, {up: inputs[up] for up in MEMBERS[asset].deps}
                        ),
                    )
                    inputs[asset] = latest_version(context.instance, asset, key)
                finished.add(key)
                strategies.append(item.experiment.source.hash)
                context.log.info(f"{len(finished)} of {len(keys)} runs are made: {key}")
    progress.report(len(keys), len(keys), "done")
    label_run(context, strategy_hash=strategies)
    if failed:
        first = next(iter(failed.items()))
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} runs failed; the first: {first[0]}: {first[1]['error']}",
            metadata={"failed": dg.MetadataValue.json(failed)},
        )
    for check in sorted(checks):
        yield dg.Output(None, output_name=f"run_ledger_{check}")


def _inputs(instance: dg.DagsterInstance, key: str, item: Any) -> dict[str, tuple[str, int | None]]:
    """The data version and event of everything that the assets of a partition are made from, as they are now."""
    snapshot_id, name = parts(key)
    _, sealed = latest_version(instance, "sealed_snapshot", snapshot_id)
    _, observed = latest_version(instance, "experiment", name, observed=True)
    return {member: latest_version(instance, member, key) for member in MEMBERS} | {
        "sealed_snapshot": (item.snapshot.hash, sealed),
        "experiment": (item.experiment.hash, observed),
    }


def _not_made(key: str, check: str, error: Exception) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("run_ledger"),
        check_name=check,
        passed=False,
        partition=key,
        description=f"not evaluated: {error}",
    )


def _determinism(key: str, proof: Any) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("run_ledger"),
        check_name=PROOF,
        passed=proof.difference is None,
        partition=key,
        blocking=True,
        description=proof.difference,
        metadata={"pulses decided afresh": proof.decided, "pulses run again": proof.pulses},
    )


def _invariants(key: str, breaches: dict[str, list[str]]) -> dg.AssetCheckEvaluation:
    broken = {name: problems[:5] for name, problems in breaches.items() if problems}
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("run_ledger"),
        check_name=INVARIANTS,
        passed=not broken,
        partition=key,
        blocking=True,
        description="; ".join(problems[0] for problems in broken.values()) or None,
        metadata={"checked": ", ".join(breaches), "broken": dg.MetadataValue.json(broken)},
    )


def _truncation(key: str, replays: list[Any]) -> dg.AssetCheckEvaluation:
    rows = [f"| {replay.cut} | {replay.events} | {replay.difference or 'the same'} |" for replay in replays]
    seen = [f"cut at bar {replay.cut}: {replay.difference}" for replay in replays if replay.difference]
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("run_ledger"),
        check_name=TRUNCATION,
        passed=not seen,
        partition=key,
        blocking=True,
        description="; ".join(seen) or (None if rows else "the run is too short to cut"),
        metadata={
            "cuts": dg.MetadataValue.md("\n".join(["| cut at bar | events compared | |", "|---|---|---|", *rows]))
        },
    )
