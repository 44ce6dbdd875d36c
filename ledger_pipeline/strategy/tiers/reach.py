"""What a source reaches: the checks on names, imports, attributes, and the strings that act like them."""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.metadata
import importlib.util
import platform
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from ledger_pipeline.strategy.tiers import rules
from ledger_pipeline.strategy.tiers.flow import Facts
from ledger_pipeline.strategy.tiers.rules import Reason
from ledger_pipeline.strategy.tiers.scopes import pattern_names

Finding = tuple[str, str]  # code, message


def _refuse(node: ast.AST, finding: Finding) -> Reason:
    return Reason(getattr(node, "lineno", 1), finding[0], finding[1], 3)


# names


def private_names(facts: Facts) -> Iterator[Reason]:
    """No name or attribute that starts with an underscore, except `_` for a value that is thrown away."""
    for node in facts.nodes():
        for name in _names_in(node):
            if name.startswith("_") and not (name == "_" and not _is_load(node)):
                yield _refuse(
                    node, ("private-name", f"`{name}` starts with an underscore: such names lead into the interpreter")
                )


def _is_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) or isinstance(getattr(node, "ctx", None), ast.Load)


def _names_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.keyword(arg=str(name)) | ast.ExceptHandler(name=str(name)):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names
        case ast.MatchClass(kwd_attrs=names):
            yield from names
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            if getattr(node, "module", None) != "__future__":
                paths = [getattr(node, "module", None) or "", *(alias.name for alias in aliases)]
                yield from (part for path in paths for part in path.split("."))
                yield from (alias.asname for alias in aliases if alias.asname)
        case ast.pattern():
            yield from pattern_names(node)


def names(facts: Facts) -> Iterator[Reason]:
    """Every name that is read resolves to the text itself, to a pure builtin, or to a captured constant."""
    for node in facts.nodes():
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or node.id.startswith("_"):
            continue
        if facts.scopes.binding(node) is not None:
            continue
        name = node.id
        if name in facts.captured:
            message = f"`{name}` = {facts.captured[name]!r} was captured from outside the strategy's text"
            yield Reason(node.lineno, "captured", message, 2)
        elif name in facts.unavailable:
            kind = facts.unavailable[name]
            message = f"`{name}` is {kind} outside the strategy: move it inside, or pass values through params"
            yield _refuse(node, ("outside-object", message))
        elif name in rules.REFUSED_BUILTINS:
            code, why = rules.REFUSED_BUILTINS[name]
            yield _refuse(node, (code, f"`{name}` {why}"))
        elif name in rules.PURE_BUILTINS:
            continue
        elif hasattr(builtins, name):
            yield _refuse(node, ("builtin-forbidden", f"`{name}` is not on the list of pure builtins"))
        else:
            message = f"`{name}` is defined nowhere in the strategy's text: define it there, or pass it through params"
            yield _refuse(node, ("unresolved-name", message))


# imports


def imports(facts: Facts) -> tuple[list[Reason], dict[str, str]]:
    """Reasons for imports and for the use of what they bind, and the versions of the packages they name.

    A distribution is recorded under its own name (`scikit-learn`), the standard library as `python`.
    """
    reasons: list[Reason] = []
    versions: dict[str, str] = {}
    refused: set[str] = set()
    for node in facts.nodes():
        if isinstance(node, ast.ImportFrom) and node.level:
            reasons.append(_refuse(node, ("import-relative", "a relative import depends on where the file stands")))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                module = node.module if isinstance(node, ast.ImportFrom) else ""
                if alias.name == "*":
                    message = f"`from {module} import *` hides which names are used; import each by name"
                    reasons.append(_refuse(node, ("import-star", message)))
                    continue
                path = f"{module}.{alias.name}" if module else alias.name
                finding = path_finding(path, complete=False)
                if finding:
                    refused.add(path)
                    reasons.append(_refuse(node, finding))
                else:
                    reasons += _record(path, node, versions)
    for node in facts.nodes():
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            dotted = facts.dotted(node)
            if dotted and not any(f"{dotted[0]}.".startswith(f"{path}.") for path in refused):
                finding = path_finding(dotted[0], complete=True) or _call_finding(*dotted, facts)
                if finding:
                    reasons.append(_refuse(dotted[1], finding))
    return reasons, dict(sorted(versions.items()))


