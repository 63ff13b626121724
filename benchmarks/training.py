"""How fast trials train: this engine against the usual script, with compression, packed and compiled.

All contestants of a case run in one process and take turns, so that noise meets them alike; medians over rounds and
their ratios are printed, a JSON object a line. The usual script is what code of papers does: DataLoader, PIL
transforms, float32, eager. The bare loop is the least one can do in the style of speed runs: images normalised
beforehand, the whole network in bfloat16, nothing recorded.

    python benchmarks/training.py                                  # all cases on synthetic images of CIFAR's size
    python benchmarks/training.py --cases engine --data CIFAR10    # a folder of Parquet files with image and label
    python benchmarks/training.py --cases pack --widths 2 16 --device cuda
    python benchmarks/training.py --cases accuracy --epochs 20     # of digits; --data for others
"""

# ruff: noqa: E402 - the path has to be set before the package is imported

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

# A script's own folder comes first on the path, and there `baselines.py` would hide the package of the same name.
sys.path[0] = str(Path(__file__).parents[1])

from benchmarks._accuracy import WAYS, compare_accuracy
from benchmarks._loops import Contestant, UsualScript, bare_loop, synthetic
from search.config import TrialConfig
from search.data import ImageData, load_dataset
from search.spec import DataSpec, ModelSpec, TrainSpec
from search.training import measure
from search.training.earning import try_out
from search.training.packed import Pack
from search.trial import Trial

CASES = ("engine", "compression", "pack", "compile", "accuracy")
COMPRESSED = (("sharing_cost", "rps"), ("pruning_cost", "rand"))
CIFAR_TRAIN_IMAGES = 45_000
CIFAR_EPOCHS = 160


