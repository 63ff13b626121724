"""An experiment folder: made once, found again after a crash, never mixed with another."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clusters.yaml_text import dump_yaml
from search.driver.lease import PATH as LEASE
from search.driver.weights import pin_weights
from search.errors import UserError
from search.results.folder import Folder
from search.results.load import META_PATH
from search.results.load import SPEC_PATH as SPEC
from search.results.schema import SCHEMA_VERSION
from search.spec import Spec, parse_spec
from search.spec.fields import flattened
from search.spec.schema import Provenance

RUNNING = "checkpoints/running"
MODELS = "checkpoints/models"
PACKAGES = ("rps-search", "torch", "torchvision", "ray", "optuna", "pyarrow")
# What may differ between launch and resume: where, how long, what is asked of it and what is learned from elsewhere
# (that may have moved), never what is searched.
CHANGEABLE = (
    "trials",
    "data.path",
    "model.weights",
    "resources",
    "failures",
    "disk_budget",
    "search.concurrency",
    "search.warm_start",
    "train.checkpoint_every_s",
    "train.compile",
    "claims",
)


class Experiment:
    """A folder with the resolved spec, the result tables and the checkpoints of one search."""

    def __init__(self, folder: Folder, spec: Spec, *, saved: bool = True) -> None:
        self.folder = folder
        self.spec = spec
        self.saved = saved

    def save(self) -> None:
        """Write the spec, if it is not what the folder holds. Only the driver that holds the lease may."""
        if not self.saved:
            self.folder.write_whole(SPEC, dump_yaml(self.spec.model_dump(mode="json")).encode())
            self.saved = True

    def read_meta(self) -> dict[str, Any] | None:
        """Return the experiment-wide facts: the dense model's memory, the reference point; None before the start."""
        try:
            return json.loads(self.folder.read(META_PATH))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder}/{META_PATH}: cannot be read; delete it, and it is made anew") from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Store the experiment-wide facts."""
        self.folder.write_whole(META_PATH, json.dumps(meta, indent=1).encode())


def create_or_open(folder: Folder, spec: Spec) -> tuple[Experiment, bool]:
    """Begin an experiment in a folder, or go on with the one that is there if the spec is the same.

    Nothing is written before the driver holds the folder and the spec was tried on the data: see
    :meth:`Experiment.save`.

    Returns:
        The experiment, and whether it was there before.

    Raises:
        UserError: If the folder holds another experiment, or other files, or the weights to start from cannot be read.
    """
    spec = pin_weights(spec)
    if folder.exists(SPEC):
        return change(open_experiment(folder), spec), True
    strangers = [entry.path for entry in folder.list(recursive=True) if entry.path != LEASE]
    if strangers:
        raise UserError(
            f"{folder}: holds {strangers[0]!r} but no {SPEC}: it is no experiment; name an empty folder with --storage"
        )
    return Experiment(folder, spec.model_copy(update={"provenance": _provenance()}), saved=False), False


def open_experiment(folder: Folder, overrides: Iterable[str] = ()) -> Experiment:
    """Open an experiment that was launched before.

    Raises:
        UserError: If the folder holds none, or was written by a newer version.
    """
    try:
        text = folder.read(SPEC).decode()
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no experiment is here ({SPEC} is missing); launch one, or name its folder"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}/{SPEC}: cannot be read ({error})") from error
    experiment = Experiment(folder, parse_spec(text, where=f"{folder}/{SPEC}"))
    provenance = experiment.spec.provenance
    if provenance and provenance.schema_version > SCHEMA_VERSION:
        raise UserError(
            f"{folder}: written with tables of version {provenance.schema_version}, "
            f"this program knows {SCHEMA_VERSION}; update rps-search"
        )
    overrides = list(overrides)
    return change(experiment, parse_spec(text, overrides, where=f"{folder}/{SPEC}")) if overrides else experiment


def change(experiment: Experiment, wanted: Spec) -> Experiment:
    """Return an experiment with the changes of a spec that leave what was trained valid, not yet saved.

    Raises:
        UserError: If the spec is of another experiment: the fields that differ, with both values.
    """
    old, new = _flat(experiment.spec), _flat(wanted)
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    fatal = [key for key in differing if not any(key == name or key.startswith(name + ".") for name in CHANGEABLE)]
    if fatal:
        shown = "; ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in fatal[:3])
        more = f" and {len(fatal) - 3} more" if len(fatal) > 3 else ""
        raise UserError(
            f"{experiment.folder}: holds another experiment ({shown}{more}); choose another folder with --storage"
        )
    if not differing:
        return experiment
    return Experiment(
        experiment.folder, wanted.model_copy(update={"provenance": experiment.spec.provenance}), saved=False
    )


def _flat(spec: Spec) -> dict[str, Any]:
    return flattened(spec.model_dump(mode="json", exclude={"provenance"}))


def _provenance() -> Provenance:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return Provenance(
        versions=versions,
        git_commit=_git_commit(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        schema_version=SCHEMA_VERSION,
    )


def _git_commit() -> str | None:
    """Return the commit this package runs from; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
