"""The graph at work: versions, metadata, checks, staleness and failures of real Dagster runs."""

from __future__ import annotations

import base64
import json
import platform
import struct

import dagster as dg
import pyarrow.parquet
import pytest

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.defs.experiments import follow_files
from ledger_pipeline.defs.launch import instance, report, run_experiments
from ledger_pipeline.ledger.schema import read_ledger
from ledger_pipeline.market.snapshot import open_snapshot
from ledger_pipeline.simulation.run import identify
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline_tests.defs.records import (
    RUN_ASSETS,
    batch,
    checks,
    materialization,
    materialized,
    metadata,
    run_assets,
    stale,
    version,
)
from ledger_pipeline_tests.projects import EXPERIMENTS, seal, unchanged, write_bars, write_experiment

KEYS = {f"{name}|small" for name in EXPERIMENTS}
NO_STRATEGY = "strategy: {}\nopening: {{cash: 1000}}\ncosts: []\n"


def run_id(project, name: str, snapshot: str = "small") -> str:
    sealed = open_snapshot(snapshot, root=project.snapshots)
    return identify(Catalogue(project.strategies).experiment(name), sealed).run_id


def test_data_versions_are_the_hashes_of_the_content(small) -> None:
    sealed, store = open_snapshot("small", root=small.snapshots), RunStore(small.data)
    item = Catalogue(small.strategies).experiment("fast")
    stored = store.open(run_id(small, "fast"), small.snapshots)
    with instance(small) as records:
        assert version(records, "sealed_snapshot", "small") == sealed.hash
        assert version(records, "raw_bars", "small") == sealed.manifest["content"]["bars"]
        assert version(records, "run_ledger", "fast|small") == stored.events.head
        assert version(records, "metrics", "fast|small") == hash_json(stored.metrics)
        features = {"sma": item.features[0].fingerprint}
        assert version(records, "feature_table", "fast|small") == hash_json(
            {"snapshot_hash": sealed.hash, "features": features}
        )
        observed = dg.AssetRecordsFilter(asset_key=dg.AssetKey("experiment"), asset_partitions=["fast"])
        [record] = records.fetch_materializations(observed, limit=5).records
        assert record.asset_materialization.tags["dagster/data_version"] == item.hash
        for asset in RUN_ASSETS:
            assert materialized(records, asset) == KEYS
            told = materialization(records, asset, "fast|small").tags
            assert told["dagster/code_version"] and told["dagster/data_version_is_user_provided"] == "true"
        tags = materialization(records, "run_ledger", "fast|small").tags
        assert tags["dagster/input_data_version/sealed_snapshot"] == sealed.hash
        assert tags["dagster/input_data_version/experiment"] == item.hash


def test_metadata_tells_where_a_run_comes_from(small) -> None:
    store, name = RunStore(small.data), run_id(small, "fast")
    provenance = store.provenance(name)
    with instance(small) as records:
        told = metadata(records, "run_ledger", "fast|small")
        for key in ("strategy_hash", "params_hash"):
            assert told[key] == provenance["experiment"][key]
        assert told["run_id"] == name and told["run_hash"].startswith(name)
        assert told["snapshot_hash"] == provenance["snapshot"]["hash"]
        assert told["experiment_hash"] == provenance["experiment"]["hash"]
        assert told["ledger_head"] == provenance["ledger_head"]
        assert (told["tier"], told["seed"]) == (1, 0)
        assert told["versions"]["python"] == platform.python_version() and told["versions"]["pandas"]
        assert platform.machine() in told["platform"]
        assert told["duration_seconds"] > 0 and told["pulses"] == 60
        path = small.data / "runs" / name / "ledger.parquet"
        assert told["dagster/row_count"] == pyarrow.parquet.ParquetFile(path).metadata.num_rows
        for asset in ("run_ledger", "equity"):
            width, height = png_size(metadata(records, asset, "fast|small")["equity and drawdown"])
            assert width > 300 and height > 200
        assert metadata(records, "equity", "fast|small")["dagster/row_count"] == 60
        shown = metadata(records, "metrics", "fast|small")
        assert shown["total_return"] == store.metrics(name)["total_return"] and "beta" in shown
        raw = metadata(records, "raw_bars", "small")
        assert raw["dagster/row_count"] == 120 and "AAPL" in raw["preview"]
        assert metadata(records, "sealed_snapshot", "small")["manifest"]["snapshot_id"] == "small"
        report(small, "small")
        assert png_size(metadata(records, "comparison_report", "small")["overlaid equity"])[0] > 300
        assert sorted(metadata(records, "comparison_report", "small")["runs"]) == sorted(store.ids())


