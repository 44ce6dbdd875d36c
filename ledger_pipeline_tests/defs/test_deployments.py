"""Deployments as Dagster runs them: one lineage from plan to attribution, and nothing that makes a run again buys again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from ledger_pipeline.definitions import defs
from ledger_pipeline.defs.deployments import deployments_follow_files
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.live_jobs import ATTEMPTS, alert, attribute_fills, trade_policies, trade_strategies
from ledger_pipeline.defs.partitions import BOOKS, POLICIES, SESSIONS, STRATEGIES, account_key, live_key
from ledger_pipeline.defs.resources import resources
from ledger_pipeline.project import Project
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.planning.names import GUARDRAILS
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.defs.records import checks, materialized, metadata, run_job, version
from ledger_pipeline_tests.trading.deployment.test_alerts import listening
from ledger_pipeline_tests.trading.deployment.test_policy_session import CORE, write
from ledger_pipeline_tests.trading.deployment.test_strategy_session import Studio, studio  # noqa: F401

SESSION, BEFORE = "2026-01-05", "2026-01-02"
KEY, ACCOUNT = f"core|{SESSION}", f"local|{SESSION}"
DECIDED = ("dca_plan", "dca_orders")
CHAIN = (
    "broker_account", "reconciliation", "closing_reconciliation", "live_ledger", "open_orders", "live_positions",
    "trade_entries", "strategy_lots", "attribution_report", "strategy_performance",
)  # fmt: skip
NOT_ASKED = ("concentration", "monthly_spend", "order_count")  # the policy sets no such limits
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def records(traded: Project) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a project with the policy `core`."""
    write(traded)
    deploy_policy(traded, "core")
    with instance(traded) as one:
        one.add_dynamic_partitions(POLICIES, ["core"])
        one.add_dynamic_partitions(BOOKS, ["local"])
        one.add_dynamic_partitions(SESSIONS, [BEFORE, SESSION])
        yield one


def trade(records, project, session: str = SESSION, name: str = "core", **options) -> dg.ExecuteInProcessResult:
    return run_job(records, project, "trade_policy", partition_key=live_key(name, session), **options)


def kinds(project: Project) -> list[str]:
    return [event.kind for event in read_book(project).events()]


def test_one_run_is_one_lineage_from_plan_to_attribution(records, traded, served) -> None:
    assert trade(records, traded).success and len(served.sent()) == 2
    assert run_job(records, traded, "attribute_session", partition_key=account_key("local", SESSION)).success
    told = {}
    for key, assets in ((KEY, DECIDED), (ACCOUNT, CHAIN)):
        for asset in assets:
            assert materialized(records, asset) == {key} and version(records, asset, key)
            told[asset] = metadata(records, asset, key)
    files = [told[asset]["path"] for asset in (*DECIDED, *CHAIN)]
    assert len(set(files)) == len(files)
    plan = told["dca_plan"]
    assert (plan["status"], plan["dagster/row_count"], plan["decision"]) == ("PLANNED", 2, "core.2026-01-05")
    assert version(records, "dca_plan", KEY) == plan["plan_hash"] and "$7,000.00" in plan["legs"]
    assert "data:image/png" in plan["weights"] and "data:image/png" in told["attribution_report"]["shares"]
    assert told["dca_orders"]["status"] == "DONE" and "FILLED" in told["dca_orders"]["orders"]
    assert told["closing_reconciliation"]["verdict"] == "clean"
    assert told["trade_entries"]["dagster/row_count"] == 2 and told["strategy_lots"]["dagster/row_count"] == 2
    assert "core" in told["strategy_performance"]["strategies"]
    for name in ("decided", *GUARDRAILS):
        passed = name not in ("large_order", *NOT_ASKED)  # what was not asked is no green check
        assert checks(records, "dca_plan", name) == {KEY: passed}
    for asset, name in (
        ("strategy_lots", "adds_up"), ("strategy_lots", "attributed"), ("attribution_report", "equals_the_broker"),
        ("closing_reconciliation", "no_breaks"),
    ):  # fmt: skip
        assert checks(records, asset, name) == {ACCOUNT: True}
    report = json.loads((traded.data / "live" / "local" / SESSION / "attribution_report.json").read_text())
    assert report["VTI"]["quantity"] == "28" and report["VTI"]["agrees"] is True
    run = json.loads((traded.data / "live" / "local" / SESSION / "core" / "run_core.json").read_text())
    assert run["status"] == "FILLED" and run["plan_hash"] == plan["plan_hash"]


