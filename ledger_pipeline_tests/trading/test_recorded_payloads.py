"""Every form of answer that alpaca-py's own test-suite records and the port reads, through the real client to the value.

The payloads have the fields and forms of theirs and values of our own (see payloads/README.md); each is served on
loopback, asked for by the adapter, and must come to exactly what is written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from alpaca.trading import models

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import NotFoundError, RefusedError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.order_terms import OrderTerms
from ledger_pipeline.market.sources.alpaca import fetch_actions, fetch_bars
from ledger_pipeline.trading import broker as port
from ledger_pipeline.trading.alpaca.broker import AlpacaBroker
from ledger_pipeline_tests.trading import wire
from ledger_pipeline_tests.trading.requests import order_request
from ledger_pipeline_tests.trading.test_parsing import plain
from ledger_pipeline_tests.trading.wire import Reply, Request, broker_at, js, serving

D = Decimal
SUBMITTED = datetime(2026, 2, 11, 15, 4, 7, 118220, tzinfo=UTC)
UPDATED = datetime(2026, 2, 11, 15, 4, 7, 120305, tzinfo=UTC)


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch):
    """No connection leaves this machine."""
    refused = wire.loopback_only(monkeypatch)
    yield
    assert not refused


def asked(call: Callable[[AlpacaBroker], Any], *answers: Any, status: int = 200) -> tuple[Any, list[Request]]:
    """What `call` makes of a broker whose requests get `answers`, one after the other, and those requests."""
    left = list(answers)
    with serving(lambda _: js(left.pop(0), status)) as stub, broker_at(stub.url) as broker:
        found = call(broker)
    assert not left, "an answer was not asked for"
    return found, stub.requests


def order(number: int, **fields: Any) -> port.BrokerOrder:
    """What the order of this number comes to, with what is not the usual in `fields`."""
    usual = {
        "symbol": "VTI", "side": "BUY", "quantity": D(1), "notional": None, "type": "market", "limit_price": None,
        "time_in_force": "day", "status": "accepted", "filled_quantity": D(0), "filled_price": None,
        "submitted_at": SUBMITTED, "updated_at": UPDATED, "raw": plain("recorded_orders")[number - 1],
    }  # fmt: skip
    values = usual | fields
    terms = OrderTerms(**{item.name: values.pop(item.name) for item in dataclasses.fields(OrderTerms)})
    return port.BrokerOrder(identity(number), f"weekly-20260211-VTI-b-{number}", terms, **values)


def identity(number: int) -> str:
    return f"7b3c2f0e-3d0a-4f3e-8a51-0c5b2f6f1b{number:02d}"


WHOLE = datetime(2025, 10, 3, 13, 31, tzinfo=UTC)
ORDERS = {
    "market": order(1),
    "every time set, amounts as numbers, no legs": order(
        2, type="stop", status="new", filled_price=D(0), submitted_at=WHOLE, updated_at=WHOLE,
        replaced_by=identity(2), replaces=identity(1),
    ),
    "limit": order(3, type="limit", limit_price=D(310)),
    "with a position intent": order(4),
    "limit, sold": order(5, type="limit", side="SELL", limit_price=D(310)),
    "of cash": order(6, quantity=None, notional=D(500)),
    "times to the nanosecond, another class": order(
        7, symbol="BTC/USD", side="SELL", quantity=D("0.0283"), time_in_force="gtc", status="pending_new",
        submitted_at=datetime(2026, 3, 27, 8, 12, 33, 667750, tzinfo=UTC),
        updated_at=datetime(2026, 3, 27, 8, 12, 33, 669027, tzinfo=UTC),
    ),
    "commission on cash": order(8),
    "commission in points": order(9),
    "commission on shares": order(10, quantity=D(3)),
    "replaced by itself": order(11, quantity=None, notional=D(500), replaces=identity(11), replaced_by=identity(11)),
    "with legs": order(12, quantity=None, notional=D(500), replaces=identity(11), replaced_by=identity(11)),
}  # fmt: skip


def stored(value: Any) -> Any:
    """A row as it is kept: a number with a point has become text."""
    if isinstance(value, dict):
        return {key: stored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [stored(item) for item in value]
    return decimal_text(D(repr(value))) if isinstance(value, float) else value


def kept(wanted: port.BrokerOrder) -> port.BrokerOrder:
    return port.BrokerOrder(**vars(wanted) | {"raw": stored(wanted.raw)})


def test_orders_of_every_recorded_form_in_a_list():
    found, _ = asked(lambda broker: broker.orders(), plain("recorded_orders"))
    assert found == tuple(map(kept, ORDERS.values()))
    assert [canonical_json(one.raw) for one in found]
    assert not any(one.is_final for one in found)


@pytest.mark.parametrize("number", range(1, len(ORDERS) + 1), ids=list(ORDERS))
def test_an_order_of_every_recorded_form_by_its_id(number):
    row, wanted = plain("recorded_orders")[number - 1], kept(list(ORDERS.values())[number - 1])
    found, _ = asked(lambda broker: broker.order_by_client_id(wanted.client_order_id), row)
    assert found == wanted
    assert str(models.Order(**row).id) == found.id  # the SDK's model reads the same payload


@pytest.mark.parametrize("number", [1, 3, 4, 5, 6, 8, 9, 10])
def test_the_answer_to_a_submit_of_every_recorded_form(number):
    wanted = kept(list(ORDERS.values())[number - 1])
    request = order_request(
        wanted.client_order_id, "VTI", wanted.side, wanted.quantity, wanted.notional, wanted.type, wanted.limit_price
    )
    found, requests = asked(lambda broker: broker.submit(request), plain("recorded_orders")[number - 1])
    assert found == port.Accepted(wanted) and [one.method for one in requests] == ["POST"]


def test_the_refusal_and_the_order_inside_a_recorded_answer_of_many():
    accepted, refused = plain("recorded_close_all")
    found, _ = asked(lambda broker: broker.order_by_client_id("weekly-20260211-VTI-b-7"), accepted["body"])
    assert found == kept(ORDERS["times to the nanosecond, another class"])
    sale = order_request("t-1", "BND", "SELL", quantity=D(12))
    outcome, _ = asked(lambda broker: broker.submit(sale), refused["body"], status=refused["status"])
    assert outcome == port.Refused(
        403, 40310000, "insufficient qty available for order (requested: 12, available: 0)", refused["body"]
    )


@pytest.mark.parametrize("status, said", [(204, port.REQUESTED), (422, port.UNKNOWN), (404, port.UNKNOWN)])
def test_cancels_without_a_body(status, said):
    """As they are recorded. A refusal without the broker's own sentence may be a gateway's: it proves nothing."""
    with serving(Reply(status)) as stub, broker_at(stub.url) as broker:
        assert broker.cancel(identity(1)) == said
    assert [(one.method, one.path) for one in stub.requests] == [("DELETE", f"/v2/orders/{identity(1)}")]


def test_positions_of_every_recorded_form():
    found, _ = asked(lambda broker: broker.positions(), plain("recorded_positions"))
    rows = {row["symbol"]: row for row in plain("recorded_positions")}
    assert found == (
        port.Position("BND", D(5), D(5), D("310.45"), rows["BND"]),
        port.Position("VEA", D("0.284066117"), D("0.284066117"), D("63.01"), rows["VEA"]),
        port.Position("VTI", D(5), D(5), D("310.45"), rows["VTI"]),
    )
    assert found[1].raw["cost_basis"] == "17.6049914405605227113711002217"  # to the last digit
    for row in rows.values():
        models.Position(**row)


def test_the_account_in_its_recorded_forms():
    for name in ("account", "account_since_2026"):
        found, _ = asked(lambda broker: broker.account(), plain(name))
        assert found == port.Account(
            "0c5b2f6f-64a4-4921-8928-cadf02f92f98", "55LP00017", D("-1520.4"), D("40210.31"), D("81250.44"), "ACTIVE",
            (), plain(name),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["asset", "recorded_asset_short", "asset_since_2026"])
def test_an_asset_in_its_recorded_forms(name):
    found, _ = asked(lambda broker: broker.asset("VTI"), plain(name))
    assert found == port.Asset("VTI", "us_equity", "active", True, True)


def test_the_clock_in_its_recorded_forms():
    utc = lambda *parts: datetime(*parts, tzinfo=UTC)
    wanted = [
        port.BrokerClock(utc(2026, 5, 18, 20, 41, 12, 908173), False, utc(2026, 5, 19, 13, 30), utc(2026, 5, 19, 20)),
        port.BrokerClock(utc(2026, 2, 11, 19, 7, 4, 451420), True, utc(2026, 2, 12, 14, 30), utc(2026, 2, 11, 21)),
        port.BrokerClock(utc(2026, 6, 15, 16), True, utc(2026, 6, 16, 13, 30), utc(2026, 6, 15, 20)),
    ]
    for row, clock in zip(plain("recorded_clocks"), wanted, strict=True):
        assert asked(lambda broker: broker.clock(), row)[0] == clock
        models.Clock(**row)


def test_the_calendar_in_its_recorded_form():
    found, _ = asked(lambda broker: broker.calendar(date(2025, 1, 1), date(2025, 12, 31)), plain("calendar"))
    assert found == (
        port.SessionHours(
            date(2025, 1, 2), datetime(2025, 1, 2, 14, 30, tzinfo=UTC), datetime(2025, 1, 2, 21, tzinfo=UTC)
        ),
        port.SessionHours(
            date(2025, 7, 3), datetime(2025, 7, 3, 13, 30, tzinfo=UTC), datetime(2025, 7, 3, 17, tzinfo=UTC)
        ),
    )


def fill(number: int, of: int, at: str, quantity: str, cumulative: str, leaves: str, **fields: Any) -> Any:
    name = next(row["id"] for row in activity_rows() if row["id"].endswith(f"be2{number:03d}"))
    usual = {"symbol": "VTI", "side": "BUY", "price": D("310.45")} | fields
    return port.FillActivity(
        name, identity(of), quantity=D(quantity), at=datetime.fromisoformat(at), cumulative=D(cumulative),
        leaves=D(leaves), raw=activity_rows()[number - 1], **usual,
    )  # fmt: skip


def activity_rows() -> list[dict[str, Any]]:
    return [row for page in plain("recorded_activities") for row in page]


def cash(number: int, kind: str, day: date | None, amount: str, **fields: Any) -> port.CashActivity:
    row = activity_rows()[number - 1]
    usual = {"type": row["activity_type"], "at": None, "raw": stored(row)} | fields
    return port.CashActivity(row["id"], kind, date=day, amount=D(amount), **usual)


MARCH, JUNE = date(2026, 3, 31), date(2026, 6, 30)
ACTIVITIES = (
    cash(10, "DIVIDEND", date(2025, 8, 1), "1.02", symbol="BND", quantity=D(6), per_share=D("0.17")),  # no status
    fill(3, 1, "2026-02-11T15:04:09.220117Z", "2", "10.177047834", "0"),
    fill(8, 3, "2026-03-04T17:39:22.310917Z", "1.998065556", "1.998065556", "4", symbol="BND", side="SELL", price=D("72.45")),
    fill(7, 2, "2026-03-04T18:54:20.898220Z", "1", "2.792161878", "0"),  # as recorded, before the part that it follows
    fill(6, 2, "2026-03-04T18:54:20.903569Z", "1.792161878", "1.792161878", "1"),
    cash(1, "DEPOSITED", MARCH, "2750.25"),
    cash(2, "DEPOSITED", MARCH, "1129.5"),
    cash(4, "DEPOSITED", MARCH, "45.47"),
    cash(5, "DEPOSITED", MARCH, "43.18"),  # no account
    cash(9, "DIVIDEND", MARCH, "7.20", symbol="VTI", quantity=D(10), per_share=D("0.72")),
    cash(14, "DIVIDEND", date(2026, 6, 29), "8.17", per_share=D("1.25")),  # amounts as numbers
    cash(12, "DIVIDEND", JUNE, "8.15"),  # its date is a time
    cash(13, "DIVIDEND", JUNE, "8.16"),
    cash(11, port.UNRECOGNIZED, None, "0", at=datetime(2026, 6, 30, 11, tzinfo=UTC)),  # a fill without its amounts
)  # fmt: skip


def test_activities_of_every_recorded_form_over_pages():
    pages = plain("recorded_activities")
    found, requests = asked(lambda broker: broker.activities(), *pages)
    assert found == ACTIVITIES
    assert [one.query.get("page_token") for one in requests] == [None, *(page[-1]["id"] for page in pages[:-1])]
    assert [canonical_json(row.raw) for row in found]


def test_last_trades_in_their_recorded_form():
    found, requests = asked(lambda broker: broker.latest_trades(["VTI", "BND"]), plain("recorded_trades_latest"))
    assert found == {
        "BND": port.LatestTrade("BND", D("72.19"), datetime(2026, 3, 17, 19, 59, 59, 405545, tzinfo=UTC)),
        "VTI": port.LatestTrade("VTI", D("310.2958"), datetime(2026, 3, 18, 14, 2, 9, 722539, tzinfo=UTC)),
    }
    assert requests[0].path == "/v2/stocks/trades/latest"


def bars(name: str, symbols: list[str], start: date, end: date) -> list[tuple]:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    call = lambda broker: fetch_bars(symbols, start, end, feed="sip", connection=broker._data, now=now)[0]
    table, _ = asked(call, *plain("recorded_bars")[name])
    return [(row.symbol, row.ts.date().isoformat(), *row[3:]) for row in table.itertuples()]


def test_bars_of_every_recorded_form():
    assert bars("several", ["VTI", "BND"], date(2026, 3, 10), date(2026, 3, 10)) == [
        ("BND", "2026-03-10", 72.0, 72.44, 71.92, 72.3, 6421077.0),
        ("VTI", "2026-03-10", 310.2, 312.9, 309.11, 311.05, 2910344.0),
    ]
    assert bars("pages", ["VTI"], date(2026, 3, 5), date(2026, 3, 9)) == [  # summer time begins on the 8th
        ("VTI", "2026-03-05", 308.0, 309.84, 307.31, 309.61, 85998033.0),
        ("VTI", "2026-03-06", 309.64, 310.88, 308.33, 310.84, 84817432.0),
        ("VTI", "2026-03-09", 310.5, 311.0, 309.9101, 310.2, 1012.0),
    ]
    assert bars("descending", ["VTI"], date(2026, 3, 10), date(2026, 3, 11)) == [
        ("VTI", "2026-03-10", 310.98, 312.55, 309.6601, 311.12, 102033779.0),
        ("VTI", "2026-03-11", 311.262, 312.33, 310.58, 311.5, 136616287.0),
    ]
    for name in ("none", "null"):
        with pytest.raises(NotFoundError, match="no bars of VTI"):
            bars(name, ["VTI"], date(2026, 3, 10), date(2026, 3, 10))


def actions(
    pages: list[Any], symbols: list[str], start: date = date(2026, 3, 1), end: date = date(2026, 3, 31)
) -> list[tuple]:
    table, _ = asked(lambda broker: fetch_actions(symbols, start, end, connection=broker._actions), *pages)
    return [(row.symbol, row.ex_date.date().isoformat(), row.kind, row.value) for row in table.itertuples()]


TAKEN = ("reverse_splits", "forward_splits", "stock_dividends", "cash_dividends")


def only(*groups: str) -> list[Any]:
    first, second = deepcopy(plain("recorded_corporate_actions"))
    first["corporate_actions"] = {name: first["corporate_actions"][name] for name in groups}
    return [first, second]


def test_splits_and_dividends_of_every_recorded_form_over_pages():
    assert actions(only(*TAKEN), ["RVSA", "FWDA", "STKA", "CSHA", "CSHB"]) == [
        ("CSHA", "2026-03-04", "DIVIDEND", 0.125),
        ("CSHB", "2026-03-09", "DIVIDEND", 0.086928),
        ("FWDA", "2026-03-20", "SPLIT", 2.0),
        ("RVSA", "2026-03-24", "SPLIT", 0.02),
        ("STKA", "2026-03-19", "SPLIT", 1.05),
    ]


OTHERS = {
    "unit_splits": "UNTA", "spin_offs": "SPNA", "cash_mergers": "MRGA", "stock_mergers": "MRGB",
    "stock_and_cash_mergers": "MRGE", "redemptions": "RDMA", "name_changes": "NAMA", "worthless_removals": "WRTA",
    "rights_distributions": "RGTA",
}  # fmt: skip


@pytest.mark.parametrize("group", OTHERS)
def test_every_other_recorded_action_is_refused_and_names_the_symbol_that_was_asked_for(group):
    with pytest.raises(RefusedError, match=f"of {OTHERS[group]}, which changes"):
        actions(only(group)[:1], [OTHERS[group]])


def test_every_recorded_action_is_one_of_these():
    first, _ = plain("recorded_corporate_actions")
    assert set(first["corporate_actions"]) == set(TAKEN) | set(OTHERS)
