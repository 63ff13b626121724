"""A Ray Tune trainable that runs trials one after the other in one process.

The driver imports this module, and must not import torch: what trains is loaded where it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from clusters.placement import limit_gpu_memory
from search.driver.exchange import RunSettings

if TYPE_CHECKING:
    from search.driver.runner import TrialRunner


class TrialActor(tune.Trainable):
    """Reports each epoch of a trial."""

    def setup(  # type: ignore[override]  # with_parameters adds the others
        self, config: dict[str, Any], *, data: list[Any], settings: RunSettings
    ) -> None:
        """Map the shared data, which lies in the object store (a list of one reference), and load what trains."""
        import search.driver.runner  # noqa: F401 - it takes seconds: while other trials run

        self._data = ray.get(data[0])
        self._settings = settings
        limit_gpu_memory(settings.gpus)
        self._runner: TrialRunner | None = None
        self._next: str | None = config["trial"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial into this process. Of one that the scheduler stopped, Tune says nothing else.

        It begins with its first step: what makes this process die before Tune holds it for started, Tune does not count
        as one of the trial's attempts, or counts twice.
        """
        self.cleanup()
        self._next = new_config["trial"]
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        from search.driver.runner import TrialRunner

        if self._next is not None:
            trial, self._next = self._next, None
            self._runner = TrialRunner(trial, self._data, self._settings)
        assert self._runner is not None
        return self._runner.step()

    def cleanup(self) -> None:
        """Let go of the trial: its clock must not end the process of the next, nor its model lie beside that one's."""
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