def test_the_run_again_and_a_back_fill_over_past_sessions_buy_nothing(records, traded, served) -> None:
    assert trade(records, traded).success
    assert trade(records, traded).success and len(served.sent()) == 2
    assert metadata(records, "dca_plan", KEY)["status"] == "PLANNED, done already"
    past = ["2025-12-30", "2025-12-31", BEFORE]
    records.add_dynamic_partitions(SESSIONS, past)
    assert [trade(records, traded, session, tags={"dagster/backfill": "all"}).success for session in past] == [
        False
    ] * 3
    assert len(served.sent()) == 2 and kinds(traded).count("FILLED") == 2


def test_a_guardrail_fails_its_check_and_the_orders_are_never_made(records, traded, served) -> None:
    write(traded, guardrails={"dailySpendLimit": 500})
    assert not trade(records, traded).success
    assert checks(records, "dca_plan", "daily_spend") == {KEY: False}
    assert checks(records, "dca_plan", "position_limit") == {KEY: True}
    assert materialized(records, "dca_orders") == set() and served.sent() == []
    assert kinds(traded)[-1] == "BLOCKED"


def test_nothing_to_do_is_a_success_that_says_so(records, traded, served) -> None:
    write(traded, minInvestAmountUsd=10_500, maxInvestAmountUsd=20_000)
    assert trade(records, traded).success and served.sent() == []
    assert metadata(records, "dca_orders", KEY)["status"] == "NO_ACTION"
    assert "BELOW_MIN_INVEST" in metadata(records, "dca_plan", KEY)["why"]


def test_a_break_stops_the_plan(records, traded, served) -> None:
    served.admin.cash("9990")
    assert not trade(records, traded).success
    assert materialized(records, "dca_plan") == set() and "DECIDED" not in kinds(traded)
    assert checks(records, "reconciliation", "no_breaks") == {ACCOUNT: False}


def test_a_decision_that_was_changed_on_its_way_is_not_sent(records, traded, served) -> None:
    config = {"ops": {"dca_plan": {"config": {"dry_run": True}}}}
    assert not trade(records, traded, run_config=config).success  # shown only: it is not to be sent
    from ledger_pipeline.defs import decisions

    def alone(*names: str) -> bool:
        return dg.materialize(
            [getattr(decisions, name) for name in DECIDED], selection=list(names), instance=records, resources=resources(traded),
            partition_key=live_key("core", SESSION), raise_on_error=False,
        ).success  # fmt: skip

    assert alone("dca_plan")
    path = traded.data / "live" / "local" / SESSION / "core" / "decision_core.json"
    told = json.loads(path.read_text())
    told["evidence"]["account"]["cash"] = "20000"
    path.write_text(json.dumps(told))
    assert not alone("dca_orders") and served.sent() == []
    assert alone("dca_plan", "dca_orders") and len(served.sent()) == 2


def test_the_account_is_one_however_many_deployments_trade_in_it(records, traded, served) -> None:
    write(traded, name="more")
    deploy_policy(traded, "more", capital=Decimal(2000))
    records.add_dynamic_partitions(POLICIES, ["more"])
    assert trade(records, traded).success and trade(records, traded, name="more").success
    assert materialized(records, "dca_plan") == {KEY, f"more|{SESSION}"}
    for asset in ("broker_account", "reconciliation", "closing_reconciliation"):
        assert materialized(records, asset) == {ACCOUNT}
    assert metadata(records, "broker_account", ACCOUNT)["cash"] != "10000"  # as the second found it


def test_a_book_is_no_deployment(records, traded, served) -> None:
    records.add_dynamic_partitions(POLICIES, ["local"])
    assert not trade(records, traded, name="local").success and served.sent() == []


