import json
import time
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from baselines import save_sparse
from search.driver.exchange import REPORT_EVERY_S, model_path, report_interval
from search.driver.runner import TrialRunner, explain
from search.errors import UserError
from search.methods import Compressed
from search.results.folder import Folder
from search.results.store import ResultStore
from search.spec import ModelSpec
from search.trial import Trial


@pytest.fixture
def settings(settings):
    return replace(settings, report_every_s=60.0)


@pytest.fixture
def config(make_config):
    return make_config("rand").model_dump_json()


def epochs_reported(runner):
    found = [runner.step()]
    while not found[-1].get("done"):
        found.append(runner.step())
    return [len(result["epoch_rows"]) for result in found]


def test_short_epochs_are_reported_together(config, settings, tiny_data):
    assert epochs_reported(TrialRunner(config, tiny_data, settings)) == [4]


def test_what_early_stopping_judges_is_reported_at_once(config, settings, tiny_data):
    settings = replace(settings, report_at=frozenset({1, 3}))
    assert epochs_reported(TrialRunner(config, tiny_data, settings)) == [1, 2, 1]


def test_checkpoints_do_not_wait_for_the_report(config, settings, tiny_data, monkeypatch):
    runner = TrialRunner(config, tiny_data, settings)
    step, done = Trial.step, []

    def interrupted(trial):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(step(trial))
        return done[-1]

    monkeypatch.setattr(Trial, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.step()
    monkeypatch.undo()
    result = TrialRunner(config, tiny_data, settings).step()
    assert [json.loads(row)["epoch"] for row in result["epoch_rows"]] == [1, 2, 3, 4]


def test_a_trial_that_goes_on_beyond_a_judged_epoch_tells_of_it_at_once(config, settings, tiny_data, monkeypatch):
    settings = replace(settings, report_at=frozenset({1, 2}), report_every_s=0.0)
    runner = TrialRunner(config, tiny_data, settings)
    runner.step()
    runner.step()  # the driver dies with this report
    again = TrialRunner(config, tiny_data, replace(settings, report_every_s=60.0))
    assert epochs_reported(again) == [2, 2]


def test_a_trial_that_goes_on_is_judged_before_it_trains_on(config, settings, tiny_data):
    """With what it has at the rung, as it would have been: not with what it gains by another epoch."""
    settings = replace(settings, report_at=frozenset({1}))
    told = TrialRunner(config, tiny_data, settings).step()  # the driver dies with this report
    again = TrialRunner(config, tiny_data, settings)
    result = again.step()
    assert (result["epoch"], result["accuracy_val"], result["rounds"]) == (1, told["accuracy_val"], 1)
    assert [json.loads(row)["epoch"] for row in result["epoch_rows"]] == [1]
    assert json.loads(result["partial_row"])["epochs_run"] == 1
    assert epochs_reported(again) == [3]


def test_a_checkpoint_that_cannot_be_written_fails_the_trial(config, settings, tiny_data, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")

    runner = TrialRunner(config, tiny_data, settings)
    monkeypatch.setattr(runner, "_write", full)
    row = json.loads(runner.step()["trial_row"])
    assert row["status"] == "failed"
    assert "no space left" in row["error"]


def test_a_thousand_trials_report_rarely_and_a_few_often():
    assert report_interval(2) == REPORT_EVERY_S
    assert report_interval(1000) == 30.0


def test_where_others_run_too_a_trial_that_takes_too_long_ends_alone(config, settings, tiny_data, monkeypatch):
    settings = replace(settings, time_limit_s=0.05, report_every_s=0.0)
    step = Trial.step

    def slow(trial):
        time.sleep(0.06)
        return step(trial)

    monkeypatch.setattr("search.driver.runner.PATIENCE_WITH_OTHERS", 100.0)
    monkeypatch.setattr(Trial, "step", slow)
    runner = TrialRunner(config, tiny_data, settings, shared=True)
    row = json.loads(runner.step()["trial_row"])
    assert row["status"] == "failed"
    assert row["error"] == "it ran longer than failures.time_limit_s = 0.05"


def test_a_model_is_written_though_the_storage_fails_once(config, settings, tiny_data, monkeypatch):
    write_whole, failures = Folder.write_whole, []

    def fails_once(folder, path, data):
        if path.startswith("checkpoints/models") and not failures:
            failures.append(path)
            raise OSError("away for a moment")
        return write_whole(folder, path, data)

    monkeypatch.setattr(Folder, "write_whole", fails_once)
    monkeypatch.setattr("search.driver.runner.RETRY_AFTER_S", (0.0,))
    result = TrialRunner(config, tiny_data, settings).step()
    assert failures
    assert settings.folder.exists(model_path(json.loads(result["trial_row"])["trial_id"]))


def counted_by_numpy(bench):
    model = bench.build(1.0)
    size = sum(np.prod(parameter.shape) for parameter in model.parameters())
    assert not isinstance(size, int)
    return Compressed(model, virtual_size=size, stored_parameters=size, stored_bytes=4 * size, save=save_sparse)


def test_a_method_may_count_with_numpy(make_config, settings, tiny_data):
    config = make_config("tests.search.driver.test_runner:counted_by_numpy", ratio=1.0)
    row = json.loads(TrialRunner(config.model_dump_json(), tiny_data, settings).step()["trial_row"])
    assert row["status"] == "finished"
    size = 36 * 16 + 16 + 16 * 3 + 3
    assert (row["virtual_size"], row["stored_parameters"], row["stored_bytes"]) == (size, size, 4 * size)


def test_the_name_of_a_file_that_is_not_utf_8_is_told_as_far_as_tables_hold_it(tmp_path):
    error = OSError("cannot read " + b"/data/caf\xe9.png".decode(errors="surrogateescape"))
    reason = explain(error)
    assert reason == "OSError: cannot read /data/caf?.png"
    assert explain(UserError(str(error))) == "cannot read /data/caf?.png"
    store = ResultStore(Folder(tmp_path))
    row = {"trial_id": "0" * 12, "experiment": "e", "number": 0, "repeat": 0, "seed": 0, "method": "rps"}
    store.append("trials", [row | {"status": "failed", "params_json": "{}", "config_json": "{}", "error": reason}])
    assert store.read("trials")["error"].to_pylist() == [reason]


class Auxiliary(nn.Linear):
    """Gives more in training than in evaluation, as Inception does."""

    def forward(self, inputs):
        logits = super().forward(inputs.flatten(1))
        return (logits, logits) if self.training else logits


def with_auxiliary(*, num_classes, in_channels):
    return Auxiliary(36 * in_channels, num_classes)


def test_a_network_with_auxiliary_outputs_is_told_of_them(make_config, settings, tiny_data):
    config = make_config("dense", model=ModelSpec(name="tests.search.driver.test_runner:with_auxiliary"))
    row = json.loads(TrialRunner(config.model_dump_json(), tiny_data, settings).step()["trial_row"])
    assert row["status"] == "failed"
    assert row["error"].startswith("the model must give one tensor in training too, but gave a tuple; switch its")
