"""Tune's controller without the trials that have ended."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


def forget_ended(controller: TuneController) -> None:
    """Drop the trials that have ended and hold no process.

    Tune keeps every trial with its last result, statistics of each metric and its storage until the search is over,
    some 35 kB a trial, and writes all of them into a snapshot at the end. Their rows are in the tables already.

    Tune has no public call for it. Where a later version names these attributes otherwise, nothing is dropped, which
    costs memory and nothing else; tests/search/test_api.py says so.
    """
    with contextlib.suppress(AttributeError):
        ended = (controller._stopped_trials | controller._failed_trials) - controller._trial_to_actor.keys()
        snapshots, trials = controller._trial_metadata, controller._trials
        groups = (
            controller._stopped_trials,
            controller._failed_trials,
            controller._live_trials,
            controller._trials_to_cache,
        )
        if not ended:
            return
        for group in groups:
            group.difference_update(ended)
        for trial in ended:
            snapshots.pop(trial.trial_id, None)
        trials[:] = [trial for trial in trials if trial not in ended]
