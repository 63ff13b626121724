"""Weight recovery, forward and backward, against a dense scale-and-copy and against an index and a sign tensor.

The dense copy is ``scale * theta`` with n trainable weights: what a model would pay for the least thing done to its
weights. The index tensor is ``psi[IDX] * G`` with stored IDX (int64) and G (float32), as the code of the paper does
it. All three run in one process, interleaved; medians and their ratios are printed, a JSON object a line. So is what a
step takes beyond the weights and psi's gradient, as the peak of the process's resident memory (Linux).

    python benchmarks/weight_recovery.py --sizes 272000 9200000 --threads 2
    python benchmarks/weight_recovery.py --sizes 9200000 --threads 1 --clock cpu    # where other work runs beside it
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.mappings import Block
from rps_core.recovery import Recover

SCALE = 0.05
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def make_group(size: int, ratio: float) -> Group:
    """Return one layer of ``size`` weights that shares ``size / ratio`` slots."""
    layer = Layer("weight", (), Block((size,)), 0, SCALE)
    return Group("*", (layer,), round(size / ratio), "random_fold", 0, "none")


def dense_step(size: int, device: str) -> Callable[[], None]:
    theta = torch.randn(size, device=device, requires_grad=True)
    grad = torch.randn(size, device=device)

    def step() -> None:
        theta.grad = None
        (theta * SCALE).backward(grad)

    return step


def shared_step(size: int, ratio: float, device: str) -> Callable[[], None]:
    group = make_group(size, ratio)
    psi = torch.randn(group.slots, device=device, requires_grad=True)
    grad = torch.randn(size, device=device)

    def step() -> None:
        psi.grad = None
        Recover.apply(psi, group, (0,), False)[0].backward(grad)

    return step


def indexed_step(size: int, ratio: float, device: str) -> Callable[[], None]:
    group = make_group(size, ratio)
    psi = torch.randn(group.slots, device=device, requires_grad=True)
    index = torch.from_numpy(group.mapping.slots_of(0, size)).to(device)
    sign = torch.from_numpy(group.mapping.signs_of(0, size)).to(device, torch.float32) * SCALE
    grad = torch.randn(size, device=device)

    def step() -> None:
        psi.grad = None
        (psi[index] * sign).backward(grad)

    return step


def medians(
    steps: dict[str, Callable[[], None]], repeats: int, device: str, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each step; they take turns, so that noise meets them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            start = clock()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(name: str, value: float, unit: str, against: str, **sizes: object) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, "against": against, **sizes}), flush=True)


def extra_bytes(step: Callable[[], None], expected: int) -> int | None:
    """Return by how much a step's peak of resident memory exceeds ``expected`` more bytes, or None if not on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None

    def kilobytes(field: str) -> int:
        return int(status.read_text().split(f"{field}:")[1].split()[0])

    step()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    step()
    return 1024 * (kilobytes("VmHWM") - before) - expected


def compare(size: int, ratio: float, device: str, *, index: bool, clock: str) -> None:
    """Print one row of the table."""
    steps = {"dense": dense_step(size, device), "shared": shared_step(size, ratio, device)}
    if index:
        steps["index"] = indexed_step(size, ratio, device)
    repeats = max(5, min(60, 60_000_000 // size))
    took = medians(steps, repeats, device, CLOCKS[clock])
    sizes = {"weights": size, "ratio": ratio, "device": device, "threads": torch.get_num_threads(), "clock": clock}
    times = {f"{name}_ms": round(value * 1e3, 3) for name, value in took.items()}
    report("recovery_vs_dense", took["shared"] / took["dense"], "x", "dense scale-and-copy", **sizes, **times)
    if index:
        report("recovery_vs_index", took["index"] / took["shared"], "x faster", "psi[IDX] * G", **sizes)
    extra = extra_bytes(steps["shared"], 4 * size) if device == "cpu" else None
    if extra is not None:
        against = "forward and backward beyond the weights"
        report("extra_memory", extra / 2**20, "MiB", against, **sizes, psi_mib=4 * round(size / ratio) / 2**20)
    if device == "cuda":
        moved = 4 * (2 * size + 2 * round(size / ratio))
        copied = 2 * 4 * 2 * size / took["dense"]
        report("recovery_bandwidth", moved / took["shared"] / copied, "of dense copy", "copy bandwidth", **sizes)


def compare_linear(batch: int, features: int, ratio: float) -> None:
    """Print how the fused linear compares with the dense matrix product it replaces, on a GPU in bfloat16."""
    from rps_core.kernels.fused_linear import shared_linear

    layer = Layer("weight", (), Block((features, features)), 0, SCALE)
    group = Group("*", (layer,), round(layer.block.size / ratio), "random_fold", 0, "none")
    psi = torch.randn(group.slots, device="cuda", dtype=torch.bfloat16)
    x = torch.randn(batch, features, device="cuda", dtype=torch.bfloat16)
    weight = group.recover(psi, (0,))[0]
    took = medians({"dense": lambda: x @ weight.T, "fused": lambda: shared_linear(x, psi, group, 0)}, 100, "cuda")
    sizes = {"batch": batch, "features": features, "ratio": ratio}
    report("fused_linear_vs_dense", took["fused"] / took["dense"], "x", "dense matrix product", **sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[272_000, 9_200_000, 100_000_000])
    parser.add_argument("--ratios", type=float, nargs="+", default=[1, 2, 10, 100, 1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--no-index", action="store_true", help="leave the index tensor out: it needs 24 bytes a weight"
    )
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: the process's own seconds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for size in args.sizes:
        for ratio in args.ratios:
            compare(size, ratio, args.device, index=not args.no_index, clock=args.clock)
    if args.device == "cuda":
        for batch in (1, 4, 16):
            for ratio in (16, 64, 256):
                compare_linear(batch, 8192, ratio)


if __name__ == "__main__":
    main()
