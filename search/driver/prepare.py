"""What a search needs before its first trial, made by another process: the driver loads neither torch nor data."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.errors import UserError, called_exit
from search.space import Space
from search.spec import Spec

if TYPE_CHECKING:
    from search.data import ImageData

logger = logging.getLogger(__name__)

# Share of a model's weights: positional embeddings are less.
WORTH_A_WORD = 0.05


@dataclass(frozen=True)
class Facts:
    """What the driver needs to know of data and model. It stands here, not where it is found out: that loads torch.

    Attributes:
        layer_shapes: Shape of each compressed weight by layer, in the order of the model.
        groups: Patterns of layers that share a budget.
        skipped: Names of the images that cannot be decoded.
        meta: Facts of the experiment as ``results/meta.json`` stores them.
        uncompressed: Sizes of the weights by name that no method compresses, whatever the spec says.
        untaught: Names of the classes that have no image to train on.
    """

    layer_shapes: dict[str, tuple[int, ...]]
    groups: list[str]
    skipped: tuple[str, ...]
    meta: dict[str, Any]
    uncompressed: Mapping[str, int] = field(default_factory=dict)
    untaught: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A search that can start.

    Attributes:
        data: Reference to the decoded images in Ray's object store.
        space: What may be proposed.
        meta: Facts of the experiment as ``results/meta.json`` stores them.
    """

    data: ray.ObjectRef
    space: Space
    meta: dict[str, Any]


@dataclass(frozen=True)
class Question:
    """Facts that another process is finding out.

    Attributes:
        data: Reference to the images that will be there.
        told: Reference to what the driver will be told of them and of the model.
    """

    data: ray.ObjectRef
    told: ray.ObjectRef


def ask(spec: Spec) -> Question:
    """Begin to have the data loaded, the model built once and the spec checked against both, on this machine."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task = ray.remote(_find_facts).options(num_cpus=0, num_returns=2, scheduling_strategy=here)
    references: Any = task.remote(spec.model_dump_json())
    return Question(*references)


def prepare(spec: Spec, question: Question) -> Prepared:
    """Wait for the answer to :func:`ask`.

    The images have gone to the object store, and go from it to the trials; this process never holds them.

    Raises:
        UserError: If the data, the model, a method or the space is not what the spec says.
    """
    try:
        facts: Facts | str = ray.get(question.told)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise UserError(
            f"data {spec.data.name!r}, model {spec.model.name!r}: the process that loads them died "
            f"({type(error).__name__}); most often it had too little memory"
        ) from error
    if isinstance(facts, str):
        raise UserError(facts)
    if facts.skipped:
        logger.warning("%d images cannot be decoded and are left out: %s", len(facts.skipped), _first(facts.skipped))
    if facts.untaught:
        logger.warning(
            "no image to train on is left of these classes: %s; none of theirs will be recognised",
            _first(facts.untaught),
        )
    _warn_of_uncompressed(facts)
    return Prepared(question.data, Space(spec.space, facts.layer_shapes, groups=facts.groups), facts.meta)


def _warn_of_uncompressed(facts: Facts) -> None:
    """Say that a ratio is that of a part of the model, where much of it stays as it is."""
    left = sum(facts.uncompressed.values())
    share = left / (left + sum(map(math.prod, facts.layer_shapes.values())))
    if share >= WORTH_A_WORD:
        largest = sorted(facts.uncompressed, key=facts.uncompressed.__getitem__, reverse=True)
        logger.warning(
            "no method compresses %.0f %% of the weights (%s): the ratio is that of the others",
            100 * share,
            _first(largest),
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _find_facts(spec: str) -> tuple[ImageData | None, Facts | str]:
    """Return the data and what the driver must know, or nothing and what is wrong."""
    from search.driver.facts import find_facts

    try:
        return find_facts(Spec.model_validate_json(spec))
    except UserError as error:
        return None, str(error)
    except SystemExit as error:  # Ray would take it for a process that died.
        return None, called_exit(error)
