"""Against a benchmark as empyrical measures it; and the benchmark's own dividends and splits."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger_pipeline.analytics import benchmark as b
from ledger_pipeline.analytics.benchmark import BENCHMARK_FORMULAS, benchmark_metrics, total_return_index
from ledger_pipeline.analytics.metrics import period_rate
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.analytics.frames import equity_frame, equity_of_returns, random_returns


def series(values, start="2020-01-01") -> pd.Series:
    return pd.Series(np.asarray(values, float), index=pd.date_range(start, periods=len(values), tz="UTC").as_unit("us"))


def actions(*rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ex_date", "kind", "value"])
    return frame.assign(ex_date=pd.to_datetime(frame["ex_date"], utc=True), value=frame["value"].astype(float))


PAIRS = st.lists(st.tuples(*[st.integers(-900, 900).map(lambda k: k / 10_000)] * 2), min_size=3, max_size=60)


@settings(max_examples=150)
@given(PAIRS, st.sampled_from([12, 252, 365.25]), st.sampled_from([0.0, 0.03]))
def test_agreement_with_empyrical_on_any_returns(pairs, periods, risk_free):
    r, f = np.array(pairs).T
    assume(np.ptp(f) > 0 and np.ptp(r - f) > 1e-9)
    free = period_rate(risk_free, periods)
    slope = empyrical.beta(r, f, risk_free=free)
    assume(np.mean(r - free - slope * (f - free)) > -1)  # below, empyrical raises a negative base to a power
    assert b.beta(r, f) == pytest.approx(slope, rel=1e-9, abs=1e-9)
    expected = empyrical.alpha(r, f, risk_free=free, annualization=periods)
    found = b.alpha(r, f, periods, free)
    assert found == (pytest.approx(expected, rel=1e-9, abs=1e-9) if np.isfinite(expected) else None)
    annual = np.sqrt(periods)
    assert b.tracking_error(r, f, periods) == pytest.approx(
        empyrical.annual_volatility(r - f, annualization=periods), rel=1e-9
    )
    assert b.information_ratio(r, f, periods) == pytest.approx(
        empyrical.excess_sharpe(r, f) * annual, rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_agreement_with_empyrical_from_tables_with_deposits(seed):
    r, f = random_returns(seed, 400), random_returns(seed + 100, 400)
    r = 0.7 * f + 0.5 * r
    equity = equity_of_returns(r, np.where(np.arange(401) % 20 == 3, 500.0, 0.0))
    found = benchmark_metrics(equity, series(50 * np.cumprod([1, *(1 + f)])), periods_per_year=252, risk_free=0.03)
    free = 1.03 ** (1 / 252) - 1
    expected = {
        "benchmark_return": empyrical.cum_returns_final(f),
        "alpha": empyrical.alpha(r, f, risk_free=free, annualization=252),
        "beta": empyrical.beta(r, f, risk_free=free),
        "information_ratio": empyrical.excess_sharpe(r, f) * np.sqrt(252),
        "tracking_error": empyrical.annual_volatility(r - f, annualization=252),
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert list(found) == list(BENCHMARK_FORMULAS)


def test_a_run_that_holds_the_benchmark_twice_has_beta_two_and_no_information_ratio_against_itself():
    f = random_returns(3, 200)
    levels = series(np.cumprod([1, *(1 + f)]))
    double = benchmark_metrics(equity_of_returns(2 * f), levels, periods_per_year=252)
    assert double["beta"] == pytest.approx(2.0)
    assert double["alpha"] == pytest.approx(0.0, abs=1e-9)
    itself = benchmark_metrics(equity_of_returns(f), levels, periods_per_year=252)
    assert itself["beta"] == pytest.approx(1.0)
    assert itself["information_ratio"] is None
    assert itself["tracking_error"] == pytest.approx(0.0, abs=1e-12)


def test_only_common_times_count_and_returns_span_the_gaps():
    equity = equity_frame([100, 110, 121, 100, 90, 99])
    levels = series([10, 11, 7, 9, 8, 10]).drop(pd.Timestamp("2020-01-03", tz="UTC"))
    levels.iloc[3] = np.nan
    found = benchmark_metrics(equity, levels, periods_per_year=252)
    r = np.array([110 / 100, 100 / 110, 99 / 100]) - 1
    f = np.array([11 / 10, 9 / 11, 10 / 9]) - 1
    assert found["beta"] == pytest.approx(np.cov(r, f)[0, 1] / np.var(f, ddof=1))
    assert found["benchmark_return"] == pytest.approx(0.0)


def test_a_benchmark_that_begins_later_is_measured_from_its_first_level():
    found = benchmark_metrics(
        equity_frame([100, 110, 99, 120]), series([10, 12, 15], "2020-01-02"), periods_per_year=252
    )
    assert found["benchmark_return"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("equity", "levels"),
    [
        (equity_frame([]), series([1, 2, 3])),
        (equity_frame([100, 101]), series([1, 2])),
        (equity_frame([100, 101, 102]), series([1, 2, 3], "2030-01-01")),
        (equity_frame([100, -5, 102]), series([1, 2, 3])),
        (equity_frame([100, 105, 102]), series([2, 2, 2])),
    ],
)
def test_what_cannot_be_measured_is_none(equity, levels):
    found = benchmark_metrics(equity, levels, periods_per_year=252)
    assert found["alpha"] is found["beta"] is None


def test_levels_must_be_levels_with_time_zones():
    with pytest.raises(InputError, match="zero or less"):
        benchmark_metrics(equity_frame([1, 2]), series([0.01, -0.01]), periods_per_year=252)
    with pytest.raises(InputError, match="benchmark have no time zone"):
        benchmark_metrics(equity_frame([1, 2]), series([1, 2]).tz_localize(None), periods_per_year=252)


def test_a_dividend_is_reinvested_at_the_close_of_its_ex_date():
    found = total_return_index(series([100, 102, 99, 110]), actions(("2020-01-03", "DIVIDEND", 3)))
    # on the ex-date the day's return is (99 + 3) / 102 - 1 = 0
    assert found.tolist() == pytest.approx([100, 102, 102, 102 * 110 / 99])


def test_a_split_is_no_return():
    found = total_return_index(series([100, 50, 55]), actions(("2020-01-02", "SPLIT", 2)))
    assert found.tolist() == pytest.approx([100, 100, 110])


def test_a_dividend_on_the_day_of_a_split_is_paid_on_the_old_shares():
    for order in (1, -1):
        found = total_return_index(
            series([100, 49]), actions(*[("2020-01-02", "SPLIT", 2), ("2020-01-02", "DIVIDEND", 2)][::order])
        )
        assert found.tolist() == pytest.approx([100, 2 * 49 + 2])


def test_actions_between_bars_count_at_the_next_bar_in_the_order_of_their_dates():
    closes = series([100, 1, 1, 60]).drop(pd.to_datetime(["2020-01-02", "2020-01-03"], utc=True))
    found = total_return_index(closes, actions(("2020-01-03", "DIVIDEND", 3), ("2020-01-02", "SPLIT", 2)))
    assert found.tolist() == pytest.approx([100, 2 * 60 + 2 * 3])


def test_actions_before_the_first_or_after_the_last_bar_do_nothing():
    rows = actions(("2019-12-01", "SPLIT", 2), ("2020-01-01", "DIVIDEND", 5), ("2021-01-01", "SPLIT", 4))
    assert total_return_index(series([100, 101]), rows).tolist() == [100, 101]
    assert total_return_index(series([100, np.nan, 101]), actions()).tolist() == [100, 101]


@pytest.mark.parametrize("seed", range(3))
def test_the_index_is_the_account_of_one_share_that_reinvests(seed):
    draw = np.random.default_rng(seed)
    closes = series(np.round(50 * np.cumprod(1 + draw.normal(0, 0.02, 60)), 2))
    rows = actions(
        *[(closes.index[i], "DIVIDEND", round(float(draw.uniform(0.1, 2)), 2)) for i in range(5, 60, 13)],
        *[(closes.index[i], "SPLIT", ratio) for i, ratio in ((20, 2.0), (41, 0.25))],
    )
    shares, account = 1.0, []
    for ts, close in closes.items():
        due = rows[rows["ex_date"] == ts]
        cash = shares * due.loc[due["kind"] == "DIVIDEND", "value"].sum()
        shares *= due.loc[due["kind"] == "SPLIT", "value"].prod()
        shares += cash / close
        account.append(shares * close)
    assert total_return_index(closes, rows).tolist() == pytest.approx(account)


def test_bad_actions_are_refused():
    with pytest.raises(InputError, match="'MERGER'"):
        total_return_index(series([1, 2]), actions(("2020-01-02", "MERGER", 1)))
    with pytest.raises(InputError, match="no column value"):
        total_return_index(series([1, 2]), actions().drop(columns="value"))
    with pytest.raises(InputError, match="zero or less"):
        total_return_index(series([1, 0]), actions())
    naive = actions(("2020-01-02", "SPLIT", 2)).assign(ex_date=pd.to_datetime(["2020-01-02"]))
    with pytest.raises(InputError, match="actions have no time zone"):
        total_return_index(series([1, 2]), naive)
