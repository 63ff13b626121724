"""How long a search would take and what it would cost, by simulating it event by event."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clusters.errors import ClusterError
from clusters.fields import Machine, Rented
from clusters.kinds import CloudProfile, ClusterProfile, KubernetesProfile, LocalProfile, SlurmProfile
from clusters.placement import Shape, fits, missing
from clusters.profile import Profile

HOUR_S = 3600.0


@dataclass(frozen=True)
class Workload:
    """What is to be done."""

    trials: int
    """Trials in all."""
    seconds: Sequence[float]
    """What trials take that have a machine to themselves, in seconds; each simulated one takes one, drawn at random."""
    cpus: float
    """CPUs of a trial."""
    gpus: float
    """GPUs of a trial, whole or a fraction."""
    custom: dict[str, float]
    """Custom resources of a trial."""
    concurrency: int | None = None
    """Trials at once at most; None as many as fit."""
    contention: float = 0.0
    """How trials on one machine slow each other: n of them at once take n ** contention times as long. 0: not at all;
    1: as if they took turns."""
    pack: int = 1
    """Trials that share one place and take turns there."""


@dataclass(frozen=True)
class Conditions:
    """What happens beside training. Times in seconds, chances in [0, 1]."""

    begin_s: float = 4.0
    """From the command to the first proposal: Ray starts, the data is read."""
    actor_start_s: float = 6.0
    """A worker process starts: Python, torch, the data. Paid once for each place, and after each interruption."""
    machine_start_s: float = 180.0
    """A machine that was taken away is replaced."""
    propose_s: float = 0.02
    """The sampler proposes one trial. The driver does one thing at a time."""
    record_s: float = 0.01
    """The driver takes one trial's reports and its row."""
    between_s: float = 0.0
    """A place waits from the end of one trial to the start of the next, beyond the driver's own work."""
    failure: float = 0.0
    """Chance that a trial's process dies somewhere on its way, once."""
    straggler: float = 0.02
    """Chance that a trial is slow."""
    straggler_factor: float = 2.0
    """How many times longer a slow trial takes."""
    checkpoint_every_s: float = 15.0
    """Work since the last checkpoint is done again after an interruption."""


@dataclass(frozen=True)
class Fleet:
    """Machines that are alike, as many as are used."""

    machine: Machine
    count: int
    slots: int
    """Trials that run at once on all of them."""
    interruptions_per_hour: float = 0.0
    """How often each machine is taken away."""
    head_price_per_hour: float = 0.0
    """Price of the machine that runs the driver, if it is another one."""
    idle: Sequence[tuple[Machine, int]] = ()
    """Machines that are always there beside these, by how many, which the search pays for and does not use."""
    short: bool = False
    """Whether the profile has fewer machines than were asked for."""


@dataclass(frozen=True)
class Plan:
    """What a simulated search took."""

    slots: int
    """Trials at once."""
    places: int
    """Trials that would fit at once."""
    wall_s: float
    """From the command to the last result."""
    busy_s: float
    """Training that counts, summed over trials."""
    repeated_s: float
    """Training that was done again after interruptions and failures."""
    gpu_hours: float
    """GPU hours that are paid for, idle ones counted."""
    cost: float
    """In the profile's currency."""

    @property
    def utilisation(self) -> float:
        """Share of the time of all places that was training that counts."""
        return min(1.0, self.busy_s / (self.places * self.wall_s))


def simulate(work: Workload, fleet: Fleet, conditions: Conditions, *, seed: int = 0) -> Plan:
    """Run a search in simulated time.

    Each place takes the next trial as soon as it is free and the driver has proposed one; the driver proposes and
    records one at a time.

    Args:
        work: The trials.
        fleet: The machines.
        conditions: Everything that is not training.
        seed: Of all that is random.
    """
    draw = random.Random(seed)
    slots = min(fleet.slots * work.pack, work.concurrency or fleet.slots * work.pack, work.trials)
    lanes = math.ceil(slots / fleet.count)
    slow = _slowness(work, lanes)
    # Places, by the time at which they become free, and whether their process is there already.
    free = [(conditions.begin_s, False, number) for number in range(slots)]
    driver_s = conditions.begin_s
    busy = repeated = 0.0
    for _ in range(work.trials):
        at, ready, number = heapq.heappop(free)
        driver_s = max(driver_s, at) + conditions.propose_s
        before = conditions.between_s if ready else conditions.actor_start_s
        seconds = _duration(work, conditions, draw) * slow(lanes)
        elapsed, again = _with_interruptions(seconds, fleet, conditions, draw)
        end = driver_s + before * slow(lanes) + elapsed + conditions.record_s
        # Of trials that take turns, each occupies its part of the place.
        busy += seconds / _turns(work, lanes)
        repeated += again / _turns(work, lanes)
        heapq.heappush(free, (end, True, number))
    machines: dict[int, list[float]] = {}
    for end, _, number in free:
        machines.setdefault(number % fleet.count, []).append(end)
    wall = max(_last_end(sorted(ends), slow) for ends in machines.values())
    hours = wall / HOUR_S
    paid = [(fleet.machine, fleet.count), *fleet.idle]
    price = sum(machine.price_per_hour * count for machine, count in paid) + fleet.head_price_per_hour
    gpus = sum(machine.gpus * count for machine, count in paid)
    return Plan(slots, fleet.slots, wall, busy, repeated, hours * gpus, hours * price)


