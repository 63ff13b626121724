import json
from datetime import UTC, datetime, timedelta

import pytest

from search.config import describe_config
from search.driver.exchange import RunSettings
from search.proposing import Proposer
from search.results.folder import Folder
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
