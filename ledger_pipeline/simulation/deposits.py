"""When deposits arrive: bar indices and amounts, from the sessions of the bars alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ledger_pipeline.strategy.experiment_spec import Deposit

_PERIODS = {"week": "W", "month": "M", "quarter": "Q", "year": "Y"}


def schedule(deposits: Sequence[Deposit], sessions: np.ndarray) -> dict[int, float]:
    """Amount by bar index; `sessions` are the session dates of the bars (int64 microseconds, 00:00; see
    Timetable.account_sessions), never falling.

    `every` means the first bar of each calendar period that starts within the bars or holds their first bar; `at` the
    first bar of the first session on or after that date. A later bar never moves an earlier deposit.
    """
    if not deposits:
        return {}
    stamps = pd.to_datetime(sessions, unit="us")
    arrivals: dict[int, float] = {}
    for deposit in deposits:
        if deposit.at is not None:
            t = int(stamps.searchsorted(pd.Timestamp(deposit.at)))
            indices = [t] if t < len(stamps) else []
        else:
            inside = np.ones(len(stamps), dtype=bool)
            if deposit.start is not None:
                inside &= stamps >= pd.Timestamp(deposit.start)
            if deposit.end is not None:
                inside &= stamps < pd.Timestamp(deposit.end) + pd.Timedelta(days=1)
            rows = np.flatnonzero(inside)
            periods = stamps[rows].to_period(_PERIODS[deposit.every or "month"])
            indices = rows[~periods.duplicated()].tolist()
        for t in indices:
            arrivals[t] = arrivals.get(t, 0.0) + deposit.amount
    return arrivals