def images_of(args: argparse.Namespace) -> ImageData:
    """Return as many images as the steps of an epoch take."""
    count = args.steps * args.batch_size
    if args.data is None:
        return synthetic(count)
    data = load_dataset(DataSpec(name="parquet", path=args.data, augment="crop_flip"))
    held_out = np.arange(count // 9)
    return replace(data, train=data.train.take(np.arange(count)), val=data.val.take(held_out))


def make_trial(
    args: argparse.Namespace,
    data: ImageData,
    method: str = "dense",
    ratio: float = 1.0,
    *,
    model: str = "resnet20",
    seed: int = 0,
    beside: Trial | None = None,
) -> Trial:
    """Return a trial of the engine as a search would make it; it is never done."""
    train = TrainSpec(epochs=100_000, batch_size=args.batch_size, compile=False)
    config = TrialConfig(
        method=method, ratio=ratio, lr=0.1, weight_decay=1e-4, seed=seed, model=ModelSpec(name=model), train=train
    )
    return Trial(config, data, threads=args.threads, gpu=args.device == "cuda", beside=beside)


def engine(trial: Trial) -> Contestant:
    def epoch() -> int:
        return trial.trainer.run_epoch().images

    return epoch


def take_turns(
    contestants: dict[str, Contestant], args: argparse.Namespace, rounds: int | None = None
) -> dict[str, list[float]]:
    """Return the images per second of each contestant in each round, validation included."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range((rounds or args.rounds) + 1):
        for name, epoch in contestants.items():
            began = time.perf_counter()
            images = epoch()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if number:  # The first round warms up.
                rates[name].append(images / (time.perf_counter() - began))
    return rates


def medians(rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rates.items()}


def ratio(rates: list[float], others: list[float]) -> float:
    """Return the median over the rounds of one's rate over another's in the same round."""
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def report(name: str, value: float, unit: str, against: str | None, **sizes: object) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, "against": against, **sizes}), flush=True)


def sizes_of(args: argparse.Namespace, **more: object) -> dict[str, object]:
    sizes = {"device": args.device, "threads": args.threads, "batch": args.batch_size, "steps": args.steps}
    return {"model": "resnet20", **sizes, "rounds": args.rounds} | more


def trials_per_hour(images_per_second: float) -> float:
    """Return trials of 160 epochs of CIFAR-10 in an hour; the rate includes validation."""
    return 3600 * images_per_second / (CIFAR_EPOCHS * CIFAR_TRAIN_IMAGES)


def compare_engine(args: argparse.Namespace, data: ImageData) -> None:
    """Images and trials of this engine, the usual script and the bare loop."""
    trial = make_trial(args, data)
    contestants = {
        "engine": engine(trial),
        "usual script": UsualScript(args, data),
        "bare loop": bare_loop(args, data),
    }
    rates = take_turns(contestants, args)
    sizes = sizes_of(args, workers=args.workers, precision=trial.engine.describe())
    for name, rate in medians(rates).items():
        report("images_per_second", rate, "images/s", None, contestant=name, **sizes)
        report("trials_per_hour", trials_per_hour(rate), "trials/h", None, contestant=name, **sizes)
    for other in ("usual script", "bare loop"):
        report("engine_speed", ratio(rates["engine"], rates[other]), "x", other, **sizes)


def compare_compression(args: argparse.Namespace, data: ImageData) -> None:
    """What sharing, pruning and index tensors cost, as a factor on the dense step."""
    for model in args.models:
        dense = make_trial(args, data, model=model)
        methods = [(kind, method, compression) for compression in args.ratios for kind, method in COMPRESSED]
        methods.append(("index_tensor_cost", "benchmarks._loops:indexed", args.ratios[len(args.ratios) // 2]))
        for kind, method, compression in methods:
            # In pairs: what disturbs one round then disturbs both.
            pair = {"dense": dense, "compressed": make_trial(args, data, method, compression, model=model)}
            rates = take_turns({name: engine(trial) for name, trial in pair.items()}, args)
            cost = ratio(rates["dense"], rates["compressed"])
            report(kind, cost, "x dense", "dense", **sizes_of(args, model=model, ratio=compression))


def lanes(args: argparse.Namespace, data: ImageData, width: int) -> list[Trial]:
    """Return trials as a search mixes them: shared and pruned ones of several ratios."""
    trials: list[Trial] = []
    for seed in range(width):
        method, ratio = ("rps", "rand")[seed % 2], (2.0, 10.0, 50.0)[seed % 3]
        trials.append(make_trial(args, data, method, ratio, seed=seed, beside=trials[0] if trials else None))
    return trials


def packed(trials: list[Trial], pack: Pack) -> Contestant:
    def epoch() -> int:
        outcomes = pack.run_epochs([trial.trainer for trial in trials])
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failed:
            raise failed[0]
        return len(trials) * len(trials[0].trainer.split)

    return epoch


def pack_peak(args: argparse.Namespace, width: int, fuse: bool) -> int | None:
    """Train a pack for a step and return its peak memory in bytes: run in a process of its own."""
    torch.set_num_threads(args.threads)
    data = images_of(argparse.Namespace(**{**vars(args), "steps": 1}))
    trials = lanes(args, data, width)
    packed(trials, Pack(width, fuse=fuse))()
    return measure.peak_memory_bytes(trials[0].engine.device)


def report_memory(args: argparse.Namespace) -> None:
    """Peak memory of packs, and as a share of what as many trials alone take, each in a process of its own."""

    def peak_of(width: int, fuse: bool) -> int | None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            return process.submit(pack_peak, args, width, fuse).result()

    alone = peak_of(1, False)
    if alone is None:
        return
    report("pack_peak_memory", alone / 2**20, "MiB", None, contestant="alone", **sizes_of(args, trials=1))
    for width in args.widths:
        for way in ("fused", "turns"):
            peak = peak_of(width, way == "fused") or 0
            sizes = sizes_of(args, trials=width)
            report("pack_peak_memory", peak / 2**20, "MiB", None, contestant=way, **sizes)
            report("pack_memory_share", peak / (width * alone), "x", f"{width} trials alone", contestant=way, **sizes)


def compare_packs(args: argparse.Namespace, data: ImageData) -> None:
    """Packs of several widths, fused and in turns; a trial in turns is a trial alone."""
    for width in args.widths:
        trials = lanes(args, data, width)
        ways = {"fused": packed(trials, Pack(width, fuse=True)), "turns": packed(trials, Pack(width, fuse=False))}
        # A round of a wide pack is long by itself.
        rounds = max(2, args.rounds // max(1, width // 4))
        rates = take_turns(ways, args, rounds)
        sizes = sizes_of(args, trials=width, rounds=rounds, precision=trials[0].engine.describe())
        for name, rate in medians(rates).items():
            report("pack_trials_per_hour", trials_per_hour(rate), "trials/h", None, contestant=name, **sizes)
        report("pack_speed", ratio(rates["fused"], rates["turns"]), "x", "one trial at a time", **sizes)
        del trials, ways
    report_memory(args)


def compare_compiled(args: argparse.Namespace, data: ImageData) -> None:
    """What torch.compile gains and costs: the first trial of a kind, and one like it in another process after it."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for method in ("dense", "rps"):
            for seed, which in enumerate(("first", "next")):
                torch._dynamo.reset()
                ratio = 1.0 if method == "dense" else 10.0 + seed
                verdict = try_out(make_trial(args, data, method, ratio, seed=seed).trainer)
                sizes = sizes_of(args, method=method, trial=which)
                report("compile_seconds", verdict.compile_s, "s", None, **sizes)
                report("compiled_speed", verdict.eager_s / verdict.compiled_s, "x", "eager", **sizes)
                gain = 1 - verdict.compiled_s / verdict.eager_s
                if gain > 0:
                    report("compile_pays_after", verdict.compile_s / gain, "s of eager training", "eager", **sizes)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--data", help="folder of Parquet files with columns image and label; default: noise")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="of the usual script's DataLoader")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, help="batches of an epoch; default: 2 on a CPU, 100 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["resnet20", "vgg11"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[1.0, 10.0, 100.0])
    parser.add_argument("--widths", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=5, help="of the accuracies")
    parser.add_argument("--epochs", type=int, default=3, help="of a trial whose accuracy is compared")
    parser.add_argument("--accuracy-model", default="resnet20", help="mlp where bfloat16 is only emulated")
    parser.add_argument("--against", nargs="+", choices=WAYS[1:], help="whose accuracy is compared; default: all")
    parser.add_argument("--images", type=int, help="most training images that accuracies are compared on")
    args = parser.parse_args()
    args.steps = args.steps or (100 if args.device == "cuda" else 2)
    return args


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    data = images_of(args)
    compare: dict[str, Callable[[argparse.Namespace, ImageData], None]] = {
        "engine": compare_engine,
        "compression": compare_compression,
        "pack": compare_packs,
        "compile": compare_compiled,
        "accuracy": compare_accuracy,
    }
    for case in args.cases:
        compare[case](args, data)


if __name__ == "__main__":
    main()
