"""Splitting a memory budget: every split is feasible and adds up to exactly what the ratio says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# A budget of one scalar cannot be said in the vocabulary of budgets, where 1 is the density that keeps everything.
SMALLEST_BUDGET = 2


def floors(sizes: Sequence[int]) -> np.ndarray:
    """Return the least that groups of these sizes may keep."""
    return np.minimum(np.asarray(sizes, dtype=np.int64), SMALLEST_BUDGET)


def split(sizes: Sequence[int], total: int, log2_densities: Sequence[float]) -> list[int]:
    """Split ``total`` kept scalars so that the densities stand to each other as ``2 ** log2_densities``.

    Group g keeps ``clip(c * 2**u_g * size_g, floor_g, size_g)``, with the one c for which the sum is ``total``
    (water-filling: what a full group cannot hold goes to the others), rounded by largest remainders. Equal
    ``log2_densities`` give every group the same density.

    Args:
        sizes: Number of weights of each group.
        total: Number of scalars kept in all.
        log2_densities: u_g, the logarithm of each group's density, up to a constant that all share.

    Returns:
        The number kept by each group; they sum to ``total``.

    Raises:
        ValueError: If ``total`` is less than the groups' floors or more than there is.
    """
    size = np.asarray(sizes, dtype=np.float64)
    least = floors(sizes).astype(np.float64)
    if not least.sum() <= total <= size.sum():
        raise ValueError(
            f"{least.sum():.0f} <= total <= {size.sum():.0f} must hold for groups of {list(sizes)} weights, "
            f"but got total={total}"
        )
    slope = np.exp2(np.asarray(log2_densities, dtype=np.float64)) * size
    # The sum grows piecewise linearly in c, with kinks where a group leaves its floor or fills up: invert it there.
    kinks = np.sort(np.concatenate([[0.0], least / slope, size / slope]))
    sums = np.clip(kinks[:, None] * slope, least, size).sum(axis=1)
    exact = np.clip(np.interp(total, sums, kinks) * slope, least, size)
    kept = np.floor(exact + 1e-9).astype(np.int64)
    for index in np.argsort(kept - exact, kind="stable")[: total - int(kept.sum())]:
        kept[index] += 1
    return [int(count) for count in kept]


def erk_log2_densities(shapes: Sequence[Sequence[Sequence[int]]]) -> list[float]:
    """Return the log densities of Erdos-Renyi-kernel (arXiv:1911.11134) for groups of layers, up to a constant.

    A layer's density is proportional to (sum of its dimensions) / (product of its dimensions).

    Args:
        shapes: The shapes of the weights in each group.
    """
    raw = [sum(sum(shape) for shape in group) / sum(int(np.prod(shape)) for shape in group) for group in shapes]
    return [float(log) for log in np.log2(raw)]


def sizes_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the number of weights of each layer."""
    return {name: int(np.prod(shape)) for name, shape in shapes.items()}
