"""The bundled strategies do what they say: small prices worked by hand, and the demo prices."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.warnings import MEANT
from ledger_pipeline.trading.planning.policy import parse_policy
from ledger_pipeline_tests import small
from ledger_pipeline_tests.projects import CHECKOUT
from ledger_pipeline_tests.small import ended, filled

CATALOGUE = lp.Catalogue(CHECKOUT / "strategies")


def play(
    root: Path, name: str, prices: small.Prices, params: dict, *, splits=(), start=small.START, **options
) -> lp.Run:
    """Run a bundled strategy on these prices, from 1,000 of cash and without costs unless told otherwise."""
    snapshot = small.seal(root, prices)
    options = {"costs": [], "opening": {"cash": 1000.0}} | options
    return lp.run(lp.experiment(CATALOGUE.strategy_path(name), params=params, **options), snapshot)


def bought(run: lp.Run) -> list[tuple]:
    """(day, symbol, side, quantity to six digits) of each fill."""
    return [(day, symbol, side, round(quantity, 6)) for day, symbol, side, quantity, _, _ in filled(run)]


def reasons(run: lp.Run) -> set[tuple]:
    return set(zip(run.fills["symbol"], run.fills["side"], run.fills["reasons"], strict=True))


# The prices begin on 1 January 2024: day 31 is the first of February, day 60 the first of March.


# buy_and_hold


def test_buy_and_hold_keeps_the_share_of_what_is_still_to_be_listed(tmp_path) -> None:
    run = play(
        tmp_path,
        "buy_and_hold",
        {"A": [10, 10, 20, 20, 20, 20], "B": [5] * 6, "C": [None, None, 4, 4, 8, 8]},
        {"fraction": 0.9, "symbols": 3},
    )
    # a third of 900 each; then all of what is left, but for a tenth: 0.9 x 400
    assert filled(run) == [
        (1, "A", "BUY", 30.0, 10.0, 0.0),
        (1, "B", "BUY", 60.0, 5.0, 0.0),
        (3, "C", "BUY", 90.0, 4.0, 0.0),
    ]
    assert reasons(run) == {(symbol, "BUY", "FIRST_PURCHASE") for symbol in "ABC"}


def test_buy_and_hold_tries_again_what_did_not_fill(tmp_path) -> None:
    # A has no bar where its first order would fill, and none where it would be missed
    run = play(tmp_path, "buy_and_hold", {"A": [10, None, 10, 10, 10], "B": [5] * 5}, {"fraction": 1.0, "symbols": 2})
    assert bought(run) == [(1, "B", "BUY", 100.0), (3, "A", "BUY", 50.0)]
    assert [row[2] for row in ended(run)] == ["A"]


def test_buy_and_hold_with_more_symbols_than_it_was_told_of(tmp_path) -> None:
    run = play(tmp_path, "buy_and_hold", {s: [10] * 4 for s in "ABCD"}, {"fraction": 1.0, "symbols": 2})
    assert bought(run) == [(1, symbol, "BUY", 25.0) for symbol in "ABCD"]
    assert ended(run) == []


def test_buy_and_hold_does_not_buy_twice_or_sell(tmp_path) -> None:
    run = play(
        tmp_path,
        "buy_and_hold",
        {"A": [10, 10, None, None, 30, 40], "B": [5, 5, 5, 5, 5, 5]},
        {"fraction": 0.5, "symbols": 2},
        opening={"cash": 1000.0, "positions": {"B": 7}, "cost_basis": {"B": 5}},
    )
    assert bought(run) == [(1, "A", "BUY", 50.0)]  # B is held from the opening on: all of the half is for A


# dca: on the days of the calendar 24/7, so that the small prices are sessions


def policy(weights: dict, **more) -> dict:
    """Params of the strategy: a policy of these weights, worked on the first of each month."""
    targets = [{"symbol": symbol, "targetWeight": weight} for symbol, weight in weights.items()]
    common = {"version": 1, "drift": {"kind": "none"}, "schedule": {"every": "month", "calendar": "24/7"}}
    return {"policy": common | {"targets": targets} | more}


BAND = {"drift": {"kind": "band", "maxAbsPct": 0.03}}


def test_dca_buys_what_is_short_once_a_month_and_never_sells(tmp_path) -> None:
    run = play(
        tmp_path,
        "dca",
        {"A": [10.0] * 31 + [20.0] * 30, "B": [10.0] * 61},
        policy({"A": 0.5, "B": 0.5}, **BAND),
        deposits=[{"amount": 500.0, "every": "month"}],
    )
    # January: 1,500 in halves. February: A is worth 1,500, B 750, and 500 are new: 1,375 each is wanted, so B gets all.
    # Decided on the first of March with 500: 1,500 + 1,250 + 500, B is short by 375, A by 125, and the data end.
    assert bought(run) == [(1, "A", "BUY", 75.0), (1, "B", "BUY", 75.0), (32, "B", "BUY", 50.0)]
    assert [(day, kind, symbol) for day, kind, symbol, _, _ in ended(run)] == [
        (60, "ORDER_EXPIRED", "A"),
        (60, "ORDER_EXPIRED", "B"),
    ]
    decided = [row for row in small.events(run, "ORDER_EXPIRED")]
    assert ['"invest":125' in row["payload"] or '"invest":375' in row["payload"] for row in decided] == [True, True]
    assert [row["day"] for row in small.events(run, "DEPOSITED")] == [0, 31, 60]
    assert reasons(run) == {(name, "BUY", "UNDERWEIGHT,DCA,CASHFLOW_REBALANCE") for name in "AB"}


def test_dca_shares_the_weight_of_what_is_not_listed(tmp_path) -> None:
    run = play(
        tmp_path,
        "dca",
        {"A": [10.0] * 35, "B": [10.0] * 35, "C": [None] * 20 + [10.0] * 15},
        policy({"A": 0.4, "B": 0.1, "C": 0.5}, allowMissingPrices=True, **BAND),
        deposits=[{"amount": 1000.0, "at": "2024-02-01"}],
    )
    # While C is missing, A is short of 40% and B of 10%: 4 to 1. Then A has 800 and B 200 of 2,000, as they should, and
    # C gets the new 1,000
    assert bought(run) == [(1, "A", "BUY", 80.0), (1, "B", "BUY", 20.0), (32, "C", "BUY", 100.0)]


def test_dca_keeps_its_buffer_and_leaves_what_is_below_its_minimum(tmp_path) -> None:
    run = play(
        tmp_path,
        "dca",
        {"A": [10.0] * 5, "B": [10.0] * 5},
        policy({"A": 0.99, "B": 0.01}, cashBufferUsd=100, minOrderUsd=25),
        costs=[{"fixed_fee": 5.0}],
    )
    assert filled(run) == [(1, "A", "BUY", 89.1, 10.0, 5.0)]  # 0.99 x 900; the 9 for B wait
    assert run.equity["cash"].iloc[-1] == pytest.approx(1000 - 891 - 5)


def test_dca_with_nothing_to_invest(tmp_path) -> None:
    prices = {"A": [10.0] * 4, "B": [10.0] * 4}
    for params in (
        policy({"A": 1.0}, cashBufferUsd=1000),  # no cash beyond the buffer
        policy({"Z": 1.0}),  # which has no price
        policy({"A": 1.0}, minInvestAmountUsd=5000),
        policy({"A": 1.0}, schedule={"every": "month", "nth": 9, "calendar": "24/7"}),  # the data end before
    ):
        assert bought(play(tmp_path, "dca", prices, params)) == []


def test_dca_says_which_plan_was_behind_a_purchase(tmp_path) -> None:
    from datetime import UTC, datetime

    from ledger_pipeline.trading.planning.plan import PlanAccount

    params = policy({"A": 0.7, "B": 0.3})
    run = play(tmp_path, "dca", {"A": [10.0] * 3, "B": [20.0] * 3}, params)
    account = PlanAccount.of_floats(datetime(2024, 1, 1, tzinfo=UTC), 1000.0, {}, {"A": 10.0, "B": 20.0})
    made = lp.plan(parse_policy(params["policy"]), account)
    (decided,) = small.events(run, "DECIDED")
    assert json.loads(decided["payload"]) == {"memory": {"plan": made.hash}}
    assert [(leg.symbol, float(leg.notional)) for leg in made.legs] == [("A", 700.0), ("B", 300.0)]


def test_a_faulty_policy_is_named(tmp_path) -> None:
    with pytest.raises(lp.InputError, match=r"params.policy: targets has weights that add up to 0.9"):
        play(tmp_path, "dca", {"A": [10.0] * 3}, policy({"A": 0.9}))


# equal_weights


def test_equal_weights_are_restored_when_the_month_changes(tmp_path) -> None:
    run = play(tmp_path, "equal_weights", {"A": [10.0] * 30 + [30.0] * 5, "B": [10.0] * 35}, {"fraction": 0.8})
    # 400 each; then A is worth 1,200 and B 400 of 1,800: 720 each
    assert bought(run) == [
        (1, "A", "BUY", 40.0), (1, "B", "BUY", 40.0), (32, "A", "SELL", 16.0), (32, "B", "BUY", 32.0),
    ]  # fmt: skip
    assert reasons(run) == {("A", "BUY", "REBALANCE"), ("A", "SELL", "REBALANCE"), ("B", "BUY", "REBALANCE")}


@pytest.mark.parametrize("name", ["equal_weights", "inverse_volatility", "momentum_top_n", "sma_crossover"])
def test_what_is_delisted_is_not_divided_again(tmp_path, name) -> None:
    # B stops trading while held; with equal weights of all equity A would be bought with money that is not there
    wave = [10.0, 10.4, 10.0, 10.4]
    rising = [10.0 + 0.01 * i for i in range(95)]
    prices = {"A": rising, "B": [x + 1 for x in rising[:45]] + [None] * 50}
    if name == "inverse_volatility":
        prices = {"A": (wave * 24)[:95], "B": (wave * 12)[:45] + [None] * 50}
    features = {
        "volatility": {"indicator": "volatility", "window": 2},
        "momentum": {"indicator": "returns", "window": 3},
        "fast": {"indicator": "sma", "window": 2},
        "slow": {"indicator": "sma", "window": 4},
    }
    params = {"fraction": 0.95, "n": 2}
    run = play(tmp_path, name, prices, params, features=features)
    assert [row for row in ended(run) if row[1] == "ORDER_REJECTED"] == []
    held = lp.reconstruct(run.events).positions
    assert held["B"] > 0 and held["A"] > 0
    # half of what could be invested at first stays in B; what A holds never exceeds the rest
    assert held["A"] * prices["A"][-1] < run.equity["equity"].iloc[-1] - held["B"] * prices["B"][44]


# inverse_volatility


def test_inverse_volatility_weights_sum_to_the_fraction(tmp_path) -> None:
    run = play(
        tmp_path,
        "inverse_volatility",
        {"A": [10.0, 11.0, 10.0] + [10.0] * 3, "B": [10.0, 12.0, 10.0] + [10.0] * 3, "C": [10.0] * 6},
        {"fraction": 0.9},
        features={"volatility": {"indicator": "volatility", "window": 2}},
    )
    # over the first two returns: A +1/10, -1/11; B +1/5, -1/6; C never moves and gets nothing
    a = pd.Series([0.1, -1 / 11]).std()
    b = pd.Series([0.2, -1 / 6]).std()
    assert [(day, symbol, side) for day, symbol, side, _ in bought(run)] == [(3, "A", "BUY"), (3, "B", "BUY")]
    quantities = dict(zip(run.fills["symbol"], run.fills["quantity"], strict=True))
    assert quantities["A"] * 10 == pytest.approx(900 * (1 / a) / (1 / a + 1 / b))
    assert (quantities["A"] + quantities["B"]) * 10 == pytest.approx(900)


# momentum_top_n


def test_momentum_picks_the_best_without_the_last_month(tmp_path) -> None:
    # Five bars make a "year", the last two of which are left out. A rises first and crashes last; B only rises last.
    def ramp(early: float, late: float) -> list[float]:
        return [10.0] * 27 + [10.0] * 3 + [10.0 * early] * 1 + [10.0 * late] * 32

    prices = {"A": ramp(1.5, 1.2), "B": ramp(1.0, 3.0), "C": ramp(1.2, 1.2), "D": [None] * 29 + [10.0] * 34}
    run = play(
        tmp_path,
        "momentum_top_n",
        prices,
        {"n": 2, "fraction": 0.9},
        features={"momentum": {"indicator": "returns", "window": 3, "skip": 1}},
    )
    # On 1 February (day 31) momentum is close[30] / close[27] - 1: A 50%, C 20%, B 0, D not yet known.
    # It fills on day 32 at 12; what B has done since does not count. On 1 March nothing has moved: A and B come first.
    first = [row for row in bought(run) if row[0] == 32]
    assert first == [(32, "A", "BUY", 37.5), (32, "C", "BUY", 37.5)]
    assert {row[0] for row in bought(run)} <= {32, 61}  # the first of a month, filled a day later
    assert [row[1:3] for row in bought(run) if row[0] == 61] == [("C", "SELL"), ("B", "BUY")]
    assert ("C", "SELL", "NOT_IN_TOP") in reasons(run) and ("B", "BUY", "TOP_MOMENTUM") in reasons(run)


def test_momentum_stays_out_until_something_is_known(tmp_path) -> None:
    run = play(
        tmp_path,
        "momentum_top_n",
        {"A": [10.0 + i for i in range(40)], "B": [10.0] * 40},
        {"n": 3, "fraction": 0.9},
        features={"momentum": {"indicator": "returns", "window": 35}},
    )
    assert bought(run) == []


def test_the_bundled_momentum_is_12_1() -> None:
    # close[t - 21] / close[t - 252] - 1 in bars of a trading year of 252
    [feature] = CATALOGUE.experiment("momentum_top_2").features
    assert (feature.indicator.name, dict(feature.params)) == ("returns", {"window": 231, "skip": 21})


# rsi_mean_reversion


def rsi(root: Path, prices: small.Prices, fraction: float, **options) -> lp.Run:
    return play(
        root,
        "rsi_mean_reversion",
        prices,
        {"fraction": fraction, "oversold": 30, "recovered": 55},
        features={"rsi": {"indicator": "rsi", "window": 2}},
        **options,
    )


def test_rsi_buys_what_fell_and_sells_what_recovered(tmp_path) -> None:
    run = rsi(tmp_path, {"A": [20.0, 18.0, 16.0, 16.0, 16.0, 24.0, 24.0, 24.0]}, 0.5)
    # two falls in a row: rsi 0 at day 2; the jump of day 5 lifts it
    assert bought(run) == [(3, "A", "BUY", 31.25), (6, "A", "SELL", 31.25)]
    assert reasons(run) == {("A", "BUY", "OVERSOLD"), ("A", "SELL", "RECOVERED")}


def test_rsi_buys_no_more_than_there_is_cash_for(tmp_path) -> None:
    falling = [20.0, 18.0, 16.0, 14.0, 13.0, 12.0]
    run = rsi(tmp_path, {symbol: falling for symbol in "ABC"}, 0.4, costs=[{"fixed_fee": 1.0}])
    assert [row[1] for row in bought(run)] == ["A", "B"]
    assert [row for row in ended(run) if row[1] == "ORDER_REJECTED"] == []


# sma_crossover


def crossover(root: Path, prices: small.Prices, fraction: float = 0.8) -> lp.Run:
    features = {"fast": {"indicator": "sma", "window": 1}, "slow": {"indicator": "sma", "window": 3}}
    return play(root, "sma_crossover", prices, {"fraction": fraction}, features=features)


def test_crossover_trades_only_when_a_signal_changes(tmp_path) -> None:
    run = crossover(tmp_path, {"A": [10.0, 10, 10, 16, 20, 25, 20, 10, 10, 10], "B": [10.0] * 10})
    # A is above its average from day 3 to 5: half of 800 at 20 on day 4, and sold at the open of day 7
    assert filled(run) == [(4, "A", "BUY", 25.0, 20.0, 0.0), (7, "A", "SELL", 25.0, 10.0, 0.0)]
    assert reasons(run) == {("A", "BUY", "CROSSED_UP"), ("A", "SELL", "CROSSED_DOWN")}


def test_crossover_restores_equal_weights_when_another_signal_changes(tmp_path) -> None:
    run = crossover(
        tmp_path, {"A": [10.0, 10, 10, 20, 20, 25, 30, 32, 34], "B": [10.0, 10, 10, 10, 10, 20, 25, 30, 32]}
    )
    assert [row[:3] for row in bought(run)] == [(4, "A", "BUY"), (6, "A", "SELL"), (6, "B", "BUY")]
    assert reasons(run) == {("A", "BUY", "CROSSED_UP"), ("A", "SELL", "REBALANCE"), ("B", "BUY", "CROSSED_UP")}


def test_crossover_a_missing_bar_is_no_signal_and_an_unfilled_order_is_tried_again(tmp_path) -> None:
    rising = [10.0, 10, 10, 16, 20, 25, 30, 35, 40, 45]
    halted = rising[:6] + [None] + rising[7:]
    run = crossover(tmp_path, {"A": halted, "B": [10.0] * 10})
    assert [row[:3] for row in bought(run)] == [(4, "A", "BUY")]
    run = crossover(tmp_path, {"A": rising[:4] + [None] + rising[5:], "B": [10.0] * 10})
    assert [row[:3] for row in bought(run)] == [(6, "A", "BUY")]
    assert [row[:3] for row in ended(run)] == [(4, "ORDER_EXPIRED", "A")]


# sma_long_flat


def test_sma_long_flat_is_long_above_its_average(tmp_path) -> None:
    run = play(
        tmp_path,
        "sma_long_flat",
        {"A": [10.0, 10, 13, 13, 10, 9, 9]},
        {"quantity": 7},
        features={"sma": {"indicator": "sma", "window": 2}},
    )
    assert filled(run) == [(3, "A", "BUY", 7.0, 13.0, 0.0), (4, "A", "SELL", 7.0, 10.0, 0.0)]


# all of them


def test_all_have_an_experiment_and_are_tier_1_but_for_the_planner() -> None:
    loaded, failed = CATALOGUE.experiments()
    assert failed == {}
    assert {made.spec.strategy for made in loaded.values()} == set(CATALOGUE.strategy_names())
    assert {name: made.tier for name, made in loaded.items() if made.tier != 1} == {"dca_monthly": 2}
    assert all(made.spec.description and made.spec.benchmark for made in loaded.values())


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> lp.Snapshot:
    source = CHECKOUT / "sources" / "demo"
    tables = {name: source / f"{name}.csv" for name in ("bars", "instruments", "actions")}
    return lp.seal(tables.pop("bars"), snapshot_id="demo", root=tmp_path_factory.mktemp("snapshots"), **tables)


@pytest.mark.parametrize("name", CATALOGUE.experiment_names())
def test_on_the_demo_prices_each_trades_and_no_order_is_rejected(demo, name) -> None:
    run = lp.run(CATALOGUE.experiment(name), demo)
    traded = {"IBM", "MSFT"} if name == "pairs" else {"AAPL", "GOOG", "IBM", "MSFT"}
    assert set(run.fills["symbol"]) >= traded
    assert run.metrics["orders_rejected"] == 0
    # the data end on the first of a month: what the monthly strategies decide there can only expire
    expired = [row for row in small.events(run, "ORDER_EXPIRED") if row["reasons"].split(",")[0] not in MEANT]
    assert all(row["day"] == small.events(run)[-1]["day"] for row in expired)
    assert run.invariants() == {check: [] for check in run.invariants()}
    assert run.fills["reasons"].notna().all()


# breakout, bollinger_bracket, trailing_stop: bars are (open, high, low, close)


def priced(run: lp.Run) -> list[tuple]:
    """(day, side, quantity to six digits, price) of each fill."""
    return [(day, side, round(quantity, 6), price) for day, _, side, quantity, price, _ in filled(run)]


def test_breakout_buys_above_the_range_and_sells_below_the_shorter_one(tmp_path) -> None:
    """A range of three closes above, of two below. Day 3 stays under 10; day 4 passes it; on day 6 it opens under the
    lower one of the last two closes, 11.
    """
    bars = [10, 10, 10, (9.5, 9.8, 9, 9.5), (9.8, 11, 9.8, 11), (11, 11.5, 10.9, 11), (10.8, 11, 10, 10.5), 10.5]
    run = play(
        tmp_path, "breakout", {"A": bars}, {"fraction": 0.5},
        features={"top": {"indicator": "max", "window": 3}, "bottom": {"indicator": "min", "window": 2}},
    )  # fmt: skip
    assert priced(run) == [(4, "BUY", 50.0, 10.0), (6, "SELL", 50.0, 10.8)]
    assert reasons(run) == {("A", "BUY", "BREAKOUT"), ("A", "SELL", "BRACKET_STOP")}


BANDS = {
    "lower": {"indicator": "bbands", "window": 2, "nbdevdn": 1.0, "output": "lowerband"},
    "middle": {"indicator": "sma", "window": 2},
}


def test_bollinger_bracket_buys_at_the_band_and_sells_at_the_average(tmp_path) -> None:
    """Closes of 10 and 12: mean 11, deviation 1. Bought at 10 within day 2, sold at the average of 12 and 10 on day 3."""
    bars = [10, 12, (10.5, 10.6, 9.9, 10), (10.5, 11.2, 10.4, 11), (11, 11, 10.5, 10.5)]
    run = play(tmp_path, "bollinger_bracket", {"A": bars}, {"fraction": 0.5, "loss": 0.1}, features=BANDS)
    assert priced(run) == [(2, "BUY", 50.0, 10.0), (3, "SELL", 50.0, 11.0)]
    assert reasons(run) == {("A", "BUY", "LOWER_BAND"), ("A", "SELL", "BRACKET_TARGET")}


def test_bollinger_bracket_gives_up_after_its_loss(tmp_path) -> None:
    bars = [10, 12, (10.5, 10.6, 9.9, 10), (9.5, 9.6, 8.9, 9), (9, 9, 9, 9)]
    run = play(tmp_path, "bollinger_bracket", {"A": bars}, {"fraction": 0.5, "loss": 0.1}, features=BANDS)
    assert priced(run)[:2] == [(2, "BUY", 50.0, 10.0), (3, "SELL", 50.0, 9.0)]


def test_trailing_stop_follows_the_highest_close(tmp_path) -> None:
    """Bought at 12 with a stop of 10.8; after a close of 15 it is 13.5, which day 3 reaches."""
    bars = [10, 12, (12, 15, 11.9, 15), (14, 14.2, 13.4, 14), 13, 13]
    average = {"average": {"indicator": "sma", "window": 2}}
    run = play(tmp_path, "trailing_stop", {"A": bars}, {"fraction": 0.5, "fall": 0.1}, features=average)
    assert priced(run) == [(2, "BUY", 41.666667, 12.0), (3, "SELL", 41.666667, 13.5)]


# pairs


def test_pairs_sells_the_dear_one_and_buys_the_other_until_they_are_back(tmp_path) -> None:
    """A at 11 after 10 and 10 is 1.41 deviations off: 400 a side. On day 6 the last three ratios are equal again."""
    params = {"first": "A", "second": "B", "window": 3, "entry": 1.2, "exit": 0.5, "fraction": 0.4}
    run = play(tmp_path, "pairs", {"A": [10, 10, 11, 11, 10, 10, 10, 10], "B": [10] * 8}, params)
    assert bought(run) == [
        (3, "A", "SELL", 36.363636), (3, "B", "BUY", 40.0), (7, "B", "SELL", 40.0), (7, "A", "BUY", 36.363636),
    ]  # fmt: skip
    assert run.equity["equity"].iloc[-1] == pytest.approx(1000 + 36.363636 * (11 - 10), abs=1e-5)


def test_pairs_waits_for_both(tmp_path) -> None:
    params = {"first": "A", "second": "B", "window": 3, "entry": 1.2, "exit": 0.5, "fraction": 0.4}
    run = play(tmp_path, "pairs", {"A": [10, 10, 11, 11, 11], "B": [None, None, 10, 10, 10]}, params)
    assert bought(run) == []


# volatility_target: the "volatility" is the close itself, so that it can be worked by hand


def test_volatility_target_holds_less_of_what_is_wilder(tmp_path) -> None:
    """0.25 of 0.5 is half of 1,000: 1,000 at 0.50. At 1.00 it is a quarter of 1,500: 375."""
    run = play(
        tmp_path, "volatility_target", {"A": [0.5, 0.5, 0.5, 1, 1]}, {"target": 0.25, "most": 0.9, "band": 0.05},
        features={"volatility": {"indicator": "sma", "window": 1}},
    )  # fmt: skip
    assert bought(run) == [(1, "A", "BUY", 1000.0), (4, "A", "SELL", 625.0)]
    assert reasons(run) == {("A", "BUY", "TOO_CALM"), ("A", "SELL", "TOO_WILD")}


def test_volatility_target_holds_no_more_than_it_may(tmp_path) -> None:
    run = play(
        tmp_path, "volatility_target", {"A": [0.5, 0.5, 0.5]}, {"target": 5, "most": 0.9, "band": 0.05},
        features={"volatility": {"indicator": "sma", "window": 1}},
    )  # fmt: skip
    assert bought(run) == [(1, "A", "BUY", 1800.0)]


# dual_momentum


def test_dual_momentum_holds_the_best_or_nothing(tmp_path) -> None:
    """On 1 February B rose by a fifth and A by a tenth; on 1 March none rose."""
    prices = {"A": [10.0] * 31 + [11.0] * 31, "B": [10.0] * 31 + [12.0] * 29 + [9.0] * 2}
    run = play(
        tmp_path,
        "dual_momentum",
        prices,
        {"fraction": 0.9},
        features={"momentum": {"indicator": "returns", "window": 1}},
    )
    assert bought(run) == [(32, "B", "BUY", 75.0), (61, "B", "SELL", 75.0)]
    assert reasons(run) == {("B", "BUY", "BEST"), ("B", "SELL", "NONE_ROSE")}
