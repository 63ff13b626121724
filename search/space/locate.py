"""Finding a configuration of another search in this one's space."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.errors import UserError
from search.space.space import ERK_POWERS, SHARE_LIMIT, Space
from search.space.suggestion import ARGUMENT, ERK_POWER, METHOD, SHARE, Suggestion
from search.spec.fields import Scalar


class _OutsideError(UserError):
    """A parameter is not in its range. As an error of the input it passes through a user's function unchanged."""


class _Lookup:
    """Answers with given parameters, and refuses those that are missing or out of range."""

    def __init__(self, given: Mapping[str, Scalar]) -> None:
        self._given = given

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value = self._given.get(name)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise _OutsideError
        return float(value)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self.suggest_float(name, low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self._given.get(name)
        if value not in choices:
            raise _OutsideError
        return value


def locate(space: Space, suggestion: Suggestion) -> Suggestion | None:
    """Return a configuration with the parameters it has in ``space``, or ``None`` if it does not lie there.

    What the other search had fixed may be searched in this one, and the other way round.

    Args:
        space: The space to look in.
        suggestion: A configuration; its ``params`` count where a user's extension drew them or changed what they say.
    """
    method = suggestion.method
    if method not in space.methods:
        return None
    params: dict[str, Scalar] = {
        **suggestion.params,
        METHOD: method,
        f"{method}.ratio": suggestion.ratio,
        f"{method}.lr": suggestion.lr,
        f"{method}.weight_decay": suggestion.weight_decay,
        **{f"{method}{ARGUMENT}{name}": value for name, value in suggestion.args.items()},
        f"{method}.split": "own" if suggestion.budgets is None else "shares",
        **_shares(space, suggestion),
    }
    # A user's function may have changed what the parameters before it said.
    for given in (params, {**params, **suggestion.params}):
        with contextlib.suppress(_OutsideError):
            if (found := space.suggest(_Lookup(given))).key == suggestion.key:
                return found
    return None


def _shares(space: Space, suggestion: Suggestion) -> dict[str, Scalar]:
    """Return parameters that lead to the budgets: the power of Erdos-Renyi-kernel that leaves the least to shares.

    The shares are what is left of the logarithms of the densities, the extremes at equal distance from 0.
    """
    sizes = {group.name: group.size for group in space.groups(suggestion.method)}
    budgets = suggestion.budgets or {}
    if not budgets or sizes.keys() != budgets.keys():
        return {}
    from scipy.optimize import minimize_scalar  # takes a while to import

    logs = np.array([math.log2(budgets[name] / size) for name, size in sizes.items()])
    erk = np.array(space.erk_log2_densities(suggestion.method))
    # Convex in the power.
    power = float(minimize_scalar(lambda power: np.ptp(logs - power * erk), bounds=ERK_POWERS, method="bounded").x)
    rest = logs - power * erk
    rest = np.clip(rest - (rest.max() + rest.min()) / 2, -SHARE_LIMIT, SHARE_LIMIT)
    return {
        f"{suggestion.method}{ERK_POWER}": power,
        **{f"{suggestion.method}{SHARE}{name}": float(share) for name, share in zip(sizes, rest, strict=True)},
    }
