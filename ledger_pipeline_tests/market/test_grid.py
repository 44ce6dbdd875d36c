"""The time x instrument grid and the marks on it: ragged universes, corporate actions, gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import FIELDS, micros
from ledger_pipeline.market.grid import CLOSE, Action, grid
from ledger_pipeline.market.marks import marks
from ledger_pipeline.market.snapshot import seal
from ledger_pipeline_tests.market.frames import actions, flat_bars, random_bars

NAN = float("nan")


def snapshot(tmp_path, closes, *posted):
    return seal(flat_bars(closes), snapshot_id="x", root=tmp_path / f"s{len(list(tmp_path.iterdir()))}",
                actions=actions(*posted))  # fmt: skip


def date(cells, t: int) -> str:
    return f"{pd.to_datetime(cells.times[t], unit='us'):%m-%d}"


def dates(cells) -> list[str]:
    return [date(cells, t) for t in range(len(cells.times))]


RAGGED = {
    "A": {"2024-01-02": 10, "2024-01-03": 11, "2024-01-05": 12},  # halted on the 4th
    "B": {"2024-01-03": 20, "2024-01-04": 21},  # listed late, delisted early
    "C": {"2024-01-02": 30, "2024-01-08": 31},
}


def test_a_ragged_universe_has_nan_where_an_instrument_has_no_bar(tmp_path):
    cells = grid(snapshot(tmp_path, RAGGED))
    assert cells.symbols == ("A", "B", "C") and dates(cells) == ["01-02", "01-03", "01-04", "01-05", "01-08"]
    expected = [[10, NAN, 30], [11, 20, NAN], [NAN, 21, NAN], [12, NAN, NAN], [NAN, NAN, 31]]
    np.testing.assert_array_equal(cells.fields[:, CLOSE, :], expected)
    np.testing.assert_array_equal(cells.present, ~np.isnan(expected))
    assert np.isnan(cells.fields[~cells.present.repeat(5, axis=0).reshape(5, 5, 3)]).all()
    assert not cells.has_splits and (cells.split_factor == 1).all() and cells.actions == ()


def test_symbols_come_in_the_order_asked_for_and_times_without_any_of_them_are_left_out(tmp_path):
    sealed = snapshot(tmp_path, RAGGED)
    cells = grid(sealed, ["C", "B"])
    assert cells.symbols == ("C", "B") and dates(cells) == ["01-02", "01-03", "01-04", "01-08"]
    np.testing.assert_array_equal(cells.fields[:, CLOSE, :], [[30, NAN], [NAN, 20], [NAN, 21], [31, NAN]])
    whole = grid(sealed, ["C", "A", "B"])
    np.testing.assert_array_equal(whole.fields, grid(sealed).fields[:, :, [2, 0, 1]])
    assert dates(grid(sealed, ("B",))) == ["01-03", "01-04"]


@pytest.mark.parametrize(
    ("symbols", "says"),
    [
        (["A", "Z"], "snapshot 'x' holds no 'Z'; it has A, B, C"),
        (["a"], "holds no 'a'"),
        (["A", "A"], "each once"),
        ([], "one instrument or more"),
    ],
)
def test_a_universe_that_makes_no_grid_is_refused(tmp_path, symbols, says):
    with pytest.raises(InputError, match=says):
        grid(snapshot(tmp_path, RAGGED), symbols)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_grid_holds_every_bar_of_its_universe_and_nothing_else(tmp_path_factory, data):
    frame = random_bars("ABCD", 6)
    keep = data.draw(st.lists(st.booleans(), min_size=len(frame), max_size=len(frame)).filter(any))
    frame = frame[keep].reset_index(drop=True)
    sealed = seal(frame, snapshot_id="x", root=tmp_path_factory.mktemp("grid"))
    chosen = data.draw(st.permutations(sealed.symbols))[: data.draw(st.integers(1, len(sealed.symbols)))]
    cells = grid(sealed, chosen)
    rows = [
        (cells.symbols[i], cells.times[t], *cells.fields[t, :, i])
        for i in range(len(cells.symbols))
        for t in np.flatnonzero(cells.present[:, i])
    ]
    wanted = frame[frame["symbol"].isin(chosen)]
    stamps = micros(wanted["ts"])
    assert sorted(rows) == sorted(zip(wanted["symbol"], stamps, *(wanted[name] for name in FIELDS), strict=True))
    np.testing.assert_array_equal(cells.times, np.unique(stamps))


# corporate actions


def test_an_action_is_posted_at_the_first_bar_time_on_or_after_its_ex_date(tmp_path):
    closes = {"A": {"2024-01-02": 10, "2024-01-03": 10, "2024-01-08": 10}, "B": {"2024-01-02": 5, "2024-01-08": 5}}
    cells = grid(
        snapshot(
            tmp_path, closes,
            ("A", "2024-01-03", "DIVIDEND", 0.1),  # on a bar
            ("A", "2024-01-06", "DIVIDEND", 0.2),  # a Saturday
            ("B", "2024-01-03", "SPLIT", 2.0),  # a bar time of A, not of B
        )
    )  # fmt: skip
    assert [(date(cells, a.t), cells.symbols[a.i], a.kind, a.value) for a in cells.actions] == [
        ("01-03", "A", "DIVIDEND", 0.1), ("01-03", "B", "SPLIT", 2.0), ("01-08", "A", "DIVIDEND", 0.2),
    ]  # fmt: skip


def test_intraday_bars_post_an_action_at_the_first_bar_of_the_day(tmp_path):
    hours = ["2024-01-02T20:00", "2024-01-03T14:30", "2024-01-03T15:30", "2024-01-04T14:30"]
    cells = grid(snapshot(tmp_path, {"A": dict.fromkeys(hours, 10)}, ("A", "2024-01-03", "SPLIT", 2.0)))
    assert cells.actions == (Action(1, 0, "SPLIT", 2.0),)
    np.testing.assert_array_equal(cells.split_factor[:, 0], [1, 2, 2, 2])


def test_an_action_outside_an_instruments_bars_is_not_posted(tmp_path):
    closes = {"A": dict.fromkeys(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"], 10),
              "B": dict.fromkeys(["2024-01-04"], 20)}  # fmt: skip
    cells = grid(
        snapshot(
            tmp_path, closes,
            ("A", "2024-01-01", "SPLIT", 2.0), ("A", "2024-01-06", "SPLIT", 3.0),
            ("B", "2024-01-03", "SPLIT", 5.0),  # before its first bar, when nobody could hold it
            ("B", "2024-01-05", "DIVIDEND", 7.0),  # after its last bar, when somebody may hold it still
        )
    )  # fmt: skip
    assert cells.actions == (Action(3, 1, "DIVIDEND", 7.0),) and not cells.has_splits


def test_the_split_factor_is_the_product_of_all_splits_so_far(tmp_path):
    closes = {"A": dict.fromkeys(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"], 10), "B": {"2024-01-02": 1}}
    cells = grid(
        snapshot(tmp_path, closes, ("A", "2024-01-03", "SPLIT", 2.0), ("A", "2024-01-05", "SPLIT", 0.1),
                 ("A", "2024-01-04", "DIVIDEND", 9.0))
    )  # fmt: skip
    assert cells.has_splits
    np.testing.assert_allclose(cells.split_factor, [[1, 1], [2, 1], [2, 1], [0.2, 1]], rtol=1e-15)


def test_actions_that_fall_into_one_gap_keep_the_order_of_their_dates(tmp_path):
    """A dividend after a split is cash a new share: it must be posted after the split."""
    closes = {"A": {"2024-01-02": 10, "2024-01-08": 10}}
    posted = [("2024-01-03", "SPLIT", 2.0), ("2024-01-04", "DIVIDEND", 0.5), ("2024-01-05", "SPLIT", 3.0)]
    cells = grid(snapshot(tmp_path, closes, *(("A", *action) for action in posted)))
    assert [(a.t, a.kind, a.value) for a in cells.actions] == [(1, *action[1:]) for action in posted]
    np.testing.assert_array_equal(cells.split_factor[:, 0], [1, 6])


def test_until_cuts_off_everything_later(tmp_path):
    cells = grid(snapshot(tmp_path, RAGGED, ("A", "2024-01-03", "SPLIT", 2.0), ("B", "2024-01-04", "SPLIT", 3.0)))
    cut = cells.until(1)
    assert dates(cut) == ["01-02", "01-03"] and cut.symbols == cells.symbols
    assert cut.fields.shape == (2, 5, 3) and cut.present.shape == cut.split_factor.shape == (2, 3)
    assert cut.actions == (Action(1, 0, "SPLIT", 2.0),)
    np.testing.assert_array_equal(cut.split_factor, [[1, 1, 1], [2, 1, 1]])
    np.testing.assert_array_equal(cells.until(4).fields, cells.fields)
    assert cells.until(0).has_splits is False and cells.until(4).actions == cells.actions


def test_an_instruments_arrays_are_the_same_in_every_universe(tmp_path):
    closes = {"A": dict.fromkeys([f"2024-01-{day:02}" for day in range(2, 12)], 10.0),
              "B": {"2024-01-05": 3.3, "2024-01-09": 1.1, "2024-01-10": 1.2}}  # fmt: skip
    sealed = snapshot(tmp_path, closes, ("B", "2024-01-03", "SPLIT", 7.0), ("B", "2024-01-08", "SPLIT", 3.0))
    whole, alone = grid(sealed), grid(sealed, ["B"])
    rows = np.searchsorted(whole.times, alone.times)
    np.testing.assert_array_equal(whole.split_factor[rows, 1], alone.split_factor[:, 0])
    np.testing.assert_array_equal(whole.fields[rows, :, 1], alone.fields[:, :, 0])
    np.testing.assert_array_equal(alone.split_factor[:, 0], [1, 3, 3])


# marks


def test_a_mark_is_the_close_or_the_last_close_in_a_gap(tmp_path):
    found = marks(grid(snapshot(tmp_path, RAGGED)))
    np.testing.assert_array_equal(found, [[10, NAN, 30], [11, 20, 30], [11, 21, 30], [12, 21, 30], [12, 21, 31]])


def test_a_mark_is_restated_for_a_split_while_there_is_no_bar(tmp_path):
    """100 shares at 12 before a 3 for 1 split on the 4th, halted until the 8th: 300 shares at 4, worth 1,200 still."""
    closes = {"A": {"2024-01-02": 11, "2024-01-03": 12, "2024-01-08": 4.5},
              "B": dict.fromkeys([f"2024-01-{day:02}" for day in (2, 3, 4, 5, 8, 9)], 1)}  # fmt: skip
    cells = grid(snapshot(tmp_path, closes, ("A", "2024-01-04", "SPLIT", 3.0), ("A", "2024-01-09", "SPLIT", 0.5)))
    np.testing.assert_allclose(marks(cells)[:, 0], [11, 12, 4, 4, 4.5, 9], rtol=1e-15)


def test_marks_of_a_dense_grid_are_its_closes(tmp_path):
    cells = grid(seal(random_bars(), snapshot_id="x", root=tmp_path))
    np.testing.assert_array_equal(marks(cells), cells.fields[:, CLOSE, :])
