"""Feature tables: the basis of each pulse across splits, ragged instruments, ranks, errors and fingerprints."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.features.causality import compute_all
from ledger_pipeline.features.indicators import names, user_indicator
from ledger_pipeline.features.table import compute, feature, raw_values
from ledger_pipeline.market.bars import FIELDS
from ledger_pipeline.market.grid import CLOSE, VOLUME, Grid, grid
from ledger_pipeline.market.snapshot import seal
from ledger_pipeline_tests.features.test_indicators import REFUSED, spec_of
from ledger_pipeline_tests.market.frames import actions, grid_of, prices, random_bars, random_grid

NAN = float("nan")


def closes(*series: list[float], splits=None, volumes=None, present=None) -> Grid:
    columns = []
    for i, values in enumerate(series):
        column = {name: np.array(values, dtype=float) for name in FIELDS[:4]}
        column["volume"] = np.array(volumes[i] if volumes else [100.0] * len(values))
        columns.append(column)
    return grid_of(columns, present=present, splits=splits)


def own(function, basis="price", warmup=1, **params):
    return feature("x", {"indicator": function, "basis": basis, "warmup": warmup, **params})


# splits


def test_across_a_split_an_average_is_in_the_money_of_its_own_pulse():
    """2 for 1 at the third bar: 100, 102 | 52, 53. The average at bar 3 is (50 + 51 + 52) / 3, to compare with 52."""
    cells = closes([100, 102, 52, 53], splits={(2, 0): 2.0})
    sma = compute(feature("x", {"indicator": "sma", "window": 3}), cells)[:, 0]
    np.testing.assert_allclose(sma, [NAN, NAN, (50 + 51 + 52) / 3, (51 + 52 + 53) / 3], rtol=1e-15)
    two = compute(feature("x", {"indicator": "sma", "window": 2}), cells)[:, 0]
    np.testing.assert_allclose(two, [NAN, 101, 51.5, 52.5], rtol=1e-15)  # before the split nobody knows of it


def test_across_a_split_a_return_is_free_of_it():
    cells = closes([100, 102, 52, 53], splits={(2, 0): 2.0})
    found = compute(feature("x", {"indicator": "returns"}), cells)[:, 0]
    np.testing.assert_allclose(found, [NAN, 0.02, 52 / 51 - 1, 53 / 52 - 1], rtol=1e-12)


def test_across_a_split_a_volume_is_in_the_shares_of_its_own_pulse():
    """2 for 1 at the third bar: 100, 300 shares before are 200, 600 shares of today."""
    cells = closes([10, 10, 5, 5], splits={(2, 0): 2.0}, volumes=[[100, 300, 500, 700]])
    found = compute(own(lambda bars: bars["volume"].rolling(2).mean(), "volume", 2), cells)[:, 0]
    np.testing.assert_allclose(found, [NAN, 200, 550, 600], rtol=1e-15)


def test_across_a_split_a_running_volume_is_restated():
    """On balance: + 300 old shares at bar 2 are 600 new ones at bar 3, where 500 more come; then 700 go."""
    cells = closes([10, 11, 6, 5], splits={(2, 0): 2.0}, volumes=[[100, 300, 500, 700]])
    found = compute(feature("x", {"indicator": "obv"}), cells)[:, 0]
    before_second = found[1] - 300
    np.testing.assert_allclose(found[2], 2 * before_second + 600 + 500)
    np.testing.assert_allclose(found[3], found[2] - 700)


def test_the_prices_a_users_function_sees_are_continued_by_the_splits_known_so_far():
    seen = []

    def look(bars):
        seen.append(bars.copy())
        return bars["close"]

    cells = closes([100, 102, 52, 27], splits={(2, 0): 2.0, (3, 0): 2.0}, volumes=[[100, 300, 500, 700]])
    found = raw_values(own(look), cells)[:, 0]
    np.testing.assert_array_equal(found, [100, 102, 104, 108])
    np.testing.assert_array_equal(seen[0]["volume"], [100, 300, 250, 175])
    np.testing.assert_array_equal(seen[0]["open"], [100, 102, 104, 108])
    np.testing.assert_array_equal(compute(own(look), cells)[:, 0], [100, 102, 52, 27])
    assert list(seen[0].columns) == list(FIELDS) and str(seen[0].index.tz) == "UTC"


@pytest.mark.parametrize("name", sorted(set(names()) - REFUSED - {"rank"}))
def test_a_split_changes_a_feature_only_by_its_basis(name):
    """The same company with and without a 4 for 1 split at bar 60: what price buys 4 shares, what is a ratio stays."""
    columns = prices(120, 8)
    later = np.arange(120) >= 60
    shared = {key: np.where(later, value / 4, value) for key, value in columns.items() if key != "volume"}
    shared["volume"] = np.where(later, columns["volume"] * 4, columns["volume"])
    item = feature("x", spec_of(name))
    plain, split = compute(item, grid_of([columns])), compute(item, grid_of([shared], splits={(60, 0): 4.0}))
    factor = np.where(later, 4.0, 1.0)[:, None]
    quartered = {key: value * 4 if key == "volume" else value / 4 for key, value in columns.items()}
    anew = np.where(later[:, None], compute(item, grid_of([quartered])), plain)
    expected = {"price": plain / factor, "volume": plain * factor, "ratio": plain, "pulse": anew}[item.indicator.basis]
    np.testing.assert_allclose(split, expected, rtol=1e-9, atol=1e-9)


# ragged instruments


def test_an_instruments_own_bars_count_for_the_warm_up_and_gaps_stay_missing():
    present = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [1, 1]], dtype=bool)
    cells = closes([10, 11, NAN, 12, 13], [NAN, 20, 21, NAN, 22], present=present)
    found = compute(feature("x", {"indicator": "sma", "window": 2}), cells)
    np.testing.assert_allclose(found, [[NAN, NAN], [10.5, NAN], [NAN, 20.5], [11.5, NAN], [12.5, 21.5]])


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(["sma", "zscore", "rsi", "atr", "adx", "obv", "returns"]))
def test_an_instrument_has_the_values_it_has_alone_and_without_its_gaps(data, name):
    present = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=40, max_size=40)))
    cells = random_grid(40, 3, seed=2, present=present)
    item = feature("x", spec_of(name))
    found = compute(item, cells)
    for i in range(3):
        rows = present[:, i]
        if rows.any():
            alone = grid_of([{key: cells.fields[rows, f, i] for f, key in enumerate(FIELDS)}])
            np.testing.assert_array_equal(found[rows, i], compute(item, alone)[:, 0])
        assert np.isnan(found[~rows, i]).all()


@pytest.mark.parametrize("name", sorted(set(names()) - REFUSED - {"rank"}))
def test_values_of_a_subset_are_to_the_bit_those_of_the_whole_snapshot(tmp_path, name):
    frame = random_bars("ABCD", 90)
    frame = frame[~((frame["symbol"] == "B") & (frame.index % 90 < 7))]  # listed late
    frame = frame[~((frame["symbol"] == "C") & (frame.index % 5 == 3))]  # with gaps
    posted = actions(("B", "2024-01-03", "SPLIT", 3.0), ("B", "2024-02-03", "SPLIT", 7.0), ("C", "2024-02-10", "SPLIT", 3.0))  # noqa: E501  # fmt: skip
    sealed = seal(frame, snapshot_id="x", root=tmp_path, actions=posted)
    item = feature("x", spec_of(name))
    whole, some = grid(sealed), grid(sealed, ["C", "B"])
    rows = np.searchsorted(whole.times, some.times)
    np.testing.assert_array_equal(compute(item, some), compute(item, whole)[rows][:, [2, 1]])


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("periods", [1, 2, 5, 27])
def test_a_history_that_is_too_short_has_no_value_and_no_error(name, periods):
    item = feature("x", spec_of(name))
    found = compute(item, random_grid(periods, 2))
    assert found.shape == (periods, 2)
    assert periods >= item.warmup or np.isnan(found).all()


def test_an_instrument_without_any_bar_of_the_grid_has_no_value():
    present = np.array([[True, False]] * 30)
    for name in ("sma", "adx", "rank", "psar_up"):
        assert np.isnan(compute(feature("x", spec_of(name)), random_grid(30, 2, present=present))[:, 1]).all()


def test_flat_prices_give_missing_values_and_never_infinite_ones():
    cells = closes([10.0] * 60)
    for name in sorted(set(names()) - REFUSED):
        assert not np.isinf(compute(feature("x", spec_of(name)), cells)).any(), name


# ranks


def test_a_rank_is_over_the_instruments_that_have_a_value():
    """Returns at bar 2: A +50 %, B -50 %, C +100 %, D has no bar there; at bar 3 E has its first return."""
    present = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1]], dtype=bool)
    cells = closes([8, 12, 18], [8, 4, 4], [8, 16, 16], [8, NAN, NAN], [NAN, 8, 12], present=present)
    found = compute(feature("x", {"indicator": "rank", "window": 1}), cells)
    np.testing.assert_allclose(found[0], [NAN] * 5)
    np.testing.assert_allclose(found[1], [2 / 3, 1 / 3, 1, NAN, NAN])
    # bar 3: A and E +50 %, B and C 0 %; equal ones share the mean of their ranks
    np.testing.assert_allclose(found[2], [3.5 / 4, 1.5 / 4, 1.5 / 4, NAN, 3.5 / 4])


def test_a_rank_ignores_splits():
    plain = closes([10, 11, 12], [20, 21, 25])
    split = closes([10, 11, 6], [20, 21, 2.5], splits={(2, 0): 2.0, (2, 1): 10.0})
    item = feature("x", {"indicator": "rank", "window": 1})
    np.testing.assert_array_equal(compute(item, split), compute(item, plain))


# tables


def test_all_features_come_in_the_order_asked_for():
    cells = random_grid(30, 2)
    items = [feature("b", {"indicator": "sma", "window": 3}), feature("a", {"indicator": "rsi"})]
    table = compute_all(items, cells)
    assert table.shape == (30, 2, 2)
    for k, item in enumerate(items):
        np.testing.assert_array_equal(table[:, k, :], compute(item, cells))
    assert compute_all([], cells).shape == (30, 0, 2)


def test_the_grid_is_not_changed_by_computing():
    cells = random_grid(80, 2)
    before = cells.fields.copy()
    items = [feature("x", spec_of(name)) for name in sorted(set(names()) - REFUSED)]
    items.append(own(lambda bars: bars["close"].to_numpy()))
    for item in items:
        compute(item, cells)
    compute(items[-1], cells)[:] = 0
    np.testing.assert_array_equal(cells.fields, before)


def test_a_users_function_cannot_spoil_the_bars_of_others():
    def spoil(bars):
        result = bars["close"].copy()
        bars.loc[:, "close"] = 0.0
        return result

    cells = random_grid(20, 2)
    before = cells.fields.copy()
    np.testing.assert_array_equal(compute(own(spoil), cells), before[:, CLOSE, :])
    np.testing.assert_array_equal(cells.fields, before)


def test_a_feature_that_looks_ahead_is_in_no_table():
    with pytest.raises(RefusedError, match="feature 'x': indicator 'kst' looks ahead"):
        compute_all([feature("x", {"indicator": "kst"})], random_grid(80))


# errors of users' functions


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda bars: bars["close"].iloc[1:], r"returned shape \(29,\) for 30 bars; it must return one value a bar"),
        (lambda bars: bars["close"].rolling(3).mean().dropna(), r"returned shape \(28,\)"),
        (lambda bars: bars[["close"]], r"returned shape \(30, 1\)"),
        (lambda bars: 1.0, r"returned shape \(\)"),
        (lambda bars: None, r"returned shape \(\)"),
        (lambda bars: bars["vwap"], "failed: KeyError: 'vwap'"),
        (lambda bars: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda bars: ["x"] * len(bars), "failed: ValueError"),
    ],
)
def test_an_error_names_the_feature_the_indicator_and_the_instrument(function, says):
    with pytest.raises(InputError, match=rf"feature 'x': indicator '<lambda>' {says}.*\(instrument S0\)"):
        compute(own(function), random_grid(30))


def test_the_instrument_at_fault_is_named():
    def picky(bars):
        if bars["close"].iloc[0] > 50:
            raise ValueError("too dear")
        return bars["close"]

    with pytest.raises(InputError, match=r"'picky' failed: ValueError: too dear.*\(instrument S1\)"):
        compute(own(picky), closes([10, 11], [100, 101]))


def test_lists_arrays_and_booleans_are_values():
    cells = closes([10, 11, 12])
    for function in (
        lambda bars: list(bars["close"] > 10),
        lambda bars: bars["close"].to_numpy() > 10,
        lambda bars: bars["close"] > 10,
        lambda bars: (bars["close"] > 10).astype(int).tolist(),
    ):
        np.testing.assert_array_equal(compute(own(function, "ratio"), cells)[:, 0], [0, 1, 1])


def test_infinite_values_are_missing():
    found = compute(own(lambda bars: 1 / (bars["close"] - 11), "ratio"), closes([10, 11, 12]))[:, 0]
    np.testing.assert_array_equal(found, [-1, NAN, 1])


# fingerprints


def base(bars, window=3):
    return bars["close"].rolling(window).mean()


def other(bars, window=3):
    return bars["close"].rolling(window).max()


def test_a_fingerprint_is_of_code_parameters_basis_and_warm_up_and_not_of_the_alias():
    def made(alias="x", function=base, basis="price", warmup=3, text=None, **params):
        mine = {"mine": user_indicator(function, basis=basis, warmup=warmup, text=text)}
        return feature(alias, {"indicator": "mine", **params}, mine).fingerprint

    assert made() == made(alias="y") == made(window=3)
    found = {
        made(), made(window=4), made(basis="ratio"), made(warmup=4), made(function=other), made(text="changed"),
        *(feature("x", spec_of(name, window=k)).fingerprint for name, k in (("sma", 3), ("sma", 4), ("ema", 3))),
    }  # fmt: skip
    assert len(found) == 9
    assert feature("x", spec_of("rsi")).fingerprint == feature("y", spec_of("rsi", window=14)).fingerprint


def test_a_parameter_that_has_no_json_form_is_refused():
    item = own(lambda bars, level: bars["close"], level=NAN)
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        _ = item.fingerprint


def test_volumes_of_the_grid_are_where_the_code_expects_them():
    assert FIELDS[VOLUME] == "volume" and FIELDS[CLOSE] == "close"
    frame = pd.DataFrame({"close": random_grid(5).fields[:, CLOSE, 0]})
    np.testing.assert_array_equal(frame["close"], prices(5)["close"])
