"""Paging and filters of orders, activities and bars; every reply parses with alpaca-py's strict models."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading import models
from alpaca.trading.requests import GetAssetsRequest, GetOrderByIdRequest, GetOrdersRequest

from ledger_pipeline.market.snapshot import seal
from ledger_pipeline_tests.exchange.clients import activities, cash, everything, held, limit, market, refused
from ledger_pipeline_tests.exchange.server import Served, exchange


def test_orders_without_a_filter_are_the_fifty_newest_open_ones(served: Served) -> None:
    client = served.trading()
    for number in range(60):
        limit(client, "BND", "buy", 1, 10 + number / 100)
    market(client, "VTI", "buy", qty=1)
    assert [order.limit_price for order in client.get_orders()] == [
        str(Decimal("10.59") - Decimal(n) / 100).rstrip("0") for n in range(50)
    ]
    assert len(client.get_orders(GetOrdersRequest(limit=500))) == 60
    assert len(client.get_orders(GetOrdersRequest(status="all", limit=500))) == 61
    (closed,) = client.get_orders(GetOrdersRequest(status="closed"))
    assert closed.symbol == "VTI" and client.get_orders(GetOrdersRequest(status="all", symbols=["VTI"])) == [closed]
    assert client.get_orders(GetOrdersRequest(status="all", side="sell")) == []


def test_orders_are_paged_by_time_and_by_id_without_loss(served: Served) -> None:
    client = served.trading()
    wanted = [str(limit(client, "BND", "buy", 1, 10 + number / 100).id) for number in range(25)]
    by_id: list[str] = []
    while True:
        after = {"after_order_id": by_id[-1]} if by_id else {}
        page = client.get("/orders", {"status": "all", "limit": 10, "direction": "asc"} | after)
        by_id += [row["id"] for row in page]
        if len(page) < 10:
            break
    assert by_id == wanted
    tenth = client.get_order_by_id(wanted[9]).submitted_at
    later = client.get_orders(GetOrdersRequest(status="all", after=tenth, direction="asc"))
    earlier = client.get_orders(GetOrdersRequest(status="all", until=tenth, direction="asc"))
    assert [str(order.id) for order in later] == wanted[10:]
    assert [str(order.id) for order in earlier] == wanted[:9]
    before = client.get("/orders", {"status": "all", "before_order_id": wanted[9], "limit": 3})
    assert [row["id"] for row in before] == wanted[8:5:-1]
    assert refused(client.get, "/orders", {"after_order_id": wanted[0], "after": "2026-01-01T00:00:00Z"})[0] == 422
    assert refused(client.get, "/orders", {"after_order_id": str(UUID(int=1))})[0] == 404


def test_activities_are_paged_by_the_last_id_and_unordered_within_a_millisecond(served: Served) -> None:
    served.admin.backlog("VTI", 1, count=110, parts=2)
    served.admin.activity("FEE", "-0.35")
    client = served.trading()
    rows = activities(client)
    assert len(rows) == 222 and len({row["id"] for row in rows}) == 222  # and the opening cash
    assert len(client.get("/account/activities")) == 100
    assert refused(client.get, "/account/activities", {"page_size": 101})[0] == 422
    for size in (1, 7, 100):
        assert [row["id"] for row in activities(client, "FILL", page_size=size)] == [
            r["id"] for r in rows if r["activity_type"] == "FILL"
        ]
    newest_first = activities(client, direction="desc", page_size=50)
    assert [row["id"] for row in newest_first] == [row["id"] for row in rows[::-1]]
    prefixes = [row["id"].split("::")[0] for row in rows]
    assert prefixes == sorted(prefixes)
    cumulative = [row["cum_qty"] for row in rows if row["activity_type"] == "FILL"]
    assert cumulative != sorted(cumulative)  # same-millisecond rows come in no order
    others = activities(client, category="non_trade_activity")
    assert others == [row for row in rows if row["activity_type"] != "FILL"]
    assert {row["activity_type"] for row in activities(client, "FEE,CSD")} == {"CSD", "FEE"}


def test_activities_by_time(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=1)
    served.admin.to("2026-01-06T15:00:00Z")
    market(client, "VTI", "buy", qty=2)
    first, second = activities(client, "FILL")
    assert activities(client, "FILL", after=first["transaction_time"]) == [second]
    assert activities(client, "FILL", until=second["transaction_time"]) == [first]
    assert activities(client, "FILL", date="2026-01-05") == [first]
    assert activities(client, "FILL", after="2026-01-07") == []


def test_every_reply_parses_with_the_typed_models(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=1.5)
    resting = limit(client, "VTI", "sell", 1, 300)
    assert isinstance(client.get_account(), models.TradeAccount)
    assert isinstance(client.get_account_configurations(), models.AccountConfiguration)
    assert isinstance(client.get_clock(), models.Clock)
    assert all(isinstance(row, models.Calendar) for row in client.get_calendar())
    assert all(isinstance(row, models.Asset) for row in client.get_all_assets(GetAssetsRequest(status="active")))
    assert isinstance(client.get_asset("VTI"), models.Asset)
    assert client.get_asset(client.get_asset("VTI").id).symbol == "VTI"
    assert refused(client.get_asset, "NOPE")[1]["code"] == 40410000
    position = client.get_open_position("VTI")
    assert isinstance(position, models.Position) and client.get_all_positions() == [position]
    assert (position.qty, position.qty_available, position.cost_basis) == ("1.5", "0.5", "375")
    order = client.get_order_by_id(resting.id, GetOrderByIdRequest(nested=True))
    assert isinstance(order, models.Order) and client.get_order_by_client_id(order.client_order_id) == order
    assert all(isinstance(row, models.Order) for row in everything(client))
    assert refused(client.get_order_by_client_id, "never") == (
        404,
        {"code": 40410000, "message": "order not found for never"},
    )


def test_deposits_dividends_splits_fees_and_symbol_changes_are_activities(served: Served) -> None:
    client = served.trading()
    market(client, "VTI", "buy", qty=3)
    resting = limit(client, "VTI", "buy", 1, 200)
    served.admin.activity("CSD", 500)
    served.admin.activity("CSW", "-100.25", description="rent")
    served.admin.activity("INT", "0.07", sub_type="SWP")
    served.admin.action("VTI", "DIVIDEND", "0.335")
    served.admin.action("VTI", "SPLIT", "1.5")
    assert client.get_order_by_id(resting.id).status == "canceled"
    served.admin.action("VTI", "RENAME", "VTX")
    rows = sorted(activities(client, category="non_trade_activity"), key=lambda row: row["created_at"])
    assert [(row["activity_type"], row["net_amount"], row["symbol"], row["qty"]) for row in rows] == [
        ("CSD", "10000", None, None), ("CSD", "500", None, None), ("CSW", "-100.25", None, None),
        ("INT", "0.07", None, None), ("DIV", "1.01", "VTI", "3"), ("SPLIT", "0", "VTI", "1.5"),
        ("NC", "0", "VTI", "-4.5"), ("NC", "0", "VTX", "4.5"),
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"executed"} and rows[4]["per_share_amount"] == "0.335"
    assert held(client) == {"VTX": Decimal("4.5")}
    assert cash(client) == Decimal("10000") - 750 + 500 - Decimal("100.25") + Decimal("0.07") + Decimal("1.01")
    assert sum(Decimal(row["net_amount"]) for row in rows) - 750 == cash(client)


def test_fees_of_a_sale_come_the_next_day(served: Served) -> None:
    served.admin.settings(fees=True)
    client = served.trading()
    market(client, "VTI", "buy", qty=10)
    market(client, "VTI", "sell", qty=10)
    # 2500 * 0.0000278 = 0.0695, 10 * 0.000166 = 0.00166, together 0.07116, rounded up
    assert cash(client) == 10_000 and client.get_account().accrued_fees == "0.08"
    served.admin.until("open")
    (fee,) = activities(client, "FEE")
    assert (fee["net_amount"], fee["date"]) == ("-0.08", "2026-01-06")
    assert cash(client) == Decimal("9999.92") and client.get_account().accrued_fees == "0"


def test_a_late_activity_appears_later_than_the_fill(served: Served) -> None:
    served.admin.settings(hold_activities=True)
    client = served.trading()
    order = market(client, "VTI", "buy", qty=1)
    assert client.get_order_by_id(order.id).status == "filled" and activities(client, "FILL") == []
    served.admin.release_activities()
    assert len(activities(client, "FILL")) == 1


def test_a_fill_that_is_taken_back_and_one_that_is_corrected(served: Served) -> None:
    client = served.trading()
    order = market(client, "VTI", "buy", qty=4)
    (fill,) = activities(client, "FILL")
    served.admin.bust(fill["id"])
    assert held(client) == {} and cash(client) == 10_000
    bust = (
        activities(client, "FILL")[-1]
        if activities(client, "FILL")[-1]["id"] != fill["id"]
        else activities(client, "FILL")[0]
    )
    assert (bust["type"], bust["previous_id"], bust["qty"], bust["price"]) == ("trade_bust", fill["id"], "4", "250")
    assert client.get_order_by_id(order.id).filled_qty == "0"
    market(client, "BND", "buy", qty=2)
    wrong = next(row for row in activities(client, "FILL") if row["symbol"] == "BND")
    served.admin.bust(wrong["id"], price="72.40")
    (right,) = [row for row in activities(client, "FILL") if row["type"] == "trade_correct"]
    assert (right["previous_id"], right["price"], right["qty"], right["cum_qty"]) == (wrong["id"], "72.4", "2", "2")
    assert held(client) == {"BND": 2} and cash(client) == Decimal("9855.20")


def sealed(root: Path) -> Path:
    """Two symbols, ten sessions from 2026-01-05; AAA pays 1.00 on the 8th and splits 2:1 on the 12th."""
    days = ["05", "06", "07", "08", "09", "12", "13", "14", "15", "16"]
    rows = [
        (symbol, f"2026-01-{day}T00:00:00Z", base + n, base + n + 2, base + n - 2, base + n + 1, 1000.0 + n)
        for symbol, base in (("AAA", 100.0), ("BBB", 50.0))
        for n, day in enumerate(days)
    ]
    bars = pd.DataFrame(rows, columns=["symbol", "ts", "open", "high", "low", "close", "volume"])
    actions = pd.DataFrame(
        [("AAA", "2026-01-08", "DIVIDEND", 1.0), ("AAA", "2026-01-12", "SPLIT", 2.0)],
        columns=["symbol", "ex_date", "kind", "value"],
    )
    bars["ts"] = pd.to_datetime(bars["ts"])
    actions["ex_date"] = pd.to_datetime(actions["ex_date"], utc=True)
    seal(bars, snapshot_id="ten", root=root, actions=actions)
    return root / "ten"


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Served:
    place = tmp_path_factory.mktemp("daily")
    with exchange(place, snapshot=sealed(place / "snapshots"), at="2026-01-14T22:00:00Z") as served:
        yield served


def test_bars_are_those_that_have_ended_page_by_page(daily: Served) -> None:
    client = daily.data()
    wanted = StockBarsRequest(
        symbol_or_symbols=["AAA", "BBB", "CCC"],
        timeframe=TimeFrame.Day,
        start=datetime(2026, 1, 6),
        end=datetime(2026, 1, 30),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bars = client.get_stock_bars(wanted)
    assert [len(bars.data[symbol]) for symbol in ("AAA", "BBB")] == [7, 7] and "CCC" not in bars.data
    first = bars.data["AAA"][0]
    assert (first.open, first.high, first.low, first.close, first.volume) == (101, 103, 99, 102, 1001)
    assert first.timestamp == datetime(2026, 1, 6, 5, tzinfo=UTC)  # midnight in New York
    assert bars.data["AAA"][-1].timestamp == datetime(2026, 1, 14, 5, tzinfo=UTC)
    assert len(bars.df) == 14
    raw, token, pages = [], None, 0
    while True:
        query = {"symbols": "AAA,BBB", "timeframe": "1Day", "start": "2026-01-06", "limit": 4}
        page = daily.data(raw_data=True).get("/stocks/bars", query | ({"page_token": token} if token else {}))
        raw += [(symbol, row["t"]) for symbol, rows in page["bars"].items() for row in rows]
        token, pages = page["next_page_token"], pages + 1
        if token is None:
            break
    assert pages == 4 and raw == [
        (symbol, f"{bar.timestamp:%Y-%m-%dT%H:%M:%SZ}") for symbol in ("AAA", "BBB") for bar in bars.data[symbol]
    ]
    limited = client.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="AAA", timeframe=TimeFrame.Day, start=datetime(2026, 1, 1), limit=3)
    )
    assert len(limited.data["AAA"]) == 3
    late = client.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="AAA", timeframe=TimeFrame.Day, start=datetime(2026, 1, 15))
    )
    assert late.data == {}


def test_adjusted_bars_use_the_actions_known_by_now(daily: Served) -> None:
    def closes(adjustment: str) -> list[float]:
        wanted = StockBarsRequest(
            symbol_or_symbols="AAA",
            timeframe=TimeFrame.Day,
            start=datetime(2026, 1, 7),
            end=datetime(2026, 1, 13),
            adjustment=adjustment,
        )
        return [bar.close for bar in daily.data().get_stock_bars(wanted).data["AAA"]]

    assert closes("raw") == [103, 104, 105, 106]
    assert closes("split") == [51.5, 52, 52.5, 106]
    assert closes("dividend") == [pytest.approx(103 * (1 - 1 / 103)), 104, 105, 106]
    assert closes("all") == [pytest.approx(51.5 * (1 - 1 / 103)), 52, 52.5, 106]


def test_latest_prices(daily: Served) -> None:
    client = daily.data()
    trades = client.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols=["AAA", "CCC"]))
    assert trades["AAA"].price == 108 and "CCC" not in trades
    assert client.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="BBB"))["BBB"].ask_price == 58
    shot = client.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols="AAA"))["AAA"]
    assert (shot.latest_trade.price, shot.daily_bar.close, shot.previous_daily_bar.close) == (108, 108, 107)
