"""A bounded memory of results: what a sampler needs to know after ten thousand trials is no more than after a few
hundred, if it is well chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.proposing.past import Observation
from search.stopping.ranking import top


@dataclass(frozen=True)
class Capacity:
    """How many results are kept when the memory is thinned, and how many may arrive until the next time.

    Attributes:
        best: Kept for being good: by how little constraints are violated, then by front, the last one spread.
        recent: Kept for being new.
        others: Kept at random from the rest, to show where results are bad.
        arrivals: Results that arrive between two thinnings.
    """

    best: int
    recent: int
    others: int
    arrivals: int

    @property
    def kept(self) -> int:
        """Results that are kept when the memory is thinned."""
        return self.best + self.recent + self.others


class History:
    """Results in the order they came, thinned by :class:`Capacity`."""

    def __init__(self, capacity: Capacity, seed: int) -> None:
        """Start empty.

        Args:
            capacity: How much is kept.
            seed: Decides which of the others stay.
        """
        self._capacity = capacity
        self._rng = np.random.default_rng(seed)
        self.kept: list[Observation] = []
        # A random number for each: keeping the smallest keeps a uniform sample of all that ever came.
        self._tickets: list[float] = []

    def add(self, observation: Observation) -> bool:
        """Take one more result and return whether older ones were dropped for it."""
        self.kept.append(observation)
        self._tickets.append(self._rng.random())
        if len(self.kept) <= self._capacity.kept + self._capacity.arrivals:
            return False
        chosen = self._choose()
        self.kept = [self.kept[index] for index in chosen]
        self._tickets = [self._tickets[index] for index in chosen]
        return True

    def best(self, places: int) -> list[Observation]:
        """Return the best results: by how little they violate constraints, and those that violate alike by front."""
        return [self.kept[index] for index in self._best(places)]

    def _best(self, places: int) -> list[int]:
        losses = np.array([seen.losses for seen in self.kept])
        violations = np.array([seen.violation for seen in self.kept])
        best: list[int] = []
        for violation in np.unique(violations):
            if len(best) == places:
                break
            alike = np.flatnonzero(violations == violation)
            best += alike[top(losses[alike], places - len(best))].tolist()
        return best

    def _choose(self) -> list[int]:
        capacity, count = self._capacity, len(self.kept)
        chosen = {*range(count - capacity.recent, count), *self._best(capacity.best)}
        others = [index for index in np.argsort(self._tickets).tolist() if index not in chosen]
        return sorted(chosen | set(others[: capacity.kept - len(chosen)]))
