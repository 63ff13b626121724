"""MO-ASHA as a scheduler of Ray Tune, whose own schedulers look at one metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ray.tune.schedulers import TrialScheduler

from search.stopping.first_come import FirstComeScheduler
from search.stopping.moasha import MOASHA

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Seed(NamedTuple):
    """A trial as one of the seeds of its proposal.

    Attributes:
        name: The trial's name, the same after a restart.
        number: Number of the proposal.
        judged: Whether its proposal is judged by this one.
        known: Last epoch by which it was judged before a restart.
    """

    name: str
    number: int
    judged: bool
    known: int = 0


class MOASHAScheduler(FirstComeScheduler):
    """Starts trials in their order and stops those that MO-ASHA stops.

    A proposal is judged by the first of its seeds that has not failed, and all of them end with it: judged one by one,
    the lucky ones would go on, and their mean would tell of luck. Trials that train in several rounds (lottery
    tickets) are not judged: until the last round their accuracy is not that of the model whose memory they state.
    A trial that was judged before a restart fills its rungs with what it tells again, and goes on: ranked among those
    that came since, it could end at a rung that it had passed.

    Results carry ``epoch_rows``, one JSON object an epoch with ``epoch`` and ``accuracy_val``, ``memory`` and
    ``rounds``. A trial's last result says that it is ``done``; Tune asks nothing of that, and tells only its end.
    """

    def __init__(self, moasha: MOASHA, *, seed_of: Callable[[Trial], Seed | None], stopped: Iterable[int] = ()) -> None:
        """Judge by ``moasha``.

        Args:
            moasha: The rungs, filled with what is already known when a search is resumed.
            seed_of: Tells which seed of which proposal a trial is; None lets it go on.
            stopped: Proposals that were stopped before.
        """
        super().__init__()
        self._moasha = moasha
        self._seed_of = seed_of
        self._stopped = set(stopped)
        # By Tune's name of a seed that is not judged, which may be once the one before it fails: epochs, accuracies.
        self._waiting: dict[str, list[tuple[int, float]]] = {}

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's word for what the trial does next."""
        seed = self._seed_of(trial)
        if seed is None or result["rounds"] > 1:
            return TrialScheduler.CONTINUE
        # Each rung by the accuracy at its own epoch: a trial that goes on from a checkpoint tells of several.
        rows = map(json.loads, result["epoch_rows"])
        epochs = self._waiting.pop(trial.trial_id, []) + [(row["epoch"], row["accuracy_val"]) for row in rows]
        if seed.judged:
            for epoch, accuracy in epochs:
                verdict = self._moasha.report(seed.name, epoch, accuracy, result["memory"])
                if verdict == "stop" and epoch > seed.known:
                    self._stopped.add(seed.number)
        elif seed.number not in self._stopped:
            self._waiting[trial.trial_id] = epochs
        return TrialScheduler.STOP if seed.number in self._stopped else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Forget a trial that has ended, whether by itself or stopped."""
        self._waiting.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Forget a trial whose process died: where it runs again, it tells all of its epochs again."""
        self._waiting.pop(trial.trial_id, None)
