"""A model without its compression, and the dense weights that a compressed one stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor, nn

from baselines.copying import copied
from baselines.masks import masks_of, unmask_
from rps_core import to_dense
from rps_core.sharing import close_arrays, find_sharing, open_arrays


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model without its compression: the structure that it shares with others."""
    return unmask_(copied(model)) if find_sharing(model) is None else to_dense(model)


def is_compressed(model: nn.Module) -> bool:
    """Return whether reading a weight of the model computes it, from a shared array or through a mask."""
    return find_sharing(model) is not None or bool(masks_of(model))


def structure(model: nn.Module) -> str:
    """Return a text that is equal for models that can train as one program."""
    plain = plain_copy(model)
    shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in plain.state_dict().items()]
    return hashlib.sha256(f"{plain} {shapes}".encode()).hexdigest()


def read_weights(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights that a model stands for, by name: shared ones recovered, masked ones without their mask."""
    found: dict[str, Tensor] = dict(model.named_parameters())
    sharing = find_sharing(model)
    if sharing is not None:
        root = sharing[0]
        open_arrays(root, ())
        try:
            for name in names:
                if name not in found:
                    path, _, attribute = name.rpartition(".")
                    found[name] = getattr(model.get_submodule(path), attribute)
        finally:
            close_arrays(root, (), None)
    return found
