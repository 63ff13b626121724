import pytest

from search.results.intervals import welch


def test_welch_by_hand():
    # Means 3 and 5, variances 1 and 4, three values each: v = 1/3, 4/3; f = (5/3)^2 / ((1/9 + 16/9) / 2) = 50 / 17;
    # t(0.975, 50 / 17) = 3.2187...
    difference, half = welch([2, 3, 4], [3, 5, 7])
    assert difference == -2
    assert half == pytest.approx(3.2187 * (5 / 3) ** 0.5, rel=1e-3)


def test_neither_one_value_nor_equal_values_have_an_interval():
    assert welch([1.0], [0.5, 0.6]) == (pytest.approx(0.45), None)
    assert welch([0.5, 0.5], [0.25, 0.25]) == (0.25, None)
    assert welch([0.5, 0.5], [0.25, 0.35])[1] > 0.05


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    import numpy as np

    rng = np.random.default_rng(0)
    draws = [(rng.normal(1, 1, 4).tolist(), rng.normal(0, 3, 3).tolist()) for _ in range(400)]
    covered = [abs(difference - 1) <= half for difference, half in (welch(a, b) for a, b in draws)]
    assert 0.91 < np.mean(covered) < 0.99
