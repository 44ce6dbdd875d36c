"""Whether a simulation is compiled, and the check before its numbers count.

`auto` compiles where that pays: code that is on disk for a run of some tenths of a second, new code (some seconds to
compile) for one that takes longer than that. What compiles is compared with the interpreter first: over a stretch of
bars with trades, once a process and strategy. A difference makes the strategy interpreted from then on, with a warning
that names pulse, symbol and both values. It is an operational choice and changes no identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numba.core.errors import NumbaError

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.ledger.schema import Ledger
from ledger_pipeline.simulation.compiled.assignment import NotCompilable
from ledger_pipeline.simulation.compiled.driver import is_cached
from ledger_pipeline.simulation.compiled.lowering import Lowered
from ledger_pipeline.simulation.compiled.run import CompiledSimulator, Refused, lowered_for
from ledger_pipeline.simulation.price_simulator import simulator_for
from ledger_pipeline.simulation.simulator import SimulationInputs
from ledger_pipeline.strategy.source import StrategySource

Compiled = Literal["auto", "never", "always"]
MODES = ("auto", "never", "always")

A_BAR, A_CELL = 4e-5, 6e-7  # seconds that the interpreter takes
CACHED, NEW = 0.15, 8.0  # seconds of interpreting from which on code on disk, and new code, pays
FILLS, LEAST = 40, 64  # fills and bars of the stretch that is compared


@dataclass(frozen=True)
class Simulated:
    """A simulation. compiled: by compiled code; warning: what the check found, None for nothing."""

    ledger: Ledger
    clipped: int
    compiled: bool
    warning: str | None = None


_checked: dict[str, str | None] = {}  # what the check of a strategy finding, by the text that it was lowered to


def simulated(
    inputs: SimulationInputs, source: StrategySource, tier: int, mode: Compiled = "auto", repeats: int = 1
) -> Simulated:
    """Simulate by compiled code or the interpreter. repeats: how many such simulations there will be. InputError for
    `always` with a strategy that cannot be compiled, naming construct and line; else what Simulator.run raises.
    """
    if mode not in MODES:
        raise InputError(f"compiled is {mode!r}; it is auto, never or always.")
    lowered = _lowered(inputs, source, tier, mode, repeats)
    if lowered is None:
        return _interpreted(inputs)
    finding = _checked.get(lowered.text, "")
    if finding:
        return replace(_interpreted(inputs), warning=finding)
    try:
        simulator = CompiledSimulator(inputs, lowered)
        ledger = simulator.run()
        if finding == "":
            finding = _checked[lowered.text] = difference(inputs, lowered, ledger)
    except Refused:
        return _interpreted(inputs)
    except NumbaError as error:  # the listed part is meant to compile; what does not is told and runs interpreted
        finding = _checked[lowered.text] = (
            f"it could not be compiled ({str(error).splitlines()[0]}); it runs interpreted"
        )
    if finding:
        return replace(_interpreted(inputs), warning=finding)
    return Simulated(ledger, simulator.clipped, True)


def _lowered(
    inputs: SimulationInputs, source: StrategySource, tier: int, mode: Compiled, repeats: int
) -> Lowered | None:
    """The lowered decision where the simulation is to be compiled, else None."""
    if mode == "never":
        return None
    bars = len(inputs.grid.times) - inputs.grid.first
    seconds = repeats * bars * (A_BAR + A_CELL * len(inputs.grid.symbols))
    if mode == "auto" and seconds < CACHED:
        return None
    try:
        lowered = lowered_for(source, inputs, tier)
    except NotCompilable as reason:
        if mode == "always":
            raise InputError(f"strategy {inputs.strategy_name!r} cannot be compiled: {reason}.") from None
        return None
    return lowered if mode == "always" or seconds >= NEW or is_cached(lowered) else None


def _interpreted(inputs: SimulationInputs) -> Simulated:
    interpreting = simulator_for(inputs)
    return Simulated(interpreting.run(), interpreting.clipped, False)


def difference(inputs: SimulationInputs, lowered: Lowered, ledger: Ledger) -> str | None:
    """Where compiled and interpreted simulation of a stretch with trades differ, as a sentence; None where nowhere."""
    cut = _stretch(inputs, ledger)
    short = replace(inputs, grid=inputs.grid.until(cut), features=inputs.features[: cut + 1])
    interpreted = simulator_for(short).run()
    try:
        compiled = CompiledSimulator(short, lowered).run()
    except Refused:
        return None  # then it is refused on the whole as well, or not reached
    return None if compiled.head == interpreted.head else first_difference(compiled, interpreted)


def first_difference(compiled: Ledger, interpreted: Ledger) -> str:
    """The first event that is not the same, as a sentence."""
    one, other = compiled.frame, interpreted.frame
    for k in range(min(len(one), len(other))):
        for name in ("occurred_at", "kind", "symbol", "side", "quantity", "price", "fee", "cash_delta", "reasons"):
            a, b = one[name].iloc[k], other[name].iloc[k]
            if a != b and not (a != a and b != b):
                at, symbol = other["occurred_at"].iloc[k], other["symbol"].iloc[k]
                return (
                    f"compiled and interpreted differ at {at.isoformat()} for {symbol}: {name} is {a!r} compiled and "
                    f"{b!r} interpreted; it runs interpreted"
                )
    return f"compiled gives {len(one)} events and interpreted {len(other)}; it runs interpreted"


def _stretch(inputs: SimulationInputs, ledger: Ledger) -> int:
    """The bar up to which is compared: where there were FILLS fills, or the end."""
    grid = inputs.grid
    codes, names = ledger.codes("kind")
    fills = np.flatnonzero(codes == names.index("FILLED")) if "FILLED" in names else np.empty(0, dtype=np.int64)
    last = len(grid.times) - 1
    if len(fills) <= FILLS:
        return last
    bar = int(np.searchsorted(grid.times, ledger.micros[fills[FILLS]]))
    return min(last, max(bar + 2, grid.first + LEAST))
