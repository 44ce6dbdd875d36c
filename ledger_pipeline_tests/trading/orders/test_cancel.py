"""Cancel and replace: a cancel is only a request, fills race it, and what is bought in the end is never more than was
wanted.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.book.orders import Order
from ledger_pipeline.core.errors import BrokerError, InputError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.trading.orders import halts
from ledger_pipeline.trading.orders.cancel import cancel, replace
from ledger_pipeline.trading.orders.executor import BLOCKED, DONE, NO_ACTION, OPEN, Execution
from ledger_pipeline_tests.trading.contexts import in_context
from ledger_pipeline_tests.trading.days import Day, Failing, buy, checked, codes, kinds, made, order_id, sell
from ledger_pipeline_tests.trading.fake import Crash, Fault, Step
from ledger_pipeline_tests.trading.loopback import connected

D = Decimal
RESTING = (Step(after=0.5, share=D("0.25")), Step("new", after=1))  # a quarter, then nothing


def resting(tmp_path: Path, leg: Any = None, **broker: Any) -> Day:
    """A day with an open buy of 8 VTI, of which 2 are filled."""
    day = made(tmp_path, plans=broker.pop("plans", {order_id("VTI"): RESTING}), **broker)
    assert day.execute([leg or buy("VTI", quantity="8")], timeout=10).status == OPEN
    return day


def cancels(day: Day, order: str | None = None, **options: Any) -> Order:
    clocks = {"now": day.broker.local_now, "monotonic": day.broker.monotonic}
    with connected(day.broker) as broker:
        return cancel(day.book(), broker, order or order_id("VTI"), **in_context(**clocks, **options))


def replaces(day: Day, order: str | None = None, **options: Any) -> Execution:
    clocks = {"now": day.broker.local_now, "monotonic": day.broker.monotonic}
    place = {"root": day.root, "environment": day.environment}
    with connected(day.broker) as broker:
        return replace(day.book(), broker, order or order_id("VTI"), **in_context(**place, **clocks, **options))


def bought(day: Day) -> Decimal:
    return day.broker.holdings.get("VTI", D(0))


def test_a_cancel_waits_for_the_end_and_keeps_the_fills(tmp_path: Path) -> None:
    day = resting(tmp_path)
    order = cancels(day)
    assert (order.status, order.filled, order.is_settled) == ("CANCELED", D(2), True)
    events = len(day.events())
    assert cancels(day) == order and len(day.events()) == events and checked(day) == []


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "refused"])
def test_a_cancel_without_a_clear_answer_is_asked_again(tmp_path: Path, fault: str) -> None:
    day = resting(tmp_path)
    day.broker.faults = [Fault("cancel", fault)]
    assert cancels(day).status == "CANCELED" and checked(day) == []


def test_a_cancel_that_comes_too_late_finds_the_order_filled(tmp_path: Path) -> None:
    day = resting(tmp_path)
    day.broker.faults = [Fault("cancel", "race")]
    order = cancels(day)
    assert (order.status, order.filled) == ("FILLED", D(8)) and checked(day) == []


def test_a_cancel_is_not_confirmed_before_late_fills_are_here(tmp_path: Path) -> None:
    day = resting(tmp_path, plans={order_id("VTI"): (Step(after=20, share=D("0.5"), late=30), Step("new", after=21))})
    day.broker.advance(15)
    order = cancels(day, timeout=5)
    assert order.is_open
    order = cancels(day)
    assert (order.status, order.filled) == ("CANCELED", D(4)) and checked(day) == []


def test_cancels_work_while_halted(tmp_path: Path) -> None:
    day = resting(tmp_path)
    halts.halt(day.book(), "global", "ada", "a test")
    (day.root / "HALT").touch()
    assert cancels(day).status == "CANCELED"


def test_an_order_that_was_never_sent_is_canceled_in_the_book(tmp_path: Path) -> None:
    day = made(tmp_path)
    day.execute([buy("VTI", quantity="8")], guards=[lambda *asked: ("NO: a test",)])
    assert cancels(day).status == "CANCELED" and not day.broker.cancels
    assert kinds(day) == ["ORDER_INTENDED", "BLOCKED", "ORDER_CANCELED"]
    assert day.execute([buy("VTI", quantity="8")]).status == DONE and not day.broker.posts


def test_an_order_without_an_answer_is_found_and_canceled(tmp_path: Path) -> None:
    day = made(tmp_path, plans={"VTI": RESTING}, faults=[Fault("submit", "lost_after", count=99)])
    day.broker.gate = lambda operation, when: _crash_after_submit(operation, when)
    with pytest.raises(Crash):
        day.execute([buy("VTI", quantity="8")])
    day.broker.gate = None
    assert cancels(day).status == "CANCELED" and checked(day) == []


def _crash_after_submit(operation: str, when: str) -> None:
    if (operation, when) == ("submit", "after"):
        raise Crash(operation)


def test_what_cannot_be_canceled_is_said(tmp_path: Path) -> None:
    day = resting(tmp_path)
    with pytest.raises(NotFoundError, match="has no order"):
        cancels(day, "core.20260105.VTI.B1.000000000000")
    day.broker.faults = [Fault("cancel", "not_found")]
    with pytest.raises(BrokerError, match="knows no order"):
        cancels(day)


def test_a_replacement_asks_for_what_is_missing(tmp_path: Path) -> None:
    day = resting(tmp_path)
    done = replaces(day)
    assert done.status == DONE and bought(day) == 8
    first, second = done.orders
    assert (first.status, first.filled) == ("CANCELED", D(2))
    assert (second.quantity, second.attempt, second.replaces, second.status) == (D(6), 2, first.order_id, "FILLED")
    assert second.order_id == order_id("VTI", attempt=2) and second.reasons == ("DCA",)
    assert replaces(day).status == DONE and len(day.broker.posts) == 2  # and once only
    assert day.execute([buy("VTI", quantity="8")]).status == DONE and checked(day) == []


def test_a_replacement_of_cash_asks_for_the_cash_that_is_left(tmp_path: Path) -> None:
    day = resting(tmp_path, buy("VTI", "1000"))
    done = replaces(day)
    assert done.orders[1].notional == D("750.00") and bought(day) == 4 and checked(day) == []


@pytest.mark.parametrize("wanted, missing", [("10", "8"), ("5", "3"), ("2.000000001", "0.000000001")])
def test_a_replacement_may_want_another_amount(tmp_path: Path, wanted: str, missing: str) -> None:
    day = resting(tmp_path)
    assert replaces(day, quantity=D(wanted)).orders[1].quantity == D(missing)
    assert bought(day) == D(wanted) and checked(day) == []


@pytest.mark.parametrize("wanted", ["2", "1"])
def test_enough_was_filled_already(tmp_path: Path, wanted: str) -> None:
    day = resting(tmp_path)
    replaces(day, quantity=D(wanted))
    assert bought(day) == 2 and len(day.broker.posts) == 1
    assert codes(day, "NO_ACTION") == [("VTI", ("NOTHING_MISSING",))]


def test_a_cancel_that_lost_the_race_leaves_nothing_to_replace(tmp_path: Path) -> None:
    day = resting(tmp_path)
    day.broker.faults = [Fault("cancel", "race")]
    done = replaces(day)
    assert done.status == DONE and bought(day) == 8 and len(day.broker.posts) == 1 and checked(day) == []


def test_an_order_that_was_rejected_may_be_tried_again(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "refused")])
    day.execute([buy("VTI", quantity="8")])
    assert replaces(day).status == DONE and bought(day) == 8 and checked(day) == []


def test_a_limit_is_moved_by_replacing(tmp_path: Path) -> None:
    leg = buy("VTI", quantity="8", type="limit", limit_price="240")
    day = made(tmp_path)
    assert day.execute([leg], timeout=5).status == OPEN
    done = replaces(day, limit_price=D(251))
    assert done.status == DONE and done.orders[1].limit_price == D(251) and bought(day) == 8


def test_while_halted_nothing_is_canceled_for_a_replacement(tmp_path: Path) -> None:
    day = resting(tmp_path)
    (day.root / "HALT").touch()
    assert replaces(day).status == BLOCKED
    assert not day.broker.cancels and len(day.broker.posts) == 1 and codes(day) == [("VTI", ("HALT_FILE",))]


def test_an_unconfirmed_cancel_buys_nothing(tmp_path: Path) -> None:
    day = resting(tmp_path)
    day.broker.faults = [Fault("cancel", "lost_before", count=10**6)]
    done = replaces(day, timeout=20)
    assert done.status == OPEN and "not confirmed" in done.notes[0] and len(day.broker.posts) == 1
    day.broker.faults = ()
    assert replaces(day).status == DONE and bought(day) == 8 and checked(day) == []


def test_amounts_and_orders_that_cannot_be_replaced(tmp_path: Path) -> None:
    day = resting(tmp_path)
    with pytest.raises(InputError, match="shares"):
        replaces(day, notional=D(100))
    with pytest.raises(InputError, match="limit_price"):
        replaces(day, limit_price=D(100))
    with pytest.raises(NotFoundError):
        replaces(day, "nothing")
    details = {"strategy": "core", "symbol": "VTI", "side": "BUY", "quantity": D(1), "session": "2026-01-05"}
    day.book().record_order("by-hand", details)
    with pytest.raises(RefusedError, match="no decision"):
        replaces(day, "by-hand")
    assert not day.broker.cancels


def test_a_sale_is_replaced_without_selling_more(tmp_path: Path) -> None:
    order = order_id("BND", "SELL")
    day = made(tmp_path, holdings={"BND": D(10)}, plans={order: RESTING})
    day.execute([sell("BND", "8", strategy="UNATTRIBUTED")], timeout=10)
    assert replaces(day, order).status == DONE and day.broker.holdings["BND"] == 2 and checked(day) == []


@pytest.mark.parametrize("race", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_replacement_that_fails_anywhere_never_overbuys(tmp_path: Path, when: str, race: bool) -> None:
    for nth in range(1, 200):
        (tmp_path / str(nth)).mkdir()
        day = resting(tmp_path / str(nth))
        day.broker.faults = [Fault("cancel", "race")] if race else ()
        failing = Failing(
            nth, lambda operation: StorageError("full") if operation == "create" else Crash(operation), when
        )
        day.broker.gate = day.store.gate = failing
        try:
            replaces(day)
        except (Crash, StorageError):
            pass
        day.broker.gate = day.store.gate = None
        done = replaces(day)
        where = f"{when} operation {nth} ({failing.struck})"
        assert done.status in (DONE, NO_ACTION) and bought(day) == 8, where
        assert checked(day) == [], where
        assert sum(post.effect for post in day.broker.posts) == (1 if race else 2), where
        if not failing.struck:
            return
    raise AssertionError("the run never finished untouched")
