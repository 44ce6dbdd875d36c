"""The executor against a broker in memory: each promise by a worked example, then a failure at every single operation.

Assertions are on the fake broker's own record and on the events of the book (`days.checked`), not on what the executor
returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.errors import BrokerError, InputError, IntegrityError, RefusedError, StorageError
from ledger_pipeline.trading import halts
from ledger_pipeline.trading.executor import BLOCKED, DONE, NO_ACTION, OPEN
from ledger_pipeline.trading.gate import Limits
from ledger_pipeline.trading.legs import client_order_id
from ledger_pipeline.trading.submit import Pace
from ledger_pipeline_tests.trading.days import POLICY, Day, Failing, buy, checked, close, intents_seen, sell
from ledger_pipeline_tests.trading.fake import START, Crash, FakeBroker, Fault, Step, tampered

D = Decimal
TODAY = date(2026, 1, 5)
TWO = [buy("VTI", "676"), buy("VXUS", "324")]
SWAP = [buy("VTI", "600"), sell("BND", "3", strategy="UNATTRIBUTED")]


def made(tmp_path: Path, **broker: Any) -> Day:
    """A day whose broker has faults only after the book was opened and reconciled."""
    faults = broker.pop("faults", ())
    day = Day(FakeBroker(**broker), tmp_path).begin()
    day.broker.witness = intents_seen(day)
    day.broker.calls.clear()
    day.broker.faults = faults
    return day


def order_id(symbol: str, side: str = "BUY", attempt: int = 1, place: int = 0) -> str:
    return client_order_id("test", POLICY, TODAY, symbol, side, attempt, place)


def kinds(day: Day, symbol: str | None = None) -> list[str]:
    return [event.kind for event in day.events() if event.order_id and symbol in (None, event.symbol)]


def posts(day: Day) -> list[tuple[str, str, bool]]:
    return [(post.request.side, post.request.symbol, post.effect) for post in day.broker.posts]


def codes(day: Day, kind: str = "BLOCKED") -> list[tuple[str | None, tuple[str, ...]]]:
    return [(event.symbol, event.reasons) for event in day.events(kind)]


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
    assert first.payload["deadline"] == "2026-01-05T20:58:00.000000Z"
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


# The gate


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
    assert day.events("ORDER_INTENDED")[0].payload["deadline"] == "2026-11-27T17:58:00.000000Z"
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
    assert day.events("SUBMIT_UNKNOWN")[0].payload["why"].startswith("it was not sent")
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
    """Between the gate and the POST the process stands still for a minute."""
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
    assert day.events("BLOCKED")[0].payload["why"] == ["MAX_ORDER: it is too large"]
    assert done.status == BLOCKED and seen[0] == ("VTI", "INTENDED", D(10_000))


def test_a_guard_that_cannot_read_blocks(tmp_path: Path) -> None:
    day = made(tmp_path)

    def guard(order: Any, state: Any, account: Any) -> tuple[str, ...]:
        raise BrokerError("prices cannot be read")

    assert day.execute(TWO, guards=[guard]).status == BLOCKED
    assert not day.broker.posts and codes(day)[0][1] == ("GUARD_UNREADABLE",)


# Answers of a submit


def test_a_refusal_is_final_and_the_others_go_on(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "refused")])
    done = day.execute(TWO)
    assert [(order.symbol, order.status, order.reason) for order in done.orders] == [
        ("VTI", "REJECTED", "refused on demand"), ("VXUS", "FILLED", None),
    ]  # fmt: skip
    assert done.status == DONE and day.broker.calls["submit"] == 2
    assert day.events("ORDER_REJECTED")[0].payload["code"] == 40310000 and checked(day) == []


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
@pytest.mark.parametrize("refusals_first", [False, True])
def test_a_lost_answer_is_settled_by_looking_up(tmp_path: Path, kind: str, refusals_first: bool) -> None:
    day = made(tmp_path, faults=[Fault("submit", kind)], refusals_first=refusals_first)
    done = day.execute(TWO)
    assert done.status == DONE and sum(effect for *_, effect in posts(day)) == 2
    vti = kinds(day, "VTI")
    assert "SUBMIT_UNKNOWN" in vti and vti.count("ORDER_SUBMITTED") == (2 if kind == "lost_before" else 1)
    assert checked(day) == []


def test_the_same_id_is_sent_again_only_after_spaced_explicit_answers(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "lost_before", count=1)])
    day.execute([TWO[0]], pace=Pace(lookups=3, lookup_every=2.0))
    submits = [event.occurred_at for event in day.events("ORDER_SUBMITTED")]
    assert len(submits) == 2 and (submits[1] - submits[0]).total_seconds() >= 4.0


def test_an_order_that_shows_up_late_is_adopted_and_not_doubled(tmp_path: Path) -> None:
    """The POST took effect, and the look-ups say for a while that it did not: the resend is a duplicate."""
    day = made(tmp_path, faults=[Fault("submit", "lost_after"), Fault("order_by_client_id", "stale", nth=1, count=9)])
    done = day.execute([TWO[0]])
    assert done.status == DONE and checked(day) == []
    assert [effect for *_, effect in posts(day)] in ([True, False], [True])


def test_a_refusal_of_a_resend_is_not_the_end_of_the_first(tmp_path: Path) -> None:
    """The first POST took effect and was not seen; the resend is refused, for lack of the funds that the first took."""
    day = made(
        tmp_path,
        refusals_first=True,
        plans={"VTI": (Step(after=60.0),)},
        faults=[
            Fault("submit", "lost_after"),
            Fault("submit", "refused", nth=2),
            Fault("order_by_client_id", "stale", nth=1, count=10**6),
        ],
    )

    def appear(operation: str, when: str) -> None:
        if (operation, when) == ("submit", "after") and day.broker.calls["submit"] == 2:
            day.broker.faults = ()

    day.broker.gate = appear
    done = day.execute([buy("VTI", "240")])
    assert [effect for *_, effect in posts(day)] == [True, False]
    assert [order.status for order in done.orders] == ["FILLED"] and checked(day) == []


def test_an_unreadable_lookup_concludes_nothing(tmp_path: Path) -> None:
    day = made(
        tmp_path, faults=[Fault("submit", "lost_after"), Fault("order_by_client_id", "unreadable", nth=2, count=10**6)]
    )
    done = day.execute([TWO[0]], timeout=60)
    assert done.status == OPEN and len(day.broker.posts) == 1
    assert [order.status for order in done.orders] == ["UNKNOWN"]
    assert "could not be read" in done.notes[0]
    day.broker.faults = ()
    assert day.execute([TWO[0]]).status == DONE and checked(day) == []


def test_an_unknown_is_not_sent_again_after_its_deadline(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "lost_before", count=10**6)])
    assert day.execute([TWO[0]], timeout=10).status == OPEN
    day.broker.advance_to(START.replace(hour=20, minute=58, second=0))
    submits = day.broker.calls["submit"]
    done = day.execute([TWO[0]], timeout=60)
    assert day.broker.calls["submit"] == submits and done.orders[0].status == "UNKNOWN"
    done = close(day, [TWO[0]], session=TODAY)
    assert done.status == DONE and done.orders[0].status == "EXPIRED" and done.orders[0].filled == 0
    assert day.broker.calls["submit"] == submits and checked(day) == []


@pytest.mark.parametrize("early", [True, False])
def test_a_duplicate_on_other_terms_halts_the_account(tmp_path: Path, early: bool) -> None:
    """Somebody used this id for another order, before the executor or while it submits: it is neither adopted nor sent
    again.
    """
    day = made(tmp_path)

    def steal(operation: str, when: str) -> None:
        if operation == "submit" and when == "before":
            day.broker.gate = None
            tampered(day.broker.foreign_order("VTI", "BUY", D(1), order_id("VTI")), quantity=D(2))

    if early:
        steal("submit", "before")
    else:
        day.broker.gate = steal
    done = day.execute(TWO, timeout=60)
    assert done.status == BLOCKED
    broken = day.events("BREAK_OPENED")
    assert broken[0].payload["kind"] == "order_mismatch" and broken[0].payload["scope"] == "account"
    assert [effect for *_, effect in posts(day)] == ([] if early else [False])
    assert "BREAK" in dict(codes(day))["VXUS"]  # the other leg found the account halted
    assert day.execute(TWO, timeout=60).status == BLOCKED and len(day.broker.posts) == (not early)
    assert [event.payload["kind"] for event in day.events("BREAK_OPENED")].count("order_mismatch") == 1


def test_a_second_executor_on_the_same_book_only_looks_on(tmp_path: Path) -> None:
    """It starts while the first one waits between its commit and its POST."""
    day = made(tmp_path)
    second: list[Any] = []

    def interrupt(operation: str, when: str) -> None:
        if (operation, when) == ("submit", "before") and not second:
            second.append(None)
            second[0] = day.execute(TWO, timeout=30)

    day.broker.gate = interrupt
    first = day.execute(TWO)
    assert first.status == DONE and second[0] is not None
    assert sum(effect for *_, effect in posts(day)) == 2 and checked(day) == []


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


def test_buys_never_borrow(tmp_path: Path) -> None:
    """A margin account would lend: 10,000 of cash, 12,000 of buys, and the buying power is 40,000."""
    day = made(tmp_path)
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


# A failure at every operation


def scenario(tmp_path: Path, name: str) -> tuple[Day, list]:
    plans = {"VTI": (Step(after=0.5, share=D("0.4"), late=1.0), Step(after=2.0)), "BND": (Step(after=1.0),)}
    day = made(tmp_path / name, holdings={"BND": D(10)}, plans=plans)
    return day, [buy("VTI", "600"), sell("BND", "3", strategy="UNATTRIBUTED"), buy("VXUS", quantity="2")]


FAILURES: dict[str, Callable[[str], BaseException]] = {
    "crash": Crash,
    "error": lambda operation: StorageError("disk full") if operation == "create" else BrokerError("no answer"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_the_nth_operation_loses_and_doubles_nothing(tmp_path: Path, failure: str, when: str) -> None:
    """For n = 1, 2, 3, ... until a run has fewer operations: fail there, then run again with the same arguments."""
    operations = []
    for nth in range(1, 400):
        (tmp_path / str(nth)).mkdir()
        day, legs = scenario(tmp_path, str(nth))
        failing = Failing(nth, FAILURES[failure], when)
        day.broker.gate = day.store.gate = failing
        try:
            day.execute(legs)
        except (Crash, StorageError, BrokerError):
            pass
        day.broker.gate = day.store.gate = None
        done = day.execute(legs)
        where = f"{failure} {when} operation {nth} ({failing.struck})"
        assert done.status == DONE, where
        assert checked(day) == [], where
        assert {order.status for order in done.orders} == {"FILLED"}, where
        assert len(day.broker.orders_by_id) == 3, where
        assert day.reconcile().clean, where
        if not failing.struck:
            break
        operations.append(failing.struck)
    assert not failing.struck, "the run never finished untouched"
    assert set(operations) >= {"create", "submit", "activities", "order_by_client_id", "account", "clock", "asset"}
    assert operations.count("submit") == 3


def test_a_second_executor_at_every_operation_only_looks_on(tmp_path: Path) -> None:
    """For n = 1, 2, 3, ...: at the n-th operation of one process another does the whole decision."""
    for nth in range(1, 400):
        (tmp_path / str(nth)).mkdir()
        day, legs = scenario(tmp_path, str(nth))
        left = [nth]

        def interrupt(operation: str, when: str, day: Day = day, left: list[int] = left, legs: list = legs) -> None:
            if when == "before":
                left[0] -= 1
                if left[0] == 0:
                    left.append(day.execute(legs).status)  # type: ignore[arg-type]

        day.broker.gate = day.store.gate = interrupt
        done = day.execute(legs)
        assert done.status == DONE and left[1:] in ([DONE], []), f"operation {nth}"
        assert len(day.broker.orders_by_id) == 3 and checked(day) == [], f"operation {nth}"
        if len(left) == 1:
            return
    raise AssertionError("the run never finished untouched")


def test_a_crash_at_every_other_operation_still_ends(tmp_path: Path) -> None:
    """Restart after restart, each a little further: every process dies at its fifth operation after its first commit."""
    day, legs = scenario(tmp_path / "", "")
    for _ in range(200):
        failing = Failing(25, Crash, "after")
        day.broker.gate = day.store.gate = failing
        try:
            done = day.execute(legs)
            break
        except Crash:
            continue
    day.broker.gate = day.store.gate = None
    assert done.status == DONE and checked(day) == [] and len(day.broker.orders_by_id) == 3


def test_no_id_or_message_holds_what_it_should_not(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute(TWO)
    for post in day.broker.posts:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,48}", post.request.client_order_id)
