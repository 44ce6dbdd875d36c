"""What the graph is: an always-on picture of its assets in text, and what loading it imports."""

from __future__ import annotations

import json
import subprocess
import sys

import dagster as dg
import pytest
import yaml

from ledger_pipeline.definitions import defs
from ledger_pipeline.trading.planning.names import GUARDRAILS
from ledger_pipeline_tests.projects import CHECKOUT, environment

# asset | group | kinds | partitions | what it is made from | its checks ("!": blocks what is downstream)
RUNS, SWEEPS = "experiment x snapshot", "snapshot x sweep"
LIVE, ACCOUNT = "deployment x session", "book x session"
GUARDED = ",".join(sorted(f"{name}!" for name in ("decided", *GUARDRAILS)))
GRAPH = f"""
raw_bars          | market   | parquet,python | snapshots   |                            | data_quality!
sealed_snapshot   | market   | parquet        | snapshots   | raw_bars                   | sealed_bytes!
experiment        | strategy | python,yaml    | experiments |                            |
feature_table     | features | parquet        | {RUNS}      | experiment,sealed_snapshot |
run_ledger        | runs     | parquet        | {RUNS}      | experiment,feature_table,sealed_snapshot | \
determinism!,ledger_invariants!,truncation_replay!
fills             | results  | duckdb         | {RUNS}      | run_ledger                 |
trades            | results  | parquet        | {RUNS}      | run_ledger                 |
equity            | results  | parquet        | {RUNS}      | run_ledger,sealed_snapshot |
metrics           | results  | json           | {RUNS}      | equity,fills,trades        |
comparison_report | reports  | html           | snapshots   | equity,metrics             |
sweep             | sweeps   | parquet        | {SWEEPS}      | experiment,sealed_snapshot | candidates_replay!
sweep_report      | sweeps   | html           | {SWEEPS}      | sweep                      |
promoted_run      | sweeps   | json           | {RUNS}      | run_ledger,selection_integrity,sweep,walk_forward |
selection_integrity | selection | json        | {SWEEPS}      | sweep                      | gates_met!
walk_forward      | selection | json          | {SWEEPS}      | experiment,sealed_snapshot | stitched_run_replays!
walk_forward_report | selection | html        | {SWEEPS}      | walk_forward               |
tear_sheet        | reports  | html           | {RUNS}      | equity,metrics             |
run_comparison    | reports  | html           |             | equity,metrics             |
result_shards     | results  | duckdb,parquet |             | equity,metrics,run_ledger,trades |
deployed_policy   | decide   | json,yaml      | policies    |                            |
deployed_strategy | decide   | yaml           | strategies  | run_ledger                 |
broker_account    | account  | json           | {ACCOUNT}      |                            |
reconciliation    | account  | json           | {ACCOUNT}      | broker_account             | no_breaks!
session_orders    | order    | json           | {ACCOUNT}      | reconciliation             |
dca_plan          | decide    | json          | {LIVE}      | deployed_policy,reconciliation | {GUARDED}
dca_orders        | order     | json          | {LIVE}      | dca_plan                   |
live_snapshot     | decide    | parquet       | {LIVE}      | deployed_strategy,reconciliation | live_quality!
strategy_decision | decide    | json          | {LIVE}      | deployed_strategy,live_snapshot,reconciliation | {GUARDED}
strategy_orders   | order     | json          | {LIVE}      | strategy_decision          |
live_ledger       | ledger   | parquet        | {ACCOUNT}      | dca_orders,reconciliation,session_orders,strategy_orders |
open_orders       | ledger   | json           | {ACCOUNT}      | live_ledger                |
live_positions    | ledger   | json           | {ACCOUNT}      | live_ledger                |
closing_reconciliation | ledger | json          | {ACCOUNT}      | live_ledger                | no_breaks
trade_entries     | attribute | parquet     | {ACCOUNT}      | live_ledger                |
strategy_lots     | attribute | parquet     | {ACCOUNT}      | trade_entries              | adds_up!,attributed
attribution_report | attribute | json       | {ACCOUNT}      | closing_reconciliation,strategy_lots | equals_the_broker
strategy_performance | attribute | json     | {ACCOUNT}      | strategy_lots              |
record_heads      | audit    | json           |             | deployed_strategy,live_ledger,metrics,promoted_run,sealed_snapshot | \
books_as_written,deployments_as_written,files_as_written,raw_as_written,runs_as_written,snapshots_as_written,sweeps_as_written,\
trials_as_written,walk_forwards_as_written
trading_status    | ledger   | json           |             | deployed_policy,deployed_strategy,live_ledger | on_time
"""

LOADING = """
import json, sys, warnings
import dagster
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import ledger_pipeline.defs.runs  # Dagster's own loading would silence warnings
    from ledger_pipeline.definitions import defs
    dagster.Definitions.validate_loadable(defs())
print(json.dumps({"modules": sorted(sys.modules), "warnings": [str(w.message) for w in caught]}))
"""


