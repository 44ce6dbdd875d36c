"""Folds to fills, state at any moment and equity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.ledger import folds
from ledger_pipeline_tests.ledger import ledgers

STORY = [
    ledgers.opened(1000.0),
    {"kind": "OPENED", "t": 0, "symbol": "B", "side": -1, "quantity": 2.0, "price": 30.0, "fee": 0.0},
    {"kind": "DEPOSITED", "t": 1, "cash_delta": 200.0},
    ledgers.fill(1, "A", 10, 20.0, 1.0),
    {"kind": "DIVIDEND", "t": 2, "symbol": "B", "quantity": 2.0, "price": 1.5, "cash_delta": -3.0},
    ledgers.split(2, "A", 10),
    {"kind": "FEE", "t": 2, "cash_delta": -4.0},
    {"kind": "INTEREST", "t": 3, "cash_delta": 0.5},
    ledgers.fill(3, "A", -5, 12.0, 1.0),
    {"kind": "WITHDRAWN", "t": 3, "cash_delta": -100.0},
    {"kind": "ORDER_REJECTED", "t": 3, "symbol": "A", "side": 1, "quantity": 7.0, "price": 12.0},
]


def test_equity_by_hand() -> None:
    """Marks: A 20, 21, 11, 12; B 30, 29, 28, 27.

    Cash: 1000; + 200 - 200 - 1 = 999; - 3 - 4 = 992; + 0.5 + 60 - 1 - 100 = 951.5. Held: B -2; A 10; A 20 after the
    split at 10 each; A 15. Values: -60; 210 - 58 = 152; 220 - 56 = 164; 180 - 54 = 126. Realised: 5 x (12 - 10) = 10.
    Cost: -60; +200 = 140; 140; 90. Fees: 0; 1; 5 (a FEE counts); 6. Income: 0; 0; -3; -2.5.
    """
    ledger = ledgers.ledger(STORY)
    marks = np.array([[20.0, 30.0], [21, 29], [11, 28], [12, 27]])
    found = folds.equity(ledger, np.arange(4) * ledgers.DAY, ("A", "B"), marks)
    assert found["cash"].tolist() == [1000, 999, 992, 951.5]
    assert found["positions_value"].tolist() == [-60, 152, 164, 126]
    assert found["equity"].tolist() == [940, 1151, 1156, 1077.5]
    assert found["flow"].tolist() == [0, 200, 0, -100]
    assert found["exposure"].tolist() == [60, 268, 276, 234]
    assert found["realised"].tolist() == [0, 0, 0, 10]
    assert found["unrealised"].tolist() == [0, 12, 24, 36]
    assert found["fees"].tolist() == [0, 1, 5, 6]
    assert found["income"].tolist() == [0, 0, -3, -2.5]
    assert found["ts"].dtype == "datetime64[us, UTC]"
    # the same pulses, fewer of them: a row takes in all that came since the one before
    some = folds.equity(ledger, np.array([0, 3]) * ledgers.DAY, ("A", "B"), marks[[0, 3]])
    assert some["flow"].tolist() == [0, 100] and some["equity"].tolist() == [940, 1077.5]


def test_reconstruct_by_hand() -> None:
    ledger = ledgers.ledger(STORY)
    state = folds.reconstruct(ledger, at="1970-01-03T00:00:00Z")
    assert (state.cash, state.positions, state.seq) == (992.0, {"A": 20.0, "B": -2.0}, 7)
    assert folds.reconstruct(ledger, at="1970-01-02T23:59:59.999999Z").positions == {"A": 10.0, "B": -2.0}
    assert folds.reconstruct(ledger, at="1970-01-03T01:00:00+01:00") == folds.reconstruct(
        ledger, at=pd.Timestamp(state.at)
    )
    assert folds.reconstruct(ledger, at="1969-12-31T00:00:00Z").positions == {}
    assert folds.reconstruct(ledger, at="1969-12-31T00:00:00Z").cash == 0.0
    end = folds.reconstruct(ledger)
    assert (end.cash, end.positions, end.seq) == (951.5, {"A": 15.0, "B": -2.0}, 11)
    assert end.at == pd.Timestamp("1970-01-04T00:00:00Z")


@pytest.mark.parametrize("at", ["2024-01-01", pd.Timestamp("2024-01-01"), "yesterday-ish", "NaT"])
def test_a_moment_without_a_zone_is_refused(at) -> None:
    with pytest.raises(InputError, match="at="):
        folds.reconstruct(ledgers.ledger(STORY), at=at)


moves = st.tuples(
    st.sampled_from("ABC"),
    st.integers(-5_000_000_000, 5_000_000_000).filter(bool),
    st.integers(1, 9999),
    st.integers(0, 2),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(moves, min_size=1, max_size=20))
def test_reconstruct_is_the_sum_by_hand_at_every_event_time(story) -> None:
    rows, t = [ledgers.opened(100.0)], 0
    for symbol, nanos, price, later in story:
        t += later
        rows.append(ledgers.fill(t, symbol, nanos / 1e9, price / 100, 0.01))
    ledger = ledgers.ledger(rows)
    for time in sorted({row["t"] for row in rows}):
        held: dict[str, int] = {}
        cash = 100.0
        for row, (symbol, nanos, _, _) in zip(rows[1:], story, strict=True):
            if row["t"] <= time:
                held[symbol] = held.get(symbol, 0) + nanos
                cash += row["cash_delta"]
        state = folds.reconstruct(ledger, at=pd.Timestamp(time, unit="D", tz="UTC"))
        assert state.positions == {name: n / 1e9 for name, n in sorted(held.items()) if n}
        assert state.cash == pytest.approx(cash, rel=1e-12, abs=1e-9)


def test_fills_are_the_filled_events() -> None:
    found = folds.fills(ledgers.ledger(STORY))
    assert list(found.columns) == list(folds.FILL_COLUMNS)
    assert found[["seq", "symbol", "side", "quantity", "price", "fee", "cash_delta"]].values.tolist() == [
        [4, "A", "BUY", 10.0, 20.0, 1.0, -201.0], [9, "A", "SELL", 5.0, 12.0, 1.0, 59.0],
    ]  # fmt: skip


def test_frames_of_an_empty_ledger_have_their_columns_and_no_row() -> None:
    empty = ledgers.of_rows([])
    assert len(folds.lots(empty)) == len(folds.trades(empty)) == len(folds.fills(empty)) == 0
    assert "realised" in folds.lots(empty) and "trade_return" in folds.trades(empty)
    assert folds.reconstruct(empty).positions == {} and folds.reconstruct(empty).seq == 0
    idle = folds.equity(empty, np.arange(2), ("A",), np.ones((2, 1)))
    assert idle["equity"].tolist() == [0, 0]


def test_a_trade_that_is_still_open_is_no_trade() -> None:
    ledger = ledgers.ledger([ledgers.fill(0, "A", 4, 10), ledgers.fill(1, "A", -3, 11)])
    assert len(folds.trades(ledger)) == 0
    assert folds.lots(ledger)["quantity"].tolist() == [3, 1]
    assert folds.lots(ledger)["closed_at"].isna().tolist() == [False, True]


def test_a_ledger_that_was_read_back_folds_to_the_same_frames() -> None:
    from ledger_pipeline.ledger.schema import read_ledger

    ledger = ledgers.ledger(STORY)
    again = read_ledger(ledger.to_parquet(), "x")
    for make in (folds.fills, folds.lots, folds.trades):
        pd.testing.assert_frame_equal(make(again), make(ledger), check_categorical=False)
