"""Bars: one tidy table of raw prices, and the schemas of the three tables a snapshot is made of.

bars         symbol, ts, open, high, low, close, volume    one row an instrument and bar time, prices as traded
instruments  symbol, name, currency, calendar, asset_class one row an instrument
actions      symbol, ex_date, kind, value                  SPLIT (new shares per old), DIVIDEND (cash a share, as
traded that day) and DELIST (cash a share for what is held, or nothing for its last close)

`ts` labels the start of a bar in UTC; a daily bar carries its session date at 00:00. Tables are checked, never mended.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.core.identity import check_symbol, check_text

PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume")
BAR_COLUMNS = ("symbol", "ts", *FIELDS)
INSTRUMENT_COLUMNS = ("symbol", "name", "currency", "calendar", "asset_class")
ACTION_COLUMNS = ("symbol", "ex_date", "kind", "value")
ACTION_KINDS = ("SPLIT", "DIVIDEND", "DELIST")
TIME = "datetime64[us, UTC]"


@functools.cache
def bars_schema() -> Any:
    """The pandera schema of bars: finite, high and low bracket the bar, unique (symbol, ts), times with a zone."""
    import pandera.pandas as pa

    finite = pa.Check(np.isfinite, error="is not finite")
    positive = pa.Check(lambda values: values > 0, error="is not above zero")

    def high_brackets(frame: pd.DataFrame) -> pd.Series:
        return (frame["high"] >= frame["open"]) & (frame["high"] >= frame["close"]) & (frame["high"] >= frame["low"])

    def low_brackets(frame: pd.DataFrame) -> pd.Series:
        return (frame["low"] <= frame["open"]) & (frame["low"] <= frame["close"])

    return pa.DataFrameSchema(
        {
            "symbol": pa.Column("category", nullable=False),
            "ts": pa.Column(TIME, nullable=False),
            **{name: pa.Column("float64", [finite, positive], nullable=False) for name in PRICES},
            "volume": pa.Column(
                "float64", [finite, pa.Check(lambda values: values >= 0, error="is negative")], nullable=False
            ),
        },
        checks=[
            pa.Check(high_brackets, error="high is below open, close or low"),
            pa.Check(low_brackets, error="low is above open or close"),
            pa.Check(
                lambda frame: ~frame.duplicated(["symbol", "ts"]), error="more than one bar for the same symbol and ts"
            ),
        ],
        strict=True,
        ordered=True,
    )


@functools.cache
def instruments_schema() -> Any:
    """The pandera schema of instruments: text throughout and never blank, one row a symbol."""
    import pandera.pandas as pa

    filled = pa.Check(lambda values: values.str.strip() != "", error="is blank")
    return pa.DataFrameSchema(
        {name: pa.Column(str, filled, nullable=False, unique=name == "symbol") for name in INSTRUMENT_COLUMNS},
        strict=True,
        ordered=True,
    )


@functools.cache
def actions_schema(delisting: bool = False) -> Any:
    """The pandera schema of actions, one of a kind an ex-date: SPLIT and DIVIDEND, a finite value above zero; or
    (`delisting`) DELIST, cash a share, zero or more, missing for the last close.
    """
    import pandera.pandas as pa

    value = (
        pa.Column(
            "float64",
            pa.Check(lambda v: np.isfinite(v) & (v >= 0), error="is not a finite number from zero on"),
            nullable=True,
        )
        if delisting
        else pa.Column(
            "float64", pa.Check(lambda v: np.isfinite(v) & (v > 0), error="is not a finite number above zero")
        )
    )
    return pa.DataFrameSchema(
        {
            "symbol": pa.Column(str),
            "ex_date": pa.Column(
                TIME, pa.Check(lambda times: times == times.dt.normalize(), error="is not a date (00:00 UTC)")
            ),
            "kind": pa.Column(str, pa.Check.isin(ACTION_KINDS, error="is neither SPLIT, DIVIDEND nor DELIST")),
            "value": value,
        },
        checks=pa.Check(
            lambda frame: ~frame.duplicated(["symbol", "ex_date", "kind"]),
            error="the same action is listed more than once (add up two dividends of one day, multiply two splits)",
        ),
        strict=True,
        ordered=True,
    )


def require_columns(table: str, columns: list[str], required: tuple[str, ...]) -> None:
    """InputError naming what is missing or not known, when the columns of a table are not exactly those `required`."""
    missing = [name for name in required if name not in columns]
    extra = [name for name in columns if name not in required]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if missing or extra or repeated:
        parts = [
            f"{word} {', '.join(map(repr, names))}"
            for word, names in (("lacks", missing), ("has the unknown", extra), ("repeats", repeated))
            if names
        ]
        raise InputError(
            f"the {table} table {' and '.join(parts)}; it must have exactly the columns {', '.join(required)}."
        )


def normalise_bars(frame: pd.DataFrame, *, assume_utc: bool = False) -> pd.DataFrame:
    """Bars with the right columns and types, sorted by (symbol, ts); values are left as they are.

    Takes symbol as text or category, ts with a time zone (without one too when `assume_utc`), numbers as numbers.
    Raises InputError otherwise.
    """
    require_columns("bars", [str(name) for name in frame.columns], BAR_COLUMNS)
    if frame.empty:
        raise InputError("the bars table is empty: there is nothing to import.")
    symbol = _symbols(frame["symbol"])
    columns = {
        "symbol": symbol,
        "ts": to_utc(frame["ts"], "bars", "ts", assume_utc=assume_utc),
        **{name: to_float(frame[name], "bars") for name in FIELDS},
    }
    bars = pd.DataFrame(columns, copy=False)
    codes, times = bars["symbol"].cat.codes.to_numpy(), micros(bars["ts"])
    step = np.diff(codes)
    if ((step < 0) | ((step == 0) & (np.diff(times) < 0))).any():
        bars = bars.iloc[np.lexsort((times, codes))]
    return bars.reset_index(drop=True)


def _symbols(symbol: pd.Series) -> pd.Series:
    """Symbols as a category, blanks around them removed; InputError for a missing one, a number, one that is none."""
    if symbol.isna().any():
        raise InputError("a bar has no symbol; every bar names its instrument.")
    if not isinstance(symbol.dtype, pd.CategoricalDtype):
        symbol = symbol.astype("category")
    symbol = symbol.cat.remove_unused_categories()
    names = list(symbol.cat.categories)
    if not all(isinstance(name, str) for name in names):
        wrong = next(name for name in names if not isinstance(name, str))
        raise InputError(f"the symbol {wrong!r} is no text; write symbols as text, '{wrong}'.")
    if any(not name.strip() for name in names):
        raise InputError("a bar has no symbol; every bar names its instrument.")
    if not _sorted_text(symbol.cat.categories) or any(name != name.strip() for name in names):
        symbol = symbol.astype(str).str.strip().astype("category")
        names = list(symbol.cat.categories)
    for name in names:
        check_symbol(name)
    return symbol


def _sorted_text(names: pd.Index) -> bool:
    return all(isinstance(name, str) for name in names) and names.is_monotonic_increasing


def normalise_instruments(frame: pd.DataFrame | None, symbols: list[str], calendar: str) -> pd.DataFrame:
    """The instruments of `symbols`, sorted; made from defaults (USD, EQUITY, `calendar`) when `frame` is None.

    Raises InputError for a symbol without a row, a blank field and a calendar that does not exist.
    """
    from ledger_pipeline.market.calendars import calendar_name

    if frame is None:
        frame = pd.DataFrame(
            {"symbol": symbols, "name": symbols, "currency": "USD", "calendar": calendar, "asset_class": "EQUITY"}
        )
    require_columns("instruments", [str(name) for name in frame.columns], INSTRUMENT_COLUMNS)
    frame = frame[list(INSTRUMENT_COLUMNS)].astype(str).sort_values("symbol").reset_index(drop=True)
    check(instruments_schema(), frame, "instruments")
    unknown = sorted(set(symbols) - set(frame["symbol"]))
    if unknown:
        raise InputError(
            f"the instruments table has no row for {', '.join(unknown[:5])}; add one for every symbol of the bars."
        )
    listed = frame[frame["symbol"].isin(symbols)].reset_index(drop=True)
    for name in listed["calendar"].unique():
        calendar_name(name)
    return listed


def check_printable(instruments: pd.DataFrame) -> None:
    """InputError when a name, currency, calendar or class of an instrument is not printable, in one line."""
    for column in INSTRUMENT_COLUMNS[1:]:
        for value in instruments[column].unique():
            check_text(f"{column} of an instrument", value)


def normalise_actions(frame: pd.DataFrame | None, symbols: list[str], *, assume_utc: bool = False) -> pd.DataFrame:
    """The corporate actions of `symbols`, sorted by (symbol, ex_date, kind); empty when `frame` is None."""
    if frame is not None:
        require_columns("actions", [str(name) for name in frame.columns], ACTION_COLUMNS)
    if frame is None or frame.empty:  # a table without rows seldom has the right types
        frame = pd.DataFrame({"symbol": [], "ex_date": pd.DatetimeIndex([], tz="UTC"), "kind": [], "value": []})
    actions = pd.DataFrame(
        {
            "symbol": frame["symbol"].astype(str),
            "ex_date": to_utc(frame["ex_date"], "actions", "ex_date", assume_utc=assume_utc),
            "kind": frame["kind"].astype(str),
            "value": to_float(frame["value"], "actions"),
        }
    ).sort_values(["symbol", "ex_date", "kind"], ignore_index=True)
    delisting = actions["kind"] == "DELIST"
    check(actions_schema(), actions[~delisting], "actions")
    check(actions_schema(delisting=True), actions[delisting], "actions")
    unknown = sorted(set(actions["symbol"]) - set(symbols))
    if unknown:
        raise InputError(
            f"the actions table names {', '.join(unknown[:5])}, which the bars do not hold; remove those rows."
        )
    return actions


def validate_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Return `bars` (as made by normalise_bars) when every value is sound; InputError naming symbol, time and fault
    else.
    """
    check(bars_schema(), bars, "bars")
    return bars


