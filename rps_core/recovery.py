"""Weight recovery as one differentiable operation.

``w = R psi`` with R of one non-zero, ``lambda * g``, in each row. The gradient of psi is ``(R^T grad) / Gamma``:
the gradient scaler is part of backward. Both directions are :class:`torch.autograd.Function` pairs, so that
``torch.func`` transforms and double backward work; while a graph is being captured (``torch.compile``,
``torch.export``) they are custom operators, ``rps_core::recover`` and ``rps_core::fold``, that stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rps_core.group import Group, group_from_spec


def recover(psi: Tensor, group: Group, indices: tuple[int, ...]) -> Sequence[Tensor]:
    """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
    if torch.compiler.is_compiling():
        return torch.ops.rps_core.recover(psi, group.spec, list(indices), False)
    return Recover.apply(psi, group, indices, False)


class Recover(torch.autograd.Function):
    """psi -> weights of some layers of a group."""

    @staticmethod
    def forward(psi: Tensor, group: Group, indices: tuple[int, ...], scaled: bool) -> tuple[Tensor, ...]:
        """Return ``R psi``, or ``R (psi / Gamma)`` where ``scaled``."""
        return tuple(group.recover(psi, indices, scaled=scaled))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward needs: no tensor."""
        _, ctx.group, ctx.indices, ctx.scaled = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Return ``(R^T grads) / Gamma``."""
        given = [(i, g) for i, g in zip(ctx.indices, grads, strict=True) if g is not None]
        if not given:
            return None, None, None, None
        return Fold.apply(ctx.group, tuple(i for i, _ in given), True, *(g for _, g in given)), None, None, None

    @staticmethod
    def jvp(ctx: Any, psi: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        """Return how the weights move with psi: forward is linear."""
        return Recover.apply(psi, ctx.group, ctx.indices, ctx.scaled)

    @staticmethod
    def vmap(info: Any, in_dims: Any, psi: Tensor, group: Any, indices: Any, scaled: bool) -> Any:
        """Recover from each psi of a batch."""
        each = [Recover.apply(one, group, indices, scaled) for one in psi.unbind(in_dims[0])]
        return tuple(torch.stack(weights) for weights in zip(*each, strict=True)), (0,) * len(indices)


class Fold(torch.autograd.Function):
    """The transpose: weights of some layers -> psi."""

    @staticmethod
    def forward(group: Group, indices: tuple[int, ...], scaled: bool, *weights: Tensor) -> Tensor:
        """Return ``R^T weights``, divided by Gamma where ``scaled``, ``(slots,)``."""
        return group.fold(weights, indices, scaled=scaled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what backward needs: no tensor."""
        ctx.group, ctx.indices, ctx.scaled = inputs[:3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return what the weights get: the true transpose of forward."""
        return None, None, None, *Recover.apply(grad, ctx.group, ctx.indices, ctx.scaled)

    @staticmethod
    def jvp(ctx: Any, group: Any, indices: Any, scaled: Any, *weights: Tensor) -> Tensor:
        """Return how psi moves with the weights: forward is linear."""
        return Fold.apply(ctx.group, ctx.indices, ctx.scaled, *weights)

    @staticmethod
    def vmap(info: Any, in_dims: Any, group: Any, indices: Any, scaled: bool, *weights: Tensor) -> Any:
        """Fold each weight of a batch."""
        split = [
            [weight] * info.batch_size if dim is None else weight.unbind(dim)
            for weight, dim in zip(weights, in_dims[3:], strict=True)
        ]
        return torch.stack([Fold.apply(group, indices, scaled, *each) for each in zip(*split, strict=True)]), 0


@torch.library.custom_op(
    "rps_core::recover",
    mutates_args=(),
    schema="(Tensor psi, str spec, int[] indices, bool scaled) -> Tensor[]",
)
def _recover_op(psi: Tensor, spec: str, indices: Sequence[int], scaled: bool) -> list[Tensor]:
    return group_from_spec(spec).recover(psi, indices, scaled=scaled)


@torch.library.custom_op(
    "rps_core::fold",
    mutates_args=(),
    schema="(Tensor[] weights, str spec, int[] indices, bool scaled) -> Tensor",
)
def _fold_op(weights: Sequence[Tensor], spec: str, indices: Sequence[int], scaled: bool) -> Tensor:
    return group_from_spec(spec).fold(weights, indices, scaled=scaled)


@_recover_op.register_fake
def _recover_fake(psi: Tensor, spec: str, indices: Sequence[int], scaled: bool) -> list[Tensor]:
    return [psi.new_empty(group_from_spec(spec).layers[index].block.shape) for index in indices]


@_fold_op.register_fake
def _fold_fake(weights: Sequence[Tensor], spec: str, indices: Sequence[int], scaled: bool) -> Tensor:
    return weights[0].new_empty(group_from_spec(spec).slots)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, ctx.spec, ctx.indices, ctx.scaled = inputs


def _recover_backward(ctx: Any, grads: Sequence[Tensor | None]) -> Any:
    given = [(i, g) for i, g in zip(ctx.indices, grads, strict=True) if g is not None]
    if not given:
        return None, None, None, None
    return torch.ops.rps_core.fold([g for _, g in given], ctx.spec, [i for i, _ in given], True), None, None, None


_recover_op.register_autograd(_recover_backward, setup_context=_keep)
