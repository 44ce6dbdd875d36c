"""A user's indicators, treated like strategies: captured, classified, and computed from the captured text alone.

What an indicator reaches beside its own text (captured constants, packages, local modules) is part of its identity, and
its text is kept with each run. A function that reads an outer object, a file or the clock is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ledger_pipeline.core.identity import hash_json
from ledger_pipeline.features.indicator import Indicator, user_indicator
from ledger_pipeline.features.table import Feature
from ledger_pipeline.strategy.preflight import Preflight, preflight
from ledger_pipeline.strategy.source import StrategySource, capture, compile_source, source_hash, typed_constants

YOURS = "yours"  # the library of an indicator that a user wrote


@dataclass(frozen=True)
class UserIndicator:
    """An indicator with the verdict on its source; `indicator` computes from the captured text."""

    indicator: Indicator
    preflight: Preflight

    @property
    def document(self) -> dict[str, Any]:
        """The source as JSON, from which `rebuilt` makes the indicator again."""
        source, one = self.preflight.source, self.indicator
        return {
            "text": source.text,
            "function": source.function_name,
            "hash": source.hash,
            "captured": dict(source.captured),
            "basis": one.basis,
            "warmup": one.warmup({}),
            "tier": self.preflight.tier,
            "packages": dict(self.preflight.packages),
        }


def checked(one: Indicator) -> UserIndicator:
    """The indicator of a user, classified. RefusedError for tier 3; InputError when its source cannot be captured."""
    source = StrategySource(one.text, one.name, source_hash(one.text)) if one.text else capture(one.compute)
    return _from_source(source, one)


def rebuilt(document: Mapping[str, Any], name: str) -> Indicator:
    """The indicator `name` of a stored document."""
    source = StrategySource(document["text"], document["function"], document["hash"], dict(document["captured"]))
    bare = user_indicator(
        compile_source(source), basis=document["basis"], warmup=int(document["warmup"]), text=source.text
    )
    return _from_source(source, replace(bare, name=name)).indicator


def _from_source(source: StrategySource, one: Indicator) -> UserIndicator:
    verdict = preflight(source, inputs=0).require()
    code = hash_json(
        {
            "source_hash": source.hash,
            "function": source.function_name,
            "captured": typed_constants(source.captured),
            "packages": verdict.packages,
        }
    )
    return UserIndicator(replace(one, compute=compile_source(source), code=code), verdict)


def of_features(features: tuple[Feature, ...]) -> tuple[tuple[Feature, ...], dict[str, UserIndicator]]:
    """The features with their users' indicators computed from captured text, and these by alias."""
    yours = {item.alias: checked(item.indicator) for item in features if item.indicator.library == YOURS}
    return tuple(
        replace(item, indicator=yours[item.alias].indicator) if item.alias in yours else item for item in features
    ), yours
