"""Partitions: a key a snapshot, a key an experiment, a run for every pair of them; a key a deployment, a key a trading
session, and what is traded for every pair of those.
"""

import warnings

import dagster as dg

SNAPSHOTS = "snapshots"
EXPERIMENTS = "experiments"
SESSIONS = "sessions"
DEPLOYMENTS = "deployments"

snapshots = dg.DynamicPartitionsDefinition(name=SNAPSHOTS)
experiments = dg.DynamicPartitionsDefinition(name=EXPERIMENTS)
trading_sessions = dg.DynamicPartitionsDefinition(name=SESSIONS)  # ISO dates in New York, added as they come
deployments = dg.DynamicPartitionsDefinition(name=DEPLOYMENTS)  # and the ids of books, for what is traded by hand
live = dg.MultiPartitionsDefinition({"deployment": deployments, "session": trading_sessions})
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


def live_key(deployment: str, session: str) -> dg.MultiPartitionKey:
    """The partition key of what a deployment trades in a session; a book's id stands for what is traded by hand."""
    return dg.MultiPartitionKey({"deployment": deployment, "session": session})


def live_parts(key: str) -> tuple[str, str]:
    """(deployment, session) of a live partition key."""
    deployment, session = str(key).split("|")
    return deployment, session


def partitioned_check(
    asset: str, name: str, partitions: dg.PartitionsDefinition, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """A check of an asset with a result a partition. Dagster calls partitioned checks a preview and warns at each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
        return dg.AssetCheckSpec(
            name, asset=asset, blocking=blocking, partitions_def=partitions, description=description
        )
