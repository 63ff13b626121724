"""Trials of one search that share a process and a device, an epoch at a time."""

from __future__ import annotations

from collections.abc import Sequence

from search.training.packed import Pack
from search.training.trainer import EpochReport
from search.trial import Trial


def train_together(trials: Sequence[Trial], pack: Pack) -> list[EpochReport | Exception]:
    """Train one epoch of trials that share data and model spec; return what :meth:`Trial.step` of each would.

    Args:
        trials: Any trials of one search in this process, none of them done. They need not be at the same epoch, and
            may be others in the next call.
        pack: Trains them.

    Returns:
        For each trial its report, or the exception that ends it.
    """
    results: dict[int, EpochReport | Exception] = {}
    for number, trial in enumerate(trials):
        try:
            trial.begin_epoch()
        except Exception as error:
            results[number] = error
    ready = [number for number in range(len(trials)) if number not in results]
    for number, outcome in zip(ready, pack.run_epochs([trials[number].trainer for number in ready]), strict=True):
        results[number] = _ended(trials[number], outcome)
    return [results[number] for number in range(len(trials))]


def _ended(trial: Trial, outcome: EpochReport | Exception) -> EpochReport | Exception:
    """Return what ends a trial's epoch: a method that looks at it may fail, and a copy of the model may not fit."""
    if isinstance(outcome, Exception):
        return outcome
    try:
        return trial.end_epoch(outcome)
    except Exception as error:
        return error
