"""The worked figures of the earlier systems: what they published, and what they should have computed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger_pipeline.attribution.attribute import attribute
from ledger_pipeline.attribution.exact import apportion
from ledger_pipeline.attribution.performance import performance
from ledger_pipeline.attribution.symbol_report import differences
from ledger_pipeline_tests.attribution.hand import amounts, buy, held, open_lots, realised, sell

SEED = [buy(1, 60, 100, "A"), buy(2, 40, 100, "B"), sell(3, 50, 110, None)]


def test_the_published_example_is_pro_rata():
    found = attribute(SEED, untagged="pro_rata")
    assert realised(found) == {"A": 300, "B": 200}
    assert held(found) == {"A": 30, "B": 20}
    assert found.unattributed.num_rows == 0 and found.breaks.num_rows == 0
    assert differences(found, {"VTI": Decimal(50)}) == ()


def test_by_time_the_oldest_lots_are_sold_whoever_holds_them():
    found = attribute(SEED, untagged="time_fifo")
    assert realised(found) == {"A": 500}
    assert held(found) == {"A": 10, "B": 40}
    assert differences(found, {"VTI": Decimal(50)}) == ()


def test_unattributed_is_the_default_and_a_break():
    found = attribute(SEED)
    assert realised(found) == {}
    assert held(found) == {"A": 60, "B": 40, "UNATTRIBUTED": -50}
    assert amounts(found.unattributed, "quantity", "net") == {"UNATTRIBUTED": (-50, 5500)}
    assert found.breaks.column("reason").to_pylist() == ["UNTAGGED_SALE"]
    assert differences(found, {"VTI": Decimal(50)}) == ()


@pytest.mark.parametrize("untagged", ["unattributed", "pro_rata", "time_fifo"])
def test_tagged_sales_go_by_their_tag_in_every_mode(untagged):
    found = attribute([*SEED[:2], sell(3, 30, 110, "A"), sell(4, 20, 110, "B")], untagged=untagged)
    assert realised(found) == {"A": 300, "B": 200}
    assert held(found) == {"A": 30, "B": 20}
    assert found.unattributed.num_rows == 0


def test_the_fee_of_a_sale_comes_out_of_its_gain():
    rows = [buy(1, 10, 100), buy(2, 10, 120)]
    found = attribute([*rows, sell(3, 15, 130, fees=3)])
    assert realised(found) == {"A": 347}
    assert open_lots(found) == [("A", 5, 600)]
    assert realised(attribute([*rows, sell(3, 15, 130)])) == {"A": 350}
    (summary,) = performance(found, {"VTI": 130})
    assert (summary.open_quantity, summary.average_cost, summary.unrealised) == (5, 120, 50)


def test_fees_of_buys_are_in_the_basis():
    found = attribute([buy(1, 10, 100, fees=1), buy(2, 10, 120, fees=1), sell(3, 15, 130, fees=3)])
    assert realised(found) == {"A": Decimal("345.5")}
    assert open_lots(found) == [("A", 5, Decimal("600.5"))]
    assert performance(found)[0].average_cost == Decimal("120.10")


def test_one_lot_sold_in_parts():
    found = attribute([buy(1, 100, 100), sell(2, 30, 110), sell(3, 70, 120)])
    assert realised(found) == {"A": 1700}
    assert held(found) == {}
    assert found.lots.column("closed_at").null_count == 0


def test_more_sold_than_held_is_unattributed():
    found = attribute([buy(1, 10, 100), sell(2, 12, 110)])
    assert realised(found) == {"A": 100}
    assert held(found) == {"UNATTRIBUTED": -2}
    assert amounts(found.breaks, "quantity", "net") == {"UNATTRIBUTED": (-2, 220)}
    assert found.breaks.column("reason").to_pylist() == ["OVERSOLD"]


def test_two_shares_over_three_equal_holdings():
    assert apportion(2_000_000, [1, 1, 1]) == [666_667, 666_667, 666_666]  # units of 1e-6
    rows = [buy(place, 1, 100, name) for place, name in enumerate("CAB")]
    found = attribute([*rows, sell(9, 2, 100, None)], untagged="pro_rata")
    third = Decimal("0.333333333")
    assert held(found) == {"A": third, "B": third, "C": third + Decimal("0.000000001")}  # the rest goes by name


def test_an_untagged_sale_of_more_than_all_hold():
    found = attribute([*SEED[:2], sell(3, 120, 110, None)], untagged="pro_rata")
    assert amounts(found.matches, "quantity") == {"A": (60,), "B": (40,)}
    assert held(found) == {"UNATTRIBUTED": -20}
    assert found.breaks.column("reason").to_pylist() == ["SURPLUS"]
    again = attribute([*SEED[:2], sell(3, 120, 110, None)], untagged="time_fifo")
    assert (realised(again), held(again)) == ({"A": 600, "B": 400}, {"UNATTRIBUTED": -20})


# The matchers of the earlier systems, with the figures they should have given.


def test_a_sale_before_its_buy_is_never_matched_backwards():
    found = attribute([sell(1, 10, 110), buy(2, 10, 100)])
    assert realised(found) == {}
    assert held(found) == {"A": 10, "UNATTRIBUTED": -10}


def test_a_fill_that_is_delivered_twice_is_there_once():
    found = attribute([buy(1, 10, 100), buy(1, 10, 100), sell(2, 4, 110)])
    assert (held(found), found.entries.num_rows) == ({"A": 6}, 2)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([buy(1, 10, 100), sell(2, 4, 110), sell(3, 6, 90)], -20),
        ([buy(1, 10, 100), sell(2, 10, 120)], 200),
        ([buy(1, 10, 100), sell(2, 10, 120), buy(3, 10, 150), sell(4, 10, 180)], 500),
        ([buy(1, 10, 100), sell(2, 10, 120), buy(3, 10, 150)], 200),
        ([buy(1, 10, 100), buy(2, 10, 120), sell(3, 10, 115)], 150),
        ([buy(1, 10, 200), sell(2, 10, 150)], -500),
        ([buy(1, 10, 100), buy(2, 5, 100), sell(3, 10, 80)], -200),
        ([buy(1, 10, 100), buy(2, 10, 120), sell(3, 15, 130)], 350),
        ([buy(1, 100, 100), sell(2, 30, 110), sell(3, 70, 120)], 1700),
    ],
)
def test_what_the_earlier_matchers_should_have_given(rows, expected):
    assert realised(attribute(rows)) == {"A": expected}


def test_a_gain_and_an_equal_loss_are_nothing():
    rows = [
        buy(1, 10, 100, symbol="AAPL"),
        sell(2, 10, 110, symbol="AAPL"),
        buy(3, 10, 100, symbol="TSLA"),
        sell(4, 10, 90, symbol="TSLA"),
    ]
    found = attribute(rows)
    (total,) = performance(found, by="all")
    assert total.realised == 0
    assert [(one.symbol, one.realised) for one in performance(found, by="symbol")] == [("AAPL", 100), ("TSLA", -100)]
    assert (total.round_trips, total.winning_trips, total.win_rate) == (2, 1, Decimal("0.5"))


def test_realised_is_no_cash_flow():
    (summary,) = performance(attribute([buy(1, 10, 100), buy(2, 5, 100), sell(3, 10, 80)]))
    assert (summary.buy_value, summary.sell_value, summary.realised) == (1500, 800, -200)
    assert summary.sell_value - summary.buy_value == -700


def test_an_exit_in_two_parts_has_its_average():
    found = attribute([buy(1, 10, 100), sell(2, 4, 110), sell(3, 6, 90)])
    (summary,) = performance(found)
    assert summary.sell_value / summary.sold == 98
    assert (summary.round_trips, summary.sells, summary.win_rate) == (1, 2, 0)
