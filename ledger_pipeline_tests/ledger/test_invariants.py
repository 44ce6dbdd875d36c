"""The invariants hold for a sound ledger, and each kind of planted fault is found by name."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pytest

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.ledger import folds, invariants
from ledger_pipeline.ledger.lots import fold_lots
from ledger_pipeline_tests import small
from ledger_pipeline_tests.ledger import ledgers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    prices = {"A": [10, 11, 12, 6, 7, 8], "B": [20, 19, 18, 21, 22, 23]}
    return small.play(
        tmp_path_factory.mktemp("run"), prices, {0: {"A": 7, "B": -3}, 1: {"A": -2}, 3: {"A": 5, "B": 1}},
        splits=[("A", 3, 2)], dividends=[("B", 2, 0.5)], costs=[{"fixed_fee": 0.5}],
        deposits=[{"amount": 100, "at": small.day(2)}],
    )  # fmt: skip


def rows_of(frame):
    """Equity rows as columns, from a frame that a test changed."""
    columns = folds.EquityRows.COLUMNS
    return folds.EquityRows(
        frame["ts"].dt.tz_localize(None).to_numpy("M8[us]").view("i8"), frame[list(columns)].to_numpy()
    )


def breached(run, ledger) -> set[str]:
    from ledger_pipeline.market.marks import marks

    cells = run.grid
    fold = fold_lots(ledger)
    rows = folds.equity_rows(ledger, cells.times, cells.symbols, marks(cells), fold)
    return {name for name, problems in invariants.breaches(ledger, fold, rows).items() if problems}


def row_of(run, kind, nth=0):
    return [i for i, row in enumerate(run.events.table.to_pylist()) if row["kind"] == kind][nth]


def test_a_sound_ledger_breaks_none(run) -> None:
    assert breached(run, run.events) == set()
    assert set(run.invariants()) == {
        "sequence_is_whole", "quantities_on_grid", "lots_match_positions", "cash_and_positions_make_equity",
        "profit_explains_equity", "positions_reproduced",
    }  # fmt: skip
    invariants.require(run.invariants(), "run")


@pytest.mark.parametrize(
    ("kind", "nth", "column", "value", "name"),
    [
        ("FILLED", 0, "cash_delta", -1000.0, "profit_explains_equity"),
        ("FILLED", 1, "cash_delta", None, "profit_explains_equity"),
        ("FILLED", 0, "price", 11.01, "profit_explains_equity"),
        ("FILLED", 0, "fee", 0.51, "profit_explains_equity"),
        ("FILLED", 0, "quantity", 7.001, "profit_explains_equity"),
        ("FILLED", 0, "quantity", None, "quantities_on_grid"),
        ("FILLED", 0, "quantity", 7.0000000001, "quantities_on_grid"),
        ("FILLED", 0, "quantity", -7.0, "quantities_on_grid"),
        ("FILLED", 0, "quantity", 0.0, "quantities_on_grid"),
        ("FILLED", 0, "side", "BUY", "profit_explains_equity"),
        ("SPLIT", 0, "quantity", None, "quantities_on_grid"),
        ("FILLED", 0, "seq", 99, "sequence_is_whole"),
        ("FILLED", 0, "occurred_at", datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC), "sequence_is_whole"),
        ("DIVIDEND", 0, "kind", "RECONCILED", "profit_explains_equity"),
        ("DEPOSITED", 0, "kind", "UNRECOGNIZED", "profit_explains_equity"),
        ("FILLED", 0, "kind", "BREAK_OPENED", "profit_explains_equity"),
    ],
)
def test_a_planted_fault_is_found(run, kind, nth, column, value, name) -> None:
    assert name in breached(run, ledgers.with_value(run.events, column, row_of(run, kind, nth), value))


def test_a_lost_and_a_repeated_event_are_found(run) -> None:
    rows = run.events.table.to_pylist()
    for row in range(1, len(rows) - 1):
        assert "sequence_is_whole" in breached(run, ledgers.of_rows(rows[:row] + rows[row + 1 :]))
        assert "sequence_is_whole" in breached(run, ledgers.of_rows(rows[: row + 1] + rows[row:]))


def test_lots_that_do_not_match_are_found(run) -> None:
    fold = fold_lots(run.events)
    open_lot = int(np.flatnonzero(fold.lot_parts["closed"] < 0)[0])
    for change in (
        {"units": fold.lot_parts["units"][open_lot] + 1},
        {"side": -fold.lot_parts["side"][open_lot]},
        {"units": 0},
    ):
        lot_parts = fold.lot_parts.copy()
        for name, value in change.items():
            lot_parts[name][open_lot] = value
        assert invariants.lots_match_positions(run.events, dataclasses.replace(fold, lot_parts=lot_parts))
    moved = dataclasses.replace(fold, positions=fold.positions + 1)
    assert invariants.breaches(run.events, moved, run.equity_rows)["positions_reproduced"]


@pytest.mark.parametrize("column", ["cash", "positions_value", "equity"])
@pytest.mark.parametrize("wrong", [0.001, np.nan])
def test_equity_rows_that_do_not_add_up_are_found(run, column, wrong) -> None:
    frame = run.equity.copy()
    frame.loc[2, column] += wrong
    found = invariants.cash_and_positions_make_equity(rows_of(frame))
    assert len(found) == 1 and "2024-01-03" in found[0]


@pytest.mark.parametrize("column", ["equity", "realised", "unrealised", "fees", "income", "flow"])
def test_profit_that_does_not_explain_equity_is_found(run, column) -> None:
    frame = run.equity.copy()
    frame.loc[3, column] += 0.001
    assert invariants.profit_explains_equity(rows_of(frame))


def test_require_names_the_invariant_and_says_it_is_our_fault() -> None:
    with pytest.raises(IntegrityError, match="run x breaks the invariant second: bad; this is a fault of the program"):
        invariants.require({"first": [], "second": ["bad", "worse"]}, "run x")
