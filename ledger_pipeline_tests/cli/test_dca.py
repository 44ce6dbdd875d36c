"""dca, promote, deployment and attribution on the command line, against the local exchange."""

from __future__ import annotations

import csv
import json

import pytest

from ledger_pipeline.trading.deployment.deployment import scheduled_names
from ledger_pipeline_tests.cli.console import call, refused, told
from ledger_pipeline_tests.exchange.server import exchange
from ledger_pipeline_tests.projects import command
from ledger_pipeline_tests.trading.deployment.test_policy_session import write
from ledger_pipeline_tests.trading.deployment.test_strategy_session import Studio, studio  # noqa: F401

PERSON = ("--by", "Ada Byron", "--reason", "a test")
GONE = "http://127.0.0.1:9"


@pytest.fixture
def core(traded):
    """The bundled policy `core`, as it stands, on an account of 10,000."""
    return traded


def test_a_plan_says_what_and_why_and_changes_nothing(core, served) -> None:
    before = told("book", "show")["events"]
    shown = call("dca", "plan", "--policy", "core")
    assert shown.exit_code == 0 and served.sent() == []
    for words in (
        "$7,000.00",
        "70.00%",
        "UNDERWEIGHT, DCA, CASHFLOW_REBALANCE",
        "note: OUTSIDE_BAND",
        "warning: large_order",
    ):
        assert words in shown.output, words
    plan = told("dca", "plan")
    assert [(leg["symbol"], leg["notional"]) for leg in plan["legs"]] == [("VTI", "7000"), ("VXUS", "3000")]
    assert plan["dry_run"] is True and told("dca", "history") == []
    kinds = [event["kind"] for event in told("book", "show", "--events", "50")["last_events"]][before:]
    assert set(kinds) == {"RECONCILED"}


def test_nothing_is_sent_without_execute(core, served) -> None:
    for name in ("execute", "run"):
        shown = call("dca", name, "--policy", "core")
        assert shown.exit_code == 0 and "nothing was sent; add --execute" in shown.stderr
    assert "opposite things" in refused(2, "dca", "execute", "--execute", "--dry-run")
    assert served.sent() == []


def test_execute_then_history_attribution_record_and_replay(core, served) -> None:
    done = told("dca", "execute", "--execute")
    assert (done["status"], done["outcome"], done["executed"]) == ("FILLED", "DONE", True)
    again = told("dca", "execute", "--execute", code=4)
    assert again["settled"] is True and len(served.sent()) == 2
    (row,) = told("dca", "history")
    assert (row["decision"], row["status"], row["filled"]) == ("core.2026-01-05", "FILLED", "10000")
    assert "limit is 0" in refused(2, "dca", "history", "--limit", "0")
    served.admin.price("VTI", 260)
    (core_row,) = told("attribution")
    assert (core_row["strategy"], core_row["unrealised"], core_row["buys"]) == ("core", "280.00", 2)
    assert told("attribution", "--price", "VTI=251", "--price", "VXUS=60")[0]["unrealised"] == "28.00"
    report = told("attribution", "report", "VTI")
    assert report["quantity"] == "28" and report["agrees"] is True
    assert {row["symbol"] for row in told("attribution", "trades", "--strategy", "core", "--side", "BUY")} == {
        "VTI",
        "VXUS",
    }
    assert [
        row["symbol"] for row in told("attribution", "trades", "--order-by", "symbol", "--limit", "1", "--descending")
    ] == ["VXUS"]
    assert len(told("attribution", "lots")) == 2 and told("attribution", "check") == {"differences": []}
    assert len(told("attribution", "performance", "--by", "strategy_symbol")) == 2
    for name in ("entries.csv", "lots.xlsx", "entries.parquet"):
        assert told("attribution", "export", name, "--table", name.split(".")[0])["rows"] == 2
    assert [row["strategy"] for row in csv.DictReader(open(core.root / "entries.csv"))] == ["core", "core"]
    assert told("dca", "replay", "core.2026-01-05")["same"] is True
    call("dca", "record", "core.2026-01-05", "--output", "record.json")
    assert told("dca", "replay", "record.json")["same"] is True
    record = json.loads((core.root / "record.json").read_text())
    record["evidence"]["account"]["cash"] = "9000"
    (core.root / "record.json").write_text(json.dumps(record))
    assert told("dca", "replay", "record.json", code=5)["same"] is False
    for text in ("core", "core.2026-02-30"):
        assert "is no decision" in refused(2, "dca", "record", text)
    assert "no last price of VXUS" in call("attribution", "--price", "VTI=251", "--exchange-url", GONE).stderr
    assert "holds no decision" in refused(4, "dca", "record", "core.2026-01-06")


