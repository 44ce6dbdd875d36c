"""The Python API as a notebook uses it: `import ledger_pipeline as lp`, and a strategy that is defined in a cell."""

from __future__ import annotations

import inspect
import itertools
import linecache
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline_tests import small

CELL = """
import numpy as np

STEP = 3

def above(ctx, params):
    targets = ctx.flat()
    for symbol in ctx.universe:
        if ctx.close(symbol) > ctx.feature(symbol, "sma"):
            targets[symbol] = params["quantity"] * STEP
            targets.because(symbol, "ABOVE_SMA")
    return targets
"""
FEATURES = {"sma": {"indicator": "sma", "window": {"param": "window"}}}


class Notebook:
    """What a notebook is to a function: cells run in `__main__`, their text known to linecache and nowhere else."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.count = itertools.count(1)

    def run(self, text: str) -> None:
        filename = f"/tmp/ipykernel_1/{next(self.count)}.py"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), self.names)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> lp.Snapshot:
    """60 days of A and B; B is listed late."""
    rng = np.random.default_rng(1)
    a, b = (np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.02, 60))), 2).tolist() for _ in "AB")
    return small.seal(tmp_path_factory.mktemp("snapshots"), {"A": a, "B": [None] * 10 + b[10:]}, snapshot_id="sixty")


@pytest.fixture
def run(notebook, snapshot) -> lp.Run:
    notebook.run(CELL)
    made = lp.experiment(
        notebook.names["above"], params={"quantity": 10, "window": 5}, features=FEATURES, costs=[{"fixed_fee": 1}],
        benchmark="A",
    )  # fmt: skip
    return lp.run(made, snapshot, seed=4)


# names


def test_every_public_name_is_there_and_documented() -> None:
    for name in lp.__all__:
        value = getattr(lp, name)
        assert name == "__version__" or inspect.getdoc(value), name
    assert dir(lp) == sorted(lp.__all__)
    assert {"seal", "open_snapshot", "experiment", "run", "compare", "preflight", "replay"} <= set(dir(lp))
    with pytest.raises(AttributeError, match="no attribute 'backtest'"):
        lp.backtest  # noqa: B018


def test_star_import_and_a_light_import() -> None:
    program = (
        "import sys, ledger_pipeline\n"
        "heavy = {'pandas', 'numba', 'matplotlib', 'scipy', 'dagster', 'duckdb', 'ta'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from ledger_pipeline import *\n"
        "assert callable(run) and callable(compare)\n"
        "assert 'dagster' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# a strategy in a cell


def test_a_strategy_from_a_cell_runs(notebook, run) -> None:
    assert run.provenance["experiment"]["name"] == "above"
    assert run.provenance["experiment"]["captured"] == {"STEP": 3}
    assert run.provenance["tier"] == 2 and "STEP" in " ".join(run.provenance["tier_reasons"])
    assert run.provenance["seed"] == 4
    assert run.fills["quantity"].unique().tolist() == [30.0]
    verdict = lp.preflight(notebook.names["above"])
    assert verdict.tier == 2 and "STEP" in verdict.reasons[0].message


def test_another_value_in_another_cell_is_another_experiment(notebook, snapshot) -> None:
    notebook.run(CELL)
    options = {"params": {"quantity": 10, "window": 5}, "features": FEATURES, "costs": []}
    first = lp.experiment(notebook.names["above"], **options)
    notebook.run("STEP = 4")
    second = lp.experiment(notebook.names["above"], **options)
    assert first.hash != second.hash
    assert [lp.run(made, snapshot).fills["quantity"].iloc[0] for made in (first, second)] == [30.0, 40.0]


def test_a_cell_that_is_run_again_gives_the_new_function(notebook, snapshot) -> None:
    made = []
    for text in (CELL, CELL.replace(">", "<")):
        notebook.run(text)
        made.append(
            lp.experiment(notebook.names["above"], params={"quantity": 1, "window": 5}, features=FEATURES, costs=[])
        )
    assert made[0].hash != made[1].hash
    assert lp.run(made[0], snapshot).run_id != lp.run(made[1], snapshot).run_id


def test_a_cell_with_a_helper_says_what_to_do(notebook) -> None:
    notebook.run("def helper(x):\n    return x\n\ndef uses(ctx, params):\n    return helper(ctx.flat())\n")
    with pytest.raises(lp.RefusedError, match="helper"):
        lp.experiment(notebook.names["uses"], costs=[])


def test_a_strategy_that_fails_says_where(notebook, snapshot) -> None:
    notebook.run("def bad(ctx, params):\n    x = 1\n    return ctx.close('Z')\n")
    with pytest.raises(lp.InputError, match=r"strategy 'bad' at pulse 1 \(2024-01-01T00:00:00\+00:00\).*line 3.*'Z'"):
        lp.run(lp.experiment(notebook.names["bad"], costs=[]), snapshot)


# the frames

COLUMNS = {
    "fills": "seq occurred_at strategy symbol side quantity price fee cash_delta order_id reasons",
    "trades": "strategy symbol side opened_at closed_at quantity entry_price exit_price fees pnl trade_return",
    "lots": "strategy symbol side quantity opened_at open_price open_fee closed_at close_price close_fee realised "
    "open_order_id close_order_id",
    "equity": "ts cash positions_value equity flow exposure realised unrealised fees income",
    "ledger": "book seq event_id kind occurred_at strategy symbol side quantity price fee cash_delta order_id "
    "broker_order_id fill_id correlation_id causation_id reasons payload schema_version",
}
TIMES = {"ts", "occurred_at", "opened_at", "closed_at"}
NUMBERS = set(
    "quantity price fee cash_delta entry_price exit_price fees pnl trade_return open_price open_fee close_price "
    "close_fee realised cash positions_value equity flow exposure unrealised income".split()
)


@pytest.mark.parametrize("name", COLUMNS)
def test_frames_have_plain_indices_and_utc_times(run, name) -> None:
    frame = getattr(run, name)
    assert list(frame.columns) == COLUMNS[name].split()
    assert len(frame) > 3 and list(frame.index) == list(range(len(frame)))
    for column in TIMES & set(frame.columns):
        assert str(frame[column].dtype) == "datetime64[us, UTC]", column
    for column in NUMBERS & set(frame.columns):
        assert frame[column].dtype == np.float64, column
    assert getattr(run, name) is frame  # made once


def test_a_run_without_a_fill_has_the_same_columns(snapshot) -> None:
    none = lp.run(lp.experiment("def strategy(ctx, params):\n    return ctx.flat()\n", costs=[]), snapshot)
    for name, columns in COLUMNS.items():
        frame = getattr(none, name)
        assert list(frame.columns) == columns.split()
        for column in TIMES & set(frame.columns):
            assert str(frame[column].dtype) == "datetime64[us, UTC]", column
        for column in NUMBERS & set(frame.columns):
            assert frame[column].dtype == np.float64, column
    assert len(none.fills) == len(none.trades) == len(none.lots) == 0 and len(none.equity) == 60
    assert none.metrics["total_return"] == 0
    assert none.warnings == ["no order was filled in the whole run"]


def test_what_a_run_says_of_itself(run, snapshot) -> None:
    assert run.provenance["snapshot"] == {"id": "sixty", "hash": snapshot.hash}
    assert run.metrics["final_equity"] == run.equity["equity"].iloc[-1]
    assert {"total_return", "sharpe", "max_drawdown", "alpha", "beta"} <= set(run.metrics)
    assert run.fills["quantity"].sum() > 0
    assert sum(run.lots["closed_at"].isna()) <= 2
    state = lp.reconstruct(run.events, at="2024-02-01T00:00:00Z")
    row = run.equity[run.equity["ts"] == pd.Timestamp("2024-02-01T00:00:00Z")].iloc[0]
    assert state.cash == row["cash"]


# seal, open, save, replay, compare


def test_seal_a_frame_and_open_it(tmp_path: Path) -> None:
    frame = small.bars({"A": [10, 11, 12]})
    frame.index = [7, 7, 9]  # an index of any kind is no part of it
    before = frame.copy()
    sealed = lp.seal(frame, snapshot_id="three", root=tmp_path, source={"by": "hand"})
    pd.testing.assert_frame_equal(frame, before)
    opened = lp.open_snapshot("three", root=tmp_path)
    assert opened.hash == sealed.hash == lp.verify("three", root=tmp_path).hash
    assert opened.symbols == ("A",) and opened.bars["close"].tolist() == [10.0, 11.0, 12.0]
    assert str(opened.bars["ts"].dtype) == "datetime64[us, UTC]"
    with pytest.raises(lp.NotFoundError, match="three"):
        lp.open_snapshot("four", root=tmp_path)


def test_save_open_and_replay(run, snapshot, tmp_path: Path) -> None:
    run.save(tmp_path)
    run.save(tmp_path)  # harmless
    stored = lp.RunStore(tmp_path).open(run.run_id, snapshot.path.parent)
    pd.testing.assert_frame_equal(stored.fills, run.fills)
    pd.testing.assert_frame_equal(stored.equity, run.equity)
    assert stored.metrics == run.metrics
    again = lp.replay(run.run_id, root=tmp_path, snapshots=snapshot.path.parent)
    assert again.same and again.first_difference is None
    function = lp.extract(
        stored.provenance["strategy_text"], stored.provenance["experiment"]["strategy_hash"], trust=True,
        captured=stored.provenance["experiment"]["captured"],
    )  # fmt: skip
    assert function.__name__ == "above"


def test_an_extracted_strategy_is_the_same_experiment(run, snapshot) -> None:
    told = run.provenance["experiment"]
    function = lp.extract(run.provenance["strategy_text"], told["strategy_hash"], trust=True, captured=told["captured"])
    made = lp.experiment(function, params=told["params"], features=FEATURES, costs=told["costs"])
    assert made.hash == told["hash"]


def test_a_sweep_is_a_comprehension(notebook, snapshot, tmp_path: Path) -> None:
    notebook.run(CELL)
    runs = {
        f"window {window}": lp.run(
            lp.experiment(
                notebook.names["above"],
                params={"quantity": 10, "window": window},  # a numpy integer
                features=FEATURES,
                costs=[],
            ),
            snapshot,
        )
        for window in np.arange(5, 20, 5)
    }
    comparison = lp.compare(runs)
    assert list(comparison.table.columns) == ["window 5", "window 10", "window 15"]
    assert "window 5 / 10 / 15" in comparison.sentence
    path = comparison.save(tmp_path / "reports" / "sweep.html")
    assert path.read_text(encoding="utf-8").startswith("<!")


def test_an_indicator_from_a_cell(notebook, snapshot, tmp_path: Path) -> None:
    notebook.run("def half(bars, by=2):\n    return bars['close'] / by\n")
    text = "def strategy(ctx, params):\n    return ctx.targets(0 * ctx.feature_values('h'))\n"
    features = {"h": {"indicator": notebook.names["half"], "basis": "price", "warmup": 1, "by": 4}}
    run = lp.run(lp.experiment(text, costs=[], features=features), snapshot)
    assert run.provenance["experiment"]["features"]["h"]["params"] == {"by": 4}
    own = {"half": lp.user_indicator(notebook.names["half"], basis="price", warmup=1)}
    same = lp.experiment(text, costs=[], features={"h": {"indicator": "half", "by": 4}}, indicators=own)
    assert same.hash == run.provenance["experiment"]["hash"]
    run.save(tmp_path)
    assert lp.replay(run.run_id, root=tmp_path, snapshots=snapshot.path.parent, indicators=own).same


def test_errors_are_one_family() -> None:
    for name in ("InputError", "RefusedError", "NotFoundError", "IntegrityError", "StorageError"):
        assert issubclass(getattr(lp, name), lp.LedgerPipelineError)
    assert [getattr(lp, name).exit_code for name in ("InputError", "RefusedError", "NotFoundError")] == [2, 3, 4]
