"""What a strategy returned, checked: a target for every symbol of the universe, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ledger_pipeline.core.amounts import UNITS
from ledger_pipeline.simulation.kernel import LIMIT, all_below
from ledger_pipeline.strategy.targets import Invest, Targets

LARGEST = LIMIT / UNITS
TOO_LARGE = "is beyond 9,007,199 units, where float64 leaves the 1e-9 grid; use a larger unit"

Places = Callable[[tuple[str, ...]], Mapping[str, int]]


class WrongAnswer(Exception):
    """What is wrong with the answer, to follow "strategy 's' at pulse 3"."""


def checked(returned: Any, universe: tuple[str, ...], places: Places) -> tuple[Targets, np.ndarray]:
    """The targets and their vector, float64 in the order of `universe`; WrongAnswer naming the symbol at fault. Cash to
    invest counts as 0 in the vector: it is an amount, not a quantity. `places` tells where each symbol stands.
    """
    targets = returned
    if not isinstance(returned, Targets) and isinstance(returned, Mapping):
        targets = Targets(universe, np.zeros(len(universe)))
        targets.values = dict(returned)
        targets.invests = any(isinstance(value, Invest) for value in returned.values())
        if tuple(targets.values) != universe and set(targets.values) == set(universe):
            targets.values = {symbol: returned[symbol] for symbol in universe}
    if not isinstance(targets, Targets):
        raise WrongAnswer(
            f"returned {_shown(returned)} instead of targets; start from ctx.flat() or ctx.hold() and return it"
        )
    if targets.universe is not universe and targets.universe != universe:
        raise WrongAnswer("returned targets of another pulse; make them anew from ctx at each pulse")
    vector = targets.vector
    if targets.values is not None:
        values = targets.values
        if len(values) != len(universe) or (targets is not returned and tuple(values) != universe):
            extra = [symbol for symbol in values if symbol not in universe]
            missing = [symbol for symbol in universe if symbol not in values]
            if extra:
                raise WrongAnswer(f"returned a target for {extra[0]!r}, which is not in ctx.universe at this pulse")
            raise WrongAnswer(
                f"returned no target for {missing[0]}; a target is never assumed, write 0 if you mean flat"
            )
        try:
            sum(values.values())  # text would pass for the number that it spells
            vector = np.fromiter(values.values(), np.float64, len(values))
        except (TypeError, ValueError, OverflowError):
            for symbol, quantity in values.items():
                if not isinstance(quantity, (int, float, np.integer, np.floating)):
                    raise WrongAnswer(
                        f"returned {_shown(quantity)} as the target of {symbol}; it must be a number"
                    ) from None
                if isinstance(quantity, int) and abs(quantity) * UNITS >= LIMIT:
                    raise WrongAnswer(
                        f"returned {_shown(quantity)} as the target of {symbol}, which {TOO_LARGE}"
                    ) from None
            raise
        for symbol in targets.cash():
            vector[places(universe)[symbol]] = 0.0  # an amount, not a quantity
    if not all_below(vector, LARGEST):
        u = int(np.flatnonzero(~(np.abs(vector) < LARGEST))[0])
        quantity = float(vector[u])
        what = TOO_LARGE if np.isfinite(quantity) else "is not finite"
        raise WrongAnswer(f"returned {quantity!r} as the target of {universe[u]}, which {what}")
    return targets, vector


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
