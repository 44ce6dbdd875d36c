"""Params that change at a session: which are in force, what the features are then, and the same live."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.simulation.replay import replay, stored_experiment, truncation_replay
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline.trading.deployment.strategy import evaluate
from ledger_pipeline_tests import small
from ledger_pipeline_tests.sweeps.markets import crossover, market

BUY = "\ndef strategy(ctx, params):\n    t = ctx.flat()\n    t['A'] = params['n']\n    return t\n"
COUNT = """
def strategy(ctx, params):
    count = ctx.memory.get("count", 0) + 1
    targets = ctx.flat()
    targets["A"] = count
    targets.remember({"count": count})
    return targets
"""


def scheduled(*entries, text=BUY, **options):
    given = {"params": {"n": 1}, "costs": [], "opening": {"cash": 10_000}, "name": "scheduled"} | options
    return lp.experiment(text, params_schedule=list(entries), **given)


def prices(days: int = 10) -> dict[str, list[int]]:
    return {"A": list(range(10, 10 + days))}


def test_the_params_in_force_decide(tmp_path) -> None:
    """1 share from day 0, 3 from day 4, none from day 7: bought at the open of days 1 (11) and 5 (15), sold on day 8 (18)."""
    experiment = scheduled({"start": small.day(4), "params": {"n": 3}}, {"start": small.day(7)})
    run = lp.run(experiment, small.seal(tmp_path, prices()))
    fills = [(row.side, row.quantity, row.price, row.reasons) for row in run.fills.itertuples()]
    assert [fill[:3] for fill in fills] == [("BUY", 1, 11), ("BUY", 2, 15), ("SELL", 3, 18)]
    assert fills[-1][3] == "NO_PARAMS"
    changed = run.ledger[run.ledger["kind"] == "PARAMS_CHANGED"]
    assert [json.loads(text) for text in changed["payload"]] == [{"params": {"n": 3}}, {"params": None}]
    assert run.equity["equity"].iloc[-1] == 10_000 + (18 - 11) + 2 * (18 - 15)


def test_a_fresh_start_sells_and_forgets(tmp_path) -> None:
    """It counts pulses by memory: 1, 2, 3 shares; from day 3 on it sells at the open of day 4, and counts anew."""
    experiment = scheduled({"start": small.day(3), "params": {}, "fresh": True}, text=COUNT)
    run = lp.run(experiment, small.seal(tmp_path, prices(7)))
    fills = [(str(row.occurred_at.date()), row.side, row.quantity) for row in run.fills.itertuples()]
    assert fills == [
        (small.day(1), "BUY", 1), (small.day(2), "BUY", 1), (small.day(3), "BUY", 1), (small.day(4), "SELL", 3),
        (small.day(5), "BUY", 1), (small.day(6), "BUY", 1),
    ]  # fmt: skip
    assert lp.prove([run])[0].difference is None
    assert [one.difference for one in truncation_replay(experiment, run, at=[2, 3, 4, 5])] == [None] * 4


def test_features_follow_the_params(tmp_path) -> None:
    """From day 12 on the run is that of the other averages, which know the days before."""
    snapshot = market(tmp_path)
    changed = crossover(params_schedule=[{"start": small.day(12), "params": {"fast": 3, "slow": 6}}])
    run, alone = (
        lp.run(changed, snapshot),
        lp.run(crossover(params={"fast": 3, "slow": 6, "quantity": 10, "fee": 1.0}), snapshot),
    )
    before = lp.run(crossover(), snapshot)
    late = small.at(14)

    def held(one, after):
        frame = one.equity.set_index("ts")["exposure"]
        return frame[after:] if after is not None else frame[: small.at(12)]

    assert held(run, None).tolist() == held(before, None).tolist()
    assert held(run, late).tolist() == held(alone, late).tolist()
    run.save(tmp_path / "data")
    assert replay(run.run_id, root=tmp_path / "data", snapshots=tmp_path).same
    assert stored_experiment(run.provenance).hash == changed.hash


def test_live_it_decides_with_the_params_in_force(tmp_path) -> None:
    """The decision at the last bar is that of the experiment with those params alone."""
    snapshot = market(tmp_path)
    given = {"deployment": "x", "seed": 0, "cash": Decimal(1000), "positions": {}, "memory": {}, "ratios": {}}
    others = {"fast": 3, "slow": 6, "quantity": 7, "fee": 1.0}
    changed = crossover(params_schedule=[{"start": small.day(20), "params": {"fast": 3, "slow": 6, "quantity": 7}}])
    now, alone = evaluate(changed, snapshot, **given), evaluate(crossover(params=others), snapshot, **given)
    assert now.orders == alone.orders and len(now.orders)
    assert all(order["quantity"] == "7" for order in now.orders)
    idle = crossover(params_schedule=[{"start": small.day(20)}])
    holding = given | {"positions": {"A": Decimal(5)}}
    assert [(o["side"], o["quantity"], o["reasons"]) for o in evaluate(idle, snapshot, **holding).orders] == [
        ("SELL", "5", ["NO_PARAMS"])
    ]


def test_it_is_part_of_the_identity_and_of_files(tmp_path) -> None:
    plain, changed = crossover(), crossover(params_schedule=[{"start": small.day(12), "params": {"fast": 3}}])
    other = crossover(params_schedule=[{"start": small.day(12), "params": {"fast": 4}}])
    assert len({plain.hash, changed.hash, other.hash}) == 3 and "params_schedule" not in plain.document
    strategies = tmp_path / "strategies"
    (strategies / "experiments").mkdir(parents=True)
    (strategies / "hold.py").write_text(BUY.lstrip())
    (strategies / "experiments" / "hold.yaml").write_text(
        "strategy: hold\nparams: {n: 1}\ncosts: []\nparams_schedule:\n  - {start: 2024-01-05, params: {n: 3}}\n"
    )
    read = Catalogue(strategies).experiment("hold")
    assert read.spec.params_schedule[0].params == {"n": 3}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"start": "2024-01-05", "params": {"n": 2}}, {"start": "2024-01-05"}], "must start one after the other"),
        ([{"start": "soon", "params": {"n": 2}}], "params_schedule"),
        ([{"start": "2024-01-05", "param": {"n": 2}}], "param"),
        ([{"params": {"n": 2}}], "start"),
    ],
)
def test_what_is_no_schedule_is_told(entries, message) -> None:
    with pytest.raises(InputError, match=message):
        scheduled(*entries)


def test_a_change_outside_the_run_is_none(tmp_path) -> None:
    experiment = scheduled({"start": "2030-01-01", "params": {"n": 9}})
    run = lp.run(experiment, small.seal(tmp_path, prices()))
    assert "PARAMS_CHANGED" not in set(run.ledger["kind"]) and run.fills["quantity"].tolist() == [1]
    early = scheduled({"start": "2020-01-01", "params": {"n": 2}}, {"start": "2021-01-01", "params": {"n": 4}})
    assert lp.run(early, small.seal(tmp_path / "b", prices())).fills["quantity"].tolist() == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params_schedule": [{"start": small.day(4), "params": {"fsat": 3}}]}, "'fsat', which is no param"),
        ({"params_schedule": [{"start": small.day(4), "params": {"fee": 3.0}}]}, "'fee', which a field of the account"),
        ({"params_schedule": [{"start": small.day(4), "params": {"fast": 3}, "features": {"odd": {"indicator": "sma", "window": 3}}}]},
         "the feature 'odd', which the experiment does not define"),
    ],
)  # fmt: skip
def test_a_change_that_nothing_would_follow_is_told(options, message) -> None:
    with pytest.raises(InputError, match=message):
        crossover(**options)


def test_an_experiment_with_a_schedule_is_not_varied(tmp_path) -> None:
    changed = crossover(params_schedule=[{"start": small.day(4), "params": {"fast": 3}}])
    with pytest.raises(InputError, match="has params_schedule, which says its params by date"):
        lp.sweep(changed, market(tmp_path), grid={"fast": [2, 3]}, engine="serial", root=tmp_path / "data")
