"""That each method is searched in the light of its own results."""

import math
from collections import Counter

import pytest

from search.proposing import Past, Proposer
from search.proposing.models import StudyModel
from search.space import METHOD, Space
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "fc": (10, 32)}
BEST_RATE = {"rps": 1.0, "snip": 0.05, "rand": 0.02}
GAIN = {"rps": 0.1, "snip": 0.0, "rand": -0.05}


def space():
    methods = {method: {"lr": {"low": 1e-3, "high": 10.0}} for method in BEST_RATE}
    return Space(SpaceSpec(methods=methods, budgets="global"), SHAPES, groups=list(SHAPES))


def outcome(suggestion):
    """A made-up trial: rps is the best by far, but only with a learning rate that none of the others has."""
    off = math.log(suggestion.lr / BEST_RATE[suggestion.method]) ** 2
    accuracy = 0.6 + GAIN[suggestion.method] - 0.03 * off - 0.05 * math.log(suggestion.ratio)
    return {"accuracy": accuracy, "memory": 1e5 / suggestion.ratio}


def run(proposer, trials):
    proposed = []
    for _ in range(trials):
        number, suggestion = proposer.ask()
        proposer.tell(number, status="finished", **outcome(suggestion))
        proposed.append(suggestion)
    return proposed


@pytest.mark.parametrize("seed", range(3))
def test_every_method_is_proposed_with_settings_of_its_own_and_the_best_most(seed, monkeypatch):
    alike = set()
    ask = StudyModel.ask

    def noting(model, number, given, attempt):
        if given.keys() == {METHOD}:
            alike.add(number)
        return ask(model, number, given, attempt)

    monkeypatch.setattr(StudyModel, "ask", noting)
    proposed = run(Proposer(space(), seed=seed, enqueue_known=False), 600)
    late = {number: proposed[number] for number in alike if number >= 300}
    counts = Counter(suggestion.method for suggestion in late.values())
    assert min(counts.values()) >= 10, "a quarter goes to all alike: 25 each of 300"
    assert Counter(suggestion.method for suggestion in proposed[300:])["rps"] > 150
    for method, rate in BEST_RATE.items():
        off = sorted(abs(math.log(s.lr / rate)) for s in late.values() if s.method == method)
        assert off[len(off) // 2] < 1.3, "chance: 2.3 or more"


def test_a_search_that_began_with_one_method_finds_the_better_one():
    proposer = Proposer(space(), seed=5)
    lessons = [s for s in run(Proposer(space(), sampler="random", seed=6), 300) if s.method == "snip"]
    proposer.restore(Past(s.params, "finished", None, **outcome(s)) for s in lessons)
    proposed = run(proposer, 250)
    assert Counter(suggestion.method for suggestion in proposed[-50:])["rps"] > 25


def test_where_no_proposal_has_ended_all_methods_are_drawn():
    proposer = Proposer(space(), seed=7, enqueue_known=False)
    assert {proposer.ask()[1].method for _ in range(30)} == set(BEST_RATE)


@pytest.mark.parametrize("methods", [["rps", "snip"], ["rps"]])
def test_what_was_taken_back_is_in_flight_for_no_model(methods):
    """In a small space most of what a sampler draws is known, and what is known is taken back."""
    fields = SpaceSpec(methods=methods, budgets="global", lr=0.1, ratio={"choices": list(range(2, 40))})
    proposer = Proposer(Space(fields, SHAPES), startup_trials=4)
    for done in range(30):
        number, suggestion = proposer.ask()
        if done > 2:
            proposer.tell(number, status="finished", accuracy=0.5, memory=1e5 / suggestion.ratio)
    overall = proposer._model if len(methods) == 1 else proposer._model._over_all
    assert sorted(overall._running) == sorted(proposer.in_flight) == [0, 1, 2]
    states = [trial.state.name for trial in overall._study.get_trials(deepcopy=False)]
    assert states.count("RUNNING") == 3
    if len(methods) > 1:
        assert all(not model._running for model in proposer._model._models.values())


def test_choices_that_are_equal_in_number_keep_their_types():
    """Optuna's distributions are kept, and 0 and 1 are equal to false and true."""
    for sampler in ("tpe", "nsga2"):
        for choices in ([0, 1], [False, True], [0.0, 1.0]):
            args = {"k": {"choices": choices}}
            fields = SpaceSpec(methods={"rps": {"args": args}}, budgets="global", lr=0.1)
            drawn = [
                s.args["k"] for s in run_plain(Proposer(Space(fields, SHAPES), sampler=sampler, startup_trials=2), 12)
            ]
            assert {type(value) for value in drawn} == {type(choices[0])}
            assert set(drawn) == {0, 1}


def run_plain(proposer, trials):
    proposed = []
    for _ in range(trials):
        number, suggestion = proposer.ask()
        proposer.tell(number, status="finished", accuracy=0.5, memory=1e5 / suggestion.ratio)
        proposed.append(suggestion)
    return proposed
