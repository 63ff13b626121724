import math
import warnings
from dataclasses import replace

import numpy as np
import optuna
import pytest

from search.proposing import ExhaustedError, Past, Proposer
from search.proposing.models import MOVED, StudyModel
from search.space import Space
from search.spec import SpaceSpec

SHAPES = {"stem": (16, 3, 3, 3), "body": (32, 16, 3, 3), "fc": (10, 32)}
SAMPLERS = ["tpe", "nsga2", "nsga3", "gp", "random", "qmc", "grid"]


def space(**fields):
    return Space(SpaceSpec(**{"methods": ["rps", "snip"], **fields}), SHAPES, groups=list(SHAPES))


def outcome(suggestion):
    """A made-up trial: less memory costs accuracy, a learning rate of 0.3 is best, and snip is worse."""
    accuracy = 0.9 - 0.05 * math.log(suggestion.ratio) - 0.05 * abs(math.log(suggestion.lr / 0.3))
    return {"accuracy": accuracy - 0.05 * (suggestion.method == "snip"), "memory": 1e5 / suggestion.ratio}


def run(proposer, trials, in_flight=3):
    """Run made-up trials, a few at a time, and return what was proposed."""
    proposed, running = [], []
    for _ in range(trials):
        number, suggestion = proposer.ask()
        proposed.append(suggestion)
        running.append((number, suggestion))
        if len(running) >= in_flight:
            done, suggestion = running.pop(0)
            proposer.tell(done, status="finished", **outcome(suggestion))
    return proposed


