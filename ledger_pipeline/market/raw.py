"""Raw bars: what was read from a source, kept as it came until it is sealed.

<root>/raw/<snapshot_id>/ holds bars, instruments and actions as Parquet, with the right columns and types but unchecked
values, so that a data quality report can show what is wrong with them, and source.json, which says where they came
from.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from ledger_pipeline.core.errors import IntegrityError, NotFoundError
from ledger_pipeline.core.identity import check_id, hash_bytes
from ledger_pipeline.file_hashes import add_file
from ledger_pipeline.files import Location, location
from ledger_pipeline.market.bars import check_printable, normalise_actions, normalise_bars, normalise_instruments
from ledger_pipeline.market.snapshot import refuse_other
from ledger_pipeline.market.sources.files import bar_files, read_bars, read_table


@dataclass(frozen=True)
class RawSource:
    """Where raw tables come from: paths of files (`bars` may be a folder, `also` names more files), the calendar of
    instruments that are not listed, free notes; and for bars in a vendor's form (see sources.vendors) their columns by
    ours, the symbol and the time zone.
    """

    bars: str
    instruments: str | None = None
    actions: str | None = None
    calendar: str = "XNYS"
    assume_utc: bool = False
    note: str = ""
    also: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    symbol: str = ""
    tz: str = ""


@dataclass(frozen=True)
class RawTables:
    """Raw bars, instruments and actions with their source; `described` is what the manifest of a snapshot will say of
    it.
    """

    source: RawSource
    bars: pd.DataFrame
    instruments: pd.DataFrame
    actions: pd.DataFrame
    described: dict[str, Any]


def import_raw(
    snapshot_id: str, source: RawSource, root: Location = "data", *, snapshots: Location | None = None
) -> RawTables:
    """Read the source and keep it as the raw tables of `snapshot_id`. Raises NotFoundError, InputError, and
    RefusedError when that id is sealed under `snapshots` with other content; nothing is kept then.
    """
    base = location(root) / "raw" / check_id("snapshot", snapshot_id)
    paths = [source.bars, *source.also]
    read = read_bars(
        paths,
        renamed=source.columns,
        symbol=source.symbol or None,
        tz=source.tz or None,
        assume_utc=source.assume_utc,
    )
    bars = normalise_bars(read)
    symbols = [str(name) for name in bars["symbol"].cat.categories]
    given = {
        name: None if path is None else read_table(name, path, assume_utc=source.assume_utc)
        for name, path in (("instruments", source.instruments), ("actions", source.actions))
    }
    tables = {
        "bars": bars,
        "instruments": normalise_instruments(given["instruments"], symbols, source.calendar),
        "actions": normalise_actions(given["actions"], symbols),
    }
    check_printable(tables["instruments"])
    if snapshots is not None:
        refuse_other(snapshot_id, snapshots, **tables)
    described = {
        "files": {
            name: {"name": location(path).name, "sha256": hash_bytes(location(path).read_bytes())}
            for name, path in (
                *(("bars" if n == 0 else f"bars {n + 1}", path) for n, path in enumerate(bar_files(paths))),
                ("instruments", source.instruments),
                ("actions", source.actions),
            )
            if path is not None
        },
        "note": source.note,
    }
    hashes = {}
    for name, frame in tables.items():
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink, compression="snappy")
        data = sink.getvalue().to_pybytes()
        add_file(base / f"{name}.parquet", data)
        hashes[name] = hash_bytes(data)
    record = {"source": asdict(source), "described": described, "tables": hashes}
    add_file(base / "source.json", json.dumps(record, indent=2, default=str).encode())
    return RawTables(source, **tables, described=described)


def read_source(snapshot_id: str, root: Location = "data") -> RawSource:
    """The source that the raw tables of `snapshot_id` were read from; NotFoundError when there are none."""
    return _source(_told(snapshot_id, root)["source"])


def read_raw(snapshot_id: str, root: Location = "data") -> RawTables:
    """The raw tables of `snapshot_id`; NotFoundError when nothing was imported under it, IntegrityError when they are
    not those of the last import that was completed.
    """
    record = _told(snapshot_id, root)
    base = location(root) / "raw" / snapshot_id
    frames = {}
    for name in ("bars", "instruments", "actions"):
        file = base / f"{name}.parquet"
        data = file.read_bytes() if file.exists() else b""
        if hash_bytes(data) != record["tables"][name]:
            raise IntegrityError(f"{file} is not as it was imported; import {snapshot_id!r} again.")
        frames[name] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pandas()
    return RawTables(_source(record["source"]), **frames, described=record["described"])


def _told(snapshot_id: str, root: Location) -> dict[str, Any]:
    path = location(root) / "raw" / check_id("snapshot", snapshot_id) / "source.json"
    if not path.exists():
        raise NotFoundError(
            f"no raw bars were imported for {snapshot_id!r}; run `ledger-pipeline snapshot import BARS --id "
            f"{snapshot_id}`, or give raw_bars a source in its configuration."
        )
    try:
        record = json.loads(path.read_bytes())
        _source(record["source"])
        sound = set(record["tables"]) == {"bars", "instruments", "actions"} and "described" in record
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise IntegrityError(f"{path} is not as it was written; import {snapshot_id!r} again.")
    return record


def _source(record: dict[str, Any]) -> RawSource:
    return RawSource(**{**record, "also": tuple(record.get("also", ()))})