def test_the_tables_of_a_past_session_are_made_without_a_broker(records, traded, served, monkeypatch) -> None:
    assert trade(records, traded).success
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    assert run_job(records, traded, "attribute_session", partition_key=account_key("local", SESSION)).success
    told = metadata(records, "live_ledger", ACCOUNT)
    assert told["broker"].startswith("not asked") and told["appended"] == 0
    assert metadata(records, "strategy_performance", ACCOUNT)["dagster/row_count"] == 1


def test_a_promoted_strategy_is_one_lineage_too(studio: Studio) -> None:  # noqa: F811
    studio.deploy("keep")
    studio.served.admin.until("open")
    with instance(studio.project) as records:
        records.add_dynamic_partitions(STRATEGIES, ["keep"])
        records.add_dynamic_partitions(SESSIONS, ["2026-01-06"])
        key = live_key("keep", "2026-01-06")
        for _ in range(2):
            assert run_job(records, studio.project, "trade_strategy", partition_key=key).success
        assert len(studio.served.sent()) == 1
        told = metadata(records, "live_snapshot", str(key))
        assert told["pulse"] == "2026-01-05" and told["snapshot_hash"] == version(records, "live_snapshot", str(key))
        assert metadata(records, "strategy_orders", str(key))["status"] == "DONE"
        account = account_key("local", "2026-01-06")
        assert run_job(records, studio.project, "attribute_session", partition_key=account).success
        assert checks(records, "attribution_report", "equals_the_broker") == {str(account): True}
        studio.served.admin.by(600)
        request = tick(records, studio.project, trade_strategies, "2026-01-06 09:40")
        assert isinstance(request, dg.SkipReason) and "decided already" in request.skip_message


def test_bars_that_block_are_told_in_the_book_and_by_the_check(studio: Studio) -> None:  # noqa: F811
    halved = studio.snapshot.bars.assign(symbol=lambda frame: frame["symbol"].astype(str))
    halved.loc[halved["symbol"] == "VTI", ["open", "high", "low", "close"]] /= 2
    import ledger_pipeline as lp

    studio.deploy("keep", snapshot=lp.seal(halved, snapshot_id="halved", root=studio.project.snapshots))
    studio.served.admin.until("open")
    with instance(studio.project) as records:
        records.add_dynamic_partitions(STRATEGIES, ["keep"])
        records.add_dynamic_partitions(SESSIONS, ["2026-01-06"])
        key = live_key("keep", "2026-01-06")
        assert not run_job(records, studio.project, "trade_strategy", partition_key=key).success
        assert checks(records, "live_snapshot", "live_quality") == {str(key): False}
        assert materialized(records, "strategy_decision") == set() and studio.served.sent() == []
    assert kinds(studio.project)[-1] == "BLOCKED"


# Schedules and sensors


def tick(records, project, schedule, moment: str):
    at = datetime.fromisoformat(moment).replace(tzinfo=NEW_YORK)
    return schedule(
        dg.build_schedule_context(instance=records, scheduled_execution_time=at, resources=resources(project))
    )


def test_the_schedule_asks_once_for_a_due_session_and_twice_changes_nothing(records, traded, served) -> None:
    served.admin.to("2026-01-06T14:35:00Z")
    early = tick(records, traded, trade_policies, "2026-01-06 09:35")
    assert (
        isinstance(early, dg.SkipReason)
        and "core: 2026-01-06: it decides from 14:40 to 20:55 UTC" in early.skip_message
    )
    served.admin.to("2026-01-06T14:40:00Z")
    first, again = (tick(records, traded, trade_policies, "2026-01-06 09:40") for _ in range(2))
    (request,), (other,) = first, again
    assert (request.run_key, request.partition_key) == (other.run_key, "core|2026-01-06")
    assert {request.partition_key for request in first} == {"core|2026-01-06"}  # the other templates are monthly
    served.admin.price("VTI", 250)
    served.admin.price("VXUS", 60)
    for _ in range(2):  # as two daemons without a common record would
        assert trade(records, traded, "2026-01-06").success
    assert len(served.sent()) == 2
    later = tick(records, traded, trade_policies, "2026-01-06 09:45")
    assert isinstance(later, dg.SkipReason) and "decided already" in later.skip_message


