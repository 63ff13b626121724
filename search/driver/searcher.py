"""The ledger as Ray Tune sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from search.driver.ledger import Ledger, Run

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

# One run is ready for so many places. With more, fewer places wait where many end at once, but what is proposed
# builds on fewer results.
PLACES_A_RUN = 4
MOST_AHEAD = 8


class LedgerSearcher(Searcher):
    """Hands runs from the ledger to Tune, at most ``concurrency`` at a time."""

    def __init__(self, ledger: Ledger, concurrency: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._concurrency = concurrency
        self._ahead = min(max(1, concurrency // PLACES_A_RUN), MOST_AHEAD)
        self.runs: dict[str, Run] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Return the next run; None while enough are running, or one that runs might come back; FINISHED at the end."""
        if len(self.runs) >= self._concurrency:
            return None
        run = self._ledger.next()
        if run is None:
            return None if self.runs else Searcher.FINISHED
        self.runs[trial_id] = run
        return {"trial": run.config.model_dump_json()}

    def look_ahead(self, trials: Iterable[Trial]) -> None:
        """Propose one of the next to run while all places are busy, once the trials that were handed out last train.

        The trials are looked through only where there is something to propose: there may be a thousand.
        """
        if self._ledger.has_ready(self._ahead) or len(self.runs) < self._concurrency:
            return
        if all(trial.status == trial.RUNNING for trial in trials if trial.trial_id in self.runs):
            self._ledger.look_ahead(self._ahead)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the recorder tells the ledger, with the whole row."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the tables are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the tables are the state."""
