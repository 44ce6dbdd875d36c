"""What a value may be: (a part of) ctx or params, or a set; and all the facts that the checks of preflight share.

Found from the syntax tree to a fixed point, without regard to the order of statements, so it errs on the side of yes: a
name that stands for a part of params anywhere in a function is treated so everywhere in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ledger_pipeline.strategy.tiers.rules import SET_METHODS
from ledger_pipeline.strategy.tiers.scopes import Binding, Origin, Scopes

# Attributes of ctx that cannot be changed (numbers, times, a tuple of texts), or are a fresh copy at each access
# (memory).
UNCHANGEABLE = frozenset({"universe", "cash", "equity", "now", "memory"})
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


_COPIERS = ("enumerate", "zip", "reversed", "sorted", "list", "tuple", "dict", "iter", "filter", "map", "set")
_NEVER = 1_000_000  # a depth that no text reaches


def _peeled(depth: int) -> int:
    return depth if depth >= _NEVER else max(depth - 1, 0)


class Flow:
    """What bindings may be.

    depths: how many layers down a binding holds ctx, params or a part of them; 0 when it is one. contexts: bindings
    that are ctx itself. sets: bindings that are sets.
    """

    def __init__(self, scopes: Scopes, strategy: ast.FunctionDef | ast.AsyncFunctionDef, inputs: int = 2):
        self.scopes = scopes
        self.inputs = inputs
        inside = scopes.inside[strategy]
        names = [argument.arg for argument in (*strategy.args.posonlyargs, *strategy.args.args)][:inputs]
        self.depths: dict[Binding | ast.AST, int] = {
            (inside, name): 0 for name in names
        }  # of functions: what they return
        self.contexts: set[Binding] = {(inside, name) for name in names[:1]}
        self.sets: set[Binding | ast.AST] = set()
        changed = True
        while changed:
            changed = False
            for binding, origins in scopes.origins.items():
                for origin in origins:
                    changed |= self._learn(binding, origin)
            for function, values in scopes.returns.items():
                for value in values:
                    changed |= self._learn(function, Origin(value, False))

    def _learn(self, target: Binding | ast.AST, origin: Origin) -> bool:
        before = (self.depths.get(target), len(self.contexts), len(self.sets))
        depth = self.depth(origin.value)
        depth = _peeled(depth) if origin.element else depth
        if depth < self.depths.get(target, _NEVER):
            self.depths[target] = depth
        if not origin.element and self.is_set(origin.value):
            self.sets.add(target)
        if not origin.element and isinstance(target, tuple) and self.is_context(origin.value):
            self.contexts.add(target)
        return before != (self.depths.get(target), len(self.contexts), len(self.sets))

    def is_context(self, node: ast.expr) -> bool:
        """Is this ctx itself, under any name?"""
        return isinstance(node, ast.Name) and self.scopes.binding(node) in self.contexts

    def is_shared(self, node: ast.expr) -> bool:
        """May this be ctx, params, or a part of them, so that changing it would be seen at the next pulse?"""
        return self.depth(node) == 0

    def depth(self, node: ast.expr) -> int:
        """How many layers down this may hold a part of ctx or params: 0 for params["list"], 1 for [params["list"]]."""
        match node:
            case ast.Name():
                binding = self.scopes.binding(node)
                return self.depths.get(binding, _NEVER) if binding else _NEVER
            case ast.Attribute(value=value, attr=name) if name in UNCHANGEABLE and self.is_context(value):
                return _NEVER
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return _peeled(self.depth(value))
            case ast.NamedExpr(value=value):
                return self.depth(value)
            case ast.Starred(value=value):
                return _peeled(self.depth(value))
            case ast.IfExp(body=body, orelse=orelse):
                return min(self.depth(body), self.depth(orelse))
            case ast.BoolOp(values=values):
                return min(self.depth(value) for value in values)
            case ast.Tuple(elts=values) | ast.List(elts=values):
                return 1 + min((self.depth(value) for value in values), default=_NEVER)
            case ast.Dict(keys=keys, values=values):
                parts = (value if key else ast.Starred(value) for key, value in zip(keys, values, strict=True))
                return 1 + min((self.depth(part) for part in parts), default=_NEVER)
            case ast.ListComp(elt=value) | ast.GeneratorExp(elt=value) | ast.DictComp(value=value):
                return 1 + self.depth(value)
            case ast.BinOp(left=left, right=right):
                return min(self._of_copy(left), self._of_copy(right))
            case ast.Call():
                return self._depth_of_call(node)
        return _NEVER

    def _of_copy(self, node: ast.expr) -> int:
        return max(self.depth(node), 1)

    def _depth_of_call(self, call: ast.Call) -> int:
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        match call.func:
            case ast.Attribute(value=value, attr="get" | "setdefault" | "pop" | "popitem"):
                return min(_peeled(self.depth(value)), *(self.depth(part) for part in values), _NEVER)
            case ast.Attribute(value=value, attr="values" | "items" | "copy"):
                return min(self._of_copy(value), *(self._of_copy(part) for part in values), _NEVER)
        if self.scopes.is_builtin(call.func, "next", "min", "max"):
            return min((_peeled(self.depth(part)) for part in values), default=_NEVER)
        if self.scopes.is_builtin(call.func, *_COPIERS):
            return min((self._of_copy(part) for part in values), default=_NEVER)
        if self.scopes.is_class(call.func):
            return 1 + min((self.depth(part) for part in values), default=_NEVER)
        function = self.scopes.function(call.func)
        return self.depths.get(function, _NEVER) if function else _NEVER

    def is_set(self, node: ast.expr) -> bool:
        """May this be a set, whose order of iteration differs between processes?"""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name():
                binding = self.scopes.binding(node)
                return binding is not None and binding in self.sets
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
                return self.scopes.is_builtin(func, "set", "frozenset") or self.scopes.function(func) in self.sets
        return False


def _is_keys(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items"), args=[]):
            return True
    return False


@dataclass(frozen=True)
class Facts:
    """All that the checks look at: the tree, the strategy function in it, names, flow, and what was captured beside
    it.
    """

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
        """For a name that an import binds: the dotted path it starts (`numpy.random.rand`) and the path's outermost
        node.
        """
        binding = self.scopes.binding(node)
        if binding is None or binding not in self.scopes.imports:
            return None
        path = self.scopes.imports[binding]
        top: ast.expr = node
        while isinstance(around := self.scopes.parent.get(top), ast.Attribute):
            path, top = f"{path}.{around.attr}", around
        return path, top

    def path(self, node: ast.expr) -> str:
        """The dotted path of a name or attribute whose root is an import; otherwise an empty string."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        base = self.dotted(root) if isinstance(root, ast.Name) else None
        return base[0] if base and base[1] is node else ""
