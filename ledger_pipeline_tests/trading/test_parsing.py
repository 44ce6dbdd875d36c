"""Rows of the broker as dataclasses: exact, in UTC, and none of them able to hide the others."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpaca.trading import models
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.core.errors import BrokerError
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.core.strict_json import load_json
from ledger_pipeline.trading.alpaca import parsing
from ledger_pipeline.trading.broker import UNRECOGNIZED, CashActivity, FillActivity

D = Decimal
PAYLOADS = Path(__file__).parent / "payloads"


def payload(name: str) -> Any:
    """One recorded payload, as the transport would hand it over."""
    return load_json((PAYLOADS / f"{name}.json").read_bytes())


def plain(name: str) -> Any:
    """One recorded payload, as the SDK would read it."""
    return json.loads((PAYLOADS / f"{name}.json").read_bytes())


def activities(name: str) -> list[Any]:
    return [parsing.parse_activity(row) for row in parsing.rows(payload(name), "activity")]


def one(**fields: Any) -> Any:
    return parsing.parse_activity(parsing.row({"id": "1"} | fields, "activity"))


READERS = {
    "account": parsing.parse_account,
    "account_since_2026": parsing.parse_account,
    "asset": parsing.parse_asset,
    "asset_since_2026": parsing.parse_asset,
    "clock": parsing.parse_clock,
    "order_limit": parsing.parse_order,
    "order_market": parsing.parse_order,
    "order_notional": parsing.parse_order,
}
MODELS = {
    "account": models.TradeAccount,
    "account_since_2026": models.TradeAccount,
    "asset": models.Asset,
    "clock": models.Clock,
    "order_limit": models.Order,
    "order_market": models.Order,
    "order_notional": models.Order,
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_recorded_object_parses_and_can_be_stored(name):
    parsed = READERS[name](payload(name))
    canonical_json(getattr(parsed, "raw", {}))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_sdk_reads_the_same_payloads(name):
    """Were our payloads no answers of this protocol, its own models would say so."""
    MODELS[name](**plain(name))


def test_the_sdk_and_we_read_the_same_order():
    for ours, theirs in zip(map(parsing.parse_order, payload("orders")), plain("orders"), strict=True):
        model = models.Order(**theirs)
        assert (ours.id, ours.client_order_id, ours.symbol) == (str(model.id), model.client_order_id, model.symbol)
        assert (ours.status, ours.type, ours.side.lower()) == (model.status.value, model.type.value, model.side.value)
        assert ours.submitted_at == model.submitted_at
        assert ours.filled_quantity == D(str(model.filled_qty))
        assert ours.quantity == (None if model.qty is None else D(str(model.qty)))


def test_an_order_worked_by_hand():
    order = parsing.parse_order(payload("orders")[1])
    assert (order.quantity, order.notional) == (None, D("676.00"))
    assert (order.filled_quantity, order.filled_price) == (D("2.702918834"), D("250.1"))
    assert order.submitted_at == datetime(2026, 1, 5, 14, 30, 1, 337893, tzinfo=UTC)  # New York, to the nanosecond
    assert order.side == "BUY" and order.is_final and order.limit_price is None
    limit = parsing.parse_order(payload("order_limit"))
    assert (limit.type, limit.limit_price, limit.quantity, limit.status) == ("limit", D(310), D(1), "accepted")


def test_words_that_nobody_knows_do_not_hide_the_rows_around_them():
    held, strange, canceled = map(parsing.parse_order, payload("orders_unheard_of"))
    assert held.status == UNRECOGNIZED and held.raw["status"] == "held_for_lunch" and not held.is_final
    assert strange.side == UNRECOGNIZED and strange.submitted_at is None and strange.status == "accepted"
    assert canceled.is_final and canceled.filled_quantity == D("0.5")


def test_the_account_is_blocked_by_whatever_is_not_plainly_free():
    account = parsing.parse_account(payload("account"))
    assert (account.number, account.cash, account.equity) == ("55LP00017", D("-1520.4"), D("40210.31"))
    assert account.blocked == ()
    assert parsing.parse_account(payload("account_since_2026")).blocked == ()
    changed = payload("account") | {"status": "ACCOUNT_CLOSED", "trading_blocked": True, "account_blocked": "false"}
    del changed["trade_suspended_by_user"]
    assert parsing.parse_account(changed).blocked == (
        "trading_blocked", "account_blocked", "trade_suspended_by_user", "status ACCOUNT_CLOSED"
    )  # fmt: skip


def test_what_the_broker_leaves_empty_is_read_where_it_does_not_matter():
    account = parsing.parse_account(payload("account") | {"equity": None, "buying_power": None})
    assert (account.equity, account.buying_power, account.cash) == (None, None, D("-1520.4"))
    with pytest.raises(BrokerError, match="cash"):
        parsing.parse_account(payload("account") | {"cash": None})


def test_positions_are_signed():
    found = [parsing.parse_position(row) for row in parsing.rows(payload("positions"), "position")]
    assert [(item.symbol, item.quantity, item.available) for item in found] == [
        ("VTI", D(5), D(5)), ("BND", D("0.557436865"), D("0.057436865")), ("TSLA", D(-3), D(-3))
    ]  # fmt: skip
    unsigned = parsing.row(payload("positions")[2] | {"qty": "3"}, "position")
    assert parsing.parse_position(unsigned).quantity == -3


def test_clock_calendar_and_asset():
    clock = parsing.parse_clock(payload("clock"))
    assert clock.now == datetime(2026, 5, 18, 20, 41, 12, 908173, tzinfo=UTC) and clock.is_open is False
    assert clock.next_open == datetime(2026, 5, 19, 13, 30, tzinfo=UTC)
    winter, early = [parsing.parse_session(row) for row in parsing.rows(payload("calendar"), "session")]
    assert (winter.open.hour, winter.close.hour) == (14, 21)  # UTC
    assert (early.session, early.close) == (date(2025, 7, 3), datetime(2025, 7, 3, 17, tzinfo=UTC))
    assert parsing.parse_asset(payload("asset")).fractionable
    assert parsing.parse_asset(payload("asset_since_2026")).tradable  # a model of the SDK needs what is gone there
    doubtful = parsing.parse_asset(payload("asset") | {"tradable": "yes", "fractionable": None})
    assert (doubtful.tradable, doubtful.fractionable) == (False, False)


def test_recorded_activities():
    deposit, fill, dividend, bare = activities("activities")
    assert (deposit.kind, deposit.amount, deposit.date) == ("DEPOSITED", D("2750.25"), date(2026, 3, 31))
    assert isinstance(fill, FillActivity) and fill.side == "BUY"
    assert (fill.quantity, fill.price, fill.cumulative, fill.leaves) == (D(2), D("310.45"), D("2.177047834"), D(0))
    assert fill.at == datetime(2026, 2, 11, 15, 4, 9, 220117, tzinfo=UTC)
    assert (dividend.kind, dividend.symbol, dividend.per_share) == ("DIVIDEND", "VTI", D("0.72"))
    assert (bare.kind, bare.date, bare.symbol) == ("DIVIDEND", date(2026, 6, 30), None)


def test_a_fill_without_its_amounts_is_kept_for_a_person():
    (row,) = activities("activities_incomplete")
    assert isinstance(row, CashActivity)
    assert (row.kind, row.type, row.amount, row.id) == (UNRECOGNIZED, "FILL", D(0), "trade-id")
    assert row.raw["order_id"]


@pytest.mark.parametrize("change", [
    {"type": "trade_bust"}, {"type": "trade_correct"}, {"type": None}, {"side": "transfer"}, {"qty": "0"}, {"qty": "-1"},
    {"price": "-1"}, {"qty": "NaN"}, {"price": None}, {"transaction_time": "2026-02-11T15:04:09"}, {"order_id": None},
    {"cum_qty": "many"}, {"qty": True},
])  # fmt: skip
def test_what_is_no_plain_fill_is_unrecognized_and_moves_nothing(change):
    row = parsing.parse_activity(parsing.row(payload("activities")[1] | change, "activity"))
    assert isinstance(row, CashActivity) and row.kind == UNRECOGNIZED and row.amount == 0
    assert row.id == payload("activities")[1]["id"] and row.type.startswith("FILL")


@pytest.mark.parametrize(("type_", "amount", "kind"), [
    ("CSD", "100", "DEPOSITED"), ("CSW", "-100", "WITHDRAWN"), ("JNLC", "-5", "WITHDRAWN"), ("TRANS", "5", "DEPOSITED"),
    ("DIV", "1", "DIVIDEND"), ("DIVNRA", "-0.15", "DIVIDEND"), ("CGD", "3", "DIVIDEND"), ("FEE", "-0.01", "FEE"),
    ("CFEE", "-1", "FEE"), ("DIVFEE", "-1", "FEE"), ("PTC", "-1", "FEE"), ("INT", "0.3", "INTEREST"),
    ("SPIN", "0", UNRECOGNIZED), ("MA", "0", UNRECOGNIZED), ("NC", "0", UNRECOGNIZED), ("JNLS", "0", UNRECOGNIZED),
    ("ACATS", "0", UNRECOGNIZED), ("NEW_WORD", "7", UNRECOGNIZED),
])  # fmt: skip
def test_kinds_of_activities(type_, amount, kind):
    row = one(activity_type=type_, net_amount=amount, date="2026-01-05", status="executed")
    assert (row.kind, row.type, row.amount) == (kind, type_, D(amount))


def test_a_split_needs_its_quantity_and_no_money():
    split = one(activity_type="SPLIT", symbol="VTI", qty="12.5", net_amount=None, date="2026-01-05")
    assert (split.kind, split.quantity, split.amount) == ("SPLIT", D("12.5"), D(0))
    assert one(activity_type="SPLIT", symbol="VTI", net_amount="0").kind == UNRECOGNIZED


@pytest.mark.parametrize("change", [
    {"status": "pending"}, {"currency": "EUR"}, {"net_amount": None}, {"net_amount": "a lot"}, {"date": "soon"},
])  # fmt: skip
def test_cash_that_is_not_plainly_ours_is_unrecognized(change):
    row = {"activity_type": "CSD", "net_amount": "100", "date": "2026-01-05", "currency": "USD"}
    assert one(**row).kind == "DEPOSITED"
    assert one(**row | change).kind == UNRECOGNIZED


def test_activities_of_one_moment_are_in_the_order_of_the_fills():
    fill = payload("activities")[1] | {"type": "partial_fill"}
    early = one(activity_type="CSD", net_amount="1", date="2026-02-11")
    late = one(activity_type="FEE", net_amount="-1", date="2026-02-10", created_at="2026-02-12T10:00:00Z")
    nowhere = one(activity_type="NEW")
    fills = [parsing.parse_activity(parsing.row(fill | {"cum_qty": str(n)}, "activity")) for n in (3, 1, 2)]
    ordered = sorted([nowhere, late, *fills, early], key=parsing.activity_order)
    assert ordered == [early, fills[1], fills[2], fills[0], late, nowhere]


def test_corrections_say_so():
    row = {"activity_type": "DIV", "net_amount": "-1", "symbol": "VTI", "date": "2026-01-05"}
    assert [one(**row, status=status).status for status in ("executed", "correct", "canceled")] == [
        "executed", "correct", "canceled"
    ]  # fmt: skip


def test_text_that_is_no_text_can_be_stored():
    row = load_json(
        b'{"id": "1", "activity_type": "MEMO", "description": "\\ud83d half a sign", "\\udc00": 99999999999999999999}'
    )
    parsed = one(**{key: value for key, value in row.items() if key != "id"})
    assert parsed.raw["description"] == "? half a sign" and parsed.raw["?"] == "99999999999999999999"
    canonical_json(parsed.raw)


def test_last_trades():
    trades = payload("trades_latest")["trades"]
    assert parsing.parse_trade("VTI", trades["VTI"]).price == D("310.07")
    assert parsing.parse_trade("BND", trades["BND"]).price == D(72)
    assert parsing.parse_trade("VTI", trades["VTI"] | {"p": 0}) is None


UNREADABLE = [None, "", " \n", "x" * 200, 7, True, [], {}, "a\nb"]


@pytest.mark.parametrize("field", ["id", "client_order_id"])
@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
def test_an_order_without_what_names_it_cannot_be_read(field, value):
    row = payload("order_market") | {field: value}
    with pytest.raises(BrokerError, match=field):
        parsing.parse_order(row)
    del row[field]
    with pytest.raises(BrokerError, match=f"{field} is missing"):
        parsing.parse_order(row)


@pytest.mark.parametrize("field", ["symbol", "side", "type", "time_in_force", "status"])
@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
def test_an_order_with_a_word_that_is_none_is_kept(field, value):
    """An order of many legs, say, has neither a symbol nor a side of its own, and must not hide the others."""
    row = payload("order_market") | {field: value}
    assert getattr(parsing.parse_order(row), field) == UNRECOGNIZED
    del row[field]
    assert getattr(parsing.parse_order(row), field) == UNRECOGNIZED


@pytest.mark.parametrize(
    "value", ["", "abc", "NaN", "Infinity", "1e99", "1e-99", "0x10", True, [], "1" * 5000], ids=str
)
def test_amounts_that_are_none(value):
    with pytest.raises(BrokerError, match="filled_qty"):
        parsing.parse_order(payload("order_market") | {"filled_qty": value})


@pytest.mark.parametrize("value", ["2026-01-05", "2026-01-05T14:30:00", "now", 1767623400, "0001-01-01T00:00:00+23:00"])
def test_times_without_a_zone_are_none(value):
    with pytest.raises(BrokerError, match="timestamp"):
        parsing.parse_clock(payload("clock") | {"timestamp": value})


def test_what_is_no_object_or_list():
    for wrong in (None, [], "x", 1):
        with pytest.raises(BrokerError, match="no JSON object"):
            parsing.parse_order(wrong)
    for wrong in (None, {}, "x", 1):
        with pytest.raises(BrokerError, match="no JSON list"):
            parsing.rows(wrong, "order")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_field_may_hold_anything(name, data):
    """Whatever the broker sends, it is read, or it is one BrokerError; and what is read can be stored."""
    row = payload(name)
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(JSON)
    try:
        parsed = READERS[name](row)
    except BrokerError as error:
        assert str(error).isprintable()
    else:
        canonical_json(getattr(parsed, "raw", {}))


@given(st.sampled_from([0, 1, 2]), st.data())
def test_an_activity_with_an_id_is_always_kept(index, data):
    row = payload("activities")[index]
    fields = sorted(set(row) - {"id", "activity_type"}) + ["created_at", "currency"]
    row[data.draw(st.sampled_from(fields))] = data.draw(JSON)
    parsed = parsing.parse_activity(parsing.row(row, "activity"))
    assert parsed.id == row["id"]
    canonical_json(parsed.raw)
