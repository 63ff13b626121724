"""How fast trials train: this engine against the usual script, with compression, packed and compiled.

All contestants of a case run in one process and take turns, so that noise meets them alike; medians over rounds and
their ratios are printed, a JSON object a line. The usual script is what code of papers does: DataLoader, PIL
transforms, float32, eager. The bare loop is the least one can do in the style of speed runs: images normalised
beforehand, the whole network in bfloat16, nothing recorded.

    python benchmarks/training.py                                  # all cases on synthetic images of CIFAR's size
    python benchmarks/training.py --cases engine --data CIFAR10    # a folder of Parquet files with image and label
    python benchmarks/training.py --cases pack --widths 2 16 --device cuda
"""

# ruff: noqa: E402 - the path has to be set before the package is imported

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

# A script's own folder comes first on the path, and there `baselines.py` would hide the package of the same name.
sys.path[0] = str(Path(__file__).parents[1])

from baselines.layers import prunable_weights
from search.config import TrialConfig
from search.data import ImageData, Split, load_dataset
from search.data.encoded import EncodedSplit
from search.methods import Compressed, Workbench
from search.models import build_model
from search.spec import DataSpec, ModelSpec, TrainSpec
from search.training import measure
from search.training.packed import Pack
from search.trial import Trial

CASES = ("engine", "compression", "pack", "compile")
COMPRESSED = (("sharing_cost", "rps"), ("pruning_cost", "rand"))
CIFAR_TRAIN_IMAGES = 45_000
CIFAR_EPOCHS = 160
Contestant = Callable[[], int]  # trains an epoch and returns the images of it


