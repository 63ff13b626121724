"""The experiment spec: what one YAML file may say, and how it is read."""

from search.spec.fields import Choices, Range
from search.spec.load import load_spec, make_spec, named_specs, parse_spec
from search.spec.schema import (
    DataSpec,
    FailureSpec,
    MethodSpec,
    ModelSpec,
    ObjectiveSpec,
    ResourceSpec,
    SearchSpec,
    SpaceSpec,
    Spec,
    TrainSpec,
)

__all__ = [
    "Choices",
    "DataSpec",
    "FailureSpec",
    "MethodSpec",
    "ModelSpec",
    "ObjectiveSpec",
    "Range",
    "ResourceSpec",
    "SearchSpec",
    "SpaceSpec",
    "Spec",
    "TrainSpec",
    "load_spec",
    "make_spec",
    "named_specs",
    "parse_spec",
]
