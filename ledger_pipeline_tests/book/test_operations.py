"""Each operation on a real book: one commit, nothing the second time, and a random life against a model of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger_pipeline.book.book import Book, open_book
from ledger_pipeline.book.lifecycle import TERMINAL
from ledger_pipeline.core.errors import InputError, NotFoundError, RefusedError
from ledger_pipeline_tests.book.live import DETAILS, Clock, a_book, at
from ledger_pipeline_tests.events import event_of

D = Decimal


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return a_book(tmp_path)


def once(book: Book, operation: Callable[[], tuple], *kinds: str) -> None:
    """The operation appends one commit of these kinds; repeated, it appends nothing and returns ()."""
    commits = book.head.seq
    assert tuple(event.kind for event in operation()) == kinds
    assert book.head.seq == commits + 1
    assert operation() == ()
    assert book.head.seq == commits + 1


def buy(book: Book, order_id: str = "b1", fills: str = "", **details: object) -> None:
    book.record_order(order_id, {**DETAILS, **details})
    for number, text in enumerate(fills.split()):
        quantity, price = text.split("@")
        book.update_order_fill(order_id, {"fill_id": f"{order_id}.{number}", "quantity": quantity, "price": price})


def test_record_order(book: Book) -> None:
    told = {
        **DETAILS, "quantity": None, "notional": D("676.00"), "session": date(2026, 1, 5), "attempt": 2,
        "deadline": at(60), "reasons": ("UNDERWEIGHT",), "correlation_id": "tick-7",
    }  # fmt: skip
    once(book, lambda: book.record_order("b1", told), "ORDER_INTENDED")
    order = book.get_order("b1")
    assert (order.status, order.notional, order.quantity, order.attempt) == ("INTENDED", 676, None, 2)
    assert (order.session, order.deadline, order.reasons) == ("2026-01-05", at(60), ("UNDERWEIGHT",))
    with pytest.raises(RefusedError, match="b1 .*INTENDED.*once"):
        book.record_order("b1", {**told, "notional": "676.01"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantity": 2.5}, "decimal text"),
        ({"quantity": "two"}, "decimal text"),
        ({"quantity": True}, "decimal text"),
        ({"quantity": D("NaN")}, "decimal text"),
        ({"session": "today"}, "session"),
        ({"session": None}, "session"),
        ({"side": "HOLD"}, "BUY or SELL"),
        ({"symbol": ""}, "needs a symbol"),
        ({"attempt": 0}, "attempt"),
        ({"deadline": "soon"}, "time zone"),
        ({"colour": "red"}, "'colour' is no detail"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(f"{k}={v}" for k, v in value.items()),
)
def test_details_that_are_not_sound(book: Book, change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        book.record_order("b1", {**DETAILS, **change})
    assert book.head.seq == 0


def test_update_order_fill(book: Book) -> None:
    buy(book)
    fill = {"fill_id": "f1", "quantity": "4", "price": "100.5", "fee": "0.35", "at": at(99), "broker_order_id": "x"}
    once(book, lambda: book.update_order_fill("b1", fill), "FILLED")
    order = book.get_order("b1")
    assert (order.status, order.filled, order.filled_value, order.fees) == ("PARTIALLY_FILLED", 4, 402, D("0.35"))
    assert (order.fills[0].at, order.broker_order_id, book.state.cash) == (at(99), "x", D("-402.35"))
    with pytest.raises(RefusedError, match="f1"):
        book.update_order_fill("b1", {**fill, "quantity": "3"})
    with pytest.raises(RefusedError, match="10 shares"):
        book.update_order_fill("b1", {"fill_id": "f2", "quantity": "7", "price": "100"})
    with pytest.raises(NotFoundError, match="b9"):
        book.update_order_fill("b9", fill)
    with pytest.raises(InputError, match="price"):
        book.update_order_fill("b1", {"fill_id": "f2", "quantity": "7"})
    book.update_order_fill("b1", {"fill_id": "f2", "quantity": "7", "price": "100", "source": "broker"})
    assert (book.get_order("b1").status, book.get_order("b1").is_overfilled) == ("FILLED", True)


def test_update_order_rejection(book: Book) -> None:
    buy(book)
    once(book, lambda: book.update_order_rejection("b1", "insufficient buying power"), "ORDER_REJECTED")
    order = book.get_order("b1")
    assert (order.status, order.reason, order.is_settled) == ("REJECTED", "insufficient buying power", True)
    with pytest.raises(RefusedError, match="b1 is REJECTED"):
        book.update_order_rejection("b1", "another reason")


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_cancel_and_expire(book: Book, end: str) -> None:
    buy(book, fills="4@100")
    act = {"cancel": book.cancel_order, "expire": book.expire_order}[end]
    kind, status = {"cancel": ("ORDER_CANCELED", "CANCELED"), "expire": ("ORDER_EXPIRED", "EXPIRED")}[end]
    once(book, lambda: act("b1", reason="the close"), kind)
    order = book.get_order("b1")
    assert (order.status, order.final_quantity, order.is_settled, order.remaining) == (status, 4, True, 0)
    buy(book, "b2", fills="4@100")
    act("b2", filled_quantity=6)
    assert not book.get_order("b2").is_settled
    book.update_order_fill("b2", {"fill_id": "late", "quantity": 2, "price": 100})
    assert book.get_order("b2").is_settled and book.get_order("b2").status == status
    with pytest.raises(RefusedError, match=f"b2 is {status}"):
        act("b2", filled_quantity=7)


def test_replace_order(book: Book) -> None:
    buy(book, fills="4@100")
    change = {"type": "limit", "limit_price": "99"}
    once(book, lambda: book.replace_order("b1", "b2", change), "ORDER_REPLACED", "ORDER_INTENDED")
    old, new = book.get_order("b1"), book.get_order("b2")
    assert (old.status, old.final_quantity, old.replaced_by) == ("REPLACED", 4, "b2")
    assert (new.quantity, new.type, new.limit_price, new.attempt, new.replaces) == (6, "limit", 99, 2, "b1")
    with pytest.raises(RefusedError, match="b1 is REPLACED"):
        book.replace_order("b1", "b3", change)
    buy(book, "c1", fills="4@100")
    book.replace_order("c1", "c2", filled_quantity="9")  # the broker filled more than the book has yet
    assert book.get_order("c2").quantity == 1
    with pytest.raises(RefusedError, match="nothing left"):
        book.replace_order("c2", "c3", filled_quantity=1)
    assert book.state.open_orders() == (new, book.get_order("c2"))


def test_bust_fill(book: Book) -> None:
    buy(book, fills="4@100 6@101")
    once(book, lambda: book.bust_fill("b1", "b1.0", reason="error at the exchange", bust_id="x9"), "FILL_BUSTED")
    order = book.get_order("b1")
    assert (order.status, order.filled, book.state.cash, book.state.position("VTI")) == ("FILLED", 6, -606, 6)
    with pytest.raises(RefusedError, match="no fill 'f9'"):
        book.bust_fill("b1", "f9")


def test_correct_fill(book: Book) -> None:
    buy(book, fills="4@100 6@101")
    new = {"fill_id": "b1.0x", "quantity": 3, "price": 100, "fee": "0.5"}
    once(book, lambda: book.correct_fill("b1", "b1.0", new), "FILL_BUSTED", "FILL_CORRECTED")
    order = book.get_order("b1")
    assert (order.status, order.filled, order.fees, order.is_settled) == ("FILLED", 9, D("0.5"), True)
    assert book.state.cash == D("-906.5") and book.state.position("VTI") == 9
    with pytest.raises(RefusedError, match="b1.0"):
        book.correct_fill("b1", "b1.0", {**new, "fill_id": "again"})


def test_questions_about_what_is_not_there(book: Book) -> None:
    with pytest.raises(NotFoundError, match="b1"):
        book.get_order("b1")
    with pytest.raises(NotFoundError, match="t1"):
        book.get_trade("t1")
    assert book.get_open_positions() == ()
    assert (book.get_position_exposure("VTI").quantity, book.get_position_exposure("VTI").value) == (0, 0)


def test_positions_and_exposure(book: Book) -> None:
    buy(book, "b1", "10@100")
    buy(book, "b2", "10@110", strategy="satellite")
    buy(book, "s1", "4@120", side="SELL", strategy="satellite")
    buy(book, "b3", "10@50", symbol="BND")
    rows = [
        (row.symbol, row.strategy, row.quantity, row.average_cost, row.cost_basis) for row in book.get_open_positions()
    ]
    assert rows == [("BND", "core", 10, 50, 500), ("VTI", "core", 10, 100, 1000), ("VTI", "satellite", 6, 110, 660)]
    exposure = book.get_position_exposure("VTI")
    assert (exposure.quantity, exposure.value) == (16, 1660)


def test_a_trade_from_its_orders(book: Book) -> None:
    book.record_order("b1", DETAILS)
    book.update_order_fill("b1", {"fill_id": "b1.0", "quantity": 4, "price": "100", "fee": "1", "at": at(500)})
    book.update_order_fill("b1", {"fill_id": "b1.1", "quantity": 6, "price": "110", "fee": "1", "at": at(600)})
    once(book, lambda: book.create_trade("t1", ["b1"], notes="breakout"), "DECIDED")
    trade = book.get_trade("t1")
    assert (trade.status, trade.side, trade.strategy, trade.symbol) == ("OPEN", "LONG", "core", "VTI")
    assert (trade.entry_quantity, trade.entry_price, trade.exit_quantity, trade.exit_price) == (10, 106, 0, None)
    assert (trade.opened_at, trade.closed_at, trade.fees, trade.pnl) == (at(500), None, 2, 0)
    buy(book, "s1", "5@120", side="SELL")
    once(book, lambda: book.update_trade("t1", {"order_ids": ["s1"], "notes": "half"}), "DECIDED")
    trade = book.get_trade("t1")
    assert (trade.notes, trade.exit_quantity, trade.pnl) == ("half", 5, 5 * (120 - 106) - 1)
    with pytest.raises(RefusedError, match="s1 is PARTIALLY_FILLED, not settled"):
        book.close_trade("t1")
    book.update_order_fill("s1", {"fill_id": "s1.1", "quantity": 5, "price": 130, "fee": "0.5"})
    told = {"reason": "target", "price": D("130"), "levels": [1, D("2.50")]}
    once(book, lambda: book.close_trade("t1", told), "DECIDED")
    trade = book.get_trade("t1")
    assert (trade.status, trade.exit_price, trade.fees, trade.pnl) == ("CLOSED", 125, D("2.5"), 1250 - 1060 - D("2.5"))
    assert trade.exit == {"reason": "target", "price": "130", "levels": [1, "2.5"]} and trade.closed_at is not None
    book.bust_fill("s1", "s1.1")  # the P&L of a trade is what its fills say
    assert book.get_trade("t1").pnl == 5 * (120 - 106) - 1


def test_a_short_trade(book: Book) -> None:
    buy(book, "s1", "10@100", side="SELL")
    buy(book, "b1", "10@90")
    book.create_trade("t1", ["s1"])
    book.close_trade("t1", {"order_ids": ["b1"]})
    trade = book.get_trade("t1")
    assert (trade.side, trade.pnl, trade.order_ids) == ("SHORT", 100, ("s1", "b1"))


def test_trades_that_are_not_sound(book: Book) -> None:
    buy(book, "b1", "10@100")
    buy(book, "b2", "10@100", symbol="BND")
    buy(book, "b3", "10@100", strategy="other")
    book.create_trade("t1", ["b1"])
    for act, words in (
        (lambda: book.create_trade("t1", ["b2"]), "created before"),
        (lambda: book.create_trade("t2", []), "at least one order"),
        (lambda: book.create_trade("t2", ["b9"]), "b9"),
        (lambda: book.create_trade("t2", ["b1"]), "belongs to trade t1"),
        (lambda: book.create_trade("t2", ["b2", "b3"]), "one strategy and symbol"),
        (lambda: book.create_trade("", ["b2"]), "trade_id"),
        (lambda: book.update_trade("t9", {"notes": "x"}), "no trade t9"),
        (lambda: book.update_trade("t1", {"order_ids": ["b2"]}), "one strategy and symbol"),
        (lambda: book.close_trade("t9"), "no trade t9"),
        (lambda: book.close_trade("t1"), "10 was entered and 0 exited"),
    ):
        with pytest.raises(RefusedError, match=words):
            act()
    with pytest.raises(InputError, match="'colour' is no detail of a trade"):
        book.update_trade("t1", {"colour": "red"})
    buy(book, "s1", "10@100", side="SELL")
    book.close_trade("t1", {"order_ids": "s1"})
    with pytest.raises(RefusedError, match="t1 is CLOSED"):
        book.close_trade("t1", {"reason": "other"})
    buy(book, "b4", "10@100")
    with pytest.raises(RefusedError, match="t1 is CLOSED"):
        book.update_trade("t1", {"order_ids": ["b4"]})
    book.update_trade("t1", {"notes": "a remark may still be made"})
    assert book.get_trade("t1").notes == "a remark may still be made"


def test_a_planner_may_decide_without_a_trade(book: Book) -> None:
    from ledger_pipeline_tests.book.live import event

    book.append([event("DECIDED", payload={"plan_hash": "abc"})])
    assert not book.state.trades


def test_two_books_of_one_place_do_a_thing_once(tmp_path: Path) -> None:
    first, second = a_book(tmp_path), a_book(tmp_path)
    assert first.record_order("b1", DETAILS) and second.record_order("b1", DETAILS) == ()
    fill = {"fill_id": "f1", "quantity": 10, "price": 100}
    assert second.update_order_fill("b1", fill) and first.update_order_fill("b1", fill) == ()
    assert first.state == second.state and first.head == second.head


class Life(RuleBasedStateMachine):
    """Random operations on a real book, beside sums that are kept by hand."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.book = a_book(self.folder)
        self.ids: list[str] = []
        self.fills: dict[tuple[str, str], tuple[int, Decimal, int]] = {}  # of what stands: shares, price, sign
        self.asked: dict[str, int] = {}
        self.ended: dict[str, str] = {}

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)

    def got(self, order_id: str) -> int:
        return sum(shares for (name, _), (shares, _, _) in self.fills.items() if name == order_id)

    @rule(shares=st.integers(1, 20), side=st.sampled_from(["BUY", "SELL"]), symbol=st.sampled_from(["VTI", "BND"]))
    def record(self, shares: int, side: str, symbol: str) -> None:
        name = f"o{len(self.ids)}"
        self.book.record_order(name, {**DETAILS, "quantity": shares, "side": side, "symbol": symbol})
        self.ids.append(name)
        self.asked[name] = shares

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), shares=st.integers(1, 20), price=st.sampled_from(["99.5", "100", "101.25"]))
    def fill(self, data: st.DataObject, shares: int, price: str) -> None:
        name = data.draw(st.sampled_from(self.ids))
        fill_id = f"{name}.{len(self.fills)}.{self.book.head.seq}"
        try:
            self.book.update_order_fill(name, {"fill_id": fill_id, "quantity": shares, "price": price})
        except RefusedError:
            assert self.got(name) + shares > self.asked[name]
            return
        assert self.got(name) + shares <= self.asked[name]
        sign = 1 if self.book.get_order(name).side == "BUY" else -1
        self.fills[name, fill_id] = (shares, Decimal(price), sign)

    @precondition(lambda self: self.fills)
    @rule(data=st.data(), correct=st.booleans())
    def take_back(self, data: st.DataObject, correct: bool) -> None:
        name, fill_id = data.draw(st.sampled_from(sorted(self.fills)))
        shares, price, sign = self.fills.pop((name, fill_id))
        if correct:
            new = f"{fill_id}c"
            self.book.correct_fill(name, fill_id, {"fill_id": new, "quantity": shares, "price": price + 1})
            self.fills[name, new] = (shares, price + 1, sign)
        else:
            self.book.bust_fill(name, fill_id)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "expire", "reject", "replace"]))
    def end(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(self.ids))
        was_open, new = self.book.get_order(name).is_open, f"o{len(self.ids)}"
        try:
            match how:
                case "cancel":
                    self.book.cancel_order(name)
                case "expire":
                    self.book.expire_order(name)
                case "reject":
                    self.book.update_order_rejection(name, "no")
                case _:
                    self.book.replace_order(name, new)
                    self.ids.append(new)
                    self.asked[new] = self.asked[name] - self.got(name)
        except RefusedError:
            assert not was_open

    @rule(checkpoint=st.booleans())
    def reopen(self, checkpoint: bool) -> None:
        before = self.book.state
        if checkpoint and self.book.head.seq:
            self.book.checkpoint()
        self.book = open_book(str(self.folder / "paper"), clock=Clock())
        assert self.book.state == before and self.book.state.digest() == before.digest()

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "book"):
            return
        cash, held = Decimal(0), dict.fromkeys(("VTI", "BND"), 0)
        for (name, _), (shares, price, sign) in self.fills.items():
            cash -= sign * shares * price
            held[self.book.get_order(name).symbol] += sign * shares
        assert self.book.state.cash == cash
        assert {symbol: self.book.get_position_exposure(symbol).quantity for symbol in held} == held
        for name in self.ids:
            order = self.book.get_order(name)
            assert order.filled == self.got(name)
            if order.status in TERMINAL:
                assert self.ended.setdefault(name, order.status) == order.status
            else:
                assert name not in self.ended
        assert {order.order_id for order in self.book.state.open_orders()} == set(self.ids) - set(self.ended)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_a_bust_gives_back_the_cash_that_the_fill_took_to_the_cent(tmp_path) -> None:
    book = open_book(tmp_path / "book", account="a", environment="exchange")
    book.record_order(
        "o",
        {"strategy": "core", "symbol": "VTI", "side": "BUY", "notional": Decimal("100.00"), "session": "2026-01-05"},
    )
    intended = book.get_order("o")
    quantity, price = Decimal("0.399840063"), Decimal("250.11")  # 100.003998... paid as 100.00 by the broker's rounding
    fill = event_of(
        kind="FILLED", occurred_at=intended.intended_at, strategy="core", symbol="VTI", side="BUY", order_id="o",
        quantity=quantity, price=price, cash_delta=Decimal("-100.00"), fill_id="f", payload={"source": "broker"},
    )  # fmt: skip
    book.append([fill])
    book.bust_fill("o", "f", reason="busted")
    assert book.state.cash == 0 and book.state.position("VTI") == 0
