import gc
import os
import subprocess
import sys

import numpy as np
import pytest

import search
from search.api import _plain
from search.errors import UserError

SPEC = {
    "name": "api",
    "trials": 6,
    "data": {"name": "tests.search.cli.tiny:images"},
    "model": {"args": {"hidden": [8]}},
    "train": {"epochs": 1, "batch_size": 16},
    "space": {"methods": ["rand"], "ratio": {"low": 2, "high": 8}, "lr": 0.1},
}


@pytest.fixture
def trials_alive(monkeypatch):
    """How many trials Tune holds in memory, each time that one has ended."""
    from ray.tune.experiment import Trial

    from search.driver.recorder import Recorder

    def count(self, *arguments, **named):
        end(self, *arguments, **named)
        gc.collect()
        alive.append(sum(type(thing) is Trial for thing in gc.get_objects()))

    alive: list[int] = []
    end = Recorder._end
    monkeypatch.setattr(Recorder, "_end", count)
    return alive


@pytest.mark.ray
def test_a_search_from_python_uses_the_ray_that_runs_and_leaves_it(tmp_path, trials_alive):
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        results = search.launch(SPEC, storage=tmp_path / "run", overrides=["train.epochs=2"])
        assert results.trials["error"].to_pylist() == [None] * 6
        assert search.load(tmp_path / "run").epochs.num_rows == 12
        assert search.resume(tmp_path / "run").trials.num_rows == 6
        assert ray.is_initialized()
        assert len(trials_alive) == 6
        assert max(trials_alive) <= 3, "one that runs, one that waits, one that has just ended"
    finally:
        ray.shutdown()


def test_wrong_input_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"train\.epoch: unknown field"):
        search.launch({"train": {"epoch": 3}}, storage=tmp_path / "run")
    with pytest.raises(UserError, match="no experiment"):
        search.resume(tmp_path / "run")
    with pytest.raises(UserError, match="did you mean 'local'"):
        search.launch(SPEC, storage=tmp_path / "run", cluster="lokal")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: search.launch(None), "a spec is a mapping of fields, but this is a NoneType"),
        (lambda: search.launch(["quickstart"]), "a spec is a mapping of fields, but this is a list"),
        (lambda: search.launch({"trials": object()}), "trials: input should be a valid integer"),
        (
            lambda: search.launch({"data": {"name": "parquet", "path": os.fsdecode(b"/x/\xff")}}),
            r"data\.path: must be valid UTF-8, but got '/x/\\udcff'; rename",
        ),
        (
            lambda: search.launch({"search": {"warm_start": [os.fsdecode(b"\xff")]}}),
            r"search\.warm_start: must be valid UTF-8",
        ),
        (lambda: search.launch(SPEC, storage=__file__), "is a file; name an experiment folder"),
        (lambda: search.launch(SPEC, storage=4), "storage must be the path or URI of an experiment folder, but got 4"),
        (lambda: search.launch(SPEC, overrides="trials=4"), "overrides must be a list of texts"),
        (lambda: search.launch(SPEC, overrides=[4]), "write it as text"),
        (lambda: search.launch(SPEC, cluster=5), "cluster must be the name or path of a profile"),
        (lambda: search.load(["a"]), "storage must be the path or URI"),
        (lambda: search.resume(None), "storage must be the path or URI"),
    ],
)
def test_input_of_another_type_is_a_user_error_too(call, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(search.UserError, match=sentence):
        call()


def test_paths_and_numbers_of_other_libraries_may_stand_in_a_mapping(tmp_path):
    fields = {"trials": np.int64(4), "space": {"lr": np.float32(0.5)}, "data": {"name": "folder", "path": tmp_path}}
    assert _plain(fields) == {"trials": 4, "space": {"lr": 0.5}, "data": {"name": "folder", "path": str(tmp_path)}}
    assert type(_plain(np.int64(4))) is int


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, search; sys.exit(bool({'torch', 'ray', 'optuna', 'pyarrow'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
