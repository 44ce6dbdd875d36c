"""cash_rounding: cents. Cash as a broker books it, to the cent; what rounding adds or takes is a part of the fee."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline.simulation.kernel import to_cents
from ledger_pipeline_tests import small


def test_fills_and_dividends_worked_by_hand(tmp_path) -> None:
    run = small.play(
        tmp_path,
        {"A": [10.013, 10.013, 10.017, 10.017]},
        {0: {"A": 3}, 1: {"A": 1.5}},
        dividends=[("A", 3, 0.333)],
        cash_rounding="cents",
    )
    # buys 3 x 10.013 = 30.039 -> 30.04; sells 1.5 x 10.017 = 15.0255 -> 15.03; 1.5 x 0.333 = 0.4995 -> 0.50
    fills = [
        (row["side"], row["quantity"], row["cash_delta"], round(row["fee"], 9)) for row in small.events(run, "FILLED")
    ]
    assert fills == [("BUY", 3.0, -30.04, 0.001), ("SELL", 1.5, 15.03, -0.0045)]
    assert [row["cash_delta"] for row in small.events(run, "DIVIDEND")] == [0.5]
    assert run.equity["cash"].iloc[-1] == pytest.approx(1000 - 30.04 + 15.03 + 0.50, abs=1e-12)


def test_a_fee_is_rounded_with_its_fill(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10.0, 10.0]}, {0: {"A": 3}}, costs=[{"fixed_fee": 0.333}], cash_rounding="cents")
    (fill,) = small.events(run, "FILLED")
    assert (fill["cash_delta"], round(fill["fee"], 9)) == (-30.33, 0.33)


def test_cash_to_invest_is_spent_to_the_cent(tmp_path) -> None:
    text = (
        "def strategy(ctx, params):\n"
        "    targets = ctx.hold()\n"
        "    if ctx.cash > 100:\n"
        "        targets.invest('A', 33.33)\n"
        "    return targets\n"
    )
    snapshot = small.seal(tmp_path, {"A": [7.0] * 5})
    run = lp.run(lp.experiment(text, costs=[], opening={"cash": 200.0}, cash_rounding="cents"), snapshot)
    assert [row["cash_delta"] for row in small.events(run, "FILLED")] == [-33.33] * 4
    assert run.equity["cash"].iloc[-1] == pytest.approx(200 - 4 * 33.33, abs=1e-12)


def test_cash_that_is_there_to_the_cent_is_enough(tmp_path) -> None:
    # ten deposits of a dime are 0.9999999999999999 in binary fractions, and buy for a dollar all the same
    snapshot = small.seal(tmp_path, {"A": [1.0] * 13})
    deposits = [{"amount": 0.1, "at": small.day(index)} for index in range(1, 11)]
    text = "def strategy(ctx, params):\n    targets = ctx.hold()\n    if ctx.cash > 0.95:\n        targets.invest('A', 1.0)\n    return targets\n"
    run = lp.run(
        lp.experiment(text, costs=[], opening={"cash": 0.0}, deposits=deposits, cash_rounding="cents"), snapshot
    )
    assert [row["cash_delta"] for row in small.events(run, "FILLED")] == [-1.0]
    assert small.events(run, "ORDER_REJECTED") == []


def test_exact_is_the_default_and_changes_no_hash(tmp_path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10.013, 10.013]})
    plan = {0: {"A": 3}}
    exact, named, cents = (
        small.planned(plan, **more) for more in ({}, {"cash_rounding": "exact"}, {"cash_rounding": "cents"})
    )
    assert exact.hash == named.hash != cents.hash
    assert "cash_rounding" not in exact.document and cents.document["cash_rounding"] == "cents"
    assert small.events(lp.run(exact, snapshot), "FILLED")[0]["cash_delta"] == pytest.approx(-30.039)
    with pytest.raises(lp.InputError, match="cash_rounding is 'dimes'"):
        small.planned(plan, cash_rounding="dimes")


def test_a_run_in_cents_is_replayed(tmp_path) -> None:
    snapshot = small.seal(tmp_path / "snapshots", {"A": [10.013, 10.013, 10.02]})
    run = lp.run(small.planned({0: {"A": 3}}, cash_rounding="cents"), snapshot)
    run.save(tmp_path / "data")
    assert lp.replay(run.run_id, root=tmp_path / "data", snapshots=tmp_path / "snapshots").same


@given(st.decimals(min_value="-1e9", max_value="1e9", places=4, allow_nan=False, allow_infinity=False))
def test_the_nearest_cent_halves_away_from_zero(amount) -> None:
    wanted = amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert Decimal(repr(float(to_cents(float(amount))))).quantize(Decimal("0.0000001")) == wanted
