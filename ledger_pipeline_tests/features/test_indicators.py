"""Indicators: what each computes, from which bar on, and which parameters it takes."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import pandas as pd
import pytest
import ta.trend
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.features.indicators import BASES, builtin, names, user_indicator
from ledger_pipeline.features.table import Feature, compute, feature
from ledger_pipeline_tests.market.frames import days, prices, random_grid

REFUSED = {"kst", "kst_sig", "ichimoku_a_visual", "ichimoku_b_visual"}
FINITE = sorted(
    "accbands adr aroon_up aroonosc avgdev awesome_oscillator bbands beta bollinger_high bollinger_percent bollinger_width "
    "cci cmf correl donchian_high donchian_low imi linearreg linearreg_angle linearreg_slope ln max mfi midpoint min mom "
    "returns roc rocp sma stddev stoch stochf stoch_signal sum trima tsf uo var vhf volatility "
    "vortex_pos vwma williams_r willr wma zscore".split()
)  # what their last `warmup` bars alone decide


def spec_of(name: str, **params) -> dict:
    needed = {key: 10 for key, value in builtin(name).defaults.items() if value is inspect.Parameter.empty}
    return {"indicator": name} | needed | params


def bars(periods: int, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(prices(periods, seed), index=days("2020-01-01", periods))


def values(item: Feature, frame: pd.DataFrame) -> np.ndarray:
    return np.asarray(item.indicator.compute(frame, **item.params), dtype=float)


PARTIAL = {"psar_up", "psar_down", "kst", "kst_sig", "ichimoku_a_visual", "ichimoku_b_visual", "acos", "asin"}


@pytest.mark.parametrize("name", names())
def test_no_value_comes_before_the_warm_up_and_one_comes_after_it(name):
    item = feature("x", spec_of(name))
    for seed in range(2):
        found = compute(item, random_grid(300, seed=seed))[:, 0]
        assert np.isnan(found[: item.warmup - 1]).all()
        if name not in PARTIAL:  # a stop exists on one side of the price only, an arc cosine of a price not at all
            assert np.isfinite(found[item.warmup - 1 :]).mean() > 0.95
    for short in (1, item.warmup - 1):
        if 0 < short < item.warmup:
            assert np.isnan(compute(item, random_grid(short))).all()


@pytest.mark.parametrize("name", FINITE)
def test_the_warm_up_of_a_moving_window_is_all_it_looks_back(name):
    """The value from the last `warmup` bars alone is that from the whole history, so not one bar more was needed."""
    item = feature("x", spec_of(name))
    for seed in range(3):
        frame = bars(150, seed)
        whole = values(item, frame)
        for end in (max(item.warmup, 60), 100, 150):
            part = values(item, frame.iloc[end - item.warmup : end])
            np.testing.assert_allclose(part[-1], whole[end - 1], rtol=1e-7, atol=1e-7)


WINDOWS = st.integers(2, 30)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(sorted(set(names()) - REFUSED)))
def test_with_any_windows_the_first_value_comes_with_the_warm_up(data, name):
    """Whatever the windows, also a fast one slower than the slow one: none before, and a number from then on."""
    indicator = builtin(name)
    params = {key: data.draw(WINDOWS, key) for key in indicator.counts}
    item = feature("x", {"indicator": name, **params})
    assert item.warmup >= 1
    if item.warmup <= 250 and name not in PARTIAL:
        found = values(item, bars(300, 1))
        assert np.isfinite(found[item.warmup - 1 :]).mean() > 0.8 or len(set(params.values())) < len(params)


@pytest.mark.parametrize(
    ("spec", "warmup"),
    [
        ({"indicator": "sma", "window": 20}, 20),
        ({"indicator": "returns"}, 2),
        ({"indicator": "returns", "window": 231, "skip": 21}, 253),
        ({"indicator": "volatility", "window": 20}, 21),
        ({"indicator": "macd"}, 34),  # the longest average of 26, and 9 of it for the signal
        ({"indicator": "macd", "window_slow": 12, "window_fast": 5, "window_sign": 3}, 14),
        ({"indicator": "ppo", "window_slow": 9, "window_fast": 5}, 9),
        ({"indicator": "awesome_oscillator"}, 34),
        ({"indicator": "uo"}, 29),
        ({"indicator": "adx_pos", "window": 14}, 15),
        ({"indicator": "adx", "window": 14}, 28),
        ({"indicator": "donchian_high", "window": 20}, 20),
        ({"indicator": "ema", "timeperiod": 10}, 10),
        ({"indicator": "EMA", "window": 10}, 10),
        ({"indicator": "rsi"}, 15),
        ({"indicator": "bbands", "timeperiod": 20, "output": "lowerband"}, 20),
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


# published tables and worked examples: what the names mean

# StockCharts' worked example of RSI (closes to two decimals; published: 70.53, 66.32, 66.55 from the unrounded ones)
RSI_CLOSES = [44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08, 45.89, 46.03, 45.61, 46.28, 46.28,
              46.00, 46.03]  # fmt: skip
# StockCharts' worked example of the 10-day EMA: it starts with the simple average of the first ten closes
EMA_CLOSES = [22.27, 22.19, 22.08, 22.17, 22.18, 22.13, 22.23, 22.43, 22.24, 22.29, 22.15, 22.39, 22.38, 22.61, 23.36]
EMA_PUBLISHED = [22.22, 22.21, 22.24, 22.27, 22.33, 22.52]


def of_closes(name: str, closes, **params) -> np.ndarray:
    close = np.asarray(closes, float)
    frame = pd.DataFrame(
        {"open": close, "high": close, "low": close, "close": close, "volume": 1.0},
        index=days("2020-01-01", len(close)),
    )
    return values(feature("x", {"indicator": name, **params}), frame)


def test_rsi_is_wilders_as_stockcharts_publishes_it():
    found = of_closes("rsi", RSI_CLOSES, window=14)
    assert np.isnan(found[:14]).all()
    assert found[14:] == pytest.approx([70.53, 66.32, 66.55], abs=0.1)


def test_ema_starts_with_a_simple_average_as_stockcharts_publishes_it():
    found = of_closes("ema", EMA_CLOSES, window=10)
    assert found[9:] == pytest.approx(EMA_PUBLISHED, abs=0.006)


def test_macd_and_ppo_are_differences_of_such_averages():
    closes = bars(80, 2)["close"].to_numpy()

    def ema(window: int) -> np.ndarray:
        found = np.full(80, np.nan)
        found[window - 1] = closes[:window].mean()
        for t in range(window, 80):
            found[t] = found[t - 1] + 2 / (window + 1) * (closes[t] - found[t - 1])
        return found

    # TA-Lib starts the fast average of MACD so that both have their first value at the same bar
    fast = np.full(80, np.nan)
    fast[25] = closes[14:26].mean()
    for t in range(26, 80):
        fast[t] = fast[t - 1] + 2 / 13 * (closes[t] - fast[t - 1])
    line = fast - ema(26)
    np.testing.assert_allclose(of_closes("macd", closes)[33:], line[33:], rtol=1e-9)
    np.testing.assert_allclose(of_closes("ppo", closes)[25:], ((ema(12) - ema(26)) / ema(26) * 100)[25:], rtol=1e-9)


def test_obv_leaves_out_the_volume_of_an_unchanged_close():
    frame = pd.DataFrame({"close": [10.0, 11, 11, 10, 10, 12], "volume": [100.0, 20, 30, 40, 50, 60]})
    frame.index = days("2020-01-01", 6)
    # 100, + 20 (up), + 0 (unchanged), - 40 (down), + 0, + 60
    assert values(feature("x", {"indicator": "obv"}), frame).tolist() == [100, 120, 120, 80, 80, 140]


def test_aroon_counts_from_the_last_of_equal_highs():
    high = [1.0, 5, 2, 5, 3, 4]
    frame = pd.DataFrame({"high": high, "low": [0.0, 0, 0, 0, 0, 0.5]}, index=days("2020-01-01", 6))
    frame["close"] = frame["open"] = frame["high"]
    # over the last 5 steps the high of 5 was 2 bars ago (and 4): 100 x (5 - 2) / 5
    assert values(feature("x", {"indicator": "aroon_up", "window": 5}), frame)[5] == pytest.approx(60.0)


def test_the_parabolic_sar_is_wilders():
    """Wilder's rules by hand: a rise from 10 by 1 a bar; the stop starts at bar 1 at the low before, acceleration 0.02 a high."""
    high, low = np.arange(11.0, 21.0), np.arange(10.0, 20.0)
    frame = pd.DataFrame({"open": low, "high": high, "low": low, "close": high}, index=days("2020-01-01", 10))
    sar, extreme, speed, by_hand = 10.0, 12.0, 0.02, [10.0]
    for t in range(2, 10):
        sar = min(sar + speed * (extreme - sar), low[t - 1], low[max(t - 2, 1)])
        by_hand.append(sar)
        if high[t] > extreme:
            extreme, speed = high[t], min(speed + 0.02, 0.2)
    found = values(feature("x", {"indicator": "sar"}), frame)
    np.testing.assert_allclose(found[1:], by_hand, rtol=1e-12)
    np.testing.assert_allclose(values(feature("x", {"indicator": "psar_up"}), frame)[1:], by_hand, rtol=1e-12)
    assert np.isnan(values(feature("x", {"indicator": "psar_down"}), frame)).all()


