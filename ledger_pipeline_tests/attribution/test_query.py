"""Queries of trade entries: every filter, every order, and no row twice on two pages."""

from __future__ import annotations

from datetime import datetime

import pytest

from ledger_pipeline.attribution.entries import joined, table_of
from ledger_pipeline.attribution.query import query_trades
from ledger_pipeline.core.errors import InputError
from ledger_pipeline_tests.attribution.hand import at, buy, dividend, sell, split

ENTRIES = joined(
    table_of(
        [
            buy(1, 10, 100, "B", asset_type="ETF"),
            buy(2, 10, 50, "A", symbol="BND", asset_type="STOCK"),
            sell(3, 5, 110, None, asset_type="ETF"),
            sell(4, 5, 55, "A", symbol="BND", account="other"),
            buy(5, 1, 7, "UNATTRIBUTED", symbol="AAA"),
            split(6, 5, "B"),
            dividend(7, 3, "B"),
        ]
    )
)


def found(**filters) -> list[int]:
    return query_trades(ENTRIES, **filters).column("seq").to_pylist()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"kinds": None}, [1, 2, 3, 4, 5, 6, 7]),
        ({"kinds": "DIVIDEND"}, [7]),
        ({"strategy": "A"}, [2, 4]),
        ({"strategy": ["A", "B"]}, [1, 2, 4]),
        ({"strategy": "UNATTRIBUTED"}, [3, 5]),
        ({"symbol": "BND"}, [2, 4]),
        ({"symbol": "NONE"}, []),
        ({"asset_type": "ETF"}, [1, 3]),
        ({"side": "SELL"}, [3, 4]),
        ({"side": "SELL", "account": "acc"}, [3]),
        ({"start": at(2), "end": at(4)}, [2, 3, 4]),
        ({"start": at(4.5)}, [5]),
        ({"order_by": "symbol"}, [5, 2, 4, 1, 3]),
        ({"order_by": "strategy"}, [2, 4, 1, 5, 3]),  # untagged last
        ({"ascending": False}, [5, 4, 3, 2, 1]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 2, "offset": 2}, [3, 4]),
        ({"limit": 2, "offset": 4}, [5]),
        ({"offset": 9}, []),
    ],
)
def test_filters(filters, expected):
    assert found(**filters) == expected


def test_pages_hold_every_row_once():
    for order_by in ("occurred_at", "symbol", "strategy"):
        pages = [found(order_by=order_by, limit=2, offset=offset) for offset in (0, 2, 4)]
        assert sum(pages, []) == found(order_by=order_by)


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_by": "price"},
        {"limit": 0},
        {"offset": -1},
        {"side": "HOLD"},
        {"asset_type": "BOND"},
        {"kinds": "DECIDED"},
        {"start": datetime(2026, 1, 5)},
        {"end": "2026-01-05"},
    ],
)
def test_what_cannot_be_asked(wrong):
    with pytest.raises(InputError):
        found(**wrong)
