"""The source of a strategy: captured as text, hashed, stored as data, and turned back into a function only on demand.

The text is the unit of identity. A function of an importable module brings the text of the whole module, so that its
helpers come along; a function from a notebook, a script's own `__main__` or another function brings its own text only,
with the imports it uses written above it. Of what else it reads from around it, plain constants are captured by value;
anything else is noted as unavailable, and preflight refuses it.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import inspect
import io
import linecache
import math
import sys
import tokenize
import traceback
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.strategy.printing import shown_print
from ledger_pipeline.strategy.tiers.scopes import Scopes

_LARGEST_JSON_INTEGER = 2**53 - 1
_MARK = "__strategy_source__"


@dataclass(frozen=True)
class StrategySource:
    """The text of a strategy and what it needs beside it.

    text: newlines are `\\n`, exactly one at the end. function_name: the strategy in it. hash: SHA-256 hex of the text
    in UTF-8. captured: name -> JSON value of constants read from the surrounding namespace (a list stands for a
    tuple). unavailable: name -> what it is, for names around it that cannot be captured; only there to explain, and
    not compared.
    """

    text: str
    function_name: str
    hash: str
    captured: dict[str, Any] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict, compare=False, repr=False)


def normalise(text: str) -> str:
    """The text with `\\n` newlines and exactly one at its end: the form that is hashed and stored."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"


