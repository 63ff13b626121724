"""What a trial costs the driver: the proposer alone, next to plain Optuna TPE in the same run.

Prints one JSON object a line: milliseconds of CPU time a trial over the first and the last tenth, their ratio, and
bytes of memory a trial. Trials cost nothing; ``--in-flight`` of them are under way at a time.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import resource
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optuna
from _problems import SHAPES, compression_losses

from search.proposing import Proposer
from search.space import Space, Suggestion
from search.spec import SpaceSpec

Step = Callable[[], tuple[Suggestion, Callable[[tuple[float, float]], None]]]


def space() -> Space:
    """Return a space of 22 parameters for each method."""
    spec = SpaceSpec(
        methods={"rps": {"lr": {"low": 0.05, "high": 4.0}}, "synflow": {}},
        weight_decay={"low": 1e-5, "high": 1e-3},
        budgets="layers",
    )
    return Space(spec, dict(list(SHAPES.items())[:18]))


def proposer_step(sampler: str) -> Step:
    proposer = Proposer(space(), sampler=sampler, seed=0)

    def step() -> tuple[Suggestion, Callable[[tuple[float, float]], None]]:
        number, suggestion = proposer.ask()
        return suggestion, lambda losses: proposer.tell(
            number, status="finished", accuracy=-losses[0], memory=math.exp(losses[1])
        )

    return step


def optuna_step(multivariate: bool) -> Step:
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=multivariate, group=multivariate)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    drawn_from = space()

    def step() -> tuple[Suggestion, Callable[[tuple[float, float]], None]]:
        trial = study.ask()

        def tell(losses: tuple[float, float]) -> None:
            study.tell(trial, losses)

        return drawn_from.suggest(trial), tell

    return step


InFlight = deque[tuple[Callable[[tuple[float, float]], None], tuple[float, float]]]


def measure(step: Step, trials: int, in_flight: InFlight, places: int) -> np.ndarray:
    """Return the CPU time of each trial in milliseconds."""
    cost = np.empty(trials)
    for index in range(trials):
        started = time.process_time()
        suggestion, tell = step()
        in_flight.append((tell, losses(suggestion)))
        if len(in_flight) == places:
            told, values = in_flight.popleft()
            told(values)
        cost[index] = time.process_time() - started
    return cost * 1e3


def losses(suggestion: Suggestion) -> tuple[float, float]:
    """Return what a proposal is worth; its budgets count by how far they are from uniform."""
    uneven = np.std(np.log2(list(suggestion.budgets.values()))) if suggestion.budgets else 0.0
    accuracy, memory = compression_losses(replace(suggestion, budgets=None))
    return float(accuracy + 0.01 * uneven), memory


def resident_bytes() -> int:
    """Return the memory of this process that is in use now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def report(name: str, step: Step, trials: int, places: int) -> None:
    """Print the line of one proposer."""
    in_flight: InFlight = deque()
    tenth = max(1, trials // 10)
    warm_up = measure(step, tenth, in_flight, places)
    gc.collect()
    before = resident_bytes()
    cost = np.concatenate([warm_up, measure(step, trials - tenth, in_flight, places)])
    gc.collect()
    first, last = float(cost[:tenth].mean()), float(cost[-tenth:].mean())
    line = {
        "name": f"overhead/proposer/{name}",
        "value": round(float(cost.mean()), 3),
        "unit": "ms of CPU time a trial",
        "against": "optuna.TPESampler in the same run",
        "trials": trials,
        "in_flight": places,
        "first_tenth_ms": round(first, 3),
        "last_tenth_ms": round(last, 3),
        "last_to_first": round(last / first, 3),
        "bytes_per_trial": round((resident_bytes() - before) / (trials - tenth)),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--plain-trials", type=int, default=1_000, help="fewer: its cost grows with each one")
    parser.add_argument("--samplers", nargs="*", default=["random", "qmc", "tpe", "nsga2"])
    parser.add_argument("--in-flight", type=int, default=4, help="trials under way at a time")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for sampler in arguments.samplers:
        report(sampler, proposer_step(sampler), arguments.trials, arguments.in_flight)
    report("plain_optuna_tpe", optuna_step(multivariate=False), arguments.plain_trials, arguments.in_flight)
    report("plain_optuna_multivariate_tpe", optuna_step(multivariate=True), arguments.plain_trials, arguments.in_flight)


if __name__ == "__main__":
    main()
