"""What looks wrong in a table of bars: a report for a person to judge, in which nothing is ever mended.

A report is a table with one row a finding: symbol, ts, issue, severity, detail. An ERROR is a bar that no snapshot may
hold; a WARN is a bar (or a missing one) that may be true and deserves a look: trading in a share was halted for weeks,
and a share did lose half of its price in a day.

issue            severity  a row stands for
DUPLICATE_BAR    ERROR     one symbol and time with more than one bar
INVALID_OHLC     ERROR     one bar whose numbers contradict each other or are no prices
MISSING_SESSION  WARN      one run of sessions without a bar, between an instrument's first and last bar
CLOSED_DAY       WARN      one day on which an instrument has bars although its calendar has no session
STALE            WARN      one run of bars with identical open, high, low, close and volume
JUMP             WARN      one close too far from the close before, a known split removed

An instrument that is listed later than others, or ends earlier, has no issue. The work is a few passes over whole
columns, so that a million bars take a fraction of a second; bars that are sorted already are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.errors import InputError
from ledger_pipeline.market.bars import ACTION_COLUMNS, BAR_COLUMNS, FIELDS, PRICES, TIME, micros, to_float, to_utc
from ledger_pipeline.market.calendars import session_of, sessions

SEVERITY = {
    "DUPLICATE_BAR": "ERROR",
    "INVALID_OHLC": "ERROR",
    "MISSING_SESSION": "WARN",
    "CLOSED_DAY": "WARN",
    "STALE": "WARN",
    "JUMP": "WARN",
}
REPORT_COLUMNS = ("symbol", "ts", "issue", "severity", "detail")
DAY_MICROS = 86_400_000_000


def quality_report(
    bars: pd.DataFrame,
    instruments: pd.DataFrame,
    actions: pd.DataFrame,
    *,
    jump_threshold: float = 0.25,
    stale_bars: int = 3,
) -> pd.DataFrame:
    """Everything in `bars` that a person should look at, as a table sorted by symbol, ts and issue.

    `bars` has symbol (text or category), ts (with a time zone, the start of the bar), open, high, low, close, volume;
    in any order, duplicates allowed, never changed. `instruments` has symbol and calendar for every symbol of the bars,
    `actions` symbol, ex_date, kind and value, of which the splits are used. `jump_threshold` is a return (0.25: a close
    more than 25 % above or below the one before), `stale_bars` how many identical bars in a row count as stale.

    An instrument whose bars all start at 00:00 UTC is daily: its ts are session labels. Where a time has several bars,
    the first one stands for it in the checks between bars. A split belongs to the first bar on or after its ex-date.

    Returns symbol (str), ts (datetime64[us, UTC]; of the first bar or session meant), issue, severity (ERROR or WARN),
    detail (one sentence for a person); no rows when nothing is found.

    Raises InputError for missing columns, text in a price, times without a zone, a bar without a symbol, a symbol
    without an instrument, a split that is no ratio, an unknown calendar or one that does not cover the bars, and for
    options that make no sense.
    """
    if not (np.isfinite(jump_threshold) and jump_threshold > 0):
        raise InputError(f"jump_threshold is {jump_threshold}: give a return above zero, such as 0.25.")
    if stale_bars != int(stale_bars) or stale_bars < 2:
        raise InputError(f"stale_bars is {stale_bars}: give a whole number of bars, two or more.")
    every = _read_bars(bars)
    calendars, splits = _calendars(instruments, every.names), _splits(actions)
    if not len(every.time):
        return _table([])
    parts = [_invalid(every)]
    repeated = every.same_symbol & (every.time == np.roll(every.time, 1))
    if repeated.any():
        parts.append(_duplicates(every, repeated))
        every = every.take(np.flatnonzero(~repeated))
    label = np.empty_like(every.time)
    parts.extend(_sessions(every, calendars, label))
    parts.append(_stale(every, int(stale_bars)))
    parts.append(_jumps(every, splits, label, float(jump_threshold)))
    return _table(parts)


def summary(report: pd.DataFrame) -> pd.DataFrame:
    """Findings of a quality report counted: severity, issue, symbol, count; errors first, then by issue and symbol.

    The count is of rows: a run of sessions without a bar, or of stale bars, is one.
    """
    counts = report.groupby(["severity", "issue", "symbol"], as_index=False, observed=True).size()
    return counts.rename(columns={"size": "count"})[["severity", "issue", "symbol", "count"]]


@dataclass(frozen=True)
class _Bars:
    """Bars sorted by (symbol, time), equal ones in the order they came; `code` is a position in `names`."""

    names: np.ndarray
    code: np.ndarray
    time: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def same_symbol(self) -> np.ndarray:
        """Whether a row continues the symbol of the row before."""
        same = np.zeros(len(self.code), dtype=bool)
        np.equal(self.code[1:], self.code[:-1], out=same[1:])
        return same

    def take(self, rows: np.ndarray) -> _Bars:
        return _Bars(self.names, self.code[rows], self.time[rows], {name: v[rows] for name, v in self.values.items()})


def _read_bars(bars: pd.DataFrame) -> _Bars:
    _require(bars, "bars", BAR_COLUMNS)
    symbol = bars["symbol"]
    if isinstance(symbol.dtype, pd.CategoricalDtype):
        symbol = symbol.cat.remove_unused_categories()
        code, names = symbol.cat.codes.to_numpy(), symbol.cat.categories.to_numpy(dtype=object)
        order = np.argsort(names.astype(str), kind="stable")
        if (np.diff(order) != 1).any():
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            code, names = np.where(code < 0, -1, place[code]), names[order]
    else:
        code, names = pd.factorize(symbol, sort=True)
        names = np.asarray(names, dtype=object)
    if len(code) and code.min() < 0:
        raise InputError("a bar has no symbol: every bar names its instrument.")
    found = _Bars(
        names,
        code,
        micros(to_utc(bars["ts"], "bars", "ts")) if len(bars) else np.empty(0, dtype="i8"),
        {name: to_float(bars[name], "bars").to_numpy() for name in FIELDS},
    )
    later = (found.code[1:] > found.code[:-1]) | (found.same_symbol[1:] & (found.time[1:] >= found.time[:-1]))
    return found if later.all() else found.take(np.lexsort((found.time, found.code)))


def _calendars(instruments: pd.DataFrame, names: np.ndarray) -> np.ndarray:
    _require(instruments, "instruments", ("symbol", "calendar"))
    known = dict(zip(instruments["symbol"].astype(str), instruments["calendar"].astype(str), strict=True))
    missing = [str(name) for name in names if str(name) not in known]
    if missing:
        raise InputError(f"no instrument row for {', '.join(missing[:5])}: add one for every symbol of the bars.")
    return np.array([known[str(name)] for name in names], dtype=object)


def _splits(actions: pd.DataFrame) -> list[tuple[str, int, float]]:
    """(symbol, ex-date in microseconds, ratio) of every split."""
    _require(actions, "actions", ACTION_COLUMNS)
    splits = actions[actions["kind"].astype(str) == "SPLIT"]
    if splits.empty:
        return []
    ratios = to_float(splits["value"], "actions").to_numpy()
    wrong = ~(np.isfinite(ratios) & (ratios > 0))
    if wrong.any():
        symbol, ratio = splits["symbol"].iloc[int(wrong.argmax())], ratios[wrong.argmax()]
        raise InputError(f"a split of {symbol} has the ratio {ratio:g}: give new shares for one old, above zero.")
    dates = micros(to_utc(splits["ex_date"], "actions", "ex_date"))
    return list(zip(splits["symbol"].astype(str), dates.tolist(), ratios.tolist(), strict=True))


def _duplicates(bars: _Bars, repeated: np.ndarray) -> pd.DataFrame:
    first, length = _runs(repeated)
    several = length > 1
    differs = np.zeros(len(repeated), dtype=bool)
    for values in bars.values.values():
        differs[1:] |= (values[1:] != values[:-1]) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    any_differs = np.add.reduceat(differs & repeated, first, dtype=np.int64)[several] > 0
    details = [
        f"{count} bars with this time, {'with different values' if other else 'all the same'}"
        for count, other in zip(length[several], any_differs, strict=True)
    ]
    return _found(bars, first[several], "DUPLICATE_BAR", details)


def _invalid(bars: _Bars) -> pd.DataFrame:
    opens, high, low, close, volume = (bars.values[name] for name in FIELDS)
    # A comparison with NaN is false, and low > 0 with high < inf bounds the prices between them: these nine say it all.
    valid = (high >= opens) & (high >= close) & (high >= low) & (low <= opens) & (low <= close)
    valid &= (low > 0) & (high < np.inf) & (volume >= 0) & (volume < np.inf)
    at = np.flatnonzero(~valid)
    rows = zip(*(bars.values[name][at].tolist() for name in FIELDS), strict=True)
    return _found(bars, at, "INVALID_OHLC", [_faults(dict(zip(FIELDS, row, strict=True))) for row in rows])


def _faults(bar: dict[str, float]) -> str:
    faults = [f"{name} {value:g} is not finite" for name, value in bar.items() if not np.isfinite(value)]
    faults += [f"{name} {bar[name]:g} is not above zero" for name in PRICES if bar[name] <= 0]
    high, low = bar["high"], bar["low"]
    faults += [f"high {high:g} is below {name} {bar[name]:g}" for name in ("open", "low", "close") if high < bar[name]]
    faults += [f"low {low:g} is above {name} {bar[name]:g}" for name in ("open", "close") if low > bar[name]]
    if bar["volume"] < 0:
        faults.append(f"volume {bar['volume']:g} is negative")
    return ", ".join(faults)


def _sessions(bars: _Bars, calendars: np.ndarray, label: np.ndarray) -> Iterator[pd.DataFrame]:
    """CLOSED_DAY and MISSING_SESSION; fills `label` with every bar's session (its UTC day, if there is none)."""
    starts = np.flatnonzero(~bars.same_symbol)
    intraday = np.zeros(len(bars.names), dtype=bool)
    intraday[bars.code[starts]] = np.logical_or.reduceat(bars.time % DAY_MICROS != 0, starts)
    kinds = set(zip(calendars.tolist(), intraday.tolist(), strict=True))
    for calendar, fine in sorted(kinds):
        members = (calendars == calendar) & (intraday == fine)
        rows = np.arange(len(bars.time)) if len(kinds) == 1 else np.flatnonzero(members[bars.code])
        yield from _sessions_of_group(bars, rows, calendar, not fine, label)


