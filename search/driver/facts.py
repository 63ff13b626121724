"""What a search must know of its data and its model before its first trial; every mistake of a spec is found here.

This is what loads torch and the data, so the driver has it done by another process: see
:func:`search.driver.prepare.prepare`.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from baselines import sparse_summary
from baselines.layers import unprunable_weights
from search.data import ImageData, check_batch_size, load_dataset
from search.driver.prepare import Facts
from search.driver.weights import read_weights
from search.errors import UserError
from search.methods import Prospect, check_arguments, check_feasible, layer_shapes
from search.models import build_model, stage_patterns
from search.models.weights import load_weights_
from search.space import Space
from search.spec import Spec
from search.spec.fields import bounds


def find_facts(spec: Spec) -> tuple[ImageData, Facts]:
    """Load the data, build the model once and check the spec against both.

    Raises:
        UserError: If the data, the model or a method is not what the spec says.
    """
    for method, ranges in spec.space.methods.items():
        check_arguments(method, ranges.args, complete=spec.space.extension is None)
    data = load_dataset(spec.data)
    check_batch_size(spec.train.batch_size, len(data.train))
    model = build_model(spec.model, data_shape=data.shape, classes=data.classes, seed=spec.seed)
    if "small" in spec.space.methods:
        _check_narrower(spec, data)
    try:
        shapes = layer_shapes(model, spec.model.exclude)
    except ValueError as error:
        where = f"model.exclude of {spec.model.name!r}" if spec.model.exclude else f"model {spec.model.name!r}"
        raise UserError(f"{where}: {error}") from error
    _check_groups(spec, model, shapes)
    image = torch.zeros(1, *data.shape)
    for method, ranges in spec.space.methods.items():
        _, ratio = bounds(spec.space.searched(method, "ratio"))
        check_feasible(method, Prospect(model, image, ratio, ranges.args, spec.train.epochs, spec.model.exclude))
    weights = read_weights(spec.model)
    if weights is not None:
        load_weights_(model, weights, where=str(spec.model.weights))
    groups = spec.space.groups if spec.space.groups is not None else stage_patterns(list(shapes))
    if spec.space.extension is not None:
        for example in Space(spec.space, shapes, groups=groups).examples():
            check_arguments(example.method, example.args)
    uncompressed = {name: weight.numel() for name, weight in unprunable_weights(model).items()}
    names = data.class_names or [f"class {label}" for label in range(data.classes)]
    untaught = tuple(names[label] for label in np.setdiff1d(np.arange(data.classes), data.train.labels))
    return data, Facts(shapes, groups, data.skipped, _meta(spec, model, data, shapes), uncompressed, untaught)


def _check_groups(spec: Spec, model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a group of layers of which none is compressed: the space knows no others, and would call it unknown."""
    if not spec.model.exclude:
        return
    excluded = layer_shapes(model).keys() - shapes.keys()
    for pattern in spec.space.groups or ():
        if fnmatch.filter(excluded, pattern) and not fnmatch.filter(shapes, pattern):
            raise UserError(
                f"space.groups: {pattern!r} names only layers that model.exclude leaves uncompressed; leave it out "
                "of one of the two"
            )


def _check_narrower(spec: Spec, data: ImageData) -> None:
    """Refuse a model that cannot be built narrower. Every trial of ``small`` tries several widths."""
    try:
        build_model(
            spec.model, data_shape=data.shape, classes=data.classes, width=0.5, seed=spec.seed, check_output=False
        )
    except UserError as error:
        raise UserError(
            f"space.methods.small: {error}; leave small out, or let the model take width, a factor on its channels, "
            "1 by default"
        ) from error


def _meta(spec: Spec, model: nn.Module, data: ImageData, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    dense = sparse_summary(model)
    memory = spec.objectives.reference_memory or getattr(dense, spec.objectives.memory)
    accuracy = spec.objectives.reference_accuracy
    return {
        "memory": spec.objectives.memory,
        "dense_bytes": dense.stored_bytes,
        "dense_parameters": dense.stored_parameters,
        "virtual_size": sum(map(math.prod, shapes.values())),
        "reference": {"accuracy": 1 / data.classes if accuracy is None else accuracy, "memory": memory},
        "layer_sizes": {name: math.prod(shape) for name, shape in shapes.items()},
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "skipped_images": list(data.skipped)[:100],
    }
