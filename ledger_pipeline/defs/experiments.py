"""experiment: one partition an experiment file, its version the experiment_hash; a sensor keeps both equal to the
files.
"""

from typing import TYPE_CHECKING

import dagster as dg

from ledger_pipeline.defs.partitions import EXPERIMENTS, experiments
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.identity import ID_PATTERN

if TYPE_CHECKING:
    from ledger_pipeline.strategy.catalogue import Catalogue

experiment = dg.AssetSpec(
    "experiment",
    partitions_def=experiments,
    group_name="strategy",
    kinds={"yaml", "python"},
    owners=["team:research"],
    tags={"layer": "written"},
    description="What the user wrote: strategies/experiments/<name>.yaml and the strategy it names. The data version "
    "is the experiment_hash.",
)


def observations(
    catalogue: "Catalogue", instance: dg.DagsterInstance
) -> tuple[list[dg.AssetObservation], dict[str, str]]:
    """Observations of the experiments whose hash is not the last one observed, and the errors of those that do not
    load.
    """
    loaded, failed = catalogue.experiments()
    known = {} if not loaded else _observed(instance, list(loaded))
    changed = [
        dg.AssetObservation(
            "experiment",
            partition=name,
            tags={"dagster/data_version": item.hash},
            metadata={
                "experiment_hash": item.hash,
                "strategy": item.spec.strategy,
                "strategy_hash": item.source.hash,
                "tier": item.tier,
                "params": dg.MetadataValue.json(item.spec.params),
                "description": item.spec.description or "",
            },
        )
        for name, item in loaded.items()
        if known.get(name) != item.hash
    ]
    return changed, {name: str(error) for name, error in failed.items()}


def _observed(instance: dg.DagsterInstance, names: list[str]) -> dict[str, str]:
    """The last observed version of each experiment."""
    versions: dict[str, str] = {}
    cursor = None
    while set(names) - set(versions):  # newest first, so the first one seen of a name is its last
        page = instance.fetch_observations(dg.AssetKey("experiment"), limit=200, cursor=cursor)
        for record in page.records:
            event = record.asset_observation
            versions.setdefault(event.partition, (event.tags or {}).get("dagster/data_version", ""))
        if not page.has_more:
            break
        cursor = page.cursor
    return versions


def partition_names(catalogue: "Catalogue") -> list[str]:
    """Names of the experiment files that may be partition keys: those that are ids."""
    return [name for name in catalogue.experiment_names() if ID_PATTERN.fullmatch(name)]


def follow_files(catalogue: "Catalogue", instance: dg.DagsterInstance) -> dict[str, str]:
    """Bring partitions and versions up to date with the files, at once; returns the errors of experiments that do not
    load.
    """
    names, keys = partition_names(catalogue), instance.get_dynamic_partitions(EXPERIMENTS)
    for key in set(keys) - set(names):
        instance.delete_dynamic_partition(EXPERIMENTS, key)
    if set(names) - set(keys):
        instance.add_dynamic_partitions(EXPERIMENTS, [name for name in names if name not in keys])
    changed, failed = observations(catalogue, instance)
    for observation in changed:
        instance.report_runless_asset_event(observation)
    return failed


@dg.sensor(
    name="experiments_follow_files",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Keeps the experiment partitions and their versions equal to the files under strategies/.",
)
def experiments_follow_files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Add and remove partitions, and observe the experiments that changed."""
    from ledger_pipeline.strategy.catalogue import Catalogue

    catalogue = Catalogue(project.project.strategies)
    names = partition_names(catalogue)
    keys = context.instance.get_dynamic_partitions(EXPERIMENTS)
    changed, failed = observations(catalogue, context.instance)
    for name, error in failed.items():
        context.log.error(f"experiment {name}: {error}")
    new, gone = [name for name in names if name not in keys], [key for key in keys if key not in names]
    return dg.SensorResult(
        asset_events=changed,
        dynamic_partitions_requests=[
            *([experiments.build_add_request(new)] if new else []),
            *([experiments.build_delete_request(gone)] if gone else []),
        ],
        skip_reason=None if changed or new or gone else dg.SkipReason("the partitions are equal to the files"),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The external asset and its sensor."""
    return dg.Definitions(assets=[experiment], sensors=[experiments_follow_files])
