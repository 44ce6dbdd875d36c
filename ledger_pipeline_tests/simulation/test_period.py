"""A run from one session to another: nothing before it trades or counts, and what is known is warm."""

from __future__ import annotations

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.simulation.proof import prove
from ledger_pipeline.simulation.replay import replay, truncation_replay
from ledger_pipeline.strategy.experiment import with_period
from ledger_pipeline_tests import small

RISING = {"A": [10, 20, 40, 40, 40, 60, 50]}
TREND = """
def strategy(ctx, params):
    targets = ctx.flat()
    past = ctx.history("A", 3)
    if ctx.feature("A", "sma") <= ctx.close("A") and len(past.close) == 3:
        targets["A"] = 2
    return targets
"""


def test_a_price_that_rises_only_before_the_start_gives_nothing(tmp_path) -> None:
    """Held from the first pulse on, day 2: bought on day 3 at 40, and 40 it stays until day 4."""
    snapshot = small.seal(tmp_path, RISING)
    plan = small.planned({0: {"A": 1}, 1: {"A": 5}, 2: {"A": 10}})
    run = lp.run(plan, snapshot, start=small.day(2), end=small.day(4))
    assert small.filled(run) == [(3, "A", "BUY", 10.0, 40.0, 0.0)]
    assert [f"{ts:%Y-%m-%d}" for ts in run.equity["ts"]] == [small.day(2), small.day(3), small.day(4)]
    assert run.equity["equity"].tolist() == [1000, 1000, 1000] and run.metrics["total_return"] == 0
    assert run.provenance["pulses"] == 3 and small.events(run)[0]["day"] == 2


def test_indicators_and_history_are_warm_at_the_first_pulse(tmp_path) -> None:
    """On day 2 the average of 10, 20, 40 is 23.33, below 40, and three bars are there: it buys at once, on day 3."""
    experiment = lp.experiment(
        TREND, features={"sma": {"indicator": "sma", "window": 3}}, costs=[], opening={"cash": 1000}, name="trend"
    )
    snapshot = small.seal(tmp_path, RISING)
    run = lp.run(experiment, snapshot, start=small.day(2))
    assert small.filled(run)[0] == (3, "A", "BUY", 2.0, 40.0, 0.0)
    cold = lp.run(experiment, small.seal(tmp_path, {"A": RISING["A"][2:]}, start=small.day(2)))
    assert small.filled(cold)[0][0] == 5  # two more bars until the average is there
    assert prove([run], everything=True)[0].difference is None
    assert all(
        cut.difference is None
        for cut in truncation_replay(with_period(experiment, small.day(2), None), run, at=[3, 4, 5])
    )


def test_a_period_without_memory_is_a_snapshot_of_its_bars(tmp_path) -> None:
    """Start and end cut as if there had never been more: the same events, but for the names of the runs."""
    plan = small.planned({2: {"A": 10}, 4: {"A": 3}}, deposits=[{"amount": 7.0, "every": "month"}])
    part = lp.run(plan, small.seal(tmp_path, RISING), start=small.day(2), end=small.day(5))
    alone = lp.run(plan, small.seal(tmp_path, {"A": RISING["A"][2:6]}, start=small.day(2)))
    drop = ["book", "event_id", "correlation_id", "causation_id"]
    assert part.events.table.drop_columns(drop).equals(alone.events.table.drop_columns(drop))
    assert part.equity.equals(alone.equity) and part.trades.equals(alone.trades)


def test_the_period_is_part_of_the_identity_and_replays(tmp_path) -> None:
    snapshot, plan = small.seal(tmp_path / "snapshots", RISING), small.planned({2: {"A": 10}})
    whole, part = lp.run(plan, snapshot), lp.run(plan, snapshot, start=small.day(1))
    assert len({whole.run_id, part.run_id, lp.run(plan, snapshot, end=small.day(5)).run_id}) == 3
    assert "start" not in whole.provenance["experiment"] and part.provenance["experiment"]["start"] == small.day(1)
    written = lp.experiment(
        small.PLAN, params=plan.spec.params, costs=[], opening={"cash": 1000.0}, name="planned", start=small.day(1)
    )
    assert lp.run(written, snapshot).run_id == part.run_id
    part.save(tmp_path / "data")
    assert replay(part.run_id, root=tmp_path / "data", snapshots=tmp_path / "snapshots").first_difference is None


def test_splits_before_the_start_are_known_and_not_posted(tmp_path) -> None:
    """A split on day 1: on day 2 the history goes on in the prices of that day, and the ledger has no split."""
    snapshot = small.seal(tmp_path, {"A": [100, 50, 50, 50]}, splits=[("A", 1, 2.0)])
    experiment = lp.experiment(
        "def strategy(ctx, params):\n"
        "    targets = ctx.flat()\n"
        "    targets['A'] = ctx.history('A', 3).close[0]\n"
        "    return targets\n",
        costs=[], opening={"cash": 10_000}, name="first",
    )  # fmt: skip
    run = lp.run(experiment, snapshot, start=small.day(2))
    assert small.filled(run)[0][3] == 50.0 and not small.events(run, "SPLIT")


def test_an_instrument_without_a_bar_in_the_period_is_in_no_universe(tmp_path) -> None:
    """B is listed on day 5, after the end; C had its last bar on day 1, and is held at what that said."""
    prices = {"A": [10] * 7, "B": [None] * 5 + [3, 3], "C": [4, 4] + [None] * 5}
    snapshot = small.seal(tmp_path, prices)
    plan = small.planned({2: {"A": 1, "B": 1, "C": 1}}, opening={
        "cash": 100.0, "positions": {"C": 5.0}, "cost_basis": {"C": 4.0}})  # fmt: skip
    run = lp.run(plan, snapshot, start=small.day(2), end=small.day(4))
    assert small.filled(run) == [(3, "A", "BUY", 1.0, 10.0, 0.0)]
    assert run.equity["equity"].tolist() == [120, 120, 120] and run.warnings == []


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2024-01-05", "2024-01-02", "it ends on 2024-01-02, before it starts on 2024-01-05"),
        ("2030-01-01", None, "there is no bar from 2030-01-01 to the end: the bars go from 2024-01-01 to 2024-01-07"),
        (None, "2020-01-01", "there is no bar from the beginning to 2020-01-01"),
        ("2024-01-07", None, "has 1 bar time for this universe and period"),
        ("yesterday", None, "start: "),
    ],
)
def test_a_period_that_cannot_be_is_refused(tmp_path, start, end, words) -> None:
    with pytest.raises(InputError, match=words):
        lp.run(small.planned({}), small.seal(tmp_path, RISING), start=start, end=end)
