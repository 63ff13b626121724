import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from search.errors import UserError
from search.proposing import Past, Proposer
from search.space import CubeTrial, Space, Suggestion, locate
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "fc": (10, 32)}


def space(extend, **fields):
    return Space(SpaceSpec(**{"methods": ["rps"], **fields}), SHAPES, groups=list(SHAPES), extension=extend)


def chance(seed=0):
    return CubeTrial(iter(np.random.default_rng(seed).random, None), {})


def slower(trial, suggestion):
    """The README's example: slower where the ratio is small."""
    share = trial.suggest_float("warm", 0.1, 1.0)
    return replace(suggestion, lr=suggestion.lr * share if suggestion.ratio < 10 else suggestion.lr)


def test_a_users_function_draws_more():
    def extend(trial, suggestion):
        return replace(suggestion, args={"alpha": trial.suggest_float("alpha", 0.0, 2.0)})

    suggestion = space(extend).replay({"alpha": 0.25})
    assert suggestion.args == {"alpha": 0.25}
    assert suggestion.params["alpha"] == 0.25


def test_a_users_function_is_named_in_the_spec(monkeypatch):
    module = types.ModuleType("brought")
    module.extend = lambda trial, suggestion: replace(suggestion, lr=trial.suggest_float("lr10", 0.1, 1.0) * 10)
    monkeypatch.setitem(sys.modules, "brought", module)
    assert Space(SpaceSpec(methods=["rps"], extension="brought:extend"), SHAPES).replay({"lr10": 0.25}).lr == 2.5
    with pytest.raises(UserError, match=r"space.extension 'brought:extent': brought has no function 'extent'"):
        Space(SpaceSpec(methods=["rps"], extension="brought:extent"), SHAPES)
    with pytest.raises(ValueError, match=r"function must be given as package.module:function, but got 'extend'"):
        SpaceSpec(extension="extend")


def test_what_was_drawn_is_known_whatever_the_function_returns():
    def extend(trial, suggestion):
        return Suggestion("rps", suggestion.ratio, lr=trial.suggest_float("mine", 0.1, 0.2), weight_decay=0.0)

    found = space(extend).suggest(chance())
    assert {"rps.ratio", "rps.lr", "mine"} <= found.params.keys()
    assert space(extend).replay(found.params) == found


def test_a_users_function_may_split_the_memory_in_its_own_way():
    def extend(trial, suggestion):
        body = int(4608 * trial.suggest_float("body", 0.02, 0.04))
        return replace(suggestion, budgets={"body": body, "*": 214 - body}, ratio=5360 / 214)

    assert space(extend).replay({"body": 0.025}).budgets == {"body": 115, "*": 99}


@pytest.mark.parametrize("off", [-3, 3])
def test_budgets_of_a_users_function_may_be_rounded(off):
    found = space(lambda trial, s: replace(s, ratio=10.0, budgets={"stem": 200, "body": 200, "fc": 136 + off}))
    assert found.replay({}).budgets["fc"] == 136 + off


def test_a_name_drawn_again_keeps_its_value():
    def extend(trial, suggestion):
        return replace(suggestion, args={name: trial.suggest_float("x", 0.0, 1.0) for name in "ab"})

    found = space(extend).suggest(chance())
    assert found.args["a"] == found.args["b"] == found.params["x"]


