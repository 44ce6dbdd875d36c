"""Source: what is captured for each kind of strategy, its hash, and how it is turned back into a function."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import linecache
import math
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.strategy.source import (
    StrategySource,
    capture,
    compile_source,
    extract,
    is_constant,
    normalise,
    source_hash,
)

TEXT = "def strategy(ctx, params):\n    return params['n'] + 1\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module file and import it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def make(name: str, text: str):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name)

    yield make
    for name in names:
        sys.modules.pop(name, None)


def cell(text: str, namespace: dict) -> dict:
    """Execute a text as a notebook does: in a shared namespace, with the text known to linecache."""
    filename = f"<cell {source_hash(text)[:8]}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), namespace)
    return namespace


# hash


def test_the_hash_is_sha_256_of_the_normalised_utf_8_text() -> None:
    source = capture("def strategy(ctx, params):\r\n    return 'é'\r\n\r\n\r\n")
    assert source.text == "def strategy(ctx, params):\n    return 'é'\n"
    assert source.hash == hashlib.sha256("def strategy(ctx, params):\n    return 'é'\n".encode()).hexdigest()


@given(st.text(st.characters(codec="utf-8")))
def test_newlines_do_not_change_the_hash_and_anything_else_does(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once.endswith("\n") and not once.endswith("\n\n") or once == "\n"
    assert "\r" not in once
    assert source_hash(text.replace("\r", "\n").replace("\n", "\r\n")) == source_hash(text.replace("\r", "\n"))
    assert source_hash("x" + text) != source_hash(text)


def test_a_lone_surrogate_is_an_input_error() -> None:
    with pytest.raises(InputError, match="surrogate"):
        capture(TEXT + "# \ud800\n")


# files and texts


def test_a_file_is_captured_whole(tmp_path: Path) -> None:
    text = "import math\nN = 3\ndef helper(x): return x\ndef other(a, b): return 1\n" + TEXT
    for name, data in {
        "a.py": text.encode(),
        "bom.py": b"\xef\xbb\xbf" + text.encode(),
        "crlf.py": text.replace("\n", "\r\n").encode(),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        for given_as in (path, str(path)):
            source = capture(given_as)
            assert (source.text, source.function_name, source.captured) == (text, "strategy", {})
            assert source.hash == source_hash(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def momentum(ctx, params): return 1\n", "momentum"),
        ("def helper(x): return x\ndef _two(a, b): return 1\ndef momentum(a, b, /): return 1\n", "momentum"),
        ("def three(a, b, c): return 1\ndef momentum(a, b): return 1\ndef key(a, b, *, k): return 1\n", "momentum"),
        ("def other(a, b): return 1\ndef strategy(ctx): return 1\n", "strategy"),
        ("class A:\n    def method(self, x): return 1\ndef momentum(a, b): return 1\n", "momentum"),
    ],
)
def test_the_strategy_of_a_text_is_found(text: str, name: str) -> None:
    assert capture(text).function_name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X = 1\n", ["there is no strategy", "def strategy(ctx, params)"]),
        ("", ["there is no strategy"]),
        ("def one(a, b): pass\ndef two(a, b): pass\n", ["one, two", "`strategy`"]),
        ("strategy = lambda ctx, params: 1\n", ["there is no strategy"]),
        ("if True:\n    def strategy(ctx, params): pass\n", ["there is no strategy"]),
        ("x = 1\ndef strategy(ctx, params)\n    pass\n", [":2:", "def strategy(ctx, params)", "expected ':'"]),
        ("def strategy(ctx, params):\nreturn 1\n", [":2:", "return 1"]),
        ("x = 'a\x00'\n", ["null"]),
    ],
)
def test_a_bad_file_is_an_input_error_that_names_it(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        capture(path)
    assert all(word in str(error.value) for word in ["bad.py", *words])
    assert "\n" not in str(error.value)


def test_unreadable_files_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "cookie.py").write_bytes(b"# coding: nonsense\n")
    for name, words in {"missing.py": "no such", "latin.py": "latin.py", "cookie.py": "cookie.py", ".": "read"}.items():
        with pytest.raises(InputError, match=words):
            capture(tmp_path / name)


def test_a_declared_encoding_is_honoured(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes(b"# coding: latin-1\ndef strategy(ctx, params):\n    return '\xe9'\n")
    assert compile_source(capture(path))(None, None) == "é"


# functions


def test_a_function_of_a_module_brings_the_whole_text(module) -> None:
    text = "SCALE = 3\ndef helper(x):\n    return x * SCALE\n\n"
    text += "def strategy(ctx, params):\n    return helper(params['n'])\n"
    source = capture(module("mod_whole", text).strategy)
    assert source.text == text and source.captured == {}
    assert compile_source(source)(None, {"n": 2}) == 6


def test_any_function_of_a_module_can_be_the_strategy(module) -> None:
    loaded = module("mod_two", "def one(ctx, params):\n    return 1\ndef two(ctx, params):\n    return 2\n")
    assert capture(loaded.two).function_name == "two"
    assert compile_source(capture(loaded.two))(None, None) == 2


def test_a_module_edited_after_its_import_is_refused(module, tmp_path: Path) -> None:
    loaded = module("mod_edited", TEXT)
    (tmp_path / "mod_edited.py").write_text("# only a comment\n" + TEXT)
    assert capture(loaded.strategy).text.startswith("# only")
    for edit in (TEXT.replace("+ 1", "+ 2"), TEXT.replace("'n'", "'m'"), TEXT.replace("strategy", "other")):
        (tmp_path / "mod_edited.py").write_text(edit)
        with pytest.raises(InputError, match="changed after it was imported"):
            capture(loaded.strategy)


def test_a_local_function_brings_its_own_text_and_constants() -> None:
    quantity, names, nested, switch, nothing = 2, ("a", "b"), ((1, 2.5), "x"), True, None

    def strategy(ctx, params):
        # a comment stays
        inner = [quantity for _ in names]
        return inner, names, nested, switch, nothing

    source = capture(strategy)
    assert source.text.startswith("def strategy(ctx, params):\n    # a comment stays\n")
    assert source.captured == {
        "quantity": 2,
        "names": ("a", "b"),
        "nested": ((1, 2.5), "x"),
        "switch": True,
        "nothing": None,
    }
    assert source.unavailable == {}
    assert compile_source(source)(None, None) == strategy(None, None)


def test_captured_constants_survive_json() -> None:
    names, limit = ("a", ("b", 1)), 0.5

    def strategy(ctx, params):
        return names, limit

    source = capture(strategy)
    stored = StrategySource(source.text, source.function_name, source.hash, json.loads(json.dumps(source.captured)))
    assert compile_source(stored)(None, None) == (("a", ("b", 1)), 0.5)


def test_what_cannot_be_captured_is_named() -> None:
    frame, seen, big, nan = {"a": 1}, [1], 2**60, math.nan
    mixed = (1, [2])

    def helper(x):
        return x

    class Box:
        pass

    def strategy(ctx, params):
        return frame, seen, big, nan, mixed, helper, Box

    source = capture(strategy)
    assert source.captured == {}
    assert {name: kind.split(" ")[1] for name, kind in source.unavailable.items()} == {
        "frame": "object",
        "seen": "object",
        "big": "value",
        "nan": "value",
        "mixed": "object",
        "helper": "function",
        "Box": "class",
    }
    with pytest.raises(NameError):
        compile_source(source)(None, None)


def test_unbound_and_missing_names_are_left_to_preflight() -> None:
    def strategy(ctx, params):
        return later, never_defined  # noqa: F821

    source = capture(strategy)
    assert (source.captured, source.unavailable) == ({}, {})
    later = 1
    assert later == 1


def test_a_notebook_function_brings_the_imports_it_uses() -> None:
    shell: dict = {"__name__": "__main__"}
    cell("import math\nimport statistics as stats\nfrom collections import Counter\nimport json\nLIMIT = 2\n", shell)
    cell("def momentum(ctx, params):\n    return math.sqrt(stats.mean([LIMIT, 6])), Counter('aa')['a']\n", shell)
    source = capture(shell["momentum"])
    assert source.text == (
        "from collections import Counter\nimport math\nimport statistics as stats\n\n\n"
        "def momentum(ctx, params):\n    return math.sqrt(stats.mean([LIMIT, 6])), Counter('aa')['a']\n"
    )
    assert source.captured == {"LIMIT": 2}
    assert compile_source(source)(None, None) == (2.0, 2)


def test_a_redefined_notebook_function_brings_its_new_text() -> None:
    shell: dict = {"__name__": "__main__"}
    cell("def strategy(ctx, params):\n    return 1\n", shell)
    first = capture(shell["strategy"])
    cell("\n\ndef strategy(ctx, params):\n    return 2\n", shell)
    second = capture(shell["strategy"])
    assert [compile_source(source)(None, None) for source in (first, second)] == [1, 2]
    assert first.hash != second.hash
    assert second.text == "def strategy(ctx, params):\n    return 2\n"


def test_a_parameter_is_not_captured_even_in_a_function_named_top() -> None:
    shell: dict = {"__name__": "__main__", "ctx": 5, "params": 6}
    cell("def top(ctx, params):\n    return ctx\n", shell)
    assert capture(shell["top"]).captured == {}


def test_dedenting_keeps_what_strings_say() -> None:
    def strategy(ctx, params):
        a = """
