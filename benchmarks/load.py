"""How much result traffic the driver of a search can take: for how many nodes one head node is enough.

Run it from the root as ``python -m benchmarks.load``: as a script, its folder would hide the package ``baselines``.

Trials that do nothing report epochs through the real driver (Tune, ledger, sampler, tables, progress). First as fast
as they can: the rate at which the driver, or the machine, is full. Then at the rate at which ``--nodes`` nodes with a
trial each would report: how busy the driver is, and how long it is silent. One JSON object a line. A few processes
make all the traffic, so what Ray's own head processes do for a thousand nodes is not in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.driver import SLEEP, SPEC, NothingActor
from clusters import load_profile
from search.driver import tuning
from search.driver.exchange import to_json
from search.driver.experiment import create_or_open
from search.driver.run import run_search
from search.results import Folder, ResultStore
from search.spec import parse_spec

EPOCHS = "RPS_BENCHMARK_EPOCHS"


class ReportingActor(NothingActor):
    """Reports as many epochs as it is told, one a step, then what a trial would have said at its end."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial."""
        self._epoch = 0
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        """Report an epoch."""
        result = super().step()
        self._epoch += 1
        row = {"epoch": self._epoch, "loss": 1.0, "accuracy_val": result["accuracy_val"], "lr": 0.1, "seconds": 1.0}
        row |= {"images_per_second": 1.0, "finished_at": datetime.now(UTC)}
        result |= {"epoch": self._epoch, "epoch_rows": [to_json(row)]}
        if self._epoch < int(os.environ[EPOCHS]):
            partial = result.pop("trial_row")
            result |= {"partial_row": partial, "done": False}
        return result


def traffic(trials: int, epochs: int, actors: int, sleep_s: float, sampler: str) -> dict[str, Any]:
    """Run a search of reporting trials, and return rates and the driver's own processor time a result."""
    tuning.TrialActor = ReportingActor
    os.environ |= {SLEEP: str(sleep_s), EPOCHS: str(epochs)}  # The processes of a local Ray inherit them.
    marks: list[tuple[float, float, int]] = []

    def watch(progress: Any) -> None:
        results = progress.ended * epochs + sum(progress.running.values())
        if not marks or results != marks[-1][2]:
            marks.append((time.perf_counter(), time.process_time(), results))

    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(f"{scratch}/run")
        spec = parse_spec(SPEC, [f"trials={trials}", f"search.sampler={sampler}", f"train.epochs={epochs}"])
        experiment, _ = create_or_open(folder, spec)
        run_search(experiment, load_profile("local").model_copy(update={"cpus": actors}), watch=watch)
        kept = ResultStore(folder).read("epochs", ["trial_id"]).num_rows
    # The first tenth starts the processes, the last stops them.
    inner = [mark for mark in marks if 0.1 * trials * epochs <= mark[2] <= 0.9 * trials * epochs]
    if len(inner) < 3:
        raise SystemExit(f"{trials} trials of {epochs} epochs are too few to measure; write --trials 200")
    (began, used, low), (ended, used_then, high) = inner[0], inner[-1]
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(inner)]
    return {
        "results_per_second": round((high - low) / (ended - began), 1),
        "driver_ms_per_result": round(1000 * (used_then - used) / (high - low), 3),
        "driver_busy": round((used_then - used) / (ended - began), 3),
        "longest_gap_s": round(max(gaps), 3),
        "median_gap_s": round(statistics.median(gaps), 4),
        "epoch_rows": kept,
        "expected_rows": trials * epochs,
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="nodes whose traffic is made, one trial on each")
    parser.add_argument("--epoch-seconds", type=float, default=30.0, help="how often a trial on a node reports")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--actors", type=int, default=8, help="processes that make the traffic")
    parser.add_argument("--sampler", default="tpe")
    arguments = parser.parse_args()
    sizes = {name: getattr(arguments, name) for name in ("trials", "epochs", "actors", "sampler")}

    full = traffic(arguments.trials, arguments.epochs, arguments.actors, 0.0, arguments.sampler)
    line = {"name": "load/full", "value": full["results_per_second"], "unit": "results/s", "against": None}
    print(json.dumps(line | full | sizes), flush=True)
    # What one core of the head node takes when the trials run elsewhere.
    most = 1000 / full["driver_ms_per_result"]
    line = {"name": "load/capacity", "unit": "nodes", "against": f"a result every {arguments.epoch_seconds:g} s"}
    print(json.dumps(line | {"value": int(most * arguments.epoch_seconds)} | sizes), flush=True)

    rate = arguments.nodes / arguments.epoch_seconds
    paced = traffic(arguments.trials, arguments.epochs, arguments.actors, arguments.actors / rate, arguments.sampler)
    line = {
        "name": "load/paced",
        "value": paced["driver_busy"],
        "unit": "of one core",
        "against": f"{rate:.1f}/s asked",
    }
    print(json.dumps(line | paced | sizes | {"nodes": arguments.nodes}), flush=True)


if __name__ == "__main__":
    main()
