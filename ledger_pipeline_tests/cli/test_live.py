"""book, orders, positions, reconcile, halt and resume against the local exchange."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from ledger_pipeline_tests.cli.console import call, refused, told

PERSON = ("--by", "Ada Byron", "--reason", "a test")
BUY = [{"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "676.00", "reasons": ["UNDERWEIGHT", "DCA"]}]


@pytest.fixture
def legs(traded):
    def write(rows) -> str:
        path = traded.root / "legs.json"
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return str(path)

    return write


def submit(path: str, *options: str, code: int = 0):
    return told("orders", "submit", path, "--execute", *options, code=code)


def test_the_first_session_of_a_new_user(fresh, served) -> None:
    assert "`ledger-pipeline book adopt` begins one" in refused(4, "book", "show")
    opened = told("book", "adopt", *PERSON)
    assert (opened["cash"], opened["environment"], opened["positions"]) == ("10000", "exchange", [])
    assert told("reconcile")["clean"] is True
    (fresh.root / "legs.json").write_text(json.dumps(BUY))
    checked = call("orders", "submit", "legs.json")
    assert checked.exit_code == 0 and "nothing was sent" in checked.stderr
    assert told("orders") == [] and served.sent() == []
    done = submit("legs.json")
    assert (done["status"], [order["status"] for order in done["orders"]]) == ("DONE", ["FILLED"])
    assert told("positions") == {
        "cash": "9324",
        "positions": [{"strategy": "core", "symbol": "VTI", "quantity": "2.704"}],
    }
    assert told("reconcile")["clean"] is True
    verified = told("book", "verify")
    assert verified["events"] == told("book", "show")["events"]


def test_the_same_legs_again_send_nothing_more(served, legs) -> None:
    path = legs(BUY)
    first, again = submit(path), submit(path)
    assert first["orders"] == again["orders"]
    assert len(served.sent()) == 1
    assert first["notes"] == [] and again["notes"] == ["these orders were sent and settled before; nothing was sent"]


def test_reasons_travel_from_the_leg_to_the_fill(legs) -> None:
    submit(legs(BUY))
    events = told("book", "show", "--events", "50")["last_events"]
    assert {event["why"] for event in events if event["kind"] in ("ORDER_INTENDED", "FILLED")} == {"UNDERWEIGHT, DCA"}


def test_a_halt_blocks_submits_and_resume_needs_a_reconciliation(served, legs) -> None:
    told("halt", "symbol:VTI", *PERSON)
    done = submit(legs(BUY), code=3)
    assert done["status"] == "BLOCKED" and any("HALTED" in note for note in done["notes"])
    assert served.sent() == []
    assert told("reconcile")["clean"] is True
    assert told("resume", "symbol:VTI", *PERSON) == {"scope": "symbol:VTI", "resumed": True, "still_halted": []}
    assert submit(legs(BUY))["status"] == "DONE"


def test_a_halt_by_file_stops_everything_and_resume_says_so(traded, served, legs) -> None:
    (traded.root / "HALT").touch()
    assert submit(legs(BUY), code=3)["status"] == "BLOCKED"
    assert "HALT_FILE" in told("resume", *PERSON)["still_halted"][0]
    assert served.sent() == []


def test_resume_is_blocked_while_the_last_reconciliation_is_older_than_the_halt(legs) -> None:
    told("reconcile")
    told("halt", *PERSON)
    assert "global stays halted" in refused(3, "resume", *PERSON)


def test_a_break_ends_with_7_blocks_and_is_answered_by_an_override(served, legs) -> None:
    served.admin.cash("9990")
    broken = told("reconcile", code=7)
    assert [item["kind"] for item in broken["breaks"]] == ["cash"]
    assert "the check no_breaks failed" in refused(7, "orders", "submit", legs(BUY), "--execute")
    assert served.sent() == []
    break_id = broken["breaks"][0]["break_id"]
    assert told("book", "show")["breaks"] == [break_id]
    told("book", "override", break_id, "--cash", "-10", *PERSON)
    assert told("reconcile")["clean"] is True
    assert Decimal(told("positions")["cash"]) == Decimal("9990")
    assert submit(legs(BUY))["status"] == "DONE"


def test_a_fill_that_the_broker_corrects_and_takes_back_is_recorded_by_hand(served, legs) -> None:
    order = submit(legs(BUY))["orders"][0]["order_id"]
    (fill,) = [row for row in served.admin.record("activity", after=served.since) if row["doc"].get("type") == "fill"]
    served.admin.bust(fill["doc"]["id"], qty="2", price="251")
    broken = {item["kind"]: item for item in told("reconcile", code=7)["breaks"]}
    assert "book correct" in broken["activity_unrecognized"]["what_to_do"]
    new = broken["activity_unrecognized"]["break_id"].partition(":")[2]
    told("book", "correct", order, fill["doc"]["id"], "--new-id", new, "--quantity", "2", "--price", "251", *PERSON)
    told("book", "override", broken["activity_unrecognized"]["break_id"], *PERSON)
    assert told("reconcile")["clean"] is True
    assert told("positions")["positions"][0]["quantity"] == "2"
    assert told("book", "bust", order, new, *PERSON)[0]["kind"] == "FILL_BUSTED"
    assert told("book", "bust", order, new, *PERSON) == []
    assert told("positions")["positions"] == []
    assert told("reconcile", code=7)["clean"] is False  # the broker did not take that one back
    assert "no order" in refused(4, "book", "bust", "none", "none", *PERSON)


def test_a_book_is_exported_whole_or_by_day(traded, legs) -> None:
    submit(legs(BUY))
    count = told("book", "show")["events"]
    for name in ("book.jsonl", "book.csv", "book.xlsx", "book.parquet"):
        assert told("book", "export", name) == {"path": name, "events": count}
        assert (traded.root / name).stat().st_size > 200
    assert pq.read_table(traded.root / "book.parquet").num_rows == count
    assert told("book", "export", "none.csv", "--day", "2026-01-06")["events"] == 0
    assert "pdf" in refused(2, "book", "export", "book.pdf")


def test_a_book_opens_from_its_checkpoint(traded, legs) -> None:
    submit(legs(BUY))
    before = told("book", "show")
    told("book", "checkpoint")
    assert told("book", "show") == before
    assert told("book", "verify")["events"] == before["events"]


def test_an_order_is_canceled_while_halted(served, legs) -> None:
    served.admin.settings(matching="manual")
    path = legs([{"symbol": "VTI", "side": "BUY", "strategy": "core", "quantity": "2"}])
    done = submit(path, "--timeout", "1")
    assert done["status"] == "OPEN"
    order_id = done["orders"][0]["order_id"]
    told("halt", *PERSON)
    assert [row["status"] for row in told("orders", "cancel", order_id)] == ["CANCELED"]
    assert told("orders", "--open") == []
    assert "no order" in refused(4, "orders", "cancel", "manual.20260105.VTI.B9.000000000000")


BAD_LEGS = {
    "zero": ([BUY[0] | {"notional": "0"}], "above zero"),
    "negative": ([{"symbol": "VTI", "side": "BUY", "strategy": "core", "quantity": "-1"}], "above zero"),
    "nan": ([BUY[0] | {"notional": "NaN"}], "above zero"),
    "twenty decimals": (
        [{"symbol": "VTI", "side": "BUY", "strategy": "core", "quantity": "1.00000000000000000001"}],
        "at most 9",
    ),
    "a number": ('[{"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": NaN}]', "NaN"),
    "below the minimum": ([BUY[0] | {"notional": "0.50"}], "minimum"),
    "unknown symbol": ([BUY[0] | {"symbol": "NOPE"}], "knows no symbol NOPE"),
    "unknown field": ([BUY[0] | {"qty": "1"}], "a leg is an object with"),
    "no list": ({"symbol": "VTI"}, "no list of legs"),
    "no json": ("[", "no JSON file of legs"),
    "empty": ([], "no list of legs"),
}


def test_bad_legs_are_refused_in_one_sentence_and_nothing_is_sent(served, legs) -> None:
    before = told("book", "show")["events"]
    for name, (rows, words) in BAD_LEGS.items():
        assert words in refused(2, "orders", "submit", legs(rows), "--execute"), name
    assert served.sent() == []
    kinds = [event["kind"] for event in told("book", "show", "--events", "50")["last_events"]][before:]
    assert set(kinds) <= {"RECONCILED"}


def test_an_asset_that_may_not_be_traded_is_refused(served, legs) -> None:
    served.admin.asset("VTI", tradable=False)
    assert "VTI" in refused(2, "orders", "submit", legs(BUY), "--execute")
    assert served.sent() == []


def test_wrong_keys_are_a_broker_error_that_names_the_variables(traded, monkeypatch) -> None:
    monkeypatch.setenv("EXCHANGE_SECRET", "canary-of-a-secret")
    text = refused(6, "reconcile")
    assert "refused the keys" in text and "canary" not in text


def test_no_exchange_is_a_broker_error(traded) -> None:
    assert "127.0.0.1:9" in refused(6, "reconcile", "--exchange-url", "http://127.0.0.1:9")


def test_the_book_of_another_account_is_refused(traded, served, tmp_path, monkeypatch) -> None:
    from ledger_pipeline_tests.exchange.server import exchange

    with exchange(tmp_path / "other", symbols="VTI=250", seed=99) as other:
        text = refused(3, "reconcile", "--exchange-url", other.url)
    assert "belongs to account" in text


def test_a_host_that_is_not_the_brokers_is_refused(traded) -> None:
    assert "no local exchange" in refused(2, "reconcile", "--exchange-url", "http://example.com")
    assert "belongs to environment exchange" in refused(3, "reconcile", "--broker", "live")
    assert "live trading is not enabled" in refused(3, "reconcile", "--broker", "live", "--book", "another")


@pytest.mark.parametrize("change", ["flipped", "removed", "added"])
def test_a_damaged_book_ends_with_5_and_names_the_seq(traded, served, legs, change) -> None:
    submit(legs(BUY))
    path = sorted((traded.books / "local").rglob("0*2.json"))[-1]
    if change == "flipped":
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b"10000", b"10001"))
    elif change == "removed":
        path.unlink()
    else:
        path.with_name("000000000999.json").write_bytes(path.read_bytes())
    sent = len(served.sent())
    for arguments in (["book", "verify"], ["reconcile"], ["orders", "submit", legs(BUY), "--execute"]):
        assert "999" in refused(5, *arguments) if change == "added" else "2" in refused(5, *arguments)
    assert len(served.sent()) == sent
