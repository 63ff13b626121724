"""MO-ASHA as a scheduler of Ray Tune, whose own schedulers look at one metric."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import TrialScheduler

from search.stopping.first_come import FirstComeScheduler
from search.stopping.moasha import MOASHA

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class MOASHAScheduler(FirstComeScheduler):
    """Starts trials in their order and stops those that MO-ASHA stops.

    Results carry ``epoch_rows``, one JSON object an epoch with ``epoch`` and ``accuracy_val``, and ``memory``; one that
    carries ``trial_row`` is a trial's last and is not judged.
    """

    def __init__(self, moasha: MOASHA, *, name_of: Callable[[Trial], str] = lambda trial: trial.trial_id) -> None:
        """Judge by ``moasha``.

        Args:
            moasha: The rungs, filled with what is already known when a search is resumed.
            name_of: Names a trial the same after a restart.
        """
        super().__init__()
        self._moasha = moasha
        self._name_of = name_of

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's word for what the trial does next."""
        if result.get("trial_row") is not None:
            return TrialScheduler.CONTINUE
        # Each rung by the accuracy at its own epoch: a trial that goes on from a checkpoint tells of several at once.
        epochs = [json.loads(row) for row in result["epoch_rows"]]
        name, memory = self._name_of(trial), result["memory"]
        verdicts = [self._moasha.report(name, epoch["epoch"], epoch["accuracy_val"], memory) for epoch in epochs]
        return TrialScheduler.STOP if "stop" in verdicts else TrialScheduler.CONTINUE
