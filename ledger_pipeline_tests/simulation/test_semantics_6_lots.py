"""Design 5.6: FIFO lots, round trips net of fees, every fee counted once."""

from __future__ import annotations

import pytest

from ledger_pipeline_tests import small

LOT = ["side", "quantity", "open_price", "close_price", "open_fee", "close_fee", "realised"]
TRADE = ["side", "quantity", "entry_price", "exit_price", "fees", "pnl"]


def rows(frame, columns):
    return [tuple(None if value != value else value for value in row) for row in frame[columns].values.tolist()]


def test_first_in_first_out(tmp_path) -> None:
    """10 at 10, 10 at 11, 10 at 12; 25 sold at 13: 30 + 20 + 5 = 55. Five are left at 12."""
    prices = {"A": [9, 10, 11, 12, 13, 14]}
    run = small.play(tmp_path, prices, {0: {"A": 10}, 1: {"A": 20}, 2: {"A": 30}, 3: {"A": 5}})
    assert rows(run.lots, LOT) == [
        ("LONG", 10, 10, 13, 0, 0, 30), ("LONG", 10, 11, 13, 0, 0, 20), ("LONG", 5, 12, 13, 0, 0, 5),
        ("LONG", 5, 12, None, 0, None, None),
    ]  # fmt: skip
    assert run.lots["open_order_id"].tolist() == ["1", "2", "3", "3"]
    assert run.lots["close_order_id"].fillna("").tolist() == ["4", "4", "4", ""]
    assert len(run.trades) == 0 and run.equity["realised"].iloc[-1] == 55
    assert run.equity["unrealised"].iloc[-1] == 5 * (14 - 12)


def test_one_fill_that_crosses_zero(tmp_path) -> None:
    """Closes 100, 100, 110, 90, 95, 95, fixed fee 5, cash may go negative. 50 bought at 100, then 80 sold at 110 (long 50
    to short 30), then 30 bought at 95.

    Cash 1000 -> -4005 -> 4790 -> 1935. The one fee of the crossing is shared 50 : 30, 3.125 and 1.875: the long made
    500 - 5 - 3.125 = 491.875, the short 30 x 15 - 1.875 - 5 = 443.125, together 935, and the fees are 15, not 20.
    """
    run = small.play(
        tmp_path, {"A": [100, 100, 110, 90, 95, 95]}, {0: {"A": 50}, 1: {"A": -30}, 3: {"A": 0}},
        costs=[{"fixed_fee": 5}], cash_rule="allow_negative",
    )  # fmt: skip
    assert [fill[1:] for fill in small.filled(run)] == [
        ("A", "BUY", 50, 100, 5), ("A", "SELL", 80, 110, 5), ("A", "BUY", 30, 95, 5),
    ]  # fmt: skip
    assert run.equity["cash"].tolist() == [1000, -4005, 4790, 4790, 1935, 1935]
    assert run.equity["equity"].tolist() == [1000, 995, 1490, 2090, 1935, 1935]
    assert rows(run.trades, TRADE) == [
        ("LONG", 50, 100, 110, 8.125, 491.875), ("SHORT", 30, 110, 95, 6.875, 443.125),
    ]  # fmt: skip
    assert run.trades["trade_return"].tolist() == [491.875 / 5000, 443.125 / 3300]
    assert run.equity["fees"].iloc[-1] == run.metrics["costs"] == 15
    assert run.metrics["max_drawdown"] == pytest.approx(1935 / 2090 - 1)
    assert run.trades["pnl"].sum() == run.lots["realised"].sum() == 935


def test_long_short_long(tmp_path) -> None:
    """100 at 10; 250 sold at 12 (200 made, short 150 at 12); 150 bought at 11 (150 made)."""
    run = small.play(
        tmp_path, {"A": [9, 10, 12, 11, 11]}, {0: {"A": 100}, 1: {"A": -150}, 2: {"A": 0}}, cash_rule="allow_negative"
    )
    assert rows(run.trades, TRADE) == [("LONG", 100, 10, 12, 0, 200), ("SHORT", 150, 12, 11, 0, 150)]


