"""Experiments: everything that affects a result, in one frozen value with one hash.

An experiment is strategy + params + features + opening + deposits + costs + risk + universe + cash rule. Its name,
description, benchmark and default seed are not part of experiment_hash. The same model checks an experiment from a YAML
file and one made in Python; unknown keys are refused, and costs must be written down, an empty list for none.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ledger_pipeline.errors import InputError
from ledger_pipeline.features.indicators import Indicator
from ledger_pipeline.features.table import Feature, feature
from ledger_pipeline.identity import canonical_json, hash_json
from ledger_pipeline.strategy.preflight import Preflight, preflight
from ledger_pipeline.strategy.source import StrategySource
from ledger_pipeline.strategy.terms import parse_costs, parse_risk


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Opening(_Strict):
    """What the book holds at the first pulse: cash, and quantities with what one share of each cost."""

    cash: float = Field(ge=0)
    positions: dict[str, float] = Field(default_factory=dict)
    cost_basis: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _costs_known(self) -> Opening:
        missing = sorted(set(self.positions) ^ set(self.cost_basis))
        if missing:
            raise ValueError(
                f"positions and cost_basis must name the same symbols; {missing[0]} is in only one of them"
            )
        return self


class Deposit(_Strict):
    """Cash that comes in from outside: an amount at the first bar of every period, or once at the first bar on or after
    a date.
    """

    amount: float = Field(gt=0)
    every: Literal["week", "month", "quarter", "year"] | None = None
    start: date | None = None
    end: date | None = None
    at: date | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Deposit:
        if (self.every is None) == (self.at is None):
            raise ValueError("give either `every` (week, month, quarter, year) or `at` (a date)")
        if self.at is not None and (self.start or self.end):
            raise ValueError("`start` and `end` go with `every`, not with `at`")
        return self


class ExperimentSpec(_Strict):
    """The keys of an experiment file. `strategy` and `costs` must be there."""

    strategy: str
    params: dict[str, Any] = Field(default_factory=dict)
    features: dict[str, dict[str, Any]] = Field(default_factory=dict)
    opening: Opening = Opening(cash=100_000.0)
    deposits: tuple[Deposit, ...] = ()
    costs: list[Any]
    risk: list[Any] = Field(default_factory=list)
    universe: tuple[str, ...] | None = None
    cash_rule: Literal["require", "allow_negative"] = "require"
    seed: int = Field(default=0, ge=0, lt=2**53)
    benchmark: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> ExperimentSpec:
        try:
            parse_costs(self.costs)
            parse_risk(self.risk)
            canonical_json(self.params)
        except InputError as error:
            raise ValueError(str(error)) from None
        if self.universe is not None and (not self.universe or len(set(self.universe)) != len(self.universe)):
            raise ValueError("universe must list at least one symbol, each once; leave it out for all of the snapshot")
        return self


@dataclass(frozen=True)
class Experiment:
    """A checked experiment. `hash` identifies it; `name` only names it."""

    name: str
    preflight: Preflight
    spec: ExperimentSpec
    features: tuple[Feature, ...] = field(repr=False)

    @property
    def source(self) -> StrategySource:
        """The strategy's captured source."""
        return self.preflight.source

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
                "source_hash": self.source.hash,
                "function": self.source.function_name,
                "captured": dict(self.source.captured),
            },
            "params": spec.params,
            "features": {item.alias: item.fingerprint for item in self.features},
            "opening": spec.opening.model_dump(mode="json"),
            "deposits": [deposit.model_dump(mode="json", exclude_none=True) for deposit in spec.deposits],
            "costs": list(self.costs),
            "risk": list(self.risk),
            "universe": None if spec.universe is None else list(spec.universe),
            "cash_rule": spec.cash_rule,
        }

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
    seed: int = 0,
    benchmark: str | None = None,
    name: str | None = None,
    description: str | None = None,
    indicators: Mapping[str, Indicator] | None = None,
) -> Experiment:
    """An experiment from Python values; `strategy` is a function, or the path of a file that holds one.

    `opening` is {"cash": 100_000} when left out. Raises InputError, and RefusedError for a tier 3 strategy.
    """
    checked = preflight(strategy)
    label = name or checked.source.function_name.lower()
    values = {
        "strategy": label,
        "params": dict(params or {}),
        "features": {alias: dict(spec) for alias, spec in (features or {}).items()},
        "deposits": list(deposits),
        "costs": list(costs),
        "risk": list(risk),
        "cash_rule": cash_rule,
        "seed": seed,
        "benchmark": benchmark,
        "description": description,
        **({"opening": dict(opening)} if opening is not None else {}),
        **({"universe": tuple(universe)} if universe is not None else {}),
    }
    try:
        spec = ExperimentSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"experiment {label!r}: {'.'.join(map(str, first['loc'])) or 'it'}: {said(first)}.") from None
    return assemble(label, checked, spec, indicators)


def assemble(
    name: str, checked: Preflight, spec: ExperimentSpec, indicators: Mapping[str, Indicator] | None = None
) -> Experiment:
    """Join a preflighted strategy and a checked spec: resolve parameters in features, and find features that are used
    but not defined.
    """
    checked.require()
    features = []
    for alias in sorted(spec.features):
        resolved = {}
        for key, value in spec.features[alias].items():
            if isinstance(value, Mapping) and set(value) == {"param"}:
                if value["param"] not in spec.params:
                    raise InputError(
                        f"experiment {name!r}: feature {alias!r} takes {key} from params.{value['param']}, which is "
                        "not defined."
                    )
                value = spec.params[value["param"]]
            resolved[key] = value
        try:
            features.append(feature(alias, resolved, indicators))
        except InputError as error:
            raise InputError(f"experiment {name!r}: {error}") from None
    for line, alias in used_features(checked.source.text):
        if alias not in spec.features:
            defined = ", ".join(sorted(spec.features)) or "none"
            raise InputError(
                f"experiment {name!r}: the strategy asks for the feature {alias!r} (line {line}), which the "
                "experiment does not define "
                f"(it defines: {defined})."
            )
    return Experiment(name, checked, spec, tuple(features))


def used_features(text: str) -> list[tuple[int, str]]:
    """(line, name) of the features that a source asks for by a literal name."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("feature", "feature_values")
        ):
            position = 1 if node.func.attr == "feature" else 0
            names = [*node.args[position : position + 1], *(k.value for k in node.keywords if k.arg == "name")]
            found += [
                (node.lineno, arg.value)
                for arg in names
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
    return found


def said(error: Mapping[str, Any]) -> str:
    """One pydantic error in our words."""
    if error["type"] == "extra_forbidden":
        return "is not a known key"
    if error["type"] == "missing":
        hint = "; write [] for no costs" if error["loc"][-1:] == ("costs",) else ""
        return f"is missing{hint}"
    return str(error["msg"]).removeprefix("Value error, ").rstrip(".")