def synthetic(images: int) -> ImageData:
    """Return noise of CIFAR-10's size; a ninth as many images to validate on, as a tenth held out gives."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        return Split(pixels, rng.integers(0, 10, count))

    parts = split(images), split(images // 9), split(images // 9)
    return ImageData("synthetic", 10, None, *parts, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "crop_flip")


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
    compiled: bool = False,
) -> Trial:
    """Return a trial of the engine as a search would make it; it is never done."""
    train = TrainSpec(epochs=100_000, batch_size=args.batch_size, compile=compiled)
    config = TrialConfig(
        method=method, ratio=ratio, lr=0.1, weight_decay=1e-4, seed=seed, model=ModelSpec(name=model), train=train
    )
    return Trial(config, data, threads=args.threads, gpu=args.device == "cuda", beside=beside)


def engine(trial: Trial) -> Contestant:
    def epoch() -> int:
        return trial.trainer.run_epoch().images

    return epoch


class PilImages(Dataset):
    """Images as torchvision's data sets hold them: a PIL image is made and transformed at each access."""

    def __init__(self, data: ImageData) -> None:
        self.pixels = np.ascontiguousarray(data.train.pixels(np.arange(len(data.train))).transpose(0, 2, 3, 1))
        self.labels = data.train.labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(self.pixels.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def plain_model(args: argparse.Namespace, data: ImageData, model: str = "resnet20") -> nn.Module:
    spec = ModelSpec(name=model)
    return build_model(spec, data_shape=data.shape, classes=data.classes, seed=0).to(args.device)


def usual_script(args: argparse.Namespace, data: ImageData) -> Contestant:
    """DataLoader, PIL transforms, float32, eager; validation images are normalised one by one, too."""
    model = plain_model(args, data)
    options = {"batch_size": args.batch_size, "num_workers": args.workers, "persistent_workers": args.workers > 0}
    train = DataLoader(PilImages(data), shuffle=True, **options)
    val_images = PilImages(replace(data, train=data.val))
    val_images.transform = transforms.Compose(val_images.transform.transforms[2:])
    val = DataLoader(val_images, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def epoch() -> int:
        model.train()
        for inputs, labels in train:
            loss = functional.cross_entropy(model(inputs.to(args.device)), labels.to(args.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for inputs, labels in val:
                right += (model(inputs.to(args.device)).argmax(1) == labels.to(args.device)).sum().item()
        return len(data.train)

    return epoch


def bare_loop(args: argparse.Namespace, data: ImageData) -> Contestant:
    """The whole network in bfloat16 and channels_last, images normalised once, flips and shifts for a whole batch."""
    model = plain_model(args, data).to(torch.bfloat16).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))

    def prepared(split: Split | EncodedSplit) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(split.pixels(np.arange(len(split))))
        images = ((pixels / 255 - mean) / std).to(args.device, torch.bfloat16)
        return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(split.labels).to(args.device)

    (images, labels), (val_images, val_labels) = prepared(data.train), prepared(data.val)
    padded = functional.pad(images, (4, 4, 4, 4)).contiguous(memory_format=torch.channels_last)
    side = images.shape[-1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)

    def epoch() -> int:
        model.train()
        for chosen in torch.randperm(len(images), device=args.device).split(args.batch_size):
            top, left = torch.randint(9, (2,)).tolist()
            inputs = padded[chosen, :, top : top + side, left : left + side]
            inputs = inputs.flip(-1) if top % 2 else inputs
            loss = functional.cross_entropy(model(inputs.contiguous(memory_format=torch.channels_last)), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            batches = zip(val_images.split(500), val_labels.split(500), strict=True)
            sum((model(inputs).argmax(1) == wanted).sum() for inputs, wanted in batches)
        return len(images)

    return epoch


class IndexShared(nn.Module):
    """Parameter sharing with stored indices: each weight is ``psi[IDX] * G``, IDX int64 and G float32."""

    def __init__(self, model: nn.Module, slots: int) -> None:
        super().__init__()
        self.model = model
        self.weights = dict(prunable_weights(model))
        self.psi = nn.Parameter(torch.randn(slots, device=next(model.parameters()).device))
        generator = torch.Generator().manual_seed(0)
        for number, weight in enumerate(self.weights.values()):
            weight.requires_grad_(False)
            index = torch.randint(slots, weight.shape, generator=generator)
            sign = (torch.randint(2, weight.shape, generator=generator) * 2 - 1) * weight.std().item()
            self.register_buffer(f"index{number}", index.to(weight.device), persistent=False)
            self.register_buffer(f"sign{number}", sign.to(weight.device), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Recover all weights and run the model."""
        weights = {
            name: self.psi[self.get_buffer(f"index{number}")] * self.get_buffer(f"sign{number}")
            for number, name in enumerate(self.weights)
        }
        return functional_call(self.model, weights, (inputs,))


def indexed(bench: Workbench) -> Compressed:
    """The method of :class:`IndexShared`, for trials of the engine: only the recovery differs from ``rps``."""
    model = bench.build(1.0)
    size = sum(weight.numel() for weight in prunable_weights(model).values())
    slots = round(size / bench.config.ratio)
    shared = IndexShared(model, slots)
    return Compressed(
        shared, virtual_size=size, stored_parameters=slots, stored_bytes=4 * slots, save=lambda model, path: None
    )


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
        "usual script": usual_script(args, data),
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
        methods.append(("index_tensor_cost", f"{__name__}:indexed", args.ratios[len(args.ratios) // 2]))
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


def pack_peak(args: argparse.Namespace, width: int, fuse: bool) -> None:
    """Train a pack for an epoch and print its peak memory: run in a process of its own."""
    torch.set_num_threads(args.threads)
    data = images_of(argparse.Namespace(**{**vars(args), "steps": 1}))
    trials = lanes(args, data, width)
    packed(trials, Pack(width, fuse=fuse))()
    peak = measure.peak_memory_bytes(trials[0].engine.device)
    if peak is not None:
        way = "fused" if fuse else "turns"
        report("pack_peak_memory", peak / 2**20, "MiB", None, contestant=way, **sizes_of(args, trials=width))


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
    for width, fuse in [(1, False), *((width, fuse) for width in args.widths for fuse in (True, False))]:
        process = multiprocessing.get_context("spawn").Process(target=pack_peak, args=(args, width, fuse))
        process.start()
        process.join()


def compare_compiled(args: argparse.Namespace, data: ImageData) -> None:
    """What torch.compile gains and costs; the images after which it has paid for itself."""
    trials = {name: make_trial(args, data, compiled=name == "compiled") for name in ("eager", "compiled")}
    began = time.perf_counter()
    trials["compiled"].trainer.run_epoch()
    first = time.perf_counter() - began
    rates = take_turns({name: engine(trial) for name, trial in trials.items()}, args)
    report("compiled_speed", ratio(rates["compiled"], rates["eager"]), "x", "eager", **sizes_of(args))
    middle = medians(rates)
    cost = max(0.0, first - len(data.train) / middle["compiled"])
    report("compile_seconds", cost, "s", None, **sizes_of(args))
    gain = 1 / middle["eager"] - 1 / middle["compiled"]
    if gain > 0:
        report("compile_pays_after", cost / gain / CIFAR_TRAIN_IMAGES, "epochs of CIFAR-10", "eager", **sizes_of(args))


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
    parser.add_argument("--ratios", nargs="+", type=float, default=[2.0, 10.0, 100.0])
    parser.add_argument("--widths", nargs="+", type=int, default=[2, 4, 8, 16])
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
    }
    for case in args.cases:
        compare[case](args, data)


if __name__ == "__main__":
    main()