def asked(records, project, moment: str) -> dict[str, str] | str:
    """The tags of the run that a tick asks for `core`, and why it asks for none."""
    found = tick(records, project, trade_policies, moment)
    if isinstance(found, dg.SkipReason):
        return found.skip_message
    (request,) = found
    return dict(request.tags)


def test_a_blocked_session_is_tried_again_paced_and_told_once_until_it_buys(records, traded, served) -> None:
    served.admin.to("2026-01-06T14:40:00Z")  # nobody has traded VTI today: its last price is a day old
    first = asked(records, traded, "2026-01-06 09:40")
    assert first["attempt"] == "1" and first["book"] == "local"
    assert not trade(records, traded, "2026-01-06", tags=first).success and served.sent() == []
    assert "attempt 1 was made at 14:40, the next is at 14:45 UTC" in asked(records, traded, "2026-01-06 09:40")
    served.admin.to("2026-01-06T14:45:00Z")
    second = asked(records, traded, "2026-01-06 09:45")
    assert second["attempt"] == "2"
    assert not trade(records, traded, "2026-01-06", tags=second).success
    assert kinds(traded).count("BLOCKED") == 1  # the same reason again is no second row
    served.admin.to("2026-01-06T14:50:00Z")
    assert "the next is at 14:55 UTC" in asked(records, traded, "2026-01-06 09:50")  # the pauses grow
    served.admin.to("2026-01-06T14:55:00Z")
    for symbol, price in (("VTI", 250), ("VXUS", 60)):
        served.admin.price(symbol, price)
    third = asked(records, traded, "2026-01-06 09:55")
    assert trade(records, traded, "2026-01-06", tags=third).success and len(served.sent()) == 2
    assert "decided already" in asked(records, traded, "2026-01-06 10:00")


def test_attempts_end_and_the_next_session_goes_on(records, traded, served) -> None:
    served.admin.to("2026-01-06T14:40:00Z")
    tags = asked(records, traded, "2026-01-06 09:40")
    for number in range(ATTEMPTS):
        records.add_run(
            dg.DagsterRun("trade_policy", run_id=f"{number:032d}", status=dg.DagsterRunStatus.FAILURE, tags=tags)
        )
    served.admin.to("2026-01-06T20:30:00Z")
    assert "20 attempts were made; the next session goes on" in asked(records, traded, "2026-01-06 15:30")
    served.admin.to("2026-01-07T14:40:00Z")
    assert asked(records, traded, "2026-01-07 09:40")["attempt"] == "1"


def test_an_attempt_under_way_is_waited_for(records, traded, served) -> None:
    served.admin.to("2026-01-06T14:40:00Z")
    tags = asked(records, traded, "2026-01-06 09:40")
    records.add_run(dg.DagsterRun("trade_policy", run_id="1" * 32, status=dg.DagsterRunStatus.STARTED, tags=tags))
    served.admin.to("2026-01-06T15:40:00Z")
    assert "attempt 1 is under way" in asked(records, traded, "2026-01-06 10:40")


def test_a_run_that_was_made_and_never_begun_holds_nothing_up(records, traded, served) -> None:
    """What makes a run may be killed before it hands the run on; no monitoring looks at such a run."""
    served.admin.to("2026-01-06T14:40:00Z")
    tags = asked(records, traded, "2026-01-06 09:40")
    records.add_run(dg.DagsterRun("trade_policy", run_id="1" * 32, status=dg.DagsterRunStatus.NOT_STARTED, tags=tags))
    assert "attempt 1 is under way" in asked(records, traded, "2026-01-06 09:40")  # it may be handed on just now
    served.admin.to("2026-01-06T14:45:00Z")
    assert asked(records, traded, "2026-01-06 09:45")["attempt"] == "2"
    assert records.get_run_by_id("1" * 32).status == dg.DagsterRunStatus.FAILURE


