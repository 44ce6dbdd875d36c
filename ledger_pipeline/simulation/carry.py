"""What it costs to hold: the fee for borrowed shares and the interest on cash, accrued from session to session.

At the first bar of a session, before all else, for the calendar days since the session before, by Act/365 on what was
held at its close: FEE, for each short position, |quantity| x close x annual_bps / 10000 x days / 365; INTEREST on the
cash, at cash_bps while it is above zero and at debit_bps, to be paid, while it is below.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DAYS = 365.0  # Act/365


def days_since(sessions: np.ndarray) -> np.ndarray:
    """Calendar days from the session before to that of each bar time, int64 (T,): 0 within a session. `sessions` are
    session dates in microseconds, never falling.
    """
    return np.diff(sessions // 86_400_000_000, prepend=sessions[0] // 86_400_000_000)


def borrow_fees(held: np.ndarray, marks: np.ndarray, days: int, borrow: Mapping[str, float]) -> np.ndarray:
    """Fee of each instrument (float64 (N,), zero for what is not short). held: quantities; marks: closes, in the
    account's currency.
    """
    short = np.where(held < 0, -held * np.nan_to_num(marks), 0.0)
    return short * borrow["annual_bps"] / 10_000.0 * days / DAYS


def cash_interest(cash: float, days: int, interest: Mapping[str, float]) -> float:
    """Interest on the cash: above zero received, below zero paid."""
    bps = interest["cash_bps"] if cash > 0 else interest["debit_bps"]
    return cash * bps / 10_000.0 * days / DAYS
