"""The planner against the published figures, and the properties that hold for every policy and every account."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger_pipeline.errors import InputError
from ledger_pipeline.trading.plan import Held, Plan, PlanAccount, legs_of
from ledger_pipeline.trading.planner import apportion, plan
from ledger_pipeline.trading.policy import Policy, parse_policy

D = Decimal
AT = datetime(2026, 1, 5, 14, 40, tzinfo=UTC)
CORE = {
    "version": 1,
    "name": "Core DCA",
    "targets": [{"symbol": "VTI", "targetWeight": 0.7}, {"symbol": "VXUS", "targetWeight": 0.3}],
    "minInvestAmountUsd": 1,
    "maxInvestAmountUsd": 10000,
    "minOrderUsd": 1,
    "maxOrders": 10,
    "drift": {"kind": "band", "maxAbsPct": 0.03},
}
WIDE = {"drift": {"kind": "band", "maxAbsPct": 0.5}}
NONE = {"drift": {"kind": "none"}}
P = {"VTI": "250", "VXUS": "60"}
PRICES = {"VTI": "250", "VXUS": "60"}


def policy_of(**changes: Any) -> Policy:
    return parse_policy({**CORE, **changes})


def targets(**weights: float) -> dict[str, Any]:
    return {"targets": [{"symbol": symbol, "targetWeight": weight} for symbol, weight in weights.items()]}


def account_of(
    cash: str, values: dict[str, str] | None = None, prices: dict[str, str] | None = None, **unpriced: None
) -> PlanAccount:
    """An account whose holdings have these values; prices are PRICES, or 100 for a symbol that is not there."""
    held = {symbol: Held(D(1), D(value)) for symbol, value in (values or {}).items()}
    return PlanAccount(AT, D(cash), held, {symbol: D(price) for symbol, price in (prices or PRICES).items()})


def made(changes: dict[str, Any], cash: str, values: dict[str, str] | None = None, **options: Any) -> Plan:
    policy = policy_of(**changes)
    prices = options.pop("prices", None) or {symbol: PRICES.get(symbol, "100") for symbol in policy.weights}
    return plan(policy, account_of(cash, values, prices))


THREE = targets(VTI=0.6, VXUS=0.25, VWO=0.15)
FOUR = targets(A=0.4, B=0.3, C=0.2, D=0.1)
BALANCED = {**targets(VTI=0.36, VXUS=0.24, BND=0.28, BNDX=0.12), "cashBufferPct": 0.01}
CONSERVATIVE = {**targets(BND=0.5, VTI=0.3, VXUS=0.2), "cashBufferPct": 0.02}
THIRDS = {"targets": [{"symbol": s, "targetWeight": w} for s, w in (("A", 0.3333), ("B", 0.3333), ("C", 0.3333))]}
ONLY = {"version": 1, "targets": [{"symbol": "VTI", "targetWeight": 1}], **NONE}
LENIENT = {"allowMissingPrices": True}

# case: policy changes, cash, values, -> total, investable, mode, legs. The "exact" column of the reference's table.
ORACLE: list[tuple[str, dict[str, Any], str, dict[str, str], str, str, str | None, dict[str, str]]] = [
    ("MOCK", {}, "1000", {"VTI": "500", "VXUS": "180"}, "1680", "1000", "under", {"VTI": "676", "VXUS": "324"}),
    ("T1", WIDE, "100", P, "410", "100", "pro", {"VTI": "70", "VXUS": "30"}),
    ("T2", {"minInvestAmountUsd": 50}, "10", P, "320", "0", None, {}),
    ("T5", WIDE, "123.456", P, "433.456", "123.45", "pro", {"VTI": "86.42", "VXUS": "37.03"}),
    ("T6", {**WIDE, "minOrderUsd": 50}, "80", P, "390", "80", "pro", {"VTI": "56"}),
    ("T7", {}, "100", {"VTI": "200", "VXUS": "800"}, "1100", "100", "under", {"VTI": "100"}),
    ("T8", WIDE, "100", P, "410", "100", "pro", {"VTI": "70", "VXUS": "30"}),
    ("T9", {**FOUR, "maxOrders": 2}, "1000", {}, "1000", "1000", "under", {"A": "400", "B": "300"}),
    ("T10", {**WIDE, "cashBufferPct": 0.2}, "500", P, "810", "338", "pro", {"VTI": "236.60", "VXUS": "101.40"}),
    ("T11", {**WIDE, "maxInvestAmountUsd": 50}, "1000", P, "1310", "50", "under", {"VTI": "33.35", "VXUS": "16.65"}),
    ("T12", {**WIDE, "noopIfWithinBand": True}, "100", P, "410", "100", None, {}),
    ("ORCH", {}, "500", P, "810", "500", "under", {"VTI": "317", "VXUS": "183"}),
    ("ORCH-N", {"minInvestAmountUsd": 1000}, "50", {}, "50", "0", None, {}),
    (
        "CLI", {**targets(VTI=0.6, VXUS=0.4), **NONE}, "1000", {"VTI": "500", "VXUS": "180"}, "1680", "1000", "pro",
        {"VTI": "600", "VXUS": "400"},
    ),
    ("E1", {}, "0", P, "310", "0", None, {}),
    ("E2", {}, "1000", {}, "1000", "1000", "under", {"VTI": "700", "VXUS": "300"}),
    (
        "E3", {**targets(VTI=0.7004, VXUS=0.3), **NONE}, "10000", {}, "10000", "10000", "pro",
        {"VTI": "7001.20", "VXUS": "2998.80"},
    ),
    ("E4", {**WIDE, "minInvestAmountUsd": 0, "minOrderUsd": 500}, "100", P, "410", "100", "pro", {}),
    ("E5", {**WIDE, "minInvestAmountUsd": 1, "minOrderUsd": 500}, "100", P, "410", "100", "pro", {}),
    ("E6", {**targets(VTI=0.29, VXUS=0.71), **NONE}, "100", {}, "100", "100", "pro", {"VXUS": "71", "VTI": "29.00"}),
    ("E6b", {**targets(VTI=0.5, VXUS=0.5), **NONE}, "2.30", {}, "2.3", "2.3", "pro", {"VTI": "1.15", "VXUS": "1.15"}),
    ("E7", {}, "100", {"VTI": "300", "VXUS": "60"}, "460", "100", "under", {"VXUS": "78", "VTI": "22.00"}),
    (
        "E8", {}, "50", {"GLD": "1000", "VTI": "70", "VXUS": "30"}, "1150", "50", "under",
        {"VTI": "35", "VXUS": "15"},
    ),
    ("E9", {**targets(VTI=0.5, VXUS=0.5), **WIDE}, "100", {}, "100", "100", "pro", {"VTI": "50", "VXUS": "50"}),
    ("E10", {**WIDE, "roundToUsd": 1}, "123.45", {"VTI": "250", "VXUS": "60"}, "433.45", "123.45", "pro",
     {"VTI": "86", "VXUS": "37"}),
    ("E13", {"cashBufferPct": 0.9}, "100", P, "410", "0", None, {}),
    ("E16", {}, "10", {"VTI": "900", "VXUS": "100"}, "1010", "10", "under", {"VXUS": "10"}),
    (
        "TPL-A", {**THREE, "drift": {"kind": "band", "maxAbsPct": 0.05}}, "1000", {}, "1000", "1000", "under",
        {"VTI": "600", "VXUS": "250", "VWO": "150"},
    ),
    (
        "TPL-B", BALANCED, "1000", {}, "1000", "990", "under",
        {"VTI": "356.40", "BND": "277.20", "VXUS": "237.60", "BNDX": "118.80"},
    ),
    ("TPL-C", CONSERVATIVE, "1000", {}, "1000", "980", "under", {"BND": "490", "VTI": "294", "VXUS": "196"}),
    ("THIRDS", {**THIRDS, **NONE}, "100", {}, "100", "100", "pro", {"A": "33.34", "B": "33.33", "C": "33.33"}),
]  # fmt: skip
MODES = {"under": "underweights", "pro": "pro_rata", None: None}


@pytest.mark.parametrize(
    "changes, cash, values, total, investable, mode, legs", [row[1:] for row in ORACLE], ids=[row[0] for row in ORACLE]
)
def test_the_published_figures(
    changes: dict[str, Any],
    cash: str,
    values: dict[str, str],
    total: str,
    investable: str,
    mode: str | None,
    legs: dict[str, str],
) -> None:
    done = made(changes, cash, values)
    assert [(leg.symbol, leg.notional) for leg in done.legs] == [(symbol, D(amount)) for symbol, amount in legs.items()]
    assert (done.total, done.investable, done.mode) == (D(total), D(investable), MODES[mode])
    assert done.status == ("PLANNED" if legs else "NO_ACTION")
    assert done.planned == sum((D(amount) for amount in legs.values()), D(0)) <= done.investable
    assert done.reasons and {note.code for note in done.notes} >= set(done.reasons)
