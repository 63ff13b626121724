"""``export``, ``evaluate`` and ``replay``: models out of a results folder, and the proof that they are what it says."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from search.cli.output import printable
from search.cli.trial_ids import the_trial
from search.errors import UserError
from search.results.folder import Folder

if TYPE_CHECKING:
    from search.config import TrialConfig
    from search.driver.experiment import Experiment

DIFFERENT = 3

Directory = Annotated[str, typer.Argument(metavar="DIR", help="Experiment folder: a path or a URI.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run functions of its own that it names, if you trust whoever made it.")
]
DataPath = Annotated[str | None, typer.Option("--data", metavar="PATH", help="Where the data lies now.")]


def export(
    directory: Directory,
    trial: Annotated[str | None, typer.Option(metavar="ID", help="Trial to export.")] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Export the most accurate trial that stores at most this (200kB).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; default DIR's name and the trial's.")] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Also write the plain weights.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write an ONNX file.")] = False,
    data: DataPath = None,
    allow_code: AllowCode = False,
) -> None:
    """Write a model of the frontier as files that stand on their own."""
    from search.data import load_dataset
    from search.driver.exchange import model_path
    from search.driver.experiment import open_experiment
    from search.exporting import export_trial

    if (trial is None) == (max_bytes is None):
        raise UserError("export: write either --trial ID or --max-bytes SIZE")
    experiment = open_experiment(Folder(directory))
    row = _row(experiment, trial if trial is not None else _best_within(experiment, str(max_bytes)))
    located = _checked(experiment, row, data, allow_code).data
    try:
        model_file = experiment.folder.read(model_path(row["trial_id"]))
    except FileNotFoundError as error:
        again = ["rps-search", "replay", str(experiment.folder), "--trial", row["trial_id"], "--keep"]
        again += [] if data is None else ["--data", data]
        again += ["--allow-code"] if allow_code else []
        raise UserError(
            f"trial {row['trial_id']}: its model was not kept, for it is on no frontier; train it again with: "
            f"{shlex.join(again)}"
        ) from error
    folder = out or Path(f"{Path(str(experiment.folder)).name}-{row['trial_id']}")
    provenance = experiment.spec.provenance
    written = export_trial(
        row,
        model_file,
        folder,
        data=load_dataset(located),
        provenance=provenance.model_dump() if provenance else {},
        dense=dense,
        onnx=onnx,
    )
    for path in written:
        print(f"{printable(str(path))}  {path.stat().st_size:,} bytes")


def evaluate(
    file: Annotated[Path, typer.Argument(help="An exported folder, or the model file in one.")],
    data: DataPath = None,
    allow_code: AllowCode = False,
) -> None:
    """Classify the test images with an exported model and compare with the results table."""
    from search.exporting import evaluate_bundle, read_bundle

    found = evaluate_bundle(read_bundle(file), data_path=data, allow_code=allow_code)
    right, expected = (round(found[name] * found["images"]) for name in ("accuracy", "table_accuracy"))
    print(f"accuracy {found['accuracy']:.4%} ({right} of {found['images']} images), loss {found['loss']:.4f}")
    if right != expected:
        print(f"rps-search: the results table says {expected} of {found['images']} images", file=sys.stderr)
        sys.exit(DIFFERENT)
    print("equal to the results table, to the last image")


def replay(
    directory: Directory,
    trial: Annotated[str, typer.Option(metavar="ID", help="Trial to train again.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its model in the folder, for export, if nothing differs.")
    ] = False,
    data: DataPath = None,
    allow_code: AllowCode = False,
) -> None:
    """Train a trial again, here and without Ray, and compare with the results table."""
    from search.data import load_dataset
    from search.driver.exchange import model_path
    from search.driver.experiment import open_experiment
    from search.driver.weights import read_weights
    from search.training.trainer import DivergedError
    from search.trial import Trial, threads_for

    experiment = open_experiment(Folder(directory))
    row = _row(experiment, trial)
    config = _checked(experiment, row, data, allow_code)
    again = Trial(
        config,
        load_dataset(config.data),
        threads=threads_for(experiment.spec.resources.cpus),
        weights=read_weights(config.model),
    )
    while not again.done:
        try:
            report = again.step()
        except DivergedError as error:
            _not_reproduced(str(error), keep)
        print(f"epoch {report.epoch}: loss {report.loss:.4f}, validation {report.accuracy_val:.2%}", file=sys.stderr)
    end = again.finish()
    different = False
    for column in ("accuracy", "accuracy_val", "loss", "stored_bytes", "epochs_run"):
        same = end.row[column] == row[column]
        different |= not same
        print(f"{column}: {end.row[column]} now, {row[column]} in the table{'' if same else '  <- differs'}")
    if different:
        _not_reproduced("another device, or other versions?", keep)
    if keep:
        # Only now: what is exported later carries the figures of the table.
        experiment.folder.write_whole(model_path(row["trial_id"]), end.model_file)


def _not_reproduced(why: str, keep: bool) -> NoReturn:
    kept = "; its model is not kept" if keep else ""
    print(f"rps-search: the trial was not reproduced ({why}){kept}", file=sys.stderr)
    sys.exit(DIFFERENT)


def _checked(experiment: Experiment, row: Mapping[str, Any], data: str | None, allow_code: bool) -> TrialConfig:
    """Return a trial with the places where its files lie now, if all that it would run is this package's own."""
    from search.exporting import config_of, refuse_foreign_code

    spec = experiment.spec.data
    located = spec if data is None else spec.model_copy(update={"path": data})
    config = config_of(row)
    model = config.model.model_copy(update={"weights": experiment.spec.model.weights})
    config = config.model_copy(update={"data": located, "model": model})
    if not allow_code:
        refuse_foreign_code(config, experiment.folder)
    return config


def _row(experiment: Experiment, trial_id: str) -> dict[str, Any]:
    """Return the row of a finished trial; the beginning of its id is enough where it is the only one."""
    from search.results.store import ResultStore

    rows = {row["trial_id"]: row for row in ResultStore(experiment.folder).read("trials").to_pylist()}
    row = rows[the_trial(trial_id, rows)]
    if row["status"] != "finished":
        raise UserError(f"--trial {trial_id}: it is {row['status']}, and has no model")
    return row


def _best_within(experiment: Experiment, max_bytes: str) -> str:
    """Return the id of the most accurate trial (on validation) that fits."""
    from search.cli.frontier import parse_bytes
    from search.results import ResultStore, picks, points

    trials = ResultStore(experiment.folder).read("trials")
    found = points.points(trials)
    row = picks.best_within(found, parse_bytes(max_bytes))
    if row is None:
        raise UserError(f"--max-bytes {max_bytes}: no finished trial is that small")
    return found["trial_id"][row].as_py()