def test_a_decision_that_was_interrupted_is_finished(records, traded, served, monkeypatch) -> None:
    """The first order is sent, the second one only intended when the process ends."""
    served.admin.to("2026-01-06T14:40:00Z")
    for symbol, price in (("VTI", 250), ("VXUS", 60)):
        served.admin.price(symbol, price)
    from ledger_pipeline.trading.orders import executor

    real, sent = executor.send, []

    def once(sender, order) -> None:
        if sent:
            raise RuntimeError("the process ends here")
        sent.append(order)
        real(sender, order)

    with monkeypatch.context() as patched:
        patched.setattr(executor, "send", once)
        asked(records, traded, "2026-01-06 09:40")
        assert not trade(records, traded, "2026-01-06").success
    assert len(served.sent()) == 1
    served.admin.to("2026-01-06T14:45:00Z")
    told = asked(records, traded, "2026-01-06 09:45")
    assert "the orders of core.2026-01-06 are not settled" in told["why"]
    for symbol, price in (("VTI", 250), ("VXUS", 60)):
        served.admin.price(symbol, price)
    assert trade(records, traded, "2026-01-06", tags=told).success
    assert len(served.sent()) == 2 and kinds(traded).count("DECIDED") == 1


def test_an_untradable_target_stops_no_other(records, traded, served) -> None:
    served.admin.asset("VXUS", tradable=False)
    trade(records, traded)
    assert len(served.sent()) == 1 and ("core", "VTI") in read_book(traded).state.positions
    told = [event for event in read_book(traded).events(kinds=("BLOCKED",))]
    assert [(event.symbol, event.reasons) for event in told] == [("VXUS", ("NOT_TRADABLE",))]
    trade(records, traded)
    assert kinds(traded).count("BLOCKED") == 1 and len(served.sent()) == 1


def test_the_status_is_an_asset_whose_check_goes_by_the_calendar(records, traded, served) -> None:
    def look() -> tuple[dict, bool]:
        assert run_job(records, traded, "report_status").success
        wanted = dg.AssetKey("trading_status")
        event = records.fetch_materializations(wanted, limit=1).records[0].asset_materialization
        row = records.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(wanted, "on_time"), limit=1)
        return event.metadata["statuses"].value[0], row[0].event.dagster_event.event_specific_data.passed

    trade(records, traded)
    told, on_time = look()
    assert told["name"] == "core" and told["last_bought"] == SESSION and on_time
    served.admin.to("2026-01-11T15:00:00Z")  # a Sunday, after four sessions that nobody traded
    told, on_time = look()
    assert "Sunday" in told["due"]
    served.admin.cash("9990")
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile
    from ledger_pipeline.trading.session_context import open_session

    with open_session(traded) as session_context:
        reconcile(session_context.book, session_context.broker)
    told, on_time = look()
    assert any("BREAK" in text for text in told["stopped_by"]) and not on_time


def test_a_sunday_says_that_it_is_sunday(records, traded, served) -> None:
    served.admin.to("2026-01-11T15:00:00Z")
    assert "core: Sunday, 2026-01-11, is no session of XNYS" in asked(records, traded, "2026-01-09 10:00")


def test_one_faulty_file_stops_no_other_deployment(records, traded, served) -> None:
    (traded.strategies / "deployments" / "bad.yaml").write_text("policy: [\n")
    served.admin.to("2026-01-06T14:40:00Z")
    assert asked(records, traded, "2026-01-06 09:40")["deployment"] == "core"


def test_a_scheduler_that_was_down_catches_up_within_the_session(records, traded, served) -> None:
    served.admin.to("2026-01-06T19:00:00Z")
    (request,) = tick(records, traded, trade_policies, "2026-01-06 14:00")
    assert request.run_key == "core 2026-01-06 1 14:00"
    served.admin.to("2026-01-06T20:56:00Z")
    assert isinstance(tick(records, traded, trade_policies, "2026-01-06 15:56"), dg.SkipReason)


def test_what_cannot_be_reached_is_skipped_with_its_reason(records, traded, served, monkeypatch) -> None:
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    assert isinstance(tick(records, traded, trade_policies, "2026-01-06 09:40"), dg.SkipReason)


