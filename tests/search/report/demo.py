"""A made-up but plausible experiment: the tables that a search of this size leaves, without any training.

Run as a script to look at the report by eye: ``python tests/search/report/demo.py FOLDER [PROPOSALS]``.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from search.results import Folder, ResultStore

LAYERS = {"conv1": 432, "layer1.*": 13_824, "layer2.*": 50_688, "layer3.*": 202_752, "fc": 640}
VIRTUAL = sum(LAYERS.values())
UNCOMPRESSED_BYTES = 11_112
DENSE_BYTES = 4 * VIRTUAL + UNCOMPRESSED_BYTES
DENSE_ACCURACY = 0.914
# Points of accuracy lost per decade of ratio, and how the loss accelerates: (scale, power, best learning rate).
METHODS = {
    "rps": (0.042, 1.6, 0.8),
    "synflow": (0.055, 1.7, 0.15),
    "snip": (0.065, 2.1, 0.15),
    "mag": (0.075, 2.3, 0.12),
    "rand": (0.088, 1.8, 0.2),
    "small": (0.098, 1.5, 0.2),
}
FAILURES = (
    "out of memory: 1.9 GiB needed, 1.2 GiB free",
    "the loss became NaN in epoch 3: lr=2.9 is too large for ratio=4",
    "node worker-3 vanished and 2 retries were used up",
)
START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)

SPEC = """\
name: {name}
seed: 7
trials: {trials}
repeats: {repeats}
data: {{name: cifar10}}
model: {{name: resnet20}}
train: {{epochs: {epochs}}}
space:
  methods: [dense, rps, synflow, snip, mag, rand, small]
  ratio: {{low: 2, high: 100}}
  lr: {{low: 0.02, high: 3.0}}
  weight_decay: {{low: 1.0e-5, high: 1.0e-3}}
provenance:
  versions: {{rps-search: 0.1.0, torch: 2.11.0, ray: 2.50.0, optuna: 4.6.0}}
  git_commit: 3f1c0b9e2a7d4458b6c1d2e3f40516273849aabb
  created_at: "2026-11-20T08:00:00+00:00"
  schema_version: 1
