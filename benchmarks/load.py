"""How much result traffic the driver takes before it is the bottleneck: a thousand nodes whose trials do nothing.

Run it from the root as ``python -m benchmarks.load``: as a script, its folder would hide the package ``baselines``.

Everything of the driver is real: Tune's controller and its event loop over Ray's futures, the scheduler, the ledger,
the sampler, the recorder, the tables. Only the processes on the nodes are not there: each simulated one answers every
call at once, through Ray's object store. The rate is therefore what the driver can take, and what Ray's network adds is
not in it. Prints JSON lines: results and trials a second, how rarely each node must report for the driver to keep up,
and the share of the driver's time in each of its parts, the largest of which is the bottleneck.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import ray
from ray.tune.execution import tune_controller

from clusters import load_profile
from search.config import TrialConfig, describe_config
from search.driver import run as driver
from search.driver.exchange import to_json
from search.driver.experiment import create_or_open
from search.driver.recorder import Recorder
from search.driver.searcher import LedgerSearcher
from search.results import Folder, ResultStore
from search.spec import parse_spec

SPEC = """
name: load
model: {name: mlp}
data: {name: digits}
space:
  methods: {rps: {lr: {low: 0.05, high: 4.0}}, synflow: {}}
  budgets: layers
"""
# Before this share of the trials has ended the nodes are not all at work yet; after the other one no longer.
FIRST, LAST = 0.1, 0.9


class Method:
    """A method of an actor on a simulated node: its answer is there at once."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def remote(self, *arguments: Any, **named: Any) -> Any:
        """Answer."""
        return ray.put(self._answer(*arguments, **named))


class SimulatedActor:
    """What Tune speaks to in place of a :class:`search.driver.actor.TrialActor` on a node."""

    def __init__(self, results: int, config: dict[str, Any]) -> None:
        self._results = results
        self._answers = {"train": self._train, "reset": self._reset}
        self._reset(config)

    def __getattr__(self, name: str) -> Method:
        return Method(self._answers.get(name, lambda *arguments, **named: None))

    def _reset(self, config: dict[str, Any], **named: Any) -> bool:
        self._config = TrialConfig.model_validate_json(config["trial"])
        self._done = 0
        return True

    def _train(self) -> dict[str, Any]:
        """Return what Tune's Trainable makes of a report of a trial: its epoch, and its row at the end."""
        self._done += 1
        now = datetime.now(UTC)
        accuracy = 1 - 0.1 * abs(self._config.lr - 0.3)
        row = describe_config(self._config) | {
            "accuracy": accuracy,
            "accuracy_val": accuracy,
            "stored_bytes": round(1e6 / self._config.ratio),
            "stored_parameters": round(25e4 / self._config.ratio),
            "epochs_run": self._done,
            "started_at": now,
        }
        epoch = {"epoch": self._done, "loss": 1.0, "accuracy_val": accuracy, "lr": self._config.lr, "seconds": 1.0}
        last = self._done >= self._results
        end = {"trial_row": to_json(row | {"status": "finished", "finished_at": now})}
        return {
            "epoch": self._done,
            "accuracy_val": accuracy,
            "memory": row["stored_bytes"],
            "epoch_rows": [to_json(epoch | {"images_per_second": 1.0, "finished_at": now})],
            **(end if last else {"partial_row": to_json(row)}),
            "done": last,
            "training_iteration": self._done,
            "iterations_since_restore": self._done,
            "time_this_iter_s": 1.0,
            "time_total_s": float(self._done),
            "time_since_restore": float(self._done),
            "timestamp": int(now.timestamp()),
            "hostname": "simulated",
            "node_ip": "192.0.2.1",
            "pid": 1,
        }


