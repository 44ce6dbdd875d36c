"""The sensors: partitions follow the files, and a new snapshot is run by every experiment when it is asked for."""

from __future__ import annotations

import time

import dagster as dg

from ledger_pipeline.analytics.shards import SETTLED
from ledger_pipeline.defs.experiments import experiments_follow_files
from ledger_pipeline.defs.jobs import backfill_new_snapshot
from ledger_pipeline.defs.launch import compact_results, instance
from ledger_pipeline.defs.resources import resources
from ledger_pipeline_tests.defs.records import RUN_ASSETS, materialized, run_assets, run_job
from ledger_pipeline_tests.projects import EXPERIMENTS, seal, write_experiment


def tick(records: dg.DagsterInstance, project) -> tuple[set[str], list[dg.AssetMaterialization]]:
    """Evaluate the sensor and do what it asks for, as the daemon does: partitions after, and what was materialised."""
    context = dg.build_sensor_context(instance=records, resources=resources(project), definitions=None)
    told = experiments_follow_files(context)
    for request in told.dynamic_partitions_requests or []:
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            records.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        else:
            for key in request.partition_keys:
                records.delete_dynamic_partition(request.partitions_def_name, key)
    for event in told.asset_events:
        records.report_runless_asset_event(event)
    made = [event for event in told.asset_events if isinstance(event, dg.AssetMaterialization)]
    assert len(told.asset_events) == 2 * len(made)  # each is observed too, from which staleness is told
    return set(records.get_dynamic_partitions("experiments")), made


def test_partitions_and_versions_follow_the_files(fresh) -> None:
    files = fresh.strategies / "experiments"
    with instance(fresh) as records:
        keys, seen = tick(records, fresh)
        assert keys == set(EXPERIMENTS) == {event.partition for event in seen}
        assert tick(records, fresh) == (set(EXPERIMENTS), [])  # once
        (files / "hold.yaml").unlink()
        write_experiment(fresh.root, "later", EXPERIMENTS["slow"].replace("20", "30"))
        keys, seen = tick(records, fresh)
        assert keys == {"fast", "slow", "later"} and [event.partition for event in seen] == ["later"]
        (files / "fast.yaml").write_text(EXPERIMENTS["fast"].replace("10", "11"))
        [event] = tick(records, fresh)[1]
        assert event.partition == "fast" and len(event.tags["dagster/data_version"]) == 64
        assert tick(records, fresh)[1] == []


def test_a_file_that_does_not_load_or_may_not_be_a_key_stops_nobody(fresh) -> None:
    write_experiment(fresh.root, "broken", "strategy: nowhere\nopening: {cash: 1}\ncosts: []\n")
    write_experiment(fresh.root, "Not|an id", EXPERIMENTS["slow"])
    with instance(fresh) as records:
        keys, seen = tick(records, fresh)
        assert keys == {*EXPERIMENTS, "broken"}
        assert {event.partition for event in seen} == set(EXPERIMENTS)


def ask(records: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    return backfill_new_snapshot(dg.build_sensor_context(instance=records, cursor=cursor))


def test_each_new_snapshot_is_run_by_every_experiment_once(small) -> None:
    with instance(small) as records:
        first = ask(records, None)
        assert [request.run_key.split("-")[0] for request in first.run_requests] == ["small"]
        assert isinstance(ask(records, first.cursor), dg.SkipReason)
        seal(small, "second", days=30)
        seal(small, "third", days=40)
        told = ask(records, first.cursor)
        assert [request.run_key.split("-")[0] for request in told.run_requests] == ["second", "third"]
        for request in told.run_requests:
            assert run_job(records, small, "research", tags=dict(request.tags)).success
        for asset in RUN_ASSETS:
            assert materialized(records, asset) == {
                f"{name}|{snapshot}" for name in EXPERIMENTS for snapshot in ("small", "second", "third")
            }
        seal(small, "third", days=40)  # the same content again asks for the same run, which Dagster makes once
        again = ask(records, told.cursor)
        assert [request.run_key for request in again.run_requests] == [told.run_requests[1].run_key]
        assert len({request.run_key for request in told.run_requests}) == 2


def test_without_experiments_there_is_nothing_to_run(fresh) -> None:
    with instance(fresh) as records:
        assert isinstance(ask(records, None), dg.SkipReason)


def test_results_go_into_shards_when_there_are_enough(small) -> None:
    with instance(small) as records:

        def automatic() -> dict:
            assert run_assets(records, small, "result_shards").success
            wanted = dg.AssetKey("result_shards")
            return records.fetch_materializations(wanted, limit=1).records[0].asset_materialization.metadata

        assert automatic()["runs with files of their own"].value == 3  # fewer than 200 stay as they are
        time.sleep(SETTLED)
        assert compact_results(small) == {"sharded": 3, "loose": 0, "shards": 1}
        assert automatic()["runs in shards"].value == 3


def test_reports_and_shards_are_made_again_when_runs_change_and_not_before(small) -> None:
    """The automation conditions, evaluated as the daemon evaluates them."""
    from ledger_pipeline.definitions import defs

    loaded = defs()
    selection = dg.AssetSelection.assets("comparison_report", "result_shards")
    with instance(small) as records:

        def evaluate(cursor=None):
            return dg.evaluate_automation_conditions(loaded, records, selection, cursor=cursor)

        first = evaluate()
        assert run_job(records, small, "research", partition_key="fast|small").success
        second = evaluate(first.cursor)
        assert second.get_num_requested(dg.AssetKey("comparison_report")) == 1
        assert second.get_num_requested(dg.AssetKey("result_shards")) == 1
        third = evaluate(second.cursor)
        assert third.total_requested == 0
