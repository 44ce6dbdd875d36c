"""Semantics 11: limits, stops, the close and brackets, each rule worked by hand.

Bars are (open, high, low, close), one a day; a plan says what is decided at the close of a day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline.simulation.proof import prove
from ledger_pipeline.simulation.replay import truncation_replay
from ledger_pipeline.simulation.run import Run
from ledger_pipeline_tests import small

PLAN = '''
def strategy(ctx, params):
    """params: plan, by date and symbol."""
    targets = ctx.hold()
    for symbol, wish in params["plan"].get(ctx.now.isoformat()[:10], {}).items():
        good = wish.get("good", "bar")
        if "target" in wish:
            targets[symbol] = wish["target"]
        if "invest" in wish:
            targets.invest(symbol, wish["invest"])
        if "stop" in wish:
            targets.stop(symbol, wish["stop"], limit=wish.get("limit"), good=good)
        elif "limit" in wish:
            targets.limit(symbol, wish["limit"], good=good)
        if "close" in wish:
            targets.at_close(symbol)
        if "bracket" in wish:
            targets.bracket(symbol, stop=wish["bracket"].get("stop"), target=wish["bracket"].get("target"))
        if "why" in wish:
            targets.because(symbol, wish["why"])
    return targets
'''
FLAT = (100, 100, 100, 100)


def play(
    tmp_path, bars: list[Any], plan: Mapping[int, Mapping[str, Any]], *, more=None, truncated=False, **options: Any
) -> Run:
    """Run a plan for A on these bars, with 10,000 and no costs, and prove it; truncated: on cut histories, too."""
    splits, dividends = options.pop("splits", ()), options.pop("dividends", ())
    snapshot = small.seal(tmp_path, {"A": bars, **(more or {})}, splits=splits, dividends=dividends)
    dated = {
        small.day(index): dict(wishes) if "A" in wishes or "B" in wishes else {"A": dict(wishes)}
        for index, wishes in plan.items()
    }
    options = {"costs": [], "opening": {"cash": 10_000.0}, "name": "priced"} | options
    experiment = lp.experiment(PLAN, params={"plan": dated}, **options)
    run = lp.run(experiment, snapshot)
    (proof,) = prove([run])
    assert proof.difference is None
    if cuts := list(range(1, len(bars) - 1)) if truncated else []:
        assert [cut.difference for cut in truncation_replay(experiment, run, at=cuts)] == [None] * len(cuts)
    return run


def fills(run: Run) -> list[tuple[int, str, float, float]]:
    return [(day, side, quantity, price) for day, _, side, quantity, price, _ in small.filled(run)]


def ends(run: Run) -> list[tuple[int, str, str]]:
    rows = small.events(run, "ORDER_EXPIRED", "ORDER_CANCELED", "ORDER_REJECTED")
    return [(row["day"], row["kind"], row["reasons"]) for row in rows]


# ---- limits


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((100, 101, 97, 100), [(1, "BUY", 10.0, 98.0)]),  # touched within the bar: at the limit
        ((100, 101, 98, 100), [(1, "BUY", 10.0, 98.0)]),  # touched exactly
        ((95, 99, 94, 96), [(1, "BUY", 10.0, 95.0)]),  # opens below it: at the open, not at the limit, nor at the low
        ((98, 99, 98, 99), [(1, "BUY", 10.0, 98.0)]),  # opens at it
        ((100, 101, 98.01, 100), []),  # not touched
    ],
)
def test_a_limit_to_buy(tmp_path, bar, expected) -> None:
    run = play(tmp_path, [FLAT, bar, FLAT], {0: {"target": 10, "limit": 98}})
    assert fills(run) == expected
    assert ends(run) == ([] if expected else [(1, "ORDER_EXPIRED", "NOT_REACHED")])


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((100, 104, 99, 100), [(2, "SELL", 10.0, 103.0)]),  # at the limit, not at the high
        ((105, 106, 99, 100), [(2, "SELL", 10.0, 105.0)]),  # a gap through it: at the open
        ((100, 102.9, 99, 100), []),
    ],
)
def test_a_limit_to_sell(tmp_path, bar, expected) -> None:
    run = play(tmp_path, [FLAT, FLAT, bar, FLAT], {0: {"target": 10}, 1: {"target": 0, "limit": 103}})
    assert fills(run)[1:] == expected


def test_a_limit_must_be_traded_through_where_the_experiment_says_so(tmp_path) -> None:
    bars = [FLAT, (100, 101, 98, 100), (100, 101, 97.99, 100), FLAT]
    plan = {0: {"target": 10, "limit": 98, "good": "changed"}}
    assert fills(play(tmp_path, bars, plan, limit_fills="through")) == [(2, "BUY", 10.0, 98.0)]
    assert fills(play(tmp_path, bars, plan)) == [(1, "BUY", 10.0, 98.0)]


def test_it_never_fills_in_the_bar_of_its_decision(tmp_path) -> None:
    """The bar of the decision went to 90; what counts is the next one."""
    assert fills(play(tmp_path, [(100, 100, 90, 100), FLAT, FLAT], {0: {"target": 10, "limit": 95}})) == []


def test_a_limit_is_never_paid_more_than_it_says(tmp_path) -> None:
    """A spread of 200 bps: 1 % on top. Touched, 98 exactly; opened at 97.5, 97.5 x 1.01 = 98.475 is above it: 98; opened
    at 95, 95.95.
    """
    costs = [{"spread_bps": 200}]
    for bar, price in (((100, 101, 97, 100), 98.0), ((97.5, 101, 97, 100), 98.0), ((95, 101, 94, 100), 95.95)):
        (fill,) = fills(play(tmp_path, [FLAT, bar, FLAT], {0: {"target": 10, "limit": 98}}, costs=costs))
        assert fill[3] == pytest.approx(price, abs=1e-12)
    sold = play(
        tmp_path,
        [FLAT, FLAT, (100, 104, 99, 100), FLAT],
        {0: {"target": 10}, 1: {"target": 0, "limit": 103}},
        costs=costs,
    )
    assert [price for *_, price in fills(sold)] == [101.0, 103.0]


def test_cash_is_invested_at_a_limit(tmp_path) -> None:
    """490 at 98 buys 5."""
    run = play(tmp_path, [FLAT, (100, 101, 97, 100), FLAT], {0: {"invest": 490, "limit": 98}})
    assert fills(run) == [(1, "BUY", 5.0, 98.0)]


# ---- stops


@pytest.mark.parametrize(
    ("bar", "price"),
    [
        ((100, 100, 94, 96), 95.0),  # reached within the bar: at the stop
        ((100, 100, 95, 96), 95.0),
        ((90, 92, 88, 91), 90.0),  # a gap through it: at the open, not at the stop
        ((100, 101, 95.1, 96), None),
    ],
)
def test_a_stop_to_sell(tmp_path, bar, price) -> None:
    run = play(tmp_path, [FLAT, FLAT, bar, FLAT], {0: {"target": 10}, 1: {"target": 0, "stop": 95}})
    assert fills(run)[1:] == ([] if price is None else [(2, "SELL", 10.0, price)])


def test_a_stop_to_buy(tmp_path) -> None:
    for bar, price in (((100, 106, 99, 104), 105.0), ((107, 109, 106, 108), 107.0)):
        assert fills(play(tmp_path, [FLAT, bar, FLAT], {0: {"target": 10, "stop": 105}})) == [(1, "BUY", 10.0, price)]
    assert fills(play(tmp_path, [FLAT, (100, 104, 99, 100), FLAT], {0: {"target": 10, "stop": 105}})) == []


def test_the_spread_comes_on_top_of_a_stop(tmp_path) -> None:
    bars = [FLAT, (100, 106, 99, 104), FLAT]
    (fill,) = fills(play(tmp_path, bars, {0: {"target": 10, "stop": 105}}, costs=[{"spread_bps": 200}]))
    assert fill[3] == pytest.approx(105 * 1.01)


def test_a_stop_and_reverse_is_one_fill(tmp_path) -> None:
    bars = [FLAT, FLAT, (100, 100, 94, 96), FLAT]
    run = play(tmp_path, bars, {0: {"target": 10}, 1: {"target": -10, "stop": 95}})
    assert fills(run) == [(1, "BUY", 10.0, 100.0), (2, "SELL", 20.0, 95.0)]
    assert run.equity["equity"].iloc[-1] == pytest.approx(10_000 - 5 * 10 - 5 * 10)


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        # the stop at 105 is reached, 105 is within the limit of 106
        ([(100, 105.5, 99, 105)], [(1, "BUY", 10.0, 105.0)]),
        # a gap beyond both: triggered, and it rests until the price comes back, in the same bar
        ([(108, 110, 105, 107)], [(1, "BUY", 10.0, 106.0)]),
        # ... or in a later one, whose low is what counts
        ([(108, 110, 107, 109), (108, 109, 106, 107)], [(2, "BUY", 10.0, 106.0)]),
        ([(108, 110, 107, 109), (104, 109, 103, 107)], [(2, "BUY", 10.0, 104.0)]),
        ([(100, 104, 99, 100), (100, 104, 99, 100)], []),
    ],
)
def test_a_stop_with_a_limit(tmp_path, bars, expected) -> None:
    plan = {0: {"target": 10, "stop": 105, "limit": 106, "good": "changed"}}
    assert fills(play(tmp_path, [FLAT, *bars, FLAT], plan)) == expected


def test_a_limit_on_the_other_side_of_its_stop_waits_for_the_next_bar(tmp_path) -> None:
    """Stop 105, limit 103: the bar had 103 and 105, in which order is not known; the next one has 103."""
    bars = [FLAT, (104, 106, 102, 104), (104, 104, 103, 104), FLAT]
    plan = {0: {"target": 10, "stop": 105, "limit": 103, "good": "changed"}}
    assert fills(play(tmp_path, bars, plan)) == [(2, "BUY", 10.0, 103.0)]


# ---- at the close


def test_at_the_close(tmp_path) -> None:
    run = play(tmp_path, [FLAT, (100, 110, 90, 104), FLAT, FLAT], {0: {"target": 10, "close": True}})
    assert fills(run) == [(1, "BUY", 10.0, 104.0)]
    assert run.equity["equity"].tolist() == [10_000, 10_000, 9_960, 9_960]


def test_an_entry_at_the_open_is_before_one_at_the_close(tmp_path) -> None:
    """B's buy at the close is paid by A's sale at the open of the same bar."""
    plan = {0: {"A": {"target": 100}}, 1: {"A": {"target": 0}, "B": {"target": 100, "close": True}}}
    run = play(tmp_path, [FLAT] * 4, plan, more={"B": [FLAT] * 4})
    assert [row[:3] for row in small.filled(run)] == [(1, "A", "BUY"), (2, "A", "SELL"), (2, "B", "BUY")]


# ---- how long


def test_good_for_a_bar_until_changed_or_until_the_data_ends(tmp_path) -> None:
    bars = [FLAT, FLAT, FLAT, (100, 100, 97, 98), FLAT]
    one = play(tmp_path, bars, {0: {"target": 10, "limit": 98, "why": "DIP"}})
    assert (fills(one), ends(one)) == ([], [(1, "ORDER_EXPIRED", "NOT_REACHED,DIP")])
    resting = {0: {"target": 10, "limit": 98, "good": "changed", "why": "DIP"}}
    run = play(tmp_path, bars, resting)
    assert (fills(run), ends(run)) == ([(3, "BUY", 10.0, 98.0)], [])
    (filled,) = small.events(run, "FILLED")
    assert filled["payload"] == '{"order":{"good":"changed","limit":98,"type":"limit"}}' and filled["reasons"] == "DIP"
    other = play(tmp_path, bars, resting | {1: {"target": 5, "limit": 97, "good": "changed"}})
    assert fills(other) == [(3, "BUY", 5.0, 97.0)]
    assert ends(other) == [(1, "ORDER_CANCELED", "CHANGED,DIP")]
    gone = play(tmp_path, bars, resting | {1: {"target": 0}})
    assert (fills(gone), ends(gone)) == ([], [(1, "ORDER_CANCELED", "CHANGED,DIP")])
    same = play(tmp_path, bars, resting | {1: {"target": 10, "limit": 98, "good": "changed"}})
    assert (fills(same), ends(same)) == ([(3, "BUY", 10.0, 98.0)], [])
    never = play(tmp_path, [FLAT] * 4, resting)
    assert ends(never) == [(3, "ORDER_EXPIRED", "END_OF_DATA,DIP")]


def test_what_was_withdrawn_is_caused_by_the_decision_that_withdrew_it(tmp_path) -> None:
    plan = {0: {"target": 10, "limit": 90, "good": "changed"}, 2: {"target": 0}}
    run = play(tmp_path, [FLAT] * 5, plan)
    (canceled,), decided = small.events(run, "ORDER_CANCELED"), small.events(run, "DECIDED")
    assert canceled["correlation_id"] == decided[0]["event_id"]
    assert canceled["causation_id"] == decided[1]["event_id"]
    assert decided[1]["payload"] == '{"canceled":["1"]}'


def test_good_for_the_session(tmp_path) -> None:
    """Hourly bars of two days; a limit decided on the first day is tried until its last bar, and not on the second."""
    snapshot = lp.seal(hourly(), snapshot_id="hours", root=tmp_path, calendar="XNYS")
    source = """
