"""Orders: every pair of status and event, and histories in every order of arrival."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.book.lifecycle import ORDER_KINDS, STATUSES, TERMINAL, TRANSITIONS
from ledger_pipeline.book.order_rows import order_from_row, order_to_row
from ledger_pipeline.book.orders import fold_order
from ledger_pipeline.book.state import BookState
from ledger_pipeline.core.errors import IntegrityError, RefusedError
from ledger_pipeline.core.events import Event
from ledger_pipeline_tests.book.live import History, at, busted, event, fed, filled, histories, intent, state_of

D = Decimal
_HALF = filled(5, "half", "4", payload={"cumulative": "4", "leaves": "6"})
# How an order comes to each status.
PATHS = {
    "INTENDED": [intent(1)],
    "SUBMITTED": [intent(1), event("ORDER_SUBMITTED", 2)],
    "UNKNOWN": [intent(1), event("ORDER_SUBMITTED", 2), event("SUBMIT_UNKNOWN", 3)],
    "OPEN": [intent(1), event("ORDER_SUBMITTED", 2), event("ORDER_ACKNOWLEDGED", 4, broker_order_id="x")],
    "PARTIALLY_FILLED": [intent(1), event("ORDER_SUBMITTED", 2), _HALF],
    "FILLED": [intent(1), _HALF, filled(6, "rest", "6", payload={"cumulative": "10", "leaves": "0"})],
    "CANCELED": [intent(1), _HALF, event("ORDER_CANCELED", 6, payload={"filled_quantity": "4"})],
    "EXPIRED": [intent(1), _HALF, event("ORDER_EXPIRED", 6, payload={"filled_quantity": "4"})],
    "REJECTED": [intent(1), _HALF, event("ORDER_REJECTED", 6, payload={"filled_quantity": "4"})],
    "REPLACED": [intent(1), _HALF, event("ORDER_REPLACED", 6, payload={"filled_quantity": "4"})],
}
NEXT = {
    "ORDER_INTENDED": intent(9),
    "ORDER_SUBMITTED": event("ORDER_SUBMITTED", 9),
    "SUBMIT_UNKNOWN": event("SUBMIT_UNKNOWN", 9),
    "ORDER_ACKNOWLEDGED": event("ORDER_ACKNOWLEDGED", 9, broker_order_id="x"),
    "ORDER_REJECTED": event("ORDER_REJECTED", 9, payload={"reason": "no"}),
    "ORDER_CANCELED": event("ORDER_CANCELED", 9, payload={"filled_quantity": "4"}),
    "ORDER_EXPIRED": event("ORDER_EXPIRED", 9, payload={"filled_quantity": "4"}),
    "ORDER_REPLACED": event("ORDER_REPLACED", 9, payload={"filled_quantity": "4"}),
    "FILLED": filled(9, "next", "1", payload={"cumulative": "5", "leaves": "5", "source": "broker"}),
    "FILL_CORRECTED": filled(9, "next", "1", kind="FILL_CORRECTED", payload={"fill": "half", "source": "broker"}),
    "FILL_BUSTED": busted(9, _HALF),
}
# What must follow, written out: `-` is refused, a status is what the order then has.
SHORT = {
    "I": "INTENDED", "S": "SUBMITTED", "U": "UNKNOWN", "O": "OPEN", "P": "PARTIALLY_FILLED", "F": "FILLED",
    "C": "CANCELED", "E": "EXPIRED", "R": "REJECTED", "X": "REPLACED", "-": None,
}  # fmt: skip
#                     intend submit unknown ack reject cancel expire replace fill correct bust
EXPECTED = {
    "INTENDED":         "-  S  -  O  R  C  E  X  P  -  -",
    "SUBMITTED":        "-  -  U  O  R  C  E  X  P  -  -",
    "UNKNOWN":          "-  S  -  O  R  C  E  X  P  -  -",
    "OPEN":             "-  -  O  O  R  C  E  X  P  -  -",
    "PARTIALLY_FILLED": "-  -  P  P  R  C  E  X  P  P  P",
    "FILLED":           "-  -  F  F  -  -  -  -  F  F  F",
    "CANCELED":         "-  -  C  C  -  -  -  -  C  C  C",
    "EXPIRED":          "-  -  E  E  -  -  -  -  E  E  E",
    "REJECTED":         "-  -  R  R  -  -  -  -  R  R  R",
    "REPLACED":         "-  -  X  X  -  -  -  -  X  X  X",
}  # fmt: skip
PAIRS = [
    (status, kind, SHORT[letter])
    for status, row in EXPECTED.items()
    for kind, letter in zip(NEXT, row.split(), strict=True)
]


@pytest.mark.parametrize(("status", "kind", "expected"), PAIRS, ids=[f"{s}-{k}" for s, k, _ in PAIRS])
def test_every_event_in_every_status(status: str, kind: str, expected: str | None) -> None:
    state = state_of(*PATHS[status])
    assert state.orders["o"].status == status
    if expected is None:
        before = state.to_json()
        with pytest.raises(RefusedError, match=rf"o .*{status}"):
            state.check(NEXT[kind])
        assert state.to_json() == before
        return
    state.check(NEXT[kind])
    state.apply(NEXT[kind])
    assert state.orders["o"].status == expected
    assert fold_order([*PATHS[status], NEXT[kind]]) == state.orders["o"]


def test_the_table_names_every_pair() -> None:
    assert set(TRANSITIONS) == {(status, kind) for status in STATUSES for kind in ORDER_KINDS}
    assert set(PATHS) == set(STATUSES) and set(NEXT) == set(ORDER_KINDS)


def test_a_submit_may_be_repeated_only_after_its_outcome_was_found_unknown() -> None:
    state = state_of(*PATHS["UNKNOWN"])
    again = event("ORDER_SUBMITTED", 10)
    state.check(again)
    state.apply(again)
    assert state.orders["o"].status == "SUBMITTED"
    with pytest.raises(RefusedError):
        state.check(event("ORDER_SUBMITTED", 11))  # another process is about to send it


SEEDS = st.integers(0, 2**32)  # a drawn permutation costs more than the whole test


def arrivals(events: Sequence[Event], seed: int) -> list[Event]:
    """The events in a random order, some of them twice."""
    chance = random.Random(seed)
    repeated = chance.choices(events, k=chance.randrange(6)) if events else []
    return chance.sample([*events, *repeated], len(events) + len(repeated))


@settings(max_examples=2000, deadline=None)
@given(histories(), SEEDS)
def test_any_order_of_arrival_gives_the_same_order(history: History, seed: int) -> None:
    shuffled = arrivals(history.theirs, seed)
    order = fold_order([*shuffled, *history.ours])
    assert order == fold_order([*history.ours, *history.theirs])
    assert order.status == history.status
    assert order.filled == history.filled == sum((fill.quantity for fill in order.fills), D(0))
    assert order.is_settled == (order.status in TERMINAL)
    assert order_from_row(order_to_row(order)) == order

    seen: list[str] = []
    state = fed([*history.ours, *shuffled], lambda state: seen.append(state.orders["o"].status))
    assert state.orders["o"] == order
    ends = [status for status in seen if status in TERMINAL]
    assert len(set(ends)) <= 1 and seen[len(seen) - len(ends) :] == ends  # nothing comes after a terminal status


@settings(max_examples=300, deadline=None)
@given(histories("o1", 1, "VTI"), histories("o2", 101, "BND"), SEEDS)
def test_any_order_of_arrival_gives_the_same_book(first: History, second: History, seed: int) -> None:
    theirs = [*first.theirs, *second.theirs]
    expected = fed([*first.ours, *second.ours, *theirs])
    state = fed([*second.ours, *first.ours, *arrivals(theirs, seed)])
    assert state == expected
    assert state.digest() == expected.digest()
    for history, symbol in ((first, "VTI"), (second, "BND")):
        sign = 1 if history.ours[0].side == "BUY" else -1
        assert state.position(symbol) == sign * history.filled


def test_an_order_needs_its_intent() -> None:
    with pytest.raises(IntegrityError, match="ORDER_INTENDED"):
        fold_order([event("ORDER_SUBMITTED", 2)])
    with pytest.raises(IntegrityError):
        BookState("b").apply(event("ORDER_SUBMITTED", 2))


def test_amounts_of_fills_add_up_exactly() -> None:
    one = filled(2, "a", "3.000000001", "33.333333333", "0.1", payload={"cumulative": "3.000000001"})
    two = filled(3, "b", "6.999999999", "66.666666667", "0.2", payload={"cumulative": "10"})
    order = fold_order([two, intent(1), one])
    assert order.status == "FILLED" and order.filled == 10 and order.fees == D("0.3")
    assert order.filled_value == D("100.000000032333333333") + D("466.666666602333333333")
    assert [fill.fill_id for fill in order.fills] == ["a", "b"]
    assert order.filled_price == order.filled_value / 10


def test_an_ended_order_is_settled_once_its_fills_add_up() -> None:
    canceled = event("ORDER_CANCELED", 7, payload={"filled_quantity": "7", "reason": "by hand"})
    late = filled(8, "late", "3", payload={"cumulative": "7", "leaves": "3"})
    state = state_of(intent(1), _HALF, canceled)
    assert (state.orders["o"].status, state.orders["o"].is_settled, state.orders["o"].reason) == (
        "CANCELED", False, "by hand",
    )  # fmt: skip
    assert not state.open_orders() and [order.order_id for order in state.unsettled_orders()] == ["o"]
    state.check(late)
    state.apply(late)
    assert state.orders["o"].is_settled and not state.unsettled_orders()
    assert state.orders["o"].final_quantity == 7 and state.orders["o"].remaining == 0


def test_what_remains() -> None:
    assert fold_order([intent(1)]).remaining == 10
    assert fold_order([intent(1), _HALF]).remaining == 6
    notional = [intent(1, None, payload={"notional": "676.00"}), filled(2, "a", "2.5", "200")]
    assert fold_order(notional).remaining == D("176")
    assert fold_order(notional).status == "PARTIALLY_FILLED"
    end = filled(3, "b", "0.88", "200", payload={"cumulative": "3.38", "leaves": "0"})
    assert fold_order([*notional, end]).status == "FILLED"
    assert fold_order([notional[0], end]).status == "PARTIALLY_FILLED"  # nothing is left, and the first fill is missing


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"leaves": "0"}, "FILLED"),
        ({"cumulative": "10"}, "FILLED"),
        ({"cumulative": "10", "leaves": "0"}, "FILLED"),
        ({"cumulative": "10", "leaves": "1"}, "PARTIALLY_FILLED"),  # the broker was asked for more
        ({"cumulative": "12", "leaves": "0"}, "PARTIALLY_FILLED"),  # a fill before it is not here
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_when_an_order_is_filled(told: dict, status: str) -> None:
    assert fold_order([intent(1), filled(2, "a", "10", payload=told)]).status == status
    assert fold_order([intent(1), filled(2, "a", "9", payload={"leaves": "0"})]).status == "PARTIALLY_FILLED"
    notional = intent(1, None, payload={"notional": "1000"})
    assert fold_order([notional, filled(2, "a", "9", payload={"leaves": "0"})]).status == "FILLED"
    assert fold_order([notional, filled(2, "a", "10")]).status == "PARTIALLY_FILLED"  # the broker did not say


def test_a_fill_that_is_taken_back_changes_no_status() -> None:
    whole = [intent(1), _HALF, filled(6, "rest", "6", "50", "1", payload={"cumulative": "10", "leaves": "0"})]
    order = fold_order([*whole, busted(7, _HALF)])
    assert (order.status, order.filled, order.filled_value, order.fees) == ("FILLED", 6, 300, 1)
    assert order.is_settled and [fill.fill_id for fill in order.busted] == ["half"]
    corrected = filled(8, "half-2", "5", "90", kind="FILL_CORRECTED", payload={"fill": "half"})
    order = fold_order([*whole, busted(7, _HALF), corrected])
    assert (order.status, order.filled, order.filled_value) == ("FILLED", 11, 750)
    assert order.is_overfilled


def test_an_intent_keeps_all_that_it_says() -> None:
    told = {
        "type": "limit", "limit_price": "99.5", "time_in_force": "opg", "attempt": 2, "replaces": "o-1",
        "deadline": "2026-01-05T20:55:00.000000Z",
    }  # fmt: skip
    order = fold_order([intent(3, side="SELL", payload=told, reasons=("A", "B"), correlation_id="tick 7|;~,% ü")])
    assert (order.type, order.limit_price, order.time_in_force, order.attempt) == ("limit", D("99.5"), "opg", 2)
    assert (order.replaces, order.reasons, order.correlation_id) == ("o-1", ("A", "B"), "tick 7|;~,% ü")
    assert (order.deadline, order.intended_at, order.session) == (at(23100), at(3), "2026-01-05")
    assert order_from_row(order_to_row(order)) == order


@pytest.mark.parametrize("row", ["", "o|core", "|".join(["x"] * 27)], ids=["empty", "short", "no-numbers"])
def test_a_damaged_line_is_told(row: str) -> None:
    with pytest.raises(IntegrityError, match="delete the checkpoints"):
        order_from_row(row)
