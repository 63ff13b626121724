"""Recombination of good proposals: what a density model alone does not find when many parameters interact little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

from search.space import METHOD
from search.spec.fields import Scalar

# How far a blend may lie beyond its parents, as a share of their distance.
BEYOND = 0.25


def recombine(parents: Sequence[FrozenTrial], rng: np.random.Generator) -> dict[str, Scalar]:
    """Return the parameters of a child of two parents; those that mutate are left out, to be drawn at random.

    One half of the children are made by uniform crossover, as in Deb et al. 2002 (NSGA-II), the others by blending
    what is continuous, along its scale (BLX-alpha, Eshelman and Schaffer 1993): the first finds combinations, the
    second values between. One parameter mutates on average, the method among them. Both parents are of one method,
    since what belongs to a method says nothing about another. The first decides which parameters there are: a
    conditional one is taken from the second only where it has it.

    Args:
        parents: Good results, at least one.
        rng: Decides all of it.
    """
    first = parents[int(rng.integers(len(parents)))]
    alike = [parent for parent in parents if parent.params.get(METHOD) == first.params.get(METHOD)]
    second = alike[int(rng.integers(len(alike)))]
    count = len(first.params)
    blend, places = rng.random() < 0.5, rng.random(count)
    kept = rng.random(count) >= 1 / max(1, count)
    child: dict[str, Scalar] = {}
    for (name, one), place, keep in zip(first.params.items(), places.tolist(), kept, strict=True):
        if keep:
            other = second.params.get(name, one)
            scale = first.distributions[name]
            if blend and isinstance(scale, FloatDistribution):
                child[name] = _between(one, other, place, scale)
            else:
                child[name] = one if place < 0.5 else other
    return child


def _between(one: float, other: float, place: float, scale: FloatDistribution) -> float:
    """Return a number between two, or a little beyond, that lies on the scale as ``place`` does in [0, 1)."""
    share = place * (1 + 2 * BEYOND) - BEYOND
    value = one * (other / one) ** share if scale.log else one + (other - one) * share
    return min(max(value, scale.low), scale.high)
