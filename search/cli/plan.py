"""``plan``: what a search would take on a cluster of several sizes, before anything is started."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.cluster import one_sentence, read_profile
from search.errors import UserError

if TYPE_CHECKING:
    from clusters.planning import Conditions, Fleet, Plan, Workload
    from search.driver.estimate import Estimate
    from search.spec import Spec

SIZES = (1, 8, 64, 512)
# Each is simulated, some microseconds long, for each size.
MOST_TRIALS = 1_000_000


def plan(
    spec: Annotated[str, typer.Argument(help="A YAML file, or the name of a spec that ships with the package.")],
    cluster: Annotated[str, typer.Option(help="Profile with the machines and their prices.")] = "local",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec.")
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Experiment folder whose trials say how long one takes; several, with different numbers of trials at "
            "once, say how those slow each other down.",
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Find that out here, with two short searches: one trial at a time, and all.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(min=0.001, max=1e9, help="Seconds of one trial, instead.")] = None,
    failure: Annotated[float, typer.Option(min=0, max=1, help="Chance that a trial's process dies once.")] = 0.0,
    straggler: Annotated[
        float | None, typer.Option(min=0, max=1, help="Chance that a trial takes twice as long; 0.02 with --seconds.")
    ] = None,
    size: Annotated[list[int] | None, typer.Option(min=1, help="GPUs (places, for trials on CPUs).")] = None,
) -> None:
    """Say how long a search takes, what it costs and how busy the machines are, by simulating it."""
    from dataclasses import replace

    from clusters.kinds import ClusterProfile
    from clusters.planning import Conditions, Workload, fleets, simulate
    from search.spec import load_spec

    wanted = load_spec(spec, set_ or [])
    if wanted.trials > MOST_TRIALS:
        raise UserError(
            f"plan: trials={wanted.trials} are too many to simulate one by one; write {MOST_TRIALS} at most"
        )
    profile = read_profile(cluster)
    needs = wanted.resources
    known = _known(
        wanted, results or [], probe, seconds, Conditions(checkpoint_every_s=wanted.train.checkpoint_every_s)
    )
    conditions = replace(known.conditions, failure=failure)
    if straggler is not None:
        conditions = replace(conditions, straggler=straggler)
    work = Workload(
        wanted.trials,
        known.seconds,
        needs.cpus,
        needs.gpus,
        dict(needs.custom),
        wanted.search.concurrency,
        known.contention or 0.0,
        wanted.search.pack,
    )
    sizes = size or list(SIZES)
    with one_sentence():
        chosen = fleets(profile, work, sizes)
        plans = [simulate(work, fleet, conditions, seed=wanted.seed) for fleet in chosen]
    currency = profile.currency if isinstance(profile, ClusterProfile) else "USD"
    _print(sizes, chosen, plans, "GPUs" if needs.gpus else "places", currency)
    _print_assumptions(work, known.contention, conditions, chosen[0])
    _warn(known, work, chosen, plans)


def _known(spec: Spec, results: list[str], probe: bool, seconds: float | None, conditions: Conditions) -> Estimate:
    """Return how long trials take, and what is known of everything else: as given, measured now, or as it was."""
    from search.driver.estimate import Estimate, from_results
    from search.driver.estimate import probe as measure

    ways = [name for name, given in (("--results", results), ("--probe", probe), ("--seconds", seconds)) if given]
    if len(ways) > 1:
        raise UserError(f"{' and '.join(ways)}: the time of a trial is told in one way; leave the others out")
    if seconds is not None:
        return Estimate([seconds], 0.0, 1.0, conditions)
    if results:
        return from_results(spec, results, conditions)
    if probe:
        with measure(spec) as folders:
            return from_results(spec, folders, conditions)
    raise UserError(
        "plan needs to know how long a trial takes: --seconds S, --results DIR of an earlier search, or --probe, "
        "which makes two short ones here"
    )


def _print(sizes: list[int], fleets: list[Fleet], plans: list[Plan], unit: str, currency: str) -> None:
    print(f"{unit:>8} {'at once':>8} {'wall':>10} {'GPU hours':>10} {currency:>10} {'busy':>6} {'repeated':>9}")
    for size, fleet, made in zip(sizes, fleets, plans, strict=True):
        repeated = made.repeated_s / made.busy_s
        fewer = f"  the profile has {fleet.count} such machine{'s' * (fleet.count > 1)}" if fleet.short else ""
        print(
            f"{size:>8} {made.slots:>8} {_duration(made.wall_s):>10} {made.gpu_hours:>10.2f} "
            f"{made.cost:>10.2f} {made.utilisation:>6.0%} {repeated:>9.1%}{fewer}"
        )


def _print_assumptions(work: Workload, contention: float | None, conditions: Conditions, fleet: Fleet) -> None:
    """Say what the plan rests on."""
    low, high = min(work.seconds), max(work.seconds)
    span = f"{low:.3g} s" if low == high else f"{low:.3g} to {high:.3g} s"
    slowed = (
        "how much n at once slow each other is not known"
        if contention is None
        else f"n at once on a machine take n^{contention:.2f} times as long"
    )
    print(
        f"a trial alone: {span}; {slowed}; "
        f"process start {conditions.actor_start_s:g} s; machine replaced in {conditions.machine_start_s:g} s, "
        f"taken away {fleet.interruptions_per_hour:g} times an hour; failures {conditions.failure:.1%}; "
        f"stragglers {conditions.straggler:.1%}; sampler and tables {conditions.propose_s + conditions.record_s:.3f} s "
        f"a trial, {conditions.between_s:.2f} s between two"
    )


def _warn(known: Estimate, work: Workload, fleets: list[Fleet], plans: list[Plan]) -> None:
    """Say what was learned from fewer trials than there were, or of fewer at once than there will be."""
    if known.failed:
        print(
            f"rps-search: {known.failed} of the {known.ended} trials there failed; "
            "their times are left out, and the plan takes it that none fails",
            file=sys.stderr,
        )
    if known.unknown:
        print(
            f"rps-search: no trial there tells how long {', '.join(known.unknown)} takes; the plan takes it that it is "
            "as the others",
            file=sys.stderr,
        )
    if known.contention is not None:
        return
    most = max(math.ceil(made.slots / work.pack / fleet.count) for made, fleet in zip(plans, fleets, strict=True))
    if abs(most - known.at_once) > 0.5:
        print(
            f"rps-search: {known.at_once:.1f} trials at once ran on a machine there; by how much they slow each other "
            f"at {most} is not known and left out: name results of both with --results twice, or write --probe",
            file=sys.stderr,
        )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}h{rest // 60:02}m" if hours else f"{rest // 60}m{rest % 60:02}s"
