"""Design 5.5: each step of the risk chain, alone, together, and on cash to invest."""

from __future__ import annotations

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline.simulation.risk import apply_risk
from ledger_pipeline_tests import small


@pytest.mark.parametrize(
    ("steps", "targets", "closes", "equity", "outside", "allowed"),
    [
        ([], [-50, 20], [10, 10], 1000, 0, [-50, 20]),
        (["long_only"], [-50, 0, 20], [10, 10, 10], 1000, 0, [0, 0, 20]),
        ([{"max_weight": 0.1}], [50], [10], 1000, 0, [10]),  # 100 / 10
        ([{"max_weight": 0.1}], [20], [20], 1000, 0, [5]),
        ([{"max_weight": 0.1}], [-50], [10], 1000, 0, [-10]),  # the sign is kept
        ([{"max_weight": 0.1}], [4], [10], 1000, 0, [4]),  # below the limit nothing changes
        (["long_only", {"max_weight": 0.1}], [-50, 20], [10, 20], 1000, 0, [0, 5]),
        ([{"max_gross": 1.0}], [50, -150], [10, 10], 1000, 0, [25, -75]),  # 2000 gross is halved
        ([{"max_gross": 2.0}], [50, -150], [10, 10], 1000, 0, [50, -150]),
        ([{"max_gross": 1.0}], [50, 150], [10, 10], 1000, 500, [12.5, 37.5]),  # 500 is left beside what is held outside
        ([{"max_gross": 0.5}], [50], [10], 1000, 700, [0]),
        ([{"max_weight": 1.0}], [50], [10], -5, 0, [0]),  # no equity, no position
        # in the order given: capped to 10 each (gross 200, room 150), then scaled by 3/4
        ([{"max_weight": 0.1}, {"max_gross": 0.15}], [50, 50], [10, 10], 1000, 0, [7.5, 7.5]),
        # the other way round: scaled to 7.5 each, which is within 10
        ([{"max_gross": 0.15}, {"max_weight": 0.1}], [50, 50], [10, 10], 1000, 0, [7.5, 7.5]),
        # 30 + 10 scaled by 1/2 to 15 + 5, then capped at 10; the other way round 10 + 10, gross 200, nothing to scale
        ([{"max_gross": 0.2}, {"max_weight": 0.1}], [30, 10], [10, 10], 1000, 0, [10, 5]),
        ([{"max_weight": 0.1}, {"max_gross": 0.2}], [30, 10], [10, 10], 1000, 0, [10, 10]),
    ],
)
def test_steps(steps, targets, closes, equity, outside, allowed) -> None:
    found = apply_risk(steps, np.array(targets, float), np.array(closes, float), equity, outside)
    assert found.tolist() == pytest.approx(allowed, rel=1e-14)


def test_the_chain_uses_equity_and_closes_of_the_decision(tmp_path) -> None:
    """Close 20, equity 1000, at most 30 %: 15 shares, though the open is 25 then (15 x 25 = 375)."""
    run = small.play(tmp_path, {"A": [(10, 20), (25, 25), 25]}, {0: {"A": 40}}, risk=[{"max_weight": 0.3}])
    assert small.filled(run)[0] == (1, "A", "BUY", 15.0, 25.0, 0.0)


def test_the_chain_works_on_a_position_that_has_grown(tmp_path) -> None:
    """5 A at 100 are half of 1,000. At 200 equity is 1,500 and half of it 3.75 A: 1.25 are sold on day 3, at 200."""
    run = small.play(tmp_path, {"A": [100, 100, 200, 200, 200]}, {0: {"A": 5}}, risk=[{"max_weight": 0.5}])
    assert small.filled(run) == [(1, "A", "BUY", 5.0, 100.0, 0.0), (3, "A", "SELL", 1.25, 200.0, 0.0)]


def test_shorts_without_and_with_long_only(tmp_path) -> None:
    prices = {"A": [10, 10, 8, 8]}
    short = small.play(tmp_path, prices, {0: {"A": -5}})
    assert small.filled(short) == [(1, "A", "SELL", 5.0, 10.0, 0.0)]
    assert short.equity["equity"].tolist() == [1000, 1000, 1010, 1010]
    assert short.equity["exposure"].tolist() == [0, 50, 40, 40]
    assert small.filled(small.play(tmp_path, prices, {0: {"A": -5}}, risk=["long_only"])) == []


def test_what_is_held_outside_the_universe_counts_first(tmp_path) -> None:
    """5 B at 100 = 500 of 1000. B has no bar on day 2; A wanted for 800 at most 100 % gross: 500 is left, 50 at 10."""
    prices = {"A": [10] * 5, "B": [100, 100, None, 100, 100]}
    run = small.play(tmp_path, prices, {0: {"B": 5}, 2: {"A": 80}}, risk=[{"max_gross": 1.0}])
    assert small.filled(run) == [(1, "B", "BUY", 5.0, 100.0, 0.0), (3, "A", "BUY", 50.0, 10.0, 0.0)]


def test_cash_to_invest_is_cut_to_the_room_that_is_left(tmp_path) -> None:
    """Holding 20 at 10 of equity 1000 (cash 800), at most 30 %: room for 100 of the 400. It fills at 12.5: 8 shares."""
    opening = {"cash": 800, "positions": {"A": 20}, "cost_basis": {"A": 10}}
    run = small.play(
        tmp_path, {"A": [10, (12.5, 12.5), 12.5]}, {0: {"A": "400"}}, opening=opening, risk=[{"max_weight": 0.3}]
    )
    buy = small.events(run, "FILLED")[0]
    assert (buy["quantity"], buy["price"], buy["payload"]) == (8.0, 12.5, '{"invest":100}')


def test_cash_to_invest_within_the_limits_is_left_alone(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10, 10, 10]}, {0: {"A": "100"}}, risk=["long_only", {"max_weight": 0.3}])
    assert small.events(run, "FILLED")[0]["payload"] == '{"invest":100}'


def test_without_room_nothing_is_invested_and_the_excess_is_sold(tmp_path) -> None:
    """50 A at 10 of equity 1000 with at most 30 %: what is held goes down to 30."""
    opening = {"cash": 500, "positions": {"A": 50}, "cost_basis": {"A": 10}}
    run = small.play(tmp_path, {"A": [10, 10, 10]}, {0: {"A": "100"}}, opening=opening, risk=[{"max_weight": 0.3}])
    assert small.filled(run)[0] == (1, "A", "SELL", 20.0, 10.0, 0.0)


def test_a_strategy_cannot_widen_its_limits_by_writing_to_ctx(tmp_path) -> None:
    """At most 10 % of 1000 at 10: 10 shares, whatever the strategy does to its copy of equity."""

    def strategy(ctx, params):
        ctx.equity = 1e9
        return ctx.targets([500.0])

    ledger = simulate(small.inputs(tmp_path, {"A": [10, 10]}, strategy, risk=({"max_weight": 0.1},)))
    assert lp.reconstruct(ledger).positions == {"A": 10.0}


def test_reasons_survive_the_chain(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10] * 3}, {0: {"A": 500}}, risk=[{"max_weight": 0.1}], reasons={"A": ["SIGNAL"]})
    assert small.events(run, "FILLED")[0]["reasons"] == "SIGNAL"


@pytest.mark.parametrize(
    "steps", [["short_only"], [{"max_weight": 0}], [{"max_gross": -1}], [{"max_weight": True}], "no"]
)
def test_other_steps_are_refused(steps) -> None:
    with pytest.raises(lp.InputError):
        lp.experiment(small.PLAN, costs=[], risk=steps)
