"""What looks wrong in a table of bars: a report for a person to judge, in which nothing is ever mended.

A report is a table with one row a finding: symbol, ts, issue, severity, detail, and count: how many bars or sessions it
is about. An ERROR is a bar that no snapshot may
hold; a WARN is a bar (or a missing one) that may be true and deserves a look: trading in a share was halted for weeks,
and a share did lose half of its price in a day.

issue            severity  a row stands for
DUPLICATE_BAR    ERROR     one symbol and time with more than one bar
INVALID_OHLC     ERROR     one bar whose numbers contradict each other or are no prices
MISSING_SESSION  WARN      one run of sessions without a bar, between an instrument's first and last bar
CLOSED_DAY       WARN      one day on which an instrument has bars although its calendar has no session
STALE            WARN      one run of bars with identical open, high, low, close and volume
JUMP             WARN      one close too far from the close before, a known split removed
MISSING_SPLIT    WARN      one jump by a usual split ratio, from a close to the next open, without a split listed
SPLIT_UNSEEN     WARN      one listed split that the prices do not show
DIVIDEND_SIZE    WARN      one dividend of at least the price before it
DIVIDEND_BASIS   WARN      one dividend that is too large or small by the ratio of the splits after it

An instrument that is listed later than others, or ends earlier, has no issue. The work is a few passes over whole
columns, so that a million bars take a fraction of a second; bars that are sorted already are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import ACTION_COLUMNS, BAR_COLUMNS, FIELDS, PRICES, TIME, micros, to_float, to_utc
from ledger_pipeline.market.calendars import session_of, sessions

SEVERITY = {
    "DUPLICATE_BAR": "ERROR",
    "INVALID_OHLC": "ERROR",
    "MISSING_SESSION": "WARN",
    "CLOSED_DAY": "WARN",
    "STALE": "WARN",
    "JUMP": "WARN",
    "MISSING_SPLIT": "WARN",
    "SPLIT_UNSEEN": "WARN",
    "DIVIDEND_SIZE": "WARN",
    "DIVIDEND_BASIS": "WARN",
}
USUAL_SPLITS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)
REPORT_COLUMNS = ("symbol", "ts", "issue", "severity", "detail", "count")
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
    `actions` symbol, ex_date, kind and value, of which splits and dividends are used. `jump_threshold` is a return
    (0.25: a close more than 25 % above or below the one before), `stale_bars` how many identical bars in a row count as
    stale.

    An instrument whose bars all start at 00:00 UTC is daily: its ts are session labels. Where a time has several bars,
    the first one stands for it in the checks between bars. A split belongs to the first bar on or after its ex-date.

    Returns symbol (str), ts (datetime64[us, UTC]; of the first bar or session meant), issue, severity (ERROR or WARN),
    detail (one sentence for a person), count (int64, bars or sessions); no rows when nothing is found.

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
    parts.extend(_split_faults(every, splits, label))
    parts.extend(_dividend_faults(every, _dated(actions, "DIVIDEND"), splits, label))
    return _table(parts)


def quality_errors(report: pd.DataFrame) -> int:
    """How many findings of a quality report are errors, which keep a snapshot from being sealed."""
    return int((report["severity"] == "ERROR").sum())


def quality_sentence(report: pd.DataFrame, bars: int) -> str:
    """A quality report over so many bars in a sentence, with its first error and what to do."""
    errors = quality_errors(report)
    counted = f"{errors} errors, {len(report) - errors} warnings in {bars:,} bars"
    if not errors:
        return counted
    first = report[report["severity"] == "ERROR"].iloc[0]
    return (
        f"{counted}; the first is {first['issue']} of {first['symbol']} at {first['ts'].isoformat()}: "
        f"{first['detail'].rstrip('.')}; correct the source and import again."
    )


def summary(report: pd.DataFrame) -> pd.DataFrame:
    """Findings of a quality report counted: severity, issue, symbol, count; errors first, then by issue and symbol.

    The count is of bars or sessions: a halt of 15 sessions counts as 15.
    """
    return report.groupby(["severity", "issue", "symbol"], as_index=False, observed=True)["count"].sum()


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
    sorted_bars = _Bars(
        names,
        code,
        micros(to_utc(bars["ts"], "bars", "ts")) if len(bars) else np.empty(0, dtype="i8"),
        {name: to_float(bars[name], "bars").to_numpy() for name in FIELDS},
    )
    later = (sorted_bars.code[1:] > sorted_bars.code[:-1]) | (
        sorted_bars.same_symbol[1:] & (sorted_bars.time[1:] >= sorted_bars.time[:-1])
    )
    return sorted_bars if later.all() else sorted_bars.take(np.lexsort((sorted_bars.time, sorted_bars.code)))


def _calendars(instruments: pd.DataFrame, names: np.ndarray) -> np.ndarray:
    _require(instruments, "instruments", ("symbol", "calendar"))
    known = dict(zip(instruments["symbol"].astype(str), instruments["calendar"].astype(str), strict=True))
    missing = [str(name) for name in names if str(name) not in known]
    if missing:
        raise InputError(f"no instrument row for {', '.join(missing[:5])}: add one for every symbol of the bars.")
    return np.array([known[str(name)] for name in names], dtype=object)


def _splits(actions: pd.DataFrame) -> list[tuple[str, int, float]]:
    """(symbol, ex-date in microseconds, ratio) of every split."""
    splits = _dated(actions, "SPLIT")
    wrong = next((one for one in splits if not (np.isfinite(one[2]) and one[2] > 0)), None)
    if wrong:
        raise InputError(f"a split of {wrong[0]} has the ratio {wrong[2]:g}: give new shares for one old, above zero.")
    return splits


def _dated(actions: pd.DataFrame, kind: str) -> list[tuple[str, int, float]]:
    """(symbol, ex-date in microseconds, value) of every action of a kind."""
    _require(actions, "actions", ACTION_COLUMNS)
    rows = actions[actions["kind"].astype(str) == kind]
    if rows.empty:
        return []
    values = to_float(rows["value"], "actions").to_numpy()
    dates = micros(to_utc(rows["ex_date"], "actions", "ex_date"))
    return list(zip(rows["symbol"].astype(str), dates.tolist(), values.tolist(), strict=True))


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
    return _found(bars, first[several], "DUPLICATE_BAR", details, count=length[several])


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
    of_times = session_of(calendar, pd.DatetimeIndex(times.view("M8[us]"), tz="UTC"), daily=daily)
    is_open = of_times.notna()
    day = np.where(is_open, of_times.asi8, times // DAY_MICROS * DAY_MICROS)
    label[rows] = day[which]
    held = of_times[is_open]
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
    yield _found(bars, rows[gap], "MISSING_SESSION", details, first, count)


def _closed_days(bars: _Bars, rows: np.ndarray, calendar: str, label: np.ndarray) -> pd.DataFrame:
    again = np.zeros(len(rows), dtype=bool)
    again[1:] = (np.diff(label[rows]) == 0) & (bars.code[rows[1:]] == bars.code[rows[:-1]])
    first, length = _runs(again)
    details = [
        f"{count} bar{'s' if count > 1 else ''} on a {pd.Timestamp(day, unit='us'):%A} without a {calendar} session"
        for day, count in zip(label[rows[first]], length, strict=True)
    ]
    return _found(bars, rows[first], "CLOSED_DAY", details, count=length)


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
    return _found(bars, first, "STALE", details, count=length)


def _jumps(bars: _Bars, splits: list[tuple[str, int, float]], label: np.ndarray, threshold: float) -> pd.DataFrame:
    close = bars.values["close"]
    change = np.zeros(len(close))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        np.divide(close[1:], close[:-1], out=change[1:])
    ratios: dict[int, float] = {}
    for at, ratio in _first_rows(bars, splits, label):
        ratios[at] = ratios.get(at, 1.0) * ratio
    for at, ratio in ratios.items():
        change[at] *= ratio
    change -= 1
    change[~bars.same_symbol] = 0
    jumps = np.flatnonzero(np.abs(change) > threshold)
    # A close that is no price is INVALID_OHLC already.
    jumps = jumps[np.isfinite(change[jumps]) & (close[jumps] > 0) & (close[jumps - 1] > 0)]
    details = [
        _jump_detail(before, now, moved, ratios.get(row), threshold)
        for row, before, now, moved in zip(jumps.tolist(), close[jumps - 1], close[jumps], change[jumps], strict=True)
    ]
    return _found(bars, jumps, "JUMP", details)


def _first_rows(bars: _Bars, actions: list[tuple[str, int, float]], label: np.ndarray) -> Iterator[tuple[int, float]]:
    """For each action the row of the first bar on or after its ex-date, and its value; none where there is no bar
    before it, or after it.
    """
    bounds = np.searchsorted(bars.code, np.arange(len(bars.names) + 1))
    code_of = {str(name): code for code, name in enumerate(bars.names)}
    for symbol, ex_date, value in actions:
        code = code_of.get(symbol)
        if code is None:
            continue
        start, end = bounds[code], bounds[code + 1]
        at = int(start + np.searchsorted(label[start:end], ex_date))
        if start < at < end:
            yield at, value


def _split_faults(bars: _Bars, splits: list[tuple[str, int, float]], label: np.ndarray) -> Iterator[pd.DataFrame]:
    """MISSING_SPLIT: from the close to the next open the price went by a usual ratio (within 4 %), and the close of
    that bar stayed there (within 10 %). SPLIT_UNSEEN: the price moved by less than half of a listed ratio (in
    logarithms).
    """
    opens, close = bars.values["open"], bars.values["close"]
    same = bars.same_symbol
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap, move = np.ones(len(close)), np.ones(len(close))
        np.divide(close[:-1], opens[1:], out=gap[1:])
        np.divide(close[:-1], close[1:], out=move[1:])
        gap, move = (np.where(same & np.isfinite(one) & (one > 0), one, 1.0) for one in (gap, move))
        listed: dict[int, float] = {}
        for at, ratio in _first_rows(bars, splits, label):
            listed[at] = listed.get(at, 1.0) * ratio
        ratios = np.array([*USUAL_SPLITS, *(1.0 / ratio for ratio in USUAL_SPLITS)])
        candidates = np.flatnonzero((np.abs(np.log(gap)) > 0.35) & ~np.isin(np.arange(len(gap)), list(listed)))
        nearest = ratios[np.abs(np.log(gap[candidates])[:, None] - np.log(ratios)).argmin(axis=1)]
        fits = (np.abs(gap[candidates] / nearest - 1) < 0.04) & (np.abs(move[candidates] / nearest - 1) < 0.1)
    at, jump = candidates[fits], nearest[fits]
    details = [
        f"open {opens[row]:g} after close {close[row - 1]:g} looks like a split of {_ratio(ratio)}, and none is listed"
        for row, ratio in zip(at, jump, strict=True)
    ]
    yield _found(bars, at, "MISSING_SPLIT", details)
    unseen = np.array(
        [
            row
            for row, ratio in sorted(listed.items())
            if abs(np.log(ratio)) > 0.2 and np.log(move[row]) / np.log(ratio) < 0.5
        ],
        dtype=np.int64,
    )
    details = [
        f"a split of {_ratio(listed[row])} is listed, and the close went from {close[row - 1]:g} to {close[row]:g}: "
        "adjusted prices, or another ex-date?"
        for row in unseen.tolist()
    ]
    yield _found(bars, unseen, "SPLIT_UNSEEN", details)


def _ratio(ratio: float) -> str:
    return f"{ratio:g} for 1" if ratio >= 1 else f"1 for {1 / ratio:g}"


def _dividend_faults(
    bars: _Bars, dividends: list[tuple[str, int, float]], splits: list[tuple[str, int, float]], label: np.ndarray
) -> Iterator[pd.DataFrame]:
    """DIVIDEND_SIZE: not below the close before it. DIVIDEND_BASIS: its share of that close differs from the usual one
    of the instrument (the median after its last split, else of all) by about the ratio of the splits after it.
    """
    close = bars.values["close"]
    sizes: list[tuple[int, str]] = []
    bases: list[tuple[int, str]] = []
    by_symbol: dict[str, list[tuple[int, int, float, float]]] = {}
    for symbol, ex_date, value in dividends:
        for at, _ in _first_rows(bars, [(symbol, ex_date, value)], label):
            before = float(close[at - 1])
            if np.isfinite(before) and before > 0 and np.isfinite(value) and value > 0:
                by_symbol.setdefault(symbol, []).append((at, ex_date, value, value / before))
                if value >= before:
                    sizes.append((at, f"a dividend of {value:g} a share, after a close of {before:g}"))
    for symbol, paid in by_symbol.items():
        own = [(date, ratio) for name, date, ratio in splits if name == symbol]
        if not own or len(paid) < 3:
            continue
        last = max(date for date, _ in own)
        usual = float(np.median([share for _, date, _, share in paid if date > last] or [one[3] for one in paid]))
        for at, date, value, share in paid:
            later = float(np.prod([ratio for when, ratio in own if when > date]))
            off = np.log(share / usual)
            if abs(np.log(later)) > 0.4 and abs(abs(off) - abs(np.log(later))) < 0.35:
                bases.append(
                    (at, f"a dividend of {value:g} is {share:.2%} of the close before it, {usual:.2%} is usual: stated "
                     f"after the later split of {_ratio(later)}? Give it as it was paid that day")
                )  # fmt: skip
    for issue, rows in (("DIVIDEND_SIZE", sizes), ("DIVIDEND_BASIS", bases)):
        yield _found(bars, np.array([at for at, _ in rows], dtype=np.int64), issue, [text for _, text in rows])


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
    bars: _Bars,
    rows: np.ndarray,
    issue: str,
    details: list[str],
    times: np.ndarray | None = None,
    count: np.ndarray | int = 1,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": bars.names[bars.code[rows]],
            "ts": bars.time[rows] if times is None else times,
            "issue": issue,
            "severity": SEVERITY[issue],
            "detail": details,
            "count": np.broadcast_to(np.asarray(count, dtype=np.int64), len(rows)),
        }
    )


def _table(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    rows = pd.concat(filled) if filled else pd.DataFrame({name: [] for name in REPORT_COLUMNS})
    times = pd.Series(rows["ts"].to_numpy(dtype="i8").view("M8[us]")).dt.tz_localize("UTC").astype(TIME)
    text = {name: rows[name].astype(str).array for name in REPORT_COLUMNS if name not in ("ts", "count")}
    report = pd.DataFrame(
        {
            name: times.array if name == "ts" else text.get(name, rows["count"].to_numpy(dtype=np.int64))
            for name in REPORT_COLUMNS
        }
    )
    return report.sort_values(["symbol", "ts", "issue"], kind="stable", ignore_index=True)


def _require(frame: pd.DataFrame, table: str, required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise InputError(f"the {table} table lacks {', '.join(missing)}: it needs the columns {', '.join(required)}.")


def _date(time: int) -> str:
    return f"{pd.Timestamp(time, unit='us'):%Y-%m-%d}"


def _moment(time: int) -> str:
    return _date(time) if time % DAY_MICROS == 0 else f"{pd.Timestamp(time, unit='us'):%Y-%m-%d %H:%M:%S} UTC"
