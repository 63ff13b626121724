"""Epochs that a search with MO-ASHA needs to reach the hypervolume of the same search without early stopping.

Run it from the root as ``python -m benchmarks.early_stopping``: as a script, its folder would hide ``baselines``.

``--problem digits`` trains: a small network on the handwritten digits, every method of the quickstart, in this process
and without Ray, which changes nothing of what is proposed, trained and stopped. ``--problem made_up`` makes learning
curves up that cross (see ``_problems.compression``): they rise to their final accuracy at a speed that depends on the
learning rate and the ratio, with noise. A few workers run asynchronously. Only trials that were trained to their end
count: a frontier consists of those. Prints one JSON object a line for each seed: the share of epochs (less is better).
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import moocore
import numpy as np

from benchmarks._problems import compression
from search.data import ImageData
from search.driver.facts import find_facts
from search.driver.ledger import configure
from search.errors import UserError
from search.proposing import Proposer
from search.proposing.past import Status
from search.space import Space, Suggestion
from search.spec import Spec, load_spec
from search.stopping import MOASHA
from search.training.trainer import DivergedError
from search.trial import Trial

DIGITS = ("model.args.hidden=[64]", "train.batch_size=128")


WORKERS = 4


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
    """A trial on the digits."""

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


@dataclass(frozen=True)
class Searched:
    """What is searched: a space, how a proposal becomes a trial, and the reference point of the hypervolume."""

    space: Space
    start: Callable[[int, Suggestion], Running]
    reference: tuple[float, float]


def made_up(seed: int, max_epochs: int) -> Searched:
    """Return a search over made-up trials."""
    problem, rng = compression(), np.random.default_rng(seed)

    def start(number: int, suggestion: Suggestion) -> Running:
        negated_accuracy, log_memory = problem.losses(suggestion)
        # High ratios and small learning rates learn slowly.
        slow = 2.0 + 0.5 * math.log2(suggestion.ratio) + max(0.0, -math.log(suggestion.lr))
        return MadeUp(-negated_accuracy, math.exp(log_memory), slow, max_epochs, rng)

    return Searched(problem.space, start, problem.reference)


def digits(seed: int, max_epochs: int) -> Searched:
    """Return a search over trials that train."""
    spec = load_spec("quickstart", [*DIGITS, f"train.epochs={max_epochs}", f"seed={seed}"])
    data, facts = find_facts(spec)
    space = Space(spec.space, facts.layer_shapes, groups=facts.groups)
    reference = (0.0, math.log(facts.meta["reference"]["memory"]))
    return Searched(space, lambda number, suggestion: Real(spec, data, number, suggestion), reference)


def search(
    searched: Searched, moasha: MOASHA | None, *, seed: int, sampler: str, trials: int, max_epochs: int
) -> Iterator[tuple[int, Status, float, float]]:
    """Run a search; yield the epochs trained so far, and how the trial that ended then ended, with its losses."""
    proposer = Proposer(searched.space, seed=seed, sampler=sampler)
    running: list[tuple[int, list[int], Running]] = []
    spent = started = 0
    while started < trials or running:
        while started < trials and len(running) < WORKERS:
            number, suggestion = proposer.ask()
            started += 1
            try:
                running.append((number, [0], searched.start(number, suggestion)))
            except UserError:
                proposer.tell(number, status="failed")
        for entry in list(running):
            number, epochs, trial = entry
            well = trial.train()
            epochs[0] += 1
            spent += 1
            status: Status = "running" if well else "failed"
            if well and epochs[0] == max_epochs:
                status = "finished"
            elif well and moasha and moasha.report(str(number), epochs[0], trial.accuracy, trial.memory) == "stop":
                status = "pruned"
            if status != "running":
                running.remove(entry)
                proposer.tell(number, status=status, accuracy=trial.accuracy, memory=trial.memory)
                yield spent, status, -trial.accuracy, math.log(trial.memory)


def hypervolume(ended: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the hypervolume of losses; 0 of none."""
    return float(moocore.hypervolume(np.array(ended), ref=reference)) if ended else 0.0


def compare(arguments: argparse.Namespace, seed: int) -> dict[str, object]:
    """Run both searches with a seed and return what the second needed."""
    make = {"digits": digits, "made_up": made_up}[arguments.problem]
    sizes = {"seed": seed, "sampler": arguments.sampler, "max_epochs": arguments.epochs}
    searched = make(seed, arguments.epochs)
    plain = list(search(searched, None, trials=arguments.trials, **sizes))
    budget = plain[-1][0]
    target = hypervolume([(a, m) for _, status, a, m in plain if status == "finished"], searched.reference)
    moasha = MOASHA(
        grace_epochs=arguments.grace_epochs, reduction_factor=arguments.reduction_factor, max_epochs=arguments.epochs
    )
    ended: list[tuple[float, float]] = []
    reached_at, volume, count = math.inf, 0.0, 0
    for spent, status, *losses in search(searched, moasha, trials=20 * arguments.trials, **sizes):
        if spent > budget or (reached_at < math.inf and not arguments.to_the_end):
            break
        count += 1
        if status == "finished":
            ended.append((losses[0], losses[1]))
            volume = hypervolume(ended, searched.reference)
            if volume >= target:
                reached_at = min(reached_at, spent)
    return {
        "name": f"early_stopping/{arguments.problem}",
        "value": round(reached_at / budget, 3) if reached_at < math.inf else None,
        "unit": "share of epochs until the hypervolume of the search without early stopping is reached",
        "against": "the same search without early stopping",
        "trials": arguments.trials,
        **sizes,
        "grace_epochs": arguments.grace_epochs,
        "reduction_factor": arguments.reduction_factor,
        "hypervolume_against": round(target, 4),
        "hypervolume": round(volume, 4),
        "trials_with_stopping": count,
        "of_them_finished": len(ended),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=["digits", "made_up"], default="digits")
    parser.add_argument("--trials", type=int, default=60, help="of the search without early stopping")
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--grace-epochs", type=int, default=1)
    parser.add_argument("--reduction-factor", type=float, default=2.0)
    parser.add_argument("--to-the-end", action="store_true", help="go on to equal epochs once it is reached")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for seed in arguments.seeds:
        print(json.dumps(compare(arguments, seed)), flush=True)


if __name__ == "__main__":
    main()
