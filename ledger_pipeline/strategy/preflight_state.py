"""State that outlives a pulse, or an order that differs between processes: the checks on values.

A strategy may keep nothing but what it hands to `targets.remember`. So a module-level container may only be read (and not
be handed on, where it could be changed under another name), ctx and params may not be changed, nothing may be hung on
functions, classes or modules, and the order of a set may not be used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from ledger_pipeline.strategy.preflight_flow import Facts, Flow
from ledger_pipeline.strategy.preflight_rules import (
    MUTATING_FUNCTIONS,
    MUTATORS,
    READ_ONLY_BUILTINS,
    SET_SAFE_BUILTINS,
    SET_SAFE_METHODS,
    SHALLOW_BUILTINS,
    STDLIB,
    Reason,
)

_PURE_CONSTRUCTORS = frozenset(
    """
decimal.Decimal fractions.Fraction datetime.timedelta datetime.date datetime.datetime datetime.time datetime.timezone
typing.TypeVar
""".split()
)
_ENUMS = frozenset({"typing.NamedTuple", "enum.Enum", "enum.IntEnum", "enum.StrEnum"})
_CONTAINERS = (ast.List, ast.Set, ast.Dict, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp)


def _refuse(node: ast.AST, code: str, message: str) -> Reason:
    return Reason(getattr(node, "lineno", 1), code, message, 3)


# constants


def layers(node: ast.expr, facts: Facts, known: Mapping[str, int]) -> int | None:
    """How many layers of a constant expression to peel until nothing in it can be changed; None when it is no constant.

    0 for a number or a tuple of them, 1 for a list of numbers, 2 for a dict of lists.
    """

    def inner(*nodes: ast.expr | None) -> int | None:
        found = [layers(part, facts, known) for part in nodes if part is not None]
        return None if None in found else max(found, default=0)  # type: ignore[type-var]

    def peeled(*nodes: ast.expr | None) -> int | None:
        found = inner(*nodes)
        return None if found is None else max(found - 1, 0)

    def container(*nodes: ast.expr | None) -> int | None:
        found = inner(*nodes)
        return None if found is None else found + 1

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
    """Module-level constants with their `layers`, and a reason for every other statement that the module text would execute."""
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
        names = target.elts if unpacked else [target]
        if not all(isinstance(name, ast.Name) for name in names):
            return False
        for name in names:
            known[name.id] = max(depth - 1, 0) if unpacked else depth  # type: ignore[attr-defined]
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
                f"`{node.id}` is a container at module level, and here it is changed or handed on to where it could be; "
                f"copy it first, as in dict({node.id}) or list({node.id}), or write it as a tuple"
            )
            yield _refuse(node, "shared-state", message)


def _around(facts: Facts, node: ast.AST) -> Iterator[ast.AST]:
    while (found := facts.scopes.parent.get(node)) is not None:
        yield found
        node = found


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
        named = len(bases) == 1 and bases[0] in _ENUMS and not node.decorator_list and not node.keywords
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


# changes


def changes(facts: Facts) -> Iterator[Reason]:
    """Every way to change ctx, params, or something that outlives the pulse."""
    scopes, flow = facts.scopes, facts.flow
    for node in facts.nodes():
        match node:
            case (
                ast.Attribute(value=value, ctx=ast.Store() | ast.Del())
                | ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
            ):
                yield from _store(node, value, facts)
            case ast.Attribute(value=value, attr=name) if name in MUTATORS:
                if _is_input(value, flow):
                    yield _changes_input(node)
                elif scopes.is_builtin(value, "list", "dict", "set", "bytearray"):
                    message = f"call `.{name}` on the object itself, so that it can be seen what is changed"
                    yield _refuse(node, "shared-state", message)
                elif _is_of_a_package(value, facts):
                    yield _refuse(
                        node, "shared-state", f"`.{name}` changes an object of a package, which outlives the pulse"
                    )
            case ast.AugAssign(target=ast.Name() as target, value=value) if isinstance(value, _CONTAINERS):
                if scopes.binding(target) in flow.shared:
                    yield _changes_input(node)
            case ast.Call(args=[first, *_]) if facts.path(node.func) in MUTATING_FUNCTIONS and _is_input(first, flow):
                yield _changes_input(node)
            case ast.Attribute(value=ast.Name() as name, attr=attribute) if scopes.function(name):
                message = f"`{name.id}.{attribute}`: an attribute of a function is hidden memory; use targets.remember"
                yield _refuse(node, "function-attribute", message)


def _store(node: ast.Attribute | ast.Subscript, value: ast.expr, facts: Facts) -> Iterator[Reason]:
    root = value
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    binding = facts.scopes.binding(root) if isinstance(root, ast.Name) else None
    if _is_input(value, facts.flow):
        yield _changes_input(node)
    elif binding and (binding[0] is facts.scopes.module or binding in facts.scopes.imports):
        message = f"`{binding[1]}` outlives the pulse and may not be changed; state goes through targets.remember"
        yield _refuse(node, "shared-state", message)
    elif isinstance(node, ast.Attribute):
        message = f"`.{node.attr}` is assigned; a strategy assigns to names and to items of its own containers only"
        yield _refuse(node, "attribute-assignment", message)


def _is_input(node: ast.expr, flow: Flow) -> bool:
    inner = node
    while isinstance(inner, ast.Attribute | ast.Subscript):
        if isinstance(inner, ast.Attribute) and inner.attr == "memory" and flow.is_context(inner.value):
            return True
        inner = inner.value
    return flow.is_shared(node)


def _is_of_a_package(node: ast.expr, facts: Facts) -> bool:
    root, steps = node, 0
    while isinstance(root, ast.Attribute | ast.Subscript):
        root, steps = root.value, steps + 1
    binding = facts.scopes.binding(root) if isinstance(root, ast.Name) else None
    if binding is None or binding not in facts.scopes.imports:
        return False
    return steps > 0 or "." in facts.scopes.imports[binding]


def _changes_input(node: ast.AST) -> Reason:
    message = "changes ctx or params, or an object inside them; copy it first, and hand state on with targets.remember"
    return _refuse(node, "mutates-input", message)


# order


def set_order(facts: Facts) -> Iterator[Reason]:
    """The order of a set of strings depends on the hash seed of the process, so nothing may depend on it."""
    message = "the order of a set differs between processes; use sorted(...) first"
    for node in facts.nodes():
        if not isinstance(node, ast.expr) or node in facts.scopes.annotations:
            continue
        if isinstance(node, ast.Name) and facts.scopes.is_builtin(node, "set", "frozenset"):
            if not _names_a_type(node, facts):
                yield _refuse(node, "set-order", message)
        elif isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            continue
        elif facts.flow.is_set(node) and not _order_unused(node, facts):
            yield _refuse(node, "set-order", message)


def _names_a_type(node: ast.Name, facts: Facts) -> bool:
    around = facts.scopes.parent[node]
    if isinstance(around, ast.Tuple):
        around = facts.scopes.parent[around]
    match around:
        case ast.Call(func=func):
            return func is node or facts.scopes.is_builtin(func, "isinstance", "issubclass")
        case ast.Subscript(value=value) | ast.MatchClass(cls=value):
            return value is node
    return False


def _order_unused(node: ast.expr, facts: Facts) -> bool:
    around = facts.scopes.parent[node]
    match around:
        case (
            ast.Compare()
            | ast.UnaryOp()
            | ast.If()
            | ast.While()
            | ast.Assert()
            | ast.Expr()
            | ast.Return()
            | ast.Match()
        ):
            return True
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = around.targets if isinstance(around, ast.Assign) else [around.target]
            in_class = isinstance(facts.scopes.parent[around], ast.ClassDef)
            combines = isinstance(getattr(around, "op", ast.BitOr()), ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor)
            return all(isinstance(target, ast.Name) for target in targets) and combines and not in_class
        case ast.BoolOp() | ast.NamedExpr() | ast.IfExp() | ast.arguments():
            return True
        case ast.BinOp(op=op):
            return isinstance(op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor)
        case ast.Attribute(attr=attribute):
            return attribute in SET_SAFE_METHODS
        case ast.comprehension(iter=source):
            return source is not node or _result_unordered(facts.scopes.parent[around], facts)
        case ast.Call(func=func) if func is not node:
            return _call_unordered(around, facts)
        case ast.keyword(arg=name):
            call = facts.scopes.parent[around]
            return isinstance(call, ast.Call) and name is not None and facts.scopes.function(call.func) is not None
        case ast.Subscript(slice=index):
            return index is node
    return False


def _result_unordered(comprehension: ast.AST, facts: Facts) -> bool:
    if isinstance(comprehension, ast.SetComp):
        return True
    call = facts.scopes.parent.get(comprehension)
    wanted = isinstance(comprehension, ast.GeneratorExp | ast.ListComp) and isinstance(call, ast.Call)
    return wanted and _call_unordered(call, facts)


def _call_unordered(call: ast.Call, facts: Facts) -> bool:
    if facts.scopes.is_builtin(call.func, *SET_SAFE_BUILTINS):
        return not any(keyword.arg == "key" for keyword in call.keywords)
    if isinstance(call.func, ast.Attribute) and call.func.attr in SET_SAFE_METHODS:
        return facts.flow.is_set(call.func.value)
    return facts.scopes.function(call.func) is not None
