import pytest

from search.proposing.cube import CubeModel
from search.space import Space
from search.spec import SpaceSpec

SPACE = Space(
    SpaceSpec(methods=["rps"], weight_decay={"low": 1e-5, "high": 1e-3}), {"a": (8, 8), "b": (64, 8)}, groups="ab"
)


def made(kind, seed=0):
    return CubeModel(kind, SPACE, seed)


@pytest.mark.parametrize("kind", ["random", "qmc"])
def test_a_point_hangs_on_its_number_and_seed_only(kind):
    model = made(kind)
    in_order = [model.ask(number, {}, 0) for number in range(12)]
    assert len({suggestion.key for suggestion in in_order}) == 12
    other = made(kind)
    for number in (7, 3, 4, 11, 0):
        assert other.ask(number, {}, 0) == in_order[number]
    assert made(kind, seed=1).ask(0, {}, 0) != in_order[0]


@pytest.mark.parametrize("kind", ["random", "qmc"])
def test_each_attempt_is_another_point(kind):
    model = made(kind)
    assert len({model.ask(5, {}, attempt).key for attempt in range(8)}) == 8
    assert model.ask(6, {}, 0) == made(kind).ask(6, {}, 0), "attempts cost no point of the sequence"


def test_quasi_random_points_fill_each_parameter_evenly():
    model = made("qmc")
    ratios = sorted(model.ask(number, {}, 0).ratio for number in range(16))
    # One in each sixteenth of the range's logarithm, to within the end of a part.
    parts = [2 * 50 ** (n / 16) for n in range(17)]
    assert all(low <= ratio <= high for ratio, low, high in zip(ratios, parts, parts[1:], strict=False))


def test_what_is_given_stays():
    given = {"rps.lr": 0.25, "rps.split": "own"}
    assert all(made(kind).ask(2, given, 0).lr == 0.25 for kind in ("random", "qmc"))
    assert all(made(kind).ask(2, given, 0).budgets is None for kind in ("random", "qmc"))