_FAULTS = {"not_nullable": "is missing", "field_uniqueness": "is listed more than once"}  # pandera's names


def check(schema: Any, frame: pd.DataFrame, table: str) -> None:
    """Validate with pandera and say the first fault in one sentence (InputError), with how many more there are."""
    import pandera.errors

    try:
        schema.validate(frame, lazy=True, inplace=True)  # nothing is coerced; a copy would cost a million rows
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        known = cases[cases["index"].notna()] if "index" in cases else cases.iloc[:0]
        if known.empty:
            first = cases.iloc[0]
            raise InputError(
                f"the {table} table is not as it should be: {first['check']} ({first['failure_case']})."
            ) from None
        # a fault of one value explains what is wrong with the row, so it is told first: "Column" < "DataFrameSchema"
        first = known.sort_values("schema_context", kind="stable").iloc[0]
        row = frame.loc[first["index"]]
        time = next((f" at {row[name].isoformat()}" for name in ("ts", "ex_date") if name in row.index), "")
        fault = _FAULTS.get(first["check"], str(first["check"]))
        column = f"{first['column']} " if first["schema_context"] == "Column" else ""
        value = f" ({first['failure_case']})" if column and pd.notna(first["failure_case"]) else ""
        more = known["index"].nunique() - 1
        also = f", and {more:,} more row{'s' if more > 1 else ''} at fault" if more else ""
        raise InputError(
            f"in the {table}, {row['symbol']}{time}: {column}{fault}{value}{also}; correct the source and import again."
        ) from None


