"""The virtual clock: queues, opens, closes, early closes, holidays, expiry, bars and quotes."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_pipeline.exchange import market_day
from ledger_pipeline.exchange.engine import Exchange
from ledger_pipeline.exchange.refusals import Refusal
from ledger_pipeline_tests.exchange.clients import activities, held, limit, market
from ledger_pipeline_tests.exchange.inside import founded, order
from ledger_pipeline_tests.exchange.server import Served


def to(exchange: Exchange, at: str) -> None:
    market_day.advance(exchange, datetime.fromisoformat(at))


def status(exchange: Exchange, answer: dict) -> str:
    return exchange.store.order(answer["id"]).status


def filled(exchange: Exchange, answer: dict) -> tuple[str, str, Decimal]:
    found = exchange.store.order(answer["id"])
    return found.status, str(found.filled), found.filled_value


def quotes(tmp_path: Path, *rows: tuple[str, str, str]) -> Path:
    file = tmp_path / "quotes.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("symbol", "ts", "price"), *rows])
    return file


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """VTI from Friday 2026-01-02 to Tuesday 2026-01-06."""
    return quotes(
        tmp_path,
        ("VTI", "2026-01-02T14:30:00Z", "100"),
        ("VTI", "2026-01-02T20:59:00Z", "110"),
        ("VTI", "2026-01-05T14:30:00Z", "120"),
        ("VTI", "2026-01-05T18:00:00Z", "115"),
        ("VTI", "2026-01-05T21:00:00Z", "130"),
        ("VTI", "2026-01-06T14:30:00Z", "140"),
    )


def test_an_order_queued_over_the_weekend_fills_at_the_next_open(served: Served) -> None:
    served.admin.to("2026-01-09T22:00:00Z")  # Friday evening
    client = served.trading()
    clock = client.get_clock()
    assert not clock.is_open
    assert clock.next_open == datetime(2026, 1, 12, 14, 30, tzinfo=UTC)
    assert clock.next_close == datetime(2026, 1, 12, 21, 0, tzinfo=UTC)
    queued = market(client, "VTI", "buy", notional=100)
    assert queued.status == "accepted" and queued.expires_at == datetime(2026, 1, 12, 21, 0, tzinfo=UTC)
    served.admin.price("VTI", 200, at="2026-01-12T14:30:00Z")
    served.admin.to("2026-01-12T14:29:59Z")
    assert client.get_order_by_id(queued.id).status == "accepted"
    state = served.admin.until("open")
    assert state["is_open"] and client.get_clock().is_open
    done = client.get_order_by_id(queued.id)
    assert (done.status, done.filled_qty, done.filled_avg_price) == ("filled", "0.5", "200")
    (fill,) = activities(client, "FILL")
    assert fill["transaction_time"].startswith("2026-01-12T14:30:00.0000")


def test_a_day_order_expires_at_an_early_close_with_its_partial_fill(served: Served) -> None:
    served.admin.to("2026-11-27T15:00:00Z")  # the day after Thanksgiving closes at 13:00 in New York
    client = served.trading()
    rows = client.get_calendar(_calendar("2026-11-25", "2026-11-30"))
    assert [(row.date, row.close.hour) for row in rows] == [
        (date(2026, 11, 25), 16), (date(2026, 11, 27), 13), (date(2026, 11, 30), 16)
    ]  # fmt: skip
    resting = limit(client, "VTI", "buy", 5, 200)
    served.admin.order(str(resting.id), "fill", qty=2, price=200)
    served.admin.to("2026-11-27T17:59:59Z")
    assert client.get_order_by_id(resting.id).status == "partially_filled"
    served.admin.to("2026-11-27T18:00:00Z")
    gone = client.get_order_by_id(resting.id)
    assert (gone.status, gone.filled_qty) == ("expired", "2")
    assert gone.expired_at.replace(microsecond=0) == datetime(2026, 11, 27, 18, 0, tzinfo=UTC)
    assert held(client) == {"VTI": 2}


def _calendar(start: str, end: str) -> object:
    from alpaca.trading.requests import GetCalendarRequest

    return GetCalendarRequest(start=date.fromisoformat(start), end=date.fromisoformat(end))


def test_no_session_on_a_holiday_and_utc_hours_follow_summer_time() -> None:
    exchange = founded("2026-07-02T21:00:00+00:00", symbols=("VTI=100",))
    queued = exchange.submit(order("VTI", "buy", qty=1))
    assert queued["expires_at"] == "2026-07-06T20:00:00.000000Z"  # 3 July 2026 is a holiday
    to(exchange, "2026-07-06T13:29:59+00:00")
    assert status(exchange, queued) == "accepted"
    to(exchange, "2026-07-06T13:30:00+00:00")
    assert status(exchange, queued) == "filled"


def test_quotes_move_limits_through_the_day(week: Path) -> None:
    exchange = founded("2026-01-02T15:00:00+00:00", quotes=week)
    buy = exchange.submit(order("VTI", "buy", type="limit", qty=1, limit_price="100.5"))
    assert filled(exchange, buy) == ("filled", "1", 100)  # the price is already below the limit
    queued = exchange.submit(order("VTI", "buy", type="limit", tif="gtc", qty=1, limit_price=117))
    assert status(exchange, queued) == "filled"  # 100 again
    to(exchange, "2026-01-02T20:59:30+00:00")
    low = exchange.submit(order("VTI", "buy", type="limit", tif="gtc", qty=1, limit_price=116))
    assert filled(exchange, low)[2] == 110
    to(exchange, "2026-01-05T14:30:00+00:00")
    wait = exchange.submit(order("VTI", "buy", type="limit", qty=1, limit_price=116))
    assert status(exchange, wait) == "new"
    to(exchange, "2026-01-05T17:59:59+00:00")
    assert status(exchange, wait) == "new"
    to(exchange, "2026-01-06T14:30:00+00:00")  # through the quote of 18:00
    found = exchange.store.order(wait["id"])
    assert (found.status, found.filled_value) == ("filled", 115)
    assert found.filled_at.replace(microsecond=0) == datetime(2026, 1, 5, 18, 0, tzinfo=UTC)


def test_orders_for_the_open_and_the_close(week: Path) -> None:
    exchange = founded("2026-01-05T01:00:00+00:00", quotes=week)
    at_open = exchange.submit(order("VTI", "buy", tif="opg", qty=1))
    missed = exchange.submit(order("VTI", "buy", type="limit", tif="opg", qty=1, limit_price=90))
    at_close = exchange.submit(order("VTI", "buy", tif="cls", qty=1))
    too_low = exchange.submit(order("VTI", "buy", type="limit", tif="cls", qty=1, limit_price=90))
    to(exchange, "2026-01-05T14:30:00+00:00")
    assert filled(exchange, at_open) == ("filled", "1", 120)
    assert status(exchange, missed) == "canceled"
    assert status(exchange, at_close) == status(exchange, too_low) == "new"
    to(exchange, "2026-01-05T21:00:00+00:00")
    assert filled(exchange, at_close) == ("filled", "1", 130)
    assert status(exchange, too_low) == "canceled"


@pytest.mark.parametrize(
    ("tif", "at", "accepted"),
    [
        ("opg", "2026-01-05T14:27:59+00:00", True), ("opg", "2026-01-05T14:28:00+00:00", False),
        ("opg", "2026-01-05T18:00:00+00:00", False), ("opg", "2026-01-05T23:59:59+00:00", False),
        ("opg", "2026-01-06T00:00:00+00:00", True), ("cls", "2026-01-05T14:00:00+00:00", True),
        ("cls", "2026-01-05T20:49:59+00:00", True), ("cls", "2026-01-05T20:50:00+00:00", False),
        ("cls", "2026-01-05T22:00:00+00:00", False), ("cls", "2026-01-06T00:00:00+00:00", True),
    ],
    ids=str,
)  # fmt: skip
def test_the_hours_of_orders_for_the_open_and_the_close(tif: str, at: str, accepted: bool) -> None:
    exchange = founded(at, symbols=("VTI=100",))
    try:
        exchange.submit(order("VTI", "buy", tif=tif, qty=1))
        assert accepted
    except Refusal as refusal:
        assert not accepted and refusal.status == 422


def test_good_till_canceled_is_done_for_the_day_and_new_the_next(week: Path) -> None:
    exchange = founded("2026-01-02T15:00:00+00:00", quotes=week)
    waiting = exchange.submit(
        order("VTI", "sell", type="limit", tif="gtc", qty=1, limit_price=135)
        | {"side": "buy", "limit_price": Decimal(90)}
    )
    to(exchange, "2026-01-02T21:00:00+00:00")
    assert status(exchange, waiting) == "done_for_day"
    to(exchange, "2026-01-05T14:30:00+00:00")
    assert status(exchange, waiting) == "new"
    to(exchange, "2026-05-01T20:00:00+00:00")
    assert status(exchange, waiting) == "expired"  # after ninety days


def test_an_order_sent_at_the_close_is_for_the_next_session(week: Path) -> None:
    exchange = founded("2026-01-02T21:00:00+00:00", quotes=week)
    assert exchange.session() is None
    late = exchange.submit(order("VTI", "buy", qty=1))
    assert late["status"] == "accepted"
    to(exchange, "2026-01-05T14:30:00+00:00")
    assert filled(exchange, late) == ("filled", "1", 120)


def test_a_symbol_without_a_price_waits_and_expires() -> None:
    exchange = founded("2026-01-05T15:00:00+00:00", symbols=("XYZ",))
    waiting = exchange.submit(order("XYZ", "buy", qty=1))
    assert status(exchange, waiting) == "new"
    to(exchange, "2026-01-05T21:00:00+00:00")
    assert status(exchange, waiting) == "expired"


def test_the_clock_goes_forward_only() -> None:
    exchange = founded("2026-01-05T15:00:00+00:00", symbols=("VTI=100",))
    for at in ("2026-01-05T15:00:00+00:00", "2026-01-05T14:00:00+00:00", "2096-01-05T14:00:00+00:00"):
        with pytest.raises(Refusal, match="forward"):
            to(exchange, at)


def test_effects_never_hide_an_event_that_is_near() -> None:
    """A thousand effects move the time by a millisecond or more, past an open that was one microsecond away."""
    exchange = founded("2026-01-05T14:29:59.999999+00:00", symbols=("VTI=100",), cash=1_000_000)
    queued = [exchange.submit(order("VTI", "buy", qty=1)) for _ in range(30)]
    assert exchange.now > datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    to(exchange, "2026-01-05T14:31:00+00:00")
    assert {status(exchange, each) for each in queued} == {"filled"}
