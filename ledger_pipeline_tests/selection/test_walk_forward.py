"""Walk-forward: train is sliced, tests are warm, the stitched run replays, and a stop in the middle loses nothing."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError, RefusedError
from ledger_pipeline.selection import walk_forward as module
from ledger_pipeline.selection.report import walk_forward_report
from ledger_pipeline.selection.walk_forward_store import WalkForwardStore
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline.simulation.replay import replay, stored_experiment, truncation_replay
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.sweeps.sweep_store import SweepStore
from ledger_pipeline_tests import small
from ledger_pipeline_tests.sweeps.markets import crossover, market
from ledger_pipeline_tests.sweeps.test_engines import SLOWER, killing
from ledger_pipeline_tests.sweeps.test_engines import slow as slow_experiment

GRID = {"fast": [2, 3], "slow": [4, 6]}
WALK = {"grid": GRID, "train": "10 sessions", "test": "4 sessions", "purge": 0}


def walked(tmp_path, **options):
    given = {**WALK, "engine": "serial", "root": tmp_path / "data"} | options
    return lp.walk_forward(
        given.pop("experiment", crossover()), given.pop("snapshot", None) or market(tmp_path), **given
    )


def test_each_window_is_chosen_on_its_train_sessions_alone(tmp_path) -> None:
    """28 sessions: trains of 10, tests of 4: windows from days 0, 4, 8, 12; the next test would go beyond day 27. The
    choice is the candidate with the highest Sharpe ratio among the runs over exactly these sessions.
    """
    snapshot = market(tmp_path)
    result = walked(tmp_path, snapshot=snapshot)
    assert [str(one.window.train_start) for one in result.windows] == [small.day(k) for k in (0, 4, 8, 12)]
    assert [str(one.window.test_start) for one in result.windows] == [small.day(k) for k in (10, 14, 18, 22)]
    assert result.notes == [
        f"the test from {small.day(26)} would go beyond the last session and is dropped",
        "indicators warm up during the first 5 sessions of the first 2 train windows: the snapshot holds no earlier bars "
        "for them",
    ]
    points = [(f, s) for f in (2, 3) for s in (4, 6)]
    for one in result.windows:
        start, end = one.window.train_start, one.window.train_end
        ratios = []
        for fast, slow in points:
            params = {"fast": fast, "slow": slow, "quantity": 10, "fee": 1.0}
            alone = lp.run(crossover(params=params), snapshot, start=start, end=end)
            ratios.append(alone.metrics["sharpe"])
        known = [-np.inf if value is None else value for value in ratios]
        if one.choice.number is None:
            assert all(value is None for value in ratios)
        else:
            assert one.choice.number == int(np.argmax(known)) and one.train == max(known)
            assert (one.params["fast"], one.params["slow"]) == points[one.choice.number]


def test_the_stitched_run_replays_and_is_out_of_sample(tmp_path) -> None:
    result = walked(tmp_path)
    run = result.run
    assert run.equity["ts"].iloc[0] == small.at(10) and run.equity["ts"].iloc[-1] == small.at(25)
    assert replay(run.run_id, root=tmp_path / "data", snapshots=run.snapshot.path.parent).same
    assert lp.prove([run])[0].difference is None
    experiment = stored_experiment(run.provenance)
    cuts = truncation_replay(experiment, run, at=[11, 13, 14, 15, 18, 22])
    assert [cut.difference for cut in cuts] == [None] * 6
    changed = run.ledger[run.ledger["kind"] == "PARAMS_CHANGED"]
    assert [str(at.date()) for at in changed["occurred_at"]] == [small.day(k) for k in (10, 14, 18, 22)]
    for event, one in zip(changed["payload"], result.windows, strict=True):
        said = json.loads(event)
        assert said["memory"] == {} and said["params"]["fast"] == one.params["fast"]
    assert pickle.loads(pickle.dumps(experiment)).hash == experiment.hash


def test_a_price_that_rises_before_a_window_gives_it_nothing(tmp_path) -> None:
    """A rises tenfold on days 0 to 9 and is flat from there on; whoever trains on days 10 to 19 earns nothing, whatever
    it remembers of the days before.
    """
    prices = {"A": [10 + 10 * k for k in range(10)] + [100] * 18}
    text = "\ndef strategy(ctx, params):\n    t = ctx.flat()\n    t['A'] = params['n']\n    return t\n"
    experiment = lp.experiment(text, params={"n": 1}, costs=[], opening={"cash": 1000}, name="hold")
    pair = {"train": [small.day(10), small.day(19)], "test": [small.day(20), small.day(27)]}
    result = walked(
        tmp_path, experiment=experiment, snapshot=small.seal(tmp_path, prices), grid={"n": [1, 5]}, train=None, test=None,
        windows=[pair], by="cagr",
    )  # fmt: skip
    assert result.windows[0].train == 0.0 and result.windows[0].test == 0.0
    frame = result.sweep(0).candidates
    assert list(frame["total_return"]) == [0.0, 0.0]


def test_tests_know_earlier_bars(tmp_path) -> None:
    """A moving average of 6 has a value at the first pulse of the first test, day 10."""
    result = walked(tmp_path, grid={"fast": [2], "slow": [6]})
    run, snapshot = result.run, result.run.snapshot
    alone = lp.run(
        crossover(params={"fast": 2, "slow": 6, "quantity": 10, "fee": 1.0}), snapshot, start=small.day(10),
        end=small.day(13),
    )  # fmt: skip
    mine = run.fills[run.fills["occurred_at"] <= small.at(13)]
    assert mine["quantity"].tolist() == alone.fills["quantity"].tolist() and len(mine)
    assert mine["price"].tolist() == alone.fills["price"].tolist()


def hold_all(**changes):
    text = "\ndef strategy(ctx, params):\n    t = ctx.flat()\n    for s in ctx.universe:\n        t[s] = params['n']\n    return t\n"
    given = {"params": {"n": 1}, "costs": [], "opening": {"cash": 10_000}, "name": "all"} | changes
    return lp.experiment(text, **given)


def test_flat_or_carried(tmp_path) -> None:
    """One share of A at 10, 11, 12, ...; windows change nothing but the start. Flat: sold at the open after the border's
    first pulse and bought again a bar later, so each later window misses one step of 1; carried: bought once.
    """
    prices = {"A": list(range(10, 38))}
    snapshot = small.seal(tmp_path, prices)
    options = {"experiment": hold_all(), "snapshot": snapshot, "grid": {"n": [1]}, "by": "cagr"}
    flat, carried = walked(tmp_path, **options), walked(tmp_path, carry=True, **options)
    assert [side for side in carried.run.fills["side"]] == ["BUY"]
    assert carried.run.equity["equity"].iloc[-1] == 10_000 + (35 - 21)  # bought at the open of day 11
    assert [side for side in flat.run.fills["side"]] == ["BUY", "SELL"] * 3 + ["BUY"]
    assert flat.run.equity["equity"].iloc[-1] == 10_000 + (35 - 21) - 3
    sold = flat.run.fills[flat.run.fills["side"] == "SELL"]
    assert set(sold["reasons"]) == {"PARAMS_CHANGED"} and flat.walk_id != carried.walk_id
    assert replay(carried.run_id, root=tmp_path / "data", snapshots=snapshot.path.parent).same


def test_shorts_are_carried_too(tmp_path) -> None:
    prices = {"A": list(range(60, 32, -1))}
    experiment = hold_all(params={"n": -1}, cash_rule="allow_negative")
    result = walked(
        tmp_path, experiment=experiment, snapshot=small.seal(tmp_path, prices), grid={"n": [-1]}, by="cagr", carry=True
    )
    assert result.run.fills["side"].tolist() == ["SELL"] and result.run.lots["side"].tolist() == ["SHORT"]
    assert result.run.equity["equity"].iloc[-1] == 10_000 + (49 - 35)


def test_a_window_without_an_eligible_candidate_stays_flat(tmp_path) -> None:
    """The first train window has a flat price, so that no candidate has a Sharpe ratio; the second has one."""
    prices = {"A": [10.0] * 12 + [10 + k for k in range(16)]}
    result = walked(tmp_path, experiment=hold_all(), snapshot=small.seal(tmp_path, prices), grid={"n": [1, 2]})
    first, second = result.windows[0], result.windows[1]
    assert first.choice.number is None and first.params is None and first.test is None
    assert "no candidate has a sharpe" in first.choice.why and second.choice.number is not None
    equity = result.run.equity.set_index("ts")["exposure"]
    assert (equity[: small.at(14)] == 0).all() and equity[small.at(16)] > 0
    assert "nothing is held" in walk_forward_report(result)


def test_a_walk_forward_that_was_stopped_goes_on(tmp_path, monkeypatch) -> None:
    """Killed after the second window: what is there is not evaluated again, and the result is the same."""
    snapshot = market(tmp_path)
    whole = walked(tmp_path, snapshot=snapshot, root=tmp_path / "whole")
    swept, counted = module.run_sweep, []

    def twice(definition, *arguments, **options):
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(definition)
        return swept(definition, *arguments, **options)

    monkeypatch.setattr(module, "run_sweep", twice)
    with pytest.raises(KeyboardInterrupt):
        walked(tmp_path, snapshot=snapshot)
    store = WalkForwardStore(tmp_path / "data")
    assert store.result(store.ids()[0]) is None
    with pytest.raises(InputError, match="is not finished; run it again"):
        lp.open_walk_forward("crossover", tmp_path / "data", snapshot.path.parent)
    monkeypatch.setattr(module, "run_sweep", lambda *a, **o: (counted.append(a), swept(*a, **o))[1])
    again = walked(tmp_path, snapshot=snapshot)
    assert len(counted) == 4 and again.hash == whole.hash and again.walk_id == whole.walk_id
    counted.clear()
    assert walked(tmp_path, snapshot=snapshot).hash == whole.hash and not counted


def test_engines_give_the_same(tmp_path) -> None:
    snapshot = market(tmp_path)
    one = walked(tmp_path, snapshot=snapshot)
    several = walked(tmp_path, snapshot=snapshot, engine="processes", workers=2, root=tmp_path / "b")
    assert one.hash == several.hash


@pytest.mark.parametrize("at", [6, 11])
def test_windows_that_are_under_way_at_once_end_with_an_interruption(tmp_path, at) -> None:
    """On processes the next window is begun while one is looked at; what stops one stops all, and it goes on later."""
    snapshot = market(tmp_path)
    whole = walked(tmp_path, snapshot=snapshot, root=tmp_path / "whole")
    told = []

    def interrupt(progress) -> None:
        told.append(progress.done)
        if progress.done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walked(tmp_path, snapshot=snapshot, engine="processes", workers=2, progress=interrupt)
    assert sorted(set(told)) == list(range(max(told) + 1)) and max(told) <= at + 4  # what had been begun, no more
    assert walked(tmp_path, snapshot=snapshot, engine="processes", workers=2).hash == whole.hash


def test_windows_that_are_under_way_at_once_survive_killed_workers(tmp_path) -> None:
    expected = lp.walk_forward(
        slow_experiment(SLOWER), market(tmp_path), **WALK, engine="serial", root=tmp_path / "serial"
    )
    with killing(2) as killed:
        walk = lp.walk_forward(slow_experiment(SLOWER), market(tmp_path), **WALK, workers=2, root=tmp_path / "killed")
    assert len(killed) == 2 and walk.hash == expected.hash


def test_the_purge_comes_from_the_warm_up_and_what_is_held_over_the_border(tmp_path) -> None:
    """Warm-ups of 4 and 6 give 6 sessions. Without features it is what is held: a trade from day 3 to day 6, and one from
    day 8 on that is open at the border (day 9) for two sessions.
    """
    result = walked(tmp_path, purge="auto", embargo="1 sessions", train="12 sessions")
    assert [(one.window.purge, one.window.embargo) for one in result.windows] == [(6, 1)] * len(result.windows)
    assert str(result.windows[0].window.train_end) == small.day(11 - 7)
    held = {t: {"A": 1 if t in (2, 3, 4, 5) or 7 <= t <= 11 else 0} for t in range(28)}
    plan = {small.day(t): wish for t, wish in held.items()}
    text = small.PLAN.replace("targets = ctx.hold()", "targets = ctx.hold()\n    n = params['n']")
    experiment = lp.experiment(
        text, params={"plan": plan, "reasons": {}, "n": 1}, costs=[], opening={"cash": 1000}, name="plan"
    )
    result = walked(
        tmp_path / "c", experiment=experiment, snapshot=small.seal(tmp_path / "c", {"A": [10 + k % 5 for k in range(28)]}),
        grid={"n": [1, 2]}, purge="auto", by="cagr",
    )  # fmt: skip
    assert result.plan["purge"]["warmup_sessions"] == 0 and result.windows[0].window.purge == 2
    assert result.windows[1].window.purge == 0  # nothing is held at the border of the next window, day 13


def test_every_window_counts_as_trials(tmp_path) -> None:
    """4 candidates in 4 windows and the stitched run; deleting the walk-forward leaves the count."""
    result = walked(tmp_path)
    register = lp.TrialRegister(tmp_path / "data")
    assert register.count(snapshot_hash=result.snapshot.hash) == 4 * 4 + 1
    WalkForwardStore(tmp_path / "data").delete(result.walk_id)
    assert register.count(snapshot_hash=result.snapshot.hash) == 17
    assert len(SweepStore(tmp_path / "data").ids()) == 4
    with pytest.raises(NotFoundError):
        SweepStore(tmp_path / "data").resolve("crossover")  # windows do not go by the name


def test_the_stitched_run_may_be_promoted(tmp_path) -> None:
    result = walked(tmp_path)
    run = result.promote(label="walked", by="Ada Byron", reason="holds up")
    kept = promotion_of(tmp_path / "data", run.run_id)
    assert kept is not None and kept.walk_forward and kept.sweep == result.walk_id and kept.trials == 17
    assert RunStore(tmp_path / "data").label(run.run_id)["label"] == "walked"
    with pytest.raises(InputError, match="needs the name of who decides"):
        result.promote(label="walked", by=" ", reason="x")


def test_gates_of_a_walk_forward(tmp_path) -> None:
    from ledger_pipeline.selection.walk_forward_definition import define_walk_forward
    from ledger_pipeline.sweeps.definition import define

    gates = {"probabilistic_sharpe": {"min": 1.0}}
    swept = define(crossover(), GRID, keep="returns", gates=gates)
    laid = {"train": "10 sessions", "test": "4 sessions", "purge": 0}
    result = module.run_walk_forward(
        define_walk_forward(swept, laid), market(tmp_path), root=tmp_path / "data", engine="serial"
    )
    with pytest.raises(RefusedError, match="walk-forward crossover is not promoted: probabilistic_sharpe is"):
        result.promote(label="walked", by="Ada Byron", reason="x")
    run = result.promote(label="walked", by="Ada Byron", reason="x", against_gates="the record is short")
    kept = promotion_of(tmp_path / "data", run.run_id)
    assert kept.against_gates == "the record is short" and kept.gates[0]["met"] is False


def test_metrics_of_a_test_are_those_of_its_sessions(tmp_path) -> None:
    """A at 10, 11, ..., held from day 11 on: over days 14 to 17 the equity goes from 10,000 + 2 at the close of day 13 to
    10,000 + 6.
    """
    from datetime import date

    from ledger_pipeline.simulation.measures import metrics_between

    snapshot = small.seal(tmp_path, {"A": list(range(10, 38))})
    result = walked(tmp_path, experiment=hold_all(), snapshot=snapshot, grid={"n": [1]}, by="cagr", carry=True)
    found = metrics_between(result.run, date.fromisoformat(small.day(14)), date.fromisoformat(small.day(17)))
    assert found["total_return"] == pytest.approx(10_006 / 10_002 - 1, rel=1e-12)
    assert found["final_equity"] == 10_006 and found["trades"] == 0 and found["costs"] == 0
    assert result.windows[1].test == pytest.approx(found["cagr"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "20 sessions", "test": "20 sessions"}, "longer than the data"),
        ({"purge": 9}, "leave nothing of the train"),
        ({"embargo": "2w"}, "embargo is '2w'; it counts sessions"),
        ({"by": "alpha"}, "there is no metric 'alpha' to choose by"),
        ({"by": "total_return"}, "depends on the length of a window"),
        ({"by": "trades", "scheme": "anchored", "train": "4 sessions"}, "depends on the length"),
        ({"grid": {"fee": [0.0, 1.0]}}, "'fee' is used by a field of the account"),
        ({"carry": "yes"}, "carry is 'yes'"),
        ({"select": "best"}, "select is 'best'"),
        ({"snapshot": "demo"}, "takes a snapshot"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_half_written(tmp_path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        walked(tmp_path, **options)
    store = WalkForwardStore(tmp_path / "data")
    assert all(store.result(one) is None for one in store.ids())


def test_windows_of_one_length_compare_by_what_depends_on_it(tmp_path) -> None:
    result = walked(tmp_path, train="5 sessions", test="5 sessions", by="total_return")
    assert result.by == "total_return" and len(result.windows) == 4


def test_a_changed_file_is_found(tmp_path) -> None:
    result = walked(tmp_path)
    path = tmp_path / "data" / "walk_forwards" / result.walk_id / "result.json"
    path.write_text(path.read_text().replace('"number": 0', '"number": 1', 1).replace('"number": 3', '"number": 2', 1))
    with pytest.raises(IntegrityError, match="result.json is not as it was written"):
        lp.open_walk_forward(result.walk_id[:8], tmp_path / "data", result.snapshot.path.parent)


def test_a_snapshot_sealed_anew_is_found(tmp_path) -> None:
    import shutil

    result = walked(tmp_path)
    shutil.rmtree(result.snapshot.path)
    small.seal(tmp_path, {"A": [10.0] * 28}, snapshot_id=result.snapshot.id)
    with pytest.raises(IntegrityError, match="sealed anew"):
        lp.open_walk_forward(result.walk_id, tmp_path / "data", result.snapshot.path.parent)


def test_report_table_and_picture(tmp_path) -> None:
    result = walked(tmp_path)
    text = walk_forward_report(result)
    assert "<script" not in text and "Chosen by Sharpe in 4 windows" in text and result.run_id in text
    assert len(result.figure().axes) == 2
    assert list(result.table["number"]) == [0, 1, 2, 3] and result.table["candidate"].dtype == "Int64"
    lost = result.table["train"] - result.table["test"]
    pd.testing.assert_series_equal(lost, result.table["degradation"], check_names=False, check_dtype=False)
    with pytest.raises(InputError, match="there is no window 9"):
        result.sweep(9)


def test_between_tests_nothing_is_held(tmp_path) -> None:
    """Tests of 2 sessions every 4: in between the run is flat, and the days there move nothing."""
    result = walked(
        tmp_path, experiment=hold_all(), snapshot=small.seal(tmp_path, {"A": list(range(10, 38))}), grid={"n": [1]},
        train="10 sessions", test="2 sessions", step="4 sessions", by="cagr",
    )  # fmt: skip
    assert [one.window.rests for one in result.windows] == [True] * (len(result.windows) - 1) + [False]
    exposure = result.run.equity.set_index("ts")["exposure"]
    assert exposure[small.at(11)] > 0 and exposure[small.at(13)] == 0 and exposure[small.at(15)] > 0


def test_a_walk_forward_is_measured_by_its_own_rate(tmp_path) -> None:
    snapshot = market(tmp_path)
    plain, paid = walked(tmp_path, snapshot=snapshot), walked(tmp_path, snapshot=snapshot, risk_free=0.2)
    assert plain.run_id == paid.run_id and plain.walk_id != paid.walk_id
    assert paid.run.metrics == paid.content["metrics"] and paid.run.metrics["risk_free"] == 0.2
    assert plain.run.metrics["sharpe"] > paid.run.metrics["sharpe"]


def gated(tmp_path, gates, **options):
    from ledger_pipeline.selection.walk_forward_definition import define_walk_forward
    from ledger_pipeline.sweeps.definition import define

    swept = define(crossover(), GRID, keep="returns", gates=gates, **options)
    laid = {"train": "10 sessions", "test": "4 sessions", "purge": 0}
    return module.run_walk_forward(
        define_walk_forward(swept, laid), market(tmp_path), root=tmp_path / "data", engine="serial"
    )


def test_every_gate_counts_for_a_walk_forward(tmp_path) -> None:
    from ledger_pipeline.selection.promotion import excess_returns, walk_forward_gates
    from ledger_pipeline.selection.sharpe import min_track_record, probabilistic_sharpe

    asked = {
        "pbo": {"max": 1.0}, "deflated_sharpe": {"min": 0.5}, "probabilistic_sharpe": {"min": 0.99},
        "reality_check": {"max": 0.05}, "min_track_record": True, "min_backtest_length": True,
    }  # fmt: skip
    result = gated(tmp_path, asked, risk_free=0.1)
    found = {one.gate: one for one in walk_forward_gates(result)}
    assert set(found) == set(asked) and found["pbo"].met
    returns = excess_returns(result.run)
    year = result.run.metrics["periods_per_year"]
    plain = result.run.equity["equity"].pct_change().dropna().to_numpy()
    np.testing.assert_allclose(returns.to_numpy(), plain - (1.1 ** (1 / year) - 1), atol=1e-12)
    assert found["probabilistic_sharpe"].value == probabilistic_sharpe(returns)
    needed = min_track_record(returns)
    assert found["min_track_record"].met == (needed is not None and len(returns) >= needed)
    assert found["min_backtest_length"].met  # one walk-forward asks for no length
    assert "deflated by 1 walk-forward of the strategy" in found["deflated_sharpe"].sentence


def test_a_plan_that_was_changed_is_found(tmp_path) -> None:
    result = gated(tmp_path, {"probabilistic_sharpe": {"min": 1.0}})
    path = tmp_path / "data" / "walk_forwards" / result.walk_id / "plan.json"
    path.write_text(path.read_text().replace('"notes": [', '"notes": ["nothing", '))
    with pytest.raises(IntegrityError, match="does not describe walk-forward"):
        lp.open_walk_forward(result.walk_id, tmp_path / "data", result.snapshot.path.parent)


def test_candidates_that_all_fail_are_no_success(tmp_path) -> None:
    text = "\ndef strategy(ctx, params):\n    t = ctx.flat()\n    t['A'] = params['n'] / (params['n'] - params['n'])\n    return t\n"
    experiment = lp.experiment(text, params={"n": 1}, costs=[], name="broken")
    with pytest.raises(InputError, match=r"all 2 candidates failed in window 0 .*division"):
        walked(tmp_path, experiment=experiment, grid={"n": [1, 2]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "periods_basis"}, "there is no metric 'periods_basis'"),
        ({"train": "999999y"}, "longer than any data"),
        ({"train": None, "test": None, "windows": [{"train": 5, "test": ["2024-01-10", "2024-01-12"]}]}, "windows are written"),
        ({"train": None, "test": None, "windows": [{"train": ["2024-01-01", "2024-01-05"], "test": ["2024-01-10", "2099-01-12"]}]}, "goes beyond the data"),
        ({"train": None, "test": None, "scheme": "anchored", "windows": [{"train": ["2024-01-01", "2024-01-05"], "test": ["2024-01-10", "2024-01-12"]}]}, "not both"),
        ({"experiment": crossover(params_schedule=[{"start": "2024-01-05", "params": {"fast": 3}}])}, "params_schedule"),
    ],
)  # fmt: skip
def test_more_that_cannot_be(tmp_path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        walked(tmp_path, **options)


def test_live_it_chooses_for_the_test_that_is_to_come(tmp_path) -> None:
    """Tests of 4 from day 10 on: the fifth, from day 26, is not over on day 27, the last. With `live` its train window,
    days 16 to 25, chooses too; the stitched run is over on day 25 as before, and what follows is decided by the choice.
    """
    from decimal import Decimal

    from ledger_pipeline.trading.deployment.strategy import evaluate

    snapshot = market(tmp_path)
    plain, live = walked(tmp_path, snapshot=snapshot), walked(tmp_path, snapshot=snapshot, live=True)
    assert len(live.windows) == len(plain.windows) + 1 and live.walk_id != plain.walk_id
    last = live.windows[-1]
    assert last.window.pending and last.test is None and str(last.window.test_start) == small.day(26)
    assert (str(last.window.train_start), str(last.window.train_end)) == (small.day(16), small.day(25))
    assert live.run.equity["ts"].iloc[-1] == small.at(25)
    assert live.run.equity.equals(plain.run.equity) and live.run_id != plain.run_id
    experiment = stored_experiment(live.run.provenance)
    given = {"deployment": "x", "seed": 0, "cash": Decimal(1000), "positions": {}, "memory": {}, "ratios": {}}
    alone = crossover(params={**experiment.spec.params, **last.params})
    assert evaluate(experiment, snapshot, **given).orders == evaluate(alone, snapshot, **given).orders
    assert "-" in walk_forward_report(live) and live.figure() is not None


def test_a_test_that_begins_with_the_next_session_is_pending(tmp_path) -> None:
    """26 sessions: the test from day 26 on has none yet."""
    from ledger_pipeline_tests.sweeps.markets import PRICES

    snapshot = small.seal(tmp_path, {name: values[:26] for name, values in PRICES.items()})
    live = walked(tmp_path, snapshot=snapshot, live=True)
    last = live.windows[-1].window
    assert last.pending and last.test_sessions == 0 and str(last.test_start) == str(last.test_end) == small.day(26)
    assert len(walked(tmp_path, snapshot=snapshot).windows) == len(live.windows) - 1


def test_live_goes_with_lengths(tmp_path) -> None:
    pair = {"train": [small.day(0), small.day(9)], "test": [small.day(10), small.day(13)]}
    with pytest.raises(InputError, match="live goes with lengths"):
        walked(tmp_path, train=None, test=None, windows=[pair], live=True)
