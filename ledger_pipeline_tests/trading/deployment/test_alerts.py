"""Alerts: what is told, once, and where to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.errors import InputError, StorageError
from ledger_pipeline.trading.deployment.alerts import Alert, alerts, missed_sessions, post, webhook
from ledger_pipeline.trading.deployment.promote import deploy_policy
from ledger_pipeline.trading.orders.halts import halt
from ledger_pipeline_tests.events import event_of


@contextmanager
def listening(status: int = 200) -> Iterator[tuple[str, list[dict]]]:
    got: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        server.server_close()


def test_blocks_halts_and_breaks_are_told_and_nothing_else(tmp_path) -> None:
    book = open_book(tmp_path / "local")
    now = datetime(2026, 1, 5, 15, tzinfo=UTC)
    book.append(
        [
            event_of(
                kind="NO_ACTION",
                occurred_at=now,
                strategy="core",
                reasons=("NO_CASH",),
                payload={"why": ["NO_CASH: none"]},
            )
        ]
    )
    told = ["DAILY_SPEND: too much"]
    book.append(
        [event_of(kind="BLOCKED", occurred_at=now, strategy="core", reasons=("DAILY_SPEND",), payload={"why": told})]
    )
    halt(book, "symbol:VTI", "Ada", "trading halt", at=now)
    found = alerts(book, 0)
    assert [(alert.kind, alert.strategy) for alert in found] == [("BLOCKED", "core"), ("HALTED", None)]
    assert found[0].text == "BLOCKED: DAILY_SPEND: too much" and "trading halt" in found[1].text
    assert alerts(book, found[0].seq) == found[1:] and alerts(book, book.state.seq) == []


def test_a_session_that_was_missed_is_told_once(tmp_path, fresh) -> None:
    book = open_book(fresh.books / "local")
    deploy_policy(fresh, "core")
    first = datetime(2026, 1, 5, 15, tzinfo=UTC)
    book.append([event_of(kind="NO_ACTION", occurred_at=first, strategy="core", correlation_id="core.2026-01-05")])
    found = missed_sessions(fresh, book, date(2026, 1, 8))
    assert [alert.text.split(":")[1] for alert in found] == [
        f" it was to buy in 2026-01-0{day} and did not until its period ended" for day in (5, 6, 7)
    ]
    assert missed_sessions(fresh, book, date(2026, 1, 8), [alert.text for alert in found]) == []
    book.append([event_of(kind="NO_ACTION", occurred_at=first + timedelta(days=3), strategy="core", correlation_id="core.2026-01-08")])  # fmt: skip
    assert missed_sessions(fresh, book, date(2026, 1, 8), [alert.text for alert in found]) == []


ALERT = Alert("BLOCKED", "local", "BLOCKED: why", 7, "2026-01-05T15:00:00.000000Z", "core")


def test_a_webhook_gets_them_in_one_post() -> None:
    with listening() as (url, got):
        assert post([ALERT, ALERT], url) == 2 and post([], url) == 0
    assert len(got) == 1 and got[0]["text"] == "BLOCKED: why\nBLOCKED: why"
    assert got[0]["alerts"][0] == {
        "kind": "BLOCKED", "book": "local", "text": "BLOCKED: why", "seq": 7, "at": ALERT.at, "strategy": "core",
    }  # fmt: skip


def test_a_webhook_that_does_not_take_them_keeps_them() -> None:
    with listening(500) as (url, _), pytest.raises(StorageError, match="answered 500"):
        post([ALERT], url)
    with pytest.raises(StorageError, match="cannot be reached"):
        post([ALERT], "http://127.0.0.1:9/hook")


def test_alerts_leave_this_machine_encrypted_only() -> None:
    assert webhook({}) is None
    assert webhook({"LEDGER_PIPELINE_WEBHOOK": "https://example.com/x"}) == "https://example.com/x"
    assert webhook({"LEDGER_PIPELINE_WEBHOOK": "http://127.0.0.1:1/x"}) == "http://127.0.0.1:1/x"
    for url in ("http://example.com/x", "ftp://127.0.0.1/x", "example.com"):
        with pytest.raises(InputError, match="must be an https address"):
            webhook({"LEDGER_PIPELINE_WEBHOOK": url})
