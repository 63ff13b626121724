"""Result tables at size: writing, the frontier from cold files, SQL; against Optuna and pandas.

    python benchmarks/results.py                     # 1,000,000 trials, 20,000,000 epochs: minutes, 1.5 GB of disk
    python benchmarks/results.py --trials 50000      # the same, smaller

Reading is measured in processes of its own, with the files' pages dropped from the cache before, so that memory and
cold reading are honest. ``value`` leaves out starting Python and importing, ``process_s`` holds it; ``cpu_s`` is over
all threads. What peers would take too long for runs at a smaller size, given in its line, next to ours at that size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EPOCHS = 20
SEEDS = 2
BATCH = 50_000
FLUSH = 1_000
METHODS = ["rps", "snip", "synflow", "rand"]
QUERIES = {
    "group_by_epochs": "SELECT epoch, count(*), avg(accuracy_val), avg(loss) FROM epochs GROUP BY epoch",
    "group_by_trials": "SELECT method, count(*), max(accuracy), avg(train_seconds) FROM trials GROUP BY method",
    "best_epoch_of_each_trial": "SELECT trial_id, max(accuracy_val) FROM epochs GROUP BY 1 ORDER BY 2 DESC LIMIT 9",
}


def main() -> None:
    """Run everything, or, in a child process, measure one thing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--peer-trials", type=int, default=20_000, help="size for Optuna and for CSV and JSON lines")
    parser.add_argument("--folder", type=Path, help="keep the tables here, and use them if they are here")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "large"
        sizes = {"trials": args.trials, "epochs": args.trials * EPOCHS}
        if not folder.exists():
            write_all(folder, args.trials)
        for name in ("frontier", *QUERIES):
            emit(name, **cold(name, folder), against="target: under 1 s, under 1000 MB", **sizes)
        emit("report", value=report_seconds(folder, Path(scratch)), unit="s", against="target: under 10 s", **sizes)
        small = Path(scratch) / "small"
        write_all(small, args.peer_trials)
        for name, seconds, against in peers(small, Path(scratch)):
            emit(name, value=seconds, unit="s", against=against, trials=args.peer_trials)
        emit("write", **write_speed(Path(scratch) / "flushes"), against="target: at least 20000")


def report_seconds(folder: Path, scratch: Path) -> float:
    """Return how long ``rps-search report`` takes, the start of Python included."""
    command = [sys.executable, "-m", "search.cli.app", "report", str(folder), "--out", str(scratch / "report")]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    return round(time.perf_counter() - start, 2)


def emit(name: str, **fields: Any) -> None:
    """Print one line, with how busy the machine is: above its number of CPUs, times are too long."""
    busy = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({"name": name, **fields, **busy}), flush=True)


def write_all(folder: Path, trials: int) -> None:
    """Write the tables trials and epochs as a search with compaction leaves them: large parts."""
    import numpy as np
    import pyarrow as pa

    from search.results import TABLES, Folder, ResultStore

    store, draw = ResultStore(Folder(folder)), np.random.default_rng(0)
    for start in range(0, trials, BATCH):
        numbers = np.arange(start, min(start + BATCH, trials))
        rows = trial_columns(numbers, draw)
        store.append("trials", pa.table(rows, schema=TABLES["trials"]))
        epochs = len(numbers) * EPOCHS
        columns = {
            "trial_id": np.repeat(rows["trial_id"], EPOCHS),
            "experiment": ["bench"] * epochs,
            "epoch": np.tile(np.arange(1, EPOCHS + 1), len(numbers)),
            "loss": draw.gamma(2, 0.5, epochs),
            "accuracy_val": draw.binomial(5000, 0.7, epochs) / 5000,
            "lr": np.tile(np.linspace(0.1, 0, EPOCHS), len(numbers)),
            "seconds": draw.gamma(2, 0.5, epochs),
            "images_per_second": draw.gamma(2, 500, epochs),
            "finished_at": 1_750_000_000_000_000 + np.arange(start * EPOCHS, start * EPOCHS + epochs) * 1000,
        }
        store.append("epochs", pa.table(columns, schema=TABLES["epochs"]))


