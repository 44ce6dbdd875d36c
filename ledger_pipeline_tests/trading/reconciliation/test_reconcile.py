"""Each row of the table "what the book says, what the broker says", and what must never be called clean."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal as D
from types import SimpleNamespace

import pytest

from ledger_pipeline.core.errors import BrokerError, IntegrityError
from ledger_pipeline.trading.reconciliation.differences import Cash
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.override import override
from ledger_pipeline.trading.reconciliation.reconcile import reconcile, report
from ledger_pipeline_tests.events import event_of
from ledger_pipeline_tests.trading.account_book import adopted_book, intend, noted, opened_book, send, sent
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault, Step, tampered

NEVER: list[Step] = []


def resting(**more) -> FakeBroker:
    """A broker whose orders are neither filled nor ended."""
    return FakeBroker(plan=lambda request, rng: NEVER, **more)


def breaks_of(result) -> list[str]:
    return sorted(item.break_id for item in result.breaks)


# The table, row by row.


def test_an_intent_never_sent_stays_while_its_deadline_lasts_and_expires_after_it(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2", deadline=600)
    assert reconcile(book, broker).clean and book.state.orders[order_id].status == "INTENDED"
    broker.advance(601)
    assert reconcile(book, broker).clean
    order = book.state.orders[order_id]
    assert (order.status, order.final_quantity, order.is_settled) == ("EXPIRED", 0, True)


def test_an_intent_without_a_deadline_expires_with_its_session(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2")
    broker.advance(6 * 3600)
    reconcile(book, broker)
    assert book.state.orders[order_id].status == "INTENDED"
    broker.advance(3600)
    reconcile(book, broker)
    assert book.state.orders[order_id].status == "EXPIRED"


def test_an_intent_that_is_at_the_broker_is_adopted(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2")
    broker.foreign_order("VTI", "BUY", D(2), order_id)  # sent by a process that died before it could say so
    result = reconcile(book, broker)
    assert result.clean and book.state.orders[order_id].status == "FILLED"


def test_an_unknown_submit_without_an_order_is_given_up_after_its_session_only(tmp_path):
    broker = FakeBroker(faults=[Fault("submit", "lost_before")])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    first = reconcile(book, broker)
    assert first.clean and first.counts["in_flight"] == 1 and book.state.orders[order_id].status == "UNKNOWN"
    broker.advance_to(broker.session().close + timedelta(minutes=4))
    assert reconcile(book, broker).counts["in_flight"] == 1
    broker.advance(120)
    assert reconcile(book, broker).counts["in_flight"] == 0
    assert book.state.orders[order_id].status == "EXPIRED" and book.state.orders[order_id].is_settled


def test_an_unknown_submit_with_an_order_is_adopted(tmp_path):
    broker = FakeBroker(faults=[Fault("submit", "lost_after")])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    assert reconcile(book, broker).clean
    assert book.state.orders[order_id].status == "FILLED" and len(broker.posts) == 1


def test_an_unknown_submit_that_cannot_be_looked_up_stays_and_halts_the_account(tmp_path):
    broker = FakeBroker(faults=[Fault("submit", "lost_after"), Fault("order_by_client_id", "unreadable", count=1)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    with pytest.raises(BrokerError):
        reconcile(book, broker)
    assert book.state.orders[order_id].status == "UNKNOWN"
    assert book.state.breaks["unreadable"].payload.scope == "account"
    result = reconcile(book, broker)
    assert result.clean and result.closed == ("unreadable",) and book.state.orders[order_id].status == "FILLED"


def test_an_order_that_both_work_is_no_difference(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    result = reconcile(book, broker)
    assert result.clean and result.counts["open_orders"] == 1


def test_an_end_at_the_broker_is_recorded_once_its_fills_are_there(tmp_path):
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.5"), late=30), Step("cancel", after=1)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(2)
    late = reconcile(book, broker)
    assert breaks_of(late) == ["cash", f"order_fills:{order_id}", "position:VTI"]
    assert book.state.orders[order_id].is_open
    broker.advance(30)
    result = reconcile(book, broker)
    assert result.clean and sorted(result.closed) == breaks_of(late)
    assert book.state.orders[order_id].status == "CANCELED"


def test_an_order_that_the_broker_forgot_halts(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    forgotten = broker.by_client.pop(order_id), broker.orders_by_id.copy()
    broker.orders_by_id.clear()
    result = reconcile(book, broker)
    assert breaks_of(result) == [f"order_lost:{order_id}"] and result.breaks[0].scope == "account"
    broker.by_client[order_id], broker.orders_by_id = forgotten
    assert reconcile(book, broker).clean


def test_more_fills_of_an_ended_order_are_taken_in_and_must_add_up(tmp_path):
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.5")), Step("cancel", after=1)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(2)
    assert reconcile(book, broker).clean and book.state.orders[order_id].status == "CANCELED"
    (order,) = broker.orders_by_id.values()
    broker._fill(order, Step())  # the broker thinks again
    order.status = "canceled"
    broker.executions[-1].visible_at += timedelta(seconds=30)
    assert f"order_fills:{order_id}" in breaks_of(reconcile(book, broker))
    broker.advance(30)
    result = reconcile(book, broker)
    assert result.clean and book.state.position("VTI") == D(2) and book.state.orders[order_id].status == "CANCELED"


def test_an_average_price_that_the_fills_do_not_give_is_a_break(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(1)
    (order,) = broker.orders_by_id.values()
    order.value += D("0.00001")
    assert breaks_of(reconcile(book, broker)) == [f"order_fills:{order_id}"]


def test_a_refused_order_that_exists_halts_until_a_person_answers(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2")
    noted(book, broker, "ORDER_SUBMITTED", order_id)
    noted(book, broker, "ORDER_REJECTED", order_id, payload={"filled_quantity": "0", "reason": "refused"})
    broker.foreign_order("VTI", "BUY", D(2), order_id)
    result = reconcile(book, broker)
    assert breaks_of(result) == [f"order_revived:{order_id}"]
    override(book, by="Ann", reason="cancelled by hand", break_id=f"order_revived:{order_id}")
    assert reconcile(book, broker).clean


def test_an_order_the_book_closed_and_the_broker_works_halts(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    noted(book, broker, "ORDER_CANCELED", order_id, payload={"filled_quantity": "0"})
    assert breaks_of(reconcile(book, broker)) == [f"order_alive:{order_id}"]
    (order,) = broker.orders_by_id.values()
    order.status = "canceled"
    assert reconcile(book, broker).clean


def test_an_order_of_ours_without_an_intent_halts(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    name = "core.20260105.VTI.B1.0123456789ab"
    broker.foreign_order("VTI", "BUY", D(1), name)
    assert breaks_of(reconcile(book, broker)) == [f"order_without_intent:{name}"]


def test_a_foreign_order_halts_once_and_its_fill_again(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order = broker.foreign_order("VTI", "BUY", D(1))
    name = f"foreign:{order.id}"
    assert breaks_of(reconcile(book, broker)) == [name]
    assert breaks_of(reconcile(book, broker)) == [name]  # found, not found again
    override(book, by="Ann", reason="mine, by hand", break_id=name)
    assert reconcile(book, broker).clean
    broker._fill(order, Step())
    result = reconcile(book, broker)
    assert breaks_of(result) == ["cash", name, "position:VTI"]
    assert len(list(book.events(kinds=["UNRECOGNIZED"]))) == 2


def test_an_order_with_other_terms_than_intended_halts(tmp_path):
    broker = resting(faults=[Fault("submit", "lost_after")])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    tampered(next(iter(broker.orders_by_id.values())), side="SELL")
    assert breaks_of(reconcile(book, broker)) == [f"order_mismatch:{order_id}"]


def test_a_status_that_nobody_knows_halts_its_symbol(tmp_path):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    next(iter(broker.orders_by_id.values())).status = "UNRECOGNIZED"
    result = reconcile(book, broker)
    assert breaks_of(result) == [f"order_unrecognized:{order_id}"] and result.breaks[0].scope == "symbol:VTI"


# Positions and cash.


@pytest.mark.parametrize(("theirs", "difference"), [("5.000000001", "0.000000001"), ("4", "-1"), ("0", "-5")])
def test_a_position_that_differs_by_anything_halts(tmp_path, theirs, difference):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.holdings["VTI"] = D(theirs)
    result = reconcile(book, broker)
    assert breaks_of(result) == ["position:VTI"]
    assert (result.breaks[0].difference, result.breaks[0].scope) == (difference, "account")
    assert book.state.position("VTI") == D(5)  # nothing is adjusted
    broker.holdings["VTI"] = D(5)
    assert reconcile(book, broker).closed == ("position:VTI",)


def test_a_position_that_only_the_broker_has_halts(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.holdings["BND"] = D(1)
    assert breaks_of(reconcile(book, broker)) == ["position:BND"]


@pytest.mark.parametrize("operation", ["account", "positions", "orders", "activities", "clock"])
def test_what_cannot_be_read_is_not_flat(tmp_path, operation):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.faults = [Fault(operation, "unreadable", count=10_000)]
    with pytest.raises(BrokerError):
        reconcile(book, broker)
    with pytest.raises(BrokerError):
        reconcile(book, broker)
    assert list(book.state.breaks) == ["unreadable"] and book.state.last_reconciled is None
    assert len(list(book.events(kinds=["BREAK_OPENED"]))) == 1
    broker.faults = ()
    assert reconcile(book, broker).clean


@pytest.mark.parametrize(
    ("fills", "accepted", "off", "explained"),
    [
        (0, "0", "0.00", True),
        (0, "0", "0.01", False),
        (1, "0", "0.01", True),  # half a cent, and cash is in whole cents
        (1, "0", "-0.02", False),
        (4, "0", "0.02", True),
        (4, "0", "0.03", False),
        (0, "0.02", "0.02", True),  # a clean reconciliation left it
        (0, "0.02", "0.00", True),  # and now it is gone
        (0, "0.02", "0.03", False),
        (1, "0.02", "0.03", True),
        (10_000, "0", "0.50", True),
        (10_000, "0", "0.51", False),  # whatever the number of fills
        (10_000, "0.50", "0.51", False),
        (10_000, "0", "1.00", False),
    ],
)
def test_cash_may_be_off_by_half_a_cent_a_fill_and_never_by_a_dollar(fills, accepted, off, explained):
    assert Cash(D("100.00"), D("100.00") + D(off), fills, D(accepted)).explained is explained


def test_a_cent_after_a_fill_is_tolerated_once_and_a_dollar_is_not(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.advance(1)
    broker.cash += D("0.01")
    assert reconcile(book, broker).clean
    assert reconcile(book, broker).clean  # the cent is still there, and accepted
    broker.cash += D("0.01")
    assert breaks_of(reconcile(book, broker)) == ["cash"]
    broker.cash += D(1)
    assert breaks_of(reconcile(book, broker)) == ["cash"]


def test_fills_before_a_break_still_count_when_it_is_gone(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.advance(1)
    broker.holdings["VTI"] += 1
    assert breaks_of(reconcile(book, broker)) == ["position:VTI"]
    broker.holdings["VTI"] -= 1
    broker.cash += D("0.01")
    assert reconcile(book, broker).clean


# Corporate actions.


def test_a_split_rests_its_symbol_until_both_show_it(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.split("VTI", D(2))
    broker.holdings["VTI"] = D(5)  # the row has come, the position not yet
    result = reconcile(book, broker)
    assert breaks_of(result) == ["split:VTI"] and result.breaks[0].scope == "symbol:VTI"
    broker.holdings["VTI"] = D(10)
    result = reconcile(book, broker)
    assert result.clean and result.closed == ("split:VTI",) and book.state.position("VTI") == D(10)


def test_a_split_whose_row_is_late_is_a_position_break_until_it_comes(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.split("VTI", D(2), late=3600)
    assert breaks_of(reconcile(book, broker)) == ["position:VTI"]
    broker.advance(3601)
    result = reconcile(book, broker)
    assert result.clean and sorted(result.closed) == ["position:VTI", "split:VTI"]


def test_dividends_deposits_and_fees_explain_cash(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.dividend("VTI", D("0.913"))
    broker.deposit(D(500))
    broker.deposit(D(-20))
    broker.fee(D("0.03"))
    broker.advance(1)
    assert reconcile(book, broker).clean and book.state.cash == broker.cash == D("10484.54")


def test_a_late_row_of_cash_is_a_break_that_closes_by_itself(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.deposit(D(500), late=60)
    assert breaks_of(reconcile(book, broker)) == ["cash"]
    broker.advance(61)
    assert reconcile(book, broker).clean


def test_an_activity_without_a_meaning_waits_for_a_person(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    row = broker.unrecognized(D("12.50"))
    name = f"activity_unrecognized:{row.id}"
    assert breaks_of(reconcile(book, broker)) == [name, "cash"]
    override(book, by="Ann", reason="a promotion", break_id=name, cash=D("12.50"))
    result = reconcile(book, broker)
    assert result.clean and result.closed == ("cash",)


# The account.


def test_a_blocked_account_halts_while_it_is_blocked(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.blocked = ("trading_blocked",)
    assert breaks_of(reconcile(book, broker)) == ["account_blocked"]
    broker.blocked = ()
    assert reconcile(book, broker).clean


def test_another_account_and_another_environment_record_nothing(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    seq = book.state.seq
    broker.account_id = "another"
    with pytest.raises(IntegrityError):
        reconcile(book, broker)
    broker.environment = "live"
    with pytest.raises(IntegrityError):
        reconcile(book, broker)
    assert book.state.seq == seq


def test_an_account_that_was_never_adopted_is_no_clean_account(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(1)})
    assert breaks_of(reconcile(opened_book(tmp_path, broker), broker)) == ["cash", "position:VTI"]


def test_a_damaged_log_is_not_reconciled(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    commit = sorted((tmp_path / "main").rglob("*.json"))[-1]
    commit.chmod(0o600)
    commit.write_bytes(commit.read_bytes().replace(b"Ann", b"Bob"))
    with pytest.raises(IntegrityError):
        reconcile(book, broker)


# A moving account is never clean.


def test_an_account_that_keeps_moving_is_unstable(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.gate = lambda operation, when: broker.deposit(D(1)) if (operation, when) == ("account", "before") else None
    result = reconcile(book, broker)
    assert breaks_of(result) == ["unstable"] and not result.clean and result.digest == ""
    assert book.state.last_reconciled.payload.clean is False
    broker.gate = None
    assert reconcile(book, broker).closed == ("unstable",)


@pytest.mark.parametrize("nth", range(1, 30))
def test_a_fill_at_any_moment_of_a_reconciliation_gives_no_false_verdict(tmp_path, nth):
    """At the n-th call one order fills: the result is of one moment, before or after, and always clean."""
    broker = resting()
    book = adopted_book(tmp_path, broker)
    sent(book, broker, quantity="10")
    (order,) = broker.orders_by_id.values()
    calls = []

    def gate(operation, when):
        calls.append(operation)
        if len(calls) == nth:
            broker._fill(order, Step(share=D("0.1")))

    broker.gate = gate
    result = reconcile(book, broker)
    compared = {row[0]: row[1:] for row in result.lines}
    filled = D(1) if "VTI" in compared else D(0)
    assert result.clean and compared.get("VTI", ("0", "0", "0"))[:2] == (str(filled), str(filled))
    assert book.state.cash == D(10_000) - 250 * filled


def test_fills_whose_rows_lag_are_never_clean(tmp_path):
    """The account moves with each pass, and only the activities lag: stable is not enough, the sums must hold."""
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.1"), after=n, late=600) for n in range(3)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker, quantity="10")
    broker.advance(10)
    assert f"order_fills:{order_id}" in breaks_of(reconcile(book, broker))


def test_a_book_that_another_writes_meanwhile_is_read_again(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    other = opened_book(tmp_path, broker)
    sent(book, broker)
    broker.advance(1)
    calls = []

    def gate(operation, when):
        calls.append(operation)
        if len(calls) == 5:
            other.append([event_of(kind="NO_ACTION", occurred_at=broker.now)])

    broker.gate = gate
    assert reconcile(book, broker).clean
    broker.gate = lambda operation, when: (
        other.append([event_of(kind="NO_ACTION", occurred_at=broker.now)]) if operation == "positions" else None
    )
    assert breaks_of(reconcile(book, broker)) == ["unstable"]


def test_a_fill_that_another_takes_in_before_the_verdict_is_no_break(tmp_path, monkeypatch):
    broker = resting()
    book = adopted_book(tmp_path, broker)
    other = opened_book(tmp_path, broker)
    sent(book, broker, quantity="10")
    (order,) = broker.orders_by_id.values()
    passed = []

    def meanwhile(name):
        passed.append(name)
        if len(passed) == 1:
            broker._fill(order, Step(share=D("0.1")))
            collect(other, broker)

    monkeypatch.setattr("ledger_pipeline.trading.reconciliation.reconcile.crash_point", meanwhile)
    result = reconcile(book, broker)
    assert result.clean and len(passed) == 2 and ("VTI", "1", "1", "0") in result.lines


# The evidence.


def test_the_same_records_give_the_same_digest_and_others_another(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)}, plan=lambda request, rng: [Step(share=D("0.5")), Step("cancel")])
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.deposit(D(5))
    broker.advance(90_000)  # more than the overlap of two readings
    sent(book, broker, attempt=2)
    broker.advance(1)
    digests = [reconcile(book, broker).digest]
    broker.advance(60)
    digests.append(reconcile(book, broker).digest)
    again = opened_book(tmp_path, broker)
    digests.append(reconcile(again, broker).digest)
    assert len(set(digests)) == 1 and len(digests[0]) == 64
    broker.holdings["VTI"] += D("1e-9")
    assert reconcile(book, broker).digest not in digests


def test_a_reconciliation_is_one_event_with_its_evidence(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    first = reconcile(book, broker)
    seq = book.state.seq
    second = reconcile(book, broker)
    assert book.state.seq == seq + 1
    event = book.state.last_reconciled
    assert event.payload.digest == first.digest == second.digest and event.payload.clean is True
    assert event.occurred_at == second.checked_at
    assert event.payload.compared == (("cash", "10000", "10000", "0"), ("VTI", "5", "5", "0"))


def test_the_report_says_who_says_what_and_what_to_do(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(5)})
    book = adopted_book(tmp_path, broker)
    broker.holdings["VTI"] = D("4.5")
    result = reconcile(book, broker)
    text = report(result)
    assert "1 open break\n" in text and "Break position:VTI halts account" in text
    assert [line.split() for line in text.splitlines() if line.startswith("VTI")] == [["VTI", "5", "4.5", "-0.5"]]
    assert "what to do" in text and "book override" in text
    assert json.loads(json.dumps(result.to_json()))["breaks"][0]["break_id"] == "position:VTI"
    broker.holdings["VTI"] = D(5)
    assert "clean" in report(reconcile(book, broker)).splitlines()[0]


def test_a_crash_during_a_reconciliation_changes_no_verdict(tmp_path):
    """The process dies at the n-th read; the next one gives the digest that an undisturbed one gives."""
    digests = set()
    for nth in (0, 3, 8, 12, 15, 20):
        broker = FakeBroker()
        place = SimpleNamespace(path=tmp_path / str(nth))
        place.path.mkdir()
        book = adopted_book(place.path, broker)
        sent(book, broker)
        broker.advance(1)

        class Died(BaseException):
            pass

        def gate(operation, when, calls=[], nth=nth):  # noqa: B006  a counter
            calls.append(operation)
            if len(calls) == nth:
                raise Died

        broker.gate = gate
        if nth:
            with pytest.raises(Died):
                reconcile(book, broker)
        broker.gate = None
        digests.add(reconcile(opened_book(place.path, broker), broker).digest)
    assert len(digests) == 1


def test_a_crash_between_taking_in_and_the_verdict_loses_nothing(tmp_path, monkeypatch):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.advance(1)

    class Died(BaseException):
        pass

    def die(name):
        if name == "during_reconcile":
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr("ledger_pipeline.trading.reconciliation.reconcile.crash_point", die)
        with pytest.raises(Died):
            reconcile(book, broker)
    again = opened_book(tmp_path, broker)
    assert collect(again, broker) == () and again.state.last_reconciled is None
    assert reconcile(again, broker).clean


def test_a_send_that_races_gives_up_nothing(tmp_path):
    """An intent past its deadline is expired, and the book then refuses the submit of a process that was slow."""
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2", deadline=1)
    broker.advance(2)
    reconcile(book, broker)
    with pytest.raises(Exception, match=order_id):
        send(book, broker, order_id)
    assert broker.posts == []
