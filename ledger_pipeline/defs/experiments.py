"""experiment: one partition an experiment file, its version the experiment_hash; a sensor keeps both equal to the
files.
"""

import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ledger_pipeline.core.identity import ID_PATTERN
from ledger_pipeline.defs.partitions import EXPERIMENTS, experiments
from ledger_pipeline.defs.resources import ProjectResource, research_status
from ledger_pipeline.defs.versions import latest_version, written

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


def versions(
    catalogue: "Catalogue", instance: dg.DagsterInstance, names: Iterable[str]
) -> tuple[list[Any], dict[str, str]]:
    """The events, without a run, of those of these experiments whose hash is not the last one's (`written`), and the
    errors of those that do not load.
    """
    from ledger_pipeline.core.errors import LedgerPipelineError

    changed: list[Any] = []
    failed: dict[str, str] = {}
    for name in names:
        try:
            item = catalogue.experiment(name)
        except LedgerPipelineError as error:
            failed[name] = str(error)
            continue
        if latest_version(instance, "experiment", name, observed=True)[0] != item.hash:
            metadata = {
                "strategy": item.spec.strategy,
                "description": item.spec.description or "",
                "tier": item.tier,
                "params": dg.MetadataValue.json(item.spec.params),
                "experiment_hash": item.hash,
                "strategy_hash": item.source.hash,
            }
            changed += written("experiment", name, item.hash, metadata)
    return changed, failed


def partition_names(catalogue: "Catalogue") -> list[str]:
    """Names of the experiment files that may be partition keys: those that are ids."""
    return [name for name in catalogue.experiment_names() if ID_PATTERN.fullmatch(name)]


def follow_files(
    catalogue: "Catalogue", instance: dg.DagsterInstance, only: Iterable[str] | None = None
) -> dict[str, str]:
    """Bring the partitions up to date with the files, and the versions of all experiments or of `only` these, at once;
    returns the errors of experiments that do not load.
    """
    names, keys = partition_names(catalogue), instance.get_dynamic_partitions(EXPERIMENTS)
    for key in set(keys) - set(names):
        instance.delete_dynamic_partition(EXPERIMENTS, key)
    if set(names) - set(keys):
        instance.add_dynamic_partitions(EXPERIMENTS, [name for name in names if name not in keys])
    changed, failed = versions(catalogue, instance, names if only is None else [n for n in names if n in set(only)])
    for version in changed:
        instance.report_runless_asset_event(version)
    return failed


_TICK = 0.7  # seconds that a tick reads experiments for
_SEEN: dict[
    str, tuple[Any, ...]
] = {}  # the files of each experiment as they were when the sensor of this process read them


def _stamp(catalogue: "Catalogue", name: str) -> tuple[Any, ...]:
    """What tells whether an experiment may be another one: its file, and all code under strategies/."""
    root = str(catalogue.root)
    return root, _status(catalogue.root / "experiments" / f"{name}.yaml"), _code_stamp(root, int(time.monotonic()))


@functools.lru_cache(maxsize=4)
def _code_stamp(root: str, second: int) -> tuple[Any, ...]:
    """The state of every Python file under a root, read once a second at most."""
    return tuple((str(path), *_status(path)) for path in sorted(Path(root).rglob("*.py")))


def _status(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@dg.sensor(
    name="experiments_follow_files",
    default_status=research_status(),
    minimum_interval_seconds=30,
    description="Keeps the experiment partitions and their versions equal to the files under strategies/.",
)
def experiments_follow_files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Add and remove partitions, and materialise the experiments that changed."""
    from ledger_pipeline.strategy.catalogue import Catalogue

    catalogue = Catalogue(project.project.strategies)
    names = partition_names(catalogue)
    keys = context.instance.get_dynamic_partitions(EXPERIMENTS)
    stamps = {name: _stamp(catalogue, name) for name in names}
    changed: list[Any] = []
    failed: dict[str, str] = {}
    until = time.monotonic() + _TICK
    for name in (name for name in names if _SEEN.get(name) != stamps[name]):
        if time.monotonic() > until:  # the rest comes with the next ticks
            break
        events, wrong = versions(catalogue, context.instance, [name])
        changed, failed, _SEEN[name] = changed + events, failed | wrong, stamps[name]
    for name, error in failed.items():
        context.log.error(f"experiment {name}: {error}")
    known, there = set(keys), set(names)
    new, gone = [name for name in names if name not in known], [key for key in keys if key not in there]
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