def trial_columns(numbers: Any, draw: Any) -> dict[str, Any]:
    """Return the columns of trials whose accuracy grows with memory and scatters; two seeds a proposal."""
    import numpy as np

    from search.config import TrialConfig
    from search.results import TABLES

    count = len(numbers)
    ratio = np.exp(np.random.default_rng(1).uniform(0, np.log(100), numbers[-1] // SEEDS + 1))[numbers // SEEDS]
    stored = (4 * 270_000 / ratio).astype(int) + 20_000
    accuracy = np.clip(0.93 - 0.05 * np.log(ratio) + draw.normal(0, 0.03, count), 0.1, 0.99)
    config = TrialConfig(method="rps", ratio=10, lr=0.1, weight_decay=1e-4).model_dump_json()[:-1]
    known: dict[str, Any] = {
        "trial_id": [f"{(n * 2654435761) % 2**48:012x}" for n in numbers.tolist()],
        "experiment": ["bench"] * count,
        "number": numbers // SEEDS,
        "repeat": numbers % SEEDS,
        "status": ["failed" if n % 50 == 0 else "finished" for n in numbers.tolist()],
        "method": [METHODS[n // SEEDS % len(METHODS)] for n in numbers.tolist()],
        "model": ["resnet20"] * count,
        "dataset": ["cifar10"] * count,
        "budgets": [
            [("layer1.*", n % 9999), ("layer2.*", n % 7777), ("layer3.*", n % 77777)] for n in numbers.tolist()
        ],
        "error": [None] * count,
        "params_json": [f'{{"ratio": {r}, "lr": 0.1, "share.layer1": 0.2}}' for r in ratio],
        "config_json": [f'{config},"number":{n}}}' for n in numbers.tolist()],
        "host": ["node-1"] * count,
        "device": ["cuda:0"] * count,
        "ratio": ratio,
        "stored_bytes": stored,
        "stored_parameters": stored // 4,
        "accuracy_val": accuracy.round(4),
        "accuracy": np.clip(accuracy + draw.normal(0, 0.005, count), 0, 1).round(4),
        "started_at": 1_750_000_000_000_000 + numbers * 1000,
        "finished_at": 1_750_000_100_000_000 + numbers * 1000,
    }
    for field in TABLES["trials"]:
        known.setdefault(field.name, draw.gamma(2, 50, count) if str(field.type) == "double" else numbers)
    return known


def cold(name: str, folder: Path) -> dict[str, Any]:
    """Measure in a fresh process, after asking the system to forget the files; the median of five."""
    found = []
    for _ in range(5):
        for path in folder.rglob("*.parquet"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        command = [sys.executable, __file__, "--measure", name, str(folder)]
        line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found.append(line | {"process_s": round(time.perf_counter() - start, 3)})
    return sorted(found, key=lambda line: line["value"])[len(found) // 2]


def measure(name: str, folder: str) -> dict[str, Any]:
    """Time one way of reading; the imports are not part of it."""
    import moocore  # noqa: F401
    import pyarrow.acero  # noqa: F401

    from search.results import ResultStore, load
    from search.results.frontier import frontier
    from search.results.points import drawable, points
    from search.results.query import Query

    stores: list[ResultStore] = load(folder).stores
    start, cpu = time.perf_counter(), time.process_time()
    if name == "frontier":
        rows = frontier(points(drawable(load(folder).stores))).num_rows
    else:
        rows = Query(stores).batches(QUERIES[name]).read_all().num_rows
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {
        "value": round(seconds, 3),
        "unit": "s",
        "cpu_s": round(cpu, 3),
        "peak_memory_mb": round(memory),
        "rows": rows,
    }


def peers(folder: Path, scratch: Path) -> Iterator[tuple[str, float, str]]:
    """Yield the time of peers and of ours for the same question over the same trials, files warm."""
    from search.results import load
    from search.results.frontier import frontier
    from search.results.points import drawable, points

    def ours() -> Any:
        return frontier(points(drawable(load(folder).stores)))

    trials = load(folder).trials
    yield "frontier_ours_small", timed(ours), "next lines, same trials"
    yield "frontier_optuna", optuna_seconds(trials), "Optuna's Study.best_trials, in memory already"
    yield "frontier_pandas_csv", csv_seconds(trials, scratch), "pandas.read_csv of one CSV and a sort over two columns"
    question = QUERIES["group_by_epochs"]
    yield "epochs_ours_small", timed(lambda: load(folder).sql(question).fetchall()), "next line, same rows"
    yield (
        "epochs_json_lines",
        json_lines_seconds(folder, scratch),
        "pandas.read_json of a result.json a trial (Ray Tune)",
    )


def timed(call: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median time of some calls, in seconds."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(sorted(taken)[repeats // 2], 4)


def optuna_seconds(trials: Any) -> float:
    """Time Optuna's ``best_trials`` over the same objectives."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"])
    pairs = zip(trials["accuracy_val"].to_pylist(), trials["stored_bytes"].to_pylist(), strict=True)
    study.add_trials([optuna.trial.create_trial(values=list(pair)) for pair in pairs])
    return timed(lambda: study.best_trials, 1)


def csv_seconds(trials: Any, scratch: Path) -> float:
    """Time pandas over a CSV of the trials: seeds averaged, then the running maximum of accuracy by memory."""
    import pandas

    path = scratch / "trials.csv"
    trials.drop_columns(["budgets"]).to_pandas().to_csv(path, index=False)

    def ask() -> Any:
        rows = pandas.read_csv(path)
        means = rows[rows.status == "finished"].groupby("number")[["accuracy_val", "stored_bytes"]].mean()
        ordered = means.sort_values(["stored_bytes", "accuracy_val"], ascending=[True, False])
        return ordered[ordered.accuracy_val > ordered.accuracy_val.cummax().shift(fill_value=-1)]

    return timed(ask)


def json_lines_seconds(folder: Path, scratch: Path) -> float:
    """Time pandas over a folder a trial with a ``result.json`` of one line an epoch, as Ray Tune writes them."""
    import pandas

    from search.results import load

    epochs = load(folder).to_pandas("epochs").drop(columns=["finished_at"])
    for trial, rows in epochs.groupby("trial_id"):
        path = scratch / "tune" / str(trial)
        path.mkdir(parents=True)
        rows.to_json(path / "result.json", orient="records", lines=True)

    def ask() -> Any:
        frames = [pandas.read_json(path, lines=True) for path in (scratch / "tune").glob("*/result.json")]
        return pandas.concat(frames).groupby("epoch")[["accuracy_val", "loss"]].mean()

    return timed(ask, 1)


def write_speed(folder: Path) -> dict[str, Any]:
    """Return trials a second, compaction included: flushes of mappings, each on disk before the next."""
    import numpy as np

    from search.results import Folder, ResultStore

    numbers = np.arange(20 * FLUSH)
    columns = {
        name: values.tolist() if isinstance(values, np.ndarray) else values
        for name, values in trial_columns(numbers, np.random.default_rng(0)).items()
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    store = ResultStore(Folder(folder))
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(rows), FLUSH):
        store.append("trials", rows[first : first + FLUSH])
        store.compact("trials")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    rate = round(len(rows) / seconds)
    return {"value": rate, "unit": "trials/s", "cpu_s": round(cpu, 3), "trials": len(rows), "batch": FLUSH}


if __name__ == "__main__":
    main()
