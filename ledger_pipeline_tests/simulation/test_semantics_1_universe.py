"""Design 5.1: late listings, halts and delistings; a held position is marked at its last close."""

from __future__ import annotations

import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline_tests import small

PRICES = {
    "ALWAYS": [10, 10, 10, 10, 10, 10],
    "GONE": [50, 52, 54, None, None, None],  # delisted after its third bar
    "HALTED": [20, 21, None, None, 24, 25],
    "LATE": [None, None, 100, 101, 102, 103],
}


def test_the_universe_at_a_pulse_is_what_has_a_bar_then(tmp_path) -> None:
    seen = []

    def strategy(ctx, params):
        seen.append(ctx.universe)
        assert len(ctx.closes) == len(ctx.positions) == len(ctx.universe)
        return ctx.flat()

    simulate(small.inputs(tmp_path, PRICES, strategy))
    assert seen == [
        ("ALWAYS", "GONE", "HALTED"),
        ("ALWAYS", "GONE", "HALTED"),
        ("ALWAYS", "GONE", "LATE"),
        ("ALWAYS", "LATE"),
        ("ALWAYS", "HALTED", "LATE"),
        ("ALWAYS", "HALTED", "LATE"),
    ]


def test_asking_for_what_has_no_bar_is_an_error(tmp_path) -> None:
    def strategy(ctx, params):
        return ctx.flat() if ctx.close("LATE") > 0 else None

    with pytest.raises(lp.InputError, match="'LATE' is not in ctx.universe"):
        simulate(small.inputs(tmp_path, PRICES, strategy))


def test_a_target_for_what_has_no_bar_is_an_error(tmp_path) -> None:
    def strategy(ctx, params):
        targets = ctx.flat()
        targets["LATE"] = 1
        return targets

    with pytest.raises(lp.InputError, match=r"'inline' at pulse 1 \(2024-01-01.*'LATE'.*not in ctx.universe"):
        simulate(small.inputs(tmp_path, PRICES, strategy))


def test_a_halted_or_delisted_position_is_marked_at_its_last_close(tmp_path) -> None:
    """Buy 2 GONE at 52 and 3 HALTED at 21 on day 1 from 1,000: cash 1000 - 104 - 63 = 833.

    Day 1: 833 + 2*52 + 3*21 = 1000. Day 2: GONE closes at 54, HALTED stays at 21: 833 + 108 + 63 = 1004. Day 3: both
    are away, the same. Day 4: HALTED is back at 24: 833 + 108 + 72 = 1013. Day 5: 25: 1016.
    """
    run = small.play(tmp_path, PRICES, {0: {"GONE": 2, "HALTED": 3}})
    assert run.equity["cash"].tolist() == [1000, 833, 833, 833, 833, 833]
    assert run.equity["equity"].tolist() == [1000, 1000, 1004, 1004, 1013, 1016]
    assert run.equity["exposure"].tolist() == [0, 167, 171, 171, 180, 183]
    assert lp.reconstruct(run.events).positions == {"GONE": 2.0, "HALTED": 3.0}


def test_a_position_without_a_bar_cannot_be_sold_until_it_is_back(tmp_path) -> None:
    """The plan wants HALTED flat on days 2 and 3, when it has no bar, and on day 4: only the last one sells, at 25."""
    run = small.play(tmp_path, PRICES, {0: {"HALTED": 3}, 2: {"HALTED": 0}, 3: {"HALTED": 0}, 4: {"HALTED": 0}})
    assert small.filled(run) == [(1, "HALTED", "BUY", 3.0, 21.0, 0.0), (5, "HALTED", "SELL", 3.0, 25.0, 0.0)]


def test_bar_times_at_which_nothing_of_the_universe_trades_are_no_pulses(tmp_path) -> None:
    run = small.play(tmp_path, PRICES, {0: {"HALTED": 1}}, universe=["HALTED"])
    assert run.equity["ts"].tolist() == [small.at(i) for i in (0, 1, 4, 5)]


def test_the_universe_keeps_the_order_of_the_experiment(tmp_path) -> None:
    """With 100 of cash and both wanted for 60, the one that the experiment lists first gets it."""
    prices = {"A": [60, 60, 60], "B": [60, 60, 60]}
    bought = {}
    for order in (["A", "B"], ["B", "A"]):
        run = small.play(tmp_path, prices, {0: {"A": 1, "B": 1}}, universe=order, opening={"cash": 100})
        bought[order[0]] = [fill[1] for fill in small.filled(run)]
    assert bought == {"A": ["A"], "B": ["B"]}


def test_an_opening_position_in_what_is_not_listed_yet_is_refused(tmp_path) -> None:
    opening = {"cash": 10, "positions": {"LATE": 1}, "cost_basis": {"LATE": 5}}
    with pytest.raises(lp.InputError, match="LATE.*no bar at the first bar time"):
        small.play(tmp_path, PRICES, {}, opening=opening)


def test_an_opening_beyond_the_grid_is_refused(tmp_path) -> None:
    opening = {"cash": 10, "positions": {"ALWAYS": 1e10}, "cost_basis": {"ALWAYS": 5}}
    with pytest.raises(lp.InputError, match="ALWAYS.*beyond 9,007,199"):
        small.play(tmp_path, PRICES, {}, opening=opening)
