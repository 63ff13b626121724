import copy

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from search.proposing.known import Known

PARAMS = {"lr": 0.1, "method": "rps"}
DISTRIBUTIONS = {"lr": FloatDistribution(0.01, 1, log=True), "method": CategoricalDistribution(["rps", "mag"])}


def study_of(trial, copies):
    study = optuna.create_study(directions=["minimize", "minimize"])
    for _ in range(copies):
        study.add_trial(trial)
    return study


def test_a_study_holds_what_optunas_own_trial_would_be():
    known = Known.make(PARAMS, DISTRIBUTIONS, losses=(1.0, 2.0), constraints=(0.5, -1.0))
    own = create_trial(params=PARAMS, distributions=DISTRIBUTIONS, values=(1.0, 2.0), constraints={"0": 0.5, "1": -1.0})
    one, other = (study_of(trial, 1).trials[0] for trial in (known, own))
    for field in ("number", "state", "values", "params", "distributions", "system_attrs", "constraints"):
        assert getattr(one, field) == getattr(other, field), field


def test_one_trial_may_be_put_into_many_studies_and_each_numbers_it_itself():
    known = Known.make(PARAMS, DISTRIBUTIONS, losses=(1.0, 2.0))
    first, second = study_of(known, 3), study_of(known, 1)
    assert [trial.number for trial in first.get_trials(deepcopy=False)] == [0, 1, 2]
    assert [trial.number for trial in second.get_trials(deepcopy=False)] == [0]
    assert copy.deepcopy(known).distributions["lr"] is known.distributions["lr"]


def test_a_trial_in_flight_ends_in_its_study_alone():
    known = Known.make(PARAMS, DISTRIBUTIONS)
    first, second = study_of(known, 1), study_of(known, 1)
    first.tell(0, state=TrialState.FAIL)
    assert first.trials[0].state == TrialState.FAIL
    assert second.trials[0].state == known.state == TrialState.RUNNING


def test_a_constraint_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        Known.make(PARAMS, DISTRIBUTIONS, losses=(1.0, 2.0), constraints=(float("nan"),))
