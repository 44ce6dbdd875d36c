"""Clusters, reality checks, bootstraps, random entries and orders: planted answers, and arch by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests import small


def test_three_ideas_in_twelve_candidates() -> None:
    """Three common factors with four candidates each, correlated by about 0.94 within and not between."""
    rng = np.random.default_rng(0)
    factors = rng.normal(0, 0.01, (600, 3))
    values = np.repeat(factors, 4, axis=1) + rng.normal(0, 0.0025, (600, 12))
    found = lp.effective_trials(values)
    assert (found.hierarchical, found.onc, found.clustered) == (3, 3, 12)
    alone = lp.effective_trials(rng.normal(0, 0.01, (600, 6)))
    assert alone.hierarchical == 6 and abs(alone.mean_correlation) < 0.1
    one = lp.effective_trials(factors[:, :1] + rng.normal(0, 0.0005, (600, 8)))
    assert one.hierarchical == 1


def test_the_reality_check_is_that_of_arch() -> None:
    rng = np.random.default_rng(1)
    values, benchmark = rng.normal(0.0005, 0.01, (250, 5)), rng.normal(0, 0.01, 250)
    found = lp.reality_check(values, benchmark=benchmark, draws=500, block_length=5, seed=7)
    theirs = SPA(-benchmark, pd.DataFrame(-values), block_size=5, reps=500, bootstrap="stationary", seed=7)
    theirs.compute()
    assert found.spa_consistent == theirs.pvalues["consistent"] and found.spa_lower <= found.spa_upper
    again = lp.reality_check(values, benchmark=benchmark, draws=500, block_length=5, seed=7)
    assert again == found


def test_skill_passes_and_noise_does_not() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.01, (500, 6))
    noise = lp.reality_check(values, draws=300)
    assert noise.reality_check > 0.05 and noise.better == ()
    values[:, 3] += 0.004
    skill = lp.reality_check(pd.DataFrame(values, columns=list("abcdef")), draws=300)
    assert skill.reality_check < 0.01 and skill.better == ("d",) and skill.best_set == ("d",)
    assert skill.benchmark == "zero" and skill.block_length >= 1


def test_an_interval_holds_the_value_and_is_narrower_with_more_data() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.0008, 0.01, 2000)
    long, short = lp.bootstrap_intervals(values, draws=500), lp.bootstrap_intervals(values[:250], draws=500)
    for one in (long.sharpe, long.cagr, long.max_drawdown):
        assert one.low <= one.value <= one.high
    assert long.sharpe.high - long.sharpe.low < short.sharpe.high - short.sharpe.low
    assert long.sharpe.value == pytest.approx(values.mean() / values.std(ddof=1) * np.sqrt(252))
    assert long.sharpe.high - long.sharpe.low == pytest.approx(2 * 1.96 * np.sqrt(252 / 2000), rel=0.15)  # Lo 2002


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: lp.reality_check(r, draws=5), "draws is 5"),
        (lambda r: lp.reality_check(r, size=0.7), "size is 0.7"),
        (lambda r: lp.reality_check(r, block_length=90), "block_length is 90"),
        (lambda r: lp.reality_check(r, benchmark=r[:50, 0]), "the benchmark has 50 returns and the candidates 100"),
        (lambda r: lp.reality_check(r, benchmark=np.r_[np.nan, r[1:, 0]]), "a period without a return"),
        (lambda r: lp.bootstrap_intervals(r[:, 0], confidence=2), "confidence is 2"),
        (lambda r: lp.bootstrap_intervals(r[:10, 0]), "10 returns, and at least 20"),
        (lambda r: lp.bootstrap_intervals(np.r_[-1.0, r[:, 0]]), "lost everything"),
        (lambda r: lp.effective_trials(r[:, :1]), "1 candidate, and at least 2"),
    ],
)
def test_what_makes_no_sense_is_told(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call(np.random.default_rng(0).normal(0, 0.01, (100, 3)))


def timed(tmp_path, prices, held):
    """A run that holds one share of A at the pulses in `held`."""
    return small.play(tmp_path, {"A": prices}, {t: {"A": 1 if t in held else 0} for t in range(len(prices))}, costs=[])


def test_entries_at_the_right_time_are_no_chance(tmp_path) -> None:
    """The price doubles over three of 60 bars, and the run holds exactly then; at random times that is rare."""
    prices = [100.0] * 30 + [130.0, 160.0, 200.0] + [200.0] * 27
    lucky = timed(tmp_path, prices, {28, 29, 30, 31})
    found = lp.permutation_test(lucky, draws=500, seed=1)
    assert found.trades == 1 and found.p_value < 0.15 and found.gain == pytest.approx(np.log(2.0), abs=1e-9)
    flat = lp.permutation_test(timed(tmp_path / "b", prices, {2, 3}), draws=500, seed=1)
    assert flat.p_value > 0.5 and flat.gain == 0.0


def test_the_order_of_trades_changes_the_way_and_not_the_end(tmp_path) -> None:
    prices = [100, 110, 100, 90, 100, 112, 100, 85, 100, 100, 100]
    run = timed(tmp_path, prices, {0, 2, 4, 6})
    found = lp.trade_order(run, draws=400, seed=3)
    assert found.trades == 4 and found.quantiles[0.01] <= found.quantiles[0.5] <= found.quantiles[0.99] <= 0.0
    assert 0.0 <= found.worse <= 1.0 and found == lp.trade_order(run, draws=400, seed=3)


def test_a_run_without_trades_has_nothing_to_test(tmp_path) -> None:
    run = timed(tmp_path, [10, 11, 12, 13], set())
    with pytest.raises(InputError, match="closed no trade"):
        lp.permutation_test(run)
    with pytest.raises(InputError, match="closed 0 trade"):
        lp.trade_order(run)


def test_the_gain_is_that_of_the_trades(tmp_path) -> None:
    """Bought at the open of day 2 at 10 and sold at the open of day 4 at 13, whatever the closes say."""
    prices = [(10, 10), (10, 11), (10, 12), (12, 9), (13, 8), (13, 13), (13, 13), (13, 13)]
    run = small.play(tmp_path, {"A": prices}, {1: {"A": 1}, 3: {"A": 0}}, costs=[])
    assert run.trades["pnl"].tolist() == [3.0]
    assert lp.permutation_test(run, draws=100).gain == pytest.approx(np.log(1.3), abs=1e-12)


def test_candidates_that_are_alike_are_one(tmp_path) -> None:
    """Equal columns, and one that differs by a constant: the best set holds all that are alike, or none of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (300, 4))
    values[:, 1] = values[:, 0]
    values[:, 2] = values[:, 0] - 0.0001
    found = lp.reality_check(values, draws=200)
    assert found.best_set is not None and len({k in found.best_set for k in (0, 1, 2)}) == 1
    same = lp.reality_check(values[:, :2], draws=200)
    assert same.best_set == (0, 1)
    with pytest.raises(InputError, match="differs from the benchmark by the same at every row"):
        lp.reality_check(values[:, [0]], benchmark=values[:, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: lp.reality_check(r, benchmark="x"), "one series of returns"),
        (lambda r: lp.reality_check(r, size="x"), "size is 'x'"),
        (lambda r: lp.reality_check(r, seed=-1), "seed is -1"),
        (lambda r: lp.bootstrap_intervals(r[:, 0], periods_per_year=0), "periods_per_year is 0"),
        (lambda r: lp.bootstrap_intervals(r[:, 0], periods_per_year=float("nan")), "periods_per_year is nan"),
        (lambda r: lp.bootstrap_intervals(r[:, 0], seed="x"), "seed is 'x'"),
        (lambda r: lp.effective_trials(r, seed="x"), "seed is 'x'"),
        (lambda r: lp.cpcv(r, periods_per_year="x"), "periods_per_year is 'x'"),
        (lambda r: lp.cpcv(r, periods_per_year=-1), "periods_per_year is -1"),
        (lambda r: lp.permutation_test("x"), "a run is tested, not a str"),
        (lambda r: lp.trade_order(pd.DataFrame(r)), "a run is tested, not a DataFrame"),
        (lambda r: lp.selection_integrity(pd.DataFrame(r)), "not of a DataFrame"),
        (lambda r: lp.pbo(r + 1j), "a table of numbers"),
    ],
)
def test_more_that_makes_no_sense(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call(np.random.default_rng(0).normal(0, 0.01, (100, 3)))
