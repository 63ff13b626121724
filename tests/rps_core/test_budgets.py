import pytest
from hypothesis import given
from hypothesis import strategies as st

from rps_core.budgets import (
    Group,
    check_ratio,
    kept_for_budget,
    kept_for_ratio,
    layer_name,
    resolve_budgets,
    unmatched_message,
)

SIZES = {"conv1": 100, "layer1.0": 300, "layer1.1": 300, "fc": 40}


def test_layer_name_drops_weight_only():
    assert layer_name("layer1.0.conv1.weight") == "layer1.0.conv1"
    assert layer_name("attn.in_proj_weight") == "attn.in_proj_weight"
    assert layer_name("weight") == "weight"
    assert layer_name("fc.bias") == "fc.bias"


@pytest.mark.parametrize("ratio", [0.99, 0, -1, float("nan"), float("inf")])
def test_ratio_below_one_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio >= 1 must hold"):
        check_ratio(ratio)


@pytest.mark.parametrize("ratio", ["10", True, None])
def test_ratio_that_is_no_number_is_refused(ratio):
    with pytest.raises(TypeError, match="ratio must be a number"):
        check_ratio(ratio)


@given(size=st.integers(1, 10**9), ratio=st.floats(1, 1e12))
def test_kept_for_ratio_stays_within_the_weights(size, ratio):
    kept = kept_for_ratio(size, ratio)
    assert 1 <= kept <= size
    assert abs(kept - size / ratio) <= max(0.5, 1 - size / ratio)


def test_a_budget_is_a_density_up_to_one_and_a_count_from_two():
    assert kept_for_budget(100, 1, where="x") == kept_for_budget(100, 1.0, where="x") == 100
    assert kept_for_budget(100, 0.25, where="x") == 25
    assert kept_for_budget(10, 0.37, where="x") == 4  # the nearest number of weights
    assert kept_for_budget(100, 40, where="x") == kept_for_budget(100, 40.0, where="x") == 40


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0.001, "leaves nothing of 100 weights: give at least 0.01"),
        (101, "kept <= size must hold, but got 101"),
        (2.5, "a count must be a whole number"),
        (0, "a density in"),
        (-3, "a density in"),
        (float("nan"), "a density in"),
    ],
)
def test_bad_budgets_say_what_to_write(budget, message):
    with pytest.raises(ValueError, match=message):
        kept_for_budget(100, budget, where="budget 'fc'")


def test_groups_by_first_pattern_then_the_rest():
    groups = resolve_budgets(SIZES, ratio=10, budgets={"layer1.1": 30, "layer1.*": 0.5})
    assert groups == (
        Group("layer1.1", ("layer1.1",), 300, 30),
        Group("layer1.*", ("layer1.0",), 300, 150),
        Group("*", ("conv1", "fc"), 140, 14),
    )


def test_a_pattern_that_matches_nothing_names_the_nearest_layer():
    with pytest.raises(ValueError, match=r"'layer2.0' matches no layer; the nearest is 'layer1.0'"):
        resolve_budgets(SIZES, budgets={"layer2.0": 0.5})
    with pytest.raises(ValueError, match="earlier patterns took all"):
        resolve_budgets(SIZES, budgets={"*": 0.5, "fc": 0.5})
    assert "there are none" in unmatched_message("fc", [])
    with pytest.raises(ValueError, match="no weight to compress"):
        resolve_budgets({})
