"""What is swept: an experiment, the grid of its params, and what is kept; read from Python, a file or a plan.

strategies/sweeps/<name>.yaml  experiment and grid; where, search, keep, start, end, seed, risk_free where they are
    said; gates that a promotion must meet; walk_forward: how one goes over the same candidates
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from ledger_pipeline.analytics.comparison_tables import ALL_FORMULAS
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.identity import check_id, hash_json
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.selection.gates import gates as read_gates
from ledger_pipeline.simulation.evaluation import measured_by
from ledger_pipeline.simulation.run import identify
from ledger_pipeline.strategy.catalogue import Catalogue
from ledger_pipeline.strategy.experiment import Experiment, with_period, with_risk_free
from ledger_pipeline.strategy.source import StrategySource
from ledger_pipeline.strategy.yaml_files import at, read_yaml, shown
from ledger_pipeline.sweeps.axes import Axis, Interval, Point, axes, check_types, listed, points, whole_where_meant
from ledger_pipeline.sweeps.condition import condition
from ledger_pipeline.sweeps.evaluation import Keep
from ledger_pipeline.sweeps.learned import extremes
from ledger_pipeline.sweeps.search import Search, candidates, search

KEYS = (
    "experiment", "grid", "where", "search", "keep", "start", "end", "seed", "risk_free", "gates", "walk_forward",
    "description",
)  # fmt: skip
COLUMNS = ("number", "id", "status", "error", "rank", "periods_per_year", "periods_basis", "risk_free")
LARGE = 20_000  # candidates; more are evaluated only when that is said to be meant


@dataclass(frozen=True)
class Definition:
    """A checked sweep. experiment: with the period and the risk-free rate of the sweep; written: the keys of a file, by
    which it can be defined again; walk_forward: the keys of one over these candidates, None for none.
    """

    name: str
    experiment: Experiment
    axes: Mapping[str, Axis]
    where: str | None
    search: Search
    keep: Keep
    seed: int | None
    written: Mapping[str, Any]
    walk_forward: Mapping[str, Any] | None = None

    @property
    def meets(self) -> Callable[[Point], bool]:
        """Whether a point meets the condition."""
        known = {**self.experiment.spec.params, **dict.fromkeys(self.axes)}
        return condition(self.where, known)

    @functools.cached_property
    def points(self) -> list[Point]:
        """The candidates' values, in the order of their numbers; none where the search learns, since they are not known
        before. InputError when there are none.
        """
        return [] if self.search.learns else candidates(self.axes, self.search, self.meets)

    @functools.cached_property
    def size(self) -> int:
        """How many candidates there are. InputError when there are none."""
        if not self.search.learns:
            return len(self.points)
        lists = listed(self.axes)
        if any(isinstance(axis, Interval) for axis in lists.values()):
            return self.search.number
        found = sum(1 for _ in itertools.islice(points(lists, self.meets), self.search.number))
        if not found:
            raise InputError("no point of the grid meets the condition (where); there is nothing to run.")
        return found

    @property
    def typical(self) -> list[Point]:
        """Points that have the longest windows and the like between them: all, or the ends of the axes where candidates
        are not known before.
        """
        return extremes(self.axes) if self.search.learns else self.points

    def identity(self, snapshot: Snapshot) -> dict[str, Any]:
        """All that affects the results, as JSON; the first 20 hex digits of its hash are the sweep's id."""
        one = identify(self.experiment, snapshot, self.seed)
        measured = measured_by(self.experiment)
        spec = self.experiment.spec
        written = {alias: {**dict(item), "indicator": None} for alias, item in spec.features.items()}
        return {
            "snapshot_hash": snapshot.hash,
            "experiment_hash": self.experiment.hash,
            "references": {"features": _plain(written), "fields": _plain(self.experiment.referring)},
            "grid": {name: _written(axis) for name, axis in self.axes.items()},
            "order": list(self.axes),
            "where": self.where,
            "search": self.search.document,
            "keep": self.keep,
            "seed": one.seed,
            "engine": one.engine,
            "libraries": dict(one.libraries),
            "benchmark": measured.benchmark,
            "risk_free": measured.risk_free if isinstance(measured.risk_free, float) else dict(measured.risk_free),
            **({"gates": self.written["gates"]} if "gates" in self.written else {}),
        }

    def sweep_id(self, snapshot: Snapshot) -> str:
        """The sweep's name in paths and on the command line."""
        return hash_json(self.identity(snapshot))[:20]


