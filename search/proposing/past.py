"""Proposals of the past, as the driver tells them and as the samplers keep them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search.spec.fields import Scalar

Status = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Past:
    """One earlier proposal and what came of it.

    Attributes:
        params: Its flat parameters: ``Suggestion.params``.
        status: How it ended; ``"running"`` for one that is still in flight.
        number: Its number in this search; ``None`` for one of an earlier search (warm start).
        accuracy: Validation accuracy, the mean over repeats.
        memory: Memory, in the unit the search minimises.
        constraints: One value for each constraint, at most 0 where it is met.
    """

    params: Mapping[str, Scalar]
    status: Status
    number: int | None = None
    accuracy: float | None = None
    memory: float | None = None
    constraints: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What a sampler learns from one trial.

    Attributes:
        params: Its flat parameters.
        losses: What is made small: negated accuracy and the logarithm of memory.
        constraints: One value for each constraint, at most 0 where it is met.
    """

    params: dict[str, Scalar]
    losses: tuple[float, float]
    constraints: tuple[float, ...]

    @property
    def violation(self) -> float:
        """How far the trial is from feasible; 0 if it is."""
        return sum(value for value in self.constraints if value > 0)


def observe(past: Past) -> Observation | None:
    """Return what a sampler learns from a trial that ended: nothing where a value is missing or not finite."""
    if past.status not in ("finished", "pruned") or past.accuracy is None or past.memory is None or past.memory <= 0:
        return None
    losses = (-float(past.accuracy), math.log(past.memory)) if math.isfinite(past.memory) else (math.nan, math.nan)
    constraints = tuple(float(value) for value in past.constraints)
    if not all(math.isfinite(value) for value in (*losses, *constraints)):
        return None
    return Observation(dict(past.params), losses, constraints)


def combine(repeats: Sequence[Past]) -> Past:
    """Return what a proposal that was trained with several seeds came to: the mean over those that finished.

    Where none did, over those that were stopped early.

    Args:
        repeats: The results of one proposal, at least one, none still running.
    """
    finished = [past for past in repeats if past.status == "finished"]
    ended = [seen for seen in map(_known, finished or repeats) if seen is not None]
    if not ended:
        return repeats[0]
    count = len(ended)
    return Past(
        params=repeats[0].params,
        status="finished" if finished else "pruned",
        number=repeats[0].number,
        accuracy=sum(accuracy for accuracy, _, _ in ended) / count,
        memory=sum(memory for _, memory, _ in ended) / count,
        constraints=[sum(values) / count for values in zip(*(constraints for _, _, constraints in ended), strict=True)],
    )


def _known(past: Past) -> tuple[float, float, Sequence[float]] | None:
    if observe(past) is None or past.accuracy is None or past.memory is None:
        return None
    return past.accuracy, past.memory, past.constraints
