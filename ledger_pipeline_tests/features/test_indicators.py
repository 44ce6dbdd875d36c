"""Indicators: what each computes, from which bar on, and which parameters it takes."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import pandas as pd
import pytest
import ta.momentum
import ta.trend
import ta.volatility
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.errors import InputError
from ledger_pipeline.features.indicators import BASES, builtin, names, user_indicator
from ledger_pipeline.features.table import Feature, compute, feature
from ledger_pipeline_tests.market.frames import days, prices, random_grid

REFUSED = {"kst", "kst_sig", "ichimoku_a_visual", "ichimoku_b_visual"}
# Recursive ones remember everything; ulcer_index and mass_index look further back than ta asks for.
RECURSIVE = {
    "adi", "adx", "adx_neg", "adx_pos", "atr", "ema", "kama", "macd", "macd_diff", "macd_signal", "mass_index", "obv",
    "ppo", "psar_down", "psar_up", "pvo", "rsi", "stc", "stoch_rsi", "trix", "tsi", "ulcer_index",
}  # fmt: skip


def spec_of(name: str, **params) -> dict:
    needed = {key: 10 for key, value in builtin(name).defaults.items() if value is inspect.Parameter.empty}
    return {"indicator": name} | needed | params


def bars(periods: int, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(prices(periods, seed), index=days("2020-01-01", periods))


def values(item: Feature, frame: pd.DataFrame) -> np.ndarray:
    return np.asarray(item.indicator.compute(frame, **item.params), dtype=float)


@pytest.mark.parametrize("name", names())
def test_no_value_comes_before_the_warm_up_and_one_comes_after_it(name):
    item = feature("x", spec_of(name))
    for seed in range(3):
        found = compute(item, random_grid(200, seed=seed))[:, 0]
        assert np.isnan(found[: item.warmup - 1]).all()
        if not name.startswith("psar") and name not in REFUSED:  # a stop exists on one side of the price only
            assert not np.isnan(found[item.warmup - 1 :]).any()
    for short in (1, item.warmup - 1):
        if 0 < short < item.warmup:
            assert np.isnan(compute(item, random_grid(short))).all()
    if not name.startswith("psar"):
        assert np.isfinite(compute(item, random_grid(item.warmup))[-1, 0])


@pytest.mark.parametrize("name", sorted(set(names()) - REFUSED))
def test_the_warm_up_is_never_shorter_than_the_librarys_own(name):
    """ta writes nothing, or a placeholder of zero, until it has enough bars."""
    item = feature("x", spec_of(name))
    first = []
    for seed in range(5):
        found = values(item, bars(200, seed))
        first.append(int(np.flatnonzero(~np.isnan(found) & (found != 0))[0]) + 1)
    # a first value may happen to be zero, as the random RSI at its own low is; in all five series it does not
    assert item.warmup >= min(first)


@pytest.mark.parametrize("name", sorted(set(names()) - REFUSED - RECURSIVE))
def test_the_warm_up_of_a_moving_window_is_all_it_looks_back(name):
    """The value from the last `warmup` bars alone is that from the whole history, so not one bar more was needed."""
    item = feature("x", spec_of(name))
    for seed in range(3):
        frame = bars(150, seed)
        whole = values(item, frame)
        for end in (item.warmup, 100, 150):
            part = values(item, frame.iloc[end - item.warmup : end])
            np.testing.assert_allclose(part[-1], whole[end - 1], rtol=1e-7, atol=1e-9)


WINDOWS = st.integers(1, 30)


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(sorted(set(names()) - REFUSED)))
def test_any_windows_warm_up_no_sooner_than_the_library_needs(data, name):
    """Whatever the windows, also a fast one slower than the slow one, every value after the warm-up is one."""
    indicator = builtin(name)
    params = {key: data.draw(WINDOWS, key) for key, least in indicator.counts.items() if least}
    params |= {key: data.draw(st.integers(0, 5), key) for key, least in indicator.counts.items() if not least}
    if "original_version" in indicator.defaults:
        params["original_version"] = data.draw(st.booleans())
    item = feature("x", {"indicator": name, **params})
    assert item.warmup >= 1
    found = values(item, bars(300, 1)) if item.warmup <= 250 else None
    if found is not None and not name.startswith("psar"):
        settled = found[item.warmup - 1 :]
        # one bar has no spread, and two equal averages have none between them
        undefined = 1 in params.values() or params.get("window_slow") == params.get("window_fast", 0)
        assert undefined or np.isfinite(settled).all()


@pytest.mark.parametrize(
    ("spec", "warmup"),
    [
        ({"indicator": "sma", "window": 20}, 20),
        ({"indicator": "returns"}, 2),
        ({"indicator": "returns", "window": 231, "skip": 21}, 253),
        ({"indicator": "volatility", "window": 20}, 21),
        ({"indicator": "macd", "window_slow": 12, "window_fast": 26}, 26),
        ({"indicator": "macd_signal", "window_slow": 12, "window_fast": 26, "window_sign": 9}, 34),
        ({"indicator": "ppo", "window_slow": 5, "window_fast": 9}, 9),
        ({"indicator": "awesome_oscillator", "window1": 40, "window2": 5}, 40),
        ({"indicator": "uo", "window1": 30, "window2": 14, "window3": 7}, 31),
        ({"indicator": "adx_pos", "window": 14}, 16),
        ({"indicator": "adx_neg", "window": 14}, 16),
        ({"indicator": "adx", "window": 14}, 28),
        ({"indicator": "dpo", "window": 20}, 20),
        ({"indicator": "dpo", "window": 2}, 3),
        ({"indicator": "donchian_high", "window": 20, "offset": 3}, 23),
        ({"indicator": "keltner_high", "window": 5, "window_atr": 30, "original_version": False}, 30),
        ({"indicator": "keltner_high", "window": 5, "window_atr": 30}, 5),
        ({"indicator": "keltner_mband", "window": 5, "window_atr": 30, "original_version": False}, 30),
        ({"indicator": "rsi"}, 15),
        ({"indicator": "bollinger_high", "window": 20, "window_dev": 2.5}, 20),
    ],
)
def test_warm_ups_by_hand(spec, warmup):
    item = feature("x", spec)
    assert item.warmup == warmup
    found = compute(item, random_grid(300, seed=4))[:, 0]
    assert np.isnan(found[: warmup - 1]).all() and np.isfinite(found[warmup - 1 :]).all()
    assert found[warmup - 1] != 0


def test_our_own_indicators_by_hand():
    closes = np.array([10.0, 11.0, 12.0, 9.0, 12.0])
    frame = pd.DataFrame({"close": closes}, index=days("2020-01-01", 5))
    np.testing.assert_allclose(values(feature("x", {"indicator": "sma", "window": 3}), frame)[2:], [11, 32 / 3, 11])
    np.testing.assert_allclose(values(feature("x", {"indicator": "returns"}), frame)[1:], closes[1:] / closes[:-1] - 1)
    skipped = values(feature("x", {"indicator": "returns", "window": 2, "skip": 1}), frame)
    np.testing.assert_allclose(skipped[3:], [12 / 10 - 1, 9 / 11 - 1])
    changes = closes[1:] / closes[:-1] - 1
    spread = values(feature("x", {"indicator": "volatility", "window": 4}), frame)
    np.testing.assert_allclose(spread[4], changes.std(ddof=1))
    score = values(feature("x", {"indicator": "zscore", "window": 5}), frame)
    np.testing.assert_allclose(score[4], (12 - closes.mean()) / closes.std(ddof=1))


@pytest.mark.parametrize("window", [1, 2, 20, 199, 200])
def test_sma_is_that_of_ta(window):
    frame = bars(200, 3)
    found = compute(feature("x", {"indicator": "sma", "window": window}), random_grid(200, seed=3))[:, 0]
    theirs = ta.trend.SMAIndicator(frame["close"], window).sma_indicator().to_numpy()
    np.testing.assert_allclose(found, theirs, rtol=1e-12)


def test_names_of_ta_give_what_ta_gives():
    frame = bars(120, 5)
    high, low, close = frame["high"], frame["low"], frame["close"]
    for name, theirs in {
        "rsi": ta.momentum.RSIIndicator(close, 14).rsi(),
        "macd_diff": ta.trend.MACD(close).macd_diff(),
        "atr": ta.volatility.AverageTrueRange(high, low, close).average_true_range(),
        "bollinger_low": ta.volatility.BollingerBands(close, 20, 2).bollinger_lband(),
        "adx_neg": ta.trend.ADXIndicator(high, low, close).adx_neg(),
    }.items():
        item = feature("x", {"indicator": name})
        found = compute(item, random_grid(120, seed=5))[:, 0]
        np.testing.assert_array_equal(found[item.warmup - 1 :], theirs.to_numpy()[item.warmup - 1 :])


def test_every_builtin_has_a_basis_a_hash_of_its_own_and_sound_defaults():
    found = [builtin(name) for name in names()]
    assert len({indicator.code for indicator in found}) == len(found) >= 60
    assert {indicator.basis for indicator in found} <= set(BASES)
    assert names() == sorted(names())


# parameters


@pytest.mark.parametrize("value", [0, -1, 1.5, 20.0, True, "20", None, float("nan"), [20]])
@pytest.mark.parametrize(("name", "param"), [("sma", "window"), ("rsi", "window"), ("macd", "window_fast"), ("williams_r", "lbp"), ("stc", "cycle"), ("kst", "roc1"), ("kama", "pow1")])  # noqa: E501  # fmt: skip
def test_a_number_of_bars_is_whole_and_above_zero(name, param, value):
    with pytest.raises(InputError, match=rf"'x': indicator '{name}': {param} is .*whole number of bars, at least 1"):
        feature("x", spec_of(name, **{param: value}))


@pytest.mark.parametrize("name", ["returns", "rank"])
def test_skip_may_be_zero_and_not_less(name):
    assert feature("x", spec_of(name, skip=0)).params["skip"] == 0
    for value in (-1, 0.5, False):
        with pytest.raises(InputError, match="skip is .*at least 0"):
            feature("x", spec_of(name, skip=value))
    with pytest.raises(InputError, match="offset is -1.*at least 0"):
        feature("x", {"indicator": "donchian_high", "offset": -1})


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"indicator": "sma", "windw": 3}, "'sma' has no parameter 'windw'; it takes window"),
        ({"indicator": "obv", "window": 3}, "'obv' has no parameter 'window'; it takes no parameters"),
        ({"indicator": "ema", "fillna": True}, "'ema' has no parameter 'fillna'"),
        ({"indicator": "ichimoku_a", "visual": True}, "'ichimoku_a' has no parameter 'visual'"),
        ({"indicator": "sma"}, "'sma' needs a value for 'window'"),
        ({"indicator": "smaa", "window": 3}, "no indicator 'smaa'; there are .*sma, "),
        ({"window": 3}, "the spec names no indicator; write for example"),
        ({"indicator": 5}, "the indicator is 5"),
        ({"indicator": ["sma"]}, "the indicator is .'sma'."),
        ({}, "names no indicator"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_the_alias(spec, says):
    with pytest.raises(InputError, match=f"feature 'trend': .*{says}"):
        feature("trend", spec)


def test_a_band_may_have_any_width():
    narrow, wide = (compute(feature("x", {"indicator": "bollinger_high", "window_dev": k}), random_grid(40)) for k in (1.5, 2.5))  # noqa: E501  # fmt: skip
    assert (wide[19:] > narrow[19:]).all()


# users' own


def spread(bars, window, scale=1.0):
    return (bars["high"] - bars["low"]).rolling(window).mean() * scale


def test_a_users_function_takes_its_parameters_and_keeps_its_warm_up():
    item = feature("x", {"indicator": spread, "basis": "price", "warmup": 12, "window": 10})
    assert item.params == {"window": 10, "scale": 1.0} and item.warmup == 12
    found = compute(item, random_grid(40))[:, 0]
    frame = bars(40)
    theirs = (frame["high"] - frame["low"]).rolling(10).mean().to_numpy()
    np.testing.assert_allclose(found[11:], theirs[11:])
    assert np.isnan(found[:11]).all()
    with pytest.raises(InputError, match="'spread' needs a value for 'window'"):
        feature("x", {"indicator": spread, "basis": "price", "warmup": 12})
    with pytest.raises(InputError, match="window is 0"):
        feature("x", {"indicator": spread, "basis": "price", "warmup": 12, "window": 0})


@pytest.mark.parametrize(
    ("basis", "warmup", "says"),
    [("money", 3, "basis is 'money'; say price, volume or ratio"), (None, 3, "basis is None"),
     ("price", 0, "warmup is 0"), ("price", -1, "warmup is -1"), ("price", 1.5, "warmup is 1.5"),
     ("price", True, "warmup is True")],
)  # fmt: skip
def test_an_unsound_basis_or_warm_up_is_refused(basis, warmup, says):
    with pytest.raises(InputError, match=says):
        user_indicator(spread, basis=basis, warmup=warmup)


def test_a_function_without_basis_or_warm_up_is_refused():
    for given_ in ({}, {"basis": "price"}, {"warmup": 3}):
        with pytest.raises(InputError, match="a function needs `basis` .* and `warmup`"):
            feature("x", {"indicator": spread, "window": 3, **given_})


@pytest.mark.parametrize("function", [lambda: 1, max, functools.partial(spread, window=3), np.add])
def test_what_is_no_function_of_bars_with_a_source_is_refused(function):
    with pytest.raises(InputError, match="must take the bars as its first|source of indicator .* cannot be read"):
        user_indicator(function, basis="price", warmup=3)


def test_a_users_indicator_may_have_the_name_of_a_builtin():
    def sma(bars, window):
        return bars["high"].rolling(window).max() + bars["volume"] * 0

    item = feature("x", {"indicator": "sma", "window": 3}, {"sma": user_indicator(sma, basis="price", warmup=3)})
    assert item.indicator.compute is sma
    np.testing.assert_allclose(compute(item, random_grid(9))[2:, 0], bars(9)["high"].rolling(3).max()[2:])
