"""Tiers and proof: what tier 1 may not be, what a proof has to find, and what it has to let pass.

Each line is the body of a strategy that computes a whole number x; the strategy then holds x % 5 shares of A. All runs
are proven in one other process.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import RefusedError
from ledger_pipeline.simulation import proof
from ledger_pipeline.simulation.proof import Proof, prove
from ledger_pipeline_tests import small

NP = "import numpy as np\n"
NAMES = "{'alpha': 1, 'beta': 2, 'gamma': 3, 'delta': 4, 'epsilon': 5, 'zeta': 6, 'eta': 7}"
SCAN = "x = 0\nfor s in {}:\n    x = x * 11 + a.get(s, 0)\nx = x // 11 % (ctx.now.day + 3)"
DAYS = 120


def text(body: str, top: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    held = "    targets = ctx.flat()\n    targets['A'] = float(x % 5)\n    return targets\n"
    return f"{top}\n\ndef strategy(ctx, params):\n{lines}{held}"


# what depends on more than ctx and params, and so may not be tier 1
NOT_TIER_1 = {
    "address by a named format": text("f = '%s'\nx = int((f % enumerate([1]))[-9:-1], 16) // 16"),
    "address by a constant format": text("x = int((F % zip([1]))[-9:-1], 16) // 16", "F = '%s'"),
    "address by a format in params": text("x = int((params['f'] % ctx)[-9:-1], 16) // 16"),
    "address by %=": text("f = '%s'\nf %= enumerate([1])\nx = int(f[-9:-1], 16) // 16"),
    "address by a joined format": text("x = int((('%' + 's') % enumerate([1]))[-9:-1], 16) // 16"),
    "address by astype": text("t = np.array([enumerate([1])]).astype('U80')\nx = int(t[0][-9:-1], 16) // 16", NP),
    "set from a named view": text(f"a = {NAMES}\nk = a.keys()\n" + SCAN.format("k & k")),
    "set from a view less a list": text(f"a = {NAMES}\nk = a.keys()\n" + SCAN.format("k - ['beta']")),
    "set from a function's view": text(
        f"a = {NAMES}\n" + SCAN.format("of(a) ^ of({'q': 1})"), "def of(a):\n    return a.keys()\n"
    ),
    "set by an augmented view": text(f"a = {NAMES}\nk = a.keys()\nk |= ['theta']\n" + SCAN.format("k")),
    "set of items": text(f"a = {NAMES}\nk = a.items()\nx = 0\nfor s, v in k & k:\n    x = x * 11 + v\nx = x // 11"),
    "clock by an item": text("t = ctx.history('A', 3).ts\nt[0] = 'now'\nx = int(t.astype(int)[0]) // 10**6", NP),
    "clock by joined text": text(
        "x = int(np.array([T], dtype=D).astype(int)[0])", NP + "T = 'no' + 'w'\nD = 'M' + '8[s]'"
    ),
    "uninitialised by clip": text("v = np.arange(90000.0)\nx = int((v.clip(0.0, 10.0, where=v < 0) == 0).sum())", NP),
}

# what runs, and what a proof has to find: another process decides otherwise
DIFFERS = {
    "address in an f-string": text("z = zip([1])\nx = int(f'{z}'[-9:-1], 16) // 16"),
    "order by addresses": text(
        "z = [zip([k]) for k in range(40)]\nx = sorted(range(40), key=lambda k: str(z[k])[-6:])[0]"
    ),
    "time of a naive date": text("x = int(ctx.now.to_pydatetime().replace(tzinfo=None).timestamp()) // 3600"),
    "local hour": text(
        "x = datetime.fromtimestamp(ctx.now.value // 10**9, None).hour", "from datetime import datetime"
    ),
    "local zone of a package": text(
        "x = ctx.now.to_pydatetime().astimezone(tz.gettz()).hour", "from dateutil import tz"
    ),
    "set from operator": text(f"a = {NAMES}\n" + SCAN.format("operator.sub(a.keys(), [])"), "import operator"),
    "clock": text("x = pd.Timestamp('no' + 'w').value // 10**13", "import pandas as pd"),
    "unseeded package": text("x = len(list(toolz.random_sample(0.5, range(40))))", "import toolz"),
}

# what keeps something between pulses
KEEPS = {
    "list from max": text("c = CACHE\nc[0] += 1\nx = c[0]", "CACHE = max([], [0])"),
    "list from sum": text("c = CACHE\nc[0] += 1\nx = c[0]", "CACHE = sum([[0]], [])"),
    "row array": text("c = CACHE\nc += 1\nx = int(c[0])", NP + "CACHE = np.r_[0, 0]"),
    "mesh": text("c = CACHE\nc += 1\nx = int(c[0])", NP + "CACHE = np.mgrid[0:2]"),
    "put": text("np.put(CACHE, 0, CACHE[0] + 1)\nx = int(CACHE[0])", NP + "CACHE = np.r_[0, 0]"),
    "default": text("x = f()", "def f(c=max([], [0])):\n    c[0] += 1\n    return c[0]"),
    "enum member": text(
        "c = E.A.value\nc += 1\nx = int(c[0])", NP + "from enum import Enum\n\n\nclass E(Enum):\n    A = np.r_[0, 0]"
    ),
    "repeat": text("c = next(itertools.repeat(CACHE))\nc[0] += 1\nx = c[0]", "import itertools\n\nCACHE = [0, 0]"),
    "object of a package": text(
        "d = constants.physical_constants\nd['n'] = d.get('n', 0) + 1\nx = d['n']", "from scipy import constants"
    ),
}

REFUSED = {
    "list of params": text("q = params['l']\nq[0] = q[0] + 1\nx = q[0]"),
    "closure": text("x = F()", "def make():\n    c = [0]\n    return lambda: c\n\n\nF = make()"),
    "counter": text("x = f()", "import itertools\n\n\ndef f(c=itertools.count()):\n    return next(c)"),
    "generator": text("x = next(CACHE)", "CACHE = (i for i in range(10))"),
    "attribute of a function": text("f.n = 1\nx = f.n", "def f():\n    return 1"),
    "list under another name": text("c = CACHE or [1]\nc[0] += 1\nx = c[0]", "CACHE = [0]"),
}

# a hidden counter that matters at one pulse only
RARE = text("c = CACHE\nc[0] += 1\nx = 4 if c[0] == 50 else int(ctx.now.day) % 2", "CACHE = max([], [0])")

TOLD = "t.remember({'e': ctx.equity, 'c': ctx.cash, 'p': ctx.positions.tolist(), 'h': ctx.hold().as_dict()})"
EXACT = text("x = int(Fraction(ctx.now.day, 3) * 3)", "from fractions import Fraction")
WEIGHTS = "ctx.weights({s: 0.97 / len(ctx.universe) for s in ctx.universe})"
HARMLESS = {
    "weights": f"def strategy(ctx, params):\n    return {WEIGHTS}\n",
    "exact memory": f"def strategy(ctx, params):\n    t = {WEIGHTS}\n    {TOLD}\n    return t\n",
    "memory of holding": "def strategy(ctx, params):\n    t = ctx.hold()\n    t['A'] = 1.5 * ctx.now.day\n"
    f"    {TOLD}\n    return t\n",
    "random": "def strategy(ctx, params):\n    return ctx.targets(ctx.rng.normal(3.0, 2.0, len(ctx.universe)))\n",
    "invest": "def strategy(ctx, params):\n    t = ctx.hold()\n    if ctx.cash > 500:\n"
    "        t.invest('A', 123.45).because('A', 'LUCK')\n    else:\n"
    "        t['A'] = ctx.position('A') / 2\n    return t\n",
    "history": text("h = ctx.history('A', 21).close\nx = int(h.mean() * 1e6)"),
    "short": "def strategy(ctx, params):\n    t = ctx.flat()\n    t['A'] = -10.5 if ctx.now.day > 10 else 3.25\n"
    f"    {TOLD}\n    return t\n",
}
RICH = {
    "costs": [{"spread_bps": 5}, {"fixed_fee": 1.0}],
    "cash_rule": "scale",
    "deposits": [{"amount": 137.77, "every": "week"}, {"amount": 1000.0, "at": "2024-02-07"}],
    "borrow": {"annual_bps": 300},
    "interest": {"cash_bps": 200, "debit_bps": 500},
    "opening": {"cash": 5000.0},
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory):
    """A with a split and a dividend; B listed late with a split of its own; C that ends early."""
    rng = np.random.default_rng(5)
    prices = {s: np.round(50 * np.exp(np.cumsum(rng.normal(0, 0.02, DAYS))), 2).tolist() for s in "ABC"}
    prices["B"] = [None] * 40 + prices["B"][40:]
    prices["C"] = prices["C"][:100]
    root = tmp_path_factory.mktemp("snapshots")
    return small.seal(root, prices, splits=[("A", 30, 2.0), ("B", 70, 3.0)], dividends=[("A", 60, 0.37)])


def made(source: str, snapshot, **options):
    return lp.run(lp.experiment(source, **({"costs": [], "params": {"f": "%s", "l": [0]}} | options)), snapshot)


@pytest.fixture(scope="module")
def proofs(snapshot) -> dict[str, Proof | None]:
    """What the proof of each run says; None for a source that is refused."""
    runs, found = {}, {}
    for name, source in (DIFFERS | KEEPS).items():
        try:
            runs[name] = made(source, snapshot)
        except RefusedError:
            found[name] = None
    for name, source in HARMLESS.items():
        runs[name] = made(source, snapshot, **RICH)
    return found | dict(zip(runs, prove(list(runs.values())), strict=True))


@pytest.mark.parametrize("name", NOT_TIER_1)
def test_what_depends_on_more_than_ctx_and_params_is_not_tier_1(name: str):
    assert lp.preflight(NOT_TIER_1[name]).tier > 1


@pytest.mark.parametrize("name", DIFFERS)
def test_a_proof_finds_what_differs_between_processes(name: str, proofs):
    assert proofs[name] is None or proofs[name].difference is not None


@pytest.mark.parametrize("name", KEEPS)
def test_a_proof_finds_what_is_kept_between_pulses(name: str, proofs):
    assert proofs[name] is None or proofs[name].difference is not None


@pytest.mark.parametrize("name", HARMLESS)
def test_a_proof_lets_pass_what_follows_from_ctx(name: str, proofs):
    assert proofs[name].difference is None
    assert proofs[name].decided > 0 and proofs[name].pulses == DAYS


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_kept_in_plain_sight_is_refused(name: str):
    assert lp.preflight(REFUSED[name]).tier == 3


def test_a_proof_of_everything_decides_every_pulse_afresh(snapshot):
    found = prove([made(RARE, snapshot)], everything=True)[0]
    assert found.decided == DAYS or found.difference is not None


@pytest.mark.parametrize(("source", "tier", "seeds"), [(HARMLESS["weights"], 1, 1), (EXACT, 2, 4)])
def test_everything_of_tier_2_is_proven_under_several_hash_seeds(source, tier, seeds, snapshot, monkeypatch):
    used, asked = {}, proof._Prover.ask

    def ask(prover, job):
        answer = asked(prover, job)
        used[psutil.Process(prover.process.pid).environ()["PYTHONHASHSEED"]] = prover.process
        return answer

    monkeypatch.setattr(proof._Prover, "ask", ask)
    run = made(source, snapshot)
    assert run.provenance["tier"] == tier
    assert prove([run], everything=True)[0].difference is None
    assert len(used) == seeds
    assert [process.poll() for process in used.values()].count(None) == 1, "the others have ended"


# users' indicators

READS = text("x = 3 if ctx.feature('A', 'mine') > ctx.close('A') else 1")


def using(function, snapshot):
    mine = {"mine": lp.user_indicator(function, basis="price", warmup=1)}
    return lp.experiment(READS, costs=[], features={"mine": {"indicator": "mine"}}, indicators=mine)


def adding(value):
    def mine(bars):
        return bars["close"] + value

    return mine


@pytest.mark.parametrize("pair", [(2, 2.0), (0.0, -0.0), (1, True)], ids=str)
def test_captured_constants_that_differ_give_other_experiments(pair, snapshot):
    one, other = (using(adding(value), snapshot).hash for value in pair)
    assert one != other


@pytest.mark.parametrize("value", [[0.0], np.zeros(3), {"a": 1}], ids=["list", "array", "dict"])
def test_an_indicator_may_not_read_an_outer_object(value, snapshot):
    with pytest.raises(RefusedError, match="outside"):
        using(adding(value), snapshot)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with an indicator, its helper, and the helper's helper."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tiers_mine.py").write_text("import tiers_near\n\n\ndef mine(bars):\n    return tiers_near.up(bars)\n")
    (tmp_path / "tiers_near.py").write_text(
        "from tiers_far import K\n\n\ndef up(bars):\n    return bars['close'] + K\n"
    )
    (tmp_path / "tiers_far.py").write_text("K = 1\n")
    importlib.invalidate_caches()
    for name in ("tiers_mine", "tiers_near", "tiers_far"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path


@pytest.mark.parametrize("edited", ["tiers_near", "tiers_far"])
def test_an_edited_helper_module_makes_another_experiment(edited: str, modules: Path, snapshot):
    mine = importlib.import_module("tiers_mine").mine
    before = using(mine, snapshot).hash
    file = modules / f"{edited}.py"
    file.write_text(file.read_text().replace("K", "K\n", 1) if edited == "tiers_near" else "K = -1\n")
    assert using(mine, snapshot).hash != before


def test_a_run_is_of_no_lower_tier_than_its_indicators(modules: Path, snapshot):
    experiment = using(importlib.import_module("tiers_mine").mine, snapshot)
    assert lp.run(experiment, snapshot).provenance["tier"] == 2
