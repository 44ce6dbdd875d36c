"""Windows over sessions, by hand."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.windows import borders, length, session_count, window, window_plan

DAYS = pd.DatetimeIndex(pd.bdate_range("2001-01-01", "2005-12-30")).as_unit("us")
AFTER = pd.Timestamp("2006-01-02")


def laid(plan, sessions=DAYS, following=AFTER):
    found, dropped = borders(sessions, plan, following)
    return [[f"{sessions[k]:%Y-%m-%d}" for k in (b.first, b.last, b.test_first, b.test_last)] for b in found], dropped


def test_rolling_years_begin_a_year_apart() -> None:
    rows, dropped = laid(window_plan(train="2y", test="1y"))
    assert rows == [
        ["2001-01-01", "2002-12-31", "2003-01-01", "2003-12-31"],
        ["2002-01-01", "2003-12-31", "2004-01-01", "2004-12-31"],
        ["2003-01-01", "2004-12-31", "2005-01-03", "2005-12-30"],
    ]
    assert dropped is None


def test_an_anchored_window_begins_with_the_first_session() -> None:
    rows, _ = laid(window_plan(train="2y", test="1y", scheme="anchored"))
    assert [row[0] for row in rows] == ["2001-01-01"] * 3
    assert [row[1] for row in rows] == ["2002-12-31", "2003-12-31", "2004-12-31"]


def test_sessions_are_counted() -> None:
    rows, dropped = laid(window_plan(train="5 sessions", test="2 sessions", step="3 sessions"), DAYS[:12], DAYS[12])
    assert rows == [
        ["2001-01-01", "2001-01-05", "2001-01-08", "2001-01-09"],
        ["2001-01-04", "2001-01-10", "2001-01-11", "2001-01-12"],
    ]
    assert dropped == "the test from 2001-01-16 would go beyond the last session and is dropped"


def test_a_last_test_that_is_not_complete_is_dropped() -> None:
    """The data end on 2005-12-29: the test of 2005 lacks a session, although no window is shorter than a year."""
    rows, dropped = laid(window_plan(train="2y", test="1y"), DAYS[:-1], DAYS[-1])
    assert len(rows) == 2 and "2005-01-03" in str(dropped)


def test_months_do_not_drift() -> None:
    """Quarters from 2001-01-01 on: each test begins with the first session of a quarter, and they follow each other."""
    rows, _ = laid(window_plan(train="12m", test="3m"))
    assert len(rows) == 16
    assert [row[2][5:7] for row in rows[:4]] == ["01", "04", "07", "10"]
    places = [(DAYS.get_loc(pd.Timestamp(row[2])), DAYS.get_loc(pd.Timestamp(row[3]))) for row in rows]
    assert all(later[0] == earlier[1] + 1 for earlier, later in zip(places, places[1:], strict=False))


def test_purge_and_embargo_shorten_train_only() -> None:
    found, _ = borders(DAYS, window_plan(train="2y", test="1y"), AFTER)
    one = window(DAYS, 0, found[0], purge=3, embargo=2)
    assert (one.train_end, one.border) == (date(2002, 12, 24), date(2002, 12, 31))
    assert (one.test_start, one.test_end) == (date(2003, 1, 1), date(2003, 12, 31))
    assert one.train_sessions == 522 - 5 and one.test_sessions == 261


def test_windows_may_be_given() -> None:
    pair = {"train": ["2001-01-01", "2001-06-29"], "test": [date(2001, 7, 2), "2001-12-31"]}
    rows, _ = laid(window_plan(windows=[pair]))
    assert rows == [["2001-01-01", "2001-06-29", "2001-07-02", "2001-12-31"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": "9y", "test": "1y"}, "longer than the data, which have 1305 sessions from 2001-01-01 to 2005-12-30"),
        ({"train": "2y", "test": "1y", "step": "6m"}, "so that tests overlap"),
        ({"train": "2 parsecs", "test": "1y"}, "train is '2 parsecs'"),
        ({"train": 3, "test": "1y"}, "train is 3"),
        ({"train": "0y", "test": "1y"}, "train is '0y'"),
        ({"train": "2y"}, "needs the lengths of train and test"),
        ({"train": "2y", "test": "1y", "scheme": "spiral"}, "scheme is 'spiral'"),
        ({"train": "2y", "test": "1y", "embargo": "1y"}, "embargo is '1y'; it counts sessions"),
        ({"train": "2y", "test": "1y", "embargo": "1%"}, "embargo is '1%'"),
        ({"train": "2y", "test": "1y", "purge": -1}, "purge is -1"),
        ({"windows": []}, "windows are written"),
        ({"windows": [{"train": ["2002-01-01", "2002-12-31"], "test": ["2001-01-01", "2001-12-31"]}]},
         "begins before its train window is over"),
        ({"windows": [{"train": ["2002-12-31", "2002-01-01"], "test": ["2003-01-01", "2003-12-31"]}]},
         "ends before it begins"),
        ({"windows": [{"train": ["2001-01-06", "2001-01-07"], "test": ["2002-01-01", "2002-12-31"]}]},
         "there is no session from"),
        ({"windows": [{"train": ["2002-01-01", "soon"], "test": ["2003-01-01", "2003-12-31"]}]}, "'soon' is no date"),
        ({"train": "2y", "test": "1y", "windows": [{}]}, "not both"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(given, message) -> None:
    with pytest.raises(InputError, match=message):
        laid(window_plan(**given))


def test_a_purge_that_leaves_no_train_is_told() -> None:
    found, _ = borders(DAYS, window_plan(train="20 sessions", test="5 sessions"), AFTER)
    with pytest.raises(
        InputError, match="window 0: a purge of 18 and an embargo of 1 sessions leave nothing of the train"
    ):
        window(DAYS, 0, found[0], purge=18, embargo=1)


def test_lengths_and_counts() -> None:
    assert str(length("3 years", "x")) == "3y" and str(length("250 Sessions", "x")) == "250 sessions"
    assert session_count("5 sessions", "x") == 5 and session_count(0, "x") == 0
