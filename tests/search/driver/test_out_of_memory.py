"""Memory that runs out for real: a model asks for more than any machine has."""

import json
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from search.driver.pack import PackHost
from search.driver.runner import TrialRunner
from search.spec import ModelSpec

HUNGRY = ModelSpec(name="tests.search.driver.test_out_of_memory:hungry")


class Hungry(nn.Flatten):
    """Takes a million gigabytes to train, and nothing to be looked at."""

    def forward(self, inputs):
        if self.training:
            torch.empty(10**15)
        return super().forward(inputs)


def hungry(*, num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(Hungry(), nn.Linear(36 * in_channels, num_classes))


def to_the_end(step) -> dict:
    result = step()
    while not result.get("done"):
        result = step()
    return json.loads(result["trial_row"])


def test_a_trial_that_runs_out_of_memory_fails_and_says_so(make_config, settings, tiny_data):
    config = make_config("rps", model=HUNGRY)
    row = to_the_end(TrialRunner(config.model_dump_json(), tiny_data, settings).step)
    assert row["status"] == "failed"
    assert row["trial_id"] == config.trial_id
    assert row["error"].startswith("out of memory: ")
    assert "4000000000000000 bytes" in row["error"]
    assert row["error"].endswith("use a smaller train.batch_size, or give the trial more in resources")
    assert row["epochs_run"] == 0


def test_the_process_that_ran_out_of_memory_runs_the_next_trial(make_config, settings, tiny_data):
    for model, status in ((HUNGRY, "failed"), (ModelSpec(args={"hidden": [16]}), "finished")):
        config = make_config("rps", model=model)
        assert to_the_end(TrialRunner(config.model_dump_json(), tiny_data, settings).step)["status"] == status


def test_in_a_pack_it_fails_alone(make_config, settings, tiny_data):
    configs = [make_config("rps", seed=1), make_config("rps", model=HUNGRY), make_config("rand", seed=2)]
    host = PackHost(tiny_data, settings, 3)

    def own(number: int) -> dict:
        assert host.join(str(number))
        host.begin(str(number), configs[number].model_dump_json())
        return to_the_end(lambda: host.step(str(number)))

    with ThreadPoolExecutor(3) as owners:
        rows = list(owners.map(own, range(3)))
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert rows[1]["error"].startswith("out of memory: ")
