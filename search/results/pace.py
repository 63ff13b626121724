"""How long trials take, and how much those that run at once slow each other: learned from the rows of earlier ones.

Each row says on which machine a trial ran from when to when, and so how many others ran beside it.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

COLUMNS = (
    *("trial_id", "method", "status", "host", "started_at", "finished_at"),
    *("setup_seconds", "train_seconds", "eval_seconds", "attempts"),
)
# Two trials tell of contention only if at least so many times as many ran beside the one as beside the other.
TELLING = 1.3
# Comparing each with each grows with the square.
MOST_COMPARED = 200


@dataclass(frozen=True)
class Timed:
    """One trial that has ended.

    Attributes:
        kind: Trials of one kind are alike: the trial's id, or its method.
        seconds: How long it took, begin to end.
        beside: How many ran on its machine meanwhile, itself counted, on average.
        method: Its method.
    """

    kind: str
    seconds: float
    beside: float
    method: str | None = None


def begin(row: Mapping[str, Any]) -> float:
    """Return when a trial took its place, in seconds since 1970: what it notes is when it was set up."""
    started: datetime = row["started_at"]
    return started.timestamp() - (row["setup_seconds"] or 0.0)


def tells(row: Mapping[str, Any]) -> bool:
    """Whether a row says how long its trial took; one of another program may not."""
    moments = row["started_at"], row["finished_at"], row["train_seconds"]
    seconds = (row[name] or 0.0 for name in ("setup_seconds", "train_seconds", "eval_seconds"))
    return None not in moments and math.isfinite(sum(seconds))


def end(row: Mapping[str, Any]) -> float:
    """Return when a trial ended, in seconds since 1970."""
    finished: datetime = row["finished_at"]
    return finished.timestamp()


def timed(rows: Sequence[Mapping[str, Any]], *, kind: str, more_epochs: float = 0.0) -> list[Timed]:
    """Return what rows of one search tell of time.

    Trials that were started again are left out where others of their method are not: in their time is that in which
    the search stood still.

    Args:
        rows: Trials with the columns ``COLUMNS``.
        kind: Name of the column that tells the kind.
        more_epochs: How many times its own epochs a trial is to train beyond them: -0.5 for half of them.
    """
    found = []
    straight = {row["method"] for row in rows if not _again(row)}
    for host in {row["host"] for row in rows}:
        here = [row for row in rows if row["host"] == host]
        busy = _Busy([(begin(row), begin(row) + _lasted(row)) for row in here])
        for row in here:
            if _again(row) and row["method"] in straight:
                continue
            first, span = begin(row), _lasted(row)
            seconds = max(span + more_epochs * _trained(row), 1e-9)
            beside = max(1.0, busy.total(first, first + span) / span)
            found.append(Timed(str(row[kind]), seconds, beside, row["method"]))
    return found


def _trained(row: Mapping[str, Any]) -> float:
    return row["train_seconds"] + (row["eval_seconds"] or 0.0)


def _lasted(row: Mapping[str, Any]) -> float:
    # A clock that was put back meanwhile makes a trial no shorter than what was timed without it.
    return max(end(row) - begin(row), _trained(row), 1e-9)


def _again(row: Mapping[str, Any]) -> bool:
    return (row.get("attempts") or 1) > 1


def contention(trials: Iterable[Timed]) -> float | None:
    """Return the power of the number at once by which trials become slower; None where all ran beside equally many.

    n trials at once each take ``n ** power`` times as long as one alone: 0 if they do not disturb each other, 1 if they
    might as well take turns. It is the median slope between all pairs of trials of one kind (Theil and Sen's
    estimator), which a few disturbed trials do not move.
    """
    slopes = []
    for alike in _by_kind(trials):
        for one, other in itertools.combinations(alike[:MOST_COMPARED], 2):
            apart = math.log(other.beside / one.beside)
            if abs(apart) >= math.log(TELLING):
                slopes.append(math.log(other.seconds / one.seconds) / apart)
    return min(1.0, max(0.0, statistics.median(slopes))) if slopes else None


def between(rows: Sequence[Mapping[str, Any]], *, at_once: int) -> float:
    """Return how long a place stands idle between two trials, in seconds: the median.

    Args:
        rows: The trials of one search, on whatever machines.
        at_once: How many places there were.
    """
    free: list[float] = []
    idle = []
    ends = sorted(map(end, rows))
    for number, moment in enumerate(sorted(map(begin, rows))):
        while ends and ends[0] <= moment:
            heapq.heappush(free, ends.pop(0))
        if number >= at_once and free:
            idle.append(moment - heapq.heappop(free))
    return statistics.median(idle) if idle else 0.0


def most_at_once(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return how many trials ran at once at most."""
    steps = sorted((moment, step) for row in rows for moment, step in ((begin(row), 1), (end(row), -1)))
    return max(itertools.accumulate(step for _, step in steps), default=0)


class _Busy:
    """How many trials run, as a function of time, and its integral."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        steps = sorted((moment, step) for first, last in spans for moment, step in ((first, 1), (last, -1)))
        self._moments = [moment for moment, _ in steps]
        self._running = list(itertools.accumulate(step for _, step in steps))
        pieces = (
            running * (later - earlier)
            for running, (earlier, later) in zip(self._running, itertools.pairwise(self._moments), strict=False)
        )
        self._areas = list(itertools.accumulate(pieces, initial=0.0))

    def total(self, first: float, last: float) -> float:
        """Return the trials that ran from one moment to another, each by how long it did, in seconds."""
        return self._area(last) - self._area(first)

    def _area(self, moment: float) -> float:
        at = bisect.bisect_right(self._moments, moment) - 1
        return self._areas[at] + self._running[at] * (moment - self._moments[at]) if at >= 0 else 0.0


def _by_kind(trials: Iterable[Timed]) -> list[list[Timed]]:
    kinds: dict[str, list[Timed]] = {}
    for trial in trials:
        kinds.setdefault(trial.kind, []).append(trial)
    return list(kinds.values())
