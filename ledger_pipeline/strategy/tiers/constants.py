"""What the module text keeps between pulses: constants, defaults and classes, which may be read and not be changed.

A module-level container may only be read; handed on under another name it could be changed, so that is refused too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from ledger_pipeline.strategy.tiers.flow import Facts
from ledger_pipeline.strategy.tiers.rules import READ_ONLY_BUILTINS, SHALLOW_BUILTINS, STDLIB, Reason

_PURE_CONSTRUCTORS = frozenset(
    """
    decimal.Decimal fractions.Fraction datetime.timedelta datetime.date datetime.datetime datetime.time
    datetime.timezone typing.TypeVar
    """.split()
)
_STATELESS_BASES = frozenset({"typing.NamedTuple", "enum.Enum", "enum.IntEnum", "enum.StrEnum"})


def _refuse(node: ast.AST, code: str, message: str) -> Reason:
    return Reason(getattr(node, "lineno", 1), code, message, 3)


def layers(node: ast.expr, facts: Facts, known: Mapping[str, int]) -> int | None:
    """How many layers of a constant expression to peel until nothing in it can be changed; None when it is no constant.

    0 for a number or a tuple of them, 1 for a list of numbers, 2 for a dict of lists.
    """

    def inner(*nodes: ast.expr | None) -> int | None:
        depths = [layers(part, facts, known) for part in nodes if part is not None]
        return None if None in depths else max(depths, default=0)  # type: ignore[type-var]

    def peeled(*nodes: ast.expr | None) -> int | None:
        depths = inner(*nodes)
        return None if depths is None else max(depths - 1, 0)

    def container(*nodes: ast.expr | None) -> int | None:
        depths = inner(*nodes)
        return None if depths is None else depths + 1

    match node:
        case ast.Constant():
            return 0
        case ast.Name(id=name):
            return _imported(facts.path(node)) if facts.path(node) else known.get(name)
        case ast.Tuple(elts=parts):
            return container(*parts) if inner(*parts) else inner(*parts)
        case ast.List(elts=parts) | ast.Set(elts=parts):
            return container(*parts)
        case ast.Dict(keys=keys, values=values):
            return container(*keys, *values)
        case ast.Starred(value=value):
            return peeled(value)
        case ast.UnaryOp(operand=value) | ast.FormattedValue(value=value):
            return inner(value)
        case ast.BinOp(left=left, right=right):
            return inner(left, right)
        case ast.Compare(left=left, comparators=others):
            return None if inner(left, *others) is None else 0
        case ast.BoolOp(values=parts) | ast.JoinedStr(values=parts):
            return inner(*parts)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return inner(test, body, orelse)
        case ast.Attribute():
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if not isinstance(root, ast.Name):
                return None
            if facts.path(node):
                return _imported(facts.path(node))
            return 0 if facts.scopes.is_class(root) else None
        case ast.Subscript(value=value, slice=index):
            if facts.scopes.is_builtin(value, "dict", "list", "tuple", "set", "frozenset", "type"):
                return 0
            return inner(value) if isinstance(index, ast.Slice) else peeled(value)
        case ast.Call(func=func, args=args, keywords=keywords):
            values = [*args, *(keyword.value for keyword in keywords)]
            is_builtin, path = facts.scopes.is_builtin, facts.path(node.func)
            if inner(*values) is None:
                return None
            if is_builtin(func, "float", "int", "str", "bool", "abs", "round", "sum", "len", "range"):
                return 0
            if is_builtin(func, "frozenset", "tuple"):
                return inner(*values) if peeled(*values) else 0
            if is_builtin(func, "min", "max"):
                return peeled(*values)
            if is_builtin(func, "list", "set", "sorted", "dict"):
                own = inner(*(keyword.value for keyword in keywords if func.id == "dict"))  # type: ignore[attr-defined]
                return max(peeled(*args) or 0, own or 0) + 1
            if path in _PURE_CONSTRUCTORS or path.startswith("math."):
                return 0
            if facts.scopes.is_class(func) and inner(*values) == 0:
                return 0
    return None


def _imported(path: str) -> int | None:
    """The listed names of numpy and the standard library cannot be changed; an object of another package could be."""
    root = path.split(".")[0]
    return 0 if root == "numpy" or root in STDLIB else None


def module_constants(facts: Facts) -> tuple[dict[str, int], list[Reason]]:
    """Module-level constants with their `layers`, and a reason for every other statement that the module text would
    execute.
    """
    known: dict[str, int] = {}
    reasons = []
    for statement in facts.tree.body:
        match statement:
            case (
                ast.Import()
                | ast.ImportFrom()
                | ast.FunctionDef()
                | ast.AsyncFunctionDef()
                | ast.ClassDef()
                | ast.Pass()
            ):
                continue
            case ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None, target=ast.Name()):
                continue
            case ast.Assign(targets=targets, value=value) if _assign(targets, value, facts, known):
                continue
            case ast.AnnAssign(target=target, value=ast.expr() as value) if _assign([target], value, facts, known):
                continue
        message = (
            "the top level of a strategy's text holds imports, functions and constants written as literals; "
            "compute everything else inside the strategy"
        )
        reasons.append(_refuse(statement, "top-level-code", message))
    return known, reasons


def _assign(targets: list[ast.expr], value: ast.expr, facts: Facts, known: dict[str, int]) -> bool:
    depth = layers(value, facts, known)
    if depth is None:
        return False
    for target in targets:
        unpacked = isinstance(target, ast.Tuple | ast.List)
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        if len(names) < len(parts):
            return False
        for name in names:
            known[name] = max(depth - 1, 0) if unpacked else depth
    return True


def rebound_names(facts: Facts) -> Iterator[Reason]:
    """A module-level name, or one that an import binds, means one thing only."""
    for (scope, name), binders in facts.scopes.binders.items():
        imported = (scope, name) in facts.scopes.imports
        if len(binders) < 2 or not (imported or scope is facts.scopes.module):
            continue
        if all(isinstance(node, ast.Import | ast.ImportFrom) for node in binders) and len(
            {ast.dump(node) for node in binders}
        ) == 1:  # fmt: skip
            continue
        yield _refuse(binders[-1], "rebound-name", f"`{name}` is bound more than once; give each thing its own name")


def constants_only_read(facts: Facts, known: Mapping[str, int]) -> Iterator[Reason]:
    """A module-level container is only read: it is neither changed nor handed on under another name."""
    for node in facts.nodes():
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if facts.scopes.binding(node) != (facts.scopes.module, node.id) or not known.get(node.id):
            continue
        if any(around in facts.tree.body for around in _around(facts, node) if isinstance(around, ast.Assign)):
            continue  # in another constant, whose own uses are checked by its own layers
        if not _only_read(node, known[node.id], facts):
            message = (
                f"`{node.id}` is a container at module level, and is changed here or handed on to where it could be; "
                f"copy it first, as in dict({node.id}) or list({node.id}), or write it as a tuple"
            )
            yield _refuse(node, "shared-state", message)


def _around(facts: Facts, node: ast.AST) -> Iterator[ast.AST]:
    while (parent := facts.scopes.parent.get(node)) is not None:
        yield parent
        node = parent


def _only_read(node: ast.expr, depth: int, facts: Facts) -> bool:
    if depth <= 0:
        return True
    around = facts.scopes.parent[node]
    match around:
        case ast.Subscript(value=value, slice=index, ctx=ast.Load()) if value is node:
            return depth == 1 or _only_read(around, depth if isinstance(index, ast.Slice) else depth - 1, facts)
        case ast.Subscript(slice=index):
            return index is node
        case ast.Attribute(attr=method):
            call = facts.scopes.parent[around]
            if not (isinstance(call, ast.Call) and call.func is around):
                return False
            if method in {"keys", "count", "index", "isdisjoint", "issubset", "issuperset"}:
                return True
            if method == "get":
                return _only_read(call, depth - 1, facts)
            return depth == 1 and method in {
                "items", "values", "copy", "union", "intersection", "difference", "symmetric_difference",
            }  # fmt: skip
        case ast.Compare() | ast.FormattedValue() | ast.Expr() | ast.Assert() | ast.If() | ast.While() | ast.UnaryOp():
            return True
        case ast.IfExp(test=test) if test is node:
            return True
        case ast.BinOp():
            return depth == 1
        case ast.Dict(keys=keys, values=values):
            return depth == 1 and any(key is None and value is node for key, value in zip(keys, values, strict=True))
        case ast.For(iter=source) | ast.comprehension(iter=source) if source is node:
            return depth == 1
        case ast.comprehension(ifs=conditions):
            return node in conditions
        case ast.Starred():
            return depth == 1
        case ast.keyword(arg=None):
            return depth == 1
        case ast.keyword():
            call = facts.scopes.parent[around]
            return isinstance(call, ast.Call) and _reads_arguments(call, depth, facts)
        case ast.Call() if around.func is not node:
            return _reads_arguments(around, depth, facts)
    return False


def _reads_arguments(call: ast.Call, depth: int, facts: Facts) -> bool:
    is_builtin = facts.scopes.is_builtin
    if is_builtin(call.func, *READ_ONLY_BUILTINS):
        return True
    if is_builtin(call.func, *SHALLOW_BUILTINS):
        return depth == 1
    if isinstance(call.func, ast.Attribute) and facts.flow.is_context(call.func.value):
        return True
    path = facts.path(call.func)
    if path in {"numpy.array", "numpy.asarray", "copy.deepcopy"}:
        return True
    return depth == 1 and (path.startswith(("numpy.", "math.", "statistics.", "itertools.")) or path == "copy.copy")


def defaults(facts: Facts, known: Mapping[str, int]) -> Iterator[Reason]:
    """A default is evaluated once, so at module level it has to be a constant that cannot change."""
    for node in facts.nodes():
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if facts.scopes.scope_of[node].kind not in ("module", "class"):
            continue
        for value in (*node.args.defaults, *node.args.kw_defaults):
            if value is not None and layers(value, facts, known) != 0:
                message = (
                    "a default that is not a plain constant is made once and shared by all pulses; use None instead"
                )
                yield _refuse(value, "mutable-default", message)


def classes(facts: Facts, known: Mapping[str, int]) -> Iterator[Reason]:
    """Of classes, only those without state: NamedTuple, Enum and frozen dataclasses, of constants and plain methods."""
    for node in facts.nodes():
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [facts.path(base) for base in node.bases]
        named = len(bases) == 1 and bases[0] in _STATELESS_BASES and not node.decorator_list and not node.keywords
        frozen = not bases and not node.keywords and len(node.decorator_list) == 1 and is_frozen_dataclass(node, facts)
        if not (named or frozen):
            message = (
                f"class `{node.name}` can hold state between pulses; use a function, a tuple or a dict "
                "(NamedTuple, Enum and @dataclass(frozen=True) are allowed)"
            )
            yield _refuse(node, "class", message)
            continue
        for statement in node.body:
            match statement:
                case ast.FunctionDef() | ast.Pass() | ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
                    continue
                case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                    if layers(value, facts, known) == 0:
                        continue
            yield _refuse(
                statement, "class", f"the body of class `{node.name}` may hold plain constants and methods only"
            )


def is_frozen_dataclass(node: ast.ClassDef, facts: Facts) -> bool:
    """Is the only decorator `@dataclass(frozen=True)`?"""
    match node.decorator_list:
        case [ast.Call() as call] if facts.path(call.func) == "dataclasses.dataclass":
            flags = {keyword.arg: keyword.value for keyword in call.keywords}
            return isinstance(frozen := flags.get("frozen"), ast.Constant) and frozen.value is True
    return False