def past(number, suggestion, status="finished"):
    return Past(suggestion.params, status, number, **(outcome(suggestion) if status == "finished" else {}))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_configuration_is_proposed_twice_and_all_are_feasible(sampler):
    proposed = run(Proposer(space(), sampler=sampler, seed=1, startup_trials=5), 8 if sampler == "gp" else 40)
    assert len({suggestion.key for suggestion in proposed}) == len(proposed)
    total = 432 + 4608 + 320
    for suggestion in proposed:
        assert suggestion.budgets is None or sum(suggestion.budgets.values()) == round(total / suggestion.ratio)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_follow_from_the_seed_and_the_calls(sampler):
    count = 7 if sampler == "gp" else 30
    one, same, other = (run(Proposer(space(), sampler=sampler, seed=s, startup_trials=5), count) for s in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_numbers_are_dense(sampler):
    proposer = Proposer(space(), sampler=sampler)
    assert [proposer.ask()[0] for _ in range(8)] == list(range(8))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_restored_search_proposes_what_an_uninterrupted_one_does(sampler):
    whole = Proposer(space(), sampler=sampler, seed=3)
    proposed = run(whole, 300, in_flight=1)
    resumed = Proposer(space(), sampler=sampler, seed=3)
    resumed.restore(past(number, suggestion) for number, suggestion in enumerate(proposed))
    assert run(resumed, 5, in_flight=1) == run(whole, 5, in_flight=1)


@pytest.mark.parametrize(
    ("sampler", "seed", "trials", "every"),
    [("tpe", 0, 330, 7), ("tpe", 1, 330, 7), ("nsga2", 0, 420, 37), ("nsga3", 0, 420, 37), ("gp", 0, 10, 7)],
)
def test_a_restored_search_proposes_alike_with_several_in_flight_that_end_in_any_order(sampler, seed, trials, every):
    """At each point: restored there, it proposes next what the uninterrupted one did."""
    rng = np.random.default_rng(seed)
    whole = Proposer(space(), sampler=sampler, seed=seed, startup_trials=5)
    running, ended, slow = {}, [], range(20, 24)
    for step in range(trials):
        restores = step % every == 2
        if restores:
            resumed = Proposer(space(), sampler=sampler, seed=seed, startup_trials=5)
            resumed.restore([*ended, *(past(number, running[number], "running") for number in sorted(running))])
        number, suggestion = whole.ask()
        if restores:
            assert resumed.ask() == (number, suggestion)
        running[number] = suggestion
        quick = [n for n in running if n not in slow or step > 300]
        while len(quick) > 4 or (quick and rng.random() < 0.4):
            done = quick.pop(rng.integers(len(quick)))
            suggestion = running.pop(done)
            whole.tell(done, status="finished", **outcome(suggestion))
            ended.append(past(done, suggestion))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_what_was_in_flight_can_be_told_after_a_restart_and_is_not_proposed_again(sampler):
    first = Proposer(space(), sampler=sampler, seed=3)
    proposed = [first.ask()[1] for _ in range(6)]
    resumed = Proposer(space(), sampler=sampler, seed=3)
    resumed.restore([past(0, proposed[0]), *(past(n, proposed[n], "running") for n in range(1, 6))])
    assert resumed.in_flight == dict(enumerate(proposed[1:], start=1))
    number, suggestion = resumed.ask()
    assert number == 6
    assert suggestion.key not in {earlier.key for earlier in proposed}
    for running in range(1, 6):
        resumed.tell(running, status="finished", **outcome(proposed[running]))
    assert list(resumed.in_flight) == [6]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize(
    "values", [{"accuracy": math.nan, "memory": 1.0}, {"accuracy": 0.5}, {"accuracy": 1, "memory": math.inf}]
)
def test_values_that_are_missing_or_not_finite_leave_nothing_running(sampler, values):
    proposer = Proposer(space(), sampler=sampler)
    for _ in range(15):
        number, _ = proposer.ask()
        proposer.tell(number, status="finished", **values)
    assert proposer.in_flight == {}
    assert run(proposer, 3)


def test_a_restored_search_proposes_alike_however_many_are_in_flight():
    one_method = space(methods=["rps"])
    whole = Proposer(one_method, startup_trials=4)
    running = dict(whole.ask() for _ in range(200))
    ended = []
    for number in range(0, 120, 6):
        suggestion = running.pop(number)
        whole.tell(number, status="finished", **outcome(suggestion))
        ended.append(past(number, suggestion))
        if number == 102:
            running |= [whole.ask()]
    resumed = Proposer(one_method, startup_trials=4)
    resumed.restore([*ended, *(past(number, running[number], "running") for number in sorted(running))])
    assert resumed.ask() == whole.ask()
    trials = [trial for trial in whole._model._study.get_trials(deepcopy=False) if trial.params]
    ending = [trial.state.name for trial in trials if trial.state.name != "FAIL"]
    assert ending == ["COMPLETE"] * 20 + ["RUNNING"] * 182, "what TPE weighs by its order"


def test_many_proposals_in_flight_are_moved_behind_the_first_result_only(monkeypatch):
    proposer = Proposer(space(methods=["rps"]), startup_trials=0)
    running = [proposer.ask() for _ in range(MOVED + 9)]
    placed = []
    for number, suggestion in running[:9]:
        proposer.tell(number, status="finished", **outcome(suggestion))
        proposer.ask()
        monkeypatch.setattr(StudyModel, "_add", lambda *others: placed.append(others))
    assert placed == []


def test_only_what_is_in_flight_can_be_told():
    proposer = Proposer(space())
    with pytest.raises(ValueError, match="in flight can be told, but got 4"):
        proposer.tell(4, status="failed")


def test_the_known_allocations_come_first():
    proposed = [Proposer(space(), enqueue_known=True).ask()[1] for _ in range(1)]
    proposer = Proposer(space(methods=["rps"]))
    own, uniform, erk = (proposer.ask()[1] for _ in range(3))
    assert proposed[0].method == "rps"
    assert own.budgets is None
    assert [known.params["rps.erk_power"] for known in (uniform, erk)] == [0.0, 1.0]
    assert {known.params[f"rps.share.{name}"] for known in (uniform, erk) for name in SHAPES} == {0.0}


def test_a_small_space_is_proposed_whole_and_then_ends():
    small = space(budgets="global", ratio={"choices": [2, 4, 8]}, lr={"choices": [0.1, 0.2]})
    for sampler in ("tpe", "nsga2", "random", "grid"):
        proposer = Proposer(small, sampler=sampler)
        assert len({suggestion.key for suggestion in run(proposer, 12)}) == 12
        whole = "all 12 points of the grid" if sampler == "grid" else "all 12 configurations of the space"
        with pytest.raises(ExhaustedError, match=whole):
            proposer.ask()


def test_a_grid_takes_the_ends_of_a_range_and_the_well_known_allocations():
    proposer = Proposer(space(methods=["rps"], ratio={"low": 2, "high": 32}, lr=0.1), sampler="grid")
    proposed = run(proposer, 15)
    assert sorted({s.ratio for s in proposed}) == pytest.approx([2, 4, 8, 16, 32])
    assert {s.params["rps.share.fc"] for s in proposed if s.budgets} == {0.0}
    assert {s.params["rps.erk_power"] for s in proposed if s.budgets} == {0.0, 1.0}
    with pytest.raises(ExhaustedError):
        proposer.ask()


def test_an_argument_named_as_the_power_of_erk_is_not_taken_for_it():
    args = {"erk_power": {"low": 2, "high": 4, "log": False}}
    fixed = space(methods={"rps": {"args": args, "budgets": "global"}}, ratio=4, lr=0.1)
    assert sorted(s.args["erk_power"] for s in run(Proposer(fixed, sampler="grid"), 5)) == [2, 2.5, 3, 3.5, 4]


def test_earlier_searches_inform_without_being_counted_or_run_again():
    teacher = Proposer(space(), sampler="random", seed=9)
    lessons = run(teacher, 60, in_flight=1)
    taught = Proposer(space(), seed=1, enqueue_known=False)
    taught.restore(Past(s.params, "finished", None, **outcome(s)) for s in lessons)
    proposed = run(taught, 20)
    assert not {s.key for s in proposed} & {s.key for s in lessons}
    untaught = run(Proposer(space(), seed=1, enqueue_known=False), 10)
    assert sum(s.method == "rps" for s in proposed[:10]) > sum(s.method == "rps" for s in untaught)


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 250), ("nsga2", 600)])
def test_a_sampler_learns_which_method_and_learning_rate_are_good(sampler, trials):
    proposed = run(Proposer(space(budgets="global"), sampler=sampler, seed=0), trials)[-60:]
    off = sorted(abs(math.log(s.lr / 0.3)) for s in proposed)[30]
    assert sum(s.method == "rps" for s in proposed) > 40
    assert off < 0.4  # a random one is off by 0.9 in the middle


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 200), ("nsga2", 500)])
def test_proposals_move_to_where_the_constraint_is_met(sampler, trials):
    proposer = Proposer(space(methods=["rps"], budgets="global"), sampler=sampler, seed=0, enqueue_known=False)
    ratios = []
    for _ in range(trials):
        number, suggestion = proposer.ask()
        ratios.append(suggestion.ratio)
        values = outcome(suggestion)
        proposer.tell(number, status="finished", **values, constraints=[math.log(values["memory"] / 2000)])
    assert sum(ratio >= 50 for ratio in ratios[-50:]) > 20  # chance: 9, standard deviation 3


