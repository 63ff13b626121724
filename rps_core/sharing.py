"""What a compressed model carries: its psi arrays, and how its modules read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.recovery import recover

SHARING = "_rps_sharing"
NOT_COMPRESSED = "model must be compressed: call compress_ or project_ on it first"


class SharedArray:
    """One psi, as the modules that read it see it.

    psi is a parameter of the compressed model. It is looked up in the model's own table of parameters at each read,
    so that whatever replaces it there (``functional_call``, ``.to``) is what the modules see.

    While the model's forward runs with gradients, all weights of the group are recovered at once (``open``), so that
    one backward pass sums the gradient of psi in O(n), however many layers there are. Reads outside of it, or without
    gradients, recover one layer.

    Attributes:
        group: How weights follow from psi.
        parameters: The table of parameters.
        key: psi's name in it.
    """

    def __init__(self, group: Group, parameters: dict[str, nn.Parameter | None], key: str) -> None:
        self.group = group
        self.parameters = parameters
        self.key = key
        self._open: tuple[Tensor, Any] | None = None

    @property
    def psi(self) -> Tensor:
        """The shared array, ``(slots,)``."""
        psi = self.parameters[self.key]
        assert psi is not None
        return psi

    def weight(self, index: int) -> Tensor:
        """Return the weights of layer ``index`` of the group, in its shape."""
        psi, opened = self.psi, self._open
        if opened is not None and opened[0] is psi:
            return opened[1][index]
        return recover(psi, self.group, (index,))[0]

    def open(self) -> None:
        """Recover the weights of all layers, if gradients are wanted, for reads until :meth:`close`."""
        psi = self.psi
        if torch.is_grad_enabled() and psi.requires_grad and not torch.compiler.is_exporting():
            self._open = psi, recover(psi, self.group, tuple(range(len(self.group.layers))))

    def close(self) -> None:
        """Let go of the weights."""
        if self._open is not None:
            self._open = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


@dataclass
class Sharing:
    """What a compressed model knows about its compression.

    Attributes:
        config: What was asked for.
        arrays: One for each group.
        relative_error: For each layer ``|w - recovered| / |w|``, where psi was projected from trained weights.
    """

    config: RPSConfig
    arrays: tuple[SharedArray, ...]
    relative_error: dict[str, float] | None = None

    @property
    def groups(self) -> list[Group]:
        """The group of each array."""
        return [array.group for array in self.arrays]


def open_arrays(module: nn.Module, args: Any) -> None:
    """Forward pre-hook of a compressed model."""
    for array in module.__dict__[SHARING].arrays:
        array.open()


def close_arrays(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook of a compressed model; called also when forward fails."""
    for array in module.__dict__[SHARING].arrays:
        array.close()


def compressed_parts(model: nn.Module) -> dict[str, tuple[nn.Module, Sharing]]:
    """Return the compressed modules in ``model``, each with its sharing, by path; the model itself has the path "".

    Raises:
        TypeError: If ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, but got {type(model).__name__}")
    return {
        path: (module, module.__dict__[SHARING]) for path, module in model.named_modules() if SHARING in module.__dict__
    }


def find_sharing(model: nn.Module) -> tuple[nn.Module, Sharing] | None:
    """Return the compressed module in ``model`` (itself, or what a wrapper wraps) and its sharing, or None."""
    return next(iter(compressed_parts(model).values()), None)


def sharing_of(model: nn.Module) -> tuple[nn.Module, Sharing]:
    """Return the compressed module in ``model`` and its sharing.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed, or holds tensors beside those of one compressed module.
    """
    parts = compressed_parts(model)
    if not parts:
        raise ValueError(NOT_COMPRESSED)
    path, (root, sharing) = next(iter(parts.items()))
    inside = {id(tensor) for tensor in (*root.parameters(), *root.buffers())}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in inside:
            raise ValueError(
                f"a model must be compressed as a whole, but only its part {path!r} is, and {name!r} lies outside: "
                "give that part alone, and keep the rest yourself"
            )
    return root, sharing
