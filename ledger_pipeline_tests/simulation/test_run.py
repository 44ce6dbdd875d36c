"""A run: its identity, its frames, its metrics, and what it refuses."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.simulation.run import frozen, identify
from ledger_pipeline.simulation.simulator import ENGINE_VERSION
from ledger_pipeline_tests import small

PRICES = {"A": [10, 11, 12, 11, 13], "B": [20, 21, 22, 23, 24]}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> lp.Snapshot:
    return small.seal(tmp_path_factory.mktemp("run"), PRICES)


def test_identity_is_snapshot_experiment_seed_and_engine(snapshot) -> None:
    experiment = small.planned({0: {"A": 1}}, seed=7)
    run = lp.run(experiment, snapshot)
    told = {"snapshot_hash": snapshot.hash, "experiment_hash": experiment.hash, "seed": 7, "engine": ENGINE_VERSION,
            "libraries": {name: version(name) for name in ("numpy", "numba", "pandas", "pyarrow", "ta-lib")}}  # fmt: skip
    assert run.provenance["run_hash"] == hash_json(told) == identify(experiment, snapshot).hash
    assert run.run_id == hash_json(told)[:20]
    assert identify(experiment, snapshot, seed=8).run_id != run.run_id


def test_names_and_the_benchmark_change_no_identity(snapshot) -> None:
    plain = small.planned({0: {"A": 1}})
    named = small.planned({0: {"A": 1}}, name="other", description="words", benchmark="B")
    assert identify(plain, snapshot) == identify(named, snapshot)


@pytest.mark.parametrize(
    "other",
    [{"costs": [{"fixed_fee": 1}]}, {"risk": ["long_only"]}, {"opening": {"cash": 1001}}, {"universe": ["B", "A"]},
     {"cash_rule": "allow_negative"}, {"deposits": [{"amount": 1, "every": "month"}]}, {"reasons": {"A": ["X"]}},
     {"features": {"sma": {"indicator": "sma", "window": 2}}}],
)  # fmt: skip
def test_all_that_affects_results_changes_the_identity(snapshot, other) -> None:
    assert identify(small.planned({0: {"A": 1}}), snapshot) != identify(small.planned({0: {"A": 1}}, **other), snapshot)


def test_provenance_says_what_it_ran_on(snapshot) -> None:
    run = lp.run(small.planned({0: {"A": 1}}, costs=[{"fixed_fee": 1}], name="mine"), snapshot, seed=5)
    told = run.provenance
    assert told["snapshot"] == {"id": snapshot.id, "hash": snapshot.hash} and told["seed"] == 5
    assert told["experiment"]["name"] == "mine" and told["experiment"]["costs"] == [{"fixed_fee": 1.0}]
    assert told["ledger_head"] == run.events.head and told["events"] == len(run.events) and told["pulses"] == 5
    assert told["tier"] == 2 and "def strategy" in told["strategy_text"]
    assert {"python", "numpy", "pandas", "numba"} <= set(told["versions"])


def test_frames_have_the_columns_of_the_design(snapshot) -> None:
    run = lp.run(small.planned({0: {"A": 1}, 2: {"A": 0}}), snapshot)
    assert list(run.fills) == (
        "seq occurred_at strategy symbol side quantity price fee cash_delta order_id reasons".split()
    )
    assert (
        list(run.lots)
        == (
            "strategy symbol side quantity opened_at open_price open_fee closed_at close_price close_fee realised "
            "open_order_id close_order_id"
        ).split()
    )
    assert list(run.trades) == (
        "strategy symbol side opened_at closed_at quantity entry_price exit_price fees pnl trade_return".split()
    )
    assert list(run.equity) == ("ts cash positions_value equity flow exposure realised unrealised fees income".split())
    assert len(run.ledger) == len(run.events) and run.equity["ts"].dtype == "datetime64[us, UTC]"


def test_a_run_without_a_fill_has_metrics(snapshot) -> None:
    run = lp.run(small.planned({}), snapshot)
    metrics = run.metrics
    assert metrics["total_return"] == 0 and metrics["trades"] == 0 and metrics["win_rate"] is None
    assert metrics["sharpe"] is None and metrics["time_in_market"] == 0 and metrics["costs"] == 0
    assert run.fills.empty and run.lots.empty and run.trades.empty
    assert run.warnings == ["no order was filled in the whole run"]


@pytest.mark.parametrize(
    ("closes", "plan", "equity", "expected"),
    [
        # hold 2 from the second bar on, open at the end
        ([100, 101, 105, 110, 108], {0: 2}, [1000, 1000, 1008, 1018, 1014],
         {"total_return": 0.014, "max_drawdown": -0.00392927308448, "trades": 0, "time_in_market": 0.8}),
        # one unit, a loss of 4
        ([100, 105, 101, 101, 101], {0: 1, 1: 0}, [1000, 1000, 996, 996, 996],
         {"total_return": -0.004, "trades": 1, "win_rate": 0.0, "average_trade": -4.0, "time_in_market": 0.2}),
        # bought and never moved
        ([100, 101, 101, 101, 101], {0: 2}, [1000] * 5,
         {"total_return": 0.0, "sharpe": None, "time_in_market": 0.8, "trades": 0}),
        ([100, 101, 103, 102, 105, 106], {0: 1}, [1000, 1000, 1002, 1001, 1004, 1005],
         {"total_return": 0.005, "max_drawdown": -0.000998003992016}),
    ],
)  # fmt: skip
def test_published_runs(tmp_path, closes, plan, equity, expected) -> None:
    run = small.play(tmp_path, {"A": closes}, {t: {"A": quantity} for t, quantity in plan.items()})
    assert run.equity["equity"].tolist() == equity
    for name, value in expected.items():
        assert run.metrics[name] == (value if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)), name


def test_two_instruments(tmp_path) -> None:
    """A 100, 101, 103, 103, 103 x 1 and B 50, 52, 49, 49, 49 x 2, sold at the third open: + 2 and - 6."""
    run = small.play(
        tmp_path,
        {"A": [100, 101, 103, 103, 103], "B": [50, 52, 49, 49, 49]},
        {0: {"A": 1, "B": 2}, 1: {"A": 0, "B": 0}},
    )
    assert run.equity["equity"].iloc[-1] == 996
    assert (run.metrics["trades"], run.metrics["win_rate"], run.metrics["average_trade"]) == (2, 0.5, -2.0)


def test_positions_after_a_buy_and_a_sell_with_fees(tmp_path) -> None:
    """2 at 100 and 1 out at 110, fee 1 each: cash 1000 - 201 + 109 = 908, and one share worth 102."""
    run = small.play(tmp_path, {"A": [100, 100, 110, 102]}, {0: {"A": 2}, 1: {"A": 1}}, costs=[{"fixed_fee": 1}])
    state = lp.reconstruct(run.events)
    assert (state.cash, state.positions) == (908.0, {"A": 1.0})
    assert run.equity["positions_value"].iloc[-1] == 102


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"universe": ["A", "ZZZ"]}, "ZZZ"),
        ({"opening": {"cash": 1, "positions": {"ZZZ": 1}, "cost_basis": {"ZZZ": 1}}}, "ZZZ"),
        ({"universe": ["A"], "opening": {"cash": 1, "positions": {"B": 1}, "cost_basis": {"B": 1}}}, "'B'"),
    ],
)
def test_an_unknown_symbol_is_an_input_error(snapshot, options, says) -> None:
    with pytest.raises(lp.InputError, match=says):
        lp.run(small.planned({}, **options), snapshot)


def test_a_benchmark_that_the_snapshot_lacks_is_warned_of(snapshot) -> None:
    run = lp.run(small.planned({0: {"A": 1}}, benchmark="ZZZ"), snapshot)
    assert len(run.fills) == 1 and "benchmark_return" not in run.metrics
    assert [text for text in run.warnings if "the benchmark 'ZZZ' is not in snapshot" in text]


def test_the_grid_is_not_changed_by_runs(snapshot) -> None:
    experiment = small.planned({0: {"A": 1}, 1: {"B": 2}})
    first = lp.run(experiment, snapshot).events.head
    for other in ({0: {"B": 3}}, {0: {"A": -3}}):
        lp.run(small.planned(other, universe=["B", "A"]), snapshot)
    assert lp.run(experiment, snapshot).events.head == first


def test_params_are_frozen_all_the_way() -> None:
    value = frozen({"a": [1, {"b": [2]}], "c": "x"})
    assert value["a"] == (1, {"b": (2,)}) and value["c"] == "x"
    with pytest.raises(TypeError):
        value["a"][1]["b"] = 3


def test_names_in_place_of_an_experiment_or_a_snapshot(snapshot) -> None:
    made = lp.experiment("def strategy(ctx, params):\n    return ctx.hold()\n", costs=[], name="hold")
    for given in ((made, "demo"), ("hold", snapshot)):
        with pytest.raises(lp.InputError, match=r"run takes an experiment and a snapshot, not .*str.*open_snapshot"):
            lp.run(*given)
