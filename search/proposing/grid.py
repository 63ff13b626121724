"""All combinations of choices, and of a few values from each range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from search.errors import UserError
from search.space import Space, block_of
from search.space.space import SHARES, is_erk_power
from search.spec.fields import Scalar

# Values taken from a range, its ends among them.
LEVELS = 5
MOST_POINTS = 100_000


class _LevelTrial:
    """Walks through the combinations in the order of an odometer whose wheels appear as they are asked for."""

    def __init__(self) -> None:
        self._wheels: list[tuple[int, int]] = []
        self.drawn: dict[str, Scalar] = {}

    def advance(self) -> bool:
        """Go to the next combination and return whether there is one."""
        self.drawn = {}
        while self._wheels:
            at, count = self._wheels.pop()
            if at + 1 < count:
                self._wheels.append((at + 1, count))
                return True
        return False

    def _pick(self, name: str, values: Sequence[Any]) -> Any:
        place = len(self.drawn)
        if place == len(self._wheels):
            self._wheels.append((0, len(values)))
        self.drawn[name] = value = values[self._wheels[place][0]]
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if is_erk_power(name):
            return float(self._pick(name, [0.0, 1.0]))  # the uniform allocation and theirs
        if block_of(name) == SHARES:
            # A grid over shares has no end; their middle changes nothing.
            return float(self._pick(name, [(low + high) / 2]))
        levels = np.geomspace(low, high, LEVELS) if log else np.linspace(low, high, LEVELS)
        return float(self._pick(name, levels.tolist()))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        levels = np.geomspace(low, high, LEVELS) if log else np.linspace(low, high, LEVELS)
        return int(self._pick(name, sorted({round(level) for level in levels.tolist()})))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._pick(name, choices)


class _WholeTrial(_LevelTrial):
    """Walks through every whole number of a range too; of real numbers there are too many to walk through."""

    def __init__(self) -> None:
        super().__init__()
        self.met_real_numbers = False

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.met_real_numbers |= low < high
        return float(self._pick(name, [low]))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        # One more than are ever walked through, which tells that some are left: a user's range may have 2^60.
        return int(self._pick(name, range(low, min(high, low + MOST_POINTS) + 1)))


def grid(space: Space, seed: int) -> list[dict[str, Scalar]]:
    """Return all points of the grid in random order, so that a search that ends early has seen all of the space.

    Raises:
        UserError: If there are too many.
    """
    points = list(islice(_walk(space, _LevelTrial()), MOST_POINTS + 1))
    if len(points) > MOST_POINTS:
        raise UserError(
            f"search.sampler: a grid of more than {MOST_POINTS:,} points; write fewer choices, or sampler: qmc"
        )
    return _shuffled(points, seed)


def whole_space(space: Space, seed: int) -> tuple[list[dict[str, Scalar]], bool]:
    """Return the points of a space of choices and whole numbers in random order, and whether these are all.

    Of very many they are the first; where real numbers are drawn there are none.
    """
    trial = _WholeTrial()
    points: list[dict[str, Scalar]] = []
    for point in _walk(space, trial):
        if trial.met_real_numbers:
            return [], False
        if len(points) == MOST_POINTS:
            return _shuffled(points, seed), False
        points.append(point)
    return _shuffled(points, seed), True


def _shuffled(points: Sequence[dict[str, Scalar]], seed: int) -> list[dict[str, Scalar]]:
    order = np.random.default_rng(seed).permutation(len(points))
    return [points[index] for index in order]


def _walk(space: Space, trial: _LevelTrial) -> Iterator[dict[str, Scalar]]:
    while True:
        space.suggest(trial)
        yield trial.drawn
        if not trial.advance():
            return
