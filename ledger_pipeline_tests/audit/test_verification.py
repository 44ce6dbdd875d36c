"""Every kind of file that the product writes: one byte is altered, and the file is named."""

from __future__ import annotations

import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest

import ledger_pipeline as lp
from ledger_pipeline.audit.heads import heads, read_heads, send
from ledger_pipeline.audit.verification import KINDS, verify_project
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.project import Project
from ledger_pipeline.selection.run_report import report_run
from ledger_pipeline_tests.projects import command, copied


@pytest.fixture(scope="module")
def project(demo, tmp_path_factory) -> Project:
    """The demo's project with one session of the live half, and with a label, a second evaluation, a promotion, an
    integrity, a walk-forward, shards and a report: a file of every kind.
    """
    whole = copied(demo[0], tmp_path_factory.mktemp("audit") / "project")
    for folder in (whole.data / "live" / "demo", whole.live_snapshots):
        for path in sorted(folder.iterdir())[2:]:
            shutil.rmtree(path) if path.is_dir() else None
    store = lp.RunStore(whole.data)
    run = store.open(store.ids()[0], whole.snapshots)
    store.give_label(run.run_id, "mine")
    other = run.provenance | {"experiment": run.provenance["experiment"] | {"name": "other", "benchmark": "MSFT"}}
    lp.Run(other, run.events, run.snapshot).save(whole.data)
    report_run(whole, run)
    for arguments in (
        ["sweep", "integrity", "crossover"], ["walk-forward", "run", "crossover"], ["runs", "compact"],
        ["sweep", "promote", "crossover", "1", "--label", "chosen", "--by", "Ada", "--reason", "a test", "--against-gates", "a test"],
        ["promote", "chosen", "--by", "Ada", "--reason", "a test", "--book", "demo"],
    ):  # fmt: skip
        done = command(whole, *arguments)
        assert done.returncode == 0, (arguments, done.stderr, done.stdout)
    return whole


def kinds_of_files(project: Project) -> dict[str, Path]:
    """One file of each kind, by its path with ids, dates and numbers left out."""
    kinds: dict[str, Path] = {}
    roots = [project.data, project.snapshots, project.books, project.strategies / "deployments"]
    for path in sorted(p for root in roots for p in root.rglob("*") if p.is_file()):
        place = path.relative_to(project.root).as_posix()
        if place.startswith(("data/cache", "data/demo_exchange")) or "/." in place:
            continue
        kinds.setdefault(re.sub(r"[0-9a-f]{16,}|\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d|\d+|demo_\w+", "#", place), path)
    return kinds


def told(project: Project) -> list[str]:
    return [f"{found.path}: {found.problem}" for one in verify_project(project) for found in one.findings]


def test_a_sound_project_has_no_findings(project) -> None:
    verified = verify_project(project)
    assert [one.findings for one in verified] == [()] * len(KINDS)
    assert all(one.records for one in verified)


def test_one_altered_byte_of_every_kind_of_file_is_named(project) -> None:
    kinds = kinds_of_files(project)
    assert len(kinds) >= 45, sorted(kinds)
    unfound = {}
    for kind, path in kinds.items():
        if kind.startswith("strategies/deployments") and "promoted:" not in path.read_text():
            continue  # what a person writes has no hash
        data, mode = path.read_bytes(), path.stat().st_mode
        place = len(data) // 2
        if kind.startswith("strategies/deployments"):
            place = data.index(b"by: ") + 4
        path.chmod(0o644)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        names = {path.name, path.stem.lstrip("0"), path.parent.name}
        sentences = told(project)
        if not any(name and name in text for text in sentences for name in names):
            unfound[kind] = sentences
        path.write_bytes(data)
        path.chmod(mode)
    assert unfound == {} and told(project) == []


