"""Trials that share a process and a device train one epoch together: fused where that is faster, else in turns."""

from __future__ import annotations

import contextlib
import functools
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from search.training.engine import out_of_memory
from search.training.fusion import Fusion, Program
from search.training.plain import structure
from search.training.trainer import EpochReport, Trainer
from search.training.undo import Undo

logger = logging.getLogger(__name__)

# Rounds of timing, after one that warms up.
TIMED_ROUNDS = 3

Outcome = EpochReport | Exception


class Pack:
    """Trains any trainers of one data set, device and recipe, an epoch at a time.

    Those whose models have one structure are fused, if that proves faster here than training them in turns: for each
    structure and number of models both are timed on real batches, and nothing of that is kept. What cannot be fused
    (dropout, which must not depend on who else is in the pack, or an operator that `torch.func.vmap` does not know)
    trains in turns too, and then bit for bit as it would alone. Fused, it is equal up to the rounding of sums.

    If memory runs out, the pack goes back to where the epoch began, and trains at most half as many at once.

    Args:
        width: Most models that are fused.
        fuse: Whether to fuse; None times both.
    """

    def __init__(self, width: int, *, fuse: bool | None = None) -> None:
        self.width = width
        self._fuse = fuse
        self._structures: WeakKeyDictionary[Trainer, str] = WeakKeyDictionary()
        self._programs: dict[str, Program] = {}
        self._fusions: list[Fusion] = []
        self._faster: dict[tuple[str, int], bool] = {}

    def run_epochs(self, trainers: Sequence[Trainer]) -> list[Outcome]:
        """Train one epoch of each and return what came of each: its report, or the reason why it ends.

        Args:
            trainers: Any number; a trainer may come and go from one call to the next.
        """
        self._fusions = [fusion for fusion in self._fusions if set(fusion.trainers) <= set(trainers)]
        outcomes: dict[Trainer, Outcome] = {}
        kinds = self._by_structure(trainers)
        self._programs = {kind: program for kind, program in self._programs.items() if kind in kinds}
        for kind, waiting in kinds.items():
            while waiting:
                chunk = waiting[: self.width]
                try:
                    results = self._run(kind, chunk)
                except Exception as error:
                    self._give_way(error, kind, len(chunk))
                    continue
                outcomes |= zip(chunk, results, strict=True)
                waiting = waiting[len(chunk) :]
        return [outcomes[trainer] for trainer in trainers]

    def _by_structure(self, trainers: Sequence[Trainer]) -> dict[str, list[Trainer]]:
        kinds: dict[str, list[Trainer]] = {}
        for trainer in trainers:
            if trainer not in self._structures:
                self._structures[trainer] = structure(trainer.model)
            kinds.setdefault(self._structures[trainer], []).append(trainer)
        return kinds

    def _run(self, kind: str, chunk: list[Trainer]) -> list[Outcome]:
        """Train one epoch of models of one structure. What is raised concerns the fusion, not one of them."""
        if len(chunk) == 1 or not self._is_faster(kind, chunk):
            return [_attempt(trainer.run_epoch) for trainer in chunk]
        fusion = self._fused(kind, chunk)
        began = time.perf_counter()
        before = Undo(chunk)
        try:
            ends = fusion.train_epoch()
        except Exception:
            before.put_back()
            raise
        # Its share of the time: the shares of all trials add up to the time of the machine.
        seconds = (time.perf_counter() - began) / len(chunk)
        return [
            _attempt(functools.partial(trainer.end_epoch, loss, lr, seconds))
            for trainer, (loss, lr) in zip(chunk, ends, strict=True)
        ]

    def _give_way(self, error: Exception, kind: str, size: int) -> None:
        """Train fewer at once where memory ran out, and in turns where fusing does not work."""
        if out_of_memory(error):
            self.width = max(1, size // 2)
            self._fusions.clear()
            error.with_traceback(None)  # Its frames hold what filled the memory.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory with %d trials as one program: at most %d from here on", size, self.width)
        elif self._fuse is None:
            self._faster[kind, size] = False
            logger.info("%d trials cannot train as one program, so they take turns: %s", size, _line(error))
        else:
            raise error

    def _fused(self, kind: str, chunk: list[Trainer]) -> Fusion:
        for fusion in self._fusions:
            if fusion.trainers == chunk:
                return fusion
        if kind not in self._programs:
            self._programs[kind] = Program(chunk[0].model, compiled=chunk[0].train.compile is True)
        self._fusions.append(Fusion(chunk, self._programs[kind]))
        return self._fusions[-1]

    def _is_faster(self, kind: str, chunk: list[Trainer]) -> bool:
        if self._fuse is not None:
            return self._fuse
        engine = chunk[0].engine
        if engine.device.type == "cpu" and engine.autocast is not torch.float32:
            # What vmap makes of convolutions and attention is not autocast on processors: other numbers, and slower.
            return False
        place = (kind, len(chunk))
        if place not in self._faster:
            before = Undo(chunk)
            try:
                self._faster[place] = _time(self._fused(kind, chunk), chunk)
            finally:
                before.put_back()
        return self._faster[place]


def _time(fusion: Fusion, chunk: Sequence[Trainer]) -> bool:
    """Return whether forward and backward of a batch of each trainer are faster fused; both ways take turns."""
    inputs, labels = next(iter(fusion.batches()))
    layout = chunk[0].engine.memory_format
    alone = [(images.contiguous(memory_format=layout), labels[n]) for n, images in enumerate(inputs)]

    def in_turns() -> None:
        for trainer, batch in zip(chunk, alone, strict=True):
            trainer.model.train()
            trainer.backward(*batch)

    ways: dict[str, Callable[[], object]] = {"fused": lambda: fusion.backward(inputs, labels), "turns": in_turns}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(TIMED_ROUNDS + 1):
        for name, way in ways.items():
            with contextlib.ExitStack() as reading:
                for trainer in chunk if name == "turns" else ():
                    reading.enter_context(trainer.reading())
                took = _seconds(way, inputs)
            if number:
                seconds[name].append(took)
    ratio = statistics.median(seconds["turns"]) / statistics.median(seconds["fused"])
    logger.info(
        "%d trials as one program train %.2f times as fast as in turns: %s",
        len(chunk),
        ratio,
        "fused" if ratio > 1 else "they take turns",
    )
    return ratio > 1


def _attempt(action: Callable[[], EpochReport]) -> Outcome:
    """Return what comes of an epoch; the failure of one trial is not that of the others."""
    try:
        return action()
    except Exception as error:
        return error


def _seconds(action: Callable[[], object], on: Tensor) -> float:
    if on.is_cuda:
        torch.cuda.synchronize(on.device)
    began = time.perf_counter()
    action()
    if on.is_cuda:
        torch.cuda.synchronize(on.device)
    return time.perf_counter() - began


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
