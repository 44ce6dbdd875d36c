"""From a strategy's source to the same decision over rows of numbers, which numba compiles.

A symbol becomes its place in the universe of the pulse, `ctx.close(symbol)` an item of a row, a target an item of a
vector, a reason a code. What is not listed here is refused with its line: then the strategy runs interpreted. So this
part is smaller than tier 1, and only holds what is the same to the bit in Python and compiled:

statements    assignments to names, +=, -=, *=, if, for over the universe, a list of symbols or a range, while, break,
              continue, pass, return of targets
numbers       + - * /, comparisons, and, or, not, if-else, abs, len, float, min and max of several, sum of a
              comprehension; math.sqrt, fabs, floor, ceil, log, log1p, log2, log10, exp, expm1, isnan, isfinite;
              params that are numbers; numbers that the module names
functions     of the module, called with ctx, params, symbols and numbers, that return a number or a condition
symbols       as arguments of ctx and targets, in == and != and in, in lists (comprehensions, append, sorted by a
              number, the first so many), as the keys of a dict of numbers
ctx           universe, cash, equity, now (year, month, ...), open, high, low, close, volume, feature, position, flat,
              hold, weights of a dict by symbol; memory.get of numbers that are remembered, always under the same names
targets       one at a time: targets[symbol] = number, invest, because with written codes, remember
"""

from __future__ import annotations

import ast
import copy
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger_pipeline.simulation.compiled.assignment import NotCompilable, definitely_assigned
from ledger_pipeline.strategy.experiment import Experiment
from ledger_pipeline.strategy.source import StrategySource

FIELDS = ("open", "high", "low", "close", "volume")
CLOCK = (
    "year", "month", "day", "hour", "minute", "second", "quarter", "dayofyear", "day_of_year", "dayofweek",
    "day_of_week", "days_in_month",
)  # fmt: skip
ARGUMENTS = (
    "n", "fields", "features", "held", "expected", "cash", "equity", "named", "clock", "known", "memory", "vector",
    "invest", "why", "next", "fresh",
)  # fmt: skip
MATH = ("sqrt", "fabs", "floor", "ceil", "log", "log1p", "log2", "log10", "exp", "expm1")
_ALL = "lp_all"  # stands for all that `decide` is given, until it is known what that is
MOST_REASONS = 24
_LARGEST = 10**9  # of a whole number that is written or a param: products of a few stay exact in 64 bits
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,47}")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_TAKEN = {"len", "abs", "float", "min", "max", "sum", "range", "sorted", "math"}  # names that mean what Python says
_PREFIX = "lp_"  # of the names that are ours


def params_of(numbers: Sequence[str], bounds: Sequence[str]) -> list[str]:
    """What the params are called in lowered code."""
    return [*(f"{_PREFIX}p_{name}" for name in numbers), *(f"{_PREFIX}w_{name}" for name in bounds)]


@dataclass(frozen=True)
class Lowered:
    """A decision over rows. text: the source of `decide`; params: the names of its numbers, in order, all as float64;
    bounds: of those that bound a range, as whole numbers; reasons: the codes by their number; symbols: the names that
    are written, by their number; clock: what it asks ctx.now for; memory: the names that it remembers numbers under;
    invests: whether it may invest cash.
    """

    text: str
    params: tuple[str, ...]
    bounds: tuple[str, ...]
    reasons: tuple[str, ...]
    symbols: tuple[str, ...]
    clock: tuple[str, ...]
    memory: tuple[str, ...]
    invests: bool


def lower(source: StrategySource, features: Sequence[str], params: Mapping[str, Any]) -> Lowered:
    """The lowered decision of a strategy with these features and params. NotCompilable for anything not listed."""
    if source.captured:
        raise NotCompilable("values captured from around the function")
    kinds = tuple(sorted((name, _kind(value)) for name, value in params.items()))
    return _lowered(source.text, source.function_name, tuple(features), kinds)


def compile_experiment(experiment: Experiment) -> Lowered:
    """The lowered decision of an experiment. NotCompilable, also for what the compiled loop does not simulate."""
    spec = experiment.spec
    require_simulated(
        experiment.tier,
        spec.cash_rule,
        bool(spec.borrow or spec.interest),
        bool(spec.base_currency),
        experiment.risk,
        bool(spec.params_schedule),
    )
    lowered = lower(experiment.source, [item.alias for item in experiment.features], spec.params)
    if lowered.invests and experiment.risk:
        raise NotCompilable("invest with risk steps")
    return lowered


