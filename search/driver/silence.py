"""No messages of Ray Tune's: the live view says how far the search is."""

from __future__ import annotations

from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback


class Silence(TrialProgressCallback):
    """Stands in for the callback that Tune adds by itself, which keeps every trial of the search in memory."""

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        """Say nothing."""

    def log_result(self, *arguments: Any, **named: Any) -> None:
        """Say nothing of a result or a failure."""
