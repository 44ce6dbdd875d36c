"""Preflight: what a strategy's source depends on, read from its syntax tree before anything of it runs.

- Tier 1: an allow-list, `tiers.subset`: constructs, builtins, `math` and numpy functions that are deterministic and
  keep nothing, ctx, params, functions of the own text. The stored text and params say everything.
- Tier 2: everything else that is not refused, with the reason and the line; packages by their versions.
- Tier 3: what stored text, params and versions cannot bring back: hidden memory, files, network, processes, clocks,
  unseeded randomness, computed code. Refused, without override.

A tier is a statement about the source, not a sandbox: do not use it to run code that you do not trust. It looks at
text, and a package that misbehaves inside passes; what it states is proven by `simulation.proof`, which runs every run
again in another process under other circumstances.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_pipeline.core.errors import InputError, RefusedError
from ledger_pipeline.strategy.source import StrategySource, capture, parse
from ledger_pipeline.strategy.tiers import constants as module_text
from ledger_pipeline.strategy.tiers import reach, state, subset
from ledger_pipeline.strategy.tiers.flow import Facts, Flow
from ledger_pipeline.strategy.tiers.rules import Reason
from ledger_pipeline.strategy.tiers.scopes import Scopes

__all__ = ["Preflight", "Reason", "preflight"]


@dataclass(frozen=True)
class Preflight:
    """The verdict on one source.

    tier: 1, 2 or 3. reasons: everything that forces tier 2 or 3, by line of `source.text`. packages: distribution ->
    version of what is imported by name (`numpy` too; `python` for the standard library). uses_history, uses_entries,
    uses_instructions: whether the text mentions such an attribute (history; entry_price and the like; limit, stop and
    the like), so that a run knows what to keep.
    """

    tier: int
    reasons: tuple[Reason, ...]
    packages: dict[str, str]
    uses_history: bool
    uses_entries: bool
    uses_instructions: bool
    source: StrategySource

    def require(self) -> Preflight:
        """Itself when the tier is 1 or 2; RefusedError that names every reason by line when it is 3."""
        if self.tier < 3:
            return self
        lines = self.source.text.split("\n")
        refusals = [reason for reason in self.reasons if reason.tier == 3]
        listed = "".join(
            f"\n  line {reason.line}: {reason.message} [{reason.code}]"
            + (f"\n    {lines[reason.line - 1].strip()}" if 0 < reason.line <= len(lines) else "")
            for reason in refusals
        )
        count = "1 reason" if len(refusals) == 1 else f"{len(refusals)} reasons"
        raise RefusedError(
            f"`{self.source.function_name}` is tier 3 and is not run, for {count} to be removed:{listed}"
        )


def preflight(strategy: Callable[..., Any] | str | Path | StrategySource, *, inputs: int = 2) -> Preflight:
    """Classify a strategy: a function, a file, a text (a str with a line break in it) or a captured source.

    `inputs` is how many of its first parameters are shared by all pulses and may not be changed: ctx and params of a
    strategy, 0 for an indicator, which is handed bars of its own and may take any parameters after them. Nothing of it
    is executed. InputError when it is no strategy at all (no such file, a syntax error, no function).
    """
    source = strategy if isinstance(strategy, StrategySource) else capture(strategy)
    key = None if source.captured or source.unavailable else (source.text, source.function_name, inputs)
    known = _TIER_1.get(key) if key else None
    if known is not None:
        return known
    verdict = _classified(source, inputs)
    if key and verdict.tier == 1:  # nothing but its text decides on it: no package, no module that may change
        if len(_TIER_1) >= _KEPT:
            _TIER_1.clear()
        _TIER_1[key] = verdict
    return verdict


_KEPT = 256
_TIER_1: dict[tuple[str, str, int], Preflight] = {}  # a thousand experiments may share a strategy


def _classified(source: StrategySource, inputs: int) -> Preflight:
    tree = parse(source.text, source.function_name)
    defined = (node for node in reversed(tree.body) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    function = next((node for node in defined if node.name == source.function_name), None)
    if function is None:
        raise InputError(f"the strategy's text defines no function `{source.function_name}` at its top level.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(
                source.text, "<strategy>", "exec", dont_inherit=True
            )  # finds what the parser lets pass, runs nothing
        scopes = Scopes(tree)
        flow = Flow(scopes, function, inputs)
        facts = Facts(tree, function, scopes, flow, source.captured, source.unavailable)
        imported, packages = reach.imports(facts)
        every = {*imported, *_all_reasons(facts)}
        if not any(reason.tier == 3 for reason in every):  # what is refused is told first
            every |= set(subset.reasons(facts))
        reasons = tuple(sorted(every))
        attributes = _attributes(tree)
    except SyntaxError as error:
        raise InputError(f"strategy `{source.function_name}`: line {error.lineno}: {error.msg}.") from None
    except RecursionError:
        raise InputError(f"strategy `{source.function_name}` is nested too deeply to be read; simplify it.") from None
    return Preflight(
        tier=max((reason.tier for reason in reasons), default=1),
        reasons=reasons,
        packages=packages,
        uses_history="history" in attributes,
        uses_entries=not attributes.isdisjoint(_ENTRIES),
        uses_instructions=not attributes.isdisjoint(_INSTRUCTIONS),
        source=source,
    )


_ENTRIES = {"entry_price", "entry_time", "unrealised", "bars_held"}
_INSTRUCTIONS = {"limit", "stop", "at_close", "bracket"}


def _attributes(tree: ast.AST) -> set[str]:
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names.union(*(node.kwd_attrs for node in ast.walk(tree) if isinstance(node, ast.MatchClass)))


def _all_reasons(facts: Facts) -> Iterator[Reason]:
    constants, top_level = module_text.module_constants(facts)
    yield from top_level
    if facts.flow.inputs == 2:
        yield from _signature(facts.strategy)
    yield from _statements(facts)
    yield from reach.private_names(facts)
    yield from reach.names(facts)
    yield from reach.attributes(facts)
    yield from reach.clock_strings(facts)
    yield from reach.addresses(facts)
    yield from module_text.rebound_names(facts)
    yield from module_text.constants_only_read(facts, constants)
    yield from module_text.defaults(facts, constants)
    yield from module_text.classes(facts, constants)
    yield from state.changes(facts)
    yield from state.set_order(facts)


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Reason]:
    arguments = function.args
    others = (*arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    if len(arguments.posonlyargs) + len(arguments.args) != 2 or any(others):
        message = f"`{function.name}` must take exactly two positional parameters: (ctx, params)"
        yield Reason(function.lineno, "signature", message, 3)


def _statements(facts: Facts) -> Iterator[Reason]:
    for node in facts.nodes():
        line = getattr(node, "lineno", 1)
        match node:
            case ast.Global(names=names):
                yield Reason(line, "global", f"global {', '.join(names)}: hidden memory; use targets.remember", 3)
            case ast.Nonlocal(names=names):
                yield Reason(
                    line, "nonlocal", f"nonlocal {', '.join(names)}: hidden memory; return the value instead", 3
                )
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                yield Reason(line, "async", "async code depends on a scheduler; write it without", 3)
            case ast.comprehension(is_async=1, target=target):
                yield Reason(target.lineno, "async", "async code depends on a scheduler; write it without", 3)
            case ast.Yield() | ast.YieldFrom() if _function_around(node, facts) is facts.strategy:
                yield Reason(line, "generator", "a strategy returns its targets; it may not yield", 3)
            case ast.FunctionDef(decorator_list=[_, *_]) | ast.AsyncFunctionDef(decorator_list=[_, *_]):
                message = f"a decorator on `{node.name}` replaces it by something that the text does not show"
                yield Reason(node.decorator_list[0].lineno, "decorator", message, 3)
            case ast.ClassDef(decorator_list=[first, *_]) if not module_text.is_frozen_dataclass(node, facts):
                message = f"a decorator on `{node.name}` replaces it by something that the text does not show"
                yield Reason(first.lineno, "decorator", message, 3)


def _function_around(node: ast.AST, facts: Facts) -> ast.AST | None:
    around: ast.AST | None = node
    while around is not None and not isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        around = facts.scopes.parent.get(around)
    return around