def define(
    experiment: Experiment,
    grid: Mapping[str, Any],
    *,
    where: str | None = None,
    search: Any = "all",
    keep: str = "metrics",
    start: Any = None,
    end: Any = None,
    seed: int | None = None,
    risk_free: Any = None,
    gates: Any = None,
    walk_forward: Any = None,
    name: str | None = None,
    yes: bool = False,
) -> Definition:
    """A sweep of an experiment. yes: it is meant to be larger than LARGE. InputError for what cannot be meant: a param
    that nothing reads, a value of another type, a condition that is none or that no point meets, gates without kept
    returns.
    """
    if not isinstance(experiment, Experiment):
        raise InputError(
            f"a sweep varies an experiment, not a {type(experiment).__name__}: make one with experiment(...)."
        )
    if experiment.spec.params_schedule:
        raise InputError(
            f"experiment {experiment.name!r} has params_schedule, which says its params by date; vary one without."
        )
    if keep not in get_args(Keep):
        raise InputError(f"keep is {keep!r}; it is metrics, returns or equity.")
    asked = read_gates(gates)
    if asked and keep != "returns":
        raise InputError("gates look at the returns of the candidates; write keep: returns.")
    varied = axes(grid)
    taken = next((name for name in varied if name in COLUMNS or name in ALL_FORMULAS), None)
    if taken is not None:
        raise InputError(f"grid: {taken!r} is what a column of the candidates is called; call the param otherwise.")
    _check_read(experiment, varied)
    varied = whole_where_meant(varied, experiment.spec.params)
    check_types(varied, experiment.spec.params)
    base = with_period(experiment, start, end)
    if risk_free is not None:
        base = with_risk_free(base, risk_free)
    how = _search(search)
    if how.learns and how.by not in ALL_FORMULAS:
        raise InputError(f"search optuna: there is no metric {how.by!r}; there are {', '.join(ALL_FORMULAS)}.")
    written = {
        "experiment": experiment.name, "grid": {name: _written(axis) for name, axis in varied.items()}, "where": where,
        "search": how.document, "keep": keep, "start": None if start is None else str(start),
        "end": None if end is None else str(end), "seed": seed, "risk_free": _plain(risk_free),
        "gates": _plain(gates) if asked else None,
    }  # fmt: skip
    called = check_id("sweep", name or experiment.name)
    definition = Definition(
        called, base, varied, where, how, cast(Keep, keep), seed,
        {k: v for k, v in written.items() if v is not None}, walk_forward,
    )  # fmt: skip
    size = definition.size
    if size > LARGE and not yes:
        raise InputError(
            f"the sweep has {size:,} candidates, more than {LARGE:,}; say --yes (yes=True) if it is meant."
        )
    return definition


def _search(given: Any) -> Search:
    return given if isinstance(given, Search) else search(given)


def read_written(strategies: Path, name: str) -> dict[str, Any]:
    """The keys of a sweep file. NotFoundError when there is none, InputError naming file, line and key."""
    path = strategies / "sweeps" / f"{check_id('sweep', name)}.yaml"
    if not path.is_file():
        known = ", ".join(sweep_names(strategies)) or "none"
        raise NotFoundError(
            f"there is no sweep {name!r} in {path.parent} (there are: {known}); for an experiment, give its values "
            "with --set."
        )
    values, tree = read_yaml(path, "a sweep is a mapping with the keys experiment and grid")
    unknown = next((key for key in values if key not in KEYS), None)
    if unknown is not None:
        raise InputError(f"{at(path, tree, (unknown,))}: {unknown} is not a known key; the keys are {', '.join(KEYS)}.")
    missing = next((key for key in ("experiment", "grid") if key not in values), None)
    if missing is not None:
        raise InputError(f"{shown(path)}: {missing} is missing.")
    return dict(values)


def defined_in(strategies: Path, name: str, *, yes: bool = False) -> Definition:
    """The sweep of a file. Raises what `read_written` and `from_written` raise, naming the file."""
    values = read_written(strategies, name)
    try:
        return from_written(strategies, name, values, yes=yes)
    except (InputError, NotFoundError) as error:
        raise type(error)(f"sweeps/{name}.yaml: {error}") from None


def from_written(strategies: Path, name: str, values: Mapping[str, Any], *, yes: bool = False) -> Definition:
    """The sweep of the keys of a file. Raises what Catalogue.experiment and `define` raise."""
    given = {key: value for key, value in values.items() if key not in ("experiment", "description")}
    if not isinstance(values["experiment"], str):
        raise InputError(f"experiment is {values['experiment']!r}; it is the name of one.")
    return define(Catalogue(strategies).experiment(values["experiment"]), name=name, yes=yes, **given)


def sweep_names(strategies: Path) -> list[str]:
    """Names of the sweep files, sorted."""
    return sorted(path.stem for path in (strategies / "sweeps").glob("*.yaml"))


def _check_read(experiment: Experiment, varied: Mapping[str, Axis]) -> None:
    """InputError for an axis that neither the strategy nor a field of the experiment reads."""
    known = _params_in(experiment.source)
    for name in varied:
        if known is not None and name not in known and name not in experiment.param_names:
            readable = ", ".join(sorted({*known, *experiment.param_names})) or "none"
            raise InputError(
                f"grid: neither the strategy nor a field of the experiment reads the param {name!r} (read are: "
                f"{readable}); a field takes one with {{param: {name}}}."
            )


def _params_in(source: StrategySource) -> set[str] | None:
    """The texts that a strategy may ask its params for; None when it uses them in a way that does not show which."""
    tree = ast.parse(source.text)
    function = next(node for node in tree.body if getattr(node, "name", None) == source.function_name)
    arguments = function.args.posonlyargs + function.args.args  # type: ignore[attr-defined]
    params = arguments[1].arg if len(arguments) > 1 else "params"
    uses = sum(isinstance(node, ast.Name) and node.id == params for node in ast.walk(function))
    asked = [key for node in ast.walk(function) if (key := _asked(node, params)) is not None]
    return set(asked) if uses == len(asked) else None


def _asked(node: ast.AST, params: str) -> str | None:
    """The key that params["key"], params.get("key") or "key" in params asks for."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
            pass
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[ast.Constant(value=str(key)), *_]):
            pass
        case ast.Compare(
            left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[ast.Name() as of]
        ):
            name = of.id
        case _:
            return None
    return key if name == params else None


def _written(axis: Axis) -> Any:
    return {"from": axis.low, "to": axis.high} if isinstance(axis, Interval) else list(axis)


def _plain(value: Any) -> Any:
    """`value` as JSON; dates as texts."""
    from datetime import date

    from ledger_pipeline.strategy.terms import plain

    def texts(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: texts(one) for key, one in item.items()}
        if isinstance(item, list):
            return [texts(one) for one in item]
        return item.isoformat() if isinstance(item, date) else item

    return texts(plain(value))
