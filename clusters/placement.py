"""Where trials fit: whole machines, fractions of a GPU, and what is missing where they fit nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Ray counts resources in ten-thousandths; a smaller difference is rounding.
RESOLUTION = 1e-4


@dataclass(frozen=True)
class Shape:
    """Machines that are alike."""

    resources: Mapping[str, float]
    """What one offers, by Ray's names."""
    count: int
    """How many there are, or may be."""


def request(cpus: float, gpus: float, custom: Mapping[str, float]) -> dict[str, float]:
    """Return what a trial asks for, by Ray's names, without zeros."""
    wanted = {"CPU": float(cpus), "GPU": float(gpus), **custom}
    return {name: amount for name, amount in wanted.items() if amount > 0}


def fits(resources: Mapping[str, float], cpus: float, gpus: float, custom: Mapping[str, float]) -> int:
    """Return how many trials fit on one machine at once.

    A fraction of a GPU lies on one GPU: of trials that want 0.4, two fit on each.
    """
    counts = []
    for name, amount in request(cpus, gpus, custom).items():
        offered = resources.get(name, 0.0)
        if name == "GPU" and amount < 1:
            counts.append(int(offered) * int(1 / amount + RESOLUTION))
        else:
            counts.append(int(offered / amount + RESOLUTION))
    return min(counts, default=0)


def capacity(shapes: Iterable[Shape], cpus: float, gpus: float, custom: Mapping[str, float]) -> int:
    """Return how many trials fit on all machines together."""
    return sum(shape.count * fits(shape.resources, cpus, gpus, custom) for shape in shapes)


def missing(shapes: Iterable[Shape], cpus: float, gpus: float, custom: Mapping[str, float]) -> str | None:
    """Return the sentence that says why no machine can ever serve a trial, or None if one can."""
    shapes = [shape for shape in shapes if shape.count > 0]
    if any(fits(shape.resources, cpus, gpus, custom) for shape in shapes):
        return None
    wanted = request(cpus, gpus, custom)
    most = {name: max((shape.resources.get(name, 0.0) for shape in shapes), default=0.0) for name in wanted}
    short = [name for name, amount in wanted.items() if most[name] + RESOLUTION < amount]
    if short:
        parts = [f"{wanted[name]:g} {name} (the best machine has {most[name]:g})" for name in short]
        return f"no machine can ever run this trial: it asks for {' and '.join(parts)}; lower {_fields(short)}"
    parts = [f"{amount:g} {name}" for name, amount in wanted.items()]
    return (
        f"no machine can ever run this trial: some have enough of each, but none has {' and '.join(parts)} together; "
        f"lower {_fields(list(wanted))}"
    )


def _fields(names: list[str]) -> str:
    spec_fields = {"CPU": "resources.cpus", "GPU": "resources.gpus"}
    return " or ".join(spec_fields.get(name, f"resources.custom.{name}") for name in names)


def limit_gpu_memory(gpus: float) -> None:
    """Keep this process within its share of the GPU's memory, so that trials on one GPU cannot starve each other.

    Ray counts fractions of a GPU but does not hold processes to them. Call it in the trial's process before it
    touches the GPU.

    Args:
        gpus: GPUs of the trial; from 1 on, and at 0, there is nothing to limit.
    """
    if not 0 < gpus < 1 or not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(gpus)
