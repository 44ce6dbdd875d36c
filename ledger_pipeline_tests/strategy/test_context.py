"""ctx: what a strategy may know at a pulse, by symbol and as vectors, and what it is told when it asks for more."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.strategy.context import Context, Past

DAY = 86_400_000_000
FIELDS = np.array([[10.0, 20, 30], [12.0, 22, 32], [9.0, 19, 29], [11.0, 21, 31], [100.0, 200, 300]])


def context(**changes) -> Context:
    """A context over A, B, C with two features and a position in B."""
    fields, features = FIELDS.copy(), np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    positions = np.array([0.0, 2.5, 0.0])
    for array in (fields, features, positions):
        array.flags.writeable = False
    values = {
        "universe": ("A", "B", "C"),
        "cash": 1000.0,
        "equity": 1052.5,
        "time": 19_723 * DAY,  # 2024-01-01
        "seed": 7,
        "pulse": 3,
        "fields": fields,
        "features": features,
        "names": ("fast", "slow"),
        "positions": positions,
        "memory": '{"bought":["A"],"n":1}',
        "past": None,
        "columns": {"A": 0, "B": 1, "C": 2},
    }
    return Context(**{**values, **changes})


@pytest.mark.parametrize("row, name", list(enumerate(["open", "high", "low", "close", "volume"])))
def test_a_bar_by_symbol_and_as_a_vector(row, name) -> None:
    ctx = context()
    vector = getattr(ctx, name + "s")
    assert vector.tolist() == FIELDS[row].tolist()
    assert [getattr(ctx, name)(symbol) for symbol in ctx.universe] == vector.tolist()
    assert all(type(getattr(ctx, name)(symbol)) is float for symbol in ctx.universe)
    with pytest.raises(InputError, match=r"'Z' is not in ctx.universe at this pulse \(A, B, C\)"):
        getattr(ctx, name)("Z")


def test_positions_and_features_align_with_the_universe() -> None:
    ctx = context()
    assert ctx.positions.tolist() == [ctx.position(symbol) for symbol in ctx.universe] == [0.0, 2.5, 0.0]
    assert ctx.feature_values("slow").tolist() == [ctx.feature(symbol, "slow") for symbol in ctx.universe]
    assert ctx.feature("B", "fast") == 2.0
    assert np.isnan(ctx.feature("C", "fast"))  # in its warm-up


def test_what_is_not_there_is_told_with_what_is() -> None:
    ctx = context()
    for ask in (lambda: ctx.position("Z"), lambda: ctx.feature("Z", "fast"), lambda: ctx.history("Z", 1)):
        with pytest.raises(InputError, match=r"'Z' is not in ctx.universe at this pulse \(A, B, C\)"):
            ask()
    for ask in (lambda: ctx.feature("A", "sma"), lambda: ctx.feature_values("sma")):
        with pytest.raises(InputError, match=r"no feature 'sma' \(it defines: fast, slow\)"):
            ask()
    with pytest.raises(InputError, match="it defines: none"):
        context(names=(), features=np.empty((0, 3))).feature("A", "sma")
    with pytest.raises(AttributeError, match="'Context' object has no attribute 'price'"):
        ctx.price  # noqa: B018


@pytest.mark.parametrize("name", ["opens", "highs", "lows", "closes", "volumes", "positions"])
def test_vectors_are_read_only(name) -> None:
    vector = getattr(context(), name)
    with pytest.raises(ValueError):
        vector[0] = 1.0
    with pytest.raises(ValueError):
        context().feature_values("fast")[:] = 1.0


def test_now_is_the_label_of_the_bar_in_utc() -> None:
    assert context().now == pd.Timestamp("2024-01-01T00:00:00Z")
    assert str(context().now.tz) == "UTC"


def test_memory_is_a_fresh_copy() -> None:
    ctx = context()
    assert ctx.memory == {"bought": ["A"], "n": 1}
    ctx.memory["n"] = 5
    ctx.memory["bought"].append("B")
    assert ctx.memory == {"bought": ["A"], "n": 1}


def test_random_numbers_are_those_of_the_seed_and_the_pulse() -> None:
    def draw(**changes) -> list[float]:
        return context(**changes).rng.random(4).tolist()

    assert draw() == draw()
    draws = [draw(), draw(pulse=4), draw(seed=8), draw(seed=3, pulse=7)]
    assert len({tuple(numbers) for numbers in draws}) == 4
    ctx = context()
    assert ctx.rng.random() != ctx.rng.random()  # one generator a pulse, not a new one at each mention


# weights, flat, hold, targets


def test_flat_and_hold_and_targets() -> None:
    ctx = context()
    assert ctx.flat().as_dict() == {"A": 0.0, "B": 0.0, "C": 0.0}
    assert ctx.hold().as_dict() == {"A": 0.0, "B": 2.5, "C": 0.0}
    assert ctx.targets([1, 2, 3]).as_dict() == {"A": 1.0, "B": 2.0, "C": 3.0}
    held = ctx.hold()
    held["B"] = 9
    assert ctx.position("B") == 2.5 and ctx.hold()["B"] == 2.5


def test_targets_do_not_follow_later_changes_of_the_vector() -> None:
    vector = np.array([1.0, 2.0, 3.0])
    targets = context().targets(vector)
    vector[:] = 0
    assert targets.as_dict() == {"A": 1.0, "B": 2.0, "C": 3.0}


def test_weights_are_of_equity_at_the_close() -> None:
    ctx = context(equity=3100.0)
    assert ctx.weights({"C": 0.5, "A": -0.11}).as_dict() == {"A": -0.11 * 3100 / 11, "B": 0.0, "C": 0.5 * 3100 / 31}
    assert ctx.weights(np.array([0.0, 0.0, 0.5])).as_dict() == {"A": 0.0, "B": 0.0, "C": 50.0}
    assert ctx.weights({}).as_dict() == ctx.flat().as_dict()


def test_whole_shares_are_cut_towards_zero_on_the_grid_of_quantities() -> None:
    def whole(weight: float, equity: float) -> float:
        ctx = context(universe=("A",), equity=equity, fields=np.full((5, 1), 1.0))
        return ctx.weights({"A": weight}, whole=True)["A"]

    assert whole(0.5, 31.0) == 15.0
    assert whole(-0.5, 31.0) == -15.0
    assert 0.29 * 100 < 29  # what float64 makes of it
    assert whole(0.29, 100.0) == 29.0
    assert whole(0.289999, 100.0) == 28.0


@pytest.mark.parametrize(
    "weights, told",
    [
        ({"Z": 0.1}, r"'Z' is not in ctx.universe at this pulse \(A, B, C\)"),
        ({"B": float("nan")}, "weights: the weight of B is not a finite number"),
        ({"C": float("inf")}, "weights: the weight of C is not a finite number"),
        ({"A": None}, "weights: the weight of A is not a finite number"),
        ({"A": "half"}, "weights: .* is not a vector of numbers"),
        ([0.5], r"weights: the vector has shape \(1,\); the universe has 3 symbols"),
        (0.5, r"weights: the vector has shape \(\)"),
        (["A", "B", "C"], "weights: .* is not a vector of numbers"),
    ],
)
def test_weights_that_cannot_be_meant(weights, told) -> None:
    with pytest.raises(InputError, match=told):
        context().weights(weights)


def test_a_vector_of_the_wrong_length_is_no_targets() -> None:
    with pytest.raises(InputError, match=r"targets: the vector has shape \(2,\); the universe has 3 symbols"):
        context().targets([1.0, 2.0])


# history


def past() -> Past:
    """Four bars of A (no bar at the second) and of B, with a 2-for-1 split of B at the last."""
    kept = Past(10, 2)
    for t in range(4):
        fields = np.array([[t + 0.5, 40.0], [t + 2.0, 44.0], [t + 0.0, 36.0], [t + 1.0, 42.0], [10.0, 7.0]])
        if t == 1:
            fields[:, 0] = np.nan
        if t == 3:
            fields[:4, 1] /= 2
            fields[4, 1] = 14.0
        kept.add(t * DAY, fields, np.array([1.0, 2.0 if t == 3 else 1.0]))
    return kept


def test_history_is_the_last_bars_of_one_symbol() -> None:
    ctx = context(past=past(), columns={"A": 0, "B": 1})
    bars = ctx.history("A", 2)
    assert bars.close.tolist() == [3.0, 4.0] and bars.open.tolist() == [2.5, 3.5]
    assert bars.ts.astype("datetime64[D]").astype(str).tolist() == ["1970-01-03", "1970-01-04"]
    assert ctx.history("A", np.int64(50)).close.tolist() == [1.0, 3.0, 4.0]  # fewer when there are fewer
    assert [len(getattr(bars, name)) for name in ("open", "high", "low", "close", "volume")] == [2] * 5


def test_history_is_in_the_split_basis_of_the_pulse() -> None:
    bars = context(past=past(), columns={"A": 0, "B": 1}).history("B", 4)
    assert bars.close.tolist() == [21.0] * 4  # 42 before the split is 21 after it
    assert bars.high.tolist() == [22.0] * 4
    assert bars.volume.tolist() == [14.0] * 4


def test_history_hands_out_copies() -> None:
    kept = past()
    context(past=kept, columns={"A": 0, "B": 1}).history("B", 4).close[:] = 0
    assert context(past=kept, columns={"A": 0, "B": 1}).history("B", 4).close.tolist() == [21.0] * 4


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3", None])
def test_history_needs_a_whole_number_of_bars(n) -> None:
    with pytest.raises(InputError, match="history: n is"):
        context(past=past()).history("A", n)


def test_history_that_was_not_prepared() -> None:
    with pytest.raises(InputError, match="call ctx.history by its name"):
        context().history("A", 1)


# through a run


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> lp.Snapshot:
    """Six days of A, and of B from the third day on; A splits 2 for 1 on the fifth."""
    times = pd.date_range("2024-01-01", periods=6, tz="UTC")
    close = [10.0, 11.0, 12.0, 13.0, 7.0, 8.0]
    prices = dict.fromkeys(["open", "high", "low", "close"], close)
    a = pd.DataFrame({"symbol": "A", "ts": times, **prices, "volume": 5.0})
    b = a.iloc[2:].assign(symbol="B")
    split = pd.DataFrame({"symbol": ["A"], "ex_date": [times[4]], "kind": ["SPLIT"], "value": [2.0]})
    return lp.seal(pd.concat([a, b]), snapshot_id="six", root=tmp_path_factory.mktemp("snapshots"), actions=split)


def seen(snapshot: lp.Snapshot, expression: str, seed: int = 0) -> list:
    """What `expression` is at each pulse, by way of the memory that the ledger keeps."""
    text = (
        "def strategy(ctx, params):\n    targets = ctx.hold()\n"
        f"    targets.remember({{'seen': [*ctx.memory.get('seen', []), {expression}]}})\n    return targets\n"
    )
    ledger = lp.run(lp.experiment(text, costs=[]), snapshot, seed=seed).ledger
    return json.loads(ledger[ledger["kind"] == "DECIDED"]["payload"].iloc[-1])["memory"]["seen"]


def test_a_run_gives_each_pulse_its_own_universe_and_bars(snapshot) -> None:
    assert seen(snapshot, "ctx.universe") == [["A"]] * 2 + [["A", "B"]] * 4
    assert seen(snapshot, "ctx.close('A')") == [10, 11, 12, 13, 7, 8]
    assert seen(snapshot, "ctx.now.day") == [1, 2, 3, 4, 5, 6]
    assert seen(snapshot, "ctx.closes.tolist()")[2] == [12, 12]
    assert seen(snapshot, "ctx.history('A', 3).close.tolist()") == [
        [10], [10, 11], [10, 11, 12], [11, 12, 13], [6, 6.5, 7], [6.5, 7, 8],
    ]  # fmt: skip
    assert seen(snapshot, "len(ctx.history(ctx.universe[-1], 9).ts)") == [1, 2, 1, 2, 3, 4]


def test_a_run_draws_the_same_numbers_again_and_others_with_another_seed(snapshot) -> None:
    one, again, other = (seen(snapshot, "ctx.rng.random()", seed) for seed in (1, 1, 2))
    assert one == again and len(set(one)) == 6 and not set(one) & set(other)


def test_memory_keeps_numbers_that_json_would_write_as_too_large_an_integer(snapshot) -> None:
    volumes = seen(snapshot, "(ctx.memory.get('seen') or [12e15])[-1] + 2e15")
    assert volumes == [14e15, 16e15, 18e15, 20e15, 22e15, 24e15]