def test_scaling_in_and_out_is_one_trade_with_each_fee_once(tmp_path) -> None:
    """Fee 1 a fill. 2 at 10, 4 more at 13 (average entry 72/6 = 12), 3 out at 15, 3 out at 11 (average exit 78/6 = 13).

    First exit: the lot of 2 (fee 1, all of it) and 1 of the 4 (a quarter of its fee), closing fee 2/3 and 1/3.
    2 x 5 - 1 - 2/3 = 8.3333, 1 x 2 - 0.25 - 1/3 = 1.41667. Second: 3 x (11 - 13) - 0.75 - 1 = -7.75. All: 78 - 72 - 4 = 2.
    """
    run = small.play(
        tmp_path, {"A": [9, 10, 13, 15, 11, 11]}, {0: {"A": 2}, 1: {"A": 6}, 2: {"A": 3}, 3: {"A": 0}},
        costs=[{"fixed_fee": 1}],
    )  # fmt: skip
    assert run.lots["realised"].tolist() == pytest.approx([8 + 1 / 3, 2 - 0.25 - 1 / 3, -7.75])
    assert run.lots["open_fee"].tolist() == [1, 0.25, 0.75]
    assert run.lots["close_fee"].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    assert rows(run.trades, TRADE) == [("LONG", 6, 12, 13, 4, 2)]
    assert run.trades["opened_at"].tolist() == [small.at(1)] and run.trades["closed_at"].tolist() == [small.at(4)]
    assert run.equity["fees"].tolist() == [0, 1, 2, 3, 4, 4] and run.equity["equity"].iloc[-1] == 1002


def test_scaling_a_short_in_and_out(tmp_path) -> None:
    """Short 4 at 10 and 4 at 12, covered 6 at 9 and 2 at 13: 4 x 1 + 2 x 3 + 2 x (12 - 13) = 8."""
    run = small.play(tmp_path, {"A": [9, 10, 12, 9, 13, 13]}, {0: {"A": -4}, 1: {"A": -8}, 2: {"A": -2}, 3: {"A": 0}})
    assert run.lots["realised"].tolist() == [4, 6, -2]
    assert rows(run.trades, TRADE) == [("SHORT", 8, 11, 10, 0, 8)]


def test_an_opening_position_is_a_lot_at_its_cost(tmp_path) -> None:
    """50 at 40, 50 more at 60; 50 out at 70 and 50 at 80: 1500 (the lot at 40 first) and 1000."""
    opening = {"cash": 5000, "positions": {"A": 50}, "cost_basis": {"A": 40}}
    run = small.play(tmp_path, {"A": [55, 60, 70, 80, 80]}, {0: {"A": 100}, 1: {"A": 50}, 2: {"A": 0}}, opening=opening)
    assert run.lots["realised"].tolist() == [1500, 1000]
    assert run.lots["open_order_id"].fillna("").tolist() == ["", "1"]
    assert run.equity["equity"].tolist() == [5000 + 50 * 55, 5000 - 3000 + 100 * 60, 2000 + 7000, 9500, 9500]
    assert run.equity["unrealised"].iloc[0] == 50 * (55 - 40)
    assert run.equity["flow"].tolist() == [0] * 5


def test_an_opening_position_turned_into_a_short(tmp_path) -> None:
    """100 at 50, turned to short 150 at 60: 1000 realised; marked at 55: 150 x 5 = 750."""
    opening = {"cash": 0, "positions": {"A": 100}, "cost_basis": {"A": 50}}
    run = small.play(tmp_path, {"A": [55, 60, 55]}, {0: {"A": -150}}, opening=opening)
    assert run.equity["realised"].iloc[-1] == 1000 and run.equity["unrealised"].iloc[-1] == 750


def test_lots_are_kept_by_symbol(tmp_path) -> None:
    """100 A at 50 sold at 60, 200 B at 30 sold at 40: 1000 and 2000."""
    opening = {"cash": 0, "positions": {"A": 100, "B": 200}, "cost_basis": {"A": 50, "B": 30}}
    run = small.play(tmp_path, {"A": [55, 60], "B": [35, 40]}, {0: {"A": 0, "B": 0}}, opening=opening)
    assert dict(zip(run.trades["symbol"], run.trades["pnl"], strict=True)) == {"A": 1000, "B": 2000}


def test_profit_is_the_change_of_equity(tmp_path) -> None:
    run = small.play(
        tmp_path, {"A": [10, 11, 12, 11], "B": [20, 19, 18, 21]}, {0: {"A": 7, "B": -3}, 1: {"A": -2, "B": 4}},
        costs=[{"spread_bps": 20}, {"fixed_fee": 0.7}],
    )  # fmt: skip
    e = run.equity
    change = e["equity"] - e["equity"].iloc[0]
    assert (e["realised"] + e["unrealised"] - e["fees"] + e["income"]).tolist() == pytest.approx(change.tolist())
