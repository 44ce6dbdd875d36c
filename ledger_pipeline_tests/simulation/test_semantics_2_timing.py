"""Design 5.2: mark, record, decide; fill at the next open; expiry with its reason, one warning a run."""

from __future__ import annotations

import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline_tests import small


def test_the_equity_row_stands_before_the_decision_and_the_fill_is_at_the_next_open(tmp_path) -> None:
    """Bars (open, close): (10, 11), (12, 13), (14, 15). Decided at close 11: buys 5 at 12, not at 11 or 13.

    Equity: 1000; 1000 - 60 + 5*13 = 1005; 940 + 5*15 = 1015.
    """
    run = small.play(tmp_path, {"A": [(10, 11), (12, 13), (14, 15)]}, {0: {"A": 5}})
    assert small.filled(run) == [(1, "A", "BUY", 5.0, 12.0, 0.0)]
    assert run.equity["equity"].tolist() == [1000, 1005, 1015]
    assert run.equity["cash"].tolist() == [1000, 940, 940]
    assert run.equity["unrealised"].tolist() == [0, 5, 15]


def test_ctx_states_the_mark_at_the_close(tmp_path) -> None:
    seen = []

    def strategy(ctx, params):
        seen.append((ctx.now, ctx.open("A"), ctx.close("A"), ctx.position("A"), ctx.cash, ctx.equity))
        return ctx.targets([5.0])

    simulate(small.inputs(tmp_path, {"A": [(10, 11), (12, 13), (14, 15)]}, strategy))
    assert seen == [
        (small.at(0), 10, 11, 0, 1000, 1000), (small.at(1), 12, 13, 5, 940, 1005), (small.at(2), 14, 15, 5, 940, 1015),
    ]  # fmt: skip


def test_an_order_without_a_bar_expires_and_is_not_tried_again(tmp_path) -> None:
    """B has no bar on day 1; it is wanted on day 0 only, so the order ends on day 1 and nothing is bought on day 2."""
    run = small.play(tmp_path, {"A": [1, 1, 1], "B": [5, None, 7]}, {0: {"B": 2}})
    assert small.ended(run) == [(1, "ORDER_EXPIRED", "B", "BUY", "NO_BAR")]
    assert small.filled(run) == []
    (expired,) = small.events(run, "ORDER_EXPIRED")
    (decided,) = small.events(run, "DECIDED")
    assert (expired["quantity"], expired["cash_delta"], expired["fee"]) == (2.0, None, None)
    assert expired["causation_id"] == expired["correlation_id"] == decided["event_id"]
    assert run.equity["equity"].tolist() == [1000] * 3


def test_what_is_decided_at_the_last_pulse_expires(tmp_path) -> None:
    """Three orders end without a fill; the warning is one sentence with the counts."""
    prices = {"A": [10, 10, 10], "B": [5, None, 7]}
    run = small.play(
        tmp_path, prices, {0: {"B": 2}, 2: {"A": "25.0", "B": 1}}, reasons={"A": ["DCA"], "B": ["ONE", "TWO"]}
    )
    assert small.ended(run) == [
        (1, "ORDER_EXPIRED", "B", "BUY", "NO_BAR,ONE,TWO"),
        (2, "ORDER_EXPIRED", "A", "BUY", "END_OF_DATA,DCA"),
        (2, "ORDER_EXPIRED", "B", "BUY", "END_OF_DATA,ONE,TWO"),
    ]
    assert run.warnings == [
        "3 orders were not filled: 2 END_OF_DATA, 1 NO_BAR",
        "no order was filled in the whole run",
    ]
    assert run.metrics["orders_expired"] == 3


def test_a_run_whose_orders_all_fill_warns_of_nothing(tmp_path) -> None:
    assert small.play(tmp_path, {"A": [10, 10, 10]}, {0: {"A": 1}}).warnings == []


def test_one_bar_is_too_few(tmp_path) -> None:
    with pytest.raises(lp.InputError, match="has 1 bar time.*at least 2"):
        small.play(tmp_path, {"A": [10]}, {})


def test_nothing_decided_leaves_no_decision_in_the_ledger(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10, 11, 12]}, {})
    assert [row["kind"] for row in small.events(run)] == ["OPENED"]
    assert run.equity["equity"].tolist() == [1000] * 3


def test_events_carry_reasons_ids_and_payload(tmp_path) -> None:
    run = small.play(tmp_path, {"A": [10, 20, 20]}, {0: {"A": "100.0"}}, reasons={"A": ["DCA", "UNDERWEIGHT"]})
    opened, decided, filled = small.events(run)
    assert (filled["order_id"], filled["fill_id"], filled["event_id"], filled["seq"]) == ("1", "1", "3", 3)
    assert filled["reasons"] == "DCA,UNDERWEIGHT" and filled["payload"] == '{"invest":100}'
    assert (filled["causation_id"], filled["correlation_id"]) == (decided["event_id"], decided["event_id"])
    assert (filled["quantity"], filled["price"], filled["cash_delta"]) == (5.0, 20.0, -100.0)
    assert {row["book"] for row in (opened, decided, filled)} == {f"bt-{run.run_id}"}
    assert decided["order_id"] is None and opened["causation_id"] is None


def test_memory_is_handed_from_pulse_to_pulse_and_recorded(tmp_path) -> None:
    def strategy(ctx, params):
        seen = [*ctx.memory.get("seen", []), ctx.close("A")]
        return ctx.flat().remember({"seen": seen})

    ledger = simulate(small.inputs(tmp_path, {"A": [10, 11, 12]}, strategy))
    rows = [row for row in ledger.table.to_pylist() if row["kind"] == "DECIDED"]
    assert [row["payload"] for row in rows] == [
        '{"memory":{"seen":[10]}}', '{"memory":{"seen":[10,11]}}', '{"memory":{"seen":[10,11,12]}}',
    ]  # fmt: skip


def test_the_random_generator_depends_on_seed_and_pulse_only(tmp_path) -> None:
    def draws(seed, length):
        seen = []

        def strategy(ctx, params):
            seen.append(float(ctx.rng.random()))
            return ctx.flat()

        simulate(small.inputs(tmp_path, {"A": [10] * length}, strategy, seed=seed))
        return seen

    assert draws(1, 4)[:3] == draws(1, 3)
    assert len(set(draws(1, 4) + draws(2, 4))) == 8
