"""Partitions: a key a snapshot, a key an experiment, a run for every pair of them, as for sweeps; a key a trading
session, and with it a key a deployment for what is decided and sent, a key a book for what the whole account is.
"""

import warnings

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
)

SNAPSHOTS = "snapshots"
EXPERIMENTS = "experiments"
SWEEPS = "sweeps"
SESSIONS = "sessions"
POLICIES = "policies"
STRATEGIES = "strategies"
BOOKS = "books"

snapshots = dg.DynamicPartitionsDefinition(name=SNAPSHOTS)
experiments = dg.DynamicPartitionsDefinition(name=EXPERIMENTS)
sweeps = dg.DynamicPartitionsDefinition(name=SWEEPS)  # of files, and of those that were asked for by their values
trading_sessions = dg.DynamicPartitionsDefinition(name=SESSIONS)  # ISO dates in New York, added as they come
policies = dg.DynamicPartitionsDefinition(name=POLICIES)  # deployed ones, and those that were traded by their name
strategies = dg.DynamicPartitionsDefinition(name=STRATEGIES)  # promoted ones
books = dg.DynamicPartitionsDefinition(name=BOOKS)  # the ids of books that are traded
policy_sessions = dg.MultiPartitionsDefinition({"deployment": policies, "session": trading_sessions})
strategy_sessions = dg.MultiPartitionsDefinition({"deployment": strategies, "session": trading_sessions})
account_sessions = dg.MultiPartitionsDefinition({"book": books, "session": trading_sessions})
with warnings.catch_warnings():  # Dagster says at each that the class is in beta
    warnings.simplefilter("ignore", dg.BetaWarning)
    SAME_SESSION = dg.MultiPartitionMapping(
        {"session": dg.DimensionPartitionMapping("session", dg.IdentityPartitionMapping())}
    )
runs = dg.MultiPartitionsDefinition({"snapshot": snapshots, "experiment": experiments})
sweep_snapshots = dg.MultiPartitionsDefinition({"snapshot": snapshots, "sweep": sweeps})


def run_key(snapshot_id: str, experiment: str) -> dg.MultiPartitionKey:
    """The partition key of one run."""
    return dg.MultiPartitionKey({"snapshot": snapshot_id, "experiment": experiment})


def parts(key: str) -> tuple[str, str]:
    """(snapshot id, experiment name) of a run's partition key; Dagster orders dimensions by name, so the experiment
    stands first.
    """
    experiment, snapshot_id = str(key).split("|")
    return snapshot_id, experiment


def sweep_key(snapshot_id: str, sweep: str) -> dg.MultiPartitionKey:
    """The partition key of a sweep on a snapshot."""
    return dg.MultiPartitionKey({"snapshot": snapshot_id, "sweep": sweep})


def sweep_parts(key: str) -> tuple[str, str]:
    """(snapshot id, name of the sweep) of a sweep's partition key."""
    snapshot_id, sweep = str(key).split("|")
    return snapshot_id, sweep


def live_key(deployment: str, session: str) -> dg.MultiPartitionKey:
    """The partition key of what a deployment decides and sends in a session."""
    return dg.MultiPartitionKey({"deployment": deployment, "session": session})


def account_key(book: str, session: str) -> dg.MultiPartitionKey:
    """The partition key of what an account is in a session, by the id of its book."""
    return dg.MultiPartitionKey({"book": book, "session": session})


def live_parts(key: str) -> tuple[str, str]:
    """(deployment or book, session) of the partition key of either."""
    name, session = str(key).split("|")
    return name, session


def add_partitions(instance: dg.DagsterInstance, definition: str, *keys: str) -> None:
    """Add the keys that a dynamic partitions definition does not have."""
    missing = [key for key in dict.fromkeys(keys) if not instance.has_dynamic_partition(definition, key)]
    if missing:
        instance.add_dynamic_partitions(definition, missing)


def asked_keys(context: dg.AssetExecutionContext, definition: dg.PartitionsDefinition) -> list[str]:
    """The partitions that a run was asked for.

    A range is read from the run's tags: in a back-fill that was launched from a job, `context.partition_keys` holds
    the first key only (dagster #28861, #30786). What a range of two dimensions means depends on who wrote it: a
    back-fill cuts its keys, in the order of all keys, where one is left out; everybody else names two corners.
    """
    tags = context.run.tags
    first, last = tags.get(ASSET_PARTITION_RANGE_START_TAG), tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if first is None or last is None:
        return list(context.partition_keys)
    with partition_loading_context(dynamic_partitions_store=context.instance):
        keys = [str(key) for key in definition.get_partition_keys()]
        between = keys[keys.index(first) : keys.index(last) + 1] if first in keys and last in keys else []
        corners = [str(key) for key in definition.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))]
    targeted = _backfilled(context)
    return between if targeted is not None and between and targeted.issuperset(between) else corners


def _backfilled(context: dg.AssetExecutionContext) -> set[str] | None:
    """The partitions of the back-fill that a run belongs to; None when it belongs to none, or no record is left."""
    name = context.run.tags.get(BACKFILL_ID_TAG)
    backfill = context.instance.get_backfill(name) if name else None
    if backfill is None:
        return None
    if backfill.partition_names is not None:
        return set(backfill.partition_names)
    data = backfill.asset_backfill_data
    subsets = [data.get_target_partitions_subset(key) for key in context.selected_asset_keys] if data else []
    return {str(key) for subset in subsets if subset is not None for key in subset.get_partition_keys()}


def partitioned_check(
    asset: str, name: str, partitions: dg.PartitionsDefinition, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """A check of an asset with a result a partition. Dagster calls partitioned checks a preview and warns at each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
        return dg.AssetCheckSpec(
            name, asset=asset, blocking=blocking, partitions_def=partitions, description=description
        )
