"""What a run of the driver leaves behind and tells, without a cluster and without training."""

import contextlib
import functools
import signal
from types import SimpleNamespace

import pytest

from clusters.profile import parse_profile
from search.config import TrialConfig
from search.driver import lease, tuning
from search.driver import run as run_module
from search.driver.experiment import Experiment, create_or_open, open_experiment
from search.driver.ledger import Ledger
from search.driver.prepare import Prepared
from search.driver.run import _ledger
from search.errors import UserError
from search.proposing import grid
from search.results.folder import Folder
from search.results.store import ResultStore
from search.space import Space
from tests.search.driver.conftest import SHAPES

META = {"reference": {"accuracy": 0.1, "memory": 1}}


@pytest.fixture
def run_spec(tmp_path, monkeypatch):
    """Run a search in a folder, its trials replaced by what ``work`` does with the ledger."""
    monkeypatch.setattr(run_module, "session", lambda profile, verbose: contextlib.nullcontext())
    monkeypatch.setattr(run_module, "ask", lambda spec: None)
    monkeypatch.setattr(run_module, "prepare", lambda spec, question: Prepared(None, Space(spec.space, SHAPES), META))

    def run_it(spec, work=lambda ledger: None, rows=(), journal=()):
        def run_trials(experiment, data, ledger, *others, **settings):
            work(ledger)

        monkeypatch.setattr(tuning, "run_trials", run_trials)
        experiment, _ = create_or_open(Folder(tmp_path / "run"), spec)
        if rows:
            ResultStore(experiment.folder).append("trials", rows)
        if journal:
            ResultStore(experiment.folder).append("proposals", journal)
        return run_module.run_search(experiment, parse_profile({"kind": "local", "cpus": 1}))

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


@pytest.fixture
def small(make_spec):
    """A search that asks for more trials than its space has: four."""
    space = {"methods": ["rand"], "ratio": {"choices": [2, 4]}, "lr": {"choices": [0.1, 0.2]}, "budgets": "global"}
    return make_spec(trials=20, space=space, failures={"stop_after": 2})


def all_runs(ledger):
    runs = [ledger.next() for _ in range(4)]
    ledger.look_ahead()
    assert ledger.exhausted
    return runs


def test_a_search_that_has_used_up_its_space_is_over(small, run_spec, end_of):
    def work(ledger):
        for run in all_runs(ledger):
            ledger.record(run, end_of(run))

    outcome = run_spec(small, work)
    assert (outcome.interrupted, outcome.exhausted) == (False, True)
    assert "4 configurations of the space were proposed" in outcome.stop_reason


@pytest.mark.parametrize("put_back", [False, True])
def test_an_interruption_after_the_last_proposal_is_told_as_one(put_back, small, run_spec, end_of):
    def work(ledger):
        *ended, last = all_runs(ledger)
        for run in ended:
            ledger.record(run, end_of(run))
        if put_back:
            ledger.put_back(last)

    outcome = run_spec(small, work)
    assert (outcome.interrupted, outcome.exhausted, outcome.stop_reason) == (True, False, None)


def test_what_stops_a_search_stops_it_after_the_last_proposal_as_well(small, run_spec, end_of):
    def work(ledger):
        runs = all_runs(ledger)
        for run in runs[:2]:
            ledger.record(run, end_of(run, status="failed", error="no"))
        ledger.put_back(runs[2])
        assert ledger.next() is None

    outcome = run_spec(small, work)
    assert (outcome.interrupted, outcome.exhausted) == (False, False)
    assert outcome.stop_reason == "2 trials in a row failed: no"


def test_a_search_that_is_over_finds_its_facts_again_and_trains_nothing(make_spec, make_proposer, run_spec, end_of):
    spec = make_spec(trials=1)
    row = end_of(Ledger(spec, make_proposer(spec)).next())
    handed_out = []
    for _ in range(2):
        outcome = run_spec(spec, lambda ledger: handed_out.append(ledger.next()), rows=[row])
        assert outcome.progress.ended == 1
    assert handed_out == [None], "the second time all is known"


