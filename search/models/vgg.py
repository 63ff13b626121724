"""VGG with batch-norm for small images (Simonyan & Zisserman, arXiv:1409.1556), with one linear layer as its head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from search.models.parts import initialise_, scaled

# Channels of the convolutions of each stage; a 2 x 2 max-pooling ends each.
VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLEST_IMAGE = 2 ** len(VGG11)


def vgg11(*, num_classes: int, in_channels: int, image_size: int, width: float = 1.0) -> nn.Module:
    """Build VGG-11: 9,228,362 parameters for 10 classes of RGB images at width 1. See :func:`vgg16`."""
    return _vgg(VGG11, num_classes, in_channels, image_size, width)


def vgg16(*, num_classes: int, in_channels: int, image_size: int, width: float = 1.0) -> nn.Module:
    """Build VGG-16: 14,724,042 parameters for 10 classes of RGB images at width 1.

    Args:
        num_classes: Classes, the length of the output.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels, at least 32: five poolings halve it.
        width: Factor on the number of channels, above 0.

    Raises:
        ValueError: If the images are too small.
    """
    return _vgg(VGG16, num_classes, in_channels, image_size, width)


def _vgg(
    stages: Sequence[Sequence[int]], num_classes: int, in_channels: int, image_size: int, width: float
) -> nn.Module:
    if image_size < SMALLEST_IMAGE:
        raise ValueError(
            f"image_size >= {SMALLEST_IMAGE} must hold (five poolings halve it), but got {image_size}; "
            f"set data.image_size={SMALLEST_IMAGE} or take another model"
        )
    model = nn.Sequential()
    for number, stage in enumerate(stages, start=1):
        channels = [in_channels, *(scaled(full, width) for full in stage)]
        model.add_module(f"stage{number}", _stage(channels))
        in_channels = channels[-1]
    model.add_module("average", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(in_channels, num_classes))
    return initialise_(model)


def _stage(channels: Sequence[int]) -> nn.Sequential:
    """Return 3x3 convolutions with batch-norm and ReLU from each number of channels to the next, then a pooling."""
    stage = nn.Sequential()
    for number, (fan_in, fan_out) in enumerate(pairwise(channels), start=1):
        stage.add_module(f"conv{number}", nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False))
        stage.add_module(f"bn{number}", nn.BatchNorm2d(fan_out))
        stage.add_module(f"relu{number}", nn.ReLU())
    stage.add_module("pool", nn.MaxPool2d(2))
    return stage
