"""Tables of bars, instruments and actions: what is taken, in which form it comes out, and what is refused, in one
sentence.
"""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import (
    BAR_COLUMNS,
    normalise_actions,
    normalise_bars,
    normalise_instruments,
    validate_bars,
)
from ledger_pipeline_tests.market.frames import actions, days, random_bars


def checked(frame: pd.DataFrame, **options) -> pd.DataFrame:
    return validate_bars(normalise_bars(frame, **options))


def refused(frame: pd.DataFrame, *words: str, **options) -> str:
    before = frame.copy()
    with pytest.raises(InputError) as caught:
        checked(frame, **options)
    told = str(caught.value)
    for word in words:
        assert word in told, told
    assert "\n" not in told and told.endswith(".") and len(told) < 300, told
    pd.testing.assert_frame_equal(frame, before)
    return told


def at(frame: pd.DataFrame, row: int, **values) -> pd.DataFrame:
    frame = frame.copy()
    for name, value in values.items():
        frame.loc[row, name] = value
    return frame


def instruments(*symbols: str, **fields) -> pd.DataFrame:
    base = {"name": "Name", "currency": "USD", "calendar": "XNYS", "asset_class": "EQUITY"} | fields
    return pd.DataFrame([{"symbol": symbol, **base} for symbol in symbols])


# what comes out


def test_sound_bars_come_out_sorted_typed_and_unchanged_in_value():
    frame = random_bars()
    shuffled = frame.sample(frac=1, random_state=3)
    found = checked(shuffled)
    assert list(found.columns) == list(BAR_COLUMNS) and list(found.index) == list(range(24))
    assert found["symbol"].dtype == "category" and found["ts"].dtype == "datetime64[us, UTC]"
    assert all(found[name].dtype == "float64" for name in BAR_COLUMNS[2:])
    pd.testing.assert_frame_equal(found.astype({"symbol": str}), frame.astype({"symbol": str}), check_index_type=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.iloc[::-1],
        lambda f: f[f.columns[::-1]],
        lambda f: f.set_index(pd.Index(np.zeros(len(f), dtype=int))),
        lambda f: f.assign(symbol=f["symbol"].astype(object)),
        lambda f: f.assign(symbol=pd.Categorical(f["symbol"], categories=["Z", "C", "B", "A"])),
        lambda f: f.assign(symbol=pd.Categorical(f["symbol"], ordered=True)),
        lambda f: f.assign(ts=f["ts"].dt.tz_convert("America/New_York")),
        lambda f: f.assign(ts=f["ts"].dt.as_unit("ns")),
        lambda f: f.assign(ts=f["ts"].dt.as_unit("s")),
        lambda f: f.assign(volume=f["volume"].astype("int64")),
        lambda f: f.assign(volume=f["volume"].astype("Int64")),
        lambda f: f.assign(volume=f["volume"].astype("uint16")),
        lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
        lambda f: f.convert_dtypes(),
    ],
)
def test_the_form_of_a_frame_does_not_matter(change):
    frame = random_bars()
    pd.testing.assert_frame_equal(checked(change(frame)), checked(frame), check_categorical=False)


def test_symbols_that_are_numbers_are_refused_as_in_files():
    frame = random_bars()
    text = frame.assign(symbol=frame["symbol"].map({"A": "10", "B": "2", "C": "9"}))
    assert list(checked(text)["symbol"].cat.categories) == ["10", "2", "9"]
    for symbol in (text["symbol"].astype(int), text["symbol"].astype(int).astype("category")):
        refused(text.assign(symbol=symbol), "the symbol 2 is no text")


def test_symbols_are_stripped_and_control_characters_refused():
    frame = random_bars("A")
    assert list(checked(frame.assign(symbol=" A\t"))["symbol"].cat.categories) == ["A"]
    for name in ("A\x07B", "A\x1b[31mB", "A\u202eB", "A\nB", "A\x00"):
        refused(frame.assign(symbol=name), "control character")
    for name in ("A B", "^GSPC", "EUR=X", "A" * 33, "A;B", "😀", "a'b"):
        refused(frame.assign(symbol=name), "is not allowed: write it with 1 to 32 letters")


