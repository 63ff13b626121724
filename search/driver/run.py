"""Running a search: everything of the driver, put together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from clusters.errors import ClusterError
from clusters.profile import Profile
from clusters.session import Session, session
from search.driver.experiment import Experiment
from search.driver.keeper import ModelKeeper
from search.driver.lease import Lease
from search.driver.ledger import Ledger
from search.driver.prepare import Prepared, prepare
from search.driver.progress import Progress
from search.errors import UserError
from search.proposing import Proposer
from search.results.store import ResultStore

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


@dataclass
class Outcome:
    """How a run of the driver ended.

    Attributes:
        progress: The last state of the search.
        interrupted: Whether a person or a signal stopped it.
        stop_reason: Why the search stopped by itself before all trials had ended, if it did.
        wall_seconds: Time this run of the driver took, and its parts.
        parts: Seconds of this run by what the driver and the trials did.
    """

    progress: Progress
    interrupted: bool = False
    stop_reason: str | None = None
    wall_seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def run_search(
    experiment: Experiment,
    profile: Profile,
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
    verbose: bool = False,
) -> Outcome:
    """Run a search until all its trials have ended, or go on with one that was interrupted.

    Args:
        experiment: The experiment folder.
        profile: Where trials run.
        watch: Called with the state of the search, several times a second.
        verbose: Let Ray and Tune talk.

    Raises:
        UserError: If the input is wrong, another driver works in the folder, or results cannot be written.
    """
    began = time.monotonic()
    with Lease(experiment.folder) as lease:
        prepared = prepare(experiment.spec)
        if experiment.read_meta() is None:
            experiment.write_meta(prepared.meta)
        store = ResultStore(experiment.folder)
        finished = store.read("trials").to_pylist()
        journal = store.read("proposals").to_pylist()
        ledger = _ledger(experiment, prepared, journal, finished)
        progress = _progress(experiment, finished)
        watch(progress)
        outcome = Outcome(progress)
        if not ledger.complete:
            ready = time.monotonic()
            try:
                with session(profile, verbose=verbose) as ray_session:
                    outcome.parts["starting"] = time.monotonic() - ready + (ready - began)
                    _run_trials(
                        experiment, prepared, store, ledger, progress, finished, ray_session, lease, watch, verbose
                    )
            except ClusterError as error:
                raise UserError(str(error)) from error
    outcome.stop_reason = ledger.stop_reason
    outcome.interrupted = not ledger.complete and ledger.stop_reason is None
    outcome.wall_seconds = time.monotonic() - began
    if progress.trouble:
        raise UserError(f"{progress.trouble}; make room, then: rps-search resume {experiment.folder}")
    return outcome


def _ledger(
    experiment: Experiment, prepared: Prepared, journal: list[dict[str, Any]], finished: list[dict[str, Any]]
) -> Ledger:
    spec = experiment.spec
    proposer = Proposer(
        prepared.space,
        sampler=spec.search.sampler,
        seed=spec.seed,
        startup_trials=spec.search.startup_trials,
        enqueue_known=spec.search.enqueue_known and not finished and not journal,
    )
    return Ledger(spec, proposer, journal=journal, finished=finished)


def _progress(experiment: Experiment, finished: list[dict[str, Any]]) -> Progress:
    spec = experiment.spec
    progress = Progress(spec.name, spec.trials, spec.objectives.memory, spec.train.epochs)
    progress.recall(finished)
    return progress


def _run_trials(
    experiment: Experiment,
    prepared: Prepared,
    store: ResultStore,
    ledger: Ledger,
    progress: Progress,
    finished: list[dict[str, Any]],
    ray_session: Session,
    lease: Lease,
    watch: Callable[[Progress], None],
    verbose: bool,
) -> None:
    """Have Tune run trials until the ledger has no other."""
    from ray import tune

    from search.driver.actor import ActorSettings, TrialActor
    from search.driver.recorder import Recorder
    from search.driver.searcher import LedgerSearcher

    spec = experiment.spec
    needs = spec.resources
    ray_session.check_placement(needs.cpus, needs.gpus, needs.custom)
    concurrency = ray_session.max_concurrent(needs.cpus, needs.gpus, needs.custom)
    concurrency = max(1, min(spec.search.concurrency or concurrency, concurrency))
    progress.slots = concurrency
    keeper = ModelKeeper(experiment.folder, spec.objectives.memory, spec.disk_budget)
    keeper.recall(finished)
    searcher = LedgerSearcher(ledger, concurrency)
    recorder = Recorder(
        spec.name,
        store,
        ledger,
        searcher,
        keeper,
        progress,
        known_epochs=_known_epochs(store, finished),
        watch=watch,
        stop_when=lambda: "another driver took this folder over" if lease.lost.is_set() else None,
    )
    settings = ActorSettings(
        experiment.folder,
        needs.cpus,
        needs.gpus,
        spec.objectives.memory,
        spec.train.checkpoint_every_s,
        spec.failures.time_limit_s,
    )
    bundle = {"CPU": needs.cpus, "GPU": needs.gpus, **needs.custom}
    trainable = tune.with_resources(
        tune.with_parameters(TrialActor, data=prepared.data, settings=settings),
        tune.PlacementGroupFactory([{name: amount for name, amount in bundle.items() if amount}]),
    )
    with tempfile.TemporaryDirectory(prefix="rps-tune-") as scratch, _tune_settings(concurrency, verbose), _sigterm_as_interrupt():
        # Not tune.Tuner: it pickles all that it is given, and would restore from that pickle.
        try:
            tune.run(
                trainable,
                name="search",
                storage_path=scratch,
                search_alg=searcher,
                scheduler=_scheduler(experiment, searcher, store),
                num_samples=-1,
                reuse_actors=True,
                max_failures=spec.failures.retries,
                callbacks=[recorder],
                verbose=0,
                raise_on_failed_trial=False,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            )
        except KeyboardInterrupt:
            logging.getLogger(__name__).debug("interrupted again while stopping")
        finally:
            recorder.flush(last=True)


def _scheduler(experiment: Experiment, searcher: Any, store: ResultStore) -> Any:
    """Return what decides which trials go on: the early stopping of the spec, filled with what is known, or none."""
    from search.stopping.first_come import FirstComeScheduler

    stopping = experiment.spec.search.early_stopping
    if stopping is None:
        return FirstComeScheduler()
    from search.stopping import MOASHA
    from search.stopping.tune_scheduler import MOASHAScheduler

    moasha = MOASHA(
        grace_epochs=stopping.grace_epochs,
        reduction_factor=stopping.reduction_factor,
        max_epochs=experiment.spec.train.epochs,
    )
    column = experiment.spec.objectives.memory
    memory = {row["trial_id"]: row[column] for row in store.read("trials", ["trial_id", column]).to_pylist()}
    for row in store.read("epochs", ["trial_id", "epoch", "accuracy_val"]).to_pylist():
        if memory.get(row["trial_id"]):
            moasha.report(row["trial_id"], row["epoch"], row["accuracy_val"], memory[row["trial_id"]])

    def name_of(trial: Any) -> str:
        run = searcher.runs.get(trial.trial_id)
        return run.config.trial_id if run else trial.trial_id

    return MOASHAScheduler(moasha, name_of=name_of)


def _known_epochs(store: ResultStore, finished: list[Mapping[str, Any]]) -> dict[str, int]:
    """Return the last recorded epoch of each trial that is not finished."""
    done = {row["trial_id"] for row in finished}
    known: dict[str, int] = {}
    for row in store.read("epochs", ["trial_id", "epoch"]).to_pylist():
        if row["trial_id"] not in done:
            known[row["trial_id"]] = max(row["epoch"], known.get(row["trial_id"], 0))
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


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let a polite kill end the search as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
