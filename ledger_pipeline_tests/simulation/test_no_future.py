"""No way to see the future: every object that an attribute path leads to from ctx, searched for prices yet to come.

All prices and feature values are unique, so that any of them says from which bar it is.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping

import numpy as np
import pytest

import ledger_pipeline as lp
from ledger_pipeline.simulation.price_simulator import simulate
from ledger_pipeline_tests import small

T, SYMBOLS = 7, ("A", "B", "C")


def price(t: int, i: int, close: bool) -> float:
    return 100.0 + t + i / 8 + close / 64


PRICES = {
    symbol: [None if (t, symbol) in {(0, "C"), (3, "B")} else (price(t, i, False), price(t, i, True)) for t in range(T)]
    for i, symbol in enumerate(SYMBOLS)
}
FEATURES = 5000.0 + np.arange(T * 2 * 3).reshape(T, 2, 3)
PLAIN = (str, bytes, bool, int, complex, type(None), type(...), type(NotImplemented))


def future(t: int) -> set[float]:
    """Values that only later bars hold, those of the grid and those in the split basis of the pulse."""
    prices = {price(s, i, close) for s in range(t + 1, T) for i in range(3) for close in (False, True)}
    return prices | {p / 2 for p in prices} | {p * 2 for p in prices} | set(FEATURES[t + 1 :].ravel().tolist())


def is_ours(item: object) -> bool:
    return getattr(type(item), "__module__", "").startswith("ledger_pipeline.")


def neighbours(item: object):
    """What one step along an attribute, item, closure, base or call without arguments leads to."""
    if isinstance(item, PLAIN):
        return
    if isinstance(item, np.ndarray):
        yield item.base
        if item.dtype == object:
            yield from item.tolist()
        return
    if isinstance(item, types.ModuleType):
        if item.__name__.startswith("ledger_pipeline"):
            yield vars(item)
        return
    if isinstance(item, Mapping):
        yield from item.keys()
        yield from item.values()
        if type(item) is dict:
            return
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
        if type(item) in (list, tuple, set, frozenset):
            return
    if isinstance(item, (types.FunctionType, types.MethodType)):
        yield getattr(item, "__self__", None)
        function = getattr(item, "__func__", item)
        for cell in function.__closure__ or ():
            yield cell.cell_contents
        yield function.__defaults__
        yield function.__kwdefaults__
        yield vars(function)
        if function.__module__.startswith("ledger_pipeline."):
            yield function.__globals__
        return
    if isinstance(item, property):
        yield from (item.fget, item.fset, item.fdel)
        return
    if isinstance(item, (memoryview, np.generic)):
        yield getattr(item, "base", None)
        return
    if isinstance(item, type) and not item.__module__.startswith("ledger_pipeline."):
        return
    if isinstance(item, type) or is_ours(item):
        names = set(dir(item)) | {slot for kind in type(item).__mro__ for slot in getattr(kind, "__slots__", ())}
        for name in sorted(names - {"__abstractmethods__"}):
            try:
                value = getattr(item, name)
            except Exception:
                continue
            yield value
            if is_ours(item) and not name.startswith("__") and isinstance(value, types.MethodType):
                parameters = inspect.signature(value).parameters.values()
                if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
                    yield value()
        yield getattr(item, "__dict__", None)


def reachable(start: list[object]) -> tuple[set[float], int]:
    """All floats and array elements that can be reached, and how many objects were looked at."""
    found: set[float] = set()
    seen: dict[int, object] = {}
    queue = list(start)
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, float):
            found.add(float(item))
        elif isinstance(item, np.ndarray) and item.dtype.kind == "f":
            found.update(item.ravel().tolist())
        elif isinstance(item, (memoryview, np.generic)):
            found.update(
                np.asarray(item).ravel().astype(float).tolist() if np.asarray(item).dtype.kind in "fiu" else []
            )
        queue.extend(neighbours(item))
    return found, len(seen)


def attacked(tmp_path, **options):
    """Run a strategy that searches at each pulse; what it found by pulse."""
    found = []

    def strategy(ctx, params):
        histories = []
        if options.get("uses_history"):
            histories = [ctx.history(symbol, 10**6) for symbol in ctx.universe]
            histories += [vars(history) for history in histories]
        for symbol in ctx.universe:
            ctx.close(symbol), ctx.feature(symbol, "one"), ctx.position(symbol), ctx.open(symbol), ctx.volume(symbol)
        start = [ctx, params, histories, ctx.rng, ctx.memory, ctx.flat(), ctx.hold(), ctx.weights({}), ctx.closes]
        values, looked_at = reachable(start)
        found.append((values, looked_at))
        targets = ctx.targets(np.arange(len(ctx.universe)) + 1.0 + ctx.now.day / 4)
        return targets.remember({"closes": ctx.closes.tolist()}).because(ctx.universe[0], "SEEN")

    simulate(
        small.inputs(
            tmp_path, PRICES, strategy, features=FEATURES, feature_names=("one", "two"),
            costs=({"spread_bps": 5.0},), risk=({"max_gross": 5.0},), params={"limits": {"A": [1.0]}}, **options,
        )
    )  # fmt: skip
    return found


@pytest.mark.parametrize("splits", [(), [("A", 4, 2), ("B", 3, 0.5)]])
@pytest.mark.parametrize("uses_history", [False, True])
def test_nothing_of_a_later_bar_is_reachable_from_ctx(tmp_path, uses_history, splits) -> None:
    found = attacked(tmp_path, uses_history=uses_history, splits=splits)
    assert len(found) == T
    for t, (values, looked_at) in enumerate(found):
        assert looked_at > 200
        assert values & future(t) == set()
        present = [i for i, symbol in enumerate(SYMBOLS) if PRICES[symbol][t] is not None]
        assert {price(t, i, True) for i in present} <= values  # the search sees what is there to be seen
        assert {float(FEATURES[t, 1, i]) for i in present} <= values
        if uses_history and not splits:
            assert {price(s, 0, True) for s in range(t + 1)} <= values


def test_the_search_would_find_the_future_where_it_can_be_reached(tmp_path) -> None:
    """The same search from the grid, from a view's base, a closure and a property finds everything."""
    cells = small.inputs(tmp_path, PRICES, lambda ctx, params: None).grid
    view = cells.fields[0][:, :1]
    kept = cells.fields
    for start in ([cells], [view], [lambda: kept], [{"a": [(cells.fields,)]}]):
        assert price(T - 1, 0, True) in reachable(start)[0]


