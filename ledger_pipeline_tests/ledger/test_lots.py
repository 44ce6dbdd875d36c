"""fold_lots against a naive fold over Fractions, on random quantities, sign crossings and splits."""

from __future__ import annotations

from collections import deque
from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.ledger import folds, invariants
from ledger_pipeline.ledger.lots import fold_lots, position_changes
from ledger_pipeline_tests.ledger import ledgers

PRICES = st.integers(1, 50_000).map(lambda n: n / 100)
FEES = st.integers(0, 500).map(lambda n: n / 100)
AMOUNTS = st.one_of(
    st.integers(1, 40).map(lambda n: n * UNITS),
    st.integers(1, 20 * UNITS),
    st.sampled_from([1, 2, 3, UNITS // 3, UNITS - 1, 2 * (UNITS // 3) + 1, 100_000_001, 40_000_000]),
)


@st.composite
def stories(draw) -> list[tuple]:
    """Fills and splits of two symbols: ("fill", symbol, signed units, price, fee), ("split", symbol, signed units)."""
    held = {"A": 0, "B": 0}
    story = []
    for _ in range(draw(st.integers(1, 14))):
        symbol = draw(st.sampled_from("AAB"))
        choice = draw(st.integers(0, 5))
        now = held[symbol]
        if choice == 0 and abs(now) > 100:
            ratio = draw(st.sampled_from([F(2), F(3), F(3, 2), F(1, 2), F(1, 10)]))
            change = round(now * ratio) - now
            if change:
                story.append(("split", symbol, change))
        else:
            if choice == 1 and now:
                change = -now  # flat
            elif choice == 2 and now:
                change = -now + (-1 if now > 0 else 1) * draw(AMOUNTS)  # across zero
            else:
                change = draw(st.sampled_from([-1, 1])) * draw(AMOUNTS)
            story.append(("fill", symbol, change, draw(PRICES), draw(FEES)))
        held[symbol] += story[-1][2] if story and story[-1][1] == symbol and held[symbol] == now else 0
    return story


def naive(story: list[tuple]) -> dict:
    """The same with a deque of [units, cost a unit, fee] a symbol."""
    lots: dict[str, deque] = {"A": deque(), "B": deque()}
    lot_parts, round_trips, realised = [], [], [F(0)] * len(story)
    round_trip: dict[str, dict | None] = {"A": None, "B": None}
    for e, (kind, symbol, change, *terms) in enumerate(story):
        book = lots[symbol]
        if kind == "split":
            before = sum(lot[0] for lot in book)
            done = reached = 0
            value = fee = F(0)
            kept = deque()
            for n, lot in enumerate(book):
                done += lot[0]
                upto = before + change if n == len(book) - 1 else round(F(done * (before + change), before))
                value, fee = value + lot[0] * lot[1], fee + lot[2]
                if upto != reached:
                    kept.append([upto - reached, value / (upto - reached), fee, lot[3]])
                    value = fee = F(0)
                reached = upto
            kept[-1][1] += value / kept[-1][0]
            kept[-1][2] += fee
            lots[symbol] = kept
            for key in ("entered", "exited"):
                round_trip[symbol][key] *= F(before + change, before)
            continue
        price, fee = F(terms[0]), F(terms[1])
        left = change
        while left and book and book[0][0] * left < 0:
            lot = book[0]
            part = min(abs(left), abs(lot[0]))
            sign = 1 if lot[0] > 0 else -1
            gross = sign * part * (price - lot[1]) / UNITS
            open_fee, close_fee = lot[2] * part / abs(lot[0]), fee * part / abs(change)
            lot_parts.append((symbol, sign, part, lot[3], e, gross - open_fee - close_fee))
            realised[e] += gross
            lot[2] -= open_fee
            lot[0] -= sign * part
            left += sign * part
            round_trip[symbol]["pnl"] += gross - close_fee
            round_trip[symbol]["fees"] += close_fee
            round_trip[symbol]["exited"] += part
            if lot[0] == 0:
                book.popleft()
        if not book and round_trip[symbol]:
            round_trips.append(
                (
                    symbol,
                    round_trip[symbol]["opened"],
                    e,
                    round_trip[symbol]["pnl"],
                    round_trip[symbol]["fees"],
                    round_trip[symbol]["entered"],
                )
            )
            round_trip[symbol] = None
        if left:
            rest = fee * abs(left) / abs(change)
            book.append([left, price, rest, e])
            round_trip[symbol] = round_trip[symbol] or {
                "opened": e,
                "pnl": F(0),
                "fees": F(0),
                "entered": F(0),
                "exited": F(0),
            }
            round_trip[symbol]["pnl"] -= rest
            round_trip[symbol]["fees"] += rest
            round_trip[symbol]["entered"] += abs(left)
    return {"lot_parts": lot_parts, "round_trips": round_trips, "realised": realised, "lots": lots}


def make(story: list[tuple]):
    rows = [
        ledgers.fill(t, symbol, change / UNITS, *terms) if kind == "fill" else ledgers.split(t, symbol, change / UNITS)
        for t, (kind, symbol, change, *terms) in enumerate(story)
    ]
    return ledgers.ledger(rows)


def check(story: list[tuple]) -> None:
    expected, ledger = naive(story), make(story)
    fold = fold_lots(ledger)
    names = [ledgers.SYMBOLS[0], *ledgers.SYMBOLS[1:]]
    _, symbols = ledger.codes("symbol")
    assert set(symbols) <= set(names)
    symbol = [symbols[code] for code in fold.keys[:, 1]]
    scale = max([abs(change) / UNITS * terms[0] for _, _, change, *terms in story if terms], default=1.0) + 10
    near = lambda found, wanted: np.allclose(found, [float(x) for x in wanted], rtol=1e-9, atol=1e-9 * scale)  # noqa: E731
    lot_parts = fold.lot_parts
    closed = lot_parts[lot_parts["closed"] >= 0]
    assert [(symbol[p["key"]], p["side"], p["units"], p["opened"], p["closed"]) for p in closed] == [
        lot_part[:5] for lot_part in expected["lot_parts"]
    ]
    lots = folds.lots(ledger, fold)
    assert near(lots["realised"][: len(closed)], [lot_part[5] for lot_part in expected["lot_parts"]])
    left = {(symbol[p["key"]], p["units"] * p["side"], p["opened"]) for p in lot_parts[lot_parts["closed"] < 0]}
    assert left == {(name, lot[0], lot[3]) for name, book in expected["lots"].items() for lot in book}
    assert near(fold.realised, expected["realised"])
    round_trips = fold.round_trips
    assert [(symbol[t["key"]], t["opened"], t["closed"]) for t in round_trips] == [
        round_trip[:3] for round_trip in expected["round_trips"]
    ]
    assert near(round_trips["gross"] - round_trips["fees"], [round_trip[3] for round_trip in expected["round_trips"]])
    assert near(round_trips["fees"], [round_trip[4] for round_trip in expected["round_trips"]])
    assert near(round_trips["entered"], [round_trip[5] / UNITS for round_trip in expected["round_trips"]])
    totals = {name: sum(lot[0] for lot in book) for name, book in expected["lots"].items()}
    assert {name: int(n) for name, n in zip(symbol, fold.positions, strict=True)} == {n: totals[n] for n in symbol}
    cost = sum(lot[0] * lot[1] for book in expected["lots"].values() for lot in book) / UNITS
    assert near([fold.cost.sum()], [cost])
    assert invariants.lots_match_positions(ledger, fold) == []
    assert invariants.quantities_on_grid(ledger) == []
    fees = sum(terms[1] for kind, _, _, *terms in story if kind == "fill")  # every fee is counted once
    assert np.isclose(lot_parts["open_fee"].sum() + lot_parts["close_fee"].sum(), fees, rtol=1e-9, atol=1e-9)


@settings(max_examples=200, deadline=None)
@given(stories())
def test_any_story_is_what_the_naive_fold_says(story) -> None:
    check(story)


def test_the_share_of_a_lot_in_a_split_is_the_nearest_unit() -> None:
    """999,999,998 of 999,999,999 units that become 1,499,999,998: 1,499,999,996.5000000005 of them, so ...97, which
    float64 cannot tell from a half.
    """
    opened = [("fill", "A", -1_000_000_000, 0.01, 0.0), ("fill", "A", -1, 0.01, 0.0), ("fill", "A", 2, 0.01, 0.0)]
    check([*opened, ("split", "A", -499_999_999)])


@pytest.mark.campaign
@settings(max_examples=30_000, deadline=None)
@given(stories())
def test_many_stories_are_what_the_naive_fold_says(story) -> None:
    check(story)


def test_crossing_at_fractions_leaves_no_dust() -> None:
    """0.1 bought three times and 0.3 sold: flat in one trade. 0.1 + 0.1 + 0.1 is not 0.3 in float64."""
    ledger = ledgers.ledger([*(ledgers.fill(t, "A", 0.1, 10) for t in range(3)), ledgers.fill(3, "A", -0.3, 11)])
    fold = fold_lots(ledger)
    assert fold.positions.tolist() == [0] and len(fold.round_trips) == 1 and (fold.lot_parts["closed"] == 3).all()


def test_two_strategies_do_not_share_lots() -> None:
    """One buys 10 at 10, the other sells 10 at 12: a long and a short, nothing realised."""
    rows = ledgers.ledger([ledgers.fill(0, "A", 10, 10), ledgers.fill(1, "A", -10, 12)]).table.to_pylist()
    rows[1]["strategy"] = "other"
    fold = fold_lots(ledgers.of_rows(rows))
    assert fold.positions.tolist() == [10 * UNITS, -10 * UNITS] and fold.realised.tolist() == [0, 0]
    assert folds.lots(ledgers.of_rows(rows))[["strategy", "side"]].values.tolist() == [
        ["hand", "LONG"],
        ["other", "SHORT"],
    ]


def test_a_split_of_nothing_is_nothing() -> None:
    fold = fold_lots(ledgers.ledger([ledgers.split(0, "A", 5), ledgers.fill(1, "B", 1, 2)]))
    assert fold.lot_parts["units"].tolist() == [UNITS]


def test_changes_of_position_are_whole_units() -> None:
    """Rounded to the nearest unit, with the sign of the side; what is no change of position counts nothing."""
    fills = [ledgers.fill(0, "A", quantity, 1) for quantity in (0.1, 1 / 3, -2.5, 9_007_199.0)]
    others = [ledgers.opened(5.0), {"kind": "ORDER_EXPIRED", "t": 0, "symbol": "A", "side": 1, "quantity": 7.0}]
    assert position_changes(ledgers.ledger([*fills, *others])).tolist() == [
        100_000_000, 333_333_333, -2_500_000_000, 9_007_199_000_000_000, 0, 0,
    ]  # fmt: skip