class SimulatedPlaces:
    """Tune's resource manager for so many nodes of one place each."""

    def __init__(self, nodes: int, results: int) -> None:
        self._free = nodes
        self._results = results

    def has_resources_ready(self, resource_request: Any) -> bool:
        """Whether a node is free."""
        return self._free > 0

    def acquire_resources(self, resource_request: Any) -> Any:
        """Occupy a node."""
        self._free -= 1
        return _Acquired(resource_request, self._results)

    def free_resources(self, acquired_resource: Any) -> None:
        """Leave a node."""
        self._free += 1

    def get_resource_futures(self) -> list[Any]:
        """Return nothing to wait for."""
        return []

    def request_resources(self, resource_request: Any) -> None:
        """Do nothing: nodes are there."""

    def cancel_resource_request(self, resource_request: Any) -> None:
        """Do nothing."""

    def update_state(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


class _Acquired:
    def __init__(self, resource_request: Any, results: int) -> None:
        self.resource_request = resource_request
        self._results = results

    def annotate_remote_entities(self, entities: list[Any]) -> list[Any]:
        return [self for _ in entities]

    def remote(self, *, config: dict[str, Any], **named: Any) -> SimulatedActor:
        return SimulatedActor(self._results, config)


class Cluster:
    """A session on so many nodes."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes

    def check_placement(self, *wants: Any) -> None:
        """Every trial fits."""

    def max_concurrent(self, *wants: Any) -> int:
        """One trial a node."""
        return self._nodes


class Parts:
    """Time spent in parts of the driver, and how many results came when."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.results = 0
        self.moments: list[tuple[float, int, int]] = []

    def time(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is counted."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began
                self.results += part == "rows"

        return timed

    def watch(self, progress: Any) -> None:
        """Note how far the search is."""
        self.moments.append((time.perf_counter(), self.results, progress.ended))


@contextmanager
def simulated(nodes: int, results: int, parts: Parts) -> Iterator[None]:
    """Put the nodes in place of Ray's, and clocks around the parts of the driver."""

    @contextmanager
    def session(*arguments: Any, **named: Any) -> Iterator[Cluster]:
        yield Cluster(nodes)

    places = functools.partial(SimulatedPlaces, nodes, results)
    replaced: list[tuple[Any, str, Any]] = [
        (driver, "session", session),
        (tune_controller, "PlacementGroupResourceManager", places),
        (LedgerSearcher, "suggest", parts.time("ledger and sampler", LedgerSearcher.suggest)),
        (Recorder, "on_trial_result", parts.time("rows", Recorder.on_trial_result)),
        (Recorder, "flush", parts.time("tables", Recorder.flush)),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def measure(nodes: int, trials: int, results: int, sampler: str) -> Iterator[dict[str, Any]]:
    """Run the driver on simulated nodes; yield what was measured."""
    parts = Parts()
    with tempfile.TemporaryDirectory(prefix="rps-load-") as scratch, simulated(nodes, results, parts):
        spec = parse_spec(SPEC, [f"trials={trials}", f"search.sampler={sampler}"])
        experiment, _ = create_or_open(Folder(f"{scratch}/run"), spec)
        began = time.perf_counter()
        driver.run_search(experiment, load_profile("local"), watch=parts.watch)
        wall = time.perf_counter() - began
        rows = ResultStore(experiment.folder).read("trials").num_rows
        epochs = ResultStore(experiment.folder).read("epochs").num_rows
    if (rows, epochs) != (trials, trials * results):
        raise SystemExit(f"{trials} trials of {results} results each, but {rows} and {epochs} are in the tables")
    steady = [moment for moment in parts.moments if FIRST * trials <= moment[2] <= LAST * trials]
    (first_s, first_results, first_trials), (last_s, last_results, last_trials) = steady[0], steady[-1]
    rate = (last_results - first_results) / (last_s - first_s)
    running = parts.moments[-1][0] - parts.moments[0][0]
    shares = {part: seconds / running for part, seconds in parts.seconds.items()}
    shares["Tune and Ray"] = 1 - sum(shares.values())
    facts = {"nodes": nodes, "trials": trials, "results_a_trial": results, "sampler": sampler, "wall_s": round(wall, 1)}
    line = {
        "name": "load/results",
        "value": round(rate, 1),
        "unit": "results/s",
        "against": "nodes that answer at once",
    }
    yield line | facts
    line |= {"name": "load/trials", "unit": "trials/s"}
    yield line | {"value": round((last_trials - first_trials) / (last_s - first_s), 1)} | facts
    line |= {"name": "load/interval", "unit": "s between two results of a node", "value": round(nodes / rate, 1)}
    yield line | facts
    bottleneck = max(shares, key=lambda part: shares[part])
    line |= {"name": f"load/bottleneck: {bottleneck}", "unit": "share of the driver's time"}
    yield (
        line
        | {"value": round(shares[bottleneck], 3)}
        | {part: round(share, 3) for part, share in shares.items()}
        | facts
    )


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--results", type=int, default=5, help="results that each trial reports")
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    for line in measure(**vars(options)):
        print(json.dumps(line), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