def png_size(markdown: str) -> tuple[int, int]:
    """Width and height of the picture in a Markdown image."""
    data = base64.b64decode(markdown.split("base64,", 1)[1].split(")")[0])
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


def test_each_run_has_its_own_checks(small) -> None:
    with instance(small) as records:
        for check in ("ledger_invariants", "truncation_replay", "determinism"):
            assert checks(records, "run_ledger", check) == dict.fromkeys(KEYS, True)
        assert checks(records, "sealed_snapshot", "sealed_bytes") == {"small": True} or list(
            checks(records, "sealed_snapshot", "sealed_bytes").values()
        ) == [True]


def test_a_duplicate_bar_blocks_the_seal_in_the_same_run_and_in_a_later_one(fresh) -> None:
    def twice(frame):
        return type(frame)(frame.iloc[[*range(len(frame)), 3]])

    from ledger_pipeline_tests.projects import write_bars

    path = write_bars(fresh.root / "bad.csv", change=twice)
    with instance(fresh) as records:
        records.add_dynamic_partitions("snapshots", ["bad"])
        config = {"ops": {"raw_bars": {"config": {"bars": str(path)}}}}
        run = run_assets(records, fresh, "raw_bars", "sealed_snapshot", partition_key="bad", run_config=config)
        assert not run.success
        assert materialized(records, "raw_bars") == {"bad"}  # what came in is shown, with what is wrong in it
        [check] = run.get_asset_check_evaluations()
        assert not check.passed and "DUPLICATE_BAR" in check.description and "AAPL" in check.description
        later = run_assets(records, fresh, "sealed_snapshot", partition_key="bad")
        assert not later.success and materialized(records, "sealed_snapshot") == set()
    assert not (fresh.root / "snapshots" / "bad").exists()


def test_a_warning_does_not_block_the_seal(fresh) -> None:
    def gap(frame):
        return frame.drop(index=range(5, 12))

    seal(fresh, "gappy", change=gap)
    with instance(fresh) as records:
        assert materialized(records, "sealed_snapshot") == {"gappy"}
        assert list(checks(records, "raw_bars", "data_quality").values()) == [False]


def test_nothing_is_stale_after_a_run_and_a_changed_strategy_makes_its_own_runs_stale(small) -> None:
    catalogue = Catalogue(small.strategies)
    with instance(small) as records:
        report(small, "small")
        assert stale(records) == dict.fromkeys((*RUN_ASSETS, "comparison_report", "sealed_snapshot"), set())
        path = small.strategies / "sma_long_flat.py"
        path.write_text(path.read_text().replace('params["quantity"]', '2 * params["quantity"]'))
        follow_files(catalogue, records)
        touched = {"fast|small", "slow|small"}
        found = stale(records)
        assert found == dict.fromkeys(found, set()) | {"feature_table": touched, "run_ledger": touched}
        run_experiments(small, "small", ["fast"])
        assert stale(records)["run_ledger"] == {"slow|small"} and stale(records)["comparison_report"] == {"small"}
        run_experiments(small, "small", ["slow"])
        report(small, "small")
        assert stale(records) == dict.fromkeys((*RUN_ASSETS, "comparison_report", "sealed_snapshot"), set())


def test_a_changed_param_makes_one_experiment_stale(small) -> None:
    path = small.strategies / "experiments" / "slow.yaml"
    path.write_text(path.read_text().replace("window: 20", "window: 21"))
    with instance(small) as records:
        follow_files(Catalogue(small.strategies), records)
        assert stale(records)["run_ledger"] == stale(records)["feature_table"] == {"slow|small"}
        # a description is not part of what an experiment is
        other = small.strategies / "experiments" / "fast.yaml"
        other.write_text(other.read_text() + "description: told anew\n")
        follow_files(Catalogue(small.strategies), records)
        assert stale(records)["run_ledger"] == {"slow|small"}


