"""From any number to the raw file in one command, and what is altered on the way is named."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import ledger_pipeline as lp
from ledger_pipeline.audit.explain import explain_in
from ledger_pipeline.audit.explanation import SAME
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.project import Project
from ledger_pipeline.strategy.git_state import git_state
from ledger_pipeline.trading.session_context import read_book
from ledger_pipeline_tests.projects import command, copied


@pytest.fixture(scope="module")
def project(demo, tmp_path_factory) -> Project:
    return copied(demo[0], tmp_path_factory.mktemp("explain") / "project")


def fills(project: Project, strategy: str):
    return [event for event in read_book(project, "demo").events(kinds=["FILLED"]) if event.strategy == strategy]


def kinds(explanation) -> list[str]:
    return [link.kind for link in explanation.links]


def test_a_fill_of_a_strategy_leads_to_the_raw_file(project) -> None:
    """Why did the book buy? Because the close was above its average: both values stand there, and the file they came from."""
    fill = fills(project, "demo_sma")[0]
    found = explain_in(project, fill.fill_id)
    assert kinds(found) == [
        "fill", "order", "decision", "what it saw", "live snapshot", "deployment", "run", "trials", "snapshot", "raw file", "raw file",
        "raw file", "book",
    ]  # fmt: skip
    assert found.sound and {link.verdict for link in found.links} == {"", SAME}
    links = {link.kind: link for link in found.links}
    saw = links["what it saw"].facts
    assert saw[fill.symbol]["close"] > saw[fill.symbol]["sma"] and saw["cash"] == "150000"
    decision = next(
        e.payload.decision
        for e in read_book(project, "demo").events(kinds=["DECIDED"])
        if e.correlation_id == fill.correlation_id
    )
    assert saw["hash"] == decision["evidence"]["seen_hash"]
    assert {name: repr(value) for name, value in saw[fill.symbol].items()} == decision["evidence"]["seen"][fill.symbol]
    assert links["deployment"].facts["promoted by"] == "the demo"
    assert links["raw file"].files and Path(links["raw file"].files[0]).is_file()


def test_order_decision_and_both_ids_lead_the_same_way(project) -> None:
    fill = fills(project, "demo_sma")[0]
    for asked in (fill.order_id, fill.broker_order_id):
        assert kinds(explain_in(project, asked))[:2] == ["order", "decision"]
    assert kinds(explain_in(project, fill.correlation_id))[0] == "decision"


def test_a_policy_is_explained_by_its_plan(project) -> None:
    found = explain_in(project, fills(project, "demo_saver")[0].fill_id)
    assert (
        kinds(found) == ["fill", "order", "decision", "what it was planned over", "deployment", "policy", "book"]
        and found.sound
    )


@pytest.mark.parametrize("part", ["", "/fills/1", "/trades/2", "/sharpe", "/max_drawdown", "/trades"])
def test_runs_and_what_is_of_them(project, part) -> None:
    run_id = next(
        i
        for i in lp.RunStore(project.data).ids()
        if lp.RunStore(project.data).provenance(i)["experiment"]["name"] == "sma_long_flat_20"
    )
    if part == "/trades":  # a metric of that name, and a table
        with pytest.raises(InputError, match="trades 1 to"):
            explain_in(project, run_id[:8] + part)
        return
    found = explain_in(project, run_id[:8] + part)
    first = {"": "run", "/fills/1": "fill", "/trades/2": "trade"}.get(part, "metric")
    assert kinds(found)[0] == first and found.sound
    if part == "/fills/1":
        saw = found.links[1].facts
        assert saw["close"] > saw["sma"]  # it bought since
    if part == "/sharpe":
        run = lp.RunStore(project.data).open(run_id, project.snapshots)
        metric = found.links[0].facts
        assert metric["value"] == run.metrics["sharpe"] and len(metric["best trades"]) == 5
        gains = [float(text.replace(",", "")) for text in metric["gain by symbol"].values()]
        assert sum(gains) == pytest.approx(run.metrics["final_equity"] - 100_000, abs=0.05)


def test_a_promotion_from_a_sweep_says_trials_and_why(project, tmp_path) -> None:
    whole = copied(project, tmp_path / "promoted")
    done = command(
        whole, "sweep", "promote", "crossover", "1", "--label", "chosen", "--by", "Ada Byron", "--reason", "most stable"
    )
    assert done.returncode == 0, done.stderr
    found = explain_in(whole, "chosen")
    sweep = next(link for link in found.links if link.kind == "sweep")
    assert (sweep.facts["promoted by"], sweep.facts["reason"], sweep.facts["trials then"]) == (
        "Ada Byron",
        "most stable",
        15,
    )
    assert found.sound
    shutil.rmtree(whole.data / "sweeps")
    gone = explain_in(whole, "chosen")
    assert not gone.sound and "is" in next(link for link in gone.links if link.kind == "sweep").verdict


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("snapshots/demo/bars.parquet", "snapshot"), ("sources/demo/bars.csv", "raw file"), ("data/runs/{run}/ledger.parquet", "run"),
        ("strategies/deployments/demo_sma.yaml", "deployment"), ("snapshots/live/demo_sma-20120104/bars.parquet", "live snapshot"),
    ],
)  # fmt: skip
def test_what_is_altered_on_the_way_is_named(project, tmp_path, place, kind) -> None:
    whole = copied(project, tmp_path / "altered")
    fill = fills(whole, "demo_sma")[0]
    sound = explain_in(whole, fill.fill_id).links
    run = next(link for link in sound if link.kind == "deployment").facts["run"]
    path = whole.root / place.format(run=run)
    if kind == "raw file":  # it lies where it was imported from
        path = Path(next(link for link in sound if link.kind == kind).files[0])
    data = path.read_bytes()
    path.chmod(0o644)
    at = data.index(b"by: ") + 4 if path.suffix == ".yaml" else len(data) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    try:
        found = explain_in(whole, fill.fill_id)
    finally:
        path.write_bytes(data)
    assert not found.sound
    assert kind in [link.kind for link in found.links if link.verdict not in ("", SAME)], str(found)


def test_the_command(project, tmp_path) -> None:
    fill = fills(project, "demo_sma")[0]
    page = tmp_path / "chain.html"
    done = command(project, "explain", fill.fill_id, "--from-files", "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert re.search(r"fill: BUY 100 \w+ at ", done.stdout) and "[the same]" in done.stdout
    for name, digest in re.findall(r"^    (/\S+)  sha256 ([0-9a-f]{64})$", done.stdout, flags=re.MULTILINE):
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == digest
    assert "Everything that was recomputed is the same." in page.read_text() and "<script" not in page.read_text()
    told = json.loads(command(project, "explain", fill.order_id, "--json").stdout)
    assert told["sound"] and told["links"][0]["kind"] == "order"
    by_name = command(project, "explain", "sma_long_flat_20/cagr")
    assert by_name.returncode == 0 and by_name.stdout.startswith("metric: CAGR ")
    wrong = command(project, "explain", "nothing-of-this-name")
    assert wrong.returncode != 0 and "no order, fill or decision" in wrong.stderr + wrong.stdout


def test_what_is_not_there_is_said(project) -> None:
    with pytest.raises(NotFoundError, match="no order, fill or decision 'abc' in the books, and no run of that name"):
        explain_in(project, "abc")


def test_the_commit_of_the_strategies(tmp_path) -> None:
    assert git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "x").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    state = git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", str(state["commit"])) and state["changed"] is False
    (tmp_path / "x").write_text("2")
    assert git_state(tmp_path)["changed"] is True
