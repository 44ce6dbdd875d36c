"""Live trading as metrics: what the books say, counted by hand, and read by Prometheus's own parser."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.orders.executor import execute
from ledger_pipeline.trading.orders.halts import halt
from ledger_pipeline.trading.orders.legs import Leg
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline.trading.session_context import open_session, read_book
from ledger_pipeline.trading.telemetry import registry
from ledger_pipeline_tests import projects
from ledger_pipeline_tests.projects import CHECKOUT
from ledger_pipeline_tests.trading.deployment.test_policy_session import write


def samples(text: str) -> dict[tuple, float]:
    """Values by (name, labels...)."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(kept) -> dict[tuple, float]:
    return samples(generate_latest(kept).decode())


def of(values: dict[tuple, float], name: str, **labels: str) -> float | None:
    return values.get((f"ledger_pipeline_{name}", *sorted({"book": "local", **labels}.items())))


def test_what_the_books_say_is_counted_and_followed(traded) -> None:
    kept = registry(traded)
    before = read(kept)
    assert of(before, "book_readable") == 1 and of(before, "orders", status="FILLED") is None
    assert of(before, "events_total", kind="OPENED") == 2  # the account, and its cash
    with open_session(traded) as context:
        reconcile(context.book, context.broker)
        legs = [Leg("VTI", "BUY", "core", quantity=2), Leg("VXUS", "BUY", "core", quantity=3)]
        assert execute(legs, context.book, context.broker, policy="core").status == "DONE"
        halt(context.book, "account", by="Ada Byron", reason="a test")
    after, book = read(kept), read_book(traded)
    assert of(after, "orders", status="FILLED") == 2
    assert of(after, "events_total", kind="FILLED") == 2
    assert of(after, "fill_latency_seconds_count") == of(after, "fill_latency_seconds_bucket", le="+Inf") == 2
    submits = {e.order_id: e.occurred_at for e in book.events() if e.kind == "ORDER_SUBMITTED"}
    waits = [(e.occurred_at - submits[e.order_id]).total_seconds() for e in book.events() if e.kind == "FILLED"]
    assert of(after, "fill_latency_seconds_sum") == pytest.approx(sum(max(0, wait) for wait in waits))
    assert of(after, "book_commits") == book.head.seq
    assert of(after, "book_head_info", hash=book.head.hash) == 1
    assert of(after, "halts", scope="account") == 1 and of(after, "stopped") == 1
    assert of(after, "breaks_open") == 0 and of(after, "reconciled_clean") == 1
    assert read(registry(traded)) == after  # counted anew it is the same: a restart forgets nothing
    (traded.root / "HALT").write_text("")
    assert of(read(kept), "stopped") == 2


def test_decisions_are_counted_by_deployment_and_outcome(traded) -> None:
    from ledger_pipeline.trading.deployment.deployment import find_deployment
    from ledger_pipeline.trading.deployment.session_work import plan_session, work_session

    write(traded)
    deploy_policy(traded, "core")
    with open_session(traded) as context:
        reconcile(context.book, context.broker)
        made = plan_session(traded, context, find_deployment(traded, "core")).decision
        work_session(traded, context, find_deployment(traded, "core"), made)
    values = read(registry(traded))
    assert of(values, "decisions_total", deployment="core", outcome="decided") == 1
    decided = next(event for event in read_book(traded).events() if event.kind == "DECIDED")
    at = of(values, "last_decision_timestamp_seconds", deployment="core")
    assert at == pytest.approx(decided.occurred_at.timestamp())


def test_a_book_that_cannot_be_read_is_told_and_hides_no_other(traded) -> None:
    other = traded.books / "other" / "2026" / "01" / "05"
    other.mkdir(parents=True)
    (other / "00000001.json").write_text("{")
    values = read(registry(traded))
    assert values["ledger_pipeline_book_readable", ("book", "other")] == 0
    assert of(values, "book_readable") == 1
    assert not [key for key in values if ("book", "other") in key and "readable" not in key[0]]


def test_without_books_there_is_nothing_to_tell(fresh) -> None:
    assert read(registry(fresh)) == {}


def test_the_command_prints_and_listens(traded) -> None:
    printed = projects.command(traded, "metrics", "--schedulers")
    assert printed.returncode == 0, printed.stderr
    values = samples(printed.stdout)
    assert of(values, "book_readable") == 1
    assert values["ledger_pipeline_scheduler_running", ("kind", "daemon"), ("name", "daemon")] == 0
    listed = json.loads(projects.command(traded, "metrics", "--json").stdout)["samples"]
    assert {"name": "ledger_pipeline_book_readable", "labels": {"book": "local"}, "value": 1} in listed
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ledger_pipeline.cli.main", "--root", str(traded.root), "metrics", "--listen"]
    process = subprocess.Popen([*command, f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == f"metrics at http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert of(samples(answer.read().decode()), "book_commits") == read_book(traded).head.seq
        taken = subprocess.run([*command, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=30)
        assert taken.returncode == 2 and f"cannot listen on 127.0.0.1:{port}" in taken.stderr
    finally:
        process.kill()
        process.wait()
    wrong = projects.command(traded, "metrics", "--listen", "9464")
    assert wrong.returncode == 2 and "write it as 127.0.0.1:9464" in wrong.stderr


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(traded) -> None:
    text = generate_latest(registry(traded, lambda: [])).decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | {"ledger_pipeline_fill_latency_seconds_bucket"}
    dashboard = json.loads((CHECKOUT / "deploy" / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((CHECKOUT / "deploy" / "prometheus-rules.yaml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    documented = (CHECKOUT / "docs" / "metrics.md").read_text()
    for expression in asked:
        names = re.findall(r"ledger_pipeline_\w+", expression)
        assert names and set(names) <= known, expression
    for name in known - {"ledger_pipeline_fill_latency_seconds_bucket"}:
        assert f"`{name}`" in documented, name