def _record(path: str, node: ast.AST, versions: dict[str, str]) -> list[Reason]:
    root = path.split(".")[0]
    line = getattr(node, "lineno", 1)
    if root in ("math", "__future__"):
        return []
    if root in sys.stdlib_module_names:
        versions["python"] = platform.python_version()
        return [Reason(line, "stdlib", f"`{root}` comes with Python {versions['python']}", 2)]
    names = distributions(root)
    if not names and (local := local_module(root)):
        versions[root] = local
        return [Reason(line, "local-module", f"`{root}` is a module of your own, known by its content", 2)]
    if not names:
        message = (
            f"`{root}` is not an installed package whose version could be recorded: "
            "install it, or move what is used of it into the strategy's text"
        )
        return [_refuse(node, ("import-unknown", message))]
    versions.update(names)
    if root == "numpy":
        return []
    listed = ", ".join(f"{name} {version}" for name, version in names.items())
    return [Reason(line, "package", f"`{root}` comes from {listed}, which the environment has to provide", 2)]


def distributions(module: str) -> dict[str, str]:
    """The installed distributions that provide a top-level module, with their versions; nothing is imported."""
    try:
        return {module: importlib.metadata.version(module)}
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(module, [])
        return {name: importlib.metadata.version(name) for name in sorted(set(names))}


