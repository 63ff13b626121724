"""The learning rate of what is not compressed, at ratios so high that biases outnumber slots.

A shared MLP on the digits, where psi and the biases have learning rates of their own: does ``load_power(0.5)`` at the
dense model's rate fall short of ``effective_update`` at its best rate because of psi, or because the biases then train
at the small rate too? One JSON object a line. Run it from the root:

    python -m benchmarks.uncompressed_rate
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rps_core import RPSConfig, compress_
from search.data import ImageData, Split, load_dataset
from search.spec import DataSpec

EPOCHS, BATCH = 20, 64
# Scaling, learning rate of psi, and that of the biases.
CASES = [
    ("effective_update", 3.2, 3.2),
    ("effective_update", 3.2, 0.2),
    ("load_power(0.5)", 0.2, 0.2),
    ("load_power(0.5)", 0.2, 0.8),
    ("load_power(0.5)", 0.2, 2.8),
]


def tensors(split: Split) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(split.images).float().flatten(1) / 255, torch.from_numpy(split.labels)


def accuracy(data: ImageData, scaling: str, lr: float, bias_lr: float, ratio: float, seed: int) -> float:
    """Train one network and return its test accuracy."""
    (images, labels), (test_images, test_labels) = tensors(data.train), tensors(data.test)
    mean, std = images.mean(), images.std()
    images, test_images = (images - mean) / std, (test_images - mean) / std
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    compress_(net, RPSConfig(ratio=ratio, seed=seed, gradient_scaling=scaling))
    psi = [p for name, p in net.named_parameters() if name.startswith("psi")]
    biases = [p for name, p in net.named_parameters() if not name.startswith("psi")]
    # Plain momentum, as in the study whose question this answers.
    optimizer = torch.optim.SGD([{"params": psi, "lr": lr}, {"params": biases, "lr": bias_lr}], momentum=0.9)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [lr, bias_lr], total_steps=batches * EPOCHS + 1)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images))[: batches * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(images[part]), labels[part]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((net(test_images).argmax(1) == test_labels).float().mean())


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", nargs="+", type=float, default=[100.0, 200.0])
    parser.add_argument("--seeds", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(DataSpec(val_fraction=0.25))
    for ratio in arguments.ratios:
        for scaling, lr, bias_lr in CASES:
            reached = [accuracy(data, scaling, lr, bias_lr, ratio, seed) for seed in range(arguments.seeds)]
            line = {"name": "test_accuracy", "value": round(100 * statistics.mean(reached), 2), "unit": "%"}
            line["standard_error"] = round(100 * statistics.stdev(reached) / len(reached) ** 0.5, 2)
            print(json.dumps(line | {"scaling": scaling, "lr": lr, "bias_lr": bias_lr, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
