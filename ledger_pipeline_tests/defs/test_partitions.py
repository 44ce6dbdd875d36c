"""Which partitions a run was asked for, by the tags that each way of starting one puts on it."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.partitions import EXPERIMENTS, SNAPSHOTS, asked_keys, runs
from ledger_pipeline_tests.defs.records import batch

# In the order of all keys: a|one a|two b|one b|two c|one c|two
FIRST = {"dagster/partition/experiment": "a", "dagster/partition/snapshot": "one"}


@pytest.fixture
def records(fresh) -> Iterator[dg.DagsterInstance]:
    with instance(fresh) as one:
        one.add_dynamic_partitions(EXPERIMENTS, ["a", "b", "c"])
        one.add_dynamic_partitions(SNAPSHOTS, ["one", "two"])
        yield one


def asked(records, tags: dict[str, str]) -> list[str]:
    """What a run with these tags was asked for, as the asset of the run sees it."""
    found: list[str] = []

    @dg.asset(partitions_def=runs, backfill_policy=dg.BackfillPolicy.single_run())
    def made(context) -> None:
        found.extend(asked_keys(context, runs))

    dg.materialize([made], instance=records, tags=tags)
    return found


def back_fill(records, keys: list[str]) -> dict[str, str]:
    """The tag of a back-fill that was launched from a job's page over these keys."""
    name = f"fill{len(records.get_backfills())}"
    records.add_backfill(
        PartitionBackfill(
            backfill_id=name, status=BulkActionStatus.REQUESTED, from_failure=False, tags={}, backfill_timestamp=0.0,
            partition_names=keys,
        )
    )  # fmt: skip
    return {"dagster/backfill": name}


CORNERS = {
    ("a|one", "c|one"): ["a|one", "b|one", "c|one"],
    ("a|two", "c|two"): ["a|two", "b|two", "c|two"],
    ("b|one", "c|two"): ["b|one", "b|two", "c|one", "c|two"],
    ("b|one", "b|one"): ["b|one"],
}


@pytest.mark.parametrize("corners", CORNERS)
def test_a_range_that_somebody_writes_names_two_corners(records, corners) -> None:
    assert asked(records, batch(*corners)) == CORNERS[corners]


BACK_FILLS = {
    "all of one snapshot, of which a range is one key": (
        ["a|one", "b|one", "c|one"],
        [["a|one"], ["b|one"], ["c|one"]],
    ),
    "all": (
        ["a|one", "a|two", "b|one", "b|two", "c|one", "c|two"],
        [["a|one", "a|two", "b|one", "b|two", "c|one", "c|two"]],
    ),
    "a corner is left out": (["a|two", "b|one", "b|two"], [["a|two", "b|one", "b|two"]]),
    "neighbours that are no two corners": (["a|two", "b|one"], [["a|two", "b|one"]]),
    "two parts": (["a|one", "a|two", "c|one"], [["a|one", "a|two"], ["c|one"]]),
}


@pytest.mark.parametrize("what", BACK_FILLS)
def test_a_range_of_a_back_fill_is_the_part_of_its_keys_between(records, what) -> None:
    keys, parts = BACK_FILLS[what]
    tag = back_fill(records, keys)
    made = [asked(records, tag | batch(part[0], part[-1])) for part in parts]
    assert made == parts and sorted(key for part in made for key in part) == sorted(keys)


def test_the_tags_of_the_first_key_hide_nothing(records) -> None:
    """Job back-fills put them on the run, and `context.partition_keys` shrinks to one (dagster #28861, #30786)."""
    keys = ["a|one", "a|two", "b|one"]
    assert asked(records, back_fill(records, keys) | batch(keys[0], keys[-1]) | FIRST) == keys


def test_a_range_of_a_back_fill_without_its_record_is_two_corners(records) -> None:
    assert asked(records, {"dagster/backfill": "gone"} | batch("a|one", "b|one")) == ["a|one", "b|one"]
