"""Compiled simulation: the same ledger as the interpreter's, to the bit, or none at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError
from ledger_pipeline.simulation.compiled import choice
from ledger_pipeline.simulation.compiled.assignment import NotCompilable
from ledger_pipeline.simulation.compiled.lowering import lower
from ledger_pipeline.strategy.preflight import preflight
from ledger_pipeline_tests import small

# A dict by symbol, sorted symbols, the first so many, what the clock says, and numbers that are remembered.
REMEMBERING = """
def strategy(ctx, params):
    week = ctx.now.year * 100 + ctx.now.dayofyear // 1 if False else ctx.now.month * 40 + ctx.now.day
    if ctx.memory.get("week") == week:
        return ctx.hold()
    worth = {symbol: ctx.close(symbol) * (1 + ctx.now.weekday()) for symbol in ctx.universe if ctx.volume(symbol) > 0}
    known = [symbol for symbol in ctx.universe if worth.get(symbol, -1.0) > 0 and worth[symbol] < 150]
    best = sorted(known, key=lambda symbol: -worth[symbol])[: params["times"]]
    sizes = {}
    for symbol in best:
        sizes[symbol] = params["share"] * ctx.equity / ctx.close(symbol) / 4
    if not sizes:
        return ctx.flat()
    targets = ctx.hold()
    targets.remember({"week": week + 2, "sum": sum(sizes.values()) + ctx.memory.get("sum", 0.25)})
    for symbol in ctx.universe:
        if symbol in best:
            targets[symbol] = sizes[symbol] / (abs(sum(sizes.values())) + 1.0) * len(sizes)
            targets.because(symbol, "BEST")
        elif symbol != "B":
            targets[symbol] = 0
    return targets
""".replace("ctx.now.year * 100 + ctx.now.dayofyear // 1 if False else ", "")

FEATURES = {"fast": {"indicator": "sma", "window": 2}, "slow": {"indicator": "sma", "window": 4}}

# Lists of symbols, a written symbol, two reasons for one symbol, sums, min and max, a while, a conditional reason.
MANY = '''
import math

def strategy(ctx, params):
    """params: share, most, depth."""
    rising = [symbol for symbol in ctx.universe if ctx.feature(symbol, "fast") > ctx.feature(symbol, "slow")]
    held = [symbol for symbol in ctx.universe if ctx.position(symbol) != 0 and symbol != "C"]
    if rising == held or not rising:
        return ctx.hold()
    total = max(ctx.cash, 0) + sum(ctx.position(symbol) * ctx.close(symbol) for symbol in ctx.universe if symbol in held)
    targets = ctx.flat()
    count = 0
    for symbol in ctx.universe:
        if symbol in rising:
            size = params["share"] * total / len(rising) / ctx.close(symbol)
            spread = math.sqrt(math.fabs(ctx.high(symbol) - ctx.low(symbol)) + 1.0)
            targets[symbol] = min(size / spread, params["most"], 1e6)
            targets.because(symbol, "UP" if symbol in held else "CROSSED")
            count += 1
        elif symbol == "A":
            targets.because(symbol, "DOWN", "IS_A")
        else:
            targets[symbol] = -params["depth"] if count > 1 and ctx.volume(symbol) > 0 else 0
            targets.because(symbol, "DOWN")
            targets.because(symbol, "SHORT")
    left = 3
    while left > 0 and ctx.equity > 0:
        left -= 1
        if left == 1:
            break
    if "B" in ctx.universe and left == 1:
        targets["B"] = abs(ctx.open("B") - ctx.close("B"))
    return targets
'''
# Cash to invest, taken back, and in place of a quantity.
INVESTING = """
def strategy(ctx, params):
    targets = ctx.hold()
    free = ctx.cash
    for symbol in ctx.universe:
        for k in range(params["times"]):
            if free > params["amount"] * (k + 1) and ctx.close(symbol) < ctx.feature(symbol, "slow"):
                targets.invest(symbol, params["amount"])
                targets.because(symbol, "CHEAP")
                free -= params["amount"]
                if k == 1:
                    targets[symbol] = ctx.position(symbol) / 2
    return targets
