"""What a strategy changes, and what it lets depend on order: the checks on values.

A strategy keeps nothing but what it hands to `targets.remember`. So ctx and params may not be changed, nothing may be
hung on functions, classes or modules, and the order of a set, which differs between processes, may not be used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ledger_pipeline.strategy.tiers.flow import Facts, Flow
from ledger_pipeline.strategy.tiers.rules import (
    MUTATING_FUNCTIONS,
    MUTATORS,
    SET_SAFE_BUILTINS,
    SET_SAFE_METHODS,
    Reason,
)

_CONTAINERS = (ast.List, ast.Set, ast.Dict, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp)


def _refuse(node: ast.AST, code: str, message: str) -> Reason:
    return Reason(getattr(node, "lineno", 1), code, message, 3)


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
                binding = scopes.binding(target)
                if binding is not None and flow.depths.get(binding) == 0:
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
    root = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    return flow.is_context(root) or flow.is_shared(node)


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
            call = facts.scopes.parent[around]
            return attribute in SET_SAFE_METHODS and isinstance(call, ast.Call) and call.func is around
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
    if not isinstance(comprehension, ast.GeneratorExp | ast.ListComp) or not isinstance(call, ast.Call):
        return False
    return _call_unordered(call, facts)


def _call_unordered(call: ast.Call, facts: Facts) -> bool:
    if facts.scopes.is_builtin(call.func, *SET_SAFE_BUILTINS):
        return not any(keyword.arg == "key" for keyword in call.keywords)
    if isinstance(call.func, ast.Attribute) and call.func.attr in SET_SAFE_METHODS:
        return facts.flow.is_set(call.func.value)
    return facts.scopes.function(call.func) is not None
