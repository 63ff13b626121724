"""The frontier: the points that no other point beats in accuracy and in every measure at once.

Points are chosen by validation accuracy and shown with their test accuracy. Choosing by test accuracy would show the
luckiest of many trials and call it their quality; ``on="accuracy"`` does that all the same, for comparison with papers
that do. So the test accuracies along a frontier need not grow with memory: where they fall, that is noise one sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.errors import UserError, unknown_name
from search.results.points import ACCURACIES, LABELS, check_measures

DEFAULT_ACCURACY = "accuracy_val"


def nondominated(accuracy: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Return which points no other point dominates; of equal points the first.

    A point dominates another if it is at least as accurate and in no measure larger, and better in one of them.

    Args:
        accuracy: Made large, shape ``(points,)``, finite.
        measures: Made small, shape ``(points, measures)``, finite.
    """
    if not len(accuracy):
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(np.column_stack([-accuracy, measures]))


def frontier(
    points: pa.Table,
    measures: Sequence[str] = ("stored_bytes",),
    *,
    on: str = DEFAULT_ACCURACY,
    by: Sequence[str] = (),
) -> pa.Table:
    """Return the points on the frontier, by group and then from small to large.

    Args:
        points: From :func:`search.results.points.points`.
        measures: Columns to make small.
        on: The accuracy that decides: ``accuracy_val`` or ``accuracy`` (test).
        by: Labels (``method``, ``model``, ``experiment``, ``dataset``); each combination gets its own frontier. Points
            of several data sets are always kept apart: their accuracies cannot be compared.

    Returns:
        Rows of ``points`` with a further column ``overlaps``: whether the interval of its accuracy overlaps that of a
        neighbour on the frontier, so that seeds do not tell them apart; null where there are no intervals.

    Raises:
        UserError: If a measure, accuracy or label is unknown.
    """
    measures = check_measures(measures)
    if on not in ACCURACIES:
        raise UserError(unknown_name("accuracy", on, ACCURACIES))
    found = [_one_frontier(group, measures, on) for group in groups(points, by)]
    empty = points.schema.append(pa.field("overlaps", pa.bool_())).empty_table()
    return pa.concat_tables([empty, *found])


def groups(points: pa.Table, by: Sequence[str]) -> list[pa.Table]:
    """Return the points split by labels, and always by data set, in the order of their names.

    Raises:
        UserError: If a label is unknown.
    """
    for label in by:
        if label not in LABELS:
            raise UserError(unknown_name("label", label, LABELS))
    labels = list(dict.fromkeys([*by, "dataset"]))
    key = np.zeros(points.num_rows, dtype=np.int64)
    for label in labels:
        codes = pc.rank(points[label].combine_chunks(), tiebreaker="dense").to_numpy()
        key = key * (codes.max(initial=0) + 1) + codes
    found = np.unique(key)
    return [points] if len(found) == 1 else [points.filter(key == value) for value in found]


def _one_frontier(points: pa.Table, measures: Sequence[str], on: str) -> pa.Table:
    values = np.column_stack([points[measure].to_numpy() for measure in measures])
    chosen = points.filter(nondominated(points[on].to_numpy(), values))
    chosen = chosen.sort_by([(measure, "ascending") for measure in measures])
    return chosen.append_column("overlaps", _overlaps(chosen, on))


def _overlaps(chosen: pa.Table, on: str) -> pa.Array:
    low = pc.fill_null(chosen[f"{on}_low"], float("nan")).to_numpy()
    high = pc.fill_null(chosen[f"{on}_high"], float("nan")).to_numpy()
    touches = (low[1:] <= high[:-1]) & (low[:-1] <= high[1:])
    overlaps = np.zeros(len(low), dtype=bool)
    overlaps[1:] |= touches
    overlaps[:-1] |= touches
    return pa.array(overlaps, mask=np.isnan(low))