def local_module(root: str) -> str | None:
    """The content of a module or package that is found by its path and belongs to no installed distribution, as
    "sha256:<hash>" over its Python files and those of the local modules that these import; None when there is none.
    Nothing is imported.
    """
    contents: dict[str, bytes] = {}
    waiting, seen = [root], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in sys.stdlib_module_names or (name != root and distributions(name)):
            continue
        seen.add(name)
        for path, content in _files_of(name).items():
            contents[f"{name}/{path}"] = content
            try:
                tree = ast.parse(content)
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    waiting += [alias.name.split(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    waiting.append(node.module.split(".")[0])
    if not contents:
        return None
    digest = hashlib.sha256()
    for path in sorted(contents):
        digest.update(f"{path}\n".encode() + contents[path] + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _files_of(name: str) -> dict[str, bytes]:
    """The Python files of a top-level module or package by their path in it; none where it is not found."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return {}
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    return {str(file.relative_to(origin.parent)): file.read_bytes() for file in files}


def path_finding(path: str, *, complete: bool) -> Finding | None:
    """Why a dotted path may not be imported, or (`complete`) not be used; None when it may."""
    root, *rest = path.split(".")
    if root == "numpy":
        return _numpy_finding(rest, complete)
    if root == "ledger_pipeline" and (set(rest) <= rules.PRODUCT_TYPES or path in rules.PRODUCT_FUNCTIONS):
        return None
    if root in rules.REFUSED_MODULES:
        code, why = rules.REFUSED_MODULES[root]
        return code, f"`{path}` {why}"
    if complete and not rest:
        return (
            "module-object",
            f"the module `{root}` is handed on as a value; write `{root}.name` where the name is used",
        )
    if root in sys.stdlib_module_names:
        module = "collections.abc" if path.startswith("collections.abc.") else root
        if module not in rules.STDLIB:
            return "import-forbidden", f"`{root}` is not on the list of pure modules of the standard library"
        allowed = rules.STDLIB[module]
        if allowed is not None and rest and rest[0] not in allowed:
            return "import-forbidden", f"`{path}` is not on the list of pure names: it keeps state or reaches outside"
        return None
    for part in rest:
        if not complete and (finding := _listed(part)):
            return finding
        if part in rules.REFUSED_PARTS:
            return rules.REFUSED_MODULES.get(part, ("outside", ""))[
                0
            ], f"`{path}` reaches outside the strategy through `{part}`"
    return None


def _numpy_finding(rest: list[str], complete: bool) -> Finding | None:
    path = ".".join(["numpy", *rest])
    if not rest or (rest[0] in rules.NUMPY_NAMESPACES and len(rest) == 1):
        return (
            ("module-object", f"`{path}` is handed on as a value; write `{path}.name` at its use") if complete else None
        )
    first = rest[0]
    if first in rules.NUMPY_NAMESPACES:
        if rest[1] in rules.NUMPY_NAMESPACES[first]:
            if first != "lib" or rest[2:] == ["sliding_window_view"] or (not complete and len(rest) == 2):
                return None
        elif first == "random":
            return (
                "randomness",
                f"`{path}` is not seeded by the run; use ctx.rng, or numpy.random.default_rng with a seed",
            )
    elif first in rules.NUMPY:
        return None
    elif first in rules.NUMPY_REFUSED:
        code, why = rules.NUMPY_REFUSED[first]
        return code, f"`{path}` {why}"
    return "numpy-forbidden", f"`{path}` is not on the list of pure functions of numpy"


def _call_finding(path: str, top: ast.expr, facts: Facts) -> Finding | None:
    """What depends on how a listed function is called."""
    call = facts.scopes.parent.get(top)
    called = isinstance(call, ast.Call) and call.func is top
    keywords = {keyword.arg: keyword.value for keyword in call.keywords} if called else {}  # type: ignore[union-attr]
    args = call.args if called else []  # type: ignore[union-attr]
    if path == "numpy.random.default_rng":
        seed = args[0] if args else keywords.get("seed")
        if seed is None or not is_seed(seed, facts):
            return (
                "randomness",
                "default_rng needs a seed that cannot be None: a number, or int(params[...]); or use ctx.rng",
            )
    elif path == "numpy.ndarray" and called:
        return "uninitialised", "np.ndarray(...) holds whatever was in memory; use np.zeros or np.full"
    elif path == "numpy.datetime64" and args:
        literal = isinstance(args[0], ast.Constant) and str(args[0].value).strip().lower() not in ("now", "today")
        if not literal and not _is_pulse_time(args[0], facts):
            return "clock", "np.datetime64 of a computed value can mean the clock; write a date, or use ctx.now"
    elif path.startswith("numpy.") and "where" in keywords and "out" not in keywords and len(args) < 3:
        import numpy

        if isinstance(getattr(numpy, path.split(".")[1], None), numpy.ufunc) and path.count(".") == 1:
            return "uninitialised", f"`{path}` with where= and without out= leaves whatever was in memory; give out="
    return None


def _is_pulse_time(node: ast.expr, facts: Facts) -> bool:
    """Is this ctx.now, or a name for nothing else?"""
    match node:
        case ast.Attribute(value=value, attr="now"):
            return facts.flow.is_context(value)
        case ast.Name():
            binding = facts.scopes.binding(node)
            origins = facts.scopes.origins.get(binding, []) if binding else []
            direct = all(isinstance(o.value, ast.Attribute) and not o.element for o in origins)
            return bool(origins) and direct and all(_is_pulse_time(o.value, facts) for o in origins)
    return False


def is_seed(node: ast.expr, facts: Facts, depth: int = 0) -> bool:
    """Can this expression not be None, and so only be a seed?"""
    match node:
        case ast.Constant(value=value):
            return type(value) is int
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return bool(parts) and all(is_seed(part, facts, depth) for part in parts)
        case ast.BinOp():
            return True
        case ast.UnaryOp(op=op):
            return not isinstance(op, ast.Not)
        case ast.Call(func=func):
            return facts.scopes.is_builtin(func, "int", "len", "round", "abs", "ord")
        case ast.Name():
            binding = facts.scopes.binding(node)
            origins = facts.scopes.origins.get(binding, []) if binding else []
            assigned = binding is not None and len(origins) == len(facts.scopes.binders[binding])
            captured = binding is None and type(facts.captured.get(node.id)) is int
            known = bool(origins) and assigned and depth < 8
            return captured or (known and all(not o.element and is_seed(o.value, facts, depth + 1) for o in origins))
    return False


# attributes and strings


def attributes(facts: Facts) -> Iterator[Reason]:
    """Attributes that lead outside on any object, and methods that do so by the way they are called."""
    for node in facts.nodes():
        if isinstance(node, ast.Attribute):
            finding = _attribute_finding(node, facts)
            if finding:
                yield _refuse(node, finding)
        elif isinstance(node, ast.MatchClass):
            for name in node.kwd_attrs:
                if name in rules.REFUSED_ATTRIBUTES:
                    yield _refuse(
                        node, (rules.REFUSED_ATTRIBUTES[name][0], f"`.{name}` {rules.REFUSED_ATTRIBUTES[name][1]}")
                    )
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in rules.DISPATCHERS
        ):
            for text in (part.value for part in ast.walk(node) if isinstance(part, ast.Constant)):
                if isinstance(text, str) and (finding := _listed(text)):
                    yield _refuse(node, finding)


def _listed(name: str) -> Finding | None:
    if name in rules.REFUSED_ATTRIBUTES:
        code, why = rules.REFUSED_ATTRIBUTES[name]
        return code, f"`.{name}` {why}"
    for prefix, (code, why) in rules.REFUSED_PREFIXES.items():
        if name.startswith(prefix):
            return code, f"`.{name}` {why}"
    if name in rules.SEEDED_BY_KEYWORD:
        return "randomness", f"`.{name}` draws from a global generator; use ctx.rng, or give random_state a seed"
    return None


def _attribute_finding(node: ast.Attribute, facts: Facts) -> Finding | None:
    around = facts.scopes.parent.get(node)
    call = around if isinstance(around, ast.Call) and around.func is node else None
    name = node.attr
    if name in rules.SEEDED_BY_KEYWORD and call:
        states = [keyword.value for keyword in call.keywords if keyword.arg == "random_state"]
        if any(is_seed(state, facts) or _is_rng(state, facts) for state in states):
            return None
    if name == "now" and (call or not facts.flow.is_context(node.value)):
        return "clock", "`.now` of anything but ctx reads the clock; the time of the pulse is ctx.now, without a call"
    if name in ("timestamp", "astimezone") and _makes_naive_times(facts):
        return "clock", f"`.{name}` of a datetime without a time zone uses that of the machine; start from ctx.now"
    if name == "astimezone" and not (call and (call.args or call.keywords)):
        return "clock", "`.astimezone()` uses the time zone of the machine; name the time zone"
    if name == "fromtimestamp" and not (call and len(call.args) + len(call.keywords) > 1):
        return "clock", "`.fromtimestamp` uses the time zone of the machine; give tz="
    if name in ("format", "format_map"):
        return _format_finding(node.value)
    return _listed(name)


def _makes_naive_times(facts: Facts) -> bool:
    return any(
        facts.path(node.func).startswith("datetime.datetime") for node in facts.nodes() if isinstance(node, ast.Call)
    )


def _is_rng(node: ast.expr, facts: Facts) -> bool:
    match node:
        case ast.Attribute(value=value, attr="rng"):
            return facts.flow.is_context(value)
        case ast.Call(func=func):
            return facts.path(func) == "numpy.random.default_rng"
    return False


def _format_finding(text: ast.expr) -> Finding | None:
    if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
        return "format-string", "`.format` of a computed string can reach attributes; use an f-string"
    try:
        reaches = any("." in field or "[" in field for field in _format_fields(text.value))
    except ValueError:
        return None  # fails when called, and reaches nothing
    return ("format-string", "a format string may not reach attributes or items; use an f-string") if reaches else None


def _format_fields(text: str) -> Iterator[str]:
    for _, name, specification, _ in string.Formatter().parse(text):
        if name is not None:
            yield name
            yield from _format_fields(specification or "")


def clock_strings(facts: Facts) -> Iterator[Reason]:
    """The strings "now" and "today" are the clock where numpy or pandas turn text into times."""
    words = {"datetime64", "Timestamp", "to_datetime", "DatetimeIndex", "Period", "date_range", "bdate_range", "pandas"}
    constants = (node for node in facts.nodes() if isinstance(node, ast.Constant))
    texts = [(node, node.value) for node in constants if isinstance(node.value, str)]
    times = any(words.intersection(_names_in(node)) for node in facts.nodes())
    if times or any("datetime64" in text or "M8" in text for _, text in texts):
        for node, text in texts:
            if text.strip().lower() in ("now", "today"):
                yield _refuse(
                    node,
                    ("clock", f"{text!r} is the clock for numpy and pandas; the time of the pulse is ctx.now"),
                )


def addresses(facts: Facts) -> Iterator[Reason]:
    """The text of a function, an iterator or of ctx holds a memory address, which differs between processes."""
    for node in facts.nodes():
        for value in _made_text(node, facts):
            if _shows_address(value, facts):
                message = (
                    "the text of a function, an iterator or ctx holds a memory address, which differs between processes"
                )
                yield _refuse(value, ("address", message))


def _made_text(node: ast.AST, facts: Facts) -> list[ast.expr]:
    match node:
        case ast.FormattedValue(value=value):
            return [value]
        case ast.Call(func=func, args=args) if facts.scopes.is_builtin(func, "str", "repr", "ascii", "format"):
            return args
        case ast.Call(func=ast.Attribute(attr="format"), args=args, keywords=keywords):
            return [*args, *(keyword.value for keyword in keywords)]
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod(), right=right):
            return right.elts if isinstance(right, ast.Tuple) else [right]
    return []


def _shows_address(node: ast.expr, facts: Facts) -> bool:
    match node:
        case ast.Lambda() | ast.GeneratorExp():
            return True
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.Dict(values=parts):
            return any(_shows_address(part, facts) for part in parts)
        case ast.Starred(value=value):
            return _shows_address(value, facts)
        case ast.Attribute(value=value, attr=name) if facts.flow.is_context(value):
            return name in rules.CONTEXT_METHODS
        case ast.Attribute():
            return _is_imported_function(node, facts)
        case ast.Call(func=func):
            return facts.scopes.is_builtin(func, "map", "filter", "zip", "enumerate", "reversed", "iter")
        case ast.Name():
            is_function = facts.scopes.function(node) is not None or _is_imported_function(node, facts)
            return is_function or facts.flow.is_context(node)
    return False


def _is_imported_function(node: ast.expr, facts: Facts) -> bool:
    path = facts.path(node)
    return bool(path) and path.split(".")[-1] not in ("pi", "e", "tau", "inf", "nan", "euler_gamma")
