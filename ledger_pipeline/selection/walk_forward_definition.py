"""What is walked forward over: the candidates of a sweep, the windows, and the rule of the choice.

The purge of a window is stated, or derived (auto): the longest warm-up of a candidate's features, or the time for which
a trade of the experiment that began in the train window and is open at the border has been held then, whichever is
longer. Of what is held for good no end is known, so that time is at most as long as the longest trade which began and
ended in the window, and at most half of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.snapshot import Snapshot
from ledger_pipeline.selection.choice import ChoiceRule, choice_rule
from ledger_pipeline.selection.windows import Border, Window, WindowPlan, as_sessions, borders, window, window_plan
from ledger_pipeline.simulation.grids import universe_grid
from ledger_pipeline.simulation.measures import main_calendar
from ledger_pipeline.simulation.run import run
from ledger_pipeline.strategy.experiment import with_period
from ledger_pipeline.strategy.references import names_in
from ledger_pipeline.sweeps.definition import Definition
from ledger_pipeline.sweeps.evaluation import feature_cache
from ledger_pipeline.sweeps.running import longest_warm_up

if TYPE_CHECKING:
    from ledger_pipeline.market.grid import Grid

LAID = ("train", "test", "step", "scheme", "purge", "embargo", "windows", "live")
KEYS = (*LAID, "by", "select", "tie", "carry")


@dataclass(frozen=True)
class WalkForwardDefinition:
    """A checked walk-forward. sweep: the candidates; plan: the windows; rule: how one is chosen; carry: whether a test
    begins with the positions and the memory of the one before, instead of flat.
    """

    sweep: Definition
    plan: WindowPlan
    rule: ChoiceRule
    carry: bool

    def identity(self, snapshot: Snapshot) -> dict[str, Any]:
        """All that affects the result, as JSON; the first 20 hex digits of its hash are the walk-forward's id."""
        return {
            "sweep": self.sweep.identity(snapshot),
            "windows": self.plan.document,
            "by": self.rule.by,
            "select": self.rule.rule,
            "tie": self.rule.tie,
            "carry": self.carry,
        }


def define_walk_forward(sweep: Definition, written: Mapping[str, Any]) -> WalkForwardDefinition:
    """A walk-forward over the candidates of a sweep. written: the keys of KEYS. InputError for what cannot be meant."""
    if not isinstance(written, Mapping):
        raise InputError(f"walk_forward is {written!r}; write its keys, such as {{train: 3y, test: 1y}}.")
    unknown = next((key for key in written if key not in KEYS), None)
    if unknown is not None:
        raise InputError(f"walk_forward: {unknown} is not a known key; the keys are {', '.join(KEYS)}.")
    laid = {key: value for key, value in written.items() if key in LAID and value is not None}
    chosen = {key: written[key] for key in ("by", "select", "tie") if written.get(key) is not None}
    carry = written.get("carry", False)
    if not isinstance(carry, bool):
        raise InputError(f"carry is {carry!r}; it is true or false.")
    rule = choice_rule(chosen.get("by", "sharpe"), chosen.get("select", "argmax"), chosen.get("tie", "first"))
    varied = set(sweep.axes) & set(names_in(sweep.experiment.referring))
    if varied:
        raise InputError(
            f"a walk-forward varies params of the strategy and its features, and {min(varied)!r} is used by a field of "
            "the account; such a change between windows would be another account."
        )
    if sweep.experiment.spec.params_schedule:
        raise InputError("an experiment with params_schedule has its params already; walk forward over one without.")
    return WalkForwardDefinition(replace(sweep, keep="returns"), window_plan(**laid), rule, carry)


