"""The grid and the rounding rule, by hand, and that all ways into a book follow them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.book.drafts import bust_draft, fill_draft
from ledger_pipeline.core.amounts import cents, fill_cash, on_grid, whole_cents
from ledger_pipeline_tests.book.live import DETAILS, a_book, at

QUANTITIES = st.decimals(min_value="0.000000001", max_value="99999", places=9)
PRICES = st.decimals(min_value="0.0001", max_value="9999", places=4)


@pytest.mark.parametrize(
    ("amount", "nearest", "cut"),
    [
        ("0.005", "0.01", "0.00"),
        ("-0.005", "-0.01", "-0.01"),
        ("1.004999999", "1.00", "1.00"),
        ("1.994", "1.99", "1.99"),
        ("1.995", "2.00", "1.99"),
        ("12345678901234567890.125", "12345678901234567890.13", "12345678901234567890.12"),
    ],
)
def test_cents_by_hand(amount, nearest, cut) -> None:
    assert cents(Decimal(amount)) == Decimal(nearest)
    assert whole_cents(Decimal(amount)) == Decimal(cut)


@pytest.mark.parametrize(
    ("quantity", "yes"), [("0.000000001", True), ("0.0000000001", False), ("3", True), ("1E+3", True)]
)
def test_the_grid(quantity, yes) -> None:
    assert on_grid(Decimal(quantity)) is yes


@pytest.mark.parametrize(
    ("side", "quantity", "price", "fee", "cash"),
    [
        ("BUY", "3", "33.335", "0", "-100.01"),  # 100.005
        ("SELL", "3", "33.335", "0", "100.01"),
        ("BUY", "0.333333333", "100", "0", "-33.33"),  # 33.3333333
        ("SELL", "0.333333333", "100", "0.02", "33.31"),
        ("SELL", "10", "5", "0.0123", "49.9877"),  # a fee is what the broker says
    ],
)
def test_what_a_fill_does_to_cash_by_hand(side, quantity, price, fee, cash) -> None:
    assert fill_cash(side, Decimal(quantity), Decimal(price), Decimal(fee)) == Decimal(cash)


@given(quantity=QUANTITIES, price=PRICES, side=st.sampled_from(["BUY", "SELL"]))
def test_a_fill_and_its_taking_back_add_up_to_nothing(quantity, price, side) -> None:
    other = "SELL" if side == "BUY" else "BUY"
    assert fill_cash(side, quantity, price) + fill_cash(other, quantity, price) == 0


def test_a_correction_moves_what_the_right_fill_would_have_moved(tmp_path) -> None:
    """Three shares at 33.335 are 100.01 at the broker. Corrected from another price the book must come to the same."""
    book = a_book(tmp_path)
    book.record_order("o", DETAILS | {"quantity": "3"})
    order = book.state.orders["o"]
    right = {"fill_id": "f2", "quantity": "3", "price": "33.335"}
    taken_in = fill_draft(order, {"fill_id": "f1"} | right, at(1))
    corrected = fill_draft(order, right, at(2), corrects="f1")
    assert corrected.cash_delta == taken_in.cash_delta == Decimal("-100.01")
    book.append(lambda state: [taken_in])
    busted = bust_draft(book.state.orders["o"], "f2", at(3), "wrong", "b1")
    assert busted.cash_delta == Decimal("100.01") and book.state.cash == Decimal("-100.01")
