"""A search of many short trials while a cluster breaks around it: what is lost, what is done twice, what it costs.

Run it from the root as ``python -m benchmarks.chaos``: as a script, its folder would hide the package ``baselines``.

``--scope cluster`` kills worker processes and machines, cuts one off, drains one, lets others join; ``--scope driver``
kills the driver itself and launches it again. The undisturbed run comes first, on the same cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
COUNTS = "RPS_CHAOS_COUNTS"
RAYS_OWN = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnv")
# Of the kills of a driver, so many fall into its start, and the others while its trials train.
KILLED_STARTING = 0.2
# Machines are declared dead after 5 s without an answer, not after 50.
FAST_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 10,
}


def counted_mlp(num_classes: int, in_channels: int, image_size: int):
    """Build a small network that leaves one byte in a file for each batch it trains on, even if it dies then."""
    from torch import nn

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(in_channels * image_size**2, 32), nn.ReLU(), nn.Linear(32, num_classes)
            )

        def forward(self, images):
            if self.training and images.requires_grad is False and len(images) > 1:
                with open(Path(os.environ[COUNTS]) / str(os.getpid()), "ab", buffering=0) as file:
                    file.write(b".")
            return self.layers(images)

    return Counted()


def spec_text(trials: int, epochs: int) -> str:
    """Return the spec of the search."""
    return json.dumps(
        {
            "name": "chaos",
            "trials": trials,
            "model": {"name": "benchmarks.chaos:counted_mlp"},
            "train": {"epochs": epochs, "batch_size": 64, "schedule": "constant", "checkpoint_every_s": 0},
            "space": {"methods": ["rand", "mag"], "budgets": "global"},
            "search": {"sampler": "random"},
            "failures": {"retries": 10},
        }
    )


class Rig:
    """A Ray of several machines on this one, and ways to break it. The head carries no trial."""

    def __init__(self, machines: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FAST_DEATH}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.machines = machines
        for _ in range(machines):
            self.join()

    @property
    def address(self) -> str:
        """Where the cluster is."""
        return str(self.cluster.address)

    def join(self) -> None:
        """A machine joins."""
        self.cluster.add_node(num_cpus=1)

    def kill_worker(self, draw: random.Random) -> None:
        """The process of a trial is killed."""
        victims = [p for node in self.alive() for p in _trial_processes(node)]
        if victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                draw.choice(victims).kill()

    def kill_machine(self, draw: random.Random) -> None:
        """A machine vanishes in mid-trial; another one comes."""
        node = draw.choice(self.alive())
        self.cluster.remove_node(node, allow_graceful=False)
        self.join()

    def cut_off(self, draw: random.Random) -> None:
        """The network to a machine is cut, and healed after it was given up; it must not do harm then."""
        node = draw.choice(self.alive())
        frozen = [_raylet(node), *_raylet(node).children(recursive=True)]
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        self.join()
        time.sleep(8)
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        time.sleep(2)
        with contextlib.suppress(Exception):
            self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, draw: random.Random) -> None:
        """A spot machine is given notice, and taken away at the end of it; another one comes."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        node = draw.choice(self.alive())
        preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + 2) * 1000)
        with contextlib.suppress(Exception):
            GcsClient(address=self.address).drain_node(node.node_id, preemption, "spot notice", deadline)
        self.join()
        time.sleep(2)
        with contextlib.suppress(Exception):
            self.cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End everything."""
        import ray

        ray.shutdown()
        self.cluster.shutdown()

    def alive(self) -> list:
        """The machines that carry trials."""
        return [n for n in self.cluster.worker_nodes if n.any_processes_alive()]


FAULTS: dict[str, Callable[[Rig, random.Random], None]] = {
    "kill_worker": Rig.kill_worker,
    "kill_machine": Rig.kill_machine,
    "cut_off": Rig.cut_off,
    "drain": Rig.drain,
}


def _raylet(node) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def _trial_processes(node) -> list[psutil.Process]:
    """Return the processes of a machine that Ray has named after what they run."""
    found = []
    for process in _raylet(node).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and not name.startswith(RAYS_OWN):
                found.append(process)
    return found


def start_driver(address: str, folder: Path, spec: Path) -> subprocess.Popen:
    """Run the search in a process of its own."""
    profile = folder.parent / "profile.yaml"
    profile.write_text(json.dumps({"kind": "existing", "address": address}))
    command = [sys.executable, "-m", "search.cli.app", "launch", str(spec), "--storage", str(folder)]
    return subprocess.Popen([*command, "--cluster", str(profile)], cwd=ROOT, stdout=subprocess.DEVNULL)


def break_cluster(
    rig: Rig, driver: subprocess.Popen, faults: list[str], every_s: float, draw: random.Random
) -> Counter:
    """Break the cluster while the driver works, one fault after the other, until all have been or it has ended."""
    done: Counter = Counter()
    for name in faults:
        try:
            driver.wait(every_s * (0.5 + draw.random()))
        except subprocess.TimeoutExpired:
            FAULTS[name](rig, draw)
            done[name] += 1
        else:
            break
    driver.wait()
    return done


def break_driver(
    start: Callable[[], subprocess.Popen], faults: int, trained: Callable[[], int], calm: int, draw: random.Random
) -> Counter:
    """Kill the driver again and again, and launch it again each time.

    The moments are drawn by batches trained, not by the clock: however slow the machine is, the kills are spread over
    the ``calm`` batches of the search.
    """
    done: Counter = Counter()
    for _ in range(faults):
        before, began = trained(), time.monotonic()
        driver = start()
        latest = 10 * draw.random() if draw.random() < KILLED_STARTING else math.inf
        wanted = before + draw.randrange(1, 2 * calm // (faults + 1))
        while driver.poll() is None and trained() < wanted and time.monotonic() - began < latest:
            time.sleep(0.02 * draw.random())
        if driver.poll() is not None:
            return done
        driver.kill()
        driver.wait()
        done["kill_driver_training" if trained() > before else "kill_driver_starting"] += 1
    start().wait()
    return done


def outcome(folder: Path) -> tuple[Counter, int, int]:
    """Return how trials ended, how many rows are there twice, and how many trials have no row."""
    from search.driver.experiment import open_experiment
    from search.results.folder import Folder
    from search.results.store import ResultStore

    experiment = open_experiment(Folder(folder))
    rows = ResultStore(experiment.folder).read("trials", ["trial_id", "status", "number", "repeat"]).to_pylist()
    names = {row["trial_id"] for row in rows}
    ended = Counter(row["status"] for row in rows)
    return ended, len(rows) - len(names), experiment.spec.trials - len(names)


def batches(counts: Path) -> int:
    """Return the batches that were trained on."""
    return sum(file.stat().st_size for file in counts.iterdir())


def measure(scope: str, trials: int, epochs: int, faults: int, seed: int, machines: int) -> Iterator[dict]:
    """Run the search undisturbed and disturbed; yield what was measured."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="rps-chaos-") as name:
        root = Path(name)
        counts = root / "counts"
        counts.mkdir()
        os.environ[COUNTS] = str(counts)
        os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        spec = root / "spec.yaml"
        spec.write_text(spec_text(trials, epochs))
        rig = Rig(machines)
        try:
            began = time.monotonic()
            code = start_driver(rig.address, root / "calm", spec).wait()
            if code != 0:
                raise SystemExit(f"the undisturbed search ended with exit code {code}: nothing to compare with")
            calm_s = time.monotonic() - began
            calm = batches(counts)
            for file in counts.iterdir():
                file.unlink()
            began = time.monotonic()
            if scope == "cluster":
                plan = [draw.choice(sorted(FAULTS)) for _ in range(faults)]
                driver = start_driver(rig.address, root / "chaos", spec)
                done = break_cluster(rig, driver, plan, calm_s / (faults + 1), draw)
            else:
                done = break_driver(
                    lambda: start_driver(rig.address, root / "chaos", spec), faults, lambda: batches(counts), calm, draw
                )
            chaos_s = time.monotonic() - began
            again = batches(counts) / calm - 1
            ended, twice, lost = outcome(root / "chaos")
        finally:
            rig.close()
    sizes = {"trials": trials, "epochs": epochs, "machines": machines, "seed": seed, "scope": scope}
    facts = sizes | {"faults": dict(done), "ended": dict(ended)}
    yield {"name": "chaos_lost_trials", "value": lost, "unit": "trials", "against": "undisturbed run: 0", **facts}
    yield {"name": "chaos_duplicated_trials", "value": twice, "unit": "rows", "against": "undisturbed run: 0", **facts}
    yield {"name": "chaos_repeated_work", "value": 100 * again, "unit": "%", "against": "undisturbed run", **facts}
    yield {"name": "chaos_wall_time", "value": chaos_s / calm_s, "unit": "ratio", "against": f"{calm_s:.0f} s", **facts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scope", choices=["cluster", "driver"], default="cluster")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in measure(**vars(options)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
