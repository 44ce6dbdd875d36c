"""Every command on real results: what it prints, as a table and as JSON, and that names change no hash."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click
import pytest

from ledger_pipeline.analytics.shards import SETTLED
from ledger_pipeline.cli.main import main
from ledger_pipeline.defs.launch import instance
from ledger_pipeline.simulation.store import RunStore
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline_tests.cli.console import call, refused, told
from ledger_pipeline_tests.defs.records import materialized
from ledger_pipeline_tests.projects import EXPERIMENTS, command, listing, seal, unchanged, write_bars, write_experiment


def leaves(group: click.Group, path: tuple[str, ...] = ()):
    """Every command with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield from leaves(found, (*path, name)) if isinstance(found, click.Group) else [((*path, name), found)]


COMMANDS = dict(leaves(main))


def test_the_commands_are_these() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "snapshot import", "snapshot list", "snapshot show", "snapshot verify", "snapshot delete", "experiment list", "experiment check", "indicators",
        "sweep run", "sweep list", "sweep show", "sweep top", "sweep heatmap", "sweep promote", "sweep delete",
        "sweep integrity", "sweep cpcv", "walk-forward run", "walk-forward list", "walk-forward show", "walk-forward promote", "walk-forward delete",
        "run", "runs list", "runs show", "runs label", "runs tag", "runs archive", "runs compact", "compare", "report", "extract", "replay",
        "explain", "verify", "book heads", "new", "data fetch", "data simulate", "backup", "restore",
        "sql", "demo", "ui", "serve", "status", "metrics", "exchange serve", "exchange advance", "exchange price", "exchange deposit", "exchange fault", "book adopt", "book show",
        "book verify", "book export", "book checkpoint", "book seal", "book override", "book bust", "book correct", "reconcile", "orders submit", "orders cancel",
        "positions", "halt", "resume", "promote", "deployment list", "deployment add", "deployment show", "deployment plan",
        "deployment run", "dca plan", "dca execute", "dca run", "dca history", "dca record", "dca replay",
        "dca validate", "attribution performance", "attribution trades", "attribution lots", "attribution report",
        "attribution check", "attribution export",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_an_example_and_json_is_everywhere(path) -> None:
    done = call(*path, "--help")
    text = " ".join(done.stdout.split())
    assert done.exit_code == 0 and f"ledger-pipeline {' '.join(path)}" in text
    assert re.search(rf"Examples?: ledger-pipeline {' '.join(path)}", text)
    assert "--json" in text or path in (("ui",), ("serve",))


def test_help_tells_the_exit_codes() -> None:
    text = " ".join(call("--help").stdout.split())
    for told_ in (
        "0 ok",
        "2 bad input",
        "3 refused or blocked",
        "4 not found or done already",
        "5 integrity failure",
        "6 broker error",
    ):
        assert told_ in text
    assert "7 reconciliation break, 8 traded, and what follows from it failed, 130 interrupted" in text


def test_every_command_prints_json_and_a_table(small, tmp_path) -> None:
    bars = str(write_bars(tmp_path / "bars.csv", days=30))
    assert told("snapshot", "import", bars, "--id", "mine", "--note", "a note")["rows"]["bars"] == 60
    assert [row["snapshot_id"] for row in told("snapshot", "list")] == ["mine", "small"]
    assert told("snapshot", "show", "mine")["source"]["note"] == "a note"
    assert told("snapshot", "verify", "mine")["verified"] is True
    assert {row["experiment"] for row in told("experiment", "list")} == set(EXPERIMENTS)
    assert all(row["ok"] for row in told("experiment", "check"))
    [run] = told("run", "hold", "--snapshot", "mine")
    assert run["provenance"]["snapshot"]["id"] == "mine" and run["metrics"]["total_return"] is not None
    assert len(told("runs", "list")) == 4
    shown = told("runs", "show", run["run_id"])
    assert shown["metrics"] == run["metrics"] and "strategy_text" not in shown["provenance"]
    assert told("runs", "label", run["run_id"], "mine")["names"]["label"] == "mine"
    assert told("runs", "tag", "mine", "a", "b")["names"]["tags"] == ["a", "b"]
    assert told("runs", "archive", "mine")["names"]["archived"] is True
    assert told("compare", "fast", "slow")["what_differs"]
    assert "def strategy" in told("extract", "mine")["source"]
    assert [row["same"] for row in told("replay", "fast", "mine")] == [True, True]
    assert told("sql", "select count(*) as n from metrics") == [{"n": 4}]
    assert "run_id" in told("sql", "--views")["trades"]
    time.sleep(SETTLED)
    assert told("runs", "compact") == {"sharded": 4, "loose": 0, "shards": 1}
    assert told("sql", "select count(*) as n from metrics") == [{"n": 4}]
    for arguments in (
        ["snapshot", "list"], ["snapshot", "show", "mine"], ["snapshot", "verify", "mine"], ["experiment", "list"],
        ["experiment", "check"], ["run", "hold", "--snapshot", "mine"], ["runs", "list", "--archived"],
        ["runs", "show", "mine"], ["compare", "fast", "slow"], ["extract", "mine"], ["replay", "mine"],
        ["runs", "compact"], ["sql", "select * from metrics"], ["sql", "--views"], ["sql"],
    ):  # fmt: skip
        done = call(*arguments)
        assert done.exit_code == 0 and len(done.stdout) > 20, (arguments, done.output)


