"""Comparing runs: labels, what is taken for a run, and the report as a file."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

import ledger_pipeline as lp
from ledger_pipeline.analytics.compare import labels
from ledger_pipeline_tests import small

PRICES = {"A": [10.0, 11, 12, 11, 12, 13, 12, 14], "B": [20.0, 20, 21, 20, 19, 21, 22, 23]}
TEXT = "def strategy(ctx, params):\n    targets = ctx.flat()\n    targets['A'] = params['n']\n    return targets\n"


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory) -> list[lp.Snapshot]:
    root = tmp_path_factory.mktemp("snapshots")
    return [small.seal(root, PRICES, snapshot_id=name) for name in ("one", "two")]


def run(snapshot: lp.Snapshot, n: float = 1, seed: int = 0, name: str | None = "hold") -> lp.Run:
    return lp.run(lp.experiment(TEXT, params={"n": n}, costs=[], name=name), snapshot, seed=seed)


def test_labels_say_no_more_than_is_needed() -> None:
    def told(name: str, snapshot: str = "demo", seed: int = 0, run_id: str = "a" * 20) -> dict:
        return {"experiment": {"name": name}, "snapshot": {"id": snapshot}, "seed": seed, "run_id": run_id}

    assert labels([told("x"), told("y")]) == ["x", "y"]
    assert labels([told("x"), told("x", "other")]) == ["x on demo", "x on other"]
    assert labels([told("x"), told("x", seed=1)]) == ["x on demo, seed 0", "x on demo, seed 1"]
    assert labels([told("x"), told("x", run_id="b" * 20)]) == ["x aaaaaaaa", "x bbbbbbbb"]
    assert labels([]) == []
    with pytest.raises(lp.InputError, match="the same run is named more than once"):
        labels([told("x"), told("x")])


def test_runs_stay_in_the_order_given(snapshots) -> None:
    one, two = run(snapshots[0], 1, name="b"), run(snapshots[0], 2, name="a")
    comparison = lp.compare([one, two])
    assert list(comparison.table.columns) == ["b", "a"] == list(comparison.inputs.columns)
    assert comparison.inputs.loc["experiment.params.n"].tolist() == ["1", "2"]
    assert comparison.table.loc["final_equity"].tolist() == [run.metrics["final_equity"] for run in (one, two)]
    assert "params: n 1 / 2" in comparison.sentence
    assert list(lp.compare({"second": two, "first": one}).table.columns) == ["second", "first"]
    assert list(lp.compare(run for run in (one, two)).table.columns) == ["b", "a"]
    assert list(lp.compare({3: one, 5: two}).table.columns) == ["3", "5"]


def test_one_run_and_equal_runs(snapshots) -> None:
    one, two = (run(snapshot) for snapshot in snapshots)
    assert "nothing to compare it with" in lp.compare([one]).sentence
    # other names for the same content are no difference, and so the same run under two names
    assert one.run_id == two.run_id
    assert "Same inputs throughout" in lp.compare([one, two]).sentence


@pytest.mark.parametrize(
    "runs, told",
    [
        ([], "there are no runs to compare; name at least one"),
        ({}, "there are no runs to compare; name at least one"),
        (None, "compare takes a list of runs"),
        ("abcdef", "compare takes a list of runs"),
        (5, "compare takes a list of runs"),
        (["abcdef"], "'abcdef' is not a run"),
        ({"x": {"provenance": 1}}, "is not a run"),
    ],
)
def test_what_is_no_run_is_refused(runs, told) -> None:
    with pytest.raises(lp.InputError, match=told):
        lp.compare(runs)


def test_a_single_run_is_no_list(snapshots) -> None:
    with pytest.raises(lp.InputError, match="compare takes a list of runs"):
        lp.compare(run(snapshots[0]))


def test_stored_runs_compare_like_fresh_ones(snapshots, tmp_path: Path) -> None:
    fresh = [run(snapshots[0], n) for n in (1, 2)]
    for one in fresh:
        one.save(tmp_path)
    store = lp.RunStore(tmp_path)
    stored = [store.open(one.run_id, snapshots[0].path.parent) for one in fresh]
    known, again = lp.compare(fresh), lp.compare(stored)
    assert again.sentence == known.sentence
    assert again.table.equals(known.table) and again.inputs.equals(known.inputs)


class _References(HTMLParser):
    """What a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found += [value for key, value in attrs if key in ("src", "href") and not value.startswith(("data:", "#"))]


def test_the_report_is_one_file_that_loads_nothing(snapshots, tmp_path: Path) -> None:
    comparison = lp.compare({"<b>&'\"": run(snapshots[0], 1), "ü 2": run(snapshots[0], 2)})
    path = comparison.save(str(tmp_path / "deep" / "report.html"))
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "deep" / "report.html" and page == comparison.html
    references = _References()
    references.feed(page)
    assert references.found == []
    assert "<b>&'" not in page and "ü 2" in page
    assert "def strategy" not in page
    for one in comparison.runs:
        assert one.provenance["run_id"] in page


def test_a_notebook_shows_the_sentence_and_the_table(snapshots) -> None:
    comparison = lp.compare({"<x>": run(snapshots[0], 1), "y": run(snapshots[0], 2)})
    shown = comparison._repr_html_()
    assert "other params: n 1 / 2" in shown and "<table" in shown and "<x>" not in shown
    assert repr(comparison) == "Comparison of <x>, y. Same snapshot, same strategy; other params: n 1 / 2."
