"""Sweeps from Python: a candidate is the run that it would be, whatever engine, stop or neighbour."""

from __future__ import annotations

import json
import math

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError, RefusedError
from ledger_pipeline.simulation.promotions import promotion_of
from ledger_pipeline.strategy.experiment import with_params
from ledger_pipeline.sweeps.report import sweep_report
from ledger_pipeline_tests import small
from ledger_pipeline_tests.sweeps.markets import CROSSOVER, crossover, market

GRID = {"fast": [2, 3, 4], "slow": [4, 6]}


def made(tmp_path, **options):
    given = {"grid": GRID, "where": "fast < slow", "engine": "serial", "root": tmp_path / "data"} | options
    return lp.sweep(given.pop("experiment", crossover()), given.pop("snapshot", None) or market(tmp_path), **given)


def test_a_candidate_is_the_run_that_it_would_be(tmp_path) -> None:
    """Its id, ledger and metrics are those of lp.run with the same params, to the bit."""
    snapshot = market(tmp_path)
    sweep = made(tmp_path, snapshot=snapshot)
    frame = sweep.candidates
    assert [(row.fast, row.slow) for row in frame.itertuples()] == [(2, 4), (2, 6), (3, 4), (3, 6), (4, 6)]
    assert list(frame["number"]) == [0, 1, 2, 3, 4] and set(frame["status"]) == {"ok"}
    for row in frame.to_dict("records"):
        params = {"fast": row["fast"], "slow": row["slow"], "quantity": 10, "fee": 1.0}
        alone = lp.run(crossover(params=params), snapshot)
        assert row["id"] == alone.run_id
        for name, value in alone.metrics.items():
            if isinstance(value, int | float):
                assert row[name] == value
            elif value is None:
                assert math.isnan(row[name])
        again = sweep.run(row["id"])
        assert again.events.head == alone.events.head and again.metrics == alone.metrics


def test_an_experiment_with_other_params_is_that_experiment() -> None:
    """What refers to params follows them, also through a copy in another process."""
    import pickle

    changed = with_params(crossover(), {"fast": 3, "fee": 2.5})
    same = crossover(params={"fast": 3, "slow": 5, "quantity": 10, "fee": 2.5})
    assert changed.hash == same.hash and changed.costs == ({"fixed_fee": 2.5},)
    copy = pickle.loads(pickle.dumps(crossover()))
    assert with_params(copy, {"fast": 3, "fee": 2.5}).hash == same.hash and copy.hash == crossover().hash


def test_every_field_may_be_varied(tmp_path) -> None:
    """Costs, opening and universe: 10 of A bought on day 1 at 11 and held, so a fee of 3 leaves 3 less at the end."""
    hold = "\ndef strategy(ctx, params):\n    targets = ctx.flat()\n    targets['A'] = 10\n    return targets\n"
    experiment = lp.experiment(
        hold, params={"fee": 0.0, "cash": 500.0, "symbols": ["A"]}, costs=[{"fixed_fee": {"param": "fee"}}],
        opening={"cash": {"param": "cash"}}, universe={"param": "symbols"}, name="hold",
    )  # fmt: skip
    sweep = made(
        tmp_path, experiment=experiment, where=None,
        grid={"fee": [0.0, 3.0], "cash": [200.0, 500.0], "symbols": [["A"], ["A", "B"]]},
    )  # fmt: skip
    ends = {(row.fee, row.cash, len(row.symbols)): row.final_equity for row in sweep.candidates.itertuples()}
    worth = 10 * (18 - 11)
    assert ends == {(f, c, n): c + worth - f for f in (0.0, 3.0) for c in (200.0, 500.0) for n in (1, 2)}


