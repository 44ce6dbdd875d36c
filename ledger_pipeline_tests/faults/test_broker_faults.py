"""Rows 10 to 25 and 29: a broker that answers wrongly, late or not at all, and one that says no.

The real adapter trades over loopback; the exchange's own record says how many orders there really are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.trading.alpaca.http import Budget
from ledger_pipeline.trading.broker import NOT_CANCELABLE
from ledger_pipeline.trading.orders import submit
from ledger_pipeline.trading.orders.cancel import cancel
from ledger_pipeline.trading.orders.execution_context import Pace
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline_tests.exchange.server import Served, eventually
from ledger_pipeline_tests.faults.bench import IMPATIENT, PACE, TODAY, Bench, buy, order_id, sat_down, sell, settled
from ledger_pipeline_tests.trading.contexts import in_context

D = Decimal
ORDERS, LOOKUP = "/v2/orders", "/v2/orders:by_client_order_id"
VTI, VXUS = order_id("VTI"), order_id("VXUS")
UNKNOWN_AND_BACK = ["ORDER_INTENDED", "ORDER_SUBMITTED", "SUBMIT_UNKNOWN", "ORDER_ACKNOWLEDGED", "FILLED"]
SENT_AGAIN = [*UNKNOWN_AND_BACK[:3], "ORDER_SUBMITTED", "ORDER_ACKNOWLEDGED", "FILLED"]
HTML = {"body": "<html>Gateway Time-out</html>"}
TOO_MANY = {"do": "reply", "status": 429, "body": {"code": 42910000, "message": "too many requests."}}


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench with ten thousand dollars."""
    with sat_down(served, tmp_path) as one:
        yield one


