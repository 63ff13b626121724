"""What a model costs to run: operations, parameters and measured time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.copying import copied


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
    subject = copied(model).eval()
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
    """Return the floating point operations of a forward pass, a multiplication and an addition counted as two.

    Counted are matrix products and convolutions, also those in attention, recurrent and bilinear layers.
    """
    # The counter does not see into PyTorch's fused attention layers.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The counter puts hooks on what needs gradients, such as a parameter that a layer is called on; inference mode
        # refuses those.
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_uncounted_products()) as counter:
            model(example_input)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def _uncounted_products() -> dict[Any, Callable[..., int]]:
    """Return formulas, from the shapes of an operator's arguments, for the products that PyTorch's counter leaves out.

    Fused recurrent layers read each matrix of theirs once at each position of each sequence.
    """
    aten = torch.ops.aten
    return {
        aten.mv: lambda matrix, vector, **_: 2 * math.prod(matrix),
        aten.addmv: lambda bias, matrix, vector, **_: 2 * math.prod(matrix),
        aten.dot: lambda left, right, **_: 2 * math.prod(left),
        aten._trilinear: _bilinear_flops,
        aten.mkldnn_rnn_layer: lambda inputs, *weights, **_: _recurrent_flops(inputs, weights[:2]),
        aten._cudnn_rnn: lambda inputs, weights, *_, **__: _recurrent_flops(inputs, weights),
    }


def _bilinear_flops(left: Sequence[int], weight: Sequence[int], right: Sequence[int], *_: Any, **__: Any) -> int:
    """Count ``left @ weight`` with ``weight`` of shape ``(out, left, right)``, and that times ``right``."""
    return 2 * left[0] * (math.prod(weight) + weight[0] * weight[2])


def _recurrent_flops(inputs: Sequence[int], weights: Sequence[Sequence[int]]) -> int:
    """Count the products of one or more layers; of the weights' shapes those of biases have one dimension."""
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
