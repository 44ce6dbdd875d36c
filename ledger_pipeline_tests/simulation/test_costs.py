"""Design 5.4: each step of the costs alone and together, from the published numbers."""

from __future__ import annotations

import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.costs import compile_costs, fill_fee, fill_price
from ledger_pipeline.strategy.terms import parse_costs
from ledger_pipeline_tests import small


def cost(steps, quantity, opened, side):
    codes, amounts = compile_costs(parse_costs(steps))
    price = fill_price(opened, side, codes, amounts)
    return price, fill_fee(quantity, price, codes, amounts)


@pytest.mark.parametrize(
    ("steps", "quantity", "opened", "side", "price", "fee"),
    [
        ([], 3.0, 110.0, 1, 110.0, 0.0),
        ([{"spread_bps": 100}], 1.0, 110.0, 1, 110.55, 0.0),  # half of 1 % of 110 is 0.55
        ([{"spread_bps": 100}], 1.0, 110.0, -1, 109.45, 0.0),
        ([{"spread_bps": 10}], 1.0, 100.0, 1, 100.05, 0.0),
        ([{"spread_bps": 10}], 1.0, 100.0, -1, 99.95, 0.0),
        ([{"spread_bps": 100}, {"spread_bps": 100}], 1.0, 100.0, 1, 101.0025, 0.0),  # 1.005 x 1.005
        ([{"fixed_fee": 2}], 7.0, 110.0, -1, 110.0, 2.0),
        ([{"fixed_fee": 2}, {"fixed_fee": 0.5}], 7.0, 110.0, 1, 110.0, 2.5),
        ([{"notional_bps_fee": 25}], 8.0, 50.0, 1, 50.0, 1.0),  # 400 x 0.25 %
        ([{"per_share_fee": 0.005}], 333.0, 50.0, -1, 50.0, 1.665),
        ([{"minimum_fee": 1}], 3.0, 50.0, 1, 50.0, 1.0),
        ([{"per_share_fee": 0.005}, {"minimum_fee": 1}], 100.0, 50.0, 1, 50.0, 1.0),  # 0.50 raised to 1
        ([{"per_share_fee": 0.005}, {"minimum_fee": 1}], 300.0, 50.0, 1, 50.0, 1.5),  # 1.50 stays
        ([{"minimum_fee": 1}, {"per_share_fee": 0.005}], 100.0, 50.0, 1, 50.0, 1.5),  # in the order given: 1 + 0.5
        # price steps first: the fee is of the moved price. 100 x 1.0005 = 100.05; 3 x 100.05 x 5 bps = 0.150075
        ([{"spread_bps": 10}, {"fixed_fee": 1}, {"notional_bps_fee": 5}], 3.0, 100.0, 1, 100.05, 1.150075),
        # 99.95 x 40 = 3998; 10 bps is 3.998; a cent a share is 0.40; at least 5
        (
            [{"spread_bps": 10}, {"notional_bps_fee": 10}, {"per_share_fee": 0.01}, {"minimum_fee": 5}, {"fixed_fee": 0.25}],
            40.0, 100.0, -1, 99.95, 5.25,
        ),
        # 100.123456789 x 1.00035 = 100.1584999989; 3 of them x 10 bps
        ([{"spread_bps": 7}, {"notional_bps_fee": 10}], 3.0, 100.123456789, 1, 100.15849999887615, 0.30047549999662845),
    ],
)  # fmt: skip
def test_steps(steps, quantity, opened, side, price, fee) -> None:
    assert cost(steps, quantity, opened, side) == (pytest.approx(price, rel=1e-14), pytest.approx(fee, rel=1e-14))


def test_costs_reach_fills_cash_and_metrics(tmp_path) -> None:
    """Bars 100, 101, 105, 106, 106; 3 bought at 101 and sold at 105, spread 10 bps, fee 1 + 5 bps.

    Buy at 101 x 1.0005 = 101.0505, fee 1 + 3 x 101.0505 x 0.0005 = 1.15157575; cash 1000 - 303.1515 - fee = 695.69692425.
    Sell at 105 x 0.9995 = 104.9475, fee 1 + 0.15742125; equity 998.69692425, then 1009.382003.
    """
    run = small.play(
        tmp_path, {"A": [100, 101, 105, 106, 106]}, {0: {"A": 3}, 1: {"A": 0}},
        costs=[{"spread_bps": 10}, {"fixed_fee": 1}, {"notional_bps_fee": 5}],
    )  # fmt: skip
    (buy, sell) = small.filled(run)
    assert buy[3:] == pytest.approx((3, 101.0505, 1.15157575)) and sell[3:] == pytest.approx((3, 104.9475, 1.15742125))
    assert run.equity["equity"].tolist() == pytest.approx([1000, 998.69692425, *[1009.382003] * 3], rel=1e-12)
    assert run.equity["cash"].iloc[1] == pytest.approx(695.69692425, rel=1e-12)
    assert run.metrics["total_return"] == pytest.approx(0.009382003, rel=1e-9)
    assert run.metrics["max_drawdown"] == pytest.approx(-0.00130307575, rel=1e-9)
    assert run.metrics["costs"] == pytest.approx(2.308997)
    assert run.trades["pnl"].tolist() == pytest.approx([11.691 - 2.308997], rel=1e-9)


def test_without_costs(tmp_path) -> None:
    """One share at 101, sold at 105: 1000, 1000 (cash 899), 1004."""
    run = small.play(tmp_path, {"A": [100, 101, 105, 106, 106]}, {0: {"A": 1}, 1: {"A": 0}})
    assert run.equity["equity"].tolist() == [1000, 1000, 1004, 1004, 1004]
    assert run.equity["cash"].tolist() == [1000, 899, 1004, 1004, 1004]
    metrics = run.metrics
    assert (metrics["trades"], metrics["win_rate"], metrics["average_trade"]) == (1, 1.0, 4.0)
    assert metrics["time_in_market"] == 0.2 and metrics["max_drawdown"] == 0.0


def test_a_cost_that_is_not_written_down_is_refused() -> None:
    with pytest.raises(TypeError):
        lp.experiment(small.PLAN)


@pytest.mark.parametrize(
    "steps",
    [[{"slippage": 1}], [{"spread_bps": -1}], [{"fixed_fee": float("nan")}], [{"fixed_fee": 1}, {"spread_bps": 1}],
     [{"fixed_fee": True}], [{"fixed_fee": 1, "spread_bps": 1}], ["fixed_fee"], "none"],
)  # fmt: skip
def test_other_steps_are_refused(steps) -> None:
    with pytest.raises(lp.InputError):
        lp.experiment(small.PLAN, costs=steps)
