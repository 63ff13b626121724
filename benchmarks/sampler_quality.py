"""Hypervolume of the bounded samplers against plain Optuna TPE, whose cost grows, at equal numbers of trials.

Prints one JSON object a line: the ratio of the two hypervolumes (more is better), for each problem and seed.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable

import moocore
import numpy as np
import optuna
from _problems import Problem, compression, zdt

from search.proposing import Proposer
from search.space import Suggestion

PLAIN = "optuna.TPESampler(multivariate=True, group=True)"


def ours(problem: Problem, sampler: str, trials: int, seed: int) -> np.ndarray:
    """Run a search with the project's proposer and return its losses."""
    proposer = Proposer(problem.space, sampler=sampler, seed=seed)

    def step() -> tuple[Suggestion, Callable[[tuple[float, float]], None]]:
        number, suggestion = proposer.ask()
        return suggestion, lambda values: proposer.tell(
            number, status="finished", accuracy=-values[0], memory=float(np.exp(values[1]))
        )

    return _run(problem, trials, step)


def plain(problem: Problem, trials: int, seed: int) -> np.ndarray:
    """Run a search with Optuna alone and return its losses."""
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for params in problem.space.known():
        study.enqueue_trial(params)

    def step() -> tuple[Suggestion, Callable[[tuple[float, float]], None]]:
        trial = study.ask()
        return problem.space.suggest(trial), lambda values: study.tell(trial, values) and None

    return _run(problem, trials, step)


def _run(problem: Problem, trials: int, step: Callable) -> np.ndarray:
    reached = []
    for _ in range(trials):
        suggestion, tell = step()
        values = problem.losses(suggestion)
        tell(values)
        reached.append(values)
    return np.array(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--problems", nargs="*", default=["zdt1", "zdt2", "zdt3", "zdt4", "compression"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in arguments.problems:
        problem = compression() if name == "compression" else zdt(int(name.removeprefix("zdt")))
        for seed in range(arguments.seeds):
            started = time.process_time()
            mine = ours(problem, arguments.sampler, arguments.trials, seed)
            between = time.process_time()
            theirs = plain(problem, arguments.trials, seed)
            ended = time.process_time()
            volumes = [float(moocore.hypervolume(losses, ref=problem.reference)) for losses in (mine, theirs)]
            line = {
                "name": f"sampler_quality/{name}",
                "value": round(volumes[0] / volumes[1], 4),
                "unit": "ratio of hypervolumes",
                "against": PLAIN,
                "sampler": arguments.sampler,
                "trials": arguments.trials,
                "seed": seed,
                "hypervolume": round(volumes[0], 5),
                "hypervolume_against": round(volumes[1], 5),
                "cpu_ms_per_trial": round((between - started) / arguments.trials * 1e3, 2),
                "cpu_ms_per_trial_against": round((ended - between) / arguments.trials * 1e3, 2),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
