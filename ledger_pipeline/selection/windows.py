"""Train and test windows over the sessions of a run.

A length is written 3y, 6m, 2w (calendar years, months, weeks) or "250 sessions". A window trains on the sessions before
its border and is tested on those after it; the next one begins a step later. A rolling train window has a fixed length,
an anchored one always begins with the first session. Sessions between train and test are left out by the purge and
then the embargo, and both shorten the train window only. A last window whose test is not complete is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError

Scheme = Literal["rolling", "anchored"]

_LENGTH = re.compile(r"\s*(\d{1,6})\s*(y|m|w|years?|months?|weeks?|sessions?)\s*", re.IGNORECASE)
_UNITS = {"y": "years", "m": "months", "w": "weeks"}
_MOST = 5_000  # of a unit
LEAST = 2  # sessions that a window needs


@dataclass(frozen=True)
class Length:
    """A number of sessions, or of calendar years, months or weeks."""

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number} sessions" if self.unit == "sessions" else f"{self.number}{self.unit[0]}"


def after(sessions: pd.DatetimeIndex, *lengths: Length) -> int:
    """The place of the session that is these lengths after the first one, added up so that windows do not drift; that
    of len(sessions) or more where it is beyond the last.
    """
    total = {unit: sum(one.number for one in lengths if one.unit == unit) for unit in ("years", "months", "weeks")}
    counted = sum(one.number for one in lengths if one.unit == "sessions")
    return int(sessions.searchsorted(sessions[0] + pd.DateOffset(**total))) + counted


def length(given: Any, what: str) -> Length:
    """A length as it is written. InputError naming `what` for anything else."""
    match = _LENGTH.fullmatch(given) if isinstance(given, str) else None
    if match is None or not int(match[1]):
        raise InputError(f"{what} is {given!r}; write a length such as 3y, 6m, 2w or '250 sessions'.")
    unit = match[2].lower()
    if int(match[1]) > _MOST:
        raise InputError(f"{what} is {given!r}; it is longer than any data.")
    return Length(int(match[1]), "sessions" if unit.startswith("session") else _UNITS[unit[0]])


def session_count(given: Any, what: str) -> int:
    """A number of sessions as it is written: 5 or "5 sessions". InputError for another unit."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    match = re.fullmatch(r"\s*(\d{1,6})\s*sessions?\s*", given) if isinstance(given, str) else None
    if match is None:
        raise InputError(f"{what} is {given!r}; it counts sessions: write for example '5 sessions'.")
    return int(match[1])


