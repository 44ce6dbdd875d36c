"""Design 5.8: dividends and splits are posted before the fills of their ex-date; features follow without hindsight."""

from __future__ import annotations

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline_tests import small

# dividends


def test_a_dividend_goes_to_what_was_held_at_the_previous_close(tmp_path) -> None:
    """10 held over the ex-date (day 2) at 0.50: 5.00, in cash before the fills of that day."""
    run = small.play(tmp_path, {"A": [20, 20, 20, 20]}, {0: {"A": 10}}, dividends=[("A", 2, 0.5)])
    assert run.equity["cash"].tolist() == [1000, 800, 805, 805]
    assert run.equity["income"].tolist() == [0, 0, 5, 5] and run.equity["flow"].tolist() == [0] * 4
    assert run.metrics["total_return"] == pytest.approx(0.005)  # a dividend is a return
    (paid,) = small.events(run, "DIVIDEND")
    assert (paid["day"], paid["symbol"], paid["quantity"], paid["price"], paid["cash_delta"]) == (2, "A", 10, 0.5, 5)


def test_bought_at_the_open_of_the_ex_date_gets_none(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [20, 20, 20, 20]}, {1: {"A": 10}}, dividends=[("A", 2, 0.5)])
    assert small.events(run, "DIVIDEND") == [] and run.equity["cash"].iloc[-1] == 800


def test_sold_at_the_open_of_the_ex_date_still_gets_it(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [20, 20, 20, 20]}, {0: {"A": 10}, 1: {"A": 0}}, dividends=[("A", 2, 0.5)])
    assert [row["kind"] for row in small.events(run) if row["day"] == 2] == ["DIVIDEND", "FILLED"]
    assert run.equity["cash"].tolist() == [1000, 800, 1005, 1005]


def test_a_dividend_pays_for_a_purchase_of_its_day(tmp_path) -> None:
    """50 A at 20 leave no cash; the 25 that they pay on day 2 buy one more A and a quarter."""
    run = small.play(tmp_path, {"A": [20] * 4}, {0: {"A": 50}, 1: {"A": 51.25}}, dividends=[("A", 2, 0.5)])
    assert run.equity["cash"].tolist() == [1000, 0, 0, 0]


def test_a_short_pays_the_dividend(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [20, 20, 20, 20]}, {0: {"A": -10}}, dividends=[("A", 2, 0.5)])
    assert run.equity["cash"].tolist() == [1000, 1200, 1195, 1195] and run.equity["income"].iloc[-1] == -5


def test_a_dividend_in_a_halt_is_paid_on_its_date(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [20, 20, None, 20], "B": [1] * 4}, {0: {"A": 10}}, dividends=[("A", 2, 0.5)])
    assert run.equity["cash"].tolist() == [1000, 800, 805, 805]


def test_an_ex_date_without_any_bar_is_posted_at_the_next_one(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [20, 20, None, 20]}, {0: {"A": 10}}, dividends=[("A", 2, 0.5)])
    assert run.equity["ts"].tolist() == [small.at(i) for i in (0, 1, 3)]
    assert run.equity["cash"].tolist() == [1000, 800, 805]


def test_an_ex_date_at_the_first_or_after_the_last_bar_is_not_posted(tmp_path) -> None:
    opening = {"cash": 0, "positions": {"A": 10}, "cost_basis": {"A": 20}}
    run = small.play(
        tmp_path, {"A": [20, 20]}, {}, opening=opening, dividends=[("A", 0, 1), ("A", 2, 1)], splits=[("A", 5, 2)]
    )
    assert run.equity["equity"].tolist() == [200, 200]


# splits


def test_a_split_scales_the_lot_and_leaves_its_total_cost(tmp_path) -> None:
    """3 bought at 100 with a fee of 6; 2 for 1 on day 2, so 6 at 50; sold at 60: 6 x 10 - 6 - 6 = 48. Equity does not jump."""
    run = small.play(
        tmp_path, {"A": [100, 100, 50, 60, 60]}, {0: {"A": 3}, 2: {"A": 0}}, splits=[("A", 2, 2)],
        costs=[{"fixed_fee": 6}],
    )  # fmt: skip
    assert run.equity["equity"].tolist() == [1000, 994, 994, 1048, 1048]
    (split,) = small.events(run, "SPLIT")
    assert (split["side"], split["quantity"], split["price"], split["fee"], split["cash_delta"], split["payload"]) == (
        "BUY", 3.0, None, None, None, '{"ratio":2}',
    )  # fmt: skip
    (lot,) = run.lots.to_dict("records")
    assert (lot["quantity"], lot["open_price"], lot["close_price"], lot["realised"]) == (6, 50, 60, 48)
    assert run.trades[["quantity", "entry_price", "exit_price", "pnl", "trade_return"]].values.tolist() == [
        [6, 50, 60, 48, 48 / 300]
    ]


