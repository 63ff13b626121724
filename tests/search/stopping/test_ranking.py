import numpy as np
import pytest

from search.stopping.ranking import adds_nothing, epsilon_net, top


def test_a_point_adds_nothing_to_what_equals_or_dominates_it():
    others = np.array([[0.0, 2.0], [0.0, 3.0], [1.0, 1.0]])
    points = [[0.0, 2.0], [0.0, 2.5], [2.0, 1.0], [0.5, 1.5], [-1.0, 9.0]]
    assert [adds_nothing(np.array(point), others) for point in points] == [True, True, True, False, False]
    assert not adds_nothing(np.array([0.0, 0.0]), np.empty((0, 2)))


def test_the_front_comes_before_what_it_dominates():
    losses = np.array([[0.0, 2.0], [2.0, 0.0], [2.0, 2.0], [3.0, 3.0]])
    assert top(losses, 2).tolist() == [0, 1]
    assert top(losses, 3).tolist() == [0, 1, 2]


def test_a_front_that_does_not_fit_is_spread():
    # Points 1 and 2 lie beside point 0; three places go to both ends and the middle.
    losses = np.array([[0.0, 1.0], [0.01, 0.99], [0.02, 0.98], [0.5, 0.5], [1.0, 0.0]])
    assert sorted(top(losses, 3).tolist()) == [0, 3, 4]


def test_the_net_takes_the_farthest_point_each_time():
    points = np.array([[0.0, 10.0], [1.0, 9.0], [6.0, 4.0], [10.0, 0.0]])
    assert epsilon_net(points, 4).tolist() == [0, 3, 2, 1]


def test_the_net_scales_objectives_alike():
    small = np.array([[0.0, 10.0], [1.0, 9.0], [6.0, 4.0], [10.0, 0.0]])
    assert epsilon_net(small * [1.0, 1e6], 4).tolist() == epsilon_net(small, 4).tolist()


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_the_net_never_repeats_equal_points(count):
    chosen = epsilon_net(np.zeros((5, 2)), count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 5)


def test_exactly_the_places_are_filled_on_random_points():
    losses = np.random.default_rng(0).random((60, 2))
    for places in (1, 7, 20, 59, 60):
        assert len(set(top(losses, places).tolist())) == places
    assert len(top(losses, 61)) == 60


def test_the_net_is_what_measuring_every_distance_again_gives():
    for seed in range(20):
        points = np.random.default_rng(seed).random((30, 2))
        scaled = (points - points.min(axis=0)) / np.ptp(points, axis=0)
        chosen = [int(np.argmin(scaled[:, 0]))]
        while len(chosen) < 12:
            nearest = [min(float(((point - scaled[other]) ** 2).sum()) for other in chosen) for point in scaled]
            chosen.append(int(np.argmax(nearest)))
        assert epsilon_net(points, 12).tolist() == chosen
