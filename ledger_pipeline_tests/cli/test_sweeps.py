"""sweep run | list | show | top | heatmap | promote | delete, as they are typed, and what becomes of them in the graph."""

from __future__ import annotations

import dagster as dg
import pytest
import yaml

from ledger_pipeline.defs.launch import instance
from ledger_pipeline.defs.partitions import run_key, sweep_key
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.trading.deployment.promote import promote
from ledger_pipeline_tests.cli.console import call, refused, told

SWEEP = "experiment: fast\ngrid: {window: {from: 3, to: 9, step: 2}, quantity: [5, 10]}\nwhere: window < 9\n"
RUN = ("sweep", "run", "windows", "--snapshot", "small", "--engine", "serial")


@pytest.fixture
def windows(small):
    """The small project with the file of a sweep."""
    folder = small.strategies / "sweeps"
    folder.mkdir(exist_ok=True)
    (folder / "windows.yaml").write_text(SWEEP)
    return small


def events(project, asset: str, key) -> list[dg.EventLogRecord]:
    with instance(project) as records:
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[str(key)])
        return list(records.fetch_materializations(wanted, limit=10).records)


def test_from_a_file_to_a_run_that_may_be_deployed(windows) -> None:
    assert told("sweep", "list") == {"sweeps": [], "files_never_run": ["crossover", "windows"]}
    summary = told(*RUN)
    assert (summary["candidates"], summary["ok"], summary["failed"]) == (6, 6, 0)
    assert summary["trials"] == 6 + 1  # and the run of `slow`, which is of the same strategy; `fast` is a candidate
    made = events(windows, "sweep", sweep_key("small", "windows"))[0].asset_materialization
    assert made.metadata["sweep_hash"].value == summary["sweep_hash"] and made.metadata["trials"].value == 7
    assert "data:image/png" in made.metadata["heat map"].value
    report = events(windows, "sweep_report", sweep_key("small", "windows"))[0].asset_materialization
    text = (windows.data / "reports" / "sweep-windows-small.html").read_text()
    assert report.metadata["report"].value.endswith("sweep-windows-small.html") and "<script" not in text
    assert "7 distinct candidates" in text

    best = told("sweep", "top", "windows", "--by", "sharpe", "-n", "1")[0]
    assert best["rank"] == 1
    picture = told("sweep", "heatmap", "windows", "window", "quantity", "--out", str(windows.root / "map.svg"))
    assert (windows.root / "map.svg").read_text().startswith("<svg") and picture["path"].endswith("map.svg")

    kept = told(
        "sweep", "promote", "windows", best["id"][:8], "--label", "approved", "--by", "Ada Byron", "--reason", "flat"
    )
    written = yaml.safe_load((windows.strategies / "experiments" / "approved.yaml").read_text())
    assert written["params"] == {"window": best["window"], "quantity": best["quantity"]}
    assert kept["run_id"] == best["id"] and kept["trials"] == 7 and kept["ranks"]["sharpe"] == 1
    assert RunStore(windows.data).label(best["id"])["label"] == "approved"
    decided = events(windows, "promoted_run", run_key("small", "approved"))[0].asset_materialization
    assert decided.metadata["trials"].value == 7 and decided.metadata["by"].value == "Ada Byron"
    ledger = events(windows, "run_ledger", run_key("small", "approved"))[0].asset_materialization
    assert ledger.metadata["run_id"].value == best["id"]

    deployed = promote(windows, best["id"], by="Ada Byron", reason="six months on paper", name="approved")
    chosen = deployed.pinned.chosen_from
    assert (chosen.sweep, chosen.candidate, chosen.trials) == (summary["sweep_id"], best["number"], 7)
    assert "chosen_from" in str(deployed.pinned.model_dump())

    assert told(*RUN)["sweep_hash"] == summary["sweep_hash"]  # at once: nothing is left to do
    assert told("sql", "select count(*) n, max(sharpe) s from candidates")[0] == {"n": 6, "s": best["sharpe"]}
    assert told("sql", "select name, ok from sweeps") == [{"name": "windows", "ok": 6}]
    assert told("sql", "select count(distinct run_id) n from trials where strategy = 'sma_long_flat'") == [{"n": 7}]
    assert "stay counted" in call("sweep", "delete", "windows").output
    assert (
        told("sweep", "list")["sweeps"] == []
        and told("sql", "select count(distinct run_id) n from trials")[0]["n"] == 8
    )


