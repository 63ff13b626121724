import math

import numpy as np
import pytest

from rps_core.budgets import kept_for_ratio, resolve_budgets
from search.errors import UserError
from search.space import CubeTrial, Replay, Space
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body.0": (16, 16, 3, 3), "body.1": (32, 16, 3, 3), "fc": (10, 32)}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
TOTAL = sum(SIZES.values())


def space(groups=("stem", "body.*", "fc"), **fields):
    return Space(SpaceSpec(**fields), SHAPES, groups=groups)


def chance(seed):
    return CubeTrial(iter(np.random.default_rng(seed).random, None), {})


@pytest.mark.parametrize("scope", ["groups", "layers"])
@pytest.mark.parametrize("seed", range(20))
def test_every_proposal_is_feasible_and_keeps_what_its_ratio_says(scope, seed):
    suggestion = space(budgets=scope, methods=["rps"]).replay(
        {**space(budgets=scope, methods=["rps"]).suggest(chance(seed)).params, "rps.split": "shares"}
    )
    assert sum(suggestion.budgets.values()) == kept_for_ratio(TOTAL, suggestion.ratio)
    groups = resolve_budgets(SIZES, budgets=suggestion.budgets)
    assert sum(group.kept for group in groups) == kept_for_ratio(TOTAL, suggestion.ratio)
    assert [group.name for group in groups] == list(suggestion.budgets)


def test_layers_that_no_pattern_claims_are_a_group_of_their_own():
    suggestion = space(groups=["stem"], methods=["rps"]).replay({})
    assert list(suggestion.budgets) == ["stem", "*"]


def test_layers_whose_names_read_as_patterns_have_their_own_budgets():
    shapes = {"a[0]": (8, 8), "b*": (8, 8), "b1": (8, 8)}
    one = Space(SpaceSpec(methods=["rps"], budgets="layers", ratio=4), shapes)
    assert [group.layers for group in one.groups("rps")] == [("a[0]",), ("b*",), ("b1",)]
    budgets = one.replay({"rps.erk_power": 0.0, "rps.share.b1": -2.0}).budgets
    assert [group.layers for group in resolve_budgets(dict.fromkeys(shapes, 64), budgets=budgets)] == [
        ("a[0]",),
        ("b*",),
        ("b1",),
    ]
    assert min(budgets, key=budgets.get) == "b1"


def test_parameters_are_named_after_their_method():
    both = space(methods={"rps": {"lr": {"low": 0.1, "high": 4}}, "snip": {"budgets": "global"}})
    rps, snip = both.replay({"method": "rps"}), both.replay({"method": "snip"})
    shares = ["rps.share.stem", "rps.share.body.*", "rps.share.fc"]
    assert list(rps.params) == ["method", "rps.ratio", "rps.lr", "rps.split", "rps.erk_power", *shares]
    assert list(snip.params) == ["method", "snip.ratio", "snip.lr"]
    assert rps.lr == pytest.approx(math.sqrt(0.1 * 4))
    assert snip.lr == pytest.approx(math.sqrt(0.02 * 1.0))


def test_what_the_spec_fixes_is_no_parameter():
    suggestion = space(methods=["rps"], lr=0.3, ratio=10, weight_decay={"choices": [0.0]}).replay({"rps.split": "own"})
    assert suggestion.params == {"rps.split": "own"}
    assert (suggestion.lr, suggestion.ratio, suggestion.weight_decay) == (0.3, 10, 0.0)


def test_the_dense_model_has_neither_ratio_nor_budgets():
    suggestion = space(methods=["dense"], lr=0.1).replay({})
    assert (suggestion.ratio, suggestion.budgets, suggestion.params) == (1.0, None, {})


@pytest.mark.parametrize("method", ["small", "channels", "erk", "uniform"])
def test_methods_with_their_own_allocation_get_no_budgets(method):
    assert space(methods=[method]).replay({}).budgets is None
    with pytest.raises(UserError, match=rf"space.methods.{method}.budgets: must be global or left out.* got 'layers'"):
        space(methods={method: {"budgets": "layers"}})


def test_methods_with_their_own_allocation_may_say_so():
    assert space(methods={"small": {"budgets": "global"}, "rps": {}}).groups("small") == ()


def test_a_single_group_has_nothing_to_split():
    suggestion = space(groups=["*"], methods=["rps"], ratio=4, lr=0.1).replay({})
    assert (suggestion.budgets, suggestion.params) == (None, {})


def test_a_range_of_one_value_is_no_parameter():
    suggestion = space(methods=["dense"], lr={"low": 0.2, "high": 0.2}, weight_decay=0).replay({})
    assert (suggestion.lr, suggestion.params) == (0.2, {})


