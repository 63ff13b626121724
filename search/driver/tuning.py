"""The part of the driver that speaks to Ray Tune: one call that runs trials until the ledger has no other."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from clusters.session import Session
from search.driver.actor import TrialActor
from search.driver.exchange import TIMEOUT_SUFFIX, RunSettings, report_interval
from search.driver.experiment import RUNNING, Experiment
from search.driver.interrupt import handlers_restored
from search.driver.keeper import ModelKeeper
from search.driver.lane import LaneActor, LaneOffice
from search.driver.ledger import Ledger, stands
from search.driver.lookups import lookups_kept
from search.driver.progress import Progress
from search.driver.recorder import FolderLostError, Recorder
from search.driver.searcher import LedgerSearcher
from search.driver.silence import Silence
from search.driver.weights import read_weights
from search.results.store import ResultStore
from search.spec import Spec
from search.stopping import MOASHA
from search.stopping.first_come import FirstComeScheduler
from search.stopping.tune_scheduler import MOASHAScheduler, Seed

logger = logging.getLogger(__name__)

# Ray counts in these parts of a CPU or GPU.
RESOURCE_UNIT = 1e-4

# Tune's own records are of no use here: the tables are the truth. Snapshots would cost more with every trial.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run_trials(
    experiment: Experiment,
    data: ray.ObjectRef,
    ledger: Ledger,
    progress: Progress,
    finished: Sequence[Mapping[str, Any]],
    cluster: Session,
    *,
    reference_accuracy: float,
    watch: Callable[[Progress], None],
    lost_by: Callable[[], str | None],
    verbose: bool,
) -> None:
    """Run trials on a cluster until the ledger has no other, or a person interrupts.

    Args:
        experiment: Where rows, checkpoints and models go.
        data: The images in the object store, once for all trials.
        ledger: Hands out what is to run.
        progress: Kept up to date.
        finished: Rows of the trials that had ended before.
        cluster: Where trials run.
        reference_accuracy: A trial that is no better adds nothing to the hypervolume.
        watch: Called with the progress several times a second.
        lost_by: Asked about once a second; why the folder is another driver's now, if it is: the search then ends at
            once, and writes nothing more.
        verbose: Let Tune talk.

    Raises:
        ClusterError: If no machine can ever serve a trial.
    """
    spec = experiment.spec
    needs = spec.resources
    cluster.check_placement(needs.cpus, needs.gpus, needs.custom)
    fitting = spec.search.pack * cluster.max_concurrent(needs.cpus, needs.gpus, needs.custom)
    progress.slots = max(1, min(spec.search.concurrency or fitting, fitting))
    store = ResultStore(experiment.folder)
    keeper = ModelKeeper(experiment.folder, spec.objectives.memory, repeats=spec.repeats, disk_budget=spec.disk_budget)
    keeper.recall(finished)
    moasha = _early_stopping(spec, reference_accuracy)
    _clear_leftovers(experiment, ledger)
    searcher = LedgerSearcher(ledger, progress.slots)
    known = _known_epochs(store, finished)
    recorder = Recorder(
        spec.name,
        store,
        ledger,
        searcher,
        keeper,
        progress,
        known_epochs=dict(known),  # It counts on in it.
        watch=watch,
        lost_by=lost_by,
    )
    with (
        tempfile.TemporaryDirectory(prefix="rps-tune-") as scratch,
        _tune_settings(progress.slots, verbose),
        handlers_restored(),
        lookups_kept(),
        _trainable(experiment, data, progress.slots, moasha.levels if moasha else ()) as trainable,
    ):
        # Not tune.Tuner: it pickles all that it is given, and would restore from that pickle.
        try:
            tune.run(
                trainable,
                name="search",
                storage_path=scratch,
                search_alg=searcher,
                scheduler=_scheduler(experiment, searcher, ledger, store, finished, known, moasha),
                num_samples=-1,
                reuse_actors=True,
                max_failures=spec.failures.retries,
                callbacks=[recorder, Silence()],
                verbose=0,
                raise_on_failed_trial=False,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            )
        except KeyboardInterrupt:
            logger.debug("interrupted again while stopping")
        except FolderLostError as error:
            logger.debug("%s", error)
        finally:
            recorder.close()


@contextlib.contextmanager
def _trainable(experiment: Experiment, data: ray.ObjectRef, places: int, report_at: Sequence[int]) -> Iterator[Any]:
    """Give the actor class with the data in the object store and the resources of one trial.

    It reports at once after the epochs ``report_at``, where early stopping judges.
    Of a pack, each trial occupies its part; what runs it, in one process for the pack, occupies nothing beside.
    """
    spec = experiment.spec
    settings = RunSettings(
        folder=experiment.folder,
        cpus=spec.resources.cpus,
        gpus=spec.resources.gpus,
        memory=spec.objectives.memory,
        checkpoint_every_s=spec.train.checkpoint_every_s,
        time_limit_s=spec.failures.time_limit_s,
        report_every_s=report_interval(places),
        report_at=frozenset(report_at),
        weights=read_weights(spec.model),
    )
    bundle = {"CPU": spec.resources.cpus, "GPU": spec.resources.gpus, **spec.resources.custom}
    width = spec.search.pack
    office: Any = None
    if width == 1:
        actor = tune.with_parameters(TrialActor, data=[data], settings=settings)
    else:
        office = ray.remote(LaneOffice).options(num_cpus=0).remote([data], settings, width)
        actor = tune.with_parameters(LaneActor, office=office)
        # Rounded down to what Ray counts in, so that as many parts as there are lanes fit the whole.
        bundle = {name: math.floor(amount / width / RESOURCE_UNIT) * RESOURCE_UNIT for name, amount in bundle.items()}
    try:
        yield tune.with_resources(
            actor, tune.PlacementGroupFactory([{name: float(amount) for name, amount in bundle.items() if amount}])
        )
    finally:
        if office is not None:
            ray.kill(office)


def _early_stopping(spec: Spec, reference_accuracy: float) -> MOASHA | None:
    """Return the early stopping of the spec with empty rungs, if it asks for any."""
    stopping = spec.search.early_stopping
    if stopping is None:
        return None
    return MOASHA(
        grace_epochs=stopping.grace_epochs,
        reduction_factor=stopping.reduction_factor,
        max_epochs=spec.train.epochs,
        reference_accuracy=reference_accuracy,
    )


def _scheduler(
    experiment: Experiment,
    searcher: LedgerSearcher,
    ledger: Ledger,
    store: ResultStore,
    finished: Sequence[Mapping[str, Any]],
    known: Mapping[str, int],
    moasha: MOASHA | None,
) -> TrialScheduler:
    """Return what decides which trials go on: early stopping, filled with what is known, or what lets all.

    How much memory the trials need that have not ended is not known: they fill their rungs once they tell of their
    epochs again, up to the ``known`` ones, those in the tables.
    """
    if moasha is None:
        return FirstComeScheduler()
    judged = judged_rows(finished, experiment.spec)
    memory = {row["trial_id"]: row[experiment.spec.objectives.memory] for row in judged}
    epochs = store.read("epochs", ["trial_id", "epoch", "accuracy_val"])
    columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", "accuracy_val"))
    for trial_id, epoch, accuracy in zip(*columns, strict=True):
        if memory.get(trial_id):
            moasha.recall(trial_id, epoch, accuracy, memory[trial_id])

    ended = _by_number(finished)

    def seed_of(trial: Any) -> Seed | None:
        run = searcher.runs.get(trial.trial_id)
        if run is None:
            return None
        # One that is judged only since the restart was not by what it had reached before.
        judged_before = stands(run.repeat, ended.get(run.number, ()))
        return Seed(
            run.trial_id,
            run.number,
            ledger.is_judged(run),
            known.get(run.trial_id, 0) if judged_before else 0,
        )

    stopped = [row["number"] for row in judged if row["status"] == "pruned"]
    return MOASHAScheduler(moasha, seed_of=seed_of, stopped=stopped)


def judged_rows(finished: Sequence[Mapping[str, Any]], spec: Spec) -> list[Mapping[str, Any]]:
    """Return the rows that fill rungs, as the scheduler does: of each proposal the first seed that has not failed.

    And those that failed before it, but no further repeats and nothing that trained in several rounds.
    """
    seeds = _by_number(
        row for row in finished if row["repeat"] < spec.repeats and (row["epochs_run"] or 0) <= spec.train.epochs
    )
    return [row for rows in seeds.values() for row in rows if stands(row["repeat"], rows)]


def _by_number(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """Return rows by the number of their proposal."""
    found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["number"]].append(row)
    return found


def _clear_leftovers(experiment: Experiment, ledger: Ledger) -> None:
    """Delete what a crash left behind: checkpoints of trials whose rows were written, or that nobody knows of.

    And words of trials that ran out of time: they have it anew, and the limit may be another one.
    """
    needed = ledger.interrupted_ids
    for entry in experiment.folder.list(RUNNING):
        path = PurePosixPath(entry.path)
        if path.stem not in needed or path.suffix == TIMEOUT_SUFFIX:
            experiment.folder.delete(entry.path)


def _known_epochs(store: ResultStore, finished: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the last recorded epoch of each trial that is not finished."""
    done = {row["trial_id"] for row in finished}
    epochs = store.read("epochs", ["trial_id", "epoch"])
    known: dict[str, int] = {}
    for trial_id, epoch in zip(epochs["trial_id"].to_pylist(), epochs["epoch"].to_pylist(), strict=True):
        if trial_id not in done:
            known[trial_id] = max(epoch, known.get(trial_id, 0))
    return known


@contextlib.contextmanager
def _tune_settings(concurrency: int, verbose: bool) -> Iterator[None]:
    """Set what Tune reads from the environment, and silence it, for the time of the search."""
    # By default Tune starts one actor after the other, so that short trials would all run in the first one.
    settings = TUNE_ENVIRONMENT | {"TUNE_MAX_PENDING_TRIALS_PG": str(concurrency)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air", "ray.train", "ray")]
    levels = [logger.level for logger in loggers]
    if not verbose:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
