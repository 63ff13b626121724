"""A multi-layer perceptron."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from search.models.parts import initialise_, scaled


def mlp(
    *, num_classes: int, in_channels: int, image_size: int, width: float = 1.0, hidden: Sequence[int] = (256, 128)
) -> nn.Module:
    """Build linear layers with ReLU between them: 50,826 parameters for ``digits`` (10 classes of 8 x 8 grey pixels).

    Args:
        num_classes: Classes, the length of the output.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        width: Factor on the hidden sizes, above 0.
        hidden: Sizes of the hidden layers; empty for a linear classifier.

    Raises:
        ValueError: If a hidden size is no whole number, or below 1.
    """
    if isinstance(hidden, str) or not isinstance(hidden, Sequence) or any(type(size) is not int for size in hidden):
        raise ValueError(f"hidden must be a list of whole numbers such as [256, 128], but got hidden={hidden!r}")
    if any(size < 1 for size in hidden):
        raise ValueError(f"every hidden size must be at least 1, but got hidden={list(hidden)}")
    sizes = [in_channels * image_size**2, *(scaled(size, width) for size in hidden)]
    model = nn.Sequential(OrderedDict(flatten=nn.Flatten()))
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        model.add_module(f"fc{number}", nn.Linear(fan_in, fan_out))
        model.add_module(f"relu{number}", nn.ReLU())
    model.add_module(f"fc{len(sizes)}", nn.Linear(sizes[-1], num_classes))
    return initialise_(model)
