"""Which name means what, by Python's own scoping rules, from the syntax tree alone.

A `Scopes` knows for every name in a module text the scope that binds it, and for every binding the expressions it may
stand for.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

_PUTTERS = frozenset("append add insert extend appendleft extendleft setdefault update".split())
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(eq=False)
class Scope:
    """One namespace: `kind` is module, function, class or comprehension."""

    node: ast.AST
    kind: str
    parent: Scope | None
    bound: set[str] = field(default_factory=set)
    global_names: set[str] = field(default_factory=set)
    nonlocal_names: set[str] = field(default_factory=set)


Binding = tuple[Scope, str]


@dataclass(frozen=True)
class Origin:
    """What a binding may stand for: the expression itself, or one of its elements (a loop variable, a part)."""

    value: ast.expr
    element: bool


class Scopes(ast.NodeVisitor):
    """The scopes of one module.

    `scope_of` maps name nodes, functions, lambdas and classes to the scope they stand in; `inside` maps a scope-making
    node to its scope; `binders` lists the nodes that bind a name; `origins` what it may stand for; `imports` the dotted
    paths of names bound by an import; `parent` maps a node to the one around it.
    """

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.parent: dict[ast.AST, ast.AST] = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self.lazy_annotations = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "__future__"
            and any(alias.name == "annotations" for alias in node.names)
            for node in tree.body
        )
        self.module = self.scope = Scope(tree, "module", None)
        self.scope_of: dict[ast.AST, Scope] = {}
        self.inside: dict[ast.AST, Scope] = {tree: self.module}
        self.binders: dict[Binding, list[ast.AST]] = defaultdict(list)
        self.origins: dict[Binding, list[Origin]] = defaultdict(list)
        self.imports: dict[Binding, str] = {}
        self.annotations: set[ast.AST] = set()
        self.returns: dict[ast.AST, list[ast.expr]] = defaultdict(list)
        for statement in tree.body:
            self.visit(statement)
        self._bind_arguments_of_calls()

    # names

    def resolve(self, name: str, scope: Scope) -> Scope | None:
        """The scope that binds `name` as seen from `scope`, or None when only a builtin can be meant."""
        current: Scope | None = scope
        while current is not None:
            if name in current.global_names:
                break
            visible = current is scope or current.kind != "class"
            if visible and name in current.bound and name not in current.nonlocal_names:
                return current
            current = current.parent
        return self.module if name in self.module.bound else None

    def binding(self, node: ast.Name) -> Binding | None:
        """The binding a name node refers to; None for builtins and unresolved names."""
        home = self.resolve(node.id, self.scope_of.get(node, self.module))
        return None if home is None else (home, node.id)

    def is_builtin(self, node: ast.AST, *names: str) -> bool:
        """Is this a name, one of `names`, that nothing in the text binds?"""
        return isinstance(node, ast.Name) and node.id in names and self.binding(node) is None

    def function(self, node: ast.AST | None) -> FunctionNode | None:
        """The one function of the text that this stands for (by name, by another name, or a lambda itself), if any."""
        for _ in range(8):
            if isinstance(node, ast.Lambda):
                return node
            binding = self.binding(node) if isinstance(node, ast.Name) else None
            nodes = self.binders.get(binding, []) if binding else []
            if len(nodes) != 1:
                return None
            if isinstance(nodes[0], ast.FunctionDef | ast.AsyncFunctionDef):
                return nodes[0]
            origins = self.origins.get(binding, []) if binding else []
            if len(origins) != 1 or origins[0].element:
                return None
            node = origins[0].value
        return None

    def is_class(self, node: ast.AST) -> bool:
        """Is this the name of a class of the text?"""
        binding = self.binding(node) if isinstance(node, ast.Name) else None
        return binding is not None and any(isinstance(binder, ast.ClassDef) for binder in self.binders[binding])

    def _bind(self, name: str, node: ast.AST, scope: Scope | None = None) -> None:
        scope = scope or self.scope
        if name in scope.global_names:
            scope = self.module
        elif name in scope.nonlocal_names:
            scope = self.resolve(name, scope.parent or scope) or scope
        scope.bound.add(name)
        self.binders[scope, name].append(node)

    def _enter(self, node: ast.AST, kind: str) -> Scope:
        self.scope = self.inside[node] = Scope(node, kind, self.scope)
        return self.scope

    def _leave(self) -> None:
        self.scope = self.scope.parent or self.module

    # the tree, in the order and the scope in which Python evaluates it

    def visit_Name(self, node: ast.Name) -> None:
        self.scope_of[node] = self.scope
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id, node)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.global_names.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocal_names.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            self._bind(name, node)
            self.imports[self.scope, name] = alias.name if alias.asname else name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*" and node.module:
                self._bind(alias.asname or alias.name, node)
                self.imports[self.scope, alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def _declare(self, body: list[ast.stmt]) -> None:
        """Global and nonlocal hold for the whole function, so they are known before its first binding."""
        pending: list[ast.AST] = list(body)
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Global | ast.Nonlocal):
                self.visit(node)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
                pending.extend(ast.iter_child_nodes(node))

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None:
            self.annotations.update(ast.walk(node))
            if not self.lazy_annotations:
                self.visit(node)

    def _function(self, node: FunctionNode) -> None:
        self.scope_of[node] = self.scope
        arguments = node.args
        for value in (*getattr(node, "decorator_list", ()), *arguments.defaults, *arguments.kw_defaults):
            if value is not None:
                self.visit(value)
        everyone = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        everyone += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
        for argument in everyone:
            self._annotation(argument.annotation)
        self._annotation(getattr(node, "returns", None))
        self._enter(node, "function")
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        for argument in everyone:
            self._bind(argument.arg, argument)
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = zip(reversed(positional), reversed(arguments.defaults), strict=False)
        for argument, default in (*defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)):
            if default is not None:
                self.origins[self.scope, argument.arg].append(Origin(default, False))
        self._declare(body)  # type: ignore[arg-type]
        for statement in body:
            self.visit(statement)
        if isinstance(node, ast.Lambda):
            self.returns[node].append(node.body)
        self._leave()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._bind(node.name, node)
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._bind(node.name, node)
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, node)
        self.scope_of[node] = self.scope
        for value in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(value)
        self._enter(node, "class")
        self._declare(node.body)
        for statement in node.body:
            self.visit(statement)
        self._leave()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        self._enter(node, "comprehension")
        for position, generator in enumerate(node.generators):
            self.visit(generator.target)
            self._stand_for(generator.target, generator.iter, element=True)
            for value in ([generator.iter] if position else []) + generator.ifs:
                self.visit(value)
        for value in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(value)
        self._leave()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scope = self.scope
        while scope.kind == "comprehension" and scope.parent:
            scope = scope.parent
        self.scope_of[node.target] = scope
        self._bind(node.target.id, node.target, scope)
        self._stand_for(node.target, node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._stand_for(target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self._stand_for(node.target, ast.BinOp(node.target, node.op, node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)
            self._stand_for(node.target, node.value)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.generic_visit(node)
        self._stand_for(node.target, node.iter, element=True)

    visit_AsyncFor = visit_For

    def visit_withitem(self, node: ast.withitem) -> None:
        self.generic_visit(node)
        if node.optional_vars is not None:
            self._stand_for(node.optional_vars, node.context_expr)

    def visit_Return(self, node: ast.Return) -> None:
        self.generic_visit(node)
        if node.value is not None:
            self.returns[self.scope.node].append(node.value)

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        self.generic_visit(node)
        if node.value is not None:
            value = node.value if isinstance(node, ast.YieldFrom) else ast.Tuple([node.value], ast.Load())
            self.returns[self.scope.node].append(value)

    visit_YieldFrom = visit_Yield

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name, node)
        self.generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        self.generic_visit(node)
        for pattern in (inner for case in node.cases for inner in ast.walk(case.pattern)):
            for name in pattern_names(pattern):
                self._bind(name, pattern)
                for element in (True, False):
                    self.origins[self.scope, name].append(Origin(node.subject, element))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _PUTTERS:
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            inner: list[ast.expr] = [ast.Starred(part) for part in parts]
            self._put_into(node.func.value, [*parts, *inner])

    def _put_into(self, container: ast.expr, values: list[ast.expr]) -> None:
        """A value that is put into a container is an element of what the container's name stands for."""
        held = ast.Tuple(values, ast.Load())
        while isinstance(container, ast.Subscript | ast.Attribute):
            container, held = container.value, ast.Tuple([held], ast.Load())
        if isinstance(container, ast.Name) and (binding := self.binding(container)):
            self.origins[binding].append(Origin(held, False))

    def _stand_for(self, target: ast.AST, value: ast.expr, element: bool = False) -> None:
        if isinstance(target, ast.Subscript):
            self._put_into(target.value, [ast.Starred(value) if element else value])
        elif isinstance(target, ast.Name):
            binding = self.binding(target)
            if binding:
                self.origins[binding].append(Origin(value, element))
        elif isinstance(target, ast.Starred):
            self._stand_for(target.value, value, element)
        elif isinstance(target, ast.Tuple | ast.List):
            given = value.elts if isinstance(value, ast.Tuple | ast.List) and not element else []
            parts = (*given, *target.elts)
            if len(given) == len(target.elts) and not any(isinstance(part, ast.Starred) for part in parts):
                for part, its in zip(target.elts, given, strict=True):
                    self._stand_for(part, its)
            else:
                for part in target.elts:
                    self._stand_for(part, value, element=True)

    def _bind_arguments_of_calls(self) -> None:
        for call in (node for node in ast.walk(self.tree) if isinstance(node, ast.Call)):
            values = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
            spread = [argument.value for argument in call.args if isinstance(argument, ast.Starred)]
            spread += [keyword.value for keyword in call.keywords if keyword.arg is None]
            named = [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
            function = self.function(call.func)
            if function is not None:
                self._bind_arguments(function, values if len(values) == len(call.args) else [], spread, named)
                if spread:
                    self._pass_around(function, [*values, *spread])
            around = [*values, *spread, *(value for _, value in named)]
            if isinstance(call.func, ast.Attribute):
                around.append(call.func.value)
            for value in around:
                passed = self.function(value)
                if passed is not None:
                    self._pass_around(passed, [other for other in around if other is not value])

    def _bind_arguments(
        self, function: FunctionNode, values: list[ast.expr], spread: list[ast.expr], named: list[tuple[str, ast.expr]]
    ) -> None:
        scope, arguments = self.inside[function], function.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        for name, value in zip(names, values, strict=False):
            self.origins[scope, name].append(Origin(value, False))
        for name, value in named:
            if name in scope.bound:
                self.origins[scope, name].append(Origin(value, False))
        rest: list[ast.expr] = [*values[len(names) :], *(ast.Starred(value) for value in spread)]
        rest += [value for name, value in named if name not in names]
        for extra in (arguments.vararg, arguments.kwarg):
            if extra:
                self.origins[scope, extra.arg].append(Origin(ast.Tuple(rest, ast.Load()), False))

    def _pass_around(self, function: FunctionNode, values: list[ast.expr]) -> None:
        """A function handed to map, sorted, partial, ...: it may be called with the other arguments or parts."""
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        for name in names:
            for value in values:
                self.origins[self.inside[function], name] += [Origin(value, False), Origin(value, True)]


def pattern_names(pattern: ast.AST) -> Iterator[str]:
    """The names that one match pattern captures, its inner patterns not counted."""
    if isinstance(pattern, ast.MatchAs | ast.MatchStar) and pattern.name:
        yield pattern.name
    if isinstance(pattern, ast.MatchMapping) and pattern.rest:
        yield pattern.rest
