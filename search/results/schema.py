"""The result tables: each column with its type and meaning, and the version that every part carries."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pyarrow as pa

TableName: TypeAlias = Literal["trials", "epochs", "proposals"]

SCHEMA_VERSION = 1
"""Grows with every change of a column; readers take every version up to their own."""

VERSION_KEY = b"rps.schema_version"
TABLE_KEY = b"rps.table"

_TIME = pa.timestamp("us", tz="UTC")
_BUDGETS = pa.map_(pa.string(), pa.int64())


def _column(name: str, kind: pa.DataType, meaning: str, *, required: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=not required, metadata={"description": meaning})


_TRIAL_ID = _column("trial_id", pa.string(), "Hash of the trial's configuration, seed included.", required=True)
_EXPERIMENT = _column("experiment", pa.string(), "Name of the experiment.", required=True)
_NUMBER = _column("number", pa.int64(), "Number of the proposal in the search, from 0.")
_REPEAT = _column("repeat", pa.int64(), "Which seed of the proposal this is, from 0.")
_SEED = _column("seed", pa.int64(), "Seed of everything random in the trial.")
_PARAMS = _column("params_json", pa.string(), "What the sampler chose, flat, under its own names (JSON).")
_CONFIG = _column("config_json", pa.string(), "The whole configuration of the trial (JSON).")

_TRIALS = [
    _TRIAL_ID,
    _EXPERIMENT,
    _NUMBER,
    _REPEAT,
    _column("status", pa.string(), "finished, pruned (stopped early by the search) or failed.", required=True),
    _column("method", pa.string(), "Compression method."),
    _column("model", pa.string(), "Network that was compressed."),
    _column("dataset", pa.string(), "Data it was trained on."),
    _SEED,
    _column("ratio", pa.float64(), "Compression ratio asked for: total / kept scalars of the compressed weights."),
    _column("budgets", _BUDGETS, "Scalars kept by the layers of each pattern; null left the split to the method."),
    _column("lr", pa.float64(), "Peak learning rate."),
    _column("weight_decay", pa.float64(), "Weight decay."),
    _column("epochs_run", pa.int64(), "Passes over the training images that were made."),
    _column(
        "accuracy", pa.float64(), "Share of the test images classified rightly at the end, 0 to 1. Not for choosing."
    ),
    _column("accuracy_val", pa.float64(), "The same on the validation images: what the search may look at."),
    _column("loss", pa.float64(), "Mean cross-entropy on the test images at the end, in nats."),
    _column("stored_parameters", pa.int64(), "Scalars in the saved model, uncompressed ones included."),
    _column(
        "stored_bytes", pa.int64(), "Bytes of the saved model at float32, positions and uncompressed parts included."
    ),
    _column("virtual_size", pa.int64(), "Weights of the dense layers that were compressed."),
    _column("flops", pa.int64(), "Floating-point operations to classify one image; null where not measured."),
    _column("latency_ms", pa.float64(), "Time to classify one image, in milliseconds; null where not measured."),
    _column("setup_seconds", pa.float64(), "Time to load data, build and compress the model, in seconds."),
    _column("train_seconds", pa.float64(), "Time spent in training steps, in seconds, over all attempts."),
    _column("eval_seconds", pa.float64(), "Time spent on validation and test, in seconds."),
    _column("images_per_second", pa.float64(), "Training images a second, over the whole training."),
    _column("peak_memory_bytes", pa.int64(), "Most memory the trial held: of the device, or of the process on a CPU."),
    _column("host", pa.string(), "Machine it ran on."),
    _column("device", pa.string(), "Device it ran on."),
    _column("attempts", pa.int64(), "How often it was started, 1 if nothing went wrong."),
    _column("started_at", _TIME, "Start of the first attempt, UTC."),
    _column("finished_at", _TIME, "End of the last attempt, UTC."),
    _column("error", pa.string(), "Why it failed or was stopped; null otherwise."),
    _PARAMS,
    _CONFIG,
]

_EPOCHS = [
    _TRIAL_ID,
    _EXPERIMENT,
    _column("epoch", pa.int64(), "Number of the epoch, from 1.", required=True),
    _column("loss", pa.float64(), "Mean training loss over the epoch, in nats."),
    _column("accuracy_val", pa.float64(), "Share of the validation images classified rightly after it, 0 to 1."),
    _column("lr", pa.float64(), "Learning rate at its end."),
    _column("seconds", pa.float64(), "Time it took, in seconds."),
    _column("images_per_second", pa.float64(), "Training images a second."),
    _column("finished_at", _TIME, "Its end, UTC."),
]

_PROPOSALS = [
    _TRIAL_ID,
    _EXPERIMENT,
    _NUMBER,
    _REPEAT,
    _SEED,
    _column("origin", pa.string(), "Where it came from: sampler, known, warm_start or repeat."),
    _PARAMS,
    _CONFIG,
    _column("proposed_at", _TIME, "When it was proposed, UTC."),
]

TABLES: dict[TableName, pa.Schema] = {
    "trials": pa.schema(_TRIALS),
    "epochs": pa.schema(_EPOCHS),
    "proposals": pa.schema(_PROPOSALS),
}
"""Every table with its columns."""

KEYS: dict[TableName, tuple[str, ...]] = {
    "trials": ("experiment", "trial_id"),
    "epochs": ("experiment", "trial_id", "epoch"),
    "proposals": ("experiment", "trial_id"),
}
"""The columns that tell the rows of a table apart."""

ESSENTIAL: dict[TableName, tuple[str, ...]] = {
    "trials": (
        *("trial_id", "experiment", "number", "repeat", "status", "method", "seed"),
        *("finished_at", "params_json", "config_json"),
    ),
    "epochs": KEYS["epochs"],
    "proposals": ("trial_id", "experiment", "number", "repeat", "seed", "params_json", "config_json"),
}
"""The columns without which a row is of no use: a search could not be resumed from it."""
ESSENTIAL_IF_FINISHED = ("epochs_run", "accuracy", "accuracy_val", "stored_parameters", "stored_bytes")
"""The further columns of trials without which a finished trial might as well not have run."""
