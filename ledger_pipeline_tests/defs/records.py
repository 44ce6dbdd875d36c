"""Reading Dagster's records in tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from ledger_pipeline.definitions import defs
from ledger_pipeline.defs.experiments import experiment
from ledger_pipeline.defs.reports import comparison_report
from ledger_pipeline.defs.resources import resources
from ledger_pipeline.defs.runs import research_run
from ledger_pipeline.defs.shards import result_shards
from ledger_pipeline.defs.snapshots import raw_bars, sealed_snapshot
from ledger_pipeline.project import Project

RUN_ASSETS = ("feature_table", "run_ledger", "fills", "trades", "equity", "metrics")


@cache
def graph() -> dg.Definitions:
    """The definitions, loaded once: they depend on nothing but the code."""
    return defs()


def materialization(records: dg.DagsterInstance, asset: str, key: str) -> dg.AssetMaterialization | None:
    """The last materialisation of a partition."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[key])
    found = records.fetch_materializations(wanted, limit=1).records
    return found[0].asset_materialization if found else None


def materialized(records: dg.DagsterInstance, asset: str) -> set[str]:
    """The partitions of an asset that are materialised."""
    return {str(key) for key in records.get_materialized_partitions(dg.AssetKey(asset))}


def version(records: dg.DagsterInstance, asset: str, key: str) -> str:
    """The data version of a partition."""
    return materialization(records, asset, key).tags["dagster/data_version"]


def metadata(records: dg.DagsterInstance, asset: str, key: str) -> dict[str, Any]:
    """The metadata of a partition, as plain values."""
    return {name: value.value for name, value in materialization(records, asset, key).metadata.items()}


def checks(records: dg.DagsterInstance, asset: str, check: str) -> dict[str, bool]:
    """The last result of a check by partition."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    history = records.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    found: dict[str, bool] = {}
    for row in history:
        evaluation = row.event.dagster_event.event_specific_data if row.event else None
        if hasattr(evaluation, "passed"):
            found.setdefault(str(evaluation.partition), evaluation.passed)
    return found


def stale(records: dg.DagsterInstance) -> dict[str, set[str]]:
    """The partitions of each asset that are materialised and stale."""
    assets = graph().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(records, assets, LoadingContextForTest(records))
    return {
        asset: {
            key for key in materialized(records, asset) if resolver.get_status(dg.AssetKey(asset), key).value != "FRESH"
        }
        for asset in (*RUN_ASSETS, "comparison_report", "sealed_snapshot")
    }


def run_job(records: dg.DagsterInstance, project: Project, name: str, **options) -> dg.ExecuteInProcessResult:
    """Run a job of the definitions in this process, as the run launcher would."""
    job = graph().get_repository_def().get_job(name)
    return job.execute_in_process(instance=records, resources=resources(project), raise_on_error=False, **options)


def run_assets(records: dg.DagsterInstance, project: Project, *names: str, **options) -> dg.ExecuteInProcessResult:
    """Materialise assets of the definitions in this process, as "Materialize selected" does."""
    return dg.materialize(
        [raw_bars, sealed_snapshot, experiment, research_run, comparison_report, result_shards],
        selection=dg.AssetSelection.assets(*names),
        instance=records,
        resources=resources(project),
        raise_on_error=False,
        **options,
    )


def batch(first: str, last: str) -> dict[str, str]:
    """The tags of a run over a range of partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
