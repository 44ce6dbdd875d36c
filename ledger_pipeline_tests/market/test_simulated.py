"""The market that never was: sound, ragged, seeded, and with nothing in it to be found."""

from __future__ import annotations

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.simulated import simulate_market


def test_it_seals_without_an_error_and_is_the_same_again(tmp_path) -> None:
    market = simulate_market(12, 900, seed=3)
    sealed = lp.seal(
        market.bars, snapshot_id="sim", root=tmp_path, instruments=market.instruments, actions=market.actions
    )
    report = lp.quality_report(sealed.bars, sealed.instruments, sealed.actions)
    assert not (report["severity"] == "ERROR").any()
    again = simulate_market(12, 900, seed=3)
    assert (
        lp.seal(
            again.bars, snapshot_id="again", root=tmp_path, instruments=again.instruments, actions=again.actions
        ).hash
        == sealed.hash
    )
    other = simulate_market(12, 900, seed=4)
    assert (
        lp.seal(
            other.bars, snapshot_id="other", root=tmp_path, instruments=other.instruments, actions=other.actions
        ).hash
        != sealed.hash
    )


def test_it_is_ragged_where_it_says_so() -> None:
    market = simulate_market(14, 600)
    days = sessions("XNYS", "2010-01-04", "2013-01-01")[:600]
    counts = market.bars.groupby("symbol")["ts"].agg(["min", "max", "count"])
    assert counts.loc["S01", "count"] == 600
    assert counts.loc["S05", "min"] > days[0] and counts.loc["S07", "max"] < days[-1]
    halted = counts.loc["S03", "count"]
    assert 600 - 12 < halted < 600 and counts.loc["S03", "min"] == days[0]
    delisted = market.actions[market.actions["kind"] == "DELIST"]
    assert delisted["symbol"].tolist() == ["S07", "S14"]
    last = market.bars[market.bars["symbol"] == "S07"].iloc[-1]
    gone = delisted.iloc[0]
    assert gone["value"] == last["close"] and gone["ex_date"] == days[days.get_loc(last["ts"]) + 1]
    dense = simulate_market(14, 600, ragged=False)
    assert (dense.bars.groupby("symbol").size() == 600).all() and "DELIST" not in set(dense.actions["kind"])


def test_splits_and_dividends_are_in_the_prices() -> None:
    """Total return, splits undone and dividends reinvested, has no jump where an action is."""
    market = simulate_market(6, 2_000, seed=11, ragged=False)
    assert {"SPLIT", "DIVIDEND"} <= set(market.actions["kind"])
    for symbol, frame in market.bars.groupby("symbol"):
        closes = frame.set_index("ts")["close"]
        own = market.actions[market.actions["symbol"] == symbol]
        moves = closes.pct_change()
        for action in own.itertuples():
            raw = moves[action.ex_date]
            before = closes.shift(1)[action.ex_date]
            adjusted = (1 + raw) * 2 - 1 if action.kind == "SPLIT" else raw + action.value / before
            assert abs(adjusted) < 0.15, (symbol, action)
            assert action.kind != "SPLIT" or before > 150
        assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all() and (
            frame["high"] >= frame[["open", "close"]].max(axis=1)
        ).all()


def test_there_is_nothing_to_be_found() -> None:
    """Returns of one day say nothing of the next: correlations are within what chance gives."""
    market = simulate_market(10, 2_000, seed=1, ragged=False)
    closes = market.bars.pivot(index="ts", columns="symbol", values="close").to_numpy()
    returns = np.diff(np.log(closes), axis=0)
    returns = np.clip(returns, -0.1, 0.1)
    lagged = [np.corrcoef(returns[1:, i], returns[:-1, i])[0, 1] for i in range(returns.shape[1])]
    assert np.abs(lagged).max() < 4 / np.sqrt(2_000)


@pytest.mark.parametrize(("symbols", "days"), [(0, 100), (3, 5), (5_000, 100)])
def test_numbers_that_cannot_be(symbols, days) -> None:
    with pytest.raises(InputError, match="give 1 to"):
        simulate_market(symbols, days)