def strategy(ctx, params):
    targets = ctx.hold()
    if ctx.now.hour == params["hour"] and ctx.now.day == 3:
        targets["A"] = 1
        targets.limit("A", 95, good=params["good"])
    return targets
"""
    hours = [14, 15, 16, 17, 18, 19, 20]
    for good, hour, expected in (
        ("session", 15, "NOT_REACHED"),
        ("changed", 15, None),
        ("session", 20, None),
        ("bar", 20, "NOT_REACHED"),
    ):
        run = lp.run(lp.experiment(source, params={"hour": hour, "good": good}, costs=[]), snapshot)
        (end,) = small.events(run, "FILLED", "ORDER_EXPIRED")
        stamp = end["occurred_at"]
        if expected:
            assert end["reasons"] == expected
            assert (stamp.day, stamp.hour) == ((3, hours[-1]) if hour == 15 else (4, hours[0]))
        else:
            assert (end["price"], stamp.day, stamp.hour) == (95.0, 4, 16)
        assert prove([run])[0].difference is None


def hourly():
    rows = []
    for day in (3, 4):
        for k in range(7):
            low = 95.0 if (day, k) == (4, 2) else 99.0
            rows.append(("A", pd.Timestamp(2024, 1, day, 14 + k, 30, tz="UTC"), 100.0, 101.0, low, 100.0, 1000.0))
    return pd.DataFrame(rows, columns=["symbol", "ts", "open", "high", "low", "close", "volume"])


def test_a_missing_bar_ends_an_order_for_it_and_not_one_until_changed(tmp_path) -> None:
    bars = [FLAT, None, (100, 100, 97, 98), FLAT]
    more = {"B": [FLAT] * 4}
    one = play(tmp_path, bars, {0: {"target": 10, "limit": 98}}, more=more)
    assert (fills(one), ends(one)) == ([], [(1, "ORDER_EXPIRED", "NO_BAR")])
    run = play(tmp_path, bars, {0: {"target": 10, "limit": 98, "good": "changed"}}, more=more)
    assert fills(run) == [(2, "BUY", 10.0, 98.0)]


# ---- brackets

GUARD = {"stop": 95, "target": 110}


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((100, 105, 94, 100), [(2, "SELL", 10.0, 95.0)]),  # the stop
        ((90, 92, 88, 91), [(2, "SELL", 10.0, 90.0)]),  # a gap through the stop: at the open
        ((100, 111, 99, 100), [(2, "SELL", 10.0, 110.0)]),  # the target
        ((115, 116, 114, 115), [(2, "SELL", 10.0, 115.0)]),  # a gap through the target
        ((100, 111, 94, 100), [(2, "SELL", 10.0, 95.0)]),  # both: the worse
        ((112, 113, 94, 100), [(2, "SELL", 10.0, 112.0)]),  # the open is beyond the target: that was first
        ((100, 109, 96, 100), []),
    ],
)
def test_a_bracket_of_a_long_position(tmp_path, bar, expected) -> None:
    run = play(tmp_path, [FLAT, FLAT, bar, FLAT, FLAT], {0: {"target": 10}, 1: {"bracket": GUARD}})
    assert fills(run)[1:] == expected
    for fill in small.events(run, "FILLED")[1:]:
        assert fill["reasons"] in ("BRACKET_STOP", "BRACKET_TARGET") and '"bracket":true' in fill["payload"]
        assert fill["causation_id"] == small.events(run, "DECIDED")[1]["event_id"]


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        ((100, 106, 99, 100), 105.0), ((108, 109, 107, 108), 108.0), ((100, 101, 89, 100), 90.0),
        ((85, 86, 84, 85), 85.0), ((100, 106, 89, 100), 105.0),
    ],
)  # fmt: skip
def test_a_bracket_of_a_short_position(tmp_path, bar, expected) -> None:
    plan = {0: {"target": -10}, 1: {"bracket": {"stop": 105, "target": 90}}}
    assert fills(play(tmp_path, [FLAT, FLAT, bar, FLAT], plan))[1:] == [(2, "BUY", 10.0, expected)]


def test_an_entry_at_the_open_is_guarded_in_its_own_bar(tmp_path) -> None:
    plan = {0: {"target": 10, "bracket": GUARD}}
    assert fills(play(tmp_path, [FLAT, (100, 101, 94, 100), FLAT], plan)) == [
        (1, "BUY", 10.0, 100.0), (1, "SELL", 10.0, 95.0),
    ]  # fmt: skip
    assert fills(play(tmp_path, [FLAT, (100, 111, 99, 100), FLAT], plan))[1:] == [(1, "SELL", 10.0, 110.0)]
    assert fills(play(tmp_path, [FLAT, (90, 91, 89, 90), FLAT], plan)) == [
        (1, "BUY", 10.0, 90.0), (1, "SELL", 10.0, 90.0),
    ]  # fmt: skip


def test_an_entry_within_a_bar_may_be_stopped_in_it_and_not_take_its_target(tmp_path) -> None:
    """Bought at 98 on the way down: 94 came after. Whether 111 came after is not known."""
    plan = {0: {"target": 10, "limit": 98, "bracket": GUARD}}
    down = play(tmp_path, [FLAT, (100, 101, 94, 100), FLAT], plan)
    assert fills(down) == [(1, "BUY", 10.0, 98.0), (1, "SELL", 10.0, 95.0)]
    up = play(tmp_path, [FLAT, (100, 111, 97, 100), (100, 111, 99, 100), FLAT], plan)
    assert fills(up) == [(1, "BUY", 10.0, 98.0), (2, "SELL", 10.0, 110.0)]
    below = play(tmp_path, [FLAT, (100, 101, 92, 100), FLAT], {0: {"target": 10, "limit": 93, "bracket": GUARD}})
    assert fills(below) == [(1, "BUY", 10.0, 93.0), (1, "SELL", 10.0, 93.0)]  # under its stop from the beginning


def test_a_bracket_ends_with_what_it_guards_and_stays_until_then(tmp_path) -> None:
    bars = [FLAT] * 4 + [(100, 100, 94, 96)] * 3
    sold = play(tmp_path, bars, {0: {"target": 10, "bracket": GUARD}, 1: {"target": 0}, 2: {"target": 10}})
    assert fills(sold) == [(1, "BUY", 10.0, 100.0), (2, "SELL", 10.0, 100.0), (3, "BUY", 10.0, 100.0)]
    stays = play(tmp_path, bars, {0: {"target": 10, "bracket": GUARD}, 2: {"target": 15}})
    assert fills(stays)[2:] == [(4, "SELL", 15.0, 95.0)]
    lifted = play(tmp_path, bars, {0: {"target": 10, "bracket": GUARD}, 2: {"bracket": {}}})
    assert fills(lifted) == [(1, "BUY", 10.0, 100.0)]
    raised = play(tmp_path, bars, {0: {"target": 10, "bracket": GUARD}, 2: {"bracket": {"stop": 98}}})
    assert fills(raised)[1:] == [(4, "SELL", 10.0, 98.0)]


def test_an_exit_never_opens_the_other_side(tmp_path) -> None:
    """A resting order to sell 10 and a bracket that sells them first, in one bar or before."""
    plan = {0: {"target": 10, "bracket": GUARD}, 1: {"target": 0, "limit": 104, "good": "changed"}}
    for bar, price in (((100, 105, 94, 100), 95.0), ((100, 112, 96, 100), 104.0)):
        run = play(tmp_path, [FLAT, FLAT, bar, (100, 120, 99, 100), FLAT], plan)
        assert fills(run) == [(1, "BUY", 10.0, 100.0), (2, "SELL", 10.0, price)]
        assert run.equity["equity"].iloc[-1] == 10_000 + 10 * (price - 100)
    stopped = play(tmp_path, [FLAT, FLAT, (100, 100, 94, 96), FLAT, FLAT], plan)
    assert ends(stopped) == [(2, "ORDER_EXPIRED", "POSITION_CLOSED")]


def test_what_a_bracket_closed_is_not_reversed_by_more_than_was_meant(tmp_path) -> None:
    """Long 10, an order to be short 5 at 93, a stop at 95: sold 10 at 95, then 5 at 93."""
    plan = {0: {"target": 10, "bracket": {"stop": 95}}, 1: {"target": -5, "stop": 93, "good": "changed"}}
    run = play(tmp_path, [FLAT, FLAT, (100, 100, 92, 96), FLAT, FLAT], plan)
    assert fills(run)[1:] == [(2, "SELL", 10.0, 95.0), (2, "SELL", 5.0, 93.0)]
    (replaced,) = small.events(run, "ORDER_REPLACED")
    assert replaced["payload"] == '{"because":"POSITION","quantity":15}'


def test_a_split_restates_prices_and_quantities(tmp_path) -> None:
    """10 at 100 with a stop at 95 and a limit for 5 more at 90 become 20 with 47.5 and 10 more at 45."""
    half = (50, 51, 49, 50)
    bars = [FLAT, FLAT, half, (50, 51, 45, 50), (50, 51, 47, 48), (48, 48, 48, 48)]
    plan = {0: {"target": 10, "bracket": {"stop": 88}}, 1: {"target": 15, "limit": 90, "good": "changed"}}
    run = play(tmp_path, bars, plan, splits=[("A", 2, 2.0)])
    assert fills(run) == [(1, "BUY", 10.0, 100.0), (3, "BUY", 10.0, 45.0)]
    (replaced,) = small.events(run, "ORDER_REPLACED")
    assert (
        replaced["quantity"] == 10.0 and '"limit":90' in replaced["payload"] and '"quantity":5' in replaced["payload"]
    )
    stopped = play(tmp_path, bars, {0: {"target": 10, "bracket": {"stop": 95}}}, splits=[("A", 2, 2.0)])
    assert fills(stopped)[1:] == [(3, "SELL", 20.0, 47.5)]


def test_cash_that_is_missing_rejects_a_limit_like_any_order(tmp_path) -> None:
    run = play(tmp_path, [FLAT, (100, 101, 97, 100), FLAT], {0: {"target": 200, "limit": 98}})
    assert ends(run) == [(1, "ORDER_REJECTED", "INSUFFICIENT_CASH")]
    scaled = play(tmp_path, [FLAT, (100, 101, 97, 100), FLAT], {0: {"target": 200, "limit": 98}}, cash_rule="scale")
    ((_, _, quantity, price),) = fills(scaled)
    assert price == 98 and quantity == pytest.approx(10_000 / 98)
    invested = play(
        tmp_path, [FLAT, (100, 101, 97, 100), FLAT], {0: {"invest": 20_000, "limit": 98}}, cash_rule="scale"
    )
    (fill,), (replaced,) = small.events(invested, "FILLED"), small.events(invested, "ORDER_REPLACED")
    assert json.loads(fill["payload"])["invest"] == pytest.approx(10_000) and fill["quantity"] == pytest.approx(
        10_000 / 98
    )
    assert json.loads(replaced["payload"]) == {"because": "CASH", "cash": 20_000}


# ---- brackets beside orders that rest, and the spread at an open


def flat(price: float) -> tuple[float, float, float, float]:
    return (price,) * 4


def test_a_bracket_waits_for_the_reversal_that_it_was_given_with(tmp_path) -> None:
    """Long 5; short 5 at 105, which is reached two days later; its stop at 110 counts then."""
    plan = {0: {"target": 5}, 1: {"target": -5, "limit": 105, "good": "changed", "bracket": {"stop": 110}}}
    run = play(tmp_path, [FLAT, FLAT, FLAT, flat(105), flat(111), FLAT], plan)
    assert fills(run) == [(1, "BUY", 5.0, 100.0), (3, "SELL", 10.0, 105.0), (4, "BUY", 5.0, 111.0)]


def test_a_bracket_that_was_given_up_does_not_come_back(tmp_path) -> None:
    """The order that it guarded was replaced by one for the other side, and that by one without a bracket."""
    plan = {
        0: {"target": -5, "limit": 103, "good": "changed", "bracket": {"stop": 105}},
        1: {"target": 5, "limit": 97, "good": "changed"},
        2: {"target": -5},
    }
    run = play(tmp_path, [FLAT, FLAT, FLAT, (100, 106, 100, 100), FLAT], plan)
    assert fills(run) == [(3, "SELL", 5.0, 100.0)]


def test_a_reversal_is_cut_when_its_bracket_closes_the_position(tmp_path) -> None:
    """Long 10 is stopped; the order to be short 5 is for 5 from then on, and is still so when its limit changes."""
    bars = [FLAT, FLAT, (100, 100, 94, 96), FLAT, (100, 105, 100, 100), FLAT]
    plan = {
        0: {"target": 10, "bracket": {"stop": 95}},
        1: {"target": -5, "limit": 108, "good": "changed"},
        3: {"limit": 104, "good": "changed"},
    }
    run = play(tmp_path, bars, plan)
    assert fills(run) == [(1, "BUY", 10.0, 100.0), (2, "SELL", 10.0, 95.0), (4, "SELL", 5.0, 104.0)]
    assert ends(run) == [(3, "ORDER_CANCELED", "CHANGED")]
    same = play(tmp_path, bars, plan | {3: {"target": -5, "limit": 108, "good": "changed"}})
    assert ends(same) == [(5, "ORDER_EXPIRED", "END_OF_DATA")]  # the same decision changes nothing


def test_what_would_add_to_a_position_ends_with_it(tmp_path) -> None:
    """5 are stopped at 95; 10 more at 90 were for a position that is gone, also when one bar reaches both."""
    plan = {0: {"target": 5, "bracket": {"stop": 95}}, 1: {"target": 15, "limit": 90, "good": "changed"}}
    for bars in ([(100, 100, 94, 94), flat(89)], [(100, 100, 89, 89), FLAT]):
        run = play(tmp_path, [FLAT, FLAT, *bars, FLAT], plan)
        assert fills(run) == [(1, "BUY", 5.0, 100.0), (2, "SELL", 5.0, 95.0)]
        assert ends(run) == [(2, "ORDER_EXPIRED", "POSITION_CLOSED")]


def test_what_was_held_before_takes_its_target_in_a_bar_that_adds(tmp_path) -> None:
    plan = {
        0: {"target": 5, "bracket": {"stop": 80, "target": 110}},
        1: {"target": 15, "limit": 98, "good": "changed"},
    }
    run = play(tmp_path, [FLAT, FLAT, (100, 111, 97, 100), FLAT, flat(115)], plan)
    assert fills(run) == [
        (1, "BUY", 5.0, 100.0), (2, "BUY", 10.0, 98.0), (2, "SELL", 5.0, 110.0), (4, "SELL", 10.0, 115.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("held", "bracket", "bar", "price"),
    [
        (10, {"stop": 95, "target": 100}, (100.125, 101, 94, 95), 100.0),  # less half the spread: below its limit
        (10, {"stop": 95, "target": 100}, (100, 101, 94, 95), 100.0),  # opens at it
        (-10, {"stop": 105, "target": 90}, (89.875, 106, 89, 105), 90.0),
    ],
)
def test_an_open_at_the_target_comes_before_the_stop_whatever_the_spread(tmp_path, held, bracket, bar, price) -> None:
    before = flat(99 if held > 0 else 95)
    plan = {0: {"target": held}, 1: {"bracket": bracket}}
    run = play(tmp_path, [before, before, bar, flat(95)], plan, costs=[{"spread_bps": 50}])
    assert fills(run)[1][3] == price and small.events(run, "FILLED")[1]["reasons"] == "BRACKET_TARGET"


def test_an_open_within_the_limit_is_an_entry_at_the_open_whatever_the_spread(tmp_path) -> None:
    """99.875 and half of 50 bps is above the limit of 100, so 100 is paid; the target is on from the open."""
    plan = {0: {"target": 5, "limit": 100, "bracket": {"target": 110}}}
    run = play(tmp_path, [FLAT, (99.875, 111, 99.5, 105), FLAT], plan, costs=[{"spread_bps": 50}])
    assert fills(run) == [(1, "BUY", 5.0, 100.0), (1, "SELL", 5.0, 110.0)]


# ---- what the position cost

ENTRIES = """
def strategy(ctx, params):
    targets = ctx.hold()
    day = ctx.now.isoformat()[:10]
    seen = [ctx.entry_price("A"), ctx.unrealised("A"), ctx.bars_held("A"), str(ctx.entry_time("A"))[:10]]
    targets.remember({"seen": {**ctx.memory.get("seen", {}), day: [repr(each) for each in seen]}})
    if day in params["plan"]:
        targets["A"] = params["plan"][day]
    return targets
