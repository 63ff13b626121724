"""What a search gives Tune and what it leaves behind, Tune itself replaced."""

import contextlib
import logging
import os
from types import SimpleNamespace

import pytest

from clusters.errors import ClusterError
from search.driver import tuning
from search.driver.exchange import model_path, running_path, timeout_path
from search.driver.experiment import Experiment
from search.driver.ledger import Ledger
from search.driver.progress import Progress
from search.driver.recorder import FolderLostError
from search.results.folder import Folder
from search.results.store import ResultStore


@pytest.fixture
def experiment(tmp_path, make_spec):
    """Make an experiment of a spec with some changes."""
    return lambda **changes: Experiment(Folder(tmp_path), make_spec(**changes))


@pytest.fixture
def search(make_proposer, monkeypatch):
    """Run the trials of an experiment on four places; ``work`` stands for Tune, and sees what that is given."""

    def run(experiment, work=lambda given: None, *, journal=(), finished=(), place=lambda *needs: None):
        spec = experiment.spec
        ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=finished)
        progress = Progress(spec.name, spec.trials, spec.objectives.memory, spec.train.epochs)
        monkeypatch.setattr(tuning.tune, "run", lambda trainable, **given: work(SimpleNamespace(**given)))
        monkeypatch.setattr(tuning, "_trainable", lambda *arguments: contextlib.nullcontext("trainable"))
        tuning.run_trials(
            experiment,
            None,
            ledger,
            progress,
            finished,
            SimpleNamespace(check_placement=place, max_concurrent=lambda *needs: 4),
            reference_accuracy=0.1,
            watch=lambda progress: None,
            lost_by=lambda: None,
            verbose=False,
        )
        return progress

    return run


@pytest.mark.parametrize(
    ("changes", "places"), [({}, 4), ({"concurrency": 2}, 2), ({"concurrency": 9}, 4), ({"pack": 3}, 12)]
)
def test_as_many_trials_run_at_once_as_fit_and_no_more_than_the_spec_says(changes, places, experiment, search):
    given = []
    made = experiment(search={"sampler": "random", **changes}, failures={"retries": 5})
    assert search(made, given.append).slots == places
    assert given[0].max_failures == 5


def test_a_trial_that_no_machine_can_serve_is_told_before_anything_is_looked_at(experiment, search):
    def nowhere(cpus, gpus, custom):
        raise ClusterError(f"no machine has {gpus:g} GPUs")

    made = experiment(resources={"gpus": 3})
    made.folder.write_whole(running_path("someones"), b"")
    with pytest.raises(ClusterError, match="no machine has 3 GPUs"):
        search(made, place=nowhere)
    assert made.folder.exists(running_path("someones"))


@pytest.fixture
def interrupted(experiment, make_proposer, end_of):
    """A search that was killed: two trials had ended, a third ran."""
    made = experiment(disk_budget=1000)
    ledger = Ledger(made.spec, make_proposer(made.spec))
    runs = [ledger.next() for _ in range(3)]
    journal = [run.journal_row("test") for run in ledger.new_runs]
    finished = [end_of(runs[0], accuracy=0.9, stored_bytes=900), end_of(runs[1], accuracy=0.8, stored_bytes=800)]
    return made, [run.trial_id for run in runs], {"journal": journal, "finished": finished}


def test_what_a_crash_left_behind_is_gone_and_what_a_trial_goes_on_from_is_not(interrupted, search):
    made, (first, second, running), tables = interrupted
    kept = [running_path(running), model_path(second)]
    gone = [running_path(first), running_path("unknown"), timeout_path(running), model_path("unknown")]
    gone.append(model_path(first))  # The two are more than the disk's budget.
    for path in kept + gone:
        made.folder.write_whole(path, b"x")
    search(made, **tables)
    assert sorted(entry.path for entry in made.folder.list("checkpoints", recursive=True)) == sorted(kept)