def to_utc(column: pd.Series, table: str, name: str, *, assume_utc: bool = False) -> pd.Series:
    """A column of times with a zone, as datetime64[us, UTC]; InputError for text, naive or missing times, and for times
    finer than a microsecond. `assume_utc` takes naive times as UTC.
    """
    if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
        column = _times_of_objects(column)
    if isinstance(column.dtype, pd.ArrowDtype) and column.dtype.kind == "M":
        arrow = column.dtype.pyarrow_dtype
        column = column.astype(f"datetime64[{arrow.unit}, {arrow.tz}]" if arrow.tz else f"datetime64[{arrow.unit}]")
    naive = column.dtype.kind == "M" and not isinstance(column.dtype, pd.DatetimeTZDtype)
    if naive and assume_utc:
        column = column.dt.tz_localize("UTC")
    elif not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise InputError(
            f"the column {name} of the {table} holds {'naive times' if naive else 'no times'}: give times with a zone, "
            "such as 2024-01-02T00:00:00Z, or say that dates are UTC session dates (--assume-utc, or "
            "tz_localize('UTC') in pandas)."
        )
    if column.isna().any():
        raise InputError(
            f"the column {name} of the {table} has a missing time in row {int(np.flatnonzero(column.isna())[0]) + 1}."
        )
    if column.dtype.unit == "ns" and column.dt.nanosecond.any():
        row = int(np.flatnonzero(column.dt.nanosecond)[0])
        raise InputError(
            f"the column {name} of the {table} has a time finer than a microsecond in row {row + 1} "
            f"({column.iloc[row].isoformat()}); round the times to microseconds."
        )
    return column.dt.tz_convert("UTC").dt.as_unit("us")


def _times_of_objects(column: pd.Series) -> pd.Series:
    """Dates, times and ISO texts as times: plain dates are session dates at 00:00 UTC. The column itself where it holds
    anything else, or times without a zone.
    """
    from datetime import date, datetime

    values = [value.strip() if isinstance(value, str) else value for value in column]
    texts = [value.isoformat() if isinstance(value, date | datetime) else value for value in values]
    if not texts or not all(isinstance(text, str) for text in texts):
        return column
    plain = all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) for text in texts)
    zoned = all(re.fullmatch(r"\d{4}-\d{2}-\d{2}[T ].*(Z|[+-]\d{2}:?\d{2})", text) for text in texts)
    if not (plain or zoned):
        return column
    parsed = pd.Series(pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce"), index=column.index)
    return column if parsed.isna().any() else parsed


def micros(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Times with a zone as int64 microseconds since 1970-01-01 UTC, without a detour over objects."""
    return times.to_numpy(dtype="datetime64[us]").view("i8")


def to_float(column: pd.Series, table: str) -> pd.Series:
    """A column of numbers as float64; InputError naming the row that holds text."""
    if column.dtype == "float64":
        return column
    types = pd.api.types
    if types.is_bool_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
        raise InputError(f"the column {column.name} of the {table} holds {column.dtype}; it must hold numbers.")
    if not types.is_numeric_dtype(column.dtype):
        real = column.map(lambda value: value is None or isinstance(value, (int, float, Decimal)) and value is not True)
        if column.dtype == object and real.all():  # Decimals, or numbers that came as objects
            return column.map(lambda value: np.nan if value is None else float(value)).astype("float64")
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = np.flatnonzero(numbers.isna())
        at = f" in row {wrong[0] + 1} ({column.iloc[wrong[0]]!r})" if len(wrong) else ""
        raise InputError(f"the column {column.name} of the {table} holds text{at}; it must hold numbers.")
    return column.astype("float64")
