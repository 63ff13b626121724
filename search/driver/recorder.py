"""From Tune's events to rows in the tables; what is in the tables is done."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from search.config import describe_config
from search.driver.exchange import from_json, running_path, timeout_path, timeout_reason
from search.driver.keeper import ModelKeeper
from search.driver.ledger import Ledger, Run
from search.driver.progress import Progress
from search.driver.searcher import LedgerSearcher
from search.driver.writer import Writer
from search.results.store import ResultStore

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LOST_CHECK_S = 1.0
EPOCHS_FLUSH_S = 30.0
# What a file system says that has no room left, or none for this user.
FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderLostError(Exception):
    """The experiment folder belongs to another driver now."""


class Recorder(Callback):
    """Buffers rows for a moment, has them written as one part, and cleans up behind finished trials."""

    def __init__(
        self,
        experiment: str,
        store: ResultStore,
        ledger: Ledger,
        searcher: LedgerSearcher,
        keeper: ModelKeeper,
        progress: Progress,
        *,
        known_epochs: dict[str, int],
        watch: Callable[[Progress], None],
        lost_by: Callable[[], str | None],
    ) -> None:
        self._experiment = experiment
        self._store = store
        self._ledger = ledger
        self._searcher = searcher
        self._keeper = keeper
        self._progress = progress
        self._last_epoch = known_epochs
        self._watch = watch
        self._lost_by = lost_by
        self._attempts: dict[str, int] = {}
        self._died: dict[str, int] = {}
        self._partial: dict[str, dict[str, Any]] = {}
        self._open_epochs: dict[str, list[dict[str, Any]]] = {}
        self._writer = Writer(store, self._clean_up)
        self._epochs_at = self._asked_at = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Count the attempts of a trial."""
        run = self._searcher.runs[trial.trial_id]
        self._attempts[run.trial_id] = self._attempts.get(run.trial_id, 0) + 1
        self._progress.started(run.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Take an epoch's row, and the trial's at its end."""
        run = self._searcher.runs[trial.trial_id]
        trial_id = run.trial_id
        for row in result.get("epoch_rows", ()):
            self._take_epoch(trial_id, from_json(row))
        if "partial_row" in result:
            self._partial[trial_id] = from_json(result["partial_row"])
        if "trial_row" in result:
            self._end(trial.trial_id, run, from_json(result["trial_row"]))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a trial that the scheduler stopped before its last epoch."""
        run = self._searcher.runs.get(trial.trial_id)
        if run is not None:
            row = self._partial.get(run.trial_id) or describe_config(run.config)
            self._end(trial.trial_id, run, row | {"status": "pruned", "finished_at": datetime.now(UTC)})

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record a trial whose process died more often than it may be retried; one that Tune gives up early runs again.

        Tune handles the death of a process twice where a trial was just to take it over from the one before, and ends
        that trial the second time, whatever number of retries it has left.
        """
        run = self._searcher.runs.get(trial.trial_id)
        if run is None:
            return
        if self._may_run_again(run.trial_id, trial):
            del self._searcher.runs[trial.trial_id]
            self._progress.running.pop(run.trial_id, None)
            self._ledger.put_back(run)
            return
        row = self._partial.get(run.trial_id) or describe_config(run.config)
        row |= {"status": "failed", "error": self._why(trial, run), "finished_at": datetime.now(UTC)}
        self._end(trial.trial_id, run, row)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Propose ahead, write what has gathered, and show progress.

        Raises:
            FolderLostError: If another driver took the folder over: what this one still wrote or deleted there would
                be the other's.
        """
        now = time.monotonic()
        if now - self._asked_at >= LOST_CHECK_S:
            self._asked_at = now
            if (reason := self._lost_by()) is not None:
                self._ledger.stop_reason = reason
                self._writer.abandon()
                raise FolderLostError(reason)
        self._searcher.look_ahead(trials)
        if self._writer.due:
            self._gather(of_running=now - self._epochs_at >= EPOCHS_FLUSH_S)
            with self._stop_on_failure():
                self._writer.flush()
        self._watch(self._progress)

    def close(self) -> None:
        """Write all that is buffered."""
        self._gather(of_running=True)
        with self._stop_on_failure():
            self._writer.close()

    def _gather(self, *, of_running: bool) -> None:
        """Hand the writer all proposals, and with ``of_running`` the epochs of trials that have not ended."""
        self._writer.rows["proposals"] += [run.journal_row(self._experiment) for run in self._ledger.new_runs]
        self._ledger.new_runs.clear()
        if of_running:
            self._writer.rows["epochs"] += [row for rows in self._open_epochs.values() for row in rows]
            self._open_epochs.clear()
            self._epochs_at = time.monotonic()

    @contextmanager
    def _stop_on_failure(self) -> Iterator[None]:
        """End the search where the folder cannot be written. Rows stay buffered."""
        try:
            yield
        except OSError as error:
            self._ledger.stop_reason = f"the results cannot be written: {error}"
            remedy = "make room" if error.errno in FULL else "see to it that they can be"
            self._progress.trouble = f"{self._ledger.stop_reason}; {remedy}"

    def _take_epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        """Buffer an epoch, unless it is known: a trial that goes on from a checkpoint tells all of its epochs."""
        if row["epoch"] <= self._last_epoch.get(trial_id, 0):
            return
        self._last_epoch[trial_id] = row["epoch"]
        rows = self._open_epochs.setdefault(trial_id, [])
        rows.append(row | {"trial_id": trial_id, "experiment": self._experiment})
        self._progress.epoch(trial_id, row["epoch"])

    def _end(self, tune_id: str, run: Run, row: dict[str, Any]) -> None:
        del self._searcher.runs[tune_id]
        trial_id = run.trial_id
        self._partial.pop(trial_id, None)
        self._died.pop(trial_id, None)
        self._last_epoch.pop(trial_id, None)
        self._gather(of_running=False)  # Its proposal is to be in the tables before it.
        self._writer.rows["epochs"] += self._open_epochs.pop(trial_id, [])
        row |= {
            "experiment": self._experiment,
            "number": run.number,
            "repeat": run.repeat,
            "params_json": run.params_json,
            "attempts": max(self._attempts.pop(trial_id, 1), row.get("attempts") or 1),
        }
        for column in (
            "epochs_run",
            "accuracy",
            "accuracy_val",
            "loss",
            "stored_bytes",
            "stored_parameters",
            "latency_ms",
        ):
            row.setdefault(column, None)
        self._writer.rows["trials"].append(row)
        self._ledger.record(run, row)
        self._progress.ended_row(row)

    def _clean_up(self, row: Mapping[str, Any]) -> None:
        """Delete the checkpoint of a trial that is in the tables, and the models that left the frontier."""
        self._store.folder.delete(running_path(row["trial_id"]))
        if row["status"] == "failed":
            self._store.folder.delete(timeout_path(row["trial_id"]))
        self._keeper.take(row)

    def _may_run_again(self, trial_id: str, trial: Trial) -> bool:
        """Whether a trial that Tune has given up has retries left, by the deaths over all of Tune's trials of it.

        A death that was handled twice counts twice: so the first time, the attempts that began decide as well.
        """
        first = trial_id not in self._died
        self._died[trial_id] = self._died.get(trial_id, 0) + trial.num_failures
        began = self._attempts.get(trial_id, 0)
        return self._died[trial_id] <= trial.max_failures or (first and began <= trial.max_failures)

    def _why(self, trial: Trial, run: Run) -> str:
        with suppress(OSError):  # Whether it was out of time is not known then; that its process died is.
            reason = timeout_reason(self._store.folder, run.trial_id)
            if reason is not None:
                return reason
        cause = _cause(_last_error(trial))
        return f"its process died: {cause[:400]}" if cause else "its process died"


def _cause(text: str) -> str:
    """Return in one line what a failure came of: the end of a traceback, or of what Ray knows of a dead process.

    Before it stand names that say nothing to a user, and what is long is cut at its end.
    """
    lines = [line.strip() for line in text.rpartition("Worker exit detail: ")[2].splitlines() if line.strip()]
    return lines[-1] if any(line.startswith('File "') for line in lines) else " ".join(lines)


def _last_error(trial: Trial) -> str:
    """Return what Tune noted of a trial's last failure. Its own accessors look where nothing is copied to."""
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition("Failure #")[2].partition("\n")[2]