def test_run_is_once_a_period_and_again_takes_a_reason(core, served) -> None:
    write(core, guardrails={"dailySpendLimit": 50_000})
    assert told("dca", "run", "--execute", "--granularity", "monthly")["status"] == "FILLED"
    assert told("dca", "run", "--execute", "--granularity", "monthly", code=4)["settled"] is True
    served.admin.activity("CSD", "500")
    done = told("dca", "run", "--execute", "--again", "the bonus came in")
    assert done["number"] == 2 and done["again"] == "the bonus came in" and len(served.sent()) == 4


def test_exit_codes_of_what_keeps_it_from_buying(core, served) -> None:
    write(core, guardrails={"dailySpendLimit": 500})
    blocked = told("dca", "run", "--execute", code=3)
    assert blocked["status"] == "BLOCKED" and "DAILY_SPEND" in blocked["reasons"][0]
    assert call("dca", "run", "--execute", "--quiet").stdout == ""
    write(core)
    told("halt", *PERSON)
    halted = told("dca", "run", "--execute", code=3)
    assert halted["outcome"] == "BLOCKED" and any("HALTED" in note for note in halted["notes_of_orders"])
    served.admin.cash("9990")
    assert "`ledger-pipeline reconcile` explains" in refused(7, "dca", "run", "--execute")
    assert "127.0.0.1:9" in refused(6, "dca", "run", "--execute", "--exchange-url", GONE)
    assert "there is no book" in refused(4, "dca", "plan", "--book", "nobook") and not (core.books / "nobook").exists()
    assert "is called 'coer'" in call("halt", "strategy:coer", *PERSON).stderr
    assert "no deployment or policy 'nope'" in refused(4, "dca", "plan", "--policy", "nope")
    assert served.sent() == []


def test_the_schedule_trades_what_was_deployed_and_nothing_else(core) -> None:
    assert scheduled_names(core) == []
    told("deployment", "add", "core")
    assert scheduled_names(core) == ["core"] and told("deployment", "show", "core")["what"] == "policy core"
    assert "is there already" in refused(3, "deployment", "add", "core")
    assert "neither has capital of its own" in refused(2, "deployment", "add", "balanced")
    assert "belongs to environment exchange, not paper" in refused(
        3, "deployment", "add", "balanced", "--mode", "paper"
    )
    assert "no policy file" in refused(4, "deployment", "add", "nope")
    told("deployment", "add", "balanced", "--capital", "500")
    assert scheduled_names(core) == ["balanced", "core"]


def test_the_local_exchange_takes_prices_and_deposits(core, served) -> None:
    where = ("--admin", served.admin.url)
    told("exchange", "price", "VTI=275.5", "VXUS=61", *where)
    assert told("exchange", "deposit", "5000", *where)["net_amount"] == "5000"
    assert "price" in refused(2, "exchange", "price", "VTI=much", *where)
    (leg, _) = told("dca", "plan")["legs"]
    assert leg["notional"] == "7000"


def test_policies_are_validated_with_file_field_and_reason(core) -> None:
    rows = {row["policy"]: row for row in told("dca", "validate")}
    assert set(rows) == {"aggressive", "balanced", "conservative", "core"}
    assert rows["core"]["targets"] == "VTI 0.7 VXUS 0.3"
    write(core, "mine", maxOrder=3)
    text = refused(2, "dca", "validate", "mine")
    assert "mine.json: maxOrder is no known key; did you mean maxOrders?" in text
    assert "no policy file" in refused(4, "dca", "validate", "nope")
    write(core, "other", drift=7)
    everything = call("dca", "validate")  # one that is wrong hides neither the sound ones nor the next wrong one
    assert everything.exit_code == 2 and "VTI 0.7 VXUS 0.3" in everything.stdout
    assert "mine.json: maxOrder" in everything.stderr and "other.json: drift" in everything.stderr


