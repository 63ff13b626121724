import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.space.shares import erk_log2_densities, floors, split


def test_equal_shares_are_the_uniform_allocation():
    assert split([100, 200, 300], 60, [0.0, 0.0, 0.0]) == [10, 20, 30]
    assert split([100, 200, 300], 60, [1.7, 1.7, 1.7]) == [10, 20, 30]


def test_a_share_of_one_doubles_the_density():
    assert split([100, 100], 60, [1.0, 0.0]) == [40, 20]


def test_what_a_full_group_cannot_hold_goes_to_the_others():
    assert split([10, 100, 100], 70, [3.0, 0.0, 0.0]) == [10, 30, 30]


def test_no_group_falls_below_its_floor():
    assert split([1000, 1000, 1], 12, [3.0, -3.0, 0.0]) == [9, 2, 1]


def test_everything_and_the_floors_are_feasible():
    assert split([5, 7], 12, [3.0, -3.0]) == [5, 7]
    assert split([5, 7], 4, [3.0, -3.0]) == [2, 2]


@pytest.mark.parametrize("total", [3, 13])
def test_an_infeasible_total_is_refused(total):
    with pytest.raises(ValueError, match=f"4 <= total <= 12 must hold .* but got total={total}"):
        split([5, 7], total, [0.0, 0.0])


@given(st.data())
def test_every_split_is_feasible_exact_and_ordered_by_share(data):
    sizes = data.draw(st.lists(st.integers(1, 10**7), min_size=1, max_size=30))
    total = data.draw(st.integers(int(floors(sizes).sum()), sum(sizes)))
    logs = data.draw(st.lists(st.floats(-3, 3), min_size=len(sizes), max_size=len(sizes)))
    kept = split(sizes, total, logs)
    assert sum(kept) == total
    assert all(min(2, size) <= count <= size for count, size in zip(kept, sizes, strict=True))
    # Where neither floor nor size binds, densities stand to each other as the shares say, up to rounding.
    inner = [i for i, (count, size) in enumerate(zip(kept, sizes, strict=True)) if 1000 < count < size - 1]
    for i, j in pairwise(inner):
        ratio = math.log2(kept[i] / sizes[i]) - math.log2(kept[j] / sizes[j])
        assert ratio == pytest.approx(logs[i] - logs[j], abs=0.01)


def test_erk_follows_sum_over_product_of_the_dimensions():
    logs = erk_log2_densities([[(16, 3, 3, 3)], [(10, 20)]])
    assert logs[0] - logs[1] == pytest.approx(math.log2((25 / 432) / (30 / 200)))


def test_erk_of_a_group_is_that_of_its_layers_together():
    logs = erk_log2_densities([[(4, 4), (8, 4)], [(2, 2)]])
    assert logs[0] - logs[1] == pytest.approx(math.log2((8 + 12) / (16 + 32)))
