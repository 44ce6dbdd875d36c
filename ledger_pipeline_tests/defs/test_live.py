"""The live assets as Dagster runs them: what they keep, what stops them, and that nothing which makes a run again (a
retry, a re-execution, a back-fill, a second tick, a second daemon, a sensor played again) sends an order again.

The exchange's own record says what was sent.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from ledger_pipeline.definitions import defs
from ledger_pipeline.defs import live
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.live_jobs import poll_fills, reconcile_around_sessions
from ledger_pipeline.defs.partitions import BOOKS, SESSIONS, account_key
from ledger_pipeline.defs.resources import resources
from ledger_pipeline.project import Project
from ledger_pipeline.trading.orders.execution_context import ExecutionContext
from ledger_pipeline.trading.orders.executor import execute
from ledger_pipeline.trading.orders.legs import leg_from_json
from ledger_pipeline.trading.session_context import open_session, read_book, session_file
from ledger_pipeline_tests.defs.records import checks, materialized, metadata, run_job, version
from ledger_pipeline_tests.exchange.server import Served
from ledger_pipeline_tests.projects import COMMAND, environment

SESSION, BEFORE = "2026-01-05", "2026-01-02"
KEY = "local|2026-01-05"
ASSETS = ("broker_account", "reconciliation", "session_orders", "live_ledger", "open_orders", "live_positions")
BUY = {"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "676.00", "reasons": ["DCA"]}
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def records(traded: Project) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the project, with the partitions of two sessions."""
    with instance(traded) as one:
        one.add_dynamic_partitions(BOOKS, ["local"])
        one.add_dynamic_partitions(SESSIONS, [BEFORE, SESSION])
        yield one


def posts(served: Served) -> int:
    """How many submits have reached the exchange since the test began."""
    return len(served.sent())


def config(*legs: dict[str, Any], policy: str = "manual", timeout: float = 30.0) -> dict[str, Any]:
    return {"ops": {"session_orders": {"config": {"legs": list(legs), "policy": policy, "timeout": timeout}}}}