def require_simulated(
    tier: int, cash_rule: str, carried: bool, converted: bool, risk: Sequence[Any], scheduled: bool = False
) -> None:
    """NotCompilable for what the compiled loop does not simulate."""
    for what, there in (
        (f"a strategy of tier {tier}", tier != 1),
        ("cash_rule: scale", cash_rule == "scale"),
        ("borrow and interest", carried),
        ("several currencies", converted),
        ("params_schedule", scheduled),
        (
            "risk steps other than long_only and max_weight",
            any(step != "long_only" and "max_weight" not in step for step in risk),
        ),
    ):
        if there:
            raise NotCompilable(what)


def _kind(value: Any) -> str:
    """What matters of a param: whether it is a whole number, a fraction, or (its beginning) something else."""
    if isinstance(value, float):
        return "fraction"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return "whole"
    return repr(value)[:40]


@functools.lru_cache(maxsize=256)
def _lowered(text: str, function_name: str, features: tuple[str, ...], params: tuple[tuple[str, str], ...]) -> Lowered:
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants: dict[str, int | float] = {}
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        importing = isinstance(node, ast.Import) and all(a.name == "math" and not a.asname for a in node.names)
        named = _named_number(node)
        if named is not None:
            constants[named[0]] = named[1]
        elif not (isinstance(node, ast.FunctionDef) or docstring or importing):
            raise NotCompilable(f"`{ast.unparse(node).splitlines()[0]}` beside the function", node.lineno)
    function = functions.pop(function_name)
    try:
        lowered = _Lowering(function, features, dict(params), _Module(functions, constants)).done()
        compile(lowered.text, "<lowered>", "exec", dont_inherit=True)
    except (SyntaxError, RecursionError, MemoryError):
        raise NotCompilable("nesting that is too deep", function.lineno) from None
    return lowered


