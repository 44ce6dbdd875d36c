"""Sealed snapshots: market data that can no longer change without being noticed.

A snapshot is a directory <root>/<snapshot_id>/ with bars.parquet, instruments.parquet, actions.parquet and
manifest.json. Its identity is the snapshot_hash, SHA-256 over the column bytes of the three tables sorted by (symbol,
time): the id is only a name for it. The directory is written once, whole, and never opened for writing again. Each
process verifies the files against the manifest before it reads them, and the loaded columns against the snapshot_hash.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from upath import UPath

from ledger_pipeline.core.errors import InputError, IntegrityError, NotFoundError, RefusedError, StorageError
from ledger_pipeline.core.identity import (
    Column,
    ColumnHash,
    canonical_json,
    check_id,
    check_text,
    hash_bytes,
    hash_columns,
    hash_json,
)
from ledger_pipeline.core.notebook import facts
from ledger_pipeline.files import Location, create_directory, is_local, location
from ledger_pipeline.market.bar_length import with_session_labels
from ledger_pipeline.market.bars import (
    BAR_COLUMNS,
    check_printable,
    micros,
    normalise_actions,
    normalise_bars,
    normalise_instruments,
    validate_bars,
)
from ledger_pipeline.market.sources.files import read_bars, read_table
from ledger_pipeline.market.sources.vendors import vendor_bars

FORMAT = "ledger_pipeline.snapshot/1"
TABLES = ("bars.parquet", "instruments.parquet", "actions.parquet")


@dataclass(frozen=True)
class Snapshot:
    """A sealed snapshot, opened and verified. Tables are loaded when first asked for; treat them as read-only."""

    path: UPath
    manifest: dict[str, Any] = field(repr=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows, names = self.manifest["rows"], ", ".join(self.symbols[:10])
        values = {
            "bars": f"{rows['bars']:,}",
            "symbols": f"{len(self.symbols):,}: {names}{' ...' if len(self.symbols) > 10 else ''}",
            "from, to": f"{self.manifest['first'][:10]}, {self.manifest['last'][:10]}",
            "actions": f"{rows['actions']:,}",
        }
        return facts(f"snapshot {self.id}", self.hash, values)

    @property
    def id(self) -> str:
        """The name it was sealed under."""
        return self.manifest["snapshot_id"]

    @property
    def hash(self) -> str:
        """snapshot_hash: SHA-256 (hex) of the content."""
        return self.manifest["snapshot_hash"]

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, sorted."""
        return tuple(self.manifest["symbols"])

    @functools.cached_property
    def calendar(self) -> str:
        """The exchange calendar that most of the instruments follow."""
        codes, names = dict(self.columns("instruments"))["calendar"]
        return names[int(np.bincount(codes).argmax())]

    @functools.cached_property
    def calendars(self) -> dict[str, str]:
        """The exchange calendar of each instrument."""
        return dict(zip(self.instruments["symbol"], self.instruments["calendar"], strict=True))

    @functools.cached_property
    def currencies(self) -> dict[str, str]:
        """The currency of each instrument."""
        return dict(zip(self.instruments["symbol"], self.instruments["currency"], strict=True))

    @functools.cached_property
    def bars(self) -> pd.DataFrame:
        """symbol (category), ts (datetime64[us, UTC]), open, high, low, close, volume; sorted by (symbol, ts)."""
        return self.load("bars")

    @functools.cached_property
    def instruments(self) -> pd.DataFrame:
        """symbol, name, currency, calendar, asset_class; sorted by symbol."""
        return self.load("instruments")

    @functools.cached_property
    def actions(self) -> pd.DataFrame:
        """symbol, ex_date (datetime64[us, UTC]), kind, value; sorted."""
        return self.load("actions")

    def load(self, name: str) -> pd.DataFrame:
        """Read and verify one table ("bars", "instruments", "actions") anew, without keeping it."""
        columns = {}
        for column, values in self.columns(name):
            if isinstance(values, tuple):
                codes, names = values
                text = pd.Categorical.from_codes(codes, pd.Index(names, dtype="str"))
                columns[column] = pd.Series(text if name == "bars" else text.astype(str))
            elif values.dtype.kind == "i":
                columns[column] = pd.Series(values.view("datetime64[us]")).dt.tz_localize("UTC")
            else:
                columns[column] = pd.Series(values, copy=False)
        return pd.DataFrame(columns, copy=False)

    def columns(self, name: str) -> Iterator[tuple[str, Column]]:
        """The columns of one table, one after the other, so that they need not all be in memory.

        Times come as int64 microseconds UTC, text as (codes, sorted categories), numbers as float64. IntegrityError
        after the last one when they are not what was sealed.
        """
        source = _verified(self.path / f"{name}.parquet", self.manifest)
        data = pyarrow.parquet.ParquetFile(source, read_dictionary=["symbol"])
        digest = ColumnHash()
        for column in data.schema_arrow.names:
            values = _values(data.read([column]).column(0))
            digest.add(column, values)
            yield column, values
        del data, values
        pa.default_memory_pool().release_unused()  # Arrow would keep what it used for reading
        if digest.hexdigest() != self.manifest["content"][name]:
            raise IntegrityError(
                f"{self.path / 'manifest.json'} states content {self.manifest['content'][name][:16]} for the {name}, "
                f"the file holds {digest.hexdigest()[:16]}; restore the snapshot from where it was sealed."
            )


