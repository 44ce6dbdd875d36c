"""Bars as vendors give them, brought to our columns: files of many headers, times and separators.

What is certain is understood without being asked for: the headers of Yahoo, Stooq, Alpaca and Polygon, plain dates as
session dates, epochs from seconds to nanoseconds, semicolon and tab, Excel. What is not certain is asked for: --map for
other headers, --symbol where no column names the instrument, --tz for times without a zone. Prices are never taken from
an adjusted column. An error names the file and the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import BAR_COLUMNS, FIELDS, PRICES

KNOWN = {
    "symbol": "symbol ticker sym instrument",
    "ts": "ts date datetime timestamp time t tradedate windowstart",
    "open": "open o openprice",
    "high": "high h highprice",
    "low": "low l lowprice",
    "close": "close c closeprice last",
    "volume": "volume vol v",
}  # our column: theirs, without case, blanks, '_' and '<>'
IGNORED = frozenset(
    "adjclose adjustedclose adjopen adjhigh adjlow adjvolume vwap vw tradecount transactions n numberoftrades openint "
    "per dividends stocksplits capitalgains otc index unnamed:0".split()
)
_EPOCHS = ((8e17, "ns"), (8e14, "us"), (8e11, "ms"), (1e8, "s"))
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_ZONED = re.compile(r".*(Z|[+-]\d{2}:?\d{2})$")


def plain_columns(columns: Sequence[Any], renamed: Mapping[str, str], where: str) -> dict[str, str]:
    """Their column for each of ours. renamed: theirs -> ours, as the user says. InputError for a column that is not
    known, for one that is there twice, and for a price that is missing.
    """
    names = [str(name) for name in columns]
    unknown = sorted(set(renamed) - set(names))
    if unknown:
        raise InputError(f"{where}: --map names {unknown[0]!r}, and the columns are {', '.join(names)}.")
    ours = {theirs: name for name, several in KNOWN.items() for theirs in several.split()}
    new_names: dict[str, str] = {}
    for name in names:
        bare = re.sub(r"[\s_<>]", "", name).lower()
        target = renamed.get(name) or ours.get(bare)
        if target is None or target == "-":
            if target is None and bare not in IGNORED:
                raise InputError(
                    f"{where}: the column {name!r} is not known; say which of {', '.join(BAR_COLUMNS)} it is with "
                    f"--map {name}=ts, or --map {name}=- to leave it out."
                )
            continue
        if target not in BAR_COLUMNS:
            raise InputError(f"--map {name}={target}: {target!r} is none of {', '.join(BAR_COLUMNS)}.")
        if target in new_names and name not in renamed:
            if target == "ts" and bare == "time":
                new_names["time"] = name  # Stooq parts date and time
                continue
            if new_names[target] in renamed:
                continue
            raise InputError(
                f"{where}: {new_names[target]!r} and {name!r} could both be the {target}; say it with --map."
            )
        new_names[target] = name
    missing = [name for name in ("ts", *PRICES) if name not in new_names]
    if missing:
        adjusted = [name for name in names if "adj" in name.lower()]
        hint = f" ({adjusted[0]!r} is adjusted and not used as a price)" if adjusted and "close" in missing else ""
        raise InputError(
            f"{where} has no column for {', '.join(missing)}{hint}; its columns are {', '.join(names)}. Name them with "
            "--map Theirs=ours."
        )
    return new_names


def vendor_bars(
    frame: pd.DataFrame,
    where: str,
    *,
    renamed: Mapping[str, str] | None = None,
    symbol: str | None = None,
    tz: str | None = None,
    assume_utc: bool = False,
    first_line: int = 2,
) -> pd.DataFrame:
    """A table of any vendor as bars with our columns and types: symbol text, ts datetime64[us, UTC], numbers float64.

    where: what errors call the table; first_line: the line of its first row. InputError, with the line, for a value
    that is no number or no time.
    """
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "ts")
    columns = plain_columns(list(frame.columns), renamed or {}, where)
    texts = frame[columns["ts"]]
    if "time" in columns:
        texts = texts.astype(str) + " " + frame[columns["time"]].astype(str)
    if "symbol" in columns:
        names = frame[columns["symbol"]]
    elif symbol:
        names = pd.Series(symbol, index=frame.index)
    else:
        raise InputError(f"{where} has no column that names the instrument: say --symbol AAPL.")
    frames = {
        "symbol": names,
        "ts": to_times(texts, f"{where}", tz=tz, assume_utc=assume_utc, first_line=first_line),
        **{
            name: to_numbers(frame[columns[name]], f"{where}", first_line=first_line) if name in columns else 0.0
            for name in FIELDS
        },
    }
    return pd.DataFrame(frames, index=frame.index).reset_index(drop=True)


def to_times(
    column: pd.Series, where: str, *, tz: str | None = None, assume_utc: bool = False, first_line: int = 2
) -> pd.Series:
    """A column of times in any of the forms above as datetime64[us, UTC]. Plain dates, and times that are all midnight
    without a zone, are session dates. InputError for what is no time, and for times without a zone.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.as_unit("us")
    if column.dtype.kind == "M":
        return _zoned(pd.Series(column), where, tz, assume_utc, first_line)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _epochs(column.astype("float64"), column.astype(str), where, first_line)
    values = [value.isoformat() if isinstance(value, date | datetime) else str(value).strip() for value in column]
    texts = pd.Series(values, index=column.index)
    digits = texts.str.fullmatch(r"\d+(\.0*)?")
    if digits.all() and texts.str.len().gt(0).all():
        return _epochs(texts.astype("float64"), texts, where, first_line)
    joined = texts.str.fullmatch(r"\d{8} \d{4,6}")
    if joined.all():
        texts = texts.map(
            lambda text: f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[9:11]}:{text[11:13]}:{text[13:] or '00'}"
        )
    american = texts.str.fullmatch(_US_DATE.pattern)
    if american.all():
        parts = texts.str.extract(_US_DATE.pattern).astype(int)
        if (parts[1] > 12).any() == (parts[0] > 12).any():
            raise InputError(
                f"{where}, line {first_line}: whether {texts.iloc[0]!r} begins with the month or the day is not "
                "certain; write dates as 2024-01-31."
            )
        month, day = (0, 1) if (parts[1] > 12).any() else (1, 0)
        texts = parts[2].astype(str) + "-" + parts[month].map("{:02d}".format) + "-" + parts[day].map("{:02d}".format)
    zoned = texts.map(lambda text: bool(_ZONED.match(text)) and not _DATE.fullmatch(text))
    if zoned.any() and not zoned.all():
        at = int(np.flatnonzero(zoned.to_numpy() != zoned.iloc[0])[0])
        raise InputError(
            f"{where}, line {first_line + at}: some times have a zone and others not; write all in one way."
        )
    try:
        parsed = pd.to_datetime(texts, format="ISO8601", utc=bool(zoned.all()), errors="coerce").dt.as_unit("us")
    except (ValueError, TypeError):
        parsed = pd.Series(pd.NaT, index=texts.index)
    if parsed.isna().any():
        at = int(np.flatnonzero(parsed.isna())[0])
        raise InputError(
            f"{where}, line {first_line + at}: {values[at]!r} is not a time; write 2024-01-31, or a time with its zone "
            "such as 2024-01-31T14:30:00Z."
        )
    return parsed if zoned.all() else _zoned(parsed, where, tz, assume_utc, first_line)