def _named_number(node: ast.stmt) -> tuple[str, int | float] | None:
    """The name and the number of `NAME = 0.5` at the top level."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            sign = 1
            if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
                sign, value = -1, value.operand
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
                if not isinstance(value.value, bool) and math.isfinite(value.value) and abs(value.value) <= _LARGEST:
                    return name, sign * value.value
    return None


@dataclass
class _Module:
    """What stands beside the strategy: functions and numbers by name; lowered: the text of each function for each kind
    of arguments, in the order in which they are needed; active: those that are being lowered.
    """

    functions: Mapping[str, ast.FunctionDef]
    constants: Mapping[str, int | float]
    lowered: dict[str, str] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)


class _Lowering:
    """One function on its way. `symbols_in`: names that hold a symbol; `lists`: names that hold a list of symbols."""

    def __init__(
        self,
        function: ast.FunctionDef,
        features: tuple[str, ...],
        params: Mapping[str, str],
        module: _Module,
        caller: _Lowering | None = None,
        kinds: Sequence[str] = ("ctx", "params"),
    ) -> None:
        self.function, self.features, self.given, self.module = function, features, params, module
        self.is_helper = caller is not None
        arguments = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        of_kind = {kind: [name for name, one in zip(arguments, kinds, strict=True) if one == kind] for kind in kinds}
        self.ctx, self.own_params = (of_kind.get(kind, [""])[0] for kind in ("ctx", "params"))
        self.numbers: list[str] = caller.numbers if caller else []
        self.bounds: list[str] = caller.bounds if caller else []
        self.codes: list[str] = []
        self.named: list[str] = caller.named if caller else []
        self.returns = _returned(function) if caller else ""
        self.targets: str | None = None
        self.invests = False
        self.symbols_in: set[str] = set(of_kind.get("symbol", ()))
        self.numbers_in: set[str] = set(of_kind.get("number", ()))
        self.lists: set[str] = set()
        self.dicts: set[str] = set()
        self.clock: list[str] = caller.clock if caller else []
        self.memory: tuple[str, ...] = caller.memory if caller else _remembered(function)
        self.stores = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        beside = {*module.functions, *module.constants}
        taken = self.stores & {self.ctx, self.own_params, *_TAKEN, *beside, *self.symbols_in}
        taken |= set(arguments) & {*_TAKEN, *beside}
        taken |= {name for name in (*self.stores, *arguments) if name.startswith(_PREFIX) or not name.isascii()}
        if taken:
            raise NotCompilable(f"an assignment to `{min(taken)}`", function.lineno)

    def done(self) -> Lowered:
        body = [node for node in self.function.body if not _is_text(node)]
        _, ends = definitely_assigned(body, set(), self.stores)
        if not ends:
            raise NotCompilable("a path that returns nothing", self.function.lineno)
        lines = [line for node in body for line in self.statement(node)]
        names, bounds = tuple(self.numbers), tuple(self.bounds)
        header = ", ".join([*(_PREFIX + name for name in ARGUMENTS), *params_of(names, bounds)])
        own = f"def decide({header}):\n" + "\n".join("    " + line for line in lines) + "\n"
        text = "\n\n@compiled\n".join([*self.module.lowered.values(), own]).replace(_ALL, header)
        return Lowered(
            text, names, bounds, tuple(self.codes), tuple(self.named), tuple(self.clock), self.memory, self.invests
        )

    def helper(self, name: str, arguments: Sequence[str]) -> str:
        """The text of a function of the module for this kind of arguments. arguments: what they are called in it."""
        body = [node for node in self.function.body if not _is_text(node)]
        known = {*self.symbols_in, *self.numbers_in}
        _, ends = definitely_assigned(body, set(known), self.stores | known)
        if not ends:
            raise NotCompilable(f"a path of `{self.function.name}` that returns nothing", self.function.lineno)
        lines = [line for node in body for line in self.statement(node)]
        return f"def {name}({', '.join([_ALL, *arguments])}):\n" + "\n".join("    " + line for line in lines) + "\n"

    def helper_call(self, call: ast.Call) -> tuple[str, str] | None:
        """The call of a function of the module, and whether it returns a number or a condition; None for another."""
        if not isinstance(call.func, ast.Name) or call.func.id not in self.module.functions:
            return None
        called = call.func.id
        function = self.module.functions[called]
        plain = function.args
        if call.keywords or plain.defaults or plain.kwonlyargs or plain.vararg or plain.kwarg:
            raise NotCompilable(f"`{ast.unparse(call)}`, called otherwise than by position", call.lineno)
        names = [argument.arg for argument in (*plain.posonlyargs, *plain.args)]
        if len(names) != len(call.args):
            raise NotCompilable(f"`{ast.unparse(call)}`", call.lineno)
        kinds = [self.kind(argument) for argument in call.args]
        if kinds.count("ctx") > 1 or kinds.count("params") > 1:
            raise NotCompilable(f"`{ast.unparse(call)}`", call.lineno)
        key = f"{_PREFIX}f_{called}_{''.join(kind[0] for kind in kinds)}"
        if key in self.module.active or len(self.module.active) > 20:
            raise NotCompilable(f"`{called}`, which calls itself", call.lineno)
        inner = _Lowering(function, self.features, self.given, self.module, self, kinds)
        if key not in self.module.lowered:
            self.module.active.append(key)
            own = [name for name, kind in zip(names, kinds, strict=True) if kind in ("symbol", "number")]
            text = inner.helper(key, own)
            self.module.lowered[key] = text
            self.module.active.pop()
        given = [
            self.symbol(argument) if kind == "symbol" else f"float({self.number(argument)})"
            for argument, kind in zip(call.args, kinds, strict=True)
            if kind in ("symbol", "number")
        ]
        return f"{key}({', '.join([_ALL, *given])})", inner.returns

    def kind(self, node: ast.expr) -> str:
        """What an argument is: ctx, params, a symbol or a number."""
        if isinstance(node, ast.Name) and node.id and node.id == self.ctx:
            return "ctx"
        if isinstance(node, ast.Name) and node.id and node.id == self.own_params:
            return "params"
        return "symbol" if self.is_symbol(node) else "number"

    def statement(self, node: ast.stmt) -> list[str]:
        line = node.lineno
        match node:
            case ast.Pass():
                return ["pass"]
            case ast.Break():
                return ["break"]
            case ast.Continue():
                return ["continue"]
            case ast.Return(value=value):
                return self.answer(value, line)
            case ast.If(test=test, body=body, orelse=other):
                lines = [f"if {self.truth(test)}:", *self.block(body)]
                return lines + (["else:", *self.block(other)] if other else [])
            case ast.While(test=test, body=body, orelse=[]):
                return [f"while {self.truth(test)}:", *self.block(body)]
            case ast.For(target=ast.Name(id=name), iter=over, body=body, orelse=[]):
                return [f"for {name} in {self.iterated(over, name)}:", *self.block(body)]
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return self.assignment(name, value, line)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=symbol)], value=value):
                if name in self.dicts:
                    return [f"lp_dict_set({name}, {self.symbol(symbol)}, {self.number(value)})"]
                if name != self.targets:
                    raise NotCompilable(f"`{name}[...] = ...`, which is not targets", line)
                place = self.symbol(symbol)
                return [f"lp_vector[{place}] = {self.number(value)}", f"lp_invest[{place}] = lp_nan"]
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value) if isinstance(op, _ARITHMETIC):
                self.plain(name, line)
                return [f"{name} = lp_{_OPERATION[type(op)]}(float({name}), {self.number(value)})"]
            case ast.Expr(value=ast.Call() as call):
                return self.called(call)
        raise NotCompilable(f"`{ast.unparse(node).splitlines()[0]}`", line)

    def block(self, nodes: list[ast.stmt]) -> list[str]:
        return ["    " + line for node in nodes if not _is_text(node) for line in self.statement(node)] or ["    pass"]

    def answer(self, value: ast.expr | None, line: int) -> list[str]:
        """A return: of the targets at hand, or of new ones; of a function beside it a number or a condition."""
        if self.is_helper:
            if value is None:
                raise NotCompilable("a return of nothing", line)
            return [f"return {self.truth(value) if self.returns == 'condition' else f'float({self.number(value)})'}"]
        if isinstance(value, ast.Name) and value.id == self.targets:
            return ["return 0"]
        lines, value = self.weighed(value, line)
        filling = self.new_targets(value)
        if filling is None:
            raise NotCompilable("a return of anything but targets, ctx.hold(), ctx.flat() or ctx.weights(...)", line)
        return [*lines, filling, "return 0"]

    def weighed(self, value: ast.expr | None, line: int) -> tuple[list[str], ast.expr | None]:
        """Lines that name the dict of ctx.weights({...}), and the call with that name; nothing for anything else."""
        match value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="weights"), args=[given]):
                if name == self.ctx and isinstance(given, ast.Dict | ast.DictComp):
                    named = copy.copy(value)
                    named.args = [ast.Name(_GIVEN, ast.Load())]
                    return self.dict_of_symbols(_GIVEN, given, line), named
        return [], value

    def new_targets(self, value: ast.expr | None) -> str | None:
        """What fills the targets where `value` makes new ones: ctx.flat(), ctx.hold() or ctx.weights(dict)."""
        if self.is_helper:
            return None
        match value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="weights"), args=[ast.Name(id=given)]):
                if name == self.ctx and given in self.dicts and (whole := _whole_shares(value)) is not None:
                    into = "lp_fields, lp_equity, lp_vector, lp_invest, lp_why, lp_fresh"
                    return f"lp_weights(lp_n, {given}, {whole}, {into})"
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="flat" | "hold" as how), args=[], keywords=[]
            ):
                if name == self.ctx:
                    return f"lp_{how}(lp_n, lp_expected, lp_vector, lp_invest, lp_why, lp_fresh)"
        return None

    def assignment(self, name: str, value: ast.expr, line: int) -> list[str]:
        lines, weighed = self.weighed(value, line)
        filling = self.new_targets(weighed)
        if filling is not None:
            if self.targets not in (None, name) or name in self.symbols_in | self.lists | self.dicts:
                raise NotCompilable("more than one name for targets", line)
            self.targets = name
            return [*lines, filling]
        if name == self.targets:
            raise NotCompilable(f"`{name}` as targets and as something else", line)
        if isinstance(value, ast.Dict | ast.DictComp):
            return self.dict_of_symbols(name, value, line)
        if (listed := self.symbol_list(value)) is not None:
            if listed == "range(lp_n)":
                raise NotCompilable(f"`{name}` as another name of the universe", line)
            if name in self.symbols_in | self.dicts or (name not in self.lists and self.seen(name, line)):
                raise NotCompilable(f"`{name}` as a list of symbols and as something else", line)
            self.lists.add(name)
            return [f"{name} = {listed}"]
        self.plain(name, line)
        return [f"{name} = {self.number(value)}"]

    def dict_of_symbols(self, name: str, value: ast.Dict | ast.DictComp, line: int) -> list[str]:
        """A dict of numbers by symbol: empty, or a comprehension over symbols that are its keys."""
        if name in self.symbols_in | self.lists or (name not in self.dicts and self.seen(name, line)):
            raise NotCompilable(f"`{name}` as a dict and as something else", line)
        lines = [f"{name} = lp_dict(lp_n)"]
        if isinstance(value, ast.Dict):
            for symbol, number in zip(value.keys, value.values, strict=True):
                if symbol is None:
                    raise NotCompilable(f"`{ast.unparse(value)}`", line)
                lines.append(f"lp_dict_set({name}, {self.symbol(symbol)}, {self.number(number)})")
            self.dicts.add(name)
            return lines
        match value:
            case ast.DictComp(key=ast.Name(id=key), generators=[ast.comprehension(target=ast.Name(id=each)) as part]):
                if key == each and name not in {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}:
                    part, inner = _renamed(part, each), _renamed(value.value, each)
                    over = self.symbols_over(part.iter, _EACH)
                    tests = " and ".join(self.truth(test) for test in part.ifs) or "True"
                    put = f"lp_dict_set({name}, {_EACH}, {self.number(inner)})"
                    self.dicts.add(name)
                    return [*lines, f"for {_EACH} in {over}:", f"    if {tests}:", f"        {put}"]
        raise NotCompilable(f"`{ast.unparse(value)}`", line)

    def seen(self, name: str, line: int) -> bool:
        """Whether a name was stored above this line."""
        return any(
            isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name and node.lineno < line
            for node in ast.walk(self.function)
        )

    def plain(self, name: str, line: int) -> None:
        """Require that a name holds a number."""
        if name in self.numbers_in and name in self.stores:
            return
        if name in self.symbols_in | self.lists | self.dicts or name == self.targets:
            raise NotCompilable(f"`{name}` as a number and as something else", line)

    def iterated(self, over: ast.expr, name: str) -> str:
        """What a loop goes through; its variable is a symbol or a whole number from then on."""
        if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "range":
            if name in self.symbols_in | self.lists | self.dicts or name == self.targets:
                raise NotCompilable(f"`{name}` as a number and as something else", over.lineno)
            return f"range({', '.join(self.whole(argument) for argument in over.args)})"
        listed = self.symbol_list(over)
        if listed is None or name in self.lists or name == self.targets:
            raise NotCompilable(f"a loop over `{ast.unparse(over)}`", over.lineno)
        others = [
            n
            for n in ast.walk(self.function)
            if (isinstance(n, ast.Assign | ast.AugAssign) and any(_is_name(part, name) for part in _stored(n)))
            or (isinstance(n, ast.For) and _is_name(n.target, name) and isinstance(n.iter, ast.Call))
        ]
        if others:
            raise NotCompilable(f"an assignment to `{name}`, which is a symbol", others[0].lineno)
        self.symbols_in.add(name)
        return listed

    def symbols_over(self, over: ast.expr, name: str) -> str:
        """What a comprehension of symbols goes through. NotCompilable for one over numbers."""
        listed = self.iterated(over, name)
        if name not in self.symbols_in:
            raise NotCompilable(f"a comprehension over `{ast.unparse(over)}`", over.lineno)
        return listed

    def symbol_list(self, node: ast.expr) -> str | None:
        """A list of symbols: the universe, a name of one, or a comprehension of symbols; None for anything else."""
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="universe") if name == self.ctx:
                return "range(lp_n)"
            case ast.Name(id=name) if name in self.lists:
                return name
            case ast.Subscript(value=listed, slice=ast.Slice(lower=None, upper=ast.expr() as upper, step=None)):
                if (inner := self.symbol_list(listed)) is not None and inner != "range(lp_n)":
                    return f"{inner}[:{self.whole(upper)}]"
            case ast.Call(func=ast.Name(id="sorted"), args=[listed], keywords=[ast.keyword(arg="key", value=key)]):
                inner = self.symbol_list(listed)
                if inner is not None and isinstance(key, ast.Lambda) and _is_plain(key.args):
                    each = key.args.args[0].arg
                    over = self.symbols_over(listed, each)
                    keys = f"[float({self.number(key.body)}) for {each} in {over}]"
                    return f"lp_sorted([{each} for {each} in {over}], {keys})"
            case ast.ListComp(elt=ast.Name(id=kept), generators=[ast.comprehension(target=ast.Name(id=name)) as part]):
                if kept == name and not part.is_async:
                    over = self.symbols_over(part.iter, name)
                    tests = "".join(f" if {self.truth(test)}" for test in part.ifs)
                    return f"[{name} for {name} in {over}{tests}]"
        return None

    def called(self, call: ast.Call) -> list[str]:
        """A call for what it does: because, invest, append."""
        if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name) or call.keywords:
            raise NotCompilable(f"`{ast.unparse(call)}`", call.lineno)
        name, method = call.func.value.id, call.func.attr
        if method == "append" and name in self.lists and len(call.args) == 1:
            return [f"{name}.append({self.symbol(call.args[0])})"]
        if name == self.targets and method == "because" and len(call.args) >= 2:
            place = self.symbol(call.args[0])
            return [
                line
                for code in call.args[1:]
                for line in (f"if lp_because(lp_why, {place}, {self.code(code)}):", "    return 1")
            ]
        if name == self.targets and method == "invest" and len(call.args) == 2:
            self.invests = True
            amount = self.number(call.args[1])
            place = self.symbol(call.args[0])
            return [f"if lp_put(lp_vector, lp_invest, {place}, {amount}):", "    return 1"]
        if name == self.targets and method == "remember" and len(call.args) == 1:
            values = call.args[0]
            assert isinstance(values, ast.Dict)  # as _remembered has required
            given = {
                str(ast.literal_eval(key)): value for key, value in zip(values.keys, values.values, strict=True) if key
            }
            kept = [f"lp_next[{k}] = {self.number(given[key])}" for k, key in enumerate(self.memory)]
            return [*kept, "lp_fresh[0] = 1"]
        raise NotCompilable(f"`{ast.unparse(call)}`", call.lineno)

    def code(self, node: ast.expr) -> str:
        """A reason code as its number: written, or one of two that are written."""
        match node:
            case ast.Constant(value=str(text)) if _REASON.fullmatch(text):
                if text not in self.codes:
                    self.codes.append(text)
                if len(self.codes) > MOST_REASONS:
                    raise NotCompilable(f"more than {MOST_REASONS} reason codes", node.lineno)
                return str(self.codes.index(text))
            case ast.IfExp(test=test, body=body, orelse=other):
                return f"({self.code(body)} if {self.truth(test)} else {self.code(other)})"
        raise NotCompilable(f"the reason code `{ast.unparse(node)}`", node.lineno)

    def symbol(self, node: ast.expr, *, compared: bool = False) -> str:
        """A symbol as its place in the universe; one that is written and not there is an error, or where it is only
        compared a place that is nowhere.
        """
        match node:
            case ast.Name(id=name) if name in self.symbols_in:
                return name
            case ast.Constant(value=str(text)):
                if text not in self.named:
                    self.named.append(text)
                place = f"lp_named[{self.named.index(text)}]"
                return place if compared else f"lp_there({place})"
        raise NotCompilable(f"`{ast.unparse(node)}` as a symbol", node.lineno)

    def is_symbol(self, node: ast.expr) -> bool:
        written = isinstance(node, ast.Constant) and isinstance(node.value, str)
        return written or (isinstance(node, ast.Name) and node.id in self.symbols_in)

    def truth(self, node: ast.expr) -> str:
        """A condition: a comparison, or what and, or, not make of conditions."""
        match node:
            case ast.BoolOp(op=op, values=values):
                word = " and " if isinstance(op, ast.And) else " or "
                return "(" + word.join(self.truth(value) for value in values) + ")"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"(not {self.truth(operand)})"
            case ast.Compare():
                return self.comparison(node)
            case ast.Constant(value=bool(value)):
                return str(value)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="math"), attr="isnan" | "isfinite" as what),
                args=[one],
                keywords=[],
            ):
                return f"math.{what}({self.number(one)})"
            case ast.Call() if (helper := self.helper_call(node)) is not None and helper[1] == "condition":
                return helper[0]
            case ast.Name(id=name) if name in self.lists:
                return f"(len({name}) > 0)"
            case ast.Name(id=name) if name in self.dicts:
                return f"(lp_dict_size({name}) > 0)"
        if self.symbol_list(node) is not None or self.is_symbol(node):
            raise NotCompilable(f"`{ast.unparse(node)}` as a condition", node.lineno)
        return f"(({self.number(node)}) != 0)"

    def comparison(self, node: ast.Compare) -> str:
        items = [node.left, *node.comparators]
        parts = [
            self.compared(left, op, right) for left, op, right in zip(items, node.ops, items[1:], strict=False)
        ]  # fmt: skip
        return "(" + " and ".join(parts) + ")"

    def compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> str:
        if isinstance(op, ast.In | ast.NotIn):
            listed = self.symbol_list(right)
            if listed is None:
                raise NotCompilable(f"`in {ast.unparse(right)}`", right.lineno)
            place = self.symbol(left, compared=True)
            within = f"(0 <= {place} < lp_n)" if listed == "range(lp_n)" else f"({place} in {listed})"
            return within if isinstance(op, ast.In) else f"(not {within})"
        equal = isinstance(op, ast.Eq | ast.NotEq)
        for one, other in ((left, right), (right, left)):
            if (kept := self.remembered(one, 1)) is not None and equal:
                same = f"lp_remembered(lp_known[0], lp_memory[{kept}], {self.number(other)})"
                return same if isinstance(op, ast.Eq) else f"(not {same})"
        if self.is_symbol(left) or self.is_symbol(right):
            if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
                raise NotCompilable(f"`{ast.unparse(left)} {_compare_sign(op)} {ast.unparse(right)}`", left.lineno)
            if not equal:
                raise NotCompilable(f"symbols compared by `{_compare_sign(op)}`", left.lineno)
            return f"({self.symbol(left, compared=True)} {_compare_sign(op)} {self.symbol(right, compared=True)})"
        if isinstance(left, ast.Name) and isinstance(right, ast.Name) and {left.id, right.id} <= self.lists:
            if not equal:
                raise NotCompilable(f"lists compared by `{_compare_sign(op)}`", left.lineno)
            same = f"lp_same({left.id}, {right.id})"
            return same if isinstance(op, ast.Eq) else f"(not {same})"
        if not isinstance(op, ast.Eq | ast.NotEq | ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            raise NotCompilable(f"`{ast.unparse(left)} {_compare_sign(op)} {ast.unparse(right)}`", left.lineno)
        return f"({self.number(left)} {_compare_sign(op)} {self.number(right)})"

    def remembered(self, node: ast.expr, arguments: int) -> int | None:
        """The place of the number that ctx.memory.get(name) with so many arguments asks for; None for anything else."""
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="memory"), attr="get"),
                args=[ast.Constant(value=str(key)), *others],
                keywords=[],
            ) if name == self.ctx and len(others) == arguments - 1 and key in self.memory:
                return self.memory.index(key)
        return None

    def whole(self, node: ast.expr) -> str:
        """A whole number, for a range."""
        match node:
            case ast.Constant(value=int(value)) if not isinstance(value, bool) and abs(value) <= _LARGEST:
                return repr(value)
            case ast.Call(func=ast.Name(id="len")):
                return f"int({self.number(node)})"
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == self.own_params:
                if self.given.get(key) == "whole" and self.number(node):
                    if key not in self.bounds:
                        self.bounds.append(key)
                    return f"{_PREFIX}w_{key}"
        raise NotCompilable(f"`{ast.unparse(node)}` as a bound of a range", node.lineno)

    def number(self, node: ast.expr) -> str:
        """An expression that is a number."""
        match node:
            case ast.Constant(value=int(value)) if abs(value) <= _LARGEST and not isinstance(value, bool):
                return f"{value}.0"
            case ast.Constant(value=float(value)) if math.isfinite(value):
                return repr(value)
            case ast.Name(id=name):
                others = self.symbols_in | self.lists | self.dicts
                if name in others or name in (self.targets, self.ctx, self.own_params):
                    raise NotCompilable(f"`{name}` as a number", node.lineno)
                if name in self.module.constants and name not in self.numbers_in:
                    return f"({float(self.module.constants[name])!r})"
                if name not in self.stores and name not in self.numbers_in:
                    raise NotCompilable(f"the name `{name}`", node.lineno)
                return f"float({name})"
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ARITHMETIC):
                return f"lp_{_OPERATION[type(op)]}({self.number(left)}, {self.number(right)})"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"(-{self.number(operand)})"
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.number(operand)
            case ast.IfExp(test=test, body=body, orelse=other):
                return f"({self.number(body)} if {self.truth(test)} else {self.number(other)})"
            case ast.Attribute(value=ast.Name(id=name), attr="cash" | "equity" as what) if name == self.ctx:
                return f"{_PREFIX}{what}"
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="now"), attr=what):
                if name == self.ctx and what in CLOCK:
                    return self.of_clock(what)
            case ast.Subscript(value=ast.Name(id=name), slice=symbol) if name in self.dicts:
                return f"lp_dict_at({name}, {self.symbol(symbol)})"
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == self.own_params:
                return self.param(key, node.lineno)
            case ast.Call(keywords=[]):
                return self.value_of(node)
        raise NotCompilable(f"`{ast.unparse(node)}`", getattr(node, "lineno", 0))

    def param(self, key: str, line: int) -> str:
        kind = self.given.get(key, "missing")
        if kind not in ("whole", "fraction") or not (key.isidentifier() and key.isascii()):
            raise NotCompilable(f"the param {key!r}, which is {kind} and no number", line)
        if key not in self.numbers:
            self.numbers.append(key)
        return f"{_PREFIX}p_{key}"

    def of_clock(self, what: str) -> str:
        if what not in self.clock:
            self.clock.append(what)
        return f"float(lp_clock[{self.clock.index(what)}])"

    def value_of(self, call: ast.Call) -> str:
        line = call.lineno
        if (helper := self.helper_call(call)) is not None:
            if helper[1] == "condition":
                raise NotCompilable(f"`{ast.unparse(call)}`, a condition, as a number", line)
            return helper[0]
        if (place := self.remembered(call, 2)) is not None:
            return f"lp_given(lp_known[0], lp_memory[{place}], {self.number(call.args[1])})"
        match call.func, call.args:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="now"), attr="weekday"), []:
                if name == self.ctx:
                    return self.of_clock("dayofweek")
            case ast.Attribute(value=ast.Name(id=name), attr="get"), [symbol, default] if name in self.dicts:
                return f"lp_dict_get({name}, {self.symbol(symbol)}, float({self.number(default)}))"
            case ast.Name(id="len"), [ast.Name(id=name)] if name in self.dicts:
                return f"float(lp_dict_size({name}))"
            case ast.Name(id="sum"), [
                ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="values"), args=[], keywords=[])
            ] if name in self.dicts:
                return f"lp_dict_sum({name})"
            case ast.Attribute(value=ast.Name(id=name), attr=what), [symbol] if name == self.ctx and what in FIELDS:
                return f"lp_fields[{FIELDS.index(what)}, {self.symbol(symbol)}]"
            case ast.Attribute(value=ast.Name(id=name), attr="position"), [symbol] if name == self.ctx:
                return f"lp_held[{self.symbol(symbol)}]"
            case (
                ast.Attribute(value=ast.Name(id=name), attr="feature"),
                [symbol, ast.Constant(value=str(feature))],
            ) if name == self.ctx:
                if feature not in self.features:
                    raise NotCompilable(f"the feature {feature!r}, which is not defined", line)
                return f"lp_features[{self.features.index(feature)}, {self.symbol(symbol)}]"
            case ast.Attribute(value=ast.Name(id="math"), attr=what), [argument] if what in MATH:
                value = self.number(argument)
                return f"math.fabs({value})" if what == "fabs" else f"lp_{what}({value})"
            case ast.Name(id="abs" | "float" as what), [argument]:
                return f"{what}({self.number(argument)})"
            case ast.Name(id="len"), [argument]:
                listed = self.symbol_list(argument)
                if listed is not None:
                    return "float(lp_n)" if listed == "range(lp_n)" else f"float(len({listed}))"
            case ast.Name(id="min" | "max" as what), [first, *others] if others:
                value = self.number(first)
                for other in others:  # as Python does: the first one stays unless another is beyond it
                    value = f"lp_{what}({value}, {self.number(other)})"
                return value
            case ast.Name(id="sum"), [ast.GeneratorExp() | ast.ListComp() as parts]:
                return self.summed(parts)
        raise NotCompilable(f"`{ast.unparse(call)}`", line)

    def summed(self, node: ast.GeneratorExp | ast.ListComp) -> str:
        """The sum of a comprehension over symbols, one after the other from 0 on, as Python adds."""
        if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
            raise NotCompilable(f"`sum({ast.unparse(node)})`", node.lineno)
        part = node.generators[0]
        assert isinstance(part.target, ast.Name)
        over = self.iterated(part.iter, part.target.id)
        tests = "".join(f" if {self.truth(test)}" for test in part.ifs)
        return f"lp_sum([float({self.number(node.elt)}) for {part.target.id} in {over}{tests}])"


def _remembered(function: ast.FunctionDef) -> tuple[str, ...]:
    """The names under which numbers are remembered, the same wherever anything is. NotCompilable for another memory."""
    shapes = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "remember":
            match node.args:
                case [ast.Dict(keys=keys)] if (
                    all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in keys) and keys
                ):
                    shapes.add(tuple(sorted(str(ast.literal_eval(key)) for key in keys if key)))
                case _:
                    raise NotCompilable(f"`{ast.unparse(node)}`", node.lineno)
    if len(shapes) > 1:
        raise NotCompilable("what is remembered under names that change", function.lineno)
    return shapes.pop() if shapes else ()


def _returned(function: ast.FunctionDef) -> str:
    """Whether a function returns numbers or conditions. NotCompilable for some of both: True is no 1.0 everywhere."""
    kinds = {
        "condition" if _is_condition(node.value) else "number"
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and node.value is not None
    }
    if len(kinds) > 1:
        raise NotCompilable(f"`{function.name}`, which returns numbers and conditions", function.lineno)
    return kinds.pop() if kinds else "number"


def _is_condition(node: ast.expr | None) -> bool:
    match node:
        case ast.Compare() | ast.Constant(value=bool()):
            return True
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return all(map(_is_condition, values))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isnan" | "isfinite")):
            return True
    return False


def _whole_shares(call: ast.Call) -> bool | None:
    """The value of `whole=`, False without it; None for other keywords."""
    match call.keywords:
        case []:
            return False
        case [ast.keyword(arg="whole", value=ast.Constant(value=bool(whole)))]:
            return whole
    return None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _stored(node: ast.Assign | ast.AugAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


_OPERATION: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_GIVEN = "lp_given_weights"  # the name of a dict that is written where it is used
_EACH = "lp_each"  # the variable of a comprehension that is written out as a loop


def _renamed(node: Any, name: str) -> Any:
    """A copy of an expression with a name called _EACH."""
    node = copy.deepcopy(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id == name:
            inner.id = _EACH
    return node


def _is_plain(arguments: ast.arguments) -> bool:
    """Whether a lambda has one argument and nothing else."""
    others = (arguments.posonlyargs, arguments.kwonlyargs, arguments.defaults, arguments.vararg, arguments.kwarg)
    return len(arguments.args) == 1 and not any(others)


def _compare_sign(op: ast.cmpop) -> str:
    signs = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is"}
    return signs.get(type(op), "is not")
