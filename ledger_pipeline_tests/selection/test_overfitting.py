"""The probability of overfitting: by hand, by another implementation, and what it says of noise and of skill."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError


def slowly(values: np.ndarray, blocks: int, by: str) -> tuple[list[float], list[int]]:
    """Logits and choices, split by split, as the paper's algorithm reads."""
    length = len(values) // blocks
    values = values[len(values) - length * blocks :]
    parts = np.split(values, blocks)

    def performance(matrix: np.ndarray) -> np.ndarray:
        mean, deviation = matrix.mean(axis=0), matrix.std(axis=0, ddof=1)
        return mean if by == "mean" else np.where(deviation < 1e-12, 0.0, mean / np.where(deviation > 0, deviation, 1))

    logits, choices = [], []
    for inside in combinations(range(blocks), blocks // 2):
        train = np.concatenate([parts[k] for k in inside])
        test = np.concatenate([parts[k] for k in range(blocks) if k not in inside])
        best = int(performance(train).argmax())
        rank = stats.rankdata(performance(test))[best] / (values.shape[1] + 1)
        logits.append(float(np.log(rank / (1 - rank))))
        choices.append(best)
    return logits, choices


@pytest.mark.parametrize("by", ["sharpe", "mean"])
@pytest.mark.parametrize(("rows", "columns", "blocks"), [(40, 5, 4), (101, 7, 6), (64, 2, 8), (30, 20, 10)])
def test_it_is_what_the_algorithm_of_the_paper_gives(rows: int, columns: int, blocks: int, by: str) -> None:
    values = np.random.default_rng(rows).normal(0.0005, 0.01, (rows, columns))
    found = lp.pbo(values, blocks=blocks, by=by)
    logits, choices = slowly(values, blocks, by)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-9)
    assert found.chosen.tolist() == choices and found.splits == len(logits)
    assert found.pbo == np.mean(np.array(logits) <= 1e-12)
    slope, intercept, r, *_ = stats.linregress(found.in_sample, found.out_of_sample)
    assert found.slope == pytest.approx(slope) and found.intercept == pytest.approx(intercept)
    assert found.r_squared == pytest.approx(r**2)
    assert found.left_out == rows % blocks and found.observations == rows - rows % blocks


def test_two_candidates_and_two_blocks_by_hand() -> None:
    """A is better in the first block, B in the second; each choice is the worse one out of sample: rank 1 of 3, logit
    ln(1/2), and both splits overfit.
    """
    returns = pd.DataFrame({"A": [0.02, 0.01, -0.01, -0.02], "B": [-0.01, -0.02, 0.02, 0.01]})
    found = lp.pbo(returns, blocks=2)
    assert found.pbo == 1.0 and found.probability_of_loss == 1.0
    np.testing.assert_allclose(found.logits, np.log(0.5))
    assert sorted(found.chosen.tolist()) == [0, 1]


def test_skill_is_no_overfitting() -> None:
    """One candidate earns 10 bp a day in every block and the others nothing: it is always chosen, and best."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 0.01, (1000, 20))
    values[:, 7] += 0.003
    found = lp.pbo(values)
    assert found.pbo < 0.01 and (found.chosen == 7).mean() > 0.97 and found.probability_of_loss < 0.05


def test_noise_is_overfitting_half_the_time() -> None:
    """Over 200 seeds: the mean PBO of 10 candidates without skill is near a half, and the best of them is deflated."""
    found, deflated = [], []
    for seed in range(200):
        values = np.random.default_rng(seed).normal(0, 0.01, (504, 10))
        found.append(lp.pbo(values, blocks=8).pbo)
        ratios = values.mean(axis=0) / values.std(axis=0, ddof=1)
        best = values[:, ratios.argmax()]
        deflated.append(lp.deflated_sharpe(best, trials=10, deviation=float(ratios.std(ddof=1))))
    assert 0.43 < np.mean(found) < 0.57
    assert np.mean(np.array(deflated) >= 0.95) < 0.10 and 0.35 < np.mean(deflated) < 0.65


def test_a_candidate_that_rests_for_a_half_counts_as_zero_there() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (40, 3))
    values[:20, 2] = 0.0
    found = lp.pbo(values, blocks=4)
    np.testing.assert_allclose(found.logits, slowly(values, 4, "sharpe")[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.random.default_rng(0).normal(size=(40, 1)), {}, "1 candidate, and at least 2"),
        (np.random.default_rng(0).normal(size=(40, 3)), {"blocks": 5}, "blocks is 5"),
        (np.random.default_rng(0).normal(size=(40, 3)), {"blocks": 18}, "blocks is 18"),
        (np.random.default_rng(0).normal(size=(20, 3)), {"blocks": 16}, "too few for 16 blocks"),
        (np.random.default_rng(0).normal(size=(40, 3)), {"by": "alpha"}, "by is 'alpha'"),
        (np.column_stack([np.zeros(40), np.arange(40.0)]), {}, "candidate 0 has the same return at every row"),
        (np.column_stack([np.r_[np.nan, np.arange(39.0)], np.arange(40.0)]), {}, "candidate 0 has no return at row 1"),
    ],
)
def test_what_makes_no_sense_is_told(values, options, message) -> None:
    with pytest.raises(InputError, match=message):
        lp.pbo(values, **options)


def test_the_picture_shows_it() -> None:
    figure = lp.pbo(np.random.default_rng(0).normal(0, 0.01, (80, 4)), blocks=8).figure()
    assert "probability of overfitting" in figure.axes[0].get_title(loc="left")