def test_dates_iso_texts_decimals_and_objects_are_understood():
    frame = random_bars("A", 3).round(2)
    expected = checked(frame)
    for ts in (frame["ts"].dt.date, frame["ts"].dt.strftime("%Y-%m-%d"), frame["ts"].map(lambda t: t.isoformat())):
        pd.testing.assert_frame_equal(checked(frame.assign(ts=ts)), expected)
    decimals = {name: frame[name].map(lambda value: Decimal(str(value))) for name in ("open", "high", "low", "close")}
    pd.testing.assert_frame_equal(checked(frame.assign(**decimals)), expected)
    pd.testing.assert_frame_equal(checked(frame.assign(volume=frame["volume"].astype(object))), expected)


def test_times_of_another_zone_become_utc():
    frame = random_bars("A", 2)
    frame["ts"] = pd.to_datetime(["2024-01-02T09:30:00-05:00", "2024-07-02T09:30:00-04:00"], utc=True).tz_convert(
        "America/New_York"
    )
    assert [time.isoformat() for time in checked(frame)["ts"]] == ["2024-01-02T14:30:00+00:00", "2024-07-02T13:30:00+00:00"]  # noqa: E501  # fmt: skip


def test_naive_times_are_taken_as_utc_only_when_that_is_said():
    frame = random_bars()
    naive = frame.assign(ts=frame["ts"].dt.tz_localize(None))
    refused(naive, "column ts of the bars", "naive times", "2024-01-02T00:00:00Z", "--assume-utc")
    pd.testing.assert_frame_equal(checked(naive, assume_utc=True), checked(frame))
    pd.testing.assert_frame_equal(checked(frame, assume_utc=True), checked(frame))


def test_values_at_the_edge_are_sound():
    frame = random_bars("A", 2)
    checked(at(frame, 0, volume=0.0, open=50.0, high=50.0, low=50.0, close=50.0))
    checked(at(frame, 0, open=5e-324, low=5e-324))
    checked(frame.iloc[:1])


# what is refused


@pytest.mark.parametrize("value", [float("nan"), None])
@pytest.mark.parametrize("name", BAR_COLUMNS[2:])
def test_a_missing_number_is_named_as_missing(name, value):
    told = refused(at(random_bars(), 9, **{name: value}), f"B at 2024-01-02T00:00:00+00:00: {name} is missing")
    assert "more row" not in told and "nan" not in told


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"high": float("inf")}, "high is not finite (inf)"),
        ({"volume": float("inf")}, "volume is not finite (inf)"),
        ({"low": float("-inf")}, "low is not "),
        ({"low": 0.0}, "low is not above zero (0.0)"),
        ({"close": -1.0}, "close is not above zero (-1.0)"),
        ({"volume": -1.0}, "volume is negative (-1.0)"),
        ({"high": 1.0}, ": high is below open, close or low;"),
        ({"low": 1e6}, "high is below open, close or low"),
        ({"open": 60.0, "low": 70.0, "close": 80.0, "high": 90.0}, ": low is above open or close;"),
    ],
)
def test_an_unsound_value_names_symbol_time_and_fault(values, says):
    refused(at(random_bars(), 9, **values), "in the bars, B at 2024-01-02T00:00:00+00:00: ", says, "correct the source")


def test_how_many_more_rows_are_at_fault_is_said():
    frame = at(at(at(random_bars(), 3, volume=-1.0), 9, volume=-2.0), 17, low=-3.0)
    refused(frame, "and 2 more rows at fault")
    refused(at(at(random_bars(), 3, volume=-1.0), 9, volume=-2.0), "and 1 more row at fault")


def test_a_duplicate_bar_names_symbol_and_time():
    frame = random_bars()
    for other in (frame.iloc[[10]], frame.iloc[[10]].assign(close=frame["close"][10] * 1.0001)):
        refused(
            pd.concat([frame, other]), "B at 2024-01-03T00:00:00+00:00: more than one bar for the same symbol and ts"
        )