def test_each_lot_follows_the_split(tmp_path) -> None:
    """2 at 90 and 1 at 120, 3 for 1: 6 at 30 and 3 at 40. 7 sold at 50: 6 x 20 + 1 x 10 = 130."""
    run = small.play(
        tmp_path, {"A": [90, 90, 120, 50, 50]}, {0: {"A": 2}, 1: {"A": 3}, 3: {"A": 2}}, splits=[("A", 3, 3)]
    )
    assert run.lots[["quantity", "open_price", "realised"]].fillna(-1).values.tolist() == [
        [6, 30, 120], [1, 40, 10], [2, 40, -1],
    ]  # fmt: skip


def test_an_order_decided_before_a_split_is_restated(tmp_path) -> None:
    """On day 1, at 100, 3 more are wanted; 2 for 1 on day 2: 6 are bought at its open of 50, for the same 300."""
    run = small.play(tmp_path, {"A": [100, 100, (50, 51), 51]}, {0: {"A": 1}, 1: {"A": 4}}, splits=[("A", 2, 2)])
    assert small.filled(run)[1] == (2, "A", "BUY", 6.0, 50.0, 0.0)
    kinds = [row["kind"] for row in small.events(run) if row["day"] == 2]
    assert kinds == ["SPLIT", "ORDER_REPLACED", "FILLED"]
    (replaced,) = small.events(run, "ORDER_REPLACED")
    assert (replaced["quantity"], replaced["order_id"], replaced["side"]) == (6.0, "2", "BUY")
    assert replaced["payload"] == '{"because":"SPLIT","quantity":3,"ratio":2}'
    assert replaced["causation_id"] == small.events(run, "SPLIT")[0]["event_id"]
    assert lp.reconstruct(run.events).positions == {"A": 8.0}


def test_an_order_is_restated_when_nothing_is_held(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [100, 50, 50]}, {0: {"A": 4}}, splits=[("A", 1, 2)])
    assert [row["kind"] for row in small.events(run)] == ["OPENED", "DECIDED", "ORDER_REPLACED", "FILLED"]
    assert small.filled(run) == [(1, "A", "BUY", 8.0, 50.0, 0.0)]


def test_an_order_to_sell_all_sells_all_after_the_split(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [100, 100, 50, 50]}, {0: {"A": 1 / 3}, 1: {"A": 0}}, splits=[("A", 2, 1.5)])
    assert small.filled(run)[1][3] == 0.5 and lp.reconstruct(run.events).positions == {}


def test_cash_to_invest_is_not_restated(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [100, 50, 50]}, {0: {"A": "300"}}, splits=[("A", 1, 2)])
    assert small.events(run, "ORDER_REPLACED") == [] and small.filled(run) == [(1, "A", "BUY", 6.0, 50.0, 0.0)]


def test_a_reverse_split_with_a_fraction(tmp_path) -> None:
    """1 for 8 of 10.000000001: 1.250000000125, on the grid 1.25. The cost stays 10 x 1 + a little."""
    run = small.play(tmp_path, {"A": [1, 1, 8, 8]}, {0: {"A": 10.000000001}}, splits=[("A", 2, 0.125)])
    assert lp.reconstruct(run.events).positions == {"A": 1.25}
    (split,) = small.events(run, "SPLIT")
    assert (split["side"], split["quantity"]) == ("SELL", 8.750000001)
    (lot,) = run.lots.to_dict("records")
    assert lot["quantity"] * lot["open_price"] == pytest.approx(10.000000001, rel=1e-15)
    assert run.equity["equity"].tolist() == pytest.approx([1000] * 4, abs=1e-8)


def test_a_short_follows_a_split(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [100, 100, 50, 40, 40]}, {0: {"A": -3}, 2: {"A": 0}}, splits=[("A", 2, 2)])
    assert small.events(run, "SPLIT")[0]["side"] == "SELL"
    assert run.equity["equity"].tolist() == [1000, 1000, 1000, 1060, 1060]
    assert run.trades[["side", "quantity", "pnl"]].values.tolist() == [["SHORT", 6, 60]]


