"""Partitions: a key a snapshot, a key an experiment, a run for every pair of them, and a key a trading session."""

import warnings

import dagster as dg

SNAPSHOTS = "snapshots"
EXPERIMENTS = "experiments"
SESSIONS = "sessions"

snapshots = dg.DynamicPartitionsDefinition(name=SNAPSHOTS)
experiments = dg.DynamicPartitionsDefinition(name=EXPERIMENTS)
trading_sessions = dg.DynamicPartitionsDefinition(name=SESSIONS)  # ISO dates in New York, added as they come
runs = dg.MultiPartitionsDefinition({"snapshot": snapshots, "experiment": experiments})


def run_key(snapshot_id: str, experiment: str) -> dg.MultiPartitionKey:
    """The partition key of one run."""
    return dg.MultiPartitionKey({"snapshot": snapshot_id, "experiment": experiment})


def parts(key: str) -> tuple[str, str]:
    """(snapshot id, experiment name) of a run's partition key; Dagster orders dimensions by name, so the experiment
    stands first.
    """
    experiment, snapshot_id = str(key).split("|")
    return snapshot_id, experiment


def partitioned_check(
    asset: str, name: str, partitions: dg.PartitionsDefinition, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """A check of an asset with a result a partition. Dagster calls partitioned checks a preview and warns at each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
        return dg.AssetCheckSpec(
            name, asset=asset, blocking=blocking, partitions_def=partitions, description=description
        )
