"""Problems that cost nothing to evaluate, for the benchmarks of samplers and of early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from search.space import Space, Suggestion, TrialLike
from search.spec import SpaceSpec

# Weights of ResNet-20 by stage, as (layers, shape): stem, three stages, classifier.
STAGES = {
    "conv1": [(16, 3, 3, 3)],
    "layer1": [(16, 16, 3, 3)] * 6,
    "layer2": [(32, 16, 3, 3)] + [(32, 32, 3, 3)] * 5,
    "layer3": [(64, 32, 3, 3)] + [(64, 64, 3, 3)] * 5,
    "fc": [(10, 64)],
}
SHAPES = {f"{stage}.{i}": shape for stage, shapes in STAGES.items() for i, shape in enumerate(shapes)}
STAGE_SIZES = {f"{stage}.*": sum(math.prod(shape) for shape in shapes) for stage, shapes in STAGES.items()}
# How much accuracy a stage loses with each halving of its density: the small outer layers are the sensitive ones.
SENSITIVITY = {"conv1.*": 0.012, "layer1.*": 0.010, "layer2.*": 0.008, "layer3.*": 0.006, "fc.*": 0.010}
METHOD_GAIN = {"rps": 0.0, "synflow": -0.01, "snip": -0.02}


@dataclass(frozen=True)
class Problem:
    """A space, what a proposal is worth as (negated accuracy, log memory), and the hypervolume's reference point."""

    name: str
    space: Space
    losses: Callable[[Suggestion], tuple[float, float]]
    reference: tuple[float, float]


def zdt(number: int) -> Problem:
    """Return problem 1, 2, 3 or 4 of Zitzler, Deb and Thiele (2000)."""
    bounds = [(0.0, 1.0)] + ([(-5.0, 5.0)] * 9 if number == 4 else [(0.0, 1.0)] * 29)

    def extend(trial: TrialLike, suggestion: Suggestion) -> Suggestion:
        drawn = {f"x{i:02}": trial.suggest_float(f"x{i:02}", low, high) for i, (low, high) in enumerate(bounds)}
        return replace(suggestion, args=drawn)

    def losses(suggestion: Suggestion) -> tuple[float, float]:
        return _zdt(number, [float(value) for value in suggestion.args.values()])

    space = Space(SpaceSpec(methods={"dense": {}}, lr=0.1), {"layer": (3, 3)}, extension=extend)
    # A little beyond what random points reach.
    return Problem(f"zdt{number}", space, losses, (1.1, {1: 6.0, 2: 7.0, 3: 6.0, 4: 130.0}[number]))


def _zdt(number: int, x: Sequence[float]) -> tuple[float, float]:
    rest = x[1:]
    if number == 4:
        g = 1 + 10 * len(rest) + sum(v**2 - 10 * math.cos(4 * math.pi * v) for v in rest)
    else:
        g = 1 + 9 * sum(rest) / len(rest)
    part = x[0] / g
    shape = 1 - part**2 if number == 2 else 1 - math.sqrt(part)
    if number == 3:
        shape -= part * math.sin(10 * math.pi * x[0])
    return x[0], g * shape


def compression() -> Problem:
    """Return a made-up search over ResNet-20's stages that behaves as real ones do.

    The best learning rate grows with the square root of the ratio, accuracy falls with the logarithm of each stage's
    density by its own slope, one global array is a little better than the uniform split, and sharing beats pruning.
    """
    spec = SpaceSpec(methods={"rps": {"lr": {"low": 0.05, "high": 4.0}}, "synflow": {}, "snip": {}})
    space = Space(spec, SHAPES, groups=list(STAGE_SIZES))
    return Problem("compression", space, lambda suggestion: compression_losses(suggestion), (0.0, math.log(140_000)))


def compression_losses(suggestion: Suggestion) -> tuple[float, float]:
    """Return the losses of a proposal of :func:`compression`."""
    total = sum(STAGE_SIZES.values())
    kept = suggestion.budgets or {name: size / suggestion.ratio for name, size in STAGE_SIZES.items()}
    loss = sum(
        slope * math.log2(STAGE_SIZES[name] / kept[name]) ** 1.5 for name, slope in SENSITIVITY.items()
    ) - 0.005 * (suggestion.budgets is None)
    best_lr = 0.1 * math.sqrt(suggestion.ratio) if suggestion.method == "rps" else 0.1
    accuracy = 0.92 - loss - 0.03 * math.log(suggestion.lr / best_lr) ** 2 + METHOD_GAIN[suggestion.method]
    return -max(0.1, accuracy), math.log(total / suggestion.ratio)
