import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.config import describe_config
from search.driver.exchange import RunSettings, to_json
from search.driver.keeper import ModelKeeper
from search.driver.ledger import Ledger
from search.driver.progress import Progress
from search.driver.recorder import Recorder
from search.driver.searcher import LedgerSearcher
from search.proposing import Proposer
from search.results.folder import Folder
from search.results.store import ResultStore
from search.space import Space
from search.spec import Spec

SHAPES = {"fc1": (16, 36), "fc2": (3, 16)}


@pytest.fixture
def settings(tmp_path):
    """Settings of trials that write a checkpoint after each epoch and report each by itself."""
    return RunSettings(
        Folder(tmp_path), 1, 0, "stored_bytes", checkpoint_every_s=0, time_limit_s=None, report_every_s=0.0
    )


@pytest.fixture
def make_spec():
    """Make the spec of a small search over two methods."""

    def make(**changes) -> Spec:
        fields = {
            "name": "test",
            "trials": 6,
            "space": {"methods": ["rps", "rand"], "ratio": {"low": 2, "high": 20}, "budgets": "layers"},
            "search": {"sampler": "random", "startup_trials": 2},
            "train": {"epochs": 2, "batch_size": 16},
            "model": {"args": {"hidden": [16]}},
        }
        return Spec.model_validate({**fields, **changes})

    return make


@pytest.fixture
def make_proposer():
    def make(spec: Spec) -> Proposer:
        return Proposer(Space(spec.space, SHAPES), sampler=spec.search.sampler, seed=spec.seed)

    return make


@pytest.fixture
def end_of():
    """Make the row with which a run ends."""
    clock = iter(range(10_000))

    def end(run, *, status="finished", accuracy=0.5, stored_bytes=1000, error=None):
        good = status != "failed"
        return {
            **describe_config(run.config),
            "experiment": "test",
            "number": run.number,
            "repeat": run.repeat,
            "params_json": json.dumps(dict(run.params)),
            "status": status,
            "accuracy": accuracy if good else None,
            "accuracy_val": accuracy if good else None,
            "stored_bytes": stored_bytes if good else None,
            "stored_parameters": stored_bytes // 4 if good else None,
            "latency_ms": 1.0,
            "epochs_run": 2,
            "finished_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(clock)),
            "error": error,
        }

    return end


@pytest.fixture
def world(tmp_path, make_spec, make_proposer):
    """A recorder with all that it speaks to, and no Ray."""
    spec = make_spec(trials=4)
    folder = Folder(str(tmp_path))
    store = ResultStore(folder)
    ledger = Ledger(spec, make_proposer(spec))
    searcher = LedgerSearcher(ledger, 2)
    progress = Progress("test", spec.trials, "stored_bytes", 2)
    lost = []
    recorder = Recorder(
        "test",
        store,
        ledger,
        searcher,
        ModelKeeper(folder, "stored_bytes"),
        progress,
        known_epochs={},
        watch=lambda progress: None,
        lost_by=lambda: lost[0] if lost else None,
    )
    return SimpleNamespace(
        lost=lost, recorder=recorder, store=store, ledger=ledger, searcher=searcher, progress=progress, folder=folder
    )


def start(world, name, *, died=3, retries=2):
    """Begin a trial of which Tune will say that its process has died so often, of the times that it may."""
    assert world.searcher.suggest(name)["trial"]
    errors = Path(world.folder.uri) / "error.txt"
    errors.write_text("Failure # 1 (occurred at noon)\nit was cut off\nFailure # 2 (at one)\nthe node\nvanished\n")
    trial = SimpleNamespace(trial_id=name, num_failures=died, max_failures=retries, error_file=str(errors))
    world.recorder.on_trial_start(0, [], trial)
    return trial


def report(world, trial, epochs, row=None):
    result = {"epoch_rows": [to_json({"epoch": e, "loss": 1.0, "accuracy_val": 0.5}) for e in epochs]}
    result["partial_row"] = to_json(
        {"trial_id": "x", "accuracy_val": 0.5, "stored_bytes": 10, "epochs_run": epochs[-1]}
    )
    if row is not None:
        result["trial_row"] = to_json(row)
    world.recorder.on_trial_result(0, [], trial, result)


def wait_for(world, condition):
    """Let the driver go round until a condition holds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        world.recorder.on_step_end(0, [])
        time.sleep(0.01)
