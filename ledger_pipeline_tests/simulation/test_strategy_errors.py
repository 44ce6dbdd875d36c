"""What a strategy may not return: each error names the strategy, the pulse, the symbol and what came back."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.ledger.folds import fills
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline.simulation.simulator import StrategyError
from ledger_pipeline.strategy.targets import Targets
from ledger_pipeline.strategy.terms import parse_costs
from ledger_pipeline_tests import small

PRICES = {"AAA": [10, 10, 10], "BBB": [20, 20, 20]}
AT_PULSE_2 = r"strategy 'inline' at pulse 2 \(2024-01-02T00:00:00\+00:00\)"


def setting(value):
    def wrong(ctx):
        targets = ctx.flat()
        targets["BBB"] = value
        return targets

    return wrong


def raised(kind):
    def wrong(ctx):
        raise kind("of some kind.")

    return wrong


WRONG = [
    (lambda ctx: None, "returned None instead of targets"),
    (lambda ctx: [1, 2], r"returned \[1, 2\] instead of targets"),
    (lambda ctx: np.zeros(2), r"returned array\(\[0., 0.\]\) instead of targets"),
    (lambda ctx: "x" * 500, r"returned 'x{70,80}\.\.\. instead of targets"),
    (lambda ctx: ctx.flat, "instead of targets"),
    (lambda ctx: {"AAA": 1}, "returned no target for BBB"),
    (lambda ctx: {}, "returned no target for AAA"),
    (lambda ctx: {"AAA": 1, "BBB": 1, "CCC": 1}, "returned a target for 'CCC'"),
    (lambda ctx: {"AAA": 1, "BBB": 1, 3: 1}, "returned a target for 3"),
    (lambda ctx: {"AAA": 1, "bbb": 1}, "returned a target for 'bbb'"),
    (setting(float("nan")), "returned nan as the target of BBB, which is not finite"),
    (setting(float("inf")), "returned inf as the target of BBB, which is not finite"),
    (setting(-float("inf")), "returned -inf as the target of BBB, which is not finite"),
    (setting(None), "returned None as the target of BBB; it must be a number"),
    (setting("10"), "returned '10' as the target of BBB; it must be a number"),
    (setting("ten"), "returned 'ten' as the target of BBB; it must be a number"),
    (setting(b"5"), "returned b'5' as the target of BBB; it must be a number"),
    (setting([1]), r"returned \[1\] as the target of BBB; it must be a number"),
    (setting(np.zeros(2)), "as the target of BBB; it must be a number"),
    (setting(1j), "returned 1j as the target of BBB; it must be a number"),
    (setting(1e7), "returned 10000000.0 as the target of BBB, which is beyond 9,007,199"),
    (setting(-1e300), r"returned -1e\+300 as the target of BBB, which is beyond 9,007,199"),
    (setting(10**400), r"returned 1000.* as the target of BBB, which is beyond 9,007,199"),
    (lambda ctx: {"AAA": 1, "BBB": float("nan")}, "returned nan as the target of BBB, which is not finite"),
    (lambda ctx: {"AAA": "1", "BBB": 1}, "returned '1' as the target of AAA; it must be a number"),
    (lambda ctx: ctx.targets([1.0, float("nan")]), "returned nan as the target of BBB"),
    (lambda ctx: ctx.targets([1.0]), r"shape \(1,\); the universe has 2 symbols"),
    (lambda ctx: ctx.weights({"ZZZ": 1.0}), "'ZZZ' is not in ctx.universe"),
    (lambda ctx: ctx.weights({"BBB": float("nan")}), "the weight of BBB is not a finite number"),
    (lambda ctx: Targets(("AAA",), np.zeros(1)), "returned targets of another pulse"),
    (lambda ctx: 1 / 0, r"failed, line \d+: ZeroDivisionError: division by zero\."),
    (raised(KeyError), r"failed, line \d+: KeyError: 'of some kind\.'"),
    (raised(RuntimeError), r"failed, line \d+: RuntimeError: of some kind\.$"),
    (lambda ctx: ctx.close("ZZZ"), r"failed, line \d+: 'ZZZ' is not in ctx.universe"),
    (lambda ctx: ctx.feature("AAA", "sma"), "no feature 'sma'"),
    (lambda ctx: ctx.history("AAA", 0), "n is 0"),
    (lambda ctx: ctx.nothing, "has no 'nothing'"),
    (lambda ctx: ctx.flat().because("AAA", "lower case"), "'lower case' is not a reason code"),
    (lambda ctx: ctx.flat().because("AAA", "A,B"), "'A,B' is not a reason code"),
    (lambda ctx: ctx.flat().because("AAA", ""), "'' is not a reason code"),
    (lambda ctx: ctx.flat().because("ZZZ", "OK"), "'ZZZ' is not in the universe"),
    (lambda ctx: ctx.flat().invest("BBB", 0), "the cash for BBB is 0; it must be a finite amount above zero"),
    (lambda ctx: ctx.flat().invest("BBB", -1.0), "the cash for BBB is -1.0"),
    (lambda ctx: ctx.flat().invest("BBB", float("nan")), "the cash for BBB is nan"),
    (lambda ctx: ctx.flat().invest("BBB", float("inf")), "the cash for BBB is inf"),
    (lambda ctx: ctx.flat().invest("BBB", "100"), "the cash for BBB is '100'"),
    (lambda ctx: ctx.flat().invest("BBB", True), "the cash for BBB is True"),
    (lambda ctx: ctx.flat().invest("ZZZ", 100), "'ZZZ' is not in the universe"),
    (lambda ctx: ctx.flat().remember({"a": {1, 2}}), r"\{1, 2\}.* cannot be stored as JSON"),
    (lambda ctx: ctx.flat().remember({"a": float("nan")}), "cannot be stored as JSON"),
    (lambda ctx: ctx.flat().remember({"a": ctx}), "cannot be stored as JSON"),
    (lambda ctx: ctx.flat().remember({"a": 2**70}), "cannot be stored as JSON"),
    (lambda ctx: ctx.flat().remember({1: 2}), "cannot be stored as JSON"),
    (lambda ctx: ctx.flat().remember([1]), "takes a dict of JSON values, not list"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_a_wrong_return_is_named(tmp_path, wrong, says) -> None:
    def strategy(ctx, params):
        return wrong(ctx) if ctx.now.day == 2 else ctx.flat()

    with pytest.raises(StrategyError, match=f"^{AT_PULSE_2}.*{says}"):
        simulate(small.inputs(tmp_path, PRICES, strategy))


def test_it_is_an_input_error_and_the_cause_is_kept(tmp_path) -> None:
    def strategy(ctx, params):
        return {}["x"]

    with pytest.raises(lp.InputError) as caught:
        simulate(small.inputs(tmp_path, PRICES, strategy))
    assert isinstance(caught.value, StrategyError) and isinstance(caught.value.__cause__, KeyError)


def test_targets_of_an_earlier_pulse_with_another_universe_are_refused(tmp_path) -> None:
    kept = []

    def strategy(ctx, params):
        kept.append(ctx.flat())
        return kept[0]

    with pytest.raises(StrategyError, match="pulse 2 .*targets of another pulse"):
        simulate(small.inputs(tmp_path, {"A": [1, 1, 1], "B": [1, None, 1]}, strategy))


@pytest.mark.parametrize(
    "right",
    [lambda ctx: {"BBB": 2, "AAA": 1.0}, lambda ctx: {"AAA": np.float32(1), "BBB": np.int64(2)},
     lambda ctx: ctx.targets([1, 2]), lambda ctx: ctx.targets(np.array([1, 2], np.int32))],
)  # fmt: skip
def test_numbers_of_other_types_and_plain_dicts_are_taken(tmp_path, right) -> None:
    ledger = simulate(small.inputs(tmp_path, PRICES, lambda ctx, params: right(ctx)))
    assert lp.reconstruct(ledger).positions == {"AAA": 1.0, "BBB": 2.0}


def test_a_decimal_is_a_number_or_named(tmp_path) -> None:
    """Whichever: it is never silently another number."""

    def strategy(ctx, params):
        return {"AAA": Decimal("1.5"), "BBB": 0.0}

    try:
        assert lp.reconstruct(simulate(small.inputs(tmp_path, PRICES, strategy))).positions == {"AAA": 1.5}
    except StrategyError as error:
        assert "Decimal('1.5') as the target of AAA" in str(error)


def test_a_failed_run_returns_nothing(tmp_path) -> None:
    def strategy(ctx, params):
        return ctx.flat() if ctx.now.day < 3 else None

    snapshot = small.seal(tmp_path / "snapshots", PRICES)
    with pytest.raises(StrategyError, match="strategy 'strategy' at pulse 3"):
        lp.run(lp.experiment(strategy, costs=[]), snapshot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snapshots"]


def test_the_largest_quantities_are_exact(tmp_path) -> None:
    largest = 9_007_199.254740990
    run = small.play(
        tmp_path, {"A": [0.01] * 4}, {0: {"A": largest}, 1: {"A": 0}}, opening={"cash": 1e6}, cash_rule="allow_negative"
    )
    assert [fill[3] for fill in small.filled(run)] == [largest, largest]
    assert lp.reconstruct(run.events).positions == {}


def test_a_plain_dict_may_hold_cash_to_invest(tmp_path) -> None:
    """50 of cash at 25 buys 2 shares, not 50."""

    def strategy(ctx, params):
        targets = ctx.hold()
        if ctx.cash == 1000.0:
            targets.invest("A", 50.0)
        return targets.as_dict()

    made = small.inputs(tmp_path, {"A": [25, 25, 25]}, strategy)
    assert fills(simulate(made))["quantity"].tolist() == [2.0]


def test_a_spread_that_takes_the_whole_price_is_refused() -> None:
    with pytest.raises(lp.InputError, match="below 20000"):
        parse_costs([{"spread_bps": 20000}])


@pytest.mark.parametrize("seed", ["x", -1, 1.5, True, 2**53])
def test_an_unusable_seed_is_refused(tmp_path, seed) -> None:
    market = small.seal(tmp_path, {"A": [1, 1]})
    with pytest.raises(lp.InputError, match="seed is"):
        lp.run(small.planned({}), market, seed=seed)
