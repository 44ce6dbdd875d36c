"""What a submit may answer, and how a submit without a clear answer is settled: by looking up, never by guessing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.orders.executor import BLOCKED, DONE, OPEN
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.trading.days import (
    TODAY,
    TWO,
    buy,
    checked,
    close,
    codes,
    kinds,
    made,
    order_id,
    posts,
)
from ledger_pipeline_tests.trading.fake import START, Fault, Step, tampered

D = Decimal


def test_a_refusal_is_final_and_the_others_go_on(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "refused")])
    done = day.execute(TWO)
    assert [(order.symbol, order.status, order.reason) for order in done.orders] == [
        ("VTI", "REJECTED", "refused on demand"), ("VXUS", "FILLED", None),
    ]  # fmt: skip
    assert done.status == DONE and day.broker.calls["submit"] == 2
    assert day.events("ORDER_REJECTED")[0].payload.code == 40310000 and checked(day) == []


def test_a_refusal_that_is_not_true_is_settled_by_what_the_broker_then_reports(tmp_path: Path) -> None:
    day = made(tmp_path, faults=[Fault("submit", "lies")])
    done = day.execute(TWO)
    assert [order.status for order in done.orders] == ["FILLED", "FILLED"] and done.status == DONE
    assert len(posts(day)) == 2 and checked(day) == []


def test_the_fills_of_a_refused_order_that_shows_up_later_settle_it(tmp_path: Path) -> None:
    """The broker denies for a while that it has the order. What was refused stays written; the shares are there."""
    day = made(tmp_path, faults=[Fault("submit", "lies"), Fault("order_by_client_id", "stale", count=10**6)])
    assert day.execute(TWO, timeout=60).orders[0].status == "REJECTED"
    day.broker.faults = ()
    day.broker.advance(60)
    collect(day.book(), day.broker)
    assert reconcile(day.book(), day.broker).clean and checked(day) == []
    order = day.book().state.orders[order_id("VTI")]
    assert (order.status, order.filled) == ("REJECTED", day.book().state.position("VTI")) and order.filled > 0


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


def test_an_unreadable_lookup_concludes_nothing_and_holds_up_everything(tmp_path: Path) -> None:
    faults = [Fault("submit", "lost_after"), Fault("order_by_client_id", "unreadable", nth=3, count=10**6)]
    day = made(tmp_path, faults=faults)
    done = day.execute(TWO, timeout=60)
    assert done.status == OPEN and posts(day) == [("BUY", "VTI", True)]
    assert [order.status for order in done.orders] == ["UNKNOWN", "INTENDED"]
    assert "could not be read" in done.notes[0]
    day.broker.faults = ()
    assert day.execute(TWO).status == DONE and checked(day) == []


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
    assert broken[0].payload.break_kind == "order_mismatch" and broken[0].payload.scope == "account"
    assert [effect for *_, effect in posts(day)] == ([] if early else [False])
    assert "BREAK" in dict(codes(day))["VXUS"]  # the other leg found the account halted
    assert day.execute(TWO, timeout=60).status == BLOCKED and len(day.broker.posts) == (not early)
    assert [event.payload.break_kind for event in day.events("BREAK_OPENED")].count("order_mismatch") == 1


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
