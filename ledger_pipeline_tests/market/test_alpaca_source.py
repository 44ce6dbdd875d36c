"""Bars from the broker: the real client over loopback, page by page, session by session."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.requests import CorporateActionsRequest

from ledger_pipeline.core.errors import BrokerError, InputError, NotFoundError, RefusedError
from ledger_pipeline.market import snapshot
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.market.sources import alpaca
from ledger_pipeline.trading.connect import connect
from ledger_pipeline_tests.exchange.server import exchange
from ledger_pipeline_tests.projects import CHECKOUT
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.wire import Reply, broker_at, js, serving

NOW = datetime(2026, 6, 1, tzinfo=UTC)
START, END = date(2026, 3, 2), date(2026, 3, 13)  # ten sessions; summer time begins between them, on the 8th


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


def rows(start: date = START, end: date = END, *, base: float = 100.0) -> list[dict[str, Any]]:
    """Bars as the broker sends them, stamped with midnight in New York."""
    days = sessions("XNYS", start, end).tz_localize(None).tz_localize("America/New_York").tz_convert("UTC")
    return [
        {"t": day.strftime("%Y-%m-%dT%H:%M:%SZ"), "o": base + n, "h": base + n + 1, "l": base + n - 0.5,
         "c": base + n + 0.25, "v": 1_000 + n, "n": 10, "vw": base}
        for n, day in enumerate(days)
    ]  # fmt: skip


class Feed:
    """A data host that serves `bars` in pages of `size` rows, by symbol and then by time."""

    def __init__(self, bars: dict[str, list[dict[str, Any]]], size: int = 10_000) -> None:
        self.bars, self.size = bars, size
        self.queries: list[dict[str, str]] = []

    def __call__(self, request: wire.Request) -> Reply:
        assert request.path == "/v2/stocks/bars"
        self.queries.append(request.query)
        asked = request.query["symbols"].split(",")
        every = [(symbol, row) for symbol in asked for row in self.bars.get(symbol, [])]
        first = int(request.query.get("page_token", "0"))
        page: dict[str, list] = {}
        for symbol, row in every[first : first + self.size]:
            page.setdefault(symbol, []).append(row)
        last = first + self.size >= len(every)
        return js({"bars": page or None, "next_page_token": None if last else str(first + self.size)})


def fetch(respond: Any, symbols: Any = ("VTI",), start: date = START, end: date = END, **options: Any) -> Any:
    options = {"feed": "sip", "now": NOW} | options
    with serving(respond) as stub, broker_at(stub.url) as broker:
        return alpaca.fetch_bars(symbols, start, end, connection=broker._data, **options)


def test_bars_worked_by_hand():
    feed = Feed({"VTI": rows(), "BND": rows(base=72.1)})
    bars, source = fetch(feed, ["VTI", "BND", "VTI"])
    assert list(bars.columns) == ["symbol", "ts", "open", "high", "low", "close", "volume"]
    assert len(bars) == 20 and list(bars["symbol"].unique()) == ["BND", "VTI"]
    first, last = bars.iloc[10], bars.iloc[19]
    assert (first["ts"], first["open"], first["volume"]) == (pd.Timestamp("2026-03-02", tz="UTC"), 100.0, 1000.0)
    assert (last["ts"], last["close"]) == (pd.Timestamp("2026-03-13", tz="UTC"), 109.25)
    assert bars["open"].iloc[0] == 72.1  # exactly the price that was sent
    assert feed.queries == [{
        "symbols": "BND,VTI", "timeframe": "1Day", "start": "2026-03-02T00:00:00Z", "end": "2026-03-13T23:59:59Z",
        "adjustment": "raw", "feed": "sip", "limit": "10000", "sort": "asc",
    }]  # fmt: skip
    assert {name: source[name] for name in ("feed", "adjustment", "asof", "fetched_at", "pages", "missing_sessions")} == {
        "feed": "sip", "adjustment": "raw", "asof": "2026-06-01", "fetched_at": "2026-06-01T00:00:00+00:00", "pages": 1,
        "missing_sessions": {},
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 10, 19, 20])
def test_pages_of_any_size_give_the_same_bars(size):
    whole, _ = fetch(Feed({"VTI": rows(), "BND": rows(base=72.1)}), ["VTI", "BND"])
    paged, source = fetch(Feed({"VTI": rows(), "BND": rows(base=72.1)}, size), ["VTI", "BND"])
    pd.testing.assert_frame_equal(whole, paged)
    assert source["pages"] == -(-20 // size)


def test_many_symbols_are_asked_for_in_parts():
    names = [f"S{number:03d}" for number in range(230)]
    feed = Feed({name: rows(END, END) for name in names})
    bars, source = fetch(feed, names, END, END)
    assert len(bars) == 230 and source["pages"] == 3
    assert max(len(query["symbols"].split(",")) for query in feed.queries) == alpaca.SYMBOLS_A_REQUEST


def test_fetched_bars_can_be_sealed_with_their_source(tmp_path):
    bars, source = fetch(Feed({"VTI": rows()}))
    sealed = snapshot.seal(bars, snapshot_id="fetched", root=tmp_path, source=source)
    again = snapshot.open_snapshot("fetched", root=tmp_path)
    assert again.manifest["source"]["feed"] == "sip" and again.hash == sealed.hash and len(again.bars) == 10


def test_an_unknown_symbol_is_named():
    with pytest.raises(NotFoundError, match="NOPE, ZZZ from 2026-03-02 to 2026-03-13 in the feed iex"):
        fetch(Feed({"VTI": rows()}), ["VTI", "ZZZ", "NOPE"], feed="iex")
    with pytest.raises(NotFoundError, match="VTI"):
        fetch(Feed({}))


def test_a_session_that_is_missing_in_the_middle_is_named():
    gap = [row for row in rows() if row["t"][:10] not in ("2026-03-04", "2026-03-10")]
    with pytest.raises(BrokerError, match="VTI for the sessions 2026-03-04, 2026-03-10"):
        fetch(Feed({"BND": rows(), "VTI": gap}), ["VTI", "BND"])
    bars, source = fetch(Feed({"BND": rows(), "VTI": gap}), ["VTI", "BND"], allow_missing=True)
    assert len(bars) == 18 and source["missing_sessions"] == {"VTI": ["2026-03-04", "2026-03-10"]}


def test_a_later_listing_or_an_earlier_end_is_no_gap():
    bars, source = fetch(Feed({"VTI": rows()[3:-2]}))
    assert len(bars) == 5 and source["missing_sessions"] == {}


def test_a_bar_on_a_day_without_a_session_is_an_error():
    sunday = rows()[0] | {"t": "2026-03-08T05:00:00Z"}
    with pytest.raises(BrokerError, match="VTI for 2026-03-08"):
        fetch(Feed({"VTI": [*rows(), sunday]}))
    with pytest.raises(BrokerError, match="outside"):
        fetch(Feed({"VTI": rows(date(2026, 2, 27), END)}))


@pytest.mark.parametrize("at", ["2026-03-02T00:00:00Z", "2026-03-09T05:00:00Z", "2026-03-02T14:30:00Z"])
def test_a_bar_that_does_not_start_at_midnight_in_new_york_is_an_error(at):
    """05:00 UTC is midnight there in winter; from the 8th of March on it is one o'clock."""
    with pytest.raises(BrokerError, match="midnight"):
        fetch(Feed({"VTI": [rows()[0] | {"t": at}]}))


