"""One trial: build the data's model, compress it, train it, judge it. Knows nothing of Ray, Optuna or Parquet."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.config import TrialConfig, describe_config
from search.data.batches import DeviceSplit, eval_batches
from search.data.images import ImageData
from search.errors import DIVERGED, UserError
from search.methods import Workbench, compress
from search.models import build_model
from search.models.weights import load_weights_
from search.training import checkpoint, masked, measure
from search.training.earning import compile_if_it_pays
from search.training.engine import choose_engine, sharing_buffers
from search.training.recalibrate import recalibrate
from search.training.trainer import DivergedError, EpochReport, Trainer, under, within

SCORING_IMAGES_PER_CLASS = 10


@dataclass(frozen=True)
class TrialResult:
    """The end of a trial: its row of the trials table and its model's file."""

    row: dict[str, Any]
    model_file: bytes


class Trial:
    """Trains one configuration epoch by epoch; can be stopped after any epoch and go on in another process.

    Args:
        config: What to compress how.
        data: The images, shared between trials and never written to.
        threads: Processor threads to compute with.
        gpu: Whether to compute on the GPU.
        saved: A checkpoint to go on from; None starts from the beginning.
        beside: A trial on the same data and device, whose copy of the images there this one reads too.
        weights: Content of the file that ``config.model.weights`` names.

    Raises:
        UserError: If the model or the method refuse what the spec asks of them.
        ValueError: If the configuration names weights and there are none, or the other way round.
        CheckpointError: If ``saved`` is not a whole checkpoint.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: ImageData,
        *,
        threads: int,
        gpu: bool = False,
        saved: bytes | None = None,
        beside: Trial | None = None,
        weights: bytes | None = None,
    ) -> None:
        if (weights is None) != (config.model.weights is None):
            raise ValueError(f"a trial needs the weights that it names, and no others: {config.model.weights!r}")
        began = time.perf_counter()
        torch.set_num_threads(threads)
        self.config = config
        self._data = data
        self.engine = choose_engine(build(config, data), config.train.precision, gpu=gpu)
        measure.reset_peak_memory(self.engine.device)
        self._example = torch.zeros(1, *data.shape, device=self.engine.device)
        self.compressed = compress(workbench(config, data, self.engine.device, weights))
        self.engine = self.engine.laid_out_for(self.compressed.model)
        self.trainer: Trainer = Trainer(
            self.compressed.model,
            data,
            config.train,
            lr=config.lr,
            weight_decay=config.weight_decay,
            seed=config.seed,
            engine=self.engine,
            beside=beside.trainer if beside else None,
        )
        self.round = 0
        self._best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        self.history: list[EpochReport] = []
        self._facts: dict[str, Any] = {
            "started_at": datetime.now(UTC).isoformat(),
            "train_seconds": 0.0,
            "eval_seconds": 0.0,
            "setup_seconds": 0.0,
            "images": 0,
            "epochs_run": 0,
            "attempts": 1,
            "compiled": config.train.compile is True,
        }
        if saved is not None:
            self._restore(saved)
        if self._facts["compiled"]:
            self._facts["compiled"] = self.trainer.compile()
        self._facts["setup_seconds"] += time.perf_counter() - began

    @property
    def epochs_run(self) -> int:
        """Epochs trained so far, over all rounds."""
        return self._facts["epochs_run"]

    @property
    def done(self) -> bool:
        """Whether the last epoch of the last round is over."""
        return self._round_done and self.round + 1 >= self.compressed.rounds

    @property
    def _round_done(self) -> bool:
        return self.trainer.epoch >= self.config.train.epochs

    def step(self) -> EpochReport:
        """Train one epoch and return its report; its number counts over all rounds.

        Raises:
            DivergedError: If the loss is no longer finite.
        """
        self.begin_epoch()
        report = self.end_epoch(self.trainer.run_epoch())
        if self.config.train.compile == "auto" and self.epochs_run == 1:
            self._consider_compiling(report)
        return report

    def _consider_compiling(self, report: EpochReport) -> None:
        """Go on compiled if that pays. Decided once: a resumed trial does as it did before it was interrupted."""
        began = time.perf_counter()
        epochs_left = self.compressed.rounds * self.config.train.epochs - 1
        self._facts["compiled"] = compile_if_it_pays(self.trainer, report.train_seconds * epochs_left)
        self._facts["setup_seconds"] += time.perf_counter() - began

    def begin_epoch(self) -> None:
        """Make ready for an epoch: where a round is over, go on to the next."""
        if self._round_done:
            self.round += 1
            self._best = None
            self.trainer.begin_round(self.round, self.compressed.next_round())

    def end_epoch(self, report: EpochReport) -> EpochReport:
        """Take note of what the trainer did; return its report with the number of the epoch over all rounds."""
        self._facts["epochs_run"] += 1
        if self.round == 0:
            self.compressed.after_epoch(report.epoch)
        self._facts["train_seconds"] += report.train_seconds
        self._facts["eval_seconds"] += report.eval_seconds
        self._facts["images"] += report.images
        if self.config.train.epoch_choice == "best_val" and (self._best is None or report.accuracy_val > self._best[0]):
            self._best = (report.accuracy_val, self.epochs_run, measure.snapshot(self.compressed.model))
        report = replace(report, epoch=self.epochs_run)
        self.history.append(report)
        return report

    def finish(self) -> TrialResult:
        """Judge the model on the test images, once, and return the trial's row and file.

        Raises:
            DivergedError: If its loss there is not finite.
        """
        began = time.perf_counter()
        if self._best is not None:
            self.compressed.model.load_state_dict(self._best[2])
        accuracy_val = self._final_accuracy_val(rounded=self.compressed.settle())
        test = DeviceSplit.of(self._data.test, self.engine.device)
        accuracy, loss = self.trainer.evaluate(test)
        if not math.isfinite(loss):
            raise DivergedError(f"{DIVERGED} {loss} on the test images at lr {self.config.lr:.4g}")
        flops, latency_ms = measure.flops_and_latency(self.compressed.model, self._example)
        self._facts["eval_seconds"] += time.perf_counter() - began
        row = self.partial_row() | {
            "status": "finished",
            "accuracy": accuracy,
            "accuracy_val": accuracy_val,
            "loss": loss,
            "flops": flops,
            "latency_ms": latency_ms,
            "finished_at": datetime.now(UTC),
        }
        return TrialResult(row, self._model_file())

    def _final_accuracy_val(self, *, rounded: bool) -> float:
        """Return the validation accuracy of the weights that the trial is judged by, with their final statistics."""
        if self.config.train.recalibrate:
            recalibrate(self.trainer)
        elif not rounded and self._best is not None:
            return self._best[0]
        elif not rounded and self.history:
            return self.history[-1].accuracy_val
        return self.trainer.evaluate(self.trainer.val)[0]

    def partial_row(self) -> dict[str, Any]:
        """Return the row of the trial as it stands, without what only :meth:`finish` finds out."""
        facts = self._facts
        return describe_config(self.config) | {
            "host": socket.gethostname(),
            "device": self.engine.describe() + (" compiled" if self._facts["compiled"] else ""),
            "epochs_run": self.epochs_run,
            "accuracy_val": self.history[-1].accuracy_val if self.history else None,
            "virtual_size": self.compressed.virtual_size,
            "stored_parameters": self.compressed.stored_parameters,
            "stored_bytes": self.compressed.stored_bytes,
            "setup_seconds": facts["setup_seconds"],
            "train_seconds": facts["train_seconds"],
            "eval_seconds": facts["eval_seconds"],
            "images_per_second": facts["images"] / max(facts["train_seconds"], 1e-9) if facts["images"] else None,
            "peak_memory_bytes": measure.peak_memory_bytes(self.engine.device),
            "attempts": facts["attempts"],
            "started_at": datetime.fromisoformat(facts["started_at"]),
        }

    def checkpoint(self) -> bytes:
        """Return all that is needed to go on, in this or another process."""
        tensors = self.trainer.tensors()
        tensors |= under("method.", self.compressed.tensors())
        facts = {
            "trial_id": self.config.trial_id,
            "round": self.round,
            "epoch": self.trainer.epoch,
            "history": [vars(report) for report in self.history],
            **self._facts,
        }
        if self._best is not None:
            facts["best"] = self._best[:2]
            tensors |= under("best.", masked.pack(self._best[2], masked.masks_in(self._best[2])))
        return checkpoint.to_bytes(tensors, facts)

    def _restore(self, saved: bytes) -> None:
        tensors, facts = checkpoint.from_bytes(saved)
        if facts["trial_id"] != self.config.trial_id:
            raise checkpoint.CheckpointError(f"checkpoint of trial {facts['trial_id']}, not {self.config.trial_id}")
        self.compressed.restore(within("method.", tensors))
        self.round = facts["round"]
        self.trainer.restore(tensors, self.round, facts["epoch"])
        self._facts |= {name: facts.get(name, default) for name, default in self._facts.items()}
        self._facts["compiled"] = bool(self._facts["compiled"]) and self.config.train.compile is not False
        self._facts["attempts"] += 1
        self.history = [EpochReport(**report) for report in facts["history"]]
        if "best" in facts:
            accuracy_val, epoch = facts["best"]
            best = masked.unpack(within("best.", tensors), self.compressed.model.state_dict())
            self._best = (accuracy_val, epoch, best)

    def _model_file(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            self.compressed.save(path)
            return path.read_bytes()


def build(config: TrialConfig, data: ImageData, width: float = 1.0, *, check_output: bool = True) -> torch.nn.Module:
    """Return the model of a trial, uncompressed and untrained, on the CPU. See :func:`build_model`."""
    return build_model(
        config.model,
        data_shape=data.shape,
        classes=data.classes,
        width=width,
        seed=config.seed,
        check_output=check_output,
    )


def workbench(config: TrialConfig, data: ImageData, device: torch.device, weights: bytes | None = None) -> Workbench:
    """Return what a compression method may use in this trial.

    Args:
        config: The trial.
        data: The images.
        device: Where to compute.
        weights: Content of the file of trained weights that models start from; None makes fresh ones, as is right
            where a trial's own model is then loaded into them.
    """
    return Workbench(
        config,
        build=lambda width: _moved(_started(config, data, width, weights), device),
        sketch=lambda width: build(config, data, width, check_output=False),
        scoring_batches=lambda: _scoring_batches(config, data, device),
        example_input=torch.zeros(1, *data.shape, device=device),
    )


def _moved(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    with sharing_buffers(model):
        return model.to(device)


def _started(config: TrialConfig, data: ImageData, width: float, weights: bytes | None) -> torch.nn.Module:
    """Return the model with the weights that the trial starts from: trained ones, if there are any."""
    if weights is None:
        return build(config, data, width)
    if width != 1:
        raise UserError(f"method {config.method!r} builds a narrower model, which model.weights do not fit")
    return load_weights_(build(config, data), weights, where=str(config.model.weights))


def _scoring_batches(
    config: TrialConfig, data: ImageData, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return one class-balanced batch of training images, drawn by the trial's seed (10 a class)."""
    labels = data.train.labels
    order = np.random.default_rng(config.seed).permutation(len(labels))
    chosen = np.concatenate(
        [order[labels[order] == number][:SCORING_IMAGES_PER_CLASS] for number in range(data.classes)]
    )
    split = DeviceSplit.of(data.train.take(chosen), device)
    return list(eval_batches(split, batch_size=len(split), mean=data.mean, std=data.std))


def threads_for(cpus: float) -> int:
    """Return the torch threads of a trial that was given this many CPUs."""
    return max(1, min(int(cpus), os.cpu_count() or 1))
