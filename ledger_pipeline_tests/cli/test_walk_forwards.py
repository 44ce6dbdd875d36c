"""walk-forward run | list | show | promote | delete, sweep integrity and cpcv, as they are typed, to the deployment."""

from __future__ import annotations

import json

import pytest
import yaml

from ledger_pipeline.defs.partitions import run_key, sweep_key
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.trading.deployment.promote import promote
from ledger_pipeline_tests.cli.console import call, refused, told
from ledger_pipeline_tests.cli.test_sweeps import events

SWEEP = (
    "experiment: fast\ngrid: {window: [3, 5, 8], quantity: [5, 10]}\nkeep: returns\n"
    "walk_forward: {train: 20 sessions, test: 10 sessions, purge: 2, embargo: 1 sessions}\n"
)
WHO = ("--by", "Ada Byron", "--reason", "a test")


@pytest.fixture
def windows(small):
    """The small project with the file of a sweep that keeps returns and says its windows."""
    folder = small.strategies / "sweeps"
    folder.mkdir(exist_ok=True)
    (folder / "windows.yaml").write_text(SWEEP)
    return small


def walk(*options: str):
    return told("walk-forward", "run", "windows", "--snapshot", "small", "--engine", "serial", *options)


def test_from_a_file_to_a_run_that_may_be_deployed(windows) -> None:
    summary = walk()
    assert [row["number"] for row in summary["windows"]] == [0, 1, 2, 3] and summary["by"] == "sharpe"
    assert {(row["purge"], row["embargo"]) for row in summary["windows"]} == {(2, 1)}
    assert told("walk-forward", "show", "windows") == summary
    (listed,) = told("walk-forward", "list")["walk_forwards"]
    assert listed["walk_forward"] == summary["walk_id"] and listed["state"] == "finished" and listed["windows"] == 4
    assert told("sweep", "list")["sweeps"] == [] and len(told("sweep", "list", "--windows")["sweeps"]) == 4
    made = events(windows, "walk_forward", sweep_key("small", "windows"))[0].asset_materialization
    assert made.metadata["run_id"].value == summary["run_id"]
    text = (windows.data / "reports" / "walk-forward-windows-small.html").read_text()
    assert summary["headline"].split(":")[0] in text and "<script" not in text
    assert told("replay", summary["run_id"])[0]["same"] is True
    rows = told("sql", "SELECT number, candidate, train, run_id FROM windows ORDER BY number")
    assert [row["candidate"] for row in rows] == [row["candidate"] for row in summary["windows"]]
    assert {row["run_id"] for row in rows} == {summary["run_id"]}

    kept = told("walk-forward", "promote", "windows", "--label", "walked", *WHO)
    assert kept["walk_forward"] is True and kept["run_id"] == summary["run_id"] and kept["trials"] >= 6 * 4 + 1
    written = yaml.safe_load((windows.strategies / "experiments" / "walked.yaml").read_text())
    assert len(written["params_schedule"]) == 4
    assert RunStore(windows.data).label(summary["run_id"])["label"] == "walked"
    decided = events(windows, "promoted_run", run_key("small", "walked"))[0].asset_materialization
    assert decided.metadata["walk-forward"].value == summary["walk_id"]
    deployed = promote(windows, kept["run_id"], by="Ada Byron", reason="try it")
    assert deployed.experiment == "walked" and deployed.pinned.chosen_from.walk_forward
    assert deployed.pinned.chosen_from.sweep == summary["walk_id"]
    assert told("walk-forward", "delete", "windows") == {"deleted": summary["walk_id"]}
    assert told("walk-forward", "list") == {"walk_forwards": [], "damaged": []}


def test_what_is_printed_for_people(windows) -> None:
    walk()
    result = call("walk-forward", "show", "windows")
    assert result.exit_code == 0 and "Chosen by Sharpe in 4 windows" in result.output
    assert "stitched run" in result.output and "runs show" in result.output
    assert "walk-forward" in call("walk-forward", "list").output