@pytest.mark.parametrize(
    "place",
    ["data/notes.txt", "data/runs/notes.txt", "data/reports/evil.html", "snapshots/notes.txt", "books/notes.txt"],
)
def test_a_file_of_no_kind_is_named(project, place) -> None:
    path = project.root / place
    path.write_text("x")
    try:
        assert any(path.name in text for text in told(project))
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["provenance.json", "ledger.parquet", "strategy.py"])
def test_a_file_that_a_run_needs_is_missed(project, name) -> None:
    path = next((project.data / "runs").glob(f"*/{name}"))
    data = path.read_bytes()
    path.unlink()
    try:
        assert any(name in text or path.parent.name in text for text in told(project))
    finally:
        path.write_bytes(data)


def test_what_was_cut_off_a_book_is_found_by_a_head(project, tmp_path) -> None:
    whole = copied(project, tmp_path / "cut")
    kept = tmp_path / "heads.jsonl"
    send(heads(whole), str(kept))
    send(heads(whole), str(kept))
    (head, _) = read_heads(str(kept))
    assert head.book == "demo" and not any(one.findings for one in verify_project(whole, ["books"], heads=str(kept)))
    last = sorted((whole.books / "demo").rglob("*.json"))[-1]
    last.unlink()
    by_head = verify_project(whole, ["books"], heads=str(kept))
    assert by_head[0].findings == ()  # the chain is whole
    assert f"had {head.seq}" in by_head[1].findings[0].problem
    done = command(whole, "book", "verify", "--book", "demo", "--head", head.hash)
    assert done.returncode == 5 and "cut off" in done.stderr


def test_heads_are_posted_to_an_address() -> None:
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    from ledger_pipeline.audit.heads import BookHead

    send([BookHead("b", 3, "ab", "2026-01-05T00:00:00+00:00")], f"http://127.0.0.1:{server.server_port}/heads")
    server.server_close()
    assert json.loads(taken[0]) == {"book": "b", "seq": 3, "hash": "ab", "at": "2026-01-05T00:00:00+00:00"}


def test_the_command_says_what_it_found(project) -> None:
    done = command(project, "verify", "--all", "--json")
    assert done.returncode == 0 and {one["kind"] for one in json.loads(done.stdout)} == set(KINDS)
    path = next((project.data / "runs").glob("*/metrics.json"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"sharpe": 0', b'"sharpe": 9'))
    try:
        done = command(project, "verify")
        assert done.returncode == 5 and f"{path}: is not as it was written" in done.stdout
        shown = command(project, "compare", path.parent.name)
        assert shown.returncode == 5 and "metrics.json is not as it was written" in shown.stderr
    finally:
        path.write_bytes(data)


def test_an_unknown_kind_and_a_file_of_no_heads(project, tmp_path) -> None:
    with pytest.raises(InputError, match="'orders' is no kind of record; the kinds are snapshots, raw,"):
        verify_project(project, ["orders"])
    (tmp_path / "x").write_text("{}\n")
    with pytest.raises(InputError, match="is no file of heads"):
        verify_project(project, ["books"], heads=str(tmp_path / "x"))


def test_the_graph_verifies_every_kind_and_sends_the_heads(project, tmp_path, monkeypatch) -> None:
    from ledger_pipeline.defs.launch import instance
    from ledger_pipeline.defs.resources import resources
    from ledger_pipeline.defs.verification import HEADS_TO, check_name, record_heads
    from ledger_pipeline.defs.verification import KINDS as CHECKED

    assert set(CHECKED) == set(KINDS)
    monkeypatch.setenv(HEADS_TO, str(tmp_path / "heads.jsonl"))
    path = next((project.data / "reports").glob("*.html"))
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    try:
        with instance(project) as records:
            result = dg.materialize(
                [record_heads], instance=records, resources=resources(project), raise_on_error=False
            )
        outcomes = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    finally:
        path.write_bytes(data)
    assert outcomes == {check_name(kind): kind != "files" for kind in KINDS}
    assert read_heads(str(tmp_path / "heads.jsonl"))[0].book == "demo"
