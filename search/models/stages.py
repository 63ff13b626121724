"""Grouping a model's layers into stages, so that budgets can be searched by stage without naming them."""

from __future__ import annotations

import glob
from collections.abc import Sequence


def stage_patterns(layer_names: Sequence[str]) -> list[str]:
    """Return ``fnmatch`` patterns that split a model's layers into stages.

    Layers with the same first name component make a stage (``layer1.*``). A stage of more than half of all layers
    says nothing about where memory goes, so it is split by the next component (``blocks.*`` into ``blocks.0.*``,
    ``blocks.1.*``, ...), as long as there is one.

    Args:
        layer_names: Names of the compressed layers, in the order of the model.

    Returns:
        Patterns that together match each layer exactly once, ordered by each one's first layer.

    Raises:
        ValueError: If a name occurs twice.
    """
    if len(set(layer_names)) != len(layer_names):
        raise ValueError(f"every layer name must be there once, but got {list(layer_names)}")
    paths = [tuple(name.split(".")) for name in layer_names]
    stages = _split(paths, depth=0, too_many=len(paths) / 2)
    place = {path: index for index, path in enumerate(paths)}
    return [_pattern(stage, depth) for stage, depth in sorted(stages, key=lambda found: place[found[0][0]])]


def _split(paths: list[tuple[str, ...]], depth: int, too_many: float) -> list[tuple[list[tuple[str, ...]], int]]:
    """Return the stages below a prefix of ``depth`` components, each with the length of its own prefix."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path in paths:
        # A module may own a weight beside its children's: "block" is then a layer of its own, apart from "block.*".
        groups.setdefault((*path[: depth + 1], "*" if len(path) > depth + 1 else ""), []).append(path)
    stages = []
    for group in groups.values():
        if len(group) > max(1, too_many):
            stages += _split(group, depth + 1, too_many)
        else:
            stages.append((group, depth + 1))
    return stages


def _pattern(stage: list[tuple[str, ...]], depth: int) -> str:
    if len(stage) == 1:
        return glob.escape(".".join(stage[0]))
    return glob.escape(".".join(stage[0][:depth])) + ".*"
