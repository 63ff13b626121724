from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.data.splits import balanced, channel_statistics, long_tailed, stratified

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def test_stratified_takes_the_same_share_of_each_class():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    chosen, rest = stratified(labels, 10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 2]
    assert np.bincount(labels[rest]).tolist() == [45, 27, 18]


def test_small_classes_are_not_taken_first():
    chosen, _ = stratified(np.repeat([0, 1, 2, 3], [57, 1, 1, 1]), 6, seed=0)
    assert chosen.max() < 57  # a tenth of one image is none


@pytest.mark.parametrize(("large", "small", "count"), [(56, 4, 29), (500, 500, 100), (30, 300, 33), (2, 60, 20)])
def test_many_small_classes_are_not_passed_over(large, small, count):
    """All of what a tenth of the images is was taken from the one large class."""
    labels = np.repeat(np.arange(small + 1), [large] + [1] * small)
    chosen, rest = stratified(labels, count, seed=0)
    assert sorted([*chosen, *rest]) == list(range(large + small))
    assert np.all(np.diff(chosen) > 0)
    assert np.sum(labels[chosen] == 0) == pytest.approx(large * count / (large + small), abs=1)
    other, _ = stratified(labels, count, seed=1)
    assert not np.array_equal(other, chosen)


def test_balanced_takes_equal_numbers_and_fills_up_where_a_class_is_short():
    labels = np.repeat([0, 1, 2], [50, 30, 2])
    assert np.bincount(labels[balanced(labels, 12, seed=0)]).tolist() == [5, 5, 2]
    assert np.bincount(labels[balanced(labels, 3, seed=0)]).tolist() == [1, 1, 1]


@given(LABELS, st.data())
def test_every_image_is_on_exactly_one_side(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    chosen, rest = stratified(labels, count, seed=3)
    assert len(chosen) == count
    assert sorted([*chosen, *rest]) == list(range(len(labels)))
    expected = np.bincount(labels, minlength=5) * count / len(labels)
    assert np.all(np.abs(np.bincount(labels[chosen], minlength=5) - expected) <= 1)


@given(LABELS, st.data())
def test_balanced_counts_differ_by_one_at_most_where_classes_reach(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    sizes, got = np.bincount(labels, minlength=5), np.bincount(labels[balanced(labels, count, 1)], minlength=5)
    assert got.sum() == count
    most = got.max()
    assert all(taken >= most - 1 or taken == size for taken, size in zip(got, sizes, strict=True))


def test_long_tailed_sizes_are_the_published_ones_of_cifar_10():
    # Source: arXiv:1901.05555 at imbalance factor 100, the sizes that CIFAR-10-LT is known by.
    labels = np.repeat(np.arange(10), 5000)
    chosen = long_tailed(labels, 10, 100, seed=0)
    sizes = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert np.bincount(labels[chosen]).tolist() == sizes
    assert not np.array_equal(chosen, long_tailed(labels, 10, 100, seed=1))


def test_long_tailed_keeps_the_factor_where_a_class_is_short_or_a_limit_is_set():
    labels = np.repeat([0, 1, 2], [100, 20, 100])
    # Class 1 has 20, a fifth of which the first class may have five times as many: 20 * sqrt(25), 20, 20 / sqrt(25).
    assert np.bincount(labels[long_tailed(labels, 3, 25, seed=0)]).tolist() == [100, 20, 4]
    # 62 images in shares of 1, 1 / 5 and 1 / 25.
    assert np.bincount(labels[long_tailed(labels, 3, 25, limit=62, seed=0)]).tolist() == [50, 10, 2]
    assert np.bincount(labels[long_tailed(labels, 3, 1, seed=0)]).tolist() == [20, 20, 20]
    # Powers of two, which 32 ** (k / 5) misses by its rounding.
    labels = np.repeat(np.arange(6), 32)
    assert np.bincount(labels[long_tailed(labels, 6, 32, seed=0)]).tolist() == [32, 16, 8, 4, 2, 1]


def test_long_tailed_refuses_to_empty_a_class():
    with pytest.raises(ValueError, match="class 2 would keep no image, for the largest class keeps 5"):
        long_tailed(np.repeat([0, 1, 2], 5), 3, 10, seed=0)


def test_the_seed_decides_the_choice():
    labels = np.arange(1000) % 10
    first, again, other = (stratified(labels, 100, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_choice_is_the_same_on_every_machine():
    # Pinned: a changed split would silently make old result tables incomparable.
    assert stratified(np.arange(40) % 4, 6, seed=0)[0].tolist() == [2, 3, 11, 13, 20, 21]


def test_channel_statistics_equal_numpy_over_many_chunks():
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 2, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    assert mean == pytest.approx((images / 255).mean(axis=(0, 2, 3)))
    assert std == pytest.approx((images / 255).std(axis=(0, 2, 3)))


def test_a_constant_channel_still_has_a_std_to_divide_by():
    mean, std = channel_statistics(np.full((4, 1, 2, 2), 51, dtype=np.uint8))
    assert mean == pytest.approx((0.2,))
    assert std == (1 / 255,)
