import errno
import os
import threading

import pytest

from search.driver.exchange import from_json, model_path, running_path, timeout_path, to_json
from search.driver.recorder import FolderLostError
from tests.search.driver.conftest import report, start, wait_for


def test_a_finished_trial_is_in_the_tables_once_with_each_epoch_once(world, end_of):
    trial = start(world, "t0")
    run = world.searcher.runs["t0"]
    trial_id = run.config.trial_id
    world.folder.write_whole(running_path(trial_id), b"checkpoint")
    report(world, trial, [1])
    report(world, trial, [1, 2], end_of(run))  # It went on from a checkpoint and tells epoch 1 again.
    world.recorder.on_trial_complete(0, [], trial)
    world.recorder.close()
    trials, epochs = world.store.read("trials").to_pylist(), world.store.read("epochs").to_pylist()
    assert [row["trial_id"] for row in trials] == [trial_id]
    assert [(row["trial_id"], row["epoch"]) for row in epochs] == [(trial_id, 1), (trial_id, 2)]
    assert world.store.read("proposals").num_rows == 1
    assert not world.folder.exists(running_path(trial_id))
    assert world.progress.counts["finished"] == 1


def test_what_a_running_trial_tells_is_kept_once_and_written_now_and_then_and_at_the_end(world, monkeypatch):
    trial = start(world, "t0")
    report(world, trial, [1])
    report(world, trial, [1, 2])
    assert [len(rows) for rows in world.recorder._open_epochs.values()] == [2]
    wait_for(world, lambda: world.store.read("proposals").num_rows)
    assert world.ledger.new_runs == []
    assert world.store.read("epochs").num_rows == 0, "written together: each part costs a file"
    monkeypatch.setattr("search.driver.recorder.EPOCHS_FLUSH_S", 0.0)
    wait_for(world, lambda: world.store.read("epochs").num_rows == 2)
    monkeypatch.undo()
    report(world, trial, [3])
    world.recorder.close()
    assert world.store.read("epochs")["epoch"].to_pylist() == [1, 2, 3]


def test_a_model_that_a_later_trial_beats_goes_and_earlier_attempts_are_counted(world, end_of):
    runs = []
    for name, accuracy in (("t0", 0.5), ("t1", 0.6)):
        trial = start(world, name)
        runs.append(world.searcher.runs[name])
        world.folder.write_whole(model_path(runs[-1].trial_id), b"model")
        report(world, trial, [1], end_of(runs[-1], accuracy=accuracy) | {"method": "rps", "attempts": 3})
    world.recorder.close()
    assert [world.folder.exists(model_path(run.trial_id)) for run in runs] == [False, True]
    assert world.store.read("trials")["attempts"].to_pylist() == [3, 3]


def test_a_trial_that_ends_has_its_proposal_written_with_it(world, end_of):
    trial = start(world, "t0")
    report(world, trial, [1, 2], end_of(world.searcher.runs["t0"]))
    world.recorder._writer.flush()
    world.recorder._writer._settle()
    assert world.store.read("trials")["trial_id"] == world.store.read("proposals")["trial_id"]
    assert world.store.read("epochs").num_rows == 2


def test_a_trial_that_the_scheduler_stopped_is_a_pruned_row(world):
    trial = start(world, "t0")
    report(world, trial, [1])
    world.recorder.on_trial_complete(0, [], trial)
    world.recorder.close()
    (row,) = world.store.read("trials").to_pylist()
    assert (row["status"], row["accuracy"], row["accuracy_val"], row["epochs_run"]) == ("pruned", None, 0.5, 1)


def test_a_trial_whose_process_died_too_often_is_a_failed_row_with_its_reason(world):
    trial = start(world, "t0")
    for _ in range(2):
        world.recorder.on_trial_start(0, [], trial)
    world.recorder.on_trial_error(0, [], trial)
    world.recorder.close()
    (row,) = world.store.read("trials").to_pylist()
    assert row["status"] == "failed"
    assert row["error"] == "its process died: the node vanished"
    assert row["attempts"] == 3


def test_one_death_that_is_counted_twice_is_one(world):
    """With a single retry: Tune has counted two, but the trial began only once."""
    trial = start(world, "t0", died=2, retries=1)
    world.recorder.on_trial_error(0, [], trial)
    assert world.ledger.recorded == 0
    world.recorder.on_trial_error(0, [], start(world, "t1", died=2, retries=1))
    assert world.ledger.recorded == 1, "but not for ever"