def test_integrity_and_a_gate_that_refuses(windows) -> None:
    path = windows.strategies / "sweeps" / "windows.yaml"
    path.write_text(SWEEP + "gates: {deflated_sharpe: {min: 1.0}}\n")
    told("sweep", "run", "windows", "--snapshot", "small", "--engine", "serial")
    worth = told("sweep", "integrity", "windows", "--draws", "200", "--blocks", "8")
    assert worth["gates"][0]["met"] is False and worth["overfitting"]["blocks"] == 8
    assert worth["trials"] >= 6 and "trials" in worth["verdict"]
    shown = call("sweep", "integrity", "windows", "2", "--draws", "200")
    assert "Deflated Sharpe" in shown.output and "not met" in shown.output and "one of" in shown.output
    (row,) = told("sql", f"SELECT pbo, trials FROM integrity WHERE candidate = {worth['candidate']}")
    assert row["pbo"] == pytest.approx(worth["overfitting"]["pbo"]) and row["trials"] == worth["trials"]

    number = str(worth["candidate"])
    refusal = refused(3, "sweep", "promote", "windows", number, "--label", "best", *WHO)
    assert "deflated_sharpe is" in refusal and "--against-gates" in refusal
    assert not (windows.strategies / "experiments" / "best.yaml").exists()
    kept = told("sweep", "promote", "windows", number, "--label", "best", *WHO, "--against-gates", "on paper only")
    assert kept["against_gates"] == "on paper only" and kept["gates"][0]["met"] is False
    decided = events(windows, "promoted_run", run_key("small", "best"))[0].asset_materialization
    assert decided.metadata["against gates"].value == "on paper only"
    chosen = promote(windows, kept["run_id"], by="Ada Byron", reason="try it").pinned.chosen_from
    assert chosen.against_gates == "on paper only" and chosen.candidate == worth["candidate"]


def test_cross_validation(windows) -> None:
    told("sweep", "run", "windows", "--snapshot", "small", "--engine", "serial")
    found = told("sweep", "cpcv", "windows", "--groups", "5", "--test-groups", "2", "--purge", "1", "--embargo", "1")
    assert (found["splits"], found["paths"], found["purge"], found["embargo"]) == (10, 4, 1, 1)
    assert "paths" in call("sweep", "cpcv", "windows", "--groups", "5", "--purge", "1").output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("walk-forward", "run", "crossing", "--snapshot", "small"), 4, "there is no sweep 'crossing'"),
        (("walk-forward", "show", "windows"), 4, "there is no walk-forward 'windows'"),
        (("walk-forward", "run", "windows", "--snapshot", "small", "--train", "9y"), 2, "longer than the data"),
        (("walk-forward", "run", "windows", "--snapshot", "small", "--embargo", "1y"), 2, "it counts sessions"),
        (("walk-forward", "run", "fast", "--set", "window=3,5", "--snapshot", "small"), 2, "lengths of train and test"),
        (("sweep", "integrity", "windows"), 4, "there is no sweep 'windows'"),
    ],
)
def test_what_cannot_be_is_told(windows, arguments, code, message) -> None:
    assert message in refused(code, *arguments)


def test_progress_is_a_line_of_json(windows) -> None:
    result = call("walk-forward", "run", "windows", "--snapshot", "small", "--engine", "serial", "--json")
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert lines and lines[-1]["done"] == lines[-1]["total"] == 6 * 4


def test_gates_that_were_edited_are_not_passed_by(windows) -> None:
    path = windows.strategies / "sweeps" / "windows.yaml"
    told("sweep", "run", "windows", "--snapshot", "small", "--engine", "serial")
    walk()
    path.write_text(SWEEP + "gates: {pbo: {max: 0.01}}\n")
    for command in (("sweep", "integrity", "windows"), ("sweep", "promote", "windows", "0", "--label", "x", *WHO),
                    ("walk-forward", "promote", "windows", "--label", "x", *WHO)):  # fmt: skip
        assert "are not those that 'windows' was run with; run it again" in refused(3, *command)
    path.write_text(SWEEP + "gates: {pboo: {max: 0.01}}\n")
    assert "there is no gate 'pboo'" in refused(2, "sweep", "integrity", "windows")


def test_a_damaged_walk_forward_hides_no_other(windows) -> None:
    first = walk()
    second = walk("--train", "15 sessions")
    path = windows.data / "walk_forwards" / first["walk_id"] / "result.json"
    path.write_text(path.read_text().replace("sharpe", "shrape", 1))
    listed = told("walk-forward", "list")
    assert [row["walk_forward"] for row in listed["walk_forwards"]] == [second["walk_id"]]
    assert len(listed["damaged"]) == 1 and "result.json" in listed["damaged"][0]


def test_a_key_that_is_no_mapping_is_told(windows) -> None:
    (windows.strategies / "sweeps" / "windows.yaml").write_text(
        "experiment: fast\ngrid: {window: [3, 5]}\nwalk_forward: yes\n"
    )
    assert "write its keys" in refused(2, "walk-forward", "run", "windows", "--snapshot", "small")
