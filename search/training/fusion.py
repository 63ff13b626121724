"""Several models of one structure trained as one program: weights stacked, one forward, one backward, one update.

The models keep what they train - dense weights, a psi, weights and masks - and their optimizers' momentum. Each step
reads from every model the dense weights that it stands for, stacks them, and runs the structure once over the stack
through `torch.func.vmap`, which turns convolutions into grouped ones and linear layers into batched products (the
scheme of HFTA, arXiv:2102.02344). Backward returns through the stack to what each model trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from baselines.masks import masks_of
from search.data.batches import packed_batches
from search.training.fused_sgd import FusedSGD
from search.training.plain import plain_copy, read_weights
from search.training.trainer import Trainer


class Program:
    """The computation of one structure over stacks of weights.

    Args:
        model: A model of the structure, compressed or not.
        compiled: Run it through torch.compile.

    Attributes:
        parameters: The parameters that it takes stacks of, by name; their values mean nothing.
        buffers: The buffers, likewise.
    """

    def __init__(self, model: nn.Module, *, compiled: bool) -> None:
        self._skeleton = plain_copy(model).train()
        self.parameters = dict(self._skeleton.named_parameters())
        self.buffers = dict(self._skeleton.named_buffers())
        self._forward = torch.compile(vmap(self._one), dynamic=False) if compiled else vmap(self._one)

    def __call__(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """Map images ``(K, batch, C, H, W)`` to logits ``(K, batch, classes)``; updates ``buffers`` in place.

        Raises:
            RuntimeError: If the structure draws random numbers, or has an operator that cannot be stacked.
        """
        return self._forward(weights, buffers, inputs)

    def _one(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self._skeleton, (weights, buffers), (inputs,))


class Fusion:
    """K trainers whose models have one structure, trained as one program.

    The numbers of a model equal those of training it alone up to the rounding of sums taken in another order.

    Args:
        trainers: The trainers, on the same data and device and of the same recipe.
        program: The structure of their models.

    Attributes:
        trainers: The same.
    """

    def __init__(self, trainers: Sequence[Trainer], program: Program) -> None:
        self.trainers = list(trainers)
        self._program = program
        self._engine, self._recipe = trainers[0].engine, trainers[0].train
        self._sgd = FusedSGD([trainer.optimizer for trainer in trainers])
        self._load()

    def _load(self) -> None:
        """Stack the masks and buffers that the models have now."""
        held = [dict(trainer.model.named_buffers()) for trainer in self.trainers]
        self._buffers = {name: torch.stack([buffers[name] for buffers in held]) for name in self._program.buffers}
        masks = [masks_of(trainer.model) for trainer in self.trainers]
        self._masks = {
            name: torch.stack([mask.get(name, torch.ones_like(parameter)) for mask in masks])
            for name, parameter in self._program.parameters.items()
            if any(name in mask for mask in masks)
        }

    def train_epoch(self) -> list[tuple[float, float]]:
        """Train one epoch; return for each model the mean loss and the last learning rate."""
        self._load()
        first = self.trainers[0]
        total = torch.zeros(len(self.trainers), device=self._engine.device)
        images = 0
        rates: list[float] = []
        for step, (inputs, labels) in enumerate(self.batches()):
            rates = [trainer.lr_at(step / first.steps) for trainer in self.trainers]
            losses = self.backward(inputs, labels)
            self._sgd.step(rates)
            total += losses * labels.shape[1]
            images += labels.shape[1]
        self._store()
        return list(zip((total / images).tolist(), rates, strict=True))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of the current epoch of each trainer, side by side."""
        first = self.trainers[0]
        return packed_batches(
            first.split,
            [(trainer.round_seed, trainer.epoch) for trainer in self.trainers],
            batch_size=self._recipe.batch_size,
            augment=first.data.augment,
            mean=first.data.mean,
            std=first.data.std,
        )

    def backward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Compute each model's loss, ``(K,)``, and leave the gradients with what the models train."""
        with self._engine.forward_context():
            logits = self._program(self._weights(), self._buffers, inputs)
            losses = functional.cross_entropy(
                logits.float().flatten(0, 1),
                labels.flatten(),
                label_smoothing=self._recipe.label_smoothing,
                reduction="none",
            )
        losses = losses.view(labels.shape).mean(dim=1)
        self._sgd.zero_grad()
        # No model sees another's images or weights: the gradient of the sum is the gradient of each.
        losses.sum().backward()
        if self._recipe.grad_clip is not None:
            for trainer in self.trainers:
                nn.utils.clip_grad_norm_(trainer.parameters, self._recipe.grad_clip)
        return losses.detach()

    def _weights(self) -> dict[str, Tensor]:
        """Return the dense weights of all models by name, each ``(K, *shape)``, as a function of what they train."""
        names = list(self._program.parameters)
        each = [read_weights(trainer.model, names) for trainer in self.trainers]
        stacked = {name: torch.stack([weights[name] for weights in each]) for name in names}
        # One product for all models: on a GPU the number of kernels is what a small network costs.
        return stacked | {name: stacked[name] * mask for name, mask in self._masks.items()}

    @torch.no_grad()
    def _store(self) -> None:
        """Give the models their running statistics back."""
        for number, trainer in enumerate(self.trainers):
            held = dict(trainer.model.named_buffers())
            for name, stacked in self._buffers.items():
                held[name].copy_(stacked[number])
