"""Rows 32 to 39 and 55: the two records differ. What the broker did comes late, is taken back, moves while it is read,
belongs to somebody else, or was never an order at all.

The rule behind all of them: what the book does not understand is never adjusted and never called clean; it is a break
that says what differs, it stops submits, and it lets cancels through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.matching import Execution as Match
from ledger_pipeline.exchange.state import Store
from ledger_pipeline.trading.alpaca.http import Budget
from ledger_pipeline.trading.orders.cancel import cancel
from ledger_pipeline.trading.reconciliation.ingest import collect
from ledger_pipeline.trading.reconciliation.override import override
from ledger_pipeline.trading.reconciliation.reconcile import Reconciliation, reconcile
from ledger_pipeline_tests.exchange.server import Served, exchange
from ledger_pipeline_tests.faults.bench import Bench, buy, order_id, sat_down, sell, settled

D = Decimal
READS = ("account", "orders", "positions", "activities", "order_by_client_id", "clock")
VTI = buy("VTI", "676.00")


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    """A bench with ten thousand dollars and ten VXUS."""
    with sat_down(served, tmp_path, holdings={"VXUS": "10"}) as one:
        yield one


def breaks(found: Reconciliation) -> dict[str, str]:
    """The open breaks: their difference by id."""
    return {item.break_id: item.difference for item in found.breaks}


def sends_nothing(bench: Bench, *codes: str, symbol: str = "VTI") -> None:
    """A new decision is blocked, for these reasons, and nothing reaches the broker."""
    before = bench.posts()
    done = bench.execute([buy(symbol, "100.00")], policy="later", timeout=2)
    assert done.status == "BLOCKED" and bench.posts() == before
    for code in codes:
        assert any(code in note for note in done.notes), done.notes


def bought(bench: Bench, *legs: Any) -> None:
    """Legs that are filled and clean."""
    done = bench.execute(legs or [VTI])
    assert done.status == "DONE" and bench.reconcile().clean


def waiting(bench: Bench, quantity: str = "10", symbol: str = "VTI") -> str:
    """An order that fills only when the test says so; its id."""
    bench.served.admin.settings(matching="manual")
    done = bench.execute([buy(symbol, quantity=quantity)], timeout=0.3)
    assert settled(done) == ("OPEN", ["OPEN"])
    return order_id(symbol)


def fill(bench: Bench, name: str, quantity: str = "1") -> None:
    bench.served.admin.order(name, "fill", qty=quantity)


class Watched:
    """The adapter, with something that happens before a read."""

    def __init__(self, broker: Any, before: Callable[[str], None]) -> None:
        self._broker, self._before = broker, before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._broker, name)
        if name not in READS:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(name)
            return found(*arguments, **options)

        return call


# Row 32: activities come late, in any order, over pages.


def test_an_order_is_not_settled_before_its_late_fill_is_there(bench):
    bench.served.admin.settings(hold_activities=True)
    done = bench.execute([VTI], timeout=0.5)
    assert done.status == "OPEN" and done.orders[0].filled == 0 and not done.orders[0].is_settled
    assert bench.at_broker() == {order_id("VTI"): ["filled"]}
    assert set(breaks(bench.reconcile())) == {f"order_fills:{order_id('VTI')}", "position:VTI", "cash"}
    sends_nothing(bench, "BREAK", symbol="VXUS")
    bench.served.admin.settings(hold_activities=False)
    bench.served.admin.release_activities()
    assert settled(bench.execute([VTI])) == ("DONE", ["FILLED"])
    bench.check()


def test_a_cancel_is_not_the_end_while_fills_are_missing(bench):
    name = waiting(bench)
    bench.served.admin.settings(hold_activities=True)
    fill(bench, name, "4")
    bench.served.admin.order(name, "cancel")
    with bench.connect() as broker:
        collect(bench.book(), broker)
        order = bench.book().state.orders[name]
        assert order.is_open and order.filled == 0
        bench.served.admin.release_activities()
        collect(bench.book(), broker)
    order = bench.book().state.orders[name]
    assert (order.status, order.filled, order.is_settled) == ("CANCELED", 4, True)
    bench.check()


def test_a_fill_that_lags_a_little_is_waited_for(bench):
    bench.served.admin.settings(activity_lag=0.5)
    assert settled(bench.execute([VTI])) == ("DONE", ["FILLED"])
    bench.served.admin.settings(activity_lag=0.0)
    bench.check()


@pytest.mark.parametrize("drift", [0.0001, 0.004])
def test_an_order_in_dollars_that_is_filled_in_parts_at_moving_prices_is_no_break(bench, drift):
    bench.served.admin.settings(partial=1.0, drift=drift)
    for number in range(16):
        bench.execute([buy("VTI", "300.00")], policy=f"core-{number}", timeout=0.3)
    orders = bench.book().state.orders.values()
    over = [order for order in orders if order.filled_value > order.notional]
    assert len(orders) == 16 and over, "no order came to more than its amount, so this shows nothing"
    bench.check()


def test_fills_at_every_page_boundary_are_taken_in_once(bench):
    name, done = waiting(bench, "30"), 0
    for wanted in (1, 2, 5, 29, 30):
        for _ in range(wanted - done):
            fill(bench, name)
        done = wanted
    bench.served.admin.backlog("VTI", "1.00", 68)  # 98 fills with these, 99 rows with the opening cash, then 100, ...
    for more in (1, 1, 1, 97, 1, 1):
        bench.served.admin.backlog("VTI", "1.00", more)
        with bench.connect() as broker:
            rows = broker.activities()
        assert len({row.id for row in rows}) == len(rows) == bench.served.admin.state()["activities"]
        with bench.connect() as broker:
            collect(bench.book(), broker)
        book = bench.book().state
        assert book.orders[name].filled == 30 and book.orders[name].is_settled
        assert len(book.orders[name].fills) == 30
        with bench.connect() as broker:
            assert collect(bench.book(), broker) == ()
    bench.check(clean=False)


# Row 33: a fill is taken back or corrected.


@pytest.mark.parametrize("change", ["bust", "correction"])
def test_a_fill_that_the_broker_takes_back_halts_until_a_person_has_answered(bench, change):
    bought(bench)
    (event,) = bench.events("FILLED")
    bench.served.admin.bust(event.fill_id, **({} if change == "bust" else {"qty": "2", "price": "251"}))
    found = bench.reconcile()
    theirs = D(0) if change == "bust" else D(2)
    row = next(item for item in breaks(found) if item.startswith("activity_unrecognized:"))
    assert set(breaks(found)) == {row, "position:VTI", "cash", f"order_fills:{order_id('VTI')}"}
    assert D(breaks(found)["position:VTI"]) == theirs - D("2.704")
    assert bench.book().state.position("VTI") == D("2.704")  # nothing is adjusted
    sends_nothing(bench, "BREAK", symbol="VXUS")
    book = bench.book()
    if change == "bust":
        book.bust_fill(order_id("VTI"), event.fill_id, reason="busted by the exchange")
    else:
        new = {"fill_id": row.partition(":")[2], "quantity": D(2), "price": D(251), "source": "broker"}
        book.correct_fill(order_id("VTI"), event.fill_id, new, reason="corrected by the exchange")
    override(book, by="ada", reason="the exchange took it back", break_id=row)
    assert breaks(bench.reconcile()) == {}
    assert bench.book().state.position("VTI") == theirs
    assert bench.book().state.cash == D(bench.served.admin.state()["cash"])


# Row 34: the account moves while it is read.


@pytest.mark.parametrize("nth", range(1, 12))
def test_a_fill_before_any_read_of_a_reconciliation_gives_no_false_verdict(bench, nth):
    name, reads = waiting(bench), []

    def before(_: str) -> None:
        reads.append(1)
        if len(reads) == nth:
            fill(bench, name)

    with bench.connect() as broker:
        found = reconcile(bench.book(), Watched(broker, before))
    assert found.clean and len(reads) >= nth
    state = bench.book().state
    assert state.position("VTI") == D(bench.served.admin.state()["positions"].get("VTI", "0"))
    bench.check()


def test_an_account_that_never_rests_is_unstable_and_never_clean(bench):
    name = waiting(bench, "30")
    with bench.connect() as broker:
        broker._updates.wait = lambda seconds: False
        found = reconcile(bench.book(), Watched(broker, lambda read: read == "positions" and fill(bench, name)))
    assert set(breaks(found)) == {"unstable"}
    sends_nothing(bench, "unstable", symbol="VXUS")
    bench.check()  # once it rests the break closes by itself


# Row 35: somebody else trades the account.


@pytest.mark.parametrize("filled", [True, False], ids=["filled", "open"])
def test_a_foreign_order_halts_until_a_person_answers(bench, filled):
    bench.served.admin.settings(matching="auto" if filled else "manual")
    order = bench.served.admin.foreign(symbol="VTI", side="buy", qty="1")
    found = bench.reconcile()
    assert f"foreign:{order['id']}" in breaks(found)
    assert ("position:VTI" in breaks(found)) is filled
    sends_nothing(bench, "foreign", symbol="VXUS")
    bench.reconcile()
    assert len([e for e in bench.events("BREAK_OPENED") if e.payload.break_kind == "foreign"]) == 1  # it is told once
    if filled:
        bench.check(clean=False)
    else:
        bench.served.admin.order(order["id"], "cancel")
        override(bench.book(), by="ada", reason="mine, by hand", break_id=f"foreign:{order['id']}")
        bench.check()


def test_a_foreign_fill_after_the_reconciliation_stops_the_decision_that_is_under_way(bench):
    tell = bench.when("VTI.*FILLED", lambda: bench.served.admin.foreign(symbol="VXUS", side="buy", qty="1"))
    done = bench.execute([sell("VXUS", "1"), VTI, buy("VXUS", "50.00", strategy="other")], on_progress=tell, timeout=5)
    assert bench.posts("VXUS")[:1] == [order_id("VXUS", "SELL")]
    assert all(post in {order.order_id for order in done.orders} for post in bench.posts())
    sends_nothing(bench, "foreign")
    bench.check(clean=False)


# Rows 36 and 38: positions and cash that nothing explains.


@pytest.mark.parametrize(
    ("symbol", "theirs", "difference"),
    [
        ("VXUS", "10.000000001", "0.000000001"),
        ("VXUS", "9.999999999", "-0.000000001"),
        ("VXUS", "11", "1"),
        ("VXUS", "9", "-1"),
        ("VXUS", "0", "-10"),
        ("VTI", "3", "3"),
    ],
)
def test_a_position_that_differs_by_anything_halts_and_cancels_go_on(bench, symbol, theirs, difference):
    name = waiting(bench)
    bench.served.admin.position(symbol, theirs)
    found = bench.reconcile()
    assert breaks(found) == {f"position:{symbol}": difference}
    sends_nothing(bench, f"position:{symbol}")
    with bench.connect() as broker:
        assert cancel(bench.book(), broker, name, timeout=5).status == "CANCELED"
    bench.served.admin.position(symbol, {"VXUS": "10", "VTI": "0"}[symbol])
    bench.check()


@pytest.mark.parametrize("off", ["0.01", "-0.01"])
def test_a_cent_for_a_fill_is_rounding(bench, off):
    bought(bench)
    bench.execute([buy("VXUS", "60.00")], policy="other")
    bench.served.admin.cash(D(bench.served.admin.state()["cash"]) + D(off))
    bench.check()


@pytest.mark.parametrize("off", ["1", "-1", "0.02", "0.51"])
def test_more_than_rounding_explains_is_a_break_that_closes_by_itself(bench, off):
    bench.execute([VTI])
    before = D(bench.served.admin.state()["cash"])
    bench.served.admin.cash(before + D(off))
    assert breaks(bench.reconcile()) == {"cash": f"{D(off)}, tolerance 0.01"}
    sends_nothing(bench, "BREAK: cash")
    bench.served.admin.cash(before)
    bench.check()


def test_cents_do_not_add_up_from_one_reconciliation_to_the_next(bench):
    bench.execute([VTI])
    cash = D(bench.served.admin.state()["cash"])
    verdicts = []
    for cents in (1, 1, 2):
        bench.served.admin.cash(cash + D(cents) / 100)
        verdicts.append(bench.reconcile().clean)
    assert verdicts == [True, True, False]  # a cent for the one fill, and none for no fill
    assert bench.book().state.cash == cash


# Row 37: a read that fails is no answer.


@pytest.mark.parametrize("path", ["/v2/positions", "/v2/account", "/v2/account/activities", "/v2/orders", "/v2/clock"])
@pytest.mark.parametrize("do", ["reply", "empty", "truncate"])
def test_what_cannot_be_read_is_not_flat(bench, path, do):
    held = dict(bench.book().state.positions)
    bench.served.admin.fault(do, "GET", path, times=None, **({"status": 500} if do == "reply" else {}))
    with pytest.raises(BrokerError):
        bench.reconcile()
    assert bench.book().state.positions == held and "unreadable" in bench.book().state.breaks
    try:
        done = bench.execute([VTI], timeout=1)
    except BrokerError:
        pass  # it could not even begin
    else:
        assert done.status == "BLOCKED" and any("unreadable" in note for note in done.notes)
    assert bench.posts() == []
    found = bench.check()
    assert found.closed == ("unreadable",)


def test_an_empty_list_of_positions_is_a_break(bench):
    bench.served.admin.fault("reply", "GET", "/v2/positions", times=None, status=200, body=[])
    assert breaks(bench.reconcile()) == {"position:VXUS": "-10"}
    sends_nothing(bench, "position:VXUS")
    bench.check()


# Row 39: what changes an account without an order.


def test_dividend_deposit_withdrawal_interest_and_fee_are_events_and_explain_the_cash(bench):
    bought(bench)
    admin = bench.served.admin
    admin.action("VXUS", "DIVIDEND", "0.333")
    admin.activity("CSD", "500")
    admin.activity("CSW", "-20")
    admin.activity("INT", "0.07")
    admin.activity("FEE", "-0.03")
    bench.check()
    told = {event.kind: event.cash_delta for event in bench.events()[-12:] if event.cash_delta}
    assert {kind: told[kind] for kind in ("DIVIDEND", "DEPOSITED", "WITHDRAWN", "INTEREST", "FEE")} == {
        "DIVIDEND": D("3.33"),
        "DEPOSITED": D(500),
        "WITHDRAWN": D(-20),
        "INTEREST": D("0.07"),
        "FEE": D("-0.03"),
    }
    assert bench.book().state.cash == D(admin.state()["cash"])
    assert settled(bench.execute([buy("VXUS", "30.00")], policy="later")) == ("DONE", ["FILLED"])
    bench.check()


def test_the_fees_of_a_sale_come_the_next_day(bench):
    bench.served.admin.settings(fees=True)
    assert bench.execute([sell("VXUS", "10")]).status == "DONE"
    bench.check()
    bench.served.admin.to("2026-01-06T17:00:00Z")
    found = bench.check()
    (fee,) = bench.events("FEE")
    assert fee.cash_delta < 0 and found.counts["events_taken_in"] == 1


def test_a_split_rests_its_symbol_and_no_other(bench):
    bought(bench)
    bench.served.admin.action("VXUS", "SPLIT", "2")
    with bench.connect() as broker:
        collect(bench.book(), broker)
    assert set(bench.book().state.breaks) == {"split:VXUS"}
    sends_nothing(bench, "split:VXUS", symbol="VXUS")
    assert settled(bench.execute([buy("VTI", "25.00")], policy="another")) == ("DONE", ["FILLED"])
    found = bench.check()
    assert found.closed == ("split:VXUS",) and bench.book().state.position("VXUS") == 20


def test_a_split_whose_row_comes_late_is_a_break_until_it_is_there(bench):
    bench.served.admin.settings(hold_activities=True)
    bench.served.admin.action("VXUS", "SPLIT", "1.5")
    assert breaks(bench.reconcile()) == {"position:VXUS": "5"}
    sends_nothing(bench, "position:VXUS")
    bench.served.admin.release_activities()
    bench.check()
    assert [event.quantity for event in bench.events("SPLIT")] == [D(5)]


def test_an_open_order_of_a_symbol_that_splits_ends_as_the_broker_says(bench):
    name = waiting(bench, symbol="VXUS")
    bench.served.admin.action("VXUS", "SPLIT", "2")
    bench.check()
    assert bench.book().state.orders[name].status == "CANCELED"


def test_a_symbol_that_changes_waits_for_a_person(bench):
    bench.served.admin.action("VXUS", "RENAME", "IXUS")
    found = bench.reconcile()
    unknown = {item for item in breaks(found) if item.startswith("activity_unrecognized:")}
    assert set(breaks(found)) == {"position:VXUS", "position:IXUS", *unknown} and len(unknown) == 2
    sends_nothing(bench, "BREAK")
    book = bench.book()
    reason = {"by": "ada", "reason": "VXUS is now IXUS"}
    override(book, break_id="position:VXUS", position=("VXUS", "UNATTRIBUTED", D(-10)), **reason)
    override(book, break_id="position:IXUS", position=("IXUS", "UNATTRIBUTED", D(10)), **reason)
    for item in unknown:
        override(book, break_id=item, **reason)
    bench.check()
    assert {s: q for (_, s), q in bench.book().state.positions.items() if q} == {"IXUS": D(10)}


def test_a_word_that_nobody_knows_halts_and_the_rows_around_it_are_taken_in(bench):
    bench.served.admin.activity("CSD", "5")
    bench.served.admin.activity("WONDER", "-3")
    bench.served.admin.activity("CSD", "7")
    found = bench.reconcile()
    (row,) = (item for item in breaks(found) if item.startswith("activity_unrecognized:"))
    assert breaks(found)["cash"].startswith("-3,") and len(breaks(found)) == 2
    sends_nothing(bench, "BREAK: cash")
    override(bench.book(), by="ada", reason="a charge", break_id="cash", cash=D(-3))
    override(bench.book(), by="ada", reason="a charge", break_id=row)
    bench.check()


# Row 55: a long backlog.

ORDERS = 20


@pytest.mark.parametrize(
    ("parts", "limit"), [(100, 15), pytest.param(500, 150, marks=pytest.mark.campaign)], ids=["2,000", "10,000"]
)
def test_thousands_of_fills_are_taken_in_within_the_limit_of_requests(tmp_path, parts, limit):
    legs = [buy("VTI", quantity=str(parts), strategy=f"s{number}") for number in range(ORDERS)]
    with exchange(tmp_path / "exchange", symbols="VTI=1", cash=100_000) as served:
        with sat_down(served, tmp_path) as bench:
            served.admin.settings(matching="manual")
            assert bench.execute(legs, timeout=0.1).status == "OPEN"
            _fill_at_once(served, sorted(bench.at_broker()), parts)
        budget = _Counted(limit)
        with bench.connect(sleep=budget.sleep) as broker:
            broker._trading._budget = budget
            first = len(served.sent("GET", "/v2/account/activities"))
            taken = collect(bench.book(), broker)
            pages = len(served.sent("GET", "/v2/account/activities")) - first
            assert sum(event.kind == "FILLED" for event in taken) == ORDERS * parts
            assert ORDERS * parts / 100 <= pages <= ORDERS * parts / 100 + 2
        assert max(sum(at <= other < at + 60 for other in budget.spent) for at in budget.spent) <= limit
        assert budget.time < 5 * 60
        orders = bench.book().state.orders.values()
        assert {(order.status, order.filled, order.is_settled) for order in orders} == {("FILLED", parts, True)}
        bench.check()


class _Counted(Budget):
    """A budget whose clock moves when somebody waits, and when each request was made."""

    def __init__(self, per_minute: int) -> None:
        super().__init__(per_minute, lambda: self.time)
        self.time, self.spent = 0.0, []

    def spend(self) -> None:
        super().spend()
        self.spent.append(self.time)

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def _fill_at_once(served: Served, client_order_ids: list[str], parts: int) -> None:
    """All fills of these orders, a share each, in the exchange's own file while it is down."""
    served.stop()
    store = Store(served.state)
    market = Exchange(store)
    with market.transaction():
        for name in client_order_ids:
            order = store.order_by_client_id(name)
            for _ in range(parts):
                order = market.fill(order, Match(D(1), D(1)))
    store.close()
    served.restart()
