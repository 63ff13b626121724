"""Running a search: everything of the driver, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusters.errors import ClusterError
from clusters.profile import Profile
from clusters.session import session
from clusters.storage import check_storage
from search.config import UnreadableTrialError
from search.driver.experiment import Experiment
from search.driver.interrupt import sigterm_as_interrupt
from search.driver.lease import Lease
from search.driver.ledger import Ledger
from search.driver.prepare import Prepared, ask, prepare
from search.driver.progress import Progress, planned
from search.driver.warm import earlier_proposals
from search.errors import UserError
from search.proposing import Proposer
from search.registry import resolve
from search.results.parts import DamagedPartError
from search.results.schema import TableName
from search.results.store import ResultStore


@dataclass
class Outcome:
    """How a run of the driver ended.

    Attributes:
        progress: The last state of the search.
        interrupted: Whether a person or a signal stopped it.
        stop_reason: Why the search stopped by itself before all trials had ended, if it did.
        exhausted: Whether that was because nothing new was left to propose: there is nothing to go on with.
        wall_seconds: Time this run of the driver took.
        shares: Where the time of the places for trials went, as shares of their wall time together.
    """

    progress: Progress
    interrupted: bool = False
    stop_reason: str | None = None
    exhausted: bool = False
    wall_seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)


def run_search(
    experiment: Experiment,
    profile: Profile,
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
    verbose: bool = False,
    repeat: Sequence[int] = (),
    seeds: int = 0,
) -> Outcome:
    """Run a search until all its trials have ended, or go on with one that was interrupted.

    Args:
        experiment: The experiment folder.
        profile: Where trials run.
        watch: Called with the state of the search, several times a second.
        verbose: Let Ray and Tune talk.
        repeat: Numbers of proposals to train with further seeds.
        seeds: Seeds that each of those is to have in all.

    Raises:
        UserError: If the input is wrong, another driver works in the folder, or results cannot be written.
    """
    began = time.monotonic()
    with sigterm_as_interrupt(), Lease(experiment.folder) as lease:
        store = ResultStore(experiment.folder)
        finished = _read_whole(store, "trials")
        journal = _read_whole(store, "proposals")
        spec = experiment.spec
        progress = Progress(spec.name, planned(spec, finished), spec.objectives.memory, spec.train.epochs)
        progress.recall(finished)
        over = progress.ended >= progress.total and not repeat and len(journal) <= len(finished)
        # Readers need the facts of a search that is over too: where they are lost, they are found out again.
        if over and experiment.read_meta() is not None:
            experiment.save()
            return Outcome(progress, wall_seconds=time.monotonic() - began)
        if spec.space.extension:
            resolve("space.extension", spec.space.extension, {})  # A mistake in its name is told before Ray starts.
        try:
            # Twice: Ray has taken the signal for itself by then.
            with session(profile, verbose=verbose) as cluster, sigterm_as_interrupt():
                question = ask(spec)
                from search.driver.tuning import run_trials  # Takes a second: meanwhile.

                prepared = prepare(spec, question)
                # Before anything is written: a grid may prove too large here, or an earlier experiment missing.
                ledger = _ledger(experiment, prepared, journal, finished)
                experiment.save()
                if experiment.read_meta() is None:
                    experiment.write_meta(prepared.meta)
                progress.total += ledger.repeat(repeat, seeds)
                if profile.kind != "local":
                    check_storage(experiment.folder.uri, cluster)
                starting = time.monotonic() - began
                run_trials(
                    experiment,
                    prepared.data,
                    ledger,
                    progress,
                    finished,
                    cluster,
                    reference_accuracy=prepared.meta["reference"]["accuracy"],
                    watch=watch,
                    lost_by=lambda: "another driver took this folder over" if lease.lost.is_set() else None,
                    verbose=verbose,
                )
        except ClusterError as error:
            raise UserError(str(error)) from error
    if progress.trouble:
        raise UserError(f"{progress.trouble}, then: rps-search resume {experiment.folder}")
    wall = time.monotonic() - began
    exhausted = ledger.exhausted if ledger.complete else None
    return Outcome(
        progress,
        interrupted=not ledger.complete and ledger.stop_reason is None,
        stop_reason=ledger.stop_reason or exhausted,
        exhausted=ledger.stop_reason is None and exhausted is not None,
        wall_seconds=wall,
        shares=_shares(progress, spec.search.pack, starting, wall),
    )


def _ledger(
    experiment: Experiment, prepared: Prepared, journal: list[dict[str, Any]], finished: list[dict[str, Any]]
) -> Ledger:
    spec = experiment.spec
    proposer = Proposer(
        prepared.space,
        sampler=spec.search.sampler,
        seed=spec.seed,
        startup_trials=spec.search.startup_trials,
        enqueue_known=spec.search.enqueue_known,
    )
    earlier = earlier_proposals(spec, prepared.space)
    try:
        return Ledger(spec, proposer, journal=journal, finished=finished, earlier=earlier)
    except UnreadableTrialError as error:
        raise UserError(
            f"{experiment.folder}: {error}; no search goes on from it: launch the spec again with another --storage"
        ) from error


def _read_whole(store: ResultStore, table: TableName) -> list[dict[str, Any]]:
    """Return a table's rows; refuse to go on without some: what is missing would be trained and deleted again."""
    try:
        return store.read_whole(table).to_pylist()
    except DamagedPartError as error:
        raise UserError(
            f"{store.folder}: {error}; save what can be saved with: rps-search check {store.folder} --repair"
        ) from error


def _shares(progress: Progress, pack: int, starting: float, wall: float) -> dict[str, float]:
    """Return where the time went: of all places for trials together, the share spent in each kind of work.

    The trials of a pack share one place, and the time that they report is their part of its time.
    """
    whole = progress.slots / pack * wall
    shares = {"starting": starting / wall} | {name: seconds / whole for name, seconds in progress.seconds.items()}
    return shares | {"waiting": max(0.0, 1 - sum(shares.values()))}
