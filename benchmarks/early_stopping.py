"""Epochs that a search with MO-ASHA needs to reach the hypervolume of the same search without early stopping.

Run it from the root as ``python -m benchmarks.early_stopping``: as a script, its folder would hide ``baselines``.

``--problem digits`` trains: a small network on the handwritten digits, every method of the quickstart, in this process
and without Ray, which changes nothing of what is proposed, trained and stopped; at a constant learning rate, since an
accuracy on the way to the end of ``--schedule one_cycle`` says less of the last. ``--problem cifar10 --data FOLDER``
does the same with a narrow VGG-11 on 2,000 images of CIFAR-10. ``--problem recorded`` searches at random, without
replacement, among trials on the digits that ``--record`` trained once and wrote to the file
``--curves``: many seeds in a minute. ``--problem made_up`` makes learning curves up that cross (see
``_problems.compression``): they rise to their final accuracy at a speed that depends on the learning rate and the
ratio, with noise. A few workers run asynchronously. Only trials that were trained to their end count: a frontier
consists of those. Prints one JSON object a line for each seed: the share of epochs (less is better). Of several seeds
it says in the end what half of the epochs reach, as a share of the hypervolume of the search without early stopping:
how soon a single search gets there hangs on the luck of both.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from scipy import stats

from benchmarks._stopping_problems import PROBLEMS, Running, Searched, record
from search.errors import UserError
from search.proposing import ExhaustedError, constraint_values
from search.proposing.past import Status
from search.spec import ObjectiveSpec
from search.stopping import MOASHA
from search.stopping.ranking import adds_nothing

WORKERS = 4
# Of the epochs of the search without early stopping.
SHARES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def search(
    searched: Searched, moasha: MOASHA | None, *, trials: int, max_epochs: int
) -> Iterator[tuple[int, Status, float, float]]:
    """Run a search; yield the epochs trained so far, and how the trial that ended then ended, with its losses."""
    proposer = searched.proposer()
    running: list[tuple[int, list[int], Running]] = []
    spent = started = 0
    while started < trials or running:
        while started < trials and len(running) < WORKERS:
            try:
                number, suggestion = proposer.ask()
            except ExhaustedError:
                trials = started
                break
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
                trained = epochs[0] / max_epochs if moasha else None
                values = constraint_values(
                    ObjectiveSpec(), stored_bytes=trial.memory, accuracy=trial.accuracy, trained=trained
                )
                proposer.tell(number, status=status, accuracy=trial.accuracy, memory=trial.memory, constraints=values)
                yield spent, status, -trial.accuracy, math.log(trial.memory)


def hypervolume(ended: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the hypervolume of losses; 0 of none."""
    return float(moocore.hypervolume(np.array(ended), ref=reference)) if ended else 0.0


def on_the_front(ended: list[tuple[float, float]], reference: tuple[float, float]) -> int:
    """Return how many trials no earlier one equalled or beat: nothing may stop those early."""
    points, limit = np.array(ended), np.array(reference)
    inside = (points < limit).all(axis=1)
    return sum(bool(inside[i]) and not adds_nothing(points[i], points[:i]) for i in range(len(points)))


def compare(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run both searches with a seed and return what the second needed."""
    make = PROBLEMS[arguments.problem]
    searched = make(seed, arguments)
    plain = list(search(searched, None, trials=arguments.trials, max_epochs=arguments.epochs))
    budget = plain[-1][0]
    finished = [(a, m) for _, status, a, m in plain if status == "finished"]
    target = hypervolume(finished, searched.reference)
    moasha = MOASHA(
        grace_epochs=arguments.grace_epochs,
        reduction_factor=arguments.reduction_factor,
        max_epochs=arguments.epochs,
        reference_accuracy=-searched.reference[0],
    )
    ended: list[tuple[float, float]] = []
    reached_at, volume, count = math.inf, 0.0, 0
    reached: list[float] = []  # The share of the hypervolume after each of SHARES of the epochs.
    for spent, status, *losses in search(searched, moasha, trials=20 * arguments.trials, max_epochs=arguments.epochs):
        while len(reached) < len(SHARES) and spent > SHARES[len(reached)] * budget:
            reached.append(round(volume / target, 4))
        enough = len(reached) > SHARES.index(0.5) and reached_at < math.inf
        if spent > budget or (enough and not arguments.to_the_end):
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
        "max_epochs": arguments.epochs,
        "seed": seed,
        "schedule": arguments.schedule if arguments.problem in {"digits", "cifar10"} else None,
        "lr": arguments.lr if arguments.problem in {"digits", "cifar10"} else None,
        "sampler": "random" if arguments.problem == "recorded" else arguments.sampler,
        "grace_epochs": arguments.grace_epochs,
        "reduction_factor": arguments.reduction_factor,
        "hypervolume_against": round(target, 4),
        "on_the_front_when_they_ended_against": on_the_front(finished, searched.reference),
        "hypervolume": round(volume, 4),
        "after_shares_of_the_epochs": dict(
            zip(SHARES, reached + [round(volume / target, 4)] * len(SHARES), strict=False)
        ),
        "trials_with_stopping": count,
        "of_them_finished": len(ended),
    }


def summarise(arguments: argparse.Namespace, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what half of the epochs reach on average, with Student's 95 % interval over the seeds."""
    shares = np.array([[line["after_shares_of_the_epochs"][share] for share in SHARES] for line in found])
    half = shares[:, SHARES.index(0.5)]
    low, high = stats.t.interval(0.95, len(half) - 1, np.mean(half), stats.sem(half))
    singles = [math.inf if line["value"] is None else line["value"] for line in found]
    median, mean = float(np.median(singles)), shares.mean(axis=0)
    return {
        "name": f"early_stopping/{arguments.problem}/at_half_of_the_epochs",
        "value": round(float(np.mean(half)), 4),
        "unit": "share of the hypervolume of the search without early stopping, mean over seeds",
        "interval_95": [round(float(low), 4), round(float(high), 4)],
        "seeds": arguments.seeds,
        "mean_reaches_it_after": next((share for share, one in zip(SHARES, mean, strict=True) if one >= 1), None),
        "median_share_of_epochs": median if math.isfinite(median) else None,
        "within_half": sum(share <= 0.5 for share in singles),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=sorted(PROBLEMS), default="digits")
    parser.add_argument("--trials", type=int, default=60, help="of the search without early stopping")
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--schedule", default="constant", help="of the learning rate, where trials train")
    parser.add_argument(
        "--lr", type=float, nargs=2, default=[0.05, 0.5], metavar=("LOW", "HIGH"), help="range, where trials train"
    )
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 as Parquet, for cifar10")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--grace-epochs", type=int, default=1)
    parser.add_argument("--reduction-factor", type=float, default=3.0)
    parser.add_argument("--curves", type=Path, default=Path("curves.jsonl"), help="file of recorded trials")
    parser.add_argument("--record", type=int, metavar="TRIALS", help="add so many trials to it, and end")
    parser.add_argument("--to-the-end", action="store_true", help="go on to equal epochs once it is reached")
    arguments = parser.parse_args()
    if arguments.problem == "cifar10" and arguments.data is None:
        parser.error("--problem cifar10 needs --data FOLDER")
    warnings.filterwarnings("ignore")
    if arguments.record:
        record(arguments)
        return
    found = []
    for seed in arguments.seeds:
        found.append(compare(arguments, seed))
        print(json.dumps(found[-1]), flush=True)
    if len(found) > 1:
        print(json.dumps(summarise(arguments, found)), flush=True)


if __name__ == "__main__":
    main()
