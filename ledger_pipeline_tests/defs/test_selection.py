"""Selection in the graph, as the UI starts it: a partition is made from its file, and a gate is a check that blocks."""

from __future__ import annotations

import dagster as dg

import ledger_pipeline as lp
from ledger_pipeline.defs.jobs import integrity_job, sweep_job, walk_forward_job
from ledger_pipeline.defs.launch import instance, run_job
from ledger_pipeline.defs.partitions import SWEEPS, sweep_key
from ledger_pipeline.defs.selection import selection_integrity, walk_forward_asset, walk_forward_report
from ledger_pipeline.defs.sweeps import sweep_asset, sweep_report
from ledger_pipeline.simulation.replay import Replay

TEXT = (
    "experiment: fast\ngrid: {window: [3, 5, 8], quantity: [5, 10]}\nkeep: returns\n"
    "walk_forward: {train: 20 sessions, test: 10 sessions, purge: 0}\n"
)
KEY = sweep_key("small", "windows")


def prepared(small, text: str = TEXT) -> None:
    folder = small.strategies / "sweeps"
    folder.mkdir(exist_ok=True)
    (folder / "windows.yaml").write_text(text)


def started(project, records, job, assets, config=None, **options):
    return run_job(records, project, job, assets, partition_key=KEY, config=config or {}, **options)


def swept(project, records):
    config = {"ops": {"sweep": {"config": {"engine": "serial"}}}}
    assert started(project, records, sweep_job, [sweep_asset, sweep_report], config).success


def test_integrity_of_a_sweep(small) -> None:
    prepared(small)
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        swept(small, records)
        result = started(small, records, integrity_job, [selection_integrity])
        assert result.success
        made = result.asset_materializations_for_node("selection_integrity")[0].metadata
        assert made["trials"].value >= 6 and 0 <= made["pbo"].value <= 1 and "trials" in made["verdict"].value
        assert "Deflated Sharpe" in made["numbers"].value and "data:image/png" in made["overfitting"].value
        (check,) = result.get_asset_check_evaluations()
        assert check.check_name == "gates_met" and check.passed and check.description == "the sweep states no gates"
    assert list((small.data / "integrity").glob("*.json"))
    assert "effective" in (small.data / "reports" / "sweep-windows-small.html").read_text()


def test_a_gate_that_is_not_met_blocks(small) -> None:
    prepared(small, TEXT + "gates: {pbo: {max: 0.0}, deflated_sharpe: {min: 1.0}}\n")
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        swept(small, records)
        result = started(small, records, integrity_job, [selection_integrity])
        (check,) = result.get_asset_check_evaluations()
        assert not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
        assert "deflated_sharpe is" in check.description and "at least 1 is asked for" in check.description


def test_a_walk_forward_and_its_report(small) -> None:
    prepared(small)
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        config = {"ops": {"walk_forward": {"config": {"engine": "serial"}}}}
        result = started(small, records, walk_forward_job, [walk_forward_asset, walk_forward_report], config)
        assert result.success
        walk = lp.open_walk_forward("windows", small.data, small.snapshots)
        made = result.asset_materializations_for_node("walk_forward")[0]
        assert (
            made.tags["dagster/data_version"] == walk.hash and made.metadata["windows"].value == len(walk.windows) == 4
        )
        assert (
            made.metadata["run_id"].value == walk.run_id and "data:image/png" in made.metadata["train and test"].value
        )
        report = result.asset_materializations_for_node("walk_forward_report")[0].metadata
        assert report["report"].value.endswith("walk-forward-windows-small.html")
        (check,) = result.get_asset_check_evaluations()
        assert check.check_name == "stitched_run_replays" and check.passed


def test_a_stitched_run_that_does_not_replay_fails(small, monkeypatch) -> None:
    from ledger_pipeline.simulation import replay

    prepared(small)
    monkeypatch.setattr(
        replay, "replay", lambda run_id, **_: Replay(run_id, "a", "b", "seq 3: price is 1 here and 2 there")
    )
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        config = {"ops": {"walk_forward": {"config": {"engine": "serial"}}}}
        result = started(small, records, walk_forward_job, [walk_forward_asset, walk_forward_report], config)
        assert not result.success and not result.asset_materializations_for_node("walk_forward_report")


def test_a_file_without_windows_says_so(small) -> None:
    prepared(small, "experiment: fast\ngrid: {window: [3, 5]}\n")
    with instance(small) as records:
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        result = started(small, records, walk_forward_job, [walk_forward_asset, walk_forward_report])
        failed = [event for event in result.all_events if event.is_step_failure]
        assert "has no key walk_forward" in str(failed[0].event_specific_data.error)


def test_new_snapshots_are_walked_over_where_that_is_asked_for(small) -> None:
    """From the moment it is switched on, and only by the file that says live; the same content is asked for once."""
    from ledger_pipeline.defs.jobs import walk_forwards_follow_snapshots
    from ledger_pipeline.defs.resources import ProjectResource
    from ledger_pipeline_tests.projects import seal

    prepared(small, TEXT.replace("purge: 0}", "purge: 0, live: true}"))
    with instance(small) as records:
        resource = ProjectResource(root=str(small.root))

        def tick(cursor):
            context = dg.build_sensor_context(instance=records, cursor=cursor, resources={"project": resource})
            return walk_forwards_follow_snapshots(context)

        first = tick(None)
        assert not first.run_requests and first.cursor
        assert isinstance(tick(first.cursor), dg.SkipReason)
        seal(small, "second", days=70)
        told = tick(first.cursor)
        (request,) = told.run_requests
        assert request.partition_key == str(sweep_key("second", "windows"))
        assert request.run_key.startswith("walk-second-windows-")
        assert isinstance(tick(told.cursor), dg.SkipReason)
        records.add_dynamic_partitions(SWEEPS, ["windows"])
        config = {"ops": {"walk_forward": {"config": {"engine": "serial"}}}}
        result = run_job(
            records, small, walk_forward_job, [walk_forward_asset, walk_forward_report],
            partition_key=request.partition_key, config=config,
        )  # fmt: skip
        assert result.success
        walk = lp.open_walk_forward("windows", small.data, small.snapshots)
        assert walk.snapshot.id == "second" and walk.windows[-1].window.pending
