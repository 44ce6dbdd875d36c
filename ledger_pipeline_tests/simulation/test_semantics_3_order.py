"""Design 5.3 and the cash rule of 5.5: sells before buys, universe order, the 1e-9 grid, no dust."""

from __future__ import annotations

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline_tests import small


def test_a_sell_frees_the_cash_for_a_buy_of_the_same_pulse(tmp_path) -> None:
    """All 1,000 goes into 10 Z at 100. On day 1 Z is to be sold and A, first in the universe, bought for 1,000: the sell
    comes first, so the buy can be paid, to the last cent.
    """
    run = small.play(tmp_path, {"A": [50] * 4, "Z": [100] * 4}, {0: {"Z": 10}, 1: {"A": 20, "Z": 0}})
    assert small.filled(run) == [
        (1, "Z", "BUY", 10.0, 100.0, 0.0), (2, "Z", "SELL", 10.0, 100.0, 0.0), (2, "A", "BUY", 20.0, 50.0, 0.0),
    ]  # fmt: skip
    assert run.equity["cash"].tolist() == [1000, 0, 0, 0]
    assert [fill["order_id"] for fill in small.events(run, "FILLED")] == ["1", "2", "3"]


def test_sells_and_buys_each_come_in_universe_order(tmp_path) -> None:
    prices = {name: [10] * 4 for name in "ABCD"}
    opening = {"cash": 1000, "positions": {"B": 5, "D": 5}, "cost_basis": {"B": 10, "D": 10}}
    run = small.play(tmp_path, prices, {0: {"D": 1, "C": 2, "B": 3, "A": 4}}, opening=opening)
    assert [(fill[1], fill[2], fill[3]) for fill in small.filled(run)] == [
        ("B", "SELL", 2), ("D", "SELL", 4), ("A", "BUY", 4), ("C", "BUY", 2),
    ]  # fmt: skip


def test_a_buy_that_cash_cannot_pay_is_rejected_and_nothing_else_changes(tmp_path) -> None:
    """1,000 pays A (6 x 100 = 600), not B (5 x 100), but C again (4 x 100 = 400), which leaves exactly nothing."""
    run = small.play(
        tmp_path, {name: [100] * 3 for name in "ABC"}, {0: {"A": 6, "B": 5, "C": 4}}, reasons={"B": ["WANTED"]}
    )
    assert [fill[1] for fill in small.filled(run)] == ["A", "C"]
    assert small.ended(run) == [(1, "ORDER_REJECTED", "B", "BUY", "INSUFFICIENT_CASH,WANTED")]
    (rejected,) = small.events(run, "ORDER_REJECTED")
    assert (rejected["quantity"], rejected["price"], rejected["fee"], rejected["cash_delta"]) == (
        5.0,
        100.0,
        None,
        None,
    )
    assert lp.reconstruct(run.events).positions == {"A": 6.0, "C": 4.0}
    assert run.equity["cash"].tolist() == [1000, 0, 0]
    assert run.warnings == ["1 order was not filled: 1 INSUFFICIENT_CASH"]
    assert run.metrics["orders_rejected"] == 1


def test_the_fee_counts_when_cash_is_checked(tmp_path) -> None:
    """10 x 100 = 1000 can be paid, with a fee of 0.01 on top it cannot."""
    prices = {"A": [100] * 3}
    assert len(small.filled(small.play(tmp_path, prices, {0: {"A": 10}}))) == 1
    run = small.play(tmp_path, prices, {0: {"A": 10}}, costs=[{"fixed_fee": 0.01}])
    assert small.filled(run) == [] and run.equity["cash"].tolist() == [1000] * 3


def test_allow_negative_lets_a_buy_overdraw_and_says_so(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [100, 100, 110]}, {0: {"A": 15}}, cash_rule="allow_negative")
    assert run.equity["cash"].tolist() == [1000, -500, -500]
    assert run.equity["equity"].tolist() == [1000, 1000, 1150]
    assert run.metrics["negative_cash_allowed"] == 1 and run.metrics["lowest_cash"] == -500
    required = small.play(tmp_path, {"A": [100, 100, 110]}, {0: {"A": 5}})
    assert required.metrics["negative_cash_allowed"] == 0 and required.metrics["lowest_cash"] == 500


def test_thirds_bought_three_times_and_sold_leave_exactly_nothing(tmp_path) -> None:
    """1/3 is 0.333333333 on the grid, 2/3 is 0.666666667, 3/3 is 1: three buys of those differences, one sell of 1."""
    run = small.play(tmp_path, {"A": [3] * 6}, {0: {"A": 1 / 3}, 1: {"A": 2 / 3}, 2: {"A": 1.0}, 3: {"A": 0}})
    assert [fill[3] for fill in small.filled(run)] == [0.333333333, 0.333333334, 0.333333333, 1.0]
    state = lp.reconstruct(run.events)
    assert state.positions == {} and state.cash == pytest.approx(1000, abs=1e-9)
    assert len(run.trades) == 1 and run.trades["quantity"].tolist() == pytest.approx([1.0])
    assert run.equity["positions_value"].iloc[-1] == 0.0