def test_the_demo_prints_what_it_made(demo) -> None:
    project, printed = demo
    assert set(printed) == {"snapshot", "runs", "report", "sweep", "traded", "seconds"}
    assert printed["sweep"]["candidates"] == printed["sweep"]["ok"] == 15 and printed["sweep"]["trials"] == 15
    assert len(printed["runs"]) == len(Catalogue(project.strategies).experiment_names()) >= 4
    assert len({row["provenance"]["experiment"]["strategy"] for row in printed["runs"]}) >= 3
    assert len(printed["snapshot"]["symbols"]) >= 5 and printed["seconds"] > 0
    with instance(project) as records:
        assert records.get_dynamic_partitions("snapshots") == ["demo"]
        sessions = records.get_dynamic_partitions("sessions")
        assert len(sessions) == 21 and list(sessions) == sorted(sessions)
        for asset in ("dca_plan", "dca_orders"):
            assert materialized(records, asset) == {f"demo_saver|{day}" for day in sessions}
        for asset in ("strategy_decision", "strategy_orders"):
            assert materialized(records, asset) == {
                f"{name}|{day}" for name in ("demo_dca", "demo_sma") for day in sessions
            }
        for asset in (
            "broker_account",
            "reconciliation",
            "closing_reconciliation",
            "live_ledger",
            "attribution_report",
        ):
            assert materialized(records, asset) == {f"demo|{day}" for day in sessions}
    traded = printed["traded"]
    assert (traded["sessions"], traded["clean"]) == (21, True) and traded["orders"] >= 8
    assert [row["strategy"] for row in traded["attribution"]] == ["demo_dca", "demo_saver", "demo_sma"]
    assert all(row["unrealised"] is not None for row in traded["attribution"])


def test_an_experiment_on_several_snapshots_is_told_apart(small) -> None:
    seal(small, "other", days=30)
    assert told("runs", "show", "hold")["provenance"]["snapshot"]["id"] == "small"
    told("run", "hold", "--snapshot", "other")
    assert "hold@other" in refused(2, "runs", "show", "hold")
    for name in ("small", "other"):
        assert told("runs", "show", f"hold@{name}")["provenance"]["snapshot"]["id"] == name
        assert told("compare", "hold", "--snapshot", name)["runs"]
    assert len(told("compare", "hold@small", "hold@other")["runs"]) == 2
    assert "has not been run" in refused(4, "runs", "show", "fast@other")


def test_names_change_no_hash_and_no_result(small) -> None:
    store = RunStore(small.data)
    [name] = [row["run_id"] for row in told("runs", "list") if row["provenance"]["experiment"]["name"] == "hold"]
    before = {path: data for path, data in listing(small).items() if path.startswith(("data/runs", "snapshots"))}
    told("runs", "label", name, "approved")
    told("runs", "tag", "approved", "q3", "q3", "baseline")
    assert store.label(name)["tags"] == ["q3", "baseline"]
    told("runs", "tag", "approved", "q3", "--remove")
    assert store.label(name)["tags"] == ["baseline"]
    told("runs", "archive", "approved", "--reason", "bad fit")
    assert name not in {row["run_id"] for row in told("runs", "list")}
    assert name in {row["run_id"] for row in told("runs", "list", "--archived")}
    told("runs", "archive", name, "--undo")
    assert "archive_reason" in store.label(name) and name in {row["run_id"] for row in told("runs", "list")}
    for steering in ("\x1b[2Jgone", "two\nlines"):
        for words in (("label", name, steering), ("tag", name, steering), ("archive", name, "--reason", steering)):
            sentence = refused(2, "runs", *words)
            assert "printable" in sentence and "\x1b" not in sentence
    told("runs", "label", name, "")
    assert "label" not in store.label(name)
    after = {path: data for path, data in listing(small).items() if path.startswith(("data/runs", "snapshots"))}
    assert after == before and told("replay", name)[0]["same"]


def test_seed_makes_another_run(small) -> None:
    [one] = told("run", "hold", "--snapshot", "small", "--seed", "7")
    assert one["provenance"]["seed"] == 7 and len(told("runs", "list")) == 4


