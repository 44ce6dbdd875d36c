"""status: how everything that trades by itself stands, in words and in JSON."""

from __future__ import annotations

import pytest

from ledger_pipeline.trading.deployment.deployment import find_deployment
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.session_context import BOOK_VARIABLE
from ledger_pipeline_tests.cli.console import call, told
from ledger_pipeline_tests.trading.deployment.test_policy_session import write


@pytest.fixture
def core(traded, served):
    """The policy `core`, deployed, at noon of a Monday."""
    write(traded)
    deploy_policy(traded, "core")
    return traded


def test_it_says_what_is_due_what_was_bought_and_that_nothing_runs(core, served) -> None:
    (one,) = told("status")["deployments"]
    assert (one["name"], one["book"], one["due_now"], one["last_bought"]) == ("core", "local", True, None)
    assert one["next"] == "2026-01-05 14:40 UTC" and one["broker_clock"] == "2026-01-05T17:00:00Z"
    assert one["stopped_by"] == [] and one["late_since"] is None
    running = told("status")["schedulers"]
    assert {row["name"]: row["status"] for row in running}["daemon"] == "NOT RUNNING"
    assert {row["status"] for row in running if row["kind"] == "schedule"} == {"STOPPED"}
    assert "nothing trades by itself" in call("status").stdout
    assert call("dca", "run", "--policy", "core", "--execute").exit_code == 0
    (one,) = told("status")["deployments"]
    assert (one["due_now"], one["last_bought"], one["next"]) == (False, "2026-01-05", "2026-01-06 14:40 UTC")
    assert "decided already (core.2026-01-05)" in one["due"] and "DECIDED" in one["last_word"]


def test_it_says_why_nothing_was_bought_and_what_stops_it(core, served) -> None:
    write(core, guardrails={"dailySpendLimit": 500})
    assert call("dca", "run", "--policy", "core", "--execute").exit_code == 3
    call("halt", "strategy:core", "--by", "Ada Byron", "--reason", "a test")
    (one,) = told("status")["deployments"]
    assert "DAILY_SPEND" in one["last_word"] and one["due_now"]
    assert len(one["stopped_by"]) == 1 and "HALTED" in one["stopped_by"][0]
    assert "STOPPED by HALTED" in call("status").stdout


def test_a_sunday_a_faulty_file_and_a_broker_that_is_away(core, served, monkeypatch) -> None:
    served.admin.to("2026-01-11T15:00:00Z")
    (core.strategies / "deployments" / "bad.yaml").write_text("policy: nowhere\n")
    found = {one["name"]: one for one in told("status")["deployments"]}
    assert "Sunday, 2026-01-11, is no session of XNYS" in found["core"]["due"]
    assert "nowhere" in found["bad"]["stopped_by"][0]
    monkeypatch.setenv("LEDGER_PIPELINE_EXCHANGE_URL", "http://127.0.0.1:9")
    found = {one["name"]: one for one in told("status")["deployments"]}
    assert "broker" in found["core"]["stopped_by"][0] and found["core"]["broker_clock"] is None


def test_the_book_of_a_deployment_is_the_one_in_its_file(core, monkeypatch) -> None:
    assert "book: local" in (core.strategies / "deployments" / "core.yaml").read_text()
    monkeypatch.setenv(BOOK_VARIABLE, "another")
    assert find_deployment(core, "core").book == "local"
    (core.strategies / "deployments" / "old.yaml").write_text("policy: core\n")  # written before books stood in files
    assert find_deployment(core, "old").book == "local"
    call("deployment", "add", "core", "--name", "mine")
    assert "book: another" in (core.strategies / "deployments" / "mine.yaml").read_text()


def test_orders_that_were_filled_are_told_when_what_follows_fails(core, served, monkeypatch) -> None:
    from ledger_pipeline.attribution import series as views
    from ledger_pipeline.core.errors import InputError

    def fails(*_: object, **__: object) -> None:
        raise InputError("attribution is broken")

    monkeypatch.setattr(views, "attribution_at", fails)
    done = call("dca", "run", "--policy", "core", "--execute")
    assert done.exit_code == 8 and "FILLED" in done.stdout
    assert "what follows from them failed: attribution is broken" in done.stderr
    assert len(served.sent()) == 2


@pytest.mark.parametrize("limit", ["500", None])
def test_orders_by_hand_pass_the_guardrails_of_their_strategy(core, served, limit, tmp_path) -> None:
    if limit:
        write(core, guardrails={"dailySpendLimit": int(limit)})
    legs = tmp_path / "legs.json"
    legs.write_text('[{"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "676.00"}]')
    done = call("orders", "submit", str(legs), "--execute")
    assert done.exit_code == (3 if limit else 0), done.output
    assert len(served.sent()) == (0 if limit else 1)
    if limit:
        assert "DAILY_SPEND" in done.output
