"""``launch``, ``resume`` and ``status``: beginning a search, going on with it, asking how far it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.cluster import must_submit, read_profile, submit
from search.cli.output import printable
from search.cli.trial_ids import the_trial
from search.errors import UserError
from search.results.folder import Folder
from search.results.load import SPEC_PATH

if TYPE_CHECKING:
    from clusters.profile import Profile
    from search.driver.experiment import Experiment
    from search.driver.run import Outcome

TRIALS_FAILED = 3
INTERRUPTED = 130

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec.")]
Cluster = Annotated[str, typer.Option(help="Profile that says where trials run: a name or a YAML file.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what Ray and Tune say.")]
Directory = Annotated[str, typer.Argument(metavar="DIR", help="Experiment folder: a path or a URI.")]


def launch(
    spec: Annotated[str, typer.Argument(help="A YAML file, or the name of a spec that ships with the package.")],
    set_: Set = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URI", help="Experiment folder; default runs/NAME. A path or a URI.")
    ] = None,
    cluster: Cluster = "local",
    verbose: Verbose = False,
) -> None:
    """Run a search; the same command again goes on where it stopped."""
    from search.driver.experiment import create_or_open
    from search.spec import load_spec

    wanted = load_spec(spec, set_ or [])
    profile = read_profile(cluster)
    if must_submit(profile):
        submit(wanted, profile, storage)
        return
    experiment, existed = create_or_open(Folder(storage or f"runs/{wanted.name}"), wanted)
    if existed:
        print(f"{experiment.folder}: this experiment is here already; going on with it", file=sys.stderr)
    _run(experiment, profile, verbose)


def resume(directory: Directory, set_: Set = None, cluster: Cluster = "local", verbose: Verbose = False) -> None:
    """Go on with a search after an interruption or a crash."""
    from search.driver.experiment import open_experiment

    profile = read_profile(cluster)
    experiment = open_experiment(Folder(directory), set_ or [])
    if must_submit(profile):
        submit(experiment.spec, profile, directory)
        return
    _run(experiment, profile, verbose)


def repeat(
    directory: Directory,
    seeds: Annotated[int, typer.Option(help="Seeds that each is to have in all.")],
    frontier: Annotated[bool, typer.Option("--frontier", help="Repeat every point of the frontier.")] = False,
    trial: Annotated[list[str] | None, typer.Option(metavar="ID", help="Repeat this trial; repeatable.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Repeat what the claims of the spec compare.")] = False,
    cluster: Cluster = "local",
    verbose: Verbose = False,
) -> None:
    """Train trials again with further seeds, so that the frontier shows intervals."""
    from search.driver.experiment import open_experiment
    from search.results import ResultStore, load, points
    from search.results.claims import candidates, judge
    from search.results.frontier import frontier as frontier_of

    experiment = open_experiment(Folder(directory))
    found = points.points(load(directory).trials, (experiment.spec.objectives.memory,))
    known = dict(zip(found["trial_id"].to_pylist(), found["number"].to_pylist(), strict=True))
    named = [the_trial(name, known, "finished trial") for name in trial or []]
    chosen = frontier_of(found, (experiment.spec.objectives.memory,))["number"].to_pylist() if frontier else []
    chosen += [known[name] for name in named]
    if claims:
        lines = judge(experiment.spec.claims, candidates([ResultStore(experiment.folder)]))
        chosen += [side.number for line in lines for side in (line.of, line.against) if side]
    if not chosen:
        raise UserError(
            "repeat: nothing to repeat; once trials have finished, write --frontier, --claims (of a spec that has "
            "claims) or --trial ID"
        )
    if seeds <= experiment.spec.repeats:
        raise UserError(f"--seeds {seeds}: each trial has {experiment.spec.repeats} already; write more")
    _run(experiment, read_profile(cluster), verbose, repeat=sorted(set(chosen)), seeds=seeds)


def status(directory: Directory) -> None:
    """Say how far a search is."""
    from search.cli.live import plain_line
    from search.driver.experiment import open_experiment
    from search.driver.lease import lives_here, read_lease
    from search.driver.progress import Progress, planned
    from search.results.store import ResultStore

    experiment = open_experiment(Folder(directory))
    spec = experiment.spec
    columns = ["trial_id", "number", "repeat", "status", "method", "accuracy_val", "stored_bytes", "stored_parameters"]
    rows = ResultStore(experiment.folder).read("trials", [*columns, "error"]).to_pylist()
    progress = Progress(spec.name, planned(spec, rows), spec.objectives.memory, spec.train.epochs)
    progress.recall(rows)
    print(plain_line(progress))
    if progress.last_failure:
        print(f"last failure: {printable(progress.last_failure)}")
    lease = read_lease(experiment.folder)
    if lease and lives_here(lease) is not False:
        print(f"driver: host {lease['host']}, process {lease['pid']}, since {lease['since']}")
    elif progress.ended < progress.total:
        print(f"no driver is at work; go on with: {resume_line(experiment)}")


def resume_line(experiment: Experiment) -> str:
    """Return the command that goes on with an experiment."""
    from clusters.uri import shown

    return f"rps-search resume {shlex.quote(shown(experiment.folder.uri))}"


def _run(
    experiment: Experiment, profile: Profile, verbose: bool, *, repeat: Sequence[int] = (), seeds: int = 0
) -> None:
    """Run a search to its end and exit with the code that says how it ended."""
    from search.cli.live import view
    from search.driver.run import run_search

    try:
        with view(quiet=verbose) as watch:
            outcome = run_search(experiment, profile, watch=watch, verbose=verbose, repeat=repeat, seeds=seeds)
    except KeyboardInterrupt:
        _interrupted(experiment)
    _report(experiment, outcome)


def _report(experiment: Experiment, outcome: Outcome) -> None:
    from search.cli.frontier import print_frontier
    from search.cli.live import duration, plain_line

    if outcome.interrupted:
        print(plain_line(outcome.progress), file=sys.stderr)
        _interrupted(experiment)
    print_frontier(experiment.folder)
    progress = outcome.progress
    print(f"{progress.ended} of {progress.total} trials have ended ({duration(outcome.wall_seconds)} this time)")
    if outcome.shares:
        print("where the time went: " + ", ".join(f"{name} {share:.0%}" for name, share in outcome.shares.items()))
    _report_constraints(experiment)
    print(f"results: {experiment.folder}")
    if outcome.exhausted:
        print(f"the search is over: {printable(str(outcome.stop_reason))}")
    elif outcome.stop_reason:
        print(
            f"rps-search: stopped: {printable(outcome.stop_reason)}; go on with: {resume_line(experiment)}",
            file=sys.stderr,
        )
        sys.exit(TRIALS_FAILED)
    if progress.counts["failed"]:
        reason = printable(str(progress.last_failure))
        print(f"rps-search: {progress.counts['failed']} trials failed, the last one: {reason}", file=sys.stderr)
        sys.exit(TRIALS_FAILED)


def _report_constraints(experiment: Experiment) -> None:
    """Say how many trials keep to the limits of the spec, where it sets any; plainly, if none does."""
    from search.driver.ledger import meets_constraints
    from search.results.store import ResultStore

    wanted = experiment.spec.objectives.model_dump(include={"max_bytes", "min_accuracy", "max_latency_ms"})
    limits = ", ".join(f"{name} {value:g}" for name, value in wanted.items() if value is not None)
    if not limits:
        return
    rows = ResultStore(experiment.folder).read("trials").to_pylist()
    met = sum(meets_constraints(row, experiment.spec) for row in rows)
    print(
        f"{met or 'none'} of {len(rows)} trials {'keep' if met > 1 else 'keeps'} to the limits of the spec ({limits})"
    )
    if not met:
        print("loosen them under objectives, or let space.ratio reach further")


def _interrupted(experiment: Experiment) -> None:
    if experiment.folder.exists(SPEC_PATH):
        print(f"rps-search: interrupted; go on with: {resume_line(experiment)}", file=sys.stderr)
    else:
        print("rps-search: interrupted before anything was written; launch it again", file=sys.stderr)
    sys.exit(INTERRUPTED)
