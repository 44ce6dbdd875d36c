"""Summaries and the report of a symbol, against figures worked out by hand."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from ledger_pipeline.attribution.attribute import attribute
from ledger_pipeline.attribution.performance import performance
from ledger_pipeline.attribution.symbol_report import attribution_report, differences
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline_tests.attribution.hand import buy, dividend, sell

# A: 10 VTI @ 100 (fee 1), 4 sold @ 110 (fee .4), 6 sold @ 90 (fee .6): one losing trip; then 5 @ 80, still open.
# B: 8 VTI @ 100, 8 sold @ 125: one winning trip. A also holds 2 BND @ 50.
ROWS = [
    buy(0, 10, 100, "A", fees=1),
    buy(10, 8, 100, "B"),
    sell(20, 4, 110, "A", fees="0.4"),
    sell(30, 6, 90, "A", fees="0.6"),
    sell(50, 8, 125, "B"),
    buy(60, 5, 80, "A"),
    buy(70, 2, 50, "A", symbol="BND"),
    dividend(80, "1.50", "A"),
]
FOUND = attribute(ROWS)


def test_a_summary_by_hand():
    a, b = performance(FOUND, {"VTI": Decimal(90), "BND": Decimal(49)})
    assert (a.strategy, b.strategy) == ("A", "B")
    assert a.realised == 440 + 540 - 1000 - 2
    assert (a.unrealised, a.income, a.total) == (50 - 2, Decimal("1.5"), -22 + 48 + Decimal("1.5"))
    assert (a.short_term, a.long_term) == (-22, 0)
    assert (a.open_lots, a.cost_basis, a.value, a.open_quantity, a.average_cost) == (2, 500, 548, None, None)
    assert (a.buys, a.sells, a.buy_value, a.sell_value, a.fees) == (3, 2, 1500, 980, 2)
    assert (a.round_trips, a.winning_trips, a.win_rate) == (1, 0, 0)
    assert a.holding_time == timedelta(seconds=(4 * 20 + 6 * 30) / 10)
    assert (b.realised, b.round_trips, b.win_rate, b.holding_time) == (200, 1, 1, timedelta(seconds=40))
    assert (b.open_quantity, b.average_cost, b.unrealised) == (0, None, 0)


def test_summaries_of_symbols_and_of_all():
    bnd, vti = performance(FOUND, {"VTI": 90}, by="symbol")
    assert (bnd.symbol, bnd.unrealised, bnd.total, bnd.open_quantity) == ("BND", None, None, 2)
    assert (vti.realised, vti.open_quantity, vti.average_cost, vti.bought, vti.sold) == (178, 5, 80, 23, 18)
    (total,) = performance(FOUND, {"VTI": 90, "BND": 50}, by="all")
    assert (total.realised, total.round_trips, total.win_rate) == (178, 2, Decimal("0.5"))
    assert (total.strategy, total.symbol) == (None, None)
    names = [(one.strategy, one.symbol) for one in performance(FOUND, by="strategy_symbol")]
    assert names == [("A", "BND"), ("A", "VTI"), ("B", "VTI")]


def test_nothing_has_a_summary_too():
    (total,) = performance(attribute([]), by="all")
    assert (total.realised, total.total, total.win_rate, total.holding_time) == (0, 0, None, None)
    assert performance(attribute([])) == ()


def test_prices_and_groupings_are_checked():
    for wrong in ({"by": "month"}, {"prices": {"VTI": 1.5}}, {"prices": {"VTI": Decimal(-1)}}):
        with pytest.raises(InputError):
            performance(FOUND, **wrong)


def test_the_report_of_a_symbol():
    found = attribution_report(FOUND, "VTI", price="90", broker_quantity=5)
    assert found.agrees and found.quantity == found.entries_quantity == 5
    assert [(one.strategy, one.realised, one.open_quantity) for one in found.strategies] == [
        ("A", -22, 5),
        ("B", 200, 0),
    ]
    (lot,) = found.open_lots["A"]
    assert (lot.lot_id, lot.quantity, lot.average_cost, lot.income) == ("fill:f60", 5, 80, Decimal("1.5"))
    assert (found.total.realised, found.total.unrealised, found.unattributed) == (178, 50, 0)
    told = json.loads(json.dumps(found.to_json()))
    assert told["total"]["realised"] == "178"
    assert told["open_lots"]["A"][0]["opened_at"] == "2026-01-05T14:31:00.000000Z"


def test_the_report_says_when_the_broker_differs():
    assert not attribution_report(FOUND, "VTI", broker_quantity="5.000000001").agrees
    assert attribution_report(FOUND, "VTI").broker_quantity is None
    with pytest.raises(NotFoundError):
        attribution_report(FOUND, "SPY")
    with pytest.raises(NotFoundError):
        attribution_report(FOUND, "VTI", account="other")


def test_the_report_shows_what_nobody_owns():
    found = attribution_report(attribute([*ROWS, sell(90, 3, 95, None)]), "VTI", broker_quantity=2)
    assert (found.unattributed, found.quantity, found.agrees) == (-3, 2, True)


def test_differences_name_what_is_wrong():
    (one,) = differences(FOUND, {"VTI": Decimal("4.5"), "BND": Decimal(2)})
    assert str(one) == "VTI in account acc: shares in entries and at the broker are 5 here and 4.5 there"
    assert {row.symbol for row in differences(FOUND, {"SPY": Decimal(1), "VTI": Decimal(5)})} == {"BND", "SPY"}
    with pytest.raises(InputError):
        differences(attribute([*ROWS, buy(1, 1, 1, account="other")]), {})


def test_a_table_that_lost_a_lot_is_noticed():
    from dataclasses import replace

    for name in ("lots", "matches", "parts"):
        table = getattr(FOUND, name)
        assert differences(replace(FOUND, **{name: table.slice(0, table.num_rows - 1)}))
