"""The trials of one device in one process, an epoch together at a time: where the trials of a pack really run."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import Any

from search.data.images import ImageData
from search.driver.exchange import RunSettings
from search.driver.runner import TrialRunner
from search.errors import called_exit
from search.together import train_together
from search.training.packed import Pack
from search.training.trainer import EpochReport

logger = logging.getLogger(__name__)

# A lane that nobody has asked for in this time belongs to a process that is gone.
LAPSE_S = 300.0
# How long an epoch waits for lanes that have not asked yet, as a share of the last epoch and in seconds.
PATIENCE, SHORTEST_PATIENCE_S, LONGEST_PATIENCE_S = 0.25, 0.1, 10.0

Result = dict[str, Any]


class LaneLostError(Exception):
    """A lane was given away because nobody had asked for it."""


class PackHost:
    """Runs up to ``width`` trials, each on a lane that its owner asks for one result after the other.

    Calls may come from any number of threads. One thread of its own trains: whenever a lane asks, an epoch begins as
    soon as all lanes that have a trial ask, or patience ends; the others join the next one.

    Args:
        data: The images.
        settings: What all trials of the search share.
        width: Number of lanes.
    """

    def __init__(self, data: ImageData, settings: RunSettings, width: int) -> None:
        self._data = data
        self._settings = settings
        self._width = width
        self._pack = Pack(width)
        self._seen: dict[str, float] = {}
        self._begun: dict[str, str] = {}
        self._runners: dict[str, TrialRunner] = {}
        self._asking: dict[str, Future[Result]] = {}
        self._changed = threading.Condition()
        self._patience_s = SHORTEST_PATIENCE_S
        threading.Thread(target=self._train_for_ever, daemon=True).start()

    def join(self, lane: str) -> bool:
        """Give ``lane`` to its owner; return False if all lanes are taken."""
        with self._changed:
            self._drop_lapsed()
            if len(self._seen) >= self._width and lane not in self._seen:
                return False
            self._seen[lane] = time.monotonic()
            return True

    def begin(self, lane: str, config: str) -> None:
        """Begin a trial, given as JSON, in place of the one that the lane had."""
        with self._changed:
            self._check(lane)
            self._forget(lane)
            self._begun[lane] = config

    def step(self, lane: str) -> Result:
        """Train one epoch of the lane's trial (or several short ones) with those of other lanes; return its result."""
        future: Future[Result] = Future()
        with self._changed:
            self._check(lane)
            if lane not in self._begun and lane not in self._runners:
                raise LaneLostError(f"lane {lane} has no trial: call begin before each")
            self._asking[lane] = future
            self._changed.notify_all()
        try:
            return future.result()
        finally:
            with self._changed:
                if lane in self._seen:
                    self._seen[lane] = time.monotonic()

    def leave(self, lane: str) -> None:
        """Give a lane back."""
        with self._changed:
            self._changed.wait_for(lambda: lane not in self._asking)
            self._forget(lane)
            self._seen.pop(lane, None)
            self._changed.notify_all()

    def _check(self, lane: str) -> None:
        if lane not in self._seen:
            raise LaneLostError(f"lane {lane} was given away: nobody had asked for it in {LAPSE_S:g} s")
        self._seen[lane] = time.monotonic()

    def _forget(self, lane: str) -> None:
        self._begun.pop(lane, None)
        runner = self._runners.pop(lane, None)
        if runner is not None:
            runner.stop()

    def _drop_lapsed(self) -> None:
        now = time.monotonic()
        for lane in [lane for lane, seen in self._seen.items() if now - seen > LAPSE_S and lane not in self._asking]:
            self._forget(lane)
            del self._seen[lane]

    def _train_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asking)
                self._drop_lapsed()
                self._changed.wait_for(
                    lambda: self._asking.keys() >= self._runners.keys() | self._begun.keys(), self._patience_s
                )
                # They stay in the table of those that ask until they are answered: a long epoch is no lapse.
                asking = dict(self._asking)
                begun = {lane: self._begun.pop(lane) for lane in asking if lane in self._begun}
            began = time.perf_counter()
            answers = self._answers(list(asking), begun)
            self._patience_s = PATIENCE * (time.perf_counter() - began)
            self._patience_s = min(max(self._patience_s, SHORTEST_PATIENCE_S), LONGEST_PATIENCE_S)
            with self._changed:
                for lane in asking:
                    del self._asking[lane]
                self._changed.notify_all()
            for lane, future in asking.items():
                answer = answers[lane]
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _answers(self, lanes: list[str], begun: dict[str, str]) -> dict[str, Result | Exception]:
        """Begin trials, train an epoch of all, or several short ones, and end those that are over."""
        try:
            for lane, config in begun.items():
                beside = next((runner for runner in list(self._runners.values()) if runner.ready), None)
                self._runners[lane] = TrialRunner(config, self._data, self._settings, beside=beside, shared=True)
            return self._train({lane: self._runners[lane] for lane in lanes})
        except Exception as error:  # Not a trial's fault: its owner ends as if the process had died.
            logger.exception("the pack failed")
            return dict.fromkeys(lanes, error)
        except SystemExit as end:  # It would end this thread only, and the owners would wait for ever.
            logger.exception("the pack failed")
            return dict.fromkeys(lanes, RuntimeError(called_exit(end)))

    def _train(self, runners: dict[str, TrialRunner]) -> dict[str, Result | Exception]:
        owed = {lane: result for lane, runner in runners.items() if (result := runner.owed()) is not None}
        runners = {lane: runner for lane, runner in runners.items() if lane not in owed}
        outcomes: dict[str, EpochReport | Exception] = {}
        began = time.monotonic()
        while not outcomes or time.monotonic() - began < self._settings.report_every_s:
            trials = {
                lane: runner.ready for lane, runner in runners.items() if not isinstance(outcomes.get(lane), Exception)
            }
            ready = {lane: trial for lane, trial in trials.items() if trial is not None}
            if not ready:
                break
            for lane, outcome in zip(ready, train_together(list(ready.values()), self._pack), strict=True):
                outcomes[lane] = runners[lane].kept(outcome)
            if any(runners[lane].must_report(outcomes[lane]) for lane in ready):
                break
        results: dict[str, Result | Exception] = {**owed}
        for lane, runner in runners.items():
            try:
                result = runner.after(outcomes[lane]) if lane in outcomes else runner.end()
            except Exception as error:  # What goes wrong in a trial is in its result: this reaches its owner alone.
                logger.exception("lane %s failed", lane)
                results[lane] = error
                continue
            results[lane] = result
            if result.get("done"):
                with self._changed:
                    self._forget(lane)
        return results
