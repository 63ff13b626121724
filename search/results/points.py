"""From trials to points of the accuracy-memory picture: seeds are averaged first, with their uncertainty.

A point is one proposal: what a search proposed once and trained with one or more seeds. Its accuracies are means over
seeds, with Student's 95 % interval, mean +- t(0.975, s - 1) * std / sqrt(s) for s seeds; one seed has no interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import stdtrit

from search.errors import UserError, unknown_name

MEASURES = ("stored_bytes", "stored_parameters", "latency_ms", "flops")
"""What can be traded against accuracy: less is better."""
ACCURACIES = ("accuracy_val", "accuracy")
LABELS = ("experiment", "dataset", "model", "method")
"""Names that all seeds of a point share."""
_DETAILS = ("trial_id", "number", "ratio", "lr", "finished_at")
COLUMNS = ("status", *LABELS, *_DETAILS, *ACCURACIES)
"""Columns of trials that points are made of, beside the measures."""
CONFIDENCE = 0.95
_NEVER = np.iinfo(np.int64).min


def check_measures(measures: Sequence[str]) -> tuple[str, ...]:
    """Return the measures if a frontier can be drawn over them.

    Raises:
        UserError: If one is unknown or given twice, or there are not one to three.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise UserError(unknown_name("measure", measure, MEASURES))
    if not 1 <= len(set(measures)) == len(measures) <= 3:
        raise UserError(f"a frontier takes accuracy and one to three different measures, but got {', '.join(measures)}")
    return tuple(measures)


def points(trials: pa.Table, measures: Sequence[str] = ("stored_bytes",)) -> pa.Table:
    """Return one row a proposal: the mean over its finished seeds.

    Seeds with a missing, infinite or NaN value in an accuracy that the others have, or in a measure, are left out.

    Args:
        trials: Rows of the table trials, with at least ``COLUMNS`` and the measures.
        measures: Columns to make small, of ``MEASURES``.

    Returns:
        The columns ``experiment, dataset, model, method, trial_id`` (of the first seed), ``number, ratio, lr``,
        ``finished_at`` (of the last seed), ``seeds``, each accuracy with its ``_low`` and ``_high`` (null for one
        seed), and the measures.

    Raises:
        UserError: If a measure is unknown.
    """
    measures = check_measures(measures)
    rows = trials.select([*COLUMNS, *measures]).filter(usable(trials, measures)).combine_chunks()
    first, group = _groups(rows)
    seeds = np.bincount(group, minlength=len(first))
    found: dict[str, pa.Array] = {
        name: rows[name].take(first) for name in (*LABELS, "trial_id", "number", "ratio", "lr")
    }
    latest = np.full(len(first), _NEVER)
    np.maximum.at(latest, group, pc.fill_null(rows["finished_at"].cast(pa.int64()), _NEVER).to_numpy())
    found["finished_at"] = pa.array(latest, mask=latest == _NEVER).cast(rows["finished_at"].type)
    found["seeds"] = pa.array(seeds)
    for accuracy in ACCURACIES:
        found |= _interval(accuracy, _floats(rows[accuracy]), group, seeds)
    for measure in measures:
        found[measure] = pa.array(np.bincount(group, _floats(rows[measure]), len(first)) / seeds)
    return pa.table(found)


def usable(trials: pa.Table, measures: Sequence[str]) -> np.ndarray:
    """Return which trials can be drawn: finished, with finite accuracies and measures. Shape ``(trials,)``."""
    keep = pc.equal(trials["status"], "finished").to_numpy()
    for name in (*ACCURACIES, *measures):
        keep &= np.isfinite(_floats(trials[name]))
    return keep


def _groups(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each proposal and, for each row, its proposal's index."""
    key = np.zeros(rows.num_rows, dtype=np.int64)
    for label in LABELS:
        codes = pc.dictionary_encode(rows[label].combine_chunks(), null_encoding="encode")
        key = key * max(len(codes.dictionary), 1) + codes.indices.to_numpy(zero_copy_only=False)
    # A trial without a proposal's number is a proposal of its own.
    number = rows["number"]
    numbers = pc.coalesce(number, pa.array(-1 - np.arange(rows.num_rows))).to_numpy()
    low = numbers.min(initial=0)
    key = key * (numbers.max(initial=0) - low + 1) + (numbers - low)
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return first, group


def _interval(name: str, values: np.ndarray, group: np.ndarray, seeds: np.ndarray) -> dict[str, pa.Array]:
    mean = np.bincount(group, values, len(seeds)) / seeds
    square = np.bincount(group, (values - mean[group]) ** 2, len(seeds))
    several = seeds > 1
    freedom = np.maximum(seeds - 1, 1)
    half = stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(square / freedom / seeds)
    return {
        name: pa.array(mean),
        f"{name}_low": pa.array(mean - half, mask=~several),
        f"{name}_high": pa.array(mean + half, mask=~several),
    }


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
