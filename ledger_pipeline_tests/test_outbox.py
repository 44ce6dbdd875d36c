"""What commands made reaches the lineage, however the processes end."""

from __future__ import annotations

import subprocess
import sys
import time

import dagster as dg
import pytest

from ledger_pipeline import outbox
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.market.importing import import_and_seal
from ledger_pipeline.market.raw import RawSource
from ledger_pipeline.outbox import Note
from ledger_pipeline_tests.projects import make_project, write_bars


def test_notes_are_delivered_once_and_in_order(tmp_path) -> None:
    for i in range(5):
        outbox.put(tmp_path, Note("what", {"i": i}))
    told: list[int] = []
    outbox.deliver(tmp_path, lambda note: told.append(note.arguments["i"]))
    outbox.deliver(tmp_path, lambda note: told.append(-1))
    assert told == [0, 1, 2, 3, 4]


def test_one_that_fails_is_set_aside_and_the_rest_go_on(tmp_path) -> None:
    for i in range(3):
        outbox.put(tmp_path, Note("what", {"i": i}))
    told: list[int] = []

    def report(note: Note) -> None:
        if note.arguments["i"] == 1:
            raise ValueError("no such thing")
        told.append(note.arguments["i"])

    outbox.deliver(tmp_path, report)
    assert told == [0, 2]
    (failed,) = outbox.folder(tmp_path).glob("*.failed")
    assert failed.with_suffix(".why").read_text() == "ValueError: no such thing\n"


def test_what_is_interrupted_is_told_the_next_time(tmp_path) -> None:
    outbox.put(tmp_path, Note("what", {}))

    def interrupt(note: Note) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.deliver(tmp_path, interrupt)
    told: list[Note] = []
    outbox.deliver(tmp_path, told.append)
    assert told == [Note("what", {})]


def test_a_command_is_in_the_lineage_soon_after_it_ends(tmp_path, monkeypatch) -> None:
    """The command itself never loads Dagster; a process of its own reports behind it."""
    project = make_project(tmp_path / "project", {})
    bars = write_bars(project.root / "bars.csv")
    check = "import sys; from ledger_pipeline.cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n    print('dagster' in sys.modules, end.code)"
    arguments = ["--root", str(project.root), "snapshot", "import", str(bars), "--id", "small"]
    done = subprocess.run([sys.executable, "-c", check, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "False 0", done.stdout + done.stderr
    deadline = time.monotonic() + 120
    while any(outbox.folder(project.dagster_home).glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list(outbox.folder(project.dagster_home).glob("*.failed"))
    monkeypatch.setenv("DAGSTER_HOME", str(project.dagster_home))
    with dg.DagsterInstance.get() as records:  # as the UI opens it: this delivers nothing
        for asset in ("raw_bars", "sealed_snapshot"):
            event = records.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None and event.asset_materialization.partition == "small"


def test_whatever_opens_the_instance_next_finds_what_was_not_told_yet(tmp_path) -> None:
    """A machine that goes down between a command and its report loses nothing."""
    project = make_project(tmp_path / "project", {})
    source = RawSource(str(write_bars(project.root / "bars.csv")))
    import_and_seal("small", source, root=project.data, snapshots=project.snapshots)
    outbox.put(project.dagster_home, Note("import", {"snapshot_id": "small"}))
    with instance(project) as records:
        assert records.has_dynamic_partition("snapshots", "small")
        assert records.get_latest_materialization_event(dg.AssetKey("sealed_snapshot")) is not None
    assert not any(outbox.folder(project.dagster_home).glob("*.json"))