def strategy(ctx, params):
    return 0
"""
        b = f"""
        {a}
            deeper"""
        # a comment further left
        return (
            a,
            b,
            "one \
        line",
        )

    source = capture(strategy)
    assert compile_source(source)(None, None) == strategy(None, None)


class Holder:
    def method(self, ctx, params):
        return 1

    def __call__(self, ctx, params):
        return 1


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorate
def decorated(ctx, params):
    return 1


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (lambda ctx, params: 1, "lambda"),
        (Holder().method, "method"),
        (Holder(), "Holder"),
        (Holder, "type"),
        (functools.partial(decorate, 1), "partial"),
        (len, "builtin"),
        (decorated, "decorator"),
        (None, "NoneType"),
        (42, "int"),
    ],
)
def test_what_has_no_text_of_its_own_is_an_input_error(strategy, words: str) -> None:
    with pytest.raises(InputError, match=words):
        capture(strategy)


def test_a_function_whose_text_is_nowhere_is_an_input_error() -> None:
    namespace: dict = {"__name__": "__main__"}
    exec(TEXT, namespace)
    with pytest.raises(InputError, match="cannot be found"):
        capture(namespace["strategy"])


def test_constants_that_json_keeps() -> None:
    kept = [None, True, 1, -(2**53) + 1, 1.5, "é", (), (1, ("a", None))]
    refused = [2**53, math.inf, math.nan, b"x", [1], {1: 2}, (1, []), 1j, "\ud800", type("F", (float,), {})(1.0)]
    assert all(is_constant(value) for value in kept)
    assert not any(is_constant(value) for value in refused)


# compiling


def test_each_compilation_has_a_namespace_of_its_own() -> None:
    source = capture("SEEN = []\ndef strategy(ctx, params):\n    SEEN.append(1)\n    return len(SEEN)\n")
    first, second = compile_source(source), compile_source(source)
    assert [first(None, None), first(None, None), second(None, None)] == [1, 2, 1]
    assert first.__module__ not in sys.modules


def test_a_compiled_function_is_captured_as_its_source() -> None:
    source = capture("N = 2\n" + TEXT)
    again = capture(compile_source(source))
    assert again == source


def test_the_text_does_not_see_this_package_s_names_or_future_imports() -> None:
    function = compile_source(capture("def strategy(ctx, params) -> 1 + 1:\n    return sorted(globals())\n"))
    assert function.__annotations__ == {"return": 2}
    assert set(function(None, None)) == {"__builtins__", "__name__", "__strategy_source__", "print", "strategy"}


def test_a_traceback_shows_the_line_of_the_strategy() -> None:
    function = compile_source(capture(TEXT))
    try:
        function(None, {})
    except KeyError:
        shown = traceback.format_exc()
    assert "return params['n'] + 1" in shown and "line 2, in strategy" in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def strategy(ctx, params):\n    return (\n", [":2:"]),
        ("def strategy(ctx, params): pass\nreturn 1\n", [":2:", "return"]),
        ("X = 1\nY = 1 / 0\ndef strategy(ctx, params): pass\n", [":2:", "ZeroDivisionError"]),
        ("import no_such_module_anywhere\ndef strategy(ctx, params): pass\n", [":1:", "no_such_module_anywhere"]),
        ("X = 1\n", ["no function `strategy`"]),
        ("strategy = 1\n", ["no function `strategy`"]),
    ],
)
def test_a_text_that_does_not_load_is_an_input_error(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        compile_source(StrategySource(text, "strategy", source_hash(text)))
    assert all(word in str(error.value) for word in words)


# extraction


def test_extract_without_trust_is_data_and_never_parsed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for text in (TEXT, "this is not ((( Python\n", f"open({str(mark)!r}, 'w')\n{TEXT}"):
        assert extract(text, source_hash(text), trust=False) == text
    assert not mark.exists()


def test_extract_with_trust_is_the_function() -> None:
    function = extract(TEXT, source_hash(TEXT), trust=True)
    assert function(None, {"n": 1}) == 2
    text = "def a(x, y): return A\ndef b(x, y): return A + 1\n"
    chosen = extract(text, source_hash(text), trust=True, function_name="b", captured={"A": 1})
    assert chosen(None, None) == 2


@pytest.mark.parametrize("trust", [True, False])
def test_a_changed_text_is_never_returned(trust: bool, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    changed = f"open({str(mark)!r}, 'w')\n" + TEXT
    for text in (changed, TEXT.replace("+ 1", "+ 2"), "((("):
        with pytest.raises(IntegrityError, match=source_hash(TEXT)) as error:
            extract(text, source_hash(TEXT), trust=trust)
        assert error.value.exit_code == 5
    assert not mark.exists()


def test_trust_has_to_be_said() -> None:
    with pytest.raises(TypeError):
        extract(TEXT, source_hash(TEXT))  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        extract(TEXT, source_hash(TEXT), True)  # type: ignore[misc]
    for trust in (1, "yes", None):
        with pytest.raises(InputError, match="trust"):
            extract(TEXT, source_hash(TEXT), trust=trust)  # type: ignore[arg-type]


def test_trusted_text_with_a_syntax_error_is_an_input_error() -> None:
    text = "def strategy(ctx, params):\n    return (\n"
    with pytest.raises(InputError, match=":2:"):
        extract(text, source_hash(text), trust=True)
