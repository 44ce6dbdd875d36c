"""The condition of a sweep, such as `fast < slow`: an expression over the params, safe to read from a file.

Allowed are names of params, numbers and texts, + - * / // % **, comparisons, and, or, not, in, and min, max, abs,
round.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.sweeps.axes import Point

FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs, "round": round}
_LONGEST = 1000  # characters
_OPERATION = "_operation"
_LARGEST = 10**60  # of a whole number on the way
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow,
}  # fmt: skip
_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub,
    ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.In, ast.NotIn, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Call,
)  # fmt: skip


def condition(text: str | None, names: Mapping[str, Any]) -> Callable[[Point], bool]:
    """A function that says whether a point meets the condition; without one, every point does. names: the params and
    their values that the grid does not vary. InputError for what is no such expression.
    """
    if text is None:
        return lambda point: True
    code = _compiled(text, names)
    fixed = dict(names)

    def holds(point: Point) -> bool:
        try:  # nothing but what _compiled let pass can run: no attribute, no other function
            return bool(eval(code, {"__builtins__": {}, **FUNCTIONS, _OPERATION: _operation}, fixed | point))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise InputError(f"where {text!r} cannot be told for {point}: {error}.") from None

    return holds


def _operation(name: str, left: Any, right: Any) -> Any:
    """An operation on two numbers, of which neither grows without bound. TypeError for texts and lists, ValueError."""
    for value in (left, right):
        if not isinstance(value, int | float):
            raise TypeError(f"{value!r} is no number")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("a number becomes too large")
    return _OPERATORS[name](left, right)


class _Guarded(ast.NodeTransformer):
    """Every operation by `_operation`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:  # noqa: N802  its name is ast's
        sides = [self.visit(node.left), self.visit(node.right)]
        name = ast.Constant(type(node.op).__name__)
        return ast.Call(ast.Name(_OPERATION, ast.Load()), [name, *sides], [])


def _compiled(text: str, names: Mapping[str, Any]) -> CodeType:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise InputError(f"where is {str(text)[:60]!r}; write an expression such as fast < slow.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"where {text[:80]!r} is no expression; write one such as fast < slow.") from None
    called_names = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS)
        literal = isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str)
        power = isinstance(node, ast.Pow) and not _small_powers(tree)
        if not isinstance(node, _NODES) or called or literal or power or getattr(node, "keywords", None):
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise InputError(
                f"where {text[:80]!r}: {what!r} is not allowed; use params, numbers, texts, + - * /, comparisons, "
                "and, or, not, in, min, max, abs, round."
            )
        if isinstance(node, ast.Name) and node.id not in names and id(node) not in called_names:
            raise InputError(
                f"where {text[:80]!r}: there is no param {node.id!r} (there are: {', '.join(sorted(names)) or 'none'})."
            )
    return compile(ast.fix_missing_locations(_Guarded().visit(tree)), "<where>", "eval", dont_inherit=True)


def _small_powers(tree: ast.AST) -> bool:
    """Whether each power has a small constant exponent, so that no number grows without bound."""
    return all(
        isinstance(node.right, ast.Constant) and isinstance(node.right.value, int) and abs(node.right.value) <= 4
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    )
