from dataclasses import replace

import numpy as np
import pytest

from search.space import CubeTrial, Space, locate
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body": (64, 64, 3, 3), "fc": (10, 64)}


def space(**fields):
    return Space(SpaceSpec(**fields), SHAPES, groups=list(SHAPES))


def other(seed, **fields):
    suggestion = space(**fields).suggest(CubeTrial(iter(np.random.default_rng(seed).random, None), {}))
    return replace(suggestion, params={})


@pytest.mark.parametrize("seed", range(20))
def test_a_configuration_is_found_in_the_same_space_without_its_parameters(seed):
    suggestion = other(seed)
    found = locate(space(), suggestion)
    assert found is not None
    assert found.key == suggestion.key
    assert space().replay(found.params) == found


def test_a_superset_holds_what_was_fixed_before():
    earlier = other(1, methods=["rps"], lr=0.5, weight_decay=1e-4)
    found = locate(space(methods=["rps", "snip"], weight_decay={"low": 1e-5, "high": 1e-3}), earlier)
    assert found.params["method"] == "rps"
    assert (found.params["rps.lr"], found.params["rps.weight_decay"]) == (0.5, 1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"methods": ["snip"]},
        {"lr": 0.3},
        {"lr": {"low": 0.6, "high": 0.9}},
        {"lr": {"choices": [0.4, 0.6]}},
        {"methods": {"rps": {"args": {"k": 3}}}},
    ],
)
def test_what_lies_outside_is_not_found(fields):
    assert locate(space(**{"methods": ["rps"], **fields}), other(1, methods=["rps"], lr=0.5)) is None


@pytest.mark.parametrize("lr", [{"low": 0.5, "high": 1}, {"low": 0.1, "high": 0.5}, {"choices": [0.4, 0.5]}])
def test_the_ends_of_a_range_and_the_choices_lie_inside(lr):
    assert locate(space(methods=["rps"], lr=lr), other(1, methods=["rps"], lr=0.5)).lr == 0.5


def test_budgets_of_other_groups_are_not_found():
    suggestion = replace(other(1, methods=["rps"]), budgets={"elsewhere": 10})
    assert locate(space(methods=["rps"]), suggestion) is None