@pytest.mark.parametrize(("now", "over"), [
    (datetime(2026, 3, 13, 19, 59, tzinfo=UTC), False),
    (datetime(2026, 3, 13, 20, 10, tzinfo=UTC), False),  # closed at 20:00, and still being settled
    (datetime(2026, 3, 13, 20, 20, tzinfo=UTC), True),
])  # fmt: skip
def test_the_bar_of_a_session_that_is_not_over_is_refused(now, over):
    if over:
        assert len(fetch(Feed({"VTI": rows()}), now=now)[0]) == 10
    else:
        with pytest.raises(InputError, match="2026-03-13 is not over"):
            fetch(Feed({"VTI": rows()}), now=now)


def test_only_raw_prices_are_fetched():
    for adjustment in ("split", "dividend", "spin-off", "all"):
        with pytest.raises(RefusedError, match="raw"):
            fetch(Feed({}), adjustment=adjustment)


@pytest.mark.parametrize("options", [
    {"symbols": []}, {"symbols": ["VTI", ""]}, {"symbols": ["A,B"]}, {"symbols": ["A B"]}, {"symbols": [None]},
    {"symbols": ["x" * 40]}, {"symbols": ["\u0391"]}, {"feed": "best"}, {"feed": ""}, {"adjustment": "none"},
    {"start": END, "end": START}, {"start": date(2026, 3, 7), "end": date(2026, 3, 8)}, {"calendar": "NOPE"},
])  # fmt: skip
def test_what_makes_no_sense_is_never_asked(options):
    feed = Feed({"VTI": rows()})
    with pytest.raises(InputError):
        fetch(feed, **options)
    assert not feed.queries


SOUND = {"t": "2026-03-02T05:00:00Z", "o": 100.0, "h": 101.0, "l": 99.5, "c": 100.25, "v": 1000, "n": 10, "vw": 100.0}


def unsound(**change: Any) -> Reply:
    return js({"bars": {"VTI": [SOUND | change]}, "next_page_token": None})


