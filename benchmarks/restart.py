"""What a search with early stopping costs to take up again: its ledger, sampler and rungs, rebuilt from its tables.

Run it from the root as ``python -m benchmarks.restart``. The trials are made up: a tenth trains to its end, the others
stop at a rung. Prints one JSON object: seconds of processor time for each part, next to judging every epoch again,
which fills the same rungs. Ray's own start is not in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from search.config import describe_config
from search.driver.ledger import Ledger
from search.proposing import Proposer
from search.space import Space
from search.spec import parse_spec
from search.stopping import MOASHA

SPEC = """
name: restart
train: {epochs: 27}
space:
  methods: {rps: {lr: {low: 0.05, high: 4.0}}, synflow: {}}
  weight_decay: {low: 1.0e-5, high: 1.0e-3}
  budgets: layers
search: {early_stopping: {}}
"""
SHAPES = {f"layer{index}": (64, 64) for index in range(20)}
Tables = tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[str, int, float, float]]]


def make_tables(trials: int) -> Tables:
    """Return the proposals, the trials and their epochs: name, epoch, accuracy and memory."""
    spec = parse_spec(SPEC, [f"trials={trials}"])
    ledger = Ledger(spec, Proposer(Space(spec.space, SHAPES), sampler="random"))
    rng, levels = np.random.default_rng(0), _rungs().levels
    finished, epochs = [], []
    for number in range(trials):
        run = ledger.next()
        assert run is not None
        last = spec.train.epochs if number % 10 == 0 else int(rng.choice(levels))
        accuracy, memory = float(rng.random()), round(1e6 / run.config.ratio)
        epochs += [(run.trial_id, epoch, accuracy * epoch / last, memory) for epoch in range(1, last + 1)]
        finished.append(
            describe_config(run.config)
            | {"number": number, "repeat": 0, "params_json": json.dumps(dict(run.params)), "epochs_run": last}
            | {"status": "finished" if last == spec.train.epochs else "pruned", "accuracy_val": accuracy}
            | {"stored_bytes": memory, "latency_ms": None, "finished_at": datetime.now(UTC)}
        )
    return [run.journal_row("restart") for run in ledger.new_runs], finished, epochs


def _rungs() -> MOASHA:
    return MOASHA(grace_epochs=1, reduction_factor=3, max_epochs=27)


def _seconds(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return round(time.process_time() - began, 3)


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()
    journal, finished, epochs = make_tables(arguments.trials)
    spec = parse_spec(SPEC, [f"trials={arguments.trials + 1}"])

    def ledger() -> None:
        Ledger(spec, Proposer(Space(spec.space, SHAPES), sampler="tpe"), journal=journal, finished=finished)

    ours, naive = _rungs(), _rungs()
    parts = {
        "ledger_and_sampler_s": _seconds(ledger),
        "rungs_s": _seconds(lambda: [ours.recall(*row) for row in epochs]),
    }
    against = _seconds(lambda: [naive.report(*row) for row in epochs])
    line = {
        "name": "restart",
        "value": round(sum(parts.values()), 3),
        "unit": "seconds of processor time to rebuild a search",
        "against": "the rungs filled by judging each epoch again",
        "trials": arguments.trials,
        "epochs": len(epochs),
        **parts,
        "rungs_against_s": against,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
