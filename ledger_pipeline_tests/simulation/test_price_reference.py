"""Orders that wait for a price, beside an independent simulator in exact fractions, on random markets.

Prices are quarters, so that both are exact but for the spread.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import ledger_pipeline as lp
from ledger_pipeline_tests import small
from ledger_pipeline_tests.simulation.price_reference import Reference
from ledger_pipeline_tests.simulation.test_semantics_11_prices import PLAN

BASE = 400  # quarters
ENDS = ("FILLED", "ORDER_EXPIRED", "ORDER_CANCELED", "ORDER_REJECTED")


def market(rng: random.Random) -> tuple[list[tuple[float, ...]], dict[int, dict[str, Any]], tuple[int, float] | None]:
    """Bars, a plan for them, and a split."""
    days, width = rng.randint(5, 10), rng.choice([3, 4, 6, 8, 16])

    def quarter(more: int = 0) -> int:
        return BASE + rng.randint(-width - more, width + more)

    bars = []
    for _ in range(days):
        opened, closed, reach = quarter(), quarter(), rng.choice([0, 0, 2, 6])
        high, low = max(opened, closed) + rng.randint(0, reach), min(opened, closed) - rng.randint(0, reach)
        bars.append((opened, high, low, closed))
    split = (rng.randint(2, days - 2), 2.0) if rng.random() < 0.2 else None
    scale = [4.0 * (2 if split and day >= split[0] else 1) for day in range(days)]
    plan = {day: wish(rng, scale[day], quarter) for day in range(days) if rng.random() < 0.55}
    scaled = [tuple(price / scale[day] for price in bar) for day, bar in enumerate(bars)]
    return scaled, {day: one for day, one in plan.items() if one}, split


def wish(rng: random.Random, scale: float, quarter) -> dict[str, Any]:
    """What is decided on one day."""
    given: dict[str, Any] = {}
    if rng.random() < 0.85:
        given["target"] = rng.choice([-10, -5, 0, 0, 5, 10, 15])
    kind = rng.choice(["open", "limit", "limit", "stop", "both", "close"])
    if kind in ("limit", "both"):
        given["limit"] = quarter(2) / scale
    if kind in ("stop", "both"):
        given["stop"] = quarter(2) / scale
    if kind == "close":
        given["close"] = True
    elif kind != "open":
        given["good"] = rng.choice(["bar", "session", "changed", "changed"])
    if "target" in given and rng.random() < 0.5:
        low, high = sorted((quarter(2) / scale, quarter(2) / scale))
        sides = {"stop": low, "target": high + 1} if given["target"] >= 0 else {"stop": high + 1, "target": low}
        for name in rng.choice([(), (), ("stop",), ("target",), ("stop", "target")]):
            del sides[name]
        if given["target"] == 0 and len(sides) == 2:  # for a position of either side
            del sides["target"]
        given["bracket"] = sides
    return given


def played(root: Path, seed: int) -> tuple[list[tuple], list[tuple]]:
    """What became of the orders of a random market, by the product and by the reference."""
    rng = random.Random(seed)
    bars, plan, split = market(rng)
    spread, through = rng.choice([0, 0, 50]), rng.random() < 0.15
    snapshot = small.seal(root, {"A": bars}, splits=[("A", *split)] if split else (), snapshot_id=f"m{seed}")
    dated = {small.day(day): {"A": one} for day, one in plan.items()}
    options: dict[str, Any] = {"limit_fills": "through"} if through else {}
    run = lp.run(
        lp.experiment(
            PLAN, params={"plan": dated}, costs=[{"spread_bps": spread}] if spread else [], name="random",
            opening={"cash": 1e6}, cash_rule="allow_negative", **options,
        ),
        snapshot,
    )  # fmt: skip
    names = ("day", "kind", "side", "quantity", "price", "reasons")
    actual = [tuple(row[name] for name in names) for row in small.events(run, *ENDS)]
    expected = Reference(bars, plan, spread, split, through).run()
    return rounded(actual), rounded(expected)


def rounded(ends: list[tuple]) -> list[tuple]:
    """Comparable: prices to nine digits, those of fills only; by day and kind, fills in their order."""
    rows = [
        (day, kind != "FILLED", side, round(float(quantity), 9),
         round(float(price), 9) if kind == "FILLED" else None, reason or None)
        for day, kind, side, quantity, price, reason in ends
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row[:2])


def test_random_markets_come_out_alike(tmp_path) -> None:
    compare(tmp_path, range(150))


@pytest.mark.campaign
def test_many_random_markets_come_out_alike(tmp_path) -> None:
    compare(tmp_path, range(1_000, 6_000))


def compare(root: Path, seeds: range) -> None:
    filled = 0
    for seed in seeds:
        actual, expected = played(root, seed)
        assert actual == expected, f"seed {seed}"
        filled += sum(not row[1] for row in actual)
    assert filled > len(seeds)  # something happens in them
