import math
import time

import pytest
import torch
from torch import nn

from search.errors import UserError
from search.spec import ModelSpec, TrainSpec
from search.together import train_together
from search.training.packed import Pack
from search.training.trainer import DivergedError, EpochReport
from search.trial import Trial


@pytest.fixture
def trials(make_config, tiny_data):
    return [Trial(make_config("rand", seed=seed), tiny_data, threads=1) for seed in range(3)]


@pytest.mark.parametrize("step", ["begin_epoch", "end_epoch"])
def test_whatever_a_trial_ends_with_the_others_go_on(step, trials, monkeypatch) -> None:
    def broken(*args):
        raise RuntimeError("no space left for a copy")

    monkeypatch.setattr(trials[1], step, broken)
    outcomes = train_together(trials, Pack(3, fuse=True))
    assert [type(outcome) for outcome in outcomes] == [EpochReport, RuntimeError, EpochReport]


def test_the_trials_of_a_pack_share_its_time(trials) -> None:
    began = time.perf_counter()
    reports = train_together(trials, Pack(3, fuse=True))
    taken = time.perf_counter() - began
    assert 0 < sum(report.train_seconds for report in reports) <= taken


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_an_epoch_whose_loss_is_not_finite_ends_the_trial(loss, trials) -> None:
    with pytest.raises(DivergedError, match=r"in epoch 1 at lr 0\.2"):
        trials[0].trainer.end_epoch(loss, 0.2, 1.0)


class Auxiliary(nn.Module):
    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(pixels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        logits = self.fc(x.flatten(1))
        return (logits, logits) if self.training else logits


def auxiliary(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return Auxiliary(in_channels * image_size**2, num_classes)


def test_a_model_of_several_outputs_in_training_is_told(make_config, tiny_data) -> None:
    model = ModelSpec(name=f"{__name__}:auxiliary")
    trial = Trial(make_config("mag", model=model), tiny_data, threads=1)
    with pytest.raises(UserError, match="must give one tensor in training too, but gave a tuple"):
        trial.step()


def test_a_resumed_trial_has_its_momentum_in_the_layout_of_its_weights(make_config, tiny_data) -> None:
    model = ModelSpec(name="tests.search.training.test_packed:convolutions")
    config = make_config("rand", model=model, train=TrainSpec(epochs=2, batch_size=16, precision="float32"))
    trial = Trial(config, tiny_data, threads=1)
    trial.step()
    trainer = Trial(config, tiny_data, threads=1, saved=trial.checkpoint()).trainer
    weight = trainer.model[4].weight
    assert weight.stride() != trainer.model[4].weight.contiguous().stride()
    parameter = trainer.model[4]._parameters["weight"]
    assert trainer.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()
