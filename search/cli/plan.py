"""``plan``: what a search would take on a cluster of several sizes, before anything is started."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.cluster import one_sentence, read_profile
from search.errors import UserError

if TYPE_CHECKING:
    from clusters.planning import Conditions, Plan
    from search.spec import Spec

SIZES = (1, 8, 64, 512)
# The program is loaded before the launch that results tell of, and shows the frontier after the last trial.
COMMAND_S = 4.0


def plan(
    spec: Annotated[str, typer.Argument(help="A YAML file, or the name of a spec that ships with the package.")],
    cluster: Annotated[str, typer.Option(help="Profile with the machines and their prices.")] = "local",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(metavar="DIR", help="Experiment folder whose trials say how long one takes.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.001, help="Seconds of one trial, instead.")] = None,
    failure: Annotated[float, typer.Option(min=0, max=1, help="Chance that a trial's process dies once.")] = 0.0,
    size: Annotated[list[int] | None, typer.Option(min=1, help="GPUs (places, for trials on CPUs).")] = None,
) -> None:
    """Say how long a search takes, what it costs and how busy the machines are, by simulating it."""
    from clusters.kinds import ClusterProfile
    from clusters.planning import Conditions, Workload, fleets, simulate
    from search.spec import load_spec

    wanted = load_spec(spec, set_ or [])
    profile = read_profile(cluster)
    needs = wanted.resources
    conditions = Conditions(failure=failure, checkpoint_every_s=wanted.train.checkpoint_every_s)
    times, conditions = _known(wanted, results, seconds, conditions)
    work = Workload(
        wanted.trials,
        times,
        needs.cpus,
        needs.gpus,
        dict(needs.custom),
        wanted.search.concurrency,
    )
    sizes = size or list(SIZES)
    with one_sentence():
        plans = [simulate(work, fleet, conditions, seed=wanted.seed) for fleet in fleets(profile, work, sizes)]
    currency = profile.currency if isinstance(profile, ClusterProfile) else "USD"
    _print(sizes, plans, "GPUs" if needs.gpus else "places", currency)


def _known(
    spec: Spec, results: str | None, seconds: float | None, conditions: Conditions
) -> tuple[list[float], Conditions]:
    """Return how long trials take, and what is known of everything else: as given, or as it was in earlier results."""
    if seconds is not None:
        return [seconds], conditions
    if results is None:
        raise UserError(
            "plan needs to know how long a trial takes: --seconds S, or --results DIR of an earlier search "
            f"(a short one: rps-search launch SPEC --set trials={2 * spec.repeats} --storage runs/probe)"
        )
    from search.driver.experiment import open_experiment
    from search.results.folder import Folder
    from search.results.store import ResultStore

    earlier = open_experiment(Folder(results))
    columns = ["status", "train_seconds", "eval_seconds", "started_at", "finished_at"]
    rows = ResultStore(earlier.folder).read("trials", columns).to_pylist()
    rows = [row for row in rows if row["status"] in {"finished", "pruned"} and row["train_seconds"] is not None]
    if not rows or earlier.spec.provenance is None:
        raise UserError(f"{results}: no trial has ended there; write --seconds S instead")
    now, then = spec.train.epochs, earlier.spec.train.epochs
    if now and not then:
        raise UserError(f"{results}: trials there trained for no epoch, and say nothing of {now}; write --seconds S")
    more = now / then - 1 if then else 0.0
    times = [
        (row["finished_at"] - row["started_at"]).total_seconds()
        + more * (row["train_seconds"] + (row["eval_seconds"] or 0.0))
        for row in rows
    ]
    # From the launch to the first trial: Ray and the first process start. Slow trials are among the times already.
    created = datetime.fromisoformat(earlier.spec.provenance.created_at)
    lead = (min(row["started_at"] for row in rows) - created).total_seconds()
    begin = COMMAND_S + max(0.0, lead - conditions.actor_start_s)
    return times, replace(conditions, begin_s=begin, straggler=0.0)


def _print(sizes: list[int], plans: list[Plan], unit: str, currency: str) -> None:
    print(f"{unit:>8} {'at once':>8} {'wall':>10} {'GPU hours':>10} {currency:>10} {'busy':>6} {'repeated':>9}")
    for size, made in zip(sizes, plans, strict=True):
        repeated = made.repeated_s / made.busy_s
        print(
            f"{size:>8} {made.slots:>8} {_duration(made.wall_s):>10} {made.gpu_hours:>10.2f} "
            f"{made.cost:>10.2f} {made.utilisation:>6.0%} {repeated:>9.1%}"
        )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}h{rest // 60:02}m" if hours else f"{rest // 60}m{rest % 60:02}s"
