"""What a trained model costs to run, and what training it took of the machine's memory."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from baselines.cost import count_flops

PROC_STATUS = Path("/proc/self/status")
PROC_CLEAR_REFS = Path("/proc/self/clear_refs")
LATENCY_RUNS = 7


def flops_and_latency(model: nn.Module, example_input: Tensor) -> tuple[int, float]:
    """Return the floating point operations of one image's forward pass and its median time in milliseconds.

    A multiplication and an addition count as two operations. The model's mode is left as it was.
    """
    training = model.training
    model.eval()
    flops = count_flops(model, example_input)
    times = []
    with torch.inference_mode():
        for _ in range(LATENCY_RUNS):
            started = time.perf_counter()
            model(example_input)
            if example_input.is_cuda:
                torch.cuda.synchronize(example_input.device)
            times.append(time.perf_counter() - started)
    model.train(training)
    return flops, 1000 * statistics.median(times)


def reset_peak_memory(device: torch.device) -> None:
    """Start counting the peak anew, so that a process that runs many trials reports each one's own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            PROC_CLEAR_REFS.write_text("5")


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the peak since :func:`reset_peak_memory`: of the device's memory, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in PROC_STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return None


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state."""
    return {name: copy.deepcopy(tensor.detach()) for name, tensor in model.state_dict().items()}