"""


def _budgets(rng: np.random.Generator, slots: int) -> dict[str, int]:
    """Split ``slots`` over the layers, unevenly, with no layer above its own size."""
    shares = np.array(list(LAYERS.values())) ** rng.uniform(0.6, 1.0) * rng.lognormal(0, 0.5, len(LAYERS))
    kept = np.minimum(np.maximum(shares / shares.sum() * slots, 8), list(LAYERS.values()))
    return {pattern: int(k) for pattern, k in zip(LAYERS, kept, strict=True)}


def _accuracy(rng: np.random.Generator, row: dict[str, Any]) -> float:
    if row["method"] == "dense":
        return DENSE_ACCURACY + rng.normal(0, 0.001)
    scale, power, best_lr = METHODS[row["method"]]
    loss = scale * math.log10(row["ratio"]) ** power
    loss += 0.02 * abs(math.log10(row["lr"] / best_lr)) ** 2
    if row["budgets"]:
        starved = math.log10(LAYERS["layer3.*"] / row["ratio"] / row["budgets"]["layer3.*"])
        loss += 0.015 * max(starved, -0.1) + 0.004 * math.log10(LAYERS["conv1"] / row["budgets"]["conv1"])
    return float(np.clip(DENSE_ACCURACY - loss + rng.normal(0, 0.004), 0.1, 0.99))


def _proposal(rng: np.random.Generator, proposal: int) -> dict[str, Any]:
    """Draw what the search would vary."""
    if proposal == 0:
        method, ratio, lr = "dense", 1.0, 0.1
    else:
        method = list(METHODS)[int(rng.integers(len(METHODS)))]
        ratio = float(np.exp(rng.uniform(np.log(2), np.log(100))))
        lr = float(METHODS[method][2] * 10 ** rng.normal(0, 0.35))
    slots = int(VIRTUAL / ratio)
    searched = method not in {"dense", "small"}
    budgets = _budgets(rng, slots) if searched else None
    stored = 4 * slots + UNCOMPRESSED_BYTES
    if searched and method != "rps":
        stored += min(VIRTUAL // 8, 4 * slots)
    return {
        "method": method,
        "ratio": ratio,
        "lr": lr,
        "weight_decay": float(10 ** rng.uniform(-5, -3)),
        "budgets": budgets,
        "stored_parameters": slots + UNCOMPRESSED_BYTES // 4,
        "stored_bytes": stored,
    }


def demo_rows(
    proposals: int = 120, *, repeats: int = 3, epochs: int = 20, name: str = "demo", seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the trials and of the epochs table."""
    rng = np.random.default_rng(seed)
    trials: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    clock = [START] * 4
    for proposal in range(proposals):
        drawn = _proposal(rng, proposal)
        drawn_accuracy = _accuracy(rng, drawn)
        for repeat in range(repeats):
            slot = int(np.argmin(np.array([t.timestamp() for t in clock])))
            status = "finished" if proposal < 1 else str(rng.choice(["finished"] * 30 + ["pruned"] * 5 + ["failed"]))
            ran = epochs if status == "finished" else int(rng.integers(1, max(epochs // 2, 2)))
            accuracy = float(np.clip(drawn_accuracy + rng.normal(0, 0.0025), 0.1, 0.99))
            train_s = ran * float(rng.uniform(5.5, 6.5))
            setup_s = float(rng.uniform(2, 4)) + (20.0 if drawn["method"] == "synflow" else 0.0)
            eval_s = ran * 0.7
            began = clock[slot]
            finished = began + timedelta(seconds=setup_s + train_s + eval_s + float(rng.exponential(4)))
            clock[slot] = finished + timedelta(seconds=1)
            trial_id = f"{(proposal * repeats + repeat + 1) * 2654435761 % 2**48:012x}"
            ok = status != "failed"
            trials.append(
                {
                    **drawn,
                    "trial_id": trial_id,
                    "experiment": name,
                    "number": proposal,
                    "repeat": repeat,
                    "status": status,
                    "model": "resnet20",
                    "dataset": "cifar10",
                    "seed": int(rng.integers(2**31)),
                    "epochs_run": ran,
                    "accuracy": accuracy if status == "finished" else None,
                    "accuracy_val": min(accuracy + float(rng.normal(0.003, 0.002)), 1.0) if ok else None,
                    "loss": -math.log(accuracy) if ok else None,
                    "virtual_size": VIRTUAL,
                    "flops": 81_000_000,
                    "setup_seconds": setup_s,
                    "train_seconds": train_s,
                    "eval_seconds": eval_s,
                    "images_per_second": 45_000 * ran / train_s,
                    "peak_memory_bytes": int(rng.integers(300, 500)) * 2**20,
                    "host": f"worker-{slot % 2}",
                    "device": f"cuda:{slot // 2}",
                    "attempts": (attempts := 1 + int(rng.random() < 0.03)),
                    # A trial notes its start once its first attempt is set up.
                    "started_at": began + timedelta(seconds=setup_s / attempts),
                    "finished_at": finished,
                    "error": None if ok else FAILURES[int(rng.integers(len(FAILURES)))],
                    "params_json": json.dumps({"ratio": drawn["ratio"], "lr": drawn["lr"]}),
                    "config_json": json.dumps({"method": drawn["method"], "ratio": drawn["ratio"], "lr": drawn["lr"]}),
                }
            )
            for epoch in range(1, ran + 1):
                risen = 1 - math.exp(-4.0 * epoch / epochs) + (0.05 if epoch > epochs / 2 else 0.0)
                curves.append(
                    {
                        "trial_id": trial_id,
                        "experiment": name,
                        "epoch": epoch,
                        "loss": 2.3 * math.exp(-3 * epoch / epochs) + 0.1,
                        "accuracy_val": float(min(accuracy * min(risen, 1.0) + rng.normal(0, 0.006), 1.0)),
                        "lr": drawn["lr"],
                        "seconds": train_s / ran,
                        "images_per_second": 45_000 * ran / train_s,
                        "finished_at": began + timedelta(seconds=setup_s + train_s * epoch / ran),
                    }
                )
    return trials, curves


def write_demo(folder: Path, proposals: int = 120, *, repeats: int = 3, epochs: int = 20, name: str = "demo") -> Path:
    """Write an experiment folder as a search leaves it, and return it."""
    store = ResultStore(Folder(folder))
    trials, curves = demo_rows(proposals, repeats=repeats, epochs=epochs, name=name)
    store.append("trials", trials)
    store.append("epochs", curves)
    spec = SPEC.format(name=json.dumps(name), trials=proposals * repeats, repeats=repeats, epochs=epochs)
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    meta = {
        "memory": "stored_bytes",
        "dense_bytes": DENSE_BYTES,
        "dense_parameters": DENSE_BYTES // 4,
        "reference": {"accuracy": 0.0, "memory": DENSE_BYTES},
        "layer_sizes": LAYERS,
    }
    (folder / "results" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


if __name__ == "__main__":
    write_demo(Path(sys.argv[1]), *(int(count) for count in sys.argv[2:3]))
