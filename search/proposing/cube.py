"""Samplers that learn nothing: chance, quasi-random points and a grid.

Each turns a point of the unit cube into a proposal by drawing coordinate after coordinate as the space asks for
parameters, which makes them work in conditional spaces; Optuna's quasi-random and grid samplers do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats.qmc import Sobol

from search.proposing.past import Observation
from search.space import METHOD, Replay, Space, Suggestion
from search.spec.fields import Scalar


class CubeTrial:
    """Draws parameters from the coordinates of a point in the unit cube, except for those that are given.

    What was given and lies outside is brought within the limits, or drawn where it is none of the choices.
    """

    def __init__(self, coordinates: Iterator[float], given: Mapping[str, Scalar]) -> None:
        self._coordinates = coordinates
        self._given = given

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number that lies in its interval as the coordinate does in [0, 1)."""
        if name in self._given:
            return min(max(float(self._given[name]), low), high)
        at = next(self._coordinates)
        value = low * (high / low) ** at if log else low + (high - low) * at
        return min(max(value, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return a whole number that lies in its interval as the coordinate does in [0, 1)."""
        if name in self._given:
            return min(max(int(self._given[name]), low), high)
        return min(high, int(self.suggest_float(name, low, high + 1, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the choice that the coordinate falls on."""
        if name in self._given and self._given[name] in choices:
            return self._given[name]
        return choices[int(next(self._coordinates) * len(choices))]


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
        return iter(self._sobol.random(1)[0].tolist())

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
