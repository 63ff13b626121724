"""How good a frontier is as one number, and how that number grew over the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import moocore
import numpy as np
import pyarrow as pa

from search.results.frontier import DEFAULT_ACCURACY, nondominated
from search.results.points import check_measures

STEPS = 256


def hypervolume(
    points: pa.Table,
    reference: Mapping[str, float],
    measures: Sequence[str] = ("stored_bytes",),
    *,
    on: str = DEFAULT_ACCURACY,
) -> float:
    """Return the share of the reference box that the points dominate, 0 to 1.

    The box lies between the reference point and perfection (accuracy 1 and 0 in every measure); what a point dominates
    is everything less accurate and larger than it. Axes are linear. The share is the usual hypervolume divided by
    ``(1 - reference accuracy) * product of the reference measures``.

    Args:
        points: From :func:`search.results.points.points`, of one data set.
        reference: The reference point: ``accuracy`` and each measure.
        measures: Columns to make small.
        on: The accuracy that counts.

    Raises:
        UserError: If a measure is unknown.
        ValueError: If the reference lacks a value, or one is out of range.
    """
    measures = check_measures(measures)
    scaled = _scaled(points, reference, measures, on)
    return _share(scaled)


def history(
    points: pa.Table,
    reference: Mapping[str, float],
    measures: Sequence[str] = ("stored_bytes",),
    *,
    on: str = DEFAULT_ACCURACY,
    steps: int = STEPS,
) -> pa.Table:
    """Return how the hypervolume grew, in the order in which the points were finished.

    A point counts from the moment its last seed was finished.

    Args:
        points: As for :func:`hypervolume`.
        reference: As for :func:`hypervolume`.
        measures: As for :func:`hypervolume`.
        on: As for :func:`hypervolume`.
        steps: At most this many moments, evenly spaced; all of them where there are fewer points.

    Returns:
        The columns ``finished_at``, ``points`` (finished until then) and ``hypervolume``.

    Raises:
        UserError: If a measure is unknown.
        ValueError: If the reference lacks a value, or one is out of range.
    """
    measures = check_measures(measures)
    ordered = points.sort_by("finished_at")
    scaled = _scaled(ordered, reference, measures, on)
    ends = np.unique(np.linspace(0, len(scaled), min(steps, len(scaled)) + 1).astype(int)[1:])
    best, start, shares = scaled[:0], 0, []
    for end in ends:
        best = np.vstack([best, scaled[start:end]])
        best = best[nondominated(-best[:, 0], best[:, 1:])]
        shares.append(_share(best))
        start = end
    moments = ordered["finished_at"].take(ends - 1)
    return pa.table({"finished_at": moments, "points": ends, "hypervolume": np.array(shares, dtype=float)})


def _scaled(points: pa.Table, reference: Mapping[str, float], measures: Sequence[str], on: str) -> np.ndarray:
    """Return what is made small, scaled so that perfection is 0 and the reference 1: shape ``(points, objectives)``."""
    missing = [name for name in ("accuracy", *measures) if name not in reference]
    if missing:
        raise ValueError(f"the reference point must have {', '.join(missing)}, but has {', '.join(reference)}")
    if not 0 <= reference["accuracy"] < 1:
        raise ValueError(f"0 <= reference accuracy < 1 must hold, but got {reference['accuracy']}")
    if any(not reference[measure] > 0 for measure in measures):
        raise ValueError(f"the reference measures must be above 0, but got {dict(reference)}")
    lost = (1 - points[on].to_numpy()) / (1 - reference["accuracy"])
    return np.column_stack([lost, *(points[measure].to_numpy() / reference[measure] for measure in measures)])


def _share(scaled: np.ndarray) -> float:
    inside = scaled[np.all(scaled < 1, axis=1)]
    return float(moocore.hypervolume(inside, ref=np.ones(scaled.shape[1]))) if len(inside) else 0.0
