"""Context: everything a strategy may know at a pulse, and nothing more.

A context is made anew at each pulse from copies of that pulse's rows. No attribute of it leads to an array that holds a
later bar: not its vectors, not their bases, not its methods. The bars behind `history` are handed over one pulse at a
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.strategy.targets import Targets
from ledger_pipeline.strategy.terms import read_json

_FIELDS = ("open", "high", "low", "close", "volume")


def _unknown(symbol: object, universe: tuple[str, ...]) -> InputError:
    return InputError(f"{symbol!r} is not in ctx.universe at this pulse ({', '.join(universe[:12]) or 'empty'}).")


class Places(dict[str, Any]):
    """Where each symbol stands in a universe, shared by its pulses; InputError for one that is not in it."""

    __slots__ = ()

    def __init__(self, universe: tuple[str, ...]) -> None:
        super().__init__((symbol, u) for u, symbol in enumerate(universe))

    def __missing__(self, symbol: object) -> int:
        raise _unknown(symbol, tuple(self))


class _Rows(dict[str, Any]):
    """Rows of one pulse by name, as lists, for these are read fastest one by one. Each is made when first asked for, so
    that a strategy which uses the vectors does not pay for it.
    """

    __slots__ = ("_vectors", "_names")

    def __init__(self, vectors: np.ndarray, names: tuple[str, ...]) -> None:
        self._vectors = vectors
        self._names = names

    def __missing__(self, name: str) -> list[float]:
        row = self[name] = self.vector(name).tolist()
        return row

    def vector(self, name: str) -> np.ndarray:
        """The row as the vector that it is made from."""
        try:
            return self._vectors[self._names.index(name)]
        except ValueError:
            known = ", ".join(self._names) or "none"
            raise InputError(f"the experiment defines no feature {name!r} (it defines: {known}).") from None


@dataclass(frozen=True)
class History:
    """The last bars of one instrument, oldest first, in the split basis of the pulse: ts (datetime64[us], UTC) and
    float64 arrays.
    """

    ts: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray


@dataclass(frozen=True, slots=True)
class Entry:
    """How a position came about. price: the average of what is held, in the account's currency, without fees; time: the
    label of the bar that opened it, int64 microseconds UTC; unrealised: its gain at the close; bars: of the instrument
    that have ended since it was opened, that one counted.
    """

    price: float
    time: int
    unrealised: float
    bars: int


class Past:
    """The bars up to the current pulse. Later rows are not there yet: they are NaN until they are handed over."""

    __slots__ = ("times", "fields", "factor", "count")

    def __init__(self, n_times: int, n_symbols: int) -> None:
        self.times = np.zeros(n_times, dtype=np.int64)
        self.fields = np.full((n_times, 5, n_symbols), np.nan)
        self.factor = np.full((n_times, n_symbols), np.nan)
        self.count = 0

    def add(self, time: int, fields: np.ndarray, factor: np.ndarray) -> None:
        """Take in one more bar time: fields (5, N) and split factors (N,)."""
        self.times[self.count], self.fields[self.count], self.factor[self.count] = time, fields, factor
        self.count += 1

    def last(self, i: int, n: int, count: int) -> History:
        """The last `n` bars of instrument `i` among the first `count` bar times."""
        known = self.fields[:count, :, i]
        rows = np.flatnonzero(~np.isnan(known[:, 3]))[-n:]
        bars = known[rows].T.copy()
        scale = self.factor[rows, i] / self.factor[count - 1, i]
        bars[:4] *= scale
        bars[4] /= scale
        return History(self.times[rows].view("datetime64[us]"), *bars)


class Context:
    """What a strategy sees at the close of one bar time.

    now, universe, cash, equity, memory, rng; open/high/low/close/volume(symbol), feature(symbol, name),
    position(symbol), rate(symbol), entry_price(symbol), entry_time(symbol), unrealised(symbol), bars_held(symbol),
    history(symbol, n); and aligned with `universe`, read-only: opens, highs, lows, closes, volumes, positions,
    feature_values(name).
    """

    # No __getattr__: with one, Python looks up every attribute and method the slow way.
    __slots__ = (
        "universe", "cash", "equity", "_time", "_seed", "_pulse", "_fields", "_positions", "_memory", "_past",
        "_columns", "_places", "_bar", "_features", "_rng", "_rates",
        "_expected", "_entries",
    )  # fmt: skip

    def __init__(
        self,
        universe: tuple[str, ...],
        cash: float,
        equity: float,
        time: int,
        seed: int,
        pulse: int,
        fields: np.ndarray,
        features: np.ndarray,
        names: tuple[str, ...],
        positions: np.ndarray,
        memory: str,
        past: Past | None,
        columns: Mapping[str, int],
        places: Places | None = None,
        rates: np.ndarray | None = None,
        expected: np.ndarray | None = None,
        entries: Mapping[str, Entry] | None = None,
    ) -> None:
        self.universe = universe
        self.cash = cash
        self.equity = equity
        self._time = time
        self._seed = seed
        self._pulse = pulse
        self._fields = fields
        self._positions = positions
        self._memory = memory
        self._past = past
        self._columns = columns
        self._places = Places(universe) if places is None else places
        self._bar = _Rows(fields, _FIELDS)
        self._features = _Rows(features, names)
        self._rng: np.random.Generator | None = None
        self._rates = rates
        self._expected = positions if expected is None else expected
        self._entries = entries

    @property
    def now(self) -> pd.Timestamp:
        """The label (start) of the bar at whose close the strategy decides, UTC."""
        return pd.Timestamp(self._time, unit="us", tz="UTC")

    @property
    def memory(self) -> dict[str, Any]:
        """What the last decision that called `remember` handed on; a fresh copy, {} at first."""
        return read_json(self._memory)

    @property
    def rng(self) -> np.random.Generator:
        """A random generator seeded by the run's seed and the pulse, so that a replay draws the same numbers."""
        if self._rng is None:
            self._rng = np.random.default_rng([self._seed, self._pulse])
        return self._rng

    def open(self, symbol: str) -> float:
        """The open of the bar, raw."""
        return self._bar["open"][self._places[symbol]]

    def high(self, symbol: str) -> float:
        """The high of the bar, raw."""
        return self._bar["high"][self._places[symbol]]

    def low(self, symbol: str) -> float:
        """The low of the bar, raw."""
        return self._bar["low"][self._places[symbol]]

    def close(self, symbol: str) -> float:
        """The close of the bar, raw."""
        return self._bar["close"][self._places[symbol]]

    def volume(self, symbol: str) -> float:
        """The volume of the bar."""
        return self._bar["volume"][self._places[symbol]]

    def position(self, symbol: str) -> float:
        """The quantity held."""
        return self._positions.item(self._places[symbol])

    def rate(self, symbol: str) -> float:
        """What one unit of the symbol's currency is worth in the account's currency at the close; 1 where it is the
        same. close x rate compares with cash and equity.
        """
        u = self._places[symbol]
        return 1.0 if self._rates is None else self._rates.item(u)

    def entry_price(self, symbol: str) -> float:
        """The average price of what is held (FIFO lots, without fees), in the account's currency; NaN for nothing."""
        entry = self._entry(symbol)
        return float("nan") if entry is None else entry.price

    def entry_time(self, symbol: str) -> pd.Timestamp | None:
        """The label of the bar in which the position was opened, UTC; None where nothing is held."""
        entry = self._entry(symbol)
        return None if entry is None else pd.Timestamp(entry.time, unit="us", tz="UTC")

    def unrealised(self, symbol: str) -> float:
        """What closing the position at the close would gain on its entry price, in the account's currency."""
        entry = self._entry(symbol)
        return 0.0 if entry is None else entry.unrealised

    def bars_held(self, symbol: str) -> int:
        """How many bars of the symbol have ended since the position was opened, the one of its entry counted; 0 where
        nothing is held.
        """
        entry = self._entry(symbol)
        return 0 if entry is None else entry.bars

    def _entry(self, symbol: str) -> Entry | None:
        self._places[symbol]  # raises for one that is not in the universe
        if self._entries is None:
            raise InputError(
                "entry_price, entry_time, unrealised, bars_held: this run was prepared without them; call them by "
                "their names in the strategy's source."
            )
        return self._entries.get(symbol)

    def feature(self, symbol: str, name: str) -> float:
        """The value of the feature bound to `name`; NaN during its warm-up."""
        return self._features[name][self._places[symbol]]

    @property
    def opens(self) -> np.ndarray:
        """Opens aligned with `universe`."""
        return self._fields[0]

    @property
    def highs(self) -> np.ndarray:
        """Highs aligned with `universe`."""
        return self._fields[1]

    @property
    def lows(self) -> np.ndarray:
        """Lows aligned with `universe`."""
        return self._fields[2]

    @property
    def closes(self) -> np.ndarray:
        """Closes aligned with `universe`."""
        return self._fields[3]

    @property
    def volumes(self) -> np.ndarray:
        """Volumes aligned with `universe`."""
        return self._fields[4]

    @property
    def positions(self) -> np.ndarray:
        """Quantities held, aligned with `universe`."""
        return self._positions

    def feature_values(self, name: str) -> np.ndarray:
        """Values of the feature bound to `name`, aligned with `universe`."""
        return self._features.vector(name)

    def history(self, symbol: str, n: int) -> History:
        """The last `n` bars of `symbol` up to this one, fewer when there are fewer, in this bar's split basis."""
        if symbol not in self.universe:
            raise _unknown(symbol, self.universe)
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise InputError(f"history: n is {n!r}; it must be a whole number of bars, at least 1.")
        if self._past is None:
            raise InputError(
                "history: this run was prepared without it; call ctx.history by its name in the strategy's source."
            )
        return self._past.last(self._columns[symbol], int(n), self._pulse + 1)

    def flat(self) -> Targets:
        """Targets of zero for the whole universe."""
        targets = Targets(self.universe, np.zeros(len(self.universe)))
        targets.values = dict.fromkeys(self.universe, 0.0)  # most strategies go on to assign, and this is fastest
        return targets

    def hold(self) -> Targets:
        """Targets equal to what is held, orders that still wait for their instrument's next bar counted as done."""
        return Targets(self.universe, self._expected)

    def targets(self, quantities: np.ndarray) -> Targets:
        """Targets from a vector of quantities aligned with `universe`."""
        return Targets(self.universe, self._aligned("targets", quantities))

    def weights(self, weights: Mapping[str, float] | np.ndarray, *, whole: bool = False) -> Targets:
        """Targets that put these weights of equity at the close into each symbol; a symbol that is not named gets zero.

        quantity = weight x equity / close (x rate), cut to whole shares towards zero when `whole`.
        """
        if isinstance(weights, Mapping):
            for symbol in weights:
                if symbol not in self._places:
                    raise _unknown(symbol, self.universe)
            weights = np.array([weights.get(symbol, 0.0) for symbol in self.universe])
        vector = self._aligned("weights", weights)
        if not np.isfinite(vector).all():
            symbol = self.universe[int(np.flatnonzero(~np.isfinite(vector))[0])]
            raise InputError(f"weights: the weight of {symbol} is not a finite number.")
        closes = self.closes if self._rates is None else self.closes * self._rates
        quantities = vector * self.equity / closes
        # a quantity is a number on the 1e-9 grid: 28.999999999999996 is 29 shares, not 28
        return Targets(self.universe, np.trunc(np.round(quantities, 9)) if whole else quantities)

    def _aligned(self, what: str, values: Any) -> np.ndarray:
        """A copy of `values` as a float64 vector with one number for each symbol of the universe."""
        try:
            vector = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{what}: {str(values)[:80]} is not a vector of numbers, one for each symbol.") from None
        if vector.shape != (len(self.universe),):
            raise InputError(
                f"{what}: the vector has shape {vector.shape}; the universe has {len(self.universe)} symbols."
            )
        return vector