def _values(column: pa.ChunkedArray) -> Column:
    """An Arrow column as int64 microseconds, (codes, sorted categories) or float64."""
    array = column.combine_chunks()
    array = array if isinstance(array, pa.Array) else array.chunk(0)
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    if pa.types.is_floating(array.type):
        return array.to_numpy(zero_copy_only=not array.null_count)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return _sorted_codes(encoded.indices.to_numpy(), encoded.dictionary.to_pylist())


def _sorted_codes(codes: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    order = sorted(range(len(names)), key=names.__getitem__)
    if order == list(range(len(names))):
        return codes, names
    rank = np.empty(len(names), dtype=np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    return rank[codes], [names[i] for i in order]


def table_hash(name: str, frame: pd.DataFrame) -> str:
    """SHA-256 (hex) over the column bytes of one normalised table: "bars", "instruments" or "actions"."""
    columns: dict[str, Any] = {}
    for column in frame.columns:
        values = frame[column]
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            columns[column] = micros(values)
        elif values.dtype == "float64":
            columns[column] = values.to_numpy()
        else:
            columns[column] = _codes(values)
    return hash_columns(columns)


def content_hash(content: dict[str, str]) -> str:
    """snapshot_hash: a hash over the hashes of the three tables."""
    return hash_json({"format": FORMAT, **content})


def _codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """A text column as (codes, sorted categories)."""
    categorical = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("category")
    return categorical.cat.codes.to_numpy(), [str(name) for name in categorical.cat.categories]


def seal(
    bars: pd.DataFrame | Location,
    *,
    snapshot_id: str,
    root: Location = "snapshots",
    instruments: pd.DataFrame | Location | None = None,
    actions: pd.DataFrame | Location | None = None,
    calendar: str = "XNYS",
    assume_utc: bool = False,
    columns: Mapping[str, str] | None = None,
    symbol: str | None = None,
    tz: str | None = None,
    source: dict[str, Any] | None = None,
) -> Snapshot:
    """Seal bars (and instruments and corporate actions) under `snapshot_id` and return the snapshot.

    Each table is a frame or the path of a CSV, Parquet or Excel file; bars may have a vendor's columns, or `columns`
    (theirs -> ours), one `symbol` for all, and times in the zone `tz` (see sources.vendors). `calendar` is used for
    instruments that are not listed. `source` is free JSON about where the data comes from, kept in the manifest. Daily
    bars that are labelled with midnight at the exchange, or with the open or close of their session, get the session
    date instead (the manifest says of which symbols); bars of different length are refused. Sealing the same content
    under the same id again is harmless.

    Raises InputError for unsound data or a bad id, RefusedError when the id is sealed with other content, StorageError
    when the disk cannot take it; in each case nothing is changed.
    """
    check_id("snapshot", snapshot_id)
    canonical_json(source or {})
    for kind, value in (source or {}).items():
        if isinstance(value, str):
            check_text(kind, value, 2_000)
    vendor: dict[str, Any] = {"renamed": columns, "symbol": symbol, "tz": tz, "assume_utc": assume_utc}
    if not isinstance(bars, pd.DataFrame):
        if not isinstance(bars, str | os.PathLike):
            raise InputError(f"bars are a frame or the path of a file, not {type(bars).__name__}.")
        frame = read_bars([bars], **vendor)
    elif columns or symbol or tz or set(map(str, bars.columns)) != set(BAR_COLUMNS) or bars["ts"].dtype.kind in "iuf":
        frame = vendor_bars(bars, "the bars table", first_line=1, **vendor) if len(bars) else bars
    else:
        frame = bars
    checked = validate_bars(normalise_bars(frame, assume_utc=assume_utc))
    del frame
    symbols = [str(name) for name in checked["symbol"].cat.categories]
    listed = normalise_instruments(_table("instruments", instruments, assume_utc), symbols, calendar)
    check_printable(listed)
    checked, relabelled = with_session_labels(checked, listed)
    posted = normalise_actions(_table("actions", actions, assume_utc), symbols, assume_utc=assume_utc)
    content = _content(checked, listed, posted)
    snapshot_hash = content_hash(content)
    target = location(root) / snapshot_id
    if (target / "manifest.json").exists():
        return _same_or_refused(target, snapshot_id, snapshot_hash)
    files = {
        "bars.parquet": _to_parquet(pa.Table.from_pandas(checked, preserve_index=False)),
        "instruments.parquet": _to_parquet(pa.Table.from_pandas(listed, preserve_index=False)),
        "actions.parquet": _to_parquet(pa.Table.from_pandas(posted, preserve_index=False)),
    }
    manifest = {
        "format": FORMAT,
        "snapshot_id": snapshot_id,
        "snapshot_hash": snapshot_hash,
        "content": content,
        "rows": {"bars": len(checked), "instruments": len(listed), "actions": len(posted)},
        "symbols": symbols,
        "first": checked["ts"].min().isoformat(),
        "last": checked["ts"].max().isoformat(),
        "prices": "raw, as traded; ts is the start of a bar in UTC",
        **({"relabelled": relabelled} if relabelled else {}),
        "source": source or {},
        "sealed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "pandas": pd.__version__, "pyarrow": pa.__version__},
        "files": {name: {"sha256": hash_bytes(data), "bytes": len(data)} for name, data in files.items()},
    }
    manifest["manifest_hash"] = hash_json(manifest)
    files["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    if not create_directory(target, files, read_only=True):
        return _same_or_refused(target, snapshot_id, snapshot_hash)
    return Snapshot(target, manifest)


def _table(table: str, given: pd.DataFrame | Location | None, assume_utc: bool) -> pd.DataFrame | None:
    return (
        given if given is None or isinstance(given, pd.DataFrame) else read_table(table, given, assume_utc=assume_utc)
    )


def refuse_other(
    snapshot_id: str, root: Location, bars: pd.DataFrame, instruments: pd.DataFrame, actions: pd.DataFrame
) -> None:
    """Raise RefusedError when `snapshot_id` is sealed with other content than these normalised tables, so that nothing
    of them is kept. What cannot be sealed at all is not judged here.
    """
    target = location(root) / check_id("snapshot", snapshot_id)
    if not (target / "manifest.json").exists():
        return
    try:
        checked, _ = with_session_labels(validate_bars(bars), instruments)
    except InputError:
        return
    _same_or_refused(target, snapshot_id, content_hash(_content(checked, instruments, actions)))


def _content(bars: pd.DataFrame, instruments: pd.DataFrame, actions: pd.DataFrame) -> dict[str, str]:
    """The hash of each normalised table by its name."""
    tables = {"bars": bars, "instruments": instruments, "actions": actions}
    return {name: table_hash(name, table) for name, table in tables.items()}


def _same_or_refused(target: UPath, snapshot_id: str, snapshot_hash: str) -> Snapshot:
    if not (target / "manifest.json").exists():
        raise StorageError(f"{target} exists and is no sealed snapshot; move it away or choose another id.")
    existing = open_snapshot(snapshot_id, root=target.parent)
    if existing.hash != snapshot_hash:
        raise RefusedError(
            f"snapshot id {snapshot_id!r} is sealed with other content ({existing.hash[:16]}, not "
            f"{snapshot_hash[:16]}); choose another id."
        )
    return existing


def open_snapshot(snapshot_id: str, *, root: Location = "snapshots") -> Snapshot:
    """Open a sealed snapshot after verifying its files against its manifest (once a process while they stay untouched).

    Raises NotFoundError, and IntegrityError naming the file that is not as it was sealed.
    """
    check_id("snapshot", snapshot_id)
    path = location(root) / snapshot_id
    manifest = read_manifest(path)
    for name in TABLES:
        _verified(path / name, manifest)
    return Snapshot(path, manifest)


def read_manifest(path: UPath) -> dict[str, Any]:
    """The manifest of the snapshot directory `path`, checked for its form and for belonging there."""
    file = path / "manifest.json"
    if not file.exists():
        known = ", ".join(snapshot_ids(path.parent)) or "none"
        raise NotFoundError(f"there is no snapshot {path.name!r} in {path.parent} (sealed there: {known}).")
    try:
        manifest = json.loads(file.read_bytes())
        sound = (
            manifest["format"] == FORMAT
            and set(manifest["files"]) == set(TABLES)
            and content_hash(manifest["content"]) == manifest["snapshot_hash"]
            and hash_json({key: value for key, value in manifest.items() if key != "manifest_hash"})
            == manifest["manifest_hash"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, InputError):
        sound = False
    if not sound:
        raise IntegrityError(
            f"{file} is not a manifest of format {FORMAT} as it was sealed; restore the snapshot from where it was "
            "sealed."
        )
    if manifest["snapshot_id"] != path.name:
        raise IntegrityError(
            f"{file} is the manifest of snapshot {manifest['snapshot_id']!r}, not of {path.name!r}; restore the "
            "right one."
        )
    return manifest


def snapshot_ids(root: Location) -> list[str]:
    """Ids of the snapshots sealed under `root`, sorted."""
    base = location(root)
    if not base.exists():
        return []
    return sorted(
        path.name for path in base.iterdir() if not path.name.startswith(".") and (path / "manifest.json").exists()
    )


def delete(snapshot_id: str, *, root: Location = "snapshots") -> None:
    """Take away a snapshot, so that its id may be used for other content. Whoever calls sees to it that nothing was
    made from it. NotFoundError.
    """
    import shutil

    check_id("snapshot", snapshot_id)
    path = location(root) / snapshot_id
    read_manifest(path)
    if not is_local(path):
        path.fs.rm(path.path, recursive=True)
        return
    gone = path.with_name(f".{snapshot_id}.deleted")
    os.chmod(str(path), 0o755)
    os.rename(str(path), str(gone))  # at once for every reader
    shutil.rmtree(str(gone))


def verify(snapshot_id: str, *, root: Location = "snapshots") -> Snapshot:
    """Read every byte of a snapshot anew and check files, content and schema; IntegrityError names what differs."""
    _file_hash.cache_clear()
    snapshot = open_snapshot(snapshot_id, root=root)
    try:
        validate_bars(snapshot.bars)
        normalise_instruments(snapshot.instruments, list(snapshot.symbols), "")
        normalise_actions(snapshot.actions, list(snapshot.symbols))
    except InputError as error:
        raise IntegrityError(f"snapshot {snapshot_id!r}: {error}") from None
    return snapshot


def _verified(file: UPath, manifest: dict[str, Any]) -> str | pa.BufferReader:
    """What to read the table from; IntegrityError naming the file when it is missing or not as the manifest says.

    A local file is read once a process while it stays untouched. An object store gives no such sign: there the bytes
    that are checked are the bytes that are used.
    """
    try:
        if is_local(file):
            status = os.stat(str(file))
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            source, digest = str(file), _file_hash(str(file), stamp)
        else:
            data = file.read_bytes()
            source, digest = pa.BufferReader(data), hash_bytes(data)
    except FileNotFoundError:
        raise IntegrityError(f"{file} is missing; restore the snapshot from where it was sealed.") from None
    except OSError as error:
        raise StorageError(f"could not read {file}: {error.strerror or error}.") from error
    if digest != manifest["files"][file.name]["sha256"]:
        raise IntegrityError(
            f"{file} is not as it was sealed: its bytes have changed; restore it from where it was sealed."
        )
    return source


@functools.lru_cache(maxsize=1024)
def _file_hash(file: str, stamp: tuple[int, ...]) -> str:
    """SHA-256 (hex) of a local file, read once a process while its time stamps, size and inode stay the same."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata(None), sink, compression="zstd", store_schema=False)
    return sink.getvalue().to_pybytes()
