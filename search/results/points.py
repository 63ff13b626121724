"""From trials to points of the accuracy-memory picture: seeds are averaged first, with their uncertainty.

A point is one proposal: what one search proposed once and trained with one or more seeds. Its accuracies are means over
seeds, with Student's 95 % interval, mean +- t(0.975, s - 1) * std / sqrt(s) for s seeds, as far as it lies in [0, 1];
neither one seed has an interval nor seeds that agree.
Two folders hold two searches, whatever their experiments are called: proposal 3 of one is not proposal 3 of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import stdtrit

from search.errors import UserError, unknown_name
from search.results.merged import FOLDER, read_all
from search.results.same_data import tell_apart
from search.results.schema import TABLES
from search.results.store import ResultStore

MEASURES = ("stored_bytes", "stored_parameters", "latency_ms", "flops")
"""What can be traded against accuracy: less is better."""
ACCURACIES = ("accuracy_val", "accuracy")
LABELS = ("experiment", "dataset", "model", "method")
"""Names that all seeds of a point share."""
_DETAILS = ("trial_id", "number", "ratio", "lr", "finished_at")
COLUMNS = ("status", *LABELS, *_DETAILS, *ACCURACIES)
"""Columns of trials that points are made of, beside the measures."""
FEW_VALUES = ("status", *LABELS)
"""Those with few different values: read them dictionary-encoded where there are many trials."""
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


def drawable(
    stores: Sequence[ResultStore], measures: Sequence[str] = ("stored_bytes",), *, further: Sequence[str] = ()
) -> pa.Table:
    """Return what :func:`points` needs of the trials of some experiments, in ``FOLDER`` whose each row is, and more.

    Where they used different parts of a data set, or prepared it differently, its name says so.

    Raises:
        UserError: If a measure is unknown, or a part was written by a later version.
    """
    columns = [*COLUMNS, *check_measures(measures), *further]
    trials = read_all(stores, "trials", columns, dictionary=FEW_VALUES, folder=True)
    return tell_apart(trials, stores) if len(stores) > 1 else trials


def points(trials: pa.Table, measures: Sequence[str] = ("stored_bytes",)) -> pa.Table:
    """Return one row a proposal: the mean over its finished seeds.

    Seeds with a missing, infinite or NaN accuracy or measure, or a measure that is not above 0, are left out.

    Args:
        trials: Rows of the table trials, with at least ``COLUMNS`` and the measures; from several folders with the
            column ``FOLDER`` too, as :func:`drawable` returns them.
        measures: Columns to make small, of ``MEASURES``.

    Returns:
        The columns ``experiment, dataset, model, method, trial_id`` (of the first seed), ``number, ratio, lr``,
        ``finished_at`` (of the last seed), ``seeds``, each accuracy with its ``_low`` and ``_high`` (null for one
        seed), and the measures.

    Raises:
        UserError: If a measure is unknown.
    """
    measures = check_measures(measures)
    keep, first, group = members(trials, measures)
    seeds = np.bincount(group, minlength=len(first))
    named = trials.select([*LABELS, "trial_id", "number", "ratio", "lr"]).take(keep[first])
    found = {name: named[name].cast(TABLES["trials"].field(name).type) for name in named.column_names}
    latest = np.full(len(first), _NEVER)
    np.maximum.at(latest, group, pc.fill_null(trials["finished_at"].cast(pa.int64()), _NEVER).to_numpy()[keep])
    found["finished_at"] = pa.array(latest, mask=latest == _NEVER).cast(trials["finished_at"].type)
    found["seeds"] = pa.array(seeds)
    for accuracy in ACCURACIES:
        found |= _interval(accuracy, _floats(trials[accuracy])[keep], group, seeds)
    for measure in measures:
        found[measure] = pa.array(np.bincount(group, _floats(trials[measure])[keep], len(first)) / seeds)
    return pa.table(found)


def members(trials: pa.Table, measures: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which rows of the trials are drawn and, among these, the first of each point and each one's point."""
    keep = np.flatnonzero(usable(trials, measures))
    return keep, *_groups(trials, keep)


def usable(trials: pa.Table, measures: Sequence[str]) -> np.ndarray:
    """Return which trials can be drawn: finished, with finite accuracies and measures above 0. Shape ``(trials,)``."""
    keep = pc.equal(trials["status"], "finished").to_numpy()
    for name in (*ACCURACIES, *measures):
        values = _floats(trials[name])
        keep &= np.isfinite(values)
        if name in measures:
            # Memory is drawn and compared on a logarithmic axis.
            keep &= values > 0
    return keep


def _groups(trials: pa.Table, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, among the rows to keep, the first of each proposal and, for each row, its proposal's index."""
    key = np.zeros(len(keep), dtype=np.int64)
    for label in (*LABELS, *({FOLDER} & {*trials.column_names})):
        codes = pc.dictionary_encode(trials[label]).combine_chunks()
        names = len(codes.dictionary)
        key = key * (names + 1) + pc.fill_null(codes.indices, names).to_numpy()[keep]
    # A trial without a proposal's number is a proposal of its own.
    numbers = pc.fill_null(trials["number"], 0).to_numpy()[keep]
    numbers = np.where(pc.is_null(trials["number"]).to_numpy()[keep], -1 - keep, numbers)
    low = numbers.min(initial=0)
    return _first_and_inverse(key * (numbers.max(initial=0) - low + 1) + (numbers - low))


def _first_and_inverse(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``np.unique`` does, without sorting where the keys lie close together."""
    span = int(key.max(initial=-1)) + 1
    if span > 8 * len(key):
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        return first, group
    at = np.full(span, -1)
    at[key[::-1]] = np.arange(len(key))[::-1]  # of equal keys the first is written last
    present = at >= 0
    return at[present], (np.cumsum(present) - 1)[key]


def _interval(name: str, values: np.ndarray, group: np.ndarray, seeds: np.ndarray) -> dict[str, pa.Array]:
    mean = np.bincount(group, values, len(seeds)) / seeds
    square = np.bincount(group, (values - mean[group]) ** 2, len(seeds))
    # That seeds agree says that accuracies are counted in steps, not that nothing varies; means of equals are rounded.
    several = (seeds > 1) & (square > 1e-20)
    freedom = np.maximum(seeds - 1, 1)
    half = stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(square / freedom / seeds)
    return {
        name: pa.array(mean),
        # An accuracy lies in [0, 1], whatever Student's distribution makes of two seeds that differ.
        f"{name}_low": pa.array(np.maximum(mean - half, 0.0), mask=~several),
        f"{name}_high": pa.array(np.minimum(mean + half, 1.0), mask=~several),
    }


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    # Not safe: of numbers above 2 ** 53 a rounded one is drawn.
    return pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy()
