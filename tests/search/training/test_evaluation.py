from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from search.data import DeviceSplit, Split
from search.training.engine import Engine
from search.training.evaluation import evaluate

ENGINE = Engine(torch.device("cpu"), torch.float32, torch.contiguous_format)


class Sizes(nn.Module):
    """Notes the sizes of the batches that it is given, and takes each image for one of the class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        return torch.tensor([0.0, 1.0]).expand(len(images), 2)


@pytest.mark.parametrize(
    ("images", "side", "sizes"), [(500, 2, [500]), (501, 64, [500, 1]), (24, 300, [23, 1]), (2, 1500, [1, 1])]
)
def test_batches_of_large_images_hold_fewer(images, side, sizes, tiny_data) -> None:
    labels = np.arange(images) % 2
    split = Split(np.broadcast_to(np.uint8(0), (images, 1, side, side)), labels)
    model = Sizes()
    accuracy, loss = evaluate(model, DeviceSplit.of(split, "cpu"), tiny_data, ENGINE)
    assert model.seen == sizes
    assert accuracy == pytest.approx(labels.mean())
    right, wrong = 0.31326169, 1.31326169
    assert loss == pytest.approx(right * labels.mean() + wrong * (1 - labels.mean()))


def test_models_are_judged_in_the_precision_that_they_train_in(tiny_data) -> None:
    class Noting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.dtype = (images.flatten(1) @ torch.ones(36, 3)).dtype
            return torch.zeros(len(images), 3)

    model = Noting()
    evaluate(model, DeviceSplit.of(tiny_data.val, "cpu"), tiny_data, replace(ENGINE, autocast=torch.bfloat16))
    assert model.dtype is torch.bfloat16
