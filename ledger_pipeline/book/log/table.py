"""Events as columns with exact amounts: what a checkpoint holds and an export writes.

The columns are those of the one event schema; amounts are decimal strings, since no number type of a column holds every
Decimal. `ledger_of_table` casts them to the float64 of a backtest, column by column, so the folds of research run on a
live book of a million events without a Python object for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.events import AMOUNTS, Event, payload_of, payload_to_json
from ledger_pipeline.core.identity import canonical_json
from ledger_pipeline.ledger.schema import EVENT_SCHEMA, NAMES, Ledger

EXACT_SCHEMA = pa.schema([field.with_type(pa.string()) if field.name in AMOUNTS else field for field in EVENT_SCHEMA])
_CHUNK = 10_000


def table_of(events: Sequence[Event]) -> pa.Table:
    """Events as a table of EXACT_SCHEMA, in the order given."""
    columns = {
        "reasons": [",".join(event.reasons) or None for event in events],
        "payload": [_payload_text(event) for event in events],
    }
    for name in AMOUNTS:
        values = [getattr(event, name) for event in events]
        columns[name] = [None if value is None else decimal_text(value) for value in values]
    arrays = []
    for field in EXACT_SCHEMA:
        values = columns.get(field.name) or [getattr(event, field.name) for event in events]
        array = pa.array(values, pa.string() if field.name in NAMES else field.type)
        arrays.append(array.dictionary_encode() if field.name in NAMES else array)
    return pa.Table.from_arrays(arrays, schema=EXACT_SCHEMA)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of EXACT_SCHEMA, one after the other, with one dictionary for each column of names."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def selected(table: pa.Table, after: int, kinds: Sequence[str] | None) -> pa.Table:
    """The rows of a table of EXACT_SCHEMA with a seq above `after` and of one of `kinds` (None: of any)."""
    if not table.num_rows:
        return table
    rows = table.slice(max(0, after + 1 - table.column("seq")[0].as_py()))
    if kinds is None:
        return rows
    return rows.filter(pc.is_in(rows.column("kind").cast(pa.string()), pa.array(list(kinds), pa.string())))


def in_time(table: pa.Table) -> pa.Table:
    """A table of EXACT_SCHEMA in the order of occurred_at, and of seq where that is the same."""
    moments = table.column("occurred_at").cast(pa.int64()).to_numpy()
    if (moments[1:] >= moments[:-1]).all():
        return table
    return table.take(np.argsort(moments, kind="stable"))


def events_of(table: pa.Table) -> Iterator[Event]:
    """The events of a table of EXACT_SCHEMA, one after the other."""
    for batch in table.to_batches(max_chunksize=_CHUNK):
        for row in batch.to_pylist():
            for name in AMOUNTS:
                if row[name] is not None:
                    row[name] = Decimal(row[name])
            row["reasons"] = tuple(row["reasons"].split(",")) if row["reasons"] else ()
            row["payload"] = payload_of(row.pop("kind"), json.loads(row["payload"]) if row["payload"] else {})
            yield Event(**row)


def _payload_text(event: Event) -> str | None:
    row = payload_to_json(event.payload)
    return canonical_json(row).decode() if row else None


def ledger_of(events: Iterable[Event]) -> Ledger:
    """The events as a columnar Ledger of EVENT_SCHEMA, amounts as float64: what every fold of a backtest takes."""
    return ledger_of_table(table_of(list(events)))


def ledger_of_table(table: pa.Table) -> Ledger:
    """A table of EXACT_SCHEMA as a Ledger, amounts as float64, each the one that float() gives."""
    columns = [
        table.column(field.name).cast(field.type) if field.name in AMOUNTS else table.column(field.name)
        for field in EVENT_SCHEMA
    ]
    return Ledger(pa.Table.from_arrays(columns, schema=EVENT_SCHEMA))
