import json
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from search.stopping import MOASHA
from search.stopping.tune_scheduler import MOASHAScheduler


def result(accuracy, memory, epoch=1, **more):
    return {"epoch_rows": [json.dumps({"epoch": epoch, "accuracy_val": accuracy})], "memory": memory, **more}


def scheduler_with_good_trials():
    scheduler = MOASHAScheduler(
        MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9), name_of=lambda trial: trial.config["name"]
    )
    for index in range(5):
        trial = SimpleNamespace(config={"name": index})
        assert scheduler.on_trial_result(None, trial, result(0.9, 10)) in ("CONTINUE", "STOP")
    return scheduler


def test_a_trial_that_falls_behind_is_stopped():
    scheduler = scheduler_with_good_trials()
    trial = SimpleNamespace(config={"name": "bad"})
    assert scheduler.on_trial_result(None, trial, result(0.1, 100)) == TrialScheduler.STOP


def test_a_finished_trial_is_never_stopped():
    scheduler = scheduler_with_good_trials()
    trial = SimpleNamespace(config={"name": "bad"})
    assert scheduler.on_trial_result(None, trial, result(0.1, 100, trial_row={})) == TrialScheduler.CONTINUE


def test_a_trial_that_tells_of_several_epochs_is_judged_at_each_rung_by_what_it_had_there():
    scheduler = scheduler_with_good_trials()
    for index in range(5):
        trial = SimpleNamespace(config={"name": index})
        scheduler.on_trial_result(None, trial, result(0.95, 10, epoch=3))
    late = result(0.99, 10, epoch=4)
    late["epoch_rows"] = [
        json.dumps({"epoch": e, "accuracy_val": a}) for e, a in [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.99)]
    ]
    assert scheduler.on_trial_result(None, SimpleNamespace(config={"name": "late"}), late) == TrialScheduler.STOP
