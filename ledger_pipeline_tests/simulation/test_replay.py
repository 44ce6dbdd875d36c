"""Replay from what is stored, and truncation replay: what it lets pass and what it must find."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.features import causality
from ledger_pipeline.market.raw import RawSource
from ledger_pipeline.simulation.replay import first_difference, truncation_replay
from ledger_pipeline_tests import small
from ledger_pipeline_tests.ledger import ledgers

CHECKOUT = Path(__file__).parents[2]
# pulses 0 to 10: truncation replay cuts at 3, 5 and 7. It rises after days 3, 5 and 7.
PRICES = {"A": [10, 11, 12, 11, 13, 12, 14, 13, 15, 14, 16], "B": [20, 21] * 5 + [20]}

BEFORE = """
def strategy(ctx, params):
    targets = ctx.hold()
    up = ctx.feature("A", "peek") > ctx.close("A")
"""
PEEKS = {
    "quantity": "    targets['A'] = 2.0 if up else 1.0\n",
    "target by feature": "    targets['A'] = 1.0 if not up else ctx.feature('A', 'peek')\n",
    "side": "    targets['A'] = ctx.position('A') + (1.0 if up else -1.0)\n",
    "amount": "    targets.invest('A', 20.0 if up else 10.0)\n",
    "one order more": "    targets['A'] = ctx.position('A') + 1\n    if up:\n        targets['B'] = ctx.position('B') + 1\n",
    "one order less": "    targets['A'] = ctx.position('A') + 1\n    if not up:\n        targets['B'] = ctx.position('B') + 1\n",
    "any order": "    if up:\n        targets['B'] = ctx.position('B') + 1\n",
    "no order": "    if not up:\n        targets['B'] = ctx.position('B') + 1\n",
    "reason": "    targets['A'] = ctx.position('A') + 1\n    targets.because('A', 'UP' if up else 'DOWN')\n",
    "memory": "    targets.remember({'up': bool(up)})\n",
}


def tomorrow(bars):
    """The close of the next bar."""
    return bars["close"].shift(-1)


def today(bars):
    """The close."""
    return bars["close"]


def experiment(text: str, indicator) -> lp.Experiment:
    return lp.experiment(
        BEFORE + text + "    return targets\n", costs=[{"spread_bps": 3}],
        features={"peek": {"indicator": indicator, "basis": "price", "warmup": 1}},
    )  # fmt: skip


@pytest.mark.parametrize("splits", [(), [("A", 4, 2), ("A", 6, 2), ("A", 8, 2)]], ids=["plain", "splits"])
@pytest.mark.parametrize("what", PEEKS)
def test_a_planted_look_ahead_is_found(tmp_path, monkeypatch, what, splits) -> None:
    """Every cut shows it: the cut run has no tomorrow, and so decides otherwise at its last bar."""
    monkeypatch.setattr(causality, "require_causal", lambda item, grid: None)
    monkeypatch.setattr("ledger_pipeline.simulation.run._CAUSAL", set())  # what this finds is forgotten
    planted = experiment(PEEKS[what], tomorrow)
    run = lp.run(planted, small.seal(tmp_path, PRICES, splits=splits))
    outcomes = truncation_replay(planted, run, at=[3, 5, 7])
    if not splits:
        assert all(outcome.difference for outcome in outcomes), outcomes
    assert any(outcome.difference for outcome in outcomes)


@pytest.mark.parametrize("splits", [(), [("A", 4, 2), ("A", 6, 2), ("A", 8, 0.5)]], ids=["plain", "splits"])
@pytest.mark.parametrize("what", PEEKS)
def test_the_same_strategies_on_todays_close_pass(tmp_path, what, splits) -> None:
    honest = experiment(PEEKS[what], today)
    run = lp.run(honest, small.seal(tmp_path, PRICES, splits=splits))
    outcomes = truncation_replay(honest, run, at=[3, 5, 7])
    assert [outcome.difference for outcome in outcomes] == [None] * 3
    assert all(0 < outcome.events <= len(run.events) + 2 for outcome in outcomes)


def test_orders_that_expire_are_rejected_or_are_restated_pass(tmp_path) -> None:
    """At the cuts 3, 5 and 7 stand orders that end without a bar, without cash, and restated by a split."""
    prices = {"A": [10] * 11, "B": [20] * 4 + [None] + [20] * 6, "C": [5] * 8 + [2.5] * 3}
    plan = {3: {"B": 1}, 5: {"A": 1e6, "B": 2}, 7: {"C": 3, "A": "25"}}
    snapshot = small.seal(tmp_path, prices, splits=[("C", 8, 2)])
    planned = small.planned(plan, reasons={"A": ["ONE"], "B": ["TWO", "THREE"]})
    run = lp.run(planned, snapshot)
    assert {row[1] for row in small.ended(run)} == {"ORDER_EXPIRED", "ORDER_REJECTED"}
    assert small.events(run, "ORDER_REPLACED")
    assert [outcome.difference for outcome in truncation_replay(planned, run, at=[3, 5, 7])] == [None] * 3
    for cuts in (1, 3, 8):
        assert [outcome.difference for outcome in truncation_replay(planned, run, cuts)] == [None] * min(cuts, 9)


def test_a_run_that_is_not_of_this_experiment_is_found(tmp_path) -> None:
    snapshot = small.seal(tmp_path, PRICES)
    run = lp.run(small.planned({1: {"A": 3}}), snapshot)
    assert all(outcome.difference for outcome in truncation_replay(small.planned({1: {"A": 4}}), run))


@pytest.mark.parametrize("cuts", [0, -1])
def test_no_cut_is_refused(tmp_path, cuts) -> None:
    snapshot = small.seal(tmp_path, PRICES)
    planned = small.planned({})
    with pytest.raises(lp.InputError, match="at least one cut"):
        truncation_replay(planned, lp.run(planned, snapshot), cuts)


def test_a_look_ahead_is_refused_before_it_runs(tmp_path) -> None:
    with pytest.raises(lp.RefusedError, match="'peek'.*looks ahead"):
        lp.run(experiment(PEEKS["quantity"], tomorrow), small.seal(tmp_path, PRICES))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> lp.Snapshot:
    """The last years of the bundled prices, with their splits and dividends."""
    source = CHECKOUT / "sources" / "demo"
    frame = pd.read_csv(source / "bars.csv")
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    days = sorted(frame["ts"].unique())
    actions = pd.read_csv(source / "actions.csv")
    actions["ex_date"] = pd.to_datetime(actions["ex_date"], utc=True)
    first = pd.Timestamp("2003-06-01", tz="UTC")  # GOOG starts in 2004, AAPL splits in 2005
    assert days[0] < first
    return lp.seal(
        frame[frame["ts"] >= first], actions=actions, instruments=str(source / "instruments.csv"), snapshot_id="part",
        root=tmp_path_factory.mktemp("demo"),
    )  # fmt: skip


def test_there_are_bundled_experiments() -> None:
    assert len(lp.Catalogue(CHECKOUT / "strategies").experiment_names()) >= 8 and RawSource


@pytest.mark.parametrize("name", lp.Catalogue(CHECKOUT / "strategies").experiment_names())
def test_every_bundled_experiment_passes_truncation_and_invariants(demo, name) -> None:
    bundled = lp.Catalogue(CHECKOUT / "strategies").experiment(name)
    run = lp.run(bundled, demo)
    assert [outcome.difference for outcome in truncation_replay(bundled, run, 2)] == [None] * 2
    assert len(run.fills) > 0 and not any(run.invariants().values())


# replay


def test_a_stored_run_replays_to_the_same_bytes(tmp_path) -> None:
    snapshots, data = tmp_path / "snapshots", tmp_path / "data"
    snapshot = small.seal(snapshots, PRICES, splits=[("A", 4, 2)])

    def strategy(ctx, params):
        if ctx.rng.random() < 0.5:
            return ctx.hold()
        return ctx.weights({"A": params["weights"]["A"], "B": ctx.feature("B", "sma") / 100}).because("A", "WHY")

    told = {
        "params": {"weights": {"A": 0.3}, "window": 3}, "costs": [{"spread_bps": 2}, {"minimum_fee": 0.1}],
        "features": {"sma": {"indicator": "sma", "window": {"param": "window"}}}, "risk": ["long_only", {"max_weight": 0.4}],
        "deposits": [{"amount": 5, "every": "week", "start": "2024-01-03"}, {"amount": 2.5, "at": "2024-01-05"}],
        "opening": {"cash": 500, "positions": {"A": 1.5}, "cost_basis": {"A": 9}}, "universe": ["B", "A"], "benchmark": "A",
    }  # fmt: skip
    run = lp.run(lp.experiment(strategy, **told), snapshot, seed=3)
    run.save(data)
    again = lp.replay(run.run_id, root=data, snapshots=snapshots)
    assert again.same and again.first_difference is None
    assert again.stored_head == again.replayed_head == run.events.head


def changed(path: Path, change) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["experiment"]["params"]["plan"].clear(),
        lambda told: told["experiment"]["costs"].append({"fixed_fee": 1.0}),
        lambda told: told["experiment"]["opening"].update(cash=1001),
        lambda told: told["experiment"]["risk"].append("long_only"),
        lambda told: told["experiment"].update(universe=["A"]),
        lambda told: told["experiment"].update(cash_rule="allow_negative"),
        lambda told: told["experiment"]["deposits"].append({"amount": 1.0, "every": "month"}),
        lambda told: told["experiment"].update(strategy_hash="0" * 64),
        lambda told: told["experiment"]["captured"].update(X=1),
        lambda told: told["experiment"].update(params_hash="0" * 64),
        lambda told: told["experiment"].update(hash="0" * 64),
        lambda told: told["snapshot"].update(hash="0" * 64),
        lambda told: told.update(seed=4),
        lambda told: told.update(engine=99),
        lambda told: told.update(run_id="0" * 20),
        lambda told: told.update(ledger_head="0" * 64),
    ],
)
def test_a_changed_input_in_the_provenance_is_found(tmp_path, change) -> None:
    run = small.play(tmp_path / "snapshots", PRICES, {0: {"A": 1}})
    run.save(tmp_path / "data")
    changed(tmp_path / "data" / "runs" / run.run_id / "provenance.json", change)
    with pytest.raises(lp.IntegrityError):
        lp.replay(run.run_id, root=tmp_path / "data", snapshots=tmp_path / "snapshots")


def test_first_difference_says_where() -> None:
    ledger = ledgers.ledger([ledgers.opened(5.0), ledgers.fill(1, "A", 2, 10.0), ledgers.fill(2, "A", 2, 10.0)])
    assert first_difference(ledger, ledger) is None
    assert (
        first_difference(ledger, ledgers.with_value(ledger, "price", 1, 11.0))
        == "seq 2: price is 10.0 here and 11.0 there"
    )
    assert "seq 3: symbol is A here and None there" in first_difference(
        ledger, ledgers.with_value(ledger, "symbol", 2, None)
    )
    shorter = ledgers.of_rows(ledger.table.to_pylist()[:2])
    assert first_difference(ledger, shorter) == "one ledger has 3 events, the other 2"
