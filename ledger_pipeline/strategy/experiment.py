"""Experiments: everything that affects a result, in one frozen value with one hash.

An experiment is strategy + params + features + opening + deposits + costs + borrow and interest + risk + universe +
cash rule + base currency. Its name, description, benchmark, risk-free rate and default seed are not part of
experiment_hash; the name of its strategy is, since every event of the ledger carries it. The same model checks an
experiment from a YAML file and one made in Python; unknown keys are refused, and costs must be written down, an empty
list for none.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ledger_pipeline.core.errors import InputError, IntegrityError
from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.features.indicators import Indicator
from ledger_pipeline.features.table import Feature, feature
from ledger_pipeline.strategy.experiment_spec import (
    Borrow,
    Deposit,
    ExperimentSpec,
    Interest,
    Opening,
    ScheduledParams,
    checked_risk_free,
)
from ledger_pipeline.strategy.preflight import Preflight, preflight
from ledger_pipeline.strategy.references import UndefinedParam, is_reference, names_in, referring, resolved
from ledger_pipeline.strategy.source import StrategySource, source_hash, typed_constants
from ledger_pipeline.strategy.terms import json_value, parse_costs, parse_risk, plain
from ledger_pipeline.strategy.user_indicators import UserIndicator, of_features, rebuilt


class SpecError(InputError):
    """An InputError that knows its place in the spec: the keys that lead to it."""

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Experiment:
    """A checked experiment. `hash` identifies it; `name` only names it. scheduled: the features of each entry of
    params_schedule, none for one that holds nothing. referring: the fields that take values from params, as they are
    written, for the same experiment with other params.
    """

    name: str
    preflight: Preflight = field(repr=False)
    spec: ExperimentSpec
    features: tuple[Feature, ...] = field(repr=False)
    indicators: Mapping[str, UserIndicator] = field(default_factory=dict, repr=False)
    scheduled: tuple[tuple[Feature, ...], ...] = field(default=(), repr=False)
    referring: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def source(self) -> StrategySource:
        """The strategy's captured source."""
        return self.preflight.source

    @property
    def tier(self) -> int:
        """The highest tier of the strategy and of its user's indicators."""
        return max(self.preflight.tier, *(one.preflight.tier for one in self.indicators.values()), 1)

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the packages, and contents of the local modules, that a tier 2 source names."""
        packages = dict(self.preflight.packages)
        for one in self.indicators.values():
            packages |= one.preflight.packages
        return dict(sorted(packages.items())) if self.tier > 1 else {}

    @functools.cached_property
    def costs(self) -> tuple[dict[str, float], ...]:
        """Cost steps in canonical form."""
        return parse_costs(self.spec.costs)

    @functools.cached_property
    def risk(self) -> tuple[str | dict[str, float], ...]:
        """Risk steps in canonical form."""
        return parse_risk(self.spec.risk)

    @functools.cached_property
    def params_hash(self) -> str:
        """SHA-256 (hex) of the params."""
        return hash_json(self.spec.params)

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """All that affects results, as JSON; experiment_hash is its hash."""
        spec = self.spec
        return {
            "strategy": {
                "name": spec.strategy,
                "source_hash": self.source.hash,
                "function": self.source.function_name,
                "captured": typed_constants(self.source.captured),
            },
            **({"packages": self.packages} if self.packages else {}),
            "params": spec.params,
            "features": {item.alias: item.fingerprint for item in self.features},
            "opening": spec.opening.model_dump(mode="json"),
            "deposits": [deposit.model_dump(mode="json", exclude_none=True) for deposit in spec.deposits],
            "costs": list(self.costs),
            "risk": list(self.risk),
            "universe": None if spec.universe is None else list(spec.universe),
            "cash_rule": spec.cash_rule,
            **spec.chosen,
            **(
                {"scheduled_features": [{item.alias: item.fingerprint for item in items} for items in self.scheduled]}
                if self.scheduled
                else {}
            ),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain values: a copy in another process is assembled, and classified, anew."""
        return from_plain, (self.plain,)

    @property
    def plain(self) -> dict[str, Any]:
        """All of it as JSON, sources included, from which `from_plain` makes it again wherever its files are."""
        spec = self.spec.model_dump(mode="json", exclude={"features"})
        spec["features"] = {item.alias: self._written(item) for item in self.features}
        return {
            "name": self.name,
            "source": asdict(self.source),
            "spec": spec,
            "indicators": {one.indicator.name: one.document for one in self.indicators.values()},
            "referring": plain(dict(self.referring)),
        }

    def _written(self, item: Feature) -> dict[str, Any]:
        """A feature as it is written, its indicator by name."""
        given = self.spec.features[item.alias]
        if is_reference(given.get("indicator")):  # with another one, other params may be meant
            return plain(dict(given))
        references = {key: given[key] for key in item.params if is_reference(given.get(key))}
        return {"indicator": item.indicator.name, **item.params, **references}

    @property
    def param_names(self) -> frozenset[str]:
        """The params that features and other fields refer to."""
        return frozenset([*names_in(self.spec.features), *names_in(self.referring)])

    @functools.cached_property
    def hash(self) -> str:
        """experiment_hash: SHA-256 (hex) of `document`."""
        return hash_json(self.document)


