"""Taking in what the broker did: each fact once, in order, with exact amounts, whatever the order of arrival."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.book.book import open_book
from ledger_pipeline.core.amounts import CENT, GRAIN, fill_cash
from ledger_pipeline.core.errors import BrokerError, IntegrityError
from ledger_pipeline.trading.broker import UNRECOGNIZED, CashActivity, FillActivity
from ledger_pipeline.trading.reconciliation import ingest
from ledger_pipeline.trading.reconciliation.activities import activity_events, apportion, split_events
from ledger_pipeline.trading.reconciliation.ingest import collect, differing_terms, in_order
from ledger_pipeline.trading.reconciliation.reconcile import reconcile
from ledger_pipeline_tests.trading.account_book import adopted_book, intend, opened_book, send, sent
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault, Step, tampered

AT = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def cash_row(kind: str, amount: str = "0", **more) -> CashActivity:
    return CashActivity("row-1", kind, kind[:3], date(2026, 1, 5), AT, D(amount), **more)


def fill(order: str, cumulative: str, at: datetime = AT, name: str = "") -> FillActivity:
    name = name or f"{order}-{cumulative}"
    return FillActivity(name, order, "VTI", "BUY", D(1), D(250), at, D(cumulative), D(0))


def kinds(events) -> list[str]:
    return [event.kind for event in events]


# Amounts.


@pytest.mark.parametrize(
    ("amount", "weights", "grain", "parts"),
    [
        ("10.00", ["1", "1", "1"], CENT, ["3.34", "3.33", "3.33"]),
        ("-0.05", ["1.5", "2.25"], CENT, ["-0.02", "-0.03"]),
        ("0.000000001", ["1", "2"], GRAIN, ["0", "0.000000001"]),
        ("0.005", ["1", "1"], CENT, ["0.003", "0.002"]),  # finer than the grain: the grain gives way
        ("7", ["0", "5"], CENT, ["0", "7"]),
        ("0", ["1", "2"], CENT, ["0", "0"]),
    ],
)
def test_an_amount_is_apportioned_by_largest_remainder(amount, weights, grain, parts):
    assert apportion(D(amount), [D(w) for w in weights], grain) == [D(part) for part in parts]


@given(
    st.decimals("-1e9", "1e9", places=2),
    st.lists(st.decimals("0", "1e6", places=9), min_size=1, max_size=8).filter(any),
)
def test_parts_add_up_exactly_and_none_is_a_grain_from_its_share(amount, weights):
    parts = apportion(amount, weights, CENT)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - amount * weight / sum(weights)) < CENT + D("1e-12")


@pytest.mark.parametrize(
    ("side", "quantity", "price", "cash"),
    [
        ("BUY", "2.7", "250.01", "-675.03"),  # 675.027
        ("SELL", "1", "0.005", "0.01"),  # half a cent goes up
        ("BUY", "1", "0.005", "-0.01"),  # by size, not towards plus infinity
        ("BUY", "0.000000001", "100", "0"),
    ],
)
def test_a_fill_moves_cash_by_its_amount_rounded_half_up_to_the_cent(side, quantity, price, cash):
    assert fill_cash(side, D(quantity), D(price)) == D(cash)


# Order.


def test_fills_of_one_moment_are_ordered_by_what_the_order_had_got():
    fills = [fill("a", "1"), fill("a", "2"), fill("a", "3"), fill("b", "1"), fill("b", "2")]
    wanted = {"a": ["1", "2", "3"], "b": ["1", "2"]}
    for shuffled in itertools.permutations(fills):
        got = in_order(shuffled)
        for order, cumulative in wanted.items():
            assert [item.cumulative for item in got if item.broker_order_id == order] == [D(c) for c in cumulative]


def test_orders_stay_interleaved_by_time():
    a1, b1, a2 = fill("a", "1"), fill("b", "1", AT + timedelta(seconds=1)), fill("a", "2", AT + timedelta(seconds=2))
    assert in_order([a2, b1, a1]) == [a1, b1, a2]


# Other activities.


def test_a_dividend_is_shared_by_holding_to_the_cent():
    holdings = {("core", "VTI"): D("2.5"), ("tilt", "VTI"): D("1.25"), ("core", "BND"): D(7)}
    parts = activity_events(cash_row("DIVIDEND", "10.00", symbol="VTI", per_share=D("2.67")), holdings, AT)
    assert [(part.strategy, part.quantity, part.cash_delta) for part in parts] == [
        ("core", D("2.5"), D("6.67")),
        ("tilt", D("1.25"), D("3.33")),
    ]
    assert {part.payload.activity_id for part in parts} == {"row-1"}


def test_a_dividend_on_what_was_sold_since_belongs_to_no_strategy():
    (part,) = activity_events(cash_row("DIVIDEND", "1.23", symbol="VTI"), {}, AT)
    assert (part.kind, part.strategy, part.cash_delta) == ("DIVIDEND", "UNATTRIBUTED", D("1.23"))


@pytest.mark.parametrize(
    ("added", "side", "shares"), [("3.75", "BUY", ["2.5", "1.25"]), ("-1.875", "SELL", ["1.25", "0.625"])]
)
def test_a_split_changes_positions_and_quarantines_the_symbol(added, side, shares):
    holdings = {("core", "VTI"): D("2.5"), ("tilt", "VTI"): D("1.25")}
    *parts, opened = activity_events(cash_row("SPLIT", symbol="VTI", quantity=D(added)), holdings, AT)
    assert [(part.side, part.quantity) for part in parts] == [(side, D(share)) for share in shares]
    assert (opened.kind, opened.payload.break_id, opened.payload.scope) == (
        "BREAK_OPENED",
        "split:VTI",
        "symbol:VTI",
    )


@pytest.mark.parametrize(
    ("row", "kind", "scope"),
    [
        (cash_row(UNRECOGNIZED, "5.00"), "activity_unrecognized", "account"),
        (cash_row(UNRECOGNIZED, symbol="VTI"), "activity_unrecognized", "symbol:VTI"),
        (cash_row("SPLIT", symbol="VTI", quantity=D(2)), "activity_unrecognized", "symbol:VTI"),  # nobody holds it
        (cash_row("DIVIDEND", "5.00"), "activity_unrecognized", "account"),  # of what?
        (cash_row("DIVIDEND", "5.00", symbol="VTI", status="canceled"), "activity_restated", "account"),
        (cash_row("FEE", "-5.00", status="correct"), "activity_restated", "account"),
    ],
)
def test_what_has_no_plain_meaning_changes_nothing_and_opens_a_break(row, kind, scope):
    fact, opened = activity_events(row, {}, AT)
    assert fact.kind == "UNRECOGNIZED" and fact.cash_delta is None and fact.quantity is None
    assert (opened.payload.break_kind, opened.payload.scope) == (kind, scope)


def test_a_date_that_lies_ahead_dates_no_event_ahead():
    row = replace(cash_row("FEE", "-1.00"), at=None, date=date(2026, 2, 1))
    (event,) = activity_events(row, {}, AT)
    assert event.occurred_at == AT


# The book.


def test_a_fill_enters_with_everything_an_auditor_asks_for(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker, quantity="2.7")
    broker.advance(1)
    (event,) = collect(book, broker)
    (happened,) = broker.executions
    assert event.kind == "FILLED" and event.fill_id == happened.id and event.occurred_at == happened.at
    assert (event.strategy, event.symbol, event.side, event.reasons) == ("core", "VTI", "BUY", ("UNDERWEIGHT",))
    assert (event.quantity, event.price, event.cash_delta) == (D("2.7"), D(250), D(-675))
    assert (event.order_id, event.broker_order_id, event.correlation_id) == (order_id, happened.order, "plan-1")
    assert book.state.orders[order_id].status == "FILLED" and book.state.orders[order_id].is_settled
    assert book.state.positions == {("core", "VTI"): D("2.7")} and book.state.cash == broker.cash


def test_taking_in_twice_appends_nothing(tmp_path):
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.3")), Step("cancel", after=2)])
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.deposit(D(100))
    broker.advance(3)
    assert kinds(collect(book, broker)) == ["FILLED", "DEPOSITED", "ORDER_CANCELED"]
    seq = book.state.seq
    assert collect(book, broker) == () and book.state.seq == seq


def test_two_books_of_one_place_take_in_once(tmp_path):
    broker = FakeBroker()
    first = adopted_book(tmp_path, broker)
    sent(first, broker)
    broker.advance(1)
    second = opened_book(tmp_path, broker)
    assert len(collect(first, broker)) == 1 and collect(second, broker) == ()
    assert first.state == second.state


def test_unordered_fills_over_many_pages_give_one_order(tmp_path):
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.01")) for _ in range(250)])
    shuffled = Shuffled(broker)
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker, quantity="10")
    broker.advance(1)
    assert len({row.at for row in broker.executions}) == 1
    collect(book, shuffled)
    order = book.state.orders[order_id]
    assert [item.fill_id for item in order.fills] == [row.id for row in broker.executions]
    assert order.filled == D(10) and book.state.cash == broker.cash


class Shuffled:
    """The broker, with activities unordered and repeated as at the edges of pages."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker

    def __getattr__(self, name):
        return getattr(self.broker, name)

    def activities(self, *, after=None):
        rows = list(self.broker.activities(after=after))
        Random(7).shuffle(rows)
        return tuple(rows + rows[: len(rows) // 3])


def test_a_backlog_is_taken_in_by_several_commits_and_no_group_is_torn(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "COMMIT_SIZE", 3)
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.125"), after=n) for n in range(8)])
    book = adopted_book(tmp_path, broker)
    sent(book, broker, quantity="8")
    sent(book, broker, quantity="4", strategy="tilt")
    broker.advance(10)
    broker.unrecognized(D(0))
    broker.split("VTI", D(2))
    broker.advance(1)
    commits = []
    append = book.append

    def counted(decide):
        commits.append(append(decide))
        return commits[-1]

    monkeypatch.setattr(book, "append", counted)
    collect(book, broker)
    groups = [kinds(commit) for commit in commits if commit]
    assert len(groups) > 5 and all(len(group) <= 3 for group in groups)
    assert ["UNRECOGNIZED", "BREAK_OPENED"] in groups and ["SPLIT", "SPLIT", "BREAK_OPENED"] in groups
    assert book.state.position("VTI") == broker.holdings["VTI"] == D(24)


def test_an_order_is_ended_only_when_its_fills_add_up(tmp_path):
    """The activity of the partial fill is readable 60 s after the order was canceled."""
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.4"), late=60), Step("cancel", after=1)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(5)
    assert collect(book, broker) == ()
    assert book.state.orders[order_id].is_open
    broker.advance(60)
    assert kinds(collect(book, broker)) == ["FILLED", "ORDER_CANCELED"]
    order = book.state.orders[order_id]
    assert (order.status, order.filled, order.final_quantity) == ("CANCELED", D("0.8"), D("0.8"))


@pytest.mark.parametrize(("what", "kind"), [("cancel", "CANCELED"), ("expire", "EXPIRED"), ("reject", "REJECTED")])
def test_an_end_at_the_broker_is_an_end_in_the_book(tmp_path, what, kind):
    broker = FakeBroker(plan=lambda request, rng: [Step(what)])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(1)
    collect(book, broker)
    assert book.state.orders[order_id].status == kind and book.state.orders[order_id].is_settled


@pytest.mark.parametrize("answered", ["SUBMITTED", "UNKNOWN"])
def test_an_order_whose_answer_was_lost_is_adopted_by_its_id(tmp_path, answered):
    broker = FakeBroker(faults=[Fault("submit", "lost_after" if answered == "UNKNOWN" else "crash_after")])
    book = adopted_book(tmp_path, broker)
    order_id = intend(book, broker, quantity="2")
    try:
        send(book, broker, order_id)
    except BaseException as crash:  # noqa: BLE001  the fake's Crash is no Exception
        assert type(crash).__name__ == "Crash"
    assert book.state.orders[order_id].status == answered
    assert kinds(collect(book, broker)) == ["ORDER_ACKNOWLEDGED", "FILLED"]
    assert len(broker.orders_by_id) == 1 and book.state.orders[order_id].status == "FILLED"


def test_an_order_that_is_not_what_was_intended_is_not_adopted(tmp_path):
    broker = FakeBroker(faults=[Fault("submit", "lost_after")], plan=lambda request, rng: [])
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    (found,) = broker.orders_by_id.values()
    tampered(found, quantity=D(20))
    assert kinds(collect(book, broker)) == ["UNRECOGNIZED", "BREAK_OPENED"]
    assert collect(book, broker) == ()
    assert book.state.orders[order_id].broker_order_id is None
    assert list(book.state.breaks) == [f"order_mismatch:{order_id}"]


@pytest.mark.parametrize(("value", "differing"), [(None, ()), ("stop", ("type", "time_in_force"))])
def test_terms_that_the_broker_leaves_out_contradict_nothing(tmp_path, value, differing):
    broker = FakeBroker(plan=lambda request, rng: [])
    book = adopted_book(tmp_path, broker)
    order = book.state.orders[sent(book, broker)]
    (found,) = broker.orders()
    raw = {"type": value, "time_in_force": value}
    assert (
        differing_terms(order, replace(found, terms=replace(found.terms, type="stop", time_in_force="stop"), raw=raw))
        == differing
    )


def test_a_foreign_fill_is_recorded_and_is_a_break(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.foreign_order("VTI", "BUY", D(1))
    broker.advance(1)
    fact, opened = collect(book, broker)
    assert fact.kind == "UNRECOGNIZED" and fact.payload.extra["client_order_id"] == "by-hand-1"
    assert opened.payload.break_kind == "foreign" and opened.payload.scope == "account"
    assert book.state.positions == {} and collect(book, broker) == ()


@pytest.mark.parametrize("changes", [{"side": "SELL"}, {"symbol": "BND"}, {"price": D(0)}, {"quantity": D("1e-10")}])
def test_a_fill_that_cannot_belong_to_its_order_is_refused(tmp_path, changes):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.advance(1)
    (happened,) = broker.executions
    for name, value in changes.items():
        setattr(happened, name, value)
    assert kinds(collect(book, broker)) == ["UNRECOGNIZED", "BREAK_OPENED"]
    assert book.state.positions == {} and collect(book, broker) == ()


def test_more_than_was_asked_for_is_in_the_book_and_is_a_break(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    order_id = sent(book, broker)
    broker.advance(1)
    broker.executions[0].quantity = D(3)
    assert kinds(collect(book, broker)) == ["FILLED", "BREAK_OPENED"]
    assert list(book.state.breaks) == [f"order_overfilled:{order_id}"] and book.state.position("VTI") == D(3)
    assert collect(book, broker) == ()


def test_several_fills_of_one_foreign_order_open_one_break(tmp_path):
    broker = FakeBroker(plans={"VTI": [Step(share=D("0.5")), Step(after=1)]})
    book = adopted_book(tmp_path, broker)
    broker.foreign_order("VTI", "BUY", D(1))
    broker.advance(2)
    assert kinds(collect(book, broker)) == ["UNRECOGNIZED", "BREAK_OPENED", "UNRECOGNIZED"]
    assert collect(book, broker) == ()


@pytest.mark.parametrize("first", ["removal", "allocation"])
@pytest.mark.parametrize("together", [True, False])
def test_a_split_in_two_rows_never_leaves_nothing_held(tmp_path, first, together):
    """Alpaca may take the old shares away in one row and give the new ones in another."""
    broker = FakeBroker(holdings={"VTI": D(4)})
    book = adopted_book(tmp_path, broker)
    broker.holdings["VTI"] = D(12)
    rows = [D(-4), D(12)] if first == "removal" else [D(12), D(-4)]
    broker._row("SPLIT", "SSP", D(0), symbol="VTI", quantity=rows[0], late=0)
    if not together:
        collect(book, broker)
        assert book.state.position("VTI") == (D(4) if first == "removal" else D(16))
        assert not reconcile(book, broker).clean  # it rests until both are there
    broker._row("SPLIT", "SSP", D(0), symbol="VTI", quantity=rows[1], late=0)
    collect(book, broker)
    assert book.state.position("VTI") == D(12)
    assert reconcile(book, broker).clean
    assert kinds(book.events()).count("SPLIT") == 2 and collect(book, broker) == ()


def test_two_owners_share_both_rows_of_a_split(tmp_path):
    held = {("core", "VTI"): D(60), ("tilt", "VTI"): D(40)}
    rows = [
        replace(cash_row("SPLIT", symbol="VTI", quantity=D(-100)), id="row-1"),
        replace(cash_row("SPLIT", symbol="VTI", quantity=D(50)), id="row-2"),
    ]
    *parts, opened = split_events(rows, held, AT)
    assert [(part.strategy, part.side, part.quantity) for part in parts] == [
        ("core", "SELL", D(60)), ("tilt", "SELL", D(40)), ("core", "BUY", D(30)), ("tilt", "BUY", D(20)),
    ]  # fmt: skip
    assert {part.payload.activity_id for part in parts} == {"row-1", "row-2"}
    assert len({part.occurred_at for part in parts}) == 1 and opened.payload.break_id == "split:VTI"
    assert "from 100 to 50" in opened.payload.book


def test_a_second_split_while_the_first_rests_opens_no_second_break(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(4)})
    book = adopted_book(tmp_path, broker)
    broker.split("VTI", D(2))
    assert kinds(collect(book, broker)) == ["SPLIT", "BREAK_OPENED"]
    broker.split("VTI", D("0.5"))
    assert kinds(collect(book, broker)) == ["SPLIT"]
    assert book.state.position("VTI") == D(4)


def test_a_row_restated_under_its_old_id_is_seen(tmp_path):
    broker = FakeBroker(holdings={"VTI": D(4)})
    book = adopted_book(tmp_path, broker)
    row = broker.dividend("VTI", D("0.50"))
    assert kinds(collect(book, broker)) == ["DIVIDEND"]
    broker.cash_rows[:] = [(broker.now, replace(row, status="canceled"))]
    fact, opened = collect(book, broker)
    assert fact.payload.extra["status"] == "canceled" and opened.payload.break_kind == "activity_restated"
    assert collect(book, broker) == ()


@pytest.mark.parametrize("operation", ["order_by_client_id", "activities", "account"])
def test_what_cannot_be_read_appends_nothing(tmp_path, operation):
    broker = FakeBroker(plan=lambda request, rng: [Step(share=D("0.5"))])
    book = adopted_book(tmp_path, broker)
    sent(book, broker)
    broker.deposit(D(1))
    broker.advance(1)
    broker.faults = [Fault(operation, "unreadable", nth=1, count=10_000)]
    seq = book.state.seq
    with pytest.raises(BrokerError):
        collect(book, broker)
    assert book.state.seq == seq
    broker.faults = ()
    assert kinds(collect(book, broker)) == ["DEPOSITED", "FILLED"] or len(book.state.fill_ids) == 1


def test_the_broker_of_another_account_or_environment_gives_nothing(tmp_path):
    broker = FakeBroker()
    book = adopted_book(tmp_path, broker)
    broker.deposit(D(100))
    broker.account_id = "another"
    with pytest.raises(IntegrityError, match="bound to account"):
        collect(book, broker)
    broker.environment = "live"
    with pytest.raises(IntegrityError, match="exchange environment"):
        collect(book, broker)
    assert book.state.cash == D(10_000)


def test_a_book_is_bound_at_its_first_use(tmp_path):
    broker = FakeBroker()
    book = open_book(str(tmp_path / "main"))
    collect(book, broker)
    assert (book.state.account_id, book.state.environment) == (broker.account_id, "exchange")
    broker.account_id = "another"
    with pytest.raises(IntegrityError):
        reconcile(book, broker)


def test_a_book_opened_for_another_account_takes_nothing_in(tmp_path):
    broker = FakeBroker()
    broker.deposit(D(100))
    book = open_book(str(tmp_path / "main"), account="another", environment="exchange")
    with pytest.raises(IntegrityError):
        collect(book, broker)
    assert book.state.account_id == "another" and book.state.cash == 0
