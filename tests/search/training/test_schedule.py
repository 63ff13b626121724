import pytest

from search.spec import TrainSpec
from search.training.schedule import lr_factor


def test_the_papers_recipe_drops_at_80_and_120_of_160():
    train = TrainSpec()
    assert [lr_factor(train, e) for e in (0, 79.99, 80, 119.99, 120, 160)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_cosine_goes_from_one_through_a_half_to_zero():
    train = TrainSpec(schedule="cosine", epochs=10)
    assert [lr_factor(train, e) for e in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    train = TrainSpec(schedule="one_cycle", epochs=10)
    factors = [lr_factor(train, e / 10) for e in range(101)]
    peak = factors.index(max(factors))
    assert max(factors) == pytest.approx(1)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert min(factors[:-1]) > 0


def test_one_cycle_has_its_peak_after_a_fifth():
    train = TrainSpec(schedule="one_cycle", epochs=10)
    assert [lr_factor(train, e) for e in (0, 1, 2, 6, 8)] == pytest.approx([1e-3, 0.5, 1, 0.5, 0.25])


@pytest.mark.parametrize(("schedule", "alone"), [("cosine", 0.5), ("step", 0.1)])
def test_warmup_is_a_factor_of_the_schedule(schedule, alone):
    train = TrainSpec(schedule=schedule, epochs=10, warmup_epochs=9, milestones=[0.5])
    assert lr_factor(train, 5) == pytest.approx(alone * 5 / 9, rel=1e-3)


def test_warmup_grows_linearly_before_the_schedule_takes_over():
    train = TrainSpec(schedule="constant", epochs=10, warmup_epochs=2)
    assert lr_factor(train, 0) < 0.01
    assert lr_factor(train, 1) == pytest.approx(0.5, abs=1e-3)
    assert lr_factor(train, 3) == 1


def test_the_first_step_of_a_warmup_trains_too():
    assert lr_factor(TrainSpec(schedule="constant", epochs=10, warmup_epochs=2), 0) > 0
