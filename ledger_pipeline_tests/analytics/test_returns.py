"""Deposits must never look like returns, and the money-weighted rate must be the one Excel gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.analytics.returns import (
    bankrupt_at,
    drawdown,
    money_weighted_return,
    time_weighted_returns,
    undefined_reason,
    wealth_index,
    xirr,
)
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import equity_frame, equity_of_returns


def days(*dates: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(dates, tz="UTC")


def test_a_deposit_is_no_return():
    # 1000 earns nothing, 500 comes in, then all 1500 earn 10 %
    equity = equity_frame([1000, 1500, 1650], flows=[0, 500, 0])
    assert time_weighted_returns(equity).tolist() == pytest.approx([0.0, 0.10])
    assert wealth_index(equity).tolist() == pytest.approx([1.0, 1.0, 1.10])


def test_a_deposit_earns_in_its_own_period():
    # 500 is posted before the fills of the bar, so the bar's 150 gain is 10 % of 1500
    assert time_weighted_returns(equity_frame([1000, 1650], flows=[0, 500])).tolist() == pytest.approx([0.10])


def test_a_withdrawal_is_no_loss():
    assert time_weighted_returns(equity_frame([1000, 640], flows=[0, -200])).tolist() == pytest.approx([-0.20])


def test_the_flow_of_the_first_row_is_already_in_its_equity():
    assert time_weighted_returns(equity_frame([1500, 1650], flows=[500, 0])).tolist() == pytest.approx([0.10])


@given(
    st.lists(st.integers(-900, 900).map(lambda k: k / 10_000), min_size=1, max_size=40),
    st.lists(st.integers(0, 5_000), min_size=40, max_size=40),
)
def test_any_deposits_leave_the_returns_as_they_are(returns, deposits):
    equity = equity_of_returns(returns, [0, *deposits[: len(returns)]])
    assert time_weighted_returns(equity).to_numpy() == pytest.approx(np.array(returns), abs=1e-12)


def test_an_account_without_money_has_no_returns_until_the_first_deposit():
    equity = equity_frame([0, 0, 100, 110, 121], flows=[0, 0, 100, 0, 0])
    returns = time_weighted_returns(equity)
    assert returns.tolist() == pytest.approx([0.0, 0.10, 0.10])
    assert returns.index[0] == equity["ts"][2]
    assert wealth_index(equity).index[0] == equity["ts"][1]
    assert undefined_reason(equity) is None


def test_a_bankrupt_account_loses_everything_and_has_no_returns_after_even_if_money_comes_back():
    equity = equity_frame([100, 110, -5, 50, 60], flows=[0, 0, 0, 100, 0])
    returns = time_weighted_returns(equity)
    assert returns.iloc[0] == pytest.approx(0.10) and returns.iloc[1] == -1.0
    assert returns.iloc[2:].isna().all()
    assert wealth_index(equity).tolist()[:3] == pytest.approx([1.0, 1.1, 0.0])
    assert bankrupt_at(equity) == equity["ts"].iloc[2]
    assert undefined_reason(equity) == (
        "The account was bankrupt at 2020-01-03: its equity was -5.00; it has no returns after."
    )


@pytest.mark.parametrize(
    ("equity", "words"),
    [
        (equity_frame([]), "never held money"),
        (equity_frame([0, 0, 0]), "never held money"),
        (equity_frame([100]), "only one equity row"),
        (equity_frame([100, 50], flows=[0, -100]), "money at the start of 2020-01-02"),
        (equity_frame([100, np.nan]), "Equity was nan"),
    ],
)
def test_the_reason_why_returns_are_undefined_is_said(equity, words):
    assert words in undefined_reason(equity)


def test_wealth_and_drawdown_of_an_account_without_money_are_empty():
    assert len(wealth_index(equity_frame([0, 0]))) == len(drawdown(wealth_index(equity_frame([])))) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.drop(columns="flow"), "no column flow"),
        (lambda e: e.assign(ts=e["ts"].dt.tz_localize(None)), "no time zone"),
        (lambda e: e.iloc[::-1], "not ascending"),
        (lambda e: e.assign(ts=e["ts"].iloc[0]), "not ascending and unique"),
    ],
)
def test_a_table_that_is_no_equity_table_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        time_weighted_returns(change(equity_frame([100, 101, 102])))


def test_xirr_gives_what_the_documentation_of_excel_gives():
    times = days("2008-01-01", "2008-03-01", "2008-10-30", "2009-02-15", "2009-04-01")
    assert xirr(times, np.array([-10000, 2750, 4250, 3250, 2750])) == pytest.approx(0.373362535, abs=5e-9)


def test_xirr_of_one_payment_doubled_in_a_year_of_365_days():
    assert xirr(days("2021-01-01", "2022-01-01"), np.array([-100, 200])) == pytest.approx(1.0, abs=1e-12)
    # a leap year is 366 days of 365, so the same doubling is a little less a year
    assert xirr(days("2020-01-01", "2021-01-01"), np.array([-100, 200])) == pytest.approx(
        2 ** (365 / 366) - 1, abs=1e-12
    )


def test_xirr_takes_extreme_rates_and_zero():
    assert xirr(days("2021-01-01", "2021-01-02"), np.array([-100, 105])) == pytest.approx(1.05**365 - 1, rel=1e-9)
    assert xirr(days("2021-01-01", "2022-01-01"), np.array([-100, 0.01])) == pytest.approx(-0.9999, abs=1e-9)
    assert xirr(days("2021-01-01", "2022-01-01"), np.array([-100, 100])) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("amounts", [[-100, -50], [100, 50], [0, 0], [-100, np.nan], [-100, np.inf]])
def test_xirr_without_a_solution_is_none(amounts):
    assert xirr(days("2021-01-01", "2022-01-01"), np.array(amounts)) is None


def test_xirr_of_flows_on_one_day_is_none():
    assert xirr(days("2021-01-01", "2021-01-01"), np.array([-100, 120])) is None


def test_of_several_solutions_the_one_nearest_zero_is_given():
    # (x - 1.1)(x - 1.5) = x^2 - 2.6 x + 1.65 with x = 1 + r: solutions 10 % and 50 %
    times = days("2021-01-01", "2022-01-01", "2023-01-01")
    assert xirr(times, np.array([-1.0, 2.6, -1.65])) == pytest.approx(0.10, abs=1e-9)


@settings(max_examples=60)
@given(
    st.floats(-0.6, 3.0),
    st.lists(st.tuples(st.integers(1, 2_000), st.floats(1, 10_000)), min_size=1, max_size=20),
)
def test_xirr_finds_the_rate_at_which_deposits_grew(rate, deposits):
    last = 2_100
    offsets = np.array([0, *(day for day, _ in deposits), last])
    paid = np.array([500.0, *(amount for _, amount in deposits)])
    final = float(paid @ (1 + rate) ** ((last - offsets[:-1]) / 365))
    times = pd.Timestamp("2015-01-01", tz="UTC") + pd.to_timedelta(offsets, unit="D")
    assert xirr(pd.DatetimeIndex(times), np.array([*-paid, final])) == pytest.approx(rate, abs=1e-8)


def test_money_weighted_by_hand():
    # 1000 for a year of 365 days at 10 %, then another 1000 comes in and all 2100 earn 0 % for a year:
    # 1000 x^2 + 1000 x = 2100, so x = (-1 + sqrt(1 + 8.4)) / 2
    equity = equity_frame([1000, 2100, 2100], flows=[0, 1000, 0])
    equity["ts"] = days("2021-01-01", "2022-01-01", "2023-01-01").as_unit("us")
    assert money_weighted_return(equity) == pytest.approx((np.sqrt(9.4) - 1) / 2 - 1, abs=1e-12)


def test_money_weighted_counts_a_flow_on_the_last_row_and_a_late_first_deposit():
    equity = equity_frame([0, 100, 160], flows=[0, 100, 50])
    equity["ts"] = days("2020-01-01", "2021-01-01", "2022-01-01").as_unit("us")
    assert money_weighted_return(equity) == pytest.approx(0.10, abs=1e-12)


def test_money_weighted_needs_flows():
    assert money_weighted_return(equity_frame([1000, 1100])) is None
    assert money_weighted_return(equity_frame([1000], flows=[10])) is None
