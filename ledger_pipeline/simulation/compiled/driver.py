"""The module that numba compiles: a lowered decision and the loop over bars around it, and where it is kept on disk.

A module is named after a hash of its own text, of the kernel that it calls and of the versions it is compiled by, so
nothing stale is ever used. It is written to the user's cache directory (XDG_CACHE_HOME, else ~/.cache; a temporary one
where that cannot be written), beside what numba makes of it, and may be deleted at any time.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np

from ledger_pipeline.core.errors import StorageError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.files import location, write_file
from ledger_pipeline.simulation import costs, kernel
from ledger_pipeline.simulation.compiled.lowering import Lowered, params_of

DONE, GROW, BANKRUPT, WRONG = range(4)  # why a stretch of bars ended
MEMORIES = 1 << 30  # from here on a payload is a row of memories

_HEAD = '''"""Compiled by ledger_pipeline.simulation.compiled.driver; may be deleted at any time."""

import math

import numba
import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.simulation.kernel import LIMIT, all_below, plan_orders, settle_orders

lp_nan = np.nan
CODES = {codes}
MEMORIES = 1 << 30  # from here on a payload is a row of memories
compiled = numba.njit(cache=True, error_model="python")


@compiled
def lp_exact(x):
    """A whole number in Python is exact however large; here only up to 2**53, and beyond it the interpreter answers."""
    if abs(x) > 9007199254740992.0:
        raise ValueError
    return x


@compiled
def lp_flat(n, expected, vector, invest, why, fresh):
    fresh[0] = 0
    for u in range(n):
        vector[u] = 0.0
        invest[u] = np.nan
        why[u] = -1


@compiled
def lp_hold(n, expected, vector, invest, why, fresh):
    fresh[0] = 0
    for u in range(n):
        vector[u] = expected[u]
        invest[u] = np.nan
        why[u] = -1


@compiled
def lp_because(why, u, code):
    if why[u] < 0:
        why[u] = code
        return False
    if why[u] >= CODES:  # a third code for one symbol
        return True
    why[u] = CODES + why[u] * CODES + code
    return False


@compiled
def lp_put(vector, invest, u, cash):
    if not (cash > 0.0 and cash < np.inf):
        return True
    vector[u] = 0.0
    invest[u] = cash
    return False


@compiled
def lp_add(a, b):
    return lp_exact(a + b)


@compiled
def lp_sub(a, b):
    return lp_exact(a - b)


@compiled
def lp_mul(a, b):
    return lp_exact(a * b)


@compiled
def lp_div(a, b):
    if b == 0.0:
        raise ZeroDivisionError
    return a / b


@compiled
def lp_given(known, value, default):
    return value if known != 0 else default


@compiled
def lp_remembered(known, value, other):
    return known != 0 and value == other


@compiled
def lp_there(place):
    if place < 0:
        raise IndexError
    return place


@compiled
def lp_sqrt(x):
    if x < 0.0:
        raise ValueError
    return math.sqrt(x)


@compiled
def lp_min(a, b):
    return b if b < a else a


@compiled
def lp_max(a, b):
    return b if b > a else a


@compiled
def lp_sum(values):
    total = 0.0
    for value in values:
        total += value
    return total


@compiled
def lp_sorted(symbols, keys):
    """Stable, as Python sorts."""
    for key in keys:
        if np.isnan(key):  # an order that depends on how it is sorted
            raise ValueError
    place = np.argsort(np.array(keys), kind="mergesort")
    return [symbols[k] for k in place]


@compiled
def lp_dict(n):
    """Numbers by symbol: values, whether there is one, the symbols in the order in which they came, their number."""
    return np.zeros((3, n + 1))


@compiled
def lp_dict_set(d, u, value):
    if d[1, u] == 0.0:
        size = d.shape[1] - 1
        d[1, u] = 1.0
        d[2, int(d[2, size])] = u
        d[2, size] += 1.0
    d[0, u] = value


@compiled
def lp_dict_at(d, u):
    if d[1, u] == 0.0:
        raise IndexError
    return d[0, u]


@compiled
def lp_dict_get(d, u, default):
    return d[0, u] if d[1, u] != 0.0 else default


@compiled
def lp_dict_size(d):
    return int(d[2, d.shape[1] - 1])


@compiled
def lp_dict_sum(d):
    total = 0.0
    for k in range(lp_dict_size(d)):
        total += d[0, int(d[2, k])]
    return total


@compiled
def lp_weights(n, d, whole, fields, equity, vector, invest, why, fresh):
    """As ctx.weights: weight x equity / close, what is not named zero."""
    fresh[0] = 0
    for u in range(n):
        weight = d[0, u] if d[1, u] != 0.0 else 0.0
        if not np.isfinite(weight):
            raise ValueError
        vector[u] = weight * equity / fields[3, u]
        if whole:
            vector[u] = np.trunc(np.rint(vector[u] * 1e9) / 1e9)
        invest[u] = np.nan
        why[u] = -1


@compiled
def lp_floor(x):
    if not np.isfinite(x):
        raise ValueError
    return lp_exact(np.floor(x))


@compiled
def lp_ceil(x):
    if not np.isfinite(x):
        raise ValueError
    return lp_exact(np.ceil(x))


@compiled
def lp_log(x):
    if x <= 0.0:
        raise ValueError
    return math.log(x)


@compiled
def lp_log1p(x):
    if x <= -1.0:
        raise ValueError
    return math.log1p(x)


@compiled
def lp_log2(x):
    if x <= 0.0:
        raise ValueError
    return np.log2(x)


@compiled
def lp_log10(x):
    if x <= 0.0:
        raise ValueError
    return math.log10(x)


@compiled
def lp_exp(x):
    value = math.exp(x)
    if np.isinf(value) and not np.isinf(x):
        raise OverflowError
    return value


@compiled
def lp_expm1(x):
    value = math.expm1(x)
    if np.isinf(value) and not np.isinf(x):
        raise OverflowError
    return value


@compiled
def lp_same(a, b):
    if len(a) != len(b):
        return False
    for k in range(len(a)):
        if a[k] != b[k]:
            return False
    return True


@compiled
'''

_LOOP = """

