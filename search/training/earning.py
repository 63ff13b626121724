"""Whether torch.compile earns a trial the time that it takes: tried once on a machine, remembered for its user.

What is compiled is kept by inductor's cache, which all processes of a user share. What was measured is kept in
``$XDG_CACHE_HOME/rps-search/compile``, a file for each kind of trial: structure, batch, precision and processor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from rps_core.sharing import find_sharing
from search.training.plain import is_compressed, structure
from search.training.trainer import Trainer
from search.training.undo import Undo

logger = logging.getLogger(__name__)

# Pairs of steps that are timed, after one that warms up.
TIMED_STEPS = 5
# Time that compiled steps must save at least: two measurements of one program differ by as much.
LEAST_SAVED = 0.05


@dataclass(frozen=True)
class Verdict:
    """What trying has shown.

    Attributes:
        eager_s: Seconds of a step, not compiled.
        compiled_s: Seconds of a compiled step.
        compile_s: Seconds that compiling took.
    """

    eager_s: float
    compiled_s: float
    compile_s: float

    def pays(self, left_s: float) -> bool:
        """Return whether compiling takes less time than it saves of ``left_s`` seconds of eager training."""
        saved = 1 - self.compiled_s / self.eager_s
        return saved >= LEAST_SAVED and left_s * saved > self.compile_s


# Trying costs what compiling costs. Where nothing is known yet, it is tried if these would make it pay. On two cores
# `benchmarks/training.py --cases compile` found no gain at all for ResNet-20: only very long trials may find out anew.
EXPECTED = {"cpu": Verdict(1.0, 0.95, 60.0), "cuda": Verdict(1.0, 0.67, 60.0)}


def compile_if_it_pays(trainer: Trainer, left_s: float) -> bool:
    """Compile a trainer's model if that makes the rest of its training end sooner; return whether it is compiled.

    Args:
        trainer: The trainer; if what is known does not answer the question, it tries, and is as it was afterwards.
        left_s: How long the rest takes if nothing is compiled, in seconds.
    """
    file = verdict_file(trainer)
    verdict = _read(file)
    if verdict is None:
        if not EXPECTED[trainer.engine.device.type].pays(left_s):
            return False
        verdict = try_out(trainer)
        _write(file, verdict)
        logger.info("compiling took %.1f s; a step takes %.2f of its time since", verdict.compile_s, _share(verdict))
    return verdict.pays(left_s) and trainer.compile()


def try_out(trainer: Trainer) -> Verdict:
    """Compile, and time steps of both ways in turns on a batch of the trainer, which is then as it was, and eager."""
    batch = trainer.example_batch()
    before = Undo([trainer])
    began = time.perf_counter()
    try:
        if not trainer.compile():
            return Verdict(1.0, 1.0, time.perf_counter() - began)
        compile_s = time.perf_counter() - began
        compiled = trainer.compiled
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(TIMED_STEPS + 1):
            for way in seconds:
                trainer.compiled = compiled if way else None
                took = _step_s(trainer, batch)
                if number:
                    seconds[way].append(took)
        return Verdict(statistics.median(seconds[False]), statistics.median(seconds[True]), compile_s)
    finally:
        trainer.compiled = None
        before.put_back()


def _step_s(trainer: Trainer, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    with trainer.reading():
        trainer.engine.synchronize()
        began = time.perf_counter()
        trainer.rehearse(*batch)
        trainer.engine.synchronize()
        return time.perf_counter() - began


def _share(verdict: Verdict) -> float:
    return verdict.compiled_s / verdict.eager_s


def verdict_file(trainer: Trainer) -> Path:
    """Return where the verdict on trials like this one is kept."""
    engine, model = trainer.engine, trainer.model
    kind = "shared" if find_sharing(model) else "masked" if is_compressed(model) else "plain"
    facts = [
        structure(model),
        kind,
        trainer.train.batch_size,
        trainer.split.images.shape[1:],
        engine.describe(),
        str(engine.memory_format),
        "" if engine.device.type == "cuda" else f"{_processor()} {torch.get_num_threads()}",
        torch.__version__,
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    return _folder() / f"{key}.json"


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rps-search" / "compile"


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return torch.backends.cpu.get_cpu_capability()


def _read(file: Path) -> Verdict | None:
    try:
        return Verdict(**{name: float(value) for name, value in json.loads(file.read_text()).items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _write(file: Path, verdict: Verdict) -> None:
    """Keep a verdict, whole or not at all; without a place for it, each process finds out anew."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
            part.write(json.dumps(asdict(verdict)))
        os.replace(part.name, file)
