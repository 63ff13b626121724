"""A model of all methods, and one of each for itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.proposing.models import Kind, StudyModel
from search.proposing.past import Observation
from search.space import METHOD, Space, Suggestion
from search.spec.fields import Scalar

# The share of proposals that goes to all methods alike.
TO_ALL = 0.25


class PerMethod:
    """Searches over all methods, and beside that each method in the light of its own results.

    A model of all methods alone converges on the first whose settings it has found: the others are judged by settings
    that are not theirs, and then no more drawn. So a share of the proposals goes to all methods alike, with settings
    that are good for the method; what comes of it is told to both models.
    """

    def __init__(self, space: Space, kind: Kind, *, seed: int, startup_trials: int) -> None:
        """Start with nothing known.

        Args:
            space: What may be proposed.
            kind: How it is searched.
            seed: Seed of all choices.
            startup_trials: Results that come before the models propose, over all methods.
        """
        self._seed = seed
        self._over_all = StudyModel(space, kind, seed=seed, startup_trials=startup_trials)
        each = -(-startup_trials // len(space.methods))
        self._models = {
            method: StudyModel(space, kind, seed=seed + index, startup_trials=each)
            for index, method in enumerate(space.methods, 1)
        }

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return proposal ``number``. See :class:`Model`."""
        rng = np.random.default_rng([self._seed, number, attempt])
        if given or rng.random() >= TO_ALL:
            return self._over_all.ask(number, given, attempt)
        method = list(self._models)[rng.integers(len(self._models))]
        suggestion = self._models[method].ask(number, {METHOD: method}, attempt)
        # What is in flight is known to the model of all methods only: that is what a restored search can tell.
        self._models[method].tell(number, None)
        self._over_all.resume(number, suggestion.params)
        return suggestion

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn what a proposal reached. See :class:`Model`."""
        self._over_all.tell(number, observation)
        if observation is not None:
            self._models[str(observation.params[METHOD])].learn(observation)

    def learn(self, observation: Observation) -> None:
        """Learn from a trial that was not asked for. See :class:`Model`."""
        self._over_all.learn(observation)
        self._models[str(observation.params[METHOD])].learn(observation)

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Take up a proposal that is in flight. See :class:`Model`."""
        self._over_all.resume(number, params)
