"""Which model files are kept: those of proposals on a frontier."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from search.driver.exchange import model_path
from search.results.folder import Folder


@dataclass(frozen=True)
class Point:
    """A proposal in the plane that the search looks at, with the trial whose model stands for it."""

    trial_id: str
    accuracy: float
    memory: float
    file_bytes: int

    def dominates(self, other: Point) -> bool:
        """Whether this trial is at least as good in both and better in one, or equal and earlier."""
        return self.accuracy >= other.accuracy and self.memory <= other.memory


class ModelKeeper:
    """Keeps one model of each proposal on its method's frontier, within a budget, and deletes all others.

    A proposal is judged by the mean over its repeats, once all of them have ended; the model that is kept is that of
    the first repeat that finished.

    Args:
        folder: The experiment folder.
        memory: Which memory measure the frontier is over.
        repeats: Repeats of each proposal.
        disk_budget: Most bytes that kept models may occupy; None does not limit them. Those that are on no frontier
            over all methods go first, then the largest, and last those of proposals whose repeats still run.
    """

    def __init__(self, folder: Folder, memory: str, *, repeats: int = 1, disk_budget: int | None = None) -> None:
        self._folder = folder
        self._memory = memory
        self._repeats = repeats
        self._disk_budget = disk_budget
        self._open: dict[int, list[Mapping[str, Any]]] = {}
        # Bytes of the models of proposals whose repeats still run, by trial: of each that of its first good repeat.
        self._waiting: dict[str, int] = {}
        self._frontiers: dict[str, list[Point]] = {}
        self._entered: str | None = None
        # Trials whose models go: they stay here until that is done.
        self._leaving: deque[str] = deque()

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild the frontiers from the tables, delete models that no frontier holds, and keep to the budget.

        Args:
            rows: Of the trials table, in the order in which they were recorded: :meth:`take` saw them in that one, and
                times in them are those of several machines' clocks.
        """
        for row in rows:
            self._enter(row)
        kept = {point.trial_id for points in self._frontiers.values() for point in points} | self._waiting.keys()
        there = set()
        for entry in self._folder.list(model_path("x").rpartition("/")[0]):
            trial_id = entry.path.rpartition("/")[2].removesuffix(".safetensors")
            if trial_id in kept:
                there.add(trial_id)
            else:
                self._folder.delete(entry.path)
        # The models of some went for the budget's sake.
        for method, points in self._frontiers.items():
            self._frontiers[method] = [point for point in points if point.trial_id in there]
        self._waiting = {trial_id: size for trial_id, size in self._waiting.items() if trial_id in there}
        self._keep_to_budget()
        self._delete()

    def take(self, row: Mapping[str, Any]) -> None:
        """Look at a trial that ended: keep its model or delete it, and delete those it dominates.

        Where that fails it may be called with the same trial again, and goes on where it was.

        Raises:
            OSError: If a model cannot be deleted.
        """
        if row["trial_id"] != self._entered:
            self._leaving += self._enter(row)
            self._entered = row["trial_id"]
            self._keep_to_budget()
        self._delete()

    def _delete(self) -> None:
        while self._leaving:
            self._folder.delete(model_path(self._leaving[0]))
            self._leaving.popleft()

    def _keep_to_budget(self) -> None:
        while self._disk_budget is not None and self._total() > self._disk_budget:
            points = [(method, point) for method, frontier in self._frontiers.items() for point in frontier]
            if points:
                method, victim = max(points, key=lambda pair: (self._dominated(pair[1]), pair[1].file_bytes))
                self._frontiers[method].remove(victim)
                trial_id = victim.trial_id
            else:
                trial_id = max(self._waiting, key=lambda name: self._waiting[name])
                del self._waiting[trial_id]
            self._leaving.append(trial_id)

    def _enter(self, row: Mapping[str, Any]) -> list[str]:
        """Put a row's proposal on its method's frontier if it belongs there; return the trials whose models go."""
        if row["repeat"] >= self._repeats:
            return [row["trial_id"]]  # A further seed of a proposal that was judged.
        group = self._open.setdefault(row["number"], [])
        group.append(row)
        good = [one for one in group if one["status"] == "finished" and one["accuracy_val"] is not None]
        if len(group) < self._repeats:
            if good[:1] != [row]:
                return [row["trial_id"]]
            self._waiting[row["trial_id"]] = row["stored_bytes"]
            return []
        del self._open[row["number"]]
        everyone = [one["trial_id"] for one in group]
        there = {one for one in everyone if self._waiting.pop(one, None) is not None} | {row["trial_id"]}
        if not good or good[0]["trial_id"] not in there:
            return everyone
        point = Point(
            good[0]["trial_id"],
            fmean(one["accuracy_val"] for one in good),
            fmean(one[self._memory] for one in good),
            good[0]["stored_bytes"],
        )
        frontier = self._frontiers.setdefault(good[0]["method"], [])
        if any(other.dominates(point) for other in frontier):
            return everyone
        beaten = [other for other in frontier if point.dominates(other)]
        self._frontiers[good[0]["method"]] = [other for other in frontier if other not in beaten] + [point]
        return [other.trial_id for other in beaten] + [one for one in everyone if one != point.trial_id]

    def _dominated(self, point: Point) -> bool:
        return any(
            other.dominates(point) and other != point for frontier in self._frontiers.values() for other in frontier
        )

    def _total(self) -> int:
        kept = sum(point.file_bytes for frontier in self._frontiers.values() for point in frontier)
        return kept + sum(self._waiting.values())
