import math

import numpy as np
import pytest

from search.stopping import MOASHA, rung_levels


@pytest.mark.parametrize(
    ("grace", "factor", "most", "levels"),
    [(1, 3, 27, (1, 2, 3, 5, 9, 16)), (2, 4, 16, (2, 4, 8)), (1, 2, 6, (1, 2, 3, 4)), (5, 3, 5, ())],
)
def test_rungs_lie_at_powers_of_the_root_below_the_last_epoch(grace, factor, most, levels):
    assert rung_levels(grace, factor, most) == levels


def rungs(factor=3.0):
    return MOASHA(grace_epochs=1, reduction_factor=factor, max_epochs=9)


def test_a_dominated_trial_stops_and_a_non_dominated_one_goes_on():
    asha = rungs()
    for name, accuracy, memory in [("a", 0.9, 100), ("b", 0.8, 50), ("c", 0.7, 25)]:
        asha.report(name, 1, accuracy, memory)
    assert asha.report("worse", 1, 0.5, 200) == "stop"
    assert asha.report("better", 1, 0.95, 20) == "continue"


def test_small_models_are_not_judged_by_the_accuracy_of_large_ones():
    asha = rungs()
    for index in range(20):
        asha.report(f"large{index}", 1, 0.9, 1000 + index)
    assert asha.report("small", 1, 0.3, 10) == "continue"


def guessing(epoch):
    asha = MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9, reference_accuracy=0.1)
    for index in range(20):
        asha.report(f"large{index}", epoch, 0.9 - index / 100, 1000 - index)
    return asha


def test_the_smallest_model_does_not_go_on_for_its_size_alone():
    asha = guessing(epoch=2)
    assert asha.report("guesses", 2, 0.1, 10) == "stop"
    assert asha.report("diverged", 2, math.nan, 5) == "stop"
    assert asha.report("smallest", 2, 0.11, 10) == "continue"


def test_after_the_first_epochs_guessing_tells_nothing():
    assert guessing(epoch=1).report("guesses", 1, 0.1, 10) == "continue"


def test_where_all_only_guess_yet_the_best_of_them_go_on():
    asha = MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9, reference_accuracy=0.1)
    verdicts = [asha.report(str(i), 2, 0.1, 100 - i) for i in range(6)]
    assert verdicts == 6 * ["continue"]
    assert asha.report("larger", 2, 0.1, 200) == "stop"


def test_of_trials_that_equal_each_other_the_first_go_on():
    """As the smallest models do, at the accuracy of chance: nothing dominates them, and they are worth little."""
    asha = rungs()
    for index in range(30):
        asha.report(f"large{index}", 1, 0.5 + index / 100, 1000 + index)
    verdicts = [asha.report(f"smallest{i}", 1, 0.1, 10) for i in range(5)]
    assert verdicts == ["continue"] + 4 * ["stop"]


def test_the_first_trials_of_a_rung_all_go_on():
    asha = rungs()
    assert [asha.report(str(i), 1, 0.5 - i / 10, 100 + i) for i in range(2)] == ["continue", "continue"]
    assert asha.report("2", 1, 0.1, 200) == "stop"


def test_every_trial_of_the_front_goes_on_however_many_there_are():
    """Of nine trials that none dominates, a third has a place: the smallest, the best and the one between."""
    asha = rungs()
    front = (0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.4, 0.6, 0.8)
    verdicts = [asha.report(str(i), 1, accuracy, accuracy * 1000) for i, accuracy in enumerate(front)]
    assert verdicts == len(front) * ["continue"]


def test_the_last_place_may_be_a_part_of_one():
    """A third of four trials is more than one: the second best has a place."""
    asha = rungs()
    for name, accuracy, memory in [("best", 0.9, 10), ("worse", 0.3, 30), ("worst", 0.2, 40)]:
        asha.report(name, 1, accuracy, memory)
    assert asha.report("second", 1, 0.8, 20) == "continue"


def test_between_rungs_nothing_stops():
    asha = rungs()
    for index in range(9):
        asha.report(str(index), 1, 0.9, 10)
    assert asha.report("8", 2, 0.0, 10_000) == "continue"


def test_of_those_that_are_not_on_the_front_the_first_in_the_factor_go_on():
    asha = rungs()
    # Accuracies in an order without trend; equal memory makes it plain successive halving.
    verdicts = [asha.report(str(i), 1, (i * 37 % 101) / 101, 100) for i in range(101)]
    assert 101 / 3 - 6 <= verdicts.count("continue") <= 101 / 3 + 6


def test_a_front_that_is_larger_than_the_share_goes_on_whole():
    asha = rungs()
    assert {asha.report(str(i), 1, i / 10, 100 + i) for i in range(10)} == {"continue"}
    assert asha.report("dominated", 1, 0.0, 200) == "stop"


def test_memories_count_by_their_logarithm():
    """As for the sampler: by how many times a model is smaller, so that squares of all memories change nothing."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        trials = list(zip(rng.uniform(0.2, 1, 40), rng.uniform(1, 100, 40), strict=True))
        plain, squared = rungs(), rungs()
        for index, (accuracy, memory) in enumerate(trials):
            verdict = plain.report(str(index), 1, accuracy, memory)
            assert squared.report(str(index), 1, accuracy, memory**2) == verdict


def test_an_epoch_recalled_after_a_restart_counts_once():
    asha, again = rungs(), rungs()
    reports = [(str(i), epoch, (i * 37 % 29) / 29, 10 + i) for i in range(29) for epoch in (1, 2)]
    for report in reports:
        asha.report(*report)
        again.recall(*report)
    assert again._rungs == asha._rungs
    assert again.report(*reports[-1]) == "continue"
    for memory in (9, 12, 80):
        assert again.report(f"new{memory}", 2, 0.5, memory) == asha.report(f"new{memory}", 2, 0.5, memory)


def test_a_trial_that_skips_epochs_is_judged_at_the_rung_it_passed():
    asha = rungs()
    for index in range(5):
        asha.report(str(index), 6, 0.9, 10)
    assert asha.report("late", 7, 0.1, 100) == "stop"


@pytest.mark.parametrize("accuracy", [math.nan, -math.inf, math.inf])
def test_an_accuracy_that_is_not_finite_ranks_last(accuracy):
    asha = rungs()
    for index in range(5):
        asha.report(str(index), 1, 0.5, 10)
    assert asha.report("broken", 1, accuracy, 10) == "stop"


@pytest.mark.parametrize(("grace", "factor"), [(0, 3.0), (1, 1.0)])
def test_impossible_rungs_are_refused(grace, factor):
    with pytest.raises(ValueError, match=f"grace_epochs={grace}, reduction_factor={factor}"):
        MOASHA(grace_epochs=grace, reduction_factor=factor, max_epochs=9)
