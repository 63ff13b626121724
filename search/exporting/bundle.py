"""Exported models: a folder with the compressed model, what it takes to build it again, and a card."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from baselines import unmask_
from rps_core import to_dense
from rps_core.sharing import find_sharing
from search.config import TrialConfig
from search.data import DeviceSplit, ImageData, load_dataset
from search.errors import UserError
from search.exporting.card import model_card
from search.exporting.trust import config_of, refuse_foreign_code
from search.methods import load_trained
from search.outputs import write_all, writing_to
from search.training.engine import choose_engine
from search.training.evaluation import evaluate
from search.trial import build, threads_for, workbench

MODEL, FACTS, CARD = "model.safetensors", "model.json", "README.md"
DENSE, ONNX = "dense.safetensors", "model.onnx"
ROW_FACTS = (
    "trial_id",
    "experiment",
    "method",
    "ratio",
    "lr",
    "weight_decay",
    "seed",
    "epochs_run",
    "accuracy",
    "accuracy_val",
    "stored_bytes",
    "stored_parameters",
    "virtual_size",
    "flops",
    "device",
)


@dataclass(frozen=True)
class Bundle:
    """An exported model.

    Attributes:
        folder: Where its files lie.
        config: The trial that made it.
        facts: Its row of the trials table and where it came from.
    """

    folder: Path
    config: TrialConfig
    facts: Mapping[str, Any]


def export_trial(
    row: Mapping[str, Any],
    model_file: bytes,
    out: Path,
    *,
    data: ImageData,
    provenance: Mapping[str, Any],
    dense: bool = False,
    onnx: bool = False,
) -> list[Path]:
    """Write a trial's model with all that is needed to use it.

    Args:
        row: The trial's row.
        model_file: The compressed model as the trial saved it.
        out: Folder to write into; made if it is not there.
        data: The data it was trained on, for shapes and normalisation.
        provenance: Versions and commit of the experiment.
        dense: Also write the plain weights.
        onnx: Also write an ONNX file of the plain model.

    Returns:
        The files written.

    Raises:
        UserError: If the folder holds another export or other files of these names, or cannot be written, if the file
            does not fit the trial, or ONNX is not installed. No file is written then.
    """
    config = config_of(row)
    files = {MODEL: model_file}
    with tempfile.TemporaryDirectory() as scratch:
        trained = Path(scratch) / MODEL
        trained.write_bytes(model_file)
        plain = plain_model(load_trained(workbench(config, data, torch.device("cpu")), trained))
    if dense:
        files[DENSE] = save({k: v.detach().contiguous().clone() for k, v in plain.state_dict().items()})
    if onnx:
        files[ONNX] = _onnx_file(plain, data.shape)
    facts = {name: row[name] for name in ROW_FACTS} | {
        "config": config.model_dump(mode="json"),
        "classes": data.classes,
        "class_names": data.class_names,
        "image_shape": data.shape,
        "mean": data.mean,
        "std": data.std,
        "provenance": dict(provenance),
        "model_sha256": hashlib.sha256(model_file).hexdigest(),
    }
    files[CARD] = model_card(facts, row).encode()
    # What says that a folder is an export comes last.
    files[FACTS] = json.dumps(facts, indent=1).encode()
    with writing_to(out):
        _check_place(out, config.trial_id, files)
    return write_all(out, files)


def _check_place(out: Path, trial_id: str, files: Iterable[str]) -> None:
    """Refuse a folder that holds something else under one of the names."""
    if (out / FACTS).is_file():
        if read_bundle(out).config.trial_id != trial_id:
            raise UserError(f"{out}: holds the export of another trial; choose another folder with --out")
        return
    for name in files:
        if (out / name).is_file():
            raise UserError(f"{out}: holds a file {name} that is of no export; choose another folder with --out")


def plain_model(model: nn.Module) -> nn.Module:
    """Return the model without compression, with equal outputs."""
    return unmask_(model) if find_sharing(model) is None else to_dense(model)


def read_bundle(path: Path) -> Bundle:
    """Read what an exported folder, or the model file in one, says about itself.

    Raises:
        UserError: If it is none.
    """
    folder = path if path.is_dir() else path.parent
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        # What an evaluation compares with must be there before it begins.
        facts |= {"accuracy": float(facts["accuracy"]), "model_sha256": str(facts["model_sha256"])}
        if not 0 <= facts["accuracy"] <= 1:
            raise ValueError(f"0 <= accuracy <= 1 must hold, but got {facts['accuracy']}")
        return Bundle(folder, TrialConfig.model_validate(facts["config"]), facts)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no exported model ({FACTS} is not there); make one with rps-search export") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{folder / FACTS}: damaged ({type(error).__name__}); export the model again, to another folder"
        ) from error


def evaluate_bundle(
    bundle: Bundle, *, data_path: str | None = None, gpu: bool = False, allow_code: bool = False
) -> dict[str, float]:
    """Classify the test images with an exported model.

    Args:
        bundle: The model.
        data_path: Where the data lies now; None looks where it lay.
        gpu: Compute on the GPU.
        allow_code: Whether it may name functions that are no part of this package, which are then run.

    Returns:
        ``accuracy`` now and ``table_accuracy`` as the results table has it, both in [0, 1], and ``images``.

    Raises:
        UserError: If the data is not there, the model file is not, or not as it was exported, or it names functions
            that may not be run.
    """
    config = bundle.config
    if not allow_code:
        refuse_foreign_code(config, bundle.folder / FACTS)
    _check_model(bundle)
    where = config.data if data_path is None else config.data.model_copy(update={"path": data_path})
    data = load_dataset(where)
    torch.set_num_threads(threads_for(1))
    engine = choose_engine(build(config, data), config.train.precision, gpu=gpu)
    model = load_trained(workbench(config, data, engine.device), bundle.folder / MODEL)
    engine = engine.laid_out_for(model)
    model = engine.place(model)
    accuracy, loss = evaluate(model, DeviceSplit.of(data.test, engine.device), data, engine)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "table_accuracy": bundle.facts["accuracy"],
        "images": len(data.test),
    }


def _check_model(bundle: Bundle) -> None:
    """Refuse a model file with other bytes than were exported: pruned models' files carry no checksum themselves."""
    path = bundle.folder / MODEL
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    if found != bundle.facts["model_sha256"]:
        raise UserError(f"{path}: not the file that was exported, its checksum differs; export the model again")


def _onnx_file(model: nn.Module, shape: tuple[int, int, int]) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError("an ONNX file needs two more packages: pip install 'rps-search[onnx]'") from error
    batch = torch.export.Dim("batch", min=1)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / ONNX
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, *shape),),
            str(target),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["images"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
        return target.read_bytes()