def _zoned(naive: pd.Series, where: str, tz: str | None, assume_utc: bool, first_line: int) -> pd.Series:
    """Times without a zone in UTC: session dates where all are midnight, else in the zone that was stated."""
    if naive.isna().any():
        at = int(np.flatnonzero(naive.isna())[0])
        raise InputError(f"{where}, line {first_line + at}: the time is missing.")
    if assume_utc or bool((naive == naive.dt.normalize()).all()):
        return naive.dt.tz_localize("UTC").dt.as_unit("us")
    if tz is None:
        raise InputError(
            f"{where}, line {first_line}: the time {naive.iloc[0]} has no zone; say which with --tz America/New_York "
            "(or --assume-utc)."
        )
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        zone = ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"there is no time zone {tz!r}; write one such as America/New_York.") from None
    local = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if local.isna().any():
        at = int(np.flatnonzero(local.isna())[0])
        raise InputError(
            f"{where}, line {first_line + at}: {naive.iloc[at]} is twice, or never, in {tz}, where the clock was "
            "changed; give times with an offset."
        )
    return local.dt.tz_convert("UTC").dt.as_unit("us")


def _epochs(numbers: pd.Series, texts: pd.Series, where: str, first_line: int) -> pd.Series:
    """Whole numbers as times: YYYYMMDD, or seconds, milli-, micro- or nanoseconds since 1970 by their size."""
    if numbers.isna().any():
        at = int(np.flatnonzero(numbers.isna())[0])
        raise InputError(f"{where}, line {first_line + at}: the time is missing.")
    if numbers.between(17000101, 22991231).all():
        parsed = pd.to_datetime(numbers.astype("int64").astype(str), format="%Y%m%d", errors="coerce", utc=True)
        if parsed.notna().all():
            return parsed.dt.as_unit("us")
    size = float(numbers.abs().median())
    unit = next((unit for least, unit in _EPOCHS if size >= least), None)
    if unit is None:
        raise InputError(f"{where}, line {first_line}: {texts.iloc[0]} is no time: give dates, ISO times or an epoch.")
    exact = texts.str.replace(r"\.0*$", "", regex=True)
    whole = exact.astype("int64") if exact.str.fullmatch(r"-?\d+").all() else numbers.round().astype("int64")
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(unit)
    micros = whole * scale if scale else whole // 1_000
    return pd.Series(micros.to_numpy().view("datetime64[us]"), index=numbers.index).dt.tz_localize("UTC")