def experiment(
    strategy: Callable[..., Any] | str | Path | StrategySource,
    *,
    params: Mapping[str, Any] | None = None,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    opening: Mapping[str, Any] | None = None,
    deposits: Sequence[Mapping[str, Any]] = (),
    costs: Sequence[Mapping[str, float]],
    risk: Sequence[Any] = (),
    universe: Sequence[str] | None = None,
    cash_rule: str = "require",
    cash_rounding: str = "exact",
    limit_fills: str = "touched",
    borrow: Mapping[str, float] | None = None,
    interest: Mapping[str, float] | None = None,
    base_currency: str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params_schedule: Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
    benchmark: str | None = None,
    risk_free: float | Mapping[str, str] = 0.0,
    name: str | None = None,
    description: str | None = None,
    indicators: Mapping[str, Indicator] | None = None,
) -> Experiment:
    """An experiment from Python values; `strategy` is a function, a text, or the path of a file that holds one.

    `opening` is {"cash": 100_000} when left out. The strategy is called after its file, else after its function, and so
    is an experiment without a `name`. A user's indicator stands in `features` as a function, or by its name in
    `indicators`. Raises InputError, and RefusedError for a tier 3 strategy.
    """
    checked = preflight(strategy)
    is_file = isinstance(strategy, Path) or (isinstance(strategy, str) and "\n" not in strategy)
    called = Path(strategy).stem if is_file else checked.source.function_name.lower()  # type: ignore[arg-type]
    if name is not None and not isinstance(name, str):
        raise InputError(f"the name of an experiment is a text, not {name!r}.")
    label = name or called
    given = {
        "params": params,
        "features": features,
        "opening": opening,
        "deposits": deposits,
        "risk": risk,
        "universe": universe,
        "borrow": borrow,
        "interest": interest,
        "base_currency": base_currency,
        "start": start,
        "end": end,
        "params_schedule": params_schedule,
    }
    values = {
        "strategy": called,
        "costs": plain(costs),
        "cash_rule": cash_rule,
        "cash_rounding": cash_rounding,
        "limit_fills": limit_fills,
        "seed": plain(seed),
        "benchmark": benchmark,
        "risk_free": plain(risk_free),
        "description": description,
        **{key: plain(value) for key, value in given.items() if value is not None},
    }
    try:
        written = referring(values)
        spec = ExperimentSpec.model_validate(values | resolved(written, values.get("params")))
    except ValidationError as error:
        place, message = first_error(error)
        raise InputError(f"experiment {label!r}: {key_of(place)} {message}.") from None
    except UndefinedParam as error:
        raise InputError(f"experiment {label!r}: {key_of(error.place)}: {error}.") from None
    try:
        return assemble(label, checked, spec, indicators, written)
    except SpecError as error:
        raise SpecError(f"experiment {label!r}: {error}", *error.place) from None


def with_risk_free(experiment: Experiment, risk_free: float | Mapping[str, str]) -> Experiment:
    """The experiment with another risk-free rate, which changes no identity. InputError for one that is none."""
    try:
        given = checked_risk_free(plain(risk_free))
    except ValueError as error:
        raise InputError(f"risk_free: {error}.") from None
    return replace(experiment, spec=experiment.spec.model_copy(update={"risk_free": given}))