def test_attribution_starts_when_fills_arrive(records, traded, served) -> None:
    def ask(cursor: str | None):
        return attribute_fills(dg.build_sensor_context(instance=records, resources=resources(traded), cursor=cursor))

    first = ask(None)
    assert isinstance(first, dg.SkipReason) or first.run_requests  # what was adopted may be attributed already
    cursor = None if isinstance(first, dg.SkipReason) else first.cursor
    assert trade(records, traded).success
    found = ask(cursor)
    (request,) = found.run_requests
    assert request.partition_key == f"local|{SESSION}"
    assert run_job(records, traded, "attribute_session", partition_key=account_key("local", SESSION)).success
    assert metadata(records, "strategy_performance", ACCOUNT)["dagster/row_count"] == 1
    assert isinstance(ask(found.cursor), dg.SkipReason)


def test_alerts_are_told_once_and_kept_while_the_webhook_is_down(records, traded, served, monkeypatch) -> None:
    write(traded, guardrails={"dailySpendLimit": 500})
    trade(records, traded)

    def ask(cursor: str | None):
        return alert(dg.build_sensor_context(instance=records, resources=resources(traded), cursor=cursor))

    monkeypatch.setenv("LEDGER_PIPELINE_WEBHOOK", "http://127.0.0.1:9/hook")
    assert isinstance(ask(None), dg.SkipReason)  # no cursor: they are told again
    with listening() as (url, got):
        monkeypatch.setenv("LEDGER_PIPELINE_WEBHOOK", url)
        told = ask(None)
        assert "BLOCKED: DAILY_SPEND" in told.skip_reason.skip_message and len(got) == 1
        assert [row["kind"] for row in got[0]["alerts"]] == ["BLOCKED"]
        assert ask(told.cursor).skip_reason.skip_message == "all is well" and len(got) == 1


def test_the_partitions_follow_the_files(traded) -> None:
    with instance(traded) as records:

        def ask(cursor: str | None):
            return deployments_follow_files(
                dg.build_sensor_context(instance=records, resources=resources(traded), cursor=cursor)
            )

        nothing = ask(None)  # four policies lie there, and nobody deployed them
        assert nothing.dynamic_partitions_requests == [] and nothing.asset_events == []
        write(traded)
        deploy_policy(traded, "core")
        first = ask(None)
        (request,) = first.dynamic_partitions_requests
        assert set(request.partition_keys) == {"core"}
        assert {event.partition for event in first.asset_events} == set(request.partition_keys)
        records.add_dynamic_partitions(POLICIES, request.partition_keys)
        assert ask(first.cursor).skip_reason is not None
        write(traded, targets=[{"symbol": "VTI", "targetWeight": 1}])
        event, _ = ask(first.cursor).asset_events
        assert event.partition == "core" and CORE["targets"] != 1
        records.add_dynamic_partitions(POLICIES, ["balanced"])  # a policy that somebody traded by its name
        assert {event.partition for event in ask(first.cursor).asset_events} == {"core", "balanced"}


def trade_policy_job() -> dg.JobDefinition:
    """The job, for a run that Dagster makes again from its records."""
    return defs().get_repository_def().get_job("trade_policy")


@pytest.mark.parametrize("steps", [None, ["dca_orders"], ["dca_plan*"]], ids=["all", "orders", "from the plan on"])
def test_a_re_execution_buys_nothing_again(records, traded, served, steps) -> None:
    tags = {"dagster/partition": KEY, "dagster/partition/deployment": "core", "dagster/partition/session": SESSION}

    def run(parent: str | None):
        chosen = dg.ReexecutionOptions(parent, step_selection=steps or []) if parent else None
        return dg.execute_job(
            dg.reconstructable(trade_policy_job), instance=records, tags=tags, raise_on_error=False,
            reexecution_options=chosen,
        )  # fmt: skip

    with run(None) as first:
        assert first.success and len(served.sent()) == 2
    with run(first.run_id) as again:
        assert again.success, again.all_events
    assert records.get_run_by_id(again.run_id).parent_run_id == first.run_id
    assert len(served.sent()) == 2 and kinds(traded).count("FILLED") == 2