def test_a_search_is_not_over_while_a_further_repeat_waits_and_that_one_counts(
    make_spec, make_proposer, run_spec, end_of, tmp_path
):
    spec = make_spec(trials=1)
    create_or_open(Folder(tmp_path / "run"), spec)[0].save()
    open_experiment(Folder(tmp_path / "run")).write_meta(META)
    ledger = Ledger(spec, make_proposer(spec))
    run = ledger.next()
    row, journal = end_of(run), [run.journal_row("test")]
    ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=[row])
    ledger.repeat([0], 2)
    journal.append(ledger.new_runs[0].journal_row("test"))
    handed_out = []
    outcome = run_spec(spec, lambda ledger: handed_out.append(ledger.next()), rows=[row], journal=journal)
    assert [run.repeat for run in handed_out] == [1]
    assert (outcome.progress.ended, outcome.progress.total, outcome.interrupted) == (1, 2, True)


def test_a_search_whose_every_proposal_has_ended_is_over_without_a_cluster(
    make_spec, make_proposer, run_spec, end_of, tmp_path, monkeypatch
):
    spec = make_spec(trials=1)
    run = Ledger(spec, make_proposer(spec)).next()
    create_or_open(Folder(tmp_path / "run"), spec)[0].save()
    open_experiment(Folder(tmp_path / "run")).write_meta(META)
    monkeypatch.setattr(run_module, "session", lambda profile, verbose: pytest.fail("nothing is left to run"))
    outcome = run_spec(spec, rows=[end_of(run)], journal=[run.journal_row("test")])
    assert (outcome.progress.ended, outcome.interrupted) == (1, False)


def test_a_function_that_cannot_be_found_is_told_before_a_cluster_is_asked_for(make_spec, run_spec, monkeypatch):
    space = {"methods": ["rps"], "ratio": {"low": 2, "high": 20}, "extension": "no_such_module:extend"}
    monkeypatch.setattr(run_module, "session", lambda profile, verbose: pytest.fail("too late"))
    with pytest.raises(UserError, match="no_such_module"):
        run_spec(make_spec(space=space))


@pytest.mark.parametrize("table", ["trials", "proposals"])
def test_a_search_does_not_go_on_from_a_damaged_table(table, make_spec, run_spec, tmp_path):
    folder = Folder(tmp_path / "run")
    create_or_open(folder, make_spec())[0].save()
    folder.write_whole(f"results/{table}/part.parquet", b"half of a part")
    with pytest.raises(UserError, match=r"part\.parquet is damaged: .*; save what can be saved with: .* --repair"):
        run_spec(make_spec(), lambda ledger: pytest.fail("what is missing would be trained again"))


def test_a_polite_kill_is_an_interrupt_after_ray_has_taken_the_signal_as_well(
    make_spec, run_spec, monkeypatch, request
):
    @contextlib.contextmanager
    def session(profile, verbose):
        def rays(number, frame):
            raise RuntimeError("Ray ends the process")

        signal.signal(signal.SIGTERM, rays)
        yield

    request.addfinalizer(functools.partial(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM)))
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(run_module, "ask", lambda spec: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(run_module, "session", session)
    with pytest.raises(KeyboardInterrupt):
        run_spec(make_spec())


def test_a_polite_kill_while_the_folder_is_being_taken_is_an_interrupt_and_leaves_nothing(
    make_spec, run_spec, tmp_path, monkeypatch, request
):
    def other(number, frame):
        raise RuntimeError("the signal is not the search's yet")

    request.addfinalizer(functools.partial(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, other)))
    # Not that of all: what waits for another program may sleep before the lease does.
    monkeypatch.setattr(lease, "time", SimpleNamespace(sleep=lambda seconds: signal.raise_signal(signal.SIGTERM)))
    with pytest.raises(KeyboardInterrupt):
        run_spec(make_spec())
    assert not (tmp_path / "run").exists()


GOOD = TrialConfig(method="rps", ratio=2, lr=0.1, weight_decay=0).model_dump_json()


@pytest.mark.parametrize(
    ("config", "params", "message"),
    [
        *((config, "{}", r"config_json of a trial is no configuration") for config in ("not json", "[]", "{}")),
        (GOOD, "not json", r"params_json of a trial is no JSON \(Expecting value"),
        (GOOD, "[]", r"params_json of a trial is no mapping, but a list"),
    ],
)
def test_a_search_does_not_go_on_from_a_trial_that_cannot_be_read(config, params, message, make_spec, tmp_path):
    spec = make_spec()
    experiment = Experiment(Folder(tmp_path), spec)
    row = {"trial_id": "a", "number": 0, "repeat": 0, "status": "finished"}
    prepared = Prepared(None, Space(spec.space, SHAPES), {})
    with pytest.raises(UserError, match=rf"{message}.* another --storage"):
        _ledger(experiment, prepared, [], [row | {"params_json": params, "config_json": config}])
