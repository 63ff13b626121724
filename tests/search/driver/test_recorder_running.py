"""What the recorder does while trials run, and where the storage or the processes of trials fail."""

import pytest

from search.driver.recorder import Recorder
from tests.search.driver.conftest import report, start, wait_for


def died(world, trial):
    """Have a trial's process die once more than it may; return its row."""
    for _ in range(2):
        world.recorder.on_trial_start(0, [], trial)
    world.recorder.on_trial_error(0, [], trial)
    world.recorder.close()
    (row,) = world.store.read("trials").to_pylist()
    return row


def test_a_storage_that_is_away_when_a_process_dies_ends_no_search(world, monkeypatch):
    trial = start(world, "t0")
    read = world.folder.read

    def away(path):
        if path.endswith(".timeout"):
            raise OSError("away for a moment")
        return read(path)

    monkeypatch.setattr(world.folder, "read", away)
    assert died(world, trial)["error"] == "its process died: the node vanished"


def test_a_trial_whose_process_died_has_in_its_row_what_it_told_last(world):
    trial = start(world, "t0")
    report(world, trial, [1])
    report(world, trial, [2])
    row = died(world, trial)
    assert (row["status"], row["accuracy"], row["accuracy_val"], row["epochs_run"]) == ("failed", None, 0.5, 2)


def test_a_trial_that_is_stopped_has_in_its_row_what_it_told_last(world):
    trial = start(world, "t0")
    report(world, trial, [1])
    report(world, trial, [2])
    world.recorder.on_trial_complete(0, [], trial)
    world.recorder.close()
    assert world.store.read("trials")["epochs_run"].to_pylist() == [2]


def test_what_is_long_is_told_in_short(world, tmp_path):
    trial = start(world, "t0")
    (tmp_path / "error.txt").write_text("Failure # 1 (at noon)\n" + "a line of many\n" * 1000)
    assert len(died(world, trial)["error"]) < 500


@pytest.mark.parametrize(
    ("noted", "cause"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: Trainable\n\tpid: 7\n"
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
            "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file.\n(1) SIGKILL\n",
            "Worker unexpectedly exits with a connection error code 2. End of file. (1) SIGKILL",
        ),
        (
            "\x1b[36mray::train()\x1b[39m (pid=7)\n    ^^^^\n"
            '  File "nets.py", line 3, in make\n    raise KeyboardInterrupt\nKeyboardInterrupt\n',
            "KeyboardInterrupt",
        ),
    ],
)
def test_why_a_process_died_comes_before_what_says_nothing_to_a_user(world, tmp_path, noted, cause):
    trial = start(world, "t0")
    (tmp_path / "error.txt").write_text("Failure # 1 (at noon)\n" + noted)
    assert died(world, trial)["error"] == f"its process died: {cause}"


def test_two_deaths_with_retries_left_are_no_single_one(world):
    """Only the first death can be one that Tune handled twice."""
    world.recorder.on_trial_error(0, [], start(world, "t0", died=3, retries=2))
    assert world.ledger.recorded == 0
    world.recorder.on_trial_error(0, [], start(world, "t1", died=1, retries=2))
    assert world.ledger.recorded == 1


def test_what_runs_is_shown(world, monkeypatch):
    seen = []
    world.recorder._watch = lambda progress: seen.append(dict(progress.running))
    trial = start(world, "t0")
    trial_id = world.searcher.runs["t0"].trial_id
    world.recorder.on_step_end(0, [])
    report(world, trial, [1, 2])
    world.recorder.on_step_end(0, [])
    assert seen == [{trial_id: 0}, {trial_id: 2}]


def test_the_next_is_proposed_while_all_places_are_busy(world):
    trials = [start(world, name) for name in ("t0", "t1")]
    for trial in trials:
        trial.status = trial.RUNNING = "RUNNING"
    assert not world.ledger.has_ready(1)
    world.recorder.on_step_end(0, trials)
    assert world.ledger.has_ready(1)


@pytest.fixture
def times(monkeypatch):
    """How often the epochs of trials that run were handed over."""
    gather, calls = Recorder._gather, []

    def counted(recorder, *, of_running):
        calls.append(of_running)
        gather(recorder, of_running=of_running)

    monkeypatch.setattr(Recorder, "_gather", counted)
    return calls


def test_the_epochs_of_what_runs_are_written_once_and_not_with_every_batch(world, times):
    trial = start(world, "t0")
    report(world, trial, [1])
    world.recorder._epochs_at -= 3600
    wait_for(world, lambda: world.store.read("epochs").num_rows == 1)
    report(world, trial, [2])
    before = len(times)
    wait_for(world, lambda: len(times) >= before + 2)
    assert times.count(True) == 1
    world.recorder.close()
    assert [part.name.rows for part in world.store.snapshot("epochs").parts] == [1, 1]
