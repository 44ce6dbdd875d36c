"""Sweeps in the graph, as the UI and the daemon start them."""

from __future__ import annotations

import dagster as dg

import ledger_pipeline as lp
from ledger_pipeline.defs.jobs import sweep_job
from ledger_pipeline.defs.launch import instance, run_job
from ledger_pipeline.defs.partitions import SWEEPS, sweep_key
from ledger_pipeline.defs.resources import ProjectResource
from ledger_pipeline.defs.sweeps import sweep_asset, sweep_report, sweeps_follow_files
from ledger_pipeline.sweeps.sweep_store import SweepStore

TEXT = "experiment: fast\ngrid: {window: [3, 5], quantity: [5, 10]}\n"
CONFIG = {"ops": {"sweep": {"config": {"engine": "serial"}}}}


def materialised(project, records):
    return run_job(
        records,
        project,
        sweep_job,
        [sweep_asset, sweep_report],
        partition_key=sweep_key("small", "windows"),
        config=CONFIG,
    )


def test_a_partition_is_made_from_its_file(small) -> None:
    folder = small.strategies / "sweeps"
    folder.mkdir(exist_ok=True)
    (folder / "windows.yaml").write_text(TEXT)
    with instance(small) as records:
        resource = ProjectResource(root=str(small.root))
        context = dg.build_sensor_context(instance=records, resources={"project": resource})
        requests = sweeps_follow_files(context).dynamic_partitions_requests
        assert [request.partition_keys for request in requests] == [["crossover", "windows"]]
        records.add_dynamic_partitions(SWEEPS, ["crossover", "windows"])
        assert sweeps_follow_files(context).skip_reason

        result = materialised(small, records)
        assert result.success
        sweep = lp.open_sweep("windows", small.data, small.snapshots)
        made = result.asset_materializations_for_node("sweep")[0]
        assert made.tags["dagster/data_version"] == sweep.hash and made.metadata["dagster/row_count"].value == 4
        checks = result.get_asset_check_evaluations()
        assert [(check.check_name, check.passed) for check in checks] == [("candidates_replay", True)]
        assert checks[0].metadata["candidates"].value == "0, 1, 2, 3"
        assert any("4 of 4 candidates" in event.user_message for event in records.all_logs(result.run_id))


def test_a_candidate_that_does_not_replay_fails_the_run(small, monkeypatch) -> None:
    """Its ledger is another one than was recorded: a shard that was written anew, hash and all."""
    import pyarrow as pa

    from ledger_pipeline.sweeps import sweep_store

    folder = small.strategies / "sweeps"
    folder.mkdir(exist_ok=True)
    (folder / "windows.yaml").write_text(TEXT)
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        assert materialised(small, records).success
        sweep_id = SweepStore(small.data).resolve("windows")
        store, shard = SweepStore(small.data), sweep_store.Shard(0, 0, 1)
        table = store.read(sweep_id, shard)
        forged = table.set_column(table.column_names.index("ledger_head"), "ledger_head", pa.array(["f" * 64]))
        forged = forged.replace_schema_metadata({b"rows_sha256": sweep_store._rows_hash(forged).encode()})
        pa.parquet.write_table(forged, str(store.path(sweep_id) / "shards" / shard.name))
        rows = [store.read(sweep_id, one) for one in sweep_store.shards_of(4, 1)]
        store.finish(sweep_id, store.result(sweep_id) | {"sweep_hash": sweep_store.rows_digest(rows)})
        result = materialised(small, records)
        assert not result.success
        check = result.get_asset_check_evaluations()[0]
        assert not check.passed and "ffffffff" in check.description
