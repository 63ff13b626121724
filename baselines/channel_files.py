"""Files of models whose channels were cut: the widths travel with the weights, so that the file can be read again."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.channel_graph import ChannelGroup, channel_groups
from baselines.channels import cut_
from baselines.files import load_sparse, read_note

_KEY = "channels"


def width_note(model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, str]:
    """Return what `save_sparse` and `sparse_summary` have to note of a model with cut channels.

    Which channels were cut need not be known: their weights are gone, and the others are stored.

    Args:
        model: The model after `prune_channels_`.
        groups: `channel_groups` of the model before.
    """
    widths = [model.get_parameter(f"{group.producers[0]}.weight").shape[0] for group in groups]
    return {_KEY: ",".join(map(str, widths))}


def load_channels(path: str | os.PathLike[str], full_model: nn.Module, example_input: Tensor) -> nn.Module:
    """Return a model with cut channels from the file that `save_sparse` wrote with its `width_note`.

    Args:
        path: The file.
        full_model: The model as it is built, with all its channels; it is left alone.
        example_input: A batch of inputs, ``(N, ...)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no sparse model file, is damaged, or is of another architecture.
    """
    noted = read_note(path).get(_KEY)
    if noted is None:
        raise ValueError(f"{path} must say how many channels each layer has, but it is of a model without cut channels")
    groups = channel_groups(full_model, example_input)
    widths = noted.split(",")
    if len(widths) != len(groups) or not all(
        width.isdecimal() and 1 <= int(width) <= group.size for width, group in zip(widths, groups, strict=True)
    ):
        raise ValueError(
            f"{path} holds another architecture than {type(full_model).__name__}: its widths are {noted}, but "
            f"{[group.size for group in groups]} channels may be cut"
        )
    first = [torch.arange(int(width)) for width in widths]
    return load_sparse(path, cut_(copy.deepcopy(full_model), groups, first))
