"""Which names surely have a value: compiled code would not notice one that has none."""

from __future__ import annotations

import ast
from collections.abc import Sequence


class NotCompilable(Exception):
    """What of a source cannot be compiled: the construct, and its line in the source (0: none in particular)."""

    def __init__(self, construct: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {construct}" if line else construct)
        self.construct, self.line = construct, line


def definitely_assigned(nodes: Sequence[ast.stmt], known: set[str], local: set[str]) -> tuple[set[str], bool]:
    """The names that surely have a value after some statements, and whether these surely return. NotCompilable for a
    name that may be read before it has one: compiled code would not notice.
    """
    for node in nodes:
        match node:
            case ast.If(test=test, body=body, orelse=other):
                _require_known(test, known, local)
                first, first_ends = definitely_assigned(body, set(known), local)
                second, second_ends = definitely_assigned(other, set(known), local)
                if first_ends and second_ends:
                    return first & second, True
                known = second if first_ends else first if second_ends else first & second
            case ast.For(target=target, iter=over, body=body):
                _require_known(over, known, local)
                inside = known | {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
                definitely_assigned(body, inside, local)
            case ast.While(test=test, body=body):
                _require_known(test, known, local)
                definitely_assigned(body, set(known), local)
            case ast.Return():
                _require_known(node, known, local)
                return known, True
            case ast.Break() | ast.Continue():
                return known | local, False  # nothing after it is reached
            case ast.AugAssign(target=target):
                _require_known(node.value, known, local)
                if isinstance(target, ast.Name) and target.id not in known:
                    raise NotCompilable(f"`{target.id}`, which may have no value yet", node.lineno)
            case _:
                _require_known(node, known, local)
                known = known | {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _at_level(n, node)}
    return known, False


def _at_level(name: ast.Name, node: ast.stmt) -> bool:
    """Whether a name is stored by the statement itself, not inside a comprehension."""
    inside = {
        inner
        for part in ast.walk(node)
        if isinstance(part, ast.ListComp | ast.GeneratorExp | ast.DictComp)
        for inner in ast.walk(part)
    }
    return isinstance(name.ctx, ast.Store) and name not in inside


def _require_known(node: ast.AST, known: set[str], local: set[str]) -> None:
    """NotCompilable for a name that is read and may have no value; comprehensions and lambdas have their own."""
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            if name in local and name not in known:
                raise NotCompilable(f"`{name}`, which may have no value yet", node.lineno)
        case ast.ListComp(generators=parts) | ast.GeneratorExp(generators=parts) | ast.DictComp(generators=parts):
            inner = set(known)
            for part in parts:
                _require_known(part.iter, inner, local)
                inner |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
                for test in part.ifs:
                    _require_known(test, inner, local)
            values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            for value in values:
                _require_known(value, inner, local)
        case ast.Lambda(args=arguments, body=body):
            _require_known(body, known | {argument.arg for argument in arguments.args}, local)
        case _:
            for child in ast.iter_child_nodes(node):
                _require_known(child, known, local)
