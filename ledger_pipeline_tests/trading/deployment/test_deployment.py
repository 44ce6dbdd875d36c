"""Deployment files, what a deployment owns, and when it is due: refused at load, or worked by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest

from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.events import Event
from ledger_pipeline.core.times import end_of
from ledger_pipeline.project import Project
from ledger_pipeline.trading.deployment.deployment import (
    Deployment,
    Lineage,
    Promoted,
    books_of,
    deployment_names,
    describe,
    find_deployment,
    schedule_of,
    write_deployment,
)
from ledger_pipeline.trading.deployment.due import due, late, missed
from ledger_pipeline.trading.deployment.owned import move, moves, owned
from ledger_pipeline.trading.planning.policy import Guardrails, Schedule
from ledger_pipeline.trading.planning.schedule import is_due
from ledger_pipeline_tests.book.live import busted, filled
from ledger_pipeline_tests.events import event_of

D = Decimal
WHEN = datetime(2026, 1, 5, 15, tzinfo=UTC)
PINNED = Promoted(
    run="0123456789abcdef0123", by="Ada", reason="why", at="2026-01-05T12:00:00+00:00", experiment_hash="e" * 64,
    source_hash="s" * 64, params_hash="p" * 64, tier=1, engine=1, seed=0, snapshot=Lineage(id="demo", hash="d" * 64),
)  # fmt: skip


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "strategies" / "policies").mkdir(parents=True)
    (tmp_path / "strategies" / "deployments").mkdir()
    policy = {
        "version": 1, "drift": {"kind": "none"}, "targets": [{"symbol": "VTI", "targetWeight": 1}],
        "schedule": {"every": "month", "nth": 2, "minutesAfterOpen": 20},
    }  # fmt: skip
    (tmp_path / "strategies" / "policies" / "core.json").write_text(json.dumps(policy))
    return Project(tmp_path)


def put(project: Project, name: str, text: str) -> None:
    (project.strategies / "deployments" / f"{name}.yaml").write_text(text)


def test_a_file_is_read_back_as_it_was_written(project) -> None:
    for made in (
        Deployment(name="core", policy="core", book="paper-1", mode="paper"),
        Deployment(
            name="sma", experiment="sma", promoted=PINNED, book="local", capital=Decimal("25000.50"), feed="sip", max_jump=0.5,
            schedule=Schedule(every="week", nth=2, minutesAfterOpen=30),
            guardrails=Guardrails(maxPositionPct="0.4", warnOnly=("large_order", "order_count")),
        ),
        Deployment(name="plain", experiment="sma", promoted=PINNED, book="local", schedule=Schedule()),
    ):  # fmt: skip
        write_deployment(project, made)
        assert find_deployment(project, made.name) == made


def test_a_policy_without_a_file_is_a_deployment_of_its_name(project) -> None:
    made = find_deployment(project, "core", "elsewhere")
    assert (made.policy, made.book, made.mode) == ("core", "elsewhere", None)
    assert schedule_of(project, made).nth == 2
    put(project, "core", "policy: core\nbook: paper-1\nmode: paper\nschedule: {every: session}\n")
    made = find_deployment(project, "core", "elsewhere")
    assert (made.book, made.mode, schedule_of(project, made).every) == ("paper-1", "paper", "session")
    assert deployment_names(project) == ["core"] and list(books_of(project)) == ["paper-1"]
    assert describe(project, "core")["book"] == "paper-1"


BAD = {
    "nothing": ("book: x\n", "give either `policy` or `experiment`"),
    "both": ("policy: core\nexperiment: sma\n", "give either `policy` or `experiment`"),
    "not promoted": ("experiment: sma\n", "deployed by `ledger-pipeline promote RUN`"),
    "unknown key": ("policy: core\nbok: x\n", "line 2: bok is no known key; the keys are name, policy"),
    "mode": ("policy: core\nmode: demo\n", "line 2: mode"),
    "capital": ("policy: core\ncapital: -5\n", "line 2: capital"),
    "guardrail": ("policy: core\nguardrails: {max_orders: 3}\n", "line 2: guardrails"),
    "guardrails of a policy": ("policy: core\nguardrails: {max_orders_per_day: 3}\n", "stand in its own file"),
    "schedule": ("policy: core\nschedule: {every: fortnight}\n", "line 2: schedule"),
    "a list": ("- policy\n", "a deployment is a mapping"),
    "twice": ("policy: core\npolicy: other\n", "stands twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_faulty_file_is_refused_with_its_place(project, name) -> None:
    text, words = BAD[name]
    put(project, "core", text)
    with pytest.raises(InputError) as refused:
        find_deployment(project, "core")
    assert "strategies/deployments/core.yaml" in str(refused.value) and words in str(refused.value)


def test_a_faulty_file_hides_no_other(project) -> None:
    put(project, "core", "policy: core\nbook: paper-1\n")
    put(project, "bad", "policy: core\nbok: x\n")
    put(project, "No Id", "policy: core\n")
    assert deployment_names(project) == ["bad", "core"] and list(books_of(project)) == ["paper-1"]


def test_names_that_cannot_be(project) -> None:
    with pytest.raises(NotFoundError, match=r"there is no deployment or policy 'other' .*there are: core"):
        find_deployment(project, "other")
    for name in ("../core", "Core", "a" * 64, "core--2"):
        with pytest.raises(InputError):
            find_deployment(project, name)


# What a deployment owns


def event(kind: str, day: int, **fields) -> Event:
    return event_of(kind=kind, occurred_at=datetime(2026, 1, day, 15, tzinfo=UTC), **fields)


def fill(day: int, strategy: str | None, side: str, quantity: str, cash: str) -> Event:
    return event(
        "FILLED", day, strategy=strategy, symbol="VTI", side=side, quantity=Decimal(quantity), cash_delta=Decimal(cash)
    )


EVENTS = (
    event("OPENED", 5, strategy="UNATTRIBUTED", cash_delta=Decimal(10_000)),
    event("OPENED", 5, strategy="UNATTRIBUTED", symbol="VTI", side="BUY", quantity=Decimal(7)),
    fill(5, "a", "BUY", "4", "-1000"),
    fill(5, "b", "BUY", "2", "-500"),
    event("DIVIDEND", 6, strategy="a", symbol="VTI", quantity=Decimal(4), cash_delta=Decimal("3.20")),
    event("DEPOSITED", 6, cash_delta=Decimal(250)),
    fill(7, "a", "SELL", "1", "260"),
    event("FEE", 7, cash_delta=Decimal("-0.05")),
)


def test_cash_and_shares_worked_by_hand() -> None:
    end = end_of(date(2026, 1, 7))
    a = owned(EVENTS, "a", until=end, capital=Decimal(3000), others={})
    assert (a.cash, a.positions) == (Decimal("2263.20"), {"VTI": 3})  # 3,000 - 1,000 + 3.20 + 260
    b = owned(EVENTS, "b", until=end, others={"a": Decimal(3000)})
    # 10,000 - 1,500 + 3.20 + 250 + 260 - 0.05 in the account, less what a has
    assert (b.cash, b.positions) == (Decimal("9013.15") - Decimal("2263.20"), {"VTI": 2})
    assert b.unattributed == {"VTI": 7}
    assert a.cash + b.cash == sum(e.cash_delta for e in EVENTS if e.cash_delta)


def test_what_came_after_the_session_does_not_count() -> None:
    end = end_of(date(2026, 1, 5))
    assert end == datetime(2026, 1, 6, tzinfo=UTC)
    a = owned(EVENTS, "a", until=end, capital=Decimal(3000), others={})
    assert (a.cash, a.positions) == (Decimal(2000), {"VTI": 4})
    dated = event_of(kind="DIVIDEND", occurred_at=datetime(2026, 1, 6, tzinfo=UTC), strategy="a", cash_delta=Decimal(1))
    assert owned([*EVENTS, dated], "a", until=end, capital=Decimal(3000), others={}).cash == 2000


def test_how_shares_came_about_since_they_were_last_flat() -> None:
    """10 at 100 sold again; 4 at 101 of which the price was corrected to 102, 6 at 103 of which nothing is left after
    its bust, a split of two; 2 of them sold at 60.
    """
    first, sold = filled(1, "f1", "10"), filled(2, "f2", "10", "105", side="SELL")
    wrong, right = filled(3, "f3", "4", "101"), filled(4, "f4", "4", "102", kind="FILL_CORRECTED")
    error = filled(5, "f5", "6", "103")
    split = event("SPLIT", 6, strategy="core", symbol="VTI", side="BUY", quantity=Decimal(4))
    last = filled(7, "f6", "2", "60", side="SELL")
    known = [first, sold, wrong, busted(3, wrong), right, error, busted(5, error), split, last]
    end = end_of(date(2026, 12, 31))
    made = moves(known, str(first.strategy), until=end)
    shown = [(one.side, one.quantity, one.price, one.is_split) for one in made]
    assert shown == [("BUY", 4, 102, False), ("BUY", 4, None, True), ("SELL", 2, 60, False)]
    assert [move(json.loads(json.dumps(one.document))) for one in made] == made
    assert moves(known, "another", until=end) == [] and moves(known[:2], str(first.strategy), until=end) == []


# When it is due


class Silent:
    """A book that has begun, and in which nothing was decided."""

    state = SimpleNamespace(seq=2, orders={})

    def events(self, after: int = 0, kinds=None):
        return iter(())


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DUE = {
    # the second session of a month, from 20 minutes after the open to 5 before the close
    "2026-01-05 14:49": None,  # the 2nd is the first session of January; the 5th the second
    "2026-01-05 14:50": True,
    "2026-01-05 20:54": True,
    "2026-01-05 20:55": None,
    "2026-01-02 15:00": None,  # before its session
    "2026-01-06 15:00": True,  # nothing was bought on the 5th: late, and still due
    "2026-01-30 20:54": True,
    "2026-01-10 15:00": None,  # a Saturday
    "2026-03-03 14:50": True,  # winter time
    "2026-04-02 13:50": True,  # summer time: an hour earlier in UTC
    "2026-04-02 13:49": None,
    "2026-07-02 13:50": True,
    "2026-07-03 14:50": None,  # a holiday
    "2027-01-05 14:50": True,  # the 1st is a holiday and a Friday: the 4th and 5th are the first two
}


@pytest.mark.parametrize("moment", DUE)
def test_a_monthly_policy_is_due_from_its_session_until_it_has_bought(project, moment) -> None:
    now = at(moment)
    made = find_deployment(project, "core")
    is_so, why = due(project, made, Silent(), now, now.date())
    assert is_so == bool(DUE[moment]) and why
    assert ("late since 2026-01-05" in why) == (moment in ("2026-01-06 15:00", "2026-01-30 20:54"))
    if moment == "2026-01-10 15:00":
        assert "Saturday, 2026-01-10, is no session" in why


NOTHING = {
    "no cash": (event_of(kind="NO_ACTION", occurred_at=WHEN, reasons=("NO_CASH",)), True),
    "within its band": (event_of(kind="NO_ACTION", occurred_at=WHEN, reasons=("WITHIN_BAND",)), False),
    "blocked": (event_of(kind="BLOCKED", occurred_at=WHEN, reasons=("STALE_PRICE",)), True),
    "a strategy that holds what it wants": (
        event_of(kind="NO_ACTION", occurred_at=WHEN, reasons=("NO_ORDERS",)),
        False,
    ),
    "a strategy that remembers something": (
        event_of(kind="DECIDED", occurred_at=WHEN, payload={"decision": {}}),
        False,
    ),
}


@pytest.mark.parametrize("what", NOTHING)
def test_only_a_decision_to_buy_nothing_ends_the_period(project, what) -> None:
    event, still_due = NOTHING[what]
    book = open_book(project.books / "asked")
    book.append(
        [event_of(kind="OPENED", occurred_at=WHEN), event_of(kind="DEPOSITED", occurred_at=WHEN, cash_delta=D(1))]
    )
    book.append([replace(event, strategy="core", correlation_id="core.2026-01-05")])
    made = find_deployment(project, "core")
    for moment in ("2026-01-05 15:00", "2026-01-06 15:00", "2026-01-30 15:00"):
        assert due(project, made, book, at(moment), at(moment).date()).now == still_due, moment
    assert due(project, made, book, at("2026-02-03 15:00"), date(2026, 2, 3)).now  # the next period
    assert list(missed(project, made, book, date(2026, 2, 2), date(2026, 1, 1))) == (
        [date(2026, 1, 5)] if still_due else []
    )
    assert late(project, made, book, date(2026, 1, 20)) == (date(2026, 1, 5) if still_due else None)
    assert late(project, made, book, date(2026, 1, 5)) is None  # today it is on time


def test_nothing_is_due_in_a_book_that_nobody_began(project) -> None:
    made, now = find_deployment(project, "core"), at("2026-01-05 14:50")
    assert due(project, made, Silent(), now, now.date())[0]
    is_so, why_not = due(project, made, open_book(project.books / "new"), now, now.date())
    assert not is_so and "`ledger-pipeline book adopt` begins it" in why_not


def test_an_early_close_ends_it_early(project) -> None:
    put(project, "core", "policy: core\nschedule: {every: session}\n")
    made = find_deployment(project, "core")
    thanksgiving, day_after = date(2026, 11, 26), date(2026, 11, 27)
    assert "no session" in due(project, made, Silent(), at("2026-11-26 15:00"), thanksgiving)[1]
    assert due(project, made, Silent(), at("2026-11-27 17:54"), day_after)[0]
    assert not due(project, made, Silent(), at("2026-11-27 17:55"), day_after)[0]  # it closes at 18:00 UTC


def test_what_was_missed_is_every_due_session_without_a_word(project) -> None:
    made = find_deployment(project, "core")
    assert list(missed(project, made, Silent(), date(2026, 4, 15), date(2026, 1, 1))) == [
        date(2026, 1, 5), date(2026, 2, 3), date(2026, 3, 3),
    ]  # fmt: skip
    assert late(project, made, Silent(), date(2026, 4, 15)) == date(2026, 4, 2)  # April is not over


def test_schedules_by_week_month_and_quarter() -> None:
    def days(schedule: Schedule, start: date, end: date) -> list[str]:
        span = (date.fromordinal(day) for day in range(start.toordinal(), end.toordinal() + 1))
        return [day.isoformat() for day in span if is_due(schedule, day)]

    year = date(2026, 1, 1), date(2026, 12, 31)
    assert days(Schedule(every="quarter"), *year) == ["2026-01-02", "2026-04-01", "2026-07-01", "2026-10-01"]
    assert days(Schedule(every="month", nth=66), *year)[:3] == [
        "2026-01-30",
        "2026-02-27",
        "2026-03-31",
    ]  # the last one
    assert days(Schedule(every="week"), date(2026, 1, 15), date(2026, 1, 31)) == ["2026-01-20", "2026-01-26"]
    assert len(days(Schedule(), *year)) == 251