def test_columns_that_are_missing_unknown_or_repeated_are_named_with_what_is_needed():
    frame = random_bars()
    needs = "exactly the columns symbol, ts, open, high, low, close, volume"
    refused(frame.drop(columns=["close", "volume"]), "lacks 'close', 'volume'", needs)
    refused(frame.assign(vwap=1.0), "unknown 'vwap'", needs)
    refused(frame.rename(columns={"ts": "time"}), "lacks 'ts' and has the unknown 'time'", needs)
    refused(pd.concat([frame, frame[["close"]]], axis=1), "repeats 'close'", needs)
    refused(frame.set_index("ts"), "lacks 'ts'", needs)
    refused(pd.DataFrame(), "lacks 'symbol', 'ts'")


def test_an_empty_table_is_refused():
    refused(random_bars().iloc[:0], "the bars table is empty")


@pytest.mark.parametrize("symbol", [None, float("nan"), "", "  "])
def test_a_bar_without_a_symbol_is_refused(symbol):
    frame = random_bars()
    for column in (frame["symbol"].astype(object), frame["symbol"].astype("category")):
        if isinstance(symbol, str) and column.dtype == "category":
            column = column.cat.add_categories([symbol])
        broken = column.copy()
        broken[4] = symbol
        refused(frame.assign(symbol=broken), "a bar has no symbol")


def test_symbols_that_look_like_missing_values_are_symbols():
    frame = random_bars()
    frame["symbol"] = frame["symbol"].map({"A": "NA", "B": "nan", "C": "None"})
    assert list(checked(frame)["symbol"].cat.categories) == ["NA", "None", "nan"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (lambda f: f["ts"].dt.strftime("%Y-%m-%d %H:%M"), "no times"),
        (lambda f: f["ts"].dt.strftime("%d/%m/%Y"), "no times"),
        (lambda f: f["close"], "no times"),
        (lambda f: f["ts"].where(f.index != 4), "missing time in row 5"),
    ],
)
def test_what_is_no_time_is_refused(column, says):
    frame = random_bars()
    refused(frame.assign(ts=column(frame)), "column ts of the bars", says)


def test_times_finer_than_a_microsecond_are_refused_and_not_rounded():
    frame = random_bars()
    fine = frame.assign(ts=frame["ts"].dt.as_unit("ns"))
    fine.loc[2, "ts"] += pd.Timedelta(1, "ns")
    refused(fine, "finer than a microsecond in row 3 (2024-01-03T00:00:00.000000001+00:00)", "round")
    coarse = frame.assign(ts=frame["ts"].dt.as_unit("ns"))
    coarse.loc[2, "ts"] += pd.Timedelta(1, "us")
    assert checked(coarse)["ts"][2] == pd.Timestamp("2024-01-03T00:00:00.000001Z")


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (lambda f: f["close"].astype(object).where(f.index != 4, "abc"), "holds text in row 5 ('abc')"),
        (lambda f: f["close"].astype(str), "holds text"),
        (lambda f: f["close"] > 0, "holds bool"),
        (lambda f: f["close"] + 1j, "holds complex128"),
        (lambda f: f["ts"], "it must hold numbers"),
    ],
)
def test_what_is_no_number_is_refused(column, says):
    frame = random_bars()
    refused(frame.assign(close=column(frame)), "column close of the bars", says)


# instruments


def test_instruments_default_to_us_shares_of_the_calendar_given():
    found = normalise_instruments(None, ["A", "B"], "XLON")
    assert found.to_dict("records") == [
        {"symbol": symbol, "name": symbol, "currency": "USD", "calendar": "XLON", "asset_class": "EQUITY"}
        for symbol in "AB"
    ]


