"""Experiments: what is refused and how it is told, and what the hash depends on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline_tests import small

FLAT = "def strategy(ctx, params):\n    return ctx.flat()\n"
ABOVE = (
    "def strategy(ctx, params):\n    targets = ctx.flat()\n    for symbol in ctx.universe:\n"
    "        if ctx.close(symbol) > ctx.feature(symbol, 'sma'):\n            targets[symbol] = params['quantity']\n"
    "    return targets\n"
)
# an experiment that uses every part
WHOLE = {
    "params": {"quantity": 10, "window": 20, "weights": {"A": 0.5, "B": [1, 2]}},
    "features": {"sma": {"indicator": "sma", "window": {"param": "window"}}, "r": {"indicator": "rsi", "window": 14}},
    "opening": {"cash": 1000, "positions": {"A": 5}, "cost_basis": {"A": 9.5}},
    "deposits": [{"amount": 100, "every": "month", "start": "2020-01-01"}],
    "costs": [{"spread_bps": 5}, {"fixed_fee": 1}],
    "risk": ["long_only", {"max_weight": 0.5}],
    "universe": ["A", "B"],
}


def whole(strategy=ABOVE, **changes) -> lp.Experiment:
    return lp.experiment(strategy, **{**WHOLE, **changes})


# what is refused

FAULTS = [
    ({"costs": None}, "costs is None; it should be a list"),
    ({"costs": 5}, "costs is 5; it should be a list"),
    ({"costs": "spread_bps"}, "costs is 'spread_bps'; it should be a list"),
    ({"costs": {"spread_bps": 5}}, "costs is {'spread_bps': 5}; it should be a list"),
    ({"costs": [{"fixed_fee": 1}, {"spread_bp": 5}]}, "costs is not sound: step 2: there is no step 'spread_bp'"),
    ({"costs": [{"fixed_fee": 1}, {"spread_bps": 5}]}, "step 2: the price step spread_bps comes after a fee step"),
    ({"costs": [{"fixed_fee": "1"}]}, "step 1: fixed_fee is '1'; it must be a finite amount, zero or more"),
    ({"costs": [{"fixed_fee": -1}]}, "step 1: fixed_fee is -1; it must be a finite amount, zero or more"),
    ({"costs": [{"fixed_fee": True}]}, "step 1: fixed_fee is True"),
    ({"costs": [{"fixed_fee": float("nan")}]}, "step 1: fixed_fee is nan"),
    ({"costs": [{"fixed_fee": 1, "minimum_fee": 2}]}, "step 1: {'fixed_fee': 1, 'minimum_fee': 2} is not a step"),
    ({"costs": ["fixed_fee"]}, "step 1: 'fixed_fee' is not a step; write one of {spread_bps: amount}"),
    ({"costs": [{"long_only": 1}]}, "step 1: there is no step 'long_only'"),
    ({"risk": "long_only"}, "risk is 'long_only'; it should be a list"),
    ({"risk": ["long_only", "long"]}, "risk is not sound: step 2: 'long' is not a step; write one of long_only"),
    ({"risk": [{"max_weight": 0}]}, "step 1: max_weight is 0; it must be a finite amount, above zero"),
    ({"risk": [{"long_only": 1}]}, "step 1: there is no step 'long_only' with an amount"),
    ({"params": 5}, "params is 5; it should be a mapping"),
    ({"params": [("a", 1)]}, "params is .*; it should be a mapping"),
    ({"params": {1: 2}}, "params.* is 1; it should be a text"),
    ({"params": {"a": {1, 2}}}, "params is not sound: the value .* cannot be stored as JSON"),
    ({"params": {"a": float("nan")}}, "params is not sound: the value .* cannot be stored as JSON"),
    ({"params": {"a": pd.Timestamp("2020-01-01")}}, "params is not sound"),
    ({"params": {"a": 2**60}}, "params is not sound"),
    ({"features": [1]}, "features is .*; it should be a mapping"),
    ({"features": {"sma": 20}}, r"features\.sma is 20; it should be a mapping"),
    ({"features": {"sma": {}}}, "feature 'sma': the spec names no indicator"),
    ({"features": {"sma": {"indicator": "smaa"}}}, "feature 'sma': there is no indicator 'smaa'"),
    ({"features": {"sma": {"indicator": ["sma"]}}}, r"feature 'sma': the indicator is \['sma'\]"),
    ({"features": {"sma": {"indicator": "sma"}}}, "feature 'sma': indicator 'sma' needs a value for 'window'"),
    ({"features": {"sma": {"indicator": "sma", "windw": 2}}}, "indicator 'sma' has no parameter 'windw'"),
    ({"features": {"sma": {"indicator": "sma", "window": {"param": "w"}}}}, "takes window from params.w, which is not"),
    ({"features": {"sma": {"indicator": "sma", "window": {"param": ["w"]}}}}, "which is not defined"),
    ({"features": {"sma": {"indicator": "sma", "window": {"parm": "w"}}}}, "feature 'sma'.*window is {'parm': 'w'}"),
    ({"opening": 5}, "opening is 5; it should be a mapping"),
    ({"opening": {}}, "opening.cash is missing"),
    ({"opening": {"cahs": 1}}, "opening.cahs is not a known key; the keys are cash, positions, cost_basis"),
    ({"opening": {"cash": -1}}, "opening.cash is -1; it should be greater than or equal to 0"),
    ({"opening": {"cash": "1"}}, "opening.cash is '1'; it should be a number"),
    ({"opening": {"cash": True}}, "opening.cash is True; it should be a number"),
    ({"opening": {"cash": float("inf")}}, "opening.cash is inf; it should be a finite number"),
    ({"opening": {"cash": 1, "positions": {"A": 1}}}, "positions and cost_basis must name the same symbols; A is in"),
    ({"opening": {"cash": 1, "positions": {"A": 1}, "cost_basis": {"A": -5}}}, "opening.cost_basis.A is -5"),
    ({"deposits": 5}, "deposits is 5; it should be a list"),
    ({"deposits": {"amount": 1, "every": "month"}}, "deposits is .*; it should be a list"),
    ({"deposits": [1]}, r"deposits\[0\] is 1; it should be a mapping"),
    ({"deposits": [{"amount": 1}]}, r"deposits\[0\] is not sound: give either `every`"),
    ({"deposits": [{"amount": 1, "every": "day"}]}, r"deposits\[0\].every is 'day'; it should be 'week', 'month'"),
    ({"deposits": [{"amount": 0, "every": "month"}]}, r"deposits\[0\].amount is 0; it should be greater than 0"),
    ({"deposits": [{"amount": 1, "evry": "month"}]}, r"deposits\[0\].evry is not a known key; the keys are amount"),
    ({"deposits": [{"amount": 1, "at": "soon"}]}, r"deposits\[0\].at is 'soon'"),
    ({"deposits": [{"amount": 1, "at": "2020-01-01", "end": "2020-02-01"}]}, "`start` and `end` go with `every`"),
    (
        {"deposits": [{"amount": 1, "every": "week", "start": "2020-02-01", "end": "2020-01-01"}]},
        "ends on 2020-01-01, before it starts on 2020-02-01",
    ),
    ({"universe": "AB"}, "universe is 'AB'; it should be a list"),
    ({"universe": []}, "universe is not sound: it must list at least one symbol, each once"),
    ({"universe": ["A", "A"]}, "universe is not sound: it must list at least one symbol, each once"),
    ({"universe": [1]}, r"universe\[0\] is 1; it should be a text"),
    ({"cash_rule": "credit"}, "cash_rule is 'credit'; it should be 'require', 'scale' or 'allow_negative'"),
    ({"seed": -1}, "seed is -1; it should be greater than or equal to 0"),
    ({"seed": "1"}, "seed is '1'; it should be a whole number"),
    ({"seed": True}, "seed is True; it should be a whole number"),
    ({"seed": 1.5}, "seed is 1.5"),
    ({"seed": 2**53}, "seed is .*; it should be less than"),
    ({"benchmark": 5}, "benchmark is 5; it should be a text"),
    ({"description": 5}, "description is 5; it should be a text"),
    ({"name": 5}, "the name of an experiment is a text, not 5"),
]


@pytest.mark.parametrize("changes, told", FAULTS)
def test_a_value_that_cannot_be_meant_is_named_by_its_key(changes, told) -> None:
    with pytest.raises(InputError, match=told) as caught:
        lp.experiment(FLAT, **{"costs": []} | changes)
    assert "\n" not in str(caught.value)


def test_costs_are_required_and_unknown_keys_refused() -> None:
    with pytest.raises(TypeError, match="costs"):
        lp.experiment(FLAT)
    with pytest.raises(TypeError, match="cost"):
        lp.experiment(FLAT, costs=[], cost=[])
    assert lp.experiment(FLAT, costs=[]).costs == ()


def test_a_feature_that_is_used_must_be_defined() -> None:
    with pytest.raises(InputError, match=r"asks for the feature 'sma' \(line 4 of its text\).*\(it defines: fast\)"):
        lp.experiment(ABOVE, costs=[], features={"fast": {"indicator": "sma", "window": 5}})
    for call in ("ctx.feature_values('slow')", "ctx.feature('A', name='slow')", "ctx.feature_values(name='slow')"):
        with pytest.raises(InputError, match=r"the feature 'slow' \(line 2 of its text\).*\(it defines: none\)"):
            lp.experiment(f"def strategy(ctx, params):\n    {call}\n    return ctx.flat()\n", costs=[])


def test_a_tier_3_strategy_is_refused() -> None:
    with pytest.raises(RefusedError, match="line 2"):
        lp.experiment("def strategy(ctx, params):\n    open('x')\n    return ctx.flat()\n", costs=[])


def test_features_take_their_parameters_from_params() -> None:
    one, other = whole(), whole(params=WHOLE["params"] | {"window": 21})
    assert {item.alias: dict(item.params)["window"] for item in one.features} == {"sma": 20, "r": 14}
    assert {item.alias: dict(item.params)["window"] for item in other.features} == {"sma": 21, "r": 14}
    assert whole(params=WHOLE["params"] | {"window": 20.0}).features == one.features  # JSON knows one kind of number


def test_defaults_are_stated() -> None:
    spec = lp.experiment(FLAT, costs=[]).spec
    assert spec.opening.cash == 100_000 and spec.cash_rule == "require" and spec.seed == 0
    assert spec.universe is None and spec.deposits == () and spec.risk == []


# the hash

CHANGES = {
    "source": {"strategy": ABOVE.replace(">", ">=")},
    "comment": {"strategy": ABOVE + "# note\n"},
    "a param": {"params": WHOLE["params"] | {"quantity": 11}},
    "a nested param": {"params": WHOLE["params"] | {"weights": {"A": 0.5, "B": [2, 1]}}},
    "an unused param": {"params": WHOLE["params"] | {"more": None}},
    "a feature's parameter": {"features": WHOLE["features"] | {"r": {"indicator": "rsi", "window": 15}}},
    "a feature's indicator": {"features": WHOLE["features"] | {"r": {"indicator": "roc", "window": 14}}},
    "a feature's alias": {"features": {"sma": WHOLE["features"]["sma"], "q": WHOLE["features"]["r"]}},
    "one feature less": {"features": {"sma": WHOLE["features"]["sma"]}},
    "cash": {"opening": WHOLE["opening"] | {"cash": 1001}},
    "a position": {"opening": WHOLE["opening"] | {"positions": {"A": 6}}},
    "a cost basis": {"opening": WHOLE["opening"] | {"cost_basis": {"A": 9}}},
    "a deposit's amount": {"deposits": [WHOLE["deposits"][0] | {"amount": 101}]},
    "a deposit's period": {"deposits": [WHOLE["deposits"][0] | {"every": "week"}]},
    "a deposit's start": {"deposits": [WHOLE["deposits"][0] | {"start": "2020-01-02"}]},
    "a deposit's end": {"deposits": [WHOLE["deposits"][0] | {"end": "2021-01-02"}]},
    "no deposit": {"deposits": []},
    "a cost": {"costs": [{"spread_bps": 6}, {"fixed_fee": 1}]},
    "the kind of a cost": {"costs": [{"spread_bps": 5}, {"minimum_fee": 1}]},
    "no costs": {"costs": []},
    "a limit": {"risk": ["long_only", {"max_weight": 0.6}]},
    "the order of risk": {"risk": [{"max_weight": 0.5}, "long_only"]},
    "the universe": {"universe": ["A"]},
    "the order of the universe": {"universe": ["B", "A"]},
    "the cash rule": {"cash_rule": "allow_negative"},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_hash_changes_with_what_affects_results(what) -> None:
    assert whole(**CHANGES[what]).hash != whole().hash


def test_the_hash_depends_on_nothing_else(tmp_path: Path) -> None:
    known = whole().hash
    for same in (
        {"name": "another"},
        {"description": "words"},
        {"benchmark": "A"},
        {"seed": 5},
        {"params": dict(reversed(WHOLE["params"].items()))},
        {"params": WHOLE["params"] | {"quantity": 10.0, "weights": {"B": (1.0, np.int64(2)), "A": np.float64(0.5)}}},
        {"features": dict(reversed(WHOLE["features"].items()))},
        {"features": WHOLE["features"] | {"sma": {"window": 20, "indicator": "sma"}}},
        {"opening": {"cost_basis": {"A": 9.5}, "positions": {"A": 5.0}, "cash": 1000.0}},
        {"deposits": [{"start": pd.Timestamp("2020-01-01").date(), "every": "month", "amount": np.float64(100)}]},
        {"costs": ({"spread_bps": 5.0}, {"fixed_fee": np.float64(1)})},
        {"universe": ("A", "B")},
        {"strategy": ABOVE.replace("\n", "\r\n") + "\n\n"},
    ):
        assert whole(**same).hash == known, same
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    for folder in ("one", "other"):
        (tmp_path / folder / "above.py").write_text(ABOVE)
    one, other = (whole(tmp_path / folder / "above.py") for folder in ("one", "other"))
    assert one.hash == other.hash == whole(str(tmp_path / "one" / "above.py")).hash
    assert one.name == one.spec.strategy == "above"


def test_captured_constants_are_part_of_the_hash() -> None:
    def made(threshold):
        def above(ctx, params):
            return ctx.flat() if threshold else ctx.hold()

        return lp.experiment(above, costs=[])

    assert made(1).hash != made(2).hash
    assert made(1).hash == made(1).hash


def test_the_code_of_an_indicator_is_part_of_the_hash(tmp_path: Path) -> None:
    (tmp_path / "indicators").mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "flat.py").write_text(FLAT)
    (tmp_path / "experiments" / "x.yaml").write_text("strategy: flat\ncosts: []\nfeatures: {f: {indicator: half}}\n")

    def hashed(code: str) -> str:
        (tmp_path / "indicators" / "half.py").write_text(code)
        return lp.Catalogue(tmp_path).experiment("x").hash

    code = "BASIS = 'price'\nWARMUP = 1\n\n\ndef half(bars, by=2):\n    return bars['close'] / by\n"
    assert hashed(code) == hashed(code)
    codes = [code, code.replace("by=2", "by=3"), code.replace("WARMUP = 1", "WARMUP = 2")]
    assert len({hashed(text) for text in codes}) == 3


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "import json, sys, ledger_pipeline as lp\n"
        "text, values = json.load(sys.stdin)\nprint(lp.experiment(text, **values).hash)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([ABOVE, WHOLE]),
        env={"PYTHONHASHSEED": "1"},  # this process has another one
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == whole().hash


def test_what_was_given_may_be_changed_afterwards() -> None:
    params, features = {"weights": {"A": 1}}, {"sma": {"indicator": "sma", "window": 3}}
    made = lp.experiment(FLAT, costs=[], params=params, features=features)
    params["weights"]["A"] = 2
    features["sma"]["window"] = 4
    assert made.spec.params == {"weights": {"A": 1}}
    fresh = {"params": {"weights": {"A": 1}}, "features": {"sma": {"indicator": "sma", "window": 3}}}
    assert made.hash == lp.experiment(FLAT, costs=[], **fresh).hash


def test_equal_hashes_give_equal_ledgers_whatever_the_experiment_is_called(tmp_path: Path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13]})
    text = "def strategy(ctx, params):\n    targets = ctx.flat()\n    targets['A'] = params['n']\n    return targets\n"
    runs = [
        lp.run(lp.experiment(text, costs=[], params={"n": n}, name=name), snapshot)
        for name, n in (("one", 1), ("other", 1.0), (None, np.int64(1)))
    ]
    assert len({run.run_id for run in runs}) == len({run.events.head for run in runs}) == 1
    for run in runs:
        run.save(tmp_path / "data")
    assert runs[0].ledger["strategy"].unique().tolist() == ["strategy"]


def test_the_name_of_a_strategy_is_in_its_ledger_and_so_in_its_hash(tmp_path: Path) -> None:
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13]})
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text("def strategy(ctx, params):\n    return ctx.targets([1.0])\n")
    one, other = (lp.experiment(tmp_path / f"{name}.py", costs=[]) for name in ("one", "other"))
    assert lp.run(one, snapshot).ledger["strategy"].unique().tolist() == ["one"]
    assert one.hash != other.hash


def test_an_experiment_shows_itself_in_a_line() -> None:
    assert "def strategy" not in repr(lp.experiment(ABOVE, **WHOLE))
