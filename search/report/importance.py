"""Which of the searched values decide the accuracy: permutation importance on a random forest.

Each held-out value is shuffled in turn; what the forest's R^2 loses is that value's importance (Breiman, 2001). It says
what went with accuracy among the trials that ran, not what causes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 20
"""Fewer proposals than this are not asked: a forest learns nothing from them that holds."""
MOST = 1_000
"""More proposals than this are sampled."""
SPLITS = 5
_HELD_OUT = 0.3
_SHUFFLES = 3
_TREES = 30
_WEAK_R2 = 0.3


@dataclass(frozen=True)
class Importance:
    """Importance of one searched value."""

    name: str
    value: float
    """What R^2 on held-out proposals loses when it is shuffled, mean over the splits."""
    spread: float
    """Standard deviation of that over the splits."""


@dataclass(frozen=True)
class Importances:
    """What was searched, most important first, and how far to trust the order."""

    rows: list[Importance]
    r2: float
    """R^2 of the forest on held-out proposals, mean over the splits; 1 explains everything, 0 nothing."""
    proposals: int

    @property
    def caution(self) -> str | None:
        """A sentence where the order is uncertain, else None."""
        if self.r2 <= 0:
            return "It predicts them no better than their mean does: these proposals do not say what mattered."
        if self.r2 < _WEAK_R2:
            return f"It explains only {self.r2:.0%} of the variance: the order below may be chance."
        close = [a.name for a, b in zip(self.rows, self.rows[1:], strict=False) if a.value - b.value < a.spread]
        return "Bars that overlap within their whiskers have no certain order." if close else None


def importances(
    columns: Mapping[str, Sequence[float | str | None]], accuracy: Sequence[float], *, seed: int = 0
) -> Importances | None:
    """Return the importance of each column, or None where there is too little to learn from.

    Args:
        columns: What was searched, one value a proposal; numbers (logarithms where the search was logarithmic) or
            names. Columns with one value only are left out; missing numbers count as the column's median.
        accuracy: Validation accuracy of each proposal, 0 to 1.
        seed: Seed of the splits, the forests and the shuffles.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import ShuffleSplit

    encoded = {name: _numbers(values) for name, values in columns.items()}
    varied = {name: values for name, values in encoded.items() if np.unique(values).size > 1}
    target = np.asarray(accuracy, dtype=float)
    if len(target) < FEWEST or not varied or np.ptp(target) == 0:
        return None
    features = np.column_stack(list(varied.values()))
    if len(target) > MOST:
        chosen = np.random.default_rng(seed).choice(len(target), MOST, replace=False)
        features, target = features[chosen], target[chosen]
    lost, scores = [], []
    for split, (train, test) in enumerate(ShuffleSplit(SPLITS, test_size=_HELD_OUT, random_state=seed).split(features)):
        forest = RandomForestRegressor(
            _TREES, min_samples_leaf=2, max_features=0.7, random_state=seed + split, n_jobs=1
        )
        forest.fit(features[train], target[train])
        scores.append(forest.score(features[test], target[test]))
        lost.append(
            permutation_importance(
                forest, features[test], target[test], n_repeats=_SHUFFLES, random_state=seed + split
            ).importances_mean
        )
    means, spreads = np.mean(lost, axis=0), np.std(lost, axis=0, ddof=1)
    rows = [Importance(name, float(m), float(s)) for name, m, s in zip(varied, means, spreads, strict=True)]
    rows.sort(key=lambda row: -row.value)
    return Importances(rows, float(np.mean(scores)), len(target))


def _numbers(values: Sequence[float | str | None]) -> np.ndarray:
    """Return a column as numbers: names by their rank among the names, missing numbers as the median."""
    if any(isinstance(value, str) for value in values):
        rank = {name: index for index, name in enumerate(sorted({str(value) for value in values}))}
        return np.array([rank[str(value)] for value in values], dtype=float)
    column = np.array([np.nan if value is None else value for value in values], dtype=float)
    known = column[np.isfinite(column)]
    return np.where(np.isfinite(column), column, np.median(known) if known.size else 0.0)
