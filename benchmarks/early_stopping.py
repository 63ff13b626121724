"""Epochs that a search with MO-ASHA needs to reach the hypervolume of the same search without early stopping.

The trials are made up (see ``_problems.compression``): learning curves that rise to their final accuracy at a speed
that depends on the learning rate and the ratio, with noise, so that they cross. Four workers run asynchronously.
Prints one JSON object a line for each seed: the share of epochs (less is better).
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import moocore
import numpy as np
from _problems import Problem, compression

from search.proposing import Proposer
from search.proposing.past import Status
from search.space import Suggestion
from search.stopping import MOASHA

WORKERS = 4


@dataclass
class Running:
    """A made-up trial in training."""

    number: int
    final: float
    memory: float
    epochs_to_learn: float
    epoch: int = 0
    accuracy: float = 0.1

    def train(self, rng: np.random.Generator, max_epochs: int) -> None:
        """Train one epoch: the accuracy nears its final value, which it reaches at the last epoch."""
        self.epoch += 1
        left = 1 - (1 - math.exp(-self.epoch / self.epochs_to_learn)) / (
            1 - math.exp(-max_epochs / self.epochs_to_learn)
        )
        self.accuracy = self.final - (self.final - 0.1) * left + 0.005 * float(rng.standard_normal()) * left


def start(problem: Problem, number: int, suggestion: Suggestion) -> Running:
    negated_accuracy, log_memory = problem.losses(suggestion)
    # High ratios and small learning rates learn slowly.
    slow = 2.0 + 0.5 * math.log2(suggestion.ratio) + max(0.0, -math.log(suggestion.lr))
    return Running(number, -negated_accuracy, math.exp(log_memory), slow)


def search(
    problem: Problem, moasha: MOASHA | None, *, seed: int, trials: int, max_epochs: int
) -> Iterator[tuple[int, float, float]]:
    """Run a search; yield the epochs trained so far, and the losses of the trial that ended then."""
    proposer, rng = Proposer(problem.space, seed=seed), np.random.default_rng(seed)
    running: list[Running] = []
    spent = started = 0
    while started < trials or running:
        while started < trials and len(running) < WORKERS:
            running.append(start(problem, *proposer.ask()))
            started += 1
        for trial in list(running):
            trial.train(rng, max_epochs)
            spent += 1
            status: Status = "running"
            if trial.epoch == max_epochs:
                status = "finished"
            elif moasha and moasha.report(str(trial.number), trial.epoch, trial.accuracy, trial.memory) == "stop":
                status = "pruned"
            if status != "running":
                running.remove(trial)
                proposer.tell(trial.number, status=status, accuracy=trial.accuracy, memory=trial.memory)
                yield spent, -trial.accuracy, math.log(trial.memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=150, help="of the search without early stopping")
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--grace-epochs", type=int, default=1)
    parser.add_argument("--reduction-factor", type=float, default=3.0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    problem = compression()
    for seed in range(arguments.seeds):
        plain = list(search(problem, None, seed=seed, trials=arguments.trials, max_epochs=arguments.epochs))
        budget = plain[-1][0]
        target = float(moocore.hypervolume(np.array(plain)[:, 1:], ref=problem.reference))
        moasha = MOASHA(
            grace_epochs=arguments.grace_epochs,
            reduction_factor=arguments.reduction_factor,
            max_epochs=arguments.epochs,
        )
        ended: list[tuple[float, float]] = []
        reached_at, volume = math.inf, 0.0
        stopped = search(problem, moasha, seed=seed, trials=10 * arguments.trials, max_epochs=arguments.epochs)
        for spent, *losses in stopped:
            if spent > budget:
                break
            ended.append((losses[0], losses[1]))
            volume = float(moocore.hypervolume(np.array(ended), ref=problem.reference))
            if volume >= target and reached_at == math.inf:
                reached_at = spent
        line = {
            "name": "early_stopping/moasha",
            "value": round(reached_at / budget, 3) if reached_at < math.inf else None,
            "unit": "share of epochs until the hypervolume of the search without early stopping is reached",
            "against": "the same search without early stopping",
            "seed": seed,
            "trials": arguments.trials,
            "max_epochs": arguments.epochs,
            "grace_epochs": arguments.grace_epochs,
            "reduction_factor": arguments.reduction_factor,
            "hypervolume_against": round(target, 4),
            "hypervolume_at_equal_epochs": round(volume, 4),
            "trials_at_equal_epochs": len(ended),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