def submit(
    records: dg.DagsterInstance, project: Project, *legs: dict[str, Any], session: str = SESSION, **options: Any
) -> dg.ExecuteInProcessResult:
    """A run of the job submit_orders."""
    run_config = config(*(legs or (BUY,)), **options.pop("settings", {}))
    return run_job(
        records, project, "submit_orders", partition_key=account_key("local", session), run_config=run_config, **options
    )


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What the failed steps of a run said."""
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            told = event.step_failure_data.user_failure_data
            found.append(told.description if told else error.message)
    return found


def kinds(project: Project) -> list[str]:
    return [event.kind for event in read_book(project).events()]


def test_every_asset_keeps_its_file_and_says_what_is_in_it(records, traded, served) -> None:
    result = submit(records, traded, BUY, BUY | {"symbol": "VXUS", "notional": "324.00"})
    assert result.success and posts(served) == 2
    told = {asset: metadata(records, asset, KEY) for asset in ASSETS}
    for asset in ASSETS:
        assert materialized(records, asset) == {KEY}
        assert (traded.data / "live" / "local" / SESSION) in session_file(traded, None, SESSION, "x").parents
        assert session_file(traded, None, SESSION, told[asset]["path"].rpartition("/")[2]).is_file()
        assert len(version(records, asset, KEY)) == 64

    account = told["broker_account"]
    assert (account["cash"], account["blocked"], account["dagster/row_count"]) == ("10000", "no", 0)
    assert account["account"].startswith("exchange EX")
    reconciliation = told["reconciliation"]
    assert reconciliation["verdict"] == "clean" and "cash" in reconciliation["report"]
    assert list(checks(records, "reconciliation", "no_breaks").values()) == [True]
    orders = told["session_orders"]
    assert (orders["status"], orders["dagster/row_count"], orders["notes"]) == ("DONE", 2, "none")
    kept = json.loads(session_file(traded, None, SESSION, "orders_manual.json").read_text())
    assert [row["value"] for row in kept["orders"]] == ["676", "324"]
    ledger = told["live_ledger"]
    book = read_book(traded)
    assert ledger["head"] == book.head.hash and ledger["dagster/row_count"] == book.state.seq
    assert pq.read_table(ledger["path"]).num_rows == book.state.seq
    assert "FILLED" in ledger["events"]
    assert told["open_orders"]["dagster/row_count"] == 0
    positions = json.loads(session_file(traded, None, SESSION, "live_positions.json").read_text())
    assert positions == {
        "cash": "9000",
        "positions": [
            {"quantity": "2.704", "strategy": "core", "symbol": "VTI"},
            {"quantity": "5.4", "strategy": "core", "symbol": "VXUS"},
        ],
    }


def test_an_order_that_is_open_is_shown_and_its_later_fill_taken_in(records, traded, served) -> None:
    served.admin.settings(matching="manual")
    assert submit(records, traded, settings={"timeout": 0.5}).success
    assert metadata(records, "session_orders", KEY)["status"] == "OPEN"
    (waiting,) = json.loads(session_file(traded, None, SESSION, "open_orders.json").read_text())
    assert (waiting["symbol"], waiting["status"]) == ("VTI", "OPEN")
    served.admin.settings(matching="auto")
    served.admin.by(1)
    assert run_job(records, traded, "collect_fills", partition_key=account_key("local", SESSION)).success
    assert metadata(records, "live_ledger", KEY)["appended"] == 1
    assert json.loads(session_file(traded, None, SESSION, "open_orders.json").read_text()) == []
    assert posts(served) == 1


def test_the_job_that_reconciles_sends_nothing(records, traded, served) -> None:
    assert run_job(records, traded, "reconcile_session", partition_key=account_key("local", SESSION)).success
    assert materialized(records, "session_orders") == set() and posts(served) == 0
    assert kinds(traded)[-1] == "RECONCILED"


def test_a_break_fails_the_check_and_no_order_is_sent(records, traded, served) -> None:
    served.admin.cash("9990")
    result = submit(records, traded)
    assert not result.success and posts(served) == 0
    assert list(checks(records, "reconciliation", "no_breaks").values()) == [False]
    assert metadata(records, "reconciliation", KEY)["verdict"] == "1 breaks"
    assert materialized(records, "session_orders") == set()
    assert "ORDER_INTENDED" not in kinds(traded)


def test_what_stops_an_order_is_shown(records, traded, served) -> None:
    (traded.root / "HALT").touch()
    assert submit(records, traded).success
    told = metadata(records, "session_orders", KEY)
    assert told["status"] == "BLOCKED" and "HALT_FILE" in told["notes"] and posts(served) == 0


def test_legs_that_no_broker_takes_fail_the_run(records, traded, served) -> None:
    result = submit(records, traded, BUY | {"notional": "-1"})
    assert not result.success and posts(served) == 0
    assert any("above zero" in text for text in failures(result))


# Row 50: whatever makes a run again.


def test_the_same_run_again_and_another_with_the_same_legs_send_nothing(records, traded, served) -> None:
    first = submit(records, traded)
    events = kinds(traded)
    again = submit(records, traded)
    assert first.success and again.success and first.run_id != again.run_id and posts(served) == 1
    assert [kind for kind in kinds(traded)[len(events) :]] == ["RECONCILED"]


def test_other_legs_for_the_same_decision_are_refused(records, traded, served) -> None:
    assert submit(records, traded).success
    result = submit(records, traded, BUY | {"notional": "10.00"})
    assert not result.success and posts(served) == 1
    assert any("a policy decides once a session" in text for text in failures(result))


TAGS = {
    "dagster/partition": KEY, "dagster/partition/book": "local", "dagster/partition/session": SESSION,
}  # fmt: skip


def submit_orders_job() -> dg.JobDefinition:
    """The job, for a run that Dagster makes again from its records."""
    return defs().get_repository_def().get_job("submit_orders")


def run_again(records: dg.DagsterInstance, parent: str | None, steps: list[str] | None = None):
    """A run as the launcher makes it, or a re-execution of `parent`: of all steps or some."""
    chosen = dg.ReexecutionOptions(parent, step_selection=steps or []) if parent else None
    return dg.execute_job(
        dg.reconstructable(submit_orders_job),
        instance=records,
        run_config=config(BUY),
        tags=TAGS,
        raise_on_error=False,
        reexecution_options=chosen,
    )


@pytest.mark.parametrize("steps", [None, ["session_orders"], ["session_orders*"]], ids=["all", "one", "on"])
def test_a_re_execution_sends_nothing_again(records, traded, served, steps) -> None:
    with run_again(records, None) as first:
        assert first.success
    with run_again(records, first.run_id, steps) as again:
        assert again.success, again.all_events
    assert records.get_run_by_id(again.run_id).parent_run_id == first.run_id
    assert posts(served) == 1 and kinds(traded).count("FILLED") == 1


def test_a_run_that_failed_after_its_orders_is_executed_again_from_there(records, traded, served, monkeypatch) -> None:
    from ledger_pipeline.trading import rows as views

    def broken(order):
        raise OSError("the disk is gone")

    monkeypatch.setattr("ledger_pipeline.trading.orders.executor.order_row", broken)
    with run_again(records, None) as first:
        assert not first.success and posts(served) == 1  # sent and filled, and then the step failed
    monkeypatch.setattr("ledger_pipeline.trading.orders.executor.order_row", views.order_row)
    again = dg.ReexecutionOptions.from_failure(first.run_id, records)
    with dg.execute_job(
        dg.reconstructable(submit_orders_job), instance=records, run_config=config(BUY),
        tags=TAGS, raise_on_error=False, reexecution_options=again,
    ) as done:  # fmt: skip
        assert done.success
        assert {event.step_key for event in done.all_events if event.is_step_start} == set(ASSETS[2:])
    assert posts(served) == 1 and kinds(traded).count("FILLED") == 1


def test_a_past_session_sends_nothing_and_says_so(records, traded, served) -> None:
    before = kinds(traded)
    for session in (BEFORE, "2026-01-06"):
        records.add_dynamic_partitions(SESSIONS, [session])
        result = submit(records, traded, session=session)
        assert not result.success
        (said,) = failures(result)
        assert f"session {session} is not the one that is on" in said and "nothing was sent" in said
    assert posts(served) == 0 and kinds(traded) == before


def test_session_orders_alone_refuses_a_past_session(records, traded, served) -> None:
    def alone(session: str) -> dg.ExecuteInProcessResult:
        made = [getattr(live, asset) for asset in ASSETS]
        return dg.materialize(
            made, selection=["session_orders"], instance=records, resources=resources(traded),
            partition_key=account_key("local", session),
            run_config=config(BUY), raise_on_error=False,
        )  # fmt: skip

    assert alone(SESSION).success  # nothing was reconciled: it is blocked, and says so
    assert metadata(records, "session_orders", KEY)["status"] == "BLOCKED"
    (said,) = failures(alone(BEFORE))
    assert "a past session sends no order" in said and posts(served) == 0


def test_a_back_fill_over_past_sessions_sends_one_order_at_most(records, traded, served) -> None:
    past = ["2025-12-30", "2025-12-31", BEFORE]
    records.add_dynamic_partitions(SESSIONS, past)
    tags = {"dagster/backfill": "all"}
    done = {session: submit(records, traded, session=session, tags=tags).success for session in (*past, SESSION)}
    assert done == dict.fromkeys(past, False) | {SESSION: True}
    assert posts(served) == 1 and materialized(records, "session_orders") == {KEY}


def test_a_run_over_a_range_of_sessions_sends_nothing(records, traded, served) -> None:
    span = {
        "dagster/asset_partition_range_start": f"local|{BEFORE}", "dagster/asset_partition_range_end": KEY,
    }  # fmt: skip
    result = run_job(records, traded, "submit_orders", tags=span, run_config=config(BUY))
    assert not result.success and posts(served) == 0


def test_what_follows_from_the_book_is_made_again_for_a_past_session(records, traded, served) -> None:
    assert submit(records, traded).success
    served.admin.to("2026-01-06T17:00:00Z")
    records.add_dynamic_partitions(SESSIONS, ["2026-01-06"])
    served.admin.price("VTI", 250)  # the guardrails of `core` hold for orders by hand: yesterday's price is too old
    assert submit(records, traded, session="2026-01-06").success and posts(served) == 2
    before = version(records, "live_positions", KEY)
    (said,) = failures(run_job(records, traded, "reconcile_session", partition_key=account_key("local", SESSION)))
    assert "its materialisation" in said
    assert run_job(records, traded, "collect_fills", partition_key=account_key("local", SESSION)).success
    assert version(records, "live_positions", KEY) == before  # what it held then, not what it holds now
    assert metadata(records, "live_ledger", KEY)["appended"] == 0
    assert json.loads(session_file(traded, None, SESSION, "live_positions.json").read_text())["cash"] == "9324"


def test_two_daemons_that_run_the_same_decision_at_once_send_one_order(traded, served) -> None:
    (traded.root / "legs.json").write_text(json.dumps([BUY, BUY | {"symbol": "VXUS"}]))
    command = [str(COMMAND), "orders", "submit", "legs.json", "--execute", "--json"]
    both = [
        subprocess.Popen(
            command, env=environment(traded), cwd=traded.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert posts(served) == 2, told
    for process, (out, err) in zip(both, told, strict=True):
        # who saw the other write during its reconciliation may have stopped there; nobody sends a second order
        assert process.returncode in (0, 7), err
        if process.returncode == 0:
            assert {order["status"] for order in json.loads(out)["orders"]} == {"FILLED"}
    assert 0 in [process.returncode for process in both]
    events = list(read_book(traded).events())
    assert sum(event.kind == "ORDER_INTENDED" for event in events) == 2
    assert sum(event.kind == "FILLED" for event in events) == 2


# The schedule.


def tick(records: dg.DagsterInstance, project: Project, moment: str) -> dg.RunRequest | dg.SkipReason:
    """What the schedule says at a moment of New York."""
    at = datetime.fromisoformat(moment).replace(tzinfo=NEW_YORK)
    told = reconcile_around_sessions(
        dg.build_schedule_context(instance=records, scheduled_execution_time=at, resources=resources(project))
    )
    return told[0] if isinstance(told, list) else told


TICKS = {
    "2026-01-05 09:00": "2026-01-05 before the open",
    "2026-01-05 13:15": None,
    "2026-01-05 16:15": "2026-01-05 after the close",
    "2026-03-06 09:00": "2026-03-06 before the open",  # the last session in winter time
    "2026-03-09 09:00": "2026-03-09 before the open",  # and the first in summer time: an hour earlier in UTC
    "2026-03-09 16:15": "2026-03-09 after the close",
    "2026-11-02 09:00": "2026-11-02 before the open",  # back to winter time
    "2026-11-26 09:00": None,  # Thanksgiving
    "2026-11-26 16:15": None,
    "2026-11-27 09:00": "2026-11-27 before the open",
    "2026-11-27 13:15": "2026-11-27 after the close",  # closes at 13:00
    "2026-11-27 16:15": None,
    "2026-12-25 09:00": None,
    "2028-02-29 09:00": "2028-02-29 before the open",
}


def test_the_ticks_of_the_schedule(traded) -> None:
    with instance(traded) as records:
        for moment, wanted in TICKS.items():
            told = tick(records, traded, moment)
            if wanted is None:
                assert isinstance(told, dg.SkipReason), moment
            else:
                assert (told.run_key, told.partition_key) == (f"local {wanted}", f"local|{moment[:10]}"), moment
        assert set(records.get_dynamic_partitions(SESSIONS)) == {wanted[:10] for wanted in TICKS.values() if wanted}
        assert "is no session of XNYS" in tick(records, traded, "2026-11-26 09:00").skip_message
        assert "open 14:30 to 18:00 UTC" in tick(records, traded, "2026-11-27 16:15").skip_message


def test_the_hours_of_the_schedule_are_new_yorks() -> None:
    assert reconcile_around_sessions.job_name == "reconcile_session"
    for sunday, moments in {
        datetime(2026, 3, 8, 12, tzinfo=UTC): ["13:00", "17:15", "20:15"],  # summer time begins
        datetime(2026, 11, 1, 12, tzinfo=UTC): ["14:00", "18:15", "21:15"],
    }.items():
        found = schedule_execution_time_iterator(
            sunday.timestamp(), reconcile_around_sessions.cron_schedule, reconcile_around_sessions.execution_timezone
        )
        assert [f"{next(found).astimezone(UTC):%H:%M}" for _ in range(3)] == moments


def test_a_tick_that_comes_twice_asks_for_one_run_and_two_runs_change_nothing(records, traded, served) -> None:
    first, second = (tick(records, traded, "2026-01-05 09:00") for _ in range(2))
    assert (first.run_key, first.tags, first.partition_key) == (second.run_key, second.tags, second.partition_key)
    for request in (first, second):  # as two daemons without a common record would
        assert run_job(
            records, traded, "reconcile_session", partition_key=request.partition_key, tags=dict(request.tags)
        ).success
    told = [event for event in read_book(traded).events() if event.kind == "RECONCILED"]
    assert len(told) == 2 and told[0].payload.digest == told[1].payload.digest
    assert posts(served) == 0


# The sensor.


def ask(records: dg.DagsterInstance, project: Project) -> dg.SensorResult | dg.SkipReason:
    return poll_fills(dg.build_sensor_context(instance=records, resources=resources(project)))


def waiting_order(project: Project, served: Served) -> None:
    """An order that is open at the exchange and in the book."""
    from ledger_pipeline.trading.reconciliation.reconcile import reconcile

    served.admin.settings(matching="manual")
    with open_session(project) as context:
        assert reconcile(context.book, context.broker).clean
        execute(
            [leg_from_json(BUY)],
            context.book,
            context.broker,
            policy="manual",
            timeout=0.2,
            context=ExecutionContext(root=project.root),
        )
    assert posts(served) == 1


def test_the_sensor_asks_once_for_new_fills(records, traded, served) -> None:
    assert isinstance(ask(records, traded), dg.SkipReason)
    waiting_order(traded, served)
    told = ask(records, traded)
    assert isinstance(told, dg.SkipReason) and "has everything" in told.skip_message
    (order,) = served.admin.record("order", after=served.since)[-1:]
    served.admin.order(json_id(order), "fill", qty="1", price="250")
    first, replayed = ask(records, traded), ask(records, traded)
    (request,), (again,) = first.run_requests, replayed.run_requests
    assert request.run_key == again.run_key and request.partition_key == KEY  # which Dagster runs once
    for _ in range(2):  # and if it ran twice
        assert run_job(records, traded, "collect_fills", partition_key=request.partition_key).success
    assert kinds(traded).count("FILLED") == 1 and posts(served) == 1
    assert isinstance(ask(records, traded), dg.SkipReason)
    served.admin.order(json_id(order), "fill", qty="1", price="250")
    (later,) = ask(records, traded).run_requests
    assert later.run_key != request.run_key


def json_id(row: dict[str, Any]) -> str:
    """The broker's id of an order in its record."""
    return row["key"]


def test_the_sensor_changes_nothing_itself(records, traded, served) -> None:
    waiting_order(traded, served)
    before = read_book(traded).head
    served.admin.activity("CSD", "50")
    assert len(ask(records, traded).run_requests) == 1
    assert read_book(traded).head == before


@pytest.mark.parametrize("fault", ["no exchange", "wrong keys", "no book"])
def test_the_sensor_skips_with_a_reason_when_it_cannot_ask(records, traded, served, monkeypatch, fault) -> None:
    if fault == "no exchange":
        monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    elif fault == "wrong keys":
        monkeypatch.setenv("EXCHANGE_SECRET", "canary-of-a-secret")
    else:
        monkeypatch.setenv("LEDGER_PIPELINE_BOOK", "Not an id")
    told = ask(records, traded)
    assert isinstance(told, dg.SkipReason) and told.skip_message.startswith("cannot ask: ")
    assert "canary" not in told.skip_message