def test_the_cost_of_a_proposal_is_bounded_by_the_history():
    proposer = Proposer(space(), seed=0)
    run(proposer, 1500)
    for model in (proposer._model._over_all, *proposer._model._models.values()):
        assert len(model._study.get_trials(deepcopy=False)) < 300


def test_optuna_is_left_as_it_was_and_says_nothing(capfd):
    level = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(Proposer(space(), seed=0), 30)
        run(Proposer(space(), sampler="nsga3", seed=0), 60)
    assert optuna.logging.get_verbosity() == level
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_choice_may_be_nothing(sampler):
    def extend(trial, suggestion):
        kind = trial.suggest_categorical("kind", [None, "a", "b"])
        return suggestion if kind is None else replace(suggestion, args={"kind": kind})

    found = Space(SpaceSpec(methods=["rps"]), SHAPES, groups=list(SHAPES), extension=extend)
    kinds = {suggestion.args.get("kind") for suggestion in run(Proposer(found, sampler=sampler), 150)}
    assert kinds == {None, "a", "b"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_users_function_may_draw_what_only_some_values_need(sampler):
    def extend(trial, suggestion):
        args = {"a": trial.suggest_float("a", 0.0, 1.0)}
        if args["a"] > 0.6 and trial.suggest_categorical("more", [False, True]):
            args["b"] = trial.suggest_int("b", 1, 5)
        return replace(suggestion, args=args)

    found = Space(SpaceSpec(methods=["rps", "snip"], lr=0.1), SHAPES, extension=extend)
    args = [s.args for s in run(Proposer(found, sampler=sampler, startup_trials=3), 8 if sampler == "gp" else 60)]
    assert {len(drawn) for drawn in args} == {1, 2}
    assert all(drawn["a"] > 0.6 for drawn in args if "b" in drawn)


@pytest.mark.parametrize("methods", [["rps"], ["rps", "snip"]])
def test_proposals_are_made_where_nothing_is_known_and_none_is_to_be_random(methods):
    proposer = Proposer(space(methods=methods), startup_trials=0, enqueue_known=False)
    assert len({proposer.ask()[1].key for _ in range(20)}) == 20


def test_a_sampler_models_whatever_startup_trials_asks_for(monkeypatch):
    asked = []
    drawn = optuna.samplers.TPESampler.sample_relative

    def draw(*args):
        params = drawn(*args)
        asked.append(bool(params))
        return params

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", draw)
    proposer = Proposer(space(methods=["rps"]), startup_trials=200)
    run(proposer, 200, in_flight=1)
    assert not any(asked)
    asked.clear()
    run(proposer, 40, in_flight=1)
    assert len(asked) >= 40
    assert all(asked)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("seed", [2**32 - 1, 2**62])
def test_any_seed_of_a_spec_will_do(sampler, seed):
    proposer = Proposer(space(), sampler=sampler, seed=seed, startup_trials=2)
    for _ in range(4):
        number, suggestion = proposer.ask()
        proposer.tell(number, status="finished", **outcome(suggestion))
    assert proposer.ask()[0] == 4
