"""The report of one run: its figures by hand, and a page that says all of it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ledger_pipeline as lp
from ledger_pipeline.analytics.tear_sheet import episodes, sharpe_interval, spread_costs

SOURCE = """
def strategy(ctx, params):
    targets = ctx.hold()
    targets["A"] = 10.0 if ctx.close("A") < 13 else 0.0
    if targets["A"] != ctx.position("A"):
        targets.because("A", "CHEAP" if targets["A"] else "DEAR")
    return targets
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A buys 10 at the open of the second day (11), gets 0.5 a share on the fourth, and sells at the open of the sixth (14);
    B is never held.
    """
    root = tmp_path_factory.mktemp("tear")
    days = pd.bdate_range("2024-01-02", periods=8, tz="UTC")
    opens = [10, 11, 12, 12, 13, 14, 15, 15.0]
    closes = [10, 11.5, 12, 12.5, 13.5, 14, 15, 15.5]
    frames = [
        pd.DataFrame({"symbol": name, "ts": days, "open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes),
                      "close": closes, "volume": 100.0})
        for name in ("A", "B")
    ]  # fmt: skip
    actions = pd.DataFrame({"symbol": ["A"], "ex_date": [days[3]], "kind": ["DIVIDEND"], "value": [0.5]})
    snapshot = lp.seal(pd.concat(frames), snapshot_id="tear", root=root / "snapshots", actions=actions)
    experiment = lp.experiment(
        SOURCE, costs=[{"spread_bps": 100.0}, {"fixed_fee": 1.0}], opening={"cash": 1000.0}, benchmark="B", name="dear & cheap",
    )  # fmt: skip
    return lp.run(experiment, snapshot)


def test_contributions_by_hand_and_in_sum(run) -> None:
    bought, sold = 11 * 1.005, 14 * 0.995
    gain = 10 * (sold - bought) - 2 + 5
    assert run.contributions == pytest.approx({"A": gain, "B": 0.0, "": 0.0}, abs=1e-9)
    assert run.equity["equity"].iloc[-1] - 1000 == pytest.approx(gain, abs=1e-9)
    worth = run.holdings
    assert list(worth["A"]) == pytest.approx([0, 115, 120, 125, 135, 0, 0, 0]) and not worth["B"].any()


def test_the_spread_by_hand(run) -> None:
    assert spread_costs(run) == pytest.approx(10 * 11 * 0.005 + 10 * 14 * 0.005, rel=1e-12)
    assert run.metrics["costs"] == 2.0


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([1, 2, 1, 2, 3], [(-0.5, 1, 2, 3, 2)]),
        ([4, 3, 4, 1, 2], [(-0.75, 2, 3, None, 2), (-0.25, 0, 1, 2, 2)]),
        ([1, 2, 3], []),
        ([3, 2, 1], [(-2 / 3, 0, 2, None, 2)]),
    ],
)
def test_drawdowns_by_hand(levels, expected) -> None:
    days = pd.date_range("2024-01-01", periods=len(levels), tz="UTC")
    wealth = pd.Series(np.array(levels, float), index=days)
    rows = [
        (e.depth, days.get_loc(e.peak), days.get_loc(e.trough), e.recovered and days.get_loc(e.recovered), e.bars)
        for e in episodes(wealth)
    ]
    assert rows == [(pytest.approx(depth), *places) for depth, *places in expected]


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 2,000 samples of normal returns 95 % of the intervals hold the true ratio, as near as chance allows."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(2_000):
        low, high = sharpe_interval(rng.normal(0.1, 1.0, 500), 1.0)
        held += low < 0.1 < high
    assert stats.binomtest(held, 2_000, 0.95).pvalue > 0.001
    assert sharpe_interval(np.zeros(10), 252) is None


def test_the_page_says_it_and_escapes_it(run, tmp_path) -> None:
    path = run.report(tmp_path / "deep" / "tear.html", trials=12, selection="Candidate 3 of <b>x</b>.")
    html = path.read_text()
    text = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "12 candidates of its strategy" in text and "&lt;b&gt;x&lt;/b&gt;" in text and "<b>" not in text
    assert "CHEAP → DEAR" in text and "dear &amp; cheap on tear" in text
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert headings == [
        "Growth and drawdown", "Returns", "What was held, and what it gave", "Metrics", "Trades",
        "Provenance",
    ]  # fmt: skip
    for hash_ in (run.events.head, run.snapshot.hash, run.provenance["experiment"]["hash"]):
        assert hash_ in text
    assert (
        run.report(tmp_path / "again.html", trials=12, selection="Candidate 3 of <b>x</b>.").read_bytes()
        == path.read_bytes()
    )
    assert path.stat().st_size < 3_000_000


def test_a_run_without_trades_has_a_page(run, tmp_path) -> None:
    idle = lp.run(
        lp.experiment(
            "def strategy(ctx, params):\n    return ctx.flat()\n", costs=[], opening={"cash": 10.0}, name="idle"
        ),
        run.snapshot,
    )
    text = idle.report(tmp_path / "idle.html").read_text()
    assert "No trade was closed." in text
