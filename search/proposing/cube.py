"""Samplers that learn nothing: chance, quasi-random points and a grid.

Each turns a point of the unit cube into a proposal by drawing coordinate after coordinate as the space asks for
parameters, which makes them work in conditional spaces; Optuna's quasi-random and grid samplers do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Literal

import numpy as np
from scipy.stats.qmc import Sobol

from search.proposing.past import Observation
from search.space import METHOD, CubeTrial, Replay, Space, Suggestion
from search.spec.fields import Scalar


class CubeModel:
    """Proposes what the points of a sequence stand for, and learns nothing."""

    def __init__(self, kind: Literal["random", "qmc"], space: Space, seed: int) -> None:
        """Start the sequence.

        Args:
            kind: random: independent points; qmc: a scrambled Sobol sequence.
            space: What may be proposed.
            seed: Seed of the points.
        """
        self._space = space
        self._seed = seed
        self._sobol = Sobol(_most_draws(space), rng=np.random.default_rng(seed)) if kind == "qmc" else None

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return the proposal of point ``number``; where that is known already, of a random one."""
        return self._space.suggest(CubeTrial(self._point(number, attempt), given))

    def _point(self, number: int, attempt: int) -> Iterator[float]:
        if self._sobol is None or attempt:
            rng = np.random.default_rng([self._seed, number, attempt])
            return iter(rng.random, None)
        if self._sobol.num_generated > number:
            self._sobol.reset()
        if number > self._sobol.num_generated:
            self._sobol.fast_forward(number - self._sobol.num_generated)
        # What a user's function draws for some values only may not be counted among the coordinates.
        rng = np.random.default_rng([self._seed, number])
        return chain(self._sobol.random(1)[0].tolist(), iter(rng.random, None))

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn nothing."""

    def learn(self, observation: Observation) -> None:
        """Learn nothing."""

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Remember nothing."""


def _most_draws(space: Space) -> int:
    """Return how many parameters a proposal has at most."""
    most = 1
    for method in space.methods:
        replay = Replay({METHOD: method})
        space.suggest(replay)
        most = max(most, len(replay.drawn))
    return most
