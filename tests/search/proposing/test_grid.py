"""Spaces whose end can be reached: what is proposed last, and what is said then."""

import contextlib
from dataclasses import replace

import pytest

from search.errors import UserError
from search.proposing import ExhaustedError, Past, Proposer
from search.proposing import grid as grid_module
from search.proposing.grid import whole_space
from search.space import Space
from search.spec import SpaceSpec


def space(draw):
    """A space of one method without any choice, to which a user's function adds what it draws."""
    fields = SpaceSpec(methods=["rps"], ratio=4, lr=0.1, budgets="global")
    return Space(fields, {"fc": (10, 10)}, extension=lambda trial, s: replace(s, weight_decay=draw(trial) * 1e-5))


def whole_numbers(trial):
    return trial.suggest_int("wd", 1, 60)


def real_numbers_now_and_then(trial):
    return trial.suggest_float("wd", 0.0, 1.0) if trial.suggest_int("kind", 0, 9) == 9 else 1


def without_effect(trial):
    return 1 + 0 * trial.suggest_float("idle", 0.0, 1.0)


def one_of_three(trial):
    return trial.suggest_float("still", 2.0, 2.0) * trial.suggest_int("n", 1, 3)


def endless(trial):
    return trial.suggest_int("wd", 0, 2**70)


def run_out(draw, sampler):
    """Propose until there is nothing more; return what was proposed and what is said then."""
    proposer = Proposer(space(draw), sampler=sampler)
    proposed = []
    with contextlib.suppress(ExhaustedError):
        for _ in range(200):
            number, suggestion = proposer.ask()
            proposed.append(suggestion.weight_decay)
            proposer.tell(number, status="finished", accuracy=0.5, memory=100.0)
    assert len(set(proposed)) == len(proposed)
    with pytest.raises(ExhaustedError) as error:
        proposer.ask()
    return proposed, str(error.value)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "qmc"])
def test_whole_numbers_are_proposed_to_the_last_one(sampler):
    proposed, said = run_out(whole_numbers, sampler)
    assert sorted(proposed) == pytest.approx([n * 1e-5 for n in range(1, 61)])
    assert said == "all 60 configurations of the space were proposed"


def test_a_grid_claims_its_own_points_only():
    proposed, said = run_out(whole_numbers, "grid")
    assert sorted(proposed) == pytest.approx([n * 1e-5 for n in (1, 16, 30, 45, 60)])
    assert said == "all 5 points of the grid were proposed"


def test_a_grid_holds_the_wellknown_allocations_and_the_ends_of_ranges():
    found = Space(
        SpaceSpec(methods=["rps"], ratio=4, lr={"low": 0.01, "high": 1}), {"a": (9, 9), "b": (99, 9)}, groups="ab"
    )
    points = grid_module.grid(found, 0)
    assert sorted({point["rps.lr"] for point in points}) == pytest.approx([0.01, 0.0316, 0.1, 0.316, 1], rel=1e-3)
    splits = [(p["rps.split"], p.get("rps.erk_power"), p.get("rps.share.a")) for p in points]
    assert {split: splits.count(split) for split in splits} == {
        ("own", None, None): 5,
        ("shares", 0.0, 0.0): 5,
        ("shares", 1.0, 0.0): 5,
    }


def test_a_grid_is_walked_in_random_order(monkeypatch):
    orders = [[point["wd"] for point in grid_module.grid(space(whole_numbers), seed)] for seed in range(4)]
    assert all(sorted(order) == [1, 16, 30, 45, 60] for order in orders)
    assert len(set(map(tuple, orders))) > 1
    monkeypatch.setattr(grid_module, "MOST_POINTS", 5)
    assert len(grid_module.grid(space(whole_numbers), 0)) == 5
    monkeypatch.setattr(grid_module, "MOST_POINTS", 4)
    with pytest.raises(UserError, match=r"a grid of more than 4 points; write fewer choices, or sampler: qmc"):
        grid_module.grid(space(whole_numbers), 0)


def test_a_real_number_that_cannot_vary_does_not_keep_a_space_from_being_known_whole():
    points, all_of_it = whole_space(space(one_of_three), 0)
    assert (sorted(point["n"] for point in points), all_of_it) == ([1, 2, 3], True)


def test_of_what_is_not_walked_through_to_its_end_nothing_is_claimed(monkeypatch):
    proposed, said = run_out(without_effect, "random")
    assert (len(proposed), said) == (1, "nothing new was found beside the 1 configurations that were proposed")
    monkeypatch.setattr(grid_module, "MOST_POINTS", 3)
    proposed, said = run_out(whole_numbers, "random")
    assert len(proposed) < 60
    assert said == f"nothing new was found beside the {len(proposed)} configurations that were proposed"


def test_only_choices_and_whole_numbers_are_walked_through_and_not_too_many(monkeypatch):
    assert whole_space(space(real_numbers_now_and_then), 0) == ([], False)
    monkeypatch.setattr(grid_module, "MOST_POINTS", 60)
    points, all_of_it = whole_space(space(whole_numbers), 0)
    assert (sorted(point["wd"] for point in points), all_of_it) == (list(range(1, 61)), True)
    points, all_of_it = whole_space(space(endless), 0)
    assert (sorted(point["wd"] for point in points), all_of_it) == (list(range(60)), False)


@pytest.mark.parametrize("status", ["finished", "failed", "running"])
@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "qmc", "grid"])
def test_a_restored_search_of_a_small_space_proposes_what_is_left_and_nothing_twice(sampler, status):
    fields = SpaceSpec(methods=["rps"], ratio={"choices": [2, 4, 8]}, lr={"choices": [0.1, 0.2]}, budgets="global")
    small = Space(fields, {"fc": (10, 10)})
    whole = Proposer(small, sampler=sampler)
    proposed = [whole.ask()[1] for _ in range(6)]
    resumed = Proposer(small, sampler=sampler)
    values = {"accuracy": 0.5, "memory": 100.0} if status == "finished" else {}
    resumed.restore(Past(s.params, status, number, **values) for number, s in enumerate(proposed[:5]))
    assert resumed.ask() == (5, proposed[5])
    with pytest.raises(ExhaustedError):
        resumed.ask()


def test_numbers_go_on_behind_the_highest_of_a_restored_search():
    proposer = Proposer(space(whole_numbers), sampler="random")
    proposer.restore(
        [Past({"wd": 3}, "finished", 7, 0.5, 9.0), Past({"wd": 4}, "failed", 2), Past({"wd": 5}, "failed")]
    )
    assert proposer.ask()[0] == 8
