"""What a value may be: (a part of) ctx or params, or a set; and all the facts that the checks of preflight share.

Found from the syntax tree to a fixed point, without regard to the order of statements, so it errs on the side of yes: a
name that stands for a part of params anywhere in a function is treated so everywhere in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ledger_pipeline.strategy.preflight_rules import SET_METHODS
from ledger_pipeline.strategy.preflight_scopes import Binding, Origin, Scopes

_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


_WRAPPERS = ("enumerate", "zip", "reversed", "sorted", "list", "tuple", "dict", "iter", "filter", "map", "set")


class Flow:
    """What bindings may be.

    shared: a part of ctx or params. holders: something that holds such a part (a list made here with params in it).
    contexts: ctx itself. sets: a set.
    """

    def __init__(self, scopes: Scopes, strategy: ast.FunctionDef | ast.AsyncFunctionDef):
        self.scopes = scopes
        inside = scopes.inside[strategy]
        names = [argument.arg for argument in (*strategy.args.posonlyargs, *strategy.args.args)][:2]
        self.shared: set[Binding] = {(inside, name) for name in names}
        self.contexts: set[Binding] = {(inside, name) for name in names[:1]}
        self.holders: set[Binding] = set()
        self.sets: set[Binding] = set()
        self._shared_functions: set[ast.AST] = set()
        self._holder_functions: set[ast.AST] = set()
        self._set_functions: set[ast.AST] = set()
        size = -1
        while size != self._size():
            size = self._size()
            for binding, origins in scopes.origins.items():
                for origin in origins:
                    self._learn(binding, origin)
            for function, values in scopes.returns.items():
                for value in values:
                    for group, holds in (
                        (self._shared_functions, self.is_shared(value)),
                        (self._holder_functions, self.is_shared(value, True)),
                        (self._set_functions, self.is_set(value)),
                    ):
                        if holds:
                            group.add(function)

    def _learn(self, binding: Binding, origin: Origin) -> None:
        if self.is_shared(origin.value, origin.element):
            self.shared.add(binding)
        if self.is_shared(origin.value, True):
            self.holders.add(binding)
        if not origin.element and self.is_set(origin.value):
            self.sets.add(binding)
        if not origin.element and self.is_context(origin.value):
            self.contexts.add(binding)

    def _size(self) -> int:
        functions = (self._shared_functions, self._holder_functions, self._set_functions)
        return sum(len(group) for group in (self.shared, self.holders, self.contexts, self.sets, *functions))

    def _known(self, node: ast.expr, group: set[Binding]) -> bool:
        return isinstance(node, ast.Name) and self.scopes.binding(node) in group

    def is_context(self, node: ast.expr) -> bool:
        """Is this ctx itself, under any name?"""
        return self._known(node, self.contexts)

    def is_shared(self, node: ast.expr | None, element: bool = False) -> bool:
        """May this be ctx, params, or something inside them (with `element`: may an element of it be)?"""
        match node:
            case ast.Name():
                return self._known(node, self.shared) or (element and self._known(node, self.holders))
            case ast.Attribute(value=value, attr="memory") if self.is_context(value):
                return False  # a fresh copy at each access
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return self.is_shared(value, True)
            case ast.NamedExpr(value=value):
                return self.is_shared(value, element)
            case ast.Starred(value=value):
                return self.is_shared(value, True)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_shared(body, element) or self.is_shared(orelse, element)
            case ast.BoolOp(values=values):
                return any(self.is_shared(value, element) for value in values)
            case ast.Tuple(elts=values) | ast.List(elts=values) | ast.Dict(values=values) if element:
                spread = zip(node.keys, values, strict=True) if isinstance(node, ast.Dict) else ()
                inner = any(key is None and self.is_shared(value, True) for key, value in spread)
                return inner or any(self.is_shared(value) for value in values)
            case ast.ListComp(elt=value) | ast.GeneratorExp(elt=value) | ast.DictComp(value=value):
                return element and self.is_shared(value)
            case ast.BinOp(left=left, right=right):
                return element and (self.is_shared(left, True) or self.is_shared(right, True))
            case ast.Call():
                return self._is_shared_call(node, element)
        return False

    def _is_shared_call(self, call: ast.Call, element: bool) -> bool:
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        match call.func:
            case ast.Attribute(value=value, attr="get" | "values" | "items" | "setdefault" | "pop" | "popitem"):
                return self.is_shared(value, True) or any(self.is_shared(part) for part in values)
            case ast.Attribute(value=value, attr="copy"):
                return element and (self.is_shared(value, True) or any(self.is_shared(part, True) for part in values))
        if self.scopes.is_builtin(call.func, "next", "min", "max"):
            return any(self.is_shared(part, True) for part in values)
        if self.scopes.is_builtin(call.func, *_WRAPPERS):
            return element and any(self.is_shared(part, True) for part in values)
        if self.scopes.is_class(call.func):
            return element and any(self.is_shared(part) for part in values)
        function = self.scopes.function(call.func)
        return function in self._shared_functions or (element and function in self._holder_functions)

    def is_set(self, node: ast.expr) -> bool:
        """May this be a set, whose order of iteration differs between processes?"""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name():
                return self._known(node, self.sets)
            case ast.NamedExpr(value=value):
                return self.is_set(value)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_set(body) or self.is_set(orelse)
            case ast.BoolOp(values=values):
                return any(self.is_set(value) for value in values)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _SET_OPERATORS):
                return any(self.is_set(side) or _is_keys(side) for side in (left, right))
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SET_METHODS:
                return self.is_set(value)
            case ast.Call(func=func):
                return (
                    self.scopes.is_builtin(func, "set", "frozenset")
                    or self.scopes.function(func) in self._set_functions
                )
        return False


def _is_keys(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items"), args=[]):
            return True
    return False


@dataclass(frozen=True)
class Facts:
    """All that the checks look at: the tree, the strategy function in it, names, flow, and what was captured beside it."""

    tree: ast.Module
    strategy: ast.FunctionDef | ast.AsyncFunctionDef
    scopes: Scopes
    flow: Flow
    captured: Mapping[str, object]
    unavailable: Mapping[str, str]

    def nodes(self) -> Iterator[ast.AST]:
        """Every node that Python evaluates: annotations are left out where a future import makes them text."""
        skip = self.scopes.annotations if self.scopes.lazy_annotations else set()
        return (node for node in ast.walk(self.tree) if node not in skip)

    def dotted(self, node: ast.Name) -> tuple[str, ast.expr] | None:
        """For a name that an import binds: the dotted path it starts (`numpy.random.rand`) and the path's outermost node."""
        binding = self.scopes.binding(node)
        if binding is None or binding not in self.scopes.imports:
            return None
        path, top = self.scopes.imports[binding], node
        while isinstance(around := self.scopes.parent.get(top), ast.Attribute):
            path, top = f"{path}.{around.attr}", around
        return path, top

    def path(self, node: ast.expr) -> str:
        """The dotted path of a name or attribute whose root is an import; otherwise an empty string."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        found = self.dotted(root) if isinstance(root, ast.Name) else None
        return found[0] if found and found[1] is node else ""
