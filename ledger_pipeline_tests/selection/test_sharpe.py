"""Sharpe ratios after many trials: the papers' examples, inverses, and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.sharpe import Moments, adjusted_p_values, moments

PAPER = Moments(1250, 2.5 / math.sqrt(250), -3.0, 10.0)  # of the example of 2014


def test_the_example_of_the_paper() -> None:
    """Bailey and Lopez de Prado 2014, page 10: 100 trials with a variance of 1/2 a year over 250 days."""
    deviation = math.sqrt(0.5 / 250)
    assert lp.expected_maximum_sharpe(100, deviation) == pytest.approx(0.1132, abs=5e-5)
    assert lp.deflated_sharpe(PAPER, trials=100, deviation=deviation) == pytest.approx(0.9004, abs=5e-5)


def test_five_years_allow_45_trials() -> None:
    """Bailey, Borwein, Lopez de Prado and Zhu 2014: beyond 45 trials, five years show an annual ratio of 1 by chance."""
    assert lp.min_backtest_length(45) == pytest.approx(5.0, abs=0.01)
    assert lp.min_backtest_length(46) > 5.0 > lp.min_backtest_length(44)
    assert lp.min_backtest_length(45, sharpe=2.0) == pytest.approx(5.0 / 4, abs=0.01)
    assert lp.min_backtest_length(1) == 0.0


def test_the_expected_maximum_is_what_simulation_gives() -> None:
    """Of N standard normal numbers; the formula is within 2 % of the mean of 20,000 draws."""
    rng = np.random.default_rng(1)
    for trials in (10, 100, 1000):
        drawn = rng.standard_normal((2000, trials)).max(axis=1).mean()
        assert lp.expected_maximum_sharpe(trials, 1.0) == pytest.approx(drawn, rel=0.03)
    assert lp.expected_maximum_sharpe(1, 1.0) == 0.0


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400))
def test_moments_are_those_of_scipy(seed: int, size: int) -> None:
    values = np.random.default_rng(seed).standard_t(5, size) * 0.01
    known = moments(values)
    assert known.observations == size
    assert known.sharpe == pytest.approx(values.mean() / values.std(ddof=1), rel=1e-12)
    assert known.skew == pytest.approx(stats.skew(values), rel=1e-9)
    assert known.kurtosis == pytest.approx(stats.kurtosis(values, fisher=False), rel=1e-9)


def test_of_normal_returns_the_probability_is_that_of_a_z_test() -> None:
    """With skewness 0, kurtosis 3 and a small ratio, sharpe x sqrt(n - 1) is nearly standard normal."""
    known = Moments(101, 0.1, 0.0, 3.0)
    z = 0.1 * 10 / math.sqrt(1 + 0.5 * 0.01)
    assert lp.probabilistic_sharpe(known) == pytest.approx(stats.norm.cdf(z), rel=1e-12)
    assert lp.probabilistic_sharpe(known, benchmark=0.1) == 0.5


@settings(max_examples=100)
@given(st.floats(0.01, 0.5), st.floats(-2, 0.5), st.floats(3, 12), st.sampled_from([0.9, 0.95, 0.99]))
def test_a_record_of_the_minimum_length_has_the_confidence(
    ratio: float, skew: float, kurtosis: float, confidence: float
) -> None:
    needed = lp.min_track_record(Moments(100, ratio, skew, kurtosis), confidence=confidence)
    assert needed is not None
    z = ratio * math.sqrt(needed - 1) / math.sqrt(1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2)
    assert stats.norm.cdf(z) == pytest.approx(confidence, abs=1e-9)


def test_no_record_is_long_enough_for_a_ratio_that_is_not_above() -> None:
    assert lp.min_track_record(Moments(1000, 0.05, 0.0, 3.0), benchmark=0.05) is None
    assert lp.min_track_record(Moments(1000, -0.05, 0.0, 3.0)) is None


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_adjusted_p_values_are_those_of_statsmodels(size: int) -> None:
    p_values = np.random.default_rng(size).uniform(0, 1, size) ** 4
    for ours, theirs in (("bonferroni", "bonferroni"), ("holm", "holm"), ("bhy", "fdr_by")):
        expected = multipletests(p_values, method=theirs)[1]
        np.testing.assert_allclose(adjusted_p_values(p_values, ours), expected, rtol=1e-9, atol=1e-12)


def test_tests_that_are_only_counted_found_nothing() -> None:
    """A p-value of 0.001 among 2 of 50 tests: Bonferroni and Holm 0.05; BHY 0.001 x 50 x H(50), H(50) = 4.4992."""
    for method, expected in (("bonferroni", 0.05), ("holm", 0.05), ("bhy", 0.001 * 50 * 4.499205338)):
        assert adjusted_p_values([0.001, 0.5], method, 50)[0] == pytest.approx(expected, rel=1e-8)


def test_a_haircut_by_hand() -> None:
    """A ratio of 0.2 over 120 months: t = 2.1909, p = 0.03041 with 119 degrees; of 10 tests Bonferroni 0.3041, whose t
    is 1.0317, a ratio of 0.0942: 53 % is cut.
    """
    cut = lp.haircut_sharpe([0.2] + [0.0] * 9, observations=120)[0]
    p = 2 * stats.t.sf(0.2 * math.sqrt(120), 119)
    assert p == pytest.approx(0.03041, abs=1e-4)
    assert cut.method == "bonferroni" and cut.p_value == pytest.approx(10 * p, rel=1e-9)
    assert cut.sharpe == pytest.approx(stats.t.isf(5 * p, 119) / math.sqrt(120), rel=1e-9)
    assert cut.cut == pytest.approx(1 - cut.sharpe / 0.2, rel=1e-12) and 0.5 < cut.cut < 0.56
    lost = lp.haircut_sharpe([0.2], observations=120, trials=1000)[0]
    assert lost.p_value == 1.0 and lost.cut == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lp.expected_maximum_sharpe(0, 1.0), "trials is 0"),
        (lambda: lp.expected_maximum_sharpe(True, 1.0), "trials is True"),
        (lambda: lp.expected_maximum_sharpe(5, -1.0), "the deviation of the trials"),
        (lambda: lp.min_track_record(PAPER, confidence=95), "confidence is 95"),
        (lambda: lp.min_backtest_length(10, sharpe=0.0), "sharpe, an annual ratio, is 0.0"),
        (lambda: moments([0.01, 0.01, 0.01]), "the same return at every row"),
        (lambda: moments([0.01, float("nan"), 0.02]), "no return at row 2"),
        (lambda: moments([0.01]), "1 return, and at least 3"),
        (lambda: moments(pd.DataFrame(np.eye(4))), "choose a column"),
        (lambda: moments(["a", "b", "c"]), "a table of numbers"),
        (lambda: lp.haircut_sharpe([], observations=100), "ratios must be"),
        (lambda: lp.haircut_sharpe([0.1], observations=2), "observations is 2"),
        (lambda: lp.probabilistic_sharpe(Moments(100, 2.0, 5.0, 10.0)), "has no standard error"),
    ],
)
def test_what_makes_no_sense_is_told(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_nothing_is_cut_of_a_loss_and_no_more_is_left_than_there_was() -> None:
    for cut in lp.haircut_sharpe([-0.1, -0.05], observations=500):
        assert (cut.sharpe, cut.cut) == (-0.05, 0.0)
    for cut in lp.haircut_sharpe([0.1], observations=200_000):  # a p-value too small to write
        assert (cut.sharpe, cut.cut) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lp.haircut_sharpe([0.1], observations="x"), "observations is 'x'"),
        (lambda: lp.haircut_sharpe([0.1], observations=float("nan")), "observations is nan"),
        (lambda: lp.haircut_sharpe([0.1], observations=100, chosen=5), "chosen is 5; there are 1 tests"),
        (lambda: lp.haircut_sharpe([0.1], observations=100, trials=2.5), "trials is 2.5"),
        (lambda: lp.haircut_sharpe("x", observations=100), "ratios must be"),
        (lambda: lp.probabilistic_sharpe(PAPER, benchmark="x"), "benchmark is 'x'"),
        (lambda: lp.probabilistic_sharpe(PAPER, benchmark=float("nan")), "benchmark is nan"),
        (lambda: lp.min_track_record(PAPER, confidence="a"), "confidence is 'a'"),
        (lambda: lp.expected_maximum_sharpe(2, "a"), "is 'a'"),
        (lambda: lp.min_backtest_length(5, sharpe="1"), "is '1'"),
    ],
)
def test_more_that_makes_no_sense(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call()
