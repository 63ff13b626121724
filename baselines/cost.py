"""What a model costs to run: operations, parameters and measured time."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    Attributes:
        flops: Floating-point operations of matrix products and convolutions, a multiply-add counting as two. Masked
            weights count: a sparse matrix is multiplied as a dense one. Recovering shared weights does not.
        parameters: Number of trainable and frozen parameters that the model holds.
        latency_s: Median measured time in seconds, in eval mode and without gradients.
    """

    flops: int
    parameters: int
    latency_s: float


def measure_cost(model: nn.Module, example_input: Tensor, *, repeats: int = 10) -> Cost:
    """Measure one forward pass of a copy of ``model`` on ``example_input``, ``(N, ...)``.

    Args:
        model: Any module; it is left as it is.
        example_input: The batch; FLOPs and time are those of all of it.
        repeats: Number of timed passes, >= 1, after two that are not counted.

    Raises:
        ValueError: If ``repeats`` < 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats >= 1 must hold, but got {repeats}")
    subject = copy.deepcopy(model).eval()
    times = []
    flops = count_flops(subject, example_input)
    with torch.inference_mode():
        for _ in range(repeats + 1):
            _wait(example_input)
            start = time.perf_counter()
            subject(example_input)
            _wait(example_input)
            times.append(time.perf_counter() - start)
    return Cost(
        flops=flops,
        parameters=sum(p.numel() for p in model.parameters()),
        latency_s=statistics.median(times[1:]),
    )


def count_flops(model: nn.Module, example_input: Tensor) -> int:
    """Return the floating point operations of a forward pass, a multiplication and an addition counted as two."""
    # The counter does not see into PyTorch's fused attention layers.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The counter puts hooks on what needs gradients, such as a parameter that a layer is called on; inference mode
        # refuses those.
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(example_input)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