def test_instruments_come_sorted_and_those_without_bars_are_left_out():
    found = normalise_instruments(instruments("C", "B", "A"), ["A", "C"], "XNYS")
    assert list(found["symbol"]) == ["A", "C"] and list(found.index) == [0, 1]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (instruments("A"), "no row for B; add one for every symbol"),
        (instruments("A", "B", "B"), "B: symbol is listed more than once"),
        (instruments("A", "B", calendar="XNYX"), "no calendar named 'XNYX'.*XNYS"),
        (instruments("A", "B", calendar=" "), "A: calendar is blank"),
        (instruments("A", "B", currency=""), "A: currency is blank"),
        (instruments("A", "B", name=None), "A: name is missing"),
        (instruments("A", "B").drop(columns="name"), "instruments table lacks 'name'"),
        (instruments("A", "B").assign(isin="X"), "unknown 'isin'"),
    ],
)
def test_unsound_instruments_are_refused(frame, says):
    with pytest.raises(InputError, match=says):
        normalise_instruments(frame, ["A", "B"], "XNYS")


def test_an_unknown_default_calendar_is_refused():
    with pytest.raises(InputError, match="no calendar named 'NOWHERE'"):
        normalise_instruments(None, ["A"], "NOWHERE")


# corporate actions


def test_no_actions_is_an_empty_table_of_the_right_types():
    for given in (None, actions(), pd.DataFrame(columns=["symbol", "ex_date", "kind", "value"])):
        found = normalise_actions(given, ["A"])
        assert len(found) == 0 and found["ex_date"].dtype == "datetime64[us, UTC]"
        assert found["value"].dtype == "float64"


def test_actions_come_sorted_by_symbol_date_and_kind():
    rows = [("A", "2024-01-02", "DIVIDEND", 0.5), ("A", "2024-01-02", "SPLIT", 2.0), ("A", "2024-01-03", "SPLIT", 3.0), ("B", "2023-01-01", "SPLIT", 0.1)]  # noqa: E501  # fmt: skip
    found = normalise_actions(actions(*rows[::-1]), ["A", "B"])
    assert list(found.itertuples(index=False, name=None)) == list(actions(*rows).itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("Z", "2024-01-02", "SPLIT", 2.0), "the actions table names Z, which the bars do not hold; remove those rows"),
        (("A", "2024-01-02", "MERGER", 2.0), "A at 2024-01-02T00:00:00+00:00: kind is neither SPLIT, DIVIDEND nor DELIST (M"),
        (("A", "2024-01-02", "split", 2.0), "kind is neither SPLIT, DIVIDEND nor DELIST (split)"),
        (("A", "2024-01-02", "SPLIT", 0.0), "value is not a finite number above zero (0.0)"),
        (("A", "2024-01-02", "SPLIT", -2.0), "value is not a finite number above zero (-2.0)"),
        (("A", "2024-01-02", "DIVIDEND", float("inf")), "value is not a finite number above zero (inf)"),
        (("A", "2024-01-02", "DIVIDEND", float("nan")), "value is missing"),
        (("A", "2024-01-02T05:00:00", "SPLIT", 2.0), "ex_date is not a date (00:00 UTC)"),
    ],
)  # fmt: skip
def test_unsound_actions_are_refused(row, says):
    sound = ("A", "2024-01-03", "DIVIDEND", 0.5)
    with pytest.raises(InputError, match=re.escape(says)):
        normalise_actions(actions(sound, row), ["A"])


def test_an_action_that_is_listed_twice_is_refused_whatever_its_value():
    with pytest.raises(InputError, match="A at 2024-01-02.*the same action is listed more than once"):
        normalise_actions(actions(("A", "2024-01-02", "SPLIT", 2.0), ("A", "2024-01-02", "SPLIT", 3.0)), ["A"])


def test_actions_with_naive_dates_need_the_word_of_the_user():
    frame = actions(("A", "2024-01-02", "SPLIT", 2.0))
    naive = frame.assign(ex_date=frame["ex_date"].dt.tz_localize(None))
    with pytest.raises(InputError, match="column ex_date of the actions holds naive times"):
        normalise_actions(naive, ["A"])
    assert normalise_actions(naive, ["A"], assume_utc=True)["ex_date"][0] == days("2024-01-02", 1)[0]
