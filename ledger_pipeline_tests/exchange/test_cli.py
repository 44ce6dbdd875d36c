"""exchange advance | fault | serve, and that what it says about itself is complete."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from ledger_pipeline.cli.exchange import exchange as command
from ledger_pipeline.exchange.behaviours import ASSUMED, BEHAVIOURS, DOCUMENTED, OBSERVED
from ledger_pipeline.exchange.faults import KINDS
from ledger_pipeline.project import Project
from ledger_pipeline_tests.exchange.clients import market, refused
from ledger_pipeline_tests.exchange.server import Served


def run(root: Path, *arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(command, arguments, obj=Project(root))
    assert not isinstance(ended.exception, Exception) or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.output


def test_advance_moves_the_clock_of_the_exchange_that_runs(served: Served, tmp_path: Path) -> None:
    where = ("--state", str(served.state), "--json")
    code, out = run(tmp_path, "advance", "--until", "close", *where)
    assert code == 0 and json.loads(out)["is_open"] is False
    code, out = run(tmp_path, "advance", "--by", "3600", *where)
    assert json.loads(out)["now"].startswith("2026-01-05T22:00:00")
    code, out = run(tmp_path, "advance", "--to", "2026-01-06T15:00:00Z", "--admin", served.admin.url)
    assert code == 0 and "2026-01-06" in out
    code, out = run(tmp_path, "advance", "--to", "2026-01-06T15:00:00Z", "--admin", served.admin.url)
    assert code == 2 and "moves forward only" in out
    code, out = run(tmp_path, "advance", "--admin", served.admin.url)
    assert code == 2 and "give one of --to, --by and --until" in out


def test_fault_sets_lists_and_clears(served: Served, tmp_path: Path) -> None:
    where = ("--admin", served.admin.url, "--json")
    arguments = ("fault", "reply", "--verb", "post", "--path", "/v2/orders", "--when", "after", "--set", "status=503")
    code, out = run(tmp_path, *arguments, *where)
    assert code == 0 and [(row["do"], row["verb"], row["status"]) for row in json.loads(out)] == [
        ("reply", "POST", 503)
    ]
    client = served.trading()
    assert refused(market, client, "VTI", "buy", qty=1)[0] == 503
    code, out = run(tmp_path, "fault", "--clear", *where)
    assert json.loads(out)[0]["fired"] == 1
    assert run(tmp_path, "fault", "explode", *where)[0] == 2
    assert run(tmp_path, "fault", "reply", "--set", "status", *where)[0] == 2


def test_without_an_exchange(tmp_path: Path) -> None:
    assert run(tmp_path, "advance", "--until", "open")[0] == 4
    code, out = run(tmp_path, "advance", "--until", "open", "--admin", "http://127.0.0.1:9")
    assert code == 4 and "no exchange answers at http://127.0.0.1:9" in out


def test_help_says_what_is_documented_observed_and_assumed(tmp_path: Path) -> None:
    code, out = run(tmp_path, "serve", "--help")
    assert code == 0 and all(f"{tag}:" in out for tag in (DOCUMENTED, OBSERVED, ASSUMED))
    assert all(what in out for _, what in BEHAVIOURS)
    code, out = run(tmp_path, "fault", "--help")
    assert all(kind in out for kind in KINDS)
