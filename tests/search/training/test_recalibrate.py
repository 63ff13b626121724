import pytest
import torch

from search.spec import ModelSpec, TrainSpec
from search.training import recalibrate
from search.trial import Trial


@pytest.mark.parametrize("most", [100, 2])
def test_statistics_are_the_mean_over_batches(make_config, tiny_data, monkeypatch, most):
    monkeypatch.setattr(recalibrate, "MOST_BATCHES", most)
    model = ModelSpec(name="tests.search.training.test_packed:convolutions")
    train = TrainSpec(epochs=2, batch_size=16, precision="float32")
    trial = Trial(make_config("dense", ratio=1.0, model=model, train=train), tiny_data, threads=1)
    trial.step()
    network = trial.trainer.model
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    means = []
    hook = norm.register_forward_pre_hook(lambda module, inputs: means.append(inputs[0].mean((0, 2, 3))))
    recalibrate.recalibrate(trial.trainer)
    hook.remove()
    assert len(means) == min(most, 6)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))


def test_what_is_drawn_meanwhile_depends_on_the_trial_alone(make_config, tiny_data):
    model = ModelSpec(name="tests.search.training.test_packed:convolutions")
    trial = Trial(make_config("dense", ratio=1.0, model=model), tiny_data, threads=1)
    drawn = []
    trial.trainer.model.register_forward_pre_hook(lambda module, inputs: drawn.append(float(torch.rand(1))))
    for seed in (1, 2):
        torch.manual_seed(seed)
        recalibrate.recalibrate(trial.trainer)
    half = len(drawn) // 2
    assert drawn[:half] == drawn[half:]
