"""That speed costs no accuracy: bfloat16 beside float32, and the engine beside a script of its own."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmarks._loops import UsualScript
from search.config import TrialConfig
from search.data import ImageData, load_dataset
from search.spec import DataSpec, ModelSpec, TrainSpec
from search.trial import Trial

WAYS = ("float32", "bfloat16", "usual script")


def compare_accuracy(args: argparse.Namespace, _: ImageData) -> None:
    """Test accuracies after a few epochs, a seed each, at one recipe: the learning rate falls along a cosine."""
    data = _images_of(args)
    known: dict[str, Callable[[int], float]] = {
        "float32": lambda seed: _engine(args, data, "float32", seed),
        "bfloat16": lambda seed: _engine(args, data, "bfloat16", seed),
        "usual script": lambda seed: _usual_script(args, data, seed),
    }
    sizes = {"data": data.name, "images": len(data.train), "epochs": args.epochs, "seeds": args.seeds}
    sizes |= {"model": args.accuracy_model}
    found: dict[str, list[float]] = {
        name: [] for name in (WAYS if args.against is None else ("float32", *args.against))
    }
    for seed in range(args.seeds):
        for name, accuracies in found.items():
            accuracies.append(known[name](seed))
            _print("accuracy_of_seed", accuracies[-1], None, contestant=name, seed=seed)
    for name in found:
        spread = round(statistics.stdev(found[name]), 4)
        _print("accuracy", statistics.mean(found[name]), None, contestant=name, seed_std=spread, **sizes)
    for name in list(found)[1:]:
        gap = statistics.mean(found[name]) - statistics.mean(found["float32"])
        low, high = _interval(found[name], found["float32"])
        inside = low <= 0 <= high
        between = [round(low, 4), round(high, 4)]
        _print("accuracy_gap", gap, "float32", contestant=name, interval_95=between, within_noise=inside, **sizes)


def _interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return Welch's 95 % interval of the difference of two means."""
    result = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return float(result.low), float(result.high)


def _images_of(args: argparse.Namespace) -> ImageData:
    spec = DataSpec() if args.data is None else DataSpec(name="parquet", path=args.data, augment="crop_flip")
    data = load_dataset(spec)
    if args.images is None or args.images >= len(data.train):
        return data
    return replace(data, train=data.train.take(np.arange(args.images)), val=data.val.take(np.arange(100)))


def _engine(args: argparse.Namespace, data: ImageData, precision: str, seed: int) -> float:
    train = TrainSpec(
        epochs=args.epochs, batch_size=args.batch_size, schedule="cosine", precision=precision, compile=False
    )
    config = TrialConfig(
        method="dense",
        ratio=1,
        lr=0.1,
        weight_decay=1e-4,
        seed=seed,
        model=ModelSpec(name=args.accuracy_model),
        train=train,
    )
    trial = Trial(config, data, threads=args.threads, gpu=args.device == "cuda")
    while not trial.done:
        trial.step()
    return trial.finish().row["accuracy"]


def _usual_script(args: argparse.Namespace, data: ImageData, seed: int) -> float:
    script = UsualScript(args, data, seed, model=args.accuracy_model, epochs=args.epochs)
    for _ in range(args.epochs):
        script()
    return script.accuracy(script.test)


def _print(name: str, value: float, against: str | None, **sizes: object) -> None:
    line = {"name": name, "value": round(value, 4), "unit": "share", "against": against, **sizes}
    print(json.dumps(line), flush=True)