@compiled
def drive(
    t, stop, columns, dense, named, fields, features, opens, marks, due_table, has_due, opened, has_opened, ones,
    rate_of, positions, held, book, codes, amounts, allow_negative, whole_cents, long_only, outcomes, reason_of, orders,
    open_orders, numbers, events, count, state, memos, memo_count, vector, invest, why, expected, view, values,
    view_held, due, clock, known, memory, next_memory, fresh, memories, memories_count, limits{params}
):
    n, everything = len(columns), len(positions)
    none = np.empty(0)
    no_codes = np.empty(0, np.int64)
    reasons = np.empty(n, np.int64)
    payloads = np.empty(n, np.int64)
    cash_of = np.empty(n)
    worth = np.empty(everything)
    changes = np.empty((2, n), np.int64)
    while t < stop:
        waiting = open_orders[0]
        if waiting + n > len(orders) or count[0] + 2 * waiting + n + 2 > len(events):
            return t, 1
        if memo_count[0] + n > len(memos) or memories_count[0] >= len(memories):
            return t, 1
        if waiting > 1 and has_opened:  # by the time of the open, the order kept where that is the same
            for k in range(1, waiting):
                if opened[t, orders[k].symbol] < opened[t, orders[k - 1].symbol]:
                    before = orders[:waiting].copy()
                    times = np.array([opened[t, before[j].symbol] for j in range(waiting)])
                    place = np.argsort(times, kind="mergesort")
                    for j in range(waiting):
                        orders[j] = before[place[j]]
                    break
        value = settle_orders(
            t, orders, open_orders, opens[t], marks[t], ones, rate_of, positions, held, book, codes, amounts,
            allow_negative, whole_cents, outcomes, events, count, worth,
        )
        equity = book[0] + value
        if state[0] != 0 and equity <= 0.0:
            return t, 2
        if equity > 0.0:
            state[0] = 1
        waiting = open_orders[0]
        if dense:
            bar, values_known, own = fields[t], features[t], held
        else:
            for u in range(n):
                for f in range(5):
                    view[f, u] = fields[t, f, columns[u]]
                for k in range(features.shape[1]):
                    values[k, u] = features[t, k, columns[u]]
                view_held[u] = held[columns[u]]
            bar, values_known, own = view, values, view_held
        for u in range(n):
            expected[u] = held[columns[u]]
        if waiting > 0:
            whole = held.copy()
            for k in range(waiting):
                whole[orders[k].symbol] += orders[k].side * orders[k].units / UNITS
            for u in range(n):
                expected[u] = whole[columns[u]]
        answer = decide(
            n, bar, values_known, own, expected, book[0], equity, named, clock[t], known, memory, vector, invest, why,
            next_memory, fresh{params}
        )
        if answer != 0:
            return t, 3
        if not all_below(vector[:n], LIMIT / UNITS):
            return t, 3
        detailed = False
        for u in range(n):
            detailed |= why[u] >= 0 or not np.isnan(invest[u])
        if long_only:
            for u in range(n):
                if vector[u] < -0.5 / UNITS:
                    state[1] += 1
        for limit in limits:  # NaN stands for long_only, a number for max_weight, in the order of the steps
            if np.isnan(limit):
                for u in range(n):
                    if vector[u] < 0.0:
                        vector[u] = 0.0
            else:
                allowed = max(limit * equity, 0.0)
                for u in range(n):
                    cap = allowed / bar[3, u]
                    if vector[u] < -cap:
                        vector[u] = -cap
                    elif vector[u] > cap:
                        vector[u] = cap
        remembered = -1
        if fresh[0] != 0:
            same = known[0] != 0
            for k in range(len(memory)):
                if not np.isfinite(next_memory[k]):
                    return t, 3
                same &= memory[k] == next_memory[k]
            if not same:
                for k in range(len(memory)):
                    memory[k] = next_memory[k]
                    memories[memories_count[0], k] = next_memory[k]
                known[0] = 1
                remembered = MEMORIES + memories_count[0]
                memories_count[0] += 1
        if detailed:
            for u in range(n):
                reasons[u] = reason_of[why[u]] if why[u] >= 0 else -1
                payloads[u] = -1
                cash_of[u] = invest[u]
                if not np.isnan(invest[u]):
                    memos[memo_count[0]] = invest[u]
                    payloads[u] = -2 - memo_count[0]
                    memo_count[0] += 1
        for i in range(everything):
            due[i] = due_table[t, i] if has_due else t + 1
        if detailed:
            open_orders[0] = plan_orders(
                t, vector[:n], cash_of, columns, positions, reasons, payloads, remembered, due, orders, waiting,
                numbers, events, count, changes,
            )
        else:
            open_orders[0] = plan_orders(
                t, vector[:n], none, columns, positions, no_codes, no_codes, remembered, due, orders, waiting,
                numbers, events, count, changes,
            )
        t += 1
    return t, 0
