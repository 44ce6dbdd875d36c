"""Combinatorial splits, against skfolio's, and paths that put every period together once."""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
import pytest
from skfolio.model_selection import CombinatorialPurgedCV

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.splits import combinatorial_splits, path_numbers


@pytest.mark.parametrize(
    ("groups", "tested", "purge", "embargo"), [(6, 2, 0, 0), (10, 2, 3, 2), (8, 3, 5, 0), (5, 2, 2, 4), (6, 4, 1, 1)]
)
def test_the_splits_are_those_of_skfolio(groups: int, tested: int, purge: int, embargo: int) -> None:
    n = groups * 20
    theirs = CombinatorialPurgedCV(n_folds=groups, n_test_folds=tested, purged_size=purge, embargo_size=embargo)
    expected = [(train, np.concatenate(test)) for train, test in theirs.split(np.zeros((n, 1)))]
    ours = combinatorial_splits(n, groups=groups, test_groups=tested, purge=purge, embargo=embargo)
    assert len(ours) == len(expected) == comb(groups, tested)
    by_test = {tuple(sorted(test.tolist())): sorted(train.tolist()) for train, test in expected}
    for split in ours:
        assert by_test[tuple(split.test.tolist())] == split.train.tolist()


@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (10, 2), (8, 3), (5, 4)])
def test_each_path_holds_every_group_once(groups: int, tested: int) -> None:
    numbers = path_numbers(groups, tested)
    count = comb(groups - 1, tested - 1)
    for path in range(count):
        assert ((numbers == path).sum(axis=0) == 1).all()
    assert numbers.max() == count - 1 and ((numbers >= 0).sum(axis=1) == tested).all()
    theirs = CombinatorialPurgedCV(n_folds=groups, n_test_folds=tested).get_path_ids()
    assert len(np.unique(theirs)) == count


def test_what_is_chosen_in_train_is_followed_in_test() -> None:
    """Four periods of 10, two candidates: A gains in the first two, B in the last two. With test groups 0 and 1 the
    train periods choose B, which loses there; every path is made of such choices.
    """
    up, down = np.tile([0.02, 0.0], 10), np.tile([-0.02, 0.0], 10)
    returns = pd.DataFrame({"A": np.r_[up, down], "B": np.r_[down, up]})
    result = lp.cpcv(returns, groups=4, test_groups=2)
    rows = {tuple(row.tested): row for row in result.choices.itertuples()}
    assert rows[(0, 1)].candidate == "B" and rows[(0, 1)].test < 0 and rows[(2, 3)].candidate == "A"
    assert rows[(0, 2)].train == pytest.approx(0.0, abs=1e-12)  # one period up, one down
    assert result.paths.shape == (40, 3) and result.paths.notna().all().all()
    assert result.splits == 6 and len(result.metrics) == 3
    np.testing.assert_allclose(result.paths[0].iloc[:10], down[:10])


def test_purge_and_embargo_come_from_train_only() -> None:
    """10 periods of 2 groups: testing the second with a purge of 2 trains on 0 to 2; testing the first with a purge of 1
    and an embargo of 2 trains on 8 and 9.
    """
    second = combinatorial_splits(10, groups=2, test_groups=1, purge=2)[1]
    first = combinatorial_splits(10, groups=2, test_groups=1, purge=1, embargo=2)[0]
    assert second.test.tolist() == [5, 6, 7, 8, 9] and second.train.tolist() == [0, 1, 2]
    assert first.test.tolist() == [0, 1, 2, 3, 4] and first.train.tolist() == [8, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 1}, "groups is 1"),
        ({"groups": 4, "test_groups": 4}, "leave nothing to train on"),
        ({"groups": 10, "purge": 40}, "leave nothing to train on"),
        ({"groups": 60}, "too few for 60 groups"),
        ({"embargo": "1 %"}, "embargo is '1 %'"),
        ({"by": "alpha"}, "of returns it is sharpe"),
        ({"select": "rank"}, "over splits it is argmax or argmin"),
        ({"groups": 24, "test_groups": 12}, "splits are more than"),
    ],
)
def test_what_cannot_be_is_told(options, message) -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, (100, 3))
    with pytest.raises(InputError, match=message):
        lp.cpcv(returns, **options)


def test_annual_metrics_and_the_picture() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.01, (100, 3))
    plain, annual = (lp.cpcv(returns, groups=5, periods_per_year=year) for year in (None, 256.0))
    np.testing.assert_allclose(annual.metrics, plain.metrics * 16)
    assert set(annual.summary) == {"mean", "deviation", "lowest", "median", "highest", "below_zero"}
    assert "4 paths" in annual.figure().axes[0].get_title(loc="left")