def _turns(work: Workload, lanes: int) -> float:
    """Return how many trials take turns at each place of a machine that runs ``lanes`` trials at once."""
    return min(work.pack, lanes)


def _slowness(work: Workload, most: int) -> Callable[[int], float]:
    """Return how many times longer trials take, as a function of those at once on a machine, ``most`` at most."""
    places = math.ceil(most / work.pack)

    def slow(lanes: int) -> float:
        return max(1.0, lanes / places) * min(lanes, places) ** work.contention

    return slow


def _last_end(ends: list[float], slow: Callable[[int], float]) -> float:
    """Return when the last trial of a machine ends: as others end before it and none follows, it becomes faster.

    Args:
        ends: When each place's last trial would end if all went on, sorted.
        slow: How many times longer trials take by how many are at once.
    """
    number = len(ends)
    gaps = (later - earlier for earlier, later in itertools.pairwise(ends))
    return ends[0] + sum(gap * slow(number - ended) / slow(number) for ended, gap in enumerate(gaps, start=1))


def _duration(work: Workload, conditions: Conditions, draw: random.Random) -> float:
    slow = draw.random() < conditions.straggler
    return draw.choice(work.seconds) * (conditions.straggler_factor if slow else 1.0)


def _with_interruptions(
    seconds: float, fleet: Fleet, conditions: Conditions, draw: random.Random
) -> tuple[float, float]:
    """Return the time that a trial occupies its place, and the training in it that is done twice."""
    elapsed = again = done = 0.0
    dies_at = draw.random() * seconds if draw.random() < conditions.failure else math.inf
    rate = fleet.interruptions_per_hour / HOUR_S
    while True:
        taken = draw.expovariate(rate) if rate else math.inf
        left = min(seconds, dies_at) - done
        if taken >= left and dies_at == math.inf:
            return elapsed + left, again
        ran = min(taken, left)
        if taken >= left:
            dies_at, pause = math.inf, conditions.actor_start_s
        else:
            pause = conditions.machine_start_s + conditions.actor_start_s
        lost = min(done + ran, draw.random() * conditions.checkpoint_every_s)
        done += ran - lost
        again += lost
        elapsed += ran + pause


def fleets(profile: Profile, work: Workload, sizes: Sequence[int]) -> list[Fleet]:
    """Return the profile's machines in several numbers, as many as it has at most.

    Args:
        profile: Its first kind of worker that can serve a trial is taken; where it names none, machines like this one.
        work: The trials.
        sizes: Numbers of GPUs; of trials at once if a trial needs none.

    Raises:
        ClusterError: If no kind of machine can ever serve a trial.
    """
    machine, most, head = _worker(profile, work)
    each = fits(machine.resources(), work.cpus, work.gpus, work.custom)
    interruptions = machine.interruptions_per_hour if isinstance(machine, Rented) and machine.spot else 0.0
    found = []
    for size in sizes:
        places = size if work.gpus == 0 else _places(size, work.gpus)
        wanted = math.ceil(size / machine.gpus) if work.gpus else math.ceil(size / each)
        count = min(wanted, most)
        slots = max(1, min(places, count * each))
        idle = _idle(profile, machine, count)
        found.append(Fleet(machine, count, slots, interruptions, head, idle, short=count < wanted))
    return found


def _idle(profile: Profile, used: Machine, count: int) -> list[tuple[Machine, int]]:
    """Return the machines that the profile keeps whatever runs, less those of ``used`` that are counted already.

    Those over SSH are not asked for: a smaller size means a profile that lists fewer of them.
    """
    if not isinstance(profile, CloudProfile | KubernetesProfile):
        return []
    kept = ((kind, kind.min - (count if kind is used else 0)) for kind in profile.workers.values())
    return [(kind, more) for kind, more in kept if more > 0]


def _places(gpus: int, share: float) -> int:
    return fits({"GPU": gpus}, 0, share, {})


def _worker(profile: Profile, work: Workload) -> tuple[Machine, int, float]:
    """Return the machine that serves trials, how many the profile has, and the price of a head that is another one."""
    if not isinstance(profile, ClusterProfile):
        here = profile if isinstance(profile, LocalProfile) else LocalProfile(kind="local")
        # GPUs are not counted, which would load torch: as many as a trial needs.
        cpus, gpus = here.cpus or os.cpu_count() or 1, here.gpus or math.ceil(work.gpus)
        return Machine(cpus=max(cpus, math.ceil(work.cpus)), gpus=gpus, custom=work.custom), sys.maxsize, 0.0
    kinds: list[tuple[Machine, int, float]] = [(profile.head, 1, 0.0)]
    if isinstance(profile, SlurmProfile):
        kinds = [(profile.head, profile.nodes, 0.0)]  # The head is one of the nodes.
    else:
        workers = profile.worker_kinds().values()
        kinds = [*((kind, kind.max, profile.head.price_per_hour) for kind in workers), *kinds]
    for kind in kinds:
        if fits(kind[0].resources(), work.cpus, work.gpus, work.custom):
            return kind
    problem = missing([Shape(kind[0].resources(), 1) for kind in kinds], work.cpus, work.gpus, work.custom)
    raise ClusterError(problem or "no machine fits")
