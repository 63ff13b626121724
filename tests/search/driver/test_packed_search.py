"""Searches whose trials share processes, as a user runs them: with a real Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from search.config import TrialConfig
from search.data import load_dataset
from search.results.folder import Folder
from search.results.store import ResultStore
from search.trial import Trial

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "search.cli.app", "launch"]
SPEC = """
name: packed
trials: 8
data: {name: "tests.search.cli.tiny:images"}
model: {args: {hidden: [16]}}
train: {epochs: 3, batch_size: 16, schedule: one_cycle, checkpoint_every_s: 0}
space: {methods: [rps, rand, mag], ratio: {low: 2, high: 20}, lr: {low: 0.05, high: 0.3}}
search: {pack: 3, sampler: random}
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def start(tmp_path):
    """Start a packed search in ``tmp_path / "run"``."""
    (tmp_path / "packed.yaml").write_text(SPEC)
    started = []

    def launch(*changes: str) -> subprocess.Popen:
        options = [part for change in changes for part in ("--set", change)]
        started.append(
            subprocess.Popen(
                [*COMMAND, str(tmp_path / "packed.yaml"), "--storage", str(tmp_path / "run"), *options],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def trials_in(folder: Path) -> list[dict]:
    return ResultStore(Folder(folder)).read("trials").to_pylist() if folder.exists() else []


def test_the_table_says_what_each_trial_would_have_been_alone(start, tmp_path):
    process = start()
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    rows = trials_in(tmp_path / "run")
    assert sorted(row["number"] for row in rows) == list(range(8))
    for row in rows:
        config = TrialConfig.model_validate_json(row["config_json"])
        trial = Trial(config, load_dataset(config.data), threads=1)
        while not trial.done:
            trial.step()
        alone = trial.finish().row
        assert row["status"] == "finished"
        assert row["stored_bytes"] == alone["stored_bytes"]
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert row["accuracy"] == pytest.approx(alone["accuracy"], abs=0.03)


def test_trials_go_on_when_the_process_of_their_pack_dies(start, tmp_path):
    process = start("train.epochs=60", "search.early_stopping={grace_epochs: 20}")
    began = time.monotonic()
    while len(trials_in(tmp_path / "run")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 120
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    hosts = [child for child in children if "_Host" in " ".join(child.cmdline())]
    assert hosts
    hosts[0].kill()
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    rows = trials_in(tmp_path / "run")
    assert sorted(row["number"] for row in rows) == list(range(8))
    assert {row["status"] for row in rows} <= {"finished", "pruned"}
    assert any(row["attempts"] > 1 for row in rows)
    assert not Folder(tmp_path / "run").list("checkpoints/running")
