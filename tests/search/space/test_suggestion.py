import pytest

from search.space import CubeTrial


def at(*coordinates, **given):
    return CubeTrial(iter(coordinates), given)


def test_a_number_lies_in_its_interval_as_the_coordinate_does_along_its_scale():
    cube = at(0.0, 0.5, 0.25, 0.5)
    assert cube.suggest_float("a", 2.0, 4.0) == 2.0
    assert cube.suggest_float("b", 2.0, 4.0) == 3.0
    assert cube.suggest_float("c", 0.01, 100.0, log=True) == pytest.approx(0.1)
    assert cube.suggest_float("d", 0.01, 100.0, log=True) == pytest.approx(1.0)


def test_every_whole_number_and_choice_has_an_equal_part_of_the_coordinates():
    coordinates = [(n + 0.5) / 30 for n in range(30)]
    cube = at(*coordinates, *coordinates)
    assert [cube.suggest_int("n", 4, 6) for _ in coordinates] == [4] * 10 + [5] * 10 + [6] * 10
    assert [cube.suggest_categorical("c", ["x", "y", "z"]) for _ in coordinates] == ["x"] * 10 + ["y"] * 10 + ["z"] * 10
    assert at(0.999_999_999).suggest_int("n", 1, 10**6, log=True) == 10**6


def test_what_is_given_costs_no_coordinate_and_is_brought_within_the_limits():
    cube = at(0.5, a=9.0, b=-9.0, c=3, d=0, e=9, f="y")
    assert [cube.suggest_float(name, 1.0, 2.0) for name in "ab"] == [2.0, 1.0]
    assert [cube.suggest_int(name, 2, 5) for name in "cde"] == [3, 2, 5]
    assert cube.suggest_categorical("f", ["x", "y"]) == "y"
    assert cube.suggest_float("open", 0.0, 1.0) == 0.5


def test_a_given_choice_that_is_none_of_them_is_drawn():
    assert at(0.9, f="gone").suggest_categorical("f", ["x", "y"]) == "y"
