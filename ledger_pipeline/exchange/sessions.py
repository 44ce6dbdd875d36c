"""When the market is open: sessions from `market.calendars`, kept in the exchange's own file.

A restart reads them from there and needs no pandas; only years that were never needed before are computed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.exchange.money import micros, moment

if TYPE_CHECKING:
    from ledger_pipeline.exchange.state import Store

FIRST_YEAR, LAST_YEAR = 1971, 2100
NEAR = timedelta(days=20)  # no market is closed for that long


@dataclass(frozen=True)
class Session:
    """One session: its ISO date, its open and close in UTC."""

    day: str
    open: datetime
    close: datetime


class Sessions:
    """All sessions of one calendar, computed by whole years as they are needed."""

    def __init__(self, store: Store, calendar: str) -> None:
        self.calendar = calendar
        self._store = store
        self._load()

    def _load(self) -> None:
        rows = self._store.db.execute("select day, open, close from sessions order by day").fetchall()
        self._all = [Session(day, moment(opened), moment(closed)) for day, opened, closed in rows]
        self._days = [session.day for session in self._all]
        self._opens = [session.open for session in self._all]
        self._closes = [session.close for session in self._all]

    def cover(self, first: int, last: int) -> None:
        """Have the sessions of these years; those in between what is there and them are computed as well."""
        if not FIRST_YEAR <= first <= last <= LAST_YEAR:
            raise InputError(f"the exchange keeps sessions of the years {FIRST_YEAR} to {LAST_YEAR}.")
        have = self._store.get("session_years")
        if have is None:
            stretches = [(first, last)]
        else:
            stretches = [span for span in ((first, have[0] - 1), (have[1] + 1, last)) if span[0] <= span[1]]
        for start, end in stretches:
            rows = _computed(self.calendar, start, end)
            self._store.db.executemany("insert or ignore into sessions values (?, ?, ?)", rows)
        if stretches:
            low, high = (first, last) if have is None else (min(first, have[0]), max(last, have[1]))
            self._store.put("session_years", [low, high])
            self._load()

    def _until(self, at: datetime) -> None:
        self.cover((at - NEAR).year, (at + NEAR).year)

    def at(self, at: datetime) -> Session | None:
        """The session that is open at a time (from its open on, no longer at its close)."""
        self._until(at)
        index = bisect_right(self._opens, at) - 1
        return self._all[index] if index >= 0 and at < self._closes[index] else None

    def latest(self, at: datetime) -> Session | None:
        """The last session that has opened by then."""
        self._until(at)
        index = bisect_right(self._opens, at) - 1
        return self._all[index] if index >= 0 else None

    def next_open(self, at: datetime) -> Session:
        """The first session that opens after a time."""
        self._until(at)
        return self._all[bisect_right(self._opens, at)]

    def next_close(self, at: datetime) -> Session:
        """The first session that closes after a time."""
        self._until(at)
        return self._all[bisect_right(self._closes, at)]

    def of(self, day: str) -> Session | None:
        """The session of an ISO date."""
        index = bisect_left(self._days, day)
        return self._all[index] if index < len(self._days) and self._days[index] == day else None

    def before(self, day: str) -> Session | None:
        """The session before an ISO date."""
        index = bisect_left(self._days, day) - 1
        return self._all[index] if index >= 0 else None

    def between(self, first: str, last: str) -> list[Session]:
        """The sessions from `first` to `last`, both included."""
        self.cover(max(FIRST_YEAR, int(first[:4])), min(LAST_YEAR, int(last[:4])))
        return self._all[bisect_left(self._days, first) : bisect_right(self._days, last)]


def _computed(calendar: str, first: int, last: int) -> list[tuple[str, int, int]]:
    import pandas as pd

    from ledger_pipeline.market.calendars import trading_calendar

    start, end = pd.Timestamp(first, 1, 1), pd.Timestamp(last, 12, 31)
    schedule = trading_calendar(calendar, start, end).schedule.loc[start:end]
    return [
        (day.strftime("%Y-%m-%d"), micros(opened.to_pydatetime()), micros(closed.to_pydatetime()))
        for day, opened, closed in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    ]