"""


def experiment(text: str, **changes):
    given = {"params": {"share": 0.9, "most": 12.5, "depth": 2, "times": 2, "amount": 30.0}, "features": FEATURES}
    given |= {"costs": [], "opening": {"cash": 500}, "name": "both"}
    return lp.experiment(text, **given | changes)


def both(item, snapshot):
    """The run by the interpreter and by compiled code, which must answer itself."""
    one = lp.run(item, snapshot, compiled="never")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_interpreted", lambda inputs: pytest.fail("the interpreter answered"))
        other = lp.run(item, snapshot, compiled="always")
    assert other.events.head == one.events.head and other.metrics == one.metrics and other.warnings == one.warnings
    return other


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Compiled code of this test run is kept for all its processes, and nowhere else."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    from ledger_pipeline.simulation.compiled import driver

    monkeypatch.setattr(driver, "_folder", lambda: _made(shared / "compiled"))


def _made(path):
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "sma_long_flat_20",
        "sma_crossover",
        "rsi_mean_reversion",
        "equal_weights",
        "inverse_volatility",
        "momentum_top_2",
    ],
)
def test_bundled_strategies_are_the_same(name) -> None:
    from ledger_pipeline_tests.projects import CHECKOUT

    item = lp.Catalogue(CHECKOUT / "strategies").experiment(name)
    run = both(item, lp.open_snapshot("demo", root=CHECKOUT / "snapshots"))
    assert len(run.fills) > 50
    assert choice._checked[_text(item)] is None  # it was compared with the interpreter, and nothing differed


def _text(item):
    return lower(item.source, [feature.alias for feature in item.features], item.spec.params).text


UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a market is small, and making it smaller takes minutes


@st.composite
def situations(draw):
    """A market with late listings, halts, splits, dividends and another order of the universe; costs, cash rules and
    deposits.
    """
    length = draw(st.integers(12, 30))
    listed = {}
    for symbol in "ABC":
        values = [
            None if draw(st.integers(0, 9)) == 0 else (float(draw(st.integers(2, 40))), float(draw(st.integers(2, 40))))
            for _ in range(length)
        ]
        first = draw(st.integers(0, 4))
        listed[symbol] = [None] * first + values[first:]
    listed["A"] = [value or (10.0, 11.0) for value in listed["A"]]
    days = st.integers(1, length - 1)
    splits = [("A", draw(days), float(draw(st.sampled_from([2.0, 0.5, 3.0]))))] if draw(st.booleans()) else []
    dividends = [("A", draw(days), 0.37)] if draw(st.booleans()) else []
    options = {
        "costs": draw(st.sampled_from([[], [{"spread_bps": 10}, {"fixed_fee": 0.5}], [{"per_share_fee": 0.01}, {"minimum_fee": 1.0}]])),
        "cash_rule": draw(st.sampled_from(["require", "allow_negative"])),
        "cash_rounding": draw(st.sampled_from(["exact", "cents"])),
        "risk": draw(st.sampled_from([[], [], ["long_only"], [{"max_weight": 0.4}], ["long_only", {"max_weight": 0.2}]])),
        "universe": draw(st.sampled_from([None, ["C", "A", "B"]])),
        "deposits": draw(st.sampled_from([(), ({"amount": 50.0, "every": "week"},)])),
        "opening": {"cash": float(draw(st.sampled_from([0, 40, 500])))},
    }  # fmt: skip
    params = {
        "share": draw(st.sampled_from([0.9, 1.5, 1])), "most": draw(st.sampled_from([3.25, 1000.0])),
        "depth": draw(st.sampled_from([0.0, 4.5, 60.0])), "times": draw(st.integers(0, 2)),
        "amount": draw(st.sampled_from([7.5, 30.0])),
    }  # fmt: skip
    return listed, splits, dividends, options, params


@settings(max_examples=15, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(situations())
def test_whatever_the_market_the_ledger_is_the_same(tmp_path_factory, situation) -> None:
    same_in(tmp_path_factory, situation)


@pytest.mark.campaign
@settings(max_examples=600, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(situations())
def test_in_many_markets_the_ledger_is_the_same(tmp_path_factory, situation) -> None:
    same_in(tmp_path_factory, situation)


def same_in(tmp_path_factory, situation) -> None:
    listed, splits, dividends, options, params = situation
    snapshot = small.seal(tmp_path_factory.mktemp("s"), listed, splits=splits, dividends=dividends)
    params = {name: float(value) if name != "times" else value for name, value in params.items()}
    both(experiment(MANY, **options | {"params": params}), snapshot)
    both(experiment(REMEMBERING, **options | {"params": params}), snapshot)
    if not options["risk"]:
        both(experiment(INVESTING, **options | {"params": params}), snapshot)


def test_a_bankrupt_account_is_the_same(tmp_path) -> None:
    """Short 60 of each from the second rise on, and the prices go up fivefold."""
    up = [10, 11, 12, 13, 14, 13, 12, 11, 10, 40, 80, 160, 200, 210, 220]
    snapshot = small.seal(tmp_path, {"A": up, "B": up, "C": up}, dividends=[("B", 13, 1.0)])
    short = MANY.replace("if count > 1 and ctx.volume(symbol) > 0 else 0", "").replace('symbol == "A"', 'symbol == "Z"')
    short = short.replace('ctx.feature(symbol, "fast") > ctx.feature(symbol, "slow")', 'symbol == "A"')
    run = both(
        experiment(short, cash_rule="allow_negative", params={"share": 0.0, "most": 0.0, "depth": 60.0}), snapshot
    )
    assert "HALTED" in set(run.ledger["kind"])


@pytest.mark.parametrize(
    ("replaced", "by", "message"),
    [
        ("free -= params", "free = free / (ctx.cash - ctx.cash) - params", "ZeroDivisionError"),
        ('targets.invest(symbol, params["amount"])', "targets.invest(symbol, -1.0)", "above zero"),
        ("ctx.position(symbol) / 2", 'ctx.position("Q")', "is not in ctx.universe"),
        ("ctx.position(symbol) / 2", "1e300", "beyond 9,007,199 units"),
    ],
)
def test_what_raises_says_the_same_compiled(tmp_path, replaced, by, message) -> None:
    snapshot = small.seal(tmp_path, {"A": [30, 20, 10, 9, 8, 7, 6, 5, 4, 3], "B": [30, 20, 10, 9, 8, 7, 6, 5, 4, 3]})
    item = experiment(INVESTING.replace(replaced, by))
    said = []
    for mode in ("never", "always"):
        with pytest.raises(InputError, match=message) as caught:
            lp.run(item, snapshot, compiled=mode)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("body", "construct"),
    [
        ("x = ctx.history('A', 3)\n    return ctx.flat()", "line 2: `ctx.history('A', 3)`"),
        ("return {'A': 1}", "line 2: a return of anything but targets"),
        ("return ctx.targets(ctx.closes)", "line 2: a return of anything but targets"),
        ("m = ctx.memory\n    return ctx.flat()", "line 2: `ctx.memory`"),
        ("x = ctx.memory.get('n')\n    return ctx.flat()", "line 2: `ctx.memory.get('n')`"),
        ("x = ctx.now.isoformat()\n    return ctx.flat()", "line 2: `ctx.now.isoformat()`"),
        ("d = {1: 1}\n    return ctx.flat()", "line 2: `1` as a symbol"),
        ("t = ctx.flat()\n    t['A'] = True\n    return t", "line 3: `True`"),
        ("t = ctx.flat()\n    t['A'] = params['text']\n    return t", "line 3: the param 'text'"),
        ("t = ctx.flat()\n    t['A'] = params['missing']\n    return t", "line 3: the param 'missing'"),
        ("t = ctx.flat()\n    t['A'] = 2 ** 3\n    return t", "line 3: `2 ** 3`"),
        ("t = ctx.flat()\n    t['A'] = 7 // 2\n    return t", "line 3: `7 // 2`"),
        ("t = ctx.flat()\n    t['A'] = 10 ** 12 * 3\n    return t", "line 3: `10 ** 12`"),
        ("t = ctx.flat()\n    t['A'] = 1000000000000\n    return t", "line 3: `1000000000000`"),
        ("t = ctx.flat()\n    u = ctx.hold()\n    return t", "line 3: more than one name for targets"),
        ("t = ctx.flat()\n    for s in ctx.universe:\n        if s < 'B':\n            t[s] = 1\n    return t", "line 4: symbols compared by `<`"),
        ("t = ctx.flat()\n    for s in ctx.universe:\n        t[s] = s\n    return t", "line 4: `s` as a number"),
        ("t = ctx.flat()\n    for s in ctx.universe:\n        x = 1.0\n    t['A'] = x\n    return t", "line 5: `x`, which may have no value yet"),
        ("for s in ctx.universe:\n        return ctx.flat()", "a path that returns nothing"),
        ("t = ctx.flat()\n    t.because('A', params['text'])\n    return t", "line 3: the reason code"),
        ("t = ctx.flat()\n    t.remember({'n': 'x'})\n    return t", "line 3: `'x'`"),
        ("t = ctx.flat()\n    t.remember({})\n    return t", "line 3: `t.remember({})`"),
        ("t = ctx.flat()\n    t.remember({'n': 1})\n    t.remember({'m': 1})\n    return t", "under names that change"),
        ("t = ctx.flat()\n    t['A'] = ctx.closes.sum()\n    return t", "line 3: `ctx.closes.sum()`"),
        ("t = ctx.flat()\n    for s in sorted(ctx.universe):\n        t[s] = 1\n    return t", "line 3: a loop over `sorted(ctx.universe)`"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_is_named_with_its_line(body, construct) -> None:
    source = preflight(f"def strategy(ctx, params):\n    {body}\n").source
    with pytest.raises(NotCompilable) as caught:
        lower(source, ["fast"], {"text": "x", "n": 1})
    assert construct in str(caught.value)


# Where Python and naively compiled code part: each is refused, left to the interpreter, or the same.
GAPS = {
    "numbers as keys": "t['A'] = ctx.now.day\nif ctx.now.day > 4:\n    d = {k: 2.0 for k in range(2)}\n    t['C'] = d.get('A', 1.0)\nreturn t",
    "numbers in a list of symbols": "for s in [k for k in range(1000)]:\n    t[s] = 1.0\nreturn t",
    "numbers compared with a symbol": "a = [k for k in range(2)]\nif 'A' in a:\n    t['B'] = 3\nreturn t",
    "the variable of a dict": "for s in ctx.universe:\n    t[s] = ctx.now.day\n    d = {s: ctx.close(s) for s in ctx.universe if ctx.close(s) > 3}\n    t[s] = ctx.close(s) / (1 + len(d))\nreturn t",
    "a dict's variable afterwards": "d = {s: 1.0 for s in ctx.universe}\nt[s] = d['A']\nfor s in ctx.universe:\n    t[s] = 1\nreturn t",
    "a default that raises": "x = ctx.memory.get('x', ctx.close('Q'))\nt['C'] = x\nt.remember({'x': ctx.close('A')})\nreturn t",
    "a default that divides by zero": "x = ctx.memory.get('x', 1 / (ctx.cash - ctx.cash))\nt.remember({'x': 1.0})\nreturn t",
    "what is compared with memory raises": "if ctx.memory.get('x') == 1 / (ctx.cash - ctx.cash):\n    t['A'] = 1\nt.remember({'x': 1.0})\nreturn t",
    "large whole params": "t['A'] = params['n'] * params['n'] - (params['n'] - 1) * (params['n'] + 1)\nreturn t",
    "whole numbers without end": "x = 1\nfor k in range(45):\n    x = x * 3\nt['A'] = 4 + x / 1e30\nreturn t",
    "a doubled number": "x = 1\nfor k in range(64):\n    x = x * 2\nt['A'] = 5 if x > 0 else 1\nreturn t",
    "a remembered truth": "t.remember({'x': math.isfinite(ctx.close('A'))})\nt['A'] = 1\nreturn t",
    "an invested truth": "t.invest('A', math.isfinite(ctx.close('A')))\nreturn t",
    "an unused division": "a = [s for s in ctx.universe if ctx.close(s) > 6]\nx = ctx.cash / (ctx.now.day - 5)\nt['C'] = len(a)\nreturn t",
    "a long sum": "t['A'] = " + " + ".join(["0.01"] * 230) + "\nreturn t",
    "infinity by another name": "inf = 3.0\nbest = 1e999\nt['A'] = inf + min(best, 5.0)\nreturn t",
    "a bound from a dict": "d = {}\nd['A'] = 2.0\nfor k in range(d['A']):\n    t['A'] = k\nreturn t",
    "two written symbols": "if 'X' == 'Y':\n    t['A'] = 1\nreturn t",
    "targets as a number": "for t in range(2):\n    pass\nreturn t",
    "a shadowed name": "if ctx.cash < 0:\n    s = 'A'\nt['A'] = sum(ctx.close(s) for s in ctx.universe)\nreturn t",
    "len as a number": "len = 2.0\nt['A'] = len\nreturn t",
    "the universe by another name": "a = ctx.universe\nb = [s for s in ctx.universe]\nif a == b:\n    t['A'] = 1\nreturn t",
    "a list that grows": "a = [s for s in ctx.universe]\nfor s in a:\n    if len(a) < 6:\n        a.append(s)\nt['A'] = len(a)\nreturn t",
    "names of the same list": "a = [s for s in ctx.universe]\nb = a\nb.append('A')\nt['A'] = len(a)\nreturn t",
    "ties": "a = sorted([s for s in ctx.universe], key=lambda s: 1.0)\nfor s in a[:1]:\n    t[s] = 2\nreturn t",
    "missing keys": "d = {}\nif ctx.now.day > 3:\n    d['A'] = 2.0\nt['A'] = d['A']\nreturn t",
    "large volumes": "t['A'] = ctx.volume('A') * 1e15 / 1e18\nreturn t",
}  # fmt: skip


@pytest.mark.parametrize("name", GAPS)
def test_where_python_and_compiled_code_may_part_they_do_not(tmp_path, monkeypatch, name) -> None:
    """Without the check, which would have the interpreter answer."""
    monkeypatch.setattr(choice, "difference", lambda *a: None)
    body = "".join(f"    {line}\n" for line in ["t = ctx.flat()", *GAPS[name].split("\n")])
    item = lp.experiment(
        f"import math\n\n\ndef strategy(ctx, params):\n{body}", params={"n": 100_000_001}, costs=[], name="gap",
        opening={"cash": 5000}, cash_rule="allow_negative",
    )  # fmt: skip
    walk = [10, 11, 12, 9, 8, 7, 5, 6, 8, 9, 11, 12]
    snapshot = small.seal(
        tmp_path, {"A": walk, "B": walk[:6] + [None] + walk[7:], "C": [7.5 + k / 8 for k in range(12)]}
    )
    said = []
    for mode in ("never", "always"):
        try:
            said.append(lp.run(item, snapshot, compiled=mode).events.head)
        except InputError as error:
            said.append(str(error))
    assert said[1] == said[0] or "cannot be compiled" in said[1], said


BESIDE = {
    "functions and numbers of the module": """