@pytest.mark.parametrize(
    ("extend", "message"),
    [
        (lambda trial, s: None, r"must return the suggestion, .* but returned None"),
        (
            lambda trial, s: 1 / 0,
            r"space.extension: ZeroDivisionError: division by zero \(.*test_extension.py, line \d+\)",
        ),
        (
            lambda trial, s: json.loads("{"),  # raised in another file
            r"space.extension: JSONDecodeError: .* \(.*test_extension.py, line \d+\)",
        ),
        (
            lambda trial, s: trial.suggest_float("x", 0.0, s.ratio),
            r"what 'x' is drawn from must not depend on other values, but was \[0.0, .+\] and \[0.0, .+\]; draw",
        ),
        (
            lambda trial, s: trial.suggest_float("x", 1.0, 2.0, log=s.lr > 0.2),
            r"but was (.* along a logarithm and |.* and .* along a logarithm)",
        ),
        (
            lambda trial, s: trial.suggest_int("n", 1, 2 + (s.lr > 0.2)),
            r"but was the whole numbers in \[1, .\] and the",
        ),
        (lambda trial, s: trial.suggest_categorical("c", ["a", "b"][: 1 + (s.lr > 0.2)]), r"was \['a'.*\] and \['a'"),
        (lambda trial, s: trial.suggest_float("x", 2.0, 1.0), r"'x': low <= high must hold, but got low=2, high=1$"),
        (lambda trial, s: trial.suggest_float("x", 0.0, 1.0, log=True), r"'x': low > 0 must hold for a log range"),
        (lambda trial, s: trial.suggest_float("x", float("nan"), 1.0), r"'x': low: .*finite number"),
        (lambda trial, s: trial.suggest_int("n", 3, 1), r"'n': low <= high must hold, but got low=3, high=1$"),
        (lambda trial, s: trial.suggest_int("n", 0.5, 1), r"'n': low and high must be whole, but got low=0.5, high=1$"),
        (lambda trial, s: trial.suggest_int("n", 1, 2.5), r"'n': low and high must be whole, but got low=1, high=2.5$"),
        (
            lambda trial, s: replace(s, ratio=10.0, budgets={"stem": 200, "body": 200, "fc": 132}),
            r"keep 532 of 5360 scalars, but its ratio 10 says 536",
        ),
        (lambda trial, s: trial.suggest_categorical("c", []), r"'c': choices must be .* but got \[\]$"),
        (lambda trial, s: trial.suggest_categorical("c", [(1, 2)]), r"'c': choices must be .* got \[\(1, 2\)\]$"),
        (lambda trial, s: trial.suggest_float(3, 0.0, 1.0), r"a parameter's name must be text, but got 3"),
        (lambda trial, s: trial.suggest_float("x", 0, 1, step=0.1), r"TypeError: .*'step'"),
        (lambda trial, s: trial.suggest_float("rps.lr", 0.1, 1.0), r"'rps.lr' is named as the space's own"),
        (lambda trial, s: trial.suggest_float("a.share.b", 0.1, 1.0), r"'a.share.b' is named as the space's own"),
        (lambda trial, s: replace(s, method="rand"), r"must not change the method, but made 'rand' of 'rps'"),
        (lambda trial, s: replace(s, ratio=s.ratio * 2), r"budgets of method 'rps' keep \d+ of 5360 .* but its ratio"),
        (
            lambda trial, s: replace(s, ratio=10.0, budgets={"body": 300}),
            r"keep 375 of 5360 scalars, but its ratio 10 says 536; return budgets of that total, or ratio=14.29$",
        ),
        (lambda trial, s: replace(s, budgets={"boby": 300}), r"no trial: pattern 'boby' .* nearest is 'body'"),
        (lambda trial, s: replace(s, budgets=[300]), r"no trial: .*list"),
        (lambda trial, s: replace(s, lr=-1.0), r"returned what is no trial: lr: .* greater than 0, but got -1.0"),
        (lambda trial, s: replace(s, args={"n": np.int64(3)}), r"returned what is no trial: .*int64"),
    ],
)
def test_a_users_function_that_cannot_be_searched_is_refused_at_once(extend, message):
    def returned(trial, suggestion):
        found = extend(trial, suggestion)
        return found if found is None or isinstance(found, Suggestion) else suggestion

    with pytest.raises(UserError, match=message):
        space(returned)


def test_a_function_that_takes_other_arguments_is_refused_without_a_place_in_our_code():
    with pytest.raises(
        UserError, match=r"space.extension: TypeError: .* takes 1 positional argument but 2 were given$"
    ):
        space(lambda trial: None)


def test_an_error_that_comes_late_is_one_of_the_input():
    calls = []

    def extend(trial, suggestion):
        calls.append(1)
        return suggestion if len(calls) < 100 else suggestion.nothing

    found = space(extend)
    while len(calls) < 99:
        found.suggest(chance())
    with pytest.raises(UserError, match=r"space.extension: AttributeError: .*nothing"):
        found.suggest(chance())


@pytest.mark.parametrize("seed", range(20))
def test_a_proposal_of_an_earlier_search_is_found_though_the_function_changed_what_it_says(seed):
    found = space(slower).suggest(chance(seed))
    assert locate(space(slower), found).key == found.key


@pytest.mark.parametrize(
    ("draw", "value"),
    [
        (lambda trial: trial.suggest_float("x", 0.0, 1.0), 1.5),
        (lambda trial: trial.suggest_int("x", 1, 3), 0),
        (lambda trial: trial.suggest_categorical("x", ["a", "b"]), "c"),
    ],
)
def test_a_function_whose_limits_changed_since_the_launch_is_refused(draw, value):
    def extend(trial, suggestion):
        draw(trial)
        return suggestion

    message = rf"'x' is {value!r} in a trial of this search, but is drawn from .* now; undo that change of the function"
    with pytest.raises(UserError, match=message):
        Proposer(space(extend)).restore([Past({"x": value}, "running", 0)])