def test_engines_stops_and_shards_give_the_same(tmp_path, monkeypatch) -> None:
    """The hash and every row, in one process or several, in one go or stopped in the middle."""
    import ledger_pipeline.sweeps.running as module
    from ledger_pipeline.sweeps.worker import Worker

    snapshot = market(tmp_path)
    one = made(tmp_path, snapshot=snapshot, keep="returns")
    several = made(tmp_path, snapshot=snapshot, keep="returns", engine="processes", workers=2, root=tmp_path / "b")
    assert one.hash == several.hash and one.candidates.equals(several.candidates) and one.series.equals(several.series)
    done = []
    shard = Worker.shard

    def stopping(self, which, points):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(which.index)
        return shard(self, which, points)

    monkeypatch.setattr(Worker, "shard", stopping)
    monkeypatch.setattr(module, "TARGET", 1e-9)  # a candidate a shard
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, snapshot=snapshot, keep="returns", root=tmp_path / "c")
    with pytest.raises(InputError, match="is not finished"):
        lp.open_sweep("crossover", tmp_path / "c", tmp_path)
    monkeypatch.setattr(
        Worker, "shard", lambda self, which, points: done.append(which.index) or shard(self, which, points)
    )
    resumed = made(tmp_path, snapshot=snapshot, keep="returns", root=tmp_path / "c")
    assert resumed.hash == one.hash and done == [0, 1, 2, 3, 4] and resumed.candidates.equals(one.candidates)
    assert lp.TrialRegister(tmp_path / "c").count() == 5


def test_what_is_finished_is_returned_at_once(tmp_path, monkeypatch) -> None:
    from ledger_pipeline.sweeps.worker import Worker

    first = made(tmp_path)
    monkeypatch.setattr(Worker, "__init__", lambda *a, **k: pytest.fail("nothing is left to do"))
    assert made(tmp_path).hash == first.hash


def test_a_candidate_that_fails_is_a_row(tmp_path) -> None:
    """A window of 0 is no feature, and a target that is no number is the strategy's fault; the others are made."""
    text = CROSSOVER.replace('params["quantity"]', 'params["quantity"] / (params["slow"] - 6)')
    sweep = made(tmp_path, experiment=crossover_of(text), grid={"fast": [0, 2], "slow": [4, 6]}, where=None)
    frame = sweep.candidates.set_index(["fast", "slow"])
    assert list(frame["status"]) == ["failed", "failed", "ok", "failed"]
    assert "window" in frame["error"][0, 4] and "ZeroDivisionError" in frame["error"][2, 6]
    assert frame["id"][0, 4] is None and frame["error"][2, 4] is None
    assert len(sweep.top("sharpe", 4)) == 4 and "failed" in sweep_report(sweep)
    assert sweep.counts == {"candidates": 4, "ok": 1, "no_trades": 0, "failed": 3}
    with pytest.raises(RefusedError, match="failed and is not promoted"):
        sweep.promote(3, label="bad", by="Ada", reason="no")


def test_a_sweep_of_which_all_fail_says_why(tmp_path) -> None:
    sweep = made(tmp_path, grid={"fast": [0, -1]}, where=None)
    assert "window" in sweep_report(sweep)
    with pytest.raises(InputError, match="all failed; the first: .*window"):
        sweep.top("sharpe")


def test_the_indicator_itself_may_be_varied(tmp_path) -> None:
    """And made again from the plan, it is the same."""
    features = {
        "fast": {"indicator": {"param": "kind"}, "window": {"param": "fast"}},
        "slow": {"indicator": "sma", "window": 5},
    }
    params = {"kind": "sma", "fast": 2, "quantity": 10, "fee": 1.0}
    sweep = made(
        tmp_path, experiment=crossover(features=features, params=params), grid={"kind": ["sma", "ema"]}, where=None
    )
    for number in (0, 1):
        assert sweep.run(number).run_id == sweep.candidates["id"][number]
    assert sweep.candidates["id"].nunique() == 2 and sweep.experiment(1).features[0].indicator.name == "ema"


@pytest.mark.parametrize("name", ["number", "id", "rank", "sharpe", "risk_free"])
def test_a_param_that_is_called_like_a_column_is_refused(tmp_path, name) -> None:
    experiment = crossover(
        params={"fast": 2, "slow": 5, "quantity": 10, name: 1.0}, costs=[{"fixed_fee": {"param": name}}]
    )
    with pytest.raises(InputError, match="call the param otherwise"):
        made(tmp_path, experiment=experiment, grid={name: [1.0, 2.0]}, where=None)


def test_a_shard_that_is_gone_is_made_again(tmp_path) -> None:
    sweep = made(tmp_path)
    next((tmp_path / "data" / "sweeps" / sweep.sweep_id / "shards").iterdir()).unlink()
    assert made(tmp_path).hash == sweep.hash and len(made(tmp_path).candidates) == 5


def test_a_period_outside_the_data_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="2050"):
        made(tmp_path, start="2050-01-01")
    assert not (tmp_path / "data").exists()


