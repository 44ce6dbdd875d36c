"""Combinatorial purged cross-validation of the candidates of a sweep, or of any frame of returns."""

from __future__ import annotations

from typing import Any

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.choice import Rule
from ledger_pipeline.selection.splits import CombinatorialResult, Metric, cross_validate
from ledger_pipeline.selection.windows import session_count
from ledger_pipeline.sweeps.running import longest_warm_up
from ledger_pipeline.sweeps.sweep import Sweep


def cpcv(
    of: Sweep | Any,
    *,
    groups: int = 10,
    test_groups: int = 2,
    purge: Any = "auto",
    embargo: Any = 0,
    by: Metric = "sharpe",
    select: Rule = "argmax",
    periods_per_year: float | None = None,
) -> CombinatorialResult:
    """Cross-validate candidates. of: a finished sweep with kept returns (in excess of its risk-free rate), or a frame,
    one row a period and one column a candidate; groups, test_groups: how the periods are divided, and how many are
    tested at once; purge: bars on both sides of a test that do not train, auto for the longest warm-up of a candidate's
    features (0 for a frame); embargo: further bars after it; by: sharpe, mean or volatility; select: argmax or argmin.

    InputError as `selection.splits.cross_validate`, and for a sweep without returns.
    """
    if not isinstance(of, Sweep):
        purged = 0 if purge in (None, "auto") else session_count(purge, "purge")
        return cross_validate(
            of, groups=groups, test_groups=test_groups, purge=purged, embargo=session_count(embargo, "embargo"), by=by,
            select=select, periods_per_year=periods_per_year,
        )  # fmt: skip
    from ledger_pipeline.selection.integrity import periods_a_year, traded_returns

    if periods_per_year is not None:
        raise InputError("the periods a year of a sweep are known; leave periods_per_year out.")
    returns, _ = traded_returns(of)
    purged = longest_warm_up(of.base, of.points) if purge in (None, "auto") else session_count(purge, "purge")
    return cross_validate(
        returns, groups=groups, test_groups=test_groups, purge=purged, embargo=session_count(embargo, "embargo"),
        by=by, select=select, periods_per_year=periods_a_year(of),
    )  # fmt: skip
