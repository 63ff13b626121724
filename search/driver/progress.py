"""How far a search is: what a person watching is shown."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search.spec import Spec


@dataclass(slots=True)
class _Point:
    """A proposal: sums over its finished seeds."""

    method: str
    seeds: int = 0
    memory: float = 0.0
    accuracy: float = 0.0


@dataclass
class Progress:
    """Counts, the best accuracy by memory, and where the time went. Seeds are averaged first, as in every frontier.

    Attributes:
        experiment: Name of the experiment.
        total: Trials that the spec asks for.
        memory: Which memory measure is minimised.
        epochs: Epochs of one trial.
        slots: Trials that run at once.
        counts: Ended trials by status.
        running: Epoch that each running trial has reached.
        seconds: Time of ended trials by what it went into: setup, training, evaluation.
        trouble: What stops the search, if anything does, and what to do about it.
    """

    experiment: str
    total: int
    memory: str
    epochs: int
    slots: int = 1
    counts: dict[str, int] = field(default_factory=lambda: {"finished": 0, "pruned": 0, "failed": 0})
    running: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"setup": 0.0, "training": 0.0, "evaluation": 0.0})
    trouble: str | None = None
    first_start: float | None = None
    ended_here: int = 0
    last_failure: str | None = None
    _points: dict[int | str, _Point] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Trials that have ended, in whatever way."""
        return sum(self.counts.values())

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left, from the trials that ended since the first one here started; None before that."""
        if not self.ended_here or self.first_start is None:
            return None
        return (time.monotonic() - self.first_start) / self.ended_here * (self.total - self.ended)

    @property
    def frontier(self) -> list[tuple[float, float, str]]:
        """Non-dominated ``(memory, validation accuracy, method)``, means over the seeds so far, by memory."""
        found: list[tuple[float, float, str]] = []
        for memory, accuracy, method in sorted(self._means(), key=lambda point: (point[0], -point[1])):
            if not found or accuracy > found[-1][1]:
                found.append((memory, accuracy, method))
        return found

    @property
    def best(self) -> dict[int, tuple[float, str]]:
        """Best validation accuracy, a mean over the seeds so far, and its method, by decade of memory."""
        found: dict[int, tuple[float, str]] = {}
        for memory, accuracy, method in self._means():
            decade = math.floor(math.log10(max(memory, 1)))
            if accuracy > found.get(decade, (-1.0, ""))[0]:
                found[decade] = (accuracy, method)
        return found

    def _means(self) -> list[tuple[float, float, str]]:
        # Asked for when they are shown: a further seed moves a point, and what it hid may come back. Copied at once,
        # since another thread may show what this one counts.
        points = list(self._points.values())
        return [(one.memory / one.seeds, one.accuracy / one.seeds, one.method) for one in points if one.seeds]

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count the trials of earlier runs of the driver."""
        for row in rows:
            self._count(row)

    def started(self, trial_id: str) -> None:
        """Note that a trial started."""
        if self.first_start is None:
            self.first_start = time.monotonic()
        self.running[trial_id] = 0

    def epoch(self, trial_id: str, epoch: int) -> None:
        """Note that a trial finished an epoch."""
        self.running[trial_id] = epoch

    def ended_row(self, row: Mapping[str, Any]) -> None:
        """Note that a trial ended."""
        self.running.pop(row["trial_id"], None)
        self.ended_here += 1
        self._count(row)
        for name, column in (("setup", "setup_seconds"), ("training", "train_seconds"), ("evaluation", "eval_seconds")):
            self.seconds[name] += row.get(column) or 0.0

    def _count(self, row: Mapping[str, Any]) -> None:
        self.counts[row["status"]] += 1
        if row["status"] == "failed":
            self.last_failure = row.get("error")
        memory, accuracy = row.get(self.memory), row.get("accuracy_val")
        if row["status"] != "finished" or not memory or accuracy is None or not math.isfinite(accuracy):
            return
        # A row of another program may have no number.
        key = row["trial_id"] if row["number"] is None else row["number"]
        point = self._points.setdefault(key, _Point(row["method"]))
        point.seeds += 1
        point.memory += memory
        point.accuracy += accuracy


def planned(spec: Spec, rows: Iterable[Mapping[str, Any]]) -> int:
    """Return how many trials a search is to have: those the spec asks for, and the further repeats that there are.

    Where more had ended before the spec asked for fewer, those.
    """
    further = [(row["repeat"] or 0) >= spec.repeats for row in rows]
    return max(spec.trials, further.count(False)) + further.count(True)
