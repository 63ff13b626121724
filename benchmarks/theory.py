"""The claims of the method in numbers: load, cache lines, stable learning rates, and what sharing preserves.

python benchmarks/theory.py
"""

from __future__ import annotations

import json

import numpy as np
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


def preservation() -> None:
    """Variance of the squared norm under sharing and under random pruning, over inputs of growing imbalance."""
    n = 1000
    for ratio in (2, 10, 50):
        m = n // ratio
        for exponent in (0.0, 0.5, 1.0, 1.5, 2.0):
            variances = power_law(n, exponent)
            value = expected_pruning_variance(variances, m) / expected_fold_variance(variances, m)
            sizes = {"entries": n, "ratio": ratio, "exponent": exponent}
            report("pruning_over_sharing_variance", value, "x", "formula", **sizes)


def simulated(draws: int = 4000) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=240), rng.normal(size=240)
    errors = []
    for seed in range(draws):
        mapping = RandomFold(240, 24, seed)
        index, sign = mapping.slots_of(0, 240), mapping.signs_of(0, 240)
        shared = [np.bincount(index, weights=sign * values, minlength=24) for values in (x, y)]
        errors.append(shared[0] @ shared[1] - x @ y)
    ratio = float(np.mean(np.square(errors))) / fold_variance(x, y, 24)
    report("sharing_variance", ratio, "simulation / formula", "1", entries=240, ratio=10, draws=draws)


def main() -> None:
    loads_and_fetches()
    stable_ranges()
    preservation()
    simulated()


if __name__ == "__main__":
    main()