@pytest.fixture(scope="module")
def graph() -> dg.AssetGraph:
    return defs().resolve_asset_graph()


def partitions(node) -> str:
    definition = node.partitions_def
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return " x ".join(sorted(definition.partition_dimension_names))
    return definition.name if definition else ""


def test_the_graph_is_this_one(graph) -> None:
    rows = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        checks = [
            f"{check.name}{'!' if graph.get(check).blocking else ''}"
            for check in sorted(graph.asset_check_keys, key=str)
            if check.asset_key == key
        ]
        rows[key.to_user_string()] = (
            node.group_name,
            ",".join(sorted(node.kinds)),
            partitions(node),
            ",".join(sorted(parent.to_user_string() for parent in node.parent_keys)),
            ",".join(checks),
        )
    expected = {}
    for line in GRAPH.strip().splitlines():
        name, *told = (cell.strip() for cell in line.split("|"))
        expected[name] = tuple(told)
    assert rows == expected


def test_the_graph_is_one(graph) -> None:
    """From raw bars to attribution: every asset is connected with every other."""
    keys = set(graph.get_all_asset_keys())
    seen, todo = set(), [dg.AssetKey("raw_bars")]
    while todo:
        key = todo.pop()
        if key not in seen:
            seen.add(key)
            todo += [*graph.get(key).parent_keys, *graph.get(key).child_keys]
    assert seen == keys
    assert dg.AssetKey("attribution_report") in dg.AssetSelection.assets("raw_bars").downstream().resolve(graph)


def test_every_asset_says_what_it_is_and_whose(graph) -> None:
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert len(node.description or "") > 30, key
        assert node.owners and node.kinds and node.group_name != "default" and node.tags, key
        assert node.code_version or node.is_external, key
    for check in graph.asset_check_keys:
        assert len(graph.get(check).description or "") > 20, check


def test_jobs_sensors_resources_and_executor() -> None:
    loaded = defs()
    repository = loaded.get_repository_def()
    assert {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs} == {
        "experiments_follow_files": "RUNNING",
        "sweeps_follow_files": "RUNNING",
        "backfill_new_snapshot": "STOPPED",
        "walk_forwards_follow_snapshots": "STOPPED",
        "derive_results": "RUNNING",
        "poll_fills": "STOPPED",
        "deployments_follow_files": "RUNNING",
        "attribute_fills": "STOPPED",
        "alert": "STOPPED",
    }
    assert {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs} == {
        "reconcile_around_sessions": "STOPPED",
        "trade_policies": "STOPPED",
        "trade_strategies": "STOPPED",
        "report_hourly": "STOPPED",
        "verify_nightly": "STOPPED",
    }
    jobs = {job.name for job in repository.get_all_jobs()}
    assert {"research", "reconcile_session", "collect_fills", "submit_orders"} <= jobs
    assert {"trade_policy", "trade_strategy", "attribute_session"} <= jobs
    assert {
        "import_snapshot",
        "report",
        "compare",
        "compact",
        "run_sweep",
        "measure_integrity",
        "run_walk_forward",
    } <= jobs
    assert set(loaded.resources) == {"project", "trading"}
    assert loaded.executor is dg.in_process_executor


def test_runs_of_a_book_wait_for_each_other_and_are_never_retried() -> None:
    limits = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limits == [{"key": "book", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}]
    made = [asset for asset in defs().assets if isinstance(asset, dg.AssetsDefinition) and asset.is_executable]
    live = [
        asset
        for asset in made
        if set(asset.group_names_by_key.values()) <= {"account", "decide", "order", "ledger", "attribute"}
    ]
    assert {asset.key.to_user_string() for asset in live} >= {"session_orders", "live_ledger", "reconciliation"}
    assert not any(asset.op.retry_policy for asset in live)
    repository = defs().get_repository_def()
    for name in ("reconcile_session", "collect_fills", "submit_orders", "trade_policy", "trade_strategy"):
        assert repository.get_job(name).tags["dagster/max_retries"] == "0"


def test_definitions_load_without_the_heavy_libraries(fresh) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADING], env=environment(fresh), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    heavy = (
        "numba",
        "matplotlib",
        "scipy",
        "ta",
        "pandera",
        "exchange_calendars",
        "pandas",
        "pyarrow",
        "bottleneck",
        "alpaca",
        "boto3",
    )
    assert set(told["modules"]) & set(heavy) == set()
    assert told["warnings"] == []


def test_loading_changes_nothing_in_the_project(fresh) -> None:
    before = sorted(fresh.root.rglob("*"))
    dg.Definitions.validate_loadable(defs())
    assert sorted(fresh.root.rglob("*")) == before