def test_the_epochs_of_a_trial_that_goes_on_are_not_recorded_again(interrupted, search):
    made, (first, _, running), tables = interrupted
    rows = [{"trial_id": one, "experiment": "test", "epoch": epoch} for one in (first, running) for epoch in (2, 1)]
    ResultStore(made.folder).append("epochs", rows)
    known = []
    search(made, lambda given: known.append(dict(given.callbacks[0]._last_epoch)), **tables)
    assert known == [{running: 2}]


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), FolderLostError("another driver")])
def test_however_tune_ends_what_is_buffered_is_written(end, experiment, search):
    def work(given):
        assert given.search_alg.suggest("t0")
        if end is not None:
            raise end

    made = experiment()
    search(made, work)
    assert ResultStore(made.folder).read("proposals").num_rows == 1


def test_what_fails_in_tune_is_not_hidden_and_what_is_buffered_is_written(experiment, search):
    def work(given):
        assert given.search_alg.suggest("t0")
        raise RuntimeError("Tune has a defect")

    made = experiment()
    with pytest.raises(RuntimeError, match="Tune has a defect"):
        search(made, work)
    assert ResultStore(made.folder).read("proposals").num_rows == 1


def test_what_tune_reads_and_says_is_as_it_was_afterwards(experiment, search, monkeypatch):
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "7")
    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    quiet = logging.getLogger("ray.tune")
    monkeypatch.setattr(quiet, "level", logging.INFO)
    seen = []
    search(experiment(), lambda given: seen.append((dict(os.environ), quiet.level)))
    during, silenced = seen[0]
    assert (during["TUNE_GLOBAL_CHECKPOINT_S"], during["TUNE_MAX_PENDING_TRIALS_PG"]) == ("1000000000", "4")
    assert silenced == logging.CRITICAL
    assert os.environ["TUNE_GLOBAL_CHECKPOINT_S"] == "7"
    assert "TUNE_MAX_PENDING_TRIALS_PG" not in os.environ
    assert quiet.level == logging.INFO


@pytest.fixture
def trainable(monkeypatch):
    """Return what one trial is given and occupies; of packs also what was ended."""
    ended = []
    monkeypatch.setattr(tuning.tune, "with_parameters", lambda actor, **given: SimpleNamespace(**given))
    monkeypatch.setattr(tuning.tune, "with_resources", lambda actor, bundle: (actor, bundle.bundles[0]))
    office = SimpleNamespace(remote=lambda data, settings, width: SimpleNamespace(settings=settings, width=width))
    monkeypatch.setattr(
        tuning,
        "ray",
        SimpleNamespace(remote=lambda cls: SimpleNamespace(options=lambda **o: office), kill=ended.append),
    )

    def make(experiment):
        with tuning._trainable(experiment, None, 100, (1, 3)) as (given, bundle):
            assert not ended
        return given, bundle, ended

    return make


def test_a_trial_is_told_what_the_spec_says_and_occupies_what_it_asks_for(experiment, trainable):
    made = experiment(
        resources={"cpus": 2, "custom": {"licence": 1}},
        failures={"time_limit_s": 77},
        train={"epochs": 2, "batch_size": 16, "checkpoint_every_s": 33},
    )
    given, bundle, ended = trainable(made)
    settings = given.settings
    assert (settings.time_limit_s, settings.checkpoint_every_s, settings.cpus) == (77, 33, 2)
    assert (settings.report_every_s, settings.report_at) == (3.0, {1, 3})
    assert bundle == {"CPU": 2.0, "licence": 1.0}, "and no GPU that nobody has"
    assert not ended


def test_the_lanes_of_a_pack_fit_into_what_one_trial_asks_for_and_their_host_ends(experiment, trainable):
    given, bundle, ended = trainable(experiment(search={"sampler": "random", "pack": 3}, resources={"gpus": 1}))
    assert ended == [given.office]
    assert given.office.width == 3
    assert bundle["GPU"] == pytest.approx(0.3333)
    assert 3 * bundle["GPU"] <= 1