import math
FLOOR = 0.25
DEPTH = -2

def size(ctx, params, symbol, most):
    x = math.log(ctx.close(symbol)) * FLOOR
    for other in ctx.universe:
        if other == symbol:
            x = x + 1
    if x > most:
        return most
    return math.floor(x * 7) + DEPTH / 8

def rising(ctx, symbol):
    return ctx.feature(symbol, "fast") > ctx.feature(symbol, "slow") and not math.isnan(ctx.close(symbol))

def scaled(x, y):
    return math.exp(-x) * y + math.log1p(x)

def strategy(ctx, params):
    t = ctx.flat()
    for s in ctx.universe:
        if rising(ctx, s):
            t[s] = scaled(size(ctx, params, s, params["most"]), 3) + size(ctx, params, "A", 2.5)
            t.because(s, "UP")
    return t
""",
    "weights of a dict": """
def strategy(ctx, params):
    w = {s: 1.0 / ctx.close(s) for s in ctx.universe if ctx.feature(s, "fast") > ctx.feature(s, "slow")}
    total = sum(w.values())
    if not w:
        return ctx.weights({})
    for s in ctx.universe:
        if s in ctx.universe and w.get(s, 0.0) > 0:
            w[s] = w[s] / total * 0.9
    t = ctx.weights(w, whole=True)
    t.because("A", "W")
    return t
