"""The executor against a broker in memory: plain days, bad input, fills, and sells before buys.

Assertions are on the fake broker's own record and on the events of the book (`days.checked`), not only on what the
executor returns.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.core.errors import BrokerError, InputError, IntegrityError, RefusedError
from ledger_pipeline.core.times import parse_time
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.orders.executor import BLOCKED, DONE, NO_ACTION, OPEN
from ledger_pipeline.trading.orders.legs import Leg
from ledger_pipeline_tests.trading.days import (
    SWAP,
    TODAY,
    TWO,
    buy,
    checked,
    close,
    codes,
    kinds,
    made,
    posts,
    sell,
)
from ledger_pipeline_tests.trading.fake import Crash, Fault, Step

D = Decimal


# A plain day


def test_two_buys_of_cash_become_two_filled_orders(tmp_path: Path) -> None:
    day = made(tmp_path)
    told: list[str] = []
    done = day.execute(TWO, on_progress=told.append)
    assert (done.status, done.notes, done.decision, done.session) == (DONE, (), "core.2026-01-05", TODAY)
    assert [(order.symbol, order.status, order.filled) for order in done.orders] == [
        ("VTI", "FILLED", D("2.704")), ("VXUS", "FILLED", D("5.4")),
    ]  # fmt: skip
    assert kinds(day, "VTI") == ["ORDER_INTENDED", "ORDER_SUBMITTED", "ORDER_ACKNOWLEDGED", "FILLED"]
    first = next(event for event in day.events("ORDER_INTENDED"))
    assert first.reasons == ("DCA",) and first.correlation_id == "core.2026-01-05"
    assert first.payload.deadline == parse_time("2026-01-05T20:58:00.000000Z")
    assert day.broker.cash == D("9000.00") and checked(day) == []
    assert any(line.endswith("FILLED") for line in told)


def test_all_intents_are_one_commit_before_the_first_post(tmp_path: Path) -> None:
    day = made(tmp_path)
    before = len(day.store.objects)

    def at_submit(operation: str, when: str) -> None:
        if operation == "submit":
            raise Crash(operation)

    day.broker.gate = at_submit
    with pytest.raises(Crash):
        day.execute(TWO)
    assert [event.kind for event in day.events()][-3:] == ["ORDER_INTENDED", "ORDER_INTENDED", "ORDER_SUBMITTED"]
    assert len(day.store.objects) == before + 2


def test_a_repeated_call_sends_nothing_again(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute(TWO)
    events = len(day.events())
    for _ in range(3):
        assert day.execute(TWO).status == DONE
    assert len(day.broker.posts) == 2 and len(day.events()) == events


@pytest.mark.parametrize(
    "other", [[buy("VTI", "677"), TWO[1]], [TWO[0]], [*TWO, buy("BND", "10")], [sell("VTI", "1")], []]
)
def test_the_same_decision_with_other_legs_is_refused(tmp_path: Path, other: list) -> None:
    day = made(tmp_path)
    day.execute(TWO)
    events = len(day.events())
    with pytest.raises(RefusedError, match="with other legs"):
        day.execute(other)
    assert len(day.broker.posts) == 2 and len(day.events()) == events


def test_another_policy_and_the_next_session_decide_anew(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute(TWO)
    assert day.execute([buy("VTI", "100")], policy="satellite").status == DONE
    day.broker.advance(24 * 3600)
    day.reconcile()
    assert day.execute([buy("VTI", "100")]).status == DONE
    assert len(day.broker.posts) == 4 and checked(day) == []


def test_two_strategies_buy_the_same_symbol_in_one_decision(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute([buy("VTI", "100"), buy("VTI", "50", strategy="other")])
    assert [event.strategy for event in day.events("FILLED")] == ["core", "other"]
    assert checked(day) == []


def test_no_legs_is_no_action_with_its_reason_in_the_book(tmp_path: Path) -> None:
    day = made(tmp_path)
    assert day.execute([]).status == NO_ACTION
    assert [(event.kind, event.reasons) for event in day.events()][-1] == ("NO_ACTION", ("NO_LEGS",))
    assert day.execute(TWO).status == DONE  # doing nothing does not use the session up


# Bad input: one sentence, nothing sent, nothing written


@pytest.mark.parametrize(
    "leg, said",
    [(buy("NOPE", "10"), "knows no symbol"), (buy("BND", "10"), "does not trade"), (buy("AAPL", "10"), "whole shares")],
)
def test_a_leg_that_no_broker_takes_writes_nothing(tmp_path: Path, leg: Any, said: str) -> None:
    day = made(tmp_path, untradable=frozenset({"BND"}), whole_shares=frozenset({"AAPL"}))
    events = len(day.events())
    with pytest.raises(InputError, match=said):
        day.execute([*TWO, leg])
    assert len(day.events()) == events and not day.broker.posts


def test_the_account_of_another_book_is_refused(tmp_path: Path) -> None:
    day = made(tmp_path)
    book = day.book()
    day.broker.account_id = "00000000-0000-4000-8000-00000000beef"
    with pytest.raises(IntegrityError, match="bound to account"):
        day.execute(TWO, book)
    day.broker.account_id, day.broker.environment = book.state.account_id, "live"
    with pytest.raises(IntegrityError, match="environment"):
        day.execute(TWO, book)
    assert not day.broker.posts


@pytest.mark.parametrize("operation", ["account", "clock", "calendar", "asset"])
def test_a_broker_that_cannot_be_read_at_the_start(tmp_path: Path, operation: str) -> None:
    day = made(tmp_path, faults=[Fault(operation, "unreadable")])
    events = len(day.events())
    with pytest.raises(BrokerError):
        day.execute(TWO)
    assert len(day.events()) == events and not day.broker.posts
    assert day.execute(TWO).status == DONE


@pytest.mark.parametrize("policy", ["", "Core", "a/b", None])
def test_a_policy_has_an_id(tmp_path: Path, policy: str) -> None:
    with pytest.raises(InputError, match="policy id"):
        made(tmp_path).execute(TWO, policy=policy)


# Fills


def test_partial_and_late_fills_close_the_order_when_they_add_up(tmp_path: Path) -> None:
    plan = (Step(after=1, share=D("0.3")), Step(after=2, share=D("0.3"), late=30.0), Step(after=3))
    day = made(tmp_path, plans={"VTI": plan})
    done = day.execute([TWO[0]])
    assert done.status == DONE and len(done.orders[0].fills) == 3
    assert day.broker.monotonic() >= 30 and checked(day) == []


def test_a_partial_fill_that_is_canceled_keeps_what_it_got(tmp_path: Path) -> None:
    day = made(tmp_path, plans={"VTI": (Step(after=1, share=D("0.25"), late=20.0), Step("cancel", after=2))})
    done = day.execute([TWO[0]])
    assert done.status == DONE and done.orders[0].status == "CANCELED"
    assert done.orders[0].filled == D("0.676") == done.orders[0].final_quantity and checked(day) == []


def test_an_order_that_is_rejected_after_it_was_accepted(tmp_path: Path) -> None:
    day = made(tmp_path, plans={"VTI": (Step("reject", after=1),)})
    done = day.execute(TWO)
    assert [order.status for order in done.orders] == ["REJECTED", "FILLED"] and checked(day) == []


def test_an_order_that_never_fills_is_open_then_expires_with_the_session(tmp_path: Path) -> None:
    day = made(tmp_path, plans={"VTI": (Step(after=5, share=D("0.5")), Step("done_for_day", after=9))})
    done = day.execute([TWO[0]], timeout=60)
    assert done.status == OPEN and done.orders[0].status == "PARTIALLY_FILLED" and "call again" in done.notes[-1]
    done = close(day, [TWO[0]], session=TODAY)
    assert done.status == DONE and done.orders[0].status == "EXPIRED" and done.orders[0].filled == D("1.352")
    assert checked(day) == []


def test_a_stream_that_is_silent_loses_nothing(tmp_path: Path) -> None:
    day = made(tmp_path, stream=False, plans={"VTI": (Step(after=7),)})
    assert day.execute(TWO).status == DONE and checked(day) == []


def test_reading_slows_down_while_nothing_happens(tmp_path: Path) -> None:
    day = made(tmp_path, stream=False, plans={"VTI": (Step("new"),)})
    day.execute([TWO[0]], timeout=600)
    calls = sum(count for name, count in day.broker.calls.items() if name != "wait_for_update")
    assert calls < 600 / 60 * 30  # far below what the broker allows (200 a minute)


# Sells before buys


def test_buys_wait_for_the_sells(tmp_path: Path) -> None:
    day = made(
        tmp_path, cash=D(100), holdings={"BND": D(10)}, plans={"BND": (Step(after=30, share=D("0.5")), Step(after=60))}
    )
    done = day.execute([buy("VTI", "250"), sell("BND", "3", strategy="UNATTRIBUTED")])
    assert posts(day) == [("SELL", "BND", True), ("BUY", "VTI", True)]
    assert (day.broker.posts[1].at - day.broker.posts[0].at).total_seconds() > 60
    assert done.status == DONE and checked(day) == []


@pytest.mark.parametrize("cash, buys", [(1000, 1), (500, 0)])
def test_sells_that_fail_leave_the_buys_that_cash_covers(tmp_path: Path, cash: int, buys: int) -> None:
    day = made(tmp_path, cash=D(cash), holdings={"BND": D(10)}, plans={"BND": (Step("reject", after=1),)})
    done = day.execute(SWAP)
    assert len(posts(day)) == 1 + buys
    assert any("came to less than intended" in note for note in done.notes)
    if not buys:
        assert codes(day) == [("VTI", ("INSUFFICIENT_CASH",))] and done.status == BLOCKED
    assert checked(day, settled=bool(buys)) == []


def test_the_rule_may_be_that_no_buy_goes_on(tmp_path: Path) -> None:
    day = made(tmp_path, holdings={"BND": D(10)}, plans={"BND": (Step("reject", after=1),)})
    done = day.execute(SWAP, buys_after_failed_sells="none")
    assert len(posts(day)) == 1 and done.status == BLOCKED and codes(day) == [("VTI", ("SELLS_NOT_SETTLED",))]
    with pytest.raises(InputError):
        day.execute(SWAP, buys_after_failed_sells="some")


def test_a_blocked_sell_is_given_up_at_once(tmp_path: Path) -> None:
    day = made(tmp_path, holdings={"BND": D(10)})
    halts.halt(day.book(), "symbol:BND", "ada", "a test")
    done = day.execute(SWAP)
    assert posts(day) == [("BUY", "VTI", True)] and day.broker.monotonic() < 20
    assert dict(codes(day)) == {"BND": ("HALTED",)} and done.status == BLOCKED


def test_a_sell_that_stays_open_is_given_up_after_a_while(tmp_path: Path) -> None:
    day = made(tmp_path, holdings={"BND": D(10)}, plans={"BND": (Step("new"),)})
    done = day.execute(SWAP, pace=Pace(sells_within=30), timeout=120)
    assert posts(day) == [("SELL", "BND", True), ("BUY", "VTI", True)] and done.status == OPEN
    assert 30 < (day.broker.posts[1].at - day.broker.posts[0].at).total_seconds() < 60


def test_more_is_not_sold_than_is_held(tmp_path: Path) -> None:
    day = made(tmp_path, holdings={"BND": D(2)})
    done = day.execute([sell("BND", "3", strategy="UNATTRIBUTED"), sell("AAPL", "1")])
    assert not day.broker.posts and done.status == BLOCKED and day.broker.monotonic() < 10
    assert dict(codes(day)) == {"BND": ("NOT_HELD",), "AAPL": ("NOT_HELD",)}


def test_a_strategy_never_sells_the_shares_of_another(tmp_path: Path) -> None:
    day = made(tmp_path, holdings={"BND": D(10)})  # adopted: nobody's
    done = day.execute([sell("BND", "3", strategy="core")])
    assert not day.broker.posts and done.status == BLOCKED
    assert codes(day) == [("BND", ("NOT_HELD",))] and "of core can be" in " ".join(done.notes)


@pytest.mark.parametrize(("dollars", "sent"), [("487", True), ("488", False), ("5000", False)])
def test_dollars_sold_are_the_strategy_s_own_shares_too(tmp_path: Path, dollars: str, sent: bool) -> None:
    """core holds 10 BND at 50; with the margin of 2.5 % for a falling price it may sell 487.80 dollars of them. The other
    ten belong to nobody.
    """
    day = made(tmp_path, holdings={"BND": D(10)})
    day.broker.prices["BND"] = D(50)
    day.execute([buy("BND", "500", strategy="core")], policy="first")
    day.broker.posts.clear()
    done = day.execute([Leg("BND", "SELL", "core", notional=D(dollars))])
    assert bool(day.broker.posts) == sent
    if not sent:
        assert codes(day)[-1] == ("BND", ("NOT_HELD",)) and "give a quantity to sell all of them" in " ".join(
            done.notes
        )


def test_buys_never_borrow(tmp_path: Path) -> None:
    """A margin account would lend: 10,000 of cash, 12,000 of buys, and the buying power is 40,000."""
    day = made(tmp_path)
    day.broker.plans["VTI"] = (Step(after=20),)  # until then its cash is there and spoken for
    done = day.execute([buy("VTI", "7000"), buy("VXUS", "5000"), buy("BND", "3000")])
    assert [(symbol, effect) for _, symbol, effect in posts(day)] == [("VTI", True), ("BND", True)]
    assert dict(codes(day)) == {"VXUS": ("INSUFFICIENT_CASH",)} and done.status == BLOCKED
    assert day.broker.cash == 0


def test_buys_that_take_all_the_cash_go_one_after_the_other(tmp_path: Path) -> None:
    day = made(tmp_path)
    assert day.execute([buy("VTI", "5000"), buy("VXUS", "5000")]).status == DONE
    assert day.broker.cash == 0 and checked(day) == []


def test_a_buy_of_shares_needs_a_price_and_room_above_it(tmp_path: Path) -> None:
    day = made(tmp_path, cash=D(1000))
    assert day.execute([buy("VTI", quantity="4")]).status == BLOCKED  # 4 x 250 is all there is
    assert dict(codes(day)) == {"VTI": ("INSUFFICIENT_CASH",)}
    day = made(tmp_path, cash=D(1025))
    assert day.execute([buy("VTI", quantity="4")]).status == DONE


# Ids


def test_no_id_or_message_holds_what_it_should_not(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute(TWO)
    for post in day.broker.posts:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,48}", post.request.client_order_id)
