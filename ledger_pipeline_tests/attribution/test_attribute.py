"""Which lot is closed, what splits and dividends do to lots, and what becomes of fills that are taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ledger_pipeline.attribution.attribute import attribute
from ledger_pipeline.attribution.symbol_report import differences
from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline_tests.attribution.hand import (
    amounts,
    bust,
    buy,
    dividend,
    entry,
    held,
    open_lots,
    realised,
    sell,
    split,
)

THREE = [buy(1, 10, 100), buy(2, 10, 130), buy(3, 10, 110), sell(4, 15, 120)]


@pytest.mark.parametrize(
    ("method", "gain", "left"),
    [
        ("FIFO", 10 * 20 + 5 * -10, [("A", 5, 650), ("A", 10, 1100)]),
        ("LIFO", 10 * 10 + 5 * -10, [("A", 10, 1000), ("A", 5, 650)]),
        ("HIFO", 10 * -10 + 5 * 10, [("A", 10, 1000), ("A", 5, 550)]),
    ],
)
def test_which_lots_a_sale_closes(method, gain, left):
    found = attribute(THREE, lots=method)
    assert realised(found) == {"A": gain}
    assert open_lots(found) == left
    assert differences(found, {"VTI": Decimal(15)}) == ()


def test_of_equal_costs_the_older_lot_is_closed():
    found = attribute([buy(1, 10, 100), buy(2, 10, 100), sell(3, 10, 100)], lots="HIFO")
    assert found.matches.column("lot_id").to_pylist() == ["fill:f1"]


def test_highest_cost_is_compared_after_a_split():
    rows = [buy(1, 10, 100), split(2, 10), buy(3, 10, 60), sell(4, 10, 70)]  # 20 @ 50 and 10 @ 60
    assert realised(attribute(rows, lots="HIFO")) == {"A": 100}
    assert realised(attribute(rows)) == {"A": 200}


def test_chosen_lots_are_closed_and_the_rest_by_time():
    chosen = {"fill:f4": [("fill:f3", Decimal(4)), ("fill:f2", Decimal(6))]}
    found = attribute(THREE, lots="SPECIFIC", specific=chosen)
    rows = [(row["lot_id"], row["quantity"], row["realised"]) for row in found.matches.to_pylist()]
    assert rows == [("fill:f3", 4, 40), ("fill:f2", 6, -60), ("fill:f1", 5, 100)]


@pytest.mark.parametrize(
    "chosen",
    [
        {"fill:f4": [("fill:f3", Decimal(11))]},
        {"fill:f4": [("fill:f1", Decimal(10)), ("fill:f2", Decimal(6))]},
        {"fill:f4": [("fill:f9", Decimal(1))]},
        {"fill:f9": [("fill:f1", Decimal(1))]},
        {"fill:f4": [("fill:f4", Decimal(1))]},
        {"fill:f4": [("fill:f1", Decimal(0))]},
    ],
)
def test_a_lot_that_cannot_be_closed_is_refused(chosen):
    with pytest.raises(InputError):
        attribute(THREE, lots="SPECIFIC", specific=chosen)


def test_unknown_choices_are_refused():
    for choice in ({"untagged": "guess"}, {"lots": "AVERAGE"}, {"specific": {"fill:f4": []}}):
        with pytest.raises(InputError):
            attribute(THREE, **choice)


@pytest.mark.parametrize(
    ("bought", "sold", "term"),
    [
        ("2024-01-05", "2025-01-05", "SHORT_TERM"),
        ("2024-01-05", "2025-01-06", "LONG_TERM"),
        ("2024-02-29", "2025-02-28", "SHORT_TERM"),
        ("2024-02-29", "2025-03-01", "LONG_TERM"),
        ("2023-02-28", "2024-02-29", "SHORT_TERM"),
        ("2023-02-28", "2024-03-01", "LONG_TERM"),
        ("2024-12-31", "2025-12-31", "SHORT_TERM"),
        ("2024-12-31", "2026-01-01", "LONG_TERM"),
    ],
)
def test_long_term_is_more_than_a_year(bought, sold, term):
    def moment(day: str) -> datetime:
        return datetime.fromisoformat(day).replace(hour=15, tzinfo=UTC)

    found = attribute([buy(1, 1, 100, occurred_at=moment(bought)), sell(2, 1, 110, occurred_at=moment(sold))])
    assert found.matches.column("term").to_pylist() == [term]


def test_a_split_scales_every_lot_at_the_same_cost():
    rows = [
        buy(1, 60, 100),
        buy(2, 40, 100, "B"),
        buy(3, 5, 110),
        split(4, 65, "A"),
        split(4, 40, "B", event_id="b-4b"),
        sell(5, 130, 55),
    ]
    found = attribute(rows)
    assert realised(found) == {"A": 130 * 55 - 60 * 100 - 5 * 110}
    assert open_lots(found) == [("B", 80, 4000)]
    assert differences(found, {"VTI": Decimal(80)}) == ()


def test_a_reverse_split_leaves_no_dust():
    found = attribute(
        [buy(1, 1, 3), buy(2, 1, 3), buy(3, 1, 3), split(4, Decimal("-2.000000001")), sell(5, "0.999999999", 10)]
    )
    assert held(found) == {}
    assert realised(found) == {"A": Decimal("9.99999999") - 9}
    assert differences(found, {}) == ()


def test_a_split_reaches_what_a_rule_made_of_the_holdings():
    rows = [
        buy(1, 60, 100),
        buy(2, 40, 100, "B"),
        sell(3, 50, 110, None),
        split(4, 30, "A"),
        split(4, 20, "B", event_id="b-4b"),
    ]
    assert held(attribute(rows, untagged="pro_rata")) == {"A": 60, "B": 40}
    assert held(attribute(rows)) == {"A": 120, "B": 80, "UNATTRIBUTED": -100}
    for untagged in ("unattributed", "pro_rata", "time_fifo"):
        assert differences(attribute(rows, untagged=untagged), {"VTI": Decimal(100)}) == ()


def test_a_split_of_nothing_and_a_split_to_nothing_are_kept():
    assert held(attribute([split(1, 5)])) == {"UNATTRIBUTED": 5}
    gone = attribute([buy(1, 10, 100), split(2, -10)])
    assert (held(gone), realised(gone)) == ({}, {"A": -1000})
    assert differences(gone, {}) == ()


def test_a_dividend_goes_to_the_lots_that_are_open():
    rows = [
        buy(1, 30, 100),
        buy(2, 10, 100),
        buy(3, 10, 100, "B"),
        sell(4, 30, 100),
        dividend(5, "10.01"),
        dividend(5, "10.02", "B", event_id="b-5b"),
    ]
    found = attribute(rows)
    assert amounts(found.income, "amount") == {
        "A": (Decimal("10.02"),),
        "B": (Decimal("10.01"),),
    }  # 20.03, ties by name
    assert {row["lot_id"]: row["income"] for row in found.lots.to_pylist()} == {
        "fill:f1": 0,
        "fill:f2": Decimal("10.02"),
        "fill:f3": Decimal("10.01"),
    }


def test_a_dividend_of_what_was_sold_since_goes_by_its_tag():
    found = attribute([buy(1, 10, 100), sell(2, 10, 100), dividend(3, 7), dividend(4, 2, "UNATTRIBUTED")])
    assert amounts(found.income, "amount") == {"A": (7,), "UNATTRIBUTED": (2,)}
    assert found.income.column("lot_id").null_count == 2


def test_cash_in_lieu_is_income():
    found = attribute([buy(1, 3, 90), split(2, "-2", cash="4.50")])
    assert amounts(found.income, "amount") == {"A": (Decimal("4.5"),)}
    assert open_lots(found) == [("A", 1, 270)]


def test_a_fill_that_was_taken_back_never_happened():
    wrong = buy(2, 10, 90)
    found = attribute([buy(1, 10, 100), wrong, sell(3, 10, 110), bust(4, wrong)])
    assert (realised(found), held(found)) == ({"A": 100}, {})
    assert found.entries.num_rows == 4
    assert differences(found, {}) == ()


def test_a_bust_of_a_buy_whose_shares_were_sold():
    wrong = buy(1, 10, 100)
    found = attribute([wrong, sell(2, 10, 110), bust(3, wrong)])
    assert (realised(found), held(found)) == ({}, {"UNATTRIBUTED": -10})


def test_a_correction_stands_in_the_place_of_the_fill():
    wrong = buy(1, 10, 100)
    right = buy(5, 10, 101, kind="FILL_CORRECTED", corrects="f1", fill_id="f1-c")
    again = buy(7, 9, 102, kind="FILL_CORRECTED", corrects="f1-c", fill_id="f1-d")
    rows = [wrong, buy(2, 10, 105), sell(3, 10, 110), bust(4, wrong), right]
    assert realised(attribute(rows)) == {"A": 90}
    found = attribute([*rows, bust(6, right), again])
    assert realised(found) == {"A": 9 * 8 + 5}
    assert held(found) == {"A": 9}


def test_a_bust_of_a_fill_that_is_not_there_is_an_error():
    with pytest.raises(IntegrityError, match="f1"):
        attribute([bust(4, buy(1, 10, 100))])


def test_one_id_with_two_stories_is_an_error():
    with pytest.raises(IntegrityError, match="fill:f1"):
        attribute([buy(1, 10, 100), buy(1, 10, 101)])


def test_a_fill_that_is_read_late_is_taken_in_its_time():
    late = buy(9, 10, 90, occurred_at=buy(0, 1, 1).occurred_at)
    found = attribute([buy(1, 10, 100), sell(2, 10, 110)]).extended([late])
    assert realised(found) == {"A": 200}
    assert open_lots(found) == [("A", 10, 1000)]


def test_accounts_are_kept_apart():
    found = attribute([buy(1, 10, 100), sell(1, 10, 110, account="other", event_id="o-1")])
    assert held(found) == {"A": 10, "UNATTRIBUTED": -10}
    assert differences(found, {"VTI": Decimal(10)}, account="acc") == ()


def test_what_nobody_owns_is_sold_before_what_somebody_does():
    adopted = entry(1, "BUY", 30, 80, "UNATTRIBUTED", kind="OPENED")
    rows = [adopted, buy(2, 60, 100), sell(3, 50, 110, None)]
    for untagged, owners in (("unattributed", {"A": 60, "UNATTRIBUTED": -20}), ("pro_rata", {"A": 40})):
        found = attribute(rows, untagged=untagged)
        assert held(found) == owners
        assert realised(found)["UNATTRIBUTED"] == 900
    assert attribute(rows, untagged="pro_rata").unattributed.column("reason").to_pylist() == ["BOUGHT", "OWN_LOTS"]


def test_a_short_sale_is_a_lot_when_it_is_meant():
    rows = [sell(1, 10, 110, fees=1), buy(2, 4, 100, fees=1), buy(3, 8, 90)]
    found = attribute(rows, shorts=True)
    assert realised(found) == {"A": Decimal("439.6") - 401 + (Decimal("659.4") - 540)}
    assert open_lots(found) == [("A", 2, 180)]
    assert set(found.matches.column("term").to_pylist()) == {"SHORT_TERM"}
    assert found.trips.column("closed_at").null_count == 1 and found.trips.num_rows == 2
    assert differences(found, {"VTI": Decimal(2)}) == ()


def test_the_money_is_what_the_account_paid():
    found = attribute([buy(1, "0.333333333", 300, cash="-100.00"), sell(2, "0.333333333", 330, cash="110.00")])
    assert realised(found) == {"A": 10}


def test_a_year_old_book_of_nothing():
    found = attribute([])
    assert [getattr(found, name).num_rows for name in ("lots", "matches", "parts", "trips", "income")] == [0] * 5
    assert differences(found, {}) == ()
