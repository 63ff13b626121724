"""How trials end and go on: time limits, failures, checkpoints, and a storage that is away."""

import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from search.driver import runner as module
from search.driver.exchange import from_json, model_path, running_path, timeout_path
from search.driver.runner import TrialRunner, epoch_row
from search.results.folder import Folder
from search.training.trainer import EpochReport
from search.trial import Trial


@pytest.fixture
def config(make_config):
    return make_config("rand")


@pytest.fixture
def begin(config, tiny_data, settings):
    """Begin the trial, with other settings where some are given."""
    return lambda **changes: TrialRunner(config.model_dump_json(), tiny_data, replace(settings, **changes))


def failing(monkeypatch, *, epoch):
    """Have trials fail in an epoch."""
    step = Trial.step

    def fails(trial):
        if trial.epochs_run + 1 == epoch:
            raise ValueError("no")
        return step(trial)

    monkeypatch.setattr(Trial, "step", fails)


def test_a_trial_that_hangs_in_the_storage_ends_its_process(begin, monkeypatch):
    ended, back = threading.Event(), threading.Event()
    monkeypatch.setattr(module.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(module, "NOTE_TAKES_S", 0.01)
    monkeypatch.setattr(Folder, "write_whole", lambda *arguments: back.wait(60))
    begin(time_limit_s=0.01)
    try:
        assert ended.wait(30)
    finally:
        back.set()


def test_a_trial_that_hangs_ends_its_process_and_the_next_attempt_says_why(begin, settings, config, monkeypatch):
    ended = threading.Event()
    codes = []
    monkeypatch.setattr(module.os, "_exit", lambda code: (codes.append(code), ended.set()))
    begin(time_limit_s=0.05)  # It is never asked for an epoch.
    assert ended.wait(10)
    assert codes == [1]
    assert settings.folder.read(timeout_path(config.trial_id)) == b"0.05"
    row = from_json(begin(time_limit_s=3600).step()["trial_row"])
    assert (row["status"], row["error"]) == ("failed", "it ran longer than failures.time_limit_s = 0.05")


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_that_has_ended_is_not_killed_while_it_is_put_away(fails, begin, monkeypatch):
    runner = begin(time_limit_s=3600, report_every_s=60.0)
    seen = []
    put_away = "_unreported" if fails else "_write"
    whole = getattr(runner, put_away)

    def watched(*arguments, **named):
        seen.append(runner._watchdog.finished.is_set())
        return whole(*arguments, **named)

    if fails:
        failing(monkeypatch, epoch=1)
    else:
        runner._settings = replace(runner._settings, checkpoint_every_s=3600)
    monkeypatch.setattr(runner, put_away, watched)
    assert runner.step()["done"]
    assert seen == [True]


def test_checkpoints_are_as_rare_as_the_spec_says(begin, monkeypatch):
    now, written, step = [0.0], [], Trial.step

    def an_hour(trial):
        now[0] += 3600
        return step(trial)

    monkeypatch.setattr(Trial, "step", an_hour)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    runner = begin(checkpoint_every_s=7000)
    monkeypatch.setattr(runner, "_write", lambda path, data, **named: written.append((now[0], path)))
    while not runner.step().get("done"):
        pass
    places = [path for _, path in written]
    trial_id = runner._config.trial_id
    assert places == [running_path(trial_id), model_path(trial_id)]
    assert written[0][0] == 7200, "after the second epoch; the third is too early, and after the last it is over"


@pytest.mark.parametrize("saved", [b"", b"half of a checkpoint"])
def test_a_checkpoint_that_is_damaged_costs_its_epochs_and_not_the_trial(saved, begin, settings, config, caplog):
    settings.folder.write_whole(running_path(config.trial_id), saved)
    result = begin().step()
    assert result["epoch"] == 1
    assert f"trial {config.trial_id} starts again" in caplog.text


def test_a_trial_that_fails_tells_of_the_epochs_that_it_had_and_when_it_began(begin, monkeypatch):
    started = from_json(begin().step()["partial_row"])["started_at"]
    failing(monkeypatch, epoch=3)
    result = begin(report_every_s=60.0).step()
    row = from_json(result["trial_row"])
    assert (row["status"], row["error"], row["epochs_run"]) == ("failed", "ValueError: no", 2)
    assert row["started_at"] == started, "in its first attempt"
    assert row["finished_at"] > started
    assert [json.loads(told)["epoch"] for told in result["epoch_rows"]] == [1, 2]


def test_a_trial_that_cannot_begin_says_so_and_when(begin, monkeypatch):
    monkeypatch.setattr(module, "Trial", lambda *arguments, **named: 1 / 0)
    row = from_json(begin().step()["trial_row"])
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert row["started_at"] <= row["finished_at"]


def test_a_trial_that_cannot_be_judged_is_a_failed_row_after_a_restart_as_well(begin, monkeypatch):
    """Its process died between its last checkpoint and the end, and it has no epoch left."""
    monkeypatch.setattr(Trial, "finish", lambda trial: 1 / 0)
    monkeypatch.setattr(Trial, "done", property(lambda trial: True))
    row = from_json(begin().step()["trial_row"])
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: division by zero")


def test_a_trial_that_cannot_be_judged_tells_of_its_epochs(begin, monkeypatch):
    monkeypatch.setattr(Trial, "finish", lambda trial: 1 / 0)
    result = begin(report_every_s=60.0).step()
    assert from_json(result["trial_row"])["status"] == "failed"
    assert [json.loads(row)["epoch"] for row in result["epoch_rows"]] == [1, 2, 3, 4]


def test_what_early_stopping_compares_is_the_memory_that_the_spec_names(begin):
    found = {memory: begin(memory=memory).step()["memory"] for memory in ("stored_bytes", "stored_parameters")}
    assert 0 < found["stored_parameters"] < found["stored_bytes"]


def test_a_trial_goes_on_where_it_was_though_the_storage_is_away_for_a_moment(begin, settings, config, monkeypatch):
    """A row that says it failed is final: nothing trains it again."""
    begin().step()
    read, failures = Folder.read, []

    def fails_once(folder, path):
        if path not in failures:
            failures.append(path)
            raise OSError("away for a moment")
        return read(folder, path)

    monkeypatch.setattr(Folder, "read", fails_once)
    monkeypatch.setattr(module, "RETRY_AFTER_S", (0.0,))
    assert begin().step()["epoch"] == 2
    assert failures == [timeout_path(config.trial_id), running_path(config.trial_id)]


def test_a_storage_that_stays_away_is_the_reason(begin, monkeypatch):
    def away(folder, path):
        raise OSError("away for good")

    monkeypatch.setattr(Folder, "read", away)
    monkeypatch.setattr(module, "RETRY_AFTER_S", (0.0, 0.0))
    assert from_json(begin().step()["trial_row"])["error"] == "OSError: away for good"


def test_a_model_that_cannot_be_kept_is_told_and_costs_no_result(begin, monkeypatch, caplog):
    def full(folder, path, data):
        raise OSError("no space left")

    monkeypatch.setattr(Folder, "write_whole", full)
    monkeypatch.setattr(module, "RETRY_AFTER_S", (0.0,))
    row = from_json(begin(report_every_s=60.0).step()["trial_row"])
    assert row["status"] == "finished"
    assert "no space left" in caplog.text


def test_an_epoch_is_told_as_the_table_has_it():
    report = EpochReport(
        epoch=3,
        loss=0.5,
        accuracy_val=0.75,
        lr=0.125,
        images=100,
        train_seconds=4.0,
        eval_seconds=1.0,
        finished_at="2026-01-01T00:00:00+00:00",
    )
    row = epoch_row(report)
    assert (row["epoch"], row["loss"], row["accuracy_val"], row["lr"]) == (3, 0.5, 0.75, 0.125)
    assert (row["seconds"], row["images_per_second"], row["finished_at"].year) == (5.0, 25.0, 2026)
