"""Going back to where trainers were before something was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from search.training.trainer import Trainer


class Undo:
    """What an epoch changes in some trainers, as it was."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self._momentum = [
            (trainer.optimizer, parameter, trainer.optimizer.state.get(parameter, {}).get("momentum_buffer"))
            for trainer in trainers
            for parameter in trainer.parameters
        ]
        tensors = [
            *(tensor for trainer in trainers for tensor in trainer.model.parameters()),
            *(tensor for trainer in trainers for tensor in trainer.model.buffers()),
            *(buffer for _, _, buffer in self._momentum if buffer is not None),
        ]
        self._copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def put_back(self) -> None:
        """Set everything back; gradients are forgotten."""
        for tensor, copy in self._copies:
            tensor.copy_(copy)
        for optimizer, parameter, buffer in self._momentum:
            parameter.grad = None
            if buffer is None:
                optimizer.state.pop(parameter, None)
