"""The state survives kill -9 at any moment, a second exchange on it is refused, and starting is quick."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import requests
from click.testing import CliRunner

from ledger_pipeline.exchange.__main__ import main
from ledger_pipeline.exchange.server import Options, open_exchange, options_of
from ledger_pipeline.exchange.state import FILE
from ledger_pipeline_tests.exchange.clients import activities, everything, held, limit, market
from ledger_pipeline_tests.exchange.server import NOON, exchange


def test_everything_is_there_after_kill_9(tmp_path: Path) -> None:
    with exchange(tmp_path) as served:
        client = served.trading()
        market(client, "VTI", "buy", qty=2)
        resting = limit(client, "BND", "buy", 3, 70)
        served.admin.to("2026-01-05T18:00:00Z")
        served.admin.settings(fees=True)
        before = [
            client.get_account().model_dump(),
            everything(client),
            activities(client),
            held(client),
            client.get_clock(),
        ]
        record = served.admin.record()
        served.kill()
        served.restart()
        client = served.trading()
        after = [
            client.get_account().model_dump(),
            everything(client),
            activities(client),
            held(client),
            client.get_clock(),
        ]
        assert after == before
        assert served.admin.record()[: len(record)] == record
        served.admin.price("BND", 69)
        assert client.get_order_by_id(resting.id).status == "filled"
        assert served.admin.state()["settings"]["fees"] is True


def test_kill_9_at_random_times_loses_no_accepted_order_and_halves_none(tmp_path: Path) -> None:
    """A client submits without pause while the exchange is killed: what was answered is there, and cash, positions,
    fills and activities agree whatever the moment was.
    """
    chance = random.Random(7)
    with exchange(tmp_path, cash=1_000_000) as served:
        answered: list[str] = []
        for round_ in range(3):
            stop = threading.Event()

            def submit(stop: threading.Event = stop, round_: int = round_) -> None:
                session, number = requests.Session(), 0
                session.headers.update({"APCA-API-KEY-ID": served.key, "APCA-API-SECRET-KEY": served.secret})
                while not stop.is_set():
                    number += 1
                    body = {
                        "symbol": "VTI",
                        "side": "buy",
                        "type": "market",
                        "time_in_force": "day",
                        "notional": 10.01,
                        "client_order_id": f"k.{round_}.{number}",
                    }
                    try:
                        if session.post(f"{served.url}/v2/orders", json=body, timeout=5).status_code == 200:
                            answered.append(body["client_order_id"])
                    except requests.RequestException:
                        return

            thread = threading.Thread(target=submit)
            thread.start()
            time.sleep(0.15 + 0.2 * chance.random())
            served.kill()
            stop.set()
            thread.join(10)
            served.restart()
        client = served.trading()
        orders, fills = everything(client), activities(client, "FILL")
        assert set(answered) <= {order.client_order_id for order in orders} and len(answered) > 20
        assert len(orders) - len(answered) <= 3
        assert {order.status for order in orders} == {"filled"}
        assert sorted(fill["order_id"] for fill in fills) == sorted(str(order.id) for order in orders)
        assert held(client)["VTI"] == sum(Decimal(fill["qty"]) for fill in fills)
        assert Decimal(client.get_account().cash) == 1_000_000 - Decimal("10.01") * len(orders)


def test_the_record_is_an_oracle_that_only_grows(tmp_path: Path) -> None:
    with exchange(tmp_path) as served:
        order = market(served.trading(), "VTI", "buy", qty=1, id_="seen")
        assert len(served.admin.requests("POST", "/v2/orders")) == 1
        (request,) = served.admin.requests("POST", "/v2/orders")
        assert request["doc"]["body"]["client_order_id"] == "seen"
        versions = [
            row["doc"]["order"]["status"] for row in served.admin.record("order") if row["key"] == str(order.id)
        ]
        assert versions == ["pending_new", "new", "filled"]
        (fill,) = served.admin.record("fill")
        assert (fill["doc"]["qty"], fill["doc"]["cash"], fill["doc"]["client_order_id"]) == ("1", "-250", "seen")
        kinds = {row["kind"] for row in served.admin.record()}
        assert {"request", "reply", "order", "fill", "activity"} <= kinds
        assert "test-secret" not in json.dumps(served.admin.record(), default=str)
        state = served.state
    database = sqlite3.connect(state / FILE)
    for statement in ("update record set doc = ''", "delete from record"):
        try:
            database.execute(statement)
            raise AssertionError("the record was changed")
        except sqlite3.IntegrityError as error:
            assert "append-only" in str(error)
    database.close()


def test_a_second_exchange_and_a_taken_port_are_refused(tmp_path: Path) -> None:
    with exchange(tmp_path) as served:
        runner = CliRunner()
        second = runner.invoke(main, ["--state", str(served.state)])
        assert second.exit_code == 3 and "another exchange runs on" in second.output
        port = served.url.rsplit(":", 1)[1]
        taken = runner.invoke(main, ["--state", str(tmp_path / "other"), "--port", port, "--start", NOON])
        assert taken.exit_code == 1 and f"port {port} cannot be used" in taken.output


def test_another_exchange_is_another_account(tmp_path: Path) -> None:
    """The same start gives the same account again; other prices, another day, other cash or another seed another."""

    def account(name: str, **changes: object) -> str:
        given = {
            "symbols": ("VTI=250",),
            "start": datetime(2026, 1, 5, 15, tzinfo=UTC),
            "cash": Decimal(10_000),
        } | changes
        exchange = open_exchange(Options(tmp_path / name, **given))
        found = exchange.account["id"]
        exchange.store.close()
        return found

    first = account("one")
    assert first == account("two")
    others = [
        account("prices", symbols=("VTI=251",)),
        account("day", start=datetime(2026, 1, 6, 15, tzinfo=UTC)),
        account("cash", cash=Decimal(10_001)),
        account("seed", seed=1),
    ]
    assert len({first, *others}) == 5


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    open_exchange(options_of({"state": Path(old), "cash": "1", "multiplier": "1", "start": NOON})).store.close()
    quotes, torn = tmp_path / "prices.csv", tmp_path / "torn.csv"
    quotes.write_text("symbol,ts,price\nVTI,2026-01-05,250\n")
    torn.write_text("symbol,price\nVTI,250\n")
    cases = [
        (["--state", old, "--quotes", str(quotes)], 3, "was started with other prices"),
        (["--state", new, "--quotes", str(quotes)], 2, "line 2: the time '2026-01-05' has no time zone"),
        (["--state", new, "--quotes", str(torn)], 2, "they must be symbol, ts and price"),
        (["--state", new, "--quotes", str(tmp_path / "none.csv")], 4, "there is no file"),
        (["--state", new, "--snapshot", str(tmp_path)], 2, "is no snapshot"),
        (["--state", new, "--start", "2026-01-05"], 2, "no time zone"),
        (["--state", new, "--cash", "much"], 2, "--cash 'much' is no amount"),
        (["--state", new, "--calendar", "MARS"], 2, "MARS"),
        (["--state", new, "--symbols", "VTI=-1", "--start", NOON], 2, "price above zero"),
        (["--state", str(quotes)], 2, "is a file"),
    ]  # fmt: skip
    for arguments, code, sentence in cases:
        ended = CliRunner().invoke(main, arguments)
        assert (ended.exit_code, sentence in ended.output) == (code, True), (arguments, ended.output)


def test_it_ends_with_the_process_that_started_it_and_admin_is_off_unless_asked_for(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ledger_pipeline.exchange", "--state", str(tmp_path / "x"), "--until-stdin-closes", "--start", "2026-01-05T17:00:00Z", "--symbols", "VTI=1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = json.loads(process.stdout.readline())
    assert told["admin"] is None and told["pid"] == process.pid
    headers = {"APCA-API-KEY-ID": "local", "APCA-API-SECRET-KEY": "local-secret"}
    assert requests.get(told["url"] + "/admin/state", headers=headers, timeout=5).status_code == 404
    assert requests.get(told["url"] + "/v2/clock", headers=headers, timeout=5).json()["is_open"] is True
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()