BAD = {
    "raises": ("def strategy(ctx, params):\n    return 1 / 0\n", "ZeroDivisionError"),
    "misses": ("def strategy(ctx, params):\n    return {'AAPL': 1}\n", "IBM"),
    "nan": (
        "import math\n\n\ndef strategy(ctx, params):\n    t = ctx.flat()\n    t['AAPL'] = math.nan\n    return t\n",
        "AAPL",
    ),
    "unknown": ("def strategy(ctx, params):\n    t = ctx.flat()\n    t['ZZZ'] = 1\n    return t\n", "ZZZ"),
}


def test_those_that_fail_leave_the_others(small) -> None:
    for name, (text, _) in BAD.items():
        (small.strategies / f"{name}.py").write_text(text)
        write_experiment(small.root, name, NO_STRATEGY.format(name))
    seal(small, "other", days=40)
    with pytest.raises(InputError) as caught:
        run_experiments(small, "other", [*EXPERIMENTS, *BAD])
    assert "4 of 7 runs failed, the others are made:\n  " in str(caught.value)
    with instance(small) as records:
        for asset in RUN_ASSETS:
            assert {key for key in materialized(records, asset) if key.endswith("|other")} == {
                f"{name}|other" for name in EXPERIMENTS
            }
        failed = records.get_run_records(limit=1)[0].dagster_run
        assert failed.status == dg.DagsterRunStatus.FAILURE
        failures = records.all_logs(failed.run_id)
        told = next(e.dagster_event for e in failures if e.dagster_event and e.dagster_event.is_step_failure)
        errors = told.step_failure_data.user_failure_data.metadata["failed"].value
        assert {key.split("|")[0] for key in errors} == set(BAD)
        for name, (_, word) in BAD.items():
            sentence = errors[f"{name}|other"]["error"]
            assert word in sentence and "pulse" in sentence and "\n" not in sentence
            for check in ("ledger_invariants", "truncation_replay", "determinism"):
                assert checks(records, "run_ledger", check)[f"{name}|other"] is False
    assert sorted(path.name for path in (small.data / "runs").iterdir()) == RunStore(small.data).ids()
    assert not {run_id(small, name, "other") for name in BAD} & set(RunStore(small.data).ids())


def test_a_tier_3_strategy_fails_alone_in_a_batch_of_the_ui(small) -> None:
    (small.strategies / "reader.py").write_text("def strategy(ctx, params):\n    open('x')\n    return ctx.flat()\n")
    write_experiment(small.root, "reader", NO_STRATEGY.format("reader"))
    seal(small, "other", days=40)
    with instance(small) as records:
        follow_files(Catalogue(small.strategies), records)
        names = records.get_dynamic_partitions("experiments")
        run = run_assets(records, small, *RUN_ASSETS, tags=batch(f"{names[0]}|other", f"{names[-1]}|other"))
        assert not run.success
        [failure] = [event for event in run.all_events if event.is_step_failure]
        told = failure.step_failure_data.user_failure_data
        assert set(told.metadata["failed"].value) == {"reader|other"}
        assert told.metadata["failed"].value["reader|other"]["kind"] == "RefusedError"
        assert "open" in told.description
        assert materialized(records, "metrics") == KEYS | {f"{name}|other" for name in EXPERIMENTS}


def test_a_fault_of_the_program_fails_its_own_run_only(small, monkeypatch) -> None:
    from ledger_pipeline.defs import run_assets as makers

    honest = makers.MAKERS["metrics"]

    def faulty(item):
        if item.experiment.name == "fast":
            raise TypeError("a fault of ours")
        return honest(item)

    monkeypatch.setitem(makers.MAKERS, "metrics", faulty)
    seal(small, "other", days=40)
    with pytest.raises(Exception, match="unexpected TypeError: a fault of ours"):
        run_experiments(small, "other", list(EXPERIMENTS))
    with instance(small) as records:
        assert materialized(records, "run_ledger") - KEYS == {"hold|other", "slow|other"}


def test_a_stored_ledger_of_other_bytes_is_an_integrity_error(small) -> None:
    path = small.data / "runs" / run_id(small, "hold") / "provenance.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"ledger_head": "0" * 64}))
    with pytest.raises(IntegrityError, match="hold"):
        run_experiments(small, "small", ["hold"])


