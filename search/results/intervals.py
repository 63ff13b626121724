"""How sure a difference of two means is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from statistics import fmean

from search.results.points import CONFIDENCE


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float | None]:
    """Return the difference of two means and half of its 95 % interval (Welch, Biometrika 34, 1947).

    Args:
        a: At least one value.
        b: At least one value.

    Returns:
        Mean of a minus mean of b, and half the interval; None where one side has a single value, or all
        of each side are the same: that they agree says that accuracies are counted in steps, not that nothing varies.
    """
    difference = fmean(a) - fmean(b)
    if min(len(a), len(b)) < 2 or len(set(a)) == len(set(b)) == 1:
        return difference, None
    from scipy.stats import ttest_ind  # takes half a second to import

    with warnings.catch_warnings():
        # Seeds that agree to the last digit are no reason to warn whoever reads the table.
        warnings.filterwarnings("ignore", message="Precision loss")
        low, high = ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return difference, float(high - low) / 2