def test_a_tenth_added_ten_times_is_one(tmp_path) -> None:
    plan = {i: {"A": sum([0.1] * (i + 1))} for i in range(10)}  # the last sum is 0.9999999999999999
    run = small.play(tmp_path, {"A": [1] * 13}, plan | {10: {"A": 0}})
    assert [fill[3] for fill in small.filled(run)] == [0.1] * 10 + [1.0]
    assert lp.reconstruct(run.events).positions == {}


def test_a_difference_below_the_grid_is_no_order(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [1] * 4}, {0: {"A": 1}, 1: {"A": 1 + 4e-10}, 2: {"A": 1 + 6e-10}})
    assert [fill[:4] for fill in small.filled(run)] == [(1, "A", "BUY", 1.0), (3, "A", "BUY", 1e-9)]


def test_hold_and_the_same_target_again_are_no_orders(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [1] * 5}, {0: {"A": 1 / 3}, 1: {"A": 1 / 3}, 3: {"A": 1 / 3}})
    assert len(small.filled(run)) == 1 and len(small.events(run, "DECIDED")) == 1


def test_to_invest_all_cash_again_and_again_never_overdraws(tmp_path) -> None:
    """67.60 into 676.00 is 10 shares, though 676 / 67.6 may fall below 10 in float64; 181.61 x 23 = 4177.03 is one that
    does (22.999999999999996), and 351.11 x 134 = 47048.74 one that costs a rounding error more than there is.
    """
    for price, cash, quantity in ((67.60, 676.00, 10), (181.61, 4177.03, 23), (351.11, 47048.74, 134), (0.07, 0.49, 7)):
        run = small.play(tmp_path, {"A": [price] * 3}, {0: {"A": repr(cash)}}, opening={"cash": cash})
        assert small.filled(run) == [(1, "A", "BUY", float(quantity), price, 0.0)]
        assert run.equity["cash"].iloc[-1] == pytest.approx(0, abs=1e-11) and run.equity["cash"].iloc[-1] >= 0


def test_invest_buys_on_top_of_what_is_held_rounded_down_and_fees_come_on_top(tmp_path) -> None:
    """Holding 2, 100 is invested at 30: 3.333333333 shares, rounded down, cost 99.99999999; the fee of 1 is extra."""
    opening = {"cash": 200, "positions": {"A": 2}, "cost_basis": {"A": 30}}
    run = small.play(tmp_path, {"A": [30] * 3}, {0: {"A": "100"}}, opening=opening, costs=[{"fixed_fee": 1}])
    assert small.filled(run) == [(1, "A", "BUY", 3.333333333, 30.0, 1.0)]
    assert run.equity["cash"].iloc[-1] == pytest.approx(200 - 99.99999999 - 1)
    assert lp.reconstruct(run.events).positions == {"A": 5.333333333}


def test_invest_too_little_for_one_unit_is_rejected(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [30] * 3}, {0: {"A": "1e-9"}})
    assert small.ended(run) == [(1, "ORDER_REJECTED", "A", "BUY", "NOTHING_TO_BUY")]


def test_a_large_amount_of_cash_to_invest_is_no_large_quantity(tmp_path) -> None:
    """20,000,000 into a share at 500 is 40,000 shares: the limit of 9,007,199 holds for quantities, not for cash."""
    run = small.play(tmp_path, {"A": [500] * 3}, {0: {"A": "2e7"}}, opening={"cash": 3e7})
    assert small.filled(run) == [(1, "A", "BUY", 40_000.0, 500.0, 0.0)]


def test_an_amount_that_buys_beyond_the_grid_is_rejected(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [0.5] * 3}, {0: {"A": "2e7"}}, opening={"cash": 3e7})
    assert small.ended(run) == [(1, "ORDER_REJECTED", "A", "BUY", "QUANTITY_LIMIT")]


def test_invest_covers_a_short_first(tmp_path) -> None:
    opening = {"cash": 1000, "positions": {"A": -5}, "cost_basis": {"A": 12}}
    run = small.play(tmp_path, {"A": [10] * 3}, {0: {"A": "80"}}, opening=opening)
    assert lp.reconstruct(run.events).positions == {"A": 3.0}
    assert run.trades[["side", "quantity", "pnl"]].values.tolist() == [["SHORT", 5.0, 10.0]]


def test_weights_are_of_equity_at_the_close(tmp_path) -> None:
    """1,000 at closes 20 and 50: 0.5 -> 25 A, 0.3 -> 6 B; filled at the opens 21 and 49: cash 1000 - 525 - 294 = 181."""

    def strategy(ctx, params):
        return ctx.weights({"A": 0.5, "B": 0.3}) if ctx.now.day == 1 else ctx.hold()

    ledger = simulate(small.inputs(tmp_path, {"A": [(1, 20), (21, 20)], "B": [(1, 50), (49, 50)]}, strategy))
    assert lp.reconstruct(ledger).positions == {"A": 25.0, "B": 6.0}
    assert lp.reconstruct(ledger).cash == 181.0
    assert np.array_equal(ledger.numbers("quantity")[-2:], [25.0, 6.0])