def to_numbers(column: pd.Series, where: str, *, first_line: int = 2) -> pd.Series:
    """A column of numbers, Decimals or texts of numbers as float64; InputError with the line of what is none. A comma
    is a decimal point where no value has a point, and parts thousands where every one does.
    """
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        raise InputError(f"the column {column.name} of {where} holds {column.dtype}; it must hold numbers.")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype("float64")
    texts = column.map(lambda value: value if isinstance(value, str) else str(value)).str.strip()
    if texts.str.contains(",", regex=False).any():
        texts = texts.str.replace(",", "." if not texts.str.contains(".", regex=False).any() else "", regex=False)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.isna().any():
        at = int(np.flatnonzero(numbers.isna())[0])
        raise InputError(
            f"{where}, line {first_line + at}, column {column.name}: {column.iloc[at]!r} is not a number; correct the "
            "source and import again."
        )
    return numbers.astype("float64")


def read_texts(name: str, data: bytes) -> tuple[pd.DataFrame, int]:
    """A CSV (separated by comma, semicolon or tab) or an Excel sheet as a frame of texts, and the line of its first
    row. InputError when it cannot be read.
    """
    if name.lower().endswith((".xlsx", ".xlsm")):
        try:
            return pd.read_excel(io.BytesIO(data), dtype=object, engine="openpyxl"), 2
        except Exception as error:
            raise InputError(f"{name} is not a readable Excel file ({type(error).__name__}); save it again.") from None
    if name.lower().endswith(".gz"):
        import gzip

        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise InputError(f"{name} is not a whole gzip file ({error}); write it again.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {data[: error.start].count(10) + 1}: this is not UTF-8 text; save the file as UTF-8."
        ) from None
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if not rows:
        raise InputError(f"{name} is empty.")
    head, body = [cell.strip() for cell in rows[0]], [row for row in rows[1:] if row]
    uneven = next((row for row in body if len(row) != len(head)), None)
    if uneven is not None:
        line = rows.index(uneven) + 1
        raise InputError(f"{name}, line {line}: has {len(uneven)} values for {len(head)} columns.")
    return pd.DataFrame(body, columns=head, dtype=object), 2
