"""Causality: exactly what looks ahead is refused, of ta's indicators and of users', and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import RefusedError
from ledger_pipeline.features.causality import compute_all, find_look_ahead, require_causal
from ledger_pipeline.features.indicators import builtin, names
from ledger_pipeline.features.table import compute, feature
from ledger_pipeline.market.bars import FIELDS
from ledger_pipeline.market.grid import CLOSE
from ledger_pipeline_tests.features.test_indicators import REFUSED, spec_of
from ledger_pipeline_tests.market.frames import grid_of, prices, random_grid

CAUSAL = sorted(set(names()) - REFUSED)


def own(function, basis="ratio", warmup=1):
    return feature("mine", {"indicator": function, "basis": basis, "warmup": warmup})


def test_of_all_builtin_indicators_exactly_those_known_to_look_ahead_are_refused():
    cells = random_grid(100, 2)
    found = {name for name in names() if find_look_ahead(feature("x", spec_of(name)), cells)}
    assert found == {"kst", "kst_sig", "ichimoku_a_visual", "ichimoku_b_visual"}


@pytest.mark.parametrize(
    "periods", [1, 2, *(pytest.param(n, marks=pytest.mark.campaign) for n in (3, 14, 27, 28, 53, 73))]
)
def test_no_causal_indicator_is_refused_on_a_short_history(periods):
    cells = random_grid(periods)
    for name in CAUSAL:
        assert find_look_ahead(feature("x", spec_of(name)), cells) is None, name


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.campaign) for n in (1, 2, 3))])
def test_no_causal_indicator_is_refused_for_gaps_splits_or_flat_prices(part):
    rng = np.random.default_rng(5)
    ragged = random_grid(90, 2, present=rng.random((90, 2)) < 0.7)
    split = grid_of([prices(90)], splits={(40, 0): 3.0, (80, 0): 0.5})
    flat = grid_of([dict.fromkeys(FIELDS, np.full(90, 10.0))])
    for name in CAUSAL[part::4]:
        for cells in (ragged, split, flat):
            assert find_look_ahead(feature("x", spec_of(name)), cells) is None, name


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(CAUSAL), st.integers(0, 10_000), st.integers(2, 90))
def test_what_later_bars_are_does_not_change_what_was_known(data, name, seed, periods):
    """The same past with two different futures gives the same values, warm-up or not."""
    cut = data.draw(st.integers(1, periods - 1))
    one, other = random_grid(periods, 3, seed), random_grid(periods + 20, 3, seed + 77)
    columns = [
        {key: np.concatenate([one.fields[:cut, f, i], other.fields[cut:, f, i]]) for f, key in enumerate(FIELDS)}
        for i in range(3)
    ]
    item = feature("x", spec_of(name))
    np.testing.assert_array_equal(compute(item, grid_of(columns))[:cut], compute(item, one)[:cut])


LOOKING_AHEAD = {
    "tomorrow's close": lambda bars: bars["close"].shift(-1),
    "the close in three weeks": lambda bars: bars["close"].shift(-21),
    "the mean of the whole series": lambda bars: bars["close"] / bars["close"].mean(),
    "distance from the whole mean": lambda bars: (bars["close"] - bars["close"].mean()) / bars["close"].std(),
    "normalised by the highest": lambda bars: bars["close"] / bars["close"].max(),
    "normalised by the last": lambda bars: bars["close"] / bars["close"].iloc[-1],
    "the number of bars to come": lambda bars: bars["close"] * 0 + len(bars),
    "bars until the end": lambda bars: np.arange(len(bars))[::-1],
    "filled backwards": lambda bars: bars["close"].rolling(5).mean().bfill(),
    "a centred window": lambda bars: bars["close"].rolling(5, center=True).mean(),
    "rank within the whole": lambda bars: bars["close"].rank(pct=True),
    "interpolated over a gap": lambda bars: bars["close"].where(np.arange(len(bars)) % 2 == 0).interpolate(),
    "smoothed backwards": lambda bars: bars["close"][::-1].ewm(span=3).mean()[::-1],
    "sorted": lambda bars: np.sort(bars["close"]),
    "the change to the next open": lambda bars: bars["open"].shift(-1) / bars["close"] - 1,
    "how many closes are above": lambda bars: [(bars["close"] > close).sum() for close in bars["close"]],
}


@pytest.mark.parametrize("what", LOOKING_AHEAD)
@pytest.mark.parametrize("shape", ["dense", "ragged", "short"])
def test_a_users_indicator_that_looks_ahead_is_refused_with_the_evidence(what, shape):
    rng = np.random.default_rng(2)
    cells = {
        "dense": random_grid(100, 4),
        "ragged": random_grid(100, 4, present=rng.random((100, 4)) < 0.8),
        "short": random_grid(30, 1),
    }[shape]
    evidence = r"its value for S\d at \d{4}-\d\d-\d\dT.* was .* when known up to .* and .* with later bars"
    with pytest.raises(RefusedError, match=rf"feature 'mine': indicator '<lambda>' looks ahead: {evidence}; use a"):
        require_causal(own(LOOKING_AHEAD[what]), cells)
    with pytest.raises(RefusedError):
        compute_all([own(LOOKING_AHEAD[what])], cells)


def test_two_bars_are_enough_to_find_a_look_ahead():
    assert find_look_ahead(own(lambda bars: bars["close"].shift(-1)), random_grid(2)) is not None
    assert find_look_ahead(own(lambda bars: bars["close"].shift(-1)), random_grid(1)) is None  # there is no later bar


def test_a_value_that_is_filled_in_after_the_warm_up_is_found_and_one_in_it_is_nobodys():
    def filled(bars):
        return bars["close"].rolling(5).mean().bfill()

    cells = random_grid(60)
    for warmup in (1, 2, 4):
        assert find_look_ahead(own(filled, warmup=warmup), cells) is not None
    assert find_look_ahead(own(filled, warmup=5), cells) is None
    assert np.isnan(compute(own(filled, warmup=5), cells)[:4]).all()


@pytest.mark.parametrize("first", [0, 3, 20, 60, 85])
def test_an_instrument_with_few_bars_is_cut_within_its_own(first):
    """All bars of each instrument lie between two cuts of the whole time."""
    present = np.zeros((100, 3), dtype=bool)
    present[first : first + 12] = True
    present[0], present[99] = [True, False, False], [True, False, False]
    cells = random_grid(100, 3, present=present)
    assert find_look_ahead(own(lambda bars: bars["close"].shift(-1).ffill()), cells) is not None
    assert find_look_ahead(own(lambda bars: bars["close"] / bars["close"].max()), cells) is not None


CAUSAL_FUNCTIONS = {
    "the close": lambda bars: bars["close"],
    "yesterday's close": lambda bars: bars["close"].shift(1),
    "highest so far": lambda bars: bars["close"].cummax(),
    "mean so far": lambda bars: bars["close"].expanding().mean(),
    "filled forwards": lambda bars: bars["close"].where(bars["close"].diff() > 0).ffill(),
    "exponential": lambda bars: bars["close"].ewm(span=7).mean(),
    "sums": lambda bars: bars["volume"].cumsum(),
    "day of the week": lambda bars: bars.index.dayofweek,
    "since the first": lambda bars: bars["close"] / bars["close"].iloc[0],
    "position in the range": lambda bars: bars["close"].rolling(9).rank(pct=True),
    "infinite values": lambda bars: 1 / (bars["close"] - bars["close"]),
}


@pytest.mark.parametrize("what", CAUSAL_FUNCTIONS)
def test_a_causal_indicator_of_a_user_passes(what):
    rng = np.random.default_rng(3)
    for cells in (random_grid(100, 4), random_grid(100, 4, present=rng.random((100, 4)) < 0.8), random_grid(3)):
        assert find_look_ahead(own(CAUSAL_FUNCTIONS[what]), cells) is None


def test_the_evidence_is_what_anyone_can_check():
    cells = random_grid(50)
    found = find_look_ahead(own(lambda bars: bars["close"].shift(-1).fillna(0.0)), cells)
    t = int(found.cut.value // 86_400_000_000_000) if found.cut.unit == "ns" else int(found.cut.timestamp() // 86_400)
    assert found.symbol == "S0" and found.at == found.cut
    assert found.known == 0.0 and found.later == cells.fields[t + 1, CLOSE, 0]


def test_ranks_are_checked_as_others_are():
    item = feature("x", {"indicator": "rank", "window": 5})
    assert find_look_ahead(item, random_grid(60, 5)) is None
    assert builtin("rank").across
