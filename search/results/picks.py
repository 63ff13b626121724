"""What people ask a frontier: how far apart two methods are, and which point to take."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from search.results.frontier import DEFAULT_ACCURACY, frontier

_GAPS = pa.schema(
    [
        ("better", pa.string()),
        ("worse", pa.string()),
        ("mean_gap", pa.float64()),
        ("min_gap", pa.float64()),
        ("max_gap", pa.float64()),
        ("from_memory", pa.float64()),
        ("to_memory", pa.float64()),
    ]
)


def gaps(
    points: pa.Table, measure: str = "stored_bytes", *, on: str = DEFAULT_ACCURACY, report: str = "accuracy"
) -> pa.Table:
    """Return by how much accuracy each two methods differ at equal memory, largest mean gap first.

    Each method's frontier is joined by straight lines over the logarithm of memory; the gap is taken where both
    have points (not extrapolated), its mean over the logarithm of memory.

    Args:
        points: From :func:`search.results.points.points`, of one data set.
        measure: The memory that is equal.
        on: The accuracy that chooses each method's frontier.
        report: The accuracy that is compared.

    Returns:
        A row for each pair with memories in common: ``better, worse`` (methods), ``mean_gap, min_gap, max_gap``
        (better minus worse, in accuracy) and ``from_memory, to_memory``, the memories they have in common.

    Raises:
        UserError: If the measure or accuracy is unknown.
    """
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    chosen = frontier(points, (measure,), on=on, by=("method",))
    for method in dict.fromkeys(chosen["method"].to_pylist()):
        own = chosen.filter(np.array(chosen["method"].to_pylist(), dtype=object) == method)
        curves[method] = (np.log(own[measure].to_numpy()), own[report].to_numpy())
    rows = [row for a, b in combinations(curves, 2) if (row := _gap(a, b, curves[a], curves[b]))]
    rows.sort(key=lambda row: -row["mean_gap"])
    return pa.Table.from_pylist(rows, schema=_GAPS)


def _gap(
    a: str, b: str, curve_a: tuple[np.ndarray, np.ndarray], curve_b: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any] | None:
    low, high = max(curve_a[0][0], curve_b[0][0]), min(curve_a[0][-1], curve_b[0][-1])
    if low > high:
        return None
    # Both curves are straight between these places, so that the trapezoids are exact.
    where = np.unique(np.concatenate([curve_a[0], curve_b[0], [low, high]]))
    where = where[(where >= low) & (where <= high)]
    gap = np.interp(where, *curve_a) - np.interp(where, *curve_b)
    mean = np.trapezoid(gap, where) / (high - low) if high > low else gap[0]
    if mean < 0:
        a, b, gap, mean = b, a, -gap, -mean
    values = (a, b, float(mean), float(gap.min()), float(gap.max()), float(np.exp(low)), float(np.exp(high)))
    return dict(zip(_GAPS.names, values, strict=True))


def best_within(
    points: pa.Table, limit: float, measure: str = "stored_bytes", *, on: str = DEFAULT_ACCURACY
) -> int | None:
    """Return the row of the most accurate point with ``measure <= limit``, of equal ones the smallest; None if none."""
    memory, accuracy = points[measure].to_numpy(), points[on].to_numpy()
    fits = np.flatnonzero(memory <= limit)
    return int(fits[np.lexsort((memory[fits], -accuracy[fits]))[0]]) if len(fits) else None


def smallest_above(
    points: pa.Table, accuracy: float, measure: str = "stored_bytes", *, on: str = DEFAULT_ACCURACY
) -> int | None:
    """Return the row of the smallest point at least as accurate, of equal ones the most accurate; None if none."""
    memory, accuracies = points[measure].to_numpy(), points[on].to_numpy()
    # What is a point below another is that in images, whatever the difference of two shares is rounded to.
    fits = np.flatnonzero(accuracies >= accuracy - 1e-12)
    return int(fits[np.lexsort((-accuracies[fits], memory[fits]))[0]]) if len(fits) else None


def dense_accuracy(points: pa.Table, *, on: str = DEFAULT_ACCURACY) -> float | None:
    """Return the accuracy of the uncompressed model (the best, if several were trained), or None if none was."""
    dense = points.filter(np.array(points["method"].to_pylist(), dtype=object) == "dense")
    return float(dense[on].to_numpy().max()) if dense.num_rows else None


def knee(chosen: pa.Table, measure: str = "stored_bytes", *, on: str = DEFAULT_ACCURACY) -> int | None:
    """Return the row of the knee of a frontier: where more memory begins to bring little.

    That is the point farthest above the line between the ends, with accuracy and the logarithm of memory both scaled
    to [0, 1] (the Kneedle criterion, Satopaa et al. 2011). None where no point lies above it.

    Args:
        chosen: One frontier over ``measure``, from small to large.
        measure: The memory.
        on: The accuracy.
    """
    if chosen.num_rows < 3:
        return None
    memory, accuracy = np.log(chosen[measure].to_numpy()), chosen[on].to_numpy()
    across = (memory - memory[0]) / (memory[-1] - memory[0])
    up = (accuracy - accuracy[0]) / (accuracy[-1] - accuracy[0])
    above = up - across
    above[[0, -1]] = 0.0  # Exactly: the ends lie on the line.
    return int(np.argmax(above)) if above.max() > 0 else None