@pytest.fixture
def hurried(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose connection gives up after less than a second."""
    with sat_down(served, tmp_path, limits=IMPATIENT) as one:
        yield one


def post_fault(bench: Bench, when: str, do: str, **fields: Any) -> None:
    bench.served.admin.fault(do, "POST", ORDERS, when=when, **fields)


# Rows 10, 12, 15, 16: the order is there, and the answer does not say so.

LOST_ANSWERS = {
    "504": {"do": "reply", "status": 504},
    "504-html": {"do": "reply", "status": 504, **HTML},
    "500": {"do": "reply", "status": 500},
    "429": TOO_MANY,
    "reset": {"do": "reset"},
    "truncated": {"do": "truncate"},
    "one-byte": {"do": "truncate", "keep": 1},
    "shorter-than-announced": {"do": "length"},
    "garbage": {"do": "reply", "status": 200, "body": "<html>fine</html>"},
    "list": {"do": "reply", "status": 200, "body": []},
    "null": {"do": "reply", "status": 200, "body": None},
    "another-order": {"do": "reply", "status": 200, "body": {"id": "x", "client_order_id": "y", "status": "filled"}},
    "empty": {"do": "empty"},
    "302": {"do": "redirect", "location": "http://127.0.0.1:9/"},
}


@pytest.mark.parametrize("name", sorted(LOST_ANSWERS))
def test_an_order_whose_answer_is_lost_is_found_and_never_sent_again(bench: Bench, name: str) -> None:
    post_fault(bench, "after", **LOST_ANSWERS[name])
    done = bench.execute([buy("VTI", "676"), buy("VXUS", "324")])
    assert settled(done) == ("DONE", ["FILLED", "FILLED"])
    assert bench.posts() == [VTI, VXUS]
    assert bench.at_broker() == {VTI: ["filled"], VXUS: ["filled"]}
    assert bench.life("VTI") == UNKNOWN_AND_BACK
    bench.check()


# Row 11, and the same for the other faults: the order is not there.

LOST_REQUESTS = {
    "504": {"do": "reply", "status": 504},
    "429": TOO_MANY,
    "503": {"do": "reply", "status": 503, **HTML},
    "reset": {"do": "reset"},
}


@pytest.mark.parametrize("name", sorted(LOST_REQUESTS))
def test_an_order_that_never_arrived_is_sent_again_under_the_same_id(bench: Bench, name: str) -> None:
    post_fault(bench, "before", **LOST_REQUESTS[name])
    done = bench.execute([buy("VTI", "676")])
    assert settled(done) == ("DONE", ["FILLED"])
    assert bench.posts() == [VTI, VTI] and bench.at_broker() == {VTI: ["filled"]}
    assert bench.life("VTI") == SENT_AGAIN
    lookups = [row for row in bench.served.sent("GET", LOOKUP) if VTI in row["doc"]["query"]]
    assert len(lookups) >= PACE.lookups
    bench.check()


# Row 13: the broker counts requests.


def test_too_many_requests_are_waited_out_as_long_as_the_broker_says(served: Served, tmp_path: Path) -> None:
    slept: list[float] = []
    with sat_down(served, tmp_path, sleep=slept.append) as bench:
        served.admin.fault(verb="GET", path="/v2/account/activities", times=2, headers={"Retry-After": "7"}, **TOO_MANY)
        reset = {"X-RateLimit-Reset": str(int(time.time()) + 30)}
        served.admin.fault(verb="GET", path="/v2/clock", times=1, headers=reset, **TOO_MANY)
        done = bench.execute([buy("VTI", "676")])
        assert settled(done) == ("DONE", ["FILLED"]) and bench.posts() == [VTI]
        assert slept.count(7.0) == 2 and len(slept) == 3
        assert any(20 < seconds <= 30 for seconds in slept)
        bench.check()


def test_a_storm_of_429_sends_nothing_twice_and_ends_in_a_settled_book(served: Served, tmp_path: Path) -> None:
    slept: list[float] = []
    with sat_down(served, tmp_path, sleep=slept.append) as bench:
        served.admin.settings(matching="manual")
        first = bench.execute([buy("VTI", "676"), buy("VXUS", "324")], timeout=0.3)
        assert first.status == "OPEN" and bench.posts() == [VTI, VXUS]
        served.admin.fault(path=".*", times=None, headers={"Retry-After": "1"}, **TOO_MANY)
        before = len(served.admin.record("request", after=served.since))
        with pytest.raises(BrokerError, match="429"):
            bench.execute([buy("VTI", "676"), buy("VXUS", "324")], timeout=0.3)
        assert len(served.admin.record("request", after=served.since)) - before <= 8  # a few tries, not a storm of ours
        assert set(slept) == {1.0}
        served.admin.clear_faults()
        for name in (VTI, VXUS):
            served.admin.order(name, "fill")
        assert settled(bench.execute([buy("VTI", "676"), buy("VXUS", "324")])) == ("DONE", ["FILLED", "FILLED"])
        assert bench.posts() == [VTI, VXUS]
        bench.check()


def test_reads_wait_when_our_own_budget_is_spent_and_cancels_do_not(served: Served, tmp_path: Path) -> None:
    """Time stands still but for the sleeps, so that every pause is seen."""
    now, paused = [0.0], []

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        now[0] += seconds

    with sat_down(served, tmp_path, sleep=sleep) as bench:
        served.admin.settings(matching="manual")
        bench.execute([buy("VTI", "676")], timeout=0.2)
        (order,) = bench.broker.orders(status="open")
        assert not paused
        bench.broker._trading._budget = Budget(5, lambda: now[0])
        for _ in range(5):
            bench.broker.clock()
        assert not paused
        bench.broker.cancel(order.id)  # at once, though the minute is used up
        assert not paused and bench.at_broker() == {VTI: ["canceled"]}
        bench.broker.clock()
        assert paused == [60.0]
        bench.check()


def test_a_cancel_gets_through_while_orders_and_activities_are_refused_for_their_number(bench: Bench) -> None:
    admin = bench.served.admin
    admin.settings(matching="manual")
    bench.execute([buy("VTI", "676")], timeout=0.2)
    admin.fault(
        verb="GET", path=f"{ORDERS}.*|/v2/account/activities", times=6, headers={"Retry-After": "0.5"}, **TOO_MANY
    )
    book = bench.book()
    order = cancel(book, bench.broker, VTI, **in_context(pace=PACE, timeout=10))
    assert order.status == "CANCELED"
    deletes = [row for row in admin.record("request", after=bench.served.since) if row["key"].startswith("DELETE")]
    last_refused = [row for row in admin.record("request", after=bench.served.since) if "activities" in row["key"]][-1]
    assert deletes[0]["seq"] < last_refused["seq"]
    bench.check()


# Row 14: the POST hangs.


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["continue", "drop"])
def test_a_submit_that_hangs_times_out_and_is_settled_by_its_id(hurried: Bench, when: str, then: str) -> None:
    """A hang before the effect that then continues is the worst of them: the order comes into being when it has been
    found absent and sent again, so that one of the two is refused as a duplicate.
    """
    post_fault(hurried, when, "hang", seconds=1.4, then=then)
    started = time.monotonic()
    done = hurried.execute([buy("VTI", "676")])
    assert settled(done) == ("DONE", ["FILLED"])
    assert time.monotonic() - started < 6
    assert hurried.life("VTI")[:3] == UNKNOWN_AND_BACK[:3]
    assert set(hurried.posts()) == {VTI} and len(hurried.posts()) == (1 if when == "after" else 2)
    replies = hurried.served.admin.record
    eventually(lambda: len(replies("reply", after=hurried.served.since)) >= len(hurried.served.sent()))
    time.sleep(0.7 if (when, then) == ("before", "continue") else 0)  # the late one arrives
    assert hurried.at_broker() == {VTI: ["filled"]}
    hurried.check()


def test_an_order_that_comes_into_being_while_it_is_looked_up_is_taken_in(hurried: Bench) -> None:
    """The late effect falls between two look-ups: nothing is sent a second time. Where it falls between the look-up and
    the reading of activities, the fill is seen before the order is, which acknowledges it as well.
    """
    post_fault(hurried, "before", "hang", seconds=1.2, then="continue")
    patient = Pace(poll=0.05, poll_longest=0.1, lookups=50, lookup_every=0.1)
    assert settled(hurried.execute([buy("VTI", "676")], pace=patient)) == ("DONE", ["FILLED"])
    fill_first = [kind for kind in UNKNOWN_AND_BACK if kind != "ORDER_ACKNOWLEDGED"]
    assert hurried.posts() == [VTI] and hurried.life("VTI") in (UNKNOWN_AND_BACK, fill_first)
    hurried.check()


# Rows 17, 18, 22: the id is in use.


@pytest.mark.parametrize("behind", [f"{ORDERS}.*|/v2/account/activities", f"{ORDERS}.*"], ids=["all", "orders"])
def test_an_order_that_stays_invisible_is_sent_again_refused_as_a_duplicate_and_found(
    bench: Bench, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 17 and 22: the answer is lost, and for a while the broker's reads do not know the order. When only the
    orders are behind, its fill is there before it and is not taken for a stranger's.
    """
    bench.served.admin.fault("stale", "GET", behind, times=None)
    post_fault(bench, "after", "reply", status=504)

    def at(name: str) -> None:
        if name == "after_submit" and len(bench.posts()) == 3:  # twice refused as a duplicate, and still not to be seen
            bench.served.admin.clear_faults()

    monkeypatch.setattr(submit, "crash_point", at)
    assert settled(bench.execute([buy("VTI", "676")])) == ("DONE", ["FILLED"])
    assert bench.posts() == [VTI] * 3 and bench.at_broker() == {VTI: ["filled"]}
    answered = [row["doc"]["status"] for row in bench.served.admin.record("reply", after=bench.served.since)]
    assert answered.count(422) == 2 and "ORDER_REJECTED" not in bench.life("VTI")
    assert not bench.events("BREAK_OPENED", "UNRECOGNIZED")
    bench.check()


def test_a_fill_ahead_of_its_order_halts_a_reconciliation_that_needs_nobody_afterwards(bench: Bench) -> None:
    """The position differs until the order is seen; then the break closes by itself, and nothing has to be overridden."""
    bench.served.admin.fault("stale", "GET", f"{ORDERS}.*", times=None)
    post_fault(bench, "after", "reply", status=504)
    assert bench.execute([buy("VTI", "676")], timeout=0.2, pace=Pace(lookups=50)).status == "OPEN"
    assert {item.kind for item in bench.reconcile().breaks} == {"position", "cash"}
    bench.served.admin.clear_faults()
    assert bench.reconcile().closed and bench.life("VTI") == UNKNOWN_AND_BACK
    assert settled(bench.execute([buy("VTI", "676")])) == ("DONE", ["FILLED"]) and bench.posts() == [VTI]
    bench.check()


def test_a_fill_of_an_order_nobody_sees_is_a_strangers_once_ours_is_known(bench: Bench) -> None:
    """What is waited for has an end: when our order is found to be another one, the fill beside it is nobody's here."""
    admin = bench.served.admin
    post_fault(bench, "before", "reply", status=504)

    def stranger(order: Any, *_: Any) -> tuple[str, ...]:
        if not bench.at_broker():
            admin.foreign(symbol="VTI", side="buy", notional="50", client_order_id="stranger")
        return ()

    admin.fault("stale", "GET", f"{ORDERS}.*", times=None)
    done = bench.execute([buy("VTI", "676")], guards=[stranger])
    assert settled(done) == ("DONE", ["FILLED"])
    admin.clear_faults()
    assert "foreign" in [item.kind for item in bench.check(clean=False).breaks]


def test_an_order_that_was_accepted_is_not_doubted_when_reads_do_not_show_it_yet(bench: Bench) -> None:
    """Row 22, with its answer: what the broker accepted is there, whatever its reads say for a while."""
    post_fault(bench, "after", "invisible", seconds=0.6)
    assert settled(bench.execute([buy("VTI", "676")])) == ("DONE", ["FILLED"])
    assert bench.posts() == [VTI] and "SUBMIT_UNKNOWN" not in bench.life("VTI")
    bench.check()


@pytest.mark.parametrize(
    "terms",
    [{"notional": "999"}, {"side": "sell", "qty": "1"}, {"symbol": "VXUS", "notional": "676"}, {"qty": "2.704"}],
    ids=["amount", "side", "symbol", "shares"],
)
def test_another_order_under_our_id_halts_the_account(bench: Bench, terms: dict[str, str]) -> None:
    """Row 18. The order of this decision comes second and is never sent."""
    admin = bench.served.admin
    admin.settings(matching="manual")

    def somebody_was_faster(order: Any, *_: Any) -> tuple[str, ...]:
        if order.order_id == VTI and not bench.at_broker():
            admin.foreign(**{"symbol": "VTI", "side": "buy", "client_order_id": VTI} | terms)
        return ()

    done = bench.execute([buy("VTI", "676"), buy("VXUS", "324")], guards=[somebody_was_faster], timeout=3)
    assert done.status == "BLOCKED" and [order.status for order in done.orders] == ["UNKNOWN", "INTENDED"]
    assert bench.posts() == [VTI]
    opened = [event.payload.break_id for event in bench.events("BREAK_OPENED")]
    assert f"order_mismatch:{VTI}" in opened and bench.events("FILLED") == []
    again = bench.execute([buy("VTI", "676"), buy("VXUS", "324")], timeout=1)
    assert again.status == "BLOCKED" and bench.posts() == [VTI]
    bench.check(clean=False)


# Row 19: the broker says no.


def forbidden(message: str) -> dict[str, Any]:
    return {
        "do": "reply",
        "verb": "POST",
        "path": ORDERS,
        "status": 403,
        "body": {"code": 40310000, "message": message},
    }


# name: what happens between the check and the submit, what undoes it, and a word of the broker's reason
REFUSALS: dict[str, tuple[Any, Any, str]] = {
    "buying-power": (lambda admin: admin.cash("1"), lambda admin: admin.cash("10000"), "buying power"),
    "not-fractionable": (
        lambda admin: admin.asset("VTI", fractionable=False),
        lambda admin: admin.asset("VTI", fractionable=True),
        "not fractionable",
    ),
    "not-tradable": (
        lambda admin: admin.asset("VTI", tradable=False),
        lambda admin: admin.asset("VTI", tradable=True),
        "not tradable",
    ),
    "wash-trade": (
        lambda admin: admin.fault(**forbidden("potential wash trade detected. use complex orders")),
        lambda admin: None,
        "wash trade",
    ),
    "closing-order": (
        lambda admin: admin.fault(**forbidden("unable to open new notional orders while having open closing position orders")),
        lambda admin: None,
        "closing position",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_a_refusal_ends_the_order_with_its_reason_and_the_others_go_on(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen, undo, word = REFUSALS[name]
    admin = bench.served.admin

    def guard(order: Any, *_: Any) -> tuple[str, ...]:
        if order.symbol == "VTI":
            happen(admin)
        return ()

    monkeypatch.setattr(submit, "crash_point", lambda name: undo(admin) if len(bench.posts()) == 1 else None)
    done = bench.execute([buy("VTI", "676"), buy("VXUS", "324")], guards=[guard])
    assert settled(done) == ("DONE", ["REJECTED", "FILLED"])
    assert word in done.orders[0].reason and bench.posts() == [VTI, VXUS]
    (rejected,) = bench.events("ORDER_REJECTED")
    assert rejected.payload.status in (403, 422) and rejected.payload.code in (40310000, 42210000)
    assert bench.execute([buy("VTI", "676"), buy("VXUS", "324")]).orders[0].status == "REJECTED"
    assert bench.posts() == [VTI, VXUS]  # a refusal is final
    bench.check()


def test_less_than_a_dollar_is_refused_and_not_tried_again(bench: Bench) -> None:
    done = bench.execute([buy("VTI", quantity="0.003"), buy("VXUS", "324")])
    assert settled(done) == ("DONE", ["REJECTED", "FILLED"]) and "minimal amount" in done.orders[0].reason
    assert bench.posts() == [VTI, VXUS]
    bench.check()


def test_shares_that_the_broker_does_not_have_for_sale_are_refused(served: Served, tmp_path: Path) -> None:
    with sat_down(served, tmp_path, holdings={"VTI": "3"}) as bench:
        admin = served.admin

        def guard(order: Any, *_: Any) -> tuple[str, ...]:
            admin.position("VTI", "1" if order.side == "SELL" else "3")
            return ()

        done = bench.execute([sell("VTI", "2"), buy("VXUS", "324")], guards=[guard])
        assert settled(done) == ("DONE", ["REJECTED", "FILLED"]) and "insufficient qty" in done.orders[0].reason
        assert len(bench.posts()) == 2
        bench.check()


@pytest.mark.parametrize("flag", ["trading_blocked", "account_blocked", "trade_suspended_by_user"])
def test_an_account_that_is_blocked_gets_no_second_order(bench: Bench, flag: str) -> None:
    def guard(*_: Any) -> tuple[str, ...]:
        bench.served.admin.account(**{flag: True})
        return ()

    done = bench.execute([buy("VTI", "676"), buy("VXUS", "324")], guards=[guard])
    assert done.status == "BLOCKED" and [order.status for order in done.orders] == ["REJECTED", "INTENDED"]
    assert bench.posts() == [VTI] and any("ACCOUNT_BLOCKED" in note for note in done.notes)
    bench.served.admin.account(**{flag: False})
    bench.check()


# Row 20: the keys stop working.


def test_keys_that_are_refused_halt_the_account_and_are_in_no_log_and_no_record(
    bench: Bench, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    admin, told = bench.served.admin, []
    legs = [buy("VTI", "676"), buy("VXUS", "324")]

    def revoked(order: Any, *_: Any) -> tuple[str, ...]:
        if order.symbol == "VXUS":
            told_us = {"message": f"unauthorized: {bench.served.key} {bench.served.secret}"}
            admin.fault("reply", path="/v2/.*", times=None, status=401, body=told_us)
        return ()

    done = bench.execute(legs, guards=[revoked], timeout=1, on_progress=told.append)
    assert done.status == "OPEN" and done.orders[1].status == "UNKNOWN"
    assert any("refused the keys" in sentence for sentence in done.notes)
    with pytest.raises(BrokerError, match="keys"):
        bench.reconcile()
    (found,) = [event.payload for event in bench.events("BREAK_OPENED")]
    assert (found.break_kind, found.scope) == ("unreadable", "account")
    posted = bench.posts()
    admin.clear_faults()
    halted = bench.execute(legs, timeout=0.5)  # until a reconciliation is clean
    assert halted.status == "OPEN" and bench.posts() == posted == [VTI, VXUS]
    assert bench.reconcile().clean
    assert settled(bench.execute(legs)) == ("DONE", ["FILLED", "FILLED"])
    said = [path.read_text() for path in bench.place.rglob("*.json")]
    said += [*told, *(record.getMessage() for record in caplog.records), str(capsys.readouterr())]
    assert not [text for text in said if bench.served.secret in text]
    bench.check()


def test_a_refusal_that_repeats_the_keys_is_recorded_without_them(bench: Bench) -> None:
    bench.served.admin.fault(**forbidden(f"key {bench.served.key} with {bench.served.secret} may not trade"))
    (order,) = bench.execute([buy("VTI", "676")]).orders
    assert order.status == "REJECTED" and order.reason == "key *** with *** may not trade"
    assert not [path for path in bench.place.rglob("*.json") if bench.served.secret in path.read_text()]
    bench.check()


# Row 21: the look-up does not work.


@pytest.mark.parametrize("status", [500, 503, 404])
def test_an_unreadable_look_up_concludes_nothing_and_sends_nothing(bench: Bench, status: int) -> None:
    """Row 21. Even a 404, when it is a gateway's and not the broker's own."""
    post_fault(bench, "after", "reply", status=504)
    unreadable = {"do": "reply", "verb": "GET", "path": LOOKUP, "status": status, "body": "<html>nothing here</html>"}
    legs = [buy("VTI", "676"), buy("VXUS", "324")]

    def from_now_on(*_: Any) -> tuple[str, ...]:
        bench.served.admin.fault(times=None, **unreadable)
        return ()

    done = bench.execute(legs, guards=[from_now_on], timeout=0.6)
    assert settled(done) == ("OPEN", ["UNKNOWN", "INTENDED"]) and bench.posts() == [VTI]
    assert any("could not be read" in note for note in done.notes)
    assert settled(bench.execute(legs, timeout=0.4)) == ("OPEN", ["UNKNOWN", "INTENDED"]) and bench.posts() == [VTI]
    bench.served.admin.clear_faults()
    assert settled(bench.execute(legs)) == ("DONE", ["FILLED", "FILLED"])
    assert bench.posts() == [VTI, VXUS] and bench.life("VTI") == UNKNOWN_AND_BACK
    bench.check()


# Rows 23 and 24: the broker ends an order.


@pytest.mark.parametrize("part", ["0", "1"])
@pytest.mark.parametrize(("verdict", "status"), [("reject", "REJECTED"), ("cancel", "CANCELED"), ("expire", "EXPIRED")])
def test_an_order_that_the_broker_ends_keeps_what_it_got_and_the_rest_is_told(
    bench: Bench, verdict: str, status: str, part: str
) -> None:
    admin = bench.served.admin
    admin.settings(matching="manual")

    def end() -> None:
        if part != "0":
            admin.order(VTI, "fill", qty=part, price="250")
        admin.order(VTI, verdict)

    done = bench.execute([buy("VTI", quantity="3")], on_progress=bench.when(r"VTI.*: OPEN", end))
    (order,) = done.orders
    assert (done.status, order.status, order.filled) == ("DONE", status, D(part))
    assert order.is_settled and verdict in order.reason
    assert bench.execute([buy("VTI", quantity="3")]).orders[0].status == status
    assert bench.posts() == [VTI]  # the rest is not sent again by itself
    bench.check()


def test_a_partial_fill_that_expires_at_the_close_is_kept_and_the_rest_is_not_sent_again(bench: Bench) -> None:
    """Row 24."""
    admin = bench.served.admin
    admin.settings(matching="manual")
    steps = iter([lambda: admin.order(VTI, "fill", qty="1", price="250"), lambda: admin.until("close")])
    done = bench.execute(
        [buy("VTI", quantity="3")], on_progress=bench.when(r"VTI.*: (OPEN|PARTIALLY_FILLED)", lambda: next(steps)(), 2)
    )
    (order,) = done.orders
    assert (done.status, order.status, order.filled) == ("DONE", "EXPIRED", 1)
    admin.by(600)
    assert bench.execute([buy("VTI", quantity="3")]).orders == done.orders
    admin.until("open")
    assert bench.reconcile().clean
    assert bench.execute([buy("VTI", quantity="3")], session=TODAY).orders == done.orders
    assert bench.posts() == [VTI]
    bench.check()


# Row 25: a cancel and a fill at once.


def test_a_cancel_that_comes_after_the_fill_counts_it_once(bench: Bench) -> None:
    admin = bench.served.admin
    admin.settings(matching="manual")
    bench.execute([buy("VTI", quantity="3")], timeout=0.2)
    admin.order(VTI, "fill", qty="1", price="250")
    admin.fault("fill_first", "DELETE", "/v2/orders/.*")
    order = cancel(bench.book(), bench.broker, VTI, **in_context(pace=PACE, timeout=10))
    assert (order.status, order.filled) == ("FILLED", 3)
    assert len(bench.events("FILLED")) == 2 and bench.events("ORDER_CANCELED") == []
    (at_broker,) = bench.broker.orders()
    assert bench.broker.cancel(at_broker.id) == NOT_CANCELABLE
    bench.check()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_whose_answer_is_lost_is_asked_again(bench: Bench, when: str) -> None:
    admin = bench.served.admin
    admin.settings(matching="manual")
    bench.execute([buy("VTI", quantity="3")], timeout=0.2)
    admin.order(VTI, "fill", qty="1", price="250")
    admin.fault("reset", "DELETE", "/v2/orders/.*", when=when)
    order = cancel(bench.book(), bench.broker, VTI, **in_context(pace=PACE, timeout=10))
    assert (order.status, order.filled) == ("CANCELED", 1)
    bench.check()


# Row 29: the fill is known before the answer.


def test_a_fill_that_is_told_before_the_answer_to_its_submit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is up; its news of the fill comes while the POST still hangs."""
    assert bench.broker.wait_for_update(10)  # it came up
    while bench.broker.wait_for_update(0.1):
        pass
    post_fault(bench, "after", "hang", seconds=0.5)
    woken: list[bool] = []
    monkeypatch.setattr(
        submit,
        "crash_point",
        lambda name: woken.append(bench.broker.wait_for_update(0)) if name == "after_submit" else None,
    )
    assert settled(bench.execute([buy("VTI", "676")])) == ("DONE", ["FILLED"])
    assert woken == [True] and bench.posts() == [VTI]
    assert bench.life("VTI") == ["ORDER_INTENDED", "ORDER_SUBMITTED", "ORDER_ACKNOWLEDGED", "FILLED"]
    bench.check()


def test_a_fill_that_another_process_takes_in_before_the_answer_to_its_submit(bench: Bench) -> None:
    """While the POST hangs, a sensor collects: the order is known from its intent, and the answer adds nothing."""
    post_fault(bench, "after", "hang", seconds=1.5)
    seen: list[list[str]] = []

    def sensor() -> None:
        eventually(lambda: bench.at_broker(), 10)
        with bench.connect() as broker:
            seen.append([event.kind for event in collect(bench.book(), broker)])

    thread = threading.Thread(target=sensor)
    thread.start()
    done = bench.execute([buy("VTI", "676")])
    thread.join(10)
    assert settled(done) == ("DONE", ["FILLED"])
    assert seen == [["ORDER_ACKNOWLEDGED", "FILLED"]] and bench.posts() == [VTI]
    assert bench.life("VTI") == ["ORDER_INTENDED", "ORDER_SUBMITTED", "ORDER_ACKNOWLEDGED", "FILLED"]
    bench.check()
