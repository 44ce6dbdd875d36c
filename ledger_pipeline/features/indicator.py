"""What an indicator is: a named function from the bars of one instrument to one number a bar.

Each has a warm-up, the number of bars before its first value, and a basis, which says how it follows a split: price (in
the price's own unit), volume, ratio (free of units), or pulse (none of these: computed anew in each pulse's basis).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import hash_bytes

BASES = ("price", "volume", "ratio")
NEEDED = inspect.Parameter.empty


@dataclass(frozen=True)
class Indicator:
    """A named indicator: how to compute it, how long it warms up, how it follows splits, and a hash of its code.

    counts: parameters that are a number of bars, with the least of each; choices: parameters with a closed list of
    values; synonyms: other names of parameters; across: ranked over the universe at each bar; wide: also takes a frame
    of closes with one column an instrument.
    """

    name: str
    compute: Callable[..., pd.Series]
    defaults: Mapping[str, Any]
    warmup: Callable[[Mapping[str, Any]], int]
    basis: str
    code: str
    library: str = "yours"
    text: str = ""  # source of a user's indicator that came from a file
    inputs: tuple[str, ...] = ("open", "high", "low", "close", "volume")
    description: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    synonyms: Mapping[str, str] = field(default_factory=dict)
    across: bool = False
    wide: bool = False

    def bind(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, defaults filled in and under their own names; InputError for an unknown or missing one, and
        for a value that is not possible.
        """
        takes = ", ".join(self.defaults) or "no parameters"
        given: dict[str, Any] = {}
        for key, value in params.items():
            name = key if key in self.defaults else self.synonyms.get(key, key)
            if name not in self.defaults:
                raise InputError(f"indicator {self.name!r} has no parameter {key!r}; it takes {takes}.")
            if name in given:
                raise InputError(f"indicator {self.name!r}: {name} is given twice, also as {key!r}; leave one out.")
            given[name] = value
        bound = {**self.defaults, **given}
        for name, value in bound.items():
            if value is NEEDED:
                raise InputError(f"indicator {self.name!r} needs a value for {name!r}.")
            if name in self.choices:
                if not any(value is one or (type(value) is type(one) and value == one) for one in self.choices[name]):
                    raise InputError(
                        f"indicator {self.name!r}: {name} is {value!r}; it must be one of "
                        f"{', '.join(map(str, self.choices[name]))}."
                    )
                continue
            least = self.counts.get(name)
            if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(
                    f"indicator {self.name!r}: {name} is {value!r}; it must be a whole number of bars, "
                    f"at least {least}."
                )
        try:
            self.warmup(bound)
        except InputError:
            raise
        except Exception as error:
            shown = ", ".join(f"{name} {value!r}" for name, value in bound.items())
            raise InputError(f"indicator {self.name!r} cannot be computed with {shown}: {error}.") from None
        return bound


def user_indicator(function: Callable[..., Any], *, basis: str, warmup: int, text: str | None = None) -> Indicator:
    """An indicator from a plain function; `text` is its source when it does not come from a file.

    Raises InputError when the basis or warm-up is unsound or the function does not take bars first.
    """
    name = getattr(function, "__name__", "indicator")
    if basis not in BASES:
        raise InputError(
            f"indicator {name!r}: basis is {basis!r}; say price, volume or ratio, so that splits are followed rightly."
        )
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 1:
        raise InputError(f"indicator {name!r}: warmup is {warmup!r}; it must be a whole number of bars, at least 1.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if not parameters:
        raise InputError(f"indicator {name!r} must take the bars as its first argument.")
    try:
        source = text or inspect.getsource(function)
    except (OSError, TypeError):
        raise InputError(
            f"the source of indicator {name!r} cannot be read; define it in a file or a notebook cell."
        ) from None
    defaults = {parameter.name: parameter.default for parameter in parameters[1:]}
    counts = {key: 1 for key in defaults if key.startswith("window") and key != "window_dev"}
    return Indicator(
        name,
        function,
        defaults,
        lambda _: warmup,
        basis,
        hash_bytes(source.encode()),
        text=text or "",
        description=" ".join((inspect.getdoc(function) or "").split()),
        counts=counts,
    )