def test_stochastic_rsi_is_a_share_and_talibs_a_percentage():
    closes = bars(90, 7)["close"].to_numpy()
    rsi = of_closes("rsi", closes, window=14)
    low, high = (getattr(pd.Series(rsi).rolling(14), what)().to_numpy() for what in ("min", "max"))
    share = (rsi - low) / (high - low)
    np.testing.assert_allclose(of_closes("stoch_rsi", closes)[40:], share[40:], rtol=1e-9, atol=1e-12)
    theirs = of_closes("stochrsi", closes, timeperiod=14, fastk_period=14)
    np.testing.assert_allclose(theirs[40:], 100 * share[40:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sma", "stddev", "var", "bbands", "wma", "ema", "rsi", "atr", "cci", "adx", "mfi"])
def test_names_of_talib_give_what_talib_gives(name):
    from talib import abstract

    frame = bars(120, 5)
    item = feature("x", {"indicator": name, "timeperiod": 14})
    theirs = abstract.Function(name.upper())(frame, timeperiod=14)
    theirs = theirs["upperband"] if name == "bbands" else theirs
    np.testing.assert_allclose(values(item, frame)[item.warmup - 1 :], theirs.to_numpy()[item.warmup - 1 :], rtol=1e-8)


# windows: exact after any history


def two_pass(closes: np.ndarray, window: int, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    from fractions import Fraction

    mean, deviation = np.full(len(closes), np.nan), np.full(len(closes), np.nan)
    for t in range(window - 1, len(closes)):
        part = [Fraction(float(value)) for value in closes[t - window + 1 : t + 1]]
        middle = sum(part) / window
        mean[t] = float(middle)
        deviation[t] = float(sum((value - middle) ** 2 for value in part) / (window - ddof)) ** 0.5
    return mean, deviation


def test_a_constant_price_has_no_volatility_whatever_came_before():
    closes = [50, 51, 50.3, 52.7, 51.1] + [51.1] * 20
    found = of_closes("volatility", closes, window=3)
    assert (found[7:] == 0.0).all() and found[6] > 0
    assert np.isnan(of_closes("zscore", closes, window=3)[6:]).all()
    assert (of_closes("sma", closes, window=3)[6:] == 51.1).all()
    assert (of_closes("bollinger_high", closes, window=3)[6:] == 51.1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.01, 100).map(lambda value: round(value, 4)), min_size=30, max_size=60),
    st.integers(2, 12), st.sampled_from([1.0, 1e6, 1e10]), st.integers(0, 20),
)  # fmt: skip
def test_windows_agree_with_two_passes_in_exact_numbers_after_any_history(closes, window, spike, at):
    closes = np.array(closes)
    closes[at] *= spike
    mean, deviation = two_pass(closes, window, 0)
    np.testing.assert_allclose(of_closes("sma", closes, window=window), mean, rtol=1e-12)
    np.testing.assert_allclose(of_closes("stddev", closes, window=window), deviation, rtol=1e-12)
    spread = two_pass(closes, window, 1)[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(spread > 0, (closes - mean) / spread, np.nan)
    np.testing.assert_allclose(of_closes("zscore", closes, window=window), score, rtol=1e-9, atol=1e-11)


def test_volatility_is_a_bars_own_unless_it_is_asked_for_a_year():
    cells = random_grid(60)
    bar, year = (
        compute(feature("x", {"indicator": "volatility", "window": 20, "annualise": a}), cells) for a in (False, True)
    )
    np.testing.assert_allclose(year[20:], bar[20:] * np.sqrt(252), rtol=1e-12)
    with pytest.raises(InputError, match="annualise is 'yes'; it must be one of False, True"):
        feature("x", {"indicator": "volatility", "window": 20, "annualise": "yes"})


def test_every_builtin_has_a_basis_a_hash_of_its_own_and_sound_defaults():
    found = [builtin(name) for name in names()]
    assert len({indicator.code for indicator in found}) == len(found) >= 200
    assert {indicator.basis for indicator in found} <= {*BASES, "pulse"}
    assert all(indicator.description and indicator.inputs for indicator in found)
    assert names() == sorted(names())


# parameters


@pytest.mark.parametrize("value", [0, -1, 1.5, 20.0, True, "20", None, float("nan"), [20]])
@pytest.mark.parametrize(("name", "param"), [("sma", "window"), ("rsi", "window"), ("macd", "window_fast"), ("williams_r", "lbp"), ("stc", "cycle"), ("kst", "roc1")])  # noqa: E501  # fmt: skip
def test_a_number_of_bars_is_whole_and_above_zero(name, param, value):
    with pytest.raises(InputError, match=rf"'x': indicator '{name}': {param} is .*whole number of bars, at least 1"):
        feature("x", spec_of(name, **{param: value}))


@pytest.mark.parametrize("name", ["returns", "rank"])
def test_skip_may_be_zero_and_not_less(name):
    assert feature("x", spec_of(name, skip=0)).params["skip"] == 0
    for value in (-1, 0.5, False):
        with pytest.raises(InputError, match="skip is .*at least 0"):
            feature("x", spec_of(name, skip=value))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"indicator": "sma", "windw": 3}, "'sma' has no parameter 'windw'; it takes window"),
        ({"indicator": "obv", "window": 3}, "'obv' has no parameter 'window'; it takes no parameters"),
        ({"indicator": "ema", "fillna": True}, "'ema' has no parameter 'fillna'"),
        ({"indicator": "ichimoku_a", "visual": True}, "'ichimoku_a' has no parameter 'visual'"),
        ({"indicator": "rsi", "window": 3, "timeperiod": 4}, "window is given twice"),
        ({"indicator": "bbands", "output": "middle"}, "output is 'middle'; it must be one of upperband, middleband"),
        ({"indicator": "sma"}, "'sma' needs a value for 'window'"),
        ({"indicator": "smaa", "window": 3}, "no indicator 'smaa'; did you mean .*sma"),
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
