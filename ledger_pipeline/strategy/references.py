"""References: a field of an experiment that says {param: name} takes its value from the params.

So a sweep varies costs, opening or universe as it varies params. References inside features are resolved where features
are made (see strategy.experiment.assemble).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger_pipeline.core.errors import InputError

FIELDS = (
    "opening", "deposits", "costs", "risk", "universe", "cash_rule", "cash_rounding", "limit_fills", "borrow",
    "interest", "base_currency", "start", "end",
)  # fmt: skip


class UndefinedParam(InputError):
    """A reference to a param that is not defined; `place`: the keys that lead to it."""

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.place = place


def is_reference(value: Any) -> bool:
    """Whether a value is {param: name}."""
    return isinstance(value, Mapping) and set(value) == {"param"}


def referring(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among `values` that hold a reference anywhere, as they are written."""
    return {name: values[name] for name in FIELDS if name in values and any(True for _ in names_in(values[name]))}


def names_in(value: Any) -> Iterator[str]:
    """The names of the params that a value refers to, at any depth."""
    if is_reference(value):
        yield str(value["param"])
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from names_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from names_in(item)


def resolved(values: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """`values` with each reference replaced by the param that it names; UndefinedParam for one that is not defined."""
    return {name: _resolved(value, params, (name,)) for name, value in values.items()}


def _resolved(value: Any, params: Any, place: tuple[str | int, ...]) -> Any:
    if is_reference(value):
        name = value["param"]
        if not isinstance(params, Mapping) or not isinstance(name, str) or name not in params:
            known = ", ".join(sorted(map(str, params))) if isinstance(params, Mapping) and params else "none"
            raise UndefinedParam(f"it is taken from params.{name}, which is not defined (params: {known})", *place)
        return params[name]
    if isinstance(value, Mapping):
        return {key: _resolved(item, params, (*place, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(item, params, (*place, index)) for index, item in enumerate(value)]
    return value