""",
    "weights as they are written": """
def strategy(ctx, params):
    if ctx.now.day > 15:
        return ctx.weights({"A": 0.3, "B": params["most"] / 10})
    return ctx.weights({s: 0.2 for s in ctx.universe})
""",
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_the_strategy_is_compiled_with_it(tmp_path, name) -> None:
    rng = np.random.default_rng(2)
    walk = {s: np.round(20 * np.exp(np.cumsum(rng.normal(0, 0.02, 120))), 2).tolist() for s in "ABC"}
    walk["C"][40:44] = [None] * 4
    features = {"fast": {"indicator": "sma", "window": 3}, "slow": {"indicator": "sma", "window": 8}}
    item = lp.experiment(
        BESIDE[name], params={"most": 1.75}, features=features, costs=[{"spread_bps": 5}], opening={"cash": 5000},
        cash_rule="allow_negative", name="beside",
    )  # fmt: skip
    both(item, small.seal(tmp_path, walk))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(x):\n    return f(x - 1) if x > 0 else 1.0\n", "`f`, which calls itself"),
        ("def f(x):\n    return x > 3\n", "a condition, as a number"),
        ("def f(x):\n    return 1.0 if x > 3 else x > 2\n", "cannot be compiled"),
        ("def f(x):\n    if x > 3:\n        return True\n    return 2.0\n", "returns numbers and conditions"),
        ("def f(x, y=2):\n    return x * y\n", "called otherwise than by position"),
        ("def f(x):\n    if x > 3:\n        return 1.0\n", "a path of `f` that returns nothing"),
    ],
)
def test_functions_that_are_not_compiled_are_named(tmp_path, text, message) -> None:
    body = "\ndef strategy(ctx, params):\n    t = ctx.flat()\n    t['A'] = f(ctx.close('A'))\n    return t\n"
    item = lp.experiment(text + body, costs=[], name="beside")
    with pytest.raises(InputError, match=message):
        lp.run(item, small.seal(tmp_path, {"A": [10, 11, 12, 13]}), compiled="always")


def test_a_difference_has_the_strategy_interpreted_and_is_told(tmp_path, monkeypatch) -> None:
    """A compiled decision that is wrong on purpose: it buys one more of everything."""
    from ledger_pipeline.simulation.compiled import run as compiled_run

    lowering = compiled_run.lower

    def wrong(source, features, params):
        lowered = lowering(source, features, params)
        return choice.replace(
            lowered,
            text=lowered.text.replace("lp_p_quantity", "lp_p_quantity + 1.0", 2).replace(
                "lp_p_quantity + 1.0", "lp_p_quantity", 1
            ),
        )

    monkeypatch.setattr(compiled_run, "lower", wrong)
    text = "def strategy(ctx, params):\n    targets = ctx.flat()\n    targets['A'] = params['quantity']\n    return targets\n"
    item = lp.experiment(text, params={"quantity": 2.0}, costs=[], opening={"cash": 500}, name="more")
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13]})
    run = lp.run(item, snapshot, compiled="always")
    assert run.events.head == lp.run(item, snapshot, compiled="never").events.head
    assert any(
        "for A: quantity is np.float64(3.0) compiled and np.float64(2.0) interpreted" in w
        or "quantity is 3.0 compiled and 2.0 interpreted" in w
        for w in run.warnings
    )


def test_a_short_run_is_interpreted_and_the_mode_is_checked(tmp_path, monkeypatch) -> None:
    snapshot = small.seal(tmp_path, {"A": [10, 11, 12, 13]})
    monkeypatch.setattr(choice, "CompiledSimulator", lambda *a: pytest.fail("it does not pay"))
    text = "def strategy(ctx, params):\n    return ctx.flat()\n"
    item = lp.experiment(text, costs=[], name="flat")
    assert lp.run(item, snapshot).run_id
    with pytest.raises(InputError, match="compiled is 'sometimes'"):
        lp.run(item, snapshot, compiled="sometimes")
    with pytest.raises(InputError, match="cannot be compiled: line 2: a return of anything but targets"):
        lp.run(
            lp.experiment(text.replace("ctx.flat()", "{'A': 0}"), costs=[], name="flat"), snapshot, compiled="always"
        )


def test_long_runs_are_the_same(tmp_path) -> None:
    """3,000 bars of four shares, so that buffers grow."""
    rng = np.random.default_rng(5)
    walk = {s: np.round(20 * np.exp(np.cumsum(rng.normal(0, 0.02, 3000))), 2).tolist() for s in "ABCD"}
    both(experiment(MANY, opening={"cash": 100_000}, cash_rule="allow_negative"), small.seal(tmp_path, walk))