def test_a_sweep_on_the_line(windows) -> None:
    summary = told(
        "sweep", "run", "fast", "--snapshot", "small", "--engine", "serial", "--set", "window=3:7:2",
        "--set", "quantity=5,10", "--where", "window * quantity < 60", "--search", "random:3:7", "--keep", "returns",
    )  # fmt: skip
    assert summary["grid"] == {"window": [3, 5, 7], "quantity": [5, 10]} and summary["candidates"] == 3
    assert summary["search"] == {"random": 3, "seed": 7} and summary["keep"] == "returns"
    shown = call("sweep", "show", "fast").output
    assert "window * quantity < 60" in shown and "sweep top fast --by sharpe" in shown


def test_a_promotion_that_is_not_what_was_swept_changes_nothing(windows) -> None:
    told(*RUN)
    said = ("--by", "Ada", "--reason", "no")
    assert "already and says another experiment" in refused(
        3, "sweep", "promote", "windows", "0", "--label", "slow", *said
    )
    strategy = windows.strategies / "sma_long_flat.py"
    strategy.write_text(strategy.read_text() + "\n\ndef other():\n    return 1\n")
    assert "is not what the sweep ran" in refused(3, "sweep", "promote", "windows", "0", "--label", "new", *said)
    assert not (windows.strategies / "experiments" / "new.yaml").exists()
    assert not (windows.data / "promotions").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "nothing"), 4, "there is no sweep 'nothing'"),
        (("run", "nothing", "--set", "window=1,2"), 4, "there is no experiment 'nothing'"),
        (("run", "fast", "--snapshot", "small", "--set", "window"), 2, "--set is written"),
        (("run", "fast", "--snapshot", "small", "--set", "depth=1,2"), 2, "reads the param 'depth'"),
        (("run", "fast", "--snapshot", "small", "--set", "window=a,b"), 2, "a text"),
        (("run", "fast", "--snapshot", "small", "--set", "window=3,5", "--where", "window >"), 2, "is no expression"),
        (("run", "fast", "--snapshot", "small", "--set", "window=3,5", "--where", "window > 9"), 2, "no point of the grid"),
        (("run", "fast", "--snapshot", "small", "--set", "window=3,5", "--search", "best"), 2, "--search is all"),
        (("run", "fast", "--snapshot", "small", "--set", "window=3,5", "--engine", "spark"), 2, "engine is 'spark'"),
        (("run", "fast", "--snapshot", "none", "--set", "window=3,5"), 4, "none"),
        (("run", "fast", "--snapshot", "small", "--set", "window=2:30000:1"), 2, "say --yes"),
        (("show", "nothing"), 4, "there is no sweep 'nothing'"),
        (("top", "nothing", "--by", "sharpe"), 4, "there is no sweep"),
        (("delete", "nothing"), 4, "there is no sweep"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(windows, arguments, code, message) -> None:
    assert message in refused(code, "sweep", *arguments)
    assert not (windows.data / "sweeps").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment: fast\n", "grid is missing"),
        ("experiment: fast\ngrid: {window: [3]}\nkeeps: all\n", "line 3: keeps is not a known key"),
        ("experiment: [fast]\ngrid: {window: [3]}\n", "it is the name of one"),
        ("experiment: fast\ngrid: [3]\n", "the grid is empty"),
        ("experiment: fast\ngrid: {window: [3]}\nstart: 5\n", "start"),
    ],
)
def test_a_file_that_is_none_is_named(windows, text, message) -> None:
    (windows.strategies / "sweeps" / "windows.yaml").write_text(text)
    error = refused(2, *RUN)
    assert "windows.yaml" in error and message in error