def crossover_of(text: str):
    return lp.experiment(
        text, params={"fast": 2, "slow": 5, "quantity": 10},
        features={name: {"indicator": "sma", "window": {"param": name}} for name in ("fast", "slow")}, costs=[],
        opening={"cash": 1000}, name="crossover",
    )  # fmt: skip


def test_candidates_without_a_trade_and_ties_are_shown_as_such(tmp_path) -> None:
    sweep = made(tmp_path, grid={"quantity": [0, 1, 2], "fast": [2, 3]}, where=None)
    frame = sweep.candidates
    assert list(frame["status"]) == ["no_trades", "no_trades", "ok", "ok", "ok", "ok"]
    assert frame["sharpe"].isna()[:2].all()
    top = sweep.top("sharpe", 6)
    assert list(top["rank"].dropna()) == [1, 2, 3, 4] and list(top["status"][-2:]) == ["no_trades", "no_trades"]
    fewest = sweep.top("trades", 6, ascending=True)
    assert list(fewest["rank"][:2]) == [1, 1]  # equal values have equal ranks
    with pytest.raises(InputError, match="there is no metric 'sharp'"):
        sweep.top("sharp")


def test_returns_and_equity_are_those_of_the_run(tmp_path) -> None:
    snapshot = market(tmp_path)
    alone = lp.run(crossover(), snapshot)
    from ledger_pipeline.analytics.returns import time_weighted_returns

    returns = made(tmp_path, snapshot=snapshot, grid={"fast": [2]}, where=None, keep="returns").returns
    assert returns.shape == (27, 1) and returns[alone.run_id].tolist() == time_weighted_returns(alone.equity).tolist()
    assert list(returns.index) == list(alone.equity["ts"][1:])
    equity = made(tmp_path, snapshot=snapshot, grid={"fast": [2]}, where=None, keep="equity").series
    assert equity[alone.run_id].tolist() == alone.equity["equity"].tolist()
    with pytest.raises(InputError, match="kept metrics only"):
        made(tmp_path, snapshot=snapshot).series  # noqa: B018


def test_a_period_is_part_of_a_sweep(tmp_path) -> None:
    snapshot = market(tmp_path)
    sweep = made(tmp_path, snapshot=snapshot, start=small.day(10), end=small.day(20))
    alone = lp.run(
        crossover(params={"fast": 2, "slow": 4, "quantity": 10, "fee": 1.0}),
        snapshot,
        start=small.day(10),
        end=small.day(20),
    )
    assert sweep.candidates["id"][0] == alone.run_id and sweep.candidates["sharpe"][0] == alone.metrics["sharpe"]
    assert sweep.sweep_id != made(tmp_path, snapshot=snapshot).sweep_id


def test_a_promoted_candidate_carries_what_it_was_chosen_from(tmp_path) -> None:
    snapshot = market(tmp_path)
    made(tmp_path, snapshot=snapshot, grid={"fast": [2], "slow": [7, 8]})  # two more trials
    sweep = made(tmp_path, snapshot=snapshot)
    best = sweep.top("sharpe", 1).iloc[0]
    run = sweep.promote(best["id"][:8], label="approved", by="Ada Byron", reason="flat around it")
    stored = lp.RunStore(tmp_path / "data")
    assert stored.ids() == [run.run_id] and stored.label(run.run_id)["label"] == "approved"
    assert stored.metrics(run.run_id) == json.loads(json.dumps(run.metrics))
    kept = promotion_of(tmp_path / "data", run.run_id)
    assert (kept.sweep, kept.candidate, kept.candidates, kept.trials) == (sweep.sweep_id, best["number"], 5, 7)
    assert kept.ranks["sharpe"] == 1 and kept.params == {"fast": best["fast"], "slow": best["slow"]}
    assert (kept.by, kept.reason) == ("Ada Byron", "flat around it")
    assert promotion_of(tmp_path / "data", "0" * 20) is None
    with pytest.raises(InputError, match="needs the name"):
        sweep.promote(0, label="x", by=" ", reason="y")
    with pytest.raises(NotFoundError, match="no candidate 'abcd'"):
        sweep.row("abcd")


