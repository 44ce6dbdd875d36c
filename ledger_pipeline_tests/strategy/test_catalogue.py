"""The catalogue: experiment files, strategies and user indicators, and how their faults are told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, NotFoundError, RefusedError
from ledger_pipeline.strategy.catalogue import load_indicator
from ledger_pipeline_tests import small

FLAT = "def strategy(ctx, params):\n    return ctx.flat()\n"
ABOVE = "def strategy(ctx, params):\n    ctx.feature_values('sma')\n    return ctx.flat()\n"
HALF = "BASIS = 'price'\nWARMUP = 2\n\n\ndef half(bars, by=2):\n    return bars['close'] / by\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "indicators").mkdir()
    (tmp_path / "flat.py").write_text(FLAT)
    (tmp_path / "above.py").write_text(ABOVE)
    return tmp_path


def load(root: Path, text: str | bytes) -> lp.Experiment:
    path = root / "experiments" / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return lp.Catalogue(root).experiment("x")


def told(root: Path, text: str | bytes, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        load(root, text)
    return str(caught.value)


BASE = "strategy: flat\ncosts: []\n"


@pytest.mark.parametrize(
    "text, line, words",
    [
        (BASE + "colour: red\n", 3, "colour is not a known key; the keys are strategy, params, features, opening"),
        ("costs: []\n", 1, "strategy is missing"),
        ("strategy: flat\n", 1, "costs is missing; write [] for no costs"),
        ("strategy: 5\ncosts: []\n", 1, "strategy is 5; it should be a text"),
        (BASE + "seed: many\n", 3, "seed is 'many'; it should be a whole number"),
        (BASE + "opening:\n  cash: lots\n", 4, "opening.cash is 'lots'; it should be a number"),
        (BASE + "opening:\n  cash: yes\n", 4, "opening.cash is 'yes'; it should be a number"),
        (BASE + "opening:\n  csh: 5\n", 4, "opening.csh is not a known key; the keys are cash, positions, cost_basis"),
        (
            BASE + "deposits:\n  - {amount: 5, every: month}\n  - amount: 5\n    evry: month\n", 6,
            "deposits[1].evry is not a known key; the keys are amount, every, start, end, at",
        ),
        (BASE + "deposits:\n  - amount: 5\n    every: day\n", 5, "deposits[0].every is 'day'"),
        ("strategy: flat\nparams: {}\ncosts:\n  - spread_bps: 5\n  - fee: 1\n", 3, "step 2: there is no step 'fee'"),
        (BASE + "risk: [short_only]\n", 3, "risk is not sound: step 1: 'short_only'"),
        (BASE + "params: {a: .nan}\n", 3, "params is not sound"),
        (BASE + "universe: [A,\n  1]\n", 4, "universe[1] is 1; it should be a text"),
        (BASE + "features: {f: 5}\n", 3, "features.f is 5; it should be a mapping"),
        (BASE + "features:\n  g: {indicator: rsi}\n  f: {indicator: smaa}\n", 5, "there is no indicator 'smaa'"),
        (BASE + "features:\n  f: {indicator: sma, windw: 3}\n", 4, "indicator 'sma' has no parameter 'windw'"),
        (
            BASE + "features:\n  f:\n    indicator: sma\n    window: {param: w}\n", 6,
            "feature 'f' takes window from params.w, which is not defined (params: none)",
        ),
        ("strategy: above\ncosts: []\n", 1, "the strategy asks for the feature 'sma' (line 2 of its text)"),
        (
            "strategy: above\ncosts: []\nfeatures:\n  fast: {indicator: sma, window: 3}\n", 3,
            "the strategy asks for the feature 'sma' (line 2 of its text), which the experiment does not define",
        ),
        (BASE + "costs: []\n", 3, "the key 'costs' stands twice"),
        (BASE + "params:\n  deep:\n    - {a: 1, b: 2, a: 3}\n", 5, "the key 'a' stands twice"),
        (BASE + "params:\n  weights: {true: 1}\n", 4, "the key 'true' is not read as a text; put it in quotes"),
        (BASE + "params:\n  1: 2\n", 4, "the key '1' is not read as a text; put it in quotes"),
        (BASE + "params:\n  ? [a]\n  : 2\n", 4, "is not read as a text; put it in quotes"),
        (BASE + "params: &a {b: *a}\n", 3, "anchors and aliases are not read; write the value out"),
        (BASE + "params: {a: &a [1], b: *a}\n", 3, "anchors and aliases are not read; write the value out"),
        (BASE + "params: {a: " + "[" * 60 + "]" * 60 + "}\n", 3, "it is nested more than 50 deep"),
        (BASE + "params: {a: " + "7" * 5000 + "}\n", 3, "a number of 5,000 digits; at most 100 are read"),
        ("strategy: flat\ncosts: [\n", 3, "expected"),
        ("strategy: flat\n\tcosts: []\n", 2, "tab character"),
        (BASE + "params: !!python/object:os.system {}\n", 3, "could not determine a constructor"),
        (BASE + "---\nstrategy: flat\n", 3, "but found another document"),
        ("strategy: nowhere\ncosts: []\n", 1, None),
        ("costs: []\nstrategy: ../flat\n", 2, "strategy id '../flat' is not allowed"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_file_line_and_key(root, text, line, words) -> None:
    sentence = told(root, text, NotFoundError if words is None else InputError)
    assert sentence.startswith(f"{root.name}/experiments/x.yaml, line {line}: "), sentence
    assert (words or "there is no strategy 'nowhere'") in sentence
    assert len(sentence.splitlines()) == 1


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MEANT_FOR_HARM = {
    "an alias bomb": BOMB,
    "a number of 5,000 digits": BASE + f"params: {{n: {'9' * 5000}}}\n",
    "100,000 lists in each other": BASE + f"params: {{n: {'[' * 100_000}",
    "100,000 mappings in each other": BASE + "params:" + "".join(f"\n{' ' * n}a:" for n in range(1, 400)),
    "a file of 2 MB": BASE + f"description: {'x' * 2_000_000}\n",
}


@pytest.mark.parametrize("what", MEANT_FOR_HARM)
def test_a_file_that_means_harm_is_refused_at_once_and_stops_no_other(root, what) -> None:
    started = time.perf_counter()
    assert "x.yaml" in told(root, MEANT_FOR_HARM[what])
    (root / "experiments" / "sound.yaml").write_text(BASE)
    loaded, failed = lp.Catalogue(root).experiments()
    assert "sound" in loaded and list(failed) == ["x"]
    assert time.perf_counter() - started < 20


def test_a_pipe_in_place_of_a_file_is_not_waited_for(root) -> None:
    os.mkfifo(root / "experiments" / "pipe.yaml")
    with pytest.raises((InputError, NotFoundError)):
        lp.Catalogue(root).experiment("pipe")


def test_files_that_are_no_mapping_or_no_text(root) -> None:
    for text in ("", "# nothing\n", "- a\n", "words\n"):
        assert "x.yaml: an experiment is a mapping with at least the keys strategy and costs" in told(root, text)
    assert "x.yaml is not UTF-8 text" in told(root, BASE.encode() + b"description: \xff\n")
    assert "x.yaml" in told(root, BASE + "description: \x07\n")


def test_yaml_is_read_as_people_write_it(root) -> None:
    spec = load(
        root,
        b"\xef\xbb\xbf" + BASE.encode() + b"universe: [ON, NO, Y, '0700', 0701, NULLS]\n"
        b"params: {a: 1e-3, b: 12:30, c: 2020-01-01, d: 010, e: 1_000, f: yes, g: true, h: ~, i: -.5, j: 2., k: +3,\n"
        b"  l: 1e16, m: 2.50}\n"
        b"opening: {cash: 1e5}\ndeposits: [{amount: 10, every: month, start: 2020-01-01}]\n",
    ).spec
    assert spec.universe == ("ON", "NO", "Y", "0700", "0701", "NULLS")
    assert spec.params == {
        "a": 0.001, "b": "12:30", "c": "2020-01-01", "d": "010", "e": 1000, "f": "yes", "g": True, "h": None, "i": -0.5,
        "j": 2, "k": 3, "l": 1e16, "m": 2.5,
    }  # fmt: skip
    assert spec.opening.cash == 100_000 and str(spec.deposits[0].start) == "2020-01-01"


def test_names(root) -> None:
    catalogue = lp.Catalogue(root)
    (root / "_helper.py").write_text("")
    (root / "indicators" / "_helper.py").write_text("raise ValueError")
    (root / "indicators" / "half.py").write_text(HALF)
    load(root, BASE)
    assert catalogue.strategy_names() == ["above", "flat"]
    assert catalogue.experiment_names() == ["x"]
    assert catalogue.indicator_names() == ["half"] == list(catalogue.indicators())
    with pytest.raises(NotFoundError, match=r"there is no experiment 'y' in .* \(there are: x\)"):
        catalogue.experiment("y")
    for name in ("../x", "X", "x" * 200, ""):
        with pytest.raises(InputError, match="experiment id .* is not allowed"):
            catalogue.experiment(name)
    assert lp.Catalogue(str(root)) == catalogue  # type: ignore[arg-type]
    nothing = lp.Catalogue(root / "none")
    assert nothing.strategy_names() == nothing.experiment_names() == nothing.indicator_names() == []
    with pytest.raises(NotFoundError, match="there are: none"):
        nothing.experiment("x")


def test_faults_of_the_strategy_file_name_it(root) -> None:
    (root / "syntax.py").write_text("def strategy(ctx, params):\n    return ctx.flat(\n")
    assert "syntax.py:2" in told(root, BASE.replace("flat", "syntax"))
    (root / "reader.py").write_text("def strategy(ctx, params):\n    open('x')\n    return ctx.flat()\n")
    refused = told(root, BASE.replace("flat", "reader"), RefusedError)
    assert f"{root.name}/reader.py" in refused and "line 2" in refused and "open" in refused
    (root / "empty.py").write_text("")
    assert "empty.py" in told(root, BASE.replace("flat", "empty"))


def test_one_faulty_experiment_does_not_hide_the_others(root) -> None:
    load(root, BASE)
    (root / "experiments" / "bad.yaml").write_text("strategy: flat\n")
    (root / "experiments" / "Not An Id.yaml").write_text(BASE)
    loaded, failed = lp.Catalogue(root).experiments()
    assert list(loaded) == ["x"] and sorted(failed) == ["Not An Id", "bad"]
    assert "is not allowed" in str(failed["Not An Id"])


# user indicators


@pytest.mark.parametrize(
    "code, words",
    [
        (b"BASIS = 'price'\nWARMUP = 1\ndef half(bars\n", "indicators/half.py, line 3: "),
        (
            b"WARMUP = 1\n\nimport nothing_here\ndef half(bars):\n    return nothing_here.x\n",
            "line 3: `nothing_here` is not an installed",
        ),
        (b"def half(bars):\n    return bars\n", "indicators/half.py must define a function half"),
        (b"BASIS = 'price'\nWARMUP = 1\nhalf = 5\n", "indicators/half.py must define a function half"),
        (b"BASIS = 'price'\nWARMUP = 1\ndef other(bars):\n    return bars\n", "must define a function half"),
        (HALF.replace("'price'", "'money'").encode(), "indicators/half.py: indicator 'half': basis is 'money'"),
        (HALF.replace("WARMUP = 2", "WARMUP = 0").encode(), "indicators/half.py: indicator 'half': warmup is 0"),
        (b"BASIS = 'price'\nWARMUP = 1\ndef half():\n    return 1\n", "must take the bars as its first argument"),
        (b"# \xff\n", "indicators/half.py is not UTF-8 text"),
        (b"x = '\x00'\n", "indicators/half.py"),
    ],
)
def test_faults_of_an_indicator_file_name_it(root, code, words) -> None:
    path = root / "indicators" / "half.py"
    path.write_bytes(code)
    with pytest.raises((InputError, RefusedError)) as caught:
        load_indicator(path)
    assert words in str(caught.value), str(caught.value)
    assert words in told(root, BASE + "features: {f: {indicator: half}}\n", kind=(InputError, RefusedError))
    assert load(root, BASE)  # an experiment without it is not its concern


def test_an_experiment_with_a_user_indicator(root) -> None:
    (root / "indicators" / "half.py").write_text(HALF)
    (root / "own.py").write_text(
        "def strategy(ctx, params):\n    targets = ctx.flat()\n"
        "    value = ctx.feature('A', 'h')\n    targets['A'] = value if value == value else 0\n    return targets\n"
    )
    made = load(root, "strategy: own\nparams: {by: 4}\nfeatures: {h: {indicator: half, by: {param: by}}}\ncosts: []\n")
    run = lp.run(made, small.seal(root / "snapshots", {"A": [10, 12, 16, 20]}))
    # known from the second bar on, and filled a bar later: 12/4 = 3, 16/4 = 4
    assert run.fills["quantity"].tolist() == [3.0, 1.0]
    assert run.provenance["experiment"]["features"]["h"]["warmup"] == 2
    run.save(root / "data")
    replayed = lp.replay(
        run.run_id, root=root / "data", snapshots=root / "snapshots", indicators=lp.Catalogue(root).indicators()
    )
    assert replayed.same


def test_an_indicator_that_sees_the_future_is_refused(root) -> None:
    (root / "indicators" / "half.py").write_text(HALF.replace("bars['close'] / by", "bars['close'].shift(-by)"))
    made = load(root, BASE + "features: {h: {indicator: half}}\n")
    with pytest.raises(RefusedError, match="half"):
        lp.run(made, small.seal(root / "snapshots", {"A": list(range(10, 40))}))