"""


def test_ctx_says_what_a_position_cost_and_for_how_long_it_is_held(tmp_path) -> None:
    """10 at 100 on day 1, 10 at 110 on day 2: 105. A split of two: 52.5, 40 shares. 25 sold: FIFO, 15 at 55 are left."""
    bars = [(100, 100), (100, 110), (110, 120), (60, 60), (60, 62), (61, 61), (61, 61), (61, 61)]
    dated = {small.day(day): quantity for day, quantity in {0: 10, 1: 20, 3: 15, 5: -5}.items()}
    snapshot = small.seal(tmp_path, {"A": bars}, splits=[("A", 3, 2.0)])
    experiment = lp.experiment(ENTRIES, params={"plan": dated}, costs=[{"fixed_fee": 1}])
    run = lp.run(experiment, snapshot)
    memory = json.loads(small.events(run, "DECIDED")[-1]["payload"])["memory"]["seen"]
    seen = [[float(memory[small.day(day)][k]) for k in range(2)] + [int(memory[small.day(day)][2])] for day in range(8)]
    expected = [
        [np.nan, 0, 0], [100, 100, 1], [105, 300, 2], [52.5, 300, 3], [55, 105, 4], [55, 90, 5], [61, 0, 1], [61, 0, 2],
    ]  # fmt: skip
    assert np.allclose(np.array(seen), np.array(expected), equal_nan=True)
    assert memory[small.day(5)][3] == repr(small.day(1)) and memory[small.day(6)][3] == repr(small.day(6))
    assert prove([run])[0].difference is None
    assert [cut.difference for cut in truncation_replay(experiment, run, at=[1, 2, 3, 4, 5])] == [None] * 5


# ---- what is wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('targets.limit("A", 0)', "limit: the price for A is 0; it must be a finite number above zero"),
        ('targets.stop("A", float("nan"))', "stop: the price for A is nan"),
        ('targets.limit("A", 9, good="day")', "limit: good is 'day'; it is one of bar, session, changed"),
        ('targets.limit("B", 9)', "limit: 'B' is not in the universe of this pulse"),
        ('targets.bracket("A", stop=True)', "bracket: the price for A is True"),
        ('targets.bracket("A", stop=110, target=90)', "of a long position the stop is below the target"),
    ],
)
def test_an_instruction_that_makes_no_sense(tmp_path, line, message) -> None:
    source = (
        f'def strategy(ctx, params):\n    targets = ctx.flat()\n    targets["A"] = 1\n    {line}\n    return targets\n'
    )
    snapshot = small.seal(tmp_path, {"A": [100, 100, 100]})
    with pytest.raises(lp.InputError, match=message.replace("(", r"\(")):
        lp.run(lp.experiment(source, costs=[]), snapshot)


# ---- whatever the market

prices = st.floats(60, 140).map(lambda value: round(value, 2))


@st.composite
def markets(draw):
    """Bars with any order of prices, and a plan of instructions for them."""
    days = draw(st.integers(5, 9))
    bars = []
    for _ in range(days):
        o, c = draw(prices), draw(prices)
        bars.append(
            (o, max(o, c) + draw(st.sampled_from([0, 5, 20])), min(o, c) - draw(st.sampled_from([0, 5, 20])), c)
        )
    plan = {}
    for day in draw(st.sets(st.integers(0, days - 2), min_size=1)):
        wish: dict[str, Any] = {"target": draw(st.sampled_from([-10, -5, 0, 5, 10, 20]))}
        kind = draw(st.sampled_from(["open", "limit", "stop", "both", "close"]))
        if kind in ("limit", "both"):
            wish["limit"] = draw(prices)
        if kind in ("stop", "both"):
            wish["stop"] = draw(prices)
        if kind == "close":
            wish["close"] = True
        wish["good"] = draw(st.sampled_from(["bar", "session", "changed"]))
        if draw(st.booleans()):
            low, high = sorted((draw(prices), draw(prices) + 0.5))
            wish["bracket"] = (
                {"stop": low, "target": high + 1} if wish["target"] > 0 else {"stop": high + 1, "target": low}
            )
            if wish["target"] == 0:
                wish["bracket"] = {"stop": draw(prices)}
        plan[day] = wish
    return bars, plan, draw(st.sampled_from([1.0, 1.0, 2.0, 0.5]))


@settings(max_examples=40, deadline=None)
@given(market=markets(), spread=st.sampled_from([0, 50]))
def test_whatever_the_market_no_price_is_better_than_the_bar_and_nothing_is_oversold(market, spread, tmp_path_factory):
    bars, plan, ratio = market
    if ratio != 1.0:
        bars = [*bars[:3], *(tuple(price / ratio for price in bar) for bar in bars[3:])]
    run = play(
        tmp_path_factory.mktemp("m"), bars, plan, cash_rule="allow_negative", costs=[{"spread_bps": spread}] if spread else [],
        splits=[("A", 3, ratio)] if ratio != 1.0 else (), opening={"cash": 100_000.0}, truncated=True,
    )  # fmt: skip
    slip = 1 + spread / 20_000
    for day, _, _, price in fills(run):
        o, high, low, c = bars[day]
        assert low * (2 - slip) - 1e-9 <= price <= high * slip + 1e-9
    for fill in small.events(run, "FILLED"):
        terms = json.loads(fill["payload"] or "{}").get("order", {})
        if "limit" in terms and terms["type"] != "stop":
            sign = 1 if fill["side"] == "BUY" else -1
            assert sign * (terms["limit"] - fill["price"]) >= -1e-9
    ended = [
        row["order_id"] for row in small.events(run, "FILLED", "ORDER_EXPIRED", "ORDER_CANCELED", "ORDER_REJECTED")
    ]
    assert len(ended) == len(set(ended))  # each order has one end
