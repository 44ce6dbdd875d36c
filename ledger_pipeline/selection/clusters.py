"""How many different ideas many candidates are: the effective number of trials, by clusters of their returns.

Two answers, both shown: hierarchical clusters on 1 - correlation (average linkage), cut where candidates correlate by
less than CUT; and ONC, the optimal number of clusters of k-means on the distance sqrt((1 - correlation) / 2), chosen by
the quality of the silhouettes (mean / standard deviation), the weaker clusters tried again on their own.

Lopez de Prado, Lewis: Detection of False Investment Strategies Using Unsupervised Learning Methods (2019).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger_pipeline.selection.arguments import check_count
from ledger_pipeline.selection.returns_table import returns_table

CUT = 0.5  # candidates that correlate by more are one idea
LARGEST = 400  # candidates that are clustered; of more, as many are taken evenly
_RESTARTS = 4  # of k-means for each number of clusters
_MOST = 40  # clusters that are tried


@dataclass(frozen=True)
class EffectiveTrials:
    """Clusters of candidates. hierarchical, onc: how many there are by each way; clustered: how many candidates were
    looked at; mean_correlation: between them, pairwise.
    """

    hierarchical: int
    onc: int
    clustered: int
    mean_correlation: float


def effective_trials(returns: Any, *, seed: int = 0) -> EffectiveTrials:
    """The effective number of trials of candidates, returns as in `pbo`. InputError as `returns_table`."""
    check_count(seed, "seed", 0)
    values = returns_table(returns).to_numpy()
    if values.shape[1] > LARGEST:
        values = values[:, np.unique(np.linspace(0, values.shape[1] - 1, LARGEST).round().astype(int))]
    correlation = np.clip(np.corrcoef(values, rowvar=False), -1.0, 1.0)
    n = len(correlation)
    off = correlation[~np.eye(n, dtype=bool)]
    return EffectiveTrials(_hierarchical(correlation), _onc(correlation, seed), n, float(off.mean()))


def _hierarchical(correlation: np.ndarray) -> int:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    apart = 1.0 - correlation
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform((apart + apart.T) / 2.0, checks=False), method="average")
    return int(fcluster(tree, 1.0 - CUT, criterion="distance").max())


def _onc(correlation: np.ndarray, seed: int) -> int:
    return len(_clusters(correlation, np.arange(len(correlation)), seed))


def _clusters(correlation: np.ndarray, members: np.ndarray, seed: int) -> list[np.ndarray]:
    """Clusters of these members; those whose quality is below the mean are divided again, and that is kept where it is
    better.
    """
    parts, quality = _base(correlation[np.ix_(members, members)], seed)
    parts = [members[part] for part in parts]
    if len(parts) <= 1:
        return parts
    weak = [k for k in range(len(parts)) if quality[k] < np.mean(quality)]
    if len(weak) <= 1:
        return parts
    again = _clusters(correlation, np.concatenate([parts[k] for k in weak]), seed)
    new = [*(part for k, part in enumerate(parts) if k not in weak), *again]
    before = float(np.mean([quality[k] for k in weak]))
    after = _qualities(correlation, new)
    later = float(np.mean(after[len(parts) - len(weak) :]))
    return new if later > before else parts


def _base(correlation: np.ndarray, seed: int) -> tuple[list[np.ndarray], list[float]]:
    """The best k-means clusters over numbers of clusters and restarts, and the quality of each."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_samples

    n = len(correlation)
    if n < 3:
        return [np.arange(n)], [0.0]
    distance = np.sqrt(np.maximum(0.5 * (1.0 - correlation), 0.0))
    np.fill_diagonal(distance, 0.0)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for clusters in range(2, min(n - 1, _MOST) + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct candidates than clusters
            labels = KMeans(clusters, n_init=_RESTARTS, random_state=seed).fit_predict(distance)
        if len(np.unique(labels)) < 2:
            continue
        silhouettes = silhouette_samples(_between_rows(distance), labels, metric="precomputed")
        spread = silhouettes.std()
        score = float(silhouettes.mean() / spread) if spread > 0 else float(silhouettes.mean()) * 1e9
        if best is None or score > best[0]:
            best = score, labels, silhouettes
    if best is None or best[0] <= 0:
        return [np.arange(n)], [0.0]
    _, labels, silhouettes = best
    parts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return parts, [_ratio(silhouettes[part]) for part in parts]


def _qualities(correlation: np.ndarray, parts: list[np.ndarray]) -> list[float]:
    """The quality of each of some clusters among one another: mean / deviation of its silhouettes."""
    from sklearn.metrics import silhouette_samples

    members = np.concatenate(parts)
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    if len(parts) < 2 or len(parts) >= len(members):
        return [0.0] * len(parts)
    distance = np.sqrt(np.maximum(0.5 * (1.0 - correlation[np.ix_(members, members)]), 0.0))
    silhouettes = silhouette_samples(_between_rows(distance), labels, metric="precomputed")
    return [_ratio(silhouettes[labels == k]) for k in range(len(parts))]


def _between_rows(distance: np.ndarray) -> np.ndarray:
    """Euclidean distances between the rows of a matrix of distances, which is what k-means goes by."""
    from scipy.spatial.distance import cdist

    apart = cdist(distance, distance)
    np.fill_diagonal(apart, 0.0)
    return apart


def _ratio(values: np.ndarray) -> float:
    spread = float(values.std())
    return float(values.mean()) / spread if spread > 0 else float(values.mean())
