"""The vocabulary of budgets: how a model's weights are split into groups and how much each group keeps.

Parameter sharing and pruning spend memory in the same words. A *layer* is a compressed weight tensor, named after
the module that owns it; a *group* is the layers that draw on one budget; *kept* is the number of stored scalars of
the group (slots of a shared array, or weights that survive pruning).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

EVERYTHING = "*"


@dataclass(frozen=True)
class Group:
    """Layers that share one budget.

    Attributes:
        name: The pattern the group was made from; ``"*"`` for the layers that no pattern claims.
        layers: Names of its layers, in the order of the model.
        size: Number of weights in the layers (virtual weights, n).
        kept: Number of scalars stored for them (m), ``1 <= kept <= size``.
    """

    name: str
    layers: tuple[str, ...]
    size: int
    kept: int


def layer_name(parameter_name: str) -> str:
    """Return the name budgets use for a parameter: the owner's name for ``weight``, else the full name.

    ``"layer1.0.conv1.weight"`` is ``"layer1.0.conv1"``; ``"attn.in_proj_weight"`` stays as it is. The ``weight`` of
    the root module (a bare ``nn.Linear``) keeps the name ``"weight"``.
    """
    return parameter_name.removesuffix(".weight")


def check_ratio(ratio: float) -> float:
    """Return ``ratio`` as a float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is below 1, infinite or NaN.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        raise TypeError(f"ratio must be a number >= 1, but got {ratio!r}")
    if not math.isfinite(ratio) or ratio < 1:
        raise ValueError(f"ratio >= 1 must hold (total / kept), but got ratio={ratio}")
    return float(ratio)


def check_patterns(name: str, patterns: Collection[str]) -> tuple[str, ...]:
    """Return patterns of layer names as a tuple.

    Raises:
        TypeError: If they are no texts; a single text would be taken for the patterns of its letters.
    """
    several = isinstance(patterns, Collection) and not isinstance(patterns, str)
    if not several or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"{name} must be a sequence of patterns such as ['layer3.*'], but got {patterns!r}")
    return tuple(patterns)


def check_budgets(budgets: Mapping[str, float]) -> dict[str, float]:
    """Return a copy of budgets by pattern.

    Raises:
        TypeError: If they are no mapping from texts.
    """
    if not isinstance(budgets, Mapping) or not all(isinstance(pattern, str) for pattern in budgets):
        raise TypeError(f"budgets must map patterns to numbers, but got {budgets!r}")
    return dict(budgets)


def kept_for_ratio(size: int, ratio: float) -> int:
    """Return the number of scalars that ``size`` weights keep at a compression ratio, never below one."""
    return max(1, min(size, round(size / check_ratio(ratio))))


def kept_for_budget(size: int, budget: float, *, where: str) -> int:
    """Return the number of scalars a budget keeps of ``size`` weights.

    A budget up to 1 is a density and a budget of 2 or more is a count, whatever its Python type: a number does not
    change its meaning with its type, so 1 and 1.0 both keep everything.

    Args:
        size: Number of weights in the group.
        budget: Density in (0, 1], or a whole number of scalars in [2, size].
        where: Name for error messages, such as ``"budget 'layer3.*'"``.

    Raises:
        TypeError: If the budget is not a number.
        ValueError: If it keeps nothing, is more than there is, or is no whole number above 1.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise TypeError(f"{where} must be a number, but got {budget!r}")
    if not math.isfinite(budget) or budget <= 0:
        raise ValueError(f"{where}: a density in (0, 1] or a count of 2 or more must hold, but got {budget}")
    if budget <= 1:
        kept = round(size * budget)
        if kept < 1:
            raise ValueError(
                f"{where} leaves nothing of {size} weights: give at least {1 / size:.3g}, but got {budget}"
            )
        return kept
    if budget != int(budget):
        raise ValueError(f"{where}: a count must be a whole number, but got {budget}")
    if budget > size:
        raise ValueError(f"{where}: kept <= size must hold, but got {int(budget)} for {size} weights")
    return int(budget)


def resolve_budgets(
    sizes: Mapping[str, int], *, ratio: float = 1.0, budgets: Mapping[str, float] | None = None
) -> tuple[Group, ...]:
    """Split layers into groups and give each its number of stored scalars.

    Each pattern (``fnmatch`` style, case-sensitive) makes one group of the layers it matches; a layer belongs to the
    first pattern that matches it. Layers that no pattern matches form one last group, ``"*"``, compressed by ``ratio``.

    Args:
        sizes: Number of weights of each layer, by layer name, in the order of the model.
        ratio: Compression ratio (total / kept, >= 1) of the layers that no pattern matches.
        budgets: Budget of each pattern: a density in (0, 1] or a count of 2 or more.

    Returns:
        The groups, patterns first in the order given, then the rest. Together they hold each layer once.

    Raises:
        TypeError: If ``ratio`` or a budget is not a number.
        ValueError: If there are no layers, ``ratio`` < 1, a pattern claims no layer, or a budget is out of range.
    """
    check_ratio(ratio)
    if not sizes:
        raise ValueError("there is no weight to compress")
    unclaimed = dict(sizes)
    groups = []
    for pattern, budget in (budgets or {}).items():
        layers = tuple(name for name in unclaimed if fnmatchcase(name, pattern))
        if not layers:
            raise ValueError(unmatched_message(pattern, sizes))
        size = sum(unclaimed.pop(name) for name in layers)
        groups.append(Group(pattern, layers, size, kept_for_budget(size, budget, where=f"budget {pattern!r}")))
    if unclaimed:
        size = sum(unclaimed.values())
        groups.append(Group(EVERYTHING, tuple(unclaimed), size, kept_for_ratio(size, ratio)))
    return tuple(groups)


def unmatched_message(pattern: str, names: Iterable[str]) -> str:
    """Return the error text for a pattern that claims no layer, naming the nearest layer."""
    known = list(names)
    if any(fnmatchcase(name, pattern) for name in known):
        return f"pattern {pattern!r} claims no layer: earlier patterns took all that it matches"
    nearest = difflib.get_close_matches(pattern, known, n=1, cutoff=0.0)
    return (
        f"pattern {pattern!r} matches no layer; the nearest is {nearest[0]!r}"
        if nearest
        else (f"pattern {pattern!r} matches no layer: there are none")
    )
