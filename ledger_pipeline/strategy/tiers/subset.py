"""Tier 1: the part of Python in which a source says all that it depends on.

What is listed here is deterministic and keeps nothing; whatever is not listed makes a source tier 2, with its line. The
compiled simulator accepts this part, so it is small and typed:

statements    function definitions at the top level without decorators, constants at the top level, assignments,
              if, for, while, break, continue, pass, return, calls; imports of math and numpy
expressions   numbers, texts, True, False, None; arithmetic, comparisons, and, or, not, if-else; names, items and
              slices; tuples, lists, dicts and their comprehensions; calls with listed functions; a lambda as the key
              of sorted, min or max; a set only to the right of `in`
functions     BUILTINS, everything of math, NUMPY, functions of the own text
attributes    METHODS and VALUES, whatever the object is
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ledger_pipeline.strategy.tiers.flow import Facts
from ledger_pipeline.strategy.tiers.rules import Reason

BUILTINS = frozenset(
    "abs all any bool dict divmod enumerate float int len list max min pow range reversed round sorted sum tuple "
    "zip".split()
)
NUMPY = frozenset(
    """
abs absolute add all allclose any arange argmax argmin argsort around array asarray average bool_ ceil clip
concatenate copysign corrcoef cos count_nonzero cov cumprod cumsum diff divide dot e exp expm1 fabs flatnonzero
float64 floor floor_divide fmax fmin full full_like greater greater_equal hypot inf int64 isclose isfinite isin isinf
isnan less less_equal linspace log log10 log1p log2 logical_and logical_not logical_or logical_xor max maximum mean
median min minimum mod multiply nan nan_to_num nanargmax nanargmin nanmax nanmean nanmedian nanmin nanpercentile
nanquantile nanstd nansum nanvar negative nonzero ones ones_like outer percentile pi polyfit polyval power prod
quantile ravel repeat reshape rint round searchsorted sign sin sort sqrt square stack std subtract sum take tan tanh
tile transpose trunc unique var vdot where zeros zeros_like
""".split()
)
METHODS = frozenset(
    """
open high low close volume feature position rate history flat hold targets weights feature_values
entry_price entry_time unrealised bars_held
invest because remember cash as_dict limit stop at_close bracket
get append
all any argmax argmin argsort astype clip copy cumprod cumsum dot max mean min nonzero prod ravel repeat reshape round
searchsorted std sum take tolist transpose var item
random normal uniform integers standard_normal choice permutation
weekday isoweekday startswith endswith upper lower strip split
""".split()
)
VALUES = frozenset(
    """
