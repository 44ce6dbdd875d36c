"""Rules of choice, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.choice import choice_rule, choose, require_comparable


def frame(values, axis=None) -> pd.DataFrame:
    return pd.DataFrame({"number": range(len(values)), "n": axis or list(range(len(values))), "sharpe": values})


def chosen(rule: str, *windows, tie: str = "first"):
    return choose(choice_rule("sharpe", rule, tie), [frame(one) for one in windows], ["n"])


def test_the_highest_and_the_lowest() -> None:
    assert chosen("argmax", [1.0, 3.0, np.nan, 2.0]).number == 1
    assert chosen("argmin", [1.0, 3.0, np.nan, 2.0]).number == 0
    assert chosen("argmax", [1.0, 3.0, np.nan]).why == "highest sharpe 3 among the 2 of 3 candidates that have one"


def test_ties_go_to_the_first_or_the_last() -> None:
    assert chosen("argmax", [3.0, 1.0, 3.0]).number == 0
    last = chosen("argmax", [3.0, 1.0, 3.0], tie="last")
    assert last.number == 2 and "2 are equal, the last of them" in last.why


def test_a_peak_that_stands_alone_is_no_plateau() -> None:
    """9 stands between 0 and 1: the median around it is 1. Around 5 the values are 4, 5, 5: a median of 5."""
    values = [0.0, 9.0, 1.0, 4.0, 5.0, 5.0]
    found = chosen("plateau", values)
    assert found.number == 4 and found.value == 5.0 and "2 are equal, the first of them" in found.why
    assert chosen("argmax", values).number == 1


def test_a_plateau_over_two_params() -> None:
    rows = [(a, b) for a in (1, 2, 3) for b in (10, 20, 30)]
    values = [9.0, 0.0, 0.0, 0.0, 4.0, 5.0, 0.0, 5.0, 6.0]
    table = pd.DataFrame(rows, columns=["a", "b"]).assign(number=range(9), sharpe=values)
    found = choose(choice_rule("sharpe", "plateau"), [table], ["b", "a"])
    assert found.number == 8  # 6 with 5 and 5 around; 9 has 0 and 0


def test_ranks_over_windows() -> None:
    """Ranks 1 3 2, then 3 1 2: candidate 2 has the mean rank 2, as have the others: of equals the first."""
    assert chosen("rank", [3.0, 1.0, 2.0], [1.0, 3.0, 2.0]).number == 0
    assert chosen("rank", [3.0, 1.0, 2.0], [2.0, 1.0, 4.0], [2.0, 1.0, 4.0]).number == 2  # ranks 1 2 2, 3 3 3, 2 1 1
    assert chosen("rank", [3.0, 1.0, 2.0], [3.0, 2.0, 1.0]).number == 0


def test_the_best_of_the_worst() -> None:
    assert chosen("maximin", [3.0, 1.0, 2.0], [0.0, 3.0, 2.0]).number == 2


def test_nobody_is_eligible() -> None:
    found = chosen("argmax", [np.nan, np.nan])
    assert found.number is None and found.value is None and "no candidate has a sharpe" in found.why


@pytest.mark.parametrize(("by", "lengths"), [("total_return", (756, 252)), ("trades", (100, 101))])
def test_metrics_of_length_do_not_compare(by, lengths) -> None:
    with pytest.raises(InputError, match=f"{by} depends on the length"):
        require_comparable(choice_rule(by), lengths)
    require_comparable(choice_rule(by), (100, 100))
    require_comparable(choice_rule("sharpe"), lengths)


@pytest.mark.parametrize(
    ("rule", "message"),
    [(("sharpe", "best"), "select is 'best'"), (("sharpe", "argmax", "any"), "tie is 'any'"), ((3,), "by is 3")],
)
def test_a_rule_that_there_is_not(rule, message) -> None:
    with pytest.raises(InputError, match=message):
        choice_rule(*rule)


def test_a_metric_that_was_not_kept() -> None:
    with pytest.raises(InputError, match="there is no metric 'alpha'"):
        choose(choice_rule("alpha"), [frame([1.0])], ["n"])
