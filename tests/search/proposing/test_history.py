import numpy as np
import pytest

from search.proposing.history import Capacity, History
from search.proposing.past import Observation, Past, combine, observe


def seen(accuracy, memory, violation=0.0):
    return Observation({"x": accuracy}, (-accuracy, memory), (violation,))


def filled(observations, capacity):
    history = History(capacity, seed=0)
    for observation in observations:
        history.add(observation)
    return history


def test_nothing_is_dropped_before_it_must_be():
    history = History(Capacity(best=1, recent=1, others=1, arrivals=2), seed=0)
    assert [history.add(seen(0.1 * i, i)) for i in range(6)] == [False] * 5 + [True]
    assert len(history.kept) == 3


def test_the_front_and_the_latest_survive_ten_thousand_results():
    rng = np.random.default_rng(0)
    capacity = Capacity(best=20, recent=10, others=30, arrivals=40)
    history = History(capacity, seed=0)
    front = [seen(0.99, 0.5), seen(0.5, 0.01)]
    for observation in front:
        history.add(observation)
    for accuracy, memory in rng.uniform([0.0, 0.6], [0.9, 2.0], size=(10_000, 2)):
        history.add(seen(accuracy, memory))
    last = seen(0.0, 3.0)
    history.add(last)
    assert len(history.kept) <= 100
    assert all(observation in history.kept for observation in (*front, last))


def test_the_latest_survive_however_bad_they_are():
    history = filled([seen(1 - 0.01 * i, i) for i in range(8)], Capacity(best=1, recent=3, others=0, arrivals=3))
    assert [observation.losses[1] for observation in history.kept] == [0, 5, 6, 7]


def test_the_others_are_a_uniform_sample_of_all_that_came():
    capacity = Capacity(best=1, recent=1, others=200, arrivals=50)
    history = filled((seen(0.0, 1.0 + i) for i in range(4000)), capacity)
    ages = [observation.losses[1] for observation in history.kept]
    assert np.mean(ages) == pytest.approx(2000, abs=350)


def test_feasible_results_come_before_better_ones_that_are_not():
    history = filled([seen(0.9, 1, violation=0.2), seen(0.8, 1, violation=0.1), seen(0.1, 9)], Capacity(1, 1, 1, 5))
    assert [observation.params["x"] for observation in history.best(2)] == [0.1, 0.8]


def test_results_that_violate_alike_are_ordered_by_front():
    alike = [seen(0.3, 3, violation=1.0), seen(0.5, 1, violation=1.0), seen(0.9, 1, violation=2.0)]
    history = filled([*alike, seen(0.1, 9, violation=-1.0)], Capacity(1, 1, 1, 5))
    assert [observation.params["x"] for observation in history.best(2)] == [0.1, 0.5]


def test_best_works_where_nothing_is_feasible():
    history = filled([seen(0.9, 1, violation=0.2), seen(0.8, 1, violation=0.1)], Capacity(1, 1, 1, 5))
    assert [observation.params["x"] for observation in history.best(1)] == [0.8]


@pytest.mark.parametrize(
    "bad",
    [
        {"accuracy": None},
        {"memory": None},
        {"accuracy": float("nan")},
        {"memory": float("inf")},
        {"memory": 0},
        {"constraints": [float("nan")]},
        {"status": "failed"},
    ],
)
def test_nothing_is_learned_from_what_is_missing_or_not_finite(bad):
    good = {"params": {}, "status": "finished", "accuracy": 0.5, "memory": 10.0}
    assert observe(Past(**good)) is not None
    assert observe(Past(**{**good, **bad})) is None


@pytest.mark.parametrize("status", ["finished", "pruned"])
def test_what_is_learned_is_made_small_memory_by_its_logarithm(status):
    learned = observe(Past({"x": 1}, status, 3, accuracy=0.75, memory=1000.0, constraints=[0.5, -2.0]))
    assert learned.losses == (-0.75, pytest.approx(np.log(1000)))
    assert (learned.params, learned.constraints, learned.violation) == ({"x": 1}, (0.5, -2.0), 0.5)


def test_repeats_count_by_their_mean_over_those_that_did_not_fail():
    repeats = [
        Past({"x": 1}, "finished", 7, 0.8, 100, [-1.0]),
        Past({"x": 1}, "finished", 7, 0.6, 100, [-3.0]),
        Past({"x": 1}, "failed", 7),
    ]
    assert combine(repeats) == Past({"x": 1}, "finished", 7, pytest.approx(0.7), 100, [-2.0])
    assert combine(repeats[2:]).status == "failed"
    stopped = Past({"x": 1}, "pruned", 7, 0.1, 5, [0.0])
    assert combine([stopped, *repeats[:2]]) == combine(repeats)
    assert combine([stopped, stopped, repeats[2]]) == stopped