def test_a_sound_bar_is_one():
    assert len(fetch(unsound())[0]) == 1


@pytest.mark.parametrize("reply", [
    js([]), js({}), js({"bars": []}), js({"bars": {"VTI": {}}}), js({"bars": {"VTI": [1]}}), js({"bars": 7}),
    js({"message": "subscription does not permit querying recent SIP data"}, 403), Reply(502, b"<html>"),
    Reply(fault="hang"), Reply(fault="reset"), Reply(200, b'{"bars": {"VTI": [{"t"'), Reply(200, b""),
    unsound(o=None), unsound(o="x"), unsound(h=1), unsound(l=-1), unsound(o=0), unsound(v=-1), unsound(t=None),
    unsound(t="soon"), js({"bars": {"VTI": [SOUND] * 2}, "next_page_token": None}),
    js({"bars": {"VTI": [SOUND], "EVIL": [SOUND]}, "next_page_token": None}),
])  # fmt: skip
def test_bars_that_cannot_be_read_are_an_error(reply):
    with pytest.raises(BrokerError) as caught:
        fetch(reply)
    assert str(caught.value).isprintable()


def test_a_page_that_comes_again_and_pages_without_an_end(monkeypatch):
    with pytest.raises(BrokerError, match="same page"):
        fetch(js({"bars": {"VTI": rows()}, "next_page_token": "again"}))
    monkeypatch.setattr(alpaca, "MOST_PAGES", 4)
    count = iter(range(100))
    with pytest.raises(BrokerError, match="pages"):
        fetch(lambda _: js({"bars": {}, "next_page_token": str(next(count))}))


def test_too_many_requests_are_waited_out():
    feed, slept = Feed({"VTI": rows()}), []
    replies = [js({"message": "too many requests."}, 429)]
    with serving(lambda request: replies.pop() if replies else feed(request)) as stub:
        with broker_at(stub.url, sleep=slept.append) as broker:
            bars, _ = alpaca.fetch_bars(["VTI"], START, END, feed="sip", connection=broker._data, now=NOW)
    assert len(bars) == 10 and slept == [3.0]


def test_bars_of_the_local_exchange_are_those_of_its_snapshot(tmp_path):
    """Sealed, served over the wire, fetched and sealed again: the same bars, to the bit."""
    days = sessions("XNYS", date(2025, 12, 22), date(2026, 1, 9))  # a holiday and an early close between them
    made = pd.concat(
        pd.DataFrame({
            "symbol": symbol, "ts": days, "open": [round(base + 0.1 * n, 2) for n in range(len(days))],
            "high": [round(base + 0.1 * n + 0.37, 2) for n in range(len(days))],
            "low": [round(base + 0.1 * n - 0.21, 2) for n in range(len(days))],
            "close": [round(base + 0.1 * n + 0.07, 2) for n in range(len(days))], "volume": 1000.0,
        })
        for symbol, base in (("BND", 72.1), ("VTI", 250.0))
    )  # fmt: skip
    sealed = snapshot.seal(made, snapshot_id="made", root=tmp_path)
    with exchange(tmp_path / "x", snapshot=tmp_path / "made", at="2026-01-12T15:00:00Z") as served:
        with connect(url=served.url, environ=served.environ) as broker:
            bars, source = alpaca.fetch_bars(
                ["VTI", "BND"], date(2025, 12, 22), date(2026, 1, 9), feed="iex", connection=broker._data, now=NOW
            )
            with pytest.raises(NotFoundError, match="NOPE"):
                alpaca.fetch_bars(["VTI", "NOPE"], START, END, feed="iex", connection=broker._data, now=NOW)
    again = snapshot.seal(bars, snapshot_id="again", root=tmp_path, source=source)
    assert again.manifest["content"]["bars"] == sealed.manifest["content"]["bars"]
    assert source["host"] == served.url and source["missing_sessions"] == {}


# Corporate actions


def announced(**groups: list[dict[str, Any]]) -> Any:
    def respond(request: wire.Request) -> Reply:
        assert request.path == "/v1/corporate-actions"
        return js({"corporate_actions": groups, "next_page_token": None})

    return respond


def actions(respond: Any, symbols: Any = ("VTI",)) -> Any:
    with serving(respond) as stub, broker_at(stub.url) as broker:
        return alpaca.fetch_actions(symbols, START, END, connection=broker._actions)


SPLIT = {"symbol": "VTI", "new_rate": 2, "old_rate": 1, "process_date": "2026-03-04", "ex_date": "2026-03-04"}
DIVIDEND = {"symbol": "VTI", "rate": 0.91, "special": False, "foreign": False, "ex_date": "2026-03-10"}


