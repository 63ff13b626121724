"""Layer-wise densities that need no data: how many weights each layer keeps, decided by shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

Shapes = Mapping[str, tuple[int, ...]]
Allocation = Callable[[Shapes, int, int], dict[str, int]]
"""``allocation(shapes, kept, floor) -> {layer: kept weights}``, ``kept`` in all and at least ``floor`` in each."""


def uniform(shapes: Shapes, kept: int, floor: int) -> dict[str, int]:
    """Give every layer the same density, kept / size."""
    sizes = _sizes(shapes)
    total = sum(sizes.values())
    return apportion({name: size * kept / total for name, size in sizes.items()}, sizes, kept, floor)


def erdos_renyi_kernel(shapes: Shapes, kept: int, floor: int) -> dict[str, int]:
    """Give each layer a density in proportion to (sum of its dimensions) / (their product), at most 1.

    This is the Erdos-Renyi-Kernel rule (arXiv:1911.11134, section 3): a layer with few weights a channel stays denser.
    Layers that the proportion would fill beyond 1 are dense, and the others share what remains.
    """
    sizes = _sizes(shapes)
    dense: set[str] = set()
    while True:
        # A density of scale * sum / product keeps scale * sum weights.
        remaining = kept - sum(sizes[name] for name in dense)
        weights = sum(sum(shape) for name, shape in shapes.items() if name not in dense)
        scale = max(0.0, remaining / weights) if weights else 0.0
        full = {name for name, shape in shapes.items() if name not in dense and scale * sum(shape) >= sizes[name]}
        if not full:
            break
        dense |= full
    quotas = {name: float(sizes[name]) if name in dense else scale * sum(shape) for name, shape in shapes.items()}
    return apportion(quotas, sizes, kept, floor)


def apportion(quotas: Mapping[str, float], sizes: Mapping[str, int], kept: int, floor: int) -> dict[str, int]:
    """Round quotas to whole numbers that sum to ``kept`` exactly, by largest remainder.

    Args:
        quotas: Wished number of weights of each layer.
        sizes: Number of weights of each layer: the upper bound.
        kept: Sum of the result.
        floor: Lower bound of each layer; a layer of fewer weights keeps all of them.

    Raises:
        ValueError: If the floors exceed ``kept``.
    """
    lower = {name: min(size, floor) for name, size in sizes.items()}
    if sum(lower.values()) > kept:
        raise ValueError(
            f"the budget must cover at least {floor} weights in each of {len(sizes)} layers, but got {kept} weights: "
            "lower the ratio or the floor"
        )
    counts = {name: min(sizes[name], max(lower[name], math.floor(quota))) for name, quota in quotas.items()}
    while (missing := kept - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        movable = [n for n in counts if (counts[n] < sizes[n] if step > 0 else counts[n] > lower[n])]
        # Furthest from its quota first; sorted() is stable, so equal ones go by position.
        for name in sorted(movable, key=lambda n: step * (counts[n] - quotas[n]))[: abs(missing)]:
            counts[name] += step
    return counts


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}
