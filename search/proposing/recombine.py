"""Recombination of good proposals: what a density model alone does not find when many parameters interact little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.proposing.past import Observation
from search.spec.fields import Scalar


def recombine(parents: Sequence[Observation], rng: np.random.Generator) -> dict[str, Scalar]:
    """Return the parameters of a child of two parents; those that mutate are left out, to be drawn at random.

    Uniform crossover and a mutation rate of one parameter in each child, as in NSGA-II (Deb et al. 2002). The first
    parent decides which parameters there are: a conditional one is taken from the second only where it has it.

    Args:
        parents: Good results, at least one.
        rng: Decides all of it.
    """
    first, second = (parents[index].params for index in rng.integers(len(parents), size=2))
    child = {
        name: second.get(name, value) if from_second else value
        for (name, value), from_second in zip(first.items(), rng.random(len(first)) < 0.5, strict=True)
    }
    kept = rng.random(len(child)) >= 1 / max(1, len(child))
    return {name: value for (name, value), keep in zip(child.items(), kept, strict=True) if keep}
