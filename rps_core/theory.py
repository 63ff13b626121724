"""The claims of the method as functions: what is exact, what is expected, what is measured.

Compressing a vector x of n entries to m by sharing means ``S x`` with one entry ``g_i`` in each column of S, so that
inner products are estimated by ``<S x, S y>``; pruning at random keeps m entries and scales by n / m. Learning a
linear model under either is as good as norms and inner products are preserved (arXiv:2310.11611, "theoretical
capacity of parameter sharing against pruning"); both estimates are unbiased, so their variances tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rps_core.group import Group
from rps_core.mappings import SlotMapping, cache_lines, load

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LoadReport:
    """How evenly a mapping uses its slots.

    Attributes:
        smallest: Fewest weights that read a slot.
        largest: Most weights that read a slot.
        unused: Fraction of slots that no weight reads.
    """

    smallest: int
    largest: int
    unused: float


def load_report(mapping: SlotMapping) -> LoadReport:
    """Return how evenly a mapping uses its slots.

    RANDOMFOLD: floor(n / m) and ceil(n / m), none unused (arXiv:2310.11611). Hashing whole chunks or single weights
    leaves about exp(-n / m) of the slots unused.
    """
    uses = load(mapping)
    return LoadReport(int(uses.min()), int(uses.max()), float((uses == 0).mean()))


def mean_fetches(mapping: SlotMapping, length: int, *, samples: int = 200) -> float:
    """Return the mean number of cache lines that ``length`` consecutive weights touch, over evenly spread starts.

    Contiguous weights at a random place touch ``1 + (length - 1) / 16`` lines of 16 float32 on average; RANDOMFOLD
    adds at most one wherever a range crosses the end of a partition or of psi (arXiv:2310.11611).
    """
    last = mapping.virtual_size - length
    starts = np.linspace(0, last, min(samples, last + 1)).astype(np.int64)
    return float(np.mean([cache_lines(mapping, int(start), int(start) + length) for start in starts]))


def recovery_matrix(group: Group) -> Tensor:
    """Return R, ``(n, m)`` in float64, column by column: ``w = R psi``. For small groups only."""
    indices = range(len(group.layers))
    columns = torch.eye(group.slots, dtype=torch.float64)
    return torch.stack([torch.cat([w.flatten() for w in group.recover(e, indices)]) for e in columns], dim=1)


def stable_learning_rate(group: Group, hessian: Tensor) -> float:
    """Return the largest stable learning rate of gradient descent on psi for the loss ``w^T H w / 2``.

    A step on psi is ``psi - lr * Gamma^-1 R^T H R psi``, which converges for ``0 < lr < 2 / lambda_max`` of
    ``Gamma^-1/2 R^T H R Gamma^-1/2``. R^T R is diagonal with the ``curvature`` scaler as its entries (derived in
    docs/rps_core.md), so with it the bound is ``2 / L`` for ``H = L I`` and at least ``2 / lambda_max(H)`` for any H,
    whatever psi was drawn with; with ``none`` it moves with the square of the std psi was drawn with.

    Args:
        group: A small group.
        hessian: H, symmetric and positive semi-definite, ``(n, n)`` in float64.

    Returns:
        The bound; infinite where R^T H R is zero.
    """
    R = recovery_matrix(group)
    root = torch.from_numpy(group.scaler).sqrt()
    curvature = (R.T @ hessian @ R) / root[:, None] / root[None, :]
    largest = float(torch.linalg.eigvalsh(curvature)[-1])
    return 2 / largest if largest > 0 else float("inf")


def sharing_variance(x: Vector, y: Vector, slots: int) -> float:
    """Return ``Var <S x, S y>`` for HashedNet, over its hashes.

    ``(|x|^2 |y|^2 + <x, y>^2 - 2 sum x_i^2 y_i^2) / m`` (feature hashing: Weinberger et al., arXiv:0902.2206).

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        slots: m.
    """
    return float((x @ x * (y @ y) + (x @ y) ** 2 - 2 * np.sum(x**2 * y**2)) / slots)


def fold_variance(x: Vector, y: Vector, slots: int) -> float:
    """Return ``Var <S x, S y>`` for RANDOMFOLD, over its rotations and signs, for m up to the sign pattern's period.

    Derived in docs/rps_core.md. Weights of one partition never meet; those of two partitions k < l, in which they are
    ``x_k`` and ``x_l``, meet with probability 1 / m. Pairs that meet have independent signs, but for the two rotations
    (by 0 and by m / 2) at which the shared pattern meets itself.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        slots: m, ``1 <= m <= n`` and at most 524,288.
    """
    rows = -(-len(x) // slots)
    padded = np.zeros((2, rows * slots))
    padded[0, : len(x)], padded[1, : len(y)] = x, y
    X, Y = padded.reshape(2, rows, slots)
    total = 0.0
    for k in range(rows):
        for other in range(k + 1, rows):
            total += (X[k] @ X[k]) * (Y[other] @ Y[other]) + (X[other] @ X[other]) * (Y[k] @ Y[k])
            total += 2 * (X[k] @ Y[k]) * (X[other] @ Y[other])
            met = X[k] * Y[other] + X[other] * Y[k]
            total += met.sum() ** 2 - met @ met
            if slots > 1 and slots % 2 == 0:
                half_X, half_Y = np.roll(X[other], slots // 2), np.roll(Y[other], slots // 2)
                met = X[k] * half_Y + half_X * Y[k]
                total += met @ np.roll(met, slots // 2)
    return float(total / slots)


def pruning_variance(x: Vector, y: Vector, kept: int) -> float:
    """Return the variance of ``(n / m) sum of x_i y_i over m entries kept at random``, over the choice.

    Sampling without replacement: ``n^2 (1 - m / n) / m`` times the sample variance of the products.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        kept: m.
    """
    n = len(x)
    return float(n**2 * (1 - kept / n) / kept * np.var(x * y, ddof=1)) if n > 1 else 0.0


def expected_fold_variance(variances: Vector, slots: int) -> float:
    """Return the mean of ``fold_variance(x, x, m)`` over x with independent centred normal entries.

    ``2 (B - sum of B_k^2) / m`` with B_k the sum of ``variances`` over partition k and ``B = (sum of B_k)^2``.
    """
    rows = -(-len(variances) // slots)
    padded = np.zeros(rows * slots)
    padded[: len(variances)] = variances
    mass = padded.reshape(rows, slots).sum(1)
    return float(2 * (mass.sum() ** 2 - mass @ mass) / slots)


def expected_pruning_variance(variances: Vector, kept: int) -> float:
    """Return the mean of ``pruning_variance(x, x, m)`` over x with independent centred normal entries.

    It equals :func:`expected_fold_variance` where all variances are equal and m divides n, and exceeds it where they
    are not, the more so the more uneven they are: E(V_prune) >= E(V_share) of arXiv:2310.11611.
    """
    n, squares, total = len(variances), float(variances @ variances), float(variances.sum())
    spread = 3 * squares - (total**2 + 2 * squares) / n
    return n**2 * (1 - kept / n) / kept * spread / (n - 1)


def power_law(n: int, exponent: float, *, seed: int = 0) -> Vector:
    """Return variances ``i^-exponent`` for i = 1..n in a random order, scaled to mean 1; 0 is isotropic."""
    values = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return np.random.default_rng(seed).permutation(values / values.mean())
