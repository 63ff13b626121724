"""Which model files are kept: those of trials on a frontier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search.driver.runner import model_path
from search.results.folder import Folder


@dataclass(frozen=True)
class Point:
    """A finished trial in the plane that the search looks at."""

    trial_id: str
    accuracy: float
    memory: float
    file_bytes: int

    def dominates(self, other: Point) -> bool:
        """Whether this trial is at least as good in both and better in one, or equal and earlier."""
        return self.accuracy >= other.accuracy and self.memory <= other.memory


class ModelKeeper:
    """Keeps the models of each method's non-dominated trials, within a budget, and deletes all others.

    Args:
        folder: The experiment folder.
        memory: Which memory measure the frontier is over.
        disk_budget: Most bytes that kept models may occupy; None does not limit them. Those that are on no method's
            frontier go first, then the largest.
    """

    def __init__(self, folder: Folder, memory: str, disk_budget: int | None = None) -> None:
        self._folder = folder
        self._memory = memory
        self._disk_budget = disk_budget
        self._frontiers: dict[str, list[Point]] = {}

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild the frontiers from the tables, and delete models that no frontier holds."""
        for row in rows:
            self._enter(row)
        kept = {point.trial_id for points in self._frontiers.values() for point in points}
        for entry in self._folder.list(model_path("x").rpartition("/")[0]):
            if entry.path.rpartition("/")[2].removesuffix(".safetensors") not in kept:
                self._folder.delete(entry.path)

    def take(self, row: Mapping[str, Any]) -> None:
        """Look at a trial that ended: keep its model or delete it, and delete those it dominates."""
        for trial_id in self._enter(row):
            self._folder.delete(model_path(trial_id))
        while self._disk_budget is not None and self._total() > self._disk_budget:
            points = [(method, point) for method, frontier in self._frontiers.items() for point in frontier]
            method, victim = max(points, key=lambda pair: (self._dominated(pair[1]), pair[1].file_bytes))
            self._frontiers[method].remove(victim)
            self._folder.delete(model_path(victim.trial_id))

    def _enter(self, row: Mapping[str, Any]) -> list[str]:
        """Put a row on its method's frontier if it belongs there; return the trials whose models are to go."""
        if row["status"] != "finished" or row["accuracy_val"] is None:
            return [row["trial_id"]]
        point = Point(row["trial_id"], row["accuracy_val"], row[self._memory], row["stored_bytes"])
        frontier = self._frontiers.setdefault(row["method"], [])
        if any(other.dominates(point) for other in frontier):
            return [point.trial_id]
        beaten = [other for other in frontier if point.dominates(other)]
        self._frontiers[row["method"]] = [other for other in frontier if other not in beaten] + [point]
        return [other.trial_id for other in beaten]

    def _dominated(self, point: Point) -> bool:
        return any(
            other.dominates(point) and other != point for frontier in self._frontiers.values() for other in frontier
        )

    def _total(self) -> int:
        return sum(point.file_bytes for frontier in self._frontiers.values() for point in frontier)
