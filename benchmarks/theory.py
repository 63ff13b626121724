"""The claims of the method in numbers: load, cache lines, stable learning rates, and what sharing preserves.

python benchmarks/theory.py
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import torch

from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.mappings import MAPPINGS, Block, RandomFold
from rps_core.theory import (
    expected_fold_variance,
    expected_pruning_variance,
    fold_variance,
    load_report,
    mean_fetches,
    power_law,
    pruning_variance,
    stable_learning_rate,
)

BLOCKS = (Block((64, 576)), Block((256, 300)), Block((1000, 64), table=True))
RANGE = 64


def report(name: str, value: float, unit: str, against: str, **sizes: object) -> None:
    print(json.dumps({"name": name, "value": float(f"{value:.5g}"), "unit": unit, "against": against, **sizes}))


def loads_and_fetches() -> None:
    n = sum(block.size for block in BLOCKS)
    for ratio in (1, 10, 100):
        for name in MAPPINGS:
            mapping = MAPPINGS[name].build(BLOCKS, n // ratio, 0)
            loads = load_report(mapping)
            sizes = {"mapping": name, "weights": n, "ratio": ratio}
            report("unused_slots", loads.unused, "fraction", "0 is optimal", **sizes)
            report("largest_load", loads.largest, "weights a slot", f"optimal {-(-n // (n // ratio))}", **sizes)
            lines = mean_fetches(mapping, RANGE)
            report("cache_lines", lines, "lines", f"contiguous {1 + (RANGE - 1) / 16:.3g}", **sizes, range=RANGE)


def stable_ranges() -> None:
    """Learning rates relative to the dense model's bound 2 / L, on an isotropic and on a general quadratic."""
    factor = torch.randn(120, 120, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quadratics = {"isotropic": torch.eye(120).double(), "general": factor.T @ factor}
    for kind, hessian in quadratics.items():
        dense = 2 / float(torch.linalg.eigvalsh(hessian)[-1])
        for scaling in ("curvature", "effective_update", "load_power(0.5)", "none"):
            for std in (1e-3, 1e-1, 1.0, 10.0):
                layers = (
                    Layer("a", (), Block((10, 8)), 0, 0.3 / std),
                    Layer("b", (), Block((8, 5)), 80, 0.05 / std),
                )
                group = Group("*", layers, 20, "random_fold", 0, scaling)
                value = stable_learning_rate(group, hessian) / dense
                report("stable_learning_rate", value, "x", "dense model", scaling=scaling, init_std=std, loss=kind)


RATIOS = (1, 2, 4, 10, 20, 50, 100)
EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0)


def preservation() -> None:
    """Relative error of the squared norm over inputs of growing imbalance: sharing and pruning at random, by formula.

    The error is the root of the expected variance over the expected squared norm, n.
    """
    n = 1000
    for ratio in RATIOS:
        m = n // ratio
        for exponent in EXPONENTS:
            variances = power_law(n, exponent)
            shared, pruned = expected_fold_variance(variances, m), expected_pruning_variance(variances, m)
            sizes = {"entries": n, "ratio": ratio, "exponent": exponent}
            report("sharing_norm_error", np.sqrt(shared) / n, "of the norm", "formula", **sizes)
            report("pruning_norm_error", np.sqrt(pruned) / n, "of the norm", "formula", **sizes)
            if shared > 0:
                report("pruning_over_sharing_variance", pruned / shared, "x", "formula", **sizes)


def simulated(draws: int = 1000) -> None:
    """Errors of norms and inner products over fixed pairs of a given cosine, by simulation and by formula."""
    n, rng = 400, np.random.default_rng(0)
    for exponent in (0.0, 1.0, 2.0):
        spread = np.sqrt(power_law(n, exponent))
        x, z = spread * rng.normal(size=n), spread * rng.normal(size=n)
        x, z = x / np.linalg.norm(x), z - x * (x @ z) / (x @ x)
        for cosine in (1.0, 0.5, 0.0):
            y = cosine * x + np.sqrt(1 - cosine**2) * z / np.linalg.norm(z)
            for ratio in (2, 10, 50):
                simulate_pair(x, y, n // ratio, draws, {"entries": n, "exponent": exponent, "cosine": cosine})


def simulate_pair(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], m: int, draws: int, sizes: dict[str, object]
) -> None:
    """Print the root mean square errors of ``<x, y>`` with m entries kept, for sharing and for pruning at random."""
    n, rng = len(x), np.random.default_rng(1)
    errors: dict[str, list[float]] = {"sharing": [], "pruning": []}
    for seed in range(draws):
        mapping = RandomFold(n, m, seed)
        index, sign = mapping.slots_of(0, n), mapping.signs_of(0, n)
        shared = [np.bincount(index, weights=sign * values, minlength=m) for values in (x, y)]
        kept = rng.choice(n, size=m, replace=False)
        errors["sharing"].append(shared[0] @ shared[1] - x @ y)
        errors["pruning"].append(n / m * (x[kept] @ y[kept]) - x @ y)
    formulas = {"sharing": fold_variance(x, y, m), "pruning": pruning_variance(x, y, m)}
    for name, values in errors.items():
        error = float(np.sqrt(np.mean(np.square(values))))
        expected = float(f"{np.sqrt(formulas[name]):.5g}")
        what = {"ratio": n // m, "draws": draws, "formula": expected}
        report(f"{name}_inner_product_error", error, "of |x| |y|", "0, by simulation", **sizes, **what)


def main() -> None:
    loads_and_fetches()
    stable_ranges()
    preservation()
    simulated()


if __name__ == "__main__":
    main()
