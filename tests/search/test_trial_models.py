"""Trials of models as users write them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from search.methods import load_trained
from search.spec import ModelSpec, TrainSpec
from search.trial import Trial, workbench
from tests.search.conftest import make_split
from tests.search.test_trial import same_result

TRAIN = TrainSpec(epochs=2, batch_size=16, schedule="cosine", precision="float32")


class Watched(nn.Module):
    """Keeps what it computed, to be looked at."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.kept, self.bits = nn.Linear(pixels, 12), nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.features = torch.relu(self.kept(x.flatten(1)))
        return self.bits(self.features)


def watched(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return Watched(in_channels * image_size**2, num_classes)


class Windowed(nn.Module):
    def __init__(self, window: torch.Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.register_buffer("window", window)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x * self.window))


def windowed(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Two blocks that hold one buffer."""
    window = torch.rand(1, 16, image_size, image_size)
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 16, 3, padding=1), Windowed(window), Windowed(window)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes)),
    )


class Volumes(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.images, self.volumes = nn.Conv2d(channels, 8, 3), nn.Conv3d(1, 2, (8, 3, 3))
        self.fc = nn.Linear(2 * 4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.volumes(torch.relu(self.images(x)).unsqueeze(1)).flatten(1))


def volumes(*, num_classes: int, in_channels: int) -> nn.Module:
    return Volumes(in_channels, num_classes)


@pytest.mark.parametrize("method", ["dense", "rps", "mag", "ltr"])
@pytest.mark.parametrize("model", [watched, windowed, volumes])
def test_a_model_trains_goes_on_and_is_read_again(model, method, make_config, tiny_data, tmp_path) -> None:
    data = replace(tiny_data, val=make_split(501))  # so many that weights are computed once, in a copy
    config = make_config(
        method,
        ratio=1.0 if method == "dense" else 3.0,
        args={"rounds": 1} if method == "ltr" else {},
        model=ModelSpec(name=f"{__name__}:{model.__name__}"),
        train=TRAIN,
    )
    trial = Trial(config, data, threads=1)
    trial.step()
    again = Trial(config, data, threads=1, saved=trial.checkpoint())
    for one in (trial, again):
        while not one.done:
            one.step()
    result = trial.finish()
    assert same_result(result, again.finish())
    assert len(result.model_file) == result.row["stored_bytes"]
    path = tmp_path / "model"
    path.write_bytes(result.model_file)
    loaded = load_trained(workbench(config, data, torch.device("cpu")), path)
    images = torch.rand(4, 1, 6, 6)
    assert torch.allclose(loaded(images), trial.compressed.model.eval()(images), atol=1e-5)
