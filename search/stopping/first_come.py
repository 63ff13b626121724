"""A scheduler of Ray Tune that never stops a trial, and never takes a starting process away from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.tune.schedulers import FIFOScheduler

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class FirstComeScheduler(FIFOScheduler):
    """Runs trials in their order.

    Tune's own FIFO scheduler names the oldest waiting trial again and again. With reused actors that trial is then
    given the next actor that falls free, while the one that was starting for it is killed: trials that are shorter
    than an actor's start (seconds, while it imports torch) all run in the first actor, one at a time.
    """

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """Name none: Tune then starts what waits, and gives free actors to trials that have none coming."""
        return None