def test_a_split_in_a_halt_restates_the_mark(tmp_path) -> None:
    """4 at 100, halted on days 2 and 3, 2 for 1 on day 2: 8 marked at 50, and 8 at 55 when it trades again."""
    prices = {"A": [100, 100, None, None, 55], "B": [1] * 5}
    run = small.play(tmp_path, prices, {0: {"A": 4}, 1: {"A": 0}}, splits=[("A", 2, 2)])
    assert run.equity["equity"].tolist() == [1000, 1000, 1000, 1000, 1040]
    assert lp.reconstruct(run.events, at=small.at(2)).positions == {"A": 8.0}
    # the order to sell is restated, then ends without a bar
    assert small.ended(run) == [(2, "ORDER_EXPIRED", "A", "SELL", "NO_BAR")]
    assert small.events(run, "ORDER_EXPIRED")[0]["quantity"] == 8.0


def test_split_and_dividend_on_one_day(tmp_path) -> None:
    """The dividend is credited on the 4 that were held at the previous close, 1.00 each; then they are 8."""
    run = small.play(
        tmp_path, {"A": [100, 100, 50, 50]}, {0: {"A": 4}}, splits=[("A", 2, 2)], dividends=[("A", 2, 1.0)]
    )
    assert [row["kind"] for row in small.events(run) if row["day"] == 2] == ["DIVIDEND", "SPLIT"]
    assert run.equity["equity"].tolist() == [1000, 1000, 1004, 1004]


def test_two_splits_between_two_bars_are_both_posted(tmp_path) -> None:
    prices = {"A": [100, 100, None, 25]}
    run = small.play(tmp_path, prices, {0: {"A": 4}}, splits=[("A", 2, 2), ("A", 3, 2)])
    assert lp.reconstruct(run.events).positions == {"A": 16.0} and run.equity["equity"].tolist() == [1000] * 3


def test_actions_between_two_bars_are_posted_in_the_order_of_their_dates(tmp_path) -> None:
    """4 held over days 2 and 3 without any bar. Split on day 2, dividend of 1 on day 3: 8 are paid; the other way, 4."""
    prices = {"A": [100, 100, None, None, 50]}
    for split, dividend, paid in ((2, 3, 8.0), (3, 2, 4.0)):
        run = small.play(tmp_path, prices, {0: {"A": 4}}, splits=[("A", split, 2)], dividends=[("A", dividend, 1.0)])
        assert [row["cash_delta"] for row in small.events(run, "DIVIDEND")] == [paid]


def test_a_split_that_changes_nothing_is_no_event(tmp_path) -> None:
    """Ratio 1 restates neither the position nor the order; one unit (1e-9) at 1.4 stays one unit."""
    opening = {"cash": 100, "positions": {"A": 5, "B": 1e-9}, "cost_basis": {"A": 10, "B": 10}}
    run = small.play(
        tmp_path, {"A": [10, 10, 10], "B": [10, 10, 10]}, {0: {"A": 6}}, opening=opening,
        splits=[("A", 1, 1), ("B", 1, 1.4)],
    )  # fmt: skip
    assert small.events(run, "SPLIT", "ORDER_REPLACED") == []
    assert lp.reconstruct(run.events).positions == {"A": 6.0, "B": 1e-9}


def test_a_position_that_a_reverse_split_leaves_nothing_of_is_lost(tmp_path) -> None:
    """One unit of 1e-9 at 1 for 8 is nothing: the lot closes at no price, and an order for one unit is rejected."""
    opening = {"cash": 100, "positions": {"A": 1e-9}, "cost_basis": {"A": 10}}
    run = small.play(
        tmp_path, {"A": [10, 80, 80, 80]}, {0: {"A": 2e-9}, 1: {"A": 1}}, opening=opening, splits=[("A", 1, 0.125)]
    )
    assert small.ended(run) == [(1, "ORDER_REJECTED", "A", "BUY", "NOTHING_TO_BUY")]
    assert run.trades["pnl"].tolist() == [-1e-8]
    assert run.lots["quantity"].tolist() == [1e-9, 1.0]
    assert not any(run.invariants().values())


def test_lots_too_small_for_a_reverse_split_leave_no_lot_of_the_wrong_sign(tmp_path) -> None:
    """Five lots of 6 units, 30 in all, 1 for 8: 4 units (3.75). By running total: 0.75, 1.5, 2.25, 3, 3.75 -> 1, 2, 2, 3, 4,
    so lots of 1, 1, 0, 1 and 1. Rounded one by one they would be 1, 1, 1, 1 and 0, or with a tie -1.
    """
    plan = {i: {"A": (i + 1) * 6e-9} for i in range(5)}
    run = small.play(tmp_path, {"A": [10] * 6 + [80] * 2}, plan, splits=[("A", 6, 0.125)])
    assert run.lots["quantity"].tolist() == pytest.approx([1e-9] * 4)
    assert (run.lots["quantity"] * run.lots["open_price"]).sum() == pytest.approx(30e-9 * 10)
    assert not any(run.invariants().values())


