"""A model's forward pass through torch.compile, made so that trials of the same shapes share what was compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rps_core.sharing import find_sharing
from search.training.plain import plain_copy, read_weights


def compiled_forward(model: nn.Module, *, graphs: bool) -> Callable[[Tensor], Tensor]:
    """Return the forward pass in training mode of a model as it will be at each call.

    The weights of a shared model are recovered outside of the compiled graph: which slots a layer reads differs from
    trial to trial and would stand in the graph as constants, so that no two trials could use the same code. Masks are
    tensors and stay inside.

    Args:
        model: The model, placed on its device.
        graphs: Record CUDA graphs: a small network otherwise waits for its kernels to be launched. What a call
            returned is then overwritten by the next.
    """
    mode = "reduce-overhead" if graphs else None
    # A graph for each size of batch: one for all sizes would round otherwise, once another size was seen.
    if find_sharing(model) is None:
        run = torch.compile(model, dynamic=False, mode=mode)
    else:
        skeleton = _skeleton(model)
        recovered = [name for name, _ in skeleton.named_parameters() if name not in dict(model.named_parameters())]
        program = torch.compile(_Program(skeleton), dynamic=False, mode=mode)

        def run(inputs: Tensor) -> Tensor:
            weights = read_weights(model, recovered)
            return program({name: weights[name] for name in recovered}, inputs)

    def forward(inputs: Tensor) -> Tensor:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return run(inputs)

    return forward


class _Program(nn.Module):
    """A structure whose compressed weights are arguments."""

    def __init__(self, skeleton: nn.Module) -> None:
        super().__init__()
        self.skeleton = skeleton

    def forward(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.skeleton, weights, (inputs,))


def _skeleton(model: nn.Module) -> nn.Module:
    """Return a plain copy of a model that holds the model's own uncompressed parameters and buffers."""
    plain = plain_copy(model).train()
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for path, module in plain.named_modules():
        prefix = f"{path}." if path else ""
        for name in module._parameters:
            module._parameters[name] = parameters.get(prefix + name, module._parameters[name])
        for name in module._buffers:
            module._buffers[name] = buffers.get(prefix + name, module._buffers[name])
    return plain