def test_a_candidate_that_is_not_what_was_recorded_is_refused(tmp_path) -> None:
    """Another ledger under the recorded head: a shard whose rows were written anew, hash and all."""
    import pyarrow as pa

    from ledger_pipeline.sweeps import sweep_store

    sweep = made(tmp_path, grid={"fast": [2]}, where=None)
    store, shard = sweep_store.SweepStore(tmp_path / "data"), sweep_store.Shard(0, 0, 1)
    table = store.read(sweep.sweep_id, shard)
    place = table.column_names.index("ledger_head")
    forged = table.set_column(place, "ledger_head", pa.array(["f" * 64]))
    forged = forged.replace_schema_metadata({b"rows_sha256": sweep_store._rows_hash(forged).encode()})
    pa.parquet.write_table(forged, str(store.path(sweep.sweep_id) / "shards" / shard.name))
    fresh = lp.open_sweep("crossover", tmp_path / "data", tmp_path)
    with pytest.raises(IntegrityError, match="are not those of its result"):
        fresh.candidates  # noqa: B018
    result = store.result(sweep.sweep_id)
    store.finish(sweep.sweep_id, result | {"sweep_hash": sweep_store.rows_digest([store.read(sweep.sweep_id, shard)])})
    fresh = lp.open_sweep("crossover", tmp_path / "data", tmp_path)
    with pytest.raises(IntegrityError, match="ledger_head ffffffff"):
        fresh.promote(0, label="approved", by="Ada", reason="no")
    assert lp.RunStore(tmp_path / "data").ids() == []


def test_a_changed_shard_is_named(tmp_path) -> None:
    sweep = made(tmp_path)
    path = next((tmp_path / "data" / "sweeps" / sweep.sweep_id / "shards").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=path.name):
        lp.open_sweep("crossover", tmp_path / "data", tmp_path).candidates  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {"nothing": [1]}}, "neither the strategy nor a field of the experiment reads the param 'nothing'"),
        ({"grid": {"fast": ["a"]}}, "a text"),
        ({"where": "fast <"}, "is no expression"),
        ({"where": "fast > 99"}, "no point of the grid"),
        ({"search": "best"}, "search is 'best'"),
        ({"keep": "all"}, "keep is 'all'"),
        ({"engine": "spark"}, "engine is 'spark'"),
        ({"engine": "processes", "workers": 0}, "workers is 0"),
        ({"grid": {"fast": range(2, 30_000)}, "where": None}, "say --yes"),
        ({"name": "Not An Id"}, "sweep id"),
        ({"start": "yesterday"}, "start"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(tmp_path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        made(tmp_path, **options)
    assert not (tmp_path / "data" / "sweeps").exists() and not (tmp_path / "data" / "trials").exists()


def test_a_snapshot_that_is_sealed_anew_meanwhile_stops_it(tmp_path, monkeypatch) -> None:
    import shutil

    import ledger_pipeline.sweeps.running as module
    from ledger_pipeline.sweeps.worker import Worker

    snapshot = market(tmp_path, snapshot_id="mine")
    shard = Worker.shard

    def resealing(self, which, points):
        if which.index == 1:
            shutil.rmtree(tmp_path / "mine")
            small.seal(tmp_path, {"A": [1, 2, 3], "B": [1, 2, 3]}, snapshot_id="mine")
        return shard(self, which, points)

    monkeypatch.setattr(Worker, "shard", resealing)
    monkeypatch.setattr(module, "TARGET", 1e-9)
    with pytest.raises(IntegrityError, match="was sealed anew"):
        made(tmp_path, snapshot=snapshot)
    assert len(list((tmp_path / "data" / "sweeps").glob("*/shards/*"))) == 1  # what is finished is kept


def test_pictures_are_drawn_and_say_what_is_wrong(tmp_path) -> None:
    from ledger_pipeline.analytics.plots import png

    sweep = made(tmp_path)
    for figure in (
        sweep.heatmap("fast", "slow", "sharpe", chosen=1), sweep.parallel("cagr", chosen=1), sweep.slices("sharpe", 1),
        sweep.distribution("trades", chosen=1),
    ):  # fmt: skip
        assert png(figure).startswith(b"\x89PNG")
    with pytest.raises(InputError, match="does not vary 'quantity'"):
        sweep.heatmap("fast", "quantity", "sharpe")
    with pytest.raises(InputError, match="no metric 'x'"):
        sweep.parallel("x")
    near = sweep.neighbours(3)  # fast 3, slow 6: beside 2 and 4 at slow 6, and beside slow 4
    assert sorted(near["number"]) == [1, 2, 4]


def test_the_experiment_of_a_sweep_is_the_one_it_began_with(tmp_path) -> None:
    """Whatever the files say later, or whether there are any: the plan holds it."""
    sweep = made(tmp_path)
    reopened = lp.open_sweep(sweep.sweep_id[:6], tmp_path / "data", tmp_path)
    assert reopened.base.hash == crossover().hash and reopened.run(2).run_id == sweep.candidates["id"][2]


OPTUNA = {"optuna": {"trials": 20, "by": "total_return", "direction": "maximize", "seed": 3}}


def test_a_search_that_learns_is_the_same_everywhere(tmp_path, monkeypatch) -> None:
    """In one process or several, and stopped after a round; it finds the best of 28 pairs within 20."""
    import ledger_pipeline.sweeps.running as module

    snapshot = market(tmp_path)
    options = {
        "grid": {"fast": {"from": 2, "to": 9}, "slow": list(range(4, 12))},
        "search": OPTUNA,
        "snapshot": snapshot,
    }
    one = made(tmp_path, **options)
    frame = one.candidates
    assert len(frame) == 20 and not frame.duplicated(["fast", "slow"]).any() and (frame["fast"] < frame["slow"]).all()
    assert all(isinstance(value, int) for value in frame["fast"]) and frame["fast"].between(2, 9).all()
    several = made(tmp_path, **options, engine="processes", workers=2, root=tmp_path / "b")
    assert several.hash == one.hash and several.sweep_id == one.sweep_id

    learner, told = module.Learner.tell, []

    def once(self, values):
        if told:
            raise KeyboardInterrupt
        told.append(values)
        learner(self, values)

    monkeypatch.setattr(module.Learner, "tell", once)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, **options, root=tmp_path / "c")
    monkeypatch.undo()
    assert made(tmp_path, **options, root=tmp_path / "c").hash == one.hash
    everything = made(tmp_path, **options | {"search": "all", "grid": options["grid"] | {"fast": list(range(2, 10))}})
    assert frame["total_return"].max() >= everything.candidates["total_return"].quantile(0.9)


def test_a_small_grid_is_gone_through_once(tmp_path) -> None:
    assert len(made(tmp_path, search=OPTUNA).candidates) == 5


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"optuna": {"trials": 10}}, "write all, "),
        ({"optuna": {"trials": 0, "by": "sharpe"}}, "asks for no candidate"),
        ({"optuna": {"trials": 10, "by": "luck"}}, "there is no metric 'luck'"),
        ({"optuna": {"trials": 10, "by": "sharpe", "direction": "up"}}, "search optuna"),
        ({"optuna": 10}, "search optuna is 10"),
    ],
)
def test_a_search_that_learns_is_written_so(tmp_path, search, message) -> None:
    with pytest.raises(InputError, match=message):
        made(tmp_path, search=search)


