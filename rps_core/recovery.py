"""Weight recovery and its transpose, as one differentiable operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rps_core.mappings import RandomFold, SlotMapping

if TYPE_CHECKING:
    from rps_core.group import SharedGroup


def signed_runs(mapping: SlotMapping, start: int, stop: int) -> Any:
    """Return what the kernels need to know about a range of virtual weights."""
    assert isinstance(mapping, RandomFold)
    return tuple(run._replace(start=run.start - start) for run in mapping.runs(start, stop))


def recover(psi: Tensor, group: SharedGroup, index: int) -> Tensor:
    """Return the weights of a layer, ``(*batch, *shape)``, from psi, ``(*batch, slots)``."""
    layer = group.layers[index]
    pattern = group.constant("pattern", psi)
    out = psi.new_empty((*psi.shape[:-1], layer.block.size))
    zero = psi.new_zeros(())
    for start, slot, phase, length, sign in group.runs[index]:
        torch.addcmul(
            zero,
            psi[..., slot : slot + length],
            pattern[phase : phase + length],
            value=sign * layer.scale,
            out=out[..., start : start + length],
        )
    return out.view(*psi.shape[:-1], *layer.block.shape)


def fold_(out: Tensor, weights: Tensor, group: SharedGroup, index: int) -> None:
    """Add the transpose of :func:`recover`, applied to ``weights``, to ``out``, ``(*batch, slots)``."""
    layer = group.layers[index]
    pattern = group.constant("pattern", out)
    flat = weights.reshape(*out.shape[:-1], layer.block.size)
    for start, slot, phase, length, sign in group.runs[index]:
        out[..., slot : slot + length].addcmul_(
            flat[..., start : start + length], pattern[phase : phase + length], value=sign * layer.scale
        )


class Recover(torch.autograd.Function):
    """psi -> weights of some layers of a group; its gradient is divided by the gradient scaler."""

    @staticmethod
    def forward(psi: Tensor, group: SharedGroup, indices: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the weights of the layers ``indices``."""
        return tuple(recover(psi, group, index) for index in indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward needs: no tensor."""
        _, ctx.group, ctx.indices = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None]:
        """Return ``R^T grads / Gamma``."""
        given = [(i, g) for i, g in zip(ctx.indices, grads, strict=True) if g is not None]
        if not given:
            return None, None, None
        grad = Fold.apply(ctx.group, tuple(i for i, _ in given), *(g for _, g in given))
        scaler = ctx.group.constant("scaler", grad)
        return grad if scaler is None else grad / scaler, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], psi: Tensor, group: SharedGroup, indices: Any) -> Any:
        """Recover from a batch of psi."""
        batched = psi.movedim(in_dims[0], 0)
        return Recover.apply(batched, group, indices), (0,) * len(indices)


class Fold(torch.autograd.Function):
    """The transpose: weights of some layers -> psi."""

    @staticmethod
    def forward(group: SharedGroup, indices: tuple[int, ...], *weights: Tensor) -> Tensor:
        """Return ``R^T weights``, ``(*batch, slots)``."""
        batch = weights[0].shape[: weights[0].dim() - len(group.layers[indices[0]].block.shape)]
        out = weights[0].new_zeros((*batch, group.slots))
        for index, weight in zip(indices, weights, strict=True):
            fold_(out, weight, group, index)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what backward needs: no tensor."""
        ctx.group, ctx.indices = inputs[:2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the weights that the gradient makes, taken as a psi."""
        return None, None, *Recover.apply(grad, ctx.group, ctx.indices)

    @staticmethod
    def vmap(info: Any, in_dims: Any, group: SharedGroup, indices: Any, *weights: Tensor) -> Any:
        """Fold a batch of weights."""
        dims = in_dims[2:]
        batched = (
            w.expand(info.batch_size, *w.shape) if d is None else w.movedim(d, 0)
            for w, d in zip(weights, dims, strict=True)
        )
        return Fold.apply(group, indices, *batched), 0
