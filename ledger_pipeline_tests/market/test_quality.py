"""Every issue by a case made by hand, the real prices, and a slow independent reading of random tables."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.quality import quality_report, summary

FOLDER = Path(__file__).parents[2] / "sources" / "demo"
INSTRUMENTS = pd.DataFrame({"symbol": ["A", "B", "C"], "calendar": ["XNYS", "XNYS", "24/7"]})
NO_ACTIONS = pd.DataFrame({"symbol": [], "ex_date": pd.DatetimeIndex([], tz="UTC"), "kind": [], "value": []})
# Monday to Friday, twice; the market was open on all ten days.
DAYS = ["2012-05-14", "2012-05-15", "2012-05-16", "2012-05-17", "2012-05-18"]
NEXT_DAYS = ["2012-05-21", "2012-05-22", "2012-05-23", "2012-05-24", "2012-05-25"]


def bars(*rows: tuple) -> pd.DataFrame:
    """Bars from (symbol, ts, close): open equals close, high and low are a little off, each volume is another."""
    frame = pd.DataFrame(rows, columns=["symbol", "ts", "close"])
    return pd.DataFrame(
        {
            "symbol": frame["symbol"],
            "ts": pd.to_datetime(frame["ts"], utc=True).dt.as_unit("us"),
            "open": frame["close"],
            "high": frame["close"] + 1,
            "low": frame["close"] * 0.99,
            "close": frame["close"].astype(float),
            "volume": np.arange(1000.0, 1000.0 + len(frame)),
        }
    )


def week(symbol: str = "A", days: list[str] = DAYS) -> pd.DataFrame:
    return bars(*((symbol, day, 100.0 + n) for n, day in enumerate(days)))


def split(symbol: str, ex_date: str, ratio: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"symbol": [symbol], "ex_date": pd.DatetimeIndex([ex_date], tz="UTC"), "kind": ["SPLIT"], "value": [ratio]}
    )


def report(table: pd.DataFrame, actions: pd.DataFrame = NO_ACTIONS, **options) -> pd.DataFrame:
    return quality_report(table, INSTRUMENTS, actions, **options)


def findings(found: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """(symbol, time, issue, severity) of each row."""
    times = [f"{ts:%Y-%m-%d}" if ts == ts.normalize() else f"{ts:%Y-%m-%dT%H:%M}" for ts in found["ts"]]
    return list(zip(found["symbol"], times, found["issue"], found["severity"], strict=True))


def test_sound_bars_have_an_empty_report_with_its_columns():
    found = report(week())
    assert found.empty
    assert list(found.columns) == ["symbol", "ts", "issue", "severity", "detail", "count"]
    assert found["ts"].dtype == pd.DatetimeTZDtype("us", "UTC")
    assert report(week().iloc[:0]).dtypes.equals(found.dtypes)
    assert summary(found).empty


def test_a_late_listing_and_an_early_end_are_no_issue():
    table = pd.concat([week("A", DAYS + NEXT_DAYS), week("B", NEXT_DAYS[1:3])])
    assert report(table).empty


# MISSING_SESSION


def test_a_missing_session_is_reported_and_a_weekend_is_not():
    found = report(week(days=[*DAYS[:2], *DAYS[3:], *NEXT_DAYS]))
    assert findings(found) == [("A", "2012-05-16", "MISSING_SESSION", "WARN")]
    assert found["detail"].tolist() == ["no bar in 1 XNYS session, 2012-05-16"]


def test_sessions_missing_one_after_the_other_are_one_row():
    found = report(week(days=[DAYS[0], *DAYS[3:], NEXT_DAYS[4]]))
    assert findings(found) == [("A", day, "MISSING_SESSION", "WARN") for day in ("2012-05-15", "2012-05-21")]
    assert found["detail"].tolist() == [
        "no bar in 2 XNYS sessions, 2012-05-15 to 2012-05-16",
        "no bar in 4 XNYS sessions, 2012-05-21 to 2012-05-24",
    ]


def test_a_gap_between_two_symbols_is_no_gap():
    assert report(pd.concat([week("A", DAYS[:1]), week("B", NEXT_DAYS[4:])])).empty


def test_each_calendar_judges_its_own_instruments():
    # Without a weekend: right for XNYS (A), two days short for a market that never closes (C).
    found = report(pd.concat([week("A", DAYS + NEXT_DAYS), week("C", DAYS + NEXT_DAYS)]))
    assert findings(found) == [("C", "2012-05-19", "MISSING_SESSION", "WARN")]
    assert "2 24/7 sessions, 2012-05-19 to 2012-05-20" in found["detail"][0]


def test_a_session_without_any_intraday_bar_is_missing():
    hours = [f"{day}T{hour}:30" for day in (DAYS[0], DAYS[2]) for hour in (13, 14, 15)]
    assert findings(report(week(days=hours))) == [("A", "2012-05-15", "MISSING_SESSION", "WARN")]


# CLOSED_DAY


def test_a_bar_on_a_closed_day_is_reported_and_does_not_hide_a_missing_session():
    # Saturday 05-19; Friday 05-18 is missing.
    found = report(week(days=[*DAYS[:4], "2012-05-19", *NEXT_DAYS]))
    assert findings(found) == [
        ("A", "2012-05-18", "MISSING_SESSION", "WARN"),
        ("A", "2012-05-19", "CLOSED_DAY", "WARN"),
    ]
    assert found["detail"][1] == "1 bar on a Saturday without a XNYS session"


def test_a_holiday_is_a_closed_day():
    found = report(week(days=["2012-07-03", "2012-07-04", "2012-07-05"]))
    assert findings(found) == [("A", "2012-07-04", "CLOSED_DAY", "WARN")]


def test_intraday_bars_of_one_closed_day_are_one_row_and_hours_before_the_open_are_none():
    early = [f"{DAYS[0]}T12:00", f"{DAYS[0]}T13:30"]
    found = report(week(days=[*early, "2012-05-19T13:30", "2012-05-19T14:30", "2012-05-20T14:30"]))
    assert findings(found) == [
        ("A", "2012-05-19T13:30", "CLOSED_DAY", "WARN"),
        ("A", "2012-05-20T14:30", "CLOSED_DAY", "WARN"),
    ]
    assert found["detail"][0].startswith("2 bars on a Saturday")


def test_nothing_but_closed_days():
    assert set(report(week(days=["2012-05-19", "2012-05-20"]))["issue"]) == {"CLOSED_DAY"}


# DUPLICATE_BAR


def test_a_duplicate_bar_is_an_error_and_is_counted_once():
    table = pd.concat([week(), week().iloc[[2, 2]]])
    found = report(table)
    assert findings(found) == [("A", "2012-05-16", "DUPLICATE_BAR", "ERROR")]
    assert found["detail"][0] == "3 bars with this time, all the same"


def test_a_duplicate_with_other_values_says_so_and_the_first_one_counts_between_bars():
    other = week().iloc[[2]].assign(open=900.0, high=901.0, low=899.0, close=900.0)
    found = report(pd.concat([week(), other]))
    assert findings(found) == [("A", "2012-05-16", "DUPLICATE_BAR", "ERROR")]
    assert found["detail"][0] == "2 bars with this time, with different values"
    assert set(report(pd.concat([other, week()]))["issue"]) == {"DUPLICATE_BAR", "JUMP"}


def test_the_same_time_of_two_symbols_is_no_duplicate():
    assert report(pd.concat([week("A"), week("B")])).empty


# STALE


def stale(count: int) -> pd.DataFrame:
    table = week(days=DAYS + NEXT_DAYS)
    fields = ["open", "high", "low", "close", "volume"]
    table.loc[3 : 2 + count, fields] = table.loc[3, fields].to_numpy()
    return table


def test_bars_that_repeat_are_stale_from_the_number_given():
    assert report(stale(2)).empty
    found = report(stale(3))
    assert findings(found) == [("A", "2012-05-17", "STALE", "WARN")]
    assert found["detail"][0] == "3 bars with identical values, until 2012-05-21"
    assert findings(report(stale(5))) == [("A", "2012-05-17", "STALE", "WARN")]
    assert report(stale(4), stale_bars=5).empty
    assert len(report(stale(2), stale_bars=2)) == 1


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume"])
def test_one_field_that_moves_is_not_stale(field):
    table = stale(3)
    table.loc[4, field] += 0.001
    assert report(table).empty


def test_the_last_bars_can_be_stale_and_two_symbols_do_not_add_up():
    table = week()
    same = {"open": 5.0, "high": 5.0, "low": 5.0, "close": 5.0, "volume": 0.0}
    assert findings(report(table.iloc[:3].assign(**same))) == [("A", "2012-05-14", "STALE", "WARN")]
    two = pd.concat([table.iloc[:2].assign(**same), week("B").iloc[:2].assign(**same)])
    assert report(two).empty


# JUMP


def test_a_close_beyond_the_threshold_is_a_jump_in_both_directions():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 125.0), ("A", DAYS[2], 157.0), ("A", DAYS[3], 117.0))
    found = report(table)
    # 100 to 125 is +25 %, which is not beyond; 125 to 157 is +25.6 %, 157 to 117 is -25.5 %.
    assert findings(found) == [("A", DAYS[2], "JUMP", "WARN"), ("A", DAYS[3], "JUMP", "WARN")]
    assert found["detail"].tolist() == [
        "close 157 after 125: +25.6%, and no split is known for that day",
        "close 117 after 157: -25.5%, and no split is known for that day",
    ]
    assert len(report(table, jump_threshold=0.2)) == 3


def test_a_known_split_is_no_jump_and_an_unknown_one_is():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 51.0), ("A", DAYS[2], 52.0))
    assert report(table, split("A", DAYS[1], 2)).empty
    both = [("A", DAYS[1], "JUMP", "WARN"), ("A", DAYS[1], "MISSING_SPLIT", "WARN")]
    assert findings(report(table)) == both
    assert findings(report(table, split("B", DAYS[1], 2))) == both
    assert report(table)["detail"][1] == "open 51 after close 100 looks like a split of 2 for 1, and none is listed"
    reverse = bars(("A", DAYS[0], 1.0), ("A", DAYS[1], 9.5))
    assert report(reverse, split("A", DAYS[1], 0.1)).empty


def test_a_split_belongs_to_the_first_bar_from_its_ex_date_on():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[2], 51.0))
    assert set(report(table, split("A", DAYS[1], 2))["issue"]) == {"MISSING_SESSION"}
    quarter = bars(("A", DAYS[0], 100.0), ("A", DAYS[2], 25.5))
    both = pd.concat([split("A", DAYS[1], 2), split("A", DAYS[2], 2)])
    assert set(report(quarter, both)["issue"]) == {"MISSING_SESSION"}
    # Before the first bar or after the last one it changes nothing.
    assert report(week(), split("A", DAYS[0], 2)).empty
    assert report(week(), split("A", "2013-01-02", 2)).empty


def test_a_fall_on_top_of_a_split_is_a_jump_that_names_the_split():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 30.0))
    found = report(table, split("A", DAYS[1], 2))
    assert found["detail"].tolist() == ["close 30 after 100: -40.0% without that day's split of 2 for 1, -70.0% raw"]


def test_a_split_that_the_prices_do_not_show_is_a_jump_that_says_so():
    found = report(week(), split("A", DAYS[2], 2))
    assert findings(found) == [("A", DAYS[2], "JUMP", "WARN"), ("A", DAYS[2], "SPLIT_UNSEEN", "WARN")]
    assert found["detail"][1].startswith("a split of 2 for 1 is listed, and the close went from 101 to 102")
    says = "+102.0% without that day's split of 2 for 1, +1.0% raw; the prices do not show this split"
    assert says in found["detail"][0]


def test_a_dividend_is_not_taken_for_a_split():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 51.0))
    assert set(report(table, split("A", DAYS[1], 2).assign(kind="DIVIDEND"))["issue"]) == {
        "JUMP", "MISSING_SPLIT",
    }  # fmt: skip


def test_a_crash_that_is_no_usual_ratio_is_a_jump_only():
    table = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 57.0))
    assert findings(report(table)) == [("A", DAYS[1], "JUMP", "WARN")]
    # a ratio that the day did not keep: open at a third, close at 60
    back = bars(("A", DAYS[0], 100.0), ("A", DAYS[1], 60.0)).assign(open=[100.0, 33.3], low=[99.0, 33.0])
    assert set(report(back)["issue"]) == {"JUMP"}


def paid(*rows: tuple[str, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ex_date", "kind", "value"]).assign(symbol="A")
    return frame.assign(ex_date=pd.to_datetime(frame["ex_date"], utc=True))


def test_a_dividend_of_the_whole_price_is_told():
    found = report(week(), paid((DAYS[2], "DIVIDEND", 101.0), (DAYS[3], "DIVIDEND", 1.0)))
    assert findings(found) == [("A", DAYS[2], "DIVIDEND_SIZE", "WARN")]  # the close before was 101


def test_a_dividend_in_the_basis_of_a_later_split_is_told():
    # 1 % of the price each time; the first is stated after the 7 for 1 split that came later: 7 / 7 = 1
    days = [*DAYS, *NEXT_DAYS]
    prices = [700.0] * 5 + [100.0] * 5
    table = bars(*(("A", day, price) for day, price in zip(days, prices, strict=True)))
    actions = paid((days[1], "DIVIDEND", 1.0), (days[3], "DIVIDEND", 7.0), (days[5], "SPLIT", 7.0),
                   (days[7], "DIVIDEND", 1.0), (days[9], "DIVIDEND", 1.1))  # fmt: skip
    found = report(table, actions, stale_bars=99)
    assert findings(found) == [("A", days[1], "DIVIDEND_BASIS", "WARN")]
    assert "stated after the later split of 7 for 1" in found["detail"][0]


def test_the_first_bar_of_a_symbol_is_no_jump():
    assert report(pd.concat([week("A"), week("B").assign(open=1.0, high=1.0, low=1.0, close=1.0)])).empty


def test_an_intraday_split_counts_at_the_first_bar_of_its_session():
    # Sydney opens before midnight UTC: the session of 01-10 starts on 01-09 at 23:00.
    times = ["2012-01-09T03:00", "2012-01-09T23:00", "2012-01-10T00:00", "2012-01-10T01:00"]
    table = bars(*(("A", time, close) for time, close in zip(times, [100.0, 50.0, 51.0, 52.0], strict=True)))
    sydney = INSTRUMENTS.assign(calendar="XASX")
    assert quality_report(table, sydney, split("A", "2012-01-10", 2)).empty


# INVALID_OHLC


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"high": 101.0}, "high 101 is below open 102, high 101 is below close 102"),
        ({"open": 104.0}, "high 103 is below open 104"),
        ({"close": 104.0}, "high 103 is below close 104"),
        ({"low": 102.5}, "low 102.5 is above open 102, low 102.5 is above close 102"),
        ({"low": 105.0}, "high 103 is below low 105"),
        ({"open": np.nan}, "open nan is not finite"),
        ({"high": np.inf}, "high inf is not finite"),
        ({"low": -np.inf}, "low -inf is not finite"),
        ({"close": np.nan}, "close nan is not finite"),
        ({"low": 0.0}, "low 0 is not above zero"),
        ({"open": 1.0, "low": -1.0}, "low -1 is not above zero"),
        ({"volume": -5.0}, "volume -5 is negative"),
        ({"volume": np.nan}, "volume nan is not finite"),
        ({"volume": np.inf}, "volume inf is not finite"),
    ],
)
def test_a_bar_that_contradicts_itself_is_an_error(changes, says):
    table = week()
    for name, value in changes.items():
        table.loc[2, name] = value
    found = report(table)
    assert findings(found) == [("A", "2012-05-16", "INVALID_OHLC", "ERROR")]
    assert says in found["detail"][0]


def test_a_flat_bar_without_volume_is_sound():
    flat = {"open": 102.0, "high": 102.0, "low": 102.0, "close": 102.0, "volume": 0.0}
    table = week()
    for name, value in flat.items():
        table.loc[2, name] = value
    assert report(table).empty


# The table as a whole


def mixed() -> pd.DataFrame:
    """Several issues in two symbols."""
    table = pd.concat(
        [
            week("A", [*DAYS, *NEXT_DAYS]).drop(index=3),
            week("B", [*DAYS[:4], "2012-05-19", *NEXT_DAYS]),
        ],
        ignore_index=True,
    )
    table.loc[1, "high"] = 1.0
    table.loc[12:, "close"] = 10.0
    return table


def test_a_report_is_sorted_by_symbol_time_and_issue():
    found = report(mixed())
    assert found[["symbol", "ts", "issue"]].apply(tuple, axis=1).is_monotonic_increasing
    assert set(found["symbol"]) == {"A", "B"}
    assert set(found["issue"]) == {"INVALID_OHLC", "MISSING_SESSION", "CLOSED_DAY", "JUMP"}


def test_order_and_type_of_the_input_change_nothing_and_the_input_is_not_changed():
    table = mixed()
    before = table.copy(deep=True)
    expected = report(table)
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(report(table.sample(frac=1, random_state=3)), expected)
    backwards = pd.CategoricalDtype(["Z", "B", "A"])
    pd.testing.assert_frame_equal(report(table.astype({"symbol": backwards})), expected)
    shuffled = table.sample(frac=1, random_state=4).astype({"symbol": backwards})
    pd.testing.assert_frame_equal(report(shuffled), expected)


def test_the_summary_counts_by_issue_and_symbol_with_errors_first():
    counts = summary(report(mixed()))
    assert list(counts.columns) == ["severity", "issue", "symbol", "count"]
    assert list(counts.itertuples(index=False, name=None)) == [
        ("ERROR", "INVALID_OHLC", "A", 1),
        ("ERROR", "INVALID_OHLC", "B", 7),
        ("WARN", "CLOSED_DAY", "B", 1),
        ("WARN", "JUMP", "B", 1),
        ("WARN", "MISSING_SESSION", "A", 1),
        ("WARN", "MISSING_SESSION", "B", 1),
    ]


@pytest.mark.parametrize(
    ("table", "instruments", "actions", "options", "says"),
    [
        (week().drop(columns="high"), INSTRUMENTS, NO_ACTIONS, {}, "bars table lacks high"),
        (week(), INSTRUMENTS[["symbol"]], NO_ACTIONS, {}, "instruments table lacks calendar"),
        (week(), INSTRUMENTS, NO_ACTIONS[["symbol"]], {}, "actions table lacks ex_date"),
        (week("D"), INSTRUMENTS, NO_ACTIONS, {}, "no instrument row for D"),
        (week(), INSTRUMENTS.assign(calendar="XNYX"), NO_ACTIONS, {}, "no calendar named 'XNYX'"),
        (week().assign(symbol=None), INSTRUMENTS, NO_ACTIONS, {}, "a bar has no symbol"),
        (week().assign(close="x"), INSTRUMENTS, NO_ACTIONS, {}, "close of the bars holds text"),
        (week().assign(ts=pd.to_datetime(DAYS)), INSTRUMENTS, NO_ACTIONS, {}, "naive times"),
        (week(), INSTRUMENTS, split("A", DAYS[0], 0), {}, "split of A has the ratio 0"),
        (week(), INSTRUMENTS, NO_ACTIONS, {"jump_threshold": 0}, "jump_threshold is 0"),
        (week(), INSTRUMENTS, NO_ACTIONS, {"stale_bars": 1}, "stale_bars is 1"),
    ],
)
def test_input_that_cannot_be_judged_is_refused_in_words(table, instruments, actions, options, says):
    with pytest.raises(InputError, match=says):
        quality_report(table, instruments, actions, **options)


# The real prices


@pytest.fixture(scope="module")
def demo() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return (
        pd.read_csv(FOLDER / "bars.csv", parse_dates=["ts"]),
        pd.read_csv(FOLDER / "instruments.csv"),
        pd.read_csv(FOLDER / "actions.csv", parse_dates=["ex_date"]),
    )


def test_the_real_prices_have_one_jump_which_is_no_split(demo):
    found = quality_report(*demo)
    assert findings(found) == [("AAPL", "2000-09-29", "JUMP", "WARN")]
    assert "close 25.75 after 53.5: -51.9%" in found["detail"][0]


def test_without_their_splits_the_real_prices_jump_on_the_split_days(demo):
    table, instruments, actions = demo
    found = quality_report(table, instruments, actions[actions["kind"] == "DIVIDEND"])
    assert {(symbol, day) for symbol, day, _, _ in findings(found)} == {
        ("AAPL", "2000-06-21"), ("AAPL", "2000-09-29"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18"),
    }  # fmt: skip


# An independent reading, one bar at a time

SPAN = pd.date_range("2012-07-02", "2012-07-13", tz="UTC")
OPEN_DAYS = sessions("XNYS", SPAN[0], SPAN[-1])
one_split = st.tuples(st.sampled_from(["A", "B", "Z"]), st.sampled_from(list(SPAN)), st.sampled_from([2.0, 0.5]))
one_bar = st.tuples(
    st.sampled_from(["A", "B"]),
    st.sampled_from(list(SPAN)),
    st.sampled_from([1.0, 1.2, 2.0, -1.0, np.nan]),
    st.sampled_from([5.0, 6.0]),
)


def slow_reading(rows: list[tuple], splits: dict) -> set[tuple]:
    found = set()
    for symbol in {row[0] for row in rows}:
        mine = sorted((row for row in rows if row[0] == symbol), key=lambda row: row[1])
        days = [row[1] for row in mine]
        found |= {(symbol, day, "DUPLICATE_BAR") for day in days if days.count(day) > 1}
        found |= {(symbol, day, "INVALID_OHLC") for _, day, price, _ in mine if not price > 0}
        found |= {(symbol, day, "CLOSED_DAY") for day in days if day not in OPEN_DAYS}
        held = [day for day in days if day in OPEN_DAYS]
        lost = [day for day in OPEN_DAYS if held and held[0] < day < held[-1] and day not in held]
        for day in lost:
            before = OPEN_DAYS[OPEN_DAYS.get_loc(day) - 1]
            if before not in lost:
                found.add((symbol, day, "MISSING_SESSION"))
        first_of_day: dict = {}
        for row in mine:
            first_of_day.setdefault(row[1], row)
        series = list(first_of_day.values())
        for n, (before, now) in enumerate(zip(series, series[1:], strict=False), start=1):
            ratio = 1.0
            for ex_date, value in splits.get(symbol, ()):
                if before[1] < ex_date <= now[1]:
                    ratio *= value
            if before[2] > 0 and now[2] > 0 and abs(now[2] * ratio / before[2] - 1) > 0.25:
                found.add((symbol, now[1], "JUMP"))
            begins = n == 1 or series[n - 2][2:] != before[2:]
            run = 1
            while begins and n - 1 + run < len(series) and series[n - 1 + run][2:] == before[2:]:
                run += 1
            if run >= 3 and not np.isnan(before[2]):
                found.add((symbol, before[1], "STALE"))
    return found


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(one_bar, min_size=1, max_size=30), some_splits=st.lists(one_split, max_size=3))
def test_random_tables_are_read_as_by_hand(rows, some_splits):
    symbols, days, prices, volumes = zip(*rows, strict=True)
    table = pd.DataFrame({"symbol": symbols, "ts": pd.DatetimeIndex(days).as_unit("us")})
    table = table.assign(open=prices, high=prices, low=prices, close=prices, volume=volumes)
    actions = pd.DataFrame(some_splits, columns=["symbol", "ex_date", "value"]).assign(kind="SPLIT")
    actions["ex_date"] = pd.to_datetime(actions["ex_date"], utc=True)
    splits: dict = {}
    for symbol, ex_date, value in some_splits:
        splits.setdefault(symbol, []).append((ex_date, value))
    found = quality_report(table, INSTRUMENTS, actions)
    found = found[~found["issue"].isin(["MISSING_SPLIT", "SPLIT_UNSEEN"])]  # those have cases of their own
    assert set(found[["symbol", "ts", "issue"]].itertuples(index=False, name=None)) == slow_reading(rows, splits)
    assert not found[found["issue"] != "INVALID_OHLC"].duplicated(["symbol", "ts", "issue"]).any()