def test_an_interval_of_a_whole_number_has_whole_ends(tmp_path) -> None:
    with pytest.raises(InputError, match="fast goes from 2.5 to 4"):
        made(tmp_path, grid={"fast": {"from": 2.5, "to": 4}, "slow": [6]}, search={"random": 2})
    drawn = made(
        tmp_path, grid={"fast": {"from": 2, "to": 4}, "slow": [6]}, search={"random": 3, "seed": 1}, where=None
    )
    assert sorted(drawn.candidates["fast"]) == [2, 3, 4]


def test_a_difference_makes_all_candidates_interpreted(tmp_path, monkeypatch) -> None:
    """A sampled candidate that is not the same compiled: the sweep is that of the interpreter, and says so."""
    from dataclasses import replace

    from ledger_pipeline.sweeps import evaluation

    snapshot = market(tmp_path)
    plain = made(tmp_path, snapshot=snapshot, compiled="never", root=tmp_path / "plain")
    real = evaluation.run

    def wrong(experiment, *arguments, compiled, **options):
        if compiled != "never":
            experiment = replace(
                experiment, spec=experiment.spec.model_copy(update={"params": experiment.spec.params | {"quantity": 9}})
            )
        return real(experiment, *arguments, compiled=compiled, **options)

    monkeypatch.setattr(evaluation, "run", wrong)
    found = made(tmp_path, snapshot=snapshot, compiled="always")
    assert found.hash == plain.hash and plain.warning is None
    assert "candidate 0: compiled and interpreted differ at 2024-" in found.warning
