"""The pruning methods: one scorer a file, one line each in `METHODS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from baselines.allocation import Allocation, erdos_renyi_kernel, uniform
from baselines.scorers.gradients import LossFn
from baselines.scorers.grasp import grasp
from baselines.scorers.mag import mag
from baselines.scorers.rand import rand
from baselines.scorers.snip import snip
from baselines.scorers.synflow import ITERATIONS as SYNFLOW_ITERATIONS
from baselines.scorers.synflow import make_positive_, synflow

Scorer = Callable[..., Mapping[str, Tensor]]
"""``scorer(model, loss_fn, batches) -> {parameter name: scores}``: larger means more worth keeping.

The model is a private copy in which the weights to be scored, and no others, require gradients
(`baselines.layers.scored_weights`); a scorer may change it. An iterative method's scorer
is called again on the same copy, in which ever more weights are zero.
"""


@dataclass(frozen=True)
class Method:
    """A pruning method.

    Attributes:
        scorer: Scores the weights.
        needs: What it looks at beside the weights: nothing, the shape of an input, or batches and a loss.
        seeded: Whether it takes ``seed``.
        allocation: Decides from shapes how many weights each layer keeps; None lets the scores decide.
        iterations: Number of scoring and pruning steps; the kept weights shrink exponentially over them.
        prepare: Changes the private copy in place before the first step; None has no effect.
    """

    scorer: Scorer
    needs: Literal["nothing", "input", "data"] = "nothing"
    seeded: bool = False
    allocation: Allocation | None = None
    iterations: int = 1
    prepare: Callable[[nn.Module], None] | None = None


METHODS: Mapping[str, Method] = {
    "rand": Method(rand, seeded=True),
    "mag": Method(mag),
    "snip": Method(snip, needs="data"),
    "grasp": Method(grasp, needs="data"),
    "synflow": Method(synflow, needs="input", iterations=SYNFLOW_ITERATIONS, prepare=make_positive_),
    "uniform": Method(rand, seeded=True, allocation=uniform),
    "erk": Method(rand, seeded=True, allocation=erdos_renyi_kernel),
}


def find_method(method: str | Scorer) -> Method:
    """Return the method of a name, or a one-step method made of a user's scorer.

    Raises:
        TypeError: If ``method`` is neither a name nor callable.
        ValueError: If no method has that name.
    """
    if callable(method):
        return Method(method)
    if not isinstance(method, str):
        raise TypeError(f"a pruning method is a name or a scorer(model, loss_fn, batches), but got {method!r}")
    if method in METHODS:
        return METHODS[method]
    nearest = difflib.get_close_matches(method, METHODS, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown pruning method {method!r}: did you mean {nearest!r}? Known are {', '.join(METHODS)}")


def run_scorer(
    method: Method, model: nn.Module, loss_fn: LossFn | None, batches: Sequence[Any], *, seed: int
) -> Mapping[str, Tensor]:
    """Call a method's scorer on ``model``, which it may change."""
    if method.seeded:
        return method.scorer(model, loss_fn, batches, seed=seed)
    return method.scorer(model, loss_fn, batches)