def test_ranges_are_drawn_along_the_scale_they_name():
    fields = {"methods": ["rps"], "budgets": "global", "lr": {"low": 0.25, "high": 4, "log": False}}
    half = space(**fields).suggest(CubeTrial(iter([0.5] * 3), {}))
    assert half.ratio == pytest.approx(math.sqrt(2 * 100))
    assert half.lr == pytest.approx(2.125)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_group_may_be_four_times_as_dense_as_its_power_says_and_no_more(sign):
    one = space(methods=["rps"], ratio=16)

    def density(share):
        given = {"rps.split": "shares", "rps.erk_power": 0.0, **{f"rps.share.{n}": 0.0 for n in ("stem", "fc")}}
        trial = CubeTrial(iter([0.5] * 9), {**given, "rps.share.body.*": 0.0, "rps.share.fc": share})
        kept = one.suggest(trial).budgets
        return kept["fc"] / 320 / (kept["stem"] / 432)

    assert density(sign * 2) == pytest.approx(4.0**sign, rel=0.1)
    assert density(sign * 9) == density(sign * 2)


def test_further_arguments_are_fixed_or_searched():
    args = {"mapping": {"choices": ["random_fold", "roast"]}, "floor": {"low": 0.0, "high": 1.0, "log": False}, "k": 3}
    suggestion = space(methods={"rps": {"args": args}}).replay({"rps.arg.mapping": "roast"})
    assert suggestion.args == {"mapping": "roast", "floor": 0.5, "k": 3}
    assert {"rps.arg.mapping", "rps.arg.floor"} <= suggestion.params.keys()
    assert "rps.arg.k" not in suggestion.params


def test_the_parameters_rebuild_the_suggestion():
    original = space().suggest(chance(3))
    assert space().replay(original.params) == original


def test_equal_configurations_have_equal_keys_whatever_led_to_them():
    one = space(methods=["rps"])
    shifted = {"rps.erk_power": 0.5} | {f"rps.share.{name}": 1.0 for name in ("stem", "body.*", "fc")}
    assert one.replay(shifted).key == one.replay({}).key
    assert one.replay(shifted).params != one.replay({}).params
    assert one.replay({"rps.lr": 0.5}).key != one.replay({}).key


def test_the_known_allocations_are_own_then_uniform_then_erk():
    one = space(methods=["rps"])
    own, uniform, erk = (one.replay(params) for params in one.known())
    assert own.budgets is None
    densities = {name: uniform.budgets[name] / size for name, size in (("stem", 432), ("fc", 320))}
    assert densities == pytest.approx(dict.fromkeys(densities, 1 / uniform.ratio), rel=0.05)
    assert erk.budgets["fc"] / 320 > erk.budgets["stem"] / 432 > erk.budgets["body.*"] / (2304 + 4608)


def test_densities_follow_a_power_of_erdos_renyi_kernel():
    one = space(methods=["rps"])

    def slope(power):
        kept = one.replay({"rps.erk_power": power, "rps.ratio": 40}).budgets
        return math.log2(kept["fc"] / 320) - math.log2(kept["body.*"] / (2304 + 4608))

    assert slope(0.0) == pytest.approx(0.0, abs=0.1)
    assert slope(0.5) == pytest.approx(slope(1.0) / 2, abs=0.2)
    assert slope(1.5) == pytest.approx(slope(1.0) * 1.5, abs=0.2)


def test_budgets_drawn_by_an_earlier_version_are_refused():
    old = {"rps.split": "shares"} | {f"rps.share.{name}": 1.0 for name in ("stem", "body.*", "fc")}
    with pytest.raises(UserError, match=r"go on with that version, or .* with search.warm_start: \[this one\]"):
        space(methods=["rps"]).replay(old)


def test_every_method_is_among_the_known():
    names = ["rps", "synflow", "small", "dense"]
    assert [params["method"] for params in space(methods=names).known()][:4] == names


def test_a_pattern_without_layers_is_refused():
    with pytest.raises(UserError, match=r"space.groups: pattern 'stam' matches no layer; the nearest is 'stem'"):
        space(groups=["stam"])


def test_a_ratio_that_leaves_a_group_without_a_scalar_is_refused():
    with pytest.raises(UserError, match=r"space.ratio: 3 budgets of method 'rps' need 6 .* ratio 2000 keeps 4 of 7664"):
        space(methods=["rps"], ratio={"low": 2, "high": 2000})
    floors = space(methods=["rps"], ratio=TOTAL / 6).replay({})
    assert list(floors.budgets.values()) == [2, 2, 2]


def test_a_replay_takes_middle_values_for_what_is_missing():
    replay = Replay({"known": 7})
    assert replay.suggest_int("known", 1, 9) == 7
    assert replay.suggest_int("open", 1, 9) == 5
    assert replay.suggest_float("log", 1.0, 100.0, log=True) == pytest.approx(10.0)
    assert replay.suggest_categorical("last", ["a", "b"]) == "b"
    assert list(replay.drawn) == ["known", "open", "log", "last"]