def test_a_trial_that_tune_gave_up_too_early_runs_again(world, end_of):
    """Until its process has died too often, over all of Tune's trials; meanwhile the search is not over."""
    run = world.ledger.next()
    world.ledger.put_back(run)
    for attempt in range(2):
        world.recorder.on_trial_error(0, [], start(world, f"t{attempt}", died=1))
        assert not world.searcher.runs
        assert not world.progress.running
    assert world.ledger.recorded == 0
    last = start(world, "t2", died=1)
    assert world.searcher.runs["t2"] is run
    others = [start(world, "t3")]
    for number in range(4, 6):
        report(world, others[-1], [1], end_of(world.searcher.runs[others[-1].trial_id]))
        others.append(start(world, f"t{number}"))
    report(world, others[-1], [1], end_of(world.searcher.runs["t5"]))
    assert world.searcher.suggest("t6") is None, "the one that runs might come back"
    world.recorder.on_trial_error(0, [], last)
    assert world.searcher.suggest("t6") == "FINISHED"
    world.recorder.close()
    (row,) = [row for row in world.store.read("trials").to_pylist() if row["status"] == "failed"]
    assert (row["trial_id"], row["attempts"]) == (run.config.trial_id, 3)


def test_a_trial_that_ran_out_of_time_says_so(world):
    trial = start(world, "t0")
    trial_id = world.searcher.runs["t0"].config.trial_id
    world.folder.write_whole(timeout_path(trial_id), b"2.5")
    for _ in range(2):
        world.recorder.on_trial_start(0, [], trial)
    world.recorder.on_trial_error(0, [], trial)
    world.recorder.close()
    assert world.store.read("trials").to_pylist()[0]["error"] == "it ran longer than failures.time_limit_s = 2.5"
    assert not world.folder.exists(timeout_path(trial_id))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "; make room"),
        (errno.EDQUOT, "; make room"),
        (errno.EACCES, "; see to it that they can be"),
    ],
)
def test_where_results_cannot_be_written_the_search_stops_and_nothing_is_lost(
    world, end_of, monkeypatch, number, remedy
):
    trial = start(world, "t0")
    run = world.searcher.runs["t0"]
    world.folder.write_whole(running_path(run.config.trial_id), b"checkpoint")
    report(world, trial, [1], end_of(run))
    with monkeypatch.context() as broken:

        def fail(*_, **__):
            raise OSError(number, os.strerror(number))

        broken.setattr(world.store, "append", fail)
        wait_for(world, lambda: world.progress.trouble)
    assert os.strerror(number) in world.progress.trouble
    assert world.progress.trouble.endswith(remedy)
    assert world.searcher.suggest("t1") == "FINISHED"
    assert world.folder.exists(running_path(run.config.trial_id)), "until its row is written, the checkpoint stays"
    world.recorder.close()
    assert world.store.read("trials").num_rows == 1


def test_no_more_runs_are_handed_out_than_may_run_at_once(world, end_of):
    first, _ = start(world, "t0"), start(world, "t1")
    assert world.searcher.suggest("t2") is None
    report(world, first, [1], end_of(world.searcher.runs["t0"]))
    assert isinstance(world.searcher.suggest("t2"), dict)


def test_rows_survive_the_way_through_tune(end_of, world):
    start(world, "t0")
    row = end_of(world.searcher.runs["t0"]) | {"budgets": {"time": 12}}  # A layer of that name.
    assert from_json(to_json(row)) == row


def test_the_driver_does_not_wait_for_a_slow_storage(world, end_of, monkeypatch):
    append, go = world.store.append, threading.Event()

    def slow(table, rows):
        go.wait(10)
        append(table, rows)

    monkeypatch.setattr(world.store, "append", slow)
    for name in ("t0", "t1"):
        trial = start(world, name)
        report(world, trial, [1], end_of(world.searcher.runs[name]))
        world.recorder.on_step_end(0, [])  # would hang here
    assert world.store.read("trials").num_rows == 0
    go.set()
    wait_for(world, lambda: world.store.read("trials").num_rows == 2)
    world.recorder.close()
    assert world.store.read("trials").num_rows == 2


def test_a_driver_that_lost_its_folder_ends_at_once_and_writes_and_deletes_nothing_more(world, end_of, monkeypatch):
    monkeypatch.setattr("search.driver.recorder.LOST_CHECK_S", 0.0)
    trial = start(world, "one")
    run = world.searcher.runs["one"]
    world.folder.write_whole(running_path(run.trial_id), b"of the other driver")
    report(world, trial, [1, 2], end_of(run))
    world.lost.append("another driver took this folder over")
    with pytest.raises(FolderLostError, match="another driver"):
        world.recorder.on_step_end(0, [])
    world.recorder.close()
    assert world.ledger.stop_reason == "another driver took this folder over"
    assert world.store.read("trials").num_rows == 0
    assert world.folder.exists(running_path(run.trial_id))
