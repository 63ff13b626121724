"""The claims, checked by hand, by simulation and against gradient descent itself."""

import itertools

import numpy as np
import pytest
import torch

from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.mappings import MAPPINGS, Block, HashedNet, RandomFold
from rps_core.theory import (
    LoadReport,
    expected_fold_variance,
    expected_pruning_variance,
    fold_variance,
    load_report,
    mean_fetches,
    power_law,
    pruning_variance,
    recovery_matrix,
    sharing_variance,
    stable_learning_rate,
)

RNG = np.random.default_rng(0)


def two_layers(scaling, *, init_std=1.0, slots=10, mapping="random_fold"):
    layers = (
        Layer("a", (), Block((5, 6)), 0, 0.3 / init_std),
        Layer("b", (), Block((3, 4)), 30, 0.05 / init_std),
    )
    return Group("*", layers, slots, mapping, 1, scaling)


def test_random_fold_has_the_optimal_load_and_the_others_have_not():
    assert load_report(RandomFold(1000, 300, 0)) == LoadReport(3, 4, 0.0)
    for name in ("hashed_net", "robe_z", "roast"):
        report = load_report(MAPPINGS[name].build([Block((300, 300))], 30_000, 0))
        assert report.unused == pytest.approx(np.exp(-3), abs=0.03)
        assert report.largest > 6


def test_pareto_continuity():
    """At ratio 1 random_fold recovers any weights exactly; the others cannot, whatever psi is."""
    for name in sorted(MAPPINGS):
        group = two_layers("none", slots=42, mapping=name)
        rank = int(torch.linalg.matrix_rank(recovery_matrix(group)))
        assert (rank == 42) == (name == "random_fold")


def test_fetches_of_a_range():
    contiguous = 1 + 63 / 16
    fold = mean_fetches(RandomFold(200_000, 20_000, 0), 64)
    assert contiguous - 0.2 < fold < contiguous + 0.3
    assert mean_fetches(HashedNet(200_000, 20_000, 0), 64) > 50
    robe = mean_fetches(MAPPINGS["robe_z"].build([Block((200_000,))], 20_000, 0), 64)
    assert fold < robe < 10


def test_the_gram_matrix_of_recovery_is_the_curvature_scaler():
    group = two_layers("curvature")
    R = recovery_matrix(group)
    torch.testing.assert_close(R.T @ R, torch.diag(torch.from_numpy(group.scaler)))


def descend(group, hessian, lr, steps=300):
    """Gradient descent on psi as an optimizer would do it; returns |w| at the end over |w| at the start."""
    psi = torch.ones(group.slots, dtype=torch.float64)
    R, scaler = recovery_matrix(group), torch.from_numpy(group.scaler)
    start = torch.linalg.vector_norm(R @ psi)
    for _ in range(steps):
        psi = psi - lr * (R.T @ (hessian @ (R @ psi))) / scaler
    return float(torch.linalg.vector_norm(R @ psi) / start)


