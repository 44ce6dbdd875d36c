"""Partitions: a key a snapshot, a key an experiment, and a run for every pair of them."""

import dagster as dg

SNAPSHOTS = "snapshots"
EXPERIMENTS = "experiments"

snapshots = dg.DynamicPartitionsDefinition(name=SNAPSHOTS)
experiments = dg.DynamicPartitionsDefinition(name=EXPERIMENTS)
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
