"""What the user demands of a model, as values for the sampler."""

from __future__ import annotations

import math

from search.spec import ObjectiveSpec


def constraint_values(
    objectives: ObjectiveSpec,
    *,
    stored_bytes: float,
    accuracy: float,
    latency_ms: float | None = None,
    trained: float | None = None,
) -> tuple[float, ...]:
    """Return one value for each constraint of the spec: at most 0 where it is met, else by how much it is missed.

    Sizes and times count by the logarithm of how far they are off, so that each constraint weighs alike whatever its
    unit.

    Where trials may be stopped early, being trained to the end is one more: what a stopped one reached ranks after the
    ends of others, by how far it came, as in Optuna's TPE with one objective; told as an end, it would draw the search
    to what learns fast.

    Args:
        objectives: The spec's ``max_bytes``, ``min_accuracy`` and ``max_latency_ms``.
        stored_bytes: Bytes of the saved model, above 0.
        accuracy: Validation accuracy.
        latency_ms: Time to classify one image; needed where the spec limits it.
        trained: Share of its epochs that the trial was trained, in (0, 1]; ``None`` where none is stopped early.

    Raises:
        ValueError: If the spec limits a latency that was not measured.
    """
    values = []
    if objectives.max_bytes is not None:
        values.append(math.log(stored_bytes / objectives.max_bytes))
    if objectives.min_accuracy is not None:
        values.append(objectives.min_accuracy - accuracy)
    if objectives.max_latency_ms is not None:
        if latency_ms is None:
            raise ValueError("objectives.max_latency_ms needs latency_ms of each trial, but got None")
        values.append(math.log(latency_ms / objectives.max_latency_ms))
    if trained is not None:
        # Met with a margin: a Gaussian process takes what lies on the limit for feasible by half.
        values.append(-math.log(trained) if trained < 1 else -1.0)
    return tuple(values)


def is_feasible(constraints: tuple[float, ...]) -> bool:
    """Return whether every constraint is met."""
    return all(value <= 0 for value in constraints)
