"""What the driver and a trial's process tell each other: settings, rows, and where files lie.

The driver imports this and not what trains: with torch it would occupy a gigabyte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from search.driver.experiment import MODELS, RUNNING
from search.results.folder import Folder

# A report can cost the driver more than a short epoch costs its trial: 8 ms with 300 trials at once, 31 with 1,000,
# since Ray waits for all of them together (benchmarks/load.py). So each reports the less often the more there are.
REPORT_EVERY_S = 0.5
REPORT_COST_S = 0.03
TIMEOUT_SUFFIX = ".timeout"


def report_interval(places: int) -> float:
    """Return how often each of so many trials may report, in seconds, so that the driver keeps up with all."""
    return max(REPORT_EVERY_S, places * REPORT_COST_S)


@dataclass(frozen=True)
class RunSettings:
    """What all trials of a search share beside the data.

    Attributes:
        folder: The experiment folder.
        cpus: CPUs of one trial.
        gpus: GPUs of one trial, whole or a fraction.
        memory: Which memory measure the search minimises.
        checkpoint_every_s: Shortest time between two checkpoints.
        time_limit_s: Longest time one trial may take in this process; None does not limit it.
        report_every_s: Epochs that are shorter are reported together.
        report_at: Epochs that are reported at once: those after which early stopping judges.
        weights: Content of the file of trained weights that every trial starts from, if the spec names one.
    """

    folder: Folder
    cpus: float
    gpus: float
    memory: str
    checkpoint_every_s: float
    time_limit_s: float | None
    report_every_s: float = REPORT_EVERY_S
    report_at: frozenset[int] = frozenset()
    weights: bytes | None = None


def running_path(trial_id: str) -> str:
    """Return where the checkpoint of a running trial lies in the experiment folder."""
    return f"{RUNNING}/{trial_id}.safetensors"


def timeout_path(trial_id: str) -> str:
    """Return where a trial leaves word that it ran out of time."""
    return f"{RUNNING}/{trial_id}{TIMEOUT_SUFFIX}"


def timeout_reason(folder: Folder, trial_id: str) -> str | None:
    """Return why a trial ran out of time; ``None`` if it left no word of that."""
    try:
        limit = folder.read(timeout_path(trial_id)).decode(errors="replace")
    except FileNotFoundError:
        return None
    return too_long(limit)


def too_long(limit: str) -> str:
    """Say that a trial ran out of its time, in seconds."""
    return f"it ran longer than failures.time_limit_s = {limit}"


def model_path(trial_id: str) -> str:
    """Return where the model file of a finished trial lies in the experiment folder."""
    return f"{MODELS}/{trial_id}.safetensors"


def to_json(row: Mapping[str, Any]) -> str:
    """Pack a row for the way through Tune, which would otherwise walk through each of its columns."""
    return json.dumps(row, default=lambda value: {"time": value.isoformat()})


def from_json(text: str) -> dict[str, Any]:
    """Unpack a row."""
    row = json.loads(text)
    times = {name: value["time"] for name, value in row.items() if isinstance(value, dict) and set(value) == {"time"}}
    # A layer may be called so, too: what is a text is no budget.
    return row | {name: datetime.fromisoformat(time) for name, time in times.items() if isinstance(time, str)}