def with_period(experiment: Experiment, start: date | str | None, end: date | str | None) -> Experiment:
    """The experiment from and to other sessions (None: as it is), which is another experiment. InputError for dates
    that are none.
    """
    given = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    if not given:
        return experiment
    try:
        spec = ExperimentSpec.model_validate(experiment.spec.model_dump() | given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the period"
        raise InputError(f"{where}: {problem['msg'].removeprefix('Value error, ')}.") from None
    return replace(experiment, spec=spec, referring={k: v for k, v in experiment.referring.items() if k not in given})


def with_schedule(experiment: Experiment, schedule: Sequence[Mapping[str, Any]]) -> Experiment:
    """The experiment with other params from some sessions on (see params_schedule), which is another experiment.
    InputError when it would not be sound.
    """
    own = {one.indicator.name: one.indicator for one in experiment.indicators.values()}
    try:
        spec = ExperimentSpec.model_validate(experiment.spec.model_dump() | {"params_schedule": list(schedule)})
    except ValidationError as error:
        place, message = first_error(error)
        raise InputError(f"{key_of(place)} {message}.") from None
    return assemble(experiment.name, experiment.preflight, spec, own, experiment.referring)


def with_params(experiment: Experiment, params: Mapping[str, Any]) -> Experiment:
    """The experiment with these params among its own, and all that refers to them, which is another experiment.
    InputError when it would not be sound.
    """
    if experiment.spec.params_schedule:
        raise InputError(
            f"experiment {experiment.name!r} has params_schedule, which says its params by date; vary one without."
        )
    merged = {**experiment.spec.params, **params}
    own = {one.indicator.name: one.indicator for one in experiment.indicators.values()}
    try:
        if experiment.referring:
            values = experiment.spec.model_dump() | {"params": merged} | resolved(experiment.referring, merged)
            spec = ExperimentSpec.model_validate(values)
        else:  # nothing but the params changes, and the rest was checked
            spec = experiment.spec.model_copy(update={"params": json_value(merged)})
    except ValidationError as error:
        place, message = first_error(error)
        raise InputError(f"{key_of(place)} {message}.") from None
    except UndefinedParam as error:
        raise InputError(f"{key_of(error.place)}: {error}.") from None
    return assemble(experiment.name, experiment.preflight, spec, own, experiment.referring)


def from_plain(document: Mapping[str, Any]) -> Experiment:
    """The experiment of `Experiment.plain`, its source classified anew. Raises what `assemble` raises, IntegrityError
    for a source that is not the one of its hash.
    """
    source = StrategySource(**document["source"])
    if source_hash(source.text) != source.hash:
        raise IntegrityError(f"the stored source of experiment {document['name']!r} is not the one of its hash.")
    own = {indicator: rebuilt(stored, indicator) for indicator, stored in document["indicators"].items()}
    spec = ExperimentSpec.model_validate(document["spec"])
    return assemble(document["name"], preflight(source), spec, own, document["referring"])


def assemble(
    name: str,
    checked: Preflight,
    spec: ExperimentSpec,
    indicators: Mapping[str, Indicator] | None = None,
    referring: Mapping[str, Any] | None = None,
) -> Experiment:
    """Join a preflighted strategy and a checked spec: resolve parameters in features, and find features that are used
    but not defined. referring: see Experiment. SpecError, and RefusedError for a tier 3 strategy.
    """
    checked.require()
    clock = next((path for path, value in _texts(spec.params) if value.strip().lower() in ("now", "today")), None)
    if clock and {"numpy", "pandas"} & set(checked.packages):
        raise SpecError(
            f"params.{clock} is a word that numpy and pandas read as the clock; write the date out.", "params"
        )
    features = _features(spec.features, spec.params, indicators)
    scheduled, entries = [], []
    for entry in spec.params_schedule:
        items: list[Feature] = []
        _check_scheduled(entry, spec, set(names_in(dict(referring or {}))))
        if entry.params is not None:
            items = _features({**spec.features, **entry.features}, {**spec.params, **entry.params}, indicators)
            for mine, base in zip(items, features, strict=True):
                if mine.indicator.name != base.indicator.name:
                    raise SpecError(
                        f"feature {mine.alias!r} is {mine.indicator.name!r} from {entry.start} on and "
                        f"{base.indicator.name!r} before; params_schedule changes params, not indicators.",
                        "params_schedule",
                    )
        stated = {item.alias: {"indicator": item.indicator.name, **item.params} for item in items}
        entries.append(entry.model_copy(update={"features": stated}))
        scheduled.append(tuple(items))
    if entries:
        spec = spec.model_copy(update={"params_schedule": tuple(entries)})
    for line, alias in used_features(checked.source.text):
        if alias not in spec.features:
            defined = ", ".join(sorted(spec.features)) or "none"
            raise SpecError(
                f"the strategy asks for the feature {alias!r} (line {line} of its text), which the experiment does not "
                f"define (it defines: {defined}).",
                "features",
            )
    try:
        captured, yours = of_features(tuple(features))
        scheduled = [of_features(items)[0] for items in scheduled]
    except InputError as error:
        raise SpecError(str(error), "features") from None
    return Experiment(name, checked, spec, captured, yours, tuple(scheduled), dict(referring or {}))


def _check_scheduled(entry: ScheduledParams, spec: ExperimentSpec, of_account: set[str]) -> None:
    """SpecError for a param that the experiment does not have, or that a field of the account takes its value from, and
    for a feature that there is not.
    """
    for name in entry.params or {}:
        if name not in spec.params:
            known = ", ".join(sorted(spec.params)) or "none"
            raise SpecError(
                f"params_schedule from {entry.start} changes {name!r}, which is no param of the experiment (it has: "
                f"{known}).",
                "params_schedule",
            )
        if name in of_account and (entry.params or {})[name] != spec.params[name]:
            raise SpecError(
                f"params_schedule from {entry.start} changes {name!r}, which a field of the account takes its value "
                "from; such a change would be another account.",
                "params_schedule",
            )
    unknown = sorted(set(entry.features) - set(spec.features))
    if unknown:
        raise SpecError(
            f"params_schedule from {entry.start} has the feature {unknown[0]!r}, which the experiment does not define.",
            "params_schedule",
        )


def _features(
    written: Mapping[str, Mapping[str, Any]], params: Mapping[str, Any], indicators: Mapping[str, Indicator] | None
) -> list[Feature]:
    """The features as they are written, with these params, in the order of their aliases. SpecError."""
    features = []
    for alias in sorted(written):
        resolved = {key: _resolved(alias, key, value, params) for key, value in written[alias].items()}
        try:
            features.append(feature(alias, resolved, indicators))
        except InputError as error:
            raise SpecError(str(error), "features", alias) from None
    return features


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts among params, with the keys that lead to them."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _texts(part, f"{path}.{key}" if path else str(key))
    if isinstance(value, str):
        yield path, value


def _resolved(alias: str, key: str, value: Any, params: Mapping[str, Any]) -> Any:
    """A parameter of a feature, taken from the params where it says {param: name}."""
    if not is_reference(value):
        return value
    name = value["param"]
    if not isinstance(name, str) or name not in params:
        known = ", ".join(sorted(params)) or "none"
        raise SpecError(
            f"feature {alias!r} takes {key} from params.{name}, which is not defined (params: {known}).",
            *("features", alias, key),
        )
    return params[name]


@functools.lru_cache(maxsize=64)
def used_features(text: str) -> tuple[tuple[int, str], ...]:
    """(line, name) of the features that a source asks for by a literal name."""
    used = []
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("feature", "feature_values")
        ):
            position = 1 if node.func.attr == "feature" else 0
            names = [*node.args[position : position + 1], *(k.value for k in node.keywords if k.arg == "name")]
            used += [
                (node.lineno, arg.value)
                for arg in names
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
    return tuple(used)


def used_params(source: StrategySource) -> list[tuple[int, str]]:
    """(line, name) of the params that a strategy asks for by a literal key, as params["name"]."""
    tree = ast.parse(source.text)
    function = next(node for node in tree.body if getattr(node, "name", None) == source.function_name)
    arguments = function.args.posonlyargs + function.args.args  # type: ignore[attr-defined]
    params = arguments[1].arg if len(arguments) > 1 else "params"
    return [
        (node.lineno, node.slice.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == params
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ]


def first_error(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """The place and the sentence, in our words, of the error to tell: an unknown key before what is missing for it."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    place = tuple(part for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {
            "opening": Opening, "deposits": Deposit, "borrow": Borrow, "interest": Interest,
        }  # fmt: skip
        model = models.get(str(place[0]), ExperimentSpec) if len(place) > 1 else ExperimentSpec
        return place, f"is not a known key; the keys are {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return place, "is missing" + ("; write [] for no costs" if place == ("costs",) else "")
    if first["type"] == "value_error":
        return place, "is not sound: " + str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    kinds = {"dict_type": "a mapping", "model_type": "a mapping", "list_type": "a list", "tuple_type": "a list"}
    said = str(first["msg"]).removeprefix("Input should be ")
    for theirs, ours in (("a valid integer", "a whole number"), ("a valid string", "a text"), ("a valid ", "a ")):
        said = said.replace(theirs, ours)
    return place, f"is {first['input']!r}; it should be {kinds.get(first['type'], said)}"


def key_of(place: tuple[int | str, ...]) -> str:
    """A place in an experiment as it is written: deposits[0].amount; "it" for the whole."""
    return (
        "it"
        if not place
        else "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    )
