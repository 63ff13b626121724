"""One update for the parameters of several SGD optimizers, each with its own learning rate, momentum and decay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FusedSGD:
    """Steps several ``torch.optim.SGD`` at once, as each would step alone, with a handful of kernels in all.

    The momentum lives in the optimizers: each can go on alone at any time.

    Args:
        optimizers: Of one parameter group each, without dampening; all with momentum or all without, and likewise for
            Nesterov's.
    """

    def __init__(self, optimizers: Sequence[torch.optim.SGD]) -> None:
        self._optimizers = optimizers
        self._momentum = optimizers[0].param_groups[0]["momentum"] != 0
        self._nesterov = optimizers[0].param_groups[0]["nesterov"]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Update the parameters that have gradients.

        Args:
            rates: The learning rate of each optimizer.
        """
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        buffers: list[Tensor] = []
        settings: list[tuple[float, float, float]] = []
        for optimizer, rate in zip(self._optimizers, rates, strict=True):
            group = optimizer.param_groups[0]
            group["lr"] = rate
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameters.append(parameter)
                    gradients.append(parameter.grad)
                    settings.append((rate, group["momentum"], group["weight_decay"]))
                    if self._momentum:
                        buffers.append(_momentum_of(optimizer, parameter))
        if parameters:
            self._update(parameters, gradients, buffers, settings)

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        buffers: list[Tensor],
        settings: Sequence[tuple[float, float, float]],
    ) -> None:
        """``v <- momentum v + (g + decay w)``, then ``w <- w - lr v``, as torch.optim.SGD has it.

        The first step of SGD, ``v = g + decay w``, is this one from ``v = 0``.
        """
        rates, momenta, decays = (list(values) for values in zip(*settings, strict=True))
        steps = list(torch._foreach_mul(parameters, decays))
        torch._foreach_add_(steps, gradients)
        if self._momentum:
            torch._foreach_mul_(buffers, momenta)
            torch._foreach_add_(buffers, steps)
            if self._nesterov:
                torch._foreach_add_(steps, list(torch._foreach_mul(buffers, momenta)))
            else:
                steps = buffers
        torch._foreach_sub_(parameters, list(torch._foreach_mul(steps, rates)))


def _momentum_of(optimizer: torch.optim.SGD, parameter: Tensor) -> Tensor:
    state = optimizer.state[parameter]
    if state.get("momentum_buffer") is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    return state["momentum_buffer"]
