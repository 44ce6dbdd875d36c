"""Every metric against a worked example, and against empyrical wherever it defines the same thing."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.analytics import metrics as m
from ledger_pipeline.analytics.metrics import FORMULAS, max_drawdown_span, metrics, period_rate
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import (
    equity_frame,
    equity_of_returns,
    fills_frame,
    random_returns,
    trades_frame,
)


def of(equity, fills=None, trades=None, **kwargs):
    fills = fills_frame() if fills is None else fills
    trades = trades_frame() if trades is None else trades
    return metrics(equity, fills, trades, **({"periods_per_year": 252} | kwargs))


def same(ours, theirs):
    """Both undefined, or equal to 1e-9."""
    if ours is None:
        return not math.isfinite(theirs)
    return ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)


# on a grid of 1e-4, so that a nearly constant series does not turn rounding into a ratio
RETURNS = st.lists(st.integers(-1_500, 1_500).map(lambda k: k / 10_000), min_size=1, max_size=80)


@settings(max_examples=150)
@given(RETURNS, st.sampled_from([12, 52, 252, 365.25, 1638]), st.sampled_from([0.0, 0.02, 0.05]))
def test_agreement_with_empyrical_on_any_returns(values, periods, risk_free):
    r, free = np.array(values), period_rate(risk_free, periods)
    assert same(m.total_return(r), empyrical.cum_returns_final(r))
    assert same(m.cagr(r, len(r) / periods), empyrical.cagr(r, annualization=periods))
    assert same(m.volatility(r, periods), empyrical.annual_volatility(r, annualization=periods))
    assert same(m.sharpe(r, periods, free), empyrical.sharpe_ratio(r, free, annualization=periods))
    assert same(m.sortino(r, periods, free), empyrical.sortino_ratio(r, free, annualization=periods))
    assert same(m.max_drawdown(r), empyrical.max_drawdown(r))
    assert same(m.value_at_risk(r), empyrical.value_at_risk(r))
    assert same(m.conditional_value_at_risk(r), empyrical.conditional_value_at_risk(r))


@pytest.mark.parametrize("seed", range(5))
def test_agreement_with_empyrical_from_an_equity_table_with_deposits(seed):
    r = random_returns(seed, 1000)
    flows = np.where(np.arange(1001) % 21 == 5, 250.0, 0.0)
    # the rows of the table are a day apart, so a year has 365.25 of them
    found = of(equity_of_returns(r, flows), risk_free=0.02, periods_per_year=365.25)
    free = 1.02 ** (1 / 365.25) - 1
    expected = {
        "total_return": empyrical.cum_returns_final(r),
        "cagr": empyrical.cagr(r, annualization=365.25),
        "volatility": empyrical.annual_volatility(r, annualization=365.25),
        "sharpe": empyrical.sharpe_ratio(r, free, annualization=365.25),
        "sortino": empyrical.sortino_ratio(r, free, annualization=365.25),
        "calmar": empyrical.calmar_ratio(r, annualization=365.25),
        "max_drawdown": empyrical.max_drawdown(r),
        "var_95": empyrical.value_at_risk(r),
        "cvar_95": empyrical.conditional_value_at_risk(r),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found["net_flows"] == flows.sum()


def test_worked_example():
    equity = equity_frame([100, 110, 99, 108.9], exposure=[0, 55, 99, 0])
    equity["fees"] = [0, 1, 1, 2.5]
    equity["income"] = [0, 0, 3, 3]
    fills = fills_frame([("A", "BUY", 2, 25, 1), ("A", "SELL", 2, 30, 1.5)])
    found = of(equity, fills, trades_frame([8, -2, -4, 10]), periods_per_year=3)
    assert found["total_return"] == pytest.approx(0.089)
    assert found["cagr"] == pytest.approx(1.089 ** (365.25 / 3) - 1)  # three days, by elapsed time
    # r = 10 %, -10 %, 10 %: mean 1/30, sample variance ((2/30)^2 x 2 + (4/30)^2) / 2 = 3 x (2/30)^2
    assert found["volatility"] == pytest.approx(math.sqrt(3 * (2 / 30) ** 2) * math.sqrt(3))
    assert found["sharpe"] == pytest.approx((1 / 30) / math.sqrt(3 * (2 / 30) ** 2) * math.sqrt(3))
    assert found["sortino"] == pytest.approx((1 / 30) * 3 / (math.sqrt(0.01 / 3) * math.sqrt(3)))
    assert found["max_drawdown"] == pytest.approx(-0.10)
    assert found["calmar"] == pytest.approx((1.089 ** (365.25 / 3) - 1) / 0.1)
    assert found["max_drawdown_length"] == 2  # from the peak at bar 1 to the end: 108.9 is below 110
    assert found["var_95"] == pytest.approx(-0.10 + 0.1 * 0.20)
    assert found["cvar_95"] == pytest.approx(-0.10)
    assert found["trades"] == 4
    assert found["win_rate"] == 0.5
    assert found["average_trade"] == 3.0
    assert found["profit_factor"] == 3.0
    assert found["turnover"] == pytest.approx((50 + 60) / 2 / 104.475 / (3 / 365.25))
    assert found["costs"] == 2.5
    assert found["time_in_market"] == 0.5
    assert found["exposure"] == pytest.approx((0.5 + 1.0) / 4)
    assert found["income"] == 3.0
    assert found["net_flows"] == 0.0
    assert found["final_equity"] == pytest.approx(108.9)
    assert found["money_weighted_return"] is None


def test_money_weighted_return_appears_with_flows():
    found = of(equity_frame([1000, 2000, 2200], flows=[0, 1000, 0]))
    assert found["total_return"] == pytest.approx(0.10)
    assert found["money_weighted_return"] > found["total_return"]


def test_the_order_and_the_names_are_those_of_the_formulas():
    assert list(of(equity_frame([100, 101, 99]))) == list(FORMULAS)
    assert all(text and "\n" not in text for text in FORMULAS.values())


@pytest.mark.parametrize(
    "equity",
    [
        equity_frame([]),
        equity_frame([100]),
        equity_frame([100, 100]),
        equity_frame([100, 100, 100, 100]),
        equity_frame([0, 0, 0]),
        equity_frame([100, 0, 0]),
        equity_frame([100, -20, 30]),
        equity_frame([100, 50, 30], flows=[0, -100, 0]),
        equity_frame([100, np.nan, 30]),
        equity_frame([1e-300, 1e300]),
        equity_frame([1, 1e9]),
    ],
)
def test_nothing_is_ever_nan_or_infinite(equity):
    found = of(equity, periods_per_year=98_280)
    assert all(value is None or math.isfinite(value) for value in found.values())
    json.dumps(found, allow_nan=False)


def test_without_a_return_what_needs_one_is_none_and_the_rest_is_given():
    found = of(equity_frame([100], exposure=[0]), trades=trades_frame([4]))
    assert {name for name, value in found.items() if value is not None} == set(
        "trades win_rate average_trade costs time_in_market exposure income net_flows final_equity".split()
    )


def test_a_bankrupt_account_has_lost_everything():
    found = of(equity_frame([100, 120, -20, 30]))
    assert found["total_return"] == found["max_drawdown"] == found["cagr"] == -1.0
    assert found["max_drawdown_length"] == 1  # from the peak of 120 to the end of the account
    # r = 20 %, -100 %: mean -0.4, sample deviation 1.2 / sqrt(2)
    assert found["sharpe"] == pytest.approx(-0.4 / (1.2 / math.sqrt(2)) * math.sqrt(252))
    assert found["final_equity"] == 30.0


def test_back_at_the_old_equity_is_recovered_whatever_the_products_of_returns_say():
    rng = np.random.default_rng(0)
    for _ in range(500):
        levels = np.round(rng.uniform(50, 99, 12), 2)
        equity = equity_frame([100.0, *levels, 100.0])
        assert max_drawdown_span(equity).recovered
        assert max_drawdown_span(equity).end == equity["ts"].iloc[-1]


def test_an_account_that_never_falls_has_no_drawdown_and_no_calmar():
    rising = equity_frame(100_000 + np.cumsum(np.full(300, 1 / 3)) * 1.0)
    residue = equity_frame([100.0, 100.0 - 2e-14, 100.0, 100.0 + 1e-14])
    for equity in (rising, residue):
        found = of(equity)
        assert found["max_drawdown"] == 0.0 and found["calmar"] is None and found["max_drawdown_length"] == 0
    assert of(residue)["sharpe"] is None and of(residue)["sortino"] is None


def test_a_rounding_residue_is_no_losing_trade():
    found = of(equity_frame([100, 101]), trades=trades_frame([5.0, -1e-8]))
    assert found["win_rate"] == 0.5 and found["profit_factor"] is None
    dear = trades_frame([5.0, -1e-4]).assign(quantity=[1.0, 1.0], entry_price=[1e6, 1e6])
    assert of(equity_frame([100, 101]), trades=dear)["profit_factor"] is None
    cheap = trades_frame([5.0, -1e-4]).assign(quantity=[1.0, 1.0], entry_price=[1.0, 1.0])
    assert of(equity_frame([100, 101]), trades=cheap)["profit_factor"] == pytest.approx(50_000)


def test_a_risk_free_series_counts_from_when_it_was_known():
    # daily rows, 4 periods a year; rates known at the close of row 1 (0 before it) and row 3
    equity = equity_frame([100, 101, 103, 102, 104])
    rates = pd.Series([0.04, 0.08], index=equity["ts"].iloc[[1, 3]].array)
    r = np.array([0.01, 2 / 101, -1 / 103, 2 / 102])
    free = np.array([0.0, 1.04**0.25 - 1, 1.04**0.25 - 1, 1.08**0.25 - 1])
    excess = r - free
    found = of(equity, risk_free=rates, periods_per_year=4)
    assert found["sharpe"] == pytest.approx(excess.mean() / excess.std(ddof=1) * 2)
    assert found["sortino"] == pytest.approx(excess.mean() * 4 / (np.sqrt(np.mean(np.minimum(excess, 0) ** 2)) * 2))


def test_one_return_has_growth_but_no_volatility():
    found = of(equity_frame([100, 101]))
    assert found["total_return"] == pytest.approx(0.01)
    assert found["volatility"] is found["sharpe"] is found["sortino"] is None


def test_constant_returns_have_no_sharpe_though_rounding_gives_them_volatility():
    r = np.full(100, 0.01)
    found = of(equity_of_returns(r))
    assert 0 <= found["volatility"] < 1e-12
    assert found["sharpe"] is None
    assert found["sortino"] is found["calmar"] is None
    assert found["max_drawdown"] == 0.0
    assert found["max_drawdown_length"] == 0


def test_trades_that_never_lose_have_no_profit_factor():
    found = of(equity_frame([100, 101]), trades=trades_frame([1, 0]))
    assert found["profit_factor"] is None
    assert found["win_rate"] == 0.5
    assert of(equity_frame([100, 101]))["win_rate"] is None


@pytest.mark.parametrize(
    ("levels", "peak", "trough", "end", "recovered"),
    [
        ([100, 120, 90, 100, 120, 110], 1, 2, 4, True),
        ([100, 120, 110, 130, 91, 100], 3, 4, 5, False),
        ([100, 90, 80, 70], 0, 3, 3, False),
        ([100, 120, 120, 90, 121], 2, 3, 4, True),
        ([100, 80, 100, 80, 100], 0, 1, 2, True),
    ],
)
def test_when_the_deepest_drawdown_was(levels, peak, trough, end, recovered):
    equity = equity_frame(levels)
    span = max_drawdown_span(equity)
    at = list(equity["ts"])
    assert (span.peak, span.trough, span.end, span.recovered) == (at[peak], at[trough], at[end], recovered)
    assert span.length == end - peak
    assert span.depth == of(equity)["max_drawdown"]


def test_a_deposit_does_not_end_a_drawdown():
    equity = equity_frame([100, 80, 180, 180], flows=[0, 0, 100, 0])
    span = max_drawdown_span(equity)
    assert span.depth == pytest.approx(-0.2)
    assert not span.recovered
    assert span.length == 3


def test_turnover_is_a_rate_a_year():
    # 10,000 bought and 10,000 sold over half a year on mean equity 10,000: exchanged once, so twice a year
    fills = fills_frame([("A", "BUY", 100, 100, 0), ("A", "SELL", -100, 100, 0)])
    equity = equity_frame(np.full(2, 10_000.0))
    equity["ts"] = pd.to_datetime(["2020-01-01T00:00Z", "2020-07-01T15:00Z"]).as_unit("us")  # 182.625 days
    found = of(equity, fills)
    assert found["turnover"] == pytest.approx(2.0)


@pytest.mark.parametrize("periods", [0, -1, math.nan, math.inf])
def test_periods_a_year_must_make_sense(periods):
    with pytest.raises(InputError, match="periods_per_year"):
        of(equity_frame([100, 101]), periods_per_year=periods)


def test_a_risk_free_rate_must_make_sense():
    with pytest.raises(InputError, match="risk-free"):
        of(equity_frame([100, 101]), risk_free=-1.0)


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="equity table has no column exposure, fees"):
        of(equity_frame([100, 101]).drop(columns=["exposure", "fees"]))
    with pytest.raises(InputError, match="fills table has no column price"):
        of(equity_frame([100, 101]), fills_frame().drop(columns="price"))
    with pytest.raises(InputError, match="trades table has no column pnl"):
        of(equity_frame([100, 101]), trades=trades_frame().drop(columns="pnl"))


def test_the_arguments_are_left_as_they_were():
    equity, fills, trades = equity_frame([100, 90, 110]), fills_frame([("A", "BUY", 1, 1, 0)]), trades_frame([1])
    copies = equity.copy(), fills.copy(), trades.copy()
    of(equity, fills, trades)
    assert equity.equals(copies[0]) and fills.equals(copies[1]) and trades.equals(copies[2])


def test_the_room_loads_no_drawing_or_solving_library():
    code = (
        "import sys, ledger_pipeline.analytics.metrics, ledger_pipeline.analytics.report\n"
        "print([n for n in ('matplotlib', 'scipy', 'jinja2', 'dagster') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