def source_hash(text: str) -> str:
    """SHA-256 hex of the normalised text in UTF-8. InputError when it holds what UTF-8 cannot (a lone surrogate)."""
    try:
        return hashlib.sha256(normalise(text).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise InputError(f"the strategy's text is not valid Unicode: {error.reason} at {error.start}.") from None


def capture(strategy: Callable[..., Any] | str | Path) -> StrategySource:
    """The source of a strategy given as a function, a file (path), or a text (a str with a line break in it).

    In a file or text the strategy is the function named `strategy`, else the only public top-level function with
    exactly two positional parameters. InputError when there is none, when the text has a syntax error (named with file
    and line), or when a callable has no text of its own (lambda, method, partial, decorated function, builtin).
    """
    if isinstance(strategy, Path) or (isinstance(strategy, str) and "\n" not in strategy):
        return _from_text(_read(Path(strategy)), str(strategy))
    if isinstance(strategy, str):
        return _from_text(normalise(strategy), "the strategy's text")
    return _from_function(strategy)


def compile_source(source: StrategySource) -> Callable[..., Any]:
    """Execute the text in a fresh module namespace, with captured constants in it, and return the strategy function.

    It runs the text: call `preflight(source).require()` first. Nothing is shared between two calls. InputError when
    the text has a syntax error, fails while it is executed, or does not define the function. Tracebacks show the
    text's lines.
    """
    return executed_anew(source)()


def executed_anew(source: StrategySource) -> Callable[[], Callable[..., Any]]:
    """A function that executes the text in a fresh namespace each time it is called, and returns the strategy's
    function; the text is compiled once. An assert stays one under `python -O`. InputError as compile_source.
    """
    filename = f"<strategy {source.function_name} {source.hash[:12]}>"
    code = _compiled(source.text, filename)
    return lambda: _executed(source, code, filename)


@functools.lru_cache(maxsize=64)
def _compiled(text: str, filename: str) -> types.CodeType:
    """The code of a text, whose lines tracebacks show under this name."""
    tree = parse(text, filename)
    linecache.cache[filename] = (len(text), None, [f"{line}\n" for line in text.split("\n")], filename)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return compile(tree, filename, "exec", dont_inherit=True, optimize=0)
    except SyntaxError as error:
        raise InputError(_syntax_message(filename, error)) from None


def _executed(source: StrategySource, code: types.CodeType, filename: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {name: _frozen(value) for name, value in source.captured.items()}
    namespace |= {"__name__": f"strategy_{source.hash[:12]}", "__builtins__": builtins, _MARK: source}
    namespace["print"] = shown_print
    try:
        exec(code, namespace)
    except Exception as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((frame.lineno for frame in frames if frame.filename == filename), None)
        where = f"{filename}:{line}" if line else filename
        raise InputError(
            f"{where}: the strategy's text fails when it is loaded: {type(error).__name__}: {error}."
        ) from error
    function = namespace.get(source.function_name)
    if not isinstance(function, types.FunctionType):
        raise InputError(f"{filename}: the text defines no function `{source.function_name}`.")
    return function


def extract(
    text: str,
    expected_hash: str,
    *,
    trust: bool,
    function_name: str | None = None,
    captured: Mapping[str, Any] | None = None,
) -> str | Callable[..., Any]:
    """Stored source, after its hash is verified: the text as data, or (`trust=True`) the function.

    With `trust=False` the text is neither parsed nor executed; `trust=True` executes it. A hash that verifies says
    that the text is the stored one, not that it is safe. `function_name` defaults to the rule of `capture`; `captured`
    are the constants stored with the text. IntegrityError when the hash does not match; InputError when trusted text
    is no strategy.
    """
    if type(trust) is not bool:
        raise InputError(f"trust is {trust!r}; say trust=False for the text as data, or trust=True for the function.")
    digest = source_hash(text)
    if digest != expected_hash:
        raise IntegrityError(
            f"the stored strategy text has hash {digest}, but {expected_hash} was recorded: it was changed."
        )
    if not trust:
        return text
    text = normalise(text)
    name = function_name or _find_function(parse(text, "the stored text"), "the stored text")
    return compile_source(StrategySource(text, name, digest, dict(captured or {})))


def parse(text: str, where: str) -> ast.Module:
    """The syntax tree. InputError that names `where`, the line and its text when there is a syntax error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, filename=where)
    except SyntaxError as error:
        raise InputError(_syntax_message(where, error)) from None
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
    except (RecursionError, MemoryError):
        raise InputError(f"{where}: nested too deeply to be read; simplify it.") from None


def _syntax_message(where: str, error: SyntaxError) -> str:
    line = (error.text or "").strip()
    return f"{where}:{error.lineno}: {error.msg}" + (f": {line}" if line else "") + "; correct the syntax."


# files and texts


def _read(path: Path) -> str:
    try:
        with tokenize.open(str(path)) as file:
            return normalise(file.read())
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such strategy file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a strategy: {error}.") from None
    except SyntaxError as error:  # a wrong or contradictory encoding declaration
        raise InputError(f"{path}:1: {error.msg}; save the file as UTF-8.") from None


def _from_text(text: str, where: str) -> StrategySource:
    name = _find_function(parse(text, where), where)
    return StrategySource(text, name, source_hash(text))


def _find_function(tree: ast.Module, where: str) -> str:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if any(node.name == "strategy" for node in functions):
        return "strategy"
    fitting = {node.name for node in functions if not node.name.startswith("_") and _takes_two(node.args)}
    if len(fitting) == 1:
        return fitting.pop()
    if fitting:
        listed = ", ".join(sorted(fitting))
        raise InputError(f"{where}: {listed} could each be the strategy; name the one that is meant `strategy`.")
    raise InputError(f"{where}: there is no strategy in it; define `def strategy(ctx, params):` at the top level.")


def _takes_two(arguments: ast.arguments) -> bool:
    return len(arguments.posonlyargs) + len(arguments.args) == 2 and not (
        arguments.vararg or arguments.kwarg or arguments.kwonlyargs
    )


# functions


def _from_function(function: Callable[..., Any]) -> StrategySource:
    name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(function, types.FunctionType):
        kind = "a method" if isinstance(function, types.MethodType) else f"an object of type {type(function).__name__}"
        raise InputError(f"`{name}` is {kind}; a strategy is a plain function `def strategy(ctx, params):`.")
    if function.__name__ == "<lambda>":
        raise InputError("a lambda has no text of its own; write the strategy as `def strategy(ctx, params):`.")
    if hasattr(function, "__wrapped__"):
        raise InputError(
            f"`{name}` is wrapped by a decorator, so its text is not what would run; remove the decorator."
        )
    mark = function.__globals__.get(_MARK)
    if isinstance(mark, StrategySource) and mark.function_name == function.__name__:
        return mark
    path = _module_file(function)
    if path is not None:
        whole = _read(path)
        _check_same(function, whole, path)
        text = _reached(whole, function.__name__, str(path))
        return StrategySource(text, function.__name__, source_hash(text))
    return _from_own_text(function)


def _reached(text: str, name: str, where: str) -> str:
    """A module's text cut down to a function and what it reaches at the top level: functions, classes, values and
    imports, in their order. The whole text where it reaches all of it.
    """
    tree = parse(text, where)
    binds = {index: _bound(node) for index, node in enumerate(tree.body)}
    pending, kept = [name], set()
    while pending:
        looked = pending.pop()
        for index, names in binds.items():
            if looked in names and index not in kept:
                kept.add(index)
                pending += [node.id for node in ast.walk(tree.body[index]) if isinstance(node, ast.Name)]
    docstring = bool(tree.body) and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant)
    if len(kept) + docstring >= len(tree.body):
        return text
    lines = text.split("\n")
    parts = []
    for index in sorted(kept):
        node = tree.body[index]
        if isinstance(node, ast.Import | ast.ImportFrom):
            used = {each.id for k in kept for each in ast.walk(tree.body[k]) if isinstance(each, ast.Name)}
            node.names = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) in used]
            parts.append(ast.unparse(node))
        else:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            parts.append("\n".join(lines[first - 1 : node.end_lineno]))
    future = [
        ast.unparse(node) for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    return normalise("\n\n\n".join([*future, *parts]))


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top level binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _module_file(function: types.FunctionType) -> Path | None:
    """The file of the importable module in which the function is top level; None for notebooks, scripts and local
    functions.
    """
    module = sys.modules.get(function.__module__ or "")
    file = getattr(module, "__file__", None)
    if function.__module__ == "__main__" or not file or Path(file).suffix != ".py":
        return None
    if getattr(module, function.__name__, None) is not function or function.__qualname__ != function.__name__:
        return None
    return Path(file) if Path(function.__code__.co_filename).name == Path(file).name else None


def _check_same(function: types.FunctionType, text: str, path: Path) -> None:
    """The file may have been edited after it was imported: then its text is not the function that was given."""
    tree = parse(text, str(path))
    node = next((node for node in reversed(tree.body) if getattr(node, "name", None) == function.__name__), None)
    if isinstance(node, ast.FunctionDef) and any(isinstance(part, ast.Assert) for part in ast.walk(node)):
        return  # test runners rewrite assert statements, so the two differ without an edit
    codes = compile(tree, str(path), "exec", dont_inherit=True).co_consts
    if not any(isinstance(code, types.CodeType) and _same_code(code, function.__code__) for code in codes):
        raise InputError(f"{path}: the text of `{function.__name__}` changed after it was imported; reload it.")


def _same_code(one: types.CodeType, other: types.CodeType) -> bool:
    def plain(code: types.CodeType) -> tuple[Any, ...]:
        constants = [value for value in code.co_consts if not isinstance(value, types.CodeType)]
        return code.co_name, code.co_code, code.co_names, code.co_varnames, repr(constants)

    def inner(code: types.CodeType) -> list[types.CodeType]:
        return [value for value in code.co_consts if isinstance(value, types.CodeType)]

    if plain(one) != plain(other) or len(inner(one)) != len(inner(other)):
        return False
    return all(_same_code(a, b) for a, b in zip(inner(one), inner(other), strict=True))


def _from_own_text(function: types.FunctionType) -> StrategySource:
    name = function.__name__
    try:
        text = _dedent(normalise(inspect.getsource(function)))
    except (OSError, TypeError, IndentationError, SyntaxError, tokenize.TokenError):
        message = f"the text of `{name}` cannot be found; define it in a file or a notebook cell, or give its text."
        raise InputError(message) from None
    tree = parse(text, f"`{name}`")
    if not (len(tree.body) == 1 and getattr(tree.body[0], "name", None) == name):
        raise InputError(f"`{name}` has no text of its own; write it as `def {name}(ctx, params):`.")
    headers, captured, unavailable = [], {}, {}
    for outer in _outer_names(tree, f"`{name}`"):
        known, value = _look_up(function, outer)
        if not known:
            continue
        header = None if getattr(value, "__module__", None) == function.__module__ else _import_line(outer, value)
        if header:
            headers.append(header)
        elif is_constant(value):
            captured[outer] = value
        else:
            unavailable[outer] = _describe(value)
    if headers:
        text = "".join(f"{header}\n" for header in sorted(headers)) + "\n\n" + text
    return StrategySource(text, name, source_hash(text), captured, unavailable)


def _dedent(text: str) -> str:
    """The text moved to the left margin. `textwrap.dedent` would also change the lines inside multi-line strings."""
    indent = text[: len(text) - len(text.lstrip(" \t"))]
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = text.split("\n")
    return "\n".join(line if number in inside else _unindent(line, indent) for number, line in enumerate(lines, 1))


def _unindent(line: str, indent: str) -> str:
    return line.removeprefix(indent) if line.startswith(indent) else line.lstrip(" \t")


def _outer_names(tree: ast.Module, where: str) -> list[str]:
    """Names that the text reads and does not bind."""
    try:
        scopes = Scopes(tree)
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be read; simplify it.") from None
    read = (node for node in scopes.scope_of if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return sorted({node.id for node in read if scopes.binding(node) is None})


def _look_up(function: types.FunctionType, name: str) -> tuple[bool, Any]:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if name in cells:
        try:
            return True, cells[name].cell_contents
        except ValueError:
            return False, None
    if name in function.__globals__:
        return True, function.__globals__[name]
    return False, None


def _import_line(name: str, value: Any) -> str | None:
    """The import that binds `name` to this module, function or class, when it can be imported by that path."""
    if isinstance(value, types.ModuleType):
        path = value.__name__
        if path == "__main__":
            return None
        return f"import {path}" if path == name else f"import {path} as {name}"
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(own, str) or module in ("__main__", "builtins"):
        return None
    if callable(value) and own.isidentifier() and getattr(sys.modules.get(module), own, None) is value:
        return f"from {module} import {own}" if own == name else f"from {module} import {own} as {name}"
    return None


def is_constant(value: Any) -> bool:
    """Is this an immutable JSON value: None, bool, str, a finite float, an int that JSON keeps, or a tuple of them?"""
    if type(value) is tuple:
        return all(is_constant(part) for part in value)
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return abs(value) <= _LARGEST_JSON_INTEGER
    if type(value) is str:
        return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)
    return value is None or type(value) is bool


def typed_constants(captured: Mapping[str, Any]) -> dict[str, Any]:
    """Captured constants as JSON in which equal hashes mean equal values: 2 and 2.0, 0.0 and -0.0 are told apart."""

    def typed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [typed(part) for part in value]
        return {"float": value.hex()} if isinstance(value, float) else value

    return {name: typed(value) for name, value in captured.items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list | tuple) else value


def _describe(value: Any) -> str:
    if isinstance(value, types.FunctionType):
        return "a function"
    if isinstance(value, type):
        return "a class"
    if isinstance(value, int | float | str):
        return f"the value {value!r}, which JSON does not keep,"
    return f"an object of type {type(value).__name__}"