def test_a_run_too_short_to_cut_is_made(fresh) -> None:
    seal(fresh, "short", days=2)
    assert run_experiments(fresh, "short", ["hold"]) == []
    with instance(fresh) as records:
        assert checks(records, "run_ledger", "truncation_replay") == {"hold|short": True}


def test_a_part_of_the_assets_can_be_made_from_the_stored_run(small) -> None:
    name = run_id(small, "fast")
    for file in ("metrics.json", "equity.parquet"):
        (small.data / "runs" / name / file).unlink()
    with instance(small) as records:
        before = version(records, "equity", "fast|small")
        run = run_assets(records, small, "equity", "metrics", partition_key="fast|small")
        assert run.success
        assert {event.asset_key.to_user_string() for event in run.get_asset_materialization_events()} == {
            "equity",
            "metrics",
        }
        assert version(records, "equity", "fast|small") == before
    assert RunStore(small.data).metrics(name)["total_return"] is not None


def test_the_same_run_again_changes_no_stored_byte(small) -> None:
    with unchanged(small):
        run_experiments(small, "small", list(EXPERIMENTS))


def test_two_projects_in_one_process_keep_their_own_records(small, tmp_path, monkeypatch) -> None:
    from ledger_pipeline_tests.projects import make_project

    monkeypatch.delenv("DAGSTER_HOME")
    other = make_project(tmp_path / "other", EXPERIMENTS)
    with instance(small) as records:
        assert records.get_dynamic_partitions("snapshots") == ["small"]
    with instance(other) as records:
        assert records.get_dynamic_partitions("snapshots") == []
    assert (other.root / ".dagster" / "dagster.yaml").is_symlink()


def test_a_run_on_no_snapshot_leaves_no_partition(fresh) -> None:
    from ledger_pipeline.core.errors import NotFoundError

    with pytest.raises(NotFoundError, match="nowhere"):
        run_experiments(fresh, "nowhere", ["hold"])
    with instance(fresh) as records:
        assert records.get_dynamic_partitions("snapshots") == []


def test_the_ledger_on_disk_is_the_one_of_the_record(small) -> None:
    name = run_id(small, "slow")
    path = small.data / "runs" / name / "ledger.parquet"
    with instance(small) as records:
        assert read_ledger(path.read_bytes(), str(path)).head == version(records, "run_ledger", "slow|small")


def test_columns_and_what_they_are_made_from_are_told(small) -> None:
    with instance(small) as records:
        told = {name: materialization(records, name, "fast|small").metadata for name in RUN_ASSETS}
        for name in ("feature_table", "run_ledger", "trades", "equity"):
            columns = {column.name: column.type for column in told[name]["dagster/column_schema"].schema.columns}
            assert columns, name
        assert columns["equity"] == "float64" and columns["ts"] == "datetime64[us, UTC]"
        made_from = told["feature_table"]["dagster/column_lineage"].value.deps_by_column
        assert [(dep.asset_key.to_user_string(), dep.column_name) for dep in made_from["sma"]] == [
            ("sealed_snapshot", "close")
        ]
        assert set(told["equity"]["dagster/column_lineage"].value.deps_by_column) <= set(columns)


def test_a_refused_seal_leaves_no_raw_bars_with_the_refused_content(fresh) -> None:
    seal(fresh, "small", days=30)
    with instance(fresh) as records:
        before = version(records, "raw_bars", "small") if materialized(records, "raw_bars") else None
        other = write_bars(fresh.root / "other.csv", days=31)
        config = {"ops": {"raw_bars": {"config": {"bars": str(other)}}}}
        records.add_dynamic_partitions("snapshots", ["small"])
        done = run_assets(records, fresh, "raw_bars", "sealed_snapshot", partition_key="small", run_config=config)
        assert not done.success
        failed = [event.step_key for event in done.all_events if event.is_step_failure]
        assert failed == ["raw_bars"]
        assert (version(records, "raw_bars", "small") if materialized(records, "raw_bars") else None) == before
        kept = fresh.data / "raw" / "small"
        assert not kept.exists() or "other.csv" not in (kept / "source.json").read_text()