def windows_of(
    definition: WalkForwardDefinition, snapshot: Snapshot, root: str
) -> tuple[list[Window], dict[str, Any], list[str]]:
    """The windows of a definition on a snapshot, where their purge comes from, and what there is to say of them. root:
    where features are kept. InputError where no window is complete or the purge leaves no train window.
    """
    spec = definition.sweep.experiment.spec
    cells = universe_grid(snapshot, spec.universe, spec.base_currency, spec.start, spec.end)
    assert cells.timetable is not None
    days = cells.timetable.account_sessions[cells.first :]
    sessions = as_sessions(days)
    following = _session_after(main_calendar(snapshot, cells.symbols), sessions[-1])
    laid, dropped = borders(sessions, definition.plan, following)
    reason: dict[str, Any] = {"kind": "stated"}
    held = [0] * len(laid)
    bars = longest_warm_up(definition.sweep.experiment, definition.sweep.typical)
    warm = math.ceil(bars / max(len(days) / len(sessions), 1.0))
    if definition.plan.purge is None:
        held = _held_over(definition.sweep, snapshot, root, cells, sessions, [(one.first, one.last) for one in laid])
        reason = {"kind": "auto", "warmup_sessions": warm, "held_sessions": held}
    windows = [
        window(sessions, k, border, max(warm, held[k]) if definition.plan.purge is None else definition.plan.purge,
               definition.plan.embargo, following)
        for k, border in enumerate(laid)
    ]  # fmt: skip
    resting = [after.test_first > border.test_last + 1 for border, after in zip(laid, laid[1:], strict=False)]
    windows = [replace(one, rests=rests) for one, rests in zip(windows, [*resting, False], strict=True)]
    earlier = len(np.unique(cells.timetable.account_sessions[: cells.first]))
    notes = [note for note in (dropped, _cold(laid, earlier, warm)) if note]
    return windows, reason, notes


def _cold(laid: Sequence[Border], earlier: int, warm: int) -> str | None:
    """What to say where a train window begins before the indicators have had their bars. earlier: sessions that the
    snapshot holds before those of the windows.
    """
    lacking = [warm - 1 - earlier - border.first for border in laid]
    if lacking[0] <= 0:
        return None
    several = sum(one > 0 for one in lacking)
    where = "the first train window" if several == 1 else f"the first {several} train windows"
    return (
        f"indicators warm up during the first {lacking[0]} sessions of {where}: the snapshot holds no earlier bars for "
        "them"
    )


def _session_after(calendar: str, last: pd.Timestamp) -> pd.Timestamp:
    from ledger_pipeline.market.calendars import sessions

    try:
        following = sessions(calendar, last + pd.Timedelta(days=1), last + pd.Timedelta(days=20))
    except InputError:  # the calendar ends here
        following = pd.DatetimeIndex([])
    return following[0].tz_localize(None) if len(following) else last + pd.Timedelta(days=1)


def _held_over(
    sweep: Definition,
    snapshot: Snapshot,
    root: str,
    cells: Grid,
    sessions: pd.DatetimeIndex,
    windows: list[tuple[int, int]],
) -> list[int]:
    """For how many sessions a trade of the experiment that is open at the end of each train window has been held then
    (see the module). windows: places of the first and the last session of each.
    """
    assert cells.timetable is not None
    until = sessions[windows[-1][1]].date()
    start = sweep.experiment.spec.start
    supply = feature_cache(root).load
    known = run(with_period(sweep.experiment, start, until), snapshot, seed=sweep.seed, features=supply)
    lots = known.lots
    place = pd.Series(sessions.searchsorted(_sessions_at(cells, lots["opened_at"])), index=lots.index)
    closing = pd.Series(len(sessions), index=lots.index)
    done = lots["closed_at"].notna()
    if done.any():
        closing[done] = sessions.searchsorted(_sessions_at(cells, lots.loc[done, "closed_at"]))
    held = []
    for first, last in windows:
        began = (place >= first) & (place <= last)
        open_then, completed = began & (closing > last), began & (closing <= last)
        longest = int((closing - place)[completed].max()) if completed.any() else 0
        reach = int((last + 1 - place[open_then]).max()) if open_then.any() else 0
        held.append(min(reach, longest, (last - first + 1) // 2))
    return held


def _sessions_at(cells: Grid, times: pd.Series) -> pd.DatetimeIndex:
    """The account's session of each bar time."""
    assert cells.timetable is not None
    rows = np.searchsorted(cells.times, pd.DatetimeIndex(times).as_unit("us").asi8)
    return pd.DatetimeIndex(cells.timetable.account_sessions[rows].astype("datetime64[us]"))
