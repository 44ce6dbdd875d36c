"""Money by hand: currencies, the cost of holding, buys scaled to the cash, bankrupt accounts, delistings, tolerances,
the risk-free rate and warnings. Each expected number is worked out in the docstring beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline.analytics.metrics import max_drawdown_span, metrics
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.simulation.replay import truncation_replay
from ledger_pipeline_tests import small
from ledger_pipeline_tests.analytics.frames import equity_frame, fills_frame, trades_frame

NAN = float("nan")
USD = {"money": {"A": "GBP"}, "base_currency": "USD"}  # A is in GBP, the account in USD


def market(root, prices: small.Prices, *, money=(), actions=(), calendars="24/7", hourly=False):
    """A sealed snapshot: prices as in `small`; money: currency by symbol (USD else); actions: (symbol, day, kind,
    value); calendars: one for all, or by symbol; hourly: seven bars a session from 14:30 UTC on, each with its price.
    """
    money, calendars = dict(money), calendars if isinstance(calendars, dict) else dict.fromkeys(prices, calendars)
    bars = small.bars(prices)
    if hourly:
        steps = [pd.Timedelta(hours=14 + k, minutes=30) for k in range(7)]
        bars = pd.concat([bars.assign(ts=bars["ts"] + step) for step in steps]).sort_values(["symbol", "ts"])
    given = [(name, name, money.get(name, "USD"), calendars[name], "EQUITY") for name in prices]
    listed = pd.DataFrame(given, columns=["symbol", "name", "currency", "calendar", "asset_class"])
    rows = [(symbol, small.at(i), kind, float(value)) for symbol, i, kind, value in actions]
    posted = pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value"]) if rows else None
    told = [[name, *map(str, values)] for name, values in prices.items()]
    name = hash_json([told, money, calendars, list(map(str, actions)), hourly])[:16]
    return lp.seal(bars, snapshot_id=name, root=root, instruments=listed, actions=posted)


def play(root, prices, plan, *, money=(), actions=(), calendars="24/7", hourly=False, **options):
    """Run a plan (see `small`) and check the invariants."""
    snapshot = market(root, prices, money=money, actions=actions, calendars=calendars, hourly=hourly)
    run = lp.run(small.planned(plan, **options), snapshot)
    assert not any(run.invariants().values()), run.invariants()
    return run


def rows(run, kind: str, *columns: str) -> list[tuple]:
    return [tuple(row[name] for name in columns) for row in small.events(run, kind)]


def same(found, wanted) -> None:
    """Rows of texts and numbers are the same, numbers to 1e-9."""
    assert len(found) == len(wanted), (found, wanted)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == [pytest.approx(x, rel=1e-9, abs=1e-9) if isinstance(x, float) else x for x in other]


def sharp(excess: Sequence[float]) -> tuple[float, float]:
    """Sharpe and Sortino of three excess returns, of 365.25 bars a year."""
    mean = sum(excess) / 3
    deviation = math.sqrt(sum((x - mean) ** 2 for x in excess) / 2)
    downside = math.sqrt(sum(min(x, 0.0) ** 2 for x in excess) / 3)
    return mean / deviation * math.sqrt(365.25), mean / downside * math.sqrt(365.25)


A = [(10, 10), (10, 11), (12, 12), (12, 12)]
BUY_AND_SELL = {0: {"A": 10}, 1: {"A": 0}}
SHORT = {"cash": 2000.0, "positions": {"A": -10}, "cost_basis": {"A": 100}}
WORKDAYS = [None, *[100] * 4, None, None, *[100] * 5, None, None, None, 100]  # to Tuesday the 16th, after a holiday
DAYS = [(2, 1), (3, 1), (4, 1), (7, 3), *((day, 1) for day in (8, 9, 10, 11)), (15, 4)]
GAP = {"A": [100, (125, 125), 125, 125]}  # 10 wanted at 100, 1,250 to pay with 1,000
HOLDS = {"cash": 0.0, "positions": {"A": 10}, "cost_basis": {"A": 100}}
PRICE = st.floats(0.5, 500).map(lambda x: round(x, 2))
FEES = st.sampled_from([[], [{"fixed_fee": 0.35}], [{"notional_bps_fee": 12}], [{"per_share_fee": 0.005}],
                        [{"spread_bps": 8}, {"notional_bps_fee": 3}, {"minimum_fee": 1}]])  # fmt: skip
LONG = {"cash": 1000.0, "positions": {"A": 10}, "cost_basis": {"A": 100}}
DYING = {"A": [100, 100, (90, 80), None, None, None], "B": [10] * 6}
ONE, TWO = 1.01**365.25 - 1, 1.02**365.25 - 1  # annual rates that are 1 % and 2 % a day
JUMPS = [100, 103, 97, 110, 90, 140, 80, 120, 100, 95]
FULL = {day: {"A": 8 - day % 3, "B": 30 + 7 * (day % 2)} for day in range(9)}
GBPUSD = [1.25, (1.2, 1.3), None, 1.4, (1.5, 1.1), 1.2, None, 1.3, 1.2, 1.2]


def test_several_currencies_are_refused_without_a_base_and_a_known_rate(tmp_path) -> None:
    for money, options, words in (
        ({"A": "GBP", "J": "JPY"}, {}, r"3 currencies.*GBP: A.*USD: B.*JPY: J"),
        (USD["money"], {"base_currency": "USD", "universe": ["A", "B"]}, r"GBP to USD.*GBPUSD.*USDGBP"),
        ({"A": "EUR"}, {"base_currency": "USD"}, "EURUSD is not known before 2024-01-02"),
    ):
        with pytest.raises(lp.InputError, match=words):
            play(tmp_path, {"A": A, "B": A, "EURUSD": [None, 1, 1, 1], "J": A}, {}, money=money,
                 **({"universe": ["A", "B"]} if "EUR" in words else {}) | options)  # fmt: skip


def test_fills_at_the_open_of_the_rate_and_marks_at_its_close(tmp_path) -> None:
    """Buy 10 at 10 GBP x 1.20 = 120; at the close they are worth 10 x 11 x 1.30 = 143; sold at 12 x 1.50 = 18: 180."""
    prices = {"A": A, "GBPUSD": [1.25, (1.20, 1.30), (1.50, 1.40), 1.4]}
    run = play(tmp_path, prices, BUY_AND_SELL, **USD)
    same(small.filled(run), [(1, "A", "BUY", 10.0, 12.0, 0.0), (2, "A", "SELL", 10.0, 18.0, 0.0)])
    assert run.equity["equity"].tolist() == pytest.approx([1000, 1023, 1060, 1060])
    assert run.equity["cash"].tolist() == pytest.approx([1000, 880, 1060, 1060])
    converted = rows(run, "CONVERTED", "day", "symbol", "side", "quantity", "price", "cash_delta")
    same(converted, [(1, "GBPUSD", "BUY", 100.0, 1.2, None), (2, "GBPUSD", "SELL", 120.0, 1.5, None)])
    kinds = [row["kind"] for row in small.events(run)]
    assert kinds == ["OPENED", "DECIDED", "CONVERTED", "FILLED", "DECIDED", "CONVERTED", "FILLED"]
    assert run.trades["pnl"].tolist() == pytest.approx([60]) and run.lots["realised"].tolist() == pytest.approx([60])


def test_a_missing_rate_the_inverse_rate_and_yen(tmp_path) -> None:
    """USDGBP 0.5 at the open is 2 USD: 200 for 10. USDJPY 150: 3 shares at 15,000 JPY are 45,000 JPY or 300 USD.
    No rate on day 2: the close of day 1, 1.30, at the open and at the close: 12 x 1.30 = 15.6.
    """
    prices = {"A": A, "USDGBP": [0.8, (0.5, 0.8), (0.4, 0.5), 0.5]}
    run = play(tmp_path, prices, BUY_AND_SELL, **USD)
    assert run.equity["equity"].tolist() == pytest.approx([1000, 937.5, 1100, 1100])  # 110 x 1.25; 120 x 2.5 = 300
    same(rows(run, "CONVERTED", "symbol", "quantity", "price"), [("USDGBP", 100.0, 2.0), ("USDGBP", 120.0, 2.5)])
    yen = {"J": [15_000] * 4, "USDJPY": [150, 150, 150, 160]}
    run = play(tmp_path, yen, {0: {"J": 3}}, money={"J": "JPY"}, base_currency="USD")
    same(rows(run, "CONVERTED", "quantity", "price"), [(45_000.0, 1 / 150)])
    assert run.equity["equity"].tolist() == pytest.approx([1000, 1000, 1000, 700 + 45_000 / 160])
    run = play(tmp_path, {"A": A, "GBPUSD": [1.25, (1.20, 1.30), None, 1.4]}, {0: {"A": 10}, 1: {"A": 5}}, **USD)
    same(rows(run, "FILLED", "price"), [(12.0,), (15.6,)])
    assert run.equity["equity"].iloc[2] == pytest.approx(880 + 10 * 15.6)


def test_the_last_known_rate_may_be_of_a_day_without_trading(tmp_path) -> None:
    """The share trades on Friday (day 4) and Monday (day 7), the rate on Friday and Sunday: Sunday's close, 2, is the
    last known on Monday, at the open as at the close.
    """
    prices = {"A": [None, *[10] * 4, None, None, 10, 10], "GBPUSD": [1.0] * 6 + [(1.5, 2.0), None, 2.0]}
    run = play(tmp_path, prices, {4: {"A": 10}}, **USD, calendars={"A": "XNYS", "GBPUSD": "24/7"})
    assert run.equity["positions_value"].iloc[4] == pytest.approx(200)
    same(rows(run, "FILLED", "day", "price"), [(7, 20.0)])


def test_dividends_are_converted_at_the_open_of_their_day(tmp_path) -> None:
    """2 GBP on 10 shares at 1.50 are 30 USD, on 10 borrowed ones -30."""
    prices = {"A": [10] * 4, "GBPUSD": [1.25, 1.2, (1.5, 1.4), 1.4]}
    for held, cash in ((10, 30.0), (-10, -30.0)):
        run = play(tmp_path, prices, {0: {"A": held}}, actions=[("A", 2, "DIVIDEND", 2)], **USD)
        kinds = [(row["kind"], row["quantity"], row["cash_delta"]) for row in small.events(run) if row["day"] == 2]
        same(kinds, [("CONVERTED", 20.0, None), ("DIVIDEND", 10.0, cash)])
        assert run.metrics["income"] == pytest.approx(cash)


@pytest.mark.parametrize(("risk", "quantities"), [([], [40, 25]), ([{"max_weight": 0.25}], [20, 12.5]),
                                                  ([{"max_gross": 0.5}], [20, 12.5])])  # fmt: skip
def test_weights_and_limits_are_in_the_base_currency(tmp_path, risk, quantities) -> None:
    """Of 1,000 USD half each: 500 / (10 x 1.25) = 40 A, 500 / 20 = 25 B. A quarter each under either limit is half."""
    text = 'def halves(ctx, params):\n    return ctx.weights({"A": 0.5, "B": 0.5}) if ctx.now.day == 1 else ctx.hold()'
    snapshot = market(tmp_path, {"A": [10] * 3, "B": [20] * 3, "GBPUSD": [1.25] * 3}, money=USD["money"])
    run = lp.run(lp.experiment(text, costs=[], risk=risk, opening={"cash": 1000}, base_currency="USD"), snapshot)
    assert [fill[3] for fill in small.filled(run)] == pytest.approx(quantities)
    assert run.equity["equity"].tolist() == pytest.approx([1000] * 3)


def test_the_rate_in_the_context_and_the_rates_outside_the_universe(tmp_path) -> None:
    """8 x the rate: 10 of A, 8 of B, and nothing of GBPUSD unless the universe names it."""
    text = "def rated(ctx, params):\n    return ctx.targets([8 * ctx.rate(symbol) for symbol in ctx.universe])"
    snapshot = market(tmp_path, {"A": [10] * 3, "B": [20] * 3, "GBPUSD": [1.25] * 3}, money=USD["money"])
    for universe, wanted in ((None, {"A": 10, "B": 8}), (["A", "GBPUSD"], {"A": 10, "GBPUSD": 8})):
        options = {"costs": [], "opening": {"cash": 1000}, "base_currency": "USD", "universe": universe}
        run = lp.run(lp.experiment(text, **options), snapshot)
        assert lp.reconstruct(run.events).positions == wanted and not any(run.invariants().values())
        assert run.equity["equity"].tolist() == pytest.approx([1000] * 3)
        assert run.fills["symbol"].astype(str).tolist() == list(wanted)


def test_costs_of_a_foreign_share_are_in_the_base_currency(tmp_path) -> None:
    """12.50 x 1.01 = 12.625, ten of them 126.25; the fee is 1 + 10 bps of that, 0.12625."""
    costs = [{"spread_bps": 200}, {"fixed_fee": 1}, {"notional_bps_fee": 10}]
    run = play(tmp_path, {"A": [10] * 4, "GBPUSD": [1.25] * 4}, {0: {"A": 10}}, **USD, costs=costs)
    same(small.filled(run), [(1, "A", "BUY", 10.0, 12.625, 1.12625)])
    assert run.equity["cash"].iloc[-1] == pytest.approx(1000 - 127.37625)


def test_the_benchmark_is_converted(tmp_path) -> None:
    """10 x 1.25 = 12.50 grows to 11 x 1.50 = 16.50: 32 %. One that began before the rate counts from the run on."""
    options = {"money": {"B": "GBP"}, "base_currency": "USD", "benchmark": "B", "universe": ["A"]}
    run = play(tmp_path, {"A": [10] * 3, "B": [10, 10, 11], "GBPUSD": [1.25, 1.25, 1.5]}, {}, **options)
    assert run.metrics["benchmark_return"] == pytest.approx(0.32)
    later = {"A": [None, 10, 10, 10], "B": [9, 10, 10, 11], "GBPUSD": [None, 1.25, 1.25, 1.5]}
    assert play(tmp_path, later, {}, **options).metrics["benchmark_return"] == pytest.approx(0.32)


@pytest.mark.parametrize("options", [{"benchmark": "B"}, {"risk_free": {"series": "NOPE"}}])
def test_what_the_metrics_cannot_use_is_refused_before_the_run(tmp_path, options) -> None:
    """A benchmark in another currency without a base, and a series of rates that the snapshot lacks."""
    snapshot = market(tmp_path, {"A": [10] * 3, "B": [10] * 3}, money={"B": "GBP"})
    with pytest.raises(lp.InputError, match="benchmark B is in GBP|NOPE"):
        lp.run(small.planned({}, universe=["A"], **options), snapshot)


@pytest.mark.parametrize("hourly", [False, True])
def test_borrow_is_charged_once_a_session_for_calendar_days(tmp_path, hourly) -> None:
    """365 bps a year are 1e-4 a day: 0.10 of 1,000; three times over a weekend, four over one with a holiday."""
    run = play(tmp_path, {"A": WORKDAYS}, {}, calendars="XNYS", hourly=hourly, opening=SHORT,
               borrow={"annual_bps": 365})  # fmt: skip
    same(rows(run, "FEE", "day", "symbol", "cash_delta"), [(day, "A", -0.1 * days) for day, days in DAYS])
    assert [run.metrics[name] for name in ("costs", "income", "final_equity")] == pytest.approx([1.4, 0, 998.6])


def test_several_shorts_in_two_currencies_and_no_fee_for_what_is_long(tmp_path) -> None:
    """A: 10 x 10 GBP x 1.25 = 125 -> 0.0125; B: 5 x 40 = 200 -> 0.02; the long C pays nothing."""
    opening = {"cash": 1000.0, "positions": {"A": -10, "B": -5, "C": 3}, "cost_basis": {"A": 12.5, "B": 40, "C": 9}}
    prices = {"A": [10] * 2, "B": [40] * 2, "C": [9] * 2, "GBPUSD": [1.25, (1.5, 1.5)]}
    run = play(tmp_path, prices, {}, **USD, opening=opening, borrow={"annual_bps": 365})
    same(rows(run, "FEE", "symbol", "cash_delta"), [("A", -0.0125), ("B", -0.02)])


def test_interest_on_cash_and_on_debt_and_before_a_deposit(tmp_path) -> None:
    """1e-4 a day: 0.10 of 1,000, then of 1,000.10 + 1,000 deposited meanwhile. Debt is charged at 2e-4 a day:
    0.09998 of 499.90, then 0.099999996 of 499.99998. In cents 0.033 of 330 borrowed is 0.03, 0.200017 is 0.20.
    """
    interest = {"cash_bps": 365, "debit_bps": 730}
    run = play(tmp_path, {"A": [100] * 3}, {}, interest=interest, deposits=[{"amount": 1000, "at": "2024-01-02"}])
    same(rows(run, "INTEREST", "day", "cash_delta"), [(1, 0.1), (2, 0.20001)])
    assert [row["kind"] for row in small.events(run)] == ["OPENED", "INTEREST", "DEPOSITED", "INTEREST"]
    assert run.metrics["income"] == pytest.approx(0.30001) and run.metrics["net_flows"] == 1000
    run = play(tmp_path, {"A": [100] * 4}, {0: {"A": 15}}, interest=interest, cash_rule="allow_negative")
    same(rows(run, "INTEREST", "day", "cash_delta"), [(1, 0.1), (2, -0.09998), (3, -0.099999996)])
    assert run.metrics["costs"] == 0 and run.metrics["income"] == pytest.approx(-0.099979996)
    borrow, opening = {"annual_bps": 365}, SHORT | {"cost_basis": {"A": 33}}
    run = play(tmp_path, {"A": [33] * 3}, {}, opening=opening, cash_rounding="cents", borrow=borrow, interest=interest)
    assert rows(run, "FEE", "cash_delta") == [(-0.03,)] * 2 and rows(run, "INTEREST", "cash_delta") == [(0.2,)] * 2


@pytest.mark.parametrize(("costs", "quantity"), [
    ([], 8.0), ([{"fixed_fee": 10}], 7.92), ([{"minimum_fee": 10}], 7.92),
    ([{"per_share_fee": 1}], 7.936507936), ([{"notional_bps_fee": 100}], 7.920792079),
    ([{"spread_bps": 400}], 7.843137254),
])  # fmt: skip
def test_full_weights_with_a_gap_buy_what_the_cash_pays(tmp_path, costs, quantity) -> None:
    """1000 / 125; (1000 - 10) / 125; 1000 / 126 = 7.9365079365; 1000 / 126.25 = 7.9207920792; 1000 / 127.5 =
    7.8431372549; each rounded down to the grid.
    """
    run = play(tmp_path, GAP, {0: {"A": 10}}, cash_rule="scale", costs=costs)
    assert [fill[3] for fill in small.filled(run)] == [quantity] and small.ended(run) == []
    assert 0 <= run.equity["cash"].iloc[-1] < 2e-7
    (replaced,) = small.events(run, "ORDER_REPLACED")
    assert replaced["quantity"] == quantity and '"CASH"' in replaced["payload"] and "10" in replaced["payload"]


@pytest.mark.parametrize(("opened", "plan", "opening", "quantities"), [
    (125, {"A": 5, "B": 10}, {"cash": 1000.0}, [4.444444444, 8.888888889]), (90, {"A": 0, "B": 20}, HOLDS, [10, 18]),
    (100, {"A": "600", "B": "600"}, {"cash": 1000.0}, [5, 10]),
])  # fmt: skip
def test_buys_keep_their_proportion_and_sells_fund_them(tmp_path, opened, plan, opening, quantities) -> None:
    """5 A at 125 and 10 B at 50 cost 1,125: x 8/9 is 4.4444444444 and 8.8888888888. Rounded down they leave 1e-7, which
    pays another unit of B (5e-8), not of A (1.25e-7). 10 A sold at 90 instead of 100 pay 18 of 20 B. Of 600 to be
    invested in each, 1,000 are 500 in each.
    """
    run = play(tmp_path, {"A": [100, opened, 100, 100], "B": [50] * 4}, {0: plan}, opening=opening, cash_rule="scale")
    found = [fill[3] for fill in small.filled(run)]
    assert found == (quantities if opened != 100 else pytest.approx(quantities, rel=1e-8)) and small.ended(run) == []
    assert 0 <= run.equity["cash"].iloc[-1] < 2e-7


def test_scaled_in_whole_cents_is_worth_the_cash(tmp_path) -> None:
    """100 / 33.33 is 3.00030003; what is bought is worth no more than what is paid, but for less than a cent."""
    run = play(tmp_path, {"A": [33.33] * 4}, {0: {"A": 4}}, cash_rule="scale", cash_rounding="cents",
               opening={"cash": 100.0})  # fmt: skip
    ((_, _, _, quantity, _, fee),) = small.filled(run)
    assert run.equity["cash"].iloc[-1] == 0 and quantity == pytest.approx(3.00030003, abs=3.1e-4)
    assert quantity * 33.33 <= 100 + 1e-9 and fee >= -1e-9


def test_nothing_is_scaled_where_the_cash_is_enough(tmp_path) -> None:
    """1,000 pay 8 at 125 to the last cent: the events are those of `require`, but for the name of the book."""
    names = ("day", "kind", "symbol", "side", "quantity", "price", "fee", "cash_delta", "order_id", "reasons")
    runs = [play(tmp_path, GAP, {0: {"A": 8}, 1: {"A": 3}, 2: {"A": "9"}}, cash_rule=r) for r in ("require", "scale")]
    told = [[[row[name] for name in names] for row in small.events(run)] for run in runs]
    assert told[0] == told[1] and len(told[0]) == 7


def test_a_fee_that_leaves_nothing_to_buy_is_not_paid(tmp_path) -> None:
    """8 of cash pay one fee of 5, not two, and no proportion of two buys: no fee is paid for a billionth of a share."""
    costs = [{"fixed_fee": 5}]
    run = play(tmp_path, {"A": [1] * 4, "B": [1] * 4}, {0: {"A": 4, "B": 4}}, cash_rule="scale", costs=costs,
               opening={"cash": 8.0})  # fmt: skip
    assert all(fill[3] > 1e-6 for fill in small.filled(run))


def test_an_amount_rounded_up_to_whole_shares_is_not_rejected(tmp_path) -> None:
    """4177.03 at 181.61 are 23 shares; with a fee of 1 there is 1e-7 too little for the last billionth (1.8e-7)."""
    run = play(tmp_path, {"A": [181.61] * 4}, {0: {"A": "4177.03"}}, cash_rule="scale", costs=[{"fixed_fee": 1}],
               opening={"cash": 4178.0299999})  # fmt: skip
    assert small.ended(run) == [] and [fill[3] for fill in small.filled(run)] == [22.999999999]


def test_cash_in_whole_cents_is_never_below_zero(tmp_path) -> None:
    """4210.53 + 4210.53 + 1578.94 are 10,000 to the cent."""
    prices = {name: [1] * 4 for name in "ABC"}
    run = play(tmp_path, prices, {0: {"A": 4210.526316, "B": 4210.526316, "C": 1578.947368}}, cash_rounding="cents",
               cash_rule="scale", opening={"cash": 10_000.0})  # fmt: skip
    assert run.equity["cash"].iloc[-1] >= 0 and run.metrics["lowest_cash"] >= 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    closes=st.lists(PRICE, min_size=3, max_size=3), gaps=st.lists(st.floats(0.7, 1.6), min_size=3, max_size=3),
    weights=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3), fees=FEES, invest=st.booleans(),
    rounding=st.sampled_from(["exact", "cents"]),
)  # fmt: skip
def test_scaled_buys_keep_their_proportions(tmp_path_factory, closes, gaps, weights, fees, invest, rounding) -> None:
    """Three buys that may together cost far more than the 10,000 there are: nothing is rejected, cash never below 0."""
    total = max(sum(weights), 1.0)
    wanted = [round(10_000 * w / total / c, 6) for w, c in zip(weights, closes, strict=True)]
    opens = [max(round(c * gap, 2), 0.01) for c, gap in zip(closes, gaps, strict=True)]
    prices = {name: [c, (o, o), o] for name, c, o in zip("ABC", closes, opens, strict=True)}
    plan = {name: repr(10_000 * w) if invest else q for name, w, q in zip("ABC", weights, wanted, strict=True)}
    snapshot = market(tmp_path_factory.getbasetemp() / "property", prices)
    options = {"opening": {"cash": 10_000.0}, "costs": fees, "cash_rounding": rounding, "cash_rule": "scale"}
    run = lp.run(small.planned({0: plan}, **options), snapshot)
    assert (run.equity["cash"] >= (0 if rounding == "exact" else -1e-9)).all() and small.ended(run) == []
    if invest:  # cash in proportion, before spread and fees
        wanted = [10_000 * w / o for w, o in zip(weights, opens, strict=True)]
    factors = [fill[3] / q for fill, q in zip(small.filled(run), wanted, strict=True)]
    assert max(factors) - min(factors) <= 1e-6 * max(factors) and max(factors) <= 1 + 1e-9


@pytest.mark.parametrize(("price", "quantity", "then"), [(210, -10, -100.0), (200, -10, 0.0), (60, 30, -200.0)])
def test_a_bankrupt_account_says_so_and_trades_no_more(tmp_path, price, quantity, then) -> None:
    """Ten sold short at 100 leave 2,000 of cash: at 210 or 200 that is gone. 30 bought for 3,000 with 1,000: at 60 they
    are worth 1,800, and 2,000 are owed. Later deposits and decisions are of no account.
    """
    prices = {"A": [100, 100, price, 100, 100, 100]}
    plan = {0: {"A": quantity}, 2: {"A": 0}, 3: {"A": 1}}
    run = play(tmp_path, prices, plan, cash_rule="allow_negative", deposits=[{"amount": 5000, "at": "2024-01-04"}])
    assert [warning for warning in run.warnings if "bankrupt at 2024-01-03" in warning] and len(run.fills) == 1
    assert run.equity["equity"].iloc[2] == pytest.approx(then)
    assert rows(run, "DEPOSITED", "day") == [] and rows(run, "DECIDED", "day") == [(0,)]
    assert run.metrics["total_return"] == -1 and run.metrics["max_drawdown"] == -1 and run.metrics["cagr"] == -1


def test_an_account_that_opens_below_zero_is_bankrupt(tmp_path) -> None:
    """500 of cash and 10 borrowed shares at 100: -500 from the start, though it would be above zero at 40."""
    opening = {"cash": 500.0, "positions": {"A": -10}, "cost_basis": {"A": 100}}
    run = play(tmp_path, {"A": [100, 100, 40, 40]}, {1: {"A": -20}}, opening=opening)
    assert [each for each in run.warnings if "bankrupt at 2024-01-01" in each] and len(run.fills) == 0


def test_an_account_without_money_yet_is_not_bankrupt(tmp_path) -> None:
    """Empty until day 2, then 1,000: 10 A at 100, which gain 10 %."""
    run = play(tmp_path, {"A": [100, 100, 100, 100, 110]}, {2: {"A": 10}}, opening={"cash": 0.0},
               deposits=[{"amount": 1000, "at": "2024-01-03"}], interest={"cash_bps": 0})  # fmt: skip
    assert run.warnings == [] and run.metrics["total_return"] == pytest.approx(0.1)
    assert run.equity["equity"].tolist() == pytest.approx([0, 0, 1000, 1000, 1100])


@pytest.mark.parametrize(("value", "held", "price", "cash"), [
    (5, 10, 5.0, 1050.0), (0, 10, 0.0, 1000.0), (NAN, 10, 80.0, 1800.0), (5, -10, 5.0, 950.0), (NAN, -10, 80.0, 200.0),
])  # fmt: skip
@pytest.mark.parametrize("hourly", [False, True])
def test_a_delisting_closes_what_is_held(tmp_path, value, held, price, cash, hourly) -> None:
    """For the cash stated, or the last close of 80; a short position is bought back. P&L against 100, no costs."""
    prices = {"A": [None, 100, 100, 80, None, None], "B": [None, *[10] * 5]} if hourly else DYING
    day = 4 if hourly else 3
    run = play(tmp_path, prices, {}, actions=[("A", day, "DELIST", value)], opening=LONG | {"positions": {"A": held}},
               hourly=hourly, calendars="XNYS" if hourly else "24/7", costs=[{"fixed_fee": 1}])  # fmt: skip
    side = "SELL" if held > 0 else "BUY"
    same(small.filled(run), [(day, "A", side, 10.0, price, 0.0)])
    assert run.equity["cash"].iloc[-1] == pytest.approx(cash) and "DELISTED" in run.fills["reasons"].astype(str).iloc[0]
    assert run.trades["pnl"].tolist() == pytest.approx([held * (price - 100)])


def test_what_else_happens_on_the_day_of_a_delisting(tmp_path) -> None:
    """An open order ends; a dividend of 1 with that ex-date is owed on the 10 held at the close before: 10 + 500."""
    run = play(tmp_path, DYING, {2: {"A": 5}}, actions=[("A", 3, "DELIST", 50)], opening=LONG)
    assert small.ended(run) == [(3, "ORDER_EXPIRED", "A", "SELL", "DELISTED")]
    assert small.filled(run) == [(3, "A", "SELL", 10.0, 50.0, 0.0)] and run.equity["cash"].iloc[-1] == 1500
    run = play(tmp_path, DYING, {}, actions=[("A", 3, "DELIST", 50), ("A", 3, "DIVIDEND", 1)], opening=LONG)
    assert run.metrics["income"] == 10 and run.equity["cash"].iloc[-1] == 1510


def test_a_delisting_for_an_endless_amount_is_refused(tmp_path) -> None:
    with pytest.raises(lp.InputError, match="A at 2024-01-04"):
        market(tmp_path, DYING, actions=[("A", 3, "DELIST", float("inf"))])


@pytest.mark.parametrize(("value", "foreign"), [(5, 50.0), (NAN, 800.0)])
def test_a_delisting_in_another_currency(tmp_path, value, foreign) -> None:
    """10 x 5 GBP, or the last close of 80 GBP, at 1.50, the open of the rate on that day: 75 or 1,200 USD."""
    prices = {**DYING, "GBPUSD": [1.25, 1.25, 1.25, (1.5, 1.6), 1.6, 1.6]}
    run = play(tmp_path, prices, {}, **USD, actions=[("A", 3, "DELIST", value)], opening=LONG)
    same(rows(run, "CONVERTED", "day", "symbol", "side", "quantity", "price"), [(3, "GBPUSD", "SELL", foreign, 1.5)])
    assert run.equity["cash"].iloc[-1] == pytest.approx(1000 + foreign * 1.5)


@pytest.mark.parametrize("hourly", [False, True])
def test_twenty_sessions_without_a_bar_are_warned_of(tmp_path, hourly) -> None:
    """10 A at 100 of an equity of 2,000 are half of it; the last bar is of 2024-01-02. After 19 sessions no word;
    after 20 there is one, also where the instrument is delisted on the 21st.
    """
    sessions = pd.bdate_range("2024-01-02", "2024-02-09").difference([pd.Timestamp("2024-01-15")])
    for missing in (19, 20, 21):
        days = set((sessions[: missing + 1] - small.at(0, small.START).tz_localize(None)).days)
        prices = {"A": [None, 100], "B": [10 if day in days else None for day in range(max(days) + 1)]}
        gone = [("A", max(days), "DELIST", 1)] if missing == 21 else []
        run = play(tmp_path, prices, {}, opening=LONG, calendars="XNYS", hourly=hourly, actions=gone)
        told = [each for each in run.warnings if "A" in each and "2024-01-02" in each and "50.0%" in each]
        assert len(told) == (missing >= 20), (missing, run.warnings)


def test_a_recovery_to_exactly_the_old_equity_is_seen(tmp_path) -> None:
    """500 random ways down and back up to the very same equity: recovered at the last bar, and no later."""
    rng = np.random.default_rng(11)
    for _ in range(500):
        down = 1000 - np.cumsum(rng.uniform(0.01, 9, rng.integers(2, 40)))
        span = max_drawdown_span(equity_frame([1000.0, *down, 1000.0]))
        assert span is not None and span.recovered and span.length == len(down) + 1
        assert span.depth == pytest.approx(down[-1] / 1000 - 1, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_an_account_that_never_falls_has_no_drawdown(tmp_path, seed) -> None:
    """A rising price, deposits of odd size, and pauses: drawdown 0, and ratios over nothing are None."""
    rng = np.random.default_rng(seed)
    price = (100 + np.round(np.cumsum(rng.uniform(0, 1, 60) * (rng.random(60) < 0.6)), 2)).tolist()
    run = play(tmp_path, {"A": price}, {0: {"A": 3.333333333}}, deposits=[{"amount": 33.37, "every": "week"}])
    assert run.metrics["max_drawdown"] == 0 and run.metrics["calmar"] is None and run.metrics["sortino"] is None
    run = play(tmp_path, {"A": [price[-1]] * 6}, {0: {"A": 1 / 3}}, deposits=[{"amount": 0.1, "at": "2024-01-04"}])
    ratios = ("sharpe", "sortino", "calmar", "win_rate", "average_trade", "profit_factor")
    assert [run.metrics[name] for name in ratios] == [None] * 6
    assert run.metrics["total_return"] == pytest.approx(0, abs=1e-12) and run.metrics["max_drawdown"] == 0


def test_a_residue_is_no_losing_trade(tmp_path) -> None:
    """Bought at 100, sold 1e-8 lower: neither won nor lost. A won trade beside it has no loss to be divided by."""
    plan = {0: {"A": 1}, 1: {"A": 0, "B": 1}, 2: {"B": 0}}
    run = play(tmp_path, {"A": [100, 100, 99.99999999, 100, 100], "B": [50, 50, 50, 60, 60]}, plan)
    assert run.trades["pnl"].tolist() == pytest.approx([-1e-8, 10], abs=1e-9)
    assert run.metrics["win_rate"] == 0.5 and run.metrics["profit_factor"] is None
    found = metrics(equity_frame([1, 1]), fills_frame(), trades_frame([-1e-8, 0.01, -0.005]), periods_per_year=365.25)
    assert found["win_rate"] == pytest.approx(1 / 3) and found["profit_factor"] == pytest.approx(2)


@pytest.mark.parametrize(("rate", "unit", "excess"), [
    (0.0, None, [0.1, -0.1, 0.1]), (ONE, None, [0.09, -0.11, 0.09]),
    ([100 * ONE, 100 * TWO, 100 * ONE, 9], "percent", [0.09, -0.12, 0.09]),
    ([ONE, TWO, ONE, 9], "fraction", [0.09, -0.12, 0.09]), ([None, TWO, None, None], "fraction", [0.1, -0.12, 0.08]),
])  # fmt: skip
def test_sharpe_and_sortino_over_a_risk_free_rate(tmp_path, rate, unit, excess) -> None:
    """+10 %, -10 %, +10 %, each less the rate known at the start of its period: 1 %, 2 %, 1 %; none known is 0."""
    prices = {"A": [100, 110, 99, 108.9]} | ({"RF": rate} if unit else {})
    free = {"series": "RF", "unit": unit} if unit else rate
    run = play(tmp_path, prices, {}, opening=HOLDS, universe=["A"], risk_free=free)
    assert (run.metrics["sharpe"], run.metrics["sortino"]) == pytest.approx(sharp(excess), rel=1e-9)


@pytest.mark.parametrize(("options", "plan", "words"), [
    ({}, {}, ["no order was filled"]),
    ({"features": {"slow": {"indicator": "sma", "window": 50}}}, {0: {"A": 1}}, ["slow", "missing at every pulse"]),
    ({"risk": ["long_only"]}, {0: {"A": -1}, 1: {"A": 1}}, ["long_only", "once"]),
    ({"risk": [{"max_weight": 1.5}]}, {0: {"A": 1}}, ["max_weight 1.5", "credit"]),
    ({"benchmark": "SPY"}, {0: {"A": 1}}, ["benchmark 'SPY'", "nothing to compare"]),
])  # fmt: skip
def test_what_cannot_be_meant_is_warned_of(tmp_path, options, plan, words) -> None:
    run = play(tmp_path, {"A": [100] * 5}, plan, **options)
    told = [warning for warning in run.warnings if all(word in warning for word in words)]
    assert len(told) == 1, run.warnings
    clean = play(tmp_path, {"A": [100] * 5}, {0: {"A": 1}}, cash_rule="allow_negative", risk=[{"max_weight": 1.5}])
    assert clean.warnings == []


def test_less_than_the_grid_is_no_wish_to_be_short(tmp_path) -> None:
    run = play(tmp_path, {"A": [100] * 5}, {0: {"A": -1e-12}, 1: {"A": 1}}, risk=["long_only"])
    assert run.warnings == []


@pytest.mark.parametrize("options", [
    USD, USD | {"cash_rule": "scale", "actions": [("A", 3, "DIVIDEND", 2), ("A", 5, "SPLIT", 2)]},
    {"cash_rule": "scale"}, {"cash_rule": "scale", "cash_rounding": "cents", "costs": [{"fixed_fee": 1}]},
    {"cash_rule": "scale", "plan": {day: {"A": "700", "B": "600"} for day in range(9)}},
    {"cash_rule": "allow_negative", "plan": {day: {"A": -20 - day} for day in range(9)}, "borrow": {"annual_bps": 900},
     "interest": {"cash_bps": 300, "debit_bps": 700}},
    {"cash_rule": "allow_negative", "plan": {day: {"A": -100 - day} for day in range(9)}, "borrow": {"annual_bps": 9}},
    {"actions": [("A", 4, "DELIST", 50)]}, USD | {"actions": [("A", 4, "DELIST", NAN)]},
    {"benchmark": "B", "risk_free": {"series": "B"}, "deposits": [{"amount": 99, "every": "week"}]},
], ids=["currency", "currency-scale-actions", "scale", "scale-cents-fee", "scale-invest", "short-carry", "bankrupt",
        "delist", "delist-currency", "deposits"])  # fmt: skip
def test_each_feature_is_the_same_on_a_history_that_ends_earlier(tmp_path, options) -> None:
    options = {"plan": FULL, "opening": {"cash": 2000.0}} | options
    made = {name: options.pop(name) for name in ("money", "actions") if name in options}
    prices = {"A": JUMPS, "B": [20, 30, 18, 25, 22, 31, 17, 24, 26, 20]}
    if any(action[2] == "DELIST" for action in made.get("actions", ())):
        prices["A"] = JUMPS[:4] + [None] * 6
    snapshot = market(tmp_path, prices | ({"GBPUSD": GBPUSD} if "money" in made else {}), **made)
    experiment = small.planned(options.pop("plan"), **options)
    run = lp.run(experiment, snapshot)
    replayed = truncation_replay(experiment, run, cuts=8)
    assert [each.difference for each in replayed] == [None] * len(replayed)
    run.save(tmp_path / "data")
    assert lp.replay(run.run_id, root=tmp_path / "data", snapshots=tmp_path).same
