"""A scheduler of Ray Tune that never stops a trial, never takes a starting process away from one, and forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.tune.schedulers import FIFOScheduler

from search.stopping.forgetting import forget_ended

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TrialRunnerWrapper
    from ray.tune.experiment import Trial


class FirstComeScheduler(FIFOScheduler):
    """Runs trials in their order.

    Tune's own FIFO scheduler names the oldest waiting trial again and again. With reused actors that trial is then
    given the next actor that falls free, while the one that was starting for it is killed: trials that are shorter
    than an actor's start (seconds, while it imports torch) all run in the first actor, one at a time.
    """

    def choose_trial_to_run(self, tune_controller: TrialRunnerWrapper) -> Trial | None:  # type: ignore[override]
        """Name none: Tune then starts what waits, and gives free actors to trials that have none coming.

        Tune asks between two events, when nothing looks at a trial that has ended.
        """
        forget_ended(tune_controller._tune_controller)
        return None