"""


def load(lowered: Lowered) -> Callable[..., tuple[int, int]]:
    """The compiled loop of a decision, read from disk where it was compiled before. Its first call compiles else.
    StorageError when nothing can be written.
    """
    return _module(_text(lowered)).drive


def is_cached(lowered: Lowered) -> bool:
    """Whether the loop was compiled before, on this machine and by these versions."""
    path = _path(_text(lowered))
    return any(path.parent.glob(f"__pycache__/{path.stem}.drive-*.nbc"))


def _text(lowered: Lowered) -> str:
    given = "".join(f", {name}" for name in params_of(lowered.params, lowered.bounds))
    head = _HEAD.replace("{codes}", str(max(len(lowered.reasons), 1)))
    return head + lowered.text + _LOOP.replace("{params}", given)


@functools.lru_cache(maxsize=64)
def _module(text: str) -> ModuleType:
    path = _path(text)
    if not path.exists():
        write_file(location(path), text.encode())
    name = f"ledger_pipeline_compiled_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=64)
def _path(text: str) -> Path:
    key = hash_json({"text": text, "kernel": _kernel(), "numba": numba.__version__, "numpy": np.__version__})[:24]
    return _folder() / f"strategy_{key}.py"


@functools.cache
def _kernel() -> str:
    """A hash of the compiled functions that a module calls, whose own cache would not notice a change."""
    texts: list[Any] = [Path(str(module.__file__)).read_text() for module in (kernel, costs)]
    return hash_json(texts)


@functools.cache
def _folder() -> Path:
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger_pipeline" / "compiled"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
    except OSError:
        pass
    try:
        return Path(tempfile.mkdtemp(prefix="ledger_pipeline-compiled-"))
    except OSError as error:
        raise StorageError(f"there is no place for compiled strategies: {error}.") from None
