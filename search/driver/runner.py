"""One trial as the driver sees it: an epoch in, a result out; checkpoints, time limit and failures in between."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from search.config import TrialConfig, describe_config
from search.data.images import ImageData
from search.driver.exchange import (
    RunSettings,
    model_path,
    running_path,
    timeout_path,
    timeout_reason,
    to_json,
    too_long,
)
from search.errors import UserError, called_exit
from search.training.checkpoint import CheckpointError
from search.training.engine import out_of_memory
from search.training.trainer import DivergedError, EpochReport
from search.trial import Trial, TrialResult, threads_for

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Times its limit after which a trial counts as one that hangs, where its process is that of others, too.
PATIENCE_WITH_OTHERS = 2.0
# Pauses before the storage is asked again where it failed: for what a trial goes on from, and to keep its model.
RETRY_AFTER_S = (0.5, 2.0)
# The longest that a process that is out of time waits until its word of that is written.
NOTE_TAKES_S = 30.0


class TrialRunner:
    """Runs one trial; writes its checkpoints itself, so that nothing depends on Tune's own state.

    Args:
        config: The trial, as JSON.
        data: The images.
        settings: What all trials of the search share.
        beside: The runner of another trial in this process, whose images on the device this one reads too.
        shared: Whether other trials run in this process, which dies where this one hangs: it has twice its time before
            that, so that one which only takes too long ends alone, after its epoch.
    """

    def __init__(
        self,
        config: str,
        data: ImageData,
        settings: RunSettings,
        *,
        beside: TrialRunner | None = None,
        shared: bool = False,
    ) -> None:
        self._data = data
        self._settings = settings
        self._trial: Trial | None = None
        self._config = TrialConfig.model_validate_json(config)
        self._began_at = datetime.now(UTC)
        self._saved_at = self._began_s = time.monotonic()
        self._watchdog = self._watch(PATIENCE_WITH_OTHERS if shared else 1.0)
        self._error: str | None = None
        self._reported = 0
        try:
            self._trial = self._begin(beside.ready if beside else None)
        except Exception as error:  # Kept for the first step to report.
            self._error = explain(error)
        except SystemExit as end:
            if not shared:  # Ray ends a process in this way, too.
                raise
            self._error = called_exit(end)

    @property
    def ready(self) -> Trial | None:
        """The trial, if it has an epoch to train."""
        return None if self._trial is None or self._trial.done else self._trial

    def step(self) -> dict[str, Any]:
        """Train an epoch, or several short ones, and return the result.

        Whatever goes wrong in a trial ends that trial, not the process.
        """
        if (owed := self.owed()) is not None:
            return owed
        trial = self.ready
        if trial is None:
            return self.end()
        began = time.monotonic()
        try:
            outcome = self.kept(trial.step())
            while not self.must_report(outcome) and time.monotonic() - began < self._settings.report_every_s:
                outcome = self.kept(trial.step())
        except Exception as error:
            outcome = error
        return self.after(outcome)

    def owed(self) -> dict[str, Any] | None:
        """Return what a trial that goes on from its checkpoint had reached, if early stopping judges by that.

        It trains on after that only: whether the driver had heard of it is not known here.
        """
        trial = self._trial
        if trial is None or not any(self._reported < epoch <= len(trial.history) for epoch in self._settings.report_at):
            return None
        return self._reached(trial) | {"partial_row": to_json(trial.partial_row())}

    def kept(self, outcome: EpochReport | Exception) -> EpochReport | Exception:
        """Write a checkpoint after an epoch, if it is time to; return the outcome, or why it is late or failed."""
        trial = self.ready
        if trial is None or isinstance(outcome, Exception):
            return outcome
        limit = self._settings.time_limit_s
        if limit is not None and time.monotonic() - self._began_s > limit:
            return TimeoutError(too_long(f"{limit:g}"))
        if time.monotonic() - self._saved_at >= self._settings.checkpoint_every_s:
            try:
                self._write(running_path(trial.config.trial_id), trial.checkpoint())
            except Exception as error:
                return error
            self._saved_at = time.monotonic()
        return outcome

    def must_report(self, outcome: EpochReport | Exception) -> bool:
        """Whether the driver must hear of an outcome before the trial goes on, or there is nothing to go on with."""
        if self.ready is None or isinstance(outcome, Exception):
            return True
        return any(self._reported < epoch <= outcome.epoch for epoch in self._settings.report_at)

    def after(self, outcome: EpochReport | Exception) -> dict[str, Any]:
        """Return the result of an epoch that was trained, or failed."""
        assert self._trial is not None
        if isinstance(outcome, Exception):
            logger.debug("trial failed", exc_info=outcome)
            return self._failed(explain(outcome))
        try:
            return self._epoch(self._trial)
        except Exception as error:
            logger.debug("trial failed", exc_info=True)
            return self._failed(explain(error))

    def end(self) -> dict[str, Any]:
        """Return the result of a trial that is not :attr:`ready`: it could not begin, or has no epoch left.

        The latter is where the process died between the last checkpoint and the end.
        """
        if self._trial is None:
            return self._failed(self._error or "")
        try:
            return self._finished(self._trial.finish())
        except Exception as error:
            logger.debug("trial failed", exc_info=True)
            return self._failed(explain(error))

    def stop(self) -> None:
        """Let go of the trial."""
        self._watchdog.cancel()
        self._trial = None

    def _epoch(self, trial: Trial) -> dict[str, Any]:
        # The end first: where it fails, the epochs are told with that.
        end = self._finished(trial.finish()) if trial.done else {"partial_row": to_json(trial.partial_row())}
        return self._reached(trial) | end

    def _reached(self, trial: Trial) -> dict[str, Any]:
        """Return what a trial has to tell after its last epoch."""
        return {
            "epoch": trial.history[-1].epoch,
            "accuracy_val": trial.history[-1].accuracy_val,
            "memory": getattr(trial.compressed, self._settings.memory),
            "rounds": trial.compressed.rounds,
            "epoch_rows": self._unreported(trial),
        }

    def _begin(self, beside: Trial | None) -> Trial:
        trial_id = self._config.trial_id
        folder = self._settings.folder
        reason = _patiently(lambda: timeout_reason(folder, trial_id), RETRY_AFTER_S)
        if reason is not None:
            raise TimeoutError(reason)
        saved = None
        with contextlib.suppress(FileNotFoundError):
            saved = _patiently(lambda: folder.read(running_path(trial_id)), RETRY_AFTER_S)
        try:
            return self._make(saved, beside)
        except CheckpointError as error:
            logger.warning("trial %s starts again: %s", trial_id, error)
            return self._make(None, beside)

    def _make(self, saved: bytes | None, beside: Trial | None) -> Trial:
        settings = self._settings
        threads = threads_for(settings.cpus)
        return Trial(
            self._config,
            self._data,
            threads=threads,
            gpu=settings.gpus > 0,
            saved=saved,
            beside=beside,
            weights=settings.weights,
        )

    def _finished(self, end: TrialResult) -> dict[str, Any]:
        self._watchdog.cancel()
        self._write(model_path(self._config.trial_id), end.model_file, retry_after_s=RETRY_AFTER_S)
        return {"trial_row": to_json(end.row), "done": True}

    def _failed(self, reason: str) -> dict[str, Any]:
        self._watchdog.cancel()
        row = self._trial.partial_row() if self._trial is not None else describe_config(self._config)
        row |= {
            "status": "failed",
            "error": reason,
            "started_at": row.get("started_at", self._began_at),
            "finished_at": datetime.now(UTC),
        }
        rows = [] if self._trial is None else self._unreported(self._trial)
        return {"trial_row": to_json(row), "epoch_rows": rows, "done": True}

    def _unreported(self, trial: Trial) -> list[str]:
        """Return the rows of epochs not yet told: after an interruption all, for the driver may have written none."""
        rows = [to_json(epoch_row(report)) for report in trial.history[self._reported :]]
        self._reported = len(trial.history)
        return rows

    def _write(self, path: str, data: bytes, *, retry_after_s: Sequence[float] = ()) -> None:
        """Write a file; a full disk stops the search where the tables are written, not the trial here."""
        try:
            _patiently(lambda: self._settings.folder.write_whole(path, data), retry_after_s)
        except OSError as error:
            logger.warning("%s", error)

    def _watch(self, patience: float) -> threading.Timer:
        """Start the clock of a trial: one that hangs cannot look at a clock itself."""

        limit = self._settings.time_limit_s

        def expire() -> None:
            note = timeout_path(self._config.trial_id), f"{limit:g}".encode()
            # What hangs may be the storage.
            writing = threading.Thread(target=self._write, args=note, daemon=True)
            writing.start()
            writing.join(NOTE_TAKES_S)
            os._exit(1)

        timer = threading.Timer(limit * patience if limit is not None else threading.TIMEOUT_MAX, expire)
        timer.daemon = True
        if limit is not None:
            timer.start()
        return timer


def _patiently(act: Callable[[], T], retry_after_s: Sequence[float]) -> T:
    """Do what the storage may fail in, and do it again after each pause. That there is no such file is an answer."""
    for pause in retry_after_s:
        try:
            return act()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(pause)
    return act()


def explain(error: Exception) -> str:
    """Return one line that says why a trial failed.

    A file's name may hold bytes that are no UTF-8; the tables cannot, and have ``?`` there.
    """
    text = " ".join(str(error).split())[:500].encode(errors="replace").decode()
    if isinstance(error, UserError | DivergedError | TimeoutError):
        return text
    if out_of_memory(error):
        return f"out of memory: {text}; use a smaller train.batch_size, or give the trial more in resources"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def epoch_row(report: EpochReport) -> dict[str, Any]:
    """Return an epoch's row of the epochs table, without the names of its trial and experiment."""
    return {
        "epoch": report.epoch,
        "loss": report.loss,
        "accuracy_val": report.accuracy_val,
        "lr": report.lr,
        "seconds": report.train_seconds + report.eval_seconds,
        "images_per_second": report.images / report.train_seconds,
        "finished_at": datetime.fromisoformat(report.finished_at),
    }
