"""What `trend` is meant to do, on prices that are worked out by hand."""

from pathlib import Path

import pandas as pd

import ledger_pipeline as lp

STRATEGIES = Path(__file__).parent.parent / "strategies"


def test_it_buys_what_rises_and_sells_what_falls(tmp_path):
    days = pd.bdate_range("2024-01-02", periods=8, tz="UTC")
    closes = [10, 11, 12, 13, 14, 9, 8, 7.0]
    bars = pd.DataFrame({
        "symbol": "A", "ts": days, "open": closes, "high": closes, "low": closes, "close": closes, "volume": 1000.0,
    })  # fmt: skip
    snapshot = lp.seal(bars, snapshot_id="hand", root=tmp_path)
    experiment = lp.experiment(
        STRATEGIES / "trend.py", params={"window": 3, "fraction": 0.5}, costs=[], opening={"cash": 1000.0},
        features={"average": {"indicator": "sma", "window": {"param": "window"}}}, name="trend",
    )  # fmt: skip
    run = lp.run(experiment, snapshot)
    # the average of 3 is known at the third close, 12 > 11: bought at the next open, 13; at 9 < 12 sold at the next, 8
    assert run.fills["side"].tolist()[0] == "BUY" and run.fills["price"].tolist()[0] == 13
    assert run.fills["side"].tolist()[-1] == "SELL" and run.fills["price"].tolist()[-1] == 8