@dataclass(frozen=True)
class WindowPlan:
    """How windows are laid. step: how far one begins after the other, the length of a test where it is not given;
    purge: sessions, None for those that the experiment asks for (auto); pairs: the windows themselves, where they are
    given, and nothing of the lengths counts; live: whether a choice is made for the test that is still to come, too.
    """

    train: Length | None = None
    test: Length | None = None
    step: Length | None = None
    scheme: Scheme = "rolling"
    purge: int | None = None
    embargo: int = 0
    pairs: tuple[tuple[date, date, date, date], ...] = ()
    live: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The plan as JSON."""
        if self.pairs:
            laid: dict[str, Any] = {"windows": [[day.isoformat() for day in pair] for pair in self.pairs]}
        else:
            laid = {name: str(getattr(self, name)) for name in ("train", "test", "step")} | {"scheme": self.scheme}
        live = {"live": True} if self.live else {}
        return {**laid, "purge": "auto" if self.purge is None else self.purge, "embargo": self.embargo, **live}


def window_plan(
    *,
    train: Any = None,
    test: Any = None,
    step: Any = None,
    scheme: str = "rolling",
    purge: Any = "auto",
    embargo: Any = 0,
    windows: Sequence[Mapping[str, Any]] | None = None,
    live: Any = False,
) -> WindowPlan:
    """A plan as it is written; windows: {train: [first, last], test: [first, last]} each, instead of lengths.
    InputError for what is none.
    """
    purged = None if purge in (None, "auto") else session_count(purge, "purge")
    embargoed = session_count(embargo, "embargo")
    if not isinstance(live, bool):
        raise InputError(f"live is {live!r}; it is true or false.")
    if windows is not None and live:
        raise InputError(
            "live goes with lengths, which say when the next test begins, not with windows that are given."
        )
    if windows is not None:
        if train is not None or test is not None or step is not None or scheme != "rolling":
            raise InputError("give the windows themselves, or the lengths of train and test and a scheme, not both.")
        return WindowPlan(purge=purged, embargo=embargoed, pairs=_pairs(windows))
    if train is None or test is None:
        raise InputError("walk_forward needs the lengths of train and test, such as {train: 3y, test: 1y}.")
    if scheme not in get_args(Scheme):
        raise InputError(f"scheme is {scheme!r}; it is rolling or anchored.")
    tested = length(test, "test")
    return WindowPlan(
        length(train, "train"),
        tested,
        tested if step is None else length(step, "step"),
        cast(Scheme, scheme),
        purged,
        embargoed,
        live=live,
    )


def _pairs(windows: Any) -> tuple[tuple[date, date, date, date], ...]:
    form = "windows are written [{train: [2001-01-02, 2003-12-31], test: [2004-01-02, 2004-12-31]}]"
    pairs = []
    if not isinstance(windows, Sequence) or isinstance(windows, str) or not windows:
        raise InputError(f"{form}, not {windows!r}.")
    for window in windows:
        if not isinstance(window, Mapping) or set(window) != {"train", "test"}:
            raise InputError(f"{form}, not {window!r}.")
        parts = [window["train"], window["test"]]
        if not all(isinstance(part, Sequence) and not isinstance(part, str) and len(part) == 2 for part in parts):
            raise InputError(f"{form}, not {window!r}.")
        days = [_day(day) for part in parts for day in part]
        if days[0] > days[1] or days[2] > days[3]:
            raise InputError(f"a window from {days[0]} to {days[1]} and {days[2]} to {days[3]} ends before it begins.")
        if days[2] <= days[1]:
            raise InputError(
                f"the test from {days[2]} begins before its train window is over ({days[1]}): what is chosen may only "
                "know what came before."
            )
        pairs.append((days[0], days[1], days[2], days[3]))
    for (*_, last), following in zip(pairs, pairs[1:], strict=False):
        if following[2] <= last:
            raise InputError(f"the test from {following[2]} begins before the one before it is over ({last}).")
    return tuple(pairs)


def _day(given: Any) -> date:
    try:
        return given if isinstance(given, date) else date.fromisoformat(str(given))
    except ValueError:
        raise InputError(f"{given!r} is no date; write for example 2004-01-02.") from None


@dataclass(frozen=True)
class Window:
    """A train window and its test, all of them sessions, both ends included. number: from 0; train_end: after purge and
    embargo, which are numbers of sessions; border: the last session before the test; train_sessions, test_sessions: how
    many there are; rests: whether there are sessions between this test and the next; pending: whether the test is not
    over: its sessions are those that there are, and test_end is test_start where there are none.
    """

    number: int
    train_start: date
    train_end: date
    border: date
    test_start: date
    test_end: date
    purge: int
    embargo: int
    train_sessions: int
    test_sessions: int
    rests: bool = False
    pending: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The window as JSON."""
        return {name: value.isoformat() if isinstance(value, date) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Border:
    """A window before its purge is known: places of sessions. first, last: of the train window; test_first,
    test_last."""

    first: int
    last: int
    test_first: int
    test_last: int
    pending: bool = False


def borders(
    sessions: pd.DatetimeIndex, plan: WindowPlan, following: pd.Timestamp | None = None
) -> tuple[list[Border], str | None]:
    """The windows of a plan over some sessions (dates, ascending), and what was dropped at the end, in a sentence.
    following: the first session after them, by which a test that ends with the last one is known to be complete.
    InputError where there is no complete window, or where tests would overlap.
    """
    if plan.pairs:
        return [_of_pair(sessions, pair) for pair in plan.pairs], None
    assert plan.train is not None and plan.test is not None and plan.step is not None
    laid: list[Border] = []
    dropped = None
    known = sessions.append(pd.DatetimeIndex([following or sessions[-1] + pd.DateOffset(days=1)]).as_unit("us"))
    while True:
        k = len(laid)
        steps = [plan.step] * k
        begun = after(known, *steps) if plan.scheme == "rolling" else 0
        border, end = after(known, *steps, plan.train), after(known, *steps, plan.train, plan.test)
        if end > len(sessions):
            if plan.live and laid and border <= len(sessions):
                laid.append(Border(begun, border - 1, border, len(sessions) - 1, True))
            elif border < len(sessions) and laid:
                dropped = f"the test from {_text(sessions[border])} would go beyond the last session and is dropped"
            break
        if laid and border <= laid[-1].test_last:
            raise InputError(
                f"step ({plan.step}) is shorter than test ({plan.test}), so that tests overlap: a session is tested "
                "once."
            )
        laid.append(Border(begun, border - 1, border, end - 1))
    if not laid:
        raise InputError(
            f"train {plan.train} and test {plan.test} are longer than the data, which have {len(sessions)} sessions "
            f"from {_text(sessions[0])} to {_text(sessions[-1])}."
        )
    return laid, dropped


def _of_pair(sessions: pd.DatetimeIndex, pair: tuple[date, date, date, date]) -> Border:
    if pair[0] < sessions[0].date() or pair[3] > sessions[-1].date():
        raise InputError(
            f"the window from {pair[0]} to {pair[3]} goes beyond the data, which are from {_text(sessions[0])} to "
            f"{_text(sessions[-1])}."
        )
    first, test_first = (int(sessions.searchsorted(pd.Timestamp(day))) for day in (pair[0], pair[2]))
    last, test_last = (int(sessions.searchsorted(pd.Timestamp(day), side="right")) - 1 for day in (pair[1], pair[3]))
    if test_last < test_first or last < first:
        raise InputError(
            f"there is no session from {pair[0]} to {pair[1]} or from {pair[2]} to {pair[3]}: the data go from "
            f"{_text(sessions[0])} to {_text(sessions[-1])}."
        )
    return Border(first, last, test_first, test_last)


def window(
    sessions: pd.DatetimeIndex,
    number: int,
    border: Border,
    purge: int,
    embargo: int,
    following: pd.Timestamp | None = None,
) -> Window:
    """A window with its purge. following: the first session after them. InputError when too little of the train window
    is left.
    """
    last = min(border.last, border.test_first - 1 - purge - embargo)
    if last - border.first + 1 < LEAST:
        raise InputError(
            f"window {number}: a purge of {purge} and an embargo of {embargo} sessions leave nothing of the train "
            f"window from {_text(sessions[border.first])} to {_text(sessions[border.last])}; choose a longer train "
            "window, or state a smaller purge."
        )
    days = [cast(pd.Timestamp, sessions[k]).date() for k in (border.first, last, border.last)]
    known = [*sessions[border.test_first : border.test_last + 1], *([following] if following is not None else [])]
    tested = [cast(pd.Timestamp, known[0]).date(), cast(pd.Timestamp, sessions[border.test_last]).date()]
    return Window(
        number, days[0], days[1], days[2], tested[0], max(tested), purge, embargo, last - border.first + 1,
        border.test_last - border.test_first + 1, pending=border.pending,
    )  # fmt: skip


def as_sessions(micros: np.ndarray) -> pd.DatetimeIndex:
    """Distinct session dates from those of bars, int64 microseconds (00:00)."""
    return pd.DatetimeIndex(np.unique(micros).astype("datetime64[us]"))


def _text(session: Any) -> str:
    return f"{session:%Y-%m-%d}"