now universe cash equity memory rng opens highs lows closes volumes positions
open high low close volume
year month day hour minute second quarter dayofyear day_of_year dayofweek day_of_week days_in_month is_month_end
is_month_start is_quarter_end is_quarter_start is_year_end is_year_start
T size shape ndim
""".split()
)
KEYED = frozenset({"sorted", "min", "max"})

_STATEMENTS = (
    ast.FunctionDef, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For, ast.While, ast.If, ast.Pass,
    ast.Break, ast.Continue, ast.Expr, ast.Import, ast.ImportFrom,
)  # fmt: skip
_EXPRESSIONS = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.Constant, ast.Name, ast.Attribute,
    ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Dict, ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.Starred,
    ast.Lambda, ast.Set,
)  # fmt: skip
_WORDS = {
    ast.ClassDef: "a class", ast.With: "with", ast.Try: "try", ast.Raise: "raise", ast.Assert: "assert",
    ast.Delete: "del", ast.Match: "match", ast.JoinedStr: "an f-string", ast.Set: "a set, other than after `in`",
    ast.SetComp: "a set", ast.Lambda: "a lambda, other than as a key", ast.NamedExpr: "an assignment in an expression",
    ast.Yield: "yield", ast.YieldFrom: "yield", ast.TryStar: "try",
}  # fmt: skip


def reasons(facts: Facts) -> Iterator[Reason]:
    """What of a source is outside the subset, each as a reason for tier 2."""
    annotations = facts.scopes.annotations
    for node in facts.nodes():
        if node in annotations:
            continue
        problem = _statement(node, facts) if isinstance(node, ast.stmt) else _expression(node, facts)
        if problem:
            line = getattr(node, "lineno", 1)
            yield Reason(line, "outside-subset", f"{problem} is outside the subset of tier 1", 2)


def _statement(node: ast.stmt, facts: Facts) -> str | None:
    top = facts.scopes.parent.get(node) is facts.tree
    if not isinstance(node, _STATEMENTS):
        return _WORDS.get(type(node), f"`{type(node).__name__.lower()}`")
    match node:
        case ast.FunctionDef():
            defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            if not top:
                return f"the function `{node.name}` within a function"
            if node.args.vararg or node.args.kwarg or not all(_is_constant(each) for each in defaults):
                return f"the parameters of `{node.name}`: only named ones, with constants as defaults,"
        case ast.Assign() | ast.AnnAssign() if top:
            if node.value is not None and not _is_constant(node.value):
                return "a value at the top level that is no number, text or tuple of these"
        case ast.Import() | ast.ImportFrom():
            roots = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module or ""}
            if roots - {"math", "numpy", "__future__"}:
                return None  # has a reason of its own
        case ast.For(orelse=[_, *_]) | ast.While(orelse=[_, *_]):
            return "else after a loop"
        case ast.AugAssign(target=ast.Attribute()):
            return "an assignment to an attribute"
        case ast.AugAssign(op=ast.Mod(), target=target, value=value) if not _are_numbers(target, value):
            return "% with what may be no numbers (a text)"
    return None


def _is_constant(node: ast.expr) -> bool:
    """Numbers, texts, truth values, None, arithmetic on them, and tuples of them."""
    match node:
        case ast.Constant(value=value):
            return not isinstance(value, bytes | complex) and value is not Ellipsis
        case ast.UnaryOp(operand=operand):
            return _is_constant(operand)
        case ast.BinOp(left=left, right=right):
            return _is_constant(left) and _is_constant(right)
        case ast.Tuple(elts=parts):
            return all(_is_constant(part) for part in parts)
    return False


def _expression(node: ast.AST, facts: Facts) -> str | None:
    around = facts.scopes.parent.get(node)
    if not isinstance(node, ast.expr):
        return None
    if not isinstance(node, _EXPRESSIONS):
        return _WORDS.get(type(node), f"`{type(node).__name__}`")
    match node:
        case ast.Set(elts=parts):
            return None if _is_member(node, around) and all(map(_is_constant, parts)) else _WORDS[ast.Set]
        case ast.Lambda(args=arguments):
            call = facts.scopes.parent.get(around) if isinstance(around, ast.keyword) and around.arg == "key" else None
            plain = not (arguments.defaults or arguments.vararg or arguments.kwarg)
            keyed = isinstance(call, ast.Call) and facts.scopes.is_builtin(call.func, *KEYED)
            return None if keyed and plain else _WORDS[ast.Lambda]
        case ast.Starred():
            return None if isinstance(around, ast.List | ast.Tuple) else "a starred argument"
        case ast.Constant(value=value) if isinstance(value, bytes | complex) or value is Ellipsis:
            return f"the constant {value!r}"
        case ast.BinOp(op=ast.Mod(), left=left, right=right) if not _are_numbers(left, right):
            return "% with what may be no numbers (a text)"
        case ast.BinOp(op=ast.MatMult()):
            return "the operator @"
        case ast.Compare(ops=ops, comparators=others) if any(isinstance(op, ast.Is | ast.IsNot) for op in ops):
            fixed = all(isinstance(each, ast.Constant) and each.value in (None, True, False) for each in others)
            return None if fixed else "`is` with anything but None, True or False"
        case ast.ListComp(generators=parts) | ast.DictComp(generators=parts) | ast.GeneratorExp(generators=parts):
            if isinstance(node, ast.GeneratorExp) and not _is_argument(node, around, facts):
                return "a generator, other than as the one argument of a listed function"
            return "an async comprehension" if any(part.is_async for part in parts) else None
        case ast.Call():
            return _call(node, facts)
        case ast.Attribute(attr=name):
            return _attribute(node, name, around, facts)
        case ast.Name(ctx=ast.Load()):
            return _name(node, around, facts)
    return None


def _is_argument(node: ast.AST, around: ast.AST | None, facts: Facts) -> bool:
    return isinstance(around, ast.Call) and node in around.args and facts.scopes.is_builtin(around.func, *BUILTINS)


def _name(node: ast.Name, around: ast.AST | None, facts: Facts) -> str | None:
    called = isinstance(around, ast.Call) and around.func is node
    if facts.scopes.binding(node) is None:
        if node.id in facts.captured:
            return None  # has a reason of its own
        if node.id in BUILTINS:
            keyed = isinstance(around, ast.keyword) and around.arg in ("key", "dtype")
            typed = isinstance(around, ast.Call) and node in around.args and node.id in ("float", "int", "bool")
            return None if called or keyed or typed else f"`{node.id}` handed on as a value"
        return f"the builtin `{node.id}`"
    if facts.scopes.function(node) is not None and not called:
        keyed = isinstance(around, ast.keyword) and around.arg == "key"
        return None if keyed else f"the function `{node.id}` handed on as a value"
    return None


def _call(node: ast.Call, facts: Facts) -> str | None:
    path = facts.path(node.func)
    own = {keyword.arg for keyword in node.keywords}
    if None in own:
        return "a starred argument"
    if own & {"where", "out"}:
        return "`where=` or `out=`"
    types = [keyword.value for keyword in node.keywords if keyword.arg == "dtype"]
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    types += node.args[:1] if method == "astype" else node.args[1:2] if path in ("numpy.array", "numpy.asarray") else []
    if not all(_is_number_type(one, facts) for one in types):
        return "a dtype other than float, int or bool"
    if path.startswith("numpy."):
        texts = [part for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if texts and not _only_items(texts, facts):
            return f"a text handed to `{path}`"
    elif not isinstance(node.func, ast.Name | ast.Attribute):
        return "a call of what an expression gives"
    return None


def _are_numbers(left: ast.expr, right: ast.expr) -> bool:
    """Whether one side is a number as written, or the right one a number as computed, or an item."""
    constant = any(isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in (left, right))
    named = (
        isinstance(right, ast.Call) and isinstance(right.func, ast.Name) and right.func.id in ("len", "int", "round")
    )
    return constant or named or isinstance(right, ast.Subscript)


def _is_number_type(node: ast.expr, facts: Facts) -> bool:
    named = isinstance(node, ast.Name) and node.id in ("float", "int", "bool") and facts.scopes.binding(node) is None
    return named or facts.path(node) in ("numpy.float64", "numpy.int64", "numpy.bool_")


def _views(node: ast.Call, around: ast.AST | None, facts: Facts) -> bool:
    """Whether this is .items(), .keys() or .values() where only its elements count: in a loop, after `in`, or as the
    argument of a listed builtin.
    """
    looped = isinstance(around, ast.For | ast.comprehension) and around.iter is node
    handed = isinstance(around, ast.Call) and node in around.args and facts.scopes.is_builtin(around.func, *BUILTINS)
    return looped or handed or _is_member(node, around)


def _is_member(node: ast.expr, around: ast.AST | None) -> bool:
    """Whether this stands to the right of `in`."""
    if not isinstance(around, ast.Compare) or around.left is node:
        return False
    return all(isinstance(op, ast.In | ast.NotIn) for op in around.ops)


def _only_items(texts: list[ast.Constant], facts: Facts) -> bool:
    """Whether these texts are keys of items (params["x"]) or arguments of ctx's own methods."""
    for text in texts:
        around = facts.scopes.parent.get(text)
        named = isinstance(around, ast.Call) and isinstance(around.func, ast.Attribute) and not facts.path(around.func)
        if not (isinstance(around, ast.Subscript) or named):
            return False
    return True


def _attribute(node: ast.Attribute, name: str, around: ast.AST | None, facts: Facts) -> str | None:
    path = facts.path(node)
    if path or (isinstance(node.value, ast.Name) and facts.dotted(node.value)):
        whole = path or name
        listed = whole.startswith("math.") or (whole.startswith("numpy.") and whole.removeprefix("numpy.") in NUMPY)
        return f"`{whole}`" if whole.startswith("numpy.") and not listed else None  # packages have reasons of their own
    called = isinstance(around, ast.Call) and around.func is node
    if not isinstance(node.ctx, ast.Load):
        return "an assignment to an attribute"
    if called and name in ("items", "keys", "values"):
        used = isinstance(around, ast.Call) and _views(around, facts.scopes.parent.get(around), facts)
        return None if used else f"`.{name}()` other than to go through it"
    if called:
        return None if name in METHODS else f"the method `.{name}`"
    return None if name in VALUES else f"`.{name}`"
