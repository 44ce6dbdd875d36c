"""Legs: what is refused, with one sentence, before anything is written; and ids that are the same for ever."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import BrokerError, InputError
from ledger_pipeline.trading.broker import UNRECOGNIZED
from ledger_pipeline.trading.orders.legs import (
    Leg,
    check_assets,
    client_order_id,
    decision_id,
    id_prefix,
    leg_from_json,
    numbered,
)
from ledger_pipeline_tests.trading.fake import FakeBroker, Fault
from ledger_pipeline_tests.trading.loopback import Reach

D = Decimal
DAY = date(2026, 1, 5)

WRONG_AMOUNTS = {
    "zero": ("0", "above zero"),
    "negative": ("-1", "above zero"),
    "nan": ("NaN", "above zero"),
    "infinite": ("Infinity", "above zero"),
    "twenty_decimals": ("1.00000000000000000001", "at most 9 decimals"),
    "ten_decimals": ("0.0000000001", "at most 9 decimals"),
    "no_number": ("a lot", "a decimal number"),
    "float": (0.1, "never as a float"),
    "truth": (True, "never as a float"),
}


@pytest.mark.parametrize("case", WRONG_AMOUNTS)
def test_wrong_quantities_are_refused_in_one_sentence(case: str) -> None:
    amount, said = WRONG_AMOUNTS[case]
    with pytest.raises(InputError, match=said) as told:
        Leg("VTI", "BUY", "core", quantity=amount)
    assert "leg BUY VTI: quantity is" in str(told.value)
    assert str(told.value).count(". ") == 0


@pytest.mark.parametrize("amount, said", [("0.99", "minimum of \\$1"), ("10.001", "at most 2 decimals"), ("0", "zero")])
def test_wrong_notionals_are_refused(amount: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Leg("VTI", "BUY", "core", notional=amount)


def test_the_finest_amounts_are_taken() -> None:
    assert Leg("VTI", "SELL", "core", quantity="0.000000001").quantity == D("1e-9")
    assert Leg("VTI", "BUY", "core", notional=D("1.00")).notional == 1
    assert Leg("VTI", "BUY", "core", quantity=D("10.000000000000")).quantity == 10  # zeros are no decimals
    assert Leg("VTI", "BUY", "core", quantity=3).quantity == D(3)


WRONG_TERMS = {
    "neither amount": (dict(), "not neither"),
    "both amounts": (dict(quantity="1", notional="1"), "not both"),
    "side": (dict(quantity="1", side="buy"), "BUY or SELL"),
    "small letters": (dict(quantity="1", symbol="vti"), "in capitals"),
    "no symbol": (dict(quantity="1", symbol=None), "in capitals"),
    "strategy": (dict(quantity="1", strategy="../core"), "strategy id"),
    "reason": (dict(quantity="1", reasons=("A,B",)), "without a comma"),
    "type": (dict(quantity="1", type="stop"), "market or limit"),
    "limit without price": (dict(quantity="1", type="limit"), "limit_price"),
    "price without limit": (dict(quantity="1", limit_price="5"), "limit_price"),
    "limit for cash": (dict(notional="10", type="limit", limit_price="5"), "market order"),
    "time in force": (dict(quantity="1", time_in_force="gtc"), "day, opg or cls"),
    "fraction at the close": (dict(quantity="1.5", time_in_force="cls"), "day orders only"),
    "cash at the close": (dict(notional="10", time_in_force="cls"), "day orders only"),
}


@pytest.mark.parametrize("case", WRONG_TERMS)
def test_wrong_terms_are_refused(case: str) -> None:
    terms, said = WRONG_TERMS[case]
    with pytest.raises(InputError, match=said):
        Leg(**({"symbol": "VTI", "side": "BUY", "strategy": "core"} | terms))


def test_a_leg_comes_from_json() -> None:
    row = {"symbol": "VTI", "side": "BUY", "strategy": "core", "notional": "10.50", "reasons": ["DCA"]}
    assert leg_from_json(row) == Leg("VTI", "BUY", "core", notional=D("10.5"), reasons=("DCA",))
    for wrong in ([], {"symbol": "VTI"}, row | {"amount": "1"}, row | {"reasons": "DCA"}, row | {"notional": 10.5}):
        with pytest.raises(InputError):
            leg_from_json(wrong)


def test_assets_are_checked_before_anything_is_written(reach: Reach) -> None:
    fake = FakeBroker(untradable=frozenset({"BND"}), whole_shares=frozenset({"AAPL"}))
    broker = reach(fake)
    check_assets([Leg("VTI", "BUY", "core", notional="10"), Leg("AAPL", "BUY", "core", quantity="2")], broker)
    for leg, said in (
        (Leg("NOPE", "BUY", "core", notional="10"), "knows no symbol NOPE"),
        (Leg("BND", "BUY", "core", notional="10"), "does not trade BND"),
        (Leg("AAPL", "BUY", "core", notional="10"), "whole shares only"),
        (Leg("AAPL", "BUY", "core", quantity="1.5"), "whole shares only"),
    ):
        with pytest.raises(InputError, match=said):
            check_assets([leg], broker)
    with pytest.raises(BrokerError):
        check_assets([leg], reach(FakeBroker(faults=(Fault("asset", "unreadable"),))))
    assert UNRECOGNIZED not in fake.prices and not fake.posts


def test_the_id_is_a_pure_function_and_known_for_ever() -> None:
    # Written down once: a change of these would make yesterday's decision buy again today.
    assert client_order_id("paper", "core", DAY, "VTI", "BUY") == "core.20260105.VTI.B1.cd862cde886c"
    assert client_order_id("paper", "core", DAY, "VTI", "BUY", 2, 1) == "core.20260105.VTI.B2.462d0149b89c"


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
KEYS = st.tuples(
    NAMES, NAMES, st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    st.from_regex(r"[A-Z0-9][A-Z0-9./-]{0,14}", fullmatch=True), st.sampled_from(["BUY", "SELL"]),
    st.integers(1, 10_000), st.integers(0, 99),
)  # fmt: skip


@given(st.lists(KEYS, unique=True, min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_ids_fit_the_broker_and_differ_where_their_terms_do(keys: list[tuple]) -> None:
    ids = [client_order_id(*key) for key in keys]
    assert len(set(ids)) == len(ids)
    for key, name in zip(keys, ids, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,48}", name)
        assert name == client_order_id(*key)
        assert name.startswith(id_prefix(key[1], key[2]))
        assert key[1][:12] in name and f"{key[2]:%Y%m%d}" in name


def test_legs_that_share_symbol_and_side_are_told_apart() -> None:
    legs = [Leg("VTI", "BUY", "core", 1), Leg("VTI", "SELL", "core", 1), Leg("VTI", "BUY", "other", 1)]
    assert [place for _, place in numbered(legs)] == [0, 0, 1]
    assert decision_id("core", DAY) == "core.2026-01-05"