def test_splits_and_dividends_worked_by_hand():
    found = actions(
        announced(
            cash_dividends=[DIVIDEND],
            forward_splits=[SPLIT],
            reverse_splits=[SPLIT | {"symbol": "BND", "new_rate": 1, "old_rate": 4}],
            stock_dividends=[{"symbol": "BND", "rate": 0.05, "ex_date": "2026-03-12"}],
        ),
        ["VTI", "BND"],
    )
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("BND", pd.Timestamp("2026-03-04", tz="UTC"), "SPLIT", 0.25),
        ("BND", pd.Timestamp("2026-03-12", tz="UTC"), "SPLIT", 1.05),
        ("VTI", pd.Timestamp("2026-03-04", tz="UTC"), "SPLIT", 2.0),
        ("VTI", pd.Timestamp("2026-03-10", tz="UTC"), "DIVIDEND", 0.91),
    ]


def test_no_actions_are_an_empty_table_of_the_same_columns():
    found = actions(announced())
    assert found.empty and str(found["ex_date"].dtype) == "datetime64[us, UTC]" and found["value"].dtype == "float64"


def test_actions_are_told_by_their_ex_date_and_asked_for_by_the_date_they_are_processed():
    """A dividend is processed on the day it is paid, weeks after its ex-date, and the broker goes by that day."""
    known = {
        "cash_dividends": [
            DIVIDEND | {"ex_date": "2026-02-24", "process_date": "2026-03-09"},  # before the time that was asked for
            DIVIDEND | {"ex_date": "2026-03-13", "process_date": "2026-04-30"},
            DIVIDEND | {"ex_date": "2026-03-16", "process_date": "2026-04-02"},  # after it
        ],
        "spin_offs": [{"source_symbol": "VTI", "ex_date": "2026-03-16", "process_date": "2026-03-16"}],
        "name_changes": [{"old_symbol": "VTI", "new_symbol": "VTIX", "process_date": "2026-05-01"}],
        "unit_splits": [{"old_symbol": "VTI", "effective_date": "2026-02-27", "process_date": "2026-03-04"}],
    }

    def respond(request: wire.Request) -> Reply:
        first, last = request.query["start"], request.query["end"]
        kept = {name: [row for row in rows if first <= row["process_date"] <= last] for name, rows in known.items()}
        return js({"corporate_actions": kept, "next_page_token": None})

    found = actions(respond)
    assert [(row.ex_date.date(), row.kind, row.value) for row in found.itertuples()] == [(END, "DIVIDEND", 0.91)]


@pytest.mark.parametrize("kind", ["spin_offs", "stock_mergers", "name_changes", "unit_splits", "something_new"])
def test_an_action_that_is_neither_is_refused_by_name(kind):
    with pytest.raises(RefusedError, match="of VTI, which changes what its shares are"):
        actions(announced(**{kind: [{"source_symbol": "VTI", "ex_date": "2026-03-04"}]}))


@pytest.mark.parametrize(
    "row",
    [
        {"symbol": "VTI", "rate": None, "ex_date": "2026-03-04"},
        {"symbol": "VTI", "rate": -1, "ex_date": "2026-03-04"},
        {"symbol": "VTI", "rate": 1, "ex_date": "soon"},
        {"symbol": "OTHER", "rate": 1, "ex_date": "2026-03-04"},
        {"rate": 1, "ex_date": "2026-03-04"},
        "text",
    ],
)
def test_an_action_that_cannot_be_read_is_an_error(row):
    with pytest.raises(BrokerError):
        actions(announced(cash_dividends=[row]))


def test_the_exchange_tells_the_actions_of_its_snapshot(monkeypatch, tmp_path):
    """Real splits and dividends through the real client; nothing after the exchange's day."""
    demo = snapshot.open_snapshot("demo", root=CHECKOUT / "snapshots")
    with exchange(tmp_path, snapshot=CHECKOUT / "snapshots" / "demo", at="2005-03-01T15:00:00Z") as served:
        for name, value in served.environ.items():
            monkeypatch.setenv(name, value)
        with connect("exchange", url=served.url) as broker:
            span = date(2000, 1, 1), date(2013, 1, 1)
            found = alpaca.fetch_actions(demo.symbols, *span, connection=broker._actions)
        client = CorporateActionsClient(served.key, served.secret, url_override=served.url)
        client._session.trust_env = False
        told = client.get_corporate_actions(CorporateActionsRequest(symbols=["AAPL"], start=span[0], end=span[1]))
    known = demo.actions[demo.actions["ex_date"] <= "2005-03-01"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, known[found.columns], check_dtype=False)
    assert [(row.ex_date.isoformat(), row.new_rate, row.old_rate) for row in told.data["forward_splits"]] == [
        ("2000-06-21", 2, 1),
        ("2005-02-28", 2, 1),
    ]
