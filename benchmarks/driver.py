"""What a trial costs the whole driver (Tune, ledger, sampler, tables), with trials that do nothing.

Run it from the root as ``python -m benchmarks.driver``: as a script, its folder would hide the package ``baselines``.

Prints one JSON object a line: wall milliseconds a trial over all, the first and the last tenth, memory of the driver
and files in the folder; then the same for plain Ray Tune with OptunaSearch and its default loggers, in the same run.
"""

from __future__ import annotations

import search.cli  # noqa: F401  # Before all that loads Arrow: it then allocates as under the command line.

# isort: split
import argparse
import json
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from clusters import load_profile
from search.config import TrialConfig, describe_config
from search.driver import tuning
from search.driver.actor import TrialActor
from search.driver.exchange import RunSettings, to_json
from search.driver.experiment import create_or_open
from search.driver.run import run_search
from search.results import Folder, ResultStore
from search.spec import parse_spec

SLEEP = "RPS_BENCHMARK_SLEEP_S"
SPEC = """
name: overhead
model: {name: resnet20}
data: {name: digits}
space:
  methods: {rps: {lr: {low: 0.05, high: 4.0}}, synflow: {}}
  weight_decay: {low: 1.0e-5, high: 1.0e-3}
  budgets: layers
"""


class NothingActor(TrialActor):
    """Sleeps for as long as it is told, and says what a trial would have said at its end."""

    def setup(self, config: dict[str, Any], *, data: list[Any], settings: RunSettings) -> None:
        """Begin the first trial."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial."""
        self._config = TrialConfig.model_validate_json(new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """End the trial."""
        time.sleep(float(os.environ[SLEEP]))
        now = datetime.now(UTC)
        accuracy = 1 - 0.1 * abs(self._config.lr - 0.3)
        row = describe_config(self._config) | {
            "status": "finished",
            "accuracy": accuracy,
            "accuracy_val": accuracy,
            "stored_bytes": round(1e6 / self._config.ratio),
            "stored_parameters": round(25e4 / self._config.ratio),
            "epochs_run": 1,
            "started_at": now,
            "finished_at": now,
        }
        return {
            "epoch": 1,
            "accuracy_val": accuracy,
            "memory": row["stored_bytes"],
            "trial_row": to_json(row),
            "done": True,
        }

    def cleanup(self) -> None:
        """Nothing is held."""


def ours(trials: int, sampler: str, cpus: int, sleep_s: float) -> dict[str, Any]:
    """Run the real driver over trials that do nothing but sleep, on so many logical CPUs."""
    tuning.TrialActor = NothingActor
    ends: list[tuple[float, int]] = []
    processor: list[tuple[float, int]] = []

    def watch(progress: Any) -> None:
        if not ends or progress.ended != ends[-1][1]:
            ends.append((time.perf_counter(), progress.ended))
            processor.append((time.process_time(), progress.ended))

    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(f"{scratch}/run")
        spec = parse_spec(SPEC, [f"trials={trials}", f"search.sampler={sampler}"])
        experiment, _ = create_or_open(folder, spec)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run_search(experiment, load_profile("local").model_copy(update={"cpus": cpus}), watch=watch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows = ResultStore(folder).read("trials").num_rows
        files = sum(path.is_file() for path in Path(scratch).rglob("*"))
    times = _times(ends, trials)
    return {
        **times,
        # Of this process alone: it hardly depends on what else the machine does.
        "processor": _times(processor, trials),
        # From the end of the first tenth, so that the start of the processes does not count.
        "to_minimum": round(times["after_first_tenth_ms"] * cpus / (1000 * sleep_s), 3) if sleep_s else None,
        "rows": rows,
        "files": files,
        "driver_peak_mb": round(peak / 1024),
        "driver_peak_before_mb": round(before / 1024),
        "torch_in_driver": "torch" in sys.modules,
        "cpus": cpus,
        "sleep_s": sleep_s,
    }


def plain(trials: int, cpus: int) -> dict[str, Any]:
    """Run Ray Tune with OptunaSearch as its documentation shows, with reused actors."""

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"accuracy": 1 - abs(self.config["x0"] - 0.3), "memory": self.config["x1"], "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}  # Tune asks for one at the end of each trial.

    ends: list[tuple[float, int]] = []

    class Count(tune.Callback):
        def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
            ends.append((time.perf_counter(), len(ends) + 1))

    with tempfile.TemporaryDirectory() as scratch:
        tuner = tune.Tuner(
            Nothing,
            param_space={f"x{i}": tune.uniform(0, 1) for i in range(22)},
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric=["accuracy", "memory"], mode=["max", "min"]),
                num_samples=trials,
                max_concurrent_trials=cpus,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=scratch, name="plain", verbose=0, callbacks=[Count()]),
        )
        tuner.fit()
        files = sum(path.is_file() for path in Path(scratch).rglob("*"))
    return {**_times(ends, trials), "files": files, "cpus": cpus}


def _times(ends: list[tuple[float, int]], trials: int) -> dict[str, Any]:
    def span(low: float, high: float) -> float:
        chosen = [(moment, count) for moment, count in ends if low * trials <= count <= high * trials and count]
        if len(chosen) < 2:
            raise SystemExit(f"{trials} trials are too few to tell the first tenth from the last; write 200")
        return 1000 * (chosen[-1][0] - chosen[0][0]) / max(1, chosen[-1][1] - chosen[0][1])

    first, last = span(0, 0.1), span(0.9, 1)
    return {
        "value": round(span(0, 1), 2),
        "first_tenth_ms": round(first, 2),
        "last_tenth_ms": round(last, 2),
        "last_to_first": round(last / first, 3),
        "after_first_tenth_ms": round(span(0.1, 1), 3),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument(
        "--plain-trials", type=int, default=500, help="fewer: its cost grows with each one; 0 leaves it out"
    )
    parser.add_argument("--samplers", nargs="*", default=["tpe", "random"])
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1, help="logical CPUs: trials at a time")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that each of our trials sleeps")
    arguments = parser.parse_args()
    cpus = arguments.cpus
    os.environ[SLEEP] = str(arguments.sleep)  # The processes of a local Ray inherit it.
    for sampler in arguments.samplers:
        line = {
            "name": f"driver/{sampler}",
            "unit": "ms of wall time a trial",
            "against": "plain Ray Tune + OptunaSearch",
        }
        measured = ours(arguments.trials, sampler, cpus, arguments.sleep)
        print(json.dumps(line | {"trials": arguments.trials} | measured), flush=True)
    if not arguments.plain_trials:
        return
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    line = {"name": "driver/plain_ray_tune_optuna_tpe", "unit": "ms of wall time a trial", "against": "itself"}
    print(json.dumps(line | {"trials": arguments.plain_trials} | plain(arguments.plain_trials, cpus)), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
