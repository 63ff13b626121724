import json
from types import SimpleNamespace

import pytest
import ray
from ray.tune.schedulers import TrialScheduler

import search
from search.stopping import MOASHA
from search.stopping.tune_scheduler import MOASHAScheduler, Seed


def result(accuracy, memory, epoch=1, rounds=1, **more):
    rows = [json.dumps({"epoch": epoch, "accuracy_val": accuracy})]
    return {"epoch_rows": rows, "memory": memory, "rounds": rounds, **more}


def seed_of(trial):
    name = trial.config["name"]
    return Seed(str(name), trial.config.get("number", name), trial.config.get("repeat", 0) == 0)


def trial_named(name, **more):
    return SimpleNamespace(trial_id=f"tune {name}", config={"name": name, **more})


def make_scheduler(**settings):
    moasha = MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9)
    return MOASHAScheduler(moasha, seed_of=seed_of, **settings)


def scheduler_with_good_trials():
    scheduler = make_scheduler()
    for index in range(5):
        trial = trial_named(index)
        assert scheduler.on_trial_result(None, trial, result(0.9, 10)) in ("CONTINUE", "STOP")
    return scheduler


def test_a_trial_that_falls_behind_is_stopped():
    scheduler = scheduler_with_good_trials()
    trial = trial_named("bad")
    assert scheduler.on_trial_result(None, trial, result(0.1, 100)) == TrialScheduler.STOP


def test_a_trial_that_tells_of_several_epochs_is_judged_at_each_rung_by_what_it_had_there():
    scheduler = scheduler_with_good_trials()
    for index in range(5):
        trial = trial_named(index)
        scheduler.on_trial_result(None, trial, result(0.95, 10, epoch=3))
    late = result(0.99, 10, epoch=4)
    late["epoch_rows"] = [
        json.dumps({"epoch": e, "accuracy_val": a}) for e, a in [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.99)]
    ]
    assert scheduler.on_trial_result(None, trial_named("late"), late) == TrialScheduler.STOP


def trial_of(number, repeat):
    return trial_named(f"{number}-{repeat}", number=number, repeat=repeat)


def test_a_proposal_is_judged_by_its_first_seed_and_all_of_them_end_with_it():
    scheduler = scheduler_with_good_trials()
    bad, good = [trial_of(10, repeat) for repeat in range(3)], [trial_of(11, repeat) for repeat in range(3)]
    assert scheduler.on_trial_result(None, bad[1], result(0.1, 100)) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, bad[0], result(0.1, 100)) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, bad[1], result(0.99, 100, epoch=2)) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, bad[2], result(0.99, 100)) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, good[0], result(0.95, 5)) == TrialScheduler.CONTINUE
    for unlucky in good[1:]:
        assert scheduler.on_trial_result(None, unlucky, result(0.1, 5)) == TrialScheduler.CONTINUE


def test_further_seeds_fill_no_rungs():
    scheduler = make_scheduler()
    for repeat in range(1, 9):
        scheduler.on_trial_result(None, trial_of(1, repeat), result(0.9, 10))
    assert scheduler.on_trial_result(None, trial_of(2, 0), result(0.1, 100)) == TrialScheduler.CONTINUE


def test_after_a_restart_the_seeds_of_a_stopped_proposal_end_too():
    scheduler = make_scheduler(stopped=[7])
    assert scheduler.on_trial_result(None, trial_of(7, 1), result(0.9, 10)) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, trial_of(8, 1), result(0.9, 10)) == TrialScheduler.CONTINUE


def test_a_ticket_whose_accuracy_is_still_that_of_a_larger_model_neither_stops_nor_stops_others():
    scheduler = make_scheduler()
    for index in range(5):
        ticket = result(0.95, 1, rounds=12)
        assert scheduler.on_trial_result(None, trial_of(index, 0), ticket) == TrialScheduler.CONTINUE
    # A ticket in the rung would dominate both.
    for index in (5, 6):
        small = result(0.5, 100 + index)
        assert scheduler.on_trial_result(None, trial_of(index, 0), small) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial_of(9, 0), result(0.1, 500, rounds=12)) == TrialScheduler.CONTINUE


def test_a_trial_that_nobody_knows_any_more_goes_on():
    scheduler = MOASHAScheduler(
        MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9), seed_of=lambda trial: None, stopped=()
    )
    for index in range(9):
        assert scheduler.on_trial_result(None, trial_of(index, 0), result(0.1, 10 + index)) == "CONTINUE"


