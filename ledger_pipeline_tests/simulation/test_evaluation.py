"""Two experiments that differ in name, benchmark or risk-free rate alone are one run, measured twice."""

from __future__ import annotations

import pytest

import ledger_pipeline as lp
from ledger_pipeline.analytics.sql import query
from ledger_pipeline_tests import small
from ledger_pipeline_tests.cli.console import call, told
from ledger_pipeline_tests.projects import EXPERIMENTS, write_experiment

TEXT = "def strategy(ctx, params):\n    return ctx.targets([1, 0])\n"
PRICES = {"A": [10.0, 11, 12, 13, 14, 13], "B": [20.0, 20, 22, 20, 21, 21]}


def measured(root, name: str, benchmark: str | None, risk_free: float = 0.0) -> lp.Run:
    made = lp.experiment(TEXT, costs=[], name=name, benchmark=benchmark, risk_free=risk_free)
    return lp.run(made, lp.open_snapshot("one", root=root / "snapshots"))


@pytest.fixture
def root(tmp_path):
    small.seal(tmp_path / "snapshots", PRICES, snapshot_id="one")
    return tmp_path


@pytest.mark.parametrize(
    "other", [("second", "A", 0.0), ("first", "B", 0.0), ("first", None, 0.0), ("first", "A", 0.02)]
)
def test_a_second_evaluation_leaves_the_first_as_it_is(root, other) -> None:
    store = lp.RunStore(root / "data")
    first, second = measured(root, "first", "A"), measured(root, *other)
    assert first.run_id == second.run_id
    first.save(root / "data")
    before = {path: path.read_bytes() for path in (root / "data" / "runs").rglob("*") if path.is_file()}
    second.save(root / "data")
    second.save(root / "data")
    assert before == {path: path.read_bytes() for path in (root / "data" / "runs").rglob("*") if path.is_file()}
    (own, metrics), (added, others) = store.evaluations(first.run_id)
    assert (own.name, own.benchmark, own.risk_free, metrics) == ("first", "A", 0.0, first.metrics)
    assert (added.name, added.benchmark, added.risk_free, others) == (*other, second.metrics)
    again = store.open(first.run_id, root / "snapshots", added)
    assert again.metrics == second.metrics and again.events.head == first.events.head
    run_id, by = store.measured(f"{first.run_id}/{added.key}")
    assert store.open(run_id, root / "snapshots", by).metrics == second.metrics
    with pytest.raises(lp.NotFoundError, match="no evaluation 'abc'"):
        store.measured(f"{first.run_id}/abc")
    assert lp.replay(first.run_id, root=root / "data", snapshots=root / "snapshots").same


def test_sql_has_a_row_of_metrics_for_each(root) -> None:
    for name, benchmark in (("first", "A"), ("second", "B"), ("third", None)):
        measured(root, name, benchmark).save(root / "data")
    found = query("select * from metrics order by experiment", root / "data", root / "snapshots")
    assert list(found["experiment"]) == ["first", "second", "third"] and found["latest"].all()
    assert found["run_id"].nunique() == 1 and (found["snapshot"] == "one").all()
    assert found["beta"].notna().tolist() == [True, True, False]
    assert list(found["beta"].iloc[:2]) == [measured(root, "x", name).metrics["beta"] for name in "AB"]
    assert found["trades"].dtype.kind == "i"
    assert len(query("select * from runs", root / "data", root / "snapshots")) == 1


def test_the_command_line_tells_each_under_its_own_name(small) -> None:
    write_experiment(small.root, "twin", EXPERIMENTS["fast"].replace("benchmark: IBM", "benchmark: AAPL"))
    before = told("runs", "list")
    made = told("run", "twin", "--snapshot", "small")
    assert [row["provenance"]["experiment"]["name"] for row in made] == ["twin"]
    after = told("runs", "list")
    assert [row for row in after if row["provenance"]["experiment"]["name"] != "twin"] == before
    twin = next(row for row in after if row["provenance"]["experiment"]["name"] == "twin")
    fast = next(row for row in after if row["provenance"]["experiment"]["name"] == "fast")
    assert twin["run_id"] == fast["run_id"] and twin["metrics"]["beta"] != fast["metrics"]["beta"]
    assert twin["provenance"]["experiment"]["benchmark"] == "AAPL"
    shown = {name: told("runs", "show", name) for name in ("twin", "fast")}
    assert shown["twin"]["metrics"] == twin["metrics"] and shown["fast"]["metrics"] == fast["metrics"]
    compared = told("compare", "fast", "twin")
    assert [row["metrics"]["beta"] for row in compared["runs"]] == [fast["metrics"]["beta"], twin["metrics"]["beta"]]
    assert "1 of 1 stored already" in call("run", "twin", "--snapshot", "small").stderr


@pytest.mark.parametrize("universe", [None, ["A", "B"], ["A"]])
def test_a_risk_free_series_that_can_be_traded_is_told(root, universe) -> None:
    text = "def strategy(ctx, params):\n    return ctx.flat()\n"
    made = lp.experiment(text, costs=[], universe=universe, risk_free={"series": "B", "unit": "percent"})
    run = lp.run(made, lp.open_snapshot("one", root=root / "snapshots"))
    told_of = [warning for warning in run.warnings if "'B' is in the universe" in warning]
    assert len(told_of) == (universe != ["A"])
