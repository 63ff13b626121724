"""What pruning costs: time and peak memory of each method against the dense training step, and of its peers.

``python benchmarks/baselines.py`` runs all cases, each in a process of its own so that its peak memory is its own;
``--models resnet20 --cases rand synflow`` picks some. One JSON object a line goes to stdout. On a CPU times are the
processor's, of one thread unless ``--threads`` says otherwise (several wait for each other, which counts), and memory
is the growth of the process's peak resident size over one small backward pass; on a GPU it is what torch allocated.

Peers, written anew after the structure of their public code:
- ``torch.nn.utils.prune``: the masked training step, whose forward pre-hooks multiply every weight.
- the authors' SynFlow (github.com/ganguli-lab/Synaptic-Flow): 100 times a change of sign of the whole state, a pass, a
  global threshold by ranking every score, and a change back.
"""

# ruff: noqa: E402 - the path has to be set before the package is imported

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

# A script's own folder comes first on the path, and there this file would hide the package of the same name.
sys.path[0] = str(Path(__file__).parents[1])

from baselines import PruneConfig, prune_, save_sparse, sparse_summary
from baselines.layers import prunable_weights
from baselines.scorers import METHODS

RATIO = 10.0
TRAIN_BATCH = 128


class Block(nn.Module):
    """A residual block of the CIFAR ResNets (arXiv:1512.03385, section 4.2) with projection shortcuts."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


def resnet20() -> nn.Module:
    blocks = [Block(i, o, s) for i, o, s in [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2]
    blocks += [Block(i, o, s) for i, o, s in [(32, 64, 2)] + [(64, 64, 1)] * 2]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def vgg16() -> nn.Module:
    features = torchvision.models.vgg16_bn().features
    return nn.Sequential(features, nn.Flatten(), nn.Linear(512, 10))


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(32, 4, 6, 4, 192, 384, num_classes=10)
    nn.init.xavier_uniform_(model.heads.head.weight)  # zero in torchvision, which leaves data-driven methods no signal
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {"resnet20": resnet20, "vgg16": vgg16, "vit": vit}


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def examples(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 32, 32, device=device), torch.arange(count, device=device) % 10


def seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Return the time of ``action``: on a CPU the processor's, which other processes do not lengthen."""
    if device.type == "cpu":
        start = time.process_time()
        action()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def training_step(model: nn.Module, device: torch.device) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    batch = examples(TRAIN_BATCH, device)

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()

    return step


def reference_synflow(model: nn.Module, example: Tensor) -> None:
    """SynFlow with the cost structure of the authors' code."""
    model = model.double().eval()
    weights = prunable_weights(model)
    masks = {name: torch.ones_like(w) for name, w in weights.items()}
    for step in range(1, 101):
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(masks[name])
            signs = {name: t.sign() for name, t in model.state_dict().items()}
            for t in model.state_dict().values():
                t.abs_()
        model(torch.ones_like(example[:1]).double()).sum().backward()
        with torch.no_grad():
            scores = {name: (w.grad * w).abs() for name, w in weights.items() if w.grad is not None}
            for parameter in model.parameters():
                parameter.grad = None
            for name, t in model.state_dict().items():
                t.mul_(signs[name])
            pooled = torch.cat([s.flatten() for s in scores.values()])
            kept = int(RATIO ** (-step / 100) * pooled.numel())
            threshold = pooled.kthvalue(pooled.numel() - kept).values
            masks = {name: (s > threshold).double() for name, s in scores.items()}


def train_case(name: str, peer: str, repeats: int, device: torch.device) -> dict[str, Any]:
    """Time a pruned training step against the dense one, in pairs."""
    dense = MODELS[name]().to(device)
    pruned = copy.deepcopy(dense)
    if peer == "torch_prune":
        for parameter in prunable_weights(pruned):
            owner, _, attribute = parameter.rpartition(".")
            if not owner.endswith("self_attention.out_proj"):  # read without a call of the layer: no hook, no mask
                torch_prune.random_unstructured(pruned.get_submodule(owner), attribute, 1 - 1 / RATIO)
    else:
        prune_(pruned, PruneConfig(method="uniform", ratio=RATIO))
    steps = [training_step(dense, device), training_step(pruned, device)]
    for step in steps:
        step()
    pairs = [[seconds(step, device) for step in steps] for _ in range(repeats)]
    dense_s = statistics.median(pair[0] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    return {"value": ratio, "unit": "x", "against": "dense training step", "against_s": dense_s, "pairs": repeats}


def score_case(name: str, method: str, device: torch.device) -> dict[str, Any]:
    """Time one pruning against one dense training step, and its memory against that of the model alone."""
    model = MODELS[name]().to(device)
    scored = examples(100, device)
    loss_fn(model, (scored[0][:2], scored[1][:2])).backward()  # start-up costs are nobody's
    model.zero_grad()
    before = peak_bytes(device)
    if method == "synflow_reference":
        value = seconds(lambda: reference_synflow(copy.deepcopy(model), scored[0]), device)
    else:
        config = PruneConfig(method=method, ratio=RATIO, floor=1)
        value = seconds(lambda: prune_(model, config, loss_fn=loss_fn, batches=[scored]), device)
    memory = peak_bytes(device) - before
    step = training_step(MODELS[name]().to(device), device)
    step()
    step_s = statistics.median(seconds(step, device) for _ in range(3))
    return {
        "value": value,
        "unit": "s",
        "against": "dense training step",
        "against_s": step_s,
        "ratio": value / step_s,
        "peak_memory_bytes": memory,
        "examples": 100,
    }


def file_case(name: str) -> dict[str, Any]:
    """Compare the pruned file with the dense one and with what the summary promises."""
    model = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        torch.save(model.state_dict(), path)
        dense = path.stat().st_size
        save_sparse(prune_(model, PruneConfig(method="uniform", ratio=RATIO)), path)
        size = path.stat().st_size
    stored = sparse_summary(model).stored_bytes
    return {"value": size, "unit": "bytes", "against": "torch.save", "against_bytes": dense, "stored_bytes": stored}


def run_case(name: str, case: str, repeats: int, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    if case.startswith("train_"):
        result = train_case(name, case.removeprefix("train_"), repeats, device)
    else:
        result = file_case(name) if case == "file" else score_case(name, case, device)
    sizes = {
        "model": name,
        "weights": sparse_summary(MODELS[name]()).virtual_size,
        "ratio_pruned": RATIO,
        "batch": TRAIN_BATCH,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    return {"name": f"baselines.{case}"} | result | sizes


def main() -> None:
    cases = ["train_masked", "train_torch_prune", "file", *METHODS, "synflow_reference"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--repeats", type=int, default=15, help="pairs of training steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if len(arguments.models) == len(arguments.cases) == 1:
        device = torch.device(arguments.device)
        print(json.dumps(run_case(arguments.models[0], arguments.cases[0], arguments.repeats, device)))
        return
    for name in arguments.models:
        for case in arguments.cases:
            options = ["--repeats", str(arguments.repeats), "--device", arguments.device]
            options += ["--threads", str(arguments.threads)]
            command = [sys.executable, __file__, "--models", name, "--cases", case, *options]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
