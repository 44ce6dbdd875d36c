"""What the choice of one candidate of a sweep is worth, in one value: overfitting, deflation, tests and intervals.

The number of trials is that of the trial register: every candidate of the strategy that was ever evaluated on the
snapshot, unless a larger number is given. Returns are in excess of the risk-free rate that the sweep measures by.
Candidates that failed or never traded have no returns to compare and are left out, which is said.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.market.bars import micros
from ledger_pipeline.selection.clusters import EffectiveTrials, effective_trials
from ledger_pipeline.selection.overfitting import MOST_BLOCKS, Overfitting, pbo
from ledger_pipeline.selection.reality import RealityCheck, reality_check
from ledger_pipeline.selection.resampling import Intervals, bootstrap_intervals
from ledger_pipeline.selection.sharpe import (
    Haircut,
    Moments,
    deflated_sharpe,
    expected_maximum_sharpe,
    haircut_sharpe,
    min_backtest_length,
    min_track_record,
    moments,
    probabilistic_sharpe,
    sharpes,
)
from ledger_pipeline.sweeps.evaluation import OK

if TYPE_CHECKING:
    from ledger_pipeline.sweeps.sweep import Sweep

CONFIDENCE = 0.95
MOST_TESTED = 500  # candidates of the reality check, evenly taken of more


@dataclass(frozen=True)
class Integrity:
    """What a choice is worth. candidate, id, params: the chosen one; by: the metric it is the best of, None where a
    candidate was named; candidates: whose returns were compared; left_out: that have none; trials, effective: how many
    were tried, and how many different ideas that is; sharpe, expected: annual, of the choice and of the best of as many
    trials without skill; probabilistic, deflated, deflated_effective: probabilities that the true ratio is above 0, and
    above what chance gives the best of all trials, or of the effective ones; track_record, record_needed: returns there
    are, and that are needed for a ratio above 0 with 95 % confidence (None: no number is enough); years,
    years_needed: of the data, and that the trials ask for so that chance does not show a ratio of 1.
    """

    candidate: int
    id: str
    params: Mapping[str, Any]
    by: str | None
    candidates: int
    left_out: int
    trials: int
    effective: EffectiveTrials
    periods_per_year: float
    sharpe: float
    expected: float
    moments: Moments
    probabilistic: float
    deflated: float
    deflated_effective: float
    track_record: int
    record_needed: float | None
    years: float
    years_needed: float
    overfitting: Overfitting
    haircuts: tuple[Haircut, ...]
    reality: RealityCheck | None
    intervals: Intervals | None
    sweep_hash: str
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The numbers in words, never instead of them."""
        best = f"the best of {self.trials:,} trials" if self.by is not None else f"one of {self.trials:,} trials"
        chance = (
            f"{best} ({self.effective.onc:,} effective): a Sharpe ratio of {self.sharpe:.2f}, where chance gives "
            f"{self.expected:.2f} to the best of so many; deflated {self.deflated:.2f}"
        )
        worth = (
            "it is above what chance gives"
            if self.deflated >= CONFIDENCE
            else "it may be above what chance gives, and that is not sure"
            if self.deflated >= 0.5
            else "chance alone explains it"
        )
        over = self.overfitting.pbo
        picking = (
            "picking the best of these candidates hardly overfits"
            if over <= 0.1
            else "picking the best of these candidates overfits at times"
            if over < 0.4
            else "picking the best of these candidates is no better than picking any"
        )
        return f"{chance}: {worth}. Probability of overfitting {over:.2f}: {picking}."

    @property
    def document(self) -> dict[str, Any]:
        """All numbers as JSON, without the series behind them."""
        over = {k: v for k, v in asdict(self.overfitting).items() if not isinstance(v, np.ndarray)}
        values = {k: v for k, v in asdict(self).items() if k != "overfitting"}
        return plain_values({**values, "overfitting": over, "verdict": self.verdict})


