"""What a plan needs to know of a search before it runs: from the results of earlier ones, or from a short probe."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from clusters.planning import Conditions
from search.driver.experiment import create_or_open, open_experiment
from search.errors import UserError
from search.results import pace
from search.results.folder import Folder
from search.results.store import ResultStore
from search.spec import Choices, Spec
from search.spec.load import parse_spec

# The program is loaded before the launch that results tell of, and shows the frontier after the last trial.
COMMAND_S = 4.0
PROBE_EPOCHS = 2


@dataclass(frozen=True)
class Estimate:
    """What is known of the time of trials.

    Attributes:
        seconds: What each trial that was looked at takes with a machine to itself, or as it was if the power is None.
        contention: See :func:`search.results.pace.contention`; None if nothing tells it.
        at_once: Places of one machine that were busy at a time, on average.
        conditions: Everything that is not training.
        failed: Trials of those searches that failed, of which nothing is learned.
        ended: All of their trials that ended, of the methods that are planned.
        unknown: Methods that are planned and of which no trial was looked at.
    """

    seconds: list[float]
    contention: float | None
    at_once: float
    conditions: Conditions
    failed: int = 0
    ended: int = 0
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class _Earlier:
    spec: Spec
    rows: list[dict[str, Any]]
    launched: datetime
    failed: int
    ended: int


def from_results(spec: Spec, folders: Sequence[str], conditions: Conditions) -> Estimate:
    """Learn from earlier searches; several with different numbers of trials at once tell how these slow each other.

    Args:
        spec: The search that is planned.
        folders: Experiment folders of searches of the same kind.
        conditions: Taken where results do not tell.

    Raises:
        UserError: If a folder tells nothing about this spec.
    """
    searches = [_read(folder, spec) for folder in folders]
    several = [{row["trial_id"] for row in search.rows} for search in searches]
    # The same trials in several searches are compared with themselves, others with those of their method.
    kind = "trial_id" if len(several) > 1 and set.intersection(*several) else "method"
    timed = [trial for search in searches for trial in _timed(search, spec, kind)]
    power = pace.contention(timed)
    # How trials slow each other all tell; how long they take is another thing for each method.
    alike = [trial for trial in timed if trial.method in spec.space.methods]
    if not alike:
        tried = ", ".join(sorted({str(trial.method) for trial in timed}))
        planned = ", ".join(spec.space.methods)
        raise UserError(
            f"--results: trials there are of {tried} and say nothing of {planned}; write --seconds S instead"
        )
    known = {trial.method for trial in alike}
    return Estimate(
        [trial.seconds / trial.beside ** (power or 0.0) for trial in alike],
        power,
        statistics.mean(trial.beside for trial in alike),
        _conditions(searches, power or 0.0, conditions),
        sum(search.failed for search in searches),
        sum(search.ended for search in searches),
        [method for method in spec.space.methods if method not in known],
    )


@contextmanager
def probe(spec: Spec) -> Iterator[list[str]]:
    """Run two short searches on this machine, one trial at a time and as many as fit; give their folders for a while.

    Raises:
        UserError: If the spec is wrong, its trials do not fit on this machine, or all of a method's fail.
    """
    from clusters import load_profile
    from search.driver.run import run_search

    changes = _shortened(spec)
    text = spec.model_dump_json(exclude={"provenance"})
    with tempfile.TemporaryDirectory(prefix="rps-probe-") as scratch:
        folders = []
        for name, at_once in (("alone", spec.search.pack), ("together", None)):
            short = parse_spec(text, [*changes, f"search.concurrency={at_once or 'null'}"])
            experiment, _ = create_or_open(Folder(f"{scratch}/{name}"), short)
            outcome = run_search(experiment, load_profile("local"))
            if outcome.interrupted:
                raise UserError("the probe was interrupted; write --seconds S or --results DIR instead")
            _check_methods(experiment.folder, spec)
            folders.append(f"{scratch}/{name}")
        yield folders


def _shortened(spec: Spec) -> list[str]:
    """Return what to change in a spec so that a short search tries each of its methods once, as it would be trained."""
    epochs = min(spec.train.epochs, PROBE_EPOCHS)
    changes: dict[str, object] = {
        "trials": max(4, len(spec.space.methods)) * spec.repeats,
        "train.epochs": epochs,
        "train.warmup_epochs": 0,  # May be longer than the probe, and takes no time of its own.
        "claims": [],
        "search.early_stopping": None,
        "search.warm_start": [],  # Its trials were trained for longer.
        # The well-known allocations are one of each method; a grid would begin anywhere.
        "search.sampler": "random",
        "search.enqueue_known": True,
    }
    tickets = spec.space.methods.get("ltr")
    rewind = tickets.args.get("rewind_epochs") if tickets else None
    numbers = rewind.choices if isinstance(rewind, Choices) else [rewind]
    whole = [number for number in numbers if isinstance(number, int)]
    if epochs and len(whole) == len(numbers):
        # To the same share of the epochs, or later rounds would be a smaller part of a trial than they are.
        scaled = sorted({number * epochs // spec.train.epochs for number in whole})
        changes["space.methods.ltr.args.rewind_epochs"] = {"choices": scaled}
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _check_methods(folder: Folder, spec: Spec) -> None:
    """Refuse a probe that tells nothing of a method: a plan without it would leave out what may take longest."""
    rows = ResultStore(folder).read("trials", ["method", "status", "error"]).to_pylist()
    ended = {row["method"] for row in rows if row["status"] == "finished"}
    for method in spec.space.methods:
        if method not in ended:
            why = next((row["error"] for row in rows if row["method"] == method), "none was tried")
            raise UserError(
                f"--probe: no trial of method {method!r} ended well ({why}); write --seconds S or --results DIR instead"
            )


def _read(folder: str, spec: Spec) -> _Earlier:
    earlier = open_experiment(Folder(folder))
    ended = ResultStore(earlier.folder).read("trials", list(pace.COLUMNS)).to_pylist()
    rows = [row for row in ended if row["status"] in {"finished", "pruned"} and pace.tells(row)]
    failed = sum(row["status"] == "failed" for row in ended)
    planned = [row["status"] for row in ended if row["method"] in spec.space.methods]
    if not rows or earlier.spec.provenance is None:
        why = f"all {failed} trials there failed" if 0 < failed == len(ended) else "no trial has ended there"
        raise UserError(f"{folder}: {why}; write --seconds S instead")
    now, then = spec.train.epochs, earlier.spec.train.epochs
    if now and not then:
        raise UserError(f"{folder}: trials there trained for no epoch, and say nothing of {now}; write --seconds S")
    if spec.resources.gpus and spec.search.pack != earlier.spec.search.pack:
        raise UserError(
            f"{folder}: its trials ran with search.pack={earlier.spec.search.pack}, which tells nothing of "
            f"{spec.search.pack} on a GPU; make a short search with it"
        )
    launched = datetime.fromisoformat(earlier.spec.provenance.created_at)
    return _Earlier(earlier.spec, rows, launched, planned.count("failed"), len(planned))


def _timed(search: _Earlier, spec: Spec, kind: str) -> list[pace.Timed]:
    """Return the trials by what each would take with a place to itself: those of a pack take turns."""
    then = search.spec.train.epochs
    more = spec.train.epochs / then - 1 if then else 0.0
    pack = search.spec.search.pack
    return [
        replace(trial, seconds=trial.seconds / min(pack, trial.beside), beside=max(1.0, trial.beside / pack))
        for trial in pace.timed(search.rows, kind=kind, more_epochs=more)
    ]


def _conditions(searches: Sequence[_Earlier], power: float, otherwise: Conditions) -> Conditions:
    """Return what searches tell of the time before the first trial and between two; slow trials are in theirs."""
    begin, between = [], []
    for search in searches:
        at_once = pace.most_at_once(search.rows)
        slow = (at_once / search.spec.search.pack) ** power
        lead = min(map(pace.begin, search.rows)) - search.launched.timestamp()
        begin.append(COMMAND_S + max(0.0, lead - otherwise.actor_start_s * slow))
        gap = pace.between(search.rows, at_once=at_once) - otherwise.propose_s - otherwise.record_s
        between.append(max(0.0, gap) / slow)
    return replace(otherwise, begin_s=statistics.median(begin), between_s=statistics.median(between), straggler=0.0)
