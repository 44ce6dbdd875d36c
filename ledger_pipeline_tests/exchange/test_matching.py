"""The pure parts: what an order is filled at, in which pieces, what it moves; and the exchange under any history."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.exchange import corporate, market_day
from ledger_pipeline.exchange.accounts import Holding, after_fill, buying_power, cash_of, fees_of_sale
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.matching import Range, executions, price_in, price_now
from ledger_pipeline.exchange.money import cents, decimals, text
from ledger_pipeline.exchange.orders import FINAL, Order, from_row, to_row
from ledger_pipeline.exchange.refusals import Refusal
from ledger_pipeline_tests.exchange.inside import founded, order

D = Decimal


def made(**fields: object) -> Order:
    at = datetime(2026, 1, 5, 17, tzinfo=UTC)
    usual = dict(
        id="o", client_order_id="c", number=1, symbol="VTI", asset_id="a", side="buy", type="market", time_in_force="day",
        quantity=D(10), notional=None, limit_price=None, status="new", session="2026-01-05", submitted_at=at,
        updated_at=at, expires_at=at,
    )  # fmt: skip
    return Order(**(usual | fields))


@pytest.mark.parametrize(
    ("side", "limit", "price", "expected"),
    [("buy", 100, 99, 99), ("buy", 100, 100, 100), ("buy", 100, 101, None),
     ("sell", 100, 101, 101), ("sell", 100, 100, 100), ("sell", 100, 99, None)],
)  # fmt: skip
def test_a_limit_is_never_worse_than_said(side: str, limit: int, price: int, expected: int | None) -> None:
    assert price_now(made(side=side, type="limit", limit_price=D(limit)), D(price)) == expected
    assert price_now(made(side=side), D(price)) == price
    assert price_now(made(side=side), None) is None


@pytest.mark.parametrize(
    ("side", "limit", "expected"),
    [("buy", 95, 95), ("buy", 90, 90), ("buy", 89, None), ("sell", 110, 110), ("sell", 111, None)],
)
def test_a_range_fills_at_the_limit_when_it_was_reached(side: str, limit: int, expected: int | None) -> None:
    assert price_in(made(side=side, type="limit", limit_price=D(limit)), Range(D(90), D(110))) == expected
    assert price_in(made(side=side), Range(D(90), D(110))) is None


def test_worked_examples() -> None:
    assert cash_of(1, D("0.300303003"), D("333.33")) == D("-100.10")
    assert cash_of(-1, D(101), D("0.015")) == D("1.52")
    assert after_fill(Holding("VTI", D(4), D(400)), -1, D(1), D(300)) == Holding("VTI", D(3), D(300))
    assert after_fill(Holding("VTI", D(3), D(300)), -1, D(3), D(1)) == Holding("VTI", D(0), D(0))
    assert buying_power(D(100), D(50), D(1), D(30)) == 70
    assert buying_power(D(100), D(50), D(2), D(30)) == 220
    assert fees_of_sale(D(10), D(2500)) == D("0.08")
    assert [decimals(D(each)) for each in ("1", "1.50", "1E-9", "1E+3")] == [0, 1, 9, 0]
    assert [text(D(each)) for each in ("0E-9", "1E+3", "-0", "1.50")] == ["0", "1000", "0", "1.5"]


amounts = st.decimals(min_value="0.01", max_value="100000", places=2)
prices = st.decimals(min_value="0.01", max_value="5000", places=4)


@given(notional=amounts, price=prices, partial=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 1000))
def test_a_notional_order_never_buys_more_than_its_money(
    notional: Decimal, price: Decimal, partial: float, seed: int
) -> None:
    parts = executions(made(quantity=None, notional=notional), price, D(0), partial=partial, seed=seed)
    bought = sum((part.quantity for part in parts), D(0))
    assert bought * price <= notional
    assert all(part.quantity > 0 and decimals(part.quantity) <= 9 for part in parts)
    if partial == 0.0 and notional / price >= D("1e-9"):
        assert (bought + D("1e-9")) * price > notional


def test_the_price_moves_between_the_parts_of_a_market_order():
    order = made(quantity=None, notional=D(7000))
    still = executions(order, D("250.04"), D(0), partial=1.0, seed=3)
    parts = executions(order, D("250.04"), D(0), partial=1.0, drift=0.004, seed=3)
    assert [part.quantity for part in parts] == [part.quantity for part in still] and len(parts) > 1
    assert parts[0].price == D("250.04") and parts[1].price != parts[0].price
    assert all(abs(part.price / D("250.04") - 1) <= D("0.0041") for part in parts)
    assert executions(order, D("250.04"), D(0), partial=1.0, drift=0.004, seed=3) == parts


@given(
    quantity=st.integers(1, 500),
    held=st.integers(0, 500),
    partial=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_a_sell_never_goes_below_zero_and_whole_shares_stay_whole(
    quantity: int, held: int, partial: float, seed: int
) -> None:
    parts = executions(made(side="sell", quantity=D(quantity)), D(7), D(held), partial=partial, seed=seed)
    sold = sum((part.quantity for part in parts), D(0))
    assert sold <= min(quantity, held) and all(part.quantity == int(part.quantity) for part in parts)
    if partial == 0.0:
        assert sold == min(quantity, held)


@given(
    quantity=st.none() | st.decimals(min_value=0, max_value=100, places=9),
    filled=st.decimals(min_value=0, max_value=100, places=9),
)
def test_an_order_is_stored_as_it_is(quantity: Decimal | None, filled: Decimal) -> None:
    one = made(quantity=quantity, notional=None if quantity is not None else D("1.10"), filled=filled)
    assert from_row(to_row(one)) == one


def play(exchange: Exchange, step: tuple) -> None:
    kind, symbol, side, amount = step
    try:
        if kind == "notional":
            exchange.submit(order(symbol, side, notional=amount))
        elif kind == "quantity":
            exchange.submit(order(symbol, side, qty=amount))
        elif kind == "limit":
            exchange.submit(
                order(symbol, side, type="limit", tif="gtc", qty=int(amount) + 1, limit_price=int(amount) + 80)
            )
        elif kind == "cancel":
            for each in exchange.store.open_orders()[:1]:
                exchange.cancel(each.id)
        elif kind == "replace":
            for each in exchange.store.open_orders()[:1]:
                exchange.replace(each.id, {"qty": int(amount) + 1})
        elif kind == "clock":
            market_day.advance(
                exchange, exchange.now.fromtimestamp(exchange.now.timestamp() + float(amount) * 900, UTC)
            )
        else:
            with exchange.transaction():
                if kind == "dividend":
                    corporate.dividend(exchange, symbol, D("0.07"))
                elif kind == "split":
                    corporate.split(exchange, symbol, D(2))
                elif kind == "bust":
                    row = exchange.store.db.execute(
                        "select id from activities where kind = 'FILL' and id not in (select json_extract(doc, '$.previous_id')"
                        " from activities where doc like '%previous_id%') and doc not like '%previous_id%' limit 1"
                    ).fetchone()
                    if row:
                        corporate.bust(exchange, row[0])
    except Refusal as refusal:
        assert refusal.status in (400, 403, 404, 422)


steps = st.tuples(
    st.sampled_from(["notional", "quantity", "limit", "clock", "cancel", "replace", "dividend", "split", "bust"]),
    st.sampled_from(["VTI", "BND"]),
    st.sampled_from(["buy", "buy", "sell"]),
    st.decimals(min_value="0.01", max_value="60", places=2),
)


@settings(max_examples=120, deadline=None)
@given(
    history=st.lists(steps, max_size=25),
    partial=st.sampled_from([0.0, 1.0]),
    rounding=st.sampled_from(["fill", "order"]),
)
def test_activities_explain_cash_and_positions_after_any_history(
    history: list[tuple], partial: float, rounding: str
) -> None:
    exchange = founded("2026-01-05T14:00:00+00:00", symbols=("VTI=100", "BND=80.33"), cash=5_000)
    with exchange.transaction():
        exchange.store.put("settings", {"partial": partial, "cash_rounding": rounding})
    finals: dict[str, str] = {}
    for step in history:
        play(exchange, step)
        for each in exchange.store.orders("is_open = 0", (), descending=False, limit=-1):
            assert finals.setdefault(each.id, each.status) == each.status and each.status in FINAL
    record = exchange.store.record()
    fills = [row["doc"] for row in record if row["kind"] == "fill"]
    rows = [row["doc"] for row in record if row["kind"] == "activity"]
    assert len({row["id"] for row in rows}) == len(rows)
    moved = sum((D(fill["cash"]) for fill in fills), D(0))
    posted = sum((D(row["net_amount"]) for row in rows if row["activity_type"] != "FILL"), D(0))
    assert exchange.cash == moved + posted == cents(exchange.cash)
    if rounding == "fill":
        for fill in fills:
            worth = cents(D(fill["qty"]) * D(fill["price"]))
            assert abs(D(fill["cash"])) == worth
    quantities: Counter[str] = Counter()
    for row in rows:
        sign = (1 if row.get("side") == "buy" else -1) * (-1 if row.get("type") == "trade_bust" else 1)
        quantity = D(row["qty"] or 0) * (sign if row["activity_type"] == "FILL" else row["activity_type"] == "SPLIT")
        if row["symbol"]:
            quantities[row["symbol"]] += quantity
    assert {symbol: q for symbol, q in quantities.items() if q} == {
        h.symbol: h.quantity for h in exchange.store.holdings()
    }
    for each in exchange.store.orders("1 = 1", (), descending=False, limit=-1):
        if each.quantity is not None:
            assert each.filled <= each.quantity
        else:
            assert each.filled_value <= each.notional
        assert (each.status == "filled") <= (each.filled > 0 or any(row.get("type") == "trade_bust" for row in rows))
