"""A finished experiment on the digits, made without Ray: one trial of each kind of file, and trials without models."""

import shutil
import sys

import pytest
import yaml

from search.config import TrialConfig, describe_config
from search.data import load_dataset
from search.driver.exchange import model_path
from search.results import Folder, ResultStore
from search.results.load import SPEC_PATH
from search.spec import DataSpec, ModelSpec, Spec, TrainSpec
from search.trial import Trial

METHODS = ("dense", "small", "channels", "rps", "rand")
DATA = DataSpec(name="digits", train_limit=120)
MODEL = ModelSpec(args={"hidden": [16]})
TRAIN = TrainSpec(epochs=2, batch_size=16, schedule="constant")


def config_of(method, *, seed=3, **changes):
    fields = {"data": DATA, "model": MODEL, "train": TRAIN, **changes}
    ratio = 1.0 if method == "dense" else 4.0
    return TrialConfig(method=method, ratio=ratio, lr=0.05, weight_decay=1e-4, seed=seed, **fields)


def trained(config, data):
    trial = Trial(config, data, threads=1)
    while not trial.done:
        trial.step()
    return trial.finish()


@pytest.fixture(scope="session")
def digits():
    return load_dataset(DATA)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, digits):
    """The experiment; tests take a copy of it, ``runs``."""
    folder = Folder(tmp_path_factory.mktemp("whole") / "runs")
    spec = Spec(name="runs", data=DATA, model=MODEL, train=TRAIN)
    folder.write_whole(SPEC_PATH, yaml.safe_dump(spec.model_dump(mode="json")).encode())
    rows = []
    for method in METHODS:
        result = trained(config_of(method), digits)
        folder.write_whole(model_path(result.row["trial_id"]), result.model_file)
        rows.append(result.row)
    # Its model was not kept: nothing lies under its name.
    rows.append(rows[0] | describe_config(config_of("dense", seed=4)))
    # Of seventeen ids two begin with the same of sixteen digits.
    rows += [
        describe_config(config_of("rps", seed=seed)) | {"status": "failed", "error": "boom"} for seed in range(10, 27)
    ]
    ResultStore(folder).append("trials", [row | {"experiment": "runs"} for row in rows])
    return folder


@pytest.fixture
def runs(whole, tmp_path):
    return shutil.copytree(whole.uri, tmp_path / "runs")


@pytest.fixture
def call(monkeypatch, capfd):
    """Run a command as it is typed, and return its exit code, output and errors."""
    from search.cli.app import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rps-search", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def refused(call):
    """Run a command that must be refused in one line, and return that line."""

    def run(*words):
        code, out, err = call(*words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (code, out, err)
        return err

    return run