def test_a_seed_that_is_judged_late_fills_each_rung_with_what_it_had_there():
    judged = set()
    moasha = MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9)
    scheduler = MOASHAScheduler(moasha, seed_of=lambda trial: Seed("1-1", 1, "1-1" in judged))
    for epoch in range(1, 7):
        scheduler.on_trial_result(None, trial_of(1, 1), result(epoch / 10, 10, epoch=epoch))
    judged.add("1-1")
    scheduler.on_trial_result(None, trial_of(1, 1), result(0.7, 10, epoch=7))
    refilled = MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=9)
    for epoch in range(1, 8):
        refilled.report("1-1", epoch, epoch / 10, 10)
    assert moasha._rungs == refilled._rungs
    assert moasha._rungs[1]["1-1"][0] == -0.1


def test_a_trial_that_passed_a_rung_before_a_restart_is_not_ranked_there_again():
    others = [(trial_of(number, 0), result(0.6 + number / 100, 50)) for number in range(6)]
    kept = make_scheduler()
    assert kept.on_trial_result(None, trial_of(9, 0), result(0.5, 100)) == TrialScheduler.CONTINUE
    for trial, told in others:
        kept.on_trial_result(None, trial, told)
    again = make_scheduler()
    for trial, told in others:
        again.on_trial_result(None, trial, told)
    again._seed_of = lambda trial: seed_of(trial)._replace(known=1)
    both = result(0.5, 100)
    both["epoch_rows"] += result(0.95, 100, epoch=2)["epoch_rows"]
    assert kept.on_trial_result(None, trial_of(9, 0), result(0.95, 100, epoch=2)) == TrialScheduler.CONTINUE
    assert again.on_trial_result(None, trial_of(9, 0), both) == TrialScheduler.CONTINUE
    assert kept._moasha._rungs == again._moasha._rungs
    for trial, _ in others[:5]:
        for scheduler in (kept, again):
            scheduler.on_trial_result(None, trial, result(0.9, 50, epoch=3))
    late = result(0.1, 100, epoch=3)
    assert kept.on_trial_result(None, trial_of(9, 0), late) == TrialScheduler.STOP
    assert again.on_trial_result(None, trial_of(9, 0), late) == TrialScheduler.STOP


def test_of_a_seed_that_ends_or_whose_process_dies_nothing_is_held():
    """One that runs again tells all of its epochs again."""
    scheduler = make_scheduler()
    for repeat in (1, 2, 3):
        scheduler.on_trial_result(None, trial_of(1, repeat), result(0.9, 10))
    assert list(scheduler._waiting) == ["tune 1-1", "tune 1-2", "tune 1-3"]
    # The recorder has forgotten it by then.
    scheduler._seed_of = lambda trial: None
    scheduler.on_trial_complete(None, trial_of(1, 1), {})
    scheduler.on_trial_error(None, trial_of(1, 2))
    assert scheduler._waiting == {"tune 1-3": [(1, 0.9)]}


@pytest.mark.ray
def test_a_search_holds_the_epochs_of_seeds_that_run_and_tune_asks_nothing_of_a_last_result(tmp_path, monkeypatch):
    asked, held = [], []
    on_trial_result = MOASHAScheduler.on_trial_result

    def watched(scheduler, controller, trial, told):
        word = on_trial_result(scheduler, controller, trial, told)
        asked.append((scheduler, told.get("done")))
        held.append(len(scheduler._waiting))
        return word

    monkeypatch.setattr(MOASHAScheduler, "on_trial_result", watched)
    spec = {
        "name": "seeds",
        "trials": 9,
        "repeats": 3,
        "data": {"name": "tests.search.cli.tiny:images"},
        "model": {"args": {"hidden": [8]}},
        "train": {"epochs": 3, "batch_size": 16},
        "space": {"methods": ["rand"], "ratio": {"low": 2, "high": 8}, "lr": 0.1},
        "search": {"early_stopping": {"grace_epochs": 1}},
    }
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        rows = search.launch(spec, storage=tmp_path / "run").trials.to_pylist()
    finally:
        ray.shutdown()
    assert "finished" in {row["status"] for row in rows if row["repeat"]}
    assert max(held) == 1, "one that runs"
    assert not asked[-1][0]._waiting
    assert not any(done for _, done in asked)
