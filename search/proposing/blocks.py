"""Conditional spaces for Optuna's samplers, which know joint sampling of a fixed set of parameters only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.space import METHOD, CubeTrial, Replay, Space, TrialLike, block_of
from search.space.suggestion import digest
from search.spec.fields import Scalar


@lru_cache(maxsize=4096)
def _float(low: float, high: float, log: bool) -> FloatDistribution:
    return FloatDistribution(low, high, log=log)


@lru_cache(maxsize=4096)
def _categorical(choices: tuple[Scalar, ...], kinds: tuple[type, ...]) -> CategoricalDistribution:
    return CategoricalDistribution(choices)


class Described(Replay):
    """Replays parameters and keeps the distributions they are drawn from."""

    def __init__(self, given: Mapping[str, Scalar]) -> None:
        super().__init__(given)
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Describe and replay a number."""
        self.distributions[name] = _float(low, high, log)
        return super().suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Describe and replay a whole number."""
        self.distributions[name] = IntDistribution(low, high, log=log)
        return super().suggest_int(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Describe and replay a choice."""
        # Their types are part of the key: 1, 1.0 and True are equal.
        self.distributions[name] = _categorical(tuple(choices), tuple(map(type, choices)))
        return super().suggest_categorical(name, choices)


def describe(space: Space, params: Mapping[str, Scalar]) -> Described:
    """Run the space on given parameters; the result holds them, completed by middle values, and distributions."""
    described = Described(params)
    space.suggest(described)
    return described


class BlockSampler(BaseSampler):
    """Lets a sampler draw a conditional space block by block.

    The first parameter asked for of a block (the method; then what belongs to that method; then the shares of its
    budgets) makes the inner sampler draw the whole block jointly, from the trials that have it. That is what Optuna's
    ``group=True`` does, but without drawing the blocks of methods that were not chosen.

    Attributes:
        inner: The sampler that draws; it may be replaced between two trials.
        given: Parameters of the next trial that are not drawn.
    """

    def __init__(self, space: Space, inner: BaseSampler) -> None:
        self._space = space
        self._drawn: dict[str, Any] = {}
        self.inner = inner
        self.given: Mapping[str, Scalar] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Draw nothing before the space is run."""
        self._drawn = dict(self.given)
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw nothing before the space is run."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a parameter, drawing the block it belongs to if it was not drawn yet."""
        if param_name not in self._drawn:
            block = self._block(trial.params, param_name)
            self._drawn = {**self.inner.sample_relative(study, trial, block), **self._drawn}
        if param_name not in self._drawn:
            return self.inner.sample_independent(study, trial, param_name, param_distribution)
        return self._drawn[param_name]

    def copy(self, known: FrozenTrial, trial: optuna.Trial) -> None:
        """Give a trial that was asked for, and has nothing yet, the parameters and constraints of another."""
        self.given = self._drawn = known.params  # The first, since Optuna may begin a trial at its first parameter.
        for name, distribution in known.distributions.items():
            draw(trial, name, distribution)
        for name, value in known.constraints.items():
            trial.set_constraint(name, value)

    def others(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return what a trial has beside the parameters that it uses: nothing."""
        return {}

    def complete(self, trial: TrialLike, params: Mapping[str, Scalar]) -> None:
        """Give a trial, on which the space was run with ``params``, the others."""

    def _block(self, chosen: Mapping[str, Scalar], name: str) -> dict[str, BaseDistribution]:
        """Return the parameters drawn together with ``name``, sorted, those of one single value left out."""
        found = describe(self._space, chosen).distributions
        return {
            other: found[other]
            for other in sorted(found)
            if other not in chosen and block_of(other) == block_of(name) and not found[other].single()
        }


class JointSampler(BlockSampler):
    """Lets a sampler that cannot do without a fixed set of parameters draw those of all methods at once.

    A genetic algorithm needs them in every parent and a Gaussian process in every observation. Those of the methods
    that were not chosen have no effect, and are drawn by chance that hangs on the others, whatever the sampler drew:
    so a restored search, which is told the others, has them too. (The middles of their ranges would leave a genetic
    algorithm with less variety.)
    """

    def __init__(self, space: Space, inner: BaseSampler) -> None:
        super().__init__(space, inner)
        self._everything = everything(space)

    def others(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return the parameters of the methods that were not chosen beside ``params``."""
        cube = CubeTrial(iter(np.random.default_rng(digest(dict(params))).random, None), params)
        return {name: draw(cube, name, kind) for name, kind in self._everything.items() if name not in params}

    def complete(self, trial: TrialLike, params: Mapping[str, Scalar]) -> None:
        """Give a trial, on which the space was run with ``params``, the others."""
        self._drawn = self.others(params)
        for name, distribution in self._everything.items():
            draw(trial, name, distribution)

    def _block(self, chosen: Mapping[str, Scalar], name: str) -> dict[str, BaseDistribution]:
        return {} if self._drawn else self._everything


def everything(space: Space) -> dict[str, BaseDistribution]:
    """Return the parameters of all methods together, sorted, those of one single value left out."""
    found: dict[str, BaseDistribution] = {}
    for method in space.methods:
        found |= describe(space, {METHOD: method}).distributions
    return {name: found[name] for name in sorted(found) if not found[name].single()}


def draw(trial: TrialLike, name: str, distribution: BaseDistribution) -> Any:
    """Draw one described parameter from a trial."""
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)
