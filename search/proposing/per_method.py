"""A model for each method, and a choice among the methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from search.proposing.history import best_of
from search.proposing.models import POPULATION, Kind, StudyModel
from search.proposing.past import Observation
from search.space import METHOD, Space, Suggestion
from search.spec.fields import Scalar

# The share of proposals that goes to all methods alike.
TO_ALL = 0.25
# Results between two looks at what the methods have among the best.
LOOK_EVERY = 5


class PerMethod:
    """Searches each method in the light of its own results.

    One model for all of them converges on the first method whose settings it has found: the others are judged by
    settings that are not theirs, and then no more drawn. Here a share of the proposals goes to all methods alike, the
    others to methods in proportion to what they have among the best.
    """

    def __init__(self, space: Space, kind: Kind, *, seed: int, startup_trials: int) -> None:
        """Start with nothing known.

        Args:
            space: What may be proposed.
            kind: How each method is searched.
            seed: Seed of all choices.
            startup_trials: Results, over all methods, that come before the models propose.
        """
        self._seed = seed
        each = -(-startup_trials // len(space.methods))
        self._models = {
            method: StudyModel(space, kind, seed=seed + index, startup_trials=each)
            for index, method in enumerate(space.methods)
        }
        self._running: dict[int, str] = {}
        self._learned = 0
        self._weights = np.full(len(self._models), 1 / len(self._models))

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return proposal ``number``. See :class:`Model`."""
        method = str(given[METHOD]) if METHOD in given else self._choose(number, attempt)
        self._running[number] = method
        return self._models[method].ask(number, {METHOD: method, **given}, attempt)

    def _choose(self, number: int, attempt: int) -> str:
        rng = np.random.default_rng([self._seed, number, attempt])
        weights = None if rng.random() < TO_ALL else self._weights
        return list(self._models)[rng.choice(len(self._models), p=weights)]

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn what a proposal reached. See :class:`Model`."""
        self._models[self._running.pop(number)].tell(number, observation)
        if observation is not None:
            self._look()

    def learn(self, observation: Observation) -> None:
        """Learn from a trial that was not asked for. See :class:`Model`."""
        self._models[str(observation.params[METHOD])].learn(observation)
        self._look()

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Take up a proposal that is in flight. See :class:`Model`."""
        self._running[number] = str(params[METHOD])
        self._models[self._running[number]].resume(number, params)

    def _look(self) -> None:
        """See now and then which methods the best are of."""
        self._learned += 1
        if self._learned % LOOK_EVERY == 0:
            seen = [observation for model in self._models.values() for observation in model.seen]
            counts = Counter(seen[index].params[METHOD] for index in best_of(seen, min(len(seen) // 4 + 1, POPULATION)))
            self._weights = np.array([counts[method] for method in self._models]) / counts.total()