def test_an_earlier_ctx_learns_nothing(tmp_path) -> None:
    """Everything that the ctx of each pulse said then, it says at the end."""
    kept = []

    def told(ctx):
        vectors = [ctx.opens, ctx.highs, ctx.lows, ctx.closes, ctx.volumes, ctx.positions, ctx.feature_values("one")]
        rows = [[ctx.close(s), ctx.position(s), ctx.feature(s, "two")] for s in ctx.universe]
        plain = (ctx.now, ctx.universe, ctx.cash, ctx.equity, ctx.memory, ctx.hold().as_dict())
        return [vector.tolist() for vector in vectors], rows, plain

    def strategy(ctx, params):
        kept.append((ctx, told(ctx)))
        return ctx.targets(np.full(len(ctx.universe), float(len(kept)))).remember({"n": len(kept)})

    simulate(small.inputs(tmp_path, PRICES, strategy, features=FEATURES, feature_names=("one", "two"), cash=1e6))
    assert len(kept) == T
    for ctx, then in kept:
        assert told(ctx) == then


def test_vectors_and_params_are_read_only(tmp_path) -> None:
    tried = []

    def strategy(ctx, params):
        for vector in (
            ctx.opens,
            ctx.highs,
            ctx.lows,
            ctx.closes,
            ctx.volumes,
            ctx.positions,
            ctx.feature_values("one"),
        ):
            with pytest.raises(ValueError, match="read-only"):
                vector[0] = 1.0
            tried.append(vector)
        with pytest.raises(TypeError):
            params["limits"] = 1
        with pytest.raises(TypeError):
            params["limits"]["A"] = 1
        with pytest.raises((TypeError, AttributeError)):
            params["limits"]["A"].append(1)
        ctx.memory["x"] = 1
        assert ctx.memory == {}
        return ctx.hold()

    simulate(
        small.inputs(
            tmp_path, PRICES, strategy, features=FEATURES, feature_names=("one", "two"), params={"limits": {"A": [1.0]}}
        )
    )
    assert len(tried) == 7 * T


def test_a_changed_target_vector_changes_no_position(tmp_path) -> None:
    """The vector behind ctx.hold() is that of ctx.positions: writing to it fails, and assigning leaves it alone."""
    positions = []

    def strategy(ctx, params):
        positions.append(ctx.positions.tolist())
        targets = ctx.hold()
        with pytest.raises(ValueError, match="read-only"):
            targets.vector[:] = 5.0
        targets["A"] = 2.0
        assert ctx.positions.tolist() == positions[-1]
        return targets

    simulate(small.inputs(tmp_path, {"A": [1, 1, 1]}, strategy))
    assert positions == [[0.0], [2.0], [2.0]]


def test_params_of_a_run_are_read_only(tmp_path) -> None:
    def strategy(ctx, params):
        params["plan"]["x"] = 1
        return ctx.flat()

    snapshot = small.seal(tmp_path, {"A": [1, 1]})
    with pytest.raises(lp.LedgerPipelineError, match="mappingproxy|params"):
        lp.run(lp.experiment(strategy, params={"plan": {}}, costs=[]), snapshot)
