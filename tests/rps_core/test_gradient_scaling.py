import numpy as np
import pytest

from rps_core.gradient_scaling import check_gradient_scaling, gradient_scaler

# Slot 0 serves weights of scales 1, 1 and 2; slot 1 one of scale 3; slot 2 none.
LOAD, SUM, SQUARES = np.array([3, 1, 0]), np.array([4.0, 3.0, 0.0]), np.array([6.0, 9.0, 0.0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("effective_update", [16 / 3, 9, 1]),
        ("curvature", [6, 9, 1]),
        ("load_power(0)", [6, 9, 1]),
        ("load_power(1)", [2, 9, 1]),
        ("load_power(0.5)", [6 / np.sqrt(3), 9, 1]),
        ("load_power( 0.5 )", [6 / np.sqrt(3), 9, 1]),
        ("none", [1, 1, 1]),
    ],
)
def test_by_hand(name, expected):
    np.testing.assert_allclose(gradient_scaler(name, LOAD, SUM, SQUARES), expected)


def test_effective_update_is_at_most_curvature():
    """Cauchy-Schwarz; equal where all scales in a slot are."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 3, (200, 5))
    args = np.full(200, 5), scales.sum(1), (scales**2).sum(1)
    assert (gradient_scaler("effective_update", *args) < gradient_scaler("curvature", *args)).all()


@pytest.mark.parametrize("name", ["load_power", "load_power()", "load_power(-1)", "load_power(2.5)", "", None])
def test_refuses(name):
    with pytest.raises(ValueError, match=r"gradient_scaling must be one of|0 <= a <= 2"):
        check_gradient_scaling(name)


def test_effective_update_moves_the_weights_of_a_slot_by_the_mean_of_their_dense_updates():
    """The mean weighs a weight by its layer's scale (arXiv:2310.11611)."""
    rng = np.random.default_rng(1)
    scales, signs, grads, lr = rng.uniform(0.1, 2, 6), rng.choice([-1, 1], 6), rng.normal(size=6), 0.3
    (scaler,) = gradient_scaler("effective_update", np.array([6]), scales.sum(keepdims=True), np.zeros(1))
    step = -lr * (scales * signs * grads).sum() / scaler
    shared = signs * (scales * signs * step)
    dense = signs * (-lr * grads)
    np.testing.assert_allclose(shared.mean(), (scales * dense).sum() / scales.sum())
