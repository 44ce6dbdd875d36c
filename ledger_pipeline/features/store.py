"""Where feature values are kept: computed once a snapshot and feature, shared by all experiments.

<root>/features/<snapshot_hash>/<fingerprint>.parquet has one row a bar time and one column a symbol, and the hash of
its values in the file's metadata. A cross-sectional feature depends on the universe too, so its file is also named
after that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.core.errors import IntegrityError
from ledger_pipeline.core.identity import hash_columns, hash_json
from ledger_pipeline.features.causality import require_causal
from ledger_pipeline.features.table import Feature, compute
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.grid import Grid, grid
from ledger_pipeline.market.snapshot import Snapshot

_HASH = b"values_sha256"


class FeatureStore:
    """The feature tables under one data root."""

    def __init__(self, root: Location = "data") -> None:
        self.root = location(root) / "features"

    def path(self, item: Feature, snapshot: Snapshot, cells: Grid) -> UPath:
        """The file of a feature's values on a snapshot."""
        universe = f"-{hash_json(list(cells.symbols))[:12]}" if item.indicator.across else ""
        return self.root / snapshot.hash[:20] / f"{item.fingerprint[:20]}{universe}.parquet"

    def ensure(
        self, items: Sequence[Feature], snapshot: Snapshot, cells: Grid, whole: Callable[[], Grid] | None = None
    ) -> dict[str, bool]:
        """Compute and keep what is not there yet. Returns, by alias, whether it was computed now.

        `cells` is the grid of the experiment's universe; all but cross-sectional features are computed over the `whole`
        snapshot. Raises RefusedError for a feature that looks ahead.
        """
        paths = {}
        for item in items:
            path = self.path(item, snapshot, cells)
            paths[item.alias] = not path.exists()
            if paths[item.alias]:
                across = item.indicator.across
                over = grid(snapshot, cells.symbols) if across else (whole() if whole else grid(snapshot))
                require_causal(item, over)
                _write(path, over, compute(item, over), _key(item, snapshot))
        return paths

    def load(self, items: Sequence[Feature], snapshot: Snapshot, cells: Grid) -> np.ndarray:
        """Values (T, K, N) over `cells`, computed first where they are not there yet. IntegrityError for a file that
        was changed.
        """
        table = np.empty((len(cells.times), len(items), len(cells.symbols)))
        for k, item in enumerate(items):
            table[:, k, :] = rows_of(*self.values(item, snapshot, cells), cells)
        return table

    def values(self, item: Feature, snapshot: Snapshot, cells: Grid) -> tuple[np.ndarray, np.ndarray]:
        """All bar times that a feature is kept for, int64 (T,), and its values of the cells' symbols at each, float64
        (T, N); computed first where they are not there yet. IntegrityError for a file that was changed.
        """
        self.ensure([item], snapshot, cells)
        times, symbols, values = _read(self.path(item, snapshot, cells), _key(item, snapshot))
        if symbols != cells.symbols:
            values = values[:, [symbols.index(symbol) for symbol in cells.symbols]]
        return times, values


def rows_of(times: np.ndarray, values: np.ndarray, cells: Grid) -> np.ndarray:
    """The values at the bar times of the cells, which are among `times`."""
    n = len(cells.times)
    same = n <= len(times) and times[0] == cells.times[0] and times[n - 1] == cells.times[-1]
    return values[:n] if same else values[np.searchsorted(times, cells.times)]


def _key(item: Feature, snapshot: Snapshot) -> str:
    return f"{snapshot.hash} {item.fingerprint}"


def _values_hash(key: str, times: np.ndarray, symbols: Sequence[str], values: np.ndarray) -> str:
    """SHA-256 (hex) of what a file holds and of what it is, so that no file can stand for another."""
    names = (np.arange(len(symbols)), list(symbols))
    return hash_columns({"of": (np.zeros(1), [key]), "ts": times, "symbols": names, "values": values.ravel()})


def _write(path: UPath, over: Grid, values: np.ndarray, key: str) -> None:
    columns = [pa.array(over.times).cast(pa.timestamp("us", tz="UTC")), *map(pa.array, values.T.copy())]
    table = pa.table(columns, names=["ts", *over.symbols])  # by position: a symbol may be called ts as well
    table = table.replace_schema_metadata({_HASH: _values_hash(key, over.times, over.symbols, values).encode()})
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="snappy", write_statistics=False)
    add_file(path, sink.getvalue().to_pybytes())


def _read(path: UPath, key: str) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(path.read_bytes())).read()
        times, *columns = table.columns
        times, symbols = times.cast(pa.int64()).to_numpy(), tuple(table.column_names[1:])
        values = np.stack([column.to_numpy() for column in columns], axis=1)
        sound = table.schema.metadata[_HASH].decode() == _values_hash(key, times, symbols, values)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise IntegrityError(f"{path} is not as it was written; delete it, it will be computed again.")
    return times, symbols, values
