"""The state of a book: what it refuses, positions, cost and cash by hand, trials, and its JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.book.log.table import ledger_of
from ledger_pipeline.book.orders import fold_order
from ledger_pipeline.book.state import BookState
from ledger_pipeline.core.errors import InputError, IntegrityError, RefusedError
from ledger_pipeline.core.events import Event, payload_of
from ledger_pipeline.core.times import time_text
from ledger_pipeline.ledger.folds import reconstruct
from ledger_pipeline_tests.book.live import History, at, busted, event, fed, filled, histories, intent, state_of

D = Decimal


def refused(state: BookState, one: Event, *words: str) -> None:
    before = state.to_json()
    with pytest.raises(RefusedError) as told:
        state.check(one)
    assert all(word in str(told.value) for word in words), str(told.value)
    assert state.to_json() == before


# What is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order_id": "a b"}, "not allowed"),
        ({"order_id": "o|x"}, "not allowed"),
        ({"order_id": None}, "not allowed"),
        ({"quantity": "0"}, "more than zero"),
        ({"quantity": "-1"}, "more than zero"),
        ({"quantity": "1.0000000001"}, "at most 9 decimals"),
        ({"quantity": None}, "exactly one of quantity and notional"),
        ({"payload": {"notional": "5"}}, "exactly one of quantity and notional"),
        ({"quantity": None, "payload": {"notional": "0"}}, "more than zero"),
        ({"quantity": None, "payload": {"notional": "NaN"}}, "not a decimal string"),
        ({"quantity": None, "payload": {"notional": 5.0}}, "not a decimal string"),
        ({"payload": {"type": "limit"}}, "limit_price"),
        ({"payload": {"limit_price": "5"}}, "limit_price"),
        ({"payload": {"type": "limit", "limit_price": "-5"}}, "more than zero"),
        ({"payload": {"session": "yesterday"}}, "cannot be intended"),
        ({"payload": {"session": None}}, "must all be there"),
        ({"payload": {"replaces": "nobody"}}, "never intended"),
        ({"strategy": None}, "must all be there"),
        ({"side": None}, "must all be there"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(value),
)
def test_an_intent_that_is_not_sound(change: dict, words: str) -> None:
    with pytest.raises((RefusedError, InputError), match=re.escape(words)):
        BookState("b").check(intent(1, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbol": "BND"}, "says symbol BND, and it is VTI"),
        ({"strategy": "other"}, "says strategy other, and it is core"),
        ({"symbol": None}, "must say its symbol"),
        ({"side": "SELL", "cash_delta": "100"}, "is a SELL"),
        ({"fill_id": "f1"}, "'f1', which is in the book already"),
        ({"fill_id": None}, "no fill id"),
        ({"quantity": "0", "cash_delta": "0"}, "more than zero"),
        ({"quantity": "-1", "cash_delta": "100"}, "more than zero"),
        ({"quantity": "0.0000000001", "cash_delta": None}, "needs"),
        ({"quantity": "0.0000000001", "cash_delta": "0"}, "at most 9 decimals"),
        ({"price": "0", "cash_delta": "0"}, "price 0"),
        ({"price": "100.0000000001"}, "at most 9 decimals"),
        ({"fee": "-0.01"}, "fee"),
        ({"cash_delta": None}, "needs"),
        ({"cash_delta": "100"}, "moves cash by 100"),
        ({"cash_delta": "-100.02"}, "moves cash"),
        ({"quantity": "6.000000001", "cash_delta": "-600"}, "10.000000001 shares"),
        ({"broker_order_id": "other"}, "the broker calls it 'x'"),
        ({"payload": {"leaves": "none"}}, "leaves"),
        ({"payload": {"cumulative": 5}}, "cumulative"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "-".join(value),
)
def test_a_fill_that_is_not_one_of_its_order(change: dict, words: str) -> None:
    state = state_of(intent(1), event("ORDER_ACKNOWLEDGED", 2, broker_order_id="x"), filled(3, "f1", "4"))
    state.check(filled(4, "f2", "1"))
    with pytest.raises((RefusedError, InputError), match=re.escape(words)):
        state.check(filled(4, **{"fill_id": "f2", "quantity": "1", **change}))


def test_cash_of_a_fill_may_be_rounded_to_a_cent() -> None:
    state = state_of(intent(1))
    state.check(filled(2, "f", "0.333", "10.01", cash_delta="-3.33"))


def test_unknown_orders_fills_and_ids() -> None:
    state = state_of(intent(1), filled(2, "f1", "4"))
    refused(state, filled(3, "f2", "1", order_id="nobody"), "nobody", "never intended")
    refused(state, event("ORDER_CANCELED", 3, order_id="nobody"), "never intended")
    refused(state, intent(3, "11"), "o", "PARTIALLY_FILLED", "an id is used once")
    refused(state, busted(3, filled(2, "f9", "4")), "'f9'", "does not have")
    refused(state, busted(3, filled(2, "f1", "3")), "does not take back")
    refused(state, busted(3, filled(2, "f1", "4", fee="1")), "does not take back")
    refused(state, busted(3, filled(2, "f1", "4"), side="BUY", cash_delta="-400"), "the other side")
    refused(state, filled(3, "f2", "1", kind="FILL_CORRECTED", payload={"fill": "f9"}), "'f9'")
    state.apply(event("ORDER_ACKNOWLEDGED", 3, broker_order_id="x"))
    state.apply(intent(4, order_id="p"))
    refused(state, event("ORDER_ACKNOWLEDGED", 5, order_id="p", broker_order_id="x"), "'x'", "the broker's o")
    refused(state.trial(), filled(5, "f5", "1", order_id="p", broker_order_id="x"), "the broker's o")
    refused(state, event("ORDER_CANCELED", 3, payload={"filled_quantity": "-1"}), "-1 was filled")
    with pytest.raises(InputError, match="'many' is not a decimal string"):
        event("ORDER_CANCELED", 3, payload={"filled_quantity": "many"})


def test_a_fill_is_taken_back_once() -> None:
    fill = filled(2, "f1", "4", fee="0.5")
    state = state_of(intent(1), fill, busted(3, fill))
    refused(state, busted(4, fill), "has no more")
    assert (state.cash, state.positions, state.orders["o"].filled) == (0, {}, 0)


def test_what_the_broker_overfilled_is_recorded_and_flagged() -> None:
    shares = state_of(intent(1), filled(2, "f1", "9"))
    refused(shares, filled(3, "f2", "2"), "11 shares", "10 shares")
    told = filled(3, "f2", "2", payload={"source": "broker"})
    shares.check(told)
    shares.apply(told)
    assert shares.orders["o"].is_overfilled and shares.position("VTI") == 11
    cash = state_of(intent(1, None, payload={"notional": "100"}))
    cash.check(filled(2, "f1", "1", "100.01"))  # by a cent: quantities are rounded
    refused(cash, filled(2, "f1", "1", "100.02"), "100 in cash")
    cash.check(filled(2, "f1", "1", "100.02", payload={"source": "broker"}))


@pytest.mark.parametrize(
    ("asked", "parts", "over"),
    [
        ("7000", [("20", "250.00"), ("8", "250.0035")], False),  # 7,000.028
        ("7000", [("20", "250.00"), ("8", "258.75")], False),  # 70 above: one part in a hundred
        ("7000", [("20", "250.00"), ("8", "258.77")], True),
        ("7000", [("28", "250.00"), ("1", "250.00")], True),  # a share too many
        ("10", [("0.04", "250.00")], False),
        ("10", [("0.0405", "250.00")], True),
    ],
)
def test_a_notional_order_may_slip_by_a_hundredth(asked, parts, over) -> None:
    fills = [
        filled(n, f"f{n}", quantity, price, payload={"source": "broker"})
        for n, (quantity, price) in enumerate(parts, 2)
    ]
    assert fold_order([intent(1, None, payload={"notional": asked}), *fills]).is_overfilled == over


def test_halts_and_breaks() -> None:
    def switch(kind: str, seq: int, **payload: str) -> Event:
        return event(kind, seq, payload=payload)

    state = state_of(switch("HALTED", 1, scope="global", by="ann"), switch("BREAK_OPENED", 2, break_id="cash"))
    assert list(state.halts) == ["global"] and list(state.breaks) == ["cash"]
    refused(state, switch("RESUMED", 3, scope="symbol:VTI"), "symbol:VTI", "not halted")
    refused(state, switch("BREAK_CLOSED", 3, break_id="position:VTI"), "not open")
    refused(state, switch("BREAK_OPENED", 3, break_id="cash"), "open in book b already")
    for kind, name in (
        ("HALTED", "scope"),
        ("RESUMED", "scope"),
        ("BREAK_OPENED", "break_id"),
        ("BREAK_CLOSED", "break_id"),
    ):
        refused(state, switch(kind, 3, **{name: ""}), kind, "is empty")
    with pytest.raises(InputError, match="HALTED: it is missing @ payload.scope"):
        payload_of("HALTED", {})
    for one in (switch("RESUMED", 3, scope="global"), switch("BREAK_CLOSED", 4, break_id="cash")):
        state.check(one)
        state.apply(one)
    assert not state.halts and not state.breaks
    state.check(switch("BREAK_OPENED", 5, break_id="cash"))  # it may come again


def test_a_book_belongs_to_one_account() -> None:
    first = event("OPENED", 1, payload={"account_id": "A1", "environment": "paper"})
    state = state_of(first)
    assert (state.account_id, state.environment) == ("A1", "paper")
    state.check(first)
    refused(state, event("OPENED", 2, payload={"account_id": "A2", "environment": "paper"}), "A1", "A2")
    refused(state, event("OPENED", 2, payload={"account_id": "A1", "environment": "live"}), "live")
    state.check(event("OPENED", 2, symbol="VTI", side="BUY", quantity="3", strategy="UNATTRIBUTED"))


def test_an_activity_is_taken_in_once_and_its_parts_in_one_commit() -> None:
    def dividend(seq: int, strategy: str, cash: str) -> Event:
        return event("DIVIDEND", seq, strategy=strategy, symbol="VTI", cash_delta=cash, payload={"activity_id": "d1"})

    state = state_of(event("OPENED", 1, payload={"activity_ids": ["old"], "as_of": time_text(at(500))}))
    trial, parts = state.trial(), (dividend(2, "a", "1.50"), dividend(3, "b", "0.75"))
    for one in parts:
        trial.check(one)
        trial.apply(one)
    for one in parts:
        state.apply(one)
    assert trial == state and state.cash == D("2.25") and state.watermark == at(500)
    refused(state, dividend(4, "a", "1.50"), "d1", "taken in once")
    refused(state.trial(), dividend(4, "a", "1.50"), "d1")
    refused(state, event("FEE", 4, cash_delta="-1", payload={"activity_id": "old"}), "old")


# What follows


def test_positions_cost_and_cash_by_hand() -> None:
    buy, more, part, rest = (
        filled(3, "f1", "10", "100", "1", order_id="b1"),
        filled(4, "f2", "10", "120", "1", order_id="b2"),
        filled(5, "f3", "5", "130", "3", order_id="s1", side="SELL"),
        filled(6, "f4", "20", "90", "2", order_id="s2", side="SELL"),
    )
    orders = [intent(1, order_id=name) for name in ("b1", "b2")]
    orders += [intent(2, "20", order_id=name, side="SELL") for name in ("s1", "s2")]
    state = state_of(event("DEPOSITED", 1, cash_delta="5000"), *orders, buy, more)
    (row,) = state.holdings()
    assert (row.symbol, row.strategy, row.quantity, row.cost_basis) == ("VTI", "core", 20, 2202)
    assert row.average_cost == D("110.1") and state.cash == 5000 - 2202
    state.apply(part)
    (row,) = state.holdings()
    assert (row.quantity, row.cost_basis, row.average_cost) == (15, D("1651.5"), D("110.1"))
    assert state.cash == 5000 - 2202 + 650 - 3
    state.apply(rest)  # five short: they brought 450 less a quarter of the fee
    (row,) = state.holdings()
    assert (row.quantity, row.cost_basis) == (-5, D("-449.5"))


def test_splits_leave_the_cost_and_busts_take_it_back() -> None:
    fill, other = filled(2, "f1", "3", "100", "0.3"), filled(3, "f2", "4", "50")
    state = state_of(intent(1), fill, other, busted(4, fill))
    assert (state.positions, state.costs) == ({("core", "VTI"): 4}, {("core", "VTI"): 200})
    state.apply(event("SPLIT", 5, strategy="core", symbol="VTI", side="BUY", quantity="12"))
    (row,) = state.holdings()
    assert (row.quantity, row.average_cost, row.cost_basis) == (16, D("12.5"), 200)
    state.apply(event("OVERRIDDEN", 6, strategy="core", symbol="VTI", side="SELL", quantity="8", price="10"))
    assert state.costs == {("core", "VTI"): 100} and state.overridden_seq == 6
    state.apply(event("OVERRIDDEN", 7, strategy="core", symbol="VTI", side="SELL", quantity="8"))
    assert not state.positions and not state.costs


def test_reconciliation_and_watermark() -> None:
    state = state_of(intent(1), filled(2, "f1", "1"), filled(3, "f2", "1"))
    assert (state.fills_since_reconciled, state.watermark, state.last_reconciled) == (2, at(3), None)
    reconciled = event("RECONCILED", 9, payload={"clean": True})
    state.apply(reconciled)
    assert state.fills_since_reconciled == 0 and state.last_reconciled == reconciled and state.watermark == at(3)
    state.apply(filled(10, "f3", "1", occurred_at=at(1)))  # late
    assert state.fills_since_reconciled == 1 and state.watermark == at(3)
    state.apply(event("UNRECOGNIZED", 11, payload={"activity_id": "order:x"}))  # a finding, no activity
    assert "order:x" in state.activity_ids and state.watermark == at(3)


@settings(max_examples=60, deadline=None)
@given(histories("o1", 1, "VTI"), histories("o2", 101, "BND"))
def test_the_fold_of_a_backtest_gives_the_same_positions_and_cash(first: History, second: History) -> None:
    events = [*first.ours, *first.theirs, *second.ours, *second.theirs]
    state = fed(events)
    folded = reconstruct(ledger_of(events))
    assert folded.cash == pytest.approx(float(state.cash), abs=1e-6)
    assert folded.positions == pytest.approx(
        {symbol: float(quantity) for (_, symbol), quantity in state.positions.items()}
    )


# Trials, and the state at rest


@settings(max_examples=100, deadline=None)
@given(histories("o1", 1, "VTI"), histories("o2", 101, "BND"), st.integers(0, 12))
def test_a_trial_leaves_its_state_alone(first: History, second: History, cut: int) -> None:
    events = [*first.ours, *second.ours, *first.theirs, *second.theirs]
    state = state_of(*events[:cut])
    before = state.to_json()
    trial = state.trial()
    for one in events[cut:]:
        trial.check(one)
        trial.apply(one)
    assert state.to_json() == before
    whole = state_of(*events)
    assert trial == whole and trial.to_json() == whole.to_json()
    assert trial.open_orders() == whole.open_orders() and len(trial.orders) == len(whole.orders)


@settings(max_examples=100, deadline=None)
@given(histories("o1", 1, "VTI"), histories("o2", 101, "BND"), st.data())
def test_the_state_from_json_is_the_same_and_goes_on_the_same(
    first: History, second: History, data: st.DataObject
) -> None:
    events = [*first.ours, *second.ours, *first.theirs, *second.theirs]
    cut = data.draw(st.integers(0, len(events)))
    state = state_of(*events[:cut])
    stored = BookState.from_json(json.loads(json.dumps(state.to_json())))
    assert stored == state and stored.digest() == state.digest()
    for one in events[cut:]:
        stored.check(one)
        stored.apply(one)
    whole = state_of(*events)
    assert stored == whole and stored.open_orders() == whole.open_orders()


def test_json_holds_all_of_a_state() -> None:
    state = state_of(
        event("OPENED", 1, payload={"account_id": "A1", "environment": "paper"}),
        event("DEPOSITED", 2, cash_delta="1000.10", payload={"activity_id": "a2"}),
        event("RECONCILED", 3, payload={"clean": False}),
        intent(4),
        filled(4, "f1", "10"),
        event("DECIDED", 5, payload={"trade": {"trade_id": "t", "action": "created", "order_ids": ["o"]}}),
        event("HALTED", 6, payload={"scope": "global", "by": "ann", "reason": "why"}),
        event("BREAK_OPENED", 7, payload={"break_id": "cash", "scope": "account"}),
        event("OVERRIDDEN", 9, cash_delta="-0.30", payload={"by": "ann"}),
    )
    stored = BookState.from_json(json.loads(json.dumps(state.to_json())))
    assert stored == state and vars(stored).keys() == vars(state).keys()
    assert (stored.cash, stored.halts, stored.breaks) == (D("-0.2"), state.halts, state.breaks)
    assert stored.trades == state.trades and stored.trade_ids == {"o": "t"}
    assert stored.last_reconciled == state.last_reconciled and stored.overridden_seq == 9
    for name in vars(state):
        if name not in ("book", "trade_records", "trade_ids"):
            changed = BookState.from_json(state.to_json())
            setattr(changed, name, getattr(BookState(), name))
            assert changed != state, name
    for change in ({"version": 0}, {"cash": "much"}, {"positions": [[1]]}, {"live": ["x"]}, {"trades": [None]}):
        with pytest.raises(IntegrityError, match="delete the checkpoints"):
            BookState.from_json({**state.to_json(), **change})


def test_orders_are_found_by_the_broker_s_id() -> None:
    state = state_of(
        intent(1), event("ORDER_ACKNOWLEDGED", 2, broker_order_id="x"), intent(3, order_id="p"), filled(4, "f", "10"),
    )  # fmt: skip
    assert state.order_by_broker_id("x") == state.orders["o"]  # settled
    state.apply(event("ORDER_ACKNOWLEDGED", 5, order_id="p", broker_order_id="y"))
    state.apply(filled(6, "g", "10", order_id="p"))
    assert state.order_by_broker_id("y") == state.trial().order_by_broker_id("y") == state.orders["p"]
    assert state.order_by_broker_id("z") is None and state.order_by_broker_id("") is None


def many(orders: int) -> BookState:
    state = BookState("b")
    for number in range(orders):
        name = f"b.core.20260105.S{number % 50}.buy.{number:07d}"
        own = {"order_id": name, "symbol": f"S{number % 50}"}
        state.apply(intent(3 * number + 1, **own))
        state.apply(event("ORDER_ACKNOWLEDGED", 3 * number + 2, broker_order_id=f"x-{number:032d}", **own))
        state.apply(filled(3 * number + 3, f"20260105093000123::{number:036d}", "10", **own))
    return state


def best(work: Callable[[], object], times: int = 5) -> float:
    return min(_timed(work) for _ in range(times))


def test_a_check_and_a_trial_cost_the_same_in_a_long_book() -> None:
    state = many(4_000)
    fill = filled(60_003, "new", "1", order_id="last")
    state.apply(intent(60_001, order_id="last"))
    assert best(lambda: [state.check(fill) for _ in range(100)]) / 100 < 0.001  # seconds; one look at all orders: 0.1
    assert best(lambda: [state.trial() for _ in range(100)]) / 100 < 0.001
    data = json.dumps(state.to_json())
    assert best(lambda: BookState.from_json(json.loads(data))) < 0.1  # one look at all orders: 0.2


@pytest.mark.campaign
def test_the_state_of_a_million_events_is_loaded_in_time() -> None:
    data = json.dumps(many(300_000).to_json())
    assert best(lambda: BookState.from_json(json.loads(data)), 3) < 1.5


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
