"""The pre-trade checks and the guards: what keeps an order from being sent, asked before each one, with its reason in the book."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.times import parse_time
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.executor import BLOCKED, DONE, OPEN
from ledger_pipeline.trading.orders.pretrade import Limits
from ledger_pipeline_tests.trading.days import (
    TODAY,
    TWO,
    Day,
    checked,
    codes,
    kinds,
    made,
    posts,
)
from ledger_pipeline_tests.trading.fake import START, FakeBroker

D = Decimal


# The pre-trade checks


def blocked_before_intents(day: Day, code: str, **options: Any) -> None:
    done = day.execute(TWO, **options)
    assert (done.status, done.orders) == (BLOCKED, ())
    assert code in codes(day)[-1][1], codes(day)
    assert day.events("BLOCKED")[-1].correlation_id == done.decision and done.notes
    assert not day.broker.posts and not day.events("ORDER_INTENDED")


def test_halted_nothing_is_intended_and_the_reason_is_in_the_book(tmp_path: Path) -> None:
    day = made(tmp_path)
    (day.root / "HALT").touch()
    blocked_before_intents(day, "HALT_FILE")
    (day.root / "HALT").unlink()
    assert day.execute(TWO).status == DONE


def test_a_book_that_was_never_reconciled_sends_nothing(tmp_path: Path) -> None:
    day = Day(FakeBroker(), tmp_path)
    blocked_before_intents(day, "NOT_RECONCILED")


def test_an_old_reconciliation_blocks(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.broker.advance(20 * 60)
    blocked_before_intents(day, "NOT_RECONCILED")
    assert day.execute(TWO, limits=Limits(reconciled_within=timedelta(hours=1))).status == DONE


def test_an_open_break_blocks(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.broker.cash += 100
    assert not day.reconcile().clean
    blocked_before_intents(day, "BREAK")


def test_a_clock_that_is_off_blocks(tmp_path: Path) -> None:
    day = made(tmp_path, environment="paper", skew=86_400.0)
    blocked_before_intents(day, "CLOCK_SKEW")
    day.broker.skew = 2.0
    assert day.execute(TWO).status == DONE


def test_the_virtual_clock_of_the_exchange_stands_in_for_this_machines(tmp_path: Path) -> None:
    day = made(tmp_path)
    assert day.execute(TWO, now=None).status == DONE
    assert {event.occurred_at.date() for event in day.events()} == {TODAY}


@pytest.mark.parametrize(
    "advance, code",
    [(-60, "MARKET_CLOSED"), (6.5 * 3600 - 60, "DEADLINE"), (6.5 * 3600, "SESSION_OVER")],
)
def test_outside_the_window_nothing_is_sent(tmp_path: Path, advance: float, code: str) -> None:
    day = Day(FakeBroker(start=START + timedelta(seconds=advance)), tmp_path).begin()
    blocked_before_intents(day, code)


def test_a_day_without_a_session(tmp_path: Path) -> None:
    day = Day(FakeBroker(start=START - timedelta(days=1)), tmp_path).begin()
    blocked_before_intents(day, "NO_SESSION")


def test_a_past_session_never_sends(tmp_path: Path) -> None:
    day = Day(FakeBroker(start=START + timedelta(days=1)), tmp_path).begin()
    blocked_before_intents(day, "SESSION_OVER", session=TODAY)


def test_a_past_session_with_intents_ends_them_and_sends_nothing(tmp_path: Path) -> None:
    day = made(tmp_path)
    guard = lambda order, state, account: ("NOT_TODAY: a test",)
    assert day.execute(TWO, guards=[guard]).status == BLOCKED
    day.broker.advance(24 * 3600)
    day.reconcile()
    done = day.execute(TWO, session=TODAY)
    assert [order.status for order in done.orders] == ["EXPIRED", "EXPIRED"] and done.status == DONE
    assert not day.broker.posts and checked(day) == []


def test_an_account_that_the_broker_blocks(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.broker.blocked = ("trading_blocked",)
    blocked_before_intents(day, "ACCOUNT_BLOCKED")


def test_an_early_close_is_the_deadline(tmp_path: Path) -> None:
    day = Day(FakeBroker(start=START.replace(month=11, day=27, hour=17, minute=0)), tmp_path).begin()
    day.execute(TWO)
    assert day.events("ORDER_INTENDED")[0].payload.deadline == parse_time("2026-11-27T17:58:00.000000Z")
    assert checked(day) == []


def test_the_switch_is_read_before_each_submit(tmp_path: Path) -> None:
    day = made(tmp_path)

    def switch(operation: str, when: str) -> None:
        if (operation, when) == ("submit", "after"):
            (day.root / "HALT").touch()

    day.broker.gate = switch
    done = day.execute(TWO)
    assert posts(day) == [("BUY", "VTI", True)]
    assert done.status == BLOCKED and [order.status for order in done.orders] == ["FILLED", "INTENDED"]
    assert codes(day) == [("VXUS", ("HALT_FILE",))]
    (day.root / "HALT").unlink()
    day.broker.gate = None
    assert day.execute(TWO).status == DONE and checked(day) == []


def test_the_switch_is_read_once_more_between_the_commit_and_the_post(tmp_path: Path) -> None:
    day = made(tmp_path)

    def switch(operation: str, when: str) -> None:
        if when == "after" and day.events("ORDER_SUBMITTED"):
            day.environment[halts.VARIABLE] = "global"

    day.store.gate = switch
    done = day.execute(TWO, timeout=30)
    assert not day.broker.posts and done.status == OPEN
    assert day.events("SUBMIT_UNKNOWN")[0].payload.why.startswith("it was not sent")
    day.store.gate = None
    day.environment.clear()
    assert day.execute(TWO).status == DONE
    assert [effect for *_, effect in posts(day)] == [True, True] and checked(day) == []


def test_a_halt_of_one_symbol_stops_one_leg(tmp_path: Path) -> None:
    day = made(tmp_path)
    halts.halt(day.book(), "symbol:VTI", "ada", "a test")
    assert day.execute(TWO).status == BLOCKED
    assert posts(day) == [("BUY", "VXUS", True)] and codes(day) == [("VTI", ("HALTED",))]


def test_a_process_that_was_paused_does_not_send_late(tmp_path: Path) -> None:
    """Between the checks and the POST the process stands still for a minute."""
    day = made(tmp_path)
    paused: list[bool] = []

    def pause(operation: str, when: str) -> None:
        if when == "after" and not paused and day.events("ORDER_SUBMITTED"):
            paused.append(True)
            day.broker.advance(60)

    day.store.gate = pause
    day.execute(TWO, timeout=3)
    assert len(day.broker.posts) <= 1 and kinds(day, "VTI")[:3] == [
        "ORDER_INTENDED",
        "ORDER_SUBMITTED",
        "SUBMIT_UNKNOWN",
    ]
    assert day.execute(TWO).status == DONE and checked(day) == []


# Guards


def test_guards_block_before_the_submit_and_say_why(tmp_path: Path) -> None:
    day = made(tmp_path)
    seen: list[tuple] = []

    def guard(order: Any, state: Any, account: Any) -> tuple[str, ...]:
        seen.append((order.symbol, order.status, account.cash))
        return ("MAX_ORDER: it is too large",) if order.notional > 500 else ()

    done = day.execute(TWO, guards=[guard])
    assert posts(day) == [("BUY", "VXUS", True)] and codes(day) == [("VTI", ("MAX_ORDER",))]
    assert day.events("BLOCKED")[0].payload.why == ("MAX_ORDER: it is too large",)
    assert done.status == BLOCKED and seen[0] == ("VTI", "INTENDED", D(10_000))


def test_a_guard_that_cannot_read_blocks(tmp_path: Path) -> None:
    day = made(tmp_path)

    def guard(order: Any, state: Any, account: Any) -> tuple[str, ...]:
        raise BrokerError("prices cannot be read")

    assert day.execute(TWO, guards=[guard]).status == BLOCKED
    assert not day.broker.posts and codes(day)[0][1] == ("GUARD_UNREADABLE",)
