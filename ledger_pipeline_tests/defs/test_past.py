"""Sessions that were traded without Dagster and are over: they become partitions from the book alone."""

from __future__ import annotations

import dagster as dg
import pytest

from ledger_pipeline.core.errors import LedgerPipelineError
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.live_launch import record_sessions
from ledger_pipeline.defs.partitions import BOOKS, POLICIES, SESSIONS, account_key, live_key
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.defs.records import checks, materialized, metadata, run_job, version
from ledger_pipeline_tests.trading.deployment.test_policy_session import session, write

DAY, NEXT = "2026-01-05", "2026-01-06"
PLAN, ACCOUNT = f"core|{DAY}", f"local|{DAY}"
TABLES = (
    "live_ledger", "open_orders", "live_positions", "trade_entries", "strategy_lots", "attribution_report",
    "strategy_performance",
)  # fmt: skip


@pytest.fixture
def over(traded, served):
    """A project in which `core` traded a session in a loop, and the next one has begun; its broker is gone."""
    write(traded)
    deploy_policy(traded, "core")
    session(traded)
    served.admin.to(f"{NEXT}T14:31:00Z")
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile
    from ledger_pipeline.trading.session_context import open_session

    with open_session(traded) as context:
        reconcile(context.book, context.broker)
    return traded


def test_the_job_records_plan_orders_tables_without_a_broker(over, served, monkeypatch) -> None:
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    sent, head = len(served.sent()), read_book(over).head.hash
    for _ in range(2):  # made again, it is recorded again
        record_sessions(over, "local")
    with instance(over) as records:
        assert set(records.get_dynamic_partitions(SESSIONS)) == {DAY}
        assert materialized(records, "dca_plan") == materialized(records, "dca_orders") == {PLAN}
        plan = metadata(records, "dca_plan", PLAN)
        assert plan["plan_hash"] == version(records, "dca_plan", PLAN) and "$7,000.00" in plan["legs"]
        assert checks(records, "dca_plan", "daily_spend") == {PLAN: True}
        assert checks(records, "dca_plan", "monthly_spend") == {}  # it was not asked, and is no green check
        assert metadata(records, "dca_orders", PLAN)["status"] == "FILLED"
        for asset in TABLES:
            assert materialized(records, asset) == {ACCOUNT}
        assert checks(records, "strategy_lots", "adds_up") == {ACCOUNT: True}
        (run, again) = records.get_runs(dg.RunsFilter(job_name="record_sessions"))
        assert (run.tags["book"], run.tags["session"]) == ("local", DAY)
    assert len(served.sent()) == sent and read_book(over).head.hash == head


def test_the_assets_of_a_past_session_come_from_the_book(over, served, monkeypatch) -> None:
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    with instance(over) as records:
        records.add_dynamic_partitions(POLICIES, ["core"])
        records.add_dynamic_partitions(BOOKS, ["local"])
        records.add_dynamic_partitions(SESSIONS, ["2026-01-02", DAY])
        assert run_job(records, over, "trade_policy", partition_key=live_key("core", DAY)).success
        assert metadata(records, "dca_plan", PLAN)["status"] == "PLANNED, done already"
        assert metadata(records, "dca_orders", PLAN)["status"] == "FILLED"
        assert run_job(records, over, "attribute_session", partition_key=account_key("local", DAY)).success
        nothing = run_job(records, over, "trade_policy", partition_key=live_key("core", "2026-01-02"))
        assert not nothing.success and materialized(records, "dca_plan") == {PLAN}


def test_a_deployment_that_is_gone_leaves_the_tables_of_its_account(over) -> None:
    for folder, suffix in (("deployments", "yaml"), ("policies", "json")):
        (over.strategies / folder / f"core.{suffix}").unlink()
    record_sessions(over, "local")
    with instance(over) as records:
        assert materialized(records, "dca_plan") == set()
        assert materialized(records, "strategy_lots") == {ACCOUNT}
        assert "core" in metadata(records, "strategy_performance", ACCOUNT)["strategies"]


def test_a_session_that_is_on_is_not_recorded(over) -> None:
    with pytest.raises(LedgerPipelineError, match="is not over"):
        record_sessions(over, "local", [NEXT])


def test_a_halt_by_the_clock_of_this_machine_makes_no_session_past(traded, served) -> None:
    """The exchange is in January; the person's machine is not."""
    from ledger_pipeline.trading.orders.halts import halt
    from ledger_pipeline.trading.session_context import open_session

    write(traded)
    deploy_policy(traded, "core")
    with open_session(traded) as context:
        halt(context.book, "strategy:other", by="Ada Byron", reason="a look")
    with instance(traded) as records:
        records.add_dynamic_partitions(POLICIES, ["core"])
        records.add_dynamic_partitions(SESSIONS, [DAY])
        assert run_job(records, traded, "trade_policy", partition_key=live_key("core", DAY)).success
        assert metadata(records, "dca_plan", PLAN)["status"] == "PLANNED"
        assert metadata(records, "dca_orders", PLAN)["status"] == "DONE" and len(served.sent()) == 2
