"""trading_status: how everything that trades by itself stands, and whether it is on time by the exchange calendar."""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from ledger_pipeline.defs.live import OWNERS
from ledger_pipeline.defs.resources import TradingResource
from ledger_pipeline.defs.tables import rows_table
from ledger_pipeline.defs.versions import code_version

if TYPE_CHECKING:
    from ledger_pipeline.trading.deployment.deployment import Deployment
    from ledger_pipeline.trading.session_context import SessionContext


@dg.asset(
    deps=["deployed_policy", "deployed_strategy", "live_ledger"],
    group_name="ledger",
    kinds={"json"},
    owners=OWNERS,
    tags={"layer": "live"},
    code_version=code_version("trading"),
    check_specs=[
        dg.AssetCheckSpec(
            "on_time", asset="trading_status", description="No deployment is late by the exchange calendar, or stopped."
        )
    ],
    # The heartbeat: whether anything looked at all. Whether what was due was done is the check's, which knows holidays.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=2)),
)
def trading_status(trading: TradingResource) -> dg.MaterializeResult:
    """For each deployment when it bought last, what is due next and by which clock, why it did not buy, and what stops
    it.
    """
    from ledger_pipeline.core.identity import hash_json
    from ledger_pipeline.trading.deployment.status import statuses

    def context_of(deployment: "Deployment") -> "AbstractContextManager[SessionContext]":
        return trading.open_session(deployment.name)

    rows = [one.to_json() for one in statuses(trading.project, context_of)]
    wrong = [f"{row['name']}: late since {row['late_since']}, {row['last_word']}" for row in rows if row["late_since"]]
    wrong += [f"{row['name']}: {text}" for row in rows for text in row["stopped_by"]]
    shown = [
        {
            "deployment": row["name"], "book": row["book"], "last bought": row["last_bought"] or "never",
            "due": row["due"], "next": row["next"], "late since": row["late_since"],
            "stopped by": "; ".join(row["stopped_by"]), "last": row["last_word"],
        }
        for row in rows
    ]  # fmt: skip
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hash_json([{k: v for k, v in row.items() if "clock" not in k} for row in rows])),
        metadata={
            "deployments": dg.MetadataValue.md(rows_table(shown) if shown else "nothing is deployed"),
            "dagster/row_count": len(rows),
            "statuses": dg.MetadataValue.json(rows),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="on_time", passed=not wrong, description="; ".join(wrong) or "all deployments are on time"
            )
        ],
    )


status_job = dg.define_asset_job(
    "report_status",
    dg.AssetSelection.assets("trading_status"),
    description="How every deployment stands. Sends nothing.",
)
report_hourly = dg.ScheduleDefinition(
    name="report_hourly",
    job=status_job,
    cron_schedule="20 * * * *",
    execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="The status of all deployments every hour; a day without it makes trading_status overdue.",
)
