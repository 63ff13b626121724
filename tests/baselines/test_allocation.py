from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.allocation import apportion, erdos_renyi_kernel, uniform


def test_uniform_gives_each_layer_its_share():
    assert uniform({"a": (10, 10), "b": (20, 10)}, 30, 0) == {"a": 10, "b": 20}


def test_erdos_renyi_kernel_by_hand():
    # Sums of dimensions 4 + 4 + 3 + 3 = 14 and 10 + 32 = 42: one to three.
    assert erdos_renyi_kernel({"conv": (4, 4, 3, 3), "fc": (10, 32)}, 56, 0) == {"conv": 14, "fc": 42}


def test_erdos_renyi_kernel_caps_small_layers_at_dense():
    # Proportional shares of 60 would be 5/205 * 60 of 6 and so on until "tiny" (6 weights, sum 5) is dense.
    counts = erdos_renyi_kernel({"tiny": (2, 3), "big": (100, 100)}, 400, 0)
    assert counts == {"tiny": 6, "big": 394}


def test_erdos_renyi_kernel_shares_what_full_layers_leave_in_proportion():
    shapes = {"tiny": (2, 3), "square": (100, 100), "wide": (50, 250)}  # sums of 5, 200 and 300
    assert erdos_renyi_kernel(shapes, 2006, 0) == {"tiny": 6, "square": 800, "wide": 1200}


def test_erdos_renyi_kernel_caps_layers_that_would_be_a_little_too_full():
    # Shares in proportion would give "tiny" 7.6 of its 4 weights; without it the others share 136 as 20 to 50.
    shapes = {"tiny": (2, 2), "square": (10, 10), "wide": (20, 30)}
    assert erdos_renyi_kernel(shapes, 140, 0) == {"tiny": 4, "square": 39, "wide": 97}


def test_a_floor_asks_no_more_of_a_layer_than_it_has():
    assert uniform({"a": (2,), "b": (50,)}, 12, 10) == {"a": 2, "b": 10}


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=6), st.data())
@pytest.mark.parametrize("allocation", [uniform, erdos_renyi_kernel])
def test_allocations_are_exact_and_within_bounds(allocation, layers, data):
    shapes = {str(i): shape for i, shape in enumerate(layers)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    floor = data.draw(st.integers(0, 5))
    kept = data.draw(st.integers(sum(min(floor, s) for s in sizes.values()), sum(sizes.values())))
    counts = allocation(shapes, kept, floor)
    assert sum(counts.values()) == kept
    assert all(min(floor, sizes[name]) <= counts[name] <= sizes[name] for name in shapes)


def test_apportion_rounds_to_the_largest_remainder():
    assert apportion({"a": 1.6, "b": 1.3, "c": 1.1}, {"a": 9, "b": 9, "c": 9}, 4, 0) == {"a": 2, "b": 1, "c": 1}


def test_a_budget_below_the_floors_is_an_error():
    with pytest.raises(ValueError, match="at least 2 weights in each of 2 layers, but got 3"):
        apportion({"a": 1.5, "b": 1.5}, {"a": 9, "b": 9}, 3, 2)
