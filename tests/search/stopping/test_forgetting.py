from types import SimpleNamespace

import pytest

from search.stopping.forgetting import forget_ended


class Named:
    def __init__(self, trial_id):
        self.trial_id = trial_id


@pytest.fixture
def controller():
    """What Tune holds of a trial that runs, one that ended, one that failed and one that still has its process."""
    runs, ended, failed, holds = trials = [Named(name) for name in ("runs", "ended", "failed", "holds")]
    return SimpleNamespace(
        _trials=list(trials),
        _live_trials={runs, failed},
        _stopped_trials={ended, holds},
        _failed_trials={failed},
        _trials_to_cache=set(trials),
        _trial_metadata={each.trial_id: "state" for each in trials},
        _trial_to_actor={runs: "actor 1", holds: "actor 2"},
    )


def names(trials):
    return sorted(each if isinstance(each, str) else each.trial_id for each in trials)


def test_what_has_ended_is_held_nowhere_and_the_list_stays_the_same_one(controller):
    trials = controller._trials
    forget_ended(controller)
    assert controller._trials is trials
    for group in (trials, controller._trials_to_cache, controller._trial_metadata):
        assert names(group) == ["holds", "runs"]
    assert names(controller._stopped_trials) == ["holds"]
    assert names(controller._live_trials) == ["runs"]
    assert not controller._failed_trials


def test_a_controller_of_other_attributes_is_left_as_it_is(controller):
    del controller._trials_to_cache
    forget_ended(controller)
    assert names(controller._trials) == ["ended", "failed", "holds", "runs"]
    assert names(controller._stopped_trials) == ["ended", "holds"]
