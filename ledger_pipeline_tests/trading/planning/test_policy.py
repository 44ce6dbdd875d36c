"""Policies: what a file may say, what is refused with file, field and reason, and what the hash covers."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.market.calendars import sessions
from ledger_pipeline.trading.planning.policy import Schedule, load_policy, parse_policy, warnings

D = Decimal
TEMPLATES = Path(__file__).parents[3] / "strategies" / "policies"
ONE: dict[str, Any] = {
    "version": 1,
    "targets": [{"symbol": "VTI", "targetWeight": 0.7}, {"symbol": "VXUS", "targetWeight": 0.3}],
    "drift": {"kind": "none"},
}
# The published example, byte for byte what people have in their files.
PUBLISHED = """{
  "version": 1,
  "name": "Core DCA",
  "targets": [
    { "symbol": "VTI", "targetWeight": 0.7 },
    { "symbol": "VXUS", "targetWeight": 0.3 }
  ],
  "cashBufferPct": 0.0,
  "minInvestAmountUsd": 1,
  "maxInvestAmountUsd": 10000,
  "minOrderUsd": 1,
  "maxOrders": 10,
  "drift": { "kind": "band", "maxAbsPct": 0.03 },
  "allowMissingPrices": false
}"""


def weighted(**weights: Any) -> list[dict[str, Any]]:
    return [{"symbol": symbol, "targetWeight": weight} for symbol, weight in weights.items()]


def test_a_file_of_version_1_works_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "core.json"
    path.write_text(PUBLISHED)
    policy = load_policy(path)
    assert policy.weights == {"VTI": Fraction(7, 10), "VXUS": Fraction(3, 10)}
    assert (policy.max_invest_amount_usd, policy.max_orders, policy.drift.max_abs_pct) == (D(10000), 10, D("0.03"))
    assert policy.hash == load_policy(TEMPLATES / "core.json").hash  # the template adds a description only


def test_defaults_are_those_of_version_1() -> None:
    policy = parse_policy(ONE)
    assert (policy.cash_buffer_pct, policy.min_invest_amount_usd, policy.min_order_usd) == (0, 1, 1)
    assert (policy.max_invest_amount_usd, policy.max_orders, policy.name) == (None, None, None)
    assert (policy.allow_missing_prices, policy.noop_if_within_band, policy.round_to_usd) == (False, False, D("0.01"))
    assert (policy.cash_buffer_usd, policy.leftover, policy.drift_on) == (0, "keep", "total")
    assert policy.schedule == Schedule()


@pytest.mark.parametrize("name", ["core", "conservative", "balanced", "aggressive"])
def test_the_templates_are_sound(name: str) -> None:
    policy = load_policy(TEMPLATES / f"{name}.json")
    assert sum(policy.weights.values()) == 1 and policy.name and policy.description
    assert sum(target.target_weight for target in policy.targets) == 1
    assert warnings(policy) == ()


def test_the_published_templates_have_their_weights() -> None:
    found = {path.stem: load_policy(path) for path in TEMPLATES.glob("*.json")}
    found.pop("demo_saver", None)  # where the demo ran, it left its own
    assert set(found) == {"core", "conservative", "balanced", "aggressive"}
    told = {name: {t.symbol: str(t.target_weight) for t in policy.targets} for name, policy in found.items()}
    assert told == {
        "core": {"VTI": "0.7", "VXUS": "0.3"},
        "conservative": {"BND": "0.5", "VTI": "0.3", "VXUS": "0.2"},
        "balanced": {"VTI": "0.36", "VXUS": "0.24", "BND": "0.28", "BNDX": "0.12"},
        "aggressive": {"VTI": "0.6", "VXUS": "0.25", "VWO": "0.15"},
    }
    assert found["balanced"].cash_buffer_pct == D("0.01") and found["conservative"].cash_buffer_pct == D("0.02")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"version": 2}, "version is 2; this reads version 1"),
    ({"version": True}, "version is True"),
    ({"version": 1.0}, "version is 1.0"),
    ({"maxOrder": 1}, "maxOrder is no known key; did you mean maxOrders?"),
    ({"max_orders": 1}, "max_orders is no known key"),
    ({"drift": {"kind": "none", "maxPct": 1}}, "drift.maxPct is no known key; did you mean maxAbsPct?"),
    ({"targets": [{"symbol": "VTI", "targetWeight": 1, "wieght": 1}]}, "targets[0].wieght is no known key"),
    ({"guardrails": {"maxPosition": 1}}, "guardrails.maxPosition is no known key; did you mean maxPositionPct?"),
    ({"targets": []}, "targets is []; it should be a list of at least one"),
    ({"targets": "VTI"}, "targets is 'VTI'; it should be a list"),
    ({"targets": weighted(vti=1)}, "targets[0].symbol is 'vti'; write a symbol in capitals, such as VTI"),
    ({"targets": [{"targetWeight": 1}]}, "targets[0].symbol is missing"),
    ({"targets": [{"symbol": "VTI"}]}, "targets[0].targetWeight is missing"),
    ({"targets": weighted(VTI=0.5) + weighted(VTI=0.5)}, "targets has VTI twice"),
    ({"targets": weighted(VTI=0, VXUS=1)}, "targets[0].targetWeight is 0; it should be greater than 0"),
    ({"targets": weighted(VTI=1.0001)}, "targets[0].targetWeight is 1.0001; it should be less than or equal to 1"),
    ({"targets": weighted(VTI=True)}, "targets[0].targetWeight is True; it should be a number"),
    ({"targets": weighted(VTI=float("nan"))}, "should be a finite number"),
    ({"targets": weighted(VTI=0.7, VXUS=0.3006)}, "targets has weights that add up to 1.0006; they must add up to 1"),
    ({"targets": weighted(VTI=0.7, VXUS=0.2994)}, "add up to 0.9994"),
    ({"cashBufferPct": 1.01}, "cashBufferPct is 1.01; it should be less than or equal to 1"),
    ({"cashBufferPct": -0.01}, "cashBufferPct is -0.01"),
    ({"cashBufferUsd": -1}, "cashBufferUsd is -1"),
    ({"minOrderUsd": None}, "minOrderUsd is null (leave the key out instead)"),
    ({"maxInvestAmountUsd": None}, "maxInvestAmountUsd is null"),
    ({"minOrderUsd": "a lot"}, "minOrderUsd is 'a lot'; it should be a number"),
    ({"maxOrders": 0}, "maxOrders is 0"),
    ({"maxOrders": 1.5}, "maxOrders is 1.5; it should be a whole number"),
    ({"maxOrders": True}, "maxOrders is True; it should be a whole number"),
    ({"drift": {"kind": "band"}}, "drift is a band without maxAbsPct"),
    ({"drift": {"kind": "band", "maxAbsPct": 1.1}}, "drift.maxAbsPct is 1.1"),
    ({"drift": {"kind": "bands"}}, "drift.kind is 'bands'; it should be 'none' or 'band'"),
    ({"drift": {}}, "drift.kind is missing"),
    ({"driftOn": "cash"}, "driftOn is 'cash'; it should be 'total' or 'invested'"),
    ({"leftover": "spend"}, "leftover is 'spend'; it should be 'keep' or 'redistribute'"),
    ({"allowMissingPrices": 1}, "allowMissingPrices is 1; it should be true or false"),
    ({"noopIfWithinBand": "yes"}, "noopIfWithinBand is 'yes'"),
    ({"roundToUsd": 0}, "roundToUsd is 0"),
    ({"roundToUsd": 0.005}, "roundToUsd is 0.005; it should be a multiple of 0.01"),
    ({"minInvestAmountUsd": 100, "maxInvestAmountUsd": 50}, "minInvestAmountUsd is 100, above maxInvestAmountUsd 50"),
    ({"maxInvestAmountUsd": 0.5}, "minInvestAmountUsd is 1, above maxInvestAmountUsd 0.5"),  # a default counts too
    ({"minOrderUsd": 60, "maxInvestAmountUsd": 50}, "minOrderUsd is 60, above maxInvestAmountUsd 50"),
    ({"guardrails": {"maxPositionPct": 0.69}}, "guardrails.maxPositionPct is 0.69, below the target 0.7 of VTI"),
    ({"guardrails": {"maxConcentration": 0.57}}, "guardrails.maxConcentration is 0.57, below the 0.5800"),
    ({"guardrails": {"dailySpendLimit": 0.5}}, "guardrails.dailySpendLimit is 0.5, below minInvestAmountUsd 1"),
    ({"guardrails": {"monthlySpendLimit": 0}}, "guardrails.monthlySpendLimit is 0"),
    ({"guardrails": {"allowSymbols": ["VTI"]}}, "guardrails.allowSymbols does not hold the target VXUS"),
    ({"guardrails": {"warnOnly": ["everything"]}}, "guardrails.warnOnly names 'everything', which is no guardrail"),
    ({"schedule": {"every": "day"}}, "schedule.every is 'day'"),
    ({"schedule": {"minutesAfterOpen": -1}}, "schedule.minutesAfterOpen is -1"),
    ({"schedule": {"calendar": "XNYZ"}}, "schedule.calendar is not known"),
]  # fmt: skip


@pytest.mark.parametrize("changes, told", REFUSED, ids=[f"{place:02d}" for place in range(len(REFUSED))])
def test_what_is_refused_and_why(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy({**ONE, **changes}, "policies/mine.json")
    message = str(caught.value)
    assert message.startswith(f"policies/mine.json: {told}") or told in message, message
    assert "\n" not in message and message[-1] in ".?" and not message.endswith("..")


@pytest.mark.parametrize("missing", ["version", "targets", "drift"])
def test_what_must_be_there(missing: str) -> None:
    with pytest.raises(InputError, match=f"{missing} is missing"):
        parse_policy({key: value for key, value in ONE.items() if key != missing})


def test_files_that_hold_no_policy(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="the policies there are: core"):
        (tmp_path / "core.json").write_text(PUBLISHED)
        load_policy(tmp_path / "cores.json")
    bad = tmp_path / "bad.json"
    for text, told in [
        ("{", "is no JSON file"),
        ('{"version": 1, "version": 1}', "a key is there twice"),
        ('{"version": NaN}', "NaN is no JSON number"),
        ("[1]", "is no policy"),
        ("[" * 100_000, "is no JSON file"),
        ('{"version": 1, "targets": [{"symbol": "VTI", "targetWeight": 1e999}], "drift": {"kind": "none"}}', "number"),
    ]:
        bad.write_text(text)
        with pytest.raises(InputError, match=told) as caught:
            load_policy(bad)
        assert "bad.json" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(tmp_path)


@pytest.mark.parametrize("second, passes", [(0.3005, True), (0.2995, True), (0.30051, False), (0.29949, False)])
def test_the_tolerance_of_the_weights_is_exact(second: float, passes: bool) -> None:
    told = {**ONE, "targets": weighted(VTI=0.7, VXUS=second)}
    if not passes:
        with pytest.raises(InputError, match="add up to"):
            parse_policy(told)
        return
    weights = parse_policy(told).weights
    assert sum(weights.values()) == 1 and weights["VXUS"] == Fraction(str(second)) / (
        Fraction("0.7") + Fraction(str(second))
    )


def test_the_position_limit_follows_from_the_targets() -> None:
    assert parse_policy(ONE).limits.max_position_pct == D("0.75")
    assert parse_policy({**ONE, "drift": {"kind": "band", "maxAbsPct": 0.1}}).limits.max_position_pct == D("0.8")
    assert parse_policy({**ONE, "targets": weighted(A=0.25, B=0.25, C=0.25, D=0.25)}).limits.max_position_pct == D(
        "0.5"
    )
    assert parse_policy({**ONE, "targets": weighted(VTI=1)}).limits.max_position_pct == 1
    assert parse_policy({**ONE, "guardrails": {"maxPositionPct": 0.7}}).limits.max_position_pct == D("0.7")


def test_the_other_defaults_of_the_guardrails() -> None:
    limits = parse_policy(ONE).limits
    assert (limits.daily_spend_limit, limits.monthly_spend_limit, limits.allow_symbols) == (
        10_000,
        None,
        ("VTI", "VXUS"),
    )
    assert (limits.large_order_threshold, limits.warn_only) == (D("0.10"), ("large_order",))
    assert parse_policy({**ONE, "maxInvestAmountUsd": 50_000}).limits.daily_spend_limit == 50_000


def test_what_is_allowed_and_worth_a_second_look() -> None:
    told = {**ONE, "targets": weighted(VTI=0.85, VXUS=0.15), "maxInvestAmountUsd": 150_000, "minOrderUsd": 2000}
    assert len(warnings(parse_policy(told))) == 3
    assert len(warnings(parse_policy(ONE))) == 1  # no limit on what is invested at once


# Identity


def test_a_default_that_is_written_out_changes_no_hash() -> None:
    policy = parse_policy(ONE)
    again = parse_policy(json.loads(json.dumps(policy.document)))
    assert again.hash == policy.hash and again.document == policy.document
    assert (
        parse_policy({**ONE, "cashBufferPct": 0.00, "maxOrders": 2}).hash != policy.hash
    )  # not the default: it is set


def test_people_may_write_what_they_like_about_it() -> None:
    more = {**ONE, "description": "mine", "metadata": {"risk": "high", "since": 2020, "none": None}}
    assert parse_policy(more).hash == parse_policy(ONE).hash
    assert parse_policy(more).document["metadata"]["risk"] == "high"


@given(st.integers(1, 9999))
@settings(max_examples=50, deadline=None)
def test_a_weight_is_what_the_file_says(part: int) -> None:
    text = json.dumps({**ONE, "targets": weighted(VTI=part / 10_000, VXUS=1 - part / 10_000)})
    policy = parse_policy(json.loads(text))
    assert policy.targets[0].target_weight == D(part) / 10_000
    assert parse_policy(policy.document) == policy


# Schedules


def days(start: date, end: date) -> list[date]:
    return [stamp.date() for stamp in sessions("XNYS", start, end)]


@pytest.mark.parametrize(
    "schedule, due",
    [
        ({"every": "month"}, ["2026-01-02", "2026-02-02", "2026-03-02"]),
        ({"every": "month", "nth": 3}, ["2026-01-06", "2026-02-04", "2026-03-04"]),
        ({"every": "month", "nth": 60}, ["2026-01-30", "2026-02-27", "2026-03-31"]),  # the last session
        ({"every": "quarter"}, ["2026-01-02"]),
    ],
)
def test_when_a_policy_is_due(schedule: dict[str, Any], due: list[str]) -> None:
    rule = parse_policy({**ONE, "schedule": schedule}).schedule
    known = days(date(2026, 1, 1), date(2026, 3, 31))
    assert [day.isoformat() for day in known if rule.is_due(day, known)] == due
    assert not rule.is_due(date(2026, 1, 1), known)  # a holiday


def test_every_session_and_every_week() -> None:
    known = days(date(2025, 12, 22), date(2026, 1, 9))
    every = Schedule()
    assert all(every.is_due(day, known) for day in known) and not every.is_due(date(2025, 12, 25), known)
    weekly = parse_policy({**ONE, "schedule": {"every": "week"}}).schedule
    assert [str(day) for day in known if weekly.is_due(day, known)] == ["2025-12-22", "2025-12-29", "2026-01-05"]
    assert weekly.period(date(2025, 12, 29)) == weekly.period(date(2026, 1, 2)) == "2026-W01"


@given(
    st.dates(date(2020, 1, 1), date(2026, 12, 31)), st.sampled_from(["week", "month", "quarter"]), st.integers(1, 66)
)
@settings(max_examples=60, deadline=None)
def test_a_policy_is_due_once_a_period(day: date, every: str, nth: int) -> None:
    rule = parse_policy({**ONE, "schedule": {"every": every, "nth": nth}}).schedule
    known = [day + timedelta(offset) for offset in range(-100, 100) if (day + timedelta(offset)).weekday() < 5]
    inside = [each for each in known if rule.period(each) == rule.period(day)]
    assert sum(rule.is_due(each, known) for each in inside) == (1 if inside else 0)
