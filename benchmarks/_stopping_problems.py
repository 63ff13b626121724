"""What benchmarks/early_stopping.py searches: trials that train, that were trained before, or that are made up."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks._problems import compression
from search.data import ImageData
from search.driver.facts import find_facts
from search.driver.ledger import configure
from search.proposing import ExhaustedError, Proposer
from search.space import Space, Suggestion
from search.spec import Spec, load_spec
from search.training.trainer import DivergedError
from search.trial import Trial

DIGITS = ("model.args.hidden=[64]", "train.batch_size=128")
CIFAR10 = (
    "data={name: parquet, train_limit: 2000, test_limit: 2000, val_fraction: 0.04, augment: crop_flip}",
    "model={name: vgg11, args: {width: 0.125}}",
    "train.batch_size=64",
)


class Running(Protocol):
    """A trial in training."""

    memory: float
    accuracy: float

    def train(self) -> bool:
        """Train one epoch; return whether that went well."""


@dataclass
class MadeUp:
    """A trial whose accuracy nears its final value, which it reaches at the last epoch."""

    final: float
    memory: float
    epochs_to_learn: float
    max_epochs: int
    rng: np.random.Generator
    epoch: int = 0
    accuracy: float = 0.1

    def train(self) -> bool:
        """See :class:`Running`."""
        self.epoch += 1
        left = 1 - (1 - math.exp(-self.epoch / self.epochs_to_learn)) / (
            1 - math.exp(-self.max_epochs / self.epochs_to_learn)
        )
        self.accuracy = self.final - (self.final - 0.1) * left + 0.005 * float(self.rng.standard_normal()) * left
        return True


class Real:
    """A trial that trains."""

    def __init__(self, spec: Spec, data: ImageData, number: int, suggestion: Suggestion) -> None:
        self._trial = Trial(configure(spec, suggestion, number, 0), data, threads=1)
        self.memory = float(self._trial.compressed.stored_bytes)
        self.accuracy = 0.0

    def train(self) -> bool:
        """See :class:`Running`."""
        try:
            self.accuracy = self._trial.step().accuracy_val
        except DivergedError:
            return False
        return True


@dataclass
class Recorded:
    """A trial that was trained before."""

    memory: float
    curve: list[float]
    accuracy: float = 0.0
    epoch: int = 0

    def train(self) -> bool:
        """See :class:`Running`."""
        self.accuracy = self.curve[self.epoch]
        self.epoch += 1
        return True


class Order:
    """Proposes what a list holds, by its number, in an order drawn at random."""

    def __init__(self, length: int, seed: int) -> None:
        self._rest = [int(number) for number in np.random.default_rng(seed).permutation(length)]

    def ask(self) -> tuple[int, Suggestion]:
        """Return a number that was not drawn yet, with a proposal that says nothing."""
        if not self._rest:
            raise ExhaustedError
        return self._rest.pop(), Suggestion(method="", ratio=1.0, lr=1.0, weight_decay=0.0)

    def tell(self, number: int, **result: object) -> None:
        """Learn nothing."""


@dataclass(frozen=True)
class Searched:
    """What is searched: who proposes, how a proposal becomes a trial, and the reference point of the hypervolume."""

    proposer: Callable[[], Proposer | Order]
    start: Callable[[int, Suggestion], Running]
    reference: tuple[float, float]


def made_up(seed: int, arguments: argparse.Namespace) -> Searched:
    """Return a search over made-up trials."""
    problem, rng = compression(), np.random.default_rng(seed)

    def start(number: int, suggestion: Suggestion) -> Running:
        negated_accuracy, log_memory = problem.losses(suggestion)
        # High ratios and small learning rates learn slowly.
        slow = 2.0 + 0.5 * math.log2(suggestion.ratio) + max(0.0, -math.log(suggestion.lr))
        return MadeUp(-negated_accuracy, math.exp(log_memory), slow, arguments.epochs, rng)

    return Searched(lambda: Proposer(problem.space, seed=seed, sampler=arguments.sampler), start, problem.reference)


def digits(seed: int, arguments: argparse.Namespace) -> Searched:
    """Return a search over trials that train on the handwritten digits."""
    return _quickstart(seed, arguments, DIGITS)


def cifar10(seed: int, arguments: argparse.Namespace) -> Searched:
    """Return a search over trials that train on 2,000 images of CIFAR-10."""
    return _quickstart(seed, arguments, (*CIFAR10, f"data.path={arguments.data}"))


def _quickstart(seed: int, arguments: argparse.Namespace, settings: tuple[str, ...]) -> Searched:
    train = f"train.epochs={arguments.epochs}", f"train.schedule={arguments.schedule}", f"seed={seed}"
    low, high = arguments.lr
    spec = load_spec("quickstart", [*settings, *train, f"space.lr={{low: {low}, high: {high}}}"])
    data, facts = find_facts(spec)
    space = Space(spec.space, facts.layer_shapes, groups=facts.groups)
    return Searched(
        lambda: Proposer(space, seed=seed, sampler=arguments.sampler),
        lambda number, suggestion: Real(spec, data, number, suggestion),
        (-facts.meta["reference"]["accuracy"], math.log(facts.meta["reference"]["memory"])),
    )


def recorded(seed: int, arguments: argparse.Namespace) -> Searched:
    """Return a search over trials that were trained before."""
    lines = [json.loads(line) for line in arguments.curves.read_text().splitlines()]
    known = [line for line in lines if len(line.get("curve", ())) == arguments.epochs]
    reference = (-1 / 10, math.log(max(line["memory"] for line in known)))  # of ten digits
    return Searched(
        lambda: Order(len(known), seed),
        lambda number, suggestion: Recorded(known[number]["memory"], known[number]["curve"]),
        reference,
    )


def record(arguments: argparse.Namespace) -> None:
    """Train trials drawn at random to their ends, and write their curves."""
    arguments.sampler = "random"
    searched = digits(0, arguments)
    proposer = searched.proposer()
    with arguments.curves.open("a") as file:
        for _ in range(arguments.record):
            number, suggestion = proposer.ask()
            trial = searched.start(number, suggestion)
            curve = [trial.accuracy for _ in range(arguments.epochs) if trial.train()]
            file.write(json.dumps({"memory": trial.memory, "curve": curve}) + "\n")


PROBLEMS = {"digits": digits, "cifar10": cifar10, "made_up": made_up, "recorded": recorded}
