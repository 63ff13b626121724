"""What the ``state_dict`` of a compressed model holds beside its tensors: the scales of its layers.

They come from the weights that a model was compressed with. Without them, psi in a model that was compressed with other
weights would stand for other weights, and nobody would be told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rps_core.group import Group
from rps_core.sharing import SHARING, Sharing

SCALES = "psi_scales"
KIND = "psi_kind"


def add_scales(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """State-dict hook of a compressed model: add its scales, and a hash of all else that weights follow from."""
    groups = module.__dict__[SHARING].groups
    state[prefix + SCALES] = torch.tensor(layer_scales(groups), dtype=torch.float32)
    state[prefix + KIND] = torch.tensor(kind(groups))


def read_scales(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load-state-dict hook of a compressed model: take the scales over. A state without them, as of old, has none."""
    scales, found = state.pop(prefix + SCALES, None), state.pop(prefix + KIND, None)
    sharing: Sharing = module.__dict__[SHARING]
    groups = sharing.groups
    if scales is None or found is None:
        return
    if int(found) != kind(groups) or len(scales) != len(layer_scales(groups)):
        errors.append(
            "the state must be of a model that shares alike, but its seed, mapping, budgets or layers differ: "
            "compress this one with the same RPSConfig"
        )
    elif scales.tolist() != layer_scales(groups):
        left = iter(scales.tolist())
        for array in sharing.arrays:
            layers = tuple(replace(layer, scale=next(left)) for layer in array.group.layers)
            array.group = replace(array.group, layers=layers)


def layer_scales(groups: Sequence[Group]) -> list[float]:
    """Return lambda of each layer of all groups: float32 values."""
    return [layer.scale for group in groups for layer in group.layers]


def kind(groups: Sequence[Group]) -> int:
    """Return 63 bits of a hash of what weights follow from beside psi and the scales."""
    content = [
        [group.slots, group.mapping_name, group.seed]
        + [[layer.block.shape, layer.block.table, layer.padding] for layer in group.layers]
        for group in groups
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def install_hooks(root: nn.Module) -> None:
    """Let the state of a compressed model hold its scales."""
    root.register_state_dict_post_hook(add_scales)
    root.register_load_state_dict_pre_hook(read_scales)


def remove_hooks(root: nn.Module) -> None:
    """Undo :func:`install_hooks`."""
    for number in [number for number, hook in root._state_dict_hooks.items() if hook is add_scales]:
        del root._state_dict_hooks[number]
    pre_hooks = root._load_state_dict_pre_hooks
    for number in [number for number, hook in pre_hooks.items() if getattr(hook, "hook", None) is read_scales]:
        del pre_hooks[number]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state without the scales, parameters as they are."""
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in {SCALES, KIND}}