def plain_values(value: Any) -> Any:
    """JSON of dataclasses that were made dictionaries: numbers of numpy as Python's, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def traded_returns(sweep: Sweep) -> tuple[pd.DataFrame, int]:
    """The excess returns of the candidates that traded, one column a candidate by its number, and how many candidates
    are left out. InputError where returns were not kept.
    """
    if sweep.keep != "returns":
        raise InputError(
            f"sweep {sweep.name} kept {sweep.keep}: selection integrity needs the returns of its candidates; run it "
            "with keep: returns (--keep returns)."
        )
    frame = sweep.candidates
    numbers = frame.loc[frame["status"] == OK, ["number", "id"]]
    series = sweep.returns
    kept = series[[one for one in numbers["id"]]]
    kept.columns = pd.Index(numbers["number"].to_numpy(), name="candidate")
    kept = kept.dropna(how="all")
    if len(kept.columns) < 2:
        raise InputError(
            f"sweep {sweep.name} has {len(kept.columns)} candidates that traded, and at least 2 are compared."
        )
    return kept.sub(_risk_free(sweep, pd.DatetimeIndex(kept.index)), axis=0), len(frame) - len(numbers)


def _risk_free(sweep: Sweep, times: pd.DatetimeIndex) -> np.ndarray:
    """The risk-free rate of each period."""
    from ledger_pipeline.analytics.metrics import period_rates
    from ledger_pipeline.simulation.measures import risk_free_rates

    given = sweep.plan["identity"]["risk_free"]
    rates = risk_free_rates(sweep.snapshot, given)
    starts = micros(times[:1].append(times[:-1]))  # each period begins with the time before
    return np.broadcast_to(np.asarray(period_rates(rates, periods_a_year(sweep), starts)), (len(times),))


def periods_a_year(sweep: Sweep) -> float:
    """The periods a year by which the candidates of a sweep are annualised."""
    known = sweep.candidates["periods_per_year"].dropna()
    return float(known.iloc[0]) if len(known) else 252.0


def selection_integrity(
    sweep: Sweep,
    candidate: str | int | None = None,
    *,
    by: str = "sharpe",
    trials: int | None = None,
    blocks: int = MOST_BLOCKS,
    draws: int = 1000,
    seed: int = 0,
    tests: bool = True,
) -> Integrity:
    """What a candidate of a sweep with kept returns is worth; the best by `by` where none is named. trials: a number
    that is larger than the register's; blocks: of PBO; draws, seed: of the bootstraps; tests: whether reality check and
    intervals are made, too. InputError where there are no returns, for fewer trials than are registered, and as `pbo`.
    """
    if not hasattr(sweep, "candidates"):
        raise InputError(f"the integrity of a sweep is measured, not of a {type(sweep).__name__}; run one, or see pbo.")
    returns, left_out = traded_returns(sweep)
    registered = sweep.trials
    if trials is not None:
        if isinstance(trials, bool) or not isinstance(trials, int) or trials < registered:
            raise InputError(
                f"trials is {trials!r}; the register counts {registered:,}, and that number can only be raised."
            )
    count = max(trials or registered, len(returns.columns))
    row = sweep.row(candidate) if candidate is not None else _best(sweep, by)
    number = int(row["number"])
    if number not in returns.columns:
        raise InputError(f"candidate {number} of sweep {sweep.name} did not trade, so there is nothing to deflate.")
    notes: list[str] = []
    columns = returns.columns[(returns.std() > 1e-12) & returns.notna().all()]
    if number not in columns:
        raise InputError(f"candidate {number} has a period without a return, or returns that do not vary.")
    dropped = len(returns.columns) - len(columns)
    if dropped:
        notes.append(f"{dropped} candidates have missing or constant returns and are left out")
    returns = returns[columns]
    own = returns[number]
    known = moments(own)
    ratios = sharpes(returns)
    deviation = float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0
    year = periods_a_year(sweep)
    root = math.sqrt(year)
    effective = effective_trials(returns, seed=seed)
    if len(columns) > effective.clustered:
        notes.append(f"effective trials are those of {effective.clustered} candidates, evenly taken")
    deflated = functools.partial(deflated_sharpe, known, deviation=deviation)
    years = len(own) / year
    some = returns
    if tests and len(columns) > MOST_TESTED:
        places = np.unique(np.linspace(0, len(columns) - 1, MOST_TESTED).round().astype(int))
        some = returns[columns[places].union([number])]
        notes.append(f"the reality check is over {some.shape[1]} candidates, evenly taken")
    return Integrity(
        candidate=number,
        id=str(row["id"]),
        params={name: _plain(row[name]) for name in sweep.axes},
        by=None if candidate is not None else by,
        candidates=len(columns),
        left_out=left_out + dropped,
        trials=count,
        effective=effective,
        periods_per_year=year,
        sharpe=known.sharpe * root,
        expected=expected_maximum_sharpe(count, deviation) * root,
        moments=known,
        probabilistic=probabilistic_sharpe(known),
        deflated=deflated(trials=count),
        deflated_effective=deflated(trials=max(effective.onc, 1)),
        track_record=len(own),
        record_needed=min_track_record(known, confidence=CONFIDENCE),
        years=years,
        years_needed=min_backtest_length(count),
        overfitting=pbo(returns, blocks=fitting_blocks(blocks, len(returns))),
        haircuts=tuple(haircut_sharpe(ratios, observations=len(own), chosen=list(columns).index(number), trials=count)),
        reality=reality_check(some, draws=draws, seed=seed) if tests else None,
        intervals=bootstrap_intervals(own, periods_per_year=year, draws=draws, seed=seed) if tests else None,
        sweep_hash=sweep.hash,
        notes=tuple(notes),
    )


def fitting_blocks(asked: int, observations: int) -> int:
    """As many blocks as asked for, fewer where they would have less than four returns."""
    most = observations // 4
    return asked if asked <= most or asked <= 2 else max(most - most % 2, 2)


def _best(sweep: Sweep, by: str) -> pd.Series:
    top = sweep.top(by, len(sweep.candidates))
    traded = top[(top["status"] == OK) & top[by].notna()]
    if not len(traded):
        raise InputError(f"no candidate of sweep {sweep.name} has a {by}.")
    return traded.iloc[0]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
