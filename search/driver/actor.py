"""A Ray Tune trainable that runs trials one after the other in one process."""

from __future__ import annotations

from typing import Any

from ray import tune

from clusters.placement import limit_gpu_memory
from search.data.images import ImageData
from search.driver.runner import RunSettings, TrialRunner


class TrialActor(tune.Trainable):
    """Reports each epoch of a trial."""

    def setup(  # type: ignore[override]  # with_parameters adds the others
        self, config: dict[str, Any], *, data: ImageData, settings: RunSettings
    ) -> None:
        """Take the shared data and begin the first trial."""
        self._data = data
        self._settings = settings
        limit_gpu_memory(settings.gpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self._runner = TrialRunner(new_config["trial"], self._data, self._settings)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        return self._runner.step()

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._runner.stop()
