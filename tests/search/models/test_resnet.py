from __future__ import annotations

import math

import pytest
import torch

from search.models.resnet import resnet20


def test_the_number_of_parameters_is_the_published_one(count_parameters):
    assert count_parameters(resnet20(num_classes=10, in_channels=3, image_size=32)) == 272_474


def test_feature_maps_shrink_as_in_the_paper():
    model = resnet20(num_classes=10, in_channels=3, image_size=32)
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[1:])))
    model(torch.zeros(2, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_twenty_layers_carry_the_name():
    model = resnet20(num_classes=10, in_channels=3, image_size=32)
    shortcuts = sum("shortcut" in name for name, p in model.named_parameters() if p.dim() > 1)
    assert sum(p.dim() > 1 for p in model.parameters()) - shortcuts == 20


def test_weights_are_drawn_with_hes_standard_deviation():
    torch.manual_seed(0)
    model = resnet20(num_classes=10, in_channels=3, image_size=32)
    for convolution in (model.layer3[1].conv1, model.layer2[2].conv2):
        fan_in = convolution.in_channels * 9
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
    assert model.fc.bias.abs().sum() == 0
