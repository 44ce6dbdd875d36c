"""Returns of candidates as a table that statistics can be made of: finite, long enough, and not constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError

FLAT = 1e-12  # a deviation of returns below it is that of a constant


def returns_table(returns: Any, *, candidates: int = 2, observations: int = 3) -> pd.DataFrame:
    """`returns` as a frame of float64, one row a period and one column a candidate. A Series is one candidate.

    InputError, in one sentence, for fewer candidates or observations than asked for, for a missing value (naming the
    candidate), and for a candidate whose returns do not vary: it has no Sharpe ratio.
    """
    if isinstance(returns, pd.Series):
        returns = returns.to_frame()
    try:
        given = pd.DataFrame(returns)
        if any(pd.api.types.is_complex_dtype(kind) for kind in given.dtypes):
            raise TypeError
        frame = given.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError("returns must be a table of numbers: one row a period, one column a candidate.") from None
    if frame.shape[1] < candidates:
        raise InputError(
            f"there are returns of {_count(frame.shape[1], 'candidate')}, and at least {candidates} are needed."
        )
    if len(frame) < observations:
        raise InputError(f"there are {_count(len(frame), 'return')}, and at least {observations} are needed.")
    values = frame.to_numpy()
    missing = np.flatnonzero(~np.isfinite(values).all(axis=0))
    if len(missing):
        row = int(np.flatnonzero(~np.isfinite(values[:, missing[0]]))[0])
        raise InputError(
            f"candidate {frame.columns[missing[0]]} has no return at row {row + 1} ({frame.index[row]}); choose a "
            "period over which every candidate has money, or leave it out."
        )
    constant = np.flatnonzero(values.std(axis=0) < FLAT)
    if len(constant):
        raise InputError(
            f"candidate {frame.columns[constant[0]]} has the same return at every row and so no Sharpe ratio; leave it "
            "out."
        )
    return frame


def one_series(returns: Any, *, observations: int = 3) -> np.ndarray:
    """The returns of one candidate as float64. InputError as `returns_table`, and for more than one."""
    frame = returns_table(returns, candidates=1, observations=observations)
    if frame.shape[1] != 1:
        raise InputError(f"the returns of one candidate are needed, not of {frame.shape[1]}: choose a column.")
    return frame.iloc[:, 0].to_numpy()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
