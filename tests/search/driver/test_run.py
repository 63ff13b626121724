"""What a run of the driver leaves behind and tells, without a cluster and without training."""

import contextlib

import pytest

from clusters.profile import parse_profile
from search.driver import run, tuning
from search.driver.experiment import create_or_open, open_experiment
from search.driver.prepare import Prepared
from search.errors import UserError
from search.proposing import grid
from search.results.folder import Folder
from search.space import Space
from tests.search.driver.conftest import SHAPES

META = {"reference": {"accuracy": 0.1, "memory": 1}}


@pytest.fixture
def run_spec(tmp_path, monkeypatch):
    """Run a search in a folder, its trials replaced by what ``work`` does with the ledger."""
    monkeypatch.setattr(run, "session", lambda profile, verbose: contextlib.nullcontext())
    monkeypatch.setattr(run, "ask", lambda spec: None)
    monkeypatch.setattr(run, "prepare", lambda spec, question: Prepared(None, Space(spec.space, SHAPES), META))

    def run_it(spec, work=lambda ledger: None):
        def run_trials(experiment, data, ledger, *others, **settings):
            work(ledger)

        monkeypatch.setattr(tuning, "run_trials", run_trials)
        experiment, _ = create_or_open(Folder(tmp_path / "run"), spec)
        return run.run_search(experiment, parse_profile({"kind": "local", "cpus": 1}))

    return run_it


def too_large_a_grid(make_spec, tmp_path):
    space = {"methods": ["rps"], "ratio": {"low": 2, "high": 20}, "lr": {"low": 0.1, "high": 1}, "budgets": "global"}
    return make_spec(space=space, search={"sampler": "grid"}), make_spec(space=space, search={"sampler": "qmc"})


def nothing_to_start_from(make_spec, tmp_path):
    search = {"sampler": "random"}
    return make_spec(search={**search, "warm_start": [str(tmp_path / "none")]}), make_spec(search=search)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (too_large_a_grid, "a grid of more than 24 points"),
        (nothing_to_start_from, r"search\.warm_start: .*none: no experiment is here"),
    ],
)
def test_a_spec_that_cannot_start_leaves_nothing_in_the_way_of_the_corrected_one(
    mistake, sentence, make_spec, tmp_path, run_spec, monkeypatch
):
    monkeypatch.setattr(grid, "MOST_POINTS", 24)
    wrong, right = mistake(make_spec, tmp_path)
    with pytest.raises(UserError, match=sentence):
        run_spec(wrong)
    assert Folder(tmp_path / "run").list(recursive=True) == []
    run_spec(right)
    assert open_experiment(Folder(tmp_path / "run")).spec.search == right.search
