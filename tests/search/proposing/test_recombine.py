import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler

from search.proposing import Proposer
from search.proposing.known import Known
from search.proposing.models import LONG
from search.proposing.recombine import BEYOND, recombine
from search.space import Space
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "fc": (10, 32)}
SCALES = {
    "method": CategoricalDistribution(["rps", "snip"]),
    "lr": FloatDistribution(1e-3, 10.0, log=True),
    "share": FloatDistribution(-3, 3),
    "depth": IntDistribution(1, 100),
    "split": CategoricalDistribution(["own", "shares"]),
    "decay": CategoricalDistribution([0.0, 1e-4, 1e-3]),
}


def parent(**params):
    return Known.make(params, {name: SCALES[name] for name in params}, losses=(0.0, 0.0))


def children(parents, count=2000, seed=0):
    rng = np.random.default_rng(seed)
    return [recombine(parents, rng) for _ in range(count)]


def test_one_parameter_mutates_on_average():
    found = children([parent(lr=0.1, share=1.0, depth=3, split="own", decay=0.0)])
    assert np.mean([5 - len(child) for child in found]) == pytest.approx(1, abs=0.1)


def test_half_of_the_children_blend_what_is_continuous_along_its_scale():
    low, high = parent(lr=0.01, share=-1.0), parent(lr=1.0, share=1.0)
    found = [child for child in children([low, high]) if len(child) == 2]
    blends = [child for child in found if child["lr"] not in (0.01, 1.0)]
    # Half of the pairs are a parent with itself: nothing to blend.
    assert len(blends) / len(found) == pytest.approx(1 / 4, abs=0.05)
    exponents = np.log10([child["lr"] for child in blends])
    assert exponents.min() >= -2 - 2 * BEYOND - 1e-9
    assert exponents.max() <= 2 * BEYOND + 1e-9
    assert np.mean(exponents) == pytest.approx(-1, abs=0.1), "the geometric middle"
    assert np.mean([child["share"] for child in blends]) == pytest.approx(0, abs=0.1)


def test_a_blend_stays_within_the_limits():
    found = children([parent(lr=1e-3, share=-3.0), parent(lr=10.0, share=3.0)])
    assert {child["share"] for child in found if "share" in child} >= {-3.0, 3.0}
    assert all(1e-3 <= child.get("lr", 1) <= 10 and -3 <= child.get("share", 0) <= 3 for child in found)


def test_choices_and_whole_numbers_are_taken_from_a_parent():
    found = children([parent(depth=1, split="own", decay=0.0), parent(depth=9, split="shares", decay=1e-3)])
    assert {child["depth"] for child in found if "depth" in child} == {1, 9}
    assert {child["decay"] for child in found if "decay" in child} == {0.0, 1e-3}
    assert len({tuple(child.items()) for child in found if len(child) == 3}) == 8, "in all combinations"


def test_the_first_parent_decides_which_parameters_there_are():
    found = children([parent(lr=1.0, split="shares", share=0.5), parent(lr=1.0, split="own")])
    assert {tuple(child) for child in found} >= {("lr", "split", "share"), ("lr", "split")}
    assert {child["share"] for child in found if "share" in child} == {0.5}


def test_both_parents_are_of_one_method():
    found = children([parent(method="rps", lr=1.0), parent(method="snip", lr=2.0), parent(method="snip", lr=2.0)])
    assert {tuple(child.values()) for child in found if len(child) == 2} == {("rps", 1.0), ("snip", 2.0)}


def test_proposals_of_tpe_are_near_good_ones_and_in_a_long_search_most_ask_nothing_of_optuna(monkeypatch):
    space = Space(SpaceSpec(methods={"rps": {"weight_decay": {"choices": [0.0, 1e-4]}}}), SHAPES, groups=list(SHAPES))
    proposer = Proposer(space, seed=4)
    asked = []
    drawn = TPESampler.sample_relative
    monkeypatch.setattr(TPESampler, "sample_relative", lambda *args: asked.append(number) or drawn(*args))
    off = [[] for _ in range(4)]
    for number in range(450):
        _, suggestion = proposer.ask()
        if number >= 350:
            off[number % 4].append(abs(math.log(suggestion.lr / 0.05)))
        accuracy = 0.5 - 0.1 * abs(math.log(suggestion.lr / 0.05))
        proposer.tell(number, status="finished", accuracy=accuracy, memory=1e5 / suggestion.ratio)
    assert max(np.median(part) for part in off) < 0.5
    assert set(asked) - set(range(15)) == {n for n in range(15, 450) if n < LONG or n % 5 == 0}