def test_logs_are_json_on_stderr_when_asked_for(core) -> None:
    write(core, guardrails={"dailySpendLimit": 500})
    done = command(core, "dca", "run", "--execute", "--json", env_more={"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"})
    assert done.returncode == 3 and json.loads(done.stdout)["status"] == "BLOCKED"
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    decided = [line for line in lines if line["event"] == "decided"]
    assert (
        decided[0]["status"] == "BLOCKED"
        and decided[0]["level"] == "warning"
        and decided[0]["decision"] == "core.2026-01-05"
    )
    assert {line["level"] for line in lines} >= {"info", "warning"}


TEMPLATES = {
    "conservative": {"BND": "2500", "VTI": "1500", "VXUS": "1000"},  # of at most 5,000
    "balanced": {"VTI": "3564", "BND": "2772", "VXUS": "2376", "BNDX": "1188"},
    "core": {"VTI": "7000", "VXUS": "3000"},
    "aggressive": {"VTI": "6000", "VXUS": "2500", "VWO": "1500"},
}


def test_each_template_trades_end_to_end(fresh, tmp_path, monkeypatch) -> None:
    quotes = "VTI=250,VXUS=60,BND=72.50,BNDX=49,VWO=41"
    with exchange(tmp_path / "exchange", symbols=quotes, at="2026-01-05T15:00:00Z", cash=10_000) as served:
        for name, value in (served.environ | {"LEDGER_PIPELINE_EXCHANGE_URL": served.url}).items():
            monkeypatch.setenv(name, value)
        for name, legs in TEMPLATES.items():
            served.admin.reset()
            told("book", "adopt", "--book", f"{name}-book", *PERSON)
            done = told("dca", "run", "--policy", name, "--execute", "--book", f"{name}-book")
            assert done["status"] == "FILLED", done
            assert {leg["symbol"]: leg["notional"] for leg in done["legs"]} == legs
            assert told("attribution", "check", "--book", f"{name}-book") == {"differences": []}
            assert told("dca", "replay", done["decision"], "--book", f"{name}-book")["same"] is True


def test_a_researched_run_is_promoted_and_trades(studio: Studio, monkeypatch) -> None:  # noqa: F811
    import ledger_pipeline as lp

    monkeypatch.chdir(studio.project.root)
    studio.write("keep", "{VTI: 4}")
    run = lp.run(lp.Catalogue(studio.project.strategies).experiment("keep"), studio.snapshot)
    run.save(studio.project.data)
    made = told("promote", "keep", "--capital", "5000", *PERSON)
    assert made["promoted"]["run"] == run.run_id and made["path"].endswith("strategies/deployments/keep.yaml")
    assert [row["name"] for row in told("deployment", "list")] == ["keep"]
    assert told("deployment", "show", "keep")["capital"] == "5000"
    studio.served.admin.until("open")
    plan = told("deployment", "plan", "keep")
    assert [(leg["symbol"], leg["quantity"]) for leg in plan["legs"]] == [("VTI", "4")] and studio.served.sent() == []
    done = told("deployment", "run", "keep", "--execute")
    assert (done["status"], len(studio.served.sent())) == ("FILLED", 1)
    assert told("deployment", "run", "keep", "--execute", code=4)["settled"] is True
    assert told("dca", "replay", "keep.2026-01-06")["same"] is True
    assert "is experiment keep; use `ledger-pipeline deployment run keep`" in refused(
        2, "dca", "plan", "--policy", "keep"
    )
    studio.write("keep", "{VTI: 5}")
    assert "has not been run as it is now" in refused(4, "promote", "keep", *PERSON)
    assert "changed since it was promoted" in refused(3, "deployment", "plan", "keep")
    assert "--capital" in refused(2, "promote", "keep", "--capital", "much", *PERSON)


def test_live_needs_its_opt_ins(studio: Studio, monkeypatch) -> None:  # noqa: F811
    import ledger_pipeline as lp

    monkeypatch.chdir(studio.project.root)
    studio.write("keep", "{VTI: 4}")
    lp.run(lp.Catalogue(studio.project.strategies).experiment("keep"), studio.snapshot).save(studio.project.data)
    told("promote", "keep", "--book", "real", "--mode", "live", *PERSON)
    assert "there is no book" in refused(4, "deployment", "run", "keep", "--execute")
    text = refused(3, "book", "adopt", "--book", "real", *PERSON)
    assert "live trading is not enabled" in text and "LEDGER_PIPELINE_ENABLE_LIVE" in text
    assert "mode must be live" not in text  # that one is given, by the deployment
