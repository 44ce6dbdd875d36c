"""Whether any of many candidates beats a benchmark when all of them were looked at: bootstrap tests of data snooping.

White's reality check and Hansen's test of superior predictive ability ask whether the best is better than chance allows
the best of so many to be; StepM names the candidates that are; the model confidence set names those that cannot be told
from the best. All of them come from `arch`, with a stationary bootstrap (Politis, Romano 1994) of seeded draws, whose
mean block length is stated: by default that of Politis and White (2004) for the returns, the longest of them.

White: A Reality Check for Data Snooping (2000). Hansen: A Test for Superior Predictive Ability (2005). Romano, Wolf:
Stepwise Multiple Testing (2005). Hansen, Lunde, Nason: The Model Confidence Set (2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.selection.arguments import check_count, check_number
from ledger_pipeline.selection.returns_table import FLAT, returns_table

LARGEST = 200  # candidates of a confidence set, which looks at every pair of them


@dataclass(frozen=True)
class RealityCheck:
    """p-values that no candidate is better than the benchmark. reality_check: White's; spa_lower, spa_consistent,
    spa_upper: Hansen's; better: the candidates that StepM finds better at `size`, by column; best_set: those of the
    model confidence set at `size`, None where there are more than LARGEST candidates; block_length: mean length of the
    blocks; draws: of the bootstrap.
    """

    reality_check: float
    spa_lower: float
    spa_consistent: float
    spa_upper: float
    better: tuple[Any, ...]
    best_set: tuple[Any, ...] | None
    block_length: int
    draws: int
    seed: int
    size: float
    benchmark: str


def reality_check(
    returns: Any,
    *,
    benchmark: Any = None,
    draws: int = 1000,
    block_length: int | None = None,
    seed: int = 0,
    size: float = 0.05,
) -> RealityCheck:
    """Test the candidates against a benchmark's returns of the same periods, or against zero (None).

    returns: as in `pbo`, one candidate or more; draws: at least 100; block_length: mean length of a block, from the
    returns when None; size: of the tests that name candidates. InputError as `returns_table`, and for a benchmark of
    another length.
    """
    from arch.bootstrap import MCS, SPA, StepM

    frame = returns_table(returns, candidates=1, observations=10)
    check_count(draws, "draws", 100)
    check_count(seed, "seed", 0)
    check_number(size, "size")
    if not 0.0 < size < 0.5:
        raise InputError(f"size is {size!r}; give the size of a test, such as 0.05.")
    values = frame.to_numpy()
    against = np.zeros(len(frame)) if benchmark is None else _aligned(benchmark, frame)
    excess = values - against[:, None]
    same = np.flatnonzero(excess.std(axis=0) < FLAT)
    if len(same):
        raise InputError(
            f"candidate {frame.columns[same[0]]} differs from the benchmark by the same at every row, so there is "
            "nothing to test; leave it out."
        )
    length = _block_length(excess) if block_length is None else block_length
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= len(frame) // 2:
        raise InputError(f"block_length is {length!r}; it is from 1 to half of the {len(frame)} returns.")
    options: dict[str, Any] = {"block_size": length, "reps": draws, "bootstrap": "stationary", "seed": seed}
    losses, models = -against, pd.DataFrame(-values, columns=range(frame.shape[1]))
    studentized = SPA(losses, models, studentize=True, **options)
    studentized.compute()
    plain = SPA(losses, models, studentize=False, **options)
    plain.compute()
    step = StepM(losses, models, size=size, **options)
    step.compute()
    chosen = None
    if 2 <= frame.shape[1] <= LARGEST:
        alike = _alike(values)  # candidates that differ by nothing that varies have no variance to test with
        best = [max(group, key=lambda k: values[:, k].mean()) for group in alike]
        if len(best) == 1:
            chosen = tuple(frame.columns[k] for k in alike[0])
        else:
            confidence = MCS(models[best], size=size, **options)
            confidence.compute()
            kept = set(list(confidence.included))
            chosen = tuple(frame.columns[k] for k in sorted(k for group, one in zip(alike, best, strict=True)
                                                            if one in kept for k in group))  # fmt: skip
    return RealityCheck(
        reality_check=float(plain.pvalues["upper"]),
        spa_lower=float(studentized.pvalues["lower"]),
        spa_consistent=float(studentized.pvalues["consistent"]),
        spa_upper=float(studentized.pvalues["upper"]),
        better=tuple(frame.columns[k] for k in list(step.superior_models)),
        best_set=chosen,
        block_length=length,
        draws=draws,
        seed=seed,
        size=size,
        benchmark="zero" if benchmark is None else "benchmark",
    )


def _alike(values: np.ndarray) -> list[list[int]]:
    """Columns in groups whose differences do not vary."""
    groups: list[list[int]] = []
    for k in range(values.shape[1]):
        for group in groups:
            if (values[:, k] - values[:, group[0]]).std() < FLAT:
                group.append(k)
                break
        else:
            groups.append([k])
    return groups


def _aligned(benchmark: Any, frame: pd.DataFrame) -> np.ndarray:
    try:
        series = pd.Series(benchmark).astype(np.float64)
    except (TypeError, ValueError):
        raise InputError("the benchmark must be one series of returns.") from None
    if len(series) != len(frame) or (isinstance(benchmark, pd.Series) and not series.index.equals(frame.index)):
        raise InputError(
            f"the benchmark has {len(series)} returns and the candidates {len(frame)}, or other times: give the "
            "benchmark's returns of the same periods."
        )
    values = series.to_numpy()
    if not np.isfinite(values).all():
        raise InputError("the benchmark has a period without a return; choose a period over which it has prices.")
    return values


def _block_length(excess: np.ndarray) -> int:
    """The longest of the candidates' block lengths for the stationary bootstrap, at most a tenth of the periods."""
    return int(min(max(suggested_block_length(column) for column in excess.T[:LARGEST]), max(len(excess) // 10, 1)))


def suggested_block_length(returns: np.ndarray) -> int:
    """The mean block length of Politis and White (2004, corrected 2009) for these returns, rounded up; at least 1."""
    from arch.bootstrap import optimal_block_length

    length = float(optimal_block_length(returns)["stationary"].iloc[0])
    return max(math.ceil(length), 1) if math.isfinite(length) else 1