def test_compare_twice_is_the_same_to_the_byte(small) -> None:
    one = Path(told("compare", "fast", "slow", "--name", "pair")["report"])
    first = one.read_bytes()
    assert Path(told("compare", "fast", "slow", "--name", "pair")["report"]) == one and one.read_bytes() == first


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_extract_prints_the_stored_source_byte_for_byte(small, ending) -> None:
    text = '"""Grüße, 株."""\n\n\ndef strategy(ctx, params):\n    return ctx.hold()'.replace("\n", ending)
    (small.strategies / "odd.py").write_bytes(text.encode())
    write_experiment(small.root, "odd", "strategy: odd\nopening: {cash: 1000}\ncosts: []\n")
    [run] = told("run", "odd", "--snapshot", "small")
    done = command(small, "extract", "odd")
    stored = (small.data / "runs" / run["run_id"] / "strategy.py").read_bytes()
    assert done.returncode == 0 and done.stdout.encode() == stored.replace(b"\r\n", b"\n") and done.stderr == ""
    assert told("extract", "odd")["source"].encode() == stored
    assert told("replay", "odd")[0]["same"]
    import hashlib

    assert hashlib.sha256(stored).hexdigest() == run["provenance"]["experiment"]["strategy_hash"]


def test_replay_ends_with_5_when_the_stored_ledger_was_changed(small) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from ledger_pipeline.ledger.schema import read_ledger

    name = next(row["run_id"] for row in told("runs", "list") if row["provenance"]["experiment"]["name"] == "fast")
    folder = small.data / "runs" / name
    table = pq.read_table(folder / "ledger.parquet")
    place = table.schema.get_field_index("fee")
    changed = table.set_column(place, table.schema.field("fee"), pc.add(table.column("fee").cast(pa.float64()), 1.0))
    pq.write_table(changed, folder / "ledger.parquet")
    assert "ledger.parquet" in refused(5, "replay", name)
    # made to look right: only running it again shows it
    head = read_ledger((folder / "ledger.parquet").read_bytes(), "x").head
    text = (folder / "provenance.json").read_text()
    (folder / "provenance.json").write_text(re.sub(r'"ledger_head": "\w+"', f'"ledger_head": "{head}"', text))
    [row] = told("replay", name, code=5)
    assert row["same"] is False and "fee" in row["difference"]
    assert "DIFFERS" in call("replay", name).stdout


FORBIDDEN = [
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from glob('/etc/*')",
    "select getenv('HOME')",
    "copy (select 1) to '{data}/out.csv'",
    "explain analyze copy (select 1) to '{data}/out.csv'",
    "copy metrics to 'out.csv'",
    "attach '{data}/x.duckdb' as x",
    "install httpfs",
    "load httpfs",
    "create table t as select 1",
    "export database '{data}/dump'",
    "drop view metrics",
    "insert into metrics select * from metrics",
    "select 1; select 2",
    "set enable_external_access = true",
    "pragma enable_profiling",
    "checkpoint",
    "explain analyze create table t as select 1",
    "call pragma_version()",
    "selec 1",
    "select * from nothing",
]


@pytest.mark.parametrize("query", FORBIDDEN)
def test_sql_only_reads_and_only_results(small, query) -> None:
    with unchanged(small):
        refused(2, "sql", query.format(data=small.data))
        assert json.loads(call("sql", query.format(data=small.data), "--json").stdout)["exit_code"] == 2


def test_sql_values_are_safe(small) -> None:
    values = (
        "'nan'::double as a, '-inf'::double as b, null as c, '2020-01-01'::date as d, [1, 2] as e, {'x': 1} as f, "
        "1.5::decimal(4,2) as g, '<b>[red]' as h, 9007199254740993 as i"
    )
    [row] = told("sql", f"select {values}")
    assert (row["a"], row["b"], row["c"]) == (None, None, None)
    assert row["d"].startswith("2020-01-01") and row["e"] == [1, 2] and row["f"] == {"x": 1}
    assert row["h"] == "<b>[red]" and row["i"] == 9007199254740993
    assert "<b>[red]" in call("sql", "select '<b>[red]' as h").stdout
    assert len(told("sql", "select * from equity", "--limit", "5")) == 5
    assert told("sql", "select 1 as n where false") == []
    assert call("sql", "select 1 as n where false").exit_code == 0


def test_a_check_that_did_not_pass_fails_the_run(small, monkeypatch) -> None:
    from ledger_pipeline.defs import run_assets
    from ledger_pipeline.simulation.replay import Truncation

    monkeypatch.setattr(run_assets.Work, "truncation_replay", lambda self, cuts: [Truncation(30, 4, "seq 3 differs")])
    done = call("run", "hold", "--snapshot", "small", "--again")
    assert done.exit_code == 5
    assert "the check truncation_replay failed: cut at bar 30: seq 3 differs" in done.stderr