def _sessions_of_group(
    bars: _Bars, rows: np.ndarray, calendar: str, daily: bool, label: np.ndarray
) -> Iterator[pd.DataFrame]:
    # Instruments share most of their times, so the calendar is asked once a distinct time.
    which, times = pd.factorize(bars.time[rows])
    found = session_of(calendar, pd.DatetimeIndex(times.view("M8[us]"), tz="UTC"), daily=daily)
    is_open = found.notna()
    day = np.where(is_open, found.asi8, times // DAY_MICROS * DAY_MICROS)
    label[rows] = day[which]
    held = found[is_open]
    days = sessions(calendar, held.min(), held.max()).asi8 if len(held) else np.empty(0, dtype="i8")
    place = np.where(is_open, np.searchsorted(days, day), -1).astype(np.int32)[which]
    if not is_open.all():
        yield _closed_days(bars, rows[place < 0], calendar, label)
        rows, place = rows[place >= 0], place[place >= 0]
    gap = np.flatnonzero((np.diff(place) > 1) & (bars.code[rows[1:]] == bars.code[rows[:-1]]))
    first, last = days[place[gap] + 1], days[place[gap + 1] - 1]
    count = place[gap + 1] - place[gap] - 1
    details = [
        f"no bar in {n} {calendar} session{'s' if n > 1 else ''}, {_date(a)}" + (f" to {_date(b)}" if n > 1 else "")
        for a, b, n in zip(first, last, count, strict=True)
    ]
    yield _found(bars, rows[gap], "MISSING_SESSION", details, first)


def _closed_days(bars: _Bars, rows: np.ndarray, calendar: str, label: np.ndarray) -> pd.DataFrame:
    again = np.zeros(len(rows), dtype=bool)
    again[1:] = (np.diff(label[rows]) == 0) & (bars.code[rows[1:]] == bars.code[rows[:-1]])
    first, length = _runs(again)
    details = [
        f"{count} bar{'s' if count > 1 else ''} on a {pd.Timestamp(day, unit='us'):%A} without a {calendar} session"
        for day, count in zip(label[rows[first]], length, strict=True)
    ]
    return _found(bars, rows[first], "CLOSED_DAY", details)


def _stale(bars: _Bars, least: int) -> pd.DataFrame:
    same = bars.same_symbol
    for values in bars.values.values():
        same[1:] &= values[1:] == values[:-1]
    first, length = _runs(same)
    long = length >= least
    first, length = first[long], length[long]
    details = [
        f"{count} bars with identical values, until {_moment(end)}"
        for count, end in zip(length, bars.time[first + length - 1], strict=True)
    ]
    return _found(bars, first, "STALE", details)


def _jumps(bars: _Bars, splits: list[tuple[str, int, float]], label: np.ndarray, threshold: float) -> pd.DataFrame:
    close = bars.values["close"]
    change = np.zeros(len(close))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        np.divide(close[1:], close[:-1], out=change[1:])
    ratios: dict[int, float] = {}
    bounds = np.searchsorted(bars.code, np.arange(len(bars.names) + 1))
    code_of = {str(name): code for code, name in enumerate(bars.names)}
    for symbol, ex_date, ratio in splits:
        code = code_of.get(symbol)
        if code is None:
            continue
        start, end = bounds[code], bounds[code + 1]
        at = int(start + np.searchsorted(label[start:end], ex_date))
        if start < at < end:
            ratios[at] = ratios.get(at, 1.0) * ratio
    for at, ratio in ratios.items():
        change[at] *= ratio
    change -= 1
    change[~bars.same_symbol] = 0
    at = np.flatnonzero(np.abs(change) > threshold)
    # A close that is no price is INVALID_OHLC already.
    at = at[np.isfinite(change[at]) & (close[at] > 0) & (close[at - 1] > 0)]
    details = [
        _jump_detail(before, now, moved, ratios.get(row), threshold)
        for row, before, now, moved in zip(at.tolist(), close[at - 1], close[at], change[at], strict=True)
    ]
    return _found(bars, at, "JUMP", details)


def _jump_detail(before: float, now: float, change: float, ratio: float | None, threshold: float) -> str:
    if ratio is None:
        return f"close {now:g} after {before:g}: {change:+.1%}, and no split is known for that day"
    raw = now / before - 1
    text = f"close {now:g} after {before:g}: {change:+.1%} without that day's split of {ratio:g} for 1, {raw:+.1%} raw"
    if abs(raw) <= threshold:
        text += "; the prices do not show this split (adjusted already, or another ex-date?)"
    return text


def _runs(continues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row and length of each run, from whether a row continues the one before."""
    first = np.flatnonzero(~continues)
    return first, np.diff(first, append=len(continues))


def _found(
    bars: _Bars, rows: np.ndarray, issue: str, details: list[str], times: np.ndarray | None = None
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": bars.names[bars.code[rows]],
            "ts": bars.time[rows] if times is None else times,
            "issue": issue,
            "severity": SEVERITY[issue],
            "detail": details,
        }
    )


def _table(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    rows = pd.concat(filled) if filled else pd.DataFrame({name: [] for name in REPORT_COLUMNS})
    times = pd.Series(rows["ts"].to_numpy(dtype="i8").view("M8[us]")).dt.tz_localize("UTC").astype(TIME)
    text = {name: rows[name].astype(str).array for name in REPORT_COLUMNS if name != "ts"}
    report = pd.DataFrame({name: times.array if name == "ts" else text[name] for name in REPORT_COLUMNS})
    return report.sort_values(["symbol", "ts", "issue"], kind="stable", ignore_index=True)


def _require(frame: pd.DataFrame, table: str, wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise InputError(f"the {table} table lacks {', '.join(missing)}: it needs the columns {', '.join(wanted)}.")


def _date(time: int) -> str:
    return f"{pd.Timestamp(time, unit='us'):%Y-%m-%d}"


def _moment(time: int) -> str:
    return _date(time) if time % DAY_MICROS == 0 else f"{pd.Timestamp(time, unit='us'):%Y-%m-%d %H:%M:%S} UTC"
