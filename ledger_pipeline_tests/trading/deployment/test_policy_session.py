"""A session of a policy, through the real client against the local exchange: once, whatever happens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from decimal import Decimal

import pytest

from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.project import Project
from ledger_pipeline.trading.crash import VARIABLE
from ledger_pipeline.trading.deployment import decision as decisions
from ledger_pipeline.trading.deployment.decision import Key, history, key_of, record
from ledger_pipeline.trading.deployment.decision_replay import replay
from ledger_pipeline.trading.deployment.deployment import find_deployment
from ledger_pipeline.trading.deployment.session_work import Planned, plan_session, work_session
from ledger_pipeline.trading.orders.execution_context import ExecutionContext, Pace
from ledger_pipeline.trading.orders.executor import Execution
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session, read_book
from ledger_pipeline_tests.cli.console import call
from ledger_pipeline_tests.projects import COMMAND, environment
from ledger_pipeline_tests.trading.contexts import in_context

CORE = {
    "version": 1, "name": "Core DCA", "drift": {"kind": "band", "maxAbsPct": 0.03},
    "targets": [{"symbol": "VTI", "targetWeight": 0.7}, {"symbol": "VXUS", "targetWeight": 0.3}],
}  # fmt: skip
FAST = Pace(poll=0.02)
MUCH = {"dailySpendLimit": 50_000, "maxPriceAgeSeconds": 10_000_000}


def write(project: Project, name: str = "core", **changes) -> None:
    path = project.strategies / "policies" / f"{name}.json"
    path.write_text(json.dumps(CORE | changes))


@pytest.fixture
def core(traded: Project) -> Iterator[Project]:
    """A project whose policy `core` buys 70 and 30."""
    write(traded)
    yield traded


def session(project: Project, name: str = "core", **options) -> tuple[Planned, Execution | None]:
    """Reconcile, plan, and work what is planned."""
    with open_session(project) as context:
        assert reconcile(context.book, context.broker).clean
        deployment = find_deployment(project, name)
        found = plan_session(project, context, deployment, **options)
        if found.decision.status != "PLANNED" or options.get("dry_run"):
            return found, None
        return found, work_session(
            project, context, deployment, found.decision, execution=ExecutionContext(root=project.root, pace=FAST)
        )


def kinds(project: Project) -> list[str]:
    return [event.kind for event in read_book(project).events()]


def test_a_session_buys_once_and_says_what_and_why(core, served) -> None:
    planned, done = session(core)
    assert (planned.resumed, planned.settled, done.status) == (False, False, "DONE")
    assert [(order.symbol, order.notional, order.strategy) for order in done.orders] == [
        ("VTI", Decimal("7000.00"), "core"), ("VXUS", Decimal("3000.00"), "core"),
    ]  # fmt: skip
    again, nothing = session(core)
    assert (again.resumed, again.settled) == (True, True)
    assert again.decision.hash == planned.decision.hash and len(served.sent()) == 2
    decided = [event for event in read_book(core).events() if event.kind == "DECIDED"]
    assert len(decided) == 1 and decided[0].correlation_id == "core.2026-01-05"
    intents = [event for event in read_book(core).events() if event.kind == "ORDER_INTENDED"]
    assert {event.correlation_id for event in intents} == {"core.2026-01-05"}
    assert [event.seq for event in intents] == [decided[0].seq + 1, decided[0].seq + 2]  # one commit


def test_a_dry_run_records_nothing(core, served) -> None:
    before = kinds(core)
    planned, _ = session(core, dry_run=True)
    assert planned.decision.status == "PLANNED" and len(planned.decision.legs) == 2
    assert kinds(core)[len(before) :] == ["RECONCILED"] and served.sent() == []


def test_no_action_is_recorded_once_and_does_not_use_the_day_up(core, served) -> None:
    write(core, minInvestAmountUsd=10_500, maxInvestAmountUsd=20_000)
    for _ in range(2):
        planned, _ = session(core)
        assert planned.decision.status == "NO_ACTION"
        assert planned.decision.reasons[0].startswith("BELOW_MIN_INVEST: ")
    assert kinds(core).count("NO_ACTION") == 1
    served.admin.activity("CSD", "1000")
    planned, done = session(core)
    assert done.status == "DONE" and sum(order.filled_value for order in done.orders) == 11_000


def test_a_guardrail_blocks_with_its_reason_and_the_day_stays_open(core, served) -> None:
    write(core, guardrails={"dailySpendLimit": 500})
    planned, _ = session(core)
    assert planned.decision.status == "BLOCKED" and served.sent() == []
    assert [verdict.guardrail for verdict in planned.decision.verdicts if verdict.blocks] == ["daily_spend"]
    event = [event for event in read_book(core).events() if event.kind == "BLOCKED"][-1]
    assert event.reasons == ("DAILY_SPEND",) and event.correlation_id == "core.2026-01-05"
    write(core)
    assert session(core)[1].status == "DONE" and len(served.sent()) == 2


def test_warn_only_does_not_block(core) -> None:
    write(core, guardrails={"dailySpendLimit": 500, "warnOnly": ["daily_spend", "large_order"]})
    planned, done = session(core)
    assert done.status == "DONE"
    assert {verdict.guardrail for verdict in planned.decision.verdicts if not verdict.passed} == {
        "daily_spend",
        "large_order",
    }


def test_another_policy_in_a_session_that_was_bought_in_is_refused(core, served) -> None:
    session(core)
    served.admin.activity("CSD", "1000")
    write(core, targets=[{"symbol": "VTI", "targetWeight": 0.1}, {"symbol": "VXUS", "targetWeight": 0.9}])
    with pytest.raises(RefusedError, match="was worked in 2026-01-05 already .* has changed since"):
        session(core)
    assert len(served.sent()) == 2


def test_a_person_may_have_it_decide_again_with_a_reason(core, served) -> None:
    write(core, guardrails=MUCH)
    first, _ = session(core)
    served.admin.activity("CSD", "1000")
    second, done = session(core, again="the bonus came in")
    assert second.decision.key == Key("core", first.decision.key.session, 2)
    assert done.status == "DONE" and sum(order.filled_value for order in done.orders) == 1000
    assert len({row["key"] for row in served.sent()}) == 1 and len(served.sent()) == 4
    assert record(read_book(core), second.decision.key)["again"] == "the bonus came in"
    assert second.decision.run_key != first.decision.run_key
    assert session(core)[0].settled


def test_hourly_monthly_and_daily(core, served) -> None:
    write(core, guardrails=MUCH)
    first, _ = session(core, granularity="hourly")
    assert first.decision.key.hour == 12 and first.decision.run_key.startswith("2026-01-05T12-")
    assert session(core, granularity="hourly")[0].settled
    served.admin.to("2026-01-05T18:30:00Z")
    served.admin.activity("CSD", "500")
    second, done = session(core, granularity="hourly")
    assert second.decision.key.hour == 13 and done.status == "DONE" and len(served.sent()) == 4
    served.admin.to("2026-01-06T17:00:00Z")
    served.admin.activity("CSD", "500")
    assert session(core, granularity="monthly")[0].settled and len(served.sent()) == 4
    served.admin.to("2026-02-02T17:00:00Z")
    third, done = session(core, granularity="monthly")
    assert third.decision.run_key.startswith("2026-02-") and done.status == "DONE"
    with pytest.raises(InputError, match="granularity is 'yearly'"):
        session(core, granularity="yearly")


def test_granularities_do_not_buy_beside_each_other(core, served) -> None:
    write(core, guardrails=MUCH)
    session(core, granularity="hourly")
    for other in ("daily", "monthly"):
        assert session(core, granularity=other)[0].settled
    served.admin.to("2026-01-06T17:00:00Z")
    served.admin.activity("CSD", "500")
    assert session(core, granularity="daily")[1].status == "DONE"
    assert session(core, granularity="hourly")[0].settled and len(served.sent()) == 4


def test_orders_sent_by_hand_under_its_name_use_the_period_up(core, served) -> None:
    from ledger_pipeline.trading.orders.executor import execute
    from ledger_pipeline.trading.orders.legs import Leg

    with open_session(core) as context:
        assert reconcile(context.book, context.broker).clean
        legs = [Leg("VTI", "BUY", "core", notional="100.00")]
        execute(
            legs, context.book, context.broker, policy="core", **in_context(root=core.root, environment={}, pace=FAST)
        )
    with pytest.raises(RefusedError, match="sent by hand under core.2026-01-05"):
        session(core)
    assert session(core, again="on purpose")[1].status == "DONE"


@pytest.mark.parametrize(
    ("every", "granularity", "period"),
    [("session", "daily", "2026-01-05"), ("week", "weekly", "2026-W02"), ("month", "monthly", "2026-01"),
     ("quarter", "quarterly", "2026-Q1")],
)  # fmt: skip
def test_the_schedule_of_the_policy_says_how_often(core, every, granularity, period) -> None:
    write(core, schedule={"every": every})
    made = session(core)[0].decision
    assert (made.granularity, made.key.period(granularity)) == (granularity, period)


def test_a_weekly_policy_buys_once_a_week_however_often_it_is_run(core, served) -> None:
    write(core, schedule={"every": "week"}, guardrails=MUCH)
    assert session(core)[1].status == "DONE"
    for moment in ("2026-01-06T17:00:00Z", "2026-01-09T17:00:00Z"):
        served.admin.to(moment)
        assert session(core)[0].settled
    served.admin.to("2026-01-12T17:00:00Z")
    served.admin.activity("CSD", "500")
    assert session(core)[1].status == "DONE" and len(served.sent()) == 4


def test_a_halt_is_told_with_the_decision_and_in_the_history(core) -> None:
    from ledger_pipeline.trading.orders.halts import halt

    write(core, guardrails=MUCH)
    with open_session(core) as context:
        halt(context.book, "strategy:core", "Ada", "on holiday")
    made, done = session(core)
    assert done.status == "BLOCKED" and any("HALTED: strategy:core" in note for note in made.decision.notes)
    with open_session(core) as context:
        (row,) = history(context.book)
    assert row["status"] == "OPEN" and "not sent: HALTED: strategy:core" in row["why"] and "on holiday" in row["why"]


def test_a_record_is_compared_leg_by_leg(core) -> None:
    made = session(core)[0].decision.to_json()
    assert replay(core, made).same
    for path in (("legs", 0), ("evidence", "plan", "legs", 0)):
        bent = json.loads(json.dumps(made))
        part = bent
        for step in path:
            part = part[step]
        part["notional"] = "1.00"
        assert not replay(core, bent).same, path


def test_the_id_of_a_day_that_is_none_is_no_decision() -> None:
    for text in ("core.2026-02-30", "core.2026-13-01", "core.2026-01-99"):
        assert key_of(text) is None


def test_what_is_held_without_a_price_blocks(core, served) -> None:
    served.admin.position("GLD", "3")
    with open_session(core) as context:
        found = plan_session(core, context, find_deployment(core, "core"), dry_run=True)
    assert found.decision.status == "PLANNED"  # the book does not hold it: that is a break, not a holding
    from ledger_pipeline.trading.reconciliation.override import override

    with open_session(core) as context:
        broken = reconcile(context.book, context.broker)
        (item,) = broken.breaks
        override(
            context.book, by="Ada", reason="a transfer", break_id=item.break_id, position=("GLD", "UNATTRIBUTED", Decimal(3)),
            price=Decimal(180),
        )  # fmt: skip
        found = plan_session(core, context, find_deployment(core, "core"), dry_run=True)
    assert found.decision.status == "BLOCKED" and found.decision.reasons[0].startswith("HOLDING_WITHOUT_PRICE: GLD")


def test_the_record_holds_everything_and_is_decided_again_from_itself(core) -> None:
    planned, _ = session(core)
    told = json.loads(json.dumps(record(read_book(core), planned.decision.key)))
    assert told["run_key"].startswith("2026-01-05-") and told["plan_hash"] == planned.decision.hash
    assert (told["status"], told["decided"], told["executed"], told["dry_run"]) == ("FILLED", "PLANNED", True, False)
    assert told["execution"]["orders_placed"] == 2 and len(told["execution"]["order_ids"]) == 2
    assert told["evidence"]["policy"]["targets"] == [
        {"symbol": "VTI", "targetWeight": "0.7"}, {"symbol": "VXUS", "targetWeight": "0.3"},
    ]  # fmt: skip
    assert told["evidence"]["trades"]["VTI"]["price"] == "250" and told["evidence"]["account"]["cash"] == "10000"
    names = [event["name"] for event in told["metrics"]["events"]]
    assert names[:6] == [
        "policy_load_start", "policy_load_complete", "allocation_start", "allocation_complete", "safety_checks_start",
        "safety_checks_complete",
    ]  # fmt: skip
    assert names.count("filled") == 2 and names.index("order_submitted") > names.index("safety_checks_complete")
    elapsed = [event["elapsed"] for event in told["metrics"]["events"][:6]]
    assert elapsed == sorted(elapsed)
    assert replay(core, told).same
    changed = json.loads(json.dumps(told))
    changed["evidence"]["account"]["cash"] = "9999"
    assert not replay(core, changed).same
    with pytest.raises(InputError, match="no run record"):
        replay(core, {"plan": 1})


def test_history_shows_what_was_decided_the_newest_first(core, served) -> None:
    session(core)
    served.admin.to("2026-01-06T17:00:00Z")
    session(core)
    rows = history(read_book(core))
    assert [(row["session"], row["status"], row["orders"]) for row in rows] == [
        ("2026-01-06", "NO_ACTION", 0), ("2026-01-05", "FILLED", 2),
    ]  # fmt: skip
    assert "BELOW_MIN_INVEST" in rows[0]["why"] and rows[1]["filled"] == "10000"
    assert len(history(read_book(core), "core", 1)) == 1 and history(read_book(core), "other") == []
    with pytest.raises(InputError, match="limit is 0"):
        history(read_book(core), limit=0)


@pytest.mark.parametrize(
    "point",
    [
        "after_submit",
        *(
            pytest.param(name, marks=pytest.mark.campaign)
            for name in ("before_intent", "after_intent", "before_submit", "before_ack", "after_ack")
        ),
    ],
)
def test_a_run_that_is_killed_goes_on_and_buys_once(core, served, point) -> None:
    command = [str(COMMAND), "dca", "run", "--policy", "core", "--execute", "--json"]
    where = {
        "env": environment(core) | {VARIABLE: point},
        "cwd": core.root,
        "capture_output": True,
        "text": True,
        "timeout": 120,
    }
    killed = subprocess.run(command, **where)
    assert killed.returncode == 137, killed.stderr
    done = call(*command[1:])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "FILLED" and told["outcome"] == "DONE"
    assert kinds(core).count("DECIDED") == 1 and kinds(core).count("FILLED") == 2
    assert sorted(order["value"] for order in told["execution"]["orders"]) == ["3000", "7000"]
    assert call(*command[1:]).exit_code == 4
    filled = [
        row for row in served.admin.record("activity", after=served.since) if row["doc"].get("activity_type") == "FILL"
    ]
    assert len(filled) == 2


def test_two_schedulers_at_once_buy_once(core, served) -> None:
    command = [str(COMMAND), "dca", "run", "--policy", "core", "--execute", "--json"]
    both = [
        subprocess.Popen(
            command, env=environment(core), cwd=core.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=180) for process in both]
    codes = sorted(process.returncode for process in both)
    # who saw another write during its reconciliation may have stopped there (7); nobody buys a second time
    assert set(codes) <= {0, 4, 7} and 0 in codes, told
    filled = [
        row for row in served.admin.record("activity", after=served.since) if row["doc"].get("activity_type") == "FILL"
    ]
    assert len(filled) == 2 and kinds(core).count("FILLED") == 2 and kinds(core).count("DECIDED") == 1


def test_the_keys_of_decisions_are_read_back() -> None:
    from datetime import date

    for key in (
        Key("core", date(2026, 1, 5)), Key("a-b_c", date(2026, 1, 5), 3), Key("core", date(2026, 1, 5), 1, 9),
        Key("core", date(2026, 1, 5), 12, 15),
    ):  # fmt: skip
        assert decisions.key_of(key.id) == key
    for text in (None, "", "core", "core.2026-1-5", "core--x.2026-01-05"):
        assert decisions.key_of(text) is None