@pytest.mark.parametrize("init_std", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("mapping", ["random_fold", "hashed_net"])
def test_curvature_keeps_the_dense_range_on_an_isotropic_quadratic(init_std, mapping):
    L = 7.0
    group, hessian = two_layers("curvature", init_std=init_std, mapping=mapping), L * torch.eye(42).double()
    assert stable_learning_rate(group, hessian) == pytest.approx(2 / L)
    assert descend(group, hessian, 1.99 / L) < 0.1
    assert descend(group, hessian, 2.01 / L) > 10


@pytest.mark.parametrize("init_std", [1e-3, 1.0, 10.0])
def test_curvature_never_narrows_the_range_of_a_general_quadratic(init_std):
    for seed in range(20):
        factor = torch.randn(42, 42, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        hessian = factor.T @ factor
        dense = 2 / float(torch.linalg.eigvalsh(hessian)[-1])
        assert stable_learning_rate(two_layers("curvature", init_std=init_std), hessian) >= dense * (1 - 1e-9)


@pytest.mark.parametrize("scaling", ["effective_update", "curvature", "load_power(0.5)"])
def test_scaled_ranges_do_not_depend_on_the_std_and_unscaled_ones_do(scaling):
    factor = torch.randn(42, 42, dtype=torch.float64)
    hessian = factor.T @ factor
    scaled = [stable_learning_rate(two_layers(scaling, init_std=std), hessian) for std in (1e-3, 1.0, 10.0)]
    assert scaled == pytest.approx([scaled[1]] * 3)
    small, large = (stable_learning_rate(two_layers("none", init_std=std), hessian) for std in (1.0, 10.0))
    assert large == pytest.approx(100 * small)


def test_effective_update_has_at_most_the_range_of_curvature():
    hessian = torch.eye(42).double()
    assert stable_learning_rate(two_layers("effective_update"), hessian) < 2
    assert stable_learning_rate(two_layers("load_power(1)"), hessian) < 1


def test_a_flat_direction_has_no_bound():
    assert stable_learning_rate(two_layers("curvature"), torch.zeros(42, 42).double()) == float("inf")


def simulate_sharing(kind, x, y, slots, draws=3000):
    errors = []
    for seed in range(draws):
        mapping = kind(len(x), slots, seed)
        index, sign = mapping.slots_of(0, len(x)), mapping.signs_of(0, len(x))
        sums = [np.bincount(index, weights=sign * values, minlength=slots) for values in (x, y)]
        errors.append(sums[0] @ sums[1] - x @ y)
    return np.array(errors)


def agrees(errors, variance):
    """Unbiased, and of this variance, within five standard errors of each."""
    assert abs(errors.mean()) < 5 * errors.std() / np.sqrt(len(errors))
    squares = errors**2
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(len(errors))


VECTORS = {
    "ones": (np.ones(48), np.ones(48)),
    "normal": (RNG.normal(size=48), RNG.normal(size=48)),
    "norm": (lambda v: (v, v))(RNG.normal(size=50)),
    "power law": (lambda v: (v, v))(np.sqrt(power_law(48, 1.5)) * RNG.normal(size=48)),
}


@pytest.mark.parametrize("case", sorted(VECTORS))
@pytest.mark.parametrize("slots", [12, 16])
def test_variance_of_sharing(case, slots):
    x, y = VECTORS[case]
    agrees(simulate_sharing(RandomFold, x, y, slots), fold_variance(x, y, slots))
    agrees(simulate_sharing(HashedNet, x, y, slots), sharing_variance(x, y, slots))


def test_variance_of_folding_over_every_rotation_and_sign():
    """Two partitions of four weights: at a rotation by two, the pattern of signs meets itself."""
    x, y = np.random.default_rng(1).normal(size=(2, 2, 4))
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))  # a pattern, and whether the second is flipped
    found = [
        np.sum([flip * np.roll(g * x[1], turn), g * x[0]], 0) @ np.sum([flip * np.roll(g * y[1], turn), g * y[0]], 0)
        for turn in range(4)
        for *g, flip in signs
    ]
    assert np.mean(found) == pytest.approx(np.sum(x * y))
    assert np.var(found) == pytest.approx(fold_variance(x.ravel(), y.ravel(), 4))


@pytest.mark.parametrize("case", ["normal", "power law"])
def test_variance_of_pruning(case):
    x, y = VECTORS[case]
    draws = [RNG.choice(48, size=12, replace=False) for _ in range(3000)]
    errors = np.array([4 * (x[kept] @ y[kept]) - x @ y for kept in draws])
    agrees(errors, pruning_variance(x, y, 12))


def test_variances_at_ratio_one_and_of_one_weight_are_zero():
    x = RNG.normal(size=20)
    assert fold_variance(x, x, 20) == 0
    assert pruning_variance(x, x, 20) == 0
    assert pruning_variance(x[:1], x[:1], 1) == 0


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_expected_variances_over_data(exponent):
    variances = power_law(40, exponent)
    data = np.sqrt(variances) * RNG.normal(size=(20_000, 40))
    for formula, expected in (
        (fold_variance, expected_fold_variance),
        (pruning_variance, expected_pruning_variance),
    ):
        sample = np.array([formula(x, x, 10) for x in data[: 4000 if formula is fold_variance else 20_000]])
        assert abs(sample.mean() - expected(variances, 10)) < 5 * sample.std() / np.sqrt(len(sample))


def test_sharing_beats_pruning_where_inputs_are_imbalanced_and_ties_where_they_are_not():
    flat = np.ones(400)
    assert expected_fold_variance(flat, 40) == pytest.approx(expected_pruning_variance(flat, 40))
    previous = 1.0
    for exponent in (0.5, 1.0, 1.5, 2.0):
        variances = power_law(400, exponent)
        advantage = expected_pruning_variance(variances, 40) / expected_fold_variance(variances, 40)
        assert advantage > previous
        previous = advantage
    assert previous > 10