def test_a_split_beyond_the_grid_is_refused(tmp_path) -> None:
    opening = {"cash": 100, "positions": {"A": 5e6}, "cost_basis": {"A": 10}}
    with pytest.raises(lp.InputError, match="split of A at 2024-01-02.*beyond 9,007,199"):
        small.play(tmp_path, {"A": [10, 5, 5]}, {}, opening=opening, splits=[("A", 1, 2)])


def test_equity_is_continuous_when_the_price_follows_the_split(tmp_path) -> None:
    """A price that only moves by its splits: equity never moves, whatever is traded at no cost."""
    ratios = {2: 2, 4: 0.5, 5: 3, 7: 1.5}
    price, closes = 96.0, []
    for i in range(9):
        price /= ratios.get(i, 1)
        closes.append(price)
    plan = {0: {"A": 7}, 1: {"A": 9.5}, 3: {"A": -4}, 4: {"A": 2}, 6: {"A": -12.25}}
    run = small.play(tmp_path, {"A": closes}, plan, splits=[("A", i, ratio) for i, ratio in ratios.items()])
    assert run.equity["equity"].tolist() == pytest.approx([1000] * 9, rel=1e-12)
    assert run.equity["realised"].iloc[-1] == pytest.approx(0, abs=1e-9)


# what a strategy sees

SPLIT_PRICES = {"A": [(99, 100), (101, 102), (50, 51), (53, 52), (17, 18)]}
SPLITS = [("A", 2, 2), ("A", 4, 3)]


def test_features_are_in_the_basis_of_their_own_pulse(tmp_path) -> None:
    """Closes 100, 102, 51, 52, 18 with 2 for 1 on day 2 and 3 for 1 on day 4. The average of two, each in the basis of its
    pulse: (100 + 102) / 2 = 101, (51 + 51) / 2 = 51, 51.5, (52 / 3 + 18) / 2 = 17.6667. The returns: 2 %, 0, 52/51 - 1,
    18 x 3 / 52 - 1.
    """
    snapshot = small.seal(tmp_path, SPLIT_PRICES, splits=SPLITS)

    def strategy(ctx, params):
        row = [ctx.close("A"), ctx.feature("A", "sma"), ctx.feature("A", "ret")]
        return ctx.hold().remember({"row": [x if x == x else None for x in row]})

    experiment = lp.experiment(
        strategy, costs=[],
        features={"sma": {"indicator": "sma", "window": 2}, "ret": {"indicator": "returns", "window": 1}},
    )  # fmt: skip
    run = lp.run(experiment, snapshot)
    import json

    seen = [json.loads(row["payload"])["memory"]["row"] for row in small.events(run, "DECIDED")]
    assert [row[0] for row in seen] == [100, 102, 51, 52, 18]
    assert seen[0][1:] == [None, None]
    assert [row[1] for row in seen[1:]] == pytest.approx([101, 51, 51.5, (52 / 3 + 18) / 2])
    assert [row[2] for row in seen[1:]] == pytest.approx([0.02, 0, 52 / 51 - 1, 54 / 52 - 1])


def test_history_is_in_the_basis_of_the_pulse(tmp_path) -> None:
    seen = []

    def strategy(ctx, params):
        bars = ctx.history("A", 3)
        seen.append((bars.close.tolist(), bars.open.tolist(), bars.volume.tolist()))
        return ctx.flat()

    simulate(small.inputs(tmp_path, SPLIT_PRICES, strategy, splits=SPLITS, uses_history=True))
    assert seen[1][0] == [100, 102]  # no later split is known
    assert seen[2][0] == [50, 51, 51] and seen[2][1] == [49.5, 50.5, 50] and seen[2][2] == [2000, 2000, 1000]
    assert np.allclose(seen[4][0], [17, 52 / 3, 18]) and np.allclose(seen[4][2], [3000, 3000, 1000])


def test_a_later_split_changes_nothing_before_it(tmp_path) -> None:
    """The same bars with and without a split on the last day: the ledger before it is the same."""
    plan = {0: {"A": 3}, 1: {"A": "50"}, 2: {"A": 1}}
    with_split = small.play(tmp_path, {"A": [10, 11, 12, 13, 14]}, plan, splits=[("A", 4, 2)])
    without = small.play(tmp_path, {"A": [10, 11, 12, 13, 14]}, plan)
    before = lambda run: [  # noqa: E731
        {k: v for k, v in row.items() if k != "book"} for row in small.events(run) if row["day"] < 4
    ]
    assert before(with_split) == before(without)
